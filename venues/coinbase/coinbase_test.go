package coinbase

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
	"deeptape/venues/binance"
	"deeptape/venues/venuetest"
)

// The oracle, as for Binance: encoding/json, and what coinbase.md says about each
// field.

// differ says where the batch of an accepted frame differs from the frame. No
// symbol of insts may be an alias.
func differ(b *venues.Batch, insts []event.Instrument, v any) error {
	f := venuetest.Object(v)
	if f["type"] == "error" {
		want := venues.Message{Kind: venues.KindRefused, Inst: -1, TsEvent: event.Null, Text: []byte(venuetest.Text(f["message"]))}
		if len(b.Messages) != 1 || b.ConnSeq != event.Null || string(b.Messages[0].Text) != string(want.Text) || b.Messages[0].Kind != venues.KindRefused || b.Messages[0].ID != 0 {
			return fmt.Errorf("got %+v, want %+v", b.Messages, want)
		}
		return nil
	}
	if fmt.Sprint(b.ConnSeq) != venuetest.Number(f["sequence_num"]) {
		return fmt.Errorf("number %d, want %v", b.ConnSeq, f["sequence_num"])
	}
	at := func(product any) int {
		return slices.IndexFunc(insts, func(i event.Instrument) bool { return i.Symbol == product })
	}
	switch f["channel"] {
	case "heartbeats", "subscriptions":
		acked := map[int64]bool{}
		want := map[int64]bool{}
		for i, m := range b.Messages {
			switch {
			case i == 0 && m.Kind == venues.KindControl && m.Inst == -1:
			case i > 0 && m.Kind == venues.KindAck && (m.ID == 1 && m.Inst == -1 || m.ID > 1 && m.Inst == int(m.ID-2)/2):
				acked[m.ID] = true
			default:
				return fmt.Errorf("message %d: %+v", i, m)
			}
		}
		for _, e := range venuetest.List(f["events"]) {
			set := venuetest.Object(venuetest.Object(e)["subscriptions"])
			if _, ok := set["heartbeats"]; ok {
				want[1] = true
			}
			for i, channel := range []string{"level2", "market_trades"} {
				for _, p := range venuetest.List(set[channel]) {
					if inst := at(p); inst >= 0 {
						want[int64(2+2*inst+i)] = true
					}
				}
			}
		}
		if f["channel"] == "subscriptions" && !reflect.DeepEqual(acked, want) || len(b.Messages) == 0 {
			return fmt.Errorf("acks %v, want %v", acked, want)
		}
		return nil
	case "l2_data":
		events := venuetest.List(f["events"])
		if len(events) != len(b.Messages) {
			return fmt.Errorf("%d messages of %d events", len(b.Messages), len(events))
		}
		for i, e := range events {
			m := &b.Messages[i]
			if m.Inst < 0 || m.Inst != at(venuetest.Object(e)["product_id"]) {
				return fmt.Errorf("instrument %d, want %v", m.Inst, venuetest.Object(e)["product_id"])
			}
			if err := differBook(b, m, &insts[m.Inst], venuetest.Object(e)); err != nil {
				return err
			}
		}
		return nil
	case "market_trades":
		var trades []any
		for _, e := range venuetest.List(f["events"]) {
			trades = append(trades, venuetest.List(venuetest.Object(e)["trades"])...)
		}
		num := func(t any) int64 {
			n, _ := json.Number(venuetest.Text(venuetest.Object(t)["trade_id"])).Int64()
			return n
		}
		slices.SortStableFunc(trades, func(a, b any) int { return cmp.Compare(num(a), num(b)) })
		if len(trades) != len(b.Messages) {
			return fmt.Errorf("%d messages of %d trades", len(b.Messages), len(trades))
		}
		for i, t := range trades {
			m := &b.Messages[i]
			if m.Inst < 0 || m.Inst != at(venuetest.Object(t)["product_id"]) {
				return fmt.Errorf("instrument %d, want %v", m.Inst, venuetest.Object(t)["product_id"])
			}
			if err := differTrade(m, &insts[m.Inst], venuetest.Object(t)); err != nil {
				return err
			}
		}
		return nil
	}
	return errors.New("it is no frame of ours")
}

