package feed

import (
	"strings"
	"testing"

	"deeptape/hotpath/event"
)

// on makes the next inputs those of a line.
func (r *rig) on(line uint8) *rig { r.line = line; return r }

// twoLines is liveRig with a second line that is acknowledged. Both books stand at
// 101, the trades of the first at 500.
func twoLines(t *testing.T) *rig {
	r := liveRig(t)
	r.trade(0, 500, "9.99", "1")
	r.on(1).connect()
	r.ack(1)
	if len(r.asked) != 0 {
		t.Fatalf("a second line asks for %+v", r.asked)
	}
	return r
}

const (
	live     = "gap start, verified chain"
	allTrade = "gap start, unverified silence, verified trade_id"
)

func (r *rig) wantAll(book, trades string) {
	r.t.Helper()
	r.wantCover(0, event.StreamBook, strings.Split(book, ", ")...)
	r.wantCover(0, event.StreamTrades, strings.Split(trades, ", ")...)
}

func TestCopies(t *testing.T) {
	r := twoLines(t)
	r.wantFrames("received 5, applied 3, control 2")
	r.on(0).depth(0, 102, 105, "9.97=1", "")
	r.on(1).depth(0, 102, 105, "9.97=1", "")
	r.on(1).depth(0, 106, 106, "9.97=2", "")
	r.on(1).depth(0, 107, 107, "9.97=3", "")
	r.on(0).depth(0, 106, 106, "9.97=2", "")
	r.on(0).depth(0, 105, 108, "9.97=4", "") // another server cuts the ids elsewhere
	r.on(1).depth(0, 108, 109, "9.97=5", "")
	r.on(1).trade(0, 501, "9.99", "1")
	r.on(0).trade(0, 501, "9.99", "1")
	r.on(0).quote(0, 50, "9.9", "1", "10", "1")
	r.on(1).quote(0, 50, "9.9", "1", "10", "1")
	r.on(1).quote(0, 49, "9.9", "1", "10", "1")
	r.on(1).quote(0, 52, "9.9", "1", "10", "1")
	r.on(0).quote(0, 51, "9.9", "1", "10", "1")
	r.wantBook(0, 109, "9.99=1 9.98=1 9.97=5", "10.01=1 10.02=2")
	r.wantFrames("received 19, applied 11, duplicate 6, control 2")
	// One goes: nothing is missing, and what the other brings late is a copy still.
	r.on(0).close()
	r.on(1).quote(0, 51, "9.9", "1", "10", "1")
	r.on(1).depth(0, 107, 107, "9.97=3", "")
	r.on(1).depth(0, 110, 110, "9.97=6", "")
	r.on(1).trade(0, 502, "9.99", "1")
	r.wantFrames("received 23, applied 13, duplicate 8, control 2")
	r.wantAll(live, allTrade)
	r.wantCover(0, event.StreamQuotes, "gap start", "unverified ")
	r.finish()
}

func (r *rig) waiting(i int) (book, trades int) {
	held := &r.m.insts[i].held
	return len(held[event.StreamBook].waiting), len(held[event.StreamTrades].waiting)
}

func (r *rig) wantWaiting(book, trades int) {
	r.t.Helper()
	if b, x := r.waiting(0); b != book || x != trades {
		r.t.Fatalf("%d book frames and %d trades are held back, want %d and %d", b, x, book, trades)
	}
}

// heldBack: line 0 has jumped over 102 and trade 501.
func heldBack(t *testing.T) *rig {
	r := twoLines(t)
	r.on(0).depth(0, 103, 103, "9.97=3", "")
	r.on(0).trade(0, 502, "9.99", "2")
	r.on(0).depth(0, 104, 104, "9.97=4", "")
	r.on(0).trade(0, 503, "9.99", "3")
	r.wantWaiting(2, 2)
	r.wantFrames("received 9, applied 3, control 2, buffered 4")
	r.wantAll(live, allTrade)
	return r
}

const (
	lostBook  = live + ", gap sequence"
	lostTrade = allTrade + ", gap sequence, verified trade_id"
)

