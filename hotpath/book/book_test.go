package book

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"deeptape/hotpath/book/booktest"
	"deeptape/hotpath/event"
)

// pair is a book and its oracle, driven by the same steps. A step is two numbers,
// so that a random source and a fuzzer can both make them.
type pair struct {
	b      *Book
	o      *booktest.Book
	centre int64 // in ticks: about where the two sides meet
	got    []Level
	want   []Level
}

func newPair(tick int64) *pair {
	return &pair{b: New(tick), o: booktest.New(tick), centre: 6_000_000}
}

func (p *pair) set(side event.Side, px, qty int64) {
	p.b.Set(side, px, qty)
	p.o.Set(side, px, qty)
}

// apply is set for all levels of a message at once.
func (p *pair) apply(message []event.Level) {
	p.b.Foresee(message)
	p.b.Apply(message)
	for _, v := range message {
		p.o.Set(v.Side, v.Px, v.Qty)
	}
}

// step does one thing to both books. op says what, x where and how much.
func (p *pair) step(op uint8, x uint16) error {
	side := event.Bid + event.Side(x&1)
	away := int64(-1) // the direction in which levels get worse
	if side == event.Ask {
		away = 1
	}
	rest := int64(x >> 1)
	qty := rest%4*1000 + rest%3 // often 0
	best := int64(0)
	all := p.o.Levels(side)
	if len(all) > 0 {
		best = all[0].Px
	}
	switch op % 25 {
	default: // near the touch
		p.set(side, (p.centre+away*(rest%64))*p.o.Tick, qty)
	case 5, 6, 7:
		p.set(side, (p.centre+away*(rest%3000))*p.o.Tick, qty)
	case 8: // at the ends of the window as it stands
		l := &p.b.ladders[side-1]
		s := l.lo + rest%5 - 2 + rest%3*(windowTicks/2)
		p.set(side, (s^l.flip)*p.o.Tick, qty)
	case 9: // far, on the bad side
		p.set(side, (p.centre+away*rest*rest)*p.o.Tick, qty)
	case 10: // far, on the good side
		p.set(side, (p.centre-away*rest*37)*p.o.Tick, qty)
	case 11: // off the grid, if the tick leaves room
		p.set(side, (p.centre+away*(rest%300-30))*p.o.Tick+rest%7, qty)
	case 12: // what a broken venue may send
		px := []int64{0, -1, 1, -p.o.Tick, math.MaxInt64, math.MinInt64, math.MaxInt64 - rest, math.MinInt64 + rest, math.MaxInt64 / p.o.Tick * p.o.Tick, math.MinInt64 / p.o.Tick * p.o.Tick, -p.centre * p.o.Tick}[rest%11]
		p.set(side, px, []int64{0, 1, math.MaxInt64, -1, math.MinInt64}[rest/11%5])
	case 13, 14: // the best level goes
		p.set(side, best, 0)
	case 15: // the best levels go, as in a sweep
		for _, v := range all[:min(len(all), int(rest%20))] {
			p.set(side, v.Px, 0)
		}
	case 16: // some level goes or changes
		if len(all) > 0 {
			p.set(side, all[int(rest)%len(all)].Px, rest%2*5)
		}
	case 17: // the market moves
		p.centre += rest%601 - 300
	case 18:
		if rest%8 == 0 {
			p.centre += rest - 16384
		}
	case 19:
		switch rest % 32 {
		case 0:
			p.centre *= 10
		case 1:
			p.centre /= 10
		case 2:
			p.centre = -p.centre
		case 3:
			p.centre = 6_000_000
		}
		if p.centre > 1<<40 || p.centre < -1<<40 {
			p.centre = 0
		}
	case 20:
		if rest%64 == 0 {
			p.b.Clear()
			p.o.Clear()
		}
	case 21:
		if rest%32 == 0 {
			px, q := int8(rest>>5%3), int8(rest>>7%4)
			got, want := p.b.Rescale(px, q), p.o.Rescale(px, q)
			if got != want {
				return fmt.Errorf("Rescale(%d, %d) = %v, want %v", px, q, got, want)
			}
		}
	case 22: // a run of levels, best first as snapshots have it, or worst first
		var message []event.Level
		for k := range rest % 100 {
			if rest&1 == 1 {
				k = 99 - k
			}
			message = append(message, event.Level{Side: side, Px: (p.centre + away*k*(rest%1000)) * p.o.Tick, Qty: 1 + k})
		}
		p.apply(message)
	case 24: // the venue's depth, as a rule close to what there is
		depth := len(all) - int(rest%5)
		if rest%61 == 0 {
			depth = int(rest % 300)
		}
		p.b.Truncate(depth)
		p.o.Truncate(max(depth, 0))
	case 23: // levels go until the book is small again
		if len(all) > 300 {
			for i, v := range all {
				if i%3 != int(rest%3) {
					p.set(side, v.Px, 0)
				}
			}
		}
	}
	return nil
}

