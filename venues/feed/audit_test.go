package feed

import (
	"strings"
	"testing"

	"deeptape/hotpath/event"
)

// auditRig is live at id 100, its snapshot was cut at two levels a side, and its audit
// is asked for: a request is under way.
func auditRig(t *testing.T) *rig {
	r := newRig(t, inst("AAAUSDT"))
	r.cfg.Depth, r.cfg.AuditEveryNs = 2, 60e9
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
			for k := range event.Levels(rec) {
				levels = append(levels, event.GetLevel(rec, k))
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
	r.wantDetail("audit at id 107: 100 % of 5 levels equal, 0 ghosts")
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
	r.ticks(70)
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
	r.wantDetail("audit at id 105: 60.00 % of 5 levels equal, 1 ghosts")
	r.wantBook(0, 105, "9.99=5 9.85=1", "10.01=1 10.02=2 10.5=1")
	r.wantCover(0, event.StreamBook, "gap start", "verified chain")
	h, levels := r.lastBook()
	if h.Flags != event.FlagSnapshot || h.Seq != 105 || len(levels) != 5 || levels[4].Flags != event.FlagUnverified || levels[0].Flags != 0 {
		t.Errorf("%+v %+v", h, levels)
	}
	r.noted("60.00 % of 5 levels equal")
	r.depth(0, 106, 106, "9.85=2", "")
	if _, levels := r.lastBook(); levels[0].Flags != 0 { // the window is the new one
		t.Errorf("%+v", levels)
	}
	r.wantCover(0, event.StreamBook, "gap start", "verified chain")
	r.finish()
}

// Where the window that was promised holds the difference, the chain was no proof.
func TestAuditRefutesTheChain(t *testing.T) {
	r := auditRig(t)
	r.depth(0, 102, 102, "9.99=5", "")
	r.rest(0, 200, body(102, "9.99=6 9.98=1", "10.01=1 10.02=2"))
	r.wantBook(0, 102, "9.99=6 9.98=1 9.9=1", "10.01=1 10.02=2 10.5=1")
	r.wantCover(0, event.StreamBook, "gap start", "verified chain", "gap sequence", "verified chain")
	r.wantDetail("audit at id 102: 75.00 % of 4 levels equal, 0 ghosts")
	r.finish()
}

// A snapshot that does not fit the stream is fetched again, and not for ever.
func TestAuditThatDoesNotFit(t *testing.T) {
	r := auditRig(t)
	r.depth(0, 102, 105, "9.99=5", "")
	r.rest(0, 200, body(90, "1=1", "2=1"))  // out of a cache
	r.rest(0, 200, body(109, "1=1", "2=1")) // ahead of the stream
	r.rest(0, 500, "")
	if n := len(r.asked); n != 4 {
		t.Fatalf("%d requests", n)
	}
	r.rest(0, 200, body(104, "9.99=5 9.98=1", "10.01=1 10.02=2"))
	r.wantDetail("audit at id 105: 100 % of 4 levels equal, 0 ghosts")

	r = auditRig(t)
	for range auditTriesMax {
		r.rest(0, 200, body(90, "1=1", "2=1"))
	}
	r.noted("no snapshot for the audit fits the stream")
	if n := len(r.asked); n != auditTriesMax {
		t.Errorf("%d requests", n)
	}
	r.wantDetail("")
	r.depth(0, 102, 102, "", "")
	if len(r.m.insts[0].audit.buffer) > 0 {
		t.Error("it keeps diffs for nobody")
	}
	r.finish()

	r = auditRig(t)
	r.depth(0, 109, 109, "", "") // a gap meanwhile: the answer makes the new book
	r.rest(0, 200, body(109, "9.99=6 9.98=1", "10.01=1 10.02=2"))
	r.wantDetail("")
	r.finish()
}
