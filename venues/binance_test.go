package venues

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
)

// The oracle of this file is encoding/json with json.Number and math/big. It reads
// a frame into maps and knows what binance.md says about each field; it shares no
// code with the decoder.

// wire is a frame as the oracle sees it: numbers and texts as they stand in it.
type wire struct {
	kind          Kind
	symbol        string
	first, seq    string
	time          string
	bids, asks    [][]string // px, qty
	px, qty       string
	askPx, askQty string
	buyerIsMaker  bool
	tradeID       string
	id            string
	text          string
}

func object(v any) map[string]any { m, _ := v.(map[string]any); return m }

func number(v any) string {
	if n, ok := v.(json.Number); ok {
		return n.String()
	}
	return ""
}

func text(v any) string { s, _ := v.(string); return s }

func pairs(v any) (out [][]string) {
	list, _ := v.([]any)
	for _, e := range list {
		var pair []string
		l, _ := e.([]any)
		for _, x := range l {
			pair = append(pair, text(x))
		}
		out = append(out, pair)
	}
	return out
}

func parseJSON(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows")
	}
	return v, nil
}

// readWire reads a stream frame or an answer.
func readWire(v any) (w wire, ok bool) {
	m := object(v)
	if m == nil {
		return w, false
	}
	d := m
	if data, ok := m["data"]; ok {
		d = object(data)
	}
	name, named := d["e"]
	switch {
	case name == "depthUpdate":
		return wire{kind: KindDelta, symbol: text(d["s"]), first: number(d["U"]), seq: number(d["u"]), time: number(d["E"]), bids: pairs(d["b"]), asks: pairs(d["a"])}, true
	case name == "trade":
		maker, isBool := d["m"].(bool)
		return wire{kind: KindTrade, symbol: text(d["s"]), time: number(d["T"]), tradeID: number(d["t"]), px: text(d["p"]), qty: text(d["q"]), buyerIsMaker: maker}, isBool
	case name == "serverShutdown":
		return wire{kind: KindNotice, text: "serverShutdown"}, true
	case !named && d["u"] != nil && d["A"] != nil:
		return wire{kind: KindQuote, symbol: text(d["s"]), seq: number(d["u"]), px: text(d["b"]), qty: text(d["B"]), askPx: text(d["a"]), askQty: text(d["A"])}, true
	}
	if nested, ok := m["error"].(map[string]any); ok && m["code"] == nil {
		if _, refused := nested["code"]; refused {
			return wire{kind: KindRefused, id: number(m["id"]), text: text(nested["msg"])}, true
		}
	}
	if _, refused := m["code"]; refused {
		return wire{kind: KindRefused, id: number(m["id"]), text: text(m["msg"])}, true
	}
	_, accepted := m["result"]
	return wire{kind: KindAck, id: number(m["id"])}, accepted
}

func readWireSnapshot(v any) wire {
	m := object(v)
	return wire{kind: KindSnapshot, seq: number(m["lastUpdateId"]), bids: pairs(m["bids"]), asks: pairs(m["asks"])}
}

// sameNumber compares a mantissa at a scale with decimal text, exactly: the
// digits of the text, with the point moved, are the mantissa.
func sameNumber(m int64, scale int8, text string) bool {
	whole, frac, _ := strings.Cut(text, ".")
	frac = strings.TrimRight(frac, "0")
	if len(frac) > int(scale) {
		return false
	}
	want, ok := new(big.Int).SetString(whole+frac+strings.Repeat("0", int(scale)-len(frac)), 10)
	return ok && !strings.ContainsAny(text, "_+") && want.Cmp(big.NewInt(m)) == 0
}

// fractionDigits counts those of decimal text, without surplus zeros.
func fractionDigits(text string) int8 {
	_, frac, _ := strings.Cut(text, ".")
	return int8(len(strings.TrimRight(frac, "0")))
}

