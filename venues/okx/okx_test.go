package okx

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"deeptape/hotpath/book"
	"deeptape/hotpath/book/booktest"
	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
	"deeptape/venues/venuetest"
)

// told reads a frame by the sheet.
func told(v any) (out []venuetest.Told, known bool) {
	m := venuetest.Object(v)
	if name, ok := m["event"].(string); ok {
		w := venuetest.Told{ID: venuetest.Text(m["id"])}
		switch {
		case name == "subscribe" || name == "unsubscribe":
			w.Kind = venues.KindAck
		case name == "error":
			w.Kind, w.Text = venues.KindRefused, venuetest.Text(m["msg"])
		case name == "notice" && m["code"] == "64008":
			w.Kind, w.Text = venues.KindNotice, venuetest.Text(m["msg"])
		default:
			return nil, false
		}
		return []venuetest.Told{w}, true
	}
	arg := venuetest.Object(m["arg"])
	list, _ := m["data"].([]any)
	for _, e := range list {
		d := venuetest.Object(e)
		w := venuetest.Told{Symbol: venuetest.Text(arg["instId"]), Ms: venuetest.Text(d["ts"]), Seq: venuetest.Number(d["seqId"])}
		switch arg["channel"] {
		case "books":
			w.Kind = map[any]venues.Kind{"snapshot": venues.KindSnapshot, "update": venues.KindDelta}[m["action"]]
			w.Prev, w.CRC = venuetest.Number(d["prevSeqId"]), venuetest.Number(d["checksum"])
			w.Bids, w.Asks = venuetest.Pairs(d["bids"]), venuetest.Pairs(d["asks"])
		case "bbo-tbt":
			w.Kind, w.Bids, w.Asks = venues.KindQuote, venuetest.Pairs(d["bids"]), venuetest.Pairs(d["asks"])
		case "trades":
			if d["instId"] != arg["instId"] {
				return nil, false
			}
			w.Kind, w.Px, w.Qty, w.Side, w.TradeID = venues.KindTrade, venuetest.Text(d["px"]), venuetest.Text(d["sz"]), venuetest.Text(d["side"]), venuetest.Text(d["tradeId"])
			w.Num, w.First = w.TradeID, w.TradeID
			if count := venuetest.Text(d["count"]); count != "" {
				last, err := strconv.ParseInt(w.TradeID, 10, 64)
				n, err2 := strconv.ParseInt(count, 10, 64)
				if err != nil || err2 != nil {
					return nil, false
				}
				w.First = fmt.Sprint(last - n + 1)
			}
		default:
			return nil, false
		}
		if w.Kind == venues.KindControl {
			return nil, false
		}
		out = append(out, w)
	}
	return out, len(out) > 0
}

// The recordings, and what check.py counts in them: links of the chain, checksums.
var recordings = []struct {
	name             string
	kinds            map[venues.Kind]int
	links, checksums int
}{
	{"okx/fastmoon_books_btcusdt_20240601.jsonl", map[venues.Kind]int{venues.KindAck: 1, venues.KindSnapshot: 1, venues.KindDelta: 344}, 344, 345},
	{"okx/tickvault_books_btcusdt_20260824.jsonl", map[venues.Kind]int{venues.KindAck: 1, venues.KindSnapshot: 1, venues.KindDelta: 6}, 6, 0},
}

