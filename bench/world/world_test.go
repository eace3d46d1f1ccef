package world

import (
	"fmt"
	"hash/fnv"
	"sort"
	"strings"
	"testing"
)

// slow is a book that knows only what diffs say.
type slow struct{ bids, asks map[int64]int64 }

func newSlow(b Book) slow {
	s := slow{map[int64]int64{}, map[int64]int64{}}
	for _, l := range b.Bids {
		s.bids[l.Px] = l.Qty
	}
	for _, l := range b.Asks {
		s.asks[l.Px] = l.Qty
	}
	return s
}

func (s slow) best() (bid, ask Level) {
	for px, qty := range s.bids {
		if bid.Qty == 0 || px > bid.Px {
			bid = Level{px, qty}
		}
	}
	for px, qty := range s.asks {
		if ask.Qty == 0 || px < ask.Px {
			ask = Level{px, qty}
		}
	}
	return
}

func apply(side map[int64]int64, levels []Level) (absent int) {
	for _, l := range levels {
		if _, ok := side[l.Px]; !ok && l.Qty == 0 {
			absent++
		}
		if l.Qty == 0 {
			delete(side, l.Px)
		} else {
			side[l.Px] = l.Qty
		}
	}
	return
}

func sorted(side map[int64]int64, up bool) []Level {
	out := make([]Level, 0, len(side))
	for px, qty := range side {
		out = append(out, Level{px, qty})
	}
	sort.Slice(out, func(i, j int) bool { return (out[i].Px < out[j].Px) == up })
	return out
}