// compare checks the book's invariants and every answer that it gives.
func (p *pair) compare() error {
	if err := p.b.Check(); err != nil {
		return err
	}
	for side := event.Bid; side <= event.Ask; side++ {
		p.want = p.want[:0]
		for _, v := range p.o.Levels(side) {
			p.want = append(p.want, Level(v))
		}
		p.got = p.b.AppendLevels(p.got[:0], side)
		if !slices.Equal(p.got, p.want) {
			return fmt.Errorf("side %d is %v, want %v", side, p.got, p.want)
		}
		if n := p.b.Len(side); n != len(p.want) {
			return fmt.Errorf("Len(%d) = %d, want %d", side, n, len(p.want))
		}
		best, ok := p.b.Best(side)
		if ok != (len(p.want) > 0) || ok && best != p.want[0] || !ok && best != (Level{}) {
			return fmt.Errorf("Best(%d) = %v, %v, want the first of %v", side, best, ok, p.want)
		}
		for _, n := range []int{0, 1, 3, 10, 50, len(p.want), len(p.want) + 1} {
			dst := make([]Level, n)
			k := p.b.Top(side, dst)
			if k != min(n, len(p.want)) || !slices.Equal(dst[:k], p.want[:k]) {
				return fmt.Errorf("Top(%d) of %d is %v, want %v", side, n, dst[:k], p.want)
			}
		}
	}
	if p.b.OffGrid() != p.o.OffGrid() {
		return fmt.Errorf("OffGrid() = %d, want %d", p.b.OffGrid(), p.o.OffGrid())
	}
	return nil
}

func TestRandomSteps(t *testing.T) {
	steps := 2500
	if testing.Short() {
		steps = 500
	}
	for _, tick := range []int64{1, 1, 1, 5, 10, 3 << 10, 1_000_003} {
		t.Run(fmt.Sprint(tick), func(t *testing.T) {
			seed := testSeed(t)
			r := rand.New(rand.NewPCG(seed, uint64(tick)))
			p := newPair(tick)
			for i := range steps {
				op, x := uint8(r.Uint32()), uint16(r.Uint32())
				err := p.step(op, x)
				if err == nil {
					err = p.compare()
				}
				if err != nil {
					t.Fatalf("seed %d, tick %d, step %d (%d, %d): %v", seed, tick, i, op, x, err)
				}
			}
		})
	}
}

