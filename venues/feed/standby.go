package feed

import (
	"slices"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
	"deeptape/venues"
)

// Books without ids of their own (Coinbase, Kraken) are taken from one line, the one that
// leads them: nothing could join the messages of two lines one by one. While both lines are
// up, the other line's book is built as well, beside the book, from its own snapshot and
// under its own checks: the standby. It makes no rows. It takes the book's place
//
//   - when the two meet: the last message of both lines is the same one (venue's time,
//     levels, checksum), and so is every level of the two books. No message lies between
//     them, so there is no gap; the interval of coverage ends, and the next one begins
//     with the book written whole. Books move to the younger line so, one by one, and a
//     planned reconnect closes the elder once it leads none (Joined);
//   - when the line that leads ends, or its book is given up, before they have met. Then
//     there is a gap from the book's last message to that instant, and the standby is
//     written as a snapshot.
//
// A quiet book meets its standby where no message has come on either line for a second
// after the standby's snapshot: what the venue had sent before that would have come.
//
// A standby that fails a check, or of whose line a frame is missing, is dropped and
// subscribed again, more and more seldom.

// standbySince is the Version that builds standbys. A run of an earlier one dropped such
// books when their line ended, and subscribed each anew.
const standbySince = 7

// compareEveryNs is the least time between two comparisons of a book with its standby that
// find them unequal: below what a checksum covers they may differ for long.
const compareEveryNs = 1e9

var bookOnly = venues.StreamsOf(event.StreamBook)

// standby is the book that the other line brings.
type standby struct {
	Live      bool   `json:"live"`
	Sum       uint64 `json:"sum"`        // of its last message (sumOf); 0 while it stands at its snapshot
	FromTs    int64  `json:"from_ts"`    // stamp of its snapshot
	LastTs    int64  `json:"last_ts"`    // stamp of its last message
	EventTs   int64  `json:"event_ts"`   // the venue's clock in it
	Seq       int64  `json:"seq"`        // its id, as the book would have it
	Applied   int    `json:"applied"`    // messages since the snapshot, that included
	CompareAt int64  `json:"compare_at"` // not before is it compared again
	RenewAt   int64  `json:"renew_at"`   // when to subscribe again, if it is not live
	Tries     int    `json:"tries"`      // subscriptions since it was live

	book *book.Book // nil before the first snapshot
}

// standbys says whether this run builds them.
func (m *Machine) standbys() bool { return m.single() && m.cfg.Version >= standbySince }

// leads says whether a book is taken from a line.
func (m *Machine) leads(inst *instrument, line uint8) bool { return !m.single() || line == inst.leader }

// leadsAny says whether any book is.
func (m *Machine) leadsAny(line uint8) bool {
	for i := range m.insts {
		if m.leads(&m.insts[i], line) {
			return true
		}
	}
	return false
}

// standBy starts, or ends, the building of standbys, after a line has come or gone.
func (m *Machine) standBy() {
	m.standing = m.standbys() && m.both()
	for i := range m.insts {
		inst := &m.insts[i]
		inst.sum = 0
		m.dropStandby(inst)
		if !m.standing {
			inst.standby.book = nil
		}
		// The connection's own subscription brings the first.
		inst.standby.Tries, inst.standby.RenewAt = 0, m.now+3*m.patienceNs()
	}
}

// dropStandby: it is not known to be the venue's book any more.
func (m *Machine) dropStandby(inst *instrument) {
	s := &inst.standby
	if s.book != nil {
		s.book.Clear()
	}
	*s = standby{book: s.book, RenewAt: max(s.RenewAt, m.now), Tries: s.Tries}
}

// dropStandbys drops those of a line.
func (m *Machine) dropStandbys(line uint8) {
	for i := range m.insts {
		if inst := &m.insts[i]; m.standing && inst.leader != line {
			m.dropStandby(inst)
		}
	}
}