func mustNew(t testing.TB, seed uint64, spec Spec) *World {
	t.Helper()
	w, err := New(seed, spec)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// The invariants of the package comment, seen from outside, over 40 seconds.
func TestInvariants(t *testing.T) {
	for _, seed := range []uint64{1, 2} {
		w := mustNew(t, seed, Spec{})
		type state struct {
			book  slow
			last  int64
			quote Event
			trade int64
		}
		var st []*state
		for _, s := range w.Symbols() {
			b, _ := w.Book(s.Name)
			bid, ask := newSlow(b).best()
			if len(b.Bids) < 1000 || b.Bids[0] != bid || b.Asks[0] != ask {
				t.Fatalf("seed %d: %s begins with %d bids, best %v and %v", seed, s.Name, len(b.Bids), b.Bids[0], b.Asks[0])
			}
			st = append(st, &state{book: newSlow(b), last: b.LastID})
		}
		var at int64
		var absent, diffs, outside, fine int
		for {
			ev := w.Next()
			if ev.AtNs < at {
				t.Fatalf("seed %d: time went back from %d to %d", seed, at, ev.AtNs)
			}
			if at = ev.AtNs; at > DefaultStartNs+40e9 {
				break
			}
			s, name := st[ev.Symbol], w.Symbols()[ev.Symbol].Name
			switch ev.Kind {
			case Trade:
				if ev.Qty <= 0 || ev.Px <= 0 || (s.trade != 0 && ev.TradeID != s.trade+1) {
					t.Fatalf("seed %d: %s: trade after %d: %+v", seed, name, s.trade, ev)
				}
				s.trade = ev.TradeID
			case Quote:
				if ev.Bid.Px >= ev.Ask.Px || ev.Bid.Qty <= 0 || ev.Ask.Qty <= 0 || ev.Last <= s.last || ev.Last <= s.quote.Last {
					t.Fatalf("seed %d: %s: quote %+v after diff %d and quote %+v", seed, name, ev, s.last, s.quote)
				}
				s.quote = ev
			case Diff:
				diffs++
				if ev.First != s.last+1 || ev.Last < ev.First || len(ev.Bids)+len(ev.Asks) == 0 {
					t.Fatalf("seed %d: %s: diff %d to %d with %d levels after %d", seed, name, ev.First, ev.Last, len(ev.Bids)+len(ev.Asks), s.last)
				}
				s.last = ev.Last
				if w.Symbols()[ev.Symbol].Name == "BTCUSDT" && diffs%10 == 0 {
					edge := sorted(s.book.bids, false)[4999].Px
					for _, l := range ev.Bids {
						if l.Px < edge {
							outside++
						}
					}
				}
				for _, l := range append(append([]Level{}, ev.Bids...), ev.Asks...) {
					if l.Qty%w.markets[ev.Symbol].lot != 0 {
						fine++
					}
				}
				absent += apply(s.book.bids, ev.Bids) + apply(s.book.asks, ev.Asks)
				bid, ask := s.book.best()
				if bid.Px >= ask.Px {
					t.Fatalf("seed %d: %s: crossed at %d: %v %v", seed, name, ev.Last, bid, ask)
				}
				if s.quote.Last > ev.Last || (s.quote.Last > 0 && (s.quote.Bid != bid || s.quote.Ask != ask)) {
					t.Fatalf("seed %d: %s: after diff %d the best is %v %v, the last quote %+v", seed, name, ev.Last, bid, ask, s.quote)
				}
			}
		}
		if absent == 0 || outside == 0 || fine == 0 {
			t.Fatalf("seed %d: %d removals of absent levels, %d levels outside the best 5000, %d finer than the lot: want some of each", seed, absent, outside, fine)
		}
	}
}

// Book agrees with the diffs once its LastID is that of a diff.
func TestBookIsTheSumOfDiffs(t *testing.T) {
	w := mustNew(t, 7, Spec{Symbols: Symbols("BTCUSDT")})
	b, _ := w.Book("BTCUSDT")
	s := newSlow(b)
	checked := 0
	for checked < 20 {
		ev := w.Next()
		if ev.Kind != Diff {
			continue
		}
		apply(s.bids, ev.Bids)
		apply(s.asks, ev.Asks)
		b, _ := w.Book("BTCUSDT")
		if b.LastID != ev.Last {
			t.Fatalf("book at %d right after diff %d", b.LastID, ev.Last)
		}
		if fmt.Sprint(b.Bids) != fmt.Sprint(sorted(s.bids, false)) || fmt.Sprint(b.Asks) != fmt.Sprint(sorted(s.asks, true)) {
			t.Fatalf("book differs after diff %d", ev.Last)
		}
		checked++
	}
	if _, ok := w.Book("NONE"); ok {
		t.Fatal("a book of an unknown symbol")
	}
}

func digest(w *World, n int, only string) uint64 {
	h := fnv.New64a()
	for i := 0; i < n; {
		ev := w.Next()
		if name := w.Symbols()[ev.Symbol].Name; only == "" || name == only {
			ev.Symbol = 0
			stamp := fmt.Sprintf(" StampNs:%d", ev.StampNs) // newer than the pin
			fmt.Fprintln(h, strings.Replace(fmt.Sprintf("%+v", ev), stamp, "", 1))
			i++
		}
	}
	return h.Sum64()
}

func TestSameSeedSameEvents(t *testing.T) {
	a := digest(mustNew(t, 42, Spec{}), 5000, "")
	if b := digest(mustNew(t, 42, Spec{}), 5000, ""); a != b {
		t.Fatal("the same seed gave other events")
	}
	if b := digest(mustNew(t, 43, Spec{}), 5000, ""); a == b {
		t.Fatal("another seed gave the same events")
	}
	// What stands beside a symbol does not change it.
	alone := digest(mustNew(t, 42, Spec{Symbols: Symbols("BTCUSDT")}), 5000, "BTCUSDT")
	if b := digest(mustNew(t, 42, Spec{Symbols: Symbols("BTCUSDT", "ETHUSDT", "XYZUSDT")}), 5000, "BTCUSDT"); alone != b {
		t.Fatal("other symbols changed BTCUSDT")
	}
	// Pinned: who changes the rules of the market changes what every seed means,
	// and has to say so here.
	if const42 := uint64(0x5439ef03f19496e0); a != const42 {
		t.Fatalf("seed 42 no longer gives the events that it gave: digest %#x, was %#x", a, const42)
	}
}

// The market is about as busy as the real one, and has bursts.
func TestRates(t *testing.T) {
	w := mustNew(t, 5, Spec{Symbols: Symbols("BTCUSDT", "ETHUSDT")})
	const secs = 300
	var n [2][3]int
	var levels, maxLevels [2]int
	trades, quotes := map[int64]int{}, map[int64]int{}
	for {
		ev := w.Next()
		if ev.AtNs >= DefaultStartNs+secs*1e9 {
			break
		}
		n[ev.Symbol][ev.Kind]++
		if ev.Kind == Diff {
			l := len(ev.Bids) + len(ev.Asks)
			levels[ev.Symbol] += l
			maxLevels[ev.Symbol] = max(maxLevels[ev.Symbol], l)
		}
		if ev.Symbol == 0 && ev.Kind == Trade {
			trades[ev.AtNs/1e8]++
		}
		if ev.Symbol == 0 && ev.Kind == Quote {
			quotes[ev.AtNs/1e8]++
		}
	}
	peak := func(m map[int64]int) (p int) {
		for _, v := range m {
			p = max(p, v)
		}
		return
	}
	for i := range n {
		t.Logf("%s: diffs %.1f/s of %.1f levels (max %d), quotes %.1f/s, trades %.1f/s", w.Symbols()[i].Name, float64(n[i][Diff])/secs, float64(levels[i])/float64(n[i][Diff]), maxLevels[i], float64(n[i][Quote])/secs, float64(n[i][Trade])/secs)
	}
	t.Logf("peaks in 100 ms: %d trades, %d quotes", peak(trades), peak(quotes))
	within := func(what string, v, lo, hi float64) {
		if v < lo || v > hi {
			t.Errorf("%s: %.1f, want %v to %v", what, v, lo, hi)
		}
	}
	within("diffs/s", float64(n[0][Diff])/secs, 9.5, 10)
	within("levels per diff", float64(levels[0])/float64(n[0][Diff]), 14, 40)
	within("quotes/s", float64(n[0][Quote])/secs, 60, 180)
	within("trades/s", float64(n[0][Trade])/secs, 15, 60)
	within("diffs/s of the second", float64(n[1][Diff])/secs, 5, 10)
	within("quotes/s of the second", float64(n[1][Quote])/secs, 6, 18)
	within("trades/s of the second", float64(n[1][Trade])/secs, 1.5, 6)
	within("trades in the busiest 100 ms", float64(peak(trades)), 200, 2000)
	within("quotes in the busiest 100 ms", float64(peak(quotes)), 200, 2000)
}

// Twenty minutes later the book has about the shape that it began with.
func TestStaysInShape(t *testing.T) {
	w := mustNew(t, 11, Spec{Symbols: Symbols("BTCUSDT", "SOLUSDT", "ODDUSDT")})
	var at int64
	for at < DefaultStartNs+1200e9 {
		at = w.Next().AtNs
	}
	for _, s := range w.Symbols() {
		b, _ := w.Book(s.Name)
		spread := (b.Asks[0].Px - b.Bids[0].Px) / pow10(8-s.PxDecimals)
		t.Logf("%s: %d bids %d asks, best %d (began at %d), spread %d ticks", s.Name, len(b.Bids), len(b.Asks), b.Bids[0].Px, s.StartPx, spread)
		if len(b.Bids) < s.Depth/3 || len(b.Bids) > s.Depth*3/2 || len(b.Asks) < s.Depth/3 || len(b.Asks) > s.Depth*3/2 {
			t.Errorf("%s: %d bids, %d asks, want about %d", s.Name, len(b.Bids), len(b.Asks), s.Depth)
		}
		if b.Bids[0].Px < s.StartPx/4 || b.Bids[0].Px > s.StartPx*4 {
			t.Errorf("%s: the price went from %d to %d", s.Name, s.StartPx, b.Bids[0].Px)
		}
		if spread > 200 {
			t.Errorf("%s: a spread of %d ticks", s.Name, spread)
		}
	}
}

func TestBadSpecs(t *testing.T) {
	good := Symbols("BTCUSDT")[0]
	for i, change := range []func(*Symbol){
		func(s *Symbol) { s.Name = "" },
		func(s *Symbol) { s.PxDecimals = 9 },
		func(s *Symbol) { s.QtyDecimals = -1 },
		func(s *Symbol) { s.StartPx = 100 },
		func(s *Symbol) { s.StartPx = 1 << 59 },
		func(s *Symbol) { s.Depth = 5 },
		func(s *Symbol) { s.PerMille = 0 },
		func(s *Symbol) { s.MaxQtyBits = 40 },
	} {
		s := good
		change(&s)
		if _, err := New(1, Spec{Symbols: []Symbol{s}}); err == nil {
			t.Errorf("bad spec %d was accepted", i)
		}
	}
	if _, err := New(1, Spec{Symbols: []Symbol{good, good}}); err == nil {
		t.Error("a symbol twice was accepted")
	}
}

func BenchmarkNext(b *testing.B) {
	w := mustNew(b, 1, Spec{})
	b.ReportAllocs()
	for b.Loop() {
		w.Next()
	}
}