func TestHeldBack(t *testing.T) {
	t.Run("the other brings it", func(t *testing.T) {
		r := heldBack(t)
		r.on(1).depth(0, 102, 102, "9.97=2", "")
		r.on(1).trade(0, 501, "9.99", "1")
		r.wantWaiting(0, 0)
		r.wantBook(0, 104, "9.99=1 9.98=1 9.97=4", "10.01=1 10.02=2")
		r.on(1).depth(0, 103, 103, "9.97=3", "")
		r.on(1).trade(0, 502, "9.99", "2")
		r.wantFrames("received 13, applied 9, duplicate 2, control 2")
		r.wantAll(live, allTrade)
		r.finish()
	})
	t.Run("the other brings it and more is missing", func(t *testing.T) {
		r := heldBack(t)
		r.on(0).depth(0, 106, 106, "9.97=6", "")
		r.on(0).trade(0, 505, "9.99", "5")
		r.on(1).depth(0, 102, 102, "9.97=2", "")
		r.on(1).trade(0, 501, "9.99", "1")
		r.wantWaiting(1, 1)
		r.on(1).depth(0, 103, 105, "9.97=5", "")
		r.on(1).trade(0, 502, "9.99", "2")
		r.on(1).trade(0, 503, "9.99", "3")
		r.on(1).trade(0, 504, "9.99", "4")
		r.wantBook(0, 106, "9.99=1 9.98=1 9.97=6", "10.01=1 10.02=2")
		r.wantWaiting(0, 0)
		r.wantAll(live, allTrade)
		r.finish()
	})
	t.Run("both missed it", func(t *testing.T) {
		r := heldBack(t)
		r.on(1).depth(0, 104, 104, "9.97=4", "")
		r.on(1).trade(0, 503, "9.99", "3")
		r.wantAll(lostBook, lostTrade)
		r.wantFrames("received 11, applied 5, duplicate 1, control 2, buffered 3")
		if g := r.cover(0, event.StreamTrades)[3]; g.SeqFirst != 501 || g.SeqLast != 501 {
			t.Errorf("gap %+v", g)
		}
		r.rest(0, 200, body(102, "9.97=2", ""))
		r.wantBook(0, 104, "9.97=4", "")
		r.finish()
	})
	t.Run("both missed it, the later trade comes first", func(t *testing.T) {
		r := twoLines(t)
		r.on(0).trade(0, 504, "9.99", "4")
		r.on(1).trade(0, 502, "9.99", "2")
		r.wantWaiting(0, 1)
		r.on(1).trade(0, 503, "9.99", "3")
		r.wantWaiting(0, 0)
		r.wantAll(live, lostTrade)
		if g := r.cover(0, event.StreamTrades)[3]; g.SeqFirst != 501 || g.SeqLast != 501 {
			t.Errorf("gap %+v", g)
		}
		r.finish()
	})
	t.Run("the other closes", func(t *testing.T) {
		r := heldBack(t)
		r.on(1).close()
		r.wantAll(lostBook, lostTrade)
		r.wantFrames("received 9, applied 5, control 2, buffered 2")
		r.finish()
	})
	t.Run("the one that jumped closes", func(t *testing.T) {
		r := heldBack(t)
		r.on(0).close()
		r.wantWaiting(2, 2)
		r.on(1).depth(0, 102, 102, "9.97=2", "")
		r.on(1).trade(0, 501, "9.99", "1")
		r.wantBook(0, 104, "9.99=1 9.98=1 9.97=4", "10.01=1 10.02=2")
		r.wantAll(live, allTrade)
		r.finish()
	})
	t.Run("one after the other closes", func(t *testing.T) {
		r := heldBack(t)
		r.on(0).close()
		r.on(1).close()
		// The trades that were there are stored.
		r.wantAll(live+", gap disconnect", lostTrade+", gap disconnect")
		r.wantFrames("received 9, applied 5, control 2, out_of_sync 2")
		r.finish()
	})
	t.Run("it comes back and brings it no more", func(t *testing.T) {
		r := heldBack(t)
		r.on(0).close()
		r.on(0).connect()
		r.on(1).depth(0, 104, 104, "9.97=4", "")
		r.wantWaiting(3, 2) // the new line 0 has said nothing
		r.on(0).depth(0, 104, 104, "9.97=4", "")
		r.wantAll(lostBook, allTrade)
		r.finish()
	})
	t.Run("stop", func(t *testing.T) {
		r := heldBack(t)
		r.finish()
		r.wantAll(live, lostTrade)
		r.wantFrames("received 9, applied 5, control 2, out_of_sync 2")
	})
	t.Run("time", func(t *testing.T) {
		r := heldBack(t)
		r.ticks(1)
		r.wantWaiting(2, 2)
		r.ticks(1)
		r.wantAll(lostBook, lostTrade)
		r.on(1).depth(0, 102, 102, "9.97=2", "") // too late, and of no use
		r.on(1).tradeAt(0, 501, t0)
		r.wantAll(lostBook, lostTrade)
		r.finish()
	})
	t.Run("memory", func(t *testing.T) {
		r := twoLines(t)
		r.m.bufferBytes = 1000
		for id := int64(103); id < 115; id++ {
			r.on(0).depth(0, id, id, "9.97=3", "")
			r.on(0).trade(0, 400+id, "9.99", "1")
			for _, h := range r.m.insts[0].held {
				if h.bytes > 1000 {
					t.Fatalf("%d bytes are held back", h.bytes)
				}
			}
		}
		r.wantAll(lostBook, lostTrade)
		r.finish()
	})
	t.Run("loss", func(t *testing.T) {
		r := heldBack(t)
		r.loss(3)
		r.wantWaiting(0, 0)
		r.on(1).trade(0, 504, "9.99", "1")
		r.wantAll(live+", gap backpressure", allTrade+", gap sequence, verified trade_id, verified trade_id")
		r.finish()
	})
	t.Run("keyframe", func(t *testing.T) {
		r := heldBack(t)
		r.on(0).keyframe()
		at := len(r.inputs) - 1
		r.on(1).depth(0, 102, 102, "9.97=2", "")
		r.on(1).trade(0, 504, "9.99", "4")
		r.wantAll(live, lostTrade)
		r.keyframe() // what was restored must come to the same
		r.finish()
		sameFrom(t, r, at)
	})
}

