package feed

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
)

// rig drives one machine with inputs made by hand, and checks after every step
// what must always hold (see model).
type rig struct {
	t      *testing.T
	m      *Machine
	model  *model
	frames ledger.Frames
	rows   ledger.Rows
	cfg    Config

	pos    uint64
	now    int64
	inputs []event.Input // all of them, for deriving again
	sink   memorySink
	notes  []string
	warned []string // of notes, those that are warnings
	sent   []string
	buffer []byte   // of the inputs' bytes
	asked  []Action // fetches
	redial []Action
	line   uint8 // that the next inputs are of
	sends  bool  // commands go out as soon as they are asked for
}

// memorySink keeps every record.
type memorySink struct {
	records [][]byte
	claimed []byte
}

func (s *memorySink) Claim(n int) []byte {
	s.claimed = make([]byte, n)
	for i := range s.claimed { // a record must be written whole
		s.claimed[i] = 0xa5
	}
	return s.claimed
}

func (s *memorySink) Commit() { s.records = append(s.records, s.claimed) }

const t0 = int64(1_790_000_000_000_000_000)

// newRig has not started its run.
func newRig(t *testing.T, insts ...event.Instrument) *rig {
	r := &rig{t: t, now: t0}
	r.cfg = Config{Version: Version, Venue: "binance", Instruments: insts, TopLevels: 3, Quotes: true, Depth: 5000, Base: 4}
	r.m = New(&r.sink, &r.frames, r.rows.Feed())
	r.model = newModel(len(insts), r.cfg.TopLevels)
	return r
}

func inst(symbol string) event.Instrument {
	return event.Instrument{Venue: "binance", Symbol: symbol, PxScale: 2, QtyScale: 3, Tick: "0.01", Lot: "0.001", Source: "test"}
}

// liveRig is connected, acknowledged and live: AAAUSDT at id 100 with bids 9.98
// and 9.99, asks 10.01 and 10.02, and BBBUSDT likewise.
func liveRig(t *testing.T) *rig {
	r := newRig(t, inst("AAAUSDT"), inst("BBBUSDT"))
	r.run()
	r.connect()
	r.ack(1)
	for i := range 2 {
		r.depth(i, 101, 101, "9.98=1", "10.02=2")
		r.rest(i, 200, body(100, "9.99=1", "10.01=1"))
	}
	r.wantCover(0, event.StreamBook, "gap start", "verified chain")
	r.wantCover(1, event.StreamBook, "gap start", "verified chain")
	return r
}

func (r *rig) step(kind event.InputKind, aux int64, data []byte) {
	r.t.Helper()
	r.pos++
	in := event.Input{InputHead: event.InputHead{Kind: kind, Line: r.line, Feed: 3, Pos: r.pos, Ts: r.now, Aux: aux}, Data: data}
	r.stepInput(in)
}

func (r *rig) stepInput(in event.Input) {
	r.t.Helper()
	r.inputs = append(r.inputs, in)
	before, gaps := len(r.sink.records), r.untold()
	// Frames come in one buffer, as from a socket, and most are foreseen, as a session's are.
	borrowed := append(r.buffer[:0], in.Data...)
	r.buffer, in.Data = borrowed, borrowed
	if in.Kind == event.InputFrame && in.Pos%3 > 0 {
		r.m.Foresee(borrowed)
	}
	if err := r.m.Step(&in); err != nil {
		r.t.Fatal(err)
	}
	for i := range borrowed { // the machine may not keep a frame's bytes
		borrowed[i] = 'X'
	}
	actions := slices.Clone(r.m.Actions())
	warned := slices.ContainsFunc(actions, func(a Action) bool { return a.Kind == ActionWarn })
	for i, n := range r.untold() {
		if i < len(gaps) && n > gaps[i] && !warned {
			r.t.Fatalf("input %d (%s %.200s) makes a gap, and nobody is warned", in.Pos, in.Kind, in.Data)
		}
	}
	for _, a := range actions {
		switch a.Kind {
		case ActionFetch:
			r.asked = append(r.asked, a)
		case ActionSend:
			r.sent = append(r.sent, a.Text)
		case ActionNote, ActionWarn:
			r.notes = append(r.notes, a.Text)
			if a.Kind == ActionWarn {
				r.warned = append(r.warned, a.Text)
			}
		case ActionReconnect:
			r.redial = append(r.redial, a)
		}
	}
	if err := r.model.take(r.sink.records[before:], in.Pos, in.Ts); err != nil {
		r.t.Fatalf("input %d (%s %.200s): %v", in.Pos, in.Kind, r.inputs[len(r.inputs)-1].Data, err)
	}
	r.checkLedger()
	if err := r.model.checkBooks(r.m); err != nil {
		r.t.Fatalf("input %d (%s): %v", in.Pos, in.Kind, err)
	}
	for _, a := range actions {
		if a.Kind == ActionSend && r.sends {
			r.pos++
			r.stepInput(event.Input{InputHead: event.InputHead{Kind: event.InputCommand, Line: a.Line, Feed: 3, Pos: r.pos, Ts: r.now}, Data: []byte(a.Text)})
		}
	}
}

