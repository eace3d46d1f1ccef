package venuetest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
)

// The oracles of OKX and Bybit: readers of their own (encoding/json with json.Number,
// math/big) that know what the sheets say about each field, and captures/rows.py. They
// share no code with the decoders.

// Told is a message as an oracle reads it: texts as they stand in the frame.
type Told struct {
	Kind       venues.Kind
	Symbol     string
	Seq, Prev  string // "" is null
	Ms         string // "" is null, "?" is not compared
	Bids, Asks [][]string
	Px, Qty    string
	Side       string
	TradeID    string
	Num, First string // "" is null, "?" is not compared
	CRC        string // "", "0": none; "?" is not compared
	ID, Text   string
}

// Fits says where a message differs from what was told. The decoder has the scales of
// insts.
func (w *Told) Fits(m *venues.Message, b *venues.Batch, insts []event.Instrument) error {
	if m.Kind != w.Kind {
		return fmt.Errorf("kind %d, want %d", m.Kind, w.Kind)
	}
	switch w.Kind {
	case venues.KindControl, venues.KindAck, venues.KindRefused, venues.KindNotice:
		id := w.ID
		if !WholeText.MatchString(id) || !IsInt64(id) {
			id = "0" // not one of ours
		}
		if m.Inst != -1 || m.TsEvent != event.Null || !SameInt(m.ID, id) || string(m.Text) != w.Text {
			return fmt.Errorf("got %+v, want %+v", m, w)
		}
		return nil
	}
	if m.Inst < 0 || m.Inst >= len(insts) || insts[m.Inst].Symbol != w.Symbol {
		return fmt.Errorf("instrument %d, want %q", m.Inst, w.Symbol)
	}
	if m.First != event.Null || !sameOrNull(m.Seq, w.Seq) || !sameOrNull(m.SeqPrev, w.Prev) {
		return fmt.Errorf("ids %d %d %d, want %q after %q", m.First, m.Seq, m.SeqPrev, w.Seq, w.Prev)
	}
	if w.Ms != "?" && !sameMillis(m.TsEvent, w.Ms) {
		return fmt.Errorf("time %d ns, want %q ms", m.TsEvent, w.Ms)
	}
	if w.CRC != "?" {
		want, ok := new(big.Int).SetString(w.CRC, 10)
		said := ok && want.Sign() != 0
		if said && want.Sign() < 0 {
			want.Add(want, big.NewInt(1<<32))
		}
		if m.HasChecksum != said || said && want.Cmp(big.NewInt(int64(m.Checksum))) != 0 {
			return fmt.Errorf("checksum %d %v, want %q", m.Checksum, m.HasChecksum, w.CRC)
		}
	}
	inst := &insts[m.Inst]
	var pxs, qtys []string
	for _, p := range append(append([][]string{}, w.Bids...), w.Asks...) {
		if len(p) < 2 {
			return fmt.Errorf("a level %q was taken", p)
		}
		pxs, qtys = append(pxs, p[0]), append(qtys, p[1])
	}
	if w.Kind == venues.KindTrade {
		pxs, qtys = append(pxs, w.Px), append(qtys, w.Qty)
		side := map[event.Side]string{event.Bid: "buy", event.Ask: "sell"}[m.Side]
		if side != w.Side || string(m.TradeID) != w.TradeID || !sameOrNull(m.TradeNum, w.Num) || !sameOrNull(m.TradeFirst, w.First) {
			return fmt.Errorf("trade %q %d from %d, %s; want %+v", m.TradeID, m.TradeNum, m.TradeFirst, side, w)
		}
	}
	needPx, needQty := inst.PxScale, inst.QtyScale
	for i := range pxs {
		needPx, needQty = max(needPx, FractionDigits(pxs[i])), max(needQty, FractionDigits(qtys[i]))
	}
	if m.PxScale != needPx || m.QtyScale != needQty {
		return fmt.Errorf("needs scales %d %d, want %d %d", m.PxScale, m.QtyScale, needPx, needQty)
	}
	if needPx > inst.PxScale || needQty > inst.QtyScale {
		return nil // the numbers are of no use, and the test must ask again
	}
	var got []event.Level
	switch w.Kind {
	case venues.KindTrade:
		got = []event.Level{{Px: m.Px, Qty: m.Qty}}
	case venues.KindQuote:
		if len(w.Bids) > 1 || len(w.Asks) > 1 {
			return fmt.Errorf("a quote of several levels was taken")
		}
		if len(w.Bids) == 1 {
			got = append(got, event.Level{Px: m.Px, Qty: m.Qty, Side: event.Bid})
		} else if m.Px != 0 || m.Qty != 0 {
			return fmt.Errorf("no bid is %d %d", m.Px, m.Qty)
		}
		if len(w.Asks) == 1 {
			got = append(got, event.Level{Px: m.AskPx, Qty: m.AskQty, Side: event.Ask})
		} else if m.AskPx != 0 || m.AskQty != 0 {
			return fmt.Errorf("no ask is %d %d", m.AskPx, m.AskQty)
		}
	default:
		got = b.Levels[m.Lo:m.Hi]
	}
	if len(got) != len(pxs) {
		return fmt.Errorf("%d levels, want %d", len(got), len(pxs))
	}
	for i, l := range got {
		side := event.Bid
		if i >= len(w.Bids) {
			side = event.Ask
		}
		if w.Kind != venues.KindTrade && l.Side != side || l.Flags != 0 {
			return fmt.Errorf("level %d: side %d flags %d", i, l.Side, l.Flags)
		}
		if !SameNumber(l.Px, needPx, pxs[i]) || !SameNumber(l.Qty, needQty, qtys[i]) || l.Qty < 0 {
			return fmt.Errorf("level %d is %d %d at scales %d %d, want %s %s", i, l.Px, l.Qty, needPx, needQty, pxs[i], qtys[i])
		}
	}
	return nil
}

