package book

import (
	"math"
	"math/bits"
)

const (
	// windowTicks is the number of slots of a side: 512 KiB of sizes, of which the kernel
	// gives what is used. In the BTCUSDT recording 96 % of all level updates lie this
	// close to the touch, with half of the slots 95 %; a level far away takes ten times as
	// long, so that a level takes 9.3 ns on average instead of 10.4. Twice the slots would
	// gain half a nanosecond more.
	windowTicks = 1 << 16

	// headroomTicks is the room above the best price after the window has slid:
	// what a rally may gain before the next slide.
	headroomTicks = windowTicks / 32

	// slackTicks is how far the best price may lie below the end of the window
	// before the window follows it down.
	slackTicks = windowTicks / 16
)

// ladder is one side. A level's place is s: its tick number for bids, the
// complement of it for asks, so that greater is better on both sides and no
// number overflows. The window holds the places lo .. lo+windowTicks-1; place s
// has slot s mod windowTicks.
//
// Invariants:
//   - slots[i] >= 0, and bit i of bits is set if and only if slots[i] > 0
//   - bit w of words is set if and only if bits[w] != 0
//   - count is the number of set bits
//   - best is the best place in the window, and lo if the window is empty
//   - lo <= MaxInt64-windowTicks+1, so that s-lo cannot wrap into the window
//   - the best place is at most slackTicks below the end of the window, unless lo
//     is the least int64 of all
//   - every level in far that is on the grid is worse than the whole window, and
//     if the window is empty there is none
type ladder struct {
	flip  int64 // 0 for bids, -1 for asks: px^flip and t^flip are greater if better
	lo    int64
	best  int64
	count int
	slots *[windowTicks]int64
	bits  *[windowTicks / 64]uint64
	words [windowTicks / 64 / 64]uint64
	far   far
}

// window is the large part of a ladder, apart from what every change of a book needs.
type window struct {
	bits  [windowTicks / 64]uint64
	slots [windowTicks]int64
}

func (l *ladder) init(flip int64, w *window) {
	l.flip, l.slots, l.bits = flip, &w.slots, &w.bits
	l.lo = windowLow(flip)
	l.best = l.lo
}

// windowLow is where the window should begin when s is the best place.
func windowLow(s int64) int64 {
	const below = windowTicks - 1 - headroomTicks
	if s < math.MinInt64+below {
		return math.MinInt64
	}
	return min(s-below, math.MaxInt64-windowTicks+1)
}

// setOutside gives a level its size where px is off the grid or has no place in the window.
func (l *ladder) setOutside(g *grid, px, qty int64) {
	t, ok := g.ticks(px)
	s := t ^ l.flip
	if !ok || s < l.lo && l.count > 0 {
		l.far.set(px^l.flip, qty, !ok)
		return
	}
	// Better than the window, or the first level of an empty ladder.
	if qty == 0 {
		return
	}
	l.slide(g, windowLow(s))
	l.put(s, qty)
	l.best = s
}

// put fills an empty slot of the window.
func (l *ladder) put(s, qty int64) {
	i := uint(s) % windowTicks
	l.slots[i] = qty
	l.bits[i/64] |= 1 << (i % 64)
	l.words[i/64/64] |= 1 << (i / 64 % 64)
	l.count++
}

// touched restores the invariants after the level at s has changed, where s was
// the best place of the window or is better than that.
func (l *ladder) touched(g *grid, s int64) {
	i := uint(s) % windowTicks
	switch {
	case l.slots[i] > 0:
		l.best = s
	case l.count > 0:
		if s != l.best {
			return // an absent level above the best was removed once more
		}
		w := i / 64
		word := l.bits[w] << (63 - i%64) >> (63 - i%64)
		if word == 0 {
			w = l.wordBelow(w)
			word = l.bits[w]
		}
		l.best -= int64((i - (w*64 + highBit(word))) % windowTicks)
	default:
		l.best = l.lo
		t, ok := l.far.bestOnGrid(g, l.flip)
		if !ok {
			return
		}
		l.slide(g, windowLow(t^l.flip))
		l.best = t ^ l.flip
		return
	}
	if uint64(l.lo+windowTicks-1-l.best) > slackTicks {
		l.slide(g, windowLow(l.best))
	}
}

// slide moves the window so that it begins at lo. No level of the window may lie
// above the new end. What falls out at the bad end goes to far; what comes in
// there is fetched from far. It leaves best to the caller, unless the window stays
// empty.
func (l *ladder) slide(g *grid, lo int64) {
	old := l.lo
	l.lo = lo
	if lo > old {
		l.evict(g, old, min(uint64(lo-old), windowTicks))
	} else if lo < old {
		l.fetch(g)
	}
	if l.count == 0 {
		l.best = l.lo
	}
}

