package feed

import (
	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
)

// frame decodes one frame, gives each of its messages its place, and books the
// frame under one outcome.
func (m *Machine) frame(in *event.Input) {
	reason := m.decode(func() ledger.Reason { return m.dec.Decode(in.Data, &m.batch) })
	if reason != ledger.Accepted {
		m.frames.Reject(reason)
		if len(m.batch.Messages) == 1 && !m.both() {
			m.broken(&m.batch.Messages[0])
		}
		return
	}
	if len(m.batch.Messages) > 0 {
		m.eventTs = m.batch.Messages[0].TsEvent
	}
	outcome := ledger.Control
	for i := range m.batch.Messages {
		// Applied outranks the rest: the frame has made rows.
		if o := m.message(in, &m.batch.Messages[i]); outcome != ledger.Applied && o != ledger.Control {
			outcome = o
		}
	}
	m.frames.Add(outcome, 1)
}

// broken: an unreadable message of a known instrument is a hole in its stream. Say
// so now, with the right cause, and not at the next message. (Quotes have no proof
// that could be lost.) Where there are two lines the other may have a better copy, and
// the ids tell.
func (m *Machine) broken(msg *venues.Message) {
	if msg.Inst < 0 {
		return
	}
	inst := &m.insts[msg.Inst]
	switch {
	case msg.Kind == venues.KindDelta && inst.state == bookLive:
		m.resync(inst, event.CauseMalformed)
	case msg.Kind == venues.KindTrade:
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
	switch msg.Kind {
	case venues.KindDelta:
		return m.delta(in, msg)
	case venues.KindTrade:
		return m.trade(in, msg)
	case venues.KindQuote:
		return m.quote(&m.insts[msg.Inst], msg)
	case venues.KindAck:
		m.ack(in.Line)
	case venues.KindRefused:
		m.note("%s refused command %d: %s", m.rules.Name, msg.ID, msg.Text)
	case venues.KindNotice:
		m.act(Action{Kind: ActionReconnect, Line: in.Line, Text: string(msg.Text)})
	}
	return ledger.Control
}

// ack: once every command is answered the streams are on, so a trade that has
// not come yet is not missed for want of a subscription; it is unproven.
func (m *Machine) ack(number uint8) {
	l := &m.lines[number]
	if l.acksOwed == 0 {
		return
	}
	l.acksOwed--
	if l.acksOwed > 0 {
		return
	}
	l.acked = m.now
	for i := range m.insts {
		inst := &m.insts[i]
		iv := &inst.streams[event.StreamTrades]
		if inst.lastTrade == event.Null && iv.state == event.StateGap && m.now > iv.ts {
			m.openInterval(inst, event.StreamTrades, event.StateUnverified, event.ProofNone, event.CauseSilence, m.now)
			inst.lastTs = max(inst.lastTs, m.now)
		}
	}
}

func (m *Machine) delta(in *event.Input, msg *venues.Message) ledger.Outcome {
	inst := &m.insts[msg.Inst]
	inst.hear(event.StreamBook, in.Line, msg.Seq)
	switch {
	case inst.state == bookSyncing:
		m.bufferFrame(inst, in, msg)
		return ledger.Buffered
	case msg.Seq <= inst.seq:
		if msg.Seq == inst.seq || m.paired {
			return ledger.Duplicate
		}
		return ledger.Stale
	case msg.First > inst.seq+1:
		m.hold(inst, event.StreamBook, in, msg.First)
		return ledger.Buffered
	}
	m.applyDelta(inst, msg)
	return ledger.Applied
}

func (m *Machine) applyDelta(inst *instrument, msg *venues.Message) {
	m.continueBook(inst)
	if inst.keyframeOwed {
		inst.keyframeOwed = false
		m.putKeyframe(inst)
	}
	levels := m.batch.Levels[msg.Lo:msg.Hi]
	for i := range levels {
		inst.book.Set(levels[i].Side, levels[i].Px, levels[i].Qty)
	}
	inst.seq = msg.Seq
	inst.lastMessageTs = m.now
	inst.stats.BookMessages++
	m.putBook(inst, msg, levels, 0)
	m.putTop(inst, msg.TsEvent, false)
}

func (m *Machine) trade(in *event.Input, msg *venues.Message) ledger.Outcome {
	inst := &m.insts[msg.Inst]
	iv := &inst.streams[event.StreamTrades]
	inst.hear(event.StreamTrades, in.Line, msg.TradeNum)
	switch {
	case inst.lastTrade != event.Null && msg.TradeNum <= inst.lastTrade:
		inst.stats.RepeatedTrades++
		return ledger.Duplicate
	case inst.lastTrade == event.Null:
		m.beginStream(inst, event.StreamTrades, event.StateVerified, event.ProofTradeID)
	case msg.TradeNum == inst.lastTrade+1:
		// Whatever cut the stream, no trade was missed: the doubt is lifted.
		if iv.state != event.StateVerified {
			m.relabel(inst, event.StreamTrades, event.StateVerified, event.ProofTradeID, event.CauseNone)
		}
	case msg.TradeNum != m.forced:
		m.hold(inst, event.StreamTrades, in, msg.TradeNum)
		return ledger.Buffered
	default:
		if iv.state == event.StateVerified {
			m.breakStream(inst, event.StreamTrades, event.CauseSequence)
		}
		iv.seqFirst, iv.seqLast = inst.lastTrade+1, msg.TradeNum-1
		m.beginStream(inst, event.StreamTrades, event.StateVerified, event.ProofTradeID)
	}
	inst.lastTrade = msg.TradeNum
	inst.stats.Trades++
	m.putTrade(inst, msg)
	return ledger.Applied
}

func (m *Machine) quote(inst *instrument, msg *venues.Message) ledger.Outcome {
	if m.paired && msg.Seq <= inst.lastQuote {
		return ledger.Duplicate
	}
	inst.lastQuote = msg.Seq
	if inst.streams[event.StreamQuotes].state == event.StateGap {
		m.beginStream(inst, event.StreamQuotes, event.StateUnverified, event.ProofNone)
	}
	inst.stats.Quotes++
	m.putQuote(inst, msg)
	return ledger.Applied
}
