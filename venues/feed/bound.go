package feed

import (
	"fmt"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
)

// A book has a bound: Rules.LevelsMax levels, both sides together, far more than any book
// of the venue has. A venue that goes on and on with prices that nobody has seen before
// would otherwise take all of the memory, and all of the journal, which holds the book in
// each keyframe. The message that brings a book over the bound is malformed: it makes no
// rows, the book becomes a gap that says how many levels there were, its memory is given
// back, and a new one is asked for after a second, and ever more seldom. Until then no
// snapshot is taken either. A snapshot over the bound is refused before a book is made of
// it.
//
// The count is looked at after each message, and not at each level: between two looks a
// book grows by no more than one message holds (Rules.MessageBytesMax).

// overfullForgetNs is how long a book must have kept within the bound for its past to be
// forgotten.
const overfullForgetNs = 3600e9

// overfull is what is known of a book that has gone over the bound. It outlives the book,
// and the connection.
type overfull struct {
	Times   int   `json:"times"`    // in a row
	Ts      int64 `json:"ts"`       // the last time
	UntilTs int64 `json:"until_ts"` // not before does a new book begin
}

// levelsOf is how many levels a book has.
func levelsOf(b *book.Book) int { return b.Len(event.Bid) + b.Len(event.Ask) }

// tooMany says that a book may not have so many levels.
func (m *Machine) tooMany(levels int) bool { return levels > m.rules.LevelsMax }

// boundDetail says why a book with so many levels was given up.
func (m *Machine) boundDetail(levels int) string {
	return fmt.Sprintf("it came to %d levels, and a book of %s has at most %d", levels, m.rules.Name, m.rules.LevelsMax)
}

// overfill gives up a book that has come to too many levels, or whose snapshot has them.
func (m *Machine) overfill(inst *instrument, levels int) ledger.Reason {
	o, detail := &inst.overfull, m.boundDetail(levels)
	if m.now-o.Ts >= overfullForgetNs {
		o.Times = 0
	}
	*o = overfull{o.Times + 1, m.now, m.now + min(int64(renewWaitNsMin)<<min(o.Times, 9), renewWaitNsMax)}
	m.warn("%s %s: the book is given up: %s; a new one in %d s", m.rules.Name, inst.Symbol, detail, (o.UntilTs-m.now)/1e9)
	inst.stats.OffGrid += inst.book.OffGrid()
	inst.book = book.New(max(1, inst.tick)) // Clear would keep the memory
	m.breakStream(inst, event.StreamBook, event.CauseMalformed)
	m.tellGap(inst, detail)
	m.resync(inst, event.CauseMalformed)
	if inst.state != bookLive { // a standby may have taken its place
		m.fails(inst) // what others ask for comes first
	}
	return ledger.Malformed
}

// overfillStandby gives up a standby, and asks for no other one for some time.
func (m *Machine) overfillStandby(inst *instrument, levels int) {
	s := &inst.standby
	m.warn("%s %s: what the other connection brings is not taken: %s", m.rules.Name, inst.Symbol, m.boundDetail(levels))
	s.book, s.RenewAt = nil, m.now+renewWaitNsMax
	m.dropStandby(inst)
}
