package vsim

import (
	"fmt"
	"slices"
)

// lvl is a price and the size there, in counts of 1e-8; size 0 removes.
type lvl struct {
	ask     bool
	px, qty int64
}

// book is a plain one: a sorted list a side, best first.
type book [2][]lvl

func newBook(levels []lvl) *book {
	b := &book{}
	for _, l := range levels {
		b.set(l)
	}
	return b
}

func (b *book) clone() *book { return &book{slices.Clone(b[0]), slices.Clone(b[1])} }

func sideOf(ask bool) int {
	if ask {
		return 1
	}
	return 0
}

func (b *book) set(l lvl) {
	side := &b[sideOf(l.ask)]
	i, ok := slices.BinarySearchFunc(*side, l.px, func(x lvl, px int64) int {
		switch {
		case x.px == px:
			return 0
		case (x.px > px) == l.ask:
			return 1
		}
		return -1
	})
	switch {
	case ok && l.qty == 0:
		*side = slices.Delete(*side, i, i+1)
	case ok:
		(*side)[i] = l
	case l.qty != 0:
		*side = slices.Insert(*side, i, l)
	}
}

func (b *book) apply(levels []lvl) {
	for _, l := range levels {
		b.set(l)
	}
}

// cut leaves the best n levels of each side; 0 leaves all.
func (b *book) cut(n int) {
	for s := range b {
		if n > 0 && len(b[s]) > n {
			b[s] = b[s][:n]
		}
	}
}

// same compares the best n levels a side; 0 compares all.
func (b *book) same(o *book, n int) bool {
	for s := range b {
		x, y := b[s], o[s]
		if n > 0 {
			x, y = x[:min(n, len(x))], y[:min(n, len(y))]
		}
		if !slices.Equal(x, y) {
			return false
		}
	}
	return true
}

// sameLevels tells whether two messages say the same: where one gives a price twice,
// the last counts.
func sameLevels(a, b []lvl) bool {
	if slices.Equal(a, b) {
		return true
	}
	last := func(list []lvl) map[lvl]int64 {
		m := make(map[lvl]int64, len(list))
		for _, l := range list {
			m[lvl{ask: l.ask, px: l.px}] = l.qty
		}
		return m
	}
	x, y := last(a), last(b)
	if len(x) != len(y) {
		return false
	}
	for k, qty := range x {
		if other, ok := y[k]; !ok || other != qty {
			return false
		}
	}
	return true
}

// differs names the first level that does.
func (b *book) differs(o *book) string {
	for s := range b {
		for i := range max(len(b[s]), len(o[s])) {
			switch {
			case i >= len(b[s]):
				return fmt.Sprintf("level %d of side %d is missing: %+v", i, s, o[s][i])
			case i >= len(o[s]):
				return fmt.Sprintf("level %d of side %d is too much: %+v", i, s, b[s][i])
			case b[s][i] != o[s][i]:
				return fmt.Sprintf("level %d of side %d is %+v, in truth %+v", i, s, b[s][i], o[s][i])
			}
		}
	}
	return "not at all"
}
