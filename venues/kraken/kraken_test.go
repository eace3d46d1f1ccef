package kraken

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
	"deeptape/venues/venuetest"
)

// The oracle, as for Binance: encoding/json, which keeps the text of a number, and
// what kraken.md says about each field.

// printedDigits counts the decimals of a text, zeros too.
func printedDigits(text string) int8 {
	_, frac, _ := strings.Cut(text, ".")
	return int8(len(frac))
}

// differ says where the batch of an accepted frame differs from the frame.
// known is false where no message is to be made of it.
func differ(b *venues.Batch, insts []event.Instrument, v any) error {
	f := venuetest.Object(v)
	channel := venuetest.Text(f["channel"])
	if channel != "book" && channel != "trade" {
		if len(b.Messages) != 1 {
			return fmt.Errorf("%d messages of one that is no data", len(b.Messages))
		}
		return differControl(&b.Messages[0], insts, f)
	}
	entries, _ := f["data"].([]any)
	if channel == "trade" {
		entries = slices.Clone(entries)
		slices.SortStableFunc(entries, func(a, b any) int { // ids in the frame are plain numbers
			x, _ := venuetest.Object(a)["trade_id"].(json.Number).Int64()
			y, _ := venuetest.Object(b)["trade_id"].(json.Number).Int64()
			return cmp.Compare(x, y)
		})
	}
	if len(b.Messages) != len(entries) {
		return fmt.Errorf("%d messages of %d entries", len(b.Messages), len(entries))
	}
	for i := range entries {
		e, m := venuetest.Object(entries[i]), &b.Messages[i]
		if m.Inst < 0 || m.Inst >= len(insts) || insts[m.Inst].Symbol != venuetest.Text(e["symbol"]) {
			return fmt.Errorf("instrument %d, want %v", m.Inst, e["symbol"])
		}
		if m.First != event.Null || m.Seq != event.Null || m.SeqPrev != event.Null {
			return errors.New("it has an id")
		}
		stamp, stamped := e["timestamp"]
		if stamped && !venuetest.IsTime(m.TsEvent, venuetest.Text(stamp)) || !stamped && m.TsEvent != event.Null {
			return fmt.Errorf("time %d, want %v", m.TsEvent, stamp)
		}
		err := differBook(b, m, &insts[m.Inst], e, venuetest.Text(f["type"]))
		if channel == "trade" {
			err = differTrade(m, &insts[m.Inst], e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func differControl(m *venues.Message, insts []event.Instrument, f map[string]any) error {
	want := venues.Message{Kind: venues.KindControl, Inst: -1, TsEvent: event.Null}
	_, refused := f["error"]
	_, tooFast := f["Error"]
	_, channel := f["channel"]
	if !channel {
		of := f
		if n := venuetest.Number(f["req_id"]); venuetest.IsInt64(n) && !strings.HasPrefix(n, "-") {
			want.ID, _ = json.Number(n).Int64()
		}
		switch {
		case f["method"] == "pong":
		case refused:
			want.Kind, want.Text = venues.KindRefused, m.Text
			if string(m.Text) != venuetest.Text(f["error"]) {
				return fmt.Errorf("text %q, want %q", m.Text, f["error"])
			}
		case tooFast:
			want.Kind, want.Text = venues.KindRefused, m.Text
			if string(m.Text) != venuetest.Text(f["Error"]) {
				return fmt.Errorf("text %q, want %q", m.Text, f["Error"])
			}
		case f["success"] == true:
			want.Kind, of = venues.KindAck, venuetest.Object(f["result"])
			if w, ok := of["warnings"]; ok {
				want.Text = m.Text
				if got, err := venuetest.ParseJSON(m.Text); err != nil || !reflect.DeepEqual(got, w) {
					return fmt.Errorf("warnings %s, want %v", m.Text, w)
				}
			}
		default:
			return errors.New("it is no answer")
		}
		for i := range insts {
			if insts[i].Symbol == venuetest.Text(of["symbol"]) {
				want.Inst = i
			}
		}
	}
	if !reflect.DeepEqual(*m, want) {
		return fmt.Errorf("got %+v, want %+v", *m, want)
	}
	return nil
}

func differBook(b *venues.Batch, m *venues.Message, inst *event.Instrument, e map[string]any, kind string) error {
	if (m.Kind == venues.KindSnapshot) != (kind == "snapshot") || (m.Kind == venues.KindDelta) != (kind == "update") {
		return fmt.Errorf("kind %d of %q", m.Kind, kind)
	}
	if !m.HasChecksum || fmt.Sprint(m.Checksum) != venuetest.Number(e["checksum"]) {
		return fmt.Errorf("checksum %d, want %v", m.Checksum, e["checksum"])
	}
	type level struct {
		side    event.Side
		px, qty string
	}
	var want []level
	needPx, needQty := inst.PxScale, inst.QtyScale
	for side, key := range map[event.Side]string{event.Bid: "bids", event.Ask: "asks"} {
		list, _ := e[key].([]any)
		for _, l := range list {
			w := level{side, venuetest.Number(venuetest.Object(l)["price"]), venuetest.Number(venuetest.Object(l)["qty"])}
			needPx, needQty = max(needPx, printedDigits(w.px)), max(needQty, printedDigits(w.qty))
			want = append(want, w)
		}
	}
	slices.SortStableFunc(want, func(a, b level) int { return cmp.Compare(a.side, b.side) })
	if m.PxScale != needPx || m.QtyScale != needQty {
		return fmt.Errorf("needs scales %d %d, want %d %d", m.PxScale, m.QtyScale, needPx, needQty)
	}
	if needPx > inst.PxScale || needQty > inst.QtyScale {
		return nil // must be read again
	}
	if m.Hi-m.Lo != len(want) || m.Lo < 0 || m.Hi > len(b.Levels) {
		return fmt.Errorf("%d levels, want %d", m.Hi-m.Lo, len(want))
	}
	for i, l := range b.Levels[m.Lo:m.Hi] {
		if w := want[i]; l.Side != w.side || l.Flags != 0 || l.Qty < 0 || !venuetest.SameNumber(l.Px, needPx, w.px) || !venuetest.SameNumber(l.Qty, needQty, w.qty) {
			return fmt.Errorf("level %d is %+v, want %v", i, l, w)
		}
	}
	return nil
}

func differTrade(m *venues.Message, inst *event.Instrument, e map[string]any) error {
	if m.Kind != venues.KindTrade || m.HasChecksum || fmt.Sprint(m.TradeNum) != venuetest.Number(e["trade_id"]) || string(m.TradeID) != venuetest.Number(e["trade_id"]) || m.TradeFirst != m.TradeNum {
		return fmt.Errorf("trade %+v, want id %v", m, e["trade_id"])
	}
	if side := map[event.Side]string{event.Bid: "buy", event.Ask: "sell"}[m.Side]; side != e["side"] {
		return fmt.Errorf("side %d, want %v", m.Side, e["side"])
	}
	px, qty := venuetest.Number(e["price"]), venuetest.Number(e["qty"])
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
	depth   int
	kinds   map[venues.Kind]int
}{
	{"kraken/DERIVED_v2_book1000_10pairs_from_v1_20210417.jsonl.gz",
		[]string{"ADA/BTC", "BTC/CHF", "OMG/USD", "OCEAN/BTC", "ETH/CHF", "SC/EUR", "GRT/ETH", "KSM/BTC", "XMR/USD", "WAVES/EUR"}, 1000,
		map[venues.Kind]int{venues.KindAck: 10, venues.KindControl: 32, venues.KindSnapshot: 10, venues.KindDelta: 4269}},
	{"kraken/tickvault_v2_btcusd_d10_20260824.jsonl", []string{"BTC/USD"}, 10,
		map[venues.Kind]int{venues.KindAck: 1, venues.KindControl: 3, venues.KindSnapshot: 1, venues.KindDelta: 3}},
}

// slowBook is a map a side: price to size.
type slowBook [2]map[int64]int64

func newSlowBook() slowBook { return slowBook{{}, {}} }

func (s slowBook) set(l event.Level) {
	if l.Qty == 0 {
		delete(s[l.Side-1], l.Px)
	} else {
		s[l.Side-1][l.Px] = l.Qty
	}
}

// best returns the best n levels of a side, and removes the rest if cut says so.
func (s slowBook) best(side event.Side, n int, cut bool) []book.Level {
	var all []book.Level
	for px, qty := range s[side-1] {
		all = append(all, book.Level{Px: px, Qty: qty})
	}
	slices.SortFunc(all, func(a, b book.Level) int {
		if side == event.Bid {
			a, b = b, a
		}
		return cmp.Compare(a.Px, b.Px)
	})
	if len(all) > n {
		for _, l := range all[n:] {
			if cut {
				delete(s[side-1], l.Px)
			}
		}
		all = all[:n]
	}
	return all
}

// Every message of the recordings, and the venue's checksum of every book message,
// from scales of 0 and 0 as an unknown instrument has them: 4,279 and 4, as check.py
// counts them.
func TestKrakenRecordings(t *testing.T) {
	for _, rec := range recordings {
		t.Run(rec.name, func(t *testing.T) {
			dec, insts := venuetest.DecoderAt(Venue{}, 0, 0, rec.symbols...)
			var b venues.Batch
			kinds, sums := map[venues.Kind]int{}, 0
			books := make([]slowBook, len(insts))
			scratch := make([]byte, 64)
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
				if b.ConnSeq != event.Null {
					t.Fatalf("line %d: a number %d", n+1, b.ConnSeq)
				}
				for _, m := range b.Messages {
					kinds[m.Kind]++
					if !m.HasChecksum {
						continue
					}
					if m.Kind == venues.KindSnapshot {
						books[m.Inst] = newSlowBook()
					}
					bk := books[m.Inst]
					for _, l := range b.Levels[m.Lo:m.Hi] {
						bk.set(l)
					}
					bk.best(event.Bid, rec.depth, true)
					bk.best(event.Ask, rec.depth, true)
					inst := insts[m.Inst]
					if sum := (Venue{}).Checksum(bk.best(event.Bid, 10, false), bk.best(event.Ask, 10, false), inst.PxScale, inst.QtyScale, scratch); sum != m.Checksum {
						t.Fatalf("line %d: checksum %d, the venue says %d", n+1, sum, m.Checksum)
					}
					sums++
				}
			}
			if !reflect.DeepEqual(kinds, rec.kinds) || sums != rec.kinds[venues.KindSnapshot]+rec.kinds[venues.KindDelta] {
				t.Errorf("kinds %v and %d checksums, want %v", kinds, sums, rec.kinds)
			}
			t.Logf("%d checksums", sums)
		})
	}
}

// The text of the checksum where the recordings have no example of it.
func TestKrakenChecksum(t *testing.T) {
	for _, c := range []struct {
		bids, asks []book.Level
		want       uint32 // zlib.crc32 of the text, by Python
	}{
		{nil, nil, 0}, // ""
		{[]book.Level{{Px: 788715, Qty: 1266503}}, []book.Level{{Px: 788716, Qty: 421103066}, {Px: 788722, Qty: 5100}}, 2265231796}, // "7887164211030667887225100" "7887151266503"
		{[]book.Level{{Px: 0, Qty: 5}}, nil, 2226203566}, // price 0.0: "5"
		{nil, []book.Level{{Px: 1<<63 - 1, Qty: 1<<63 - 1}}, 1389512339},
	} {
		if got := (Venue{}).Checksum(c.bids, c.asks, 1, 8, nil); got != c.want {
			t.Errorf("%v %v: %d, want %d", c.bids, c.asks, got, c.want)
		}
	}
}

func TestKrakenTexts(t *testing.T) {
	v := Venue{}
	insts := []event.Instrument{{Symbol: "BTC/USD"}, {Symbol: "ETH2.S/ETH"}}
	for _, c := range []struct{ got, want any }{
		{v.StreamPath(insts, true), ""},
		{v.Subscribe(insts, venues.Subscription{Quotes: true, Depth: 1000}), []venues.Command{
			{ID: 1, Text: `{"method":"subscribe","params":{"channel":"book","depth":1000,"snapshot":true,"symbol":["BTC/USD","ETH2.S/ETH"]},"req_id":1}`, Acks: 2, Inst: -1, Streams: 1, Several: [2]int{0, 2}},
			{ID: 2, Text: `{"method":"subscribe","params":{"channel":"trade","snapshot":false,"symbol":["BTC/USD","ETH2.S/ETH"]},"req_id":2}`, Acks: 2, Inst: -1, Streams: 2, Several: [2]int{0, 2}}}},
		{v.Subscribe(insts[:1], venues.Subscription{Depth: 7})[0], venues.Command{ID: 1, Text: `{"method":"subscribe","params":{"channel":"book","depth":7,"snapshot":true,"symbol":["BTC/USD"]},"req_id":1}`, Acks: 1, Inst: 0, Streams: 1, Several: [2]int{}}},
		{v.Resubscribe(insts[0], venues.Subscription{Depth: 25}, 41), []venues.Command{
			{ID: 41, Text: `{"method":"unsubscribe","params":{"channel":"book","depth":25,"symbol":["BTC/USD"]},"req_id":41}`, Acks: 1, Inst: -1, Streams: 0, Several: [2]int{}},
			{ID: 42, Text: `{"method":"subscribe","params":{"channel":"book","depth":25,"snapshot":true,"symbol":["BTC/USD"]},"req_id":42}`, Acks: 1, Inst: -1, Streams: 1, Several: [2]int{}}}},
		{v.InstrumentsRequest([]string{"BTC/USD"}), venues.Request{Path: "/0/public/AssetPairs", Weight: 1}},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("got %+v\nwant %+v", c.got, c.want)
		}
	}
	// Many symbols: each once a channel, in commands within the limit, with ids from 1.
	var many []event.Instrument
	for i := range 23 {
		many = append(many, event.Instrument{Symbol: fmt.Sprintf("C%d/USD", i)})
	}
	seen := map[string]int{}
	for i, c := range v.Subscribe(many, venues.Subscription{Depth: 10}) {
		var cmd struct {
			Params struct {
				Channel string
				Symbol  []string
			}
			ID int64 `json:"req_id"`
		}
		if err := json.Unmarshal([]byte(c.Text), &cmd); err != nil || cmd.ID != int64(i+1) || c.ID != cmd.ID || c.Acks != len(cmd.Params.Symbol) || c.Acks > rules.LongestCommandStreams {
			t.Errorf("command %d: %v %+v", i, err, c)
		}
		for _, s := range cmd.Params.Symbol {
			seen[cmd.Params.Channel+s]++
		}
	}
	if len(seen) != 46 {
		t.Errorf("%d subscriptions, want 46", len(seen))
	}
	for in, want := range map[string]string{"btc/usd": "BTC/USD", "ETH2.S/eth": "ETH2.S/ETH", "1INCH/EUR": "1INCH/EUR",
		"AAPLx/USD": "AAPLx/USD", "AAPLx/usd": "AAPLx/USD", "aaplx/usd": "AAPLX/USD", // a tokenized stock: case matters on the socket
		"": "", "/": "", "BTC/": "", "/USD": "", "BTC-USD": "", "BTCUSD": "", "BTC/USD/X": "", `B"/USD`: "", "B /USD": "", "XBT/USD": "", "eth/xbt": "", "xdg/usd": ""} {
		if got, err := v.Symbol(in); got != want || (err != nil) != (want == "") {
			t.Errorf("Symbol(%q) = %q, %v", in, got, err)
		}
	}
}

// AssetPairs of 2021, and what it became: tick_size and status (sheet).
func TestKrakenInstruments(t *testing.T) {
	body, err := io.ReadAll(venuetest.Capture(t, "rest/kraken_AssetPairs_20210417.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Result map[string]struct {
			Wsname       string
			PairDecimals int8 `json:"pair_decimals"`
			LotDecimals  int8 `json:"lot_decimals"`
		}
	}
	if err := json.Unmarshal(body, &want); err != nil {
		t.Fatal(err)
	}
	newName := func(old string) string { // both sides may have an old name: XDG/XBT
		for _, r := range []string{"XBT/ BTC/", "/XBT /BTC", "XDG/ DOGE/", "/XDG /DOGE"} {
			from, to, _ := strings.Cut(r, " ")
			old = strings.Replace(old, from, to, 1)
		}
		return old
	}
	asked := []string{"NO/SUCH"}
	n := 0
	for _, p := range want.Result {
		if n++; n%3 != 0 && p.Wsname != "" {
			asked = append(asked, newName(p.Wsname))
		}
	}
	insts, weight, err := Venue{}.Instruments(body, asked)
	if err != nil || weight != 0 || len(insts) != len(asked)-1 || len(insts) < 100 {
		t.Fatalf("%d instruments of %d, %v", len(insts), len(asked), err)
	}
	got := map[string]event.Instrument{}
	for _, inst := range insts {
		got[inst.Symbol] = inst
	}
	unit := func(decimals int8) string {
		if decimals == 0 {
			return "1"
		}
		return "0." + strings.Repeat("0", int(decimals)-1) + "1"
	}
	for _, p := range want.Result {
		symbol := newName(p.Wsname)
		if !slices.Contains(asked, symbol) {
			continue
		}
		base, quote, _ := strings.Cut(symbol, "/")
		want := event.Instrument{Venue: "kraken", Market: "spot", Source: "AssetPairs", Symbol: symbol, Pair: base + "-" + quote, Base: base, Quote: quote,
			Tick: unit(p.PairDecimals), Lot: unit(p.LotDecimals)}
		if got[symbol] != want {
			t.Errorf("got %+v\nwant %+v", got[symbol], want)
		}
	}
	newer := `{"error":[],"result":{"XXBTZUSD":{"altname":"XBTUSD","wsname":"XBT\/USD","pair_decimals":1,"lot_decimals":8,"tick_size":"0.1","status":"post_only"},"X":{"wsname":"A/B"}}}`
	insts, _, err = Venue{}.Instruments([]byte(newer), []string{"BTC/USD"})
	if want := (event.Instrument{Venue: "kraken", Market: "spot", Source: "AssetPairs", Symbol: "BTC/USD", Pair: "BTC-USD", Base: "BTC", Quote: "USD", Tick: "0.1", Lot: "0.00000001", Status: "post_only"}); err != nil || len(insts) != 1 || insts[0] != want {
		t.Errorf("got %+v, %v", insts, err)
	}
	for _, bad := range []string{``, `{`, `{}`, `{"error":["EService:Unavailable"]}`, `{"error":["EService:Unavailable"],"result":{}}`, `{"error":[],"result":[]}`,
		`{"error":[],"result":{"X":{"wsname":"A/B"}}}`, `{"error":[],"result":{"X":{"wsname":"A/B","pair_decimals":19,"lot_decimals":8}}}`, `{"error":[],"result":{"X":{"wsname":"A/B","pair_decimals":1,"lot_decimals":"8"}}}`} {
		if insts, _, err := (Venue{}).Instruments([]byte(bad), []string{"A/B"}); err == nil {
			t.Errorf("%q is taken: %+v", bad, insts)
		}
	}
}
