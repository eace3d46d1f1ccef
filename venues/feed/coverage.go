package feed

import "deeptape/hotpath/event"

// interval is the current coverage interval of one stream of one instrument.
// Both ends are inclusive. Invariant: the next interval starts at end+1 or, if it
// starts later, end is raised to the instant before. A stream that has not begun, or
// is not recorded, has ts 0, and end is then where an earlier run left it.
type interval struct {
	state             event.State
	proof             event.Proof
	cause             event.Cause
	ts, end           int64
	seqFirst, seqLast int64
	messages          int64
	detail            string
	changed           bool // since it was last written
}

// openInterval closes the current interval at the instant before ts and starts
// the next one there.
func (m *Machine) openInterval(inst *instrument, s event.Stream, state event.State, proof event.Proof, cause event.Cause, ts int64) {
	iv := &inst.streams[s]
	if iv.ts != 0 {
		iv.end = ts - 1
		iv.changed = true
		m.putCoverage(inst, s)
	}
	*iv = interval{state: state, proof: proof, cause: cause, ts: ts, end: ts, seqFirst: event.Null, seqLast: event.Null, changed: true}
}

// openGap starts a gap at ts. The next row of the instrument comes after it, so
// that a gap is never empty.
func (m *Machine) openGap(inst *instrument, s event.Stream, cause event.Cause, ts int64) {
	m.openInterval(inst, s, event.StateGap, event.ProofNone, cause, ts)
	iv := &inst.streams[s]
	iv.end = max(ts, m.now)
	inst.lastTs = max(inst.lastTs, ts)
	if s == event.StreamBook {
		m.putTopNull(inst, ts)
		inst.stats.Gaps++
		inst.stats.LastGapCause, inst.stats.LastGapTs = cause, ts
	}
	m.putCoverage(inst, s)
}

// relabel judges the current interval anew, from its start on.
func (m *Machine) relabel(inst *instrument, s event.Stream, state event.State, proof event.Proof, cause event.Cause) {
	iv := &inst.streams[s]
	iv.state, iv.proof, iv.cause, iv.changed = state, proof, cause, true
	iv.seqFirst, iv.seqLast, iv.detail = event.Null, event.Null, ""
}

// breakStream ends what was believed of a stream just after its last proven
// instant. What is a gap already stays one, with its first cause.
func (m *Machine) breakStream(inst *instrument, s event.Stream, cause event.Cause) {
	iv := &inst.streams[s]
	switch {
	case iv.state == event.StateGap: // or not recorded
	case iv.messages == 0: // a silence that has proved to be a loss
		m.relabel(inst, s, event.StateGap, event.ProofNone, cause)
		if s == event.StreamBook {
			m.putTopNull(inst, iv.ts)
			inst.stats.Gaps++
			inst.stats.LastGapCause, inst.stats.LastGapTs = cause, iv.ts
		}
		iv.end = max(iv.end, m.now)
		m.putCoverage(inst, s)
	default:
		m.openGap(inst, s, cause, iv.end+1)
	}
}

// beginStream starts an interval at the next row of the instrument.
func (m *Machine) beginStream(inst *instrument, s event.Stream, state event.State, proof event.Proof) {
	m.openInterval(inst, s, state, proof, event.CauseNone, m.nextTs(inst))
}

// beginBook starts an interval of the book with what proves it, or with why nothing does.
func (m *Machine) beginBook(inst *instrument) { m.beginBookAt(inst, m.nextTs(inst)) }

// beginBookAt starts it at an instant, not after the next row's.
func (m *Machine) beginBookAt(inst *instrument, ts int64) {
	m.openInterval(inst, event.StreamBook, event.StateVerified, m.rules.Proof, event.CauseNone, ts)
	inst.lastTs = max(inst.lastTs, ts-1)
	inst.failing, m.begunTs = failing{}, m.now
	iv := &inst.streams[event.StreamBook]
	iv.detail = inst.detail
	if inst.distrust != event.CauseNone {
		iv.state, iv.proof, iv.cause = event.StateUnverified, event.ProofNone, inst.distrust
	}
}

// nextTs is the ts that the next row of the instrument will have.
func (m *Machine) nextTs(inst *instrument) int64 { return max(m.frameTs, inst.lastTs+1) }

// takeTs gives n consecutive instants to the rows of one message and returns the first.
func (m *Machine) takeTs(inst *instrument, n int) int64 {
	ts := m.nextTs(inst)
	inst.lastTs = ts + int64(n) - 1
	return ts
}

// counted notes a message of the stream whose last row is at end.
func (inst *instrument) counted(s event.Stream, end, seq int64) {
	iv := &inst.streams[s]
	iv.end, iv.changed = end, true
	iv.messages++
	if seq != event.Null {
		if iv.seqFirst == event.Null {
			iv.seqFirst = seq
		}
		iv.seqLast = seq
	}
}

// tellGap says in a book's gap why it lasts.
func (m *Machine) tellGap(inst *instrument, detail string) {
	if iv := &inst.streams[event.StreamBook]; iv.state == event.StateGap && iv.detail != detail {
		iv.detail, iv.changed = detail, true
	}
}

// extendGap lets a gap, or an unverified silence, reach up to now.
func (m *Machine) extendGap(inst *instrument, s event.Stream) {
	iv := &inst.streams[s]
	if iv.ts != 0 && (iv.state == event.StateGap || iv.state == event.StateUnverified && iv.messages == 0) {
		if m.now > iv.end {
			iv.end, iv.changed = m.now, true
		}
	}
}

// tickSilence notices a live book that has said nothing for too long. The next
// message that continues the chain proves that nothing was missed and lifts the
// doubt; until then a probe asks the venue whether its book has moved on.
func (m *Machine) tickSilence(inst *instrument) {
	iv := &inst.streams[event.StreamBook]
	if inst.state != bookLive || m.rules.SilenceNs == 0 || m.now-inst.lastMessageTs < m.rules.SilenceNs {
		return
	}
	if iv.state == event.StateVerified {
		m.openInterval(inst, event.StreamBook, event.StateUnverified, event.ProofNone, event.CauseSilence, iv.end+1)
		inst.streams[event.StreamBook].end = max(m.now, iv.ts)
		inst.lastTs = max(inst.lastTs, iv.ts)
		inst.probe = probe{}
		m.note("%s %s: no book message for %d s", m.rules.Name, inst.Symbol, (m.now-inst.lastMessageTs)/1e9)
	}
	if m.rules.RestSnapshot {
		m.tickProbe(inst)
	} else {
		m.tickLongSilence(inst)
	}
}

// continueBook: a message has continued the chain, so a silence before it was
// only that.
func (m *Machine) continueBook(inst *instrument) {
	iv := &inst.streams[event.StreamBook]
	if iv.state == event.StateUnverified && iv.cause == event.CauseSilence {
		m.relabel(inst, event.StreamBook, event.StateVerified, m.rules.Proof, event.CauseNone)
		iv.detail = inst.detail
		inst.probe = probe{}
	}
}
