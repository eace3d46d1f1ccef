package session

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues/wire"
)

// noGap checks the book of a session that had everything on one line or the other.
func (r *rig) noGap(last int64) {
	r.t.Helper()
	r.wait("the last message", func() bool {
		st := r.s.Status()
		return st != nil && st.Instruments[0].Seq == last
	})
	r.stop()
	if st := r.s.Status().Instruments[0]; st.Stats.Gaps != 0 || st.Streams[event.StreamBook].State != "verified" || st.Buffered != 0 {
		r.t.Errorf("the book: %+v", st)
	}
	up := map[uint8]bool{}
	for _, in := range r.journal() {
		switch in.Kind {
		case event.InputConnect:
			if up[in.Line] {
				r.t.Errorf("line %d connects twice", in.Line)
			}
			up[in.Line] = true
		case event.InputClose:
			if !up[in.Line] {
				r.t.Errorf("line %d closes and was not up", in.Line)
			}
			up[in.Line] = false
		case event.InputFrame:
			if !up[in.Line] {
				r.t.Errorf("a frame of line %d, which is not up", in.Line)
			}
		}
	}
}

func (r *rig) connects(n int) {
	r.t.Helper()
	r.wait("a connection", func() bool { return r.count(event.InputConnect) >= n && r.s.Counters().Commands.Load() >= uint64(n) })
}

// Each of two lines misses what the other brings, and each is cut in its turn.
func TestTwoLines(t *testing.T) {
	v := newTestVenue(t)
	r := newRig(t, v, rigOptions{change: func(s *Session) { s.opt.Lines = 2 }})
	lines := [2]*testConn{v.conn(), v.conn()}
	r.connects(2)
	id, sent := 0, 0
	frames := func() {
		t.Helper()
		r.wait("all frames", func() bool { return r.count(event.InputFrame) == sent+r.count(event.InputConnect) }) // each has an ack
	}
	send := func(n int, to ...*testConn) {
		for range n {
			id++
			for i, c := range to {
				if len(to) == 1 || id%7 != i { // dropped by turns
					c.send(t, diff("BTCUSDT", id))
					sent++
				}
			}
			if id%30 == 0 {
				frames() // on a slow machine one line must not fall behind the other by the 2 s that a gap takes
			}
		}
	}
	send(5, lines[0])
	r.wait("the snapshot", func() bool { return r.count(event.InputRest) == 1 })
	for round := range 4 {
		send(300, lines[0], lines[1])
		cut := round % 2
		frames() // or a cut would lose some
		lines[cut].Close()
		send(50, lines[1-cut])
		lines[cut] = v.conn()
		r.connects(3 + round)
	}
	send(300, lines[0], lines[1])
	frames()
	r.noGap(int64(id))
	f := r.l.Frames.Read()
	if f[ledger.Duplicate] < 1000 || f[ledger.Stale] > 5 {
		t.Errorf("frames %v", f)
	}
	if k := r.s.Counters(); k.Connects.Load() != 6 || k.Disconnects.Load() != 4 {
		t.Errorf("%d connects, %d disconnects", k.Connects.Load(), k.Disconnects.Load())
	}
	<-lines[0].ended
	<-lines[1].ended
}

// Make before break: the new connection has joined before the old one goes.
func TestPlannedReconnect(t *testing.T) {
	v := newTestVenue(t)
	r := newRig(t, v, rigOptions{change: func(s *Session) { s.opt.ReconnectEvery = time.Second }})
	first := v.conn()
	r.connects(1)
	id := 0
	both := func(conns ...*testConn) {
		id++
		for _, c := range conns {
			c.send(t, diff("BTCUSDT", id))
		}
		time.Sleep(time.Millisecond)
	}
	c := first
	for round := range 2 {
		var next *testConn
		for next == nil {
			both(c)
			select {
			case next = <-v.conns:
			default:
			}
		}
		r.connects(2 + round)
		for gone := false; !gone; {
			both(next)
			select {
			case <-c.ended:
				gone = true
			default:
				c.write(diff("BTCUSDT", id)) // it may be gone by now
			}
		}
		c = next
	}
	r.noGap(int64(id))
}

// A command that waits for the venue's budget goes with its connection: while the next
// one is dialled nobody could write it, and afterwards it would be said twice.
func TestCommandsGoWithTheirLine(t *testing.T) {
	v := newTestVenue(t)
	const window = time.Second
	var dials atomic.Int32
	on := make(chan struct{})
	r := newRig(t, v, rigOptions{change: func(s *Session) {
		s.opt.Lines = 2
		s.opt.Budgets.Commands, s.opt.Budgets.burst = wire.NewBudget(1, window), 100
		dial := s.opt.Dial
		s.opt.Dial = func(ctx context.Context, url string, maxBytes int) (Conn, error) {
			if dials.Add(1) == 3 {
				select {
				case <-on:
				case <-ctx.Done():
				}
			}
			return dial(ctx, url, maxBytes)
		}
	}})
	v.conn()
	second := v.conn()
	r.wait("both lines", func() bool { return r.count(event.InputConnect) == 2 })
	second.Close() // its command still waits
	r.wait("the third dial", func() bool { return dials.Load() == 3 })
	ticks := r.count(event.InputTick)
	r.wait("the budget", func() bool { return r.count(event.InputTick) >= ticks+2 })
	close(on)
	v.conn()
	r.wait("the command of the new connection", func() bool { return r.s.Counters().Commands.Load() == 2 })
	r.stop()
	up := map[uint8]bool{}
	for _, in := range r.journal() {
		switch in.Kind {
		case event.InputConnect:
			up[in.Line] = true
		case event.InputClose:
			up[in.Line] = false
		case event.InputCommand:
			if !up[in.Line] {
				t.Errorf("line %d is not up and is sent %s", in.Line, in.Data)
			}
		}
	}
}