// evict moves the levels at the n places from s on to far, worst first.
func (l *ladder) evict(g *grid, s int64, n uint64) {
	for n > 0 {
		i := uint(s) % windowTicks
		take := min(n, uint64(64-i%64))
		word := l.bits[i/64] >> (i % 64) << (64 - take) >> (64 - take) << (i % 64)
		if word != 0 {
			l.bits[i/64] &^= word
			l.count -= bits.OnesCount64(word)
			if l.bits[i/64] == 0 {
				l.words[i/64/64] &^= 1 << (i / 64 % 64)
			}
		}
		for ; word != 0; word &= word - 1 {
			j := i/64*64 + uint(bits.TrailingZeros64(word))
			t := (s + int64(j-i)) ^ l.flip
			l.far.set(g.px(t)^l.flip, l.slots[j], false)
			l.slots[j] = 0
		}
		s += int64(take)
		n -= take
	}
}

// fetch moves the levels of far that lie in the window into it, best first.
func (l *ladder) fetch(g *grid) {
	i, j := l.far.last()
	for i >= 0 && l.far.n > l.far.off {
		key, qty := l.far.chunks[i].key[j], l.far.chunks[i].qty[j]
		t, ok := g.ticks(key ^ l.flip)
		if !ok {
			i, j = l.far.before(i, j)
			continue
		}
		if t^l.flip < l.lo {
			return
		}
		l.put(t^l.flip, qty)
		l.far.remove(i, j, false)
		i, j = l.far.below(key)
	}
}

func (l *ladder) clear() {
	for w, word := range l.bits {
		if word != 0 {
			clear(l.slots[w*64:][:64])
		}
	}
	clear(l.bits[:])
	clear(l.words[:])
	l.count = 0
	l.best = l.lo
	l.far.clear()
}

// wordBelow is the next word of bits that is not 0, going down from w and around;
// w itself comes last. There must be one.
func (l *ladder) wordBelow(w uint) uint {
	k := w / 64 % uint(len(l.words))
	m := l.words[k] & (1<<(w%64) - 1)
	for m == 0 {
		k = (k - 1) % uint(len(l.words))
		m = l.words[k]
	}
	return (k*64 + highBit(m)) % uint(len(l.bits))
}

// removeWorst removes the worst level. There must be one.
func (l *ladder) removeWorst(g *grid) {
	if l.count == 0 {
		l.far.remove(0, 0, l.far.firstIsOff(g, l.flip))
		return
	}
	i := uint(l.lo) % windowTicks
	w := i / 64
	word := l.bits[w] >> (i % 64) << (i % 64)
	if word == 0 {
		w = l.wordAbove(w)
		word = l.bits[w]
	}
	i = w*64 + uint(bits.TrailingZeros64(word))
	s := l.lo + int64((i-uint(l.lo))%windowTicks)
	if l.far.n > 0 && l.far.low[0] < g.px(s^l.flip)^l.flip {
		l.far.remove(0, 0, l.far.firstIsOff(g, l.flip))
		return
	}
	l.slots[i] = 0
	l.bits[w] &^= 1 << (i % 64)
	if l.bits[w] == 0 {
		l.words[w/64] &^= 1 << (w % 64)
	}
	if l.count--; l.count == 0 {
		l.best = l.lo // every level of far on the grid was worse, and has gone before
	}
}

// wordAbove is the next word of bits that is not 0, going up from w and around; w
// itself comes last. There must be one.
func (l *ladder) wordAbove(w uint) uint {
	k := w / 64 % uint(len(l.words))
	m := l.words[k] &^ (2<<(w%64) - 1)
	for m == 0 {
		k = (k + 1) % uint(len(l.words))
		m = l.words[k]
	}
	return (k*64 + uint(bits.TrailingZeros64(m))) % uint(len(l.bits))
}

// merger walks all levels of a ladder, best first.
type merger struct {
	g    *grid
	l    *ladder
	left int // levels of the window to come
	s    int64
	w    uint
	word uint64
	i, j int // next level of far: chunks[i].key[j]; i < 0: none
}

// merge starts a walk. Nothing may change the ladder until it ends.
func (l *ladder) merge(g *grid) merger {
	top := uint(l.best) % windowTicks
	m := merger{g: g, l: l, left: l.count, s: l.best, w: top / 64}
	m.word = l.bits[m.w] << (63 - top%64) >> (63 - top%64)
	m.i, m.j = l.far.last()
	return m
}

func (m *merger) next() (Level, bool) {
	l := m.l
	if m.left == 0 && m.i < 0 {
		return Level{}, false
	}
	if m.left > 0 && m.word == 0 {
		m.w = l.wordBelow(m.w)
		m.word = l.bits[m.w]
	}
	var px int64
	var slot uint
	if m.left > 0 {
		slot = (m.w*64 + highBit(m.word)) % windowTicks
		m.s -= int64((uint(m.s) - slot) % windowTicks)
		px = m.g.px(m.s ^ l.flip)
	}
	if m.i >= 0 {
		c := l.far.chunks[m.i]
		if key := c.key[m.j]; m.left == 0 || key > px^l.flip {
			v := Level{key ^ l.flip, c.qty[m.j]}
			m.i, m.j = l.far.before(m.i, m.j)
			return v, true
		}
	}
	m.left--
	m.word &^= 1 << (slot % 64)
	return Level{px, l.slots[slot]}, true
}

// highBit is the place of the highest set bit of a word that is not 0.
func highBit(word uint64) uint { return uint(bits.Len64(word) - 1) }

func boolBit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}