func (r *rig) checkLedger() {
	r.t.Helper()
	if d := r.frames.Read().Difference(); d != 0 {
		r.t.Fatalf("input %d: frames are off by %d: %v", r.pos, d, r.frames.Read())
	}
	for table, c := range r.rows.Read() {
		if c.Difference() != 0 || c.Derived != c.InRing || c.Derived != r.model.rows[table] {
			r.t.Fatalf("input %d: rows of %s: %+v, the model counts %d", r.pos, event.Table(table).String(), c, r.model.rows[table])
		}
	}
}

func (r *rig) run(resume ...Resume) {
	r.t.Helper()
	r.cfg.Resume = resume
	data, err := json.Marshal(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.model.newRun(r.cfg.Base, len(r.cfg.Instruments), resume != nil)
	r.asked = nil
	r.step(event.InputRun, 0, data)
}

func (r *rig) connect()       { r.t.Helper(); r.asked = nil; r.step(event.InputConnect, 1, nil) }
func (r *rig) close()         { r.t.Helper(); r.step(event.InputClose, 0, []byte("cut")) }
func (r *rig) stop()          { r.t.Helper(); r.step(event.InputStop, 0, nil) }
func (r *rig) loss(n int64)   { r.t.Helper(); r.step(event.InputLoss, n, make([]byte, 8)) }
func (r *rig) frame(s string) { r.t.Helper(); r.now += 1000; r.step(event.InputFrame, 0, []byte(s)) }
func (r *rig) ack(id int)     { r.t.Helper(); r.frame(fmt.Sprintf(`{"result":null,"id":%d}`, id)) }

// ticks for some seconds.
func (r *rig) ticks(seconds int) {
	r.t.Helper()
	for range seconds {
		r.now += 1e9
		r.step(event.InputTick, 0, nil)
	}
}

// side turns "9.98=1 9.97=0" into JSON.
func side(levels string) string {
	var out []string
	for _, l := range strings.Fields(levels) {
		px, qty, _ := strings.Cut(l, "=")
		out = append(out, fmt.Sprintf("[%q,%q]", px, qty))
	}
	return "[" + strings.Join(out, ",") + "]"
}

func (r *rig) depth(i int, first, last int64, bids, asks string) {
	r.t.Helper()
	r.frame(r.depthText(i, first, last, bids, asks))
}

func (r *rig) depthText(i int, first, last int64, bids, asks string) string {
	return fmt.Sprintf(`{"stream":"x","data":{"e":"depthUpdate","E":%d,"s":%q,"U":%d,"u":%d,"b":%s,"a":%s}}`,
		r.now/1e6, r.cfg.Instruments[i].Symbol, first, last, side(bids), side(asks))
}

func (r *rig) trade(i int, id int64, px, qty string) {
	r.t.Helper()
	r.frame(fmt.Sprintf(`{"e":"trade","E":1,"s":%q,"t":%d,"p":%q,"q":%q,"T":%d,"m":true}`, r.cfg.Instruments[i].Symbol, id, px, qty, r.now/1e6))
}

// tradeAt brings a trade that was made at an instant of the venue's clock.
func (r *rig) tradeAt(i int, id, tsEvent int64) {
	r.t.Helper()
	r.frame(fmt.Sprintf(`{"e":"trade","E":1,"s":%q,"t":%d,"p":"9.99","q":"1","T":%d,"m":true}`, r.cfg.Instruments[i].Symbol, id, tsEvent/1e6))
}

func (r *rig) quote(i int, id int64, bid, bidQty, ask, askQty string) {
	r.t.Helper()
	r.frame(fmt.Sprintf(`{"u":%d,"s":%q,"b":%q,"B":%q,"a":%q,"A":%q}`, id, r.cfg.Instruments[i].Symbol, bid, bidQty, ask, askQty))
}

func body(id int64, bids, asks string) string {
	return fmt.Sprintf(`{"lastUpdateId":%d,"bids":%s,"asks":%s}`, id, side(bids), side(asks))
}

// rest answers the last request for instrument i.
func (r *rig) rest(i int, status uint16, body string) {
	r.t.Helper()
	for k := len(r.asked) - 1; k >= 0; k-- {
		if r.asked[k].Inst == i {
			r.now += 1000
			r.step(event.InputRest, event.RestAux(r.asked[k].Request, uint16(i), status), []byte(body))
			return
		}
	}
	r.t.Fatalf("no snapshot of instrument %d has been asked for", i)
}

// wantCover compares a stream's intervals as of now: "state proof" of the verified,
// "state cause" of the others.
func (r *rig) wantCover(i int, s event.Stream, want ...string) {
	r.t.Helper()
	var got []string
	for _, iv := range r.cover(i, s) {
		what := iv.Cause.String()
		if iv.State == event.StateVerified {
			what = iv.Proof.String()
		}
		got = append(got, iv.State.String()+" "+what)
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		r.t.Fatalf("coverage of %s of instrument %d:\n got %q\nwant %q", s, i, got, want)
	}
}

// cover is what has been written, and what the machine has still to write.
func (r *rig) cover(i int, s event.Stream) []event.Coverage {
	r.t.Helper()
	ivs := r.model.merged(i, s, r.m.Resume(i).Unwritten)
	if err := contiguous(ivs); err != nil {
		r.t.Fatal(err)
	}
	return ivs
}

func (r *rig) wantBook(i int, seq int64, bids, asks string) {
	r.t.Helper()
	in := &r.m.insts[i]
	var got [2]string
	for k, side := range []event.Side{event.Bid, event.Ask} {
		for _, l := range in.book.AppendLevels(nil, side) {
			got[k] += fmt.Sprintf(" %s=%s", decimalText(l.Px, in.PxScale), decimalText(l.Qty, in.QtyScale))
		}
	}
	if strings.TrimSpace(got[0]) != bids || strings.TrimSpace(got[1]) != asks || in.seq != seq || in.state != bookLive {
		r.t.Fatalf("book of %d: %s at id %d, bids %q asks %q; want id %d, bids %q asks %q", i, bookStateNames[in.state], in.seq, got[0], got[1], seq, bids, asks)
	}
}

func decimalText(m int64, scale int8) string {
	s := fmt.Sprintf("%0*d", int(scale)+1, m)
	s = s[:len(s)-int(scale)] + "." + s[len(s)-int(scale):]
	return strings.TrimRight(strings.TrimRight(s, "0"), ".")
}

// wantFrames compares what became of the frames, without those of no outcome.
func (r *rig) wantFrames(want string) {
	r.t.Helper()
	var got []string
	counts := r.frames.Read()
	for i, e := range ledger.Entries {
		if counts[i] > 0 {
			got = append(got, strings.TrimPrefix(e.Label+" "+e.Reason, "rejected ")+fmt.Sprintf(" %d", counts[i]))
		}
	}
	if g := strings.ReplaceAll(strings.Join(got, ", "), "  ", " "); g != want {
		r.t.Errorf("frames: got  %s\n        want %s", g, want)
	}
}

func (r *rig) noted(part string) {
	r.t.Helper()
	if !strings.Contains(strings.Join(r.notes, "\n"), part) {
		r.t.Errorf("nobody has been told %q; only %q", part, r.notes)
	}
}

// finish stops the run and checks what can be checked only at the end; then it
// derives everything again, in three ways.
func (r *rig) finish() {
	r.t.Helper()
	r.now += 1000
	r.stop()
	for i := range r.m.insts {
		if u := r.m.Resume(i).Unwritten; u != nil {
			r.t.Fatalf("the stop has left intervals unwritten: %+v", u)
		}
	}
	if err := r.model.checkEnd(); err != nil {
		r.t.Fatal(err)
	}
	r.again()
}

// again: the same inputs give the same bytes; in a machine of their own, through
// a derivation, and beside a sink that has room only now and then.
func (r *rig) again() {
	r.t.Helper()
	var second memorySink
	picky := pickySink{}
	m2 := New(&second, &ledger.Frames{}, &ledger.RowsDerived{})
	m3 := New(&picky, &ledger.Frames{}, &ledger.RowsDerived{})
	m2.bufferBytes, m3.bufferBytes = r.m.bufferBytes, r.m.bufferBytes
	for _, in := range r.inputs {
		if err := m2.Step(&in); err != nil {
			r.t.Fatal(err)
		}
		if err := m3.Step(&in); err != nil {
			r.t.Fatal(err)
		}
	}
	sameRecords(r.t, "a second machine", second.records, r.sink.records)
	if len(picky.records) != len(r.sink.records) {
		r.t.Fatalf("a full ring changes how many records there are: %d, want %d", len(picky.records), len(r.sink.records))
	}
	for i, rec := range picky.records {
		if rec != nil && string(rec) != string(r.sink.records[i]) {
			r.t.Fatalf("a full ring changes record %d", i)
		}
	}
	if r.m.bufferBytes != bufferBytesMax {
		return // a derivation knows only the real bound
	}
	d := NewDerivation(&sliceInputs{all: r.inputs}, 3)
	var derived [][]byte
	for {
		rec, feed, err := d.Next()
		if err == io.EOF {
			break
		}
		if err != nil || feed != 3 {
			r.t.Fatal(feed, err)
		}
		if pos := event.RecordPos(rec); pos != d.Pos(3) && pos != d.Pos(3)+1 {
			r.t.Fatalf("a record of input %d while the derivation stands at %d", pos, d.Pos(3))
		}
		derived = append(derived, append([]byte(nil), rec...))
	}
	sameRecords(r.t, "a derivation", derived, r.sink.records)
	if d.Pos(3) != r.pos || d.Frames(3).Read() != r.frames.Read() {
		r.t.Errorf("a derivation ends at %d with %v, want %d with %v", d.Pos(3), d.Frames(3).Read(), r.pos, r.frames.Read())
	}
}

func sameRecords(t *testing.T, what string, got, want [][]byte) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if string(got[i]) != string(want[i]) {
			t.Fatalf("%s: record %d differs:\n got %x\nwant %x", what, i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d records, want %d", what, len(got), len(want))
	}
}

// pickySink has no room for two records of three. What it had no room for is nil.
type pickySink struct {
	records [][]byte
	n       uint32
}

func (s *pickySink) Claim(n int) []byte {
	s.n = s.n*1664525 + 1013904223
	if s.n>>16%3 != 0 {
		s.records = append(s.records, nil)
		return nil
	}
	s.records = append(s.records, make([]byte, n))
	return s.records[len(s.records)-1]
}

func (s *pickySink) Commit() {}

type sliceInputs struct {
	all  []event.Input
	next int
}

func (s *sliceInputs) Next() (event.Input, error) {
	if s.next == len(s.all) {
		return event.Input{}, io.EOF
	}
	s.next++
	return s.all[s.next-1], nil
}

// untold counts the books' gaps that only a machine can tell of: that a connection is lost
// its session tells.
func (r *rig) untold() (gaps []uint64) {
	for i := range r.m.insts {
		st := &r.m.insts[i].stats
		n := st.Gaps
		if c := st.LastGapCause; c == event.CauseDisconnect || c == event.CauseStart || c == event.CauseStop {
			n = 0
		}
		gaps = append(gaps, n)
	}
	return gaps
}
