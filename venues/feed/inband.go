package feed

import (
	"slices"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
)

// Where the snapshot comes in the stream, a book starts with it: deltas before it are
// of no use and make no rows. It is asked for by subscribing: on a new connection, once
// for each loss, and again where it does not come. A venue that is asked too often
// answers no more, so each time that does not last makes the next wait longer.
//
// A snapshot may also come unasked, at any time, and replaces the book. Whether
// something is missing before it its ids say; if they do not, it is a gap
// (venue_reset).

const (
	renewWaitNsMin = 1e9
	renewWaitNsMax = 300e9

	snapshotPatienceNs = 10e9 // where the venue's rules do not say
	longSilenceNs      = 60e9 // at least so long a silent book is left alone
)

// inband is what a book in the stream needs beside its ids.
type inband struct {
	Applied   int            `json:"applied"`  // messages since the last snapshot, that included
	Unlucky   int            `json:"unlucky"`  // resyncs in a row that did not last for freshMessages
	Attempts  int            `json:"attempts"` // subscriptions since there was a book
	RenewAt   int64          `json:"renew_at"` // when to subscribe again, if syncing
	Expected  int            `json:"expected"` // snapshots that are still to come, asked for
	Joined    [numLines]bool `json:"joined"`
	CrossedAt uint64         `json:"crossed_at"` // input since which the book is crossed, 0 if it is not
	// The last time that ids went back: from which one, when, and which line brought it.
	ResetFrom int64  `json:"reset_from"`
	ResetTs   int64  `json:"reset_ts"`
	ResetLine uint8  `json:"reset_line"`
	Refused   string `json:"refused,omitempty"`
}

// joined says that a line has brought a snapshot since it was last subscribed: its
// deltas belong to the book that there is.
func (inst *instrument) joined(number uint8) bool {
	return number >= numLines || inst.inband.Joined[number]
}

// carried says that some other line than this carries the book.
func (m *Machine) carried(inst *instrument, number uint8) bool {
	for i := range m.lines {
		if uint8(i) != number && m.lines[i].up && inst.inband.Joined[i] {
			return true
		}
	}
	return false
}

func (m *Machine) patienceNs() int64 {
	if m.rules.SnapshotPatienceNs > 0 {
		return m.rules.SnapshotPatienceNs
	}
	return snapshotPatienceNs
}

// renew asks for a new snapshot of a book that has been given up: at once, unless the
// last ones did not last.
func (m *Machine) renew(inst *instrument) {
	if m.rules.RestSnapshot {
		return
	}
	b := &inst.inband
	if b.Applied >= freshMessages {
		b.Unlucky = 0
	}
	b.Unlucky++
	if inst.overfull.UntilTs > m.now {
		b.RenewAt = inst.overfull.UntilTs
		return
	}
	if b.Unlucky == 1 {
		m.resubscribe(inst)
		return
	}
	b.RenewAt = m.now + min(int64(renewWaitNsMin)<<min(b.Unlucky-2, 9), renewWaitNsMax)
}

// resubscribe ends the subscription of a book and makes a new one, on every line that
// the book is taken from.
func (m *Machine) resubscribe(inst *instrument) {
	b := &inst.inband
	if m.unsent(inst) != 0 { // the last one has not gone out, and will do as well
		b.RenewAt = m.now + m.patienceNs()
		return
	}
	b.RenewAt = m.now + m.renewWaitNs(b.Attempts)
	b.Attempts++
	b.Expected++
	inst.stats.Resubscribed++
	commands := m.venue.Resubscribe(inst.Instrument, m.subscription(), m.commandID+1)
	for _, c := range commands {
		m.commandID = max(m.commandID, c.ID)
	}
	for number := range m.lines {
		if !m.lines[number].up || !m.leads(inst, uint8(number)) {
			continue
		}
		b.Joined[number] = false
		for _, c := range commands {
			m.send(uint8(number), c, int(inst.dir-m.cfg.Base), false)
		}
	}
}

// snapshot takes one that came in the stream.
func (m *Machine) snapshot(in *event.Input, msg *venues.Message) ledger.Outcome {
	inst := &m.insts[msg.Inst]
	b := &inst.inband
	inst.hear(event.StreamBook, in.Line, max(msg.Seq, 0))
	live := inst.state == bookLive
	if in.Line < numLines {
		had := b.Joined[in.Line]
		b.Joined[in.Line] = true
		if !m.leads(inst, in.Line) {
			m.standbySnapshot(inst, msg)
			return ledger.Duplicate
		}
		if live && !had && m.carried(inst, in.Line) && !m.standing {
			return ledger.Duplicate // its deltas follow on, or will
		}
	}
	if !live && m.now < inst.overfull.UntilTs {
		return m.reject(ledger.OutOfSync)
	}
	if n := msg.Hi - msg.Lo; m.tooMany(n) {
		return m.reject(m.overfill(inst, n))
	}
	if live && inst.probe.asked != 0 { // for comparing
		m.collect(inst)
	}
	m.load(inst, msg)
	b.Applied, b.CrossedAt = 0, 0
	if reason := m.checkBook(inst, msg); reason != ledger.Accepted {
		return m.reject(reason)
	}
	m.beginFrom(inst, msg, live, in.Line)
	b.Applied, b.Attempts = 1, 0
	if !m.outOfTurn { // or it may be one that has come before
		b.Expected = max(0, b.Expected-1)
	}
	return ledger.Applied
}