func differBook(b *venues.Batch, m *venues.Message, inst *event.Instrument, e map[string]any) error {
	if (m.Kind == venues.KindSnapshot) != (e["type"] == "snapshot") || (m.Kind == venues.KindDelta) != (e["type"] == "update") {
		return fmt.Errorf("kind %d of %v", m.Kind, e["type"])
	}
	if m.Seq != b.ConnSeq || m.SeqPrev != event.Null || m.First != event.Null || m.HasChecksum {
		return fmt.Errorf("ids %d %d %d", m.First, m.SeqPrev, m.Seq)
	}
	updates := venuetest.List(e["updates"])
	needPx, needQty, latest := inst.PxScale, inst.QtyScale, int64(event.Null)
	for _, u := range updates {
		u := venuetest.Object(u)
		needPx, needQty = max(needPx, venuetest.FractionDigits(venuetest.Text(u["price_level"]))), max(needQty, venuetest.FractionDigits(venuetest.Text(u["new_quantity"])))
		if at, err := time.Parse(time.RFC3339Nano, venuetest.Text(u["event_time"])); err != nil {
			return err
		} else if at.Year() > 1970 {
			latest = max(latest, at.UnixNano())
		}
	}
	if m.TsEvent != latest {
		return fmt.Errorf("time %d, want %d", m.TsEvent, latest)
	}
	if m.PxScale != needPx || m.QtyScale != needQty {
		return fmt.Errorf("needs scales %d %d, want %d %d", m.PxScale, m.QtyScale, needPx, needQty)
	}
	if needPx > inst.PxScale || needQty > inst.QtyScale {
		return nil // must be read again
	}
	if m.Hi-m.Lo != len(updates) || m.Lo < 0 || m.Hi > len(b.Levels) {
		return fmt.Errorf("%d levels, want %d", m.Hi-m.Lo, len(updates))
	}
	for i, l := range b.Levels[m.Lo:m.Hi] {
		u := venuetest.Object(updates[i])
		if side := map[event.Side]string{event.Bid: "bid", event.Ask: "offer"}[l.Side]; side != u["side"] || l.Flags != 0 || l.Qty < 0 ||
			!venuetest.SameNumber(l.Px, needPx, venuetest.Text(u["price_level"])) || !venuetest.SameNumber(l.Qty, needQty, venuetest.Text(u["new_quantity"])) {
			return fmt.Errorf("level %d is %+v, want %v", i, l, u)
		}
	}
	return nil
}

func differTrade(m *venues.Message, inst *event.Instrument, t map[string]any) error {
	if m.Kind != venues.KindTrade || fmt.Sprint(m.TradeNum) != t["trade_id"] || string(m.TradeID) != t["trade_id"] || m.TradeFirst != m.TradeNum || m.Seq != event.Null {
		return fmt.Errorf("trade %+v, want id %v", m, t["trade_id"])
	}
	if maker := map[event.Side]string{event.Bid: "SELL", event.Ask: "BUY"}[m.Side]; maker != t["side"] {
		return fmt.Errorf("aggressor %d, maker %v", m.Side, t["side"])
	}
	if !venuetest.IsTime(m.TsEvent, venuetest.Text(t["time"])) {
		return fmt.Errorf("time %d, want %v", m.TsEvent, t["time"])
	}
	px, qty := venuetest.Text(t["price"]), venuetest.Text(t["size"])
	needPx, needQty := max(inst.PxScale, venuetest.FractionDigits(px)), max(inst.QtyScale, venuetest.FractionDigits(qty))
	if m.PxScale != needPx || m.QtyScale != needQty {
		return fmt.Errorf("needs scales %d %d, want %d %d", m.PxScale, m.QtyScale, needPx, needQty)
	}
	if needPx == inst.PxScale && needQty == inst.QtyScale && (!venuetest.SameNumber(m.Px, needPx, px) || !venuetest.SameNumber(m.Qty, needQty, qty) || m.Qty < 0) {
		return fmt.Errorf("%d %d, want %s %s", m.Px, m.Qty, px, qty)
	}
	return nil
}

