// Package world is a seeded market: books, quotes and trades of some symbols
// that behave like a real venue's, made from one number. It knows no venue's
// wire; bench/simvenue dresses its events.
//
// It must never read a clock, use a float, or depend on the order of a map:
// the same seed and symbol give the same events on every machine, whichever
// other symbols are beside them.
//
// Several venues may be in one world: their markets of the same thing then follow one
// true mid, each with a delay and a clock of its own (Mid, Follower). Which levels there
// are, the sizes, the spread and the trades stay each market's own.
//
// Prices and sizes are counts of 1e-8. Every change of a book takes one or more
// update ids. What changed within 100 ms becomes one diff, which gives each
// touched level once with its size at the end of the window (0: gone, even if
// it came and went within the window), as Binance does. A quote is made at every
// change of the best level of either side; the fills of one aggressive order
// make one quote, at the end.
//
// Invariants, per symbol:
//   - a diff's First is the Last of the diff before plus one;
//   - the last quote whose id is not above a diff's Last is the best of the book
//     after that diff;
//   - best bid < best ask, no level of size 0 or less, neither side ever empty;
//   - trade ids are consecutive; events come in the order of AtNs.
package world

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
)

// Unit is one whole coin or quote coin in counts of 1e-8.
const Unit = 100_000_000

// DefaultStartNs is 2026-01-01T00:00:00Z.
const DefaultStartNs = 1_767_225_600_000_000_000

// Symbol is one market to make.
type Symbol struct {
	Name        string
	StartPx     int64  // counts of 1e-8
	PxDecimals  int    // the tick is 10^-PxDecimals
	QtyDecimals int    // the lot is 10^-QtyDecimals; one size in some thousands is finer
	MaxQtyBits  int    // sizes reach 2^MaxQtyBits lots
	Depth       int    // levels per side at the start, and about which it stays
	PerMille    int    // pace; 1000 is about 10 diffs, 100 quotes and 30 trades a second
	Mid         string // the true mid that it follows where its Spec has a Follower; "": none
}

// Spec says which markets there are.
type Spec struct {
	Symbols []Symbol  // none: Symbols("BTCUSDT", "ETHUSDT", "SOLUSDT")
	StartNs int64     // 0: DefaultStartNs
	Follow  *Follower // nil: each market walks by itself, and the clock is right
}

// Symbols gives names a plausible market each: the first at full pace, the rest
// at a tenth.
func Symbols(names ...string) []Symbol {
	known := map[string]Symbol{
		"BTCUSDT": {StartPx: 61_837_63 * Unit / 100, PxDecimals: 2, QtyDecimals: 5, MaxQtyBits: 20, Depth: 7000},
		"ETHUSDT": {StartPx: 2_683_41 * Unit / 100, PxDecimals: 2, QtyDecimals: 4, MaxQtyBits: 20, Depth: 6000},
		"SOLUSDT": {StartPx: 162_37 * Unit / 100, PxDecimals: 2, QtyDecimals: 3, MaxQtyBits: 21, Depth: 3000},
	}
	var list []Symbol
	for i, name := range names {
		s, ok := known[name]
		if !ok {
			h := hash(name)
			s = Symbol{
				StartPx:     int64(20_000+h%80_000) * Unit / 10_000,
				PxDecimals:  4,
				QtyDecimals: int(h>>32%3) + 1,
				MaxQtyBits:  18,
				Depth:       1500,
			}
		}
		s.Name, s.PerMille = name, 100
		if i == 0 {
			s.PerMille = 1000
		}
		list = append(list, s)
	}
	return list
}

func hash(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()
}

// Kind of an event.
type Kind uint8

const (
	Diff Kind = iota
	Quote
	Trade
)

// Level is a price and the whole size there, in counts of 1e-8.
type Level struct{ Px, Qty int64 }

// Event is one thing that a venue would send.
type Event struct {
	AtNs    int64
	StampNs int64 // AtNs by the venue's clock; never before that of the event before
	Symbol  int   // index into World.Symbols
	Kind    Kind

	First, Last int64   // update ids; a quote has Last only
	Bids, Asks  []Level // of a diff, best first; a size of 0 removes. Valid until the next Next
	Bid, Ask    Level   // of a quote

	TradeID      int64
	Px, Qty      int64
	BuyerIsMaker bool
}

