package feed

import (
	"strings"
	"testing"

	"deeptape/hotpath/event"
)

// Binance, web-socket-streams.md, "How to manage a local order book correctly",
// step by step:
//
//  1. Open the stream. 2. Buffer its events; note the first U.
//  3. Fetch a snapshot. 4. If its lastUpdateId is below the first U, fetch again.
//     (The recordings show that lastUpdateId+1 = U joins: nothing lies between.)
//  5. Drop buffered events with u <= lastUpdateId. The first kept one must satisfy
//     U <= lastUpdateId+1 <= u.
//  6. The book is the snapshot. 7. Apply the buffered events, then those that come.
//     An event with u below the book's id is ignored; one with U above id+1 means
//     that events were missed: start again.
func TestProcedure(t *testing.T) {
	start := func(t *testing.T) *rig {
		r := newRig(t, inst("AAAUSDT"))
		r.run()
		r.connect() // 1
		r.ack(1)
		if len(r.asked) != 0 {
			t.Fatal("a snapshot is asked for before the first event")
		}
		r.depth(0, 11, 13, "9.98=1", "")                  // 2
		if len(r.asked) != 1 || r.asked[0].DelayNs != 0 { // 3
			t.Fatalf("asked %+v", r.asked)
		}
		r.depth(0, 14, 14, "9.98=2", "")
		r.depth(0, 15, 17, "9.98=3", "")
		if len(r.asked) != 1 {
			t.Fatal("a second snapshot is asked for while the first is under way")
		}
		r.wantFrames("received 4, control 1, buffered 3")
		return r
	}
	for _, c := range []struct {
		name      string
		id        int64 // of the snapshot
		joins     bool
		bid       string // 9.98 after the buffer
		frames    string
		wantAfter int64
	}{
		{"older than the buffer", 9, false, "", "received 4, control 1, buffered 3", 0},
		{"U = lastUpdateId+1 exactly", 10, true, "3", "received 4, applied 3, control 1", 17},
		{"inside the first event", 12, true, "3", "received 4, applied 3, control 1", 17},
		{"at the end of the first event", 13, true, "3", "received 4, applied 2, stale 1, control 1", 17},
		{"inside the third", 16, true, "3", "received 4, applied 1, stale 2, control 1", 17},
		{"at the end of the buffer", 17, true, "7", "received 4, stale 3, control 1", 17},
		{"newer than all that is buffered", 30, true, "7", "received 4, stale 3, control 1", 30},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t)
			r.rest(0, 200, body(c.id, "9.98=7 9.97=1", "10.01=1"))
			r.wantFrames(c.frames)
			if !c.joins {
				r.wantCover(0, event.StreamBook, "gap start")
				if len(r.asked) != 2 || r.asked[1].Request == r.asked[0].Request || r.asked[1].DelayNs == 0 {
					t.Fatalf("asked %+v", r.asked)
				}
				r.noted("older than the first buffered id 11")
				r.rest(0, 200, body(12, "9.97=1", "10.01=1"))
				r.wantBook(0, 17, "9.98=3 9.97=1", "10.01=1")
			} else {
				r.wantBook(0, c.wantAfter, "9.98="+c.bid+" 9.97=1", "10.01=1")
			}
			r.wantCover(0, event.StreamBook, "gap start", "verified chain")
			next := r.m.insts[0].seq + 1
			r.depth(0, next, next+4, "9.97=0", "10.01=0 10.02=4")
			r.wantCover(0, event.StreamBook, "gap start", "verified chain")
			r.finish()
		})
	}
	t.Run("gap inside the buffer", func(t *testing.T) {
		r := start(t)
		r.depth(0, 20, 21, "9.98=4", "")
		r.depth(0, 22, 22, "9.98=5", "")
		r.rest(0, 200, body(12, "9.97=1", "10.01=1"))
		// The book was good up to 17. The rest is buffered again.
		r.wantCover(0, event.StreamBook, "gap start", "verified chain", "gap sequence")
		r.wantFrames("received 6, applied 3, control 1, buffered 2")
		if len(r.asked) != 2 {
			t.Fatalf("asked %+v", r.asked)
		}
		r.rest(0, 200, body(19, "9.97=2", ""))
		r.wantBook(0, 22, "9.98=5 9.97=2", "")
		r.wantCover(0, event.StreamBook, "gap start", "verified chain", "gap sequence", "verified chain")
		r.finish()
	})
}