var recordings = []struct {
	name    string
	symbols []string
	kinds   map[venues.Kind]int
	levels  int
}{
	{"coinbase/DERIVED_l2data_10products_from_exchange_20210417.jsonl.gz",
		[]string{"BAND-GBP", "BAND-BTC", "YFI-BTC", "NU-GBP", "CRV-EUR", "SKL-GBP", "SKL-USD", "SKL-BTC", "NMR-EUR", "DASH-BTC"},
		map[venues.Kind]int{venues.KindControl: 1, venues.KindAck: 10, venues.KindSnapshot: 10, venues.KindDelta: 9719}, 8362 + 9719},
	{"coinbase/fastmoon_market_trades_btcusd_20240602.jsonl", []string{"BTC-USD"},
		map[venues.Kind]int{venues.KindControl: 1, venues.KindAck: 1, venues.KindTrade: 182}, 0},
	{"coinbase/tickvault_l2data_btcusd_reduced_20260824.jsonl", []string{"BTC-USD"},
		map[venues.Kind]int{venues.KindControl: 1, venues.KindAck: 1, venues.KindSnapshot: 1, venues.KindDelta: 10}, 30 + 13},
}

// Every frame of the recordings: its number is the next one, and its messages are
// what stands in it. The counts are those of check.py.
func TestCoinbaseRecordings(t *testing.T) {
	for _, rec := range recordings {
		t.Run(rec.name, func(t *testing.T) {
			dec, insts := venuetest.DecoderAt(Venue{}, 0, 0, rec.symbols...)
			var b venues.Batch
			kinds, levels := map[venues.Kind]int{}, 0
			for n, frame := range venuetest.CaptureLines(t, rec.name) {
				v, err := venuetest.ParseJSON(frame)
				if err != nil {
					t.Fatal(err)
				}
				for {
					if reason := dec.Decode(frame, &b); reason != ledger.Accepted {
						t.Fatalf("line %d: %v: %.300s", n+1, reason, frame)
					}
					if err := differ(&b, insts, v); err != nil {
						t.Fatalf("line %d: %v: %.300s", n+1, err, frame)
					}
					if !venuetest.Widen(&b, dec, insts) {
						break
					}
				}
				if b.ConnSeq != int64(n) {
					t.Fatalf("line %d has the number %d", n+1, b.ConnSeq)
				}
				levels += len(b.Levels)
				for _, m := range b.Messages {
					kinds[m.Kind]++
				}
			}
			if !reflect.DeepEqual(kinds, rec.kinds) || levels != rec.levels {
				t.Errorf("kinds %v and %d levels, want %v and %d", kinds, levels, rec.kinds, rec.levels)
			}
		})
	}
}

// A taker that eats through several prices at once pays ever more if it buys and gets
// ever less if it sells. That tells whose side the venue names: of 22 such sweeps in
// the recording none fits if it is the aggressor's.
func TestCoinbaseSweeps(t *testing.T) {
	dec, _ := venuetest.DecoderAt(Venue{}, 2, 8, "BTC-USD")
	type trade struct {
		num, ms, px int64
		side        event.Side
	}
	var trades []trade
	var b venues.Batch
	for _, frame := range venuetest.CaptureLines(t, "coinbase/fastmoon_market_trades_btcusd_20240602.jsonl") {
		if reason := dec.Decode(frame, &b); reason != ledger.Accepted {
			t.Fatal(reason)
		}
		for _, m := range b.Messages {
			if m.Kind != venues.KindTrade {
				continue
			}
			if n := len(trades); n > 0 && m.TradeNum != trades[n-1].num+1 {
				t.Fatalf("trade %d follows %d", m.TradeNum, trades[n-1].num)
			}
			trades = append(trades, trade{m.TradeNum, m.TsEvent / 1e6, m.Px, m.Side})
		}
	}
	up, down := map[event.Side]int{}, map[event.Side]int{}
	for i := 0; i < len(trades); {
		end, rises, falls := i+1, 0, 0
		for ; end < len(trades) && trades[end].ms == trades[i].ms && trades[end].side == trades[i].side; end++ {
			switch step := trades[end].px - trades[end-1].px; {
			case step > 0:
				rises++
			case step < 0:
				falls++
			}
		}
		if rises > 0 {
			up[trades[i].side]++
		}
		if falls > 0 {
			down[trades[i].side]++
		}
		i = end
	}
	if len(trades) != 182 || !reflect.DeepEqual(up, map[event.Side]int{event.Bid: 7}) || !reflect.DeepEqual(down, map[event.Side]int{event.Ask: 15}) {
		t.Errorf("%d trades; sweeps up by aggressor %v, want 7 of buyers; down %v, want 15 of sellers", len(trades), up, down)
	}
}