// beginFrom makes a loaded snapshot the book.
func (m *Machine) beginFrom(inst *instrument, msg *venues.Message, live bool, line uint8) {
	iv := &inst.streams[event.StreamBook]
	silent := iv.state == event.StateUnverified && iv.cause == event.CauseSilence
	waitNs := inst.probe.waitNs
	switch {
	case !live:
		m.beginBook(inst)
	case m.continues(inst, msg):
		m.continueBook(inst)
	case silent && inst.probe.asked != 0 && m.unchanged(inst):
		// Nothing has happened, as far as one can see. The silence stays unproven.
		m.beginBook(inst)
	default:
		cause := event.CauseVenueReset
		if silent {
			cause = event.CauseSilence
		}
		m.warn("%s %s: gap (%s) after id %d; the venue has sent another book", m.rules.Name, inst.Symbol, cause, inst.seq)
		m.breakStream(inst, event.StreamBook, cause)
		m.beginBook(inst)
		m.dropHeldOf(inst, event.StreamBook)
		// The lines may stand on either side of a restart: what the others bring before
		// their own snapshot belongs to the book that was.
		inst.unheard(event.StreamBook)
		inst.lastQuote = event.Null
		inst.inband.Joined = [numLines]bool{}
		if line < numLines {
			inst.inband.Joined[line] = true
			inst.hear(event.StreamBook, line, max(msg.Seq, 0))
		}
	}
	switch m.rules.Continuity {
	case venues.ConnCounter:
		if msg.Seq == event.Null {
			msg.Seq = m.batch.ConnSeq
		}
	case venues.ChecksumOnly:
		msg.Seq = 0
	}
	inst.seq, inst.state, inst.sum = msg.Seq, bookLive, 0
	inst.probe = probe{waitNs: waitNs}
	m.putSnapshot(inst, msg)
}

// collect keeps the book in m.scratch, bids first, and returns how many those are.
func (m *Machine) collect(inst *instrument) (bids int) {
	m.scratch = inst.book.AppendLevels(m.scratch[:0], event.Bid)
	bids = len(m.scratch)
	m.scratch = inst.book.AppendLevels(m.scratch, event.Ask)
	return bids
}

// unchanged compares the book with what was collected.
func (m *Machine) unchanged(inst *instrument) bool {
	var now []book.Level // rare
	now = inst.book.AppendLevels(now, event.Bid)
	return slices.Equal(inst.book.AppendLevels(now, event.Ask), m.scratch)
}

// tickInband asks again for a snapshot that does not come.
func (m *Machine) tickInband(inst *instrument) {
	since := m.unsent(inst)
	if since != 0 {
		m.tellUnsent(inst, since)
	}
	if m.now < inst.inband.RenewAt || since != 0 {
		return
	}
	if inst.inband.Attempts > 0 || inst.inband.Unlucky == 0 {
		m.fails(inst)
		m.warn("%s %s: no snapshot came; subscribing again", m.rules.Name, inst.Symbol)
	}
	m.resubscribe(inst)
}

// tickLongSilence asks for a snapshot of a book that has been silent for long, once,
// and longer after each one that only repeats it. Where none comes the subscription
// is dead.
func (m *Machine) tickLongSilence(inst *instrument) {
	p := &inst.probe
	switch {
	case p.asked != 0 && m.unsent(inst) != 0:
		p.asked = m.now // nothing can have come
	case p.asked != 0 && m.now-p.asked >= m.patienceNs():
		m.resync(inst, event.CauseSilence)
	case p.asked == 0 && m.now-inst.lastMessageTs >= max(longSilenceNs, 4*m.rules.SilenceNs, p.waitNs):
		p.asked = m.now
		p.waitNs = min(max(2*p.waitNs, probeWaitNsMin), probeWaitNsMax)
		m.resubscribe(inst)
	}
}

// handOver makes another line the leader, after the leader has ended.
func (m *Machine) handOver(to uint8) {
	m.leader, m.counter.Streak, m.counted = to, 0, 0
	for i := range m.insts {
		inst := &m.insts[i]
		if !m.rules.TradesCount {
			m.breakStream(inst, event.StreamTrades, event.CauseDisconnect)
			if m.lines[to].acksOwed == 0 {
				m.awaitTrades(to, i)
			}
		}
		if !m.single() || m.standbys() {
			continue
		}
		inst.leader = to
		m.dropBook(inst, event.CauseDisconnect)
		m.startSync(inst)
		inst.inband.Expected = 0
		if inst.heard[event.StreamBook][to] == event.Null {
			inst.inband.Expected = 1 // what the connection's own subscription will bring
		}
		m.resubscribe(inst)
	}
}
