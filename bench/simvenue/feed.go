package simvenue

import (
	"sync"
	"sync/atomic"
	"time"
)

type kind uint8

const (
	kindOther kind = iota
	kindDepth
	kindSnapshot // a REST body in a recording
)

// event is one line of a recording or one event of a market, as it goes out.
// Its bytes are never written after it was made: many queues share them.
type event struct {
	atNs          int64
	kind          kind
	sym           *symbol
	stream        *stream
	streamName    string
	wrapped, bare []byte
	first, last   int64 // U and u of a diff
}

// feed sends the events of one source in order. Its fields are fixed before it
// runs, but for the atomics and what is marked.
type feed struct {
	s       *Server
	name    string
	symbols []*symbol
	streams map[string]*stream
	skipped int
	pull    func() (*event, bool)
	// depth answers a request beside the feed; nil: the book of the server.
	depth func(sym *symbol, limit int) []byte

	mu      sync.Mutex // held while pull and depth run
	wake    chan struct{}
	carried atomic.Int64 // subscriptions to its streams, over all connections
	lastSub atomic.Int64 // wall ns of the latest
	started atomic.Bool
	ended   atomic.Bool
	atNs    atomic.Int64

	// Only the feed's goroutine:
	wall    time.Time // wall time of firstNs
	firstNs int64
	// After the fault disconnect at speed 0: up to graceNs of feed time, no
	// connection opened after cutAt gets anything, however fast it came back.
	graceNs int64
	cutAt   time.Time
}

func newFeed(s *Server, name string) *feed {
	return &feed{s: s, name: name, streams: map[string]*stream{}, wake: make(chan struct{}, 1)}
}

func (f *feed) symbol(name string) *symbol {
	for _, sym := range f.symbols {
		if sym.name == name {
			return sym
		}
	}
	sym := &symbol{name: name, feed: f, book: newBook()}
	f.symbols = append(f.symbols, sym)
	return sym
}

func (f *feed) stream(name string, sym *symbol) *stream {
	st := f.streams[name]
	if st == nil {
		st = &stream{name: name, sym: sym, feed: f}
		f.streams[name] = st
	}
	return st
}

func (f *feed) run() {
	if !f.awaitClients() {
		return
	}
	f.started.Store(true)
	f.wall = time.Now()
	for n := 0; ; n++ {
		f.mu.Lock()
		ev, ok := f.pull()
		f.mu.Unlock()
		if n == 0 && ok {
			f.firstNs = ev.atNs
		}
		if !ok || (f.s.opt.For > 0 && ev.atNs-f.firstNs >= int64(f.s.opt.For)) {
			break
		}
		if !f.pace(ev.atNs) {
			return
		}
		f.atNs.Store(ev.atNs)
		switch ev.kind {
		case kindSnapshot:
			if !f.gate(ev) {
				return
			}
		case kindDepth:
			f.diff(ev)
		default:
			f.send(ev)
		}
	}
	f.flushHeld()
	f.ended.Store(true)
}

