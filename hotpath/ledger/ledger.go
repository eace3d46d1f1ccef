// Package ledger keeps the books of a feed: what became of every frame and of
// every row, in double entry, and how long things took.
//
//	frames: received = applied + stale + duplicate + control + buffered + rejected + lost
//	rows:   derived  = in ring + taken + deferred (until derived again)
//	        taken    = acknowledged + in batches + quarantined
//
// It must never block or allocate on a writer's path, and never be asked to
// forget: a difference is a bug, and is exported as one.
//
// Invariants: each set of counters has one writer, which changes plain numbers
// and publishes them as a whole at a frame boundary; a reader in any goroutine
// sees one whole publication, never parts of two.
package ledger

import (
	"runtime"
	"sync/atomic"
)

// Outcome of a frame, or Received.
type Outcome uint8

const (
	Received  Outcome = iota
	Applied           // it made rows
	Stale             // older than the book
	Duplicate         // seen before
	Control           // acks, heartbeats and the like: no rows by nature
	Buffered          // waits for a snapshot; goes up and down
	Lost              // dropped before the journal
	rejected          // and so on, one for each reason
)

// Reason why a frame was rejected.
type Reason uint8

const (
	Accepted Reason = iota
	Malformed
	Oversized
	UnknownShape
	UnknownSymbol
	Overflow
	OutOfSync // no snapshot joins it
	Checksum  // the book after it is not the one whose checksum it says
	numReasons
)

const numFrames = int(rejected) + int(numReasons) - 1

// Entry describes one counter of Frames: its label and its meaning.
type Entry struct{ Label, Reason, Meaning string }

// Entries of Frames, in the order in which Read gives them.
var Entries = [numFrames]Entry{
	{"received", "", "frames read from the socket"},
	{"applied", "", "frames that made rows"},
	{"stale", "", "frames older than the book"},
	{"duplicate", "", "frames seen before"},
	{"control", "", "acks, heartbeats and the like"},
	{"buffered", "", "frames that wait for a snapshot (a gauge)"},
	{"lost", "", "frames dropped before the journal"},
	{"rejected", "malformed", "frames that do not parse"},
	{"rejected", "oversized", "frames too large to take"},
	{"rejected", "unknown_shape", "frames of a kind that the venue's sheet does not list"},
	{"rejected", "unknown_symbol", "frames of an instrument that was not asked for"},
	{"rejected", "overflow", "numbers that do not fit an exact integer"},
	{"rejected", "out_of_sync", "frames of a book that no snapshot joined"},
	{"rejected", "checksum", "frames whose checksum is not that of the book after them"},
}

var reasonNames = [numReasons]string{"accepted", "malformed", "oversized", "unknown_shape", "unknown_symbol", "overflow", "out_of_sync", "checksum"}

func (r Reason) String() string { return reasonNames[r] }

// seq publishes n numbers as a whole: gen is odd while they are being written.
// All words are atomics, which makes it a seqlock that the race detector, too,
// can follow; the order that all atomics have keeps words between their gens.
type seq struct{ gen atomic.Uint64 }

// publish copies the numbers that have changed. A frame changes two or three of
// them, and a store costs much more than the load that says so.
func (s *seq) publish(from []uint64, to []atomic.Uint64) {
	i := 0
	for i < len(from) && to[i].Load() == from[i] {
		i++
	}
	if i == len(from) {
		return
	}
	gen := s.gen.Load() // one writer
	s.gen.Store(gen + 1)
	for ; i < len(from); i++ {
		if to[i].Load() != from[i] {
			to[i].Store(from[i])
		}
	}
	s.gen.Store(gen + 2)
}

// read copies one whole publication. It tries again where a publication came in
// between, and gives up the processor for that: the writer may have lost its own
// in the middle. Frames a microsecond apart leave it room; a writer that did
// nothing but publish would keep readers waiting for milliseconds.
func (s *seq) read(from []atomic.Uint64, to []uint64) {
	for {
		before := s.gen.Load()
		for i := range from {
			to[i] = from[i].Load()
		}
		if before&1 == 0 && s.gen.Load() == before {
			return
		}
		runtime.Gosched()
	}
}

// Frames counts what became of the frames of one feed. One writer: the feed's owner.
type Frames struct {
	now [numFrames]uint64
	seq seq
	pub [numFrames]atomic.Uint64
}

// Add counts n frames under an outcome.
func (f *Frames) Add(o Outcome, n uint64) { f.now[o] += n }

// Reject counts one frame under a reason.
func (f *Frames) Reject(r Reason) { f.RejectN(r, 1) }

// RejectN counts n frames under a reason. It panics on Accepted, which is none.
func (f *Frames) RejectN(r Reason, n int) {
	if r == Accepted {
		panic("BUG: a frame rejected as accepted")
	}
	f.now[int(rejected)+int(r)-1] += uint64(n)
}

// Unbuffer takes n frames out of the buffer; each is then counted under another outcome.
func (f *Frames) Unbuffer(n int) { f.now[Buffered] -= uint64(n) }

// Publish shows the counters to readers, as a whole.
func (f *Frames) Publish() { f.seq.publish(f.now[:], f.pub[:]) }

// Counts of Frames at one publication.
type Counts [numFrames]uint64

// Read returns the last publication. Any goroutine.
func (f *Frames) Read() (c Counts) {
	f.seq.read(f.pub[:], c[:])
	return c
}

// Difference is what the books are off by: received minus everything that became
// of it. If that is nothing, it is still off where more frames have left the
// buffer than went in: they would stand twice among the rest. Anything but 0 is a
// bug.
func (c Counts) Difference() int64 {
	d := int64(c[Received])
	for _, n := range c[Applied:] {
		d -= int64(n)
	}
	if d == 0 {
		d = min(0, int64(c[Buffered]))
	}
	return d
}
