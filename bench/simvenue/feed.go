package simvenue

import (
	"sync/atomic"
	"time"
)

// feed gives the events of one source to its venue when they are due. Its
// fields are fixed before it runs, but for the atomics.
type feed struct {
	s   *Server
	p   *place
	src *source

	wake    chan struct{} // a depth request waits at the gate
	started atomic.Bool
	ended   atomic.Bool
	atNs    atomic.Int64

	// Only the feed's goroutine:
	wall    time.Time // wall time of firstNs
	firstNs int64
}

func newFeed(p *place, src *source) *feed {
	return &feed{s: p.s, p: p, src: src, wake: make(chan struct{}, 1)}
}

func (f *feed) run() {
	if !f.live() && !f.awaitClients() {
		return
	}
	f.started.Store(true)
	f.wall = time.Now()
	for n := 0; ; n++ {
		f.p.mu.Lock()
		ev, ok := f.src.pull()
		f.p.mu.Unlock()
		if n == 0 && ok {
			f.firstNs = ev.atNs
		}
		if !ok || (f.s.opt.For > 0 && ev.atNs-f.firstNs >= int64(f.s.opt.For)) {
			break
		}
		if !f.pace(ev) {
			return
		}
		f.atNs.Store(ev.atNs)
		if ev.kind == kindSnapshot {
			if !f.gate(ev) {
				return
			}
			continue
		}
		f.p.with(func(v *Venue) { v.step(ev) })
	}
	f.p.with(func(v *Venue) {
		if f.src.graceNs > 0 { // what a cut delayed would never come
			v.endGrace(f.src)
		}
		v.finish(f.src)
	})
	f.ended.Store(true)
}

// with runs do under the venue's lock, then waits for the sockets of those whom
// it gave frames.
func (p *place) with(do func(v *Venue)) {
	p.mu.Lock()
	p.v.wallNs = time.Now().UnixNano()
	do(p.v)
	dirty := p.dirty
	p.dirty = nil
	p.mu.Unlock()
	for _, c := range dirty {
		c.out.room()
	}
}

// slowSubscriber is how long a recording waits for a client that subscribes to
// its topics one by one, at the pace that the venue lets it.
const slowSubscriber = 2 * time.Second

// awaitClients returns when the feed may run, false when the server closes.
func (f *feed) awaitClients() bool {
	for {
		f.p.mu.Lock()
		carried, lastSub, quiet := f.src.carried, f.src.lastSub, f.s.opt.Quiet
		if !f.started.Load() && f.p.v.incomplete(f.src) {
			quiet = max(quiet, slowSubscriber)
		}
		f.p.mu.Unlock()
		if carried > 0 && time.Now().UnixNano()-lastSub >= int64(quiet) {
			return true
		}
		if !f.sleep(5 * time.Millisecond) {
			return false
		}
	}
}

func (f *feed) sleep(d time.Duration) bool {
	if d <= 0 {
		select {
		case <-f.s.done:
			return false
		default:
			return true
		}
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-f.s.done:
		return false
	}
}

// sleepUntil waits for an instant of the wall clock, to some 100 us. A timer would not
// do: where nothing else runs, the runtime waits for it in whole milliseconds.
func (f *feed) sleepUntil(ns int64) bool {
	for {
		select {
		case <-f.s.done:
			return false
		default:
		}
		left := ns - time.Now().UnixNano()
		if left <= 0 {
			return true
		}
		nap(min(left, 20_000_000))
	}
}

// pace waits until the event is due.
func (f *feed) pace(ev *event) bool {
	if ev.load != nil {
		return ev.unpaced || f.sleepUntil(ev.atNs)
	}
	atNs := ev.atNs
	if f.s.opt.Speed == 0 {
		f.p.mu.Lock()
		grace, carried := f.src.graceNs, f.src.carried
		f.p.mu.Unlock()
		if atNs >= grace && (carried == 0 || grace > 0) {
			return f.awaitClients()
		}
		return f.sleep(0)
	}
	due := f.wall.Add(time.Duration(float64(atNs-f.firstNs) / f.s.opt.Speed))
	if f.live() {
		due = time.Unix(0, atNs)
	}
	return f.sleep(time.Until(due))
}

func (f *feed) live() bool { return f.s.opt.Live && f.src.world != nil }

// ask is a depth request that waits at the gate.
type ask struct {
	reply   chan []byte   // holds one
	written chan struct{} // closed when the answer is on the wire, or will never be
}

// gate holds the feed at a recorded REST body until someone asks for it.
func (f *feed) gate(ev *event) bool {
	begin := time.Now()
	timeout := time.NewTimer(f.s.opt.SnapshotWait)
	defer timeout.Stop()
	for waiting := true; ; {
		f.p.mu.Lock()
		asks := ev.sym.asks
		if len(asks) > 0 || !waiting {
			ev.sym.asks = nil
			f.p.v.openGate(ev)
		}
		f.p.mu.Unlock()
		for _, a := range asks {
			a.reply <- ev.payload.bare
		}
		for _, a := range asks {
			select {
			case <-a.written:
			case <-time.After(2 * time.Second):
			case <-f.s.done:
				return false
			}
		}
		if len(asks) > 0 || !waiting {
			f.wall = f.wall.Add(time.Since(begin))
			return true
		}
		select {
		case <-f.wake:
		case <-timeout.C:
			waiting = false
		case <-f.s.done:
			return false
		}
	}
}
