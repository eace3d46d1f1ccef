package feed

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"deeptape/hotpath/event"
)

// auditRig is live at id 100, its snapshot was cut at two levels a side, and its audit
// is asked for: a request is under way.
func auditRig(t *testing.T) *rig {
	r := newRig(t, inst("AAAUSDT"))
	r.cfg.Depth, r.cfg.AuditEveryNs, r.cfg.TopLevels = 2, 60e9, 2
	r.cfg.DepthBps = []int{1, 10}
	r.model = newModel(1, 2)
	r.model.bands = r.cfg.DepthBps
	r.run()
	r.connect()
	r.ack(1)
	r.depth(0, 100, 100, "", "")
	r.rest(0, 200, body(100, "9.99=1 9.98=1", "10.01=1 10.02=2"))
	r.asked = nil
	r.ticks(1)
	r.now += 60e9
	r.depth(0, 101, 101, "9.90=1", "10.50=1") // out of the window
	r.ticks(1)
	if len(r.asked) != 1 {
		t.Fatalf("asked %+v", r.asked)
	}
	return r
}

func (r *rig) wantDetail(want string) {
	r.t.Helper()
	if got := r.m.Status().Instruments[0].Streams[event.StreamBook].Detail; got != want {
		r.t.Errorf("detail %q, want %q", got, want)
	}
}

// lastBook is the last book message: its flags, and its levels with theirs.
func (r *rig) lastBook() (h event.Head, levels []event.Level) {
	for i := len(r.sink.records) - 1; i >= 0; i-- {
		if rec := r.sink.records[i]; event.RowKind(rec[4]) == event.RowBook {
			h.Get(rec)
			n := event.Levels(rec)
			for k := range n {
				levels = append(levels, event.GetLevel(rec, n, k))
			}
			return h, levels
		}
	}
	r.t.Fatal("no book")
	return h, nil
}

func TestHorizon(t *testing.T) {
	r := auditRig(t)
	r.depth(0, 102, 103, "9.99=2 9.98=2 9.97=2", "10.01=2 10.02=3 10.03=4")
	_, levels := r.lastBook()
	for _, l := range levels {
		out := l.Px == 997 || l.Px == 1003
		if (l.Flags == event.FlagUnverified) != out || !out && l.Flags != 0 {
			t.Errorf("level %+v", l)
		}
	}
	r.keyframe()
	r.depth(0, 104, 104, "", "10.01=1.0001") // finer: the window is the same
	_, levels = r.lastBook()
	if levels[0].Flags != 0 {
		t.Errorf("level %+v", levels[0])
	}
	r.depth(0, 105, 105, "9.97=1", "")
	if _, levels = r.lastBook(); levels[0].Flags != event.FlagUnverified {
		t.Errorf("level %+v", levels[0])
	}
	r.finish()
	// A side that the snapshot held whole has no outside; nor has any without audits.
	r = liveRig(t)
	r.depth(0, 102, 102, "1.00=1", "99.00=1")
	if _, levels = r.lastBook(); levels[0].Flags != 0 || levels[1].Flags != 0 {
		t.Errorf("levels %+v", levels)
	}
}

func TestAuditEqual(t *testing.T) {
	r := auditRig(t)
	r.depth(0, 102, 105, "9.99=5", "")
	r.keyframe()
	r.depth(0, 106, 107, "9.985=3", "")
	n := len(r.sink.records)
	r.rest(0, 200, body(105, "9.99=5 9.98=1", "10.01=1 10.02=2")) // 106 and 107 are brought to it
	if len(r.sink.records) != n {
		t.Errorf("%d records more", len(r.sink.records)-n)
	}
	r.wantDetail("audit at id 107: 100 % of 5 levels equal, 0 ghosts, 0 missing, 0 of another size")
	r.wantCover(0, event.StreamBook, "gap start", "verified chain")
	if s := r.m.insts[0].stats; s.Audits != 1 || s.AuditLevels != 5 || s.AuditWrong != 0 {
		t.Errorf("%+v", s)
	}
	r.ticks(1)
	if c := r.cover(0, event.StreamBook); string(c[1].Detail) != "" && !strings.HasPrefix(string(c[1].Detail), "audit") {
		t.Errorf("%+v", c)
	}
	at := 0
	for i, in := range r.inputs {
		if in.Kind == event.InputKeyframe {
			at = i
		}
	}
	r.depth(0, 108, 108, "9.90=0", "")
	r.asked = nil
	for id := int64(109); id < 180; id++ {
		r.depth(0, id, id, "", "")
		r.ticks(1)
	}
	if len(r.asked) != 1 {
		t.Errorf("%d requests in the next period", len(r.asked))
	}
	r.finish()
	sameFrom(t, r, at)
}

