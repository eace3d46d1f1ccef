// Package lane joins the owner of one feed to the two that come after it: the
// journal writer, which takes its inputs, and the deliverer, which takes its rows.
//
//	owner ──inputs ring──► journal writer ──written──┐
//	  └─────row ring─────► deliverer ◄───────────────┘
//
// A full row ring loses nothing: rows that find no room are deferred, the owner
// goes on, and the deliverer derives them from the journal later. Only positions
// and one wish travel backwards.
//
// A lane must never block its owner and never drop a row: every row of an input
// is either in the ring, or its input lies in an episode [deferred_from, live_from).
//
// How an episode goes. The owner finds no room for a row of the input D, publishes
// deferred_from = D, and puts nothing into the ring from then on. The deliverer
// empties the ring, sees D, and derives from D on out of the journal. At the
// journal's end it wishes the episode D to end. The owner, beginning its next
// input L, finds the wish, publishes live_from = L, and uses the ring again. The
// deliverer derives up to L and goes back to the ring.
//
// Three races that shaped this. The journal may hold an input that the owner has
// not begun, so that nobody knows yet whether its rows will be in the ring: Turn
// says so, and the deliverer waits. The wish names its episode: one that comes
// late, when the owner has gone live already, must not end the next episode
// before the deliverer has entered it. And the next episode may begin in the very
// input in which the last one ended, D' = L: live_from = deferred_from means
// deferring.
//
// Invariants: positions count a feed's inputs, from 1, and only grow.
// deferred_from < live_from <= next deferred_from < ...: an episode ends only
// after the deliverer, having entered it, has asked for that. A row in the ring
// belongs to no input of an episode, except rows of the input deferred_from itself
// that found room before the first that did not. A row that Peek shows is in the
// journal file, and its owner has done with its input: whatever the owner counts
// about it has been published.
package lane

import (
	"sync/atomic"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/hotpath/ring"
)

// Options are the sizes of a lane's rings, in bytes; powers of two.
type Options struct {
	InputBytes, RowBytes           int
	InputOwnedBytes, RowOwnedBytes int // caps on records too large for a ring
}

// Lane of one feed.
type Lane struct {
	Feed   uint16
	Inputs *ring.Ring
	rows   *ring.Ring

	Frames ledger.Frames
	Rows   ledger.Rows

	// Read to published: written by the owner. Published to journalled: by the
	// journal writer. Journalled to acknowledged: by the deliverer. Venue to read,
	// signed: by the owner, and so is venue to published, since two histograms do not
	// add up to the quantiles of a third.
	ReadPublished, PublishedJournalled, JournalledAcked, VenueRead, VenuePublished ledger.Histogram

	// Owner side.
	pos       uint64
	deferring bool
	from      uint64 // what deferredFrom holds

	_ [128]byte

	derived      atomic.Uint64 // owner: rows of inputs up to here are in the ring or deferred
	deferredFrom atomic.Uint64 // owner: 0 until the first deferral
	liveFrom     atomic.Uint64 // owner: 0, or where the last episode that is over ended

	_ [128]byte

	written   atomic.Uint64 // journal writer: inputs up to here are in the file
	keyframes atomic.Uint64 // journal writer: how many keyframes it has asked for

	_ [128]byte

	acked    atomic.Uint64 // deliverer: rows of inputs up to here are in QuestDB
	wantLive atomic.Uint64 // deliverer: deferred_from of the episode that it wants to end

	// Deliverer side.
	visible      uint64 // inputs up to here were written and derived when last looked
	taken        uint64 // position of the last record taken from the ring
	takenRecords int    // how many records of it
	episode      uint64 // deferred_from of the last episode that has been entered
}

// New makes a lane. journalBell wakes the journal writer, deliverBell the deliverer.
func New(feed uint16, opt Options, journalBell, deliverBell *ring.Doorbell) *Lane {
	l := &Lane{Feed: feed, Inputs: ring.New(opt.InputBytes, journalBell), rows: ring.New(opt.RowBytes, deliverBell)}
	l.Inputs.SetOwnedCap(opt.InputOwnedBytes)
	l.rows.SetOwnedCap(opt.RowOwnedBytes)
	return l
}

// StartAt sets the position before the first input of this process. Before use only.
func (l *Lane) StartAt(pos uint64) {
	l.derived.Store(pos)
	l.written.Store(pos)
	l.acked.Store(pos)
}

// Begin starts the rows of the input at pos. Owner only.
func (l *Lane) Begin(pos uint64) {
	l.pos = pos
	if l.deferring && l.wantLive.Load() == l.from {
		l.deferring = false
		l.liveFrom.Store(pos)
	}
}

// Claim gives room for a row record, or nil if it is deferred. Owner only.
func (l *Lane) Claim(n int) []byte {
	if l.deferring {
		return nil
	}
	b, outcome := l.rows.Claim(n)
	switch outcome {
	case ring.OK:
		return b
	case ring.TooLarge: // a snapshot or a keyframe; never a delta
		if b = make([]byte, n); l.rows.ClaimOwned(b) == ring.OK {
			return b
		}
	}
	l.deferring, l.from = true, l.pos
	l.deferredFrom.Store(l.from)
	return nil
}

// Commit publishes the record that was claimed. Owner only.
func (l *Lane) Commit() { l.rows.Commit() }

// End publishes that all rows of the inputs up to the last Begin's are on their way. What
// the owner counts must be published before. Owner only.
func (l *Lane) End() { l.derived.Store(l.pos) }

