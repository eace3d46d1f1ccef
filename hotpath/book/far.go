package book

import (
	"slices"
	"unsafe"
)

// chunkLevels is the most that a chunk holds. Smaller chunks move fewer bytes for
// an insertion, larger ones are found sooner.
const chunkLevels = 64

// chunk is a run of levels in order. key[n:] and qty[n:] are meaningless.
type chunk struct {
	n   int
	key [chunkLevels]int64
	qty [chunkLevels]int64
}

// far is a sorted list of levels, cut into chunks. A level's key is its price for
// bids and the complement of it for asks, so greater keys are better; the best
// stands last, where levels come from the window and go back to it.
//
// Invariants:
//   - keys ascend strictly, within a chunk and from chunk to chunk; sizes are positive
//   - a chunk holds 1..chunkLevels levels, and two neighbours hold together more
//     than chunkLevels/2, which bounds the memory by the number of levels
//   - low[i] == chunks[i].key[0]
//   - n is the number of levels, off the number of those off the grid
type far struct {
	chunks []*chunk
	low    []int64
	spare  []*chunk // emptied, for the next one that is needed
	n      int
	off    int
	hint   int // the chunk of the last call: messages come sorted
}

// set gives a key its size; 0 removes it. off says that its price is off the grid.
func (f *far) set(key, qty int64, off bool) {
	if len(f.chunks) == 0 {
		if qty == 0 {
			return
		}
		f.insertChunk(0)
	}
	i := f.locate(key)
	c := f.chunks[i]
	j := c.find(key)
	if j < c.n && c.key[j] == key {
		if qty == 0 {
			f.remove(i, j, off)
			return
		}
		c.qty[j] = qty
		return
	}
	if qty == 0 {
		return
	}
	if c.n == chunkLevels {
		i, j = f.split(i, j)
		c = f.chunks[i]
	}
	copy(c.key[j+1:c.n+1], c.key[j:c.n])
	copy(c.qty[j+1:c.n+1], c.qty[j:c.n])
	c.key[j], c.qty[j] = key, qty
	c.n++
	f.low[i] = c.key[0]
	f.n++
	f.off += int(boolBit(off))
}

// locate returns the chunk in which key stands or would stand. There must be one.
func (f *far) locate(key int64) int {
	if h := f.hint; h < len(f.low) && f.low[h] <= key && (h+1 == len(f.low) || key < f.low[h+1]) {
		return h
	}
	lo := uint(0)
	for n := uint(len(f.low)); n > 1; {
		half := n / 2
		lo += half & -uint(boolBit(f.low[lo+half] <= key))
		n -= half
	}
	f.hint = int(lo)
	return int(lo)
}

// find returns the place of the first key that is not less than key: how many are less,
// of the last ones of eight, then of eight. Like locate it has no branch that depends on
// the keys, half of which would be guessed wrong; unlike locate it waits for no key before
// it reads the next.
func (c *chunk) find(key int64) int {
	eights := uint(0)
	for i := uint(7); i < uint(c.n); i += 8 {
		eights += uint(boolBit(c.key[i%chunkLevels] < key))
	}
	lo := 8 * eights
	n := lo
	for i := lo; i < min(lo+8, uint(c.n)); i++ {
		n += uint(boolBit(c.key[i%chunkLevels] < key))
	}
	return int(n)
}

// split makes room in the full chunk i for a level at place j, and returns where
// that place is now. At either end of the list it opens a new chunk and leaves the
// full one full: snapshots and evictions come in order.
func (f *far) split(i, j int) (int, int) {
	switch {
	case j == chunkLevels && i == len(f.chunks)-1:
		f.insertChunk(i + 1)
		return i + 1, 0
	case j == 0 && i == 0:
		f.insertChunk(0)
		return 0, 0
	}
	const half = chunkLevels / 2
	f.insertChunk(i + 1)
	c, d := f.chunks[i], f.chunks[i+1]
	copy(d.key[:], c.key[half:])
	copy(d.qty[:], c.qty[half:])
	c.n, d.n = half, chunkLevels-half
	f.low[i+1] = d.key[0]
	if j > half {
		return i + 1, j - half
	}
	return i, j
}