// Each message against the oracles, and the book that they make against the venue's
// chain and its checksums: 400 levels a side, never crossed.
func TestOKXRecordings(t *testing.T) {
	for _, rec := range recordings {
		t.Run(rec.name, func(t *testing.T) {
			slow := booktest.New(1)
			px, qty := int8(0), int8(0)
			last, links, checksums := int64(event.Null), 0, 0
			scratch := make([]byte, 4096)
			kinds, widened := venuetest.PlayRecording(t, Venue{}, "BTC-USDT", "okx", rec.name, told, func(m *venues.Message, b *venues.Batch, inst *event.Instrument) {
				if !slow.Rescale(inst.PxScale-px, inst.QtyScale-qty) {
					t.Fatal("cannot rescale")
				}
				px, qty = inst.PxScale, inst.QtyScale
				switch {
				case m.Kind == venues.KindSnapshot:
					slow.Clear()
					if m.SeqPrev != -1 {
						t.Errorf("a snapshot follows on %d", m.SeqPrev)
					}
				case m.SeqPrev == last:
					links++
				}
				last = m.Seq
				for _, l := range b.Levels[m.Lo:m.Hi] {
					slow.Set(l.Side, l.Px, l.Qty)
				}
				bids, asks := top(slow)
				if m.HasChecksum {
					checksums++
					if got := (Venue{}).Checksum(bids, asks, px, qty, scratch); got != m.Checksum {
						t.Fatalf("message %d: checksum %d, the venue says %d", m.Seq, got, m.Checksum)
					}
				}
				if bids[0].Px >= asks[0].Px {
					t.Fatalf("message %d: crossed", m.Seq)
				}
			})
			if !reflect.DeepEqual(kinds, rec.kinds) || links != rec.links || checksums != rec.checksums {
				t.Errorf("kinds %v, %d links, %d checksums; want %+v", kinds, links, checksums, rec)
			}
			if widened == 0 {
				t.Error("nothing was widened")
			}
			if bids, asks := slow.Len(event.Bid), slow.Len(event.Ask); bids != 400 || asks != 400 {
				t.Errorf("book of %d and %d levels, want 400", bids, asks)
			}
		})
	}
}

func top(b *booktest.Book) (bids, asks []book.Level) {
	for _, l := range b.Levels(event.Bid)[:rules.ChecksumTop] {
		bids = append(bids, book.Level(l))
	}
	for _, l := range b.Levels(event.Ask)[:rules.ChecksumTop] {
		asks = append(asks, book.Level(l))
	}
	return bids, asks
}

// The text under the checksum, written out, and any size of scratch.
func TestOKXChecksum(t *testing.T) {
	at := func(px, qty int64) book.Level { return book.Level{Px: px, Qty: qty} }
	for _, c := range []struct {
		bids, asks []book.Level
		text       string
	}{
		{nil, nil, ""},
		{[]book.Level{at(33661, 700)}, []book.Level{at(33668, 900)}, "3366.1:7:3366.8:9"},
		{[]book.Level{at(33661, 700)}, []book.Level{at(33668, 900), at(33680, 800), at(33690, 1)}, "3366.1:7:3366.8:9:3368:8:3369:0.01"},
		{[]book.Level{at(33661, 700), at(33660, 650)}, nil, "3366.1:7:3366:6.5"},
		{nil, []book.Level{at(1, 1)}, "0.1:0.01"},
	} {
		for _, scratch := range [][]byte{nil, make([]byte, 64), make([]byte, 100), make([]byte, 5000)} {
			if got := (Venue{}).Checksum(c.bids, c.asks, 1, 2, scratch); got != crc32.ChecksumIEEE([]byte(c.text)) {
				t.Errorf("%q: %d with %d bytes of scratch", c.text, got, len(scratch))
			}
		}
	}
	seed := uint64(1)
	if s, err := strconv.ParseUint(os.Getenv("DEEPTAPE_SEED"), 10, 64); err == nil {
		seed = s
	}
	r := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		px, qty := int8(r.IntN(19)), int8(r.IntN(19))
		var sides [2][]book.Level
		var parts []string
		for s := range sides {
			for range r.IntN(rules.ChecksumTop + 1) {
				sides[s] = append(sides[s], at(r.Int64()>>r.IntN(63), r.Int64()>>r.IntN(63)))
			}
		}
		for i := range rules.ChecksumTop {
			for _, side := range sides {
				if i < len(side) {
					parts = append(parts, text(side[i].Px, px), text(side[i].Qty, qty))
				}
			}
		}
		want := crc32.ChecksumIEEE([]byte(strings.Join(parts, ":")))
		if got := (Venue{}).Checksum(sides[0], sides[1], px, qty, make([]byte, 64+r.IntN(3000))); got != want {
			t.Fatalf("DEEPTAPE_SEED=%d: %d, want %d for %v", seed, got, want, parts)
		}
	}
}

