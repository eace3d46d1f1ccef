package feed

import (
	"math"

	"deeptape/venues"
)

// All instruments of a venue share its limits: of requests, of commands, of connects.
// Where somebody has to wait, Action.Rank says who goes first: the lower rank, and of
// equals who asked first. What was there and is missed comes before what is new, both
// before an audit, and last comes what is asked for in vain: of those, who has failed
// longest comes last. So a symbol that its venue no longer knows costs its neighbours
// nothing, however often it is asked for.
//
// An instrument that fails alone, while others of its feed get what they ask for, or whose
// refusal is final, takes only what leaves half of a limit free (Action.Spare). One whose
// venue answers nobody is not to blame, and begins at once when the others do.

const (
	RankLive   int64 = iota // it was recorded in this run
	RankNew                 // it has not been asked for in vain
	RankSecond              // a second connection of a feed that is up, and what it subscribes
	rankAudit               // and its tries
)

// rankFailedMin parts the ranks of what fails from all others.
const rankFailedMin = 1 << 32

// RankFailed is the rank of what has been asked for in vain since an instant, ns.
func RankFailed(sinceNs int64) int64 { return max(math.MaxInt64-max(sinceNs, 0), rankFailedMin) }

// Failed says whether a rank is one of what is asked for in vain.
func Failed(rank int64) bool { return rank >= rankFailedMin }

const (
	// A snapshot that is refused for good is asked for after five minutes, and each time
	// later, up to an hour.
	finalDelayNsMin = 300e9
	finalDelayNsMax = 3600e9

	// One that fails alone is asked for after a sixth of the time that it has failed for,
	// at most every five minutes.
	ownDelayPart  = 6
	ownDelayNsMax = 300e9
)

// failing is what is known of an instrument that is asked for in vain. It outlives the
// connection, and ends with the next book, or where a live one is given up.
type failing struct {
	SinceTs int64 `json:"since_ts"` // 0: it does not fail
	Finals  int   `json:"finals"`   // snapshots refused for good, in a row
	NextTs  int64 `json:"next_ts"`  // not before is a snapshot asked for, 0 for any time
}

// fails notes that the book of an instrument was asked for in vain.
func (m *Machine) fails(inst *instrument) {
	if inst.failing.SinceTs == 0 {
		inst.failing.SinceTs = m.now
	}
}

// alone says that an instrument fails while others of its feed do not.
func (m *Machine) alone(inst *instrument) bool {
	f := &inst.failing
	return f.Finals > 0 || f.SinceTs != 0 && m.begunTs > f.SinceTs
}

func (inst *instrument) rank() int64 {
	switch {
	case inst.failing.SinceTs != 0:
		return RankFailed(inst.failing.SinceTs)
	case inst.lastMessageTs != 0:
		return RankLive
	}
	return RankNew
}

// rankOf a command that subscribes to some streams of an instrument on a line, -1 for
// several instruments.
func (m *Machine) rankOf(number uint8, i int, streams venues.Streams) int64 {
	if i < 0 || i >= len(m.insts) {
		return RankLive
	}
	for _, r := range m.lines[number].refused {
		if r.Inst == i && r.Streams&streams != 0 {
			return RankFailed(r.Since)
		}
	}
	return m.insts[i].rank()
}

// retryDelayNs is how long to wait before the next request for a snapshot, after one that
// brought none.
func (m *Machine) retryDelayNs(inst *instrument) int64 {
	f := &inst.failing
	delayNs := min(int64(retryDelayNsMin)<<min(inst.attempts, 7), retryDelayNsMax)
	switch {
	case f.Finals > 0:
		return min(int64(finalDelayNsMin)<<min(f.Finals-1, 4), finalDelayNsMax)
	case m.alone(inst):
		return max(delayNs, min((m.now-f.SinceTs)/ownDelayPart, ownDelayNsMax))
	}
	return delayNs
}

// snapshotRefused: an answer that holds no snapshot. The venue's words stand in the
// book's gap.
func (m *Machine) snapshotRefused(inst *instrument, status uint16, body []byte) {
	if status == 429 || status == 418 { // it is us who ask too much, whatever for
		return
	}
	m.fails(inst)
	words, final := m.venue.SnapshotRefused(body)
	// A symbol whose diffs come is alive, whatever the other half of the venue says.
	if final && inst.buffered == 0 {
		inst.failing.Finals++
		if inst.state == bookSyncing {
			inst.failing.NextTs = m.now + m.retryDelayNs(inst)
		}
	}
	if words == "" {
		return
	}
	text := printable([]byte(words), refusalBytesMax)
	inst.inband.Refused = text
	m.tellGap(inst, "refused: "+text)
}

// alive: a diff of an instrument that was refused for good. It is asked for at once.
func (m *Machine) alive(inst *instrument) {
	inst.failing = failing{}
	if inst.request != 0 { // the same request, but now
		m.act(Action{Kind: ActionFetch, Inst: int(inst.dir - m.cfg.Base), Request: inst.request, Rank: inst.rank()})
	}
}
