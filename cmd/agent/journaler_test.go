package agent

import (
	"log/slog"
	"testing"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/journal"
	"deeptape/hotpath/lane"
	"deeptape/hotpath/ring"
	"deeptape/hotpath/task"
)

// handClock goes on only by hand.
type handClock struct{ ns int64 }

func (c *handClock) NowNs() int64 { return c.ns }

// TestKeyframesAreBounded: a book of 4 MB, as a hostile venue makes it, in segments of
// 1 MiB: each keyframe fills segments of its own, which asked for the next keyframe, so
// that 3 MB of frames became a journal of hundreds. Now what is written for keyframes is
// no more than what is recorded, but for the one that each hour begins with, and a
// neighbour with a small book has its keyframes all the same.
func TestKeyframesAreBounded(t *testing.T) {
	const large, small, frame = 4 << 20, 20 << 10, 2 << 10
	w, _, err := journal.Open(journal.OS, t.TempDir(), journal.Options{SegmentBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	bell, clock := ring.NewDoorbell(), &handClock{ns: 100 * hourNs}
	opt := lane.Options{InputBytes: 1 << 20, RowBytes: 1 << 16, InputOwnedBytes: 16 << 20, RowOwnedBytes: 1 << 16}
	lanes := []*lane.Lane{lane.New(0, opt, bell, bell), lane.New(1, opt, bell, bell)}
	j := newJournaler(w, lanes, bell, bell, time.Second, task.Real{}, clock, slog.New(slog.DiscardHandler))
	j.hour, j.segment = clock.ns/hourNs, w.Position().Segment

	var pos, made, keyframes, frames [2]uint64
	var hourly [2]bool // a keyframe was written in the present hour
	state := uint64(1)
	put := func(i int, kind event.InputKind, size int) {
		pos[i]++
		data := make([]byte, size)
		for k := range data { // which does not compress
			state = state*6364136223846793005 + 1442695040888963407
			data[k] = byte(state >> 56)
		}
		lanes[i].Inputs.OfferOwned(event.AppendInput(nil, event.InputHead{Kind: kind, Feed: uint16(i), Pos: pos[i], Ts: clock.ns}, data))
		for j.take() {
			if !j.commit() {
				t.Fatal(j.Trouble())
			}
		}
		j.turns(clock.ns)
		if kind == event.InputKeyframe {
			keyframes[i] += uint64(size)
			hourly[i] = true
		} else {
			frames[i] += uint64(size)
		}
	}
	const hours, seconds = 3, 400
	for hour := range hours {
		clock.ns = (100 + int64(hour)) * hourNs
		hourly = [2]bool{}
		for range seconds {
			for i := range lanes {
				put(i, event.InputFrame, frame)
				if asked := lanes[i].KeyframesAsked(); asked != made[i] { // as a session does
					made[i] = asked
					put(i, event.InputKeyframe, []int{large, small}[i])
				}
			}
			clock.ns += 1e9
		}
		if hour > 0 && hourly != [2]bool{true, true} {
			t.Errorf("hour %d: keyframes of %v", hour, hourly)
		}
	}
	recorded, written := frames[0]+frames[1], keyframes[0]+keyframes[1]
	t.Logf("%d bytes of frames, %d of keyframes, %d stored", recorded, written, w.Stats().StoredBytes)
	if most := recorded + hours*(large+small); written > most {
		t.Errorf("%d bytes of keyframes beside %d of frames, want at most %d", written, recorded, most)
	}
	if keyframes[1]/small <= hours {
		t.Errorf("the neighbour has %d keyframes in %d hours", keyframes[1]/small, hours)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