// standbySnapshot begins a standby. A book that has none takes it at once.
func (m *Machine) standbySnapshot(inst *instrument, msg *venues.Message) {
	if !m.standing {
		return
	}
	m.dropStandby(inst)
	if n := msg.Hi - msg.Lo; m.tooMany(n) {
		m.overfillStandby(inst, n)
		return
	}
	s := &inst.standby
	if s.book == nil {
		s.book = book.New(max(1, inst.tick))
	}
	s.book.Apply(m.batch.Levels[msg.Lo:msg.Hi])
	if !m.sound(inst, msg) {
		m.dropStandby(inst)
		return
	}
	s.Live, s.FromTs, s.Tries = true, m.now, 0
	m.standbyAt(s, msg)
	if inst.state == bookSyncing && m.usable(inst) {
		m.takeStandby(inst)
	}
}

// standbyDelta changes a standby.
func (m *Machine) standbyDelta(inst *instrument, msg *venues.Message) {
	s := &inst.standby
	if !m.standing || !s.Live {
		return
	}
	s.book.Apply(m.batch.Levels[msg.Lo:msg.Hi])
	if !m.sound(inst, msg) {
		m.dropStandby(inst)
		return
	}
	s.Sum = m.sumOf(msg)
	m.standbyAt(s, msg)
	m.meet(inst)
}

// standbyAt notes where a standby stands after a message.
func (m *Machine) standbyAt(s *standby, msg *venues.Message) {
	s.Applied++
	s.LastTs, s.EventTs = m.now, msg.TsEvent
	if m.rules.Continuity == venues.ConnCounter {
		s.Seq = m.batch.ConnSeq
	}
}

// sound cuts the standby as the venue does, and holds it against the bound and the
// message's checksum.
func (m *Machine) sound(inst *instrument, msg *venues.Message) bool {
	b := inst.standby.book
	if m.truncates() {
		b.Truncate(m.cfg.Depth)
	}
	if n := levelsOf(b); m.tooMany(n) {
		m.overfillStandby(inst, n)
		return false
	}
	if m.rules.ChecksumTop == 0 || inst.canaries[checkSum].Off {
		return true
	}
	return msg.HasChecksum && m.checksumOf(inst, b) == msg.Checksum
}

// usable says that a standby can take over: one that is crossed is wrong where nothing else
// would tell, as the book itself would be.
func (m *Machine) usable(inst *instrument) bool {
	s := &inst.standby
	if !m.standing || !s.Live {
		return false
	}
	bid, bids := s.book.Best(event.Bid)
	ask, asks := s.book.Best(event.Ask)
	return m.rules.Continuity != venues.ConnCounter || !bids || !asks || bid.Px < ask.Px
}

// sumOf is a hash of what a message says: the same on both lines where it is the same
// message. It is never 0.
func (m *Machine) sumOf(msg *venues.Message) uint64 {
	const prime = 1099511628211 // FNV-1a, a word at a time
	h := uint64(14695981039346656037)
	mix := func(v uint64) { h = (h ^ v) * prime; h ^= h >> 29 }
	mix(uint64(msg.TsEvent))
	mix(uint64(msg.Checksum))
	for _, l := range m.batch.Levels[msg.Lo:msg.Hi] {
		mix(uint64(l.Px))
		mix(uint64(l.Qty)<<2 | uint64(l.Side))
	}
	return max(h, 1)
}

// younger says that the line of the standby is: books move there.
func (m *Machine) younger(inst *instrument) bool {
	return m.lines[1-inst.leader].since > m.lines[inst.leader].since
}

// meet hands a book over where its last message and its standby's are the same.
func (m *Machine) meet(inst *instrument) {
	s := &inst.standby
	if s.Live && inst.state == bookLive && s.Sum != 0 && s.Sum == inst.sum && m.younger(inst) && m.now >= s.CompareAt {
		m.handOverBook(inst)
	}
}

// tickStandby hands quiet books over, and subscribes again where there is no standby.
func (m *Machine) tickStandby(inst *instrument) {
	s := &inst.standby
	switch {
	case !m.standing:
	case !s.Live && m.now >= s.RenewAt:
		m.renewStandby(inst)
	case s.Live && inst.state == bookLive && s.Sum == 0 && inst.lastMessageTs < s.FromTs && m.now-s.FromTs >= joinNs && m.younger(inst) && m.now >= s.CompareAt:
		m.handOverBook(inst)
	}
}