func sameInt(got int64, text string) bool { return fmt.Sprint(got) == text }

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
func differ(b *Batch, insts []event.Instrument, w wire, snapshotOf int) error {
	if len(b.Messages) != 1 {
		return fmt.Errorf("%d messages, want 1", len(b.Messages))
	}
	m := &b.Messages[0]
	if m.Kind != w.kind {
		return fmt.Errorf("kind %d, want %d", m.Kind, w.kind)
	}
	if w.kind == KindAck || w.kind == KindRefused || w.kind == KindNotice {
		id := w.id
		if !isInt64(id) {
			id = "0" // not one of ours
		}
		if m.Inst != -1 || m.TsEvent != event.Null || !sameInt(m.ID, id) || string(m.Text) != w.text {
			return fmt.Errorf("got %+v, want %+v", m, w)
		}
		return nil
	}
	if w.kind == KindSnapshot {
		if m.Inst != snapshotOf {
			return fmt.Errorf("instrument %d, want %d", m.Inst, snapshotOf)
		}
	} else if m.Inst < 0 || m.Inst >= len(insts) || insts[m.Inst].Symbol != w.symbol {
		return fmt.Errorf("instrument %d, want %q", m.Inst, w.symbol)
	}
	inst := &insts[m.Inst]
	switch w.kind {
	case KindDelta:
		if !sameInt(m.First, w.first) || !sameInt(m.Seq, w.seq) || m.SeqPrev != m.First-1 || m.First > m.Seq {
			return fmt.Errorf("ids %d %d %d, want %s..%s", m.SeqPrev, m.First, m.Seq, w.first, w.seq)
		}
	case KindTrade:
		if !sameInt(m.TradeNum, w.tradeID) || string(m.TradeID) != w.tradeID || m.Seq != event.Null {
			return fmt.Errorf("trade id %d %q, want %s", m.TradeNum, m.TradeID, w.tradeID)
		}
		if (m.Side == event.Ask) != w.buyerIsMaker || (m.Side == event.Bid) == w.buyerIsMaker {
			return fmt.Errorf("side %d, buyer is maker: %v", m.Side, w.buyerIsMaker)
		}
	default:
		if !sameInt(m.Seq, w.seq) || m.SeqPrev != event.Null || m.First != event.Null {
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
	if w.kind == KindTrade || w.kind == KindQuote {
		pxs, qtys = append(pxs, w.px), append(qtys, w.qty)
	}
	if w.kind == KindQuote {
		pxs, qtys = append(pxs, w.askPx), append(qtys, w.askQty)
	}
	needPx, needQty := inst.PxScale, inst.QtyScale
	for i := range pxs {
		needPx, needQty = max(needPx, fractionDigits(pxs[i])), max(needQty, fractionDigits(qtys[i]))
	}
	if m.PxScale != needPx || m.QtyScale != needQty {
		return fmt.Errorf("needs scales %d %d, want %d %d", m.PxScale, m.QtyScale, needPx, needQty)
	}
	if needPx > inst.PxScale || needQty > inst.QtyScale {
		return nil // the levels are of no use, and the test must ask again
	}
	same := func(i int, px, qty int64) error {
		if !sameNumber(px, needPx, pxs[i]) || !sameNumber(qty, needQty, qtys[i]) || qty < 0 {
			return fmt.Errorf("level %d is %d %d at scales %d %d, want %s %s", i, px, qty, needPx, needQty, pxs[i], qtys[i])
		}
		return nil
	}
	switch w.kind {
	case KindTrade:
		return same(0, m.Px, m.Qty)
	case KindQuote:
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

func isInt64(s string) bool {
	n, ok := new(big.Int).SetString(s, 10)
	return ok && n.IsInt64()
}

// decoderAt makes a decoder for symbols, all at the same scales.
func decoderAt(v Venue, px, qty int8, symbols ...string) (Decoder, []event.Instrument) {
	var insts []event.Instrument
	for _, s := range symbols {
		insts = append(insts, event.Instrument{Venue: v.Rules().Name, Symbol: s, PxScale: px, QtyScale: qty})
	}
	return v.NewDecoder(insts), insts
}

// capture opens a recording, or skips the test.
func capture(tb testing.TB, name string) io.Reader {
	tb.Helper()
	dir := os.Getenv("DEEPTAPE_CAPTURES")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "captures")
	}
	f, err := os.Open(filepath.Join(dir, name))
	if errors.Is(err, os.ErrNotExist) {
		tb.Skipf("no recording: %v; set DEEPTAPE_CAPTURES", err)
	} else if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.Close() })
	if !strings.HasSuffix(name, ".gz") {
		return f
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	return z
}

func captureLines(tb testing.TB, name string) (lines [][]byte) {
	tb.Helper()
	s := bufio.NewScanner(capture(tb, name))
	s.Buffer(nil, 1<<24)
	for s.Scan() {
		lines = append(lines, bytes.Clone(s.Bytes()))
	}
	if s.Err() != nil {
		tb.Fatal(s.Err())
	}
	return lines
}

// recordings and what check.py, which shares no code with this, counts in them.
var recordings = []struct {
	name    string
	symbols []string
	px, qty int8
	kinds   map[Kind]int
	other   int // kinds of frame that nobody subscribes to: aggTrade, kline
}{
	{"binance/spot_btcusdt_20240808_full.jsonl.gz", []string{"BTCUSDT"}, 2, 5,
		map[Kind]int{KindDelta: 6495, KindQuote: 73174, KindTrade: 19904, KindSnapshot: 1}, 0},
	{"binance/cryptofeed_us_4sym_20211012.jsonl", []string{"CRVUSDT", "COMPUSDT", "OMGBUSD", "ZRXUSDT"}, 0, 0,
		map[Kind]int{KindDelta: 336, KindQuote: 128, KindSnapshot: 4}, 16},
}

func TestBinanceRecordings(t *testing.T) {
	for _, rec := range recordings {
		t.Run(rec.name, func(t *testing.T) {
			dec, insts := decoderAt(binance{}, rec.px, rec.qty, rec.symbols...)
			var b Batch
			kinds, other, widened := map[Kind]int{}, 0, 0
			for n, frame := range captureLines(t, rec.name) {
				if testing.Short() && n > 5000 {
					t.Skip("-short: not all of it")
				}
				v, err := parseJSON(frame)
				if err != nil {
					t.Fatal(err)
				}
				for {
					var w wire
					var reason ledger.Reason
					if _, ok := object(v)["lastUpdateId"]; ok {
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
	if err := json.NewDecoder(capture(t, "rest/binance_depth_20240601.json")).Decode(&bodies); err != nil {
		t.Fatal(err)
	}
	dec, insts := decoderAt(binance{}, 2, 8, "ETHUSDT", "BTCUSDT")
	var b Batch
	for i, body := range bodies {
		v, err := parseJSON(body)
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