// REST books hold no stream messages: their numbers are only the widest sample of
// texts that there is of this venue.
func TestCoinbaseRestTexts(t *testing.T) {
	var bodies []struct {
		Pricebook struct {
			Bids, Asks []struct{ Price, Size string }
			Time       string
		}
	}
	if err := json.NewDecoder(venuetest.Capture(t, "rest/coinbase_depth_20240601.json.gz")).Decode(&bodies); err != nil {
		t.Fatal(err)
	}
	dec, insts := venuetest.DecoderAt(Venue{}, 2, 8, "BTC-USD")
	var b venues.Batch
	for _, body := range bodies {
		var updates []string
		for side, levels := range map[string][]struct{ Price, Size string }{"bid": body.Pricebook.Bids, "offer": body.Pricebook.Asks} {
			for _, l := range levels {
				updates = append(updates, fmt.Sprintf(`{"side":"%s","event_time":"%s","price_level":"%s","new_quantity":"%s"}`, side, body.Pricebook.Time, l.Price, l.Size))
			}
		}
		frame := []byte(`{"channel":"l2_data","sequence_num":5,"events":[{"type":"snapshot","product_id":"BTC-USD","updates":[` + strings.Join(updates, ",") + `]}]}`)
		v, err := venuetest.ParseJSON(frame)
		if err != nil {
			t.Fatal(err)
		}
		if reason := dec.Decode(frame, &b); reason != ledger.Accepted {
			t.Fatal(reason)
		}
		if err := differ(&b, insts, v); err != nil {
			t.Fatal(err)
		}
	}
	if len(bodies) == 0 || len(b.Levels) < 100 {
		t.Errorf("%d bodies, %d levels in the last", len(bodies), len(b.Levels))
	}
}

