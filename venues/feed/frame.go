package feed

import (
	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
)

// frame decodes one frame, gives each of its messages its place, and books the
// frame under one outcome.
func (m *Machine) frame(in *event.Input) {
	reason := m.decode(func() ledger.Reason { return m.read(in.Data) })
	m.count(in.Line)
	if reason != ledger.Accepted {
		m.frames.Reject(reason)
		m.unreadable(in.Line, reason)
		if len(m.batch.Messages) == 0 {
			m.unknown(in.Line, reason, in.Data)
		}
		return
	}
	if len(m.batch.Messages) > 0 {
		m.eventTs = m.batch.Messages[0].TsEvent
	}
	outcome := ledger.Control
	m.rejected, m.kept = ledger.Accepted, false
	for i := range m.batch.Messages {
		msg := &m.batch.Messages[i]
		if m.only.inst >= 0 && !m.only.is(msg) {
			continue
		}
		// Applied outranks the rest: the frame has made rows.
		if o := m.message(in, msg); outcome != ledger.Applied && o != ledger.Control {
			outcome = o
		}
	}
	switch {
	case in.Aux == countedElsewhere:
	case m.kept:
		m.frames.Add(ledger.Buffered, 1)
	case outcome == ledger.Control && m.rejected != ledger.Accepted:
		m.frames.Reject(m.rejected)
	default:
		m.frames.Add(outcome, 1)
	}
}

// reject notes why a message makes no rows. Its frame is rejected for it, unless another
// message of the frame fares better.
func (m *Machine) reject(reason ledger.Reason) ledger.Outcome {
	m.rejected = reason
	return ledger.Control
}

// part of a frame: what one instrument has of one stream in it. A frame that waited is
// taken again for the part that had to wait; the rest of it had its turn.
type part struct {
	inst   int // -1 for the whole frame
	stream event.Stream
}

func (p part) is(msg *venues.Message) bool {
	if msg.Inst != p.inst {
		return false
	}
	switch msg.Kind {
	case venues.KindDelta, venues.KindSnapshot:
		return p.stream == event.StreamBook
	case venues.KindTrade:
		return p.stream == event.StreamTrades
	}
	return false
}

// unreadable: a frame was rejected. What is left in the batch says whose messages it
// held. Where it says nothing, ids of the books' own will tell; where those have none,
// any of them may have missed something.
func (m *Machine) unreadable(number uint8, reason ledger.Reason) {
	known := false
	for i := range m.batch.Messages {
		if msg := &m.batch.Messages[i]; msg.Inst >= 0 {
			known = true
			inst := &m.insts[msg.Inst]
			if !m.both() || m.single() && m.leads(inst, number) {
				m.broken(msg)
			} else if m.standing && (msg.Kind == venues.KindDelta || msg.Kind == venues.KindSnapshot) {
				m.dropStandby(inst)
			}
		}
	}
	if !known && m.single() && (reason == ledger.Malformed || reason == ledger.Overflow || reason == ledger.Oversized) {
		m.suspect(number, event.CauseMalformed)
	}
}

// broken: an unreadable message of a known instrument is a hole in its stream. Say
// so now, with the right cause, and not at the next message. (Quotes have no proof
// that could be lost.) Where there are two lines the other may have a better copy, and
// the ids tell.
func (m *Machine) broken(msg *venues.Message) {
	inst := &m.insts[msg.Inst]
	switch {
	case (msg.Kind == venues.KindDelta || msg.Kind == venues.KindSnapshot) && inst.state == bookLive:
		m.resync(inst, event.CauseMalformed)
	case msg.Kind == venues.KindTrade && inst.streams[event.StreamTrades].state != event.StateGap:
		m.warn("%s %s: gap (%s) in the trades: one cannot be read", m.rules.Name, inst.Symbol, event.CauseMalformed)
		m.breakStream(inst, event.StreamTrades, event.CauseMalformed)
	}
}

// decode runs a decoder. Where a message is finer than its instrument's scales it
// is read again at finer ones, and only if that succeeds do book and rows follow:
// a message that is rejected must not change a scale, because a scale that is too
// fine rejects everything that comes later.
func (m *Machine) decode(read func() ledger.Reason) ledger.Reason {
	reason := read()
	if reason != ledger.Accepted || !m.tryFiner() {
		return reason
	}
	if reason = read(); reason == ledger.Accepted && !m.widenAll() {
		reason = ledger.Overflow
	}
	if reason != ledger.Accepted {
		for i := range m.insts {
			inst := &m.insts[i]
			inst.tryPx, inst.tryQty = inst.PxScale, inst.QtyScale
			m.dec.SetScale(i, inst.PxScale, inst.QtyScale)
		}
	}
	return reason
}

