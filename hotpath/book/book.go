// Package book keeps one instrument's order book: every level of both sides, as
// exact integers.
//
// Each side is a ladder: a circular window of ticks about its best price, one
// slot per tick, with a bitmap of the occupied slots; and beside it a sorted list
// of everything that the window cannot hold. The window slides with the best
// price, so nearly every update is one array write, and the best levels are found
// by scanning bits. Levels far away, and prices off the tick grid, are never
// refused and never lost: they live in the list, and the answers merge both.
//
// This package must never read a clock, refuse or round a price, or judge a
// book: a crossed book, a price of 0 and a negative price are kept as they come.
// Set, Apply, Best, Top and Truncate allocate nothing once the far lists have grown to
// the book's size.
//
// The invariants stand above Book, ladder and far; Check asserts all of them.
package book

import (
	"unsafe"

	"deeptape/hotpath/event"
	"deeptape/hotpath/fixed"
)

// Level is one price with its total size, at the scales of the book. Qty is
// positive.
type Level struct{ Px, Qty int64 }

// Book is the book of one instrument. It is not safe for use by two goroutines.
//
// Memory: 1,041 KiB, plus about 25 bytes (at most 64) for each level that ever
// stood in a far list at the same time; nothing is given back before the book is. A
// book of 43,000 levels, nearly all of them far, takes 1.6 MB (TestBookMemory in bench
// holds all of this to budgets). 256 books take 260 MiB and share no cache: a level costs 11
// ns where each message goes to another book, 21-43 if it is not foreseen (see Foresee),
// sorted slices 96-109, trees 145-229.
//
// Invariants: every level's size is positive; a price stands at most once on a
// side; grid.tick is at least 1.
type Book struct {
	grid    grid
	offGrid uint64
	ladders [2]ladder // bids, asks
	windows [2]window // theirs
}

// New returns an empty book. tick is the price step in units of px and must be at
// least 1; where it is not known, 1 is right. A wrong tick costs speed, not
// levels.
func New(tick int64) *Book {
	b := &Book{grid: newGrid(tick)}
	for i := range b.ladders {
		b.ladders[i].init(-int64(i), &b.windows[i]) // 0 for bids, all ones for asks
	}
	return b
}

// Clear removes all levels, and keeps the memory.
func (b *Book) Clear() {
	for i := range b.ladders {
		b.ladders[i].clear()
	}
}

// Best returns the best level of a side, and false if the side is empty.
func (b *Book) Best(side event.Side) (Level, bool) {
	l := &b.ladders[side-1]
	if l.far.off == 0 && l.count > 0 {
		return Level{b.grid.px(l.best ^ l.flip), l.slots[uint(l.best)%windowTicks]}, true
	}
	var one [1]Level
	n := b.Top(side, one[:])
	return one[0], n == 1
}

// Top fills dst with the best levels of a side, best first, and returns how many
// there were.
func (b *Book) Top(side event.Side, dst []Level) int {
	l := &b.ladders[side-1]
	if l.far.off > 0 || l.count < len(dst) && l.far.n > 0 {
		m := l.merge(&b.grid)
		for i := range dst {
			v, ok := m.next()
			if !ok {
				return i
			}
			dst[i] = v
		}
		return len(dst)
	}
	// All that is asked for stands in the window.
	n := min(len(dst), l.count)
	if n == 0 {
		return 0
	}
	dst = dst[:n]
	top := uint(l.best) % windowTicks
	w := top / 64
	word := l.bits[w] << (63 - top%64) >> (63 - top%64)
	for k := 0; ; {
		for word != 0 {
			bit := highBit(word)
			word &^= 1 << bit
			i := (w*64 + bit) % windowTicks
			s := l.best - int64((top-i)%windowTicks)
			dst[k] = Level{b.grid.px(s ^ l.flip), l.slots[i]}
			if k++; k == n {
				return n
			}
		}
		w = l.wordBelow(w)
		word = l.bits[w]
	}
}

// AppendLevels appends all levels of a side to dst, best first.
func (b *Book) AppendLevels(dst []Level, side event.Side) []Level {
	l := &b.ladders[side-1]
	m := l.merge(&b.grid)
	for v, ok := m.next(); ok; v, ok = m.next() {
		dst = append(dst, v)
	}
	return dst
}

// Len is the number of levels of a side.
func (b *Book) Len(side event.Side) int {
	l := &b.ladders[side-1]
	return l.count + l.far.n
}

// OffGrid counts the levels given to the book at a price that is not a multiple of the
// tick, over the life of the book.
func (b *Book) OffGrid() uint64 { return b.offGrid }

// Rescale multiplies every price, and the tick, by 10^pxBy, and every size by
// 10^qtyBy; neither may be negative. Where a number overflows it returns false and
// the book is as it was. What was on the grid stays on it.
func (b *Book) Rescale(pxBy, qtyBy int8) bool {
	scaled := func(m int64, by int8) (int64, bool) {
		if by == 0 {
			return m, true
		}
		return fixed.Rescale(m, by)
	}
	tick, ok := scaled(b.grid.tick, pxBy)
	if !ok {
		return false
	}
	for i := range b.ladders {
		m := b.ladders[i].merge(&b.grid)
		for v, more := m.next(); more; v, more = m.next() {
			_, okPx := scaled(v.Px, pxBy)
			_, okQty := scaled(v.Qty, qtyBy)
			if !okPx || !okQty {
				return false
			}
		}
	}
	b.grid = newGrid(tick)
	for i := range b.ladders {
		l := &b.ladders[i]
		for j, qty := range l.slots {
			l.slots[j], _ = scaled(qty, qtyBy)
		}
		l.far.each(func(key, qty *int64) {
			px, _ := scaled(*key^l.flip, pxBy)
			*key = px ^ l.flip
			*qty, _ = scaled(*qty, qtyBy)
		})
	}
	return true
}

// Truncate removes the worst levels of each side until no side has more than depth.
// It costs nothing where none has.
func (b *Book) Truncate(depth int) {
	for i := range b.ladders {
		l := &b.ladders[i]
		for n := l.count + l.far.n; n > max(depth, 0); n-- {
			l.removeWorst(&b.grid)
		}
	}
}

// Bytes is the memory that the book holds.
func (b *Book) Bytes() int {
	return int(unsafe.Sizeof(*b)) + b.ladders[0].far.bytes() + b.ladders[1].far.bytes()
}