func FuzzBook(f *testing.F) {
	f.Add(uint8(0), []byte("\x00\x10\x00\x01\x21\x43\x16\xff\x00\x0d\x01\x00"))
	f.Add(uint8(4), []byte("\x16\xc6\x01\x0b\x08\x01\x0c\x06\x00\x0f\xff\x00\x14\x00\x00"))
	f.Add(uint8(9), []byte("\x09\xfe\xff\x0a\x70\xff\x0d\x00\x00\x12\x10\x00\x15\x40\x01\x0d\x00\x00"))
	f.Fuzz(func(t *testing.T, tick uint8, ops []byte) {
		p := newPair(int64(tick) + 1)
		for ; len(ops) >= 3; ops = ops[3:] {
			if err := p.step(ops[0], uint16(ops[1])|uint16(ops[2])<<8); err != nil {
				t.Fatal(err)
			}
			if err := p.compare(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestLargeBook has as many levels as Coinbase sends, in the order in which they
// may come, and then takes them away.
func TestLargeBook(t *testing.T) {
	const n = 22000
	seed := testSeed(t)
	r := rand.New(rand.NewPCG(seed, 3))
	for _, order := range []string{"best first", "worst first", "shuffled"} {
		var levels []Level
		for i := range n {
			levels = append(levels, Level{6_000_000 + int64(i)*int64(i)/50, int64(i + 1)})
		}
		want := slices.Clone(slices.CompactFunc(levels, func(x, y Level) bool { return x.Px == y.Px }))
		levels = slices.Clone(want)
		switch order {
		case "worst first":
			slices.Reverse(levels)
		case "shuffled":
			r.Shuffle(len(levels), func(i, j int) { levels[i], levels[j] = levels[j], levels[i] })
		}
		b := New(1)
		for i, v := range levels {
			if b.Set(event.Ask, v.Px, v.Qty); b.Len(event.Ask) != i+1 {
				t.Fatalf("%s: %d levels after %d, of which %v is the last", order, b.Len(event.Ask), i+1, v)
			}
			if i%500 == 0 {
				if err := b.Check(); err != nil {
					t.Fatalf("%s: %v", order, err)
				}
			}
		}
		if got := b.AppendLevels(nil, event.Ask); !slices.Equal(got, want) {
			t.Fatalf("%s: %d levels are wrong", order, len(got))
		}
		most := 1042<<10 + 80*n
		if b.Bytes() > most {
			t.Errorf("%s: %d bytes, more than %d", order, b.Bytes(), most)
		}
		for i, v := range levels {
			if b.Set(event.Ask, v.Px, 0); b.Len(event.Ask) != len(levels)-i-1 {
				t.Fatalf("%s: %d levels are left after %d are removed, of which %v is the last", order, b.Len(event.Ask), i+1, v)
			}
			if i%500 == 0 {
				if err := b.Check(); err != nil {
					t.Fatalf("%s: %v", order, err)
				}
			}
		}
		if b.Len(event.Ask) != 0 || b.Bytes() > most {
			t.Errorf("%s: %d levels left, %d bytes", order, b.Len(event.Ask), b.Bytes())
		}
	}
}

func TestRescaleOverflowChangesNothing(t *testing.T) {
	for name, set := range map[string]Level{
		"px in window": {math.MaxInt64/10 + 1, 1}, "qty in window": {5, math.MaxInt64/10 + 1},
		"negative px": {math.MinInt64/10 - 1, 1}, "least px": {math.MinInt64, 1},
	} {
		b := New(1)
		b.Set(event.Bid, set.Px, set.Qty)
		b.Set(event.Bid, -1_000_000, 3)
		b.Set(event.Bid, 1_000_000, 4)
		before := b.AppendLevels(nil, event.Bid)
		if b.Rescale(1, 1) {
			t.Errorf("%s: no overflow seen", name)
		}
		if got := b.AppendLevels(nil, event.Bid); !slices.Equal(got, before) {
			t.Errorf("%s: %v became %v", name, before, got)
		}
		if err := b.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if b := New(math.MaxInt64); b.Rescale(1, 0) || !b.Rescale(0, 18) {
		t.Error("the tick overflows, the sizes of an empty book do not")
	}
}

// TestCheckSees breaks each invariant of a sound book and wants Check to say so.
func TestCheckSees(t *testing.T) {
	for name, spoil := range map[string]func(b *Book){
		"size without bit":    func(b *Book) { b.ladders[0].slots[7] = 1 },
		"bit without size":    func(b *Book) { b.ladders[0].bits[7] |= 1 },
		"negative size":       func(b *Book) { b.ladders[1].slots[uint(b.ladders[1].best)%windowTicks] = -1 },
		"word bit":            func(b *Book) { b.ladders[0].words[0] ^= 1 },
		"count":               func(b *Book) { b.ladders[1].count++ },
		"best":                func(b *Book) { b.ladders[1].best-- },
		"window too high":     func(b *Book) { b.ladders[0].lo = math.MaxInt64 },
		"window moved":        func(b *Book) { b.ladders[0].lo += windowTicks / 2; b.ladders[0].best += windowTicks / 2 },
		"side":                func(b *Book) { b.ladders[1].flip = 0 },
		"tick":                func(b *Book) { b.grid.tick = 20 },
		"order of far":        func(b *Book) { c := b.ladders[0].far.chunks[0]; c.key[1], c.key[2] = c.key[2], c.key[1] },
		"size in far":         func(b *Book) { b.ladders[0].far.chunks[1].qty[1] = 0 },
		"low key":             func(b *Book) { b.ladders[0].far.low[1]++ },
		"number in far":       func(b *Book) { b.ladders[0].far.n++ },
		"off the grid in far": func(b *Book) { b.ladders[0].far.off-- },
		"empty chunk":         func(b *Book) { b.ladders[0].far.insertChunk(0) },
		"small chunks": func(b *Book) {
			f := &b.ladders[0].far
			f.chunks[0].n, f.chunks[1].n = 1, 1
			f.low[0], f.low[1] = f.chunks[0].key[0], f.chunks[1].key[0]
		},
		"level of the window in far": func(b *Book) {
			l := &b.ladders[0]
			l.far.set((l.lo+5)*10, 1, false)
		},
		"far without window": func(b *Book) {
			l := &b.ladders[0]
			clear(l.slots[:])
			clear(l.bits[:])
			clear(l.words[:])
			l.count, l.best = 0, l.lo
		},
	} {
		b := New(10)
		for i := range int64(200) {
			b.Set(event.Bid, 50_000_000-i*7000, 1+i)
			b.Set(event.Ask, 50_000_010+i*10, 1+i)
		}
		b.Set(event.Bid, 40_000_003, 1)
		if err := b.Check(); err != nil {
			t.Fatal(err)
		}
		spoil(b)
		if b.Check() == nil {
			t.Errorf("%s: not seen", name)
		}
	}
}

func TestPanics(t *testing.T) {
	for name, f := range map[string]func(){
		"no side":   func() { New(1).Set(event.NoSide, 1, 1) },
		"no tick":   func() { New(0) },
		"by minus1": func() { New(1).Rescale(-1, 0) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// testSeed is always the same, so that luck is no gate; DEEPTAPE_SEED=n tries another.
func testSeed(t testing.TB) uint64 {
	seed := uint64(1)
	if one, err := strconv.ParseUint(os.Getenv("DEEPTAPE_SEED"), 10, 64); err == nil {
		seed = one
	}
	t.Logf("DEEPTAPE_SEED=%d", seed)
	return seed
}
