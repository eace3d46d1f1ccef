// Package ring is the lock-free way of records from one goroutine to another:
// a single-producer single-consumer ring of variable-length byte records.
//
// The producer claims contiguous room in the ring, writes the record where it
// will be read, and publishes it with one atomic store:
//
//	b, out := r.Claim(n)       // as often as the message needs
//	if out != ring.OK { … }    // r.Abort() gives up what this message has claimed
//	event.PutInput(b, …)
//	r.Commit()                 // all of them become readable together
//
// The consumer peeks at a record where it lies, and gives it up:
//
//	for rec := r.Peek(); rec != nil; rec = r.Peek() {
//		use(rec)
//		r.Release()
//	}
//
// In memory, every record has a word of the ring's own before it, so that a
// record's content is its owner's alone:
//
//	0  u32  length of the record, without this word and without padding
//	4  u8   kind: record, pad (nothing up to the end of the ring), or owned (no
//	        bytes here: the next buffer of the side queue stands in this place)
//	8       the record, then unused bytes up to a multiple of 8
//
// A ring never blocks, never grows, never allocates after New, never spins, and
// never loses a record that it has taken: what it cannot take, it refuses with
// an outcome word. It reads no clock.
//
// Why not xsync's SPSCQueueOf: it moves values of one size, so that a message would
// travel as several values, which become readable one by one, and the size of a queue is
// a number of values, not of bytes. A book message of 8 levels, 256 bytes, in and out:
// 48 ns against 89 ns, or 0.53 to 0.55 in each of ten runs (a gate, ring/xsync in
// bench/budgets.go); a channel takes 240 ns. With records of 64 bytes, which suit xsync:
// 17-25 ns against 25-44, a channel 56. A parked consumer answers in 0.5 µs there and
// back, a channel alone in 0.25: it waits with a timeout and for any of 150 rings.
// Published is per message: one store and one look at the bell for all of its levels.
// 150 rings with 1,500 messages a second cost 1 to 5 % of a core beside the sending, in
// ten runs on a machine that had ten times as much to do as it has cores; a message lay
// 9 to 24 µs in the median then, one of a hundred as long as the neighbours' turns last
// (TestGateRingIdle; a prototype on an idle machine had 1.1 µs, and 23 µs at p99).
//
// Invariants: head <= next <= tail <= claimed <= head+capacity, all multiples of 8
// and, but for an Abort's claimed, ever-growing; an index is a position masked by
// capacity-1; no record lies across the end of the ring; a pad is published
// together with the record after it.
package ring

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
)

// Outcome is what became of a claim or an offer.
type Outcome uint8

const (
	OK            Outcome = iota
	BackPressured         // no room now; there will be when the consumer has released more
	TooLarge              // will never fit: use OfferOwned, or raise its cap
	Closed                // the ring takes no more
)

var outcomeNames = [...]string{"ok", "back_pressured", "too_large", "closed"}

func (o Outcome) String() string { return outcomeNames[o] }

const (
	wordSize = 8

	// MinCapacity is the smallest ring: two records of a quarter, with their
	// words, must fit behind each other.
	MinCapacity = 64
	// MaxCapacity keeps every length within the word's 32 bits.
	MaxCapacity = 1 << 30

	// ownedSlots bounds the buffers in the side queue, whatever their size.
	ownedSlots = 64

	// pageSize is the smallest that a kernel gives memory by.
	pageSize = 4096

	// lineSize keeps fields of different writers apart: two cache lines, because
	// the adjacent-line prefetcher of x86 fetches lines in pairs.
	lineSize = 128
)

const (
	kindRecord = 1
	kindPad    = 2
	kindOwned  = 3
)

// Ring carries records from one producer goroutine to one consumer goroutine.
// Each method says whose it is; the unmarked ones are for any goroutine.
type Ring struct {
	// Set by New, then only read; closed changes once.
	buf      []byte
	slots    [][]byte // side queue of owned buffers: slots from ownedHead to ownedCommitted are the consumer's, all others the producer's
	capacity uint64
	mask     uint64
	bell     *Doorbell
	closed   atomic.Bool
	_        [lineSize]byte

	// The producer's alone.
	claimed        uint64 // position behind the last claim
	published      uint64 // what tail holds
	headCache      uint64 // a head seen earlier: head >= headCache
	ownedClaimed   uint64 // buffers put into slots, ever
	ownedCommitted uint64 // of these, the published ones
	bytesClaimed   uint64 // total size of the claimed ones
	bytesCommitted uint64 // total size of the published ones
	ownedCapBytes  uint64
	_              [lineSize]byte

	// Written by the producer, read by all.
	tail           atomic.Uint64 // position behind the last published record
	bytesOffered   atomic.Uint64 // bytesCommitted, for OwnedBytes
	highWaterBytes atomic.Uint64
	_              [lineSize]byte

	// The consumer's alone.
	next       uint64 // position of the first record not yet released
	peekedEnd  uint64 // position behind the peeked record; equals next when nothing is peeked
	headStored uint64 // what head holds: head <= next
	tailCache  uint64 // a tail seen earlier: tail >= tailCache
	ownedNext  uint64 // buffers taken out of slots, ever
	bytesTaken uint64 // their total size
	peeked     []byte // the peeked record
	isOwned    bool   // whether it is an owned one
	_          [lineSize]byte

	// Written by the consumer, read by all.
	head       atomic.Uint64 // everything before it may be overwritten
	ownedHead  atomic.Uint64 // every slot before it may be reused
	bytesFreed atomic.Uint64 // bytesTaken
	_          [lineSize]byte
}

