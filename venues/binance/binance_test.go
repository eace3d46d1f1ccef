package binance

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
	"deeptape/venues/venuetest"
)

// The oracle of this file is encoding/json with json.Number and math/big. It reads
// a frame into maps and knows what binance.md says about each field; it shares no
// code with the decoder.

// wire is a frame as the oracle sees it: numbers and texts as they stand in it.
type wire struct {
	kind          venues.Kind
	symbol        string
	first, seq    string
	time          string
	bids, asks    [][]string // px, qty
	px, qty       string
	askPx, askQty string
	buyerIsMaker  bool
	tradeID       string
	ID            string
	text          string
}

// readWire reads a stream frame or an answer.
func readWire(v any) (w wire, ok bool) {
	m := venuetest.Object(v)
	if m == nil {
		return w, false
	}
	d := m
	if data, ok := m["data"]; ok {
		d = venuetest.Object(data)
	}
	name, named := d["e"]
	switch {
	case name == "depthUpdate":
		return wire{kind: venues.KindDelta, symbol: venuetest.Text(d["s"]), first: venuetest.Number(d["U"]), seq: venuetest.Number(d["u"]), time: venuetest.Number(d["E"]), bids: venuetest.Pairs(d["b"]), asks: venuetest.Pairs(d["a"])}, true
	case name == "trade":
		maker, isBool := d["m"].(bool)
		return wire{kind: venues.KindTrade, symbol: venuetest.Text(d["s"]), time: venuetest.Number(d["T"]), tradeID: venuetest.Number(d["t"]), px: venuetest.Text(d["p"]), qty: venuetest.Text(d["q"]), buyerIsMaker: maker}, isBool
	case name == "serverShutdown":
		return wire{kind: venues.KindNotice, text: "serverShutdown"}, true
	case !named && d["u"] != nil && d["A"] != nil:
		return wire{kind: venues.KindQuote, symbol: venuetest.Text(d["s"]), seq: venuetest.Number(d["u"]), px: venuetest.Text(d["b"]), qty: venuetest.Text(d["B"]), askPx: venuetest.Text(d["a"]), askQty: venuetest.Text(d["A"])}, true
	}
	if nested, ok := m["error"].(map[string]any); ok && m["code"] == nil {
		if _, refused := nested["code"]; refused {
			return wire{kind: venues.KindRefused, ID: venuetest.Number(m["id"]), text: venuetest.Text(nested["msg"])}, true
		}
	}
	if _, refused := m["code"]; refused {
		return wire{kind: venues.KindRefused, ID: venuetest.Number(m["id"]), text: venuetest.Text(m["msg"])}, true
	}
	_, accepted := m["result"]
	return wire{kind: venues.KindAck, ID: venuetest.Number(m["id"])}, accepted
}

func readWireSnapshot(v any) wire {
	m := venuetest.Object(v)
	return wire{kind: venues.KindSnapshot, seq: venuetest.Number(m["lastUpdateId"]), bids: venuetest.Pairs(m["bids"]), asks: venuetest.Pairs(m["asks"])}
}

// sameTime: milliseconds have 13 digits, microseconds 16.
func sameTime(gotNs int64, text string) bool {
	want, ok := new(big.Int).SetString(text, 10)
	if !ok {
		return gotNs == event.Null && text == ""
	}
	if want.Sign() == 0 {
		return gotNs == event.Null
	}
	unit := int64(1e6)
	if len(want.String()) > 14 {
		unit = 1e3
	}
	return want.Mul(want, big.NewInt(unit)).Cmp(big.NewInt(gotNs)) == 0
}

