package feed

import (
	"deeptape/hotpath/event"
	"deeptape/venues"
)

// The gap detector: what the ids of a message, or of a frame, say about what was
// before it. It is the only place that knows one continuity from another.

type verdict uint8

const (
	follows verdict = iota // on the last applied message
	known                  // older than the book, or there already
	jumps                  // over ids that another line may still bring
	strange                // no line will bring what is missing
)

// judge holds a delta of a live book against the book's last id.
func (m *Machine) judge(inst *instrument, line uint8, msg *venues.Message) verdict {
	// An id that goes back is no repetition unless some other line, or a frame that
	// has waited, explains it: a connection keeps its order, so it would be a venue
	// that has begun anew.
	late := m.both() || m.only.inst >= 0
	switch m.rules.Continuity {
	case venues.RangeChain:
		switch {
		case msg.Seq <= inst.seq:
			return known
		case msg.First > inst.seq+1+planted:
			return jumps
		}
	case venues.PrevLink:
		// The id may stay (a keepalive, which has no levels) or go back (a reset): what
		// counts is the link.
		switch {
		case inst.canaries[checkChain].Off:
		case msg.SeqPrev == inst.seq && (msg.Seq != msg.SeqPrev || msg.Lo == msg.Hi):
		case msg.Seq == inst.seq && msg.SeqPrev != msg.Seq, msg.Seq < inst.seq && late:
			return known
		case inst.beforeReset(line, msg, m.now):
			return known
		case msg.SeqPrev > inst.seq:
			return jumps
		default:
			return strange
		}
	case venues.UpdateID:
		switch {
		case inst.canaries[checkChain].Off || msg.Seq == inst.seq+1:
		case msg.Seq == inst.seq, msg.Seq < inst.seq && late:
			return known
		case msg.Seq > inst.seq:
			return jumps
		default:
			return strange
		}
	case venues.ConnCounter: // the frame has been judged
		if msg.Seq == event.Null {
			msg.Seq = m.batch.ConnSeq
		}
	case venues.ChecksumOnly: // the book will be
		msg.Seq = inst.seq + 1
	}
	return follows
}

// beforeReset says that a message is a copy from before the ids went back, or of that: its
// line has not got there yet. After holdNs it would have, and what jumps is a jump.
func (inst *instrument) beforeReset(line uint8, msg *venues.Message, now int64) bool {
	b := &inst.inband
	return b.ResetTs != 0 && line != b.ResetLine && now-b.ResetTs < holdNs && msg.SeqPrev <= b.ResetFrom && msg.Seq <= b.ResetFrom
}

// firstID is the first id that a message brings, so that it follows on the one before.
func (m *Machine) firstID(msg *venues.Message) int64 {
	switch m.rules.Continuity {
	case venues.PrevLink:
		return msg.SeqPrev + 1
	case venues.UpdateID:
		return msg.Seq
	}
	return msg.First
}

// continues says whether a snapshot in the stream, of a live book, leaves no doubt
// that nothing was missed before it.
func (m *Machine) continues(inst *instrument, msg *venues.Message) bool {
	switch m.rules.Continuity {
	case venues.PrevLink:
		return msg.Seq == inst.seq
	case venues.UpdateID:
		return msg.Seq == inst.seq || msg.Seq == inst.seq+1
	case venues.ConnCounter:
		// The connection has lost nothing. But between the two commands of a
		// resubscription the venue sends nothing of the book.
		return inst.inband.Expected == 0 && !m.counter.Off
	}
	return false
}

// single says that the books of this venue are taken from one line only, the leader:
// their messages have no ids that could join two lines.
func (m *Machine) single() bool {
	return m.rules.Continuity == venues.ConnCounter || m.rules.Continuity == venues.ChecksumOnly
}

// lateMax is how many numbers back a frame is late, or came twice. Further back, or at 0,
// the venue has begun to count anew.
const lateMax = 16

// count holds a frame's number against the last one of its connection, whatever the
// frame is. All books of the connection are in doubt if one is missing.
func (m *Machine) count(number uint8) {
	m.outOfTurn = false
	if m.rules.Continuity != venues.ConnCounter || m.only.inst >= 0 || m.batch.ConnSeq == event.Null {
		return
	}
	l := &m.lines[number]
	next := l.next
	l.next = m.batch.ConnSeq + 1
	if late := next - m.batch.ConnSeq; next != event.Null && m.batch.ConnSeq > 0 && late > 0 && late <= lateMax {
		l.next = next // what follows a frame that came late follows those before it, too
	}
	if next == event.Null || next == m.batch.ConnSeq {
		if number == m.leader && !m.counter.Off {
			m.counted++
		}
		return
	}
	m.dropStandbys(number)
	if m.counter.Off || !m.leadsAny(number) {
		return
	}
	m.outOfTurn = true
	m.warn("%s: frame %d of the connection where %d was due", m.rules.Name, m.batch.ConnSeq, next)
	if m.counter.fail(m.counted >= freshMessages) {
		m.counter.Off = true
		for i := range m.insts {
			m.distrustBook(&m.insts[i], event.CauseSequence, "the numbers of the connection's frames do not follow each other: they are no longer checked")
		}
	}
	m.counted = 0
	m.suspect(number, event.CauseSequence)
}

// suspect doubts every book that a line leads, and every standby that it brings.
func (m *Machine) suspect(line uint8, cause event.Cause) {
	m.dropStandbys(line)
	for i := range m.insts {
		if inst := &m.insts[i]; inst.state == bookLive && m.leads(inst, line) {
			m.resync(inst, cause)
		}
	}
}
