package simvenue

import (
	"fmt"
	"time"

	"deeptape/bench/world"
)

// step lets an event happen.
func (v *Venue) step(ev *event) {
	if ev.load != nil {
		ev.src.atNs = ev.atNs
		ev.load.send(ev)
		return
	}
	ev.sym.src.atNs = ev.atNs
	if ev.sym.src.world != nil {
		ev.sym.src.skewNs = ev.made.StampNs - ev.made.AtNs
	}
	if src := ev.sym.src; src.graceNs > 0 && ev.atNs >= src.graceNs {
		v.endGrace(src)
	}
	if ev.topic == nil && ev.kind != kindSnapshot {
		v.made(ev)
		return
	}
	t := ev.topic
	switch ev.kind {
	case kindBook:
		if ev.snapshot {
			v.recordedSnapshot(ev)
			return
		}
		if t.sym.open {
			v.apply(ev)
		} else {
			t.sym.early = append(t.sym.early, ev)
		}
		t.prev, t.seq = ev.first, ev.last
		t.aux = ev.aux
		v.update(t.sym, []frame{{t, ev.payload}}, ev.first, ev.last)
	default:
		t.events++
		t.live = t.live || ev.snapshot
		t.prev, t.seq, t.aux = ev.first, ev.last, ev.aux
		if r, ok := v.proto.(interface{ remember(*event) }); ok {
			r.remember(ev)
		}
		v.deliver(t, ev.payload, nil)
	}
}

// frame is a payload for the subscribers of a topic.
type frame struct {
	t *topic
	p payload
}

// recordedSnapshot sends the snapshot of a recording to those who have no book
// yet, which at its place in the recording is everybody.
func (v *Venue) recordedSnapshot(ev *event) {
	t := ev.topic
	t.sym.book.clear()
	v.apply(ev)
	t.events++
	t.live, t.prev, t.seq, t.aux = true, ev.first, ev.last, ev.aux
	v.deliver(t, ev.payload, nil)
}

// apply puts a recorded frame into the true book. Data that cannot be read were
// refused when the recording was loaded.
func (v *Venue) apply(ev *event) {
	sym := ev.sym
	if err := v.proto.levels(ev.payload.bare, sym.book.set); err != nil {
		panic("simvenue: " + sym.name + ": " + err.Error())
	}
	sym.book.lastID = ev.last
	if v.facts.truncates && ev.topic.depth > 0 {
		sym.book.truncate(ev.topic.depth)
	}
}

func (v *Venue) endGrace(src *source) {
	src.graceNs = 0
	for _, s := range v.sessions {
		for _, n := range s.names {
			if t := s.subs[n]; t != nil && t.src == src && s.waiting[t] {
				delete(s.waiting, t)
				s.greet(t)
			}
		}
	}
}

// stampNs is the time of the last event by the venue's clock.
func (s *source) stampNs() int64 { return s.atNs + s.skewNs }

// made lets an event of a made market happen.
func (v *Venue) made(ev *event) {
	sym, e := ev.sym, ev.made
	if len(sym.batch) > 0 && (e.Kind != world.Trade || e.AtNs != sym.batch[0].AtNs || len(sym.batch) == 1000) {
		v.flushTrades(sym)
	}
	switch e.Kind {
	case world.Trade:
		sym.batch = append(sym.batch, e)
		if !v.facts.batches {
			v.flushTrades(sym)
		}
	case world.Quote:
		sym.quote = [2]level{v.level(sym, e.Bid), v.level(sym, e.Ask)}
		for _, t := range sym.topics {
			if t.kind != kindQuote {
				continue
			}
			t.events++
			t.prev, t.seq, t.aux = t.seq, v.nextID(t, e.Last), e.Last
			v.deliver(t, v.proto.quote(t, e.StampNs, sym.quote[0], sym.quote[1]), nil)
		}
	case world.Diff:
		v.madeDiff(sym, e)
	}
}

func (v *Venue) level(sym *symbol, l world.Level) level {
	return level{l.Px, v.proto.px(sym, l.Px), v.proto.qty(sym, l.Qty), "", l.Qty == 0}
}

// nextID is the id that the next frame of a topic carries: the market's own, or
// where the venue counts the frames of a topic, one more.
func (v *Venue) nextID(t *topic, id int64) int64 {
	if v.facts.countsFrames {
		return t.seq + 1
	}
	return id
}

func (v *Venue) madeDiff(sym *symbol, e world.Event) {
	var bids, asks []level
	for _, l := range e.Bids {
		x := v.level(sym, l)
		sym.book.put(true, x)
		bids = append(bids, x)
	}
	for _, l := range e.Asks {
		x := v.level(sym, l)
		sym.book.put(false, x)
		asks = append(asks, x)
	}
	sym.book.lastID = e.Last
	if v.opt.Ghosts {
		bids, asks = sym.without(true, bids), sym.without(false, asks)
	}
	pushed := !v.facts.truncates
	zero := v.proto.qty(sym, 0)
	gone := func(l level) level { return level{l.key, l.px, zero, "", true} }
	var frames []frame
	for _, t := range sym.topics {
		if t.kind != kindBook {
			continue
		}
		b, a := bids, asks
		if t.win != nil {
			if b, a = t.win.advance(&sym.book, pushed, gone); len(b)+len(a) == 0 {
				continue
			}
		}
		t.prev, t.seq, t.aux = t.seq, v.nextID(t, e.Last), e.Last
		if t.prev == 0 {
			t.prev = e.First - 1
		}
		frames = append(frames, frame{t, v.proto.diff(t, e.StampNs, b, a)})
	}
	v.update(sym, frames, e.First, e.Last)
}

