// Package booktest holds a slow, obvious order book: a map for each side, sorted
// when someone asks. It is the oracle for package book and for everything that
// keeps a book, so it must never share code with them, and must never be clever.
//
// Invariant: every size in the maps is positive.
package booktest

import (
	"math/big"
	"slices"

	"deeptape/hotpath/event"
)

// Level has the fields of book.Level, so that one converts to the other.
type Level struct{ Px, Qty int64 }

// Book is the slow book. The maps are open: tests may look inside.
type Book struct {
	Bids, Asks map[int64]int64 // px to qty
	Tick       int64
	offGrid    uint64
}

// New returns an empty book.
func New(tick int64) *Book {
	return &Book{Bids: map[int64]int64{}, Asks: map[int64]int64{}, Tick: tick}
}

func (b *Book) levels(side event.Side) map[int64]int64 {
	switch side {
	case event.Bid:
		return b.Bids
	case event.Ask:
		return b.Asks
	}
	panic("booktest: no such side")
}

// Set gives a level its size, or removes it if qty is not positive, and says
// whether that changed anything.
func (b *Book) Set(side event.Side, px, qty int64) bool {
	if px%b.Tick != 0 {
		b.offGrid++
	}
	m := b.levels(side)
	old, ok := m[px]
	if qty <= 0 {
		delete(m, px)
		return ok
	}
	m[px] = qty
	return old != qty
}

// Clear removes all levels.
func (b *Book) Clear() {
	b.Bids, b.Asks = map[int64]int64{}, map[int64]int64{}
}

// Levels returns all levels of a side, best first.
func (b *Book) Levels(side event.Side) []Level {
	var all []Level
	for px, qty := range b.levels(side) {
		all = append(all, Level{px, qty})
	}
	slices.SortFunc(all, func(x, y Level) int {
		worse := 1
		if side == event.Ask {
			worse = -1
		}
		if x.Px < y.Px {
			return worse
		}
		return -worse
	})
	return all
}

// Truncate removes all but the best levels of each side.
func (b *Book) Truncate(depth int) {
	for side := event.Bid; side <= event.Ask; side++ {
		for i, l := range b.Levels(side) {
			if i >= depth {
				delete(b.levels(side), l.Px)
			}
		}
	}
}

// Len is the number of levels of a side.
func (b *Book) Len(side event.Side) int { return len(b.levels(side)) }

// OffGrid counts the calls of Set with a price off the grid.
func (b *Book) OffGrid() uint64 { return b.offGrid }

// Rescale multiplies prices and tick by 10^pxBy and sizes by 10^qtyBy, or changes
// nothing and returns false if one of them would not fit.
func (b *Book) Rescale(pxBy, qtyBy int8) bool {
	fits := true
	times := func(m int64, by int8) int64 {
		p := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(by)), nil)
		p.Mul(p, big.NewInt(m))
		fits = fits && p.IsInt64()
		return p.Int64()
	}
	tick := times(b.Tick, pxBy)
	var sides [2]map[int64]int64
	for i, m := range []map[int64]int64{b.Bids, b.Asks} {
		sides[i] = map[int64]int64{}
		for px, qty := range m {
			sides[i][times(px, pxBy)] = times(qty, qtyBy)
		}
	}
	if !fits {
		return false
	}
	b.Tick, b.Bids, b.Asks = tick, sides[0], sides[1]
	return true
}
