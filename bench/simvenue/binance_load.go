package simvenue

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"deeptape/bench/world"
)

// loadSource is a schedule of world in Binance's dress, for measuring: messages are
// made of ready texts, times and ids, and all that are due for a connection go out
// in one piece, so that the venue takes as little as it can of a machine that it
// shares with what is measured. Faults do not strike them.
//
// A message is due at its time on the wall clock, and carries that time as the
// venue's stamp; whoever lets the socket fill up gets it later, under the same
// stamp. Where the schedule is unpaced a message carries the time of its sending.
type loadSource struct {
	v       *Venue
	sched   *world.Schedule
	symbols []loadSymbol
	touched []*Session
	scratch []byte
	unpaced []world.Sending // what has been asked of sched beyond one step
}

// unpacedMessages go out in one step where there is no pace.
const unpacedMessages = 512

// rawFrames are payloads of Raw that have been written. Only where there is no pace are
// they used again: where there is one, what the bare reader shows of the venue is what the
// agent is held against, and a venue that gets faster would raise that bar.
var rawFrames = make(chan []byte, 64)

func newRaw() []byte {
	select {
	case b := <-rawFrames:
		return b[:0]
	default:
		return make([]byte, 0, 1<<17)
	}
}

func keepRaw(b []byte) {
	select {
	case rawFrames <- b:
	default:
	}
}

// loadSymbol holds the texts of a symbol's messages.
type loadSymbol struct {
	sym                *symbol
	diff, trade, quote loadTopic
	pending            []uint16 // templates of diffs that were sent and are not in the true book
}

// loadTopic is a topic whose frames are head + stamp + middle + ids + tail.
type loadTopic struct {
	t     *topic
	wrap  string   // before the payload, for a combined connection; "}" comes after it
	tails [][]byte // by template
}

// loadVenue is whose frames a load has.
const loadVenue = "binance"

func newLoad(v *Venue, sched *world.Schedule) (*source, error) {
	src := &source{name: "load", atNs: sched.StartNs}
	l := &loadSource{v: v, sched: sched}
	for i := range sched.Load.Symbols {
		from := &sched.Load.Symbols[i]
		sym, err := v.symbolOf(src, from.Name)
		if err != nil {
			return nil, err
		}
		sym.open, sym.firstID = true, from.Book.LastID+1
		sym.pxDecimals, sym.qtyDecimals = from.PxDecimals, from.QtyDecimals
		sym.info = newInstrument(from.Name, from.PxDecimals, from.QtyDecimals)
		for _, x := range v.texts(sym, from.Book.Bids, 0) {
			sym.book.put(true, x)
		}
		for _, x := range v.texts(sym, from.Book.Asks, 0) {
			sym.book.put(false, x)
		}
		sym.book.lastID = from.Book.LastID
		sym.catchUp = func() { l.catchUp(i) }
		l.symbols = append(l.symbols, l.dress(sym, from))
	}
	src.pull = func() (*event, bool) {
		due := sched.Next()
		if due == nil {
			return nil, false
		}
		ev := &event{atNs: due[0].AtNs, src: src, load: l, due: due}
		if sched.Load.Profile.Unpaced && ev.atNs >= sched.StartNs {
			// The first waits for the start like the first of a paced schedule.
			ev.unpaced = ev.atNs > sched.StartNs
			l.unpaced = append(l.unpaced[:0], due...)
			for ev.unpaced && len(l.unpaced) < unpacedMessages {
				if due = sched.Next(); due == nil {
					break
				}
				l.unpaced = append(l.unpaced, due...)
			}
			ev.due = l.unpaced
		}
		return ev, true
	}
	return src, nil
}

// dress writes the texts of a symbol.
func (l *loadSource) dress(sym *symbol, from *world.LoadSymbol) loadSymbol {
	topic := func(k kind) loadTopic {
		name := l.v.proto.topicName(k, sym, 0)
		return loadTopic{t: l.v.topicOf(name, k, sym, 0), wrap: `{"stream":"` + name + `","data":`}
	}
	s := loadSymbol{sym: sym, diff: topic(kindBook), trade: topic(kindTrade), quote: topic(kindQuote)}
	for _, d := range from.Diffs {
		tail := appendPairs([]byte(`,"b":`), l.v.texts(sym, d.Bids, 0))
		tail = appendPairs(append(tail, `,"a":`...), l.v.texts(sym, d.Asks, 0))
		s.diff.tails = append(s.diff.tails, append(tail, '}'))
	}
	for _, t := range from.Trades {
		s.trade.tails = append(s.trade.tails, fmt.Appendf(nil, `,"m":%t,"M":true}`, t.BuyerIsMaker))
		s.trade.tails = append(s.trade.tails, fmt.Appendf(nil, `,"p":"%s","q":"%s","T":`, l.v.proto.px(sym, t.Px), l.v.proto.qty(sym, t.Qty)))
	}
	q := from.Quote
	s.quote.tails = [][]byte{fmt.Appendf(nil, `,"s":"%s","b":"%s","B":"%s","a":"%s","A":"%s"}`, sym.name,
		l.v.proto.px(sym, q.Bid.Px), l.v.proto.qty(sym, q.Bid.Qty), l.v.proto.px(sym, q.Ask.Px), l.v.proto.qty(sym, q.Ask.Qty))}
	return s
}