// A level that the venue has dropped untold, out of its window, is found, and taken out.
func TestAuditFindsGhosts(t *testing.T) {
	r := auditRig(t)
	r.depth(0, 102, 105, "9.99=5 9.98=0", "")
	r.rest(0, 200, body(103, "9.99=4 9.85=1", "10.01=1 10.02=2")) // 9.90 is none of them
	r.wantDetail("audit at id 105: 60.00 % of 5 levels equal, 1 ghosts, 1 missing, 0 of another size")
	r.wantBook(0, 105, "9.99=5 9.85=1", "10.01=1 10.02=2 10.5=1")
	r.wantCover(0, event.StreamBook, "gap start", "verified chain")
	h, levels := r.lastBook()
	if h.Flags != event.FlagSnapshot || h.Seq != 105 || len(levels) != 5 || levels[4].Flags != event.FlagUnverified || levels[0].Flags != 0 {
		t.Errorf("%+v %+v", h, levels)
	}
	r.noted("60.00 % of 5 levels equal")
	if len(r.warned) > 0 { // out there a difference is normal
		t.Errorf("the operator is warned: %q", r.warned)
	}
	r.ticks(1) // the venue has no time for what the audit has written
	var depth event.Head
	for _, rec := range r.sink.records {
		if event.RowKind(rec[4]) == event.RowDepth {
			depth.Get(rec)
		}
	}
	if depth.Ts != r.m.insts[0].streams[event.StreamBook].end || depth.TsEvent != event.Null {
		t.Errorf("depth %+v", depth)
	}
	r.depth(0, 106, 106, "9.85=2", "")
	if _, levels := r.lastBook(); levels[0].Flags != 0 { // the window is the new one
		t.Errorf("%+v", levels)
	}
	r.wantCover(0, event.StreamBook, "gap start", "verified chain")
	r.finish()
}

// Where the window that was promised holds the difference, the chain was no proof, or
// the answer is none: two answers have to say so.
func TestAuditRefutesTheChain(t *testing.T) {
	for _, lied := range []bool{true, false} {
		r := auditRig(t)
		r.depth(0, 102, 102, "9.99=5", "")
		n := len(r.sink.records)
		r.rest(0, 200, body(102, "9.99=6 9.98=1", "10.01=1 10.02=2"))
		if len(r.sink.records) != n || len(r.asked) != 2 {
			t.Fatalf("%d records more, asked %+v", len(r.sink.records)-n, r.asked)
		}
		if lied {
			r.rest(0, 200, body(102, "9.99=6 9.98=1", "10.01=1 10.02=2"))
			r.wantBook(0, 102, "9.99=6 9.98=1 9.9=1", "10.01=1 10.02=2 10.5=1")
			r.wantCover(0, event.StreamBook, "gap start", "verified chain", "gap sequence", "verified chain")
			r.wantDetail("audit at id 102: 75.00 % of 4 levels equal, 0 ghosts, 0 missing, 1 of another size")
		} else {
			r.rest(0, 200, body(102, "9.99=5 9.98=1", "10.01=1 10.02=2"))
			r.wantCover(0, event.StreamBook, "gap start", "verified chain")
			r.wantDetail("audit at id 102: 100 % of 4 levels equal, 0 ghosts, 0 missing, 0 of another size")
		}
		r.noted("contradicts the chain in 1 levels")
		if lied != strings.Contains(strings.Join(r.warned, "\n"), "it was no proof") {
			t.Errorf("the chain lied: %t; warnings %q", lied, r.warned)
		}
		r.finish()
	}
}

const equal4 = " 100 % of 4 levels equal, 0 ghosts, 0 missing, 0 of another size"