// fullSnapshot is as large as BTC-USD's was on 2026-08-24: 22,773 bids and 21,294
// asks.
func fullSnapshot() []byte {
	b := []byte(`{"channel":"l2_data","timestamp":"2026-08-24T22:34:13.793075885Z","sequence_num":0,"events":[{"type":"snapshot","product_id":"BTC-USD","updates":[`)
	for i := range 22_773 + 21_294 {
		side, cents := "bid", 7885605-i*7
		if i >= 22_773 {
			side, cents = "offer", 7885606+(i-22_773)*11
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"side":"%s","event_time":"2026-08-24T22:34:13.483122Z","price_level":"%d.%02d","new_quantity":"0.%08d"}`, side, cents/100, cents%100, i+1)
	}
	return append(b, `]}]}`...)
}

// A whole book is read like any other snapshot, in not much more memory than its
// levels take: whole as one JSON text it took 117 MB.
func TestCoinbaseFullSnapshot(t *testing.T) {
	frame := fullSnapshot()
	v, err := venuetest.ParseJSON(frame)
	if err != nil {
		t.Fatal(err)
	}
	dec, insts := venuetest.DecoderAt(Venue{}, 2, 8, "BTC-USD")
	var b venues.Batch
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if reason := dec.Decode(frame, &b); reason != ledger.Accepted {
		t.Fatal(reason)
	}
	runtime.ReadMemStats(&after)
	if err := differ(&b, insts, v); err != nil {
		t.Fatal(err)
	}
	took := after.TotalAlloc - before.TotalAlloc
	t.Logf("%d bytes, %d levels: %.1f MB allocated", len(frame), len(b.Levels), float64(took)/1e6)
	if len(b.Levels) != 44_067 || took > 12e6 {
		t.Errorf("%d levels, %d bytes allocated", len(b.Levels), took)
	}
}

// enlarged is the same frame, but so large that its levels are read one by one.
func enlarged(frame []byte) []byte {
	return slices.Concat([]byte(`{"pad":"`), bytes.Repeat([]byte("x"), largeBytes), []byte(`",`), frame[1:])
}

// Large frames are read in another way than small ones, and say the same.
func TestCoinbaseLargeFrames(t *testing.T) {
	for _, rec := range recordings {
		dec, _ := venuetest.DecoderAt(Venue{}, 8, 8, rec.symbols...)
		var small, large venues.Batch
		for n, frame := range venuetest.CaptureLines(t, rec.name) {
			if n > 200 {
				break
			}
			if a, b := dec.Decode(frame, &small), ledger.Accepted; a != b {
				t.Fatal(a)
			}
			small = venues.Batch{Messages: cloneMessages(small.Messages), Levels: slices.Clone(small.Levels), ConnSeq: small.ConnSeq}
			if reason := dec.Decode(enlarged(frame), &large); reason != ledger.Accepted {
				t.Fatalf("%s line %d: %v", rec.name, n+1, reason)
			}
			if !reflect.DeepEqual(cloneMessages(large.Messages), small.Messages) || !slices.Equal(large.Levels, small.Levels) || large.ConnSeq != small.ConnSeq {
				t.Fatalf("%s line %d: got %+v\nwant %+v", rec.name, n+1, large, small)
			}
		}
	}
}

// cloneMessages copies what they borrow, too.
func cloneMessages(messages []venues.Message) []venues.Message {
	out := slices.Clone(messages)
	for i := range out {
		out[i].TradeID, out[i].Text = bytes.Clone(out[i].TradeID), bytes.Clone(out[i].Text)
	}
	return out
}

func TestCoinbaseTexts(t *testing.T) {
	v := Venue{}
	insts := []event.Instrument{{Symbol: "BTC-USD"}, {Symbol: "ETH-USD"}}
	want := []venues.Command{
		{ID: 1, Text: `{"type":"subscribe","channel":"heartbeats"}`, Acks: 1, Inst: -1, Streams: 0, Several: [2]int{}},
		{ID: 2, Text: `{"type":"subscribe","product_ids":["BTC-USD"],"channel":"level2"}`, Acks: 1, Inst: 0, Streams: 1, Several: [2]int{}},
		{ID: 3, Text: `{"type":"subscribe","product_ids":["BTC-USD"],"channel":"market_trades"}`, Acks: 1, Inst: 0, Streams: 2, Several: [2]int{}},
		{ID: 4, Text: `{"type":"subscribe","product_ids":["ETH-USD"],"channel":"level2"}`, Acks: 1, Inst: 1, Streams: 1, Several: [2]int{}},
		{ID: 5, Text: `{"type":"subscribe","product_ids":["ETH-USD"],"channel":"market_trades"}`, Acks: 1, Inst: 1, Streams: 2, Several: [2]int{}},
	}
	for _, c := range []struct{ got, want any }{
		{v.StreamPath(insts, true), ""},
		{v.Subscribe(insts, venues.Subscription{Quotes: true, Depth: 5}), want},
		{v.Subscribe(insts[:1], venues.Subscription{}), want[:3]},
		{v.Resubscribe(insts[1], venues.Subscription{}, 41), []venues.Command{
			{ID: 41, Text: `{"type":"unsubscribe","product_ids":["ETH-USD"],"channel":"level2"}`, Acks: 0, Inst: -1, Streams: 0, Several: [2]int{}},
			{ID: 42, Text: `{"type":"subscribe","product_ids":["ETH-USD"],"channel":"level2"}`, Acks: 0, Inst: -1, Streams: 1, Several: [2]int{}}}},
		{v.InstrumentsRequest([]string{"BTC-USD", "ETH-USD"}), venues.Request{Path: "/api/v3/brokerage/market/products?product_ids=BTC-USD&product_ids=ETH-USD", Weight: 1}},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("got %+v\nwant %+v", c.got, c.want)
		}
	}
	for in, want := range map[string]string{"btc-usd": "BTC-USD", "1INCH-EUR": "1INCH-EUR", "00-USD": "00-USD",
		"": "", "-": "", "BTC-": "", "-USD": "", "BTC/USD": "", "BTCUSD": "", "BTC-USD-X": "", `B"-USD`: "", "B -USD": "", "BTC-PERP-INTX": ""} {
		if got, err := v.Symbol(in); got != want || (err != nil) != (want == "") {
			t.Errorf("Symbol(%q) = %q, %v", in, got, err)
		}
	}
	for in, want := range map[string]string{"BTC-USDC": "BTC-USD", "BTC-USD": "BTC-USD", "USDT-USDC": "USDT-USDC", "EURC-USDC": "EURC-USDC", "BTC-EUR": "BTC-EUR", "USDC-EUR": "USDC-EUR"} {
		if got := venues.Product(v, in); got != want {
			t.Errorf("Product(%q) = %q", in, got)
		}
	}
	if got := venues.Product(binance.Venue{}, "BTC-USDC"); got != "BTC-USDC" {
		t.Errorf("Product at another venue = %q", got)
	}
	if r := v.Rules(); r.SilenceNs < 3*41e8 || r.SilenceNs > 3*42e8 {
		t.Errorf("SilenceNs %d", r.SilenceNs)
	}
}

