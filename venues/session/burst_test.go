package session

import (
	"testing"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/lane"
)

// What the second line brought while the owner waited for the journal is taken as
// soon as there is room again, not a little at each tick, also if the direct line is
// silent.
func TestBurstOnTheSecondLine(t *testing.T) {
	v := newTestVenue(t)
	r := newRig(t, v, rigOptions{
		idle:   true,
		lane:   lane.Options{InputBytes: 16 << 10, RowBytes: 1 << 20, InputOwnedBytes: 1 << 20, RowOwnedBytes: 1 << 20},
		change: func(s *Session) { s.opt.Lines, s.journalPatience = 2, patience },
	})
	v.conn()
	second := v.conn()
	r.wait("both lines", func() bool { return r.s.Counters().Commands.Load() == 2 })
	const sent = 1000
	for id := 1; id <= sent; id++ {
		second.send(t, diff("BTCUSDT", id))
	}
	time.Sleep(500 * time.Millisecond) // its reader takes them
	r.take()
	r.wait("all frames", func() bool { return r.count(event.InputFrame) == sent+2 }) // two acks
	ticks, frames := 0, 0
	for _, in := range r.journal() {
		if in.Kind == event.InputFrame && in.Line == 1 {
			frames++
		} else if in.Kind == event.InputTick && frames < sent+1 {
			ticks++
		}
	}
	if ticks > 7 {
		t.Errorf("%d ticks between %d frames: %s", ticks, frames, r.kinds())
	}
	r.stop()
}