// decodeAll decodes a frame, at wider scales where it needs them, as feed does, and
// says how often that was so.
func decodeAll(dec venues.Decoder, frame []byte, b *venues.Batch, insts []event.Instrument) (reason ledger.Reason, widened int) {
	for {
		if reason = dec.Decode(frame, b); reason != ledger.Accepted {
			return reason, widened
		}
		finer := false
		for i := range b.Messages {
			m := &b.Messages[i]
			if m.Inst < 0 {
				continue
			}
			inst := &insts[m.Inst]
			if m.PxScale > inst.PxScale || m.QtyScale > inst.QtyScale {
				inst.PxScale, inst.QtyScale = max(m.PxScale, inst.PxScale), max(m.QtyScale, inst.QtyScale)
				dec.SetScale(m.Inst, inst.PxScale, inst.QtyScale)
				finer = true
			}
		}
		if !finer {
			return reason, widened
		}
		widened++
	}
}

// captureRows runs rows.py on a recording, or skips the test.
func captureRows(tb testing.TB, venue, name string) (rows []Told) {
	tb.Helper()
	dir := WhereCaptures()
	python, err := exec.LookPath("python3")
	if err != nil {
		tb.Skipf("no oracle: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "rows.py")); err != nil {
		tb.Skipf("no oracle: %v; set DEEPTAPE_CAPTURES", err)
	}
	out, err := exec.Command(python, filepath.Join(dir, "rows.py"), venue, filepath.Join(dir, name)).Output()
	if err != nil {
		tb.Fatalf("rows.py: %v", err)
	}
	s := bufio.NewScanner(bytes.NewReader(out))
	s.Buffer(nil, 1<<24)
	for s.Scan() {
		d := json.NewDecoder(bytes.NewReader(s.Bytes()))
		d.UseNumber()
		var r struct {
			K, Sym, ID, Px, Qty, Side string
			Snap                      bool
			Seq, Prev                 json.Number
			Lv                        [][]string
		}
		if err := d.Decode(&r); err != nil {
			tb.Fatal(err)
		}
		w := Told{Kind: venues.KindTrade, Symbol: r.Sym, Ms: "?", CRC: "?", Px: r.Px, Qty: r.Qty, Side: r.Side, TradeID: r.ID, Num: "?", First: "?", Seq: "?"}
		if r.K == "book" {
			w.Kind, w.Seq, w.Prev = venues.KindDelta, r.Seq.String(), r.Prev.String()
			if r.Snap {
				w.Kind = venues.KindSnapshot
			}
			for _, l := range r.Lv {
				if l[0] == "bid" {
					w.Bids = append(w.Bids, l[1:])
				} else {
					w.Asks = append(w.Asks, l[1:])
				}
			}
		}
		rows = append(rows, w)
	}
	if s.Err() != nil || len(rows) == 0 {
		tb.Fatalf("rows.py: %d rows, %v", len(rows), s.Err())
	}
	return rows
}

// PlayRecording decodes a recording from scales 0 and 0 on, compares each message with
// what tell reads in its frame and with rows.py's row, and counts the kinds.
func PlayRecording(t *testing.T, v venues.Venue, symbol, rowsAs, name string, tell func(any) ([]Told, bool), each func(m *venues.Message, b *venues.Batch, inst *event.Instrument)) (kinds map[venues.Kind]int, widened int) {
	t.Helper()
	insts := []event.Instrument{{Symbol: symbol}}
	dec := v.NewDecoder(insts)
	rows := captureRows(t, rowsAs, name)
	kinds = map[venues.Kind]int{}
	var b venues.Batch
	for n, frame := range CaptureLines(t, name) {
		parsed, err := ParseJSON(frame)
		if err != nil {
			t.Fatal(err)
		}
		reason, times := decodeAll(dec, frame, &b, insts)
		widened += times
		want, known := tell(parsed)
		if reason != ledger.Accepted || !known || len(b.Messages) != len(want) {
			t.Fatalf("line %d: %v, %d messages, want %d: %.300s", n+1, reason, len(b.Messages), len(want), frame)
		}
		for i := range b.Messages {
			m := &b.Messages[i]
			kinds[m.Kind]++
			if err := want[i].Fits(m, &b, insts); err != nil {
				t.Fatalf("line %d message %d: %v: %.300s", n+1, i, err, frame)
			}
			if m.Kind != venues.KindDelta && m.Kind != venues.KindSnapshot && m.Kind != venues.KindTrade {
				continue
			}
			if len(rows) == 0 {
				t.Fatalf("line %d: rows.py has no more rows", n+1)
			}
			if err := rows[0].Fits(m, &b, insts); err != nil {
				t.Fatalf("line %d message %d is not rows.py's: %v: %.300s", n+1, i, err, frame)
			}
			rows = rows[1:]
			if each != nil {
				each(m, &b, &insts[m.Inst])
			}
		}
	}
	if len(rows) != 0 {
		t.Errorf("rows.py has %d more rows", len(rows))
	}
	return kinds, widened
}

// Shape is a frame and what must come of it.
type Shape struct {
	Name   string
	Frame  string
	Want   []venues.Message
	Levels []event.Level // nil where they are of no use
}

// FuzzVenue decodes any frame: the decoder returns, and what it takes and is JSON holds
// what the oracle reads in it.
func FuzzVenue(t *testing.T, v venues.Venue, frame []byte, px, qty int8, tell func(any) ([]Told, bool)) {
	if px < 0 || px > 18 || qty < 0 || qty > 18 {
		return
	}
	insts := []event.Instrument{{Symbol: "BTC-USDT", PxScale: px, QtyScale: qty}, {Symbol: "BTCUSDT", PxScale: px, QtyScale: qty}, {Symbol: "ETHUSDT", PxScale: px, QtyScale: qty}}
	dec := v.NewDecoder(insts)
	var b venues.Batch
	if reason := dec.DecodeSnapshot(0, frame, &b); reason != ledger.UnknownShape || len(b.Messages) != 0 {
		t.Fatalf("a snapshot that nobody asked for: %v", reason)
	}
	reason, _ := decodeAll(dec, frame, &b, insts)
	if reason != ledger.Accepted {
		if len(b.Messages) > 1 {
			t.Fatalf("%v, and %d messages", reason, len(b.Messages))
		}
		return
	}
	if string(frame) == "pong" {
		return
	}
	parsed, err := ParseJSON(frame)
	if err != nil || RepeatsKey(frame) || strings.ToValidUTF8(string(frame), "") != string(frame) || strings.Contains(string(frame), `\`) {
		return // fastjson takes some texts that are no JSON, and reads a repeated key its own way
	}
	want, known := tell(parsed)
	if !known || len(want) != len(b.Messages) {
		t.Fatalf("taken as %+v", b.Messages)
	}
	for i := range want {
		if err := want[i].Fits(&b.Messages[i], &b, insts); err != nil {
			t.Fatal(err)
		}
	}
}

// CheckShapes decodes each shape at the scales of inst.
func CheckShapes(t *testing.T, v venues.Venue, inst event.Instrument, shapes []Shape) {
	t.Helper()
	for _, c := range shapes {
		dec := v.NewDecoder([]event.Instrument{{Symbol: "OTHER"}, inst})
		var b venues.Batch
		if reason := dec.Decode([]byte(c.Frame), &b); reason != ledger.Accepted {
			t.Errorf("%s: %v", c.Name, reason)
			continue
		}
		got, err := json.Marshal(b.Messages)
		want, err2 := json.Marshal(c.Want)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", c.Name, got, want)
		}
		if c.Levels != nil && fmt.Sprint(b.Levels) != fmt.Sprint(c.Levels) {
			t.Errorf("%s: levels %v, want %v", c.Name, b.Levels, c.Levels)
		}
	}
}

// Reject is a frame that must not be taken, and whose it was (-1: nobody can say).
type Reject struct {
	Name, Frame string
	Want        ledger.Reason
	Kind        venues.Kind
	Inst        int
}

func CheckRejects(t *testing.T, v venues.Venue, inst event.Instrument, rejects []Reject) {
	t.Helper()
	for _, c := range rejects {
		dec := v.NewDecoder([]event.Instrument{{Symbol: "OTHER"}, inst})
		var b venues.Batch
		if got := dec.Decode([]byte(c.Frame), &b); got != c.Want {
			t.Errorf("%s: %v, want %v: %.200s", c.Name, got, c.Want, c.Frame)
		}
		switch {
		case c.Inst < 0 && len(b.Messages) != 0:
			t.Errorf("%s: says that it was of %d", c.Name, b.Messages[0].Inst)
		case c.Inst >= 0 && (len(b.Messages) != 1 || b.Messages[0].Inst != c.Inst || b.Messages[0].Kind != c.Kind):
			t.Errorf("%s: does not say whose and what it was: %+v", c.Name, b.Messages)
		}
	}
}