// The fields are those of the sheet; no answer of the venue is recorded.
func TestCoinbaseInstruments(t *testing.T) {
	const body = `{"products":[
		{"product_id":"BTC-USD","base_increment":"0.00000001","quote_increment":"0.01","price_increment":"0.01","base_min_size":"0.00000001","status":"online","trading_disabled":false,"cancel_only":false,"limit_only":false,"post_only":false,"view_only":false,"alias":"","alias_to":["BTC-USDC"],"product_type":"SPOT"},
		{"product_id":"ETH-USDC","base_increment":"0.00000001","price_increment":"0.01","status":"online","alias":"ETH-USD","alias_to":[]},
		{"product_id":"ETH-USD","base_increment":"0.00000001","price_increment":"0.01","status":"online","alias":"","alias_to":["ETH-USDC"]},
		{"product_id":"SHIB-USD","base_increment":"1","price_increment":"0.00000001","status":"online","post_only":true,"trading_disabled":true},
		{"product_id":"XRP-EUR","base_increment":"0.000001","price_increment":"0.0001","status":"delisted","limit_only":true}],"num_products":5}`
	btc := event.Instrument{Venue: "coinbase", Market: "spot", Source: "products", Symbol: "BTC-USD", Pair: "BTC-USD", Base: "BTC", Quote: "USD", PxScale: 2, QtyScale: 8, Tick: "0.01", Lot: "0.00000001", Status: "online"}
	alias, eth, shib, xrp := btc, btc, btc, btc
	alias.Symbol = "BTC-USDC"
	eth.Symbol, eth.Pair, eth.Base = "ETH-USDC", "ETH-USD", "ETH"
	shib.Symbol, shib.Pair, shib.Base, shib.PxScale, shib.QtyScale, shib.Tick, shib.Lot, shib.Status = "SHIB-USD", "SHIB-USD", "SHIB", 8, 0, "0.00000001", "1", "trading_disabled"
	xrp.Symbol, xrp.Pair, xrp.Base, xrp.Quote, xrp.PxScale, xrp.QtyScale, xrp.Tick, xrp.Lot, xrp.Status = "XRP-EUR", "XRP-EUR", "XRP", "EUR", 4, 6, "0.0001", "0.000001", "limit_only"
	got, weight, err := Venue{}.Instruments([]byte(body), []string{"BTC-USD", "BTC-USDC", "NO-SUCH", "ETH-USDC", "SHIB-USD", "XRP-EUR"})
	if want := []event.Instrument{btc, alias, eth, shib, xrp}; err != nil || weight != 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	for _, bad := range []string{``, `{`, `{}`, `{"error":"NOT_FOUND"}`, `{"products":{}}`, `{"products":[{"product_id":"BTC-USD"}]}`,
		`{"products":[{"product_id":"BTC-USD","base_increment":"1e-8","price_increment":"0.01"}]}`} {
		if _, _, err := (Venue{}).Instruments([]byte(bad), []string{"BTC-USD"}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