// A snapshot that does not fit the stream is fetched again, and not for ever.
func TestAuditThatDoesNotFit(t *testing.T) {
	r := auditRig(t)
	r.depth(0, 102, 105, "9.99=5", "")
	r.rest(0, 200, body(90, "1=1", "2=1")) // out of a cache
	r.rest(0, 500, "")
	r.rest(0, 200, body(105, "", "")) // it would take the whole book away
	if n := len(r.asked); n != 4 {
		t.Fatalf("%d requests", n)
	}
	for i, a := range r.asked {
		if !a.Spare || i > 0 && a.DelayNs != 1e9<<(i-1) {
			t.Errorf("request %d: %+v", i, a)
		}
	}
	r.rest(0, 200, body(104, "9.99=5 9.98=1", "10.01=1 10.02=2"))
	r.wantDetail("audit at id 105:" + equal4)
	r.finish()

	for _, bad := range []struct {
		status uint16
		body   string
	}{{200, body(90, "1=1", "2=1")}, {200, "{"}, {200, body(101, "", "")}, {429, ""}, {0, "no answer"}} {
		r = auditRig(t)
		for range auditTriesMax {
			r.rest(0, bad.status, bad.body)
		}
		r.noted("no snapshot for the audit fits the stream")
		if n := len(r.asked); n != auditTriesMax {
			t.Errorf("%d requests", n)
		}
		r.wantDetail("")
		r.depth(0, 102, 102, "", "")
		if a := &r.m.insts[0].audit; len(a.buffer) > 0 || a.Asked || r.m.insts[0].stats.AuditsGivenUp != 1 {
			t.Errorf("it goes on for nobody: %+v", a)
		}
		n := len(r.sink.records)
		r.rest(0, 200, body(101, "1=1", "2=1")) // an answer that nobody waits for
		if len(r.sink.records) != n {
			t.Error("it has been taken")
		}
		r.wantBook(0, 102, "9.99=1 9.98=1 9.9=1", "10.01=1 10.02=2 10.5=1")
		r.finish()
	}

	r = auditRig(t)
	r.depth(0, 109, 109, "", "") // a gap meanwhile
	r.ticks(1)
	if last := r.asked[len(r.asked)-1]; len(r.asked) != 2 || last.Spare || last.Request == r.asked[0].Request {
		t.Errorf("asked %+v", r.asked)
	}
	r.rest(0, 200, body(109, "9.99=6 9.98=1", "10.01=1 10.02=2"))
	r.wantDetail("")
	r.finish()
}

// An answer that is ahead of the stream waits for it.
func TestAuditAhead(t *testing.T) {
	r := auditRig(t)
	r.rest(0, 200, body(104, "9.99=5 9.98=1", "10.01=1 10.02=2"))
	r.keyframe()
	at := len(r.inputs) - 1
	r.ticks(2)
	r.wantDetail("")
	r.depth(0, 102, 103, "9.99=4", "")
	r.depth(0, 104, 106, "9.99=5 9.98=7", "") // it reaches beyond the answer's id
	r.ticks(1)
	r.wantDetail("audit at id 106:" + equal4)
	if len(r.asked) != 1 {
		t.Errorf("asked %+v", r.asked)
	}
	r.finish()
	sameFrom(t, r, at)

	r = auditRig(t)
	r.rest(0, 200, body(104, "9.99=5 9.98=1", "10.01=1 10.02=2"))
	r.ticks(6) // the stream never gets there
	if len(r.asked) != 2 || len(r.m.insts[0].audit.answer) > 0 {
		t.Errorf("asked %+v", r.asked)
	}
	r.finish()
}

// A probe does not wait behind an audit: it takes its place, and its answer does for both.
func TestAuditGivesWay(t *testing.T) {
	r := auditRig(t)
	r.ticks(40)
	if last := r.asked[len(r.asked)-1]; len(r.asked) != 2 || last.Spare {
		t.Fatalf("asked %+v", r.asked)
	}
	r.rest(0, 200, body(101, "9.99=1 9.98=1", "10.01=1 10.02=2"))
	r.wantDetail("audit at id 101:" + equal4)
	r.depth(0, 102, 102, "9.99=2", "") // the silence was only that, and the detail stays
	r.wantDetail("audit at id 101:" + equal4)
	r.finish()
}