// tryFiner sets the decoder to the scales that the batch needs, and says whether
// that changed any.
func (m *Machine) tryFiner() bool {
	finer := false
	for i := range m.batch.Messages {
		msg := &m.batch.Messages[i]
		if msg.Inst < 0 {
			continue
		}
		inst := &m.insts[msg.Inst]
		if msg.PxScale > inst.tryPx || msg.QtyScale > inst.tryQty {
			inst.tryPx, inst.tryQty = max(msg.PxScale, inst.tryPx), max(msg.QtyScale, inst.tryQty)
			m.dec.SetScale(msg.Inst, inst.tryPx, inst.tryQty)
			finer = true
		}
	}
	return finer
}

func (m *Machine) widenAll() bool {
	for i := range m.insts {
		if inst := &m.insts[i]; inst.tryPx > inst.PxScale || inst.tryQty > inst.QtyScale {
			if !m.widen(inst, inst.tryPx, inst.tryQty) {
				return false
			}
		}
	}
	return true
}

func (m *Machine) message(in *event.Input, msg *venues.Message) ledger.Outcome {
	if in.Line < numLines {
		if l := &m.lines[in.Line]; len(l.refused)+len(l.pending) > 0 {
			m.heardOf(in.Line, msg)
		}
	}
	switch msg.Kind {
	case venues.KindDelta:
		return m.delta(in, msg)
	case venues.KindSnapshot:
		return m.snapshot(in, msg)
	case venues.KindTrade:
		return m.trade(in, msg)
	case venues.KindQuote:
		return m.quote(in.Line, &m.insts[msg.Inst], msg)
	case venues.KindAck:
		m.ack(in.Line, msg)
	case venues.KindRefused:
		m.refused(in.Line, msg)
	case venues.KindNotice:
		m.act(Action{Kind: ActionReconnect, Line: in.Line, Text: string(msg.Text)})
	}
	return ledger.Control
}

func (m *Machine) delta(in *event.Input, msg *venues.Message) ledger.Outcome {
	inst := &m.insts[msg.Inst]
	if !m.leads(inst, in.Line) {
		m.standbyDelta(inst, msg)
		return ledger.Duplicate
	}
	if !inst.joined(in.Line) && inst.state == bookLive && m.carried(inst, in.Line) && !m.standing {
		return ledger.Duplicate
	}
	inst.heardDelta(in.Line, msg)
	if inst.state == bookSyncing && m.rules.RestSnapshot {
		m.bufferFrame(inst, in, msg)
		return ledger.Buffered
	}
	if inst.state != bookLive {
		return m.reject(ledger.OutOfSync)
	}
	switch m.judge(inst, in.Line, msg) {
	case known:
		// The snapshot itself has no copy: what it holds already came too early for it.
		if msg.Seq == inst.seq && inst.inband.Applied > 1 || m.paired {
			return ledger.Duplicate
		}
		return ledger.Stale
	case jumps:
		if m.rules.RestSnapshot || m.both() || len(inst.held[event.StreamBook].waiting) > 0 {
			m.hold(inst, event.StreamBook, in, m.firstID(msg))
			return ledger.Buffered
		}
		fallthrough
	case strange:
		m.failed(inst, checkChain, event.CauseSequence)
		return m.reject(ledger.OutOfSync)
	}
	if reason := m.applyDelta(inst, in.Line, msg); reason != ledger.Accepted {
		return m.reject(reason)
	}
	inst.audit.keep(in, msg, m.bufferBytes)
	return ledger.Applied
}

// applyDelta changes the book, and writes that, if the book is then what it should be.
// Else it says what it is not.
func (m *Machine) applyDelta(inst *instrument, line uint8, msg *venues.Message) ledger.Reason {
	bids := 0
	if inst.keyframeOwed { // the book as it was, to be written if this message proves it
		bids = m.collect(inst)
	}
	levels := m.batch.Levels[msg.Lo:msg.Hi]
	inst.book.Apply(levels)
	if reason := m.checkBook(inst, msg); reason != ledger.Accepted {
		return reason
	}
	m.holds(checkChain)
	m.continueBook(inst)
	if inst.keyframeOwed {
		inst.keyframeOwed = false
		m.putKeyframe(inst, bids)
	}
	inst.seq = msg.Seq
	inst.lastMessageTs, inst.lastEventTs = m.now, msg.TsEvent
	inst.inband.Applied++
	if msg.SeqPrev != event.Null && msg.Seq < msg.SeqPrev {
		inst.inband.ResetFrom, inst.inband.ResetTs, inst.inband.ResetLine = msg.SeqPrev, m.now, line
	}
	inst.stats.BookMessages++
	m.putBook(inst, msg, levels, 0)
	m.putTop(inst, msg.TsEvent, false)
	if m.standing {
		inst.sum = m.sumOf(msg)
		m.meet(inst)
	}
	return ledger.Accepted
}