// send gives every subscriber what is due for it.
func (l *loadSource) send(ev *event) {
	for i := range ev.due {
		x := &ev.due[i]
		s := &l.symbols[x.Symbol]
		ms := x.AtNs / 1e6
		if ev.unpaced {
			ms = l.v.wallNs / 1e6
		}
		t, b := &s.quote, l.scratch[:0]
		switch x.Kind {
		case world.Diff:
			t = &s.diff
			t.t.prev, t.t.seq = x.First-1, x.Last
			s.sym.updates++
			s.pend(x.Template)
			b = strconv.AppendInt(append(b, `{"e":"depthUpdate","E":`...), ms, 10)
			b = append(append(append(b, `,"s":"`...), s.sym.name...), `","U":`...)
			b = strconv.AppendInt(b, x.First, 10)
			b = strconv.AppendInt(append(b, `,"u":`...), x.Last, 10)
			b = append(b, t.tails[x.Template]...)
		case world.Trade:
			t = &s.trade
			b = strconv.AppendInt(append(b, `{"e":"trade","E":`...), ms, 10)
			b = append(append(append(b, `,"s":"`...), s.sym.name...), `","t":`...)
			b = strconv.AppendInt(b, x.TradeID, 10)
			b = append(b, t.tails[2*x.Template+1]...)
			b = strconv.AppendInt(b, ms, 10)
			b = append(b, t.tails[2*x.Template]...)
		default:
			b = strconv.AppendInt(append(b, `{"u":`...), x.Last, 10)
			b = append(b, t.tails[0]...)
		}
		l.scratch = b
		t.t.events++
		for _, sub := range t.t.subs {
			t.t.sent++
			if len(sub.batch) == 0 {
				l.touched = append(l.touched, sub)
			}
			sub.batch = appendFrame(sub.batch, sub.combined, t.wrap, b)
		}
	}
	for _, sub := range l.touched {
		n := len(sub.batch)
		sub.send(Frame{Do: Raw, Payload: sub.batch})
		if ev.unpaced {
			sub.batch = newRaw()
		} else {
			sub.batch = make([]byte, 0, n+n/4)
		}
	}
	l.touched = l.touched[:0]
}

// appendFrame writes a text frame of a server, in the envelope of a combined stream
// if need be.
func appendFrame(dst []byte, combined bool, wrap string, payload []byte) []byte {
	n := len(payload)
	if combined {
		n += len(wrap) + 1
	}
	switch {
	case n < 126:
		dst = append(dst, 0x81, byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, 0x81, 126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 0x81, 127), uint64(n))
	}
	if !combined {
		return append(dst, payload...)
	}
	return append(append(append(dst, wrap...), payload...), '}')
}

// pend notes that a diff was sent. The true book is made when somebody asks for it;
// until then only the last time of each template counts, since a diff's sizes are
// absolute.
func (s *loadSymbol) pend(template int) {
	s.pending = append(s.pending, uint16(template))
	if len(s.pending) < 8*len(s.diff.tails) {
		return
	}
	seen := make([]bool, len(s.diff.tails))
	keep := len(s.pending)
	for i := len(s.pending) - 1; i >= 0; i-- {
		if k := s.pending[i]; !seen[k] {
			seen[k] = true
			keep--
			s.pending[keep] = k
		}
	}
	s.pending = append(s.pending[:0], s.pending[keep:]...)
}

// catchUp makes the true book of a symbol what its last diff left.
func (l *loadSource) catchUp(i int) {
	s, from := &l.symbols[i], &l.sched.Load.Symbols[i]
	for _, k := range s.pending {
		for _, x := range l.v.texts(s.sym, from.Diffs[k].Bids, 0) {
			s.sym.book.put(true, x)
		}
		for _, x := range l.v.texts(s.sym, from.Diffs[k].Asks, 0) {
			s.sym.book.put(false, x)
		}
	}
	s.pending = s.pending[:0]
	if s.diff.t.seq > 0 {
		s.sym.book.lastID = s.diff.t.seq
	}
}
