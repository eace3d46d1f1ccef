package vsim

import (
	"fmt"
	"slices"

	"deeptape/bench/simvenue"
	"deeptape/bench/world"
	"deeptape/hotpath/event"
)

// history is the truth about one venue: what its markets' books were, and what it
// said of them, whether or not a fault kept it from the agent. It is written by the
// simulated venue and read by the judge; the agent never sees it. Numbers are counts
// of 1e-8.
type history struct {
	read    reader
	symbols []*symbolHistory
	byName  map[string]*symbolHistory
	err     error // a frame that cannot be read
}

type symbolHistory struct {
	venue, name string

	start *book   // the market's book when the run began
	made  [][]lvl // the market's own changes of it

	diffs     []sent             // book frames, as the venue said them
	byTime    map[int64][]int    // places in diffs
	snapshots map[int64][]*whole // by the venue's clock; Binance's by the id that they hold
	trades    []trade
	tradeAt   map[string]int // by id
	quotes    map[int64][]quote
	timesNs   [event.NumStreams][]int64 // of whatever was said

	bodies []string // Binance: of its snapshots, as they were made
}

// whole is a book with which something begins.
type whole struct {
	book *book
	next int // place of the diff that comes after it
}

func newHistory(venue string, w *world.World) *history {
	h := &history{read: reader{dialect: dialectOf(venue)}, byName: map[string]*symbolHistory{}}
	for _, s := range w.Symbols() {
		sh := &symbolHistory{
			venue: venue, name: s.Name, start: &book{}, byTime: map[int64][]int{}, snapshots: map[int64][]*whole{},
			tradeAt: map[string]int{}, quotes: map[int64][]quote{},
		}
		b, _ := w.Book(s.Name)
		sh.start.apply(levelsOf(b.Bids, b.Asks))
		h.symbols = append(h.symbols, sh)
		h.byName[s.Name] = sh
	}
	return h
}

func levelsOf(bids, asks []world.Level) []lvl {
	levels := make([]lvl, 0, len(bids)+len(asks))
	for _, l := range bids {
		levels = append(levels, lvl{false, l.Px, l.Qty})
	}
	for _, l := range asks {
		levels = append(levels, lvl{true, l.Px, l.Qty})
	}
	return levels
}

// happens notes an event of the market.
func (h *history) happens(symbol string, e world.Event) {
	if e.Kind == world.Diff {
		sh := h.byName[symbol]
		sh.made = append(sh.made, levelsOf(e.Bids, e.Asks))
	}
}

// told notes what the venue says.
func (h *history) told(t simvenue.Told, nowNs int64) {
	sh := h.byName[t.Symbol]
	var err error
	switch t.Kind {
	case "book":
		var s sent
		s, err = h.read.book(t.Frame)
		s.made, s.crossed = len(sh.made), t.Crossed
		if t.Greeting {
			sh.snapshots[s.ts] = append(sh.snapshots[s.ts], &whole{newBook(s.levels), len(sh.diffs)})
			break
		}
		sh.byTime[s.ts] = append(sh.byTime[s.ts], len(sh.diffs))
		sh.diffs = append(sh.diffs, s)
		sh.timesNs[event.StreamBook] = append(sh.timesNs[event.StreamBook], nowNs)
	case "trade":
		var list []trade
		list, err = h.read.trades(t.Frame)
		for _, x := range list { // a greeting repeats what was said before, and may tell what nobody heard
			if _, ok := sh.tradeAt[x.id]; !ok || !t.Greeting {
				sh.tradeAt[x.id] = len(sh.trades)
				sh.trades = append(sh.trades, x)
			}
		}
		if t.Greeting {
			break
		}
		sh.timesNs[event.StreamTrades] = append(sh.timesNs[event.StreamTrades], nowNs)
	case "quote":
		var id int64
		var q quote
		id, q, err = h.read.quote(t.Frame)
		if !slices.Contains(sh.quotes[id], q) {
			sh.quotes[id] = append(sh.quotes[id], q)
		}
		if !t.Greeting {
			sh.timesNs[event.StreamQuotes] = append(sh.timesNs[event.StreamQuotes], nowNs)
		}
	}
	if err != nil && h.err == nil {
		h.err = fmt.Errorf("the simulated venue says what its sheet does not: %w: %s", err, t.Frame)
	}
}

// answered notes the body of a snapshot (Binance).
func (h *history) answered(symbol string, body []byte) {
	s, err := h.read.book(body)
	if err != nil || !s.whole {
		h.err = fmt.Errorf("the simulated venue answers what its sheet does not: %w: %s", err, body)
		return
	}
	sh := h.byName[symbol]
	if _, ok := sh.snapshots[s.last]; !ok {
		sh.snapshots[s.last] = []*whole{{newBook(s.levels), -1}}
		sh.bodies = append(sh.bodies, string(body))
	}
}

// after is the place of the diff that continues a snapshot.
func (sh *symbolHistory) after(s *whole, id int64) int {
	if s.next >= 0 {
		return s.next
	}
	i, _ := slices.BinarySearchFunc(sh.diffs, id+1, func(d sent, id int64) int {
		switch {
		case d.last < id:
			return -1
		case d.last > id:
			return 1
		}
		return 0
	})
	return i
}

// find is the place of a diff that the agent has recorded, if possible the one that is
// expected; -1: the venue has never said it.
func (sh *symbolHistory) find(ts int64, seq, seqPrev int64, levels []lvl, expected int) int {
	found := -1
	for _, i := range sh.byTime[ts] {
		d := &sh.diffs[i]
		if d.whole || d.last != 0 && (d.last != seq || d.first-1 != seqPrev) || !sameLevels(levels, d.levels) {
			continue
		}
		if found = i; i >= expected {
			break
		}
	}
	return found
}