// What the buffer of a starting book holds is judged like what comes live.
func TestTwoLinesSync(t *testing.T) {
	start := func(t *testing.T) *rig {
		r := newRig(t, inst("AAAUSDT"))
		r.run()
		for line := range uint8(2) {
			r.on(line).connect()
			r.ack(1)
		}
		r.on(0).depth(0, 105, 105, "9.98=5", "")
		r.on(0).depth(0, 107, 107, "9.98=7", "")
		r.on(1).depth(0, 104, 104, "9.98=4", "")
		if len(r.asked) != 1 {
			t.Fatalf("asked %+v", r.asked)
		}
		return r
	}
	t.Run("the other has it", func(t *testing.T) {
		r := start(t)
		r.on(1).depth(0, 105, 105, "9.98=5", "")
		r.on(1).depth(0, 106, 106, "9.98=6", "")
		r.rest(0, 200, body(103, "9.97=1", ""))
		r.wantBook(0, 107, "9.98=7 9.97=1", "")
		r.wantCover(0, event.StreamBook, "gap start", "verified chain")
		r.wantFrames("received 7, applied 4, duplicate 1, control 2")
		r.finish()
	})
	t.Run("the other brings it later", func(t *testing.T) {
		r := start(t)
		r.rest(0, 200, body(103, "9.97=1", ""))
		r.wantWaiting(1, 0)
		r.on(1).depth(0, 105, 106, "9.98=6", "")
		r.wantBook(0, 107, "9.98=7 9.97=1", "")
		r.wantCover(0, event.StreamBook, "gap start", "verified chain")
		r.finish()
	})
	t.Run("a new connection of the line brings it", func(t *testing.T) {
		r := start(t)
		r.on(0).close()
		asked := r.asked
		r.on(0).connect()
		r.asked = asked
		r.rest(0, 200, body(103, "9.97=1", ""))
		r.wantWaiting(1, 0)
		r.on(1).depth(0, 108, 108, "9.98=8", "")
		r.wantWaiting(2, 0)
		r.on(0).depth(0, 106, 106, "9.98=6", "")
		r.wantBook(0, 108, "9.98=8 9.97=1", "")
		r.wantCover(0, event.StreamBook, "gap start", "verified chain")
		r.finish()
	})
}

// A frame that one line brought broken is good if the other's copy is.
func TestBrokenCopy(t *testing.T) {
	const depth = `{"e":"depthUpdate","E":1,"s":"AAAUSDT","U":102,"u":103,"b":[["x","1"]],"a":[]}`
	const trade = `{"e":"trade","E":1,"s":"AAAUSDT","t":501,"p":"x","q":"1","T":5,"m":true}`
	for name, before := range map[string]bool{"before": true, "after": false} {
		t.Run(name, func(t *testing.T) {
			r := twoLines(t)
			broken := func() {
				r.on(0).frame(depth)
				r.on(0).frame(trade)
			}
			if before {
				broken()
			}
			r.on(1).depth(0, 102, 103, "9.97=1", "")
			r.on(1).trade(0, 501, "9.99", "1")
			if !before {
				broken()
			}
			r.on(0).depth(0, 104, 104, "9.97=2", "")
			r.on(0).trade(0, 502, "9.99", "1")
			r.wantAll(live, allTrade)
			r.wantFrames("received 11, applied 7, control 2, malformed 2")
			r.finish()
		})
	}
}