func TestFirstDiffNeverComes(t *testing.T) {
	r := newRig(t, inst("AAAUSDT"))
	r.run()
	r.connect()
	r.ack(1)
	r.ticks(1)
	if len(r.asked) != 1 {
		t.Fatalf("asked %+v", r.asked)
	}
	r.rest(0, 200, body(50, "9.98=7", "10.01=1"))
	r.wantBook(0, 50, "9.98=7", "10.01=1")
	r.depth(0, 51, 52, "9.98=0", "")
	r.wantBook(0, 52, "", "10.01=1")
	r.finish()
}

func TestDuplicateStaleGap(t *testing.T) {
	r := liveRig(t)
	r.wantFrames("received 3, applied 2, control 1")
	r.depth(0, 102, 105, "9.97=1", "")
	r.depth(0, 102, 105, "9.97=9", "") // the same again
	r.depth(0, 101, 101, "9.97=8", "") // older
	r.depth(0, 104, 106, "9.97=2", "") // overlaps: its ids join
	r.wantBook(0, 106, "9.99=1 9.98=1 9.97=2", "10.01=1 10.02=2")
	r.wantFrames("received 7, applied 4, stale 1, duplicate 1, control 1")

	r.depth(0, 108, 110, "9.97=3", "") // 107 is missing
	r.wantCover(0, event.StreamBook, "gap start", "verified chain", "gap sequence")
	r.wantFrames("received 8, applied 4, stale 1, duplicate 1, control 1, buffered 1")
	r.noted("AAAUSDT: gap (sequence) after id 106")

	// The other one goes on.
	r.depth(1, 102, 102, "9.98=2", "")
	r.wantBook(1, 102, "9.99=1 9.98=2", "10.01=1 10.02=2")
	r.wantCover(1, event.StreamBook, "gap start", "verified chain")

	// Reordered: the missing one comes late, and the snapshot heals both.
	r.depth(0, 107, 107, "9.97=4", "")
	r.rest(0, 200, body(108, "9.97=4", "10.01=1"))
	r.wantBook(0, 110, "9.97=3", "10.01=1")
	r.wantCover(0, event.StreamBook, "gap start", "verified chain", "gap sequence", "verified chain")
	r.wantFrames("received 10, applied 6, stale 2, duplicate 1, control 1")
	r.finish()
}

func TestMalformedDelta(t *testing.T) {
	for name, frame := range map[string]string{
		"no number":                            `{"e":"depthUpdate","E":1,"s":"AAAUSDT","U":102,"u":103,"b":[["x","1"]],"a":[]}`,
		"overflow":                             `{"e":"depthUpdate","E":1,"s":"AAAUSDT","U":102,"u":103,"b":[["9.99","9999999999999999999"]],"a":[]}`,
		"finer, and an overflow at that scale": `{"e":"depthUpdate","E":1,"s":"AAAUSDT","U":102,"u":103,"b":[["9.99","0.000000000000000001"],["9.98","10"]],"a":[]}`,
	} {
		t.Run(name, func(t *testing.T) {
			r := liveRig(t)
			r.frame(frame)
			r.wantCover(0, event.StreamBook, "gap start", "verified chain", "gap malformed")
			r.wantCover(1, event.StreamBook, "gap start", "verified chain")
			if got := r.m.insts[0]; got.PxScale != 2 || got.QtyScale != 3 {
				t.Errorf("a rejected message has changed the scales to %d %d", got.PxScale, got.QtyScale)
			}
			r.depth(0, 104, 104, "9.98=6", "")
			r.rest(0, 200, body(103, "9.98=5 9.97=0.001", "10.01=99999"))
			r.wantBook(0, 104, "9.98=6 9.97=0.001", "10.01=99999")
			r.finish()
		})
	}
}

// What cannot be read and does not say whose it is is noticed by the ids.
func TestGarbage(t *testing.T) {
	r := liveRig(t)
	for _, frame := range []string{``, `{`, `[]`, `{"e":"kline","s":"AAAUSDT"}`, `{"e":"depthUpdate","E":1,"s":"CCCUSDT","U":1,"u":1,"b":[],"a":[]}`} {
		r.frame(frame)
	}
	r.wantFrames("received 8, applied 2, control 1, malformed 3, unknown_shape 1, unknown_symbol 1")
	r.wantCover(0, event.StreamBook, "gap start", "verified chain")
	r.depth(0, 103, 103, "9.97=1", "")
	r.wantCover(0, event.StreamBook, "gap start", "verified chain", "gap sequence")
	r.finish()
}