// insertChunk puts an empty chunk at place i. The caller fills it and sets low.
func (f *far) insertChunk(i int) {
	var c *chunk
	if k := len(f.spare); k > 0 {
		c = f.spare[k-1]
		f.spare = f.spare[:k-1]
		c.n = 0
	} else {
		c = new(chunk)
	}
	f.chunks = slices.Insert(f.chunks, i, c)
	f.low = slices.Insert(f.low, i, 0)
}

func (f *far) deleteChunk(i int) {
	f.spare = append(f.spare, f.chunks[i])
	f.chunks = slices.Delete(f.chunks, i, i+1)
	f.low = slices.Delete(f.low, i, i+1)
}

// remove takes the level at place j of chunk i away.
func (f *far) remove(i, j int, off bool) {
	c := f.chunks[i]
	copy(c.key[j:c.n-1], c.key[j+1:c.n])
	copy(c.qty[j:c.n-1], c.qty[j+1:c.n])
	c.n--
	f.n--
	f.off -= int(boolBit(off))
	if c.n == 0 {
		// Its neighbours need no look: next to a single level, each of them held at
		// least chunkLevels/2.
		f.deleteChunk(i)
		return
	}
	f.low[i] = c.key[0]
	if i+1 < len(f.chunks) && f.join(i) {
		return
	}
	if i > 0 {
		f.join(i - 1)
	}
}

// join makes one chunk of i and i+1 if both together are small.
func (f *far) join(i int) bool {
	c, d := f.chunks[i], f.chunks[i+1]
	if c.n+d.n > chunkLevels/2 {
		return false
	}
	copy(c.key[c.n:], d.key[:d.n])
	copy(c.qty[c.n:], d.qty[:d.n])
	c.n += d.n
	f.deleteChunk(i + 1)
	return true
}

// last returns the place of the best level; i < 0 if there is none.
func (f *far) last() (i, j int) {
	i = len(f.chunks) - 1
	if i >= 0 {
		j = f.chunks[i].n - 1
	}
	return i, j
}

// firstIsOff says whether the price of the worst level is off the grid. There must
// be one.
func (f *far) firstIsOff(g *grid, flip int64) bool {
	_, on := g.ticks(f.low[0] ^ flip)
	return !on
}

// before returns the place of the next worse level; i < 0 if there is none.
func (f *far) before(i, j int) (int, int) {
	if j > 0 {
		return i, j - 1
	}
	if i > 0 {
		return i - 1, f.chunks[i-1].n - 1
	}
	return -1, 0
}

// below returns the place of the best level that is worse than key; i < 0 if there
// is none.
func (f *far) below(key int64) (i, j int) {
	if len(f.chunks) == 0 {
		return -1, 0
	}
	i = f.locate(key)
	return f.before(i, f.chunks[i].find(key))
}

// bestOnGrid returns the tick number of the best level that is on the grid.
func (f *far) bestOnGrid(g *grid, flip int64) (int64, bool) {
	if f.n == f.off {
		return 0, false
	}
	for i, j := f.last(); i >= 0; i, j = f.before(i, j) {
		if t, ok := g.ticks(f.chunks[i].key[j] ^ flip); ok {
			return t, true
		}
	}
	return 0, false
}

// each calls visit for every level, worst first. visit may change them as long as
// the order stays.
func (f *far) each(visit func(key, qty *int64)) {
	for i, c := range f.chunks {
		for j := range c.n {
			visit(&c.key[j], &c.qty[j])
		}
		f.low[i] = c.key[0]
	}
}

func (f *far) clear() {
	f.spare = append(f.spare, f.chunks...)
	clear(f.chunks)
	f.chunks = f.chunks[:0]
	f.low = f.low[:0]
	f.n, f.off, f.hint = 0, 0, 0
}

func (f *far) bytes() int {
	return (len(f.chunks)+len(f.spare))*int(unsafe.Sizeof(chunk{})) +
		(cap(f.chunks)+cap(f.low)+cap(f.spare))*8
}