// renewStandby subscribes the standby's line anew, unless a command that does is on its way,
// or the venue has refused it, and refused.go asks again.
func (m *Machine) renewStandby(inst *instrument) {
	s, i, l := &inst.standby, int(inst.dir-m.cfg.Base), &m.lines[1-inst.leader]
	s.RenewAt = m.now + max(m.patienceNs(), m.renewWaitNs(s.Tries))
	if l.isRefused(i, bookOnly) || slices.ContainsFunc(l.pending, func(p pending) bool {
		from, to := p.insts(len(m.insts))
		return p.Streams.Has(event.StreamBook) && from <= i && i < to
	}) {
		return
	}
	s.Tries++
	inst.stats.Resubscribed++
	for _, c := range m.venue.Resubscribe(inst.Instrument, m.subscription(), m.commandID+1) {
		m.commandID = max(m.commandID, c.ID)
		m.send(1-inst.leader, c, -1, false)
	}
}

// handOverBook gives a book to the other line without a gap, if its standby is equal to it.
func (m *Machine) handOverBook(inst *instrument) bool {
	s := &inst.standby
	if !m.equals(inst, s.book) {
		s.CompareAt = m.now + compareEveryNs
		return false
	}
	m.takeStandby(inst)
	iv := &inst.streams[event.StreamBook]
	if iv.detail != "" {
		iv.detail += "; "
	}
	iv.detail += "handed over to another connection, which had the same book after the same message"
	return true
}

// equals compares the book with another, level by level.
func (m *Machine) equals(inst *instrument, other *book.Book) bool {
	for side := event.Bid; side <= event.Ask; side++ {
		if inst.book.Len(side) != other.Len(side) {
			return false
		}
	}
	bids := m.collect(inst)
	var theirs []book.Level // rare
	theirs = other.AppendLevels(theirs, event.Bid)
	if len(theirs) != bids {
		return false
	}
	theirs = other.AppendLevels(theirs, event.Ask)
	return equalLevels(theirs, m.scratch)
}

// takeStandby puts the standby in the book's place and writes it whole. Where the book was
// live its interval must have ended, or be allowed to end here.
func (m *Machine) takeStandby(inst *instrument) {
	s := &inst.standby
	inst.stats.OffGrid += inst.book.OffGrid() - s.book.OffGrid()
	inst.book, s.book = s.book, inst.book
	was := *s
	inst.leader = 1 - inst.leader
	if iv := &inst.streams[event.StreamBook]; iv.state == event.StateGap || iv.messages == 0 {
		m.beginBook(inst)
	} else { // it ends with its last row, and the next one begins just after that
		m.beginBookAt(inst, iv.end+1)
	}
	inst.state, inst.seq, inst.sum = bookLive, was.Seq, was.Sum
	inst.lastMessageTs, inst.lastEventTs = was.LastTs, was.EventTs
	inst.probe = probe{waitNs: inst.probe.waitNs}
	inst.keyframeOwed = false
	b := &inst.inband
	b.Applied, b.Attempts, b.Expected, b.CrossedAt = was.Applied, 0, 0, 0
	inst.stats.BookMessages++
	m.putWhole(inst, m.collect(inst), event.FlagSnapshot, was.EventTs)
	m.putTop(inst, was.EventTs, true)
	// The line that led has no standby: its messages were the book's. It may be about to end.
	s.Tries, s.RenewAt = 0, m.now+m.patienceNs()
	m.dropStandby(inst)
}

// inherit gives the books of a line that has ended to the other one.
func (m *Machine) inherit(from uint8) {
	for i := range m.insts {
		inst := &m.insts[i]
		s := &inst.standby
		if inst.leader != from {
			continue
		}
		switch {
		case !m.usable(inst):
			m.dropBook(inst, event.CauseDisconnect)
			inst.leader = 1 - from
			m.startSync(inst)
			inst.inband.Expected = 1
			if inst.heard[event.StreamBook][1-from] != event.Null { // its own subscription brings no more
				inst.inband.Expected = 0
				m.resubscribe(inst)
			}
		case inst.state == bookLive && s.Sum == inst.sum && s.Sum != 0 && m.handOverBook(inst):
		default:
			if inst.state == bookLive {
				m.warn("%s %s: gap (%s) up to what the other connection has brought", m.rules.Name, inst.Symbol, event.CauseDisconnect)
			}
			m.dropBook(inst, event.CauseDisconnect)
			m.takeStandby(inst)
		}
	}
}
