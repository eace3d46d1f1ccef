package book

import (
	"math"
	"math/bits"
)

// grid divides prices by the tick without a division instruction: tick is an odd
// number times a power of two; the power is a shift, and to divide a multiple of
// an odd number exactly is to multiply by its inverse modulo 2^64. That product
// lies in least..least+span if and only if the price is a multiple: there are as
// many products in that range as there are multiples in an int64, and no two
// numbers share a product.
type grid struct {
	tick    int64
	inverse int64 // of the odd part
	low     int64 // mask of the bits that the shift drops
	least   int64
	span    uint64
	shift   uint
}

func newGrid(tick int64) grid {
	if tick < 1 {
		panic("book: tick is less than 1")
	}
	shift := uint(bits.TrailingZeros64(uint64(tick)))
	odd := tick >> shift
	inverse := odd // right in the lowest 3 bits; each round doubles that
	for range 5 {
		inverse *= 2 - odd*inverse
	}
	least := math.MinInt64 / odd
	return grid{
		tick: tick, inverse: inverse, low: 1<<shift - 1, shift: shift,
		least: least, span: uint64(math.MaxInt64/odd - least),
	}
}

// ticks returns px / tick, and false if px is not a multiple of the tick.
func (g *grid) ticks(px int64) (int64, bool) {
	t := (px >> (g.shift % 64)) * g.inverse
	return t, px&g.low == 0 && uint64(t-g.least) <= g.span
}

// px undoes ticks.
func (g *grid) px(t int64) int64 { return t * g.tick }