// differ says where a decoded message differs from what stands in the frame. The
// decoder has the given scales.
func differ(b *venues.Batch, insts []event.Instrument, w wire, snapshotOf int) error {
	if len(b.Messages) != 1 {
		return fmt.Errorf("%d messages, want 1", len(b.Messages))
	}
	m := &b.Messages[0]
	if m.Kind != w.kind {
		return fmt.Errorf("kind %d, want %d", m.Kind, w.kind)
	}
	if w.kind == venues.KindAck || w.kind == venues.KindRefused || w.kind == venues.KindNotice {
		id := w.ID
		if !venuetest.IsInt64(id) {
			id = "0" // not one of ours
		}
		if m.Inst != -1 || m.TsEvent != event.Null || !venuetest.SameInt(m.ID, id) || string(m.Text) != w.text {
			return fmt.Errorf("got %+v, want %+v", m, w)
		}
		return nil
	}
	if w.kind == venues.KindSnapshot {
		if m.Inst != snapshotOf {
			return fmt.Errorf("instrument %d, want %d", m.Inst, snapshotOf)
		}
	} else if m.Inst < 0 || m.Inst >= len(insts) || insts[m.Inst].Symbol != w.symbol {
		return fmt.Errorf("instrument %d, want %q", m.Inst, w.symbol)
	}
	inst := &insts[m.Inst]
	switch w.kind {
	case venues.KindDelta:
		if !venuetest.SameInt(m.First, w.first) || !venuetest.SameInt(m.Seq, w.seq) || m.SeqPrev != m.First-1 || m.First > m.Seq {
			return fmt.Errorf("ids %d %d %d, want %s..%s", m.SeqPrev, m.First, m.Seq, w.first, w.seq)
		}
	case venues.KindTrade:
		if !venuetest.SameInt(m.TradeNum, w.tradeID) || string(m.TradeID) != w.tradeID || m.Seq != event.Null {
			return fmt.Errorf("trade id %d %q, want %s", m.TradeNum, m.TradeID, w.tradeID)
		}
		if (m.Side == event.Ask) != w.buyerIsMaker || (m.Side == event.Bid) == w.buyerIsMaker {
			return fmt.Errorf("side %d, buyer is maker: %v", m.Side, w.buyerIsMaker)
		}
	default:
		if !venuetest.SameInt(m.Seq, w.seq) || m.SeqPrev != event.Null || m.First != event.Null {
			return fmt.Errorf("ids %d %d %d, want %s", m.SeqPrev, m.First, m.Seq, w.seq)
		}
	}
	if !sameTime(m.TsEvent, w.time) {
		return fmt.Errorf("time %d ns, want %q", m.TsEvent, w.time)
	}
	// Every price and size in the frame, in its order.
	var pxs, qtys []string
	for _, p := range append(append([][]string{}, w.bids...), w.asks...) {
		if len(p) < 2 {
			return fmt.Errorf("a level %q was taken", p)
		}
		pxs, qtys = append(pxs, p[0]), append(qtys, p[1])
	}
	if w.kind == venues.KindTrade || w.kind == venues.KindQuote {
		pxs, qtys = append(pxs, w.px), append(qtys, w.qty)
	}
	if w.kind == venues.KindQuote {
		pxs, qtys = append(pxs, w.askPx), append(qtys, w.askQty)
	}
	needPx, needQty := inst.PxScale, inst.QtyScale
	for i := range pxs {
		needPx, needQty = max(needPx, venuetest.FractionDigits(pxs[i])), max(needQty, venuetest.FractionDigits(qtys[i]))
	}
	if m.PxScale != needPx || m.QtyScale != needQty {
		return fmt.Errorf("needs scales %d %d, want %d %d", m.PxScale, m.QtyScale, needPx, needQty)
	}
	if needPx > inst.PxScale || needQty > inst.QtyScale {
		return nil // the levels are of no use, and the test must ask again
	}
	same := func(i int, px, qty int64) error {
		if !venuetest.SameNumber(px, needPx, pxs[i]) || !venuetest.SameNumber(qty, needQty, qtys[i]) || qty < 0 {
			return fmt.Errorf("level %d is %d %d at scales %d %d, want %s %s", i, px, qty, needPx, needQty, pxs[i], qtys[i])
		}
		return nil
	}
	switch w.kind {
	case venues.KindTrade:
		return same(0, m.Px, m.Qty)
	case venues.KindQuote:
		return errors.Join(same(0, m.Px, m.Qty), same(1, m.AskPx, m.AskQty))
	}
	if m.Hi-m.Lo != len(pxs) || m.Hi > len(b.Levels) {
		return fmt.Errorf("%d levels, want %d", m.Hi-m.Lo, len(pxs))
	}
	for i, l := range b.Levels[m.Lo:m.Hi] {
		side := event.Bid
		if i >= len(w.bids) {
			side = event.Ask
		}
		if l.Side != side || l.Flags != 0 {
			return fmt.Errorf("level %d: side %d flags %d", i, l.Side, l.Flags)
		}
		if err := same(i, l.Px, l.Qty); err != nil {
			return err
		}
	}
	return nil
}

