package verify

import (
	"slices"
	"strconv"

	"deeptape/hotpath/fixed"
)

// level is one price with its size, at the scales of its book.
type level struct{ px, qty int64 }

// ladder is one side of a book: levels from the worst to the best, so that a
// change near the touch, where most are, moves little memory.
type ladder struct {
	up     bool // the best price is the highest: bids
	levels []level
}

func (l *ladder) compare(a level, px int64) int {
	switch {
	case a.px == px:
		return 0
	case (a.px < px) == l.up:
		return -1
	}
	return 1
}

func (l *ladder) set(px, qty int64) {
	i, found := slices.BinarySearchFunc(l.levels, px, l.compare)
	switch {
	case found && qty == 0:
		l.levels = slices.Delete(l.levels, i, i+1)
	case found:
		l.levels[i].qty = qty
	case qty != 0:
		l.levels = slices.Insert(l.levels, i, level{px, qty})
	}
}

// load replaces all levels. Where a price comes twice the later one counts.
func (l *ladder) load(levels []level) {
	slices.SortStableFunc(levels, func(a, b level) int { return l.compare(a, b.px) })
	l.levels = l.levels[:0]
	for i, v := range levels {
		if (i == len(levels)-1 || levels[i+1].px != v.px) && v.qty != 0 {
			l.levels = append(l.levels, v)
		}
	}
}

// top appends the first n levels to dst, best first.
func (l *ladder) top(dst []level, n int) []level {
	for i := len(l.levels) - 1; i >= 0 && n > 0; i, n = i-1, n-1 {
		dst = append(dst, l.levels[i])
	}
	return dst
}

// rescale multiplies by powers of ten. False: it does not fit, and nothing counts
// any more.
func (l *ladder) rescale(pxBy, qtyBy int) bool {
	if pxBy < 0 || qtyBy < 0 || pxBy > fixed.MaxScale || qtyBy > fixed.MaxScale {
		return false
	}
	for i := range l.levels {
		px, ok := fixed.Rescale(l.levels[i].px, int8(pxBy))
		qty, ok2 := fixed.Rescale(l.levels[i].qty, int8(qtyBy))
		if !ok || !ok2 {
			return false
		}
		l.levels[i] = level{px, qty}
	}
	return true
}

var tens = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18}

// double is the double nearest to m / 10^scale.
func double(m int64, scale int) float64 {
	if scale >= 0 && scale < len(tens) && m <= 1<<53 && m >= -1<<53 {
		return float64(m) / tens[scale] // two exact doubles: one division, one rounding
	}
	f, _ := strconv.ParseFloat(strconv.FormatInt(m, 10)+"e"+strconv.Itoa(-scale), 64)
	return f
}

// decimal is m / 10^scale as text.
func decimal(m int64, scale int) string {
	if scale < 0 || scale > fixed.MaxScale {
		return strconv.FormatInt(m, 10) + "e" + strconv.Itoa(-scale)
	}
	return string(fixed.Append(nil, m, int8(scale)))
}