// awaitClients returns when the feed may run, false when the server closes.
func (f *feed) awaitClients() bool {
	for {
		quiet := time.Now().UnixNano() - f.lastSub.Load()
		if f.carried.Load() > 0 && quiet >= int64(f.s.opt.Quiet) {
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

// pace waits until the event is due.
func (f *feed) pace(atNs int64) bool {
	if f.s.opt.Speed == 0 {
		if atNs >= f.graceNs && (f.carried.Load() == 0 || f.graceNs > 0) {
			f.graceNs = 0
			return f.awaitClients()
		}
		return f.sleep(0)
	}
	due := f.wall.Add(time.Duration(float64(atNs-f.firstNs) / f.s.opt.Speed))
	return f.sleep(time.Until(due))
}

// send queues a frame on every connection subscribed to its stream.
func (f *feed) send(ev *event) int {
	f.s.mu.Lock()
	ev.stream.events++
	f.s.mu.Unlock()
	return f.queue(ev)
}

func (f *feed) queue(ev *event) int {
	f.s.mu.Lock()
	subs := ev.stream.subs
	f.s.mu.Unlock()
	sent := 0
	for _, c := range subs {
		if ev.atNs < f.graceNs && c.born.After(f.cutAt) {
			continue
		}
		if c.data(ev) {
			sent++
		} else if f.s.opt.Speed == 0 && c.gone.Load() {
			// Without a clock a feed could run through thousands of events
			// before the end of the connection gets to the subscriptions.
			select {
			case <-c.dropped:
			case <-f.s.done:
			}
		}
	}
	f.s.mu.Lock()
	ev.stream.sent += uint64(sent)
	f.s.mu.Unlock()
	return len(subs)
}

// diff sends a book update, with whatever fault strikes it. The true book takes
// it first: a snapshot that runs ahead of the frame is legal, one that hides a
// frame already sent is not.
func (f *feed) diff(ev *event) {
	s, sym := f.s, ev.sym
	s.mu.Lock()
	ev.stream.events++
	sym.diffs++
	if sym.open {
		sym.apply(ev)
	} else {
		sym.early = append(sym.early, ev)
	}
	hit := s.strikeLocked(sym, sym.diffs, faultDrop, faultDuplicate, faultReorder, faultDisconnect, faultCutOne, faultStall)
	receivers := len(ev.stream.subs)
	for _, name := range hit {
		s.struck = append(s.struck, Strike{name, sym.name, ev.first, ev.last, receivers})
	}
	held := sym.held
	sym.held = nil
	s.mu.Unlock()

	out := []*event{ev}
	for _, name := range hit {
		switch name {
		case faultDrop:
			out = nil
		case faultDuplicate:
			out = []*event{ev, ev}
		case faultReorder:
			s.mu.Lock()
			sym.held = ev
			s.mu.Unlock()
			out = nil
		}
	}
	if held != nil {
		out = append(out, held)
	}
	for _, x := range out {
		f.queue(x)
	}
	for _, name := range hit {
		switch name {
		case faultStall:
			for _, c := range s.carriers(sym) {
				c.hold(s.opt.StallFor)
			}
		case faultCutOne:
			if cs := s.carriers(sym); len(cs) > 0 {
				cs[0].cut() // it subscribed first
			}
		case faultDisconnect:
			if s.opt.Speed == 0 {
				f.graceNs, f.cutAt = ev.atNs+int64(time.Second), time.Now()
			}
			for _, c := range s.carriers(sym) {
				c.cut()
			}
		}
	}
}

// flushHeld sends what reorder still holds when the feed ends.
func (f *feed) flushHeld() {
	for _, sym := range f.symbols {
		f.s.mu.Lock()
		held := sym.held
		sym.held = nil
		f.s.mu.Unlock()
		if held != nil {
			f.queue(held)
		}
	}
}

// apply puts a diff into the true book. Data that cannot be read were refused
// when the recording was loaded or never made by a market.
func (sym *symbol) apply(ev *event) {
	if err := sym.book.apply(ev.bare); err != nil {
		panic("simvenue: " + sym.name + ": " + err.Error())
	}
}

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
		f.s.mu.Lock()
		asks := ev.sym.asks
		if len(asks) > 0 || !waiting {
			ev.sym.asks = nil
			ev.sym.openGate(ev.bare)
		}
		f.s.mu.Unlock()
		for _, a := range asks {
			a.reply <- ev.bare
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

func (sym *symbol) openGate(body []byte) {
	if err := sym.book.load(body); err != nil {
		panic("simvenue: " + sym.name + ": " + err.Error())
	}
	id := sym.book.lastID
	for _, ev := range sym.early {
		if ev.last > id {
			sym.apply(ev)
		}
	}
	sym.early, sym.open = nil, true
}