// Close says that no input follows. Owner only.
func (l *Lane) Close() {
	l.Inputs.Close()
	l.rows.Close()
}

// SetWritten publishes that the inputs up to pos are in the journal file.
// Journal writer only.
func (l *Lane) SetWritten(pos uint64) { l.written.Store(pos) }

// SetAcked publishes that the rows of the inputs up to pos are in QuestDB.
// Deliverer only.
func (l *Lane) SetAcked(pos uint64) { l.acked.Store(pos) }

// Derived is the input up to which all rows are in the ring or deferred. Any goroutine.
func (l *Lane) Derived() uint64 { return l.derived.Load() }

// Written is the input up to which the journal file has everything. Any goroutine.
func (l *Lane) Written() uint64 { return l.written.Load() }

// Acked is the input up to which QuestDB has all rows. Any goroutine.
func (l *Lane) Acked() uint64 { return l.acked.Load() }

// Deferring says whether an episode of deferral is under way. Any goroutine.
func (l *Lane) Deferring() bool {
	live := l.liveFrom.Load() // first: it never passes a deferredFrom that is read later and not over
	from := l.deferredFrom.Load()
	return from != 0 && from >= live
}

// RowBytes is what lies in the row ring, RowHighWaterBytes the most so far.
func (l *Lane) RowBytes() int          { return l.rows.UsedBytes() + l.rows.OwnedBytes() }
func (l *Lane) RowHighWaterBytes() int { return l.rows.HighWaterBytes() }

// Peek returns the next row record whose input is in the journal file and done with
// by its owner, or nil. Borrowed until Release. Deliverer only.
func (l *Lane) Peek() []byte {
	b := l.rows.Peek()
	if b == nil {
		return nil
	}
	if pos := event.RecordPos(b); pos > l.visible {
		if l.visible = min(l.written.Load(), l.derived.Load()); pos > l.visible {
			return nil
		}
	}
	return b
}

// NextTsRecv is the receive time of the next row record in the ring, whether Peek shows
// it yet or not; no later one was received before it. Deliverer only.
func (l *Lane) NextTsRecv() (ns int64, ok bool) {
	b := l.rows.Peek()
	if b == nil {
		return 0, false
	}
	return event.RecordTsRecv(b), true
}

// Release gives up the record that was peeked at. Deliverer only.
func (l *Lane) Release() {
	pos := event.RecordPos(l.rows.Peek())
	if pos != l.taken {
		l.taken, l.takenRecords = pos, 0
	}
	l.takenRecords++
	l.rows.Release()
}

// Episode tells the deliverer, once the ring is empty, whether it must catch up:
// from the input at from on, without its first skip records, which it has had.
// Until the episode is over (see Turn, CaughtUp) it leaves the ring alone. The
// answer is given once an episode. Deliverer only.
func (l *Lane) Episode() (from uint64, skip int, ok bool) {
	from = l.deferredFrom.Load()
	if from == l.episode || l.rows.Peek() != nil {
		return 0, 0, false
	}
	l.episode = from
	if l.taken == from {
		skip = l.takenRecords
	}
	return from, skip, true
}

// Turn says where the rows of an input are, in an episode.
type Turn uint8

const (
	NotYet   Turn = iota // the owner has not done with this input: ask again
	Deferred             // they are to be derived
	Live                 // in the ring, like those of all later inputs: the episode is over
)

// Turn tells where the rows of the input at pos are, whose first record has come
// out of the journal in this episode. Deliverer only.
func (l *Lane) Turn(pos uint64) Turn {
	// First: an owner that has done with pos has published before whether it went
	// live there.
	if pos > l.derived.Load() {
		return NotYet
	}
	if live := l.liveFrom.Load(); live > l.episode && pos >= live {
		return Live
	}
	return Deferred
}

// CaughtUp is asked when the journal holds no more for now and all rows of the
// inputs up to pos have been derived. True: the episode is over, the rest is in the
// ring. False: the owner has been asked to go live, and the journal will hold more.
// Deliverer only.
func (l *Lane) CaughtUp(pos uint64) bool {
	closed := l.rows.Closed() // first: from then on nothing below changes
	if live := l.liveFrom.Load(); live > l.episode {
		return pos+1 >= live
	}
	if closed && pos >= l.derived.Load() {
		return true
	}
	l.wantLive.Store(l.episode)
	return false
}

// Empty says that the row ring holds nothing, written or not. Deliverer only.
func (l *Lane) Empty() bool { return l.rows.Peek() == nil }

// Closed says that no row will be added. Ask it before Empty. Any goroutine.
func (l *Lane) Closed() bool { return l.rows.Closed() }

// Room says that a record of n bytes would find room: for an owner that may wait.
// Owner only.
func (l *Lane) Room(n int) bool {
	return l.rows.UsedBytes()+2*n+64 <= l.rows.Capacity() && l.rows.OwnedBytes() == 0 || l.rows.UsedBytes()+l.rows.OwnedBytes() == 0
}

// AskKeyframe asks the owner for a keyframe at its next frame boundary: a new
// segment has begun. Journal writer only.
func (l *Lane) AskKeyframe() { l.keyframes.Add(1) }

// KeyframesAsked counts the keyframes asked for. Any goroutine.
func (l *Lane) KeyframesAsked() uint64 { return l.keyframes.Load() }