// A line that ends before the other's streams are known to be on may take quotes with
// it that nothing else would ever tell of.
func TestUnacknowledged(t *testing.T) {
	r := liveRig(t)
	r.quote(0, 50, "9.9", "1", "10", "1")
	r.on(1).connect()
	r.on(0).close()
	r.wantCover(0, event.StreamQuotes, "gap start", "unverified ", "gap disconnect")
	r.wantCover(0, event.StreamBook, "gap start", "verified chain")
	r.on(1).ack(1)
	r.quote(0, 53, "9.9", "1", "10", "1")
	r.depth(0, 102, 102, "", "")
	r.depth(1, 103, 103, "", "")
	r.wantCover(0, event.StreamQuotes, "gap start", "unverified ", "gap disconnect", "unverified ")
	r.wantCover(0, event.StreamBook, "gap start", "verified chain")
	r.wantCover(1, event.StreamBook, "gap start", "verified chain", "gap sequence")
	r.finish()
}

func (r *rig) wantJoined(line uint8, want bool) {
	r.t.Helper()
	if got := r.m.Joined(line); got != want {
		r.t.Fatalf("line %d joined: %v", line, got)
	}
}

func TestPlannedReconnect(t *testing.T) {
	r := liveRig(t)
	r.on(0).frame(`{"e":"serverShutdown","E":1}`)
	if len(r.redial) != 1 || r.redial[0].Line != 0 || r.redial[0].Text != "serverShutdown" {
		t.Fatalf("asked for %+v", r.redial)
	}
	r.sent = nil
	r.on(1).connect()
	if len(r.sent) != 1 || r.m.Actions()[0].Line != 1 {
		t.Fatalf("sent %q, %+v", r.sent, r.m.Actions())
	}
	r.on(0).depth(0, 102, 102, "9.97=1", "")
	r.on(1).ack(1)
	r.wantJoined(1, false)
	r.on(0).ticks(1)
	r.wantJoined(1, false) // no book has heard of it
	r.on(1).depth(0, 102, 102, "9.97=1", "")
	r.on(0).depth(0, 103, 103, "9.97=2", "")
	r.wantJoined(1, false)
	r.on(1).depth(1, 102, 102, "9.97=1", "")
	r.wantJoined(1, true)
	r.on(0).close()
	r.wantJoined(0, false)
	r.on(1).depth(0, 103, 103, "9.97=2", "")
	r.on(1).depth(0, 104, 104, "9.97=3", "")
	r.on(1).depth(1, 103, 103, "9.97=3", "")
	for i := range 2 {
		r.wantCover(i, event.StreamBook, "gap start", "verified chain")
	}
	if st := r.m.Status(); !st.Connected || st.Lines != 1 {
		t.Errorf("status %+v", st)
	}
	r.finish()
}

// Where a market is silent, patience decides.
func TestJoinedInSilence(t *testing.T) {
	r := liveRig(t)
	r.on(1).connect()
	r.ticks(9)
	r.wantJoined(1, false)
	r.ticks(1)
	r.wantJoined(1, true)
	r.finish()
}

// Before the venue's cut at 24 h: not earlier than an hour before, not later than half
// an hour, and every line at a time of its own.
func TestLifetime(t *testing.T) {
	seen := map[int64]bool{}
	for feed := range uint16(8) {
		for line := range uint8(2) {
			r := newRig(t, inst("AAAUSDT"))
			r.run()
			r.m.feed = feed
			r.on(line).connect()
			from := r.now
			r.now = from + 22*3600e9
			for r.redial == nil && r.now < from+24*3600e9 {
				r.now += 29e9
				r.ticks(1)
			}
			early := from + 24*3600e9 - r.now
			if len(r.redial) == 0 || r.redial[0].Line != line || early < 1790e9 || early > 3600e9 || seen[early] {
				t.Errorf("feed %d line %d: %+v, %d s before the cut", feed, line, r.redial, early/1e9)
			}
			seen[early] = true
		}
	}
}

func TestLineOutOfRange(t *testing.T) {
	r := liveRig(t)
	in := event.Input{InputHead: event.InputHead{Kind: event.InputClose, Line: 2, Feed: 3, Pos: r.pos + 1, Ts: r.now}}
	if err := r.m.Step(&in); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Error(err)
	}
}