func TestSnapshotRefused(t *testing.T) {
	r := newRig(t, inst("AAAUSDT"))
	r.run()
	r.connect()
	r.depth(0, 11, 13, "9.98=1", "")
	var delays []int64
	for i, c := range []struct {
		status uint16
		body   string
		note   string
	}{
		{429, `{"code":-1003,"msg":"Too many requests."}`, "status 429"},
		{418, `banned`, "status 418"},
		{0, `connection refused`, "status 0: connection refused"},
		{500, ``, "status 500"},
		{200, `<html>`, "cannot be used (malformed)"},
		{200, `{"lastUpdateId":12,"bids":[["1e5","1"]],"asks":[]}`, "cannot be used (malformed)"},
		{200, `{"lastUpdateId":12,"bids":[["9.98","99999999999999999999"]],"asks":[]}`, "cannot be used (overflow)"},
		{200, body(9, "9=1", "10=1"), "older than the first buffered id 11"},
		{500, ``, ""}, {500, ``, ""},
	} {
		r.rest(0, c.status, c.body)
		r.noted(c.note)
		if len(r.asked) != i+2 {
			t.Fatalf("after answer %d: %d requests", i, len(r.asked))
		}
		delays = append(delays, r.asked[i+1].DelayNs)
		r.wantCover(0, event.StreamBook, "gap start")
	}
	for i, d := range delays {
		if want := min(int64(100e6)<<i, 10e9); d != want {
			t.Errorf("wait %d is %d ms, want %d", i, d/1e6, want/1e6)
		}
	}
	r.rest(0, 200, body(13, "9.98=1", ""))
	r.wantBook(0, 13, "9.98=1", "")
	// A later resync starts with short waits again.
	r.depth(0, 20, 20, "", "")
	r.rest(0, 500, "")
	if d := r.asked[len(r.asked)-1].DelayNs; d != 100e6 {
		t.Errorf("wait %d ms after a new beginning", d/1e6)
	}
	r.finish()
}

func TestOtherAnswersAreIgnored(t *testing.T) {
	r := newRig(t, inst("AAAUSDT"), inst("BBBUSDT"))
	r.run()
	good := body(13, "9.98=1", "")
	answer := func(request uint32, inst uint16) {
		r.step(event.InputRest, event.RestAux(request, inst, 200), []byte(good))
	}
	answer(0, 0) // nothing has been asked for
	answer(1, 0)
	r.connect()
	answer(0, 0)
	r.depth(0, 11, 13, "9.98=1", "")
	old := r.asked[0].Request
	r.close()
	answer(old, 0) // of the connection before
	r.connect()
	r.depth(0, 14, 14, "9.98=2", "")
	answer(old, 0)
	answer(r.asked[0].Request, 1) // not of this instrument
	answer(r.asked[0].Request, 7) // of none
	r.wantCover(0, event.StreamBook, "gap start")
	r.rest(0, 200, good)
	r.wantBook(0, 14, "9.98=2", "")
	r.finish()
}

func TestEmptySnapshot(t *testing.T) {
	r := newRig(t, inst("AAAUSDT"))
	r.run()
	r.connect()
	r.depth(0, 11, 13, "", "")
	for range emptyBelievedAfter {
		r.rest(0, 200, body(13, "", ""))
		r.wantCover(0, event.StreamBook, "gap start")
	}
	r.noted("snapshot 13 is empty")
	r.rest(0, 200, body(13, "", "")) // the venue insists
	r.wantBook(0, 13, "", "")
	r.depth(0, 14, 14, "9.98=2", "")
	r.wantBook(0, 14, "9.98=2", "")
	r.finish()
}

func TestFullBuffer(t *testing.T) {
	r := newRig(t, inst("AAAUSDT"))
	r.m.bufferBytes = 1000
	r.run()
	r.connect()
	id := int64(11)
	for range 20 {
		r.depth(0, id, id, "9.98=1", "")
		id++
		if len(r.m.insts[0].buffer) > 1000 {
			t.Fatalf("%d bytes in the buffer", len(r.m.insts[0].buffer))
		}
	}
	r.noted("dropped from a full buffer")
	first := r.m.insts[0].firstID
	kept := r.m.insts[0].buffered
	if first <= 11 || kept == 0 || kept+int(r.frames.Read()[12]) != 20 {
		t.Fatalf("first id %d, %d kept: %v", first, kept, r.frames.Read())
	}
	r.rest(0, 200, body(first-2, "9=1", "")) // would have joined the whole buffer
	r.wantCover(0, event.StreamBook, "gap start")
	r.rest(0, 200, body(first, "9=1", ""))
	r.wantBook(0, id-1, "9.98=1 9=1", "")
	// One message that is larger than the bound is kept all the same.
	r.depth(0, 99, 99, strings.Repeat("9.97=1 ", 100), "")
	if r.m.insts[0].buffered != 1 {
		t.Error("a large message is not kept")
	}
	r.finish()
}