// What no longer fits is dropped, and the answer must then be newer.
func TestAuditBuffer(t *testing.T) {
	r := auditRig(t)
	r.m.bufferBytes = 400
	for id := int64(102); id < 120; id++ {
		r.depth(0, id, id, "9.99=5", "")
	}
	if a := &r.m.insts[0].audit; len(a.buffer) > 400 || a.First < 110 {
		t.Errorf("%d bytes from id %d", len(a.buffer), a.First)
	}
	r.rest(0, 200, body(103, "9.99=5 9.98=1", "10.01=1 10.02=2"))
	r.wantDetail("")
	r.rest(0, 200, body(119, "9.99=5 9.98=1", "10.01=1 10.02=2"))
	r.wantDetail("audit at id 119:" + equal4)
}

// What is shown of a book whose touch has walked to the edge of the window is unproven,
// and a new window is asked for soon.
func TestHorizonAtTheTouch(t *testing.T) {
	r := auditRig(t)
	r.rest(0, 200, body(101, "9.99=1 9.98=1", "10.01=1 10.02=2"))
	flags := func(kind event.RowKind) uint8 {
		for i := len(r.sink.records) - 1; i >= 0; i-- {
			if rec := r.sink.records[i]; event.RowKind(rec[4]) == kind {
				var h event.Head
				h.Get(rec)
				return h.Flags
			}
		}
		t.Fatal("no row")
		return 0
	}
	r.depth(0, 102, 102, "9.99=2", "10.01=2")
	r.ticks(1)
	if top, depth := flags(event.RowTop), flags(event.RowDepth); top != 0 || depth != 0 {
		t.Errorf("inside: top %d, depth %d", top, depth)
	}
	asked := len(r.asked)
	r.depth(0, 103, 103, "", "10.01=0 10.03=1") // 10.02 and what we know beyond
	r.ticks(1)
	if top, depth := flags(event.RowTop), flags(event.RowDepth); top != event.FlagUnverified || depth != event.FlagUnverified {
		t.Errorf("at the edge: top %d, depth %d", top, depth)
	}
	for id := int64(104); len(r.asked) == asked && id < 200; id++ {
		r.depth(0, id, id, "9.99=3", "")
		r.ticks(1)
	}
	if len(r.asked) != asked+1 || !r.asked[asked].Spare {
		t.Fatalf("asked %+v", r.asked[asked:])
	}
	seq := r.m.insts[0].seq
	r.rest(0, 200, body(seq, "9.99=3 9.98=1", "10.02=2 10.025=1"))
	r.depth(0, seq+1, seq+1, "", "10.025=2")
	r.ticks(1)
	if top := flags(event.RowTop); top != 0 {
		t.Errorf("in the new window: top %d", top)
	}
	r.wantCover(0, event.StreamBook, "gap start", "verified chain")
	r.finish()
}

// The audits of many instruments are spread over the period, whatever feed they are of.
func TestAuditsAreSpread(t *testing.T) {
	var insts []event.Instrument
	for i := range 40 {
		insts = append(insts, inst(fmt.Sprintf("S%02dUSDT", i)))
	}
	var due []int64
	for feed := range 3 {
		r := newRig(t, insts...)
		r.cfg.Depth, r.cfg.AuditEveryNs, r.cfg.Base = 2, 1200e9, uint32(40*feed)
		r.model = newModel(len(insts), r.cfg.TopLevels)
		r.run()
		r.connect()
		for i := range insts {
			r.depth(i, 100, 100, "", "")
			r.rest(i, 200, body(100, "9.99=1 9.98=1", "10.01=1 10.02=2"))
		}
		r.ticks(1)
		for i := range insts {
			due = append(due, r.m.insts[i].audit.DueTs-r.now)
		}
	}
	slices.Sort(due)
	for i := range due {
		if due[i] <= 0 || due[i] > 1200e9 || i > 0 && due[i]-due[i-1] < 2e9 {
			t.Errorf("audit %d of 120 in 20 minutes is due after %d s", i, due[i]/1e9)
		}
	}
}
