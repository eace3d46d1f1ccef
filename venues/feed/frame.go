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
		// A broken message of a known instrument is a hole in its book: say so
		// now, with the right cause, and not at the next message.
		if len(m.batch.Messages) == 1 && m.batch.Messages[0].Kind == venues.KindDelta {
			inst := &m.insts[m.batch.Messages[0].Inst]
			if inst.state == bookLive {
				m.resync(inst, event.CauseMalformed)
			}
		}
		return
	}
	m.eventTs = event.Null
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

// decode runs a decoder and widens scales until every message fits.
func (m *Machine) decode(read func() ledger.Reason) ledger.Reason {
	for {
		reason := read()
		if reason != ledger.Accepted {
			return reason
		}
		widened := false
		for i := range m.batch.Messages {
			msg := &m.batch.Messages[i]
			if msg.Inst < 0 {
				continue
			}
			inst := &m.insts[msg.Inst]
			if msg.PxScale > inst.PxScale || msg.QtyScale > inst.QtyScale {
				if !m.widen(inst, max(msg.PxScale, inst.PxScale), max(msg.QtyScale, inst.QtyScale)) {
					return ledger.Overflow
				}
				widened = true
			}
		}
		if !widened {
			return ledger.Accepted
		}
	}
}

func (m *Machine) message(in *event.Input, msg *venues.Message) ledger.Outcome {
	switch msg.Kind {
	case venues.KindDelta:
		return m.delta(in, msg)
	case venues.KindTrade:
		return m.trade(&m.insts[msg.Inst], msg)
	case venues.KindQuote:
		return m.quote(&m.insts[msg.Inst], msg)
	case venues.KindAck:
		m.ack()
	case venues.KindRefused:
		m.note("%s refused command %d: %s", m.rules.Name, msg.ID, msg.Text)
	case venues.KindNotice:
		m.act(Action{Kind: ActionReconnect, Text: string(msg.Text)})
	}
	return ledger.Control
}

// ack: once every command is answered the streams are on, so a trade that has
// not come yet is not missed for want of a subscription; it is unproven.
func (m *Machine) ack() {
	if m.acksOwed == 0 {
		return
	}
	m.acksOwed--
	if m.acksOwed > 0 {
		return
	}
	for i := range m.insts {
		inst := &m.insts[i]
		iv := &inst.streams[event.StreamTrades]
		if inst.lastTrade == event.Null && iv.state == event.StateGap && iv.cause == event.CauseStart && m.now > iv.ts {
			m.openInterval(inst, event.StreamTrades, event.StateUnverified, event.ProofNone, event.CauseSilence, m.now)
			inst.lastTs = max(inst.lastTs, m.now)
		}
	}
}

func (m *Machine) delta(in *event.Input, msg *venues.Message) ledger.Outcome {
	inst := &m.insts[msg.Inst]
	switch inst.state {
	case bookSyncing:
		m.bufferFrame(inst, in, msg)
		return ledger.Buffered
	case bookIdle:
		return ledger.Stale
	}
	switch {
	case msg.Seq <= inst.seq:
		if msg.Seq == inst.seq {
			return ledger.Duplicate
		}
		return ledger.Stale
	case msg.First > inst.seq+1:
		m.resync(inst, event.CauseSequence)
		m.bufferFrame(inst, in, msg)
		return ledger.Buffered
	}
	m.applyDelta(inst, msg)
	return ledger.Applied
}

func (m *Machine) applyDelta(inst *instrument, msg *venues.Message) {
	m.continueBook(inst)
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

func (m *Machine) trade(inst *instrument, msg *venues.Message) ledger.Outcome {
	iv := &inst.streams[event.StreamTrades]
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
	if inst.streams[event.StreamQuotes].state == event.StateGap {
		m.beginStream(inst, event.StreamQuotes, event.StateUnverified, event.ProofNone)
	}
	inst.stats.Quotes++
	m.putQuote(inst, msg)
	return ledger.Applied
}
