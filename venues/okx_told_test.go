package venues

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
)

// The oracles of OKX and Bybit: readers of their own (encoding/json with json.Number,
// math/big) that know what the sheets say about each field, and captures/rows.py. They
// share no code with the decoders.

// told is a message as an oracle reads it: texts as they stand in the frame.
type told struct {
	kind       Kind
	symbol     string
	seq, prev  string // "" is null
	ms         string // "" is null, "?" is not compared
	bids, asks [][]string
	px, qty    string
	side       string
	tradeID    string
	num, first string // "" is null, "?" is not compared
	crc        string // "", "0": none; "?" is not compared
	id, text   string
}

var wholeText = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)

// sameOrNull compares a number with text of which "" is null.
func sameOrNull(got int64, text string) bool {
	return text == "?" || text == "" && got == event.Null || text != "" && sameInt(got, text)
}

// fits says where a message differs from what was told. The decoder has the scales of
// insts.
func (w *told) fits(m *Message, b *Batch, insts []event.Instrument) error {
	if m.Kind != w.kind {
		return fmt.Errorf("kind %d, want %d", m.Kind, w.kind)
	}
	switch w.kind {
	case KindControl, KindAck, KindRefused, KindNotice:
		id := w.id
		if !wholeText.MatchString(id) || !isInt64(id) {
			id = "0" // not one of ours
		}
		if m.Inst != -1 || m.TsEvent != event.Null || !sameInt(m.ID, id) || string(m.Text) != w.text {
			return fmt.Errorf("got %+v, want %+v", m, w)
		}
		return nil
	}
	if m.Inst < 0 || m.Inst >= len(insts) || insts[m.Inst].Symbol != w.symbol {
		return fmt.Errorf("instrument %d, want %q", m.Inst, w.symbol)
	}
	if m.First != event.Null || !sameOrNull(m.Seq, w.seq) || !sameOrNull(m.SeqPrev, w.prev) {
		return fmt.Errorf("ids %d %d %d, want %q after %q", m.First, m.Seq, m.SeqPrev, w.seq, w.prev)
	}
	if w.ms != "?" && !sameMillis(m.TsEvent, w.ms) {
		return fmt.Errorf("time %d ns, want %q ms", m.TsEvent, w.ms)
	}
	if w.crc != "?" {
		want, ok := new(big.Int).SetString(w.crc, 10)
		said := ok && want.Sign() != 0
		if said && want.Sign() < 0 {
			want.Add(want, big.NewInt(1<<32))
		}
		if m.HasChecksum != said || said && want.Cmp(big.NewInt(int64(m.Checksum))) != 0 {
			return fmt.Errorf("checksum %d %v, want %q", m.Checksum, m.HasChecksum, w.crc)
		}
	}
	inst := &insts[m.Inst]
	var pxs, qtys []string
	for _, p := range append(append([][]string{}, w.bids...), w.asks...) {
		if len(p) < 2 {
			return fmt.Errorf("a level %q was taken", p)
		}
		pxs, qtys = append(pxs, p[0]), append(qtys, p[1])
	}
	if w.kind == KindTrade {
		pxs, qtys = append(pxs, w.px), append(qtys, w.qty)
		side := map[event.Side]string{event.Bid: "buy", event.Ask: "sell"}[m.Side]
		if side != w.side || string(m.TradeID) != w.tradeID || !sameOrNull(m.TradeNum, w.num) || !sameOrNull(m.TradeFirst, w.first) {
			return fmt.Errorf("trade %q %d from %d, %s; want %+v", m.TradeID, m.TradeNum, m.TradeFirst, side, w)
		}
	}
	needPx, needQty := inst.PxScale, inst.QtyScale
	for i := range pxs {
		needPx, needQty = max(needPx, fractionDigits(pxs[i])), max(needQty, fractionDigits(qtys[i]))
	}
	if m.PxScale != needPx || m.QtyScale != needQty {
		return fmt.Errorf("needs scales %d %d, want %d %d", m.PxScale, m.QtyScale, needPx, needQty)
	}
	if needPx > inst.PxScale || needQty > inst.QtyScale {
		return nil // the numbers are of no use, and the test must ask again
	}
	var got []event.Level
	switch w.kind {
	case KindTrade:
		got = []event.Level{{Px: m.Px, Qty: m.Qty}}
	case KindQuote:
		if len(w.bids) > 1 || len(w.asks) > 1 {
			return fmt.Errorf("a quote of several levels was taken")
		}
		if len(w.bids) == 1 {
			got = append(got, event.Level{Px: m.Px, Qty: m.Qty, Side: event.Bid})
		} else if m.Px != 0 || m.Qty != 0 {
			return fmt.Errorf("no bid is %d %d", m.Px, m.Qty)
		}
		if len(w.asks) == 1 {
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
		if i >= len(w.bids) {
			side = event.Ask
		}
		if w.kind != KindTrade && l.Side != side || l.Flags != 0 {
			return fmt.Errorf("level %d: side %d flags %d", i, l.Side, l.Flags)
		}
		if !sameNumber(l.Px, needPx, pxs[i]) || !sameNumber(l.Qty, needQty, qtys[i]) || l.Qty < 0 {
			return fmt.Errorf("level %d is %d %d at scales %d %d, want %s %s", i, l.Px, l.Qty, needPx, needQty, pxs[i], qtys[i])
		}
	}
	return nil
}

func sameMillis(ns int64, text string) bool {
	want, ok := new(big.Int).SetString(text, 10)
	if !ok || want.Sign() == 0 {
		return ns == event.Null && (ok || text == "")
	}
	return want.Mul(want, big.NewInt(1e6)).Cmp(big.NewInt(ns)) == 0
}

// decodeAll decodes a frame, at wider scales where it needs them, as feed does, and
// says how often that was so.
func decodeAll(dec Decoder, frame []byte, b *Batch, insts []event.Instrument) (reason ledger.Reason, widened int) {
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
func captureRows(tb testing.TB, venue, name string) (rows []told) {
	tb.Helper()
	dir := os.Getenv("DEEPTAPE_CAPTURES")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "captures")
	}
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
		w := told{kind: KindTrade, symbol: r.Sym, ms: "?", crc: "?", px: r.Px, qty: r.Qty, side: r.Side, tradeID: r.ID, num: "?", first: "?", seq: "?"}
		if r.K == "book" {
			w.kind, w.seq, w.prev = KindDelta, r.Seq.String(), r.Prev.String()
			if r.Snap {
				w.kind = KindSnapshot
			}
			for _, l := range r.Lv {
				if l[0] == "bid" {
					w.bids = append(w.bids, l[1:])
				} else {
					w.asks = append(w.asks, l[1:])
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

// playRecording decodes a recording from scales 0 and 0 on, compares each message with
// what tell reads in its frame and with rows.py's row, and counts the kinds.
func playRecording(t *testing.T, v Venue, symbol, rowsAs, name string, tell func(any) ([]told, bool), each func(m *Message, b *Batch, inst *event.Instrument)) (kinds map[Kind]int, widened int) {
	t.Helper()
	insts := []event.Instrument{{Symbol: symbol}}
	dec := v.NewDecoder(insts)
	rows := captureRows(t, rowsAs, name)
	kinds = map[Kind]int{}
	var b Batch
	for n, frame := range captureLines(t, name) {
		parsed, err := parseJSON(frame)
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
			if err := want[i].fits(m, &b, insts); err != nil {
				t.Fatalf("line %d message %d: %v: %.300s", n+1, i, err, frame)
			}
			if m.Kind != KindDelta && m.Kind != KindSnapshot && m.Kind != KindTrade {
				continue
			}
			if len(rows) == 0 {
				t.Fatalf("line %d: rows.py has no more rows", n+1)
			}
			if err := rows[0].fits(m, &b, insts); err != nil {
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

// shape is a frame and what must come of it.
type shape struct {
	name   string
	frame  string
	want   []Message
	levels []event.Level // nil where they are of no use
}

// fuzzVenue: whatever comes, the decoder returns; what it takes and is JSON holds what
// the oracle reads in it.
func fuzzVenue(t *testing.T, v Venue, frame []byte, px, qty int8, tell func(any) ([]told, bool)) {
	if px < 0 || px > 18 || qty < 0 || qty > 18 {
		return
	}
	insts := []event.Instrument{{Symbol: "BTC-USDT", PxScale: px, QtyScale: qty}, {Symbol: "BTCUSDT", PxScale: px, QtyScale: qty}, {Symbol: "ETHUSDT", PxScale: px, QtyScale: qty}}
	dec := v.NewDecoder(insts)
	var b Batch
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
	parsed, err := parseJSON(frame)
	if err != nil || repeatsKey(frame) || strings.ToValidUTF8(string(frame), "") != string(frame) || strings.Contains(string(frame), `\`) {
		return // fastjson takes some texts that are no JSON, and reads a repeated key its own way
	}
	want, known := tell(parsed)
	if !known || len(want) != len(b.Messages) {
		t.Fatalf("taken as %+v", b.Messages)
	}
	for i := range want {
		if err := want[i].fits(&b.Messages[i], &b, insts); err != nil {
			t.Fatal(err)
		}
	}
}

// checkShapes decodes each shape at the scales of inst.
func checkShapes(t *testing.T, v Venue, inst event.Instrument, shapes []shape) {
	t.Helper()
	for _, c := range shapes {
		dec := v.NewDecoder([]event.Instrument{{Symbol: "OTHER"}, inst})
		var b Batch
		if reason := dec.Decode([]byte(c.frame), &b); reason != ledger.Accepted {
			t.Errorf("%s: %v", c.name, reason)
			continue
		}
		got, err := json.Marshal(b.Messages)
		want, err2 := json.Marshal(c.want)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, want)
		}
		if c.levels != nil && fmt.Sprint(b.Levels) != fmt.Sprint(c.levels) {
			t.Errorf("%s: levels %v, want %v", c.name, b.Levels, c.levels)
		}
	}
}

// reject is a frame that must not be taken, and whose it was (-1: nobody can say).
type reject struct {
	name, frame string
	want        ledger.Reason
	kind        Kind
	inst        int
}

func checkRejects(t *testing.T, v Venue, inst event.Instrument, rejects []reject) {
	t.Helper()
	for _, c := range rejects {
		dec := v.NewDecoder([]event.Instrument{{Symbol: "OTHER"}, inst})
		var b Batch
		if got := dec.Decode([]byte(c.frame), &b); got != c.want {
			t.Errorf("%s: %v, want %v: %.200s", c.name, got, c.want, c.frame)
		}
		switch {
		case c.inst < 0 && len(b.Messages) != 0:
			t.Errorf("%s: says that it was of %d", c.name, b.Messages[0].Inst)
		case c.inst >= 0 && (len(b.Messages) != 1 || b.Messages[0].Inst != c.inst || b.Messages[0].Kind != c.kind):
			t.Errorf("%s: does not say whose and what it was: %+v", c.name, b.Messages)
		}
	}
}
