package line

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"deeptape/hotpath/event"
)

// Room for the parts of a row of book_delta.
const (
	maxNumbers = 2*maxInt + len("i,qty=i")
	maxColumns = len(",px_scale=i,qty_scale=i,ts_event=n,seq=i,flags=") + 4*maxInt
	maxPrev    = len(",seq_prev=i") + maxInt
	maxEnd     = len("255i \n") + maxInt
)

// columns are what all rows of a message have between their size and their flags.
type columns struct {
	buf  [maxColumns]byte
	n    int // of buf, with ",flags=" at its end
	prev int // of buf: where seq_prev belongs in a message's last row
}

func newColumns(h *event.Head) (c columns) {
	b := c.buf[:]
	at := copy(b, scalesOf(h))
	if h.TsEvent != event.Null {
		at += copy(b[at:], ",ts_event=")
		at = putInt(b, at, h.TsEvent)
		b[at] = 'n'
		at++
	}
	if h.Seq != event.Null {
		at += copy(b[at:], ",seq=")
		at = putInt(b, at, h.Seq)
		b[at] = 'i'
		at++
	}
	c.prev = at
	c.n = at + copy(b[at:], ",flags=")
	return c
}

// scaleTexts are the columns of the usual scales, below 20 each.
var scaleTexts = func() (t [20][20]string) {
	for px := range t {
		for qty := range t[px] {
			t[px][qty] = fmt.Sprintf(",px_scale=%di,qty_scale=%di", px, qty)
		}
	}
	return t
}()

func scalesOf(h *event.Head) string {
	if px, qty := uint8(h.PxScale), uint8(h.QtyScale); px < 20 && qty < 20 {
		return scaleTexts[px][qty]
	}
	return fmt.Sprintf(",px_scale=%di,qty_scale=%di", h.PxScale, h.QtyScale)
}

// put writes the columns to buf, from at on, for the last row of a message with seq_prev.
func (c *columns) put(buf []byte, at int, h *event.Head, last bool) int {
	if !last || h.SeqPrev == event.Null {
		return at + copy(buf[at:], c.buf[:c.n])
	}
	at += copy(buf[at:], c.buf[:c.prev])
	at += copy(buf[at:], ",seq_prev=")
	at = putInt(buf, at, h.SeqPrev)
	buf[at] = 'i'
	at++
	return at + copy(buf[at:], c.buf[c.prev:c.n])
}

// clock is a time as decimal digits that is made later by one nanosecond at a
// time: cheaper than to write 19 digits anew for each level.
type clock struct {
	digits [maxInt]byte
	n      int // of digits
	ts     int64
}

func newClock(ts int64) (c clock) {
	if ts < 0 {
		panic("BUG: a row before 1970")
	}
	c.ts = ts
	c.n = putInt(c.digits[:], 0, ts)
	return c
}

// put writes the time to buf, from at on; maxInt bytes are overwritten.
func (c *clock) put(buf []byte, at int) int {
	*(*[maxInt]byte)(buf[at:]) = c.digits
	return at + c.n
}

func (c *clock) tick() {
	c.ts++
	for i := c.n - 1; i >= 0; i-- {
		if c.digits[i] != '9' {
			c.digits[i]++
			return
		}
		c.digits[i] = '0'
	}
	c.n = putInt(c.digits[:], 0, c.ts) // a digit more
}

// putSmall writes the number of a flags column.
func putSmall(buf []byte, at int, v uint8) int {
	if v >= 10 {
		return putInt(buf, at, int64(v))
	}
	buf[at] = '0' + v
	return at + 1
}

// putInt writes v in decimal to buf, from at on, and returns where it ends. Up to eight
// bytes behind that are overwritten too: there must be room for maxInt of them in all.
// A row is little else than numbers: with strconv they were half of its cost.
func putInt(buf []byte, at int, v int64) int {
	u := uint64(v)
	if v < 0 {
		buf[at] = '-'
		at++
		u = -u
	}
	if u < 1e8 {
		return putFirst(buf, at, u)
	}
	high := u / 1e8
	if high < 1e8 {
		at = putFirst(buf, at, high)
	} else {
		at = putFirst(buf, at, high/1e8)
		binary.LittleEndian.PutUint64(buf[at:], digits(high%1e8)|zeros)
		at += 8
	}
	binary.LittleEndian.PutUint64(buf[at:], digits(u-high*1e8)|zeros)
	return at + 8
}

// maxInt is the room that putInt wants: a sign, 19 digits, and five zeros before them.
const maxInt = 1 + 3*8

// zeros is eight digits 0 as text.
const zeros = 0x3030303030303030

// putFirst writes u, below 10^8, without leading zeros.
func putFirst(buf []byte, at int, u uint64) int {
	d := digits(u)
	skip := bits.TrailingZeros64(d|1<<56) &^ 7 // bits of leading zeros; the last digit stays
	binary.LittleEndian.PutUint64(buf[at:], (d|zeros)>>skip)
	return at + 8 - skip/8
}

// digits are the eight decimal digits of u, below 10^8, the first in the lowest byte. It
// halves them three times, all parts at once: a division by 100 or 10 of such small
// numbers is a multiplication and a shift.
func digits(u uint64) uint64 {
	high := u / 10000
	d := high | (u-10000*high)<<32
	high = d * 10486 >> 20 & 0x7f_0000007f
	d = high | (d-100*high)<<16
	high = d * 103 >> 10 & 0xf_000f_000f_000f
	return high | (d-10*high)<<8
}