// text writes a number without surplus zeros, digit by digit.
func text(m int64, scale int8) string {
	s := fmt.Sprintf("%0*d", int(scale)+1, m)
	s = s[:len(s)-int(scale)] + "." + s[len(s)-int(scale):]
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

func TestOKXTexts(t *testing.T) {
	v := Venue{}
	insts := []event.Instrument{{Symbol: "BTC-USDT"}, {Symbol: "BTC-USD-261225"}}
	for _, c := range []struct{ got, want any }{
		{v.StreamPath(insts, true), ""},
		{v.Subscribe(insts, venues.Subscription{Quotes: true}), []venues.Command{
			{ID: 1, Text: `{"id":"1","op":"subscribe","args":[{"channel":"books","instId":"BTC-USDT"}]}`, Acks: 1, Inst: 0, Streams: 1, Several: [2]int{}},
			{ID: 2, Text: `{"id":"2","op":"subscribe","args":[{"channel":"trades","instId":"BTC-USDT"}]}`, Acks: 1, Inst: 0, Streams: 2, Several: [2]int{}},
			{ID: 3, Text: `{"id":"3","op":"subscribe","args":[{"channel":"bbo-tbt","instId":"BTC-USDT"}]}`, Acks: 1, Inst: 0, Streams: 4, Several: [2]int{}},
			{ID: 4, Text: `{"id":"4","op":"subscribe","args":[{"channel":"books","instId":"BTC-USD-261225"}]}`, Acks: 1, Inst: 1, Streams: 1, Several: [2]int{}},
			{ID: 5, Text: `{"id":"5","op":"subscribe","args":[{"channel":"trades","instId":"BTC-USD-261225"}]}`, Acks: 1, Inst: 1, Streams: 2, Several: [2]int{}},
			{ID: 6, Text: `{"id":"6","op":"subscribe","args":[{"channel":"bbo-tbt","instId":"BTC-USD-261225"}]}`, Acks: 1, Inst: 1, Streams: 4, Several: [2]int{}}}},
		{len(v.Subscribe(insts, venues.Subscription{})), 4},
		{v.Resubscribe(insts[0], venues.Subscription{Quotes: true}, 41), []venues.Command{
			{ID: 41, Text: `{"id":"41","op":"unsubscribe","args":[{"channel":"books","instId":"BTC-USDT"}]}`, Acks: 1, Inst: -1, Streams: 0, Several: [2]int{}},
			{ID: 42, Text: `{"id":"42","op":"subscribe","args":[{"channel":"books","instId":"BTC-USDT"}]}`, Acks: 1, Inst: -1, Streams: 1, Several: [2]int{}}}},
		{v.Ping(7), "ping"},
		{v.SnapshotRequest("BTC-USDT", 400), venues.Request{}},
		{v.InstrumentsRequest([]string{"BTC-USDT", "BTC-USDT-SWAP"}), venues.Request{Path: "/api/v5/public/instruments?instType=SPOT", Weight: 1}},
		{v.InstrumentsRequest([]string{"BTC-USDT-SWAP"}), venues.Request{Path: "/api/v5/public/instruments?instType=SWAP", Weight: 1}},
		{v.InstrumentsRequest([]string{"BTC-USD-261225"}), venues.Request{Path: "/api/v5/public/instruments?instType=FUTURES", Weight: 1}},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("got %+v\nwant %+v", c.got, c.want)
		}
	}
	for in, want := range map[string]string{"btc-usdt": "BTC-USDT", "BTC-USDT-swap": "BTC-USDT-SWAP", "BTC-USD-261225": "BTC-USD-261225", "BTC-USD_UM-SWAP": "BTC-USD_UM-SWAP",
		"": "", "BTCUSDT": "", "BTC/USDT": "", "BTC-": "", "-BTC": "", "BTC--USDT": "", "BTC-USD-261225-50000-C": "", `BTC-"`: "", "BTC-US DT": "", "BTC-\xff": "", "BTC-USDT\n": ""} {
		if got, err := v.Symbol(in); got != want || (err != nil) != (want == "") {
			t.Errorf("Symbol(%q) = %q, %v", in, got, err)
		}
	}
	// A full connection: inside the budgets of the sheet, each topic with its own id.
	var full []event.Instrument
	for i := range rules.InstrumentsPerConn {
		full = append(full, event.Instrument{Symbol: fmt.Sprintf("LONGNAME%d-USDT-SWAP", i)})
	}
	args, ids, topics := 0, map[string]bool{}, map[string]bool{}
	commands := v.Subscribe(full, venues.Subscription{Quotes: true})
	for _, c := range commands {
		var text struct {
			ID, Op string
			Args   []struct{ Channel, InstID string }
		}
		if err := json.Unmarshal([]byte(c.Text), &text); err != nil || text.Op != "subscribe" || len(text.Args) != 1 || text.ID != fmt.Sprint(c.ID) || len(text.ID) > 32 {
			t.Fatalf("%q: %v", c.Text, err)
		}
		topic := text.Args[0]
		if full[c.Inst].Symbol != topic.InstID {
			t.Errorf("%q is not of instrument %d", c.Text, c.Inst)
		}
		ids[text.ID], topics[topic.Channel+topic.InstID] = true, true
		args += len(c.Text)
	}
	if len(ids) != len(commands) || len(topics) != 3*len(full) || len(full) >= 30 || args > 64<<10 || len(commands) > 480/3 {
		t.Errorf("%d commands, %d ids, %d topics, %d bytes", len(commands), len(ids), len(topics), args)
	}
	if r := v.Rules(); strings.Contains(r.WSURL, "8443") || r.PingEveryNs >= 30e9 || r.SilenceNs < 3*60e9 {
		t.Errorf("%+v", r)
	}
}

