package book

import "deeptape/hotpath/event"

// aheadLevels is how many levels are asked for at once.
const aheadLevels = 16

// Foresee asks the memory for what the first levels of a message will need, and does not
// wait: an Apply somewhat later finds it in the cache. Nothing changes by it; levels of no
// side do no harm.
//
// Where many books share no cache a level is a miss, and waiting for it was most of what
// it took: of 256 books 21-43 ns a level unforeseen, 11 foreseen
// (BenchmarkBookMany). In a book that is in the cache it costs half a nanosecond a level,
// and 3 to 5 where a message has one level.
func (b *Book) Foresee(levels []event.Level) {
	if n := min(len(levels), aheadLevels); n > 0 {
		foresee(b, &levels[0], n)
	}
}

// Set gives one level its new total size: Apply for a message of one level.
func (b *Book) Set(side event.Side, px, qty int64) {
	one := [1]event.Level{{Side: side, Px: px, Qty: qty}}
	b.Apply(one[:])
}

// Apply gives each level of a message its new total size. A qty of 0 removes the level,
// and so does a negative one, which means nothing in a book. It panics if a side is neither
// Bid nor Ask. The first levels may have been foreseen, or not.
func (b *Book) Apply(levels []event.Level) {
	for i := range levels {
		b.dawdle()
		if rest := levels[i:]; i%aheadLevels == 0 && len(rest) > aheadLevels {
			b.Foresee(rest[aheadLevels:])
		}
		v := &levels[i]
		l := &b.ladders[v.Side-1]
		qty := max(v.Qty, 0)
		t, ok := b.grid.ticks(v.Px)
		s := t ^ l.flip
		if !ok || uint64(s-l.lo) >= windowTicks {
			b.offGrid += boolBit(!ok)
			l.setOutside(&b.grid, v.Px, qty)
			continue
		}
		// No branch here depends on what the level was or becomes, because the
		// processor cannot guess that; it can guess that the best level stays.
		j := uint(s) % windowTicks
		w := j / 64
		l.slots[j] = qty
		word := l.bits[w]
		had := word >> (j % 64) & 1
		has := boolBit(qty != 0)
		word ^= (had ^ has) << (j % 64)
		l.bits[w] = word
		l.words[w/64] = l.words[w/64]&^(1<<(w%64)) | boolBit(word != 0)<<(w%64)
		l.count += int(has) - int(had)
		if s >= l.best {
			l.touched(&b.grid, s)
		}
	}
}