// recordings and what check.py, which shares no code with this, counts in them.
var recordings = []struct {
	name    string
	symbols []string
	px, qty int8
	kinds   map[venues.Kind]int
	other   int // kinds of frame that nobody subscribes to: aggTrade, kline
}{
	{"binance/spot_btcusdt_20240808_full.jsonl.gz", []string{"BTCUSDT"}, 2, 5,
		map[venues.Kind]int{venues.KindDelta: 6495, venues.KindQuote: 73174, venues.KindTrade: 19904, venues.KindSnapshot: 1}, 0},
	{"binance/cryptofeed_us_4sym_20211012.jsonl", []string{"CRVUSDT", "COMPUSDT", "OMGBUSD", "ZRXUSDT"}, 0, 0,
		map[venues.Kind]int{venues.KindDelta: 336, venues.KindQuote: 128, venues.KindSnapshot: 4}, 16},
}

func TestBinanceRecordings(t *testing.T) {
	for _, rec := range recordings {
		t.Run(rec.name, func(t *testing.T) {
			dec, insts := venuetest.DecoderAt(Venue{}, rec.px, rec.qty, rec.symbols...)
			var b venues.Batch
			kinds, other, widened := map[venues.Kind]int{}, 0, 0
			for n, frame := range venuetest.CaptureLines(t, rec.name) {
				if testing.Short() && n > 5000 {
					t.Skip("-short: not all of it")
				}
				v, err := venuetest.ParseJSON(frame)
				if err != nil {
					t.Fatal(err)
				}
				for {
					var w wire
					var reason ledger.Reason
					if _, ok := venuetest.Object(v)["lastUpdateId"]; ok {
						w, reason = readWireSnapshot(v), dec.DecodeSnapshot(0, frame, &b)
					} else {
						var known bool
						w, known = readWire(v)
						reason = dec.Decode(frame, &b)
						if reason == ledger.UnknownShape && !known {
							other++
							break
						}
					}
					if reason != ledger.Accepted {
						t.Fatalf("line %d: %v: %.300s", n+1, reason, frame)
					}
					if err := differ(&b, insts, w, 0); err != nil {
						t.Fatalf("line %d: %v: %.300s", n+1, err, frame)
					}
					m := &b.Messages[0]
					inst := &insts[m.Inst]
					if m.PxScale == inst.PxScale && m.QtyScale == inst.QtyScale {
						kinds[m.Kind]++
						break
					}
					widened++
					inst.PxScale, inst.QtyScale = m.PxScale, m.QtyScale
					dec.SetScale(m.Inst, m.PxScale, m.QtyScale)
				}
			}
			if !reflect.DeepEqual(kinds, rec.kinds) || other != rec.other {
				t.Errorf("kinds %v and %d others, want %v and %d", kinds, other, rec.kinds, rec.other)
			}
			if widened == 0 {
				t.Error("nothing was widened: the recording has sizes finer than the lot")
			}
		})
	}
}

// One line of the file of REST bodies is a list of consecutive ones.
func TestBinanceSnapshotBodies(t *testing.T) {
	var bodies []json.RawMessage
	if err := json.NewDecoder(venuetest.Capture(t, "rest/binance_depth_20240601.json")).Decode(&bodies); err != nil {
		t.Fatal(err)
	}
	dec, insts := venuetest.DecoderAt(Venue{}, 2, 8, "ETHUSDT", "BTCUSDT")
	var b venues.Batch
	for i, body := range bodies {
		v, err := venuetest.ParseJSON(body)
		if err != nil {
			t.Fatal(err)
		}
		if reason := dec.DecodeSnapshot(1, body, &b); reason != ledger.Accepted {
			t.Fatalf("body %d: %v", i, reason)
		}
		if err := differ(&b, insts, readWireSnapshot(v), 1); err != nil {
			t.Errorf("body %d: %v", i, err)
		}
	}
	if len(bodies) == 0 {
		t.Error("no bodies")
	}
}