func (v *Venue) flushTrades(sym *symbol) {
	list := sym.batch
	sym.batch = nil
	for _, t := range sym.topics {
		if t.kind == kindTrade && len(list) > 0 {
			t.events++
			v.deliver(t, v.proto.trades(t, list), nil)
		}
	}
	if len(list) > 0 {
		v.keepTrades(sym, list)
	}
}

// deliver sends a payload to the subscribers of a topic, with whatever faults
// strike it.
func (v *Venue) deliver(t *topic, p payload, hit []string) {
	p = v.dress(t, p)
	if t.kind == kindBook {
		p = v.spoil(t, p, hit)
	}
	v.tell(t, p, false, hit)
	for _, s := range t.subs {
		if s.late(t.src, t.src.atNs) || s.silent[t] {
			continue
		}
		if hasName(hit, faultReset) {
			s.seq = 0
		}
		f := textFrame(v.proto.seal(s, p))
		f.Data = true
		out, strands := strikeFrame(f, hit)
		t.lastNs = v.wallNs
		held, isHeld := s.held[t]
		if t.kind == kindBook {
			delete(s.held, t)
		}
		if hasName(hit, faultReorder) {
			s.held[t] = f
			out = nil
		}
		if t.kind == kindBook && isHeld {
			out = append(out, held)
		}
		for _, f := range out {
			t.sent++
			s.send(f)
		}
		if strands {
			s.leave()
		}
	}
}

// update sends a book update, with whatever fault strikes it. The true book has
// it already: a snapshot that runs ahead of the frame is legal, one that hides a
// frame already sent is not.
func (v *Venue) update(sym *symbol, frames []frame, first, last int64) {
	receivers := 0
	for _, f := range frames {
		f.t.events++
		receivers += len(f.t.subs)
	}
	if v.facts.countsSent && receivers == 0 && sym.src.world != nil {
		return // nobody gets a frame: there is none
	}
	if v.facts.countsSent && len(frames) > 0 {
		first, last = frames[0].t.prev, frames[0].t.seq
	}
	sym.updates++
	hit := v.strike(sym, sym.updates, frameFaults...)
	for _, name := range hit {
		v.struck = append(v.struck, Strike{Fault: name, Venue: v.name, Symbol: sym.name, First: first, Last: last, Receivers: receivers, WallNs: v.wallNs})
		if name == faultZero {
			sym.zeroSum = true
		}
	}
	carriers := v.carriers(sym)
	for _, f := range frames {
		v.deliver(f.t, f.p, hit)
	}
	for _, name := range hit {
		switch name {
		case faultStall:
			for _, s := range carriers {
				s.send(Frame{Do: Hold, For: v.opt.StallFor})
			}
		case faultHalfOpen:
			for _, s := range carriers {
				s.strand(Frame{Do: HalfOpen})
			}
		case faultNotice:
			for _, s := range carriers {
				s.say(v.proto.closing(s))
				s.closeNs = v.wallNs + int64(v.opt.NoticeLead)
			}
		case faultCutOne:
			if len(carriers) > 0 {
				v.firstOf(frames, carriers).cut()
			}
		case faultDisconnect:
			if v.opt.NoClock {
				sym.src.graceNs, sym.src.graceSerial = sym.src.atNs+int64(time.Second), v.serial
			}
			for _, s := range carriers {
				s.cut()
			}
		}
	}
}

// firstOf is the connection that has carried a book the longest.
func (v *Venue) firstOf(frames []frame, carriers []*Session) *Session {
	for _, f := range frames {
		if len(f.t.subs) > 0 {
			return f.t.subs[0]
		}
	}
	return carriers[0]
}

// finish sends what is still held back when a source ends.
func (v *Venue) finish(src *source) {
	for _, sym := range v.order {
		if sym.src != src {
			continue
		}
		v.flushTrades(sym)
		for _, t := range sym.topics {
			for _, s := range t.subs {
				if f, ok := s.held[t]; ok {
					delete(s.held, t)
					t.sent++
					s.send(f)
				}
			}
		}
	}
}

// openGate loads a recorded REST body and what came before it.
func (v *Venue) openGate(ev *event) {
	sym := ev.sym
	sym.book.clear()
	id, err := loadBody(&sym.book, ev.payload.bare)
	if err != nil {
		panic(fmt.Sprintf("simvenue: %s: %v", sym.name, err))
	}
	sym.book.lastID = id
	for _, e := range sym.early {
		if e.last > id {
			v.apply(e)
		}
	}
	sym.early, sym.open = nil, true
}

func hasName(list []string, name string) bool {
	for _, n := range list {
		if n == name {
			return true
		}
	}
	return false
}