// New makes a ring of capacity bytes, a power of two from MinCapacity to
// MaxCapacity; it panics otherwise. The bell is the consumer's, which may serve
// many rings; nil if the consumer never parks.
func New(capacity int, bell *Doorbell) *Ring {
	if capacity < MinCapacity || capacity > MaxCapacity || capacity&(capacity-1) != 0 {
		panic(fmt.Sprintf("BUG: ring capacity %d is not a power of two from %d to %d", capacity, MinCapacity, MaxCapacity))
	}
	buf := make([]byte, capacity)
	// The kernel gives memory when a page is first written: now, and not one page after
	// the other under the first messages that come so far. At a flood that was 5 to 8 % of
	// what the agent took.
	for i := 0; i < len(buf); i += pageSize {
		buf[i] = 0
	}
	return &Ring{
		buf:           buf,
		slots:         make([][]byte, ownedSlots),
		capacity:      uint64(capacity),
		mask:          uint64(capacity) - 1,
		bell:          bell,
		ownedCapBytes: uint64(capacity),
	}
}

// MaxRecord is the largest n that Claim takes: a quarter of the capacity.
func (r *Ring) MaxRecord() int { return int(r.capacity / 4) }

// SetOwnedCap limits the owned buffers that are in the ring at one time, in
// bytes of their capacity. It is the ring's own capacity until set. Producer only.
func (r *Ring) SetOwnedCap(bytes int) { r.ownedCapBytes = uint64(max(bytes, 0)) }

// frameSize is what a record of n bytes takes in the ring.
func frameSize(n uint64) uint64 { return wordSize + (n+7)&^7 }

func (r *Ring) putWord(pos, n uint64, kind uint8) {
	binary.LittleEndian.PutUint64(r.buf[pos&r.mask:], n|uint64(kind)<<32)
}

// Claim gives the producer n contiguous bytes of the ring to write a record
// into. Their content is whatever was there before. The bytes are the
// producer's until Commit or Abort.
//
// Several claims may precede one Commit, which publishes them together. Claims
// of one batch hold their room, so a batch that is too large as a whole is
// BackPressured for ever: Abort it. A batch whose records take at most half of
// the capacity, with a word of 8 bytes and rounding up to 8 for each, always
// fits once the consumer has released everything.
//
// TooLarge means n > MaxRecord. An outcome other than OK changes nothing:
// earlier claims of the batch stand. It panics if n < 1. Producer only.
func (r *Ring) Claim(n int) ([]byte, Outcome) {
	if n < 1 {
		panic(fmt.Sprintf("BUG: claim of %d bytes", n))
	}
	if r.closed.Load() {
		return nil, Closed
	}
	if uint64(n) > r.capacity/4 {
		return nil, TooLarge
	}
	pos, ok := r.room(frameSize(uint64(n)))
	if !ok {
		return nil, BackPressured
	}
	r.putWord(pos, uint64(n), kindRecord)
	at := pos&r.mask + wordSize
	end := at + uint64(n)
	return r.buf[at:end:end], OK
}

// room advances claimed over size contiguous bytes, and over a pad before them
// if the end of the ring is too near. It returns their position.
func (r *Ring) room(size uint64) (pos uint64, ok bool) {
	pos = r.claimed
	rest := r.capacity - pos&r.mask
	need := size
	if rest < size {
		need += rest
	}
	if pos+need-r.headCache > r.capacity {
		r.headCache = r.head.Load()
		if pos+need-r.headCache > r.capacity {
			return 0, false
		}
	}
	r.claimed = pos + need
	if rest < size {
		// rest is a multiple of 8 and not 0, so the word always has room.
		r.putWord(pos, rest-wordSize, kindPad)
		pos += rest
	}
	return pos, true
}

