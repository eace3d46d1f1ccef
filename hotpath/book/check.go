package book

import (
	"fmt"
	"math"
	"math/bits"
)

// Check returns the first invariant of the book that does not hold. It looks at
// every slot and every level (about 20 µs): for tests, and for a book in doubt.
func (b *Book) Check() error {
	if b.grid != newGrid(max(b.grid.tick, 1)) {
		return fmt.Errorf("grid %+v does not belong to its tick", b.grid)
	}
	for i, name := range [...]string{"bid", "ask"} {
		l := &b.ladders[i]
		if l.flip != -int64(i) {
			return fmt.Errorf("%s ladder: flip is %d", name, l.flip)
		}
		if err := l.check(&b.grid); err != nil {
			return fmt.Errorf("%s ladder: %w", name, err)
		}
		if err := l.far.check(&b.grid, l); err != nil {
			return fmt.Errorf("%s far list: %w", name, err)
		}
	}
	return nil
}

func (l *ladder) check(g *grid) error {
	count := 0
	for w, word := range l.bits {
		for i := w * 64; i < w*64+64; i++ {
			if l.slots[i] < 0 || (l.slots[i] > 0) != (word>>(i%64)&1 == 1) {
				return fmt.Errorf("slot %d holds %d and its bit is %d", i, l.slots[i], word>>(i%64)&1)
			}
		}
		count += bits.OnesCount64(word)
		if (word != 0) != (l.words[w/64]>>(w%64)&1 == 1) {
			return fmt.Errorf("word %d is %x and its bit above is wrong", w, word)
		}
	}
	if count != l.count {
		return fmt.Errorf("count is %d, levels are %d", l.count, count)
	}
	if l.lo > math.MaxInt64-windowTicks+1 {
		return fmt.Errorf("window begins at %d, too high", l.lo)
	}
	best := l.lo
	for k := range int64(windowTicks) {
		s := l.lo + windowTicks - 1 - k
		if l.slots[uint(s)%windowTicks] == 0 {
			continue
		}
		best = s
		if t, ok := g.ticks(g.px(s ^ l.flip)); !ok || t != s^l.flip {
			return fmt.Errorf("place %d is no price", s)
		}
		if k > slackTicks && l.lo != math.MinInt64 {
			return fmt.Errorf("best place is %d below the end of the window", k)
		}
		break
	}
	if best != l.best {
		return fmt.Errorf("best is %d, should be %d", l.best, best)
	}
	return nil
}

func (f *far) check(g *grid, l *ladder) error {
	if len(f.chunks) != len(f.low) {
		return fmt.Errorf("%d chunks and %d low keys", len(f.chunks), len(f.low))
	}
	n, off := 0, 0
	var last *int64
	for i, c := range f.chunks {
		if c.n < 1 || c.n > chunkLevels {
			return fmt.Errorf("chunk %d holds %d levels", i, c.n)
		}
		if i > 0 && f.chunks[i-1].n+c.n <= chunkLevels/2 {
			return fmt.Errorf("chunks %d and %d hold %d and %d levels", i-1, i, f.chunks[i-1].n, c.n)
		}
		if f.low[i] != c.key[0] {
			return fmt.Errorf("low key of chunk %d is %d, should be %d", i, f.low[i], c.key[0])
		}
		n += c.n
		for j := range c.n {
			key := c.key[j]
			if last != nil && *last >= key {
				return fmt.Errorf("key %d follows %d", key, *last)
			}
			last = &c.key[j]
			if c.qty[j] <= 0 {
				return fmt.Errorf("key %d has size %d", key, c.qty[j])
			}
			t, ok := g.ticks(key ^ l.flip)
			if ok != ((key^l.flip)%g.tick == 0) || ok && t != (key^l.flip)/g.tick {
				return fmt.Errorf("price %d is %d ticks of %d", key^l.flip, t, g.tick)
			}
			if !ok {
				off++
			} else if t^l.flip >= l.lo || l.count == 0 {
				return fmt.Errorf("place %d belongs into the window of %d levels at %d", t^l.flip, l.count, l.lo)
			}
		}
	}
	if n != f.n || off != f.off {
		return fmt.Errorf("n %d and off %d, should be %d and %d", f.n, f.off, n, off)
	}
	return nil
}
