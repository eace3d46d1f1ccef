package ring

import (
	"encoding/binary"
	"fmt"
)

// Peek returns the next record, or nil if there is none. It returns the same
// record until Release. The record is borrowed: valid until Release, and not to
// be written to. Consumer only.
//
// A nil answer also gives all released bytes back to the producer, so a consumer
// that parks only after every Peek was nil leaves no room behind.
func (r *Ring) Peek() []byte {
	if r.peekedEnd != r.next {
		return r.peeked
	}
	pos := r.next
	if pos == r.tailCache {
		r.tailCache = r.tail.Load()
		if pos == r.tailCache {
			r.giveBack()
			return nil
		}
	}
	for {
		word := binary.LittleEndian.Uint64(r.buf[pos&r.mask:])
		n, kind := word&0xffffffff, word>>32
		switch kind {
		case kindRecord:
			at := pos&r.mask + wordSize
			r.peeked = r.buf[at : at+n : at+n]
			r.peekedEnd = pos + frameSize(n)
			return r.peeked
		case kindPad:
			// The record of the same claim follows, see room.
			pos += wordSize + n
		case kindOwned:
			r.peeked = r.slots[r.ownedNext&(ownedSlots-1)]
			r.isOwned = true
			r.peekedEnd = pos + wordSize
			return r.peeked
		default:
			panic(fmt.Sprintf("BUG: ring word %#x at position %d, tail %d", word, pos, r.tailCache))
		}
	}
}

// Release gives up the record last peeked: its bytes are no longer valid. It
// panics if nothing is peeked. Consumer only.
//
// The producer learns of it in portions of an eighth of the capacity, or when
// Peek finds the ring empty: an atomic store per record would cost more than
// the rest of the consumer's work. An owned buffer's share of the cap is given
// back at once.
func (r *Ring) Release() {
	if r.peekedEnd == r.next {
		panic("BUG: ring Release without Peek")
	}
	if r.isOwned {
		r.releaseOwned()
	} else if invariants {
		mangle(r.peeked)
	}
	r.next = r.peekedEnd
	if r.next-r.headStored >= r.capacity/8 {
		r.giveBack()
	}
}

func (r *Ring) releaseOwned() {
	if invariants {
		mangle(r.peeked)
	}
	r.isOwned = false
	r.bytesTaken += uint64(cap(r.peeked))
	r.peeked = nil
	r.slots[r.ownedNext&(ownedSlots-1)] = nil
	r.ownedNext++
	// The slot is cleared before the producer may fill it again.
	r.bytesFreed.Store(r.bytesTaken)
	r.ownedHead.Store(r.ownedNext)
}

func (r *Ring) giveBack() {
	if r.headStored != r.next {
		r.headStored = r.next
		r.head.Store(r.next)
	}
}

// mangle makes a reader of a released record fail loudly.
func mangle(b []byte) {
	for i := range b {
		b[i] = 0xdb
	}
}