// Book is a whole book as of update id LastID.
type Book struct {
	LastID     int64
	Bids, Asks []Level // best first
}

// World steps its markets through virtual time. Not safe for concurrent use.
type World struct {
	startNs int64
	symbols []Symbol
	markets []*market
	follow  *Follower
	stampNs int64 // of the last event
}

// New makes the markets of the spec as they are at its start.
func New(seed uint64, spec Spec) (*World, error) {
	if len(spec.Symbols) == 0 {
		spec.Symbols = Symbols("BTCUSDT", "ETHUSDT", "SOLUSDT")
	}
	if spec.StartNs == 0 {
		spec.StartNs = DefaultStartNs
	}
	w := &World{startNs: spec.StartNs, symbols: append([]Symbol(nil), spec.Symbols...), follow: spec.Follow}
	if f := w.follow; f != nil && (f.DelayNs < 0 || f.JitterNs < 0) {
		return nil, fmt.Errorf("cannot make a world: a delay of %d ns and a jitter of %d ns, want none below 0", f.DelayNs, f.JitterNs)
	}
	seen := map[string]bool{}
	for i, s := range w.symbols {
		if seen[s.Name] || s.Name == "" {
			return nil, fmt.Errorf("cannot make a market %q: the name is empty or already there", s.Name)
		}
		seen[s.Name] = true
		follows := spec.Follow != nil && s.Mid != ""
		if follows { // it begins where the mid does, on its own grid
			tick := pow10(8 - max(0, min(s.PxDecimals, 8)))
			s.StartPx = NewMid(spec.Follow.Seed, s.Mid, spec.StartNs).Px() / tick * tick
			w.symbols[i] = s
		}
		if s.PxDecimals < 0 || s.PxDecimals > 8 || s.QtyDecimals < 0 || s.QtyDecimals > 8 {
			return nil, fmt.Errorf("cannot make a market %q: decimals %d and %d, want 0 to 8", s.Name, s.PxDecimals, s.QtyDecimals)
		}
		if ticks := s.StartPx / pow10(8-s.PxDecimals); ticks < 5_000 || s.StartPx > 1<<58 {
			return nil, fmt.Errorf("cannot make a market %q: a price of %d ticks, want at least 5000 and less than 2^58 counts of 1e-8", s.Name, ticks)
		}
		if s.Depth < minSide*2 || s.PerMille < 1 || s.MaxQtyBits < 1 || s.MaxQtyBits > 30 {
			return nil, fmt.Errorf("cannot make a market %q: depth %d, pace %d, size bits %d are out of range", s.Name, s.Depth, s.PerMille, s.MaxQtyBits)
		}
		rng := rand.New(rand.NewPCG(seed, hash(s.Name)))
		m := newMarket(i, s, spec.StartNs, rng)
		if follows {
			m.followMid(spec.Follow, spec.StartNs)
		}
		w.markets = append(w.markets, m)
	}
	return w, nil
}

func pow10(n int) int64 {
	p := int64(1)
	for ; n > 0; n-- {
		p *= 10
	}
	return p
}

// StartNs is the time at which the markets begin, ns since 1970.
func (w *World) StartNs() int64 { return w.startNs }

// Symbols in the order of the spec.
func (w *World) Symbols() []Symbol { return w.symbols }

// Next is the next event of any symbol. There is always one.
func (w *World) Next() Event {
	var first *market
	for _, m := range w.markets {
		m.fill()
		if first == nil || m.queue[0].AtNs < first.queue[0].AtNs {
			first = m
		}
	}
	ev := first.queue[0]
	first.queue = first.queue[1:]
	ev.StampNs = ev.AtNs
	if w.follow != nil {
		ev.StampNs = max(w.follow.stamp(w.startNs, ev.AtNs), w.stampNs)
	}
	w.stampNs = ev.StampNs
	return ev
}

// Book is the symbol's book of this moment: as of the last change, which may
// lie inside a diff that Next has still to give. ok is false for an unknown name.
func (w *World) Book(symbol string) (b Book, ok bool) {
	for i, s := range w.symbols {
		if s.Name == symbol {
			return w.markets[i].book(), true
		}
	}
	return Book{}, false
}