// The instruments of 2022 against encoding/json's reading.
func TestOKXInstruments(t *testing.T) {
	for name, least := range map[string]int{"rest/okx_instruments_spot_20220513.json.gz": 300, "rest/okx_instruments_swap_20220513.json": 50} {
		body, err := io.ReadAll(venuetest.Capture(t, name))
		if err != nil {
			t.Fatal(err)
		}
		var info struct{ Data []map[string]string }
		if err := json.Unmarshal(body, &info); err != nil {
			t.Fatal(err)
		}
		var symbols []string
		for _, s := range info.Data {
			symbols = append(symbols, s["instId"])
		}
		insts, weight, err := Venue{}.Instruments(body, append(symbols[1:], "NO-SUCH"))
		if err != nil || weight != 0 {
			t.Fatal(weight, err)
		}
		if len(insts) != len(symbols)-1 || len(insts) < least {
			t.Fatalf("%s: %d instruments, want %d", name, len(insts), len(symbols)-1)
		}
		for i, inst := range insts {
			s := info.Data[i+1]
			want := event.Instrument{Venue: "okx", Market: "spot", Source: "instruments", Symbol: s["instId"], Status: s["state"], Pair: s["baseCcy"] + "-" + s["quoteCcy"],
				Base: s["baseCcy"], Quote: s["quoteCcy"], Tick: s["tickSz"], Lot: s["lotSz"], PxScale: venuetest.FractionDigits(s["tickSz"]), QtyScale: venuetest.FractionDigits(s["lotSz"])}
			if s["instType"] == "SWAP" {
				of := strings.Split(s["uly"], "-")
				want.Market, want.Pair, want.Base, want.Quote, want.ContractSize = s["ctType"], s["uly"], of[0], of[1], s["ctVal"]
				if s["ctMult"] != "1" {
					t.Fatalf("%s: ctMult %q", s["instId"], s["ctMult"])
				}
			}
			if inst != want {
				t.Errorf("got %+v\nwant %+v", inst, want)
			}
		}
	}
	for _, bad := range []string{``, `{`, `{}`, `{"code":"50011","msg":"Too Many Requests","data":[]}`, `{"code":0,"data":[]}`,
		`{"code":"0","data":[{"instId":"X-Y","tickSz":"1e-5","lotSz":"1"}]}`, `{"code":"0","data":[{"instId":"X-Y","tickSz":"1","lotSz":""}]}`} {
		if _, _, err := (Venue{}).Instruments([]byte(bad), []string{"X-Y"}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestOKXHugeMessage(t *testing.T) {
	var bids, asks []string
	for i := range 12_000 { // close to mostValues
		bids = append(bids, fmt.Sprintf(`["%d.%02d","%d","0","1"]`, 200_000-i, i%100, i))
		asks = append(asks, fmt.Sprintf(`["%d.5","0.%05d","0","1"]`, 200_001+i, i))
	}
	frame := []byte(`{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"snapshot","data":[{"bids":[` + strings.Join(bids, ",") + `],"asks":[` + strings.Join(asks, ",") + `],"ts":"1","seqId":1,"prevSeqId":-1}]}`)
	insts := []event.Instrument{{Symbol: "BTC-USDT", PxScale: 2, QtyScale: 5}}
	var b venues.Batch
	if reason := (Venue{}).NewDecoder(insts).Decode(frame, &b); reason != ledger.Accepted {
		t.Fatal(reason)
	}
	v, err := venuetest.ParseJSON(frame)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := told(v)
	if err := want[0].Fits(&b.Messages[0], &b, insts); err != nil {
		t.Error(err)
	}
}
