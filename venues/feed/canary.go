package feed

import (
	"fmt"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
)

// A check that fails on one book resyncs it: a message was lost or damaged. A check
// that fails on every book of the feed while none passes it, or on three fresh
// snapshots of one book in a row, tells another story: the venue has changed its
// format, and resyncing would go on for ever. Then the check is given up until the
// next connection; what is recorded goes on as unverified, with the reason beside it.

type check uint8

const (
	checkChain   check = iota // ids follow each other
	checkSum                  // the book has the checksum that the message says
	checkUncross              // no bid stands at or above an ask for longer than a frame
	numChecks
)

const (
	// freshMessages is for how many messages a snapshot is fresh.
	freshMessages = 20
	// streakMax fresh snapshots in a row may not fail.
	streakMax = 3
)

// canary is what one check of one book has shown.
type canary struct {
	Streak int  `json:"streak"` // snapshots in a row that failed while they were fresh
	Failed bool `json:"failed"` // it has failed, and no book of the feed has passed since
	Off    bool `json:"off"`    // given up
}

// fail counts, and says whether that is too much.
func (c *canary) fail(lasted bool) bool {
	if lasted {
		c.Streak = 0
	}
	c.Streak++
	return c.Streak >= streakMax
}

// holds: a message has passed a check, so the check means something.
func (m *Machine) holds(k check) {
	if m.failing[k] == 0 {
		return
	}
	m.failing[k] = 0
	for i := range m.insts {
		m.insts[i].canaries[k].Failed = false
	}
}

// failed: a message has failed a check, and its book resyncs.
func (m *Machine) failed(inst *instrument, k check, cause event.Cause) {
	if m.rules.RestSnapshot { // its ids have no other meaning to change to
		m.resync(inst, cause)
		return
	}
	c := &inst.canaries[k]
	if !c.Failed {
		c.Failed = true
		m.failing[k]++
	}
	tooOften := c.fail(inst.inband.Applied >= freshMessages)
	switch {
	case m.failing[k] == len(m.insts) && len(m.insts) > 1:
		for i := range m.insts {
			m.giveUpCheck(&m.insts[i], k, cause, "every book of the feed")
		}
		m.failing[k] = 0
	case tooOften:
		m.giveUpCheck(inst, k, cause, fmt.Sprintf("%d fresh snapshots in a row", streakMax))
	}
	m.resync(inst, cause)
}

var checkNames = [numChecks]string{"chain of ids", "checksum", "uncrossed book"}

func (m *Machine) giveUpCheck(inst *instrument, k check, cause event.Cause, who string) {
	inst.canaries[k] = canary{Off: true}
	m.distrustBook(inst, cause, fmt.Sprintf("%s failed by %s: no longer checked", checkNames[k], who))
}

// distrustBook: from now on, and until all connections have ended, nothing proves the
// book.
func (m *Machine) distrustBook(inst *instrument, cause event.Cause, why string) {
	m.warn("%s %s: unverified from now on: %s", m.rules.Name, inst.Symbol, why)
	inst.distrust = cause
	if inst.detail = m.depthDetail(); inst.detail != "" {
		inst.detail += "; "
	}
	inst.detail += why
	if inst.state != bookLive {
		return
	}
	iv := &inst.streams[event.StreamBook]
	if iv.messages == 0 {
		m.relabel(inst, event.StreamBook, event.StateUnverified, event.ProofNone, cause)
	} else {
		m.openInterval(inst, event.StreamBook, event.StateUnverified, event.ProofNone, cause, iv.end+1)
		inst.lastTs = max(inst.lastTs, iv.ts)
	}
	iv.detail = inst.detail
}

// trustAgain: a new connection may bring what was there before.
func (m *Machine) trustAgain() {
	m.counter, m.counted, m.failing = canary{}, 0, [numChecks]int{}
	for i := range m.insts {
		inst := &m.insts[i]
		inst.canaries = [numChecks]canary{}
		inst.distrust, inst.detail = event.CauseNone, m.depthDetail()
	}
}

// depthDetail tells readers of the rows to which depth they have to cut the book.
func (m *Machine) depthDetail() string {
	if !m.truncates() {
		return ""
	}
	return fmt.Sprintf("depth=%d", m.cfg.Depth)
}

func (m *Machine) truncates() bool { return m.rules.Truncate && m.cfg.Depth > 0 }

// checkBook cuts the book as the venue does, and checks it after a message. Where that
// fails it says why, the book resyncs and the message makes no rows.
func (m *Machine) checkBook(inst *instrument, msg *venues.Message) ledger.Reason {
	if m.truncates() {
		inst.book.Truncate(m.cfg.Depth)
	}
	if n := levelsOf(inst.book); m.tooMany(n) {
		return m.overfill(inst, n)
	}
	if !m.checksum(inst, msg) {
		inst.stats.BadChecksums++
		m.failed(inst, checkSum, event.CauseChecksum)
		return ledger.Checksum
	}
	if m.crossed(inst) {
		m.failed(inst, checkUncross, event.CauseSequence)
		if iv := &inst.streams[event.StreamBook]; iv.state == event.StateGap {
			iv.detail, iv.changed = "the book stayed crossed: a bid at or above an ask", true
			m.putCoverage(inst, event.StreamBook)
		}
		return ledger.Checksum
	}
	return ledger.Accepted
}

// checksum compares. A book that nothing else proves must have one.
func (m *Machine) checksum(inst *instrument, msg *venues.Message) bool {
	if m.rules.ChecksumTop == 0 || inst.canaries[checkSum].Off {
		return true
	}
	if !msg.HasChecksum {
		return m.rules.Continuity != venues.ChecksumOnly
	}
	if m.checksumOf(inst, inst.book) != msg.Checksum {
		return false
	}
	inst.stats.Checksums++
	m.holds(checkSum)
	return true
}

// checksumOf is the venue's checksum of a book of the instrument.
func (m *Machine) checksumOf(inst *instrument, b *book.Book) uint32 {
	bids := m.sums[0][:b.Top(event.Bid, m.sums[0])]
	asks := m.sums[1][:b.Top(event.Ask, m.sums[1])]
	return m.venue.Checksum(bids, asks, inst.PxScale, inst.QtyScale, m.text)
}

// crossed: Coinbase has no proof of a single book, and a book that stays crossed is
// wrong. (At OKX it is legal in an auction; the others would tell by other means.)
func (m *Machine) crossed(inst *instrument) bool {
	if m.rules.Continuity != venues.ConnCounter || inst.canaries[checkUncross].Off {
		return false
	}
	bid, bids := inst.book.Best(event.Bid)
	ask, asks := inst.book.Best(event.Ask)
	if !bids || !asks || bid.Px < ask.Px {
		inst.inband.CrossedAt = 0
		m.holds(checkUncross)
		return false
	}
	if inst.inband.CrossedAt == 0 {
		inst.inband.CrossedAt = m.pos
	}
	return inst.inband.CrossedAt != m.pos
}