// ClaimOwned puts a buffer in a record's place, for records larger than
// MaxRecord: the ring then holds only a marker, and order is kept. Like Claim,
// it counts only from Commit on. With OK the buffer belongs to the ring, and
// after the consumer's Release to the garbage collector; with any other outcome
// it stays the caller's and nothing has changed.
//
// TooLarge means that the buffer alone is over the cap of SetOwnedCap;
// BackPressured that cap, slots or ring have no room now. It panics if buf is
// empty. Producer only.
func (r *Ring) ClaimOwned(buf []byte) Outcome {
	if len(buf) == 0 {
		panic("BUG: offer of an empty buffer")
	}
	if r.closed.Load() {
		return Closed
	}
	// What the buffer keeps from the garbage collector is its capacity.
	size := uint64(cap(buf))
	if size > r.ownedCapBytes {
		return TooLarge
	}
	// Owned buffers are rare: no caches here. The consumer has cleared a slot
	// before it moves ownedHead past it.
	if r.ownedClaimed-r.ownedHead.Load() >= ownedSlots ||
		r.bytesClaimed+size-r.bytesFreed.Load() > r.ownedCapBytes {
		return BackPressured
	}
	pos, ok := r.room(wordSize)
	if !ok {
		return BackPressured
	}
	r.putWord(pos, 0, kindOwned)
	r.slots[r.ownedClaimed&(ownedSlots-1)] = buf
	r.ownedClaimed++
	r.bytesClaimed += size
	return OK
}

// OfferOwned is ClaimOwned and, if that is OK, Commit: it publishes the buffer
// and whatever was claimed before it. Producer only.
func (r *Ring) OfferOwned(buf []byte) Outcome {
	out := r.ClaimOwned(buf)
	if out == OK {
		r.Commit()
	}
	return out
}

// Commit publishes everything claimed since the last Commit or Abort, with one
// atomic store, and rings the bell if the consumer has parked. With nothing
// claimed it does nothing. What was claimed before Close is still published.
// Producer only.
func (r *Ring) Commit() {
	if r.claimed == r.published {
		return
	}
	r.published = r.claimed
	if r.ownedCommitted != r.ownedClaimed {
		r.ownedCommitted = r.ownedClaimed
		r.bytesCommitted = r.bytesClaimed
		r.bytesOffered.Store(r.bytesCommitted)
	}
	r.tail.Swap(r.published) // Doorbell says why this is no Store
	if r.bell != nil {
		r.bell.Ring()
	}
	// The head cache overstates the use. Only where it seems a new high is the
	// true head fetched, so a busy ring pays for it once per lap or less.
	if high := r.highWaterBytes.Load(); r.published-r.headCache > high {
		r.headCache = r.head.Load()
		if used := r.published - r.headCache; used > high {
			r.highWaterBytes.Store(used)
		}
	}
}

// Abort gives up everything claimed since the last Commit; the slices from
// Claim and the buffers given to ClaimOwned are no longer the ring's, and the
// consumer never sees them. Producer only.
func (r *Ring) Abort() {
	r.claimed = r.published
	for r.ownedClaimed != r.ownedCommitted {
		r.ownedClaimed--
		r.slots[r.ownedClaimed&(ownedSlots-1)] = nil
	}
	r.bytesClaimed = r.bytesCommitted
}

// Close makes every later claim and offer Closed, and wakes the consumer. What
// is in the ring stays readable. The producer closes after its last Commit; if
// someone else closes, a Commit of earlier claims may still come.
func (r *Ring) Close() {
	r.closed.Store(true)
	if r.bell != nil {
		r.bell.Ring()
	}
}

// Closed says whether the ring takes no more. A consumer that wants to be sure
// that it has read everything asks Closed first and then finds Peek nil: in the
// other order, a record may come between the two.
func (r *Ring) Closed() bool { return r.closed.Load() }

// Capacity is the size of the ring in bytes.
func (r *Ring) Capacity() int { return int(r.capacity) }

// UsedBytes is the part of the ring that is published and not yet given back,
// with words and pads; the consumer gives back in portions, see Release. Owned
// buffers count only with their markers, see OwnedBytes.
func (r *Ring) UsedBytes() int {
	// Head first: a tail read later is never behind it. Both may have moved on
	// by a lap in between, hence the min.
	head := r.head.Load()
	return int(min(r.tail.Load()-head, r.capacity))
}

// OwnedBytes is the capacity of the published owned buffers not yet released.
func (r *Ring) OwnedBytes() int {
	freed := r.bytesFreed.Load()
	return int(r.bytesOffered.Load() - freed)
}

// HighWaterBytes is the highest UsedBytes that any Commit left behind.
func (r *Ring) HighWaterBytes() int { return int(r.highWaterBytes.Load()) }
