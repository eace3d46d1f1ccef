package simvenue

// A diff of Binance speaks of what lies inside the window of the snapshots that it has
// given; what happens outside is unknown until it changes (sheet, "Book sync"). With
// VenueOptions.Ghosts a made market keeps the nastiest reading of that: a level outside
// is told when it comes or changes, and never when it goes. So a client that only follows
// the diffs keeps ghosts at the far ends of its book, and its chain is perfect.

// answersKept is how many of a symbol's newest answers still have a window: a client may
// have discarded some of them.
const answersKept = 4

// told is the window of one answer, by keys. A side that it held whole has no edge.
type told struct {
	edge  [2]int64 // of bids, of asks
	whole [2]bool
}

// tell notes the window of an answer with at most limit levels a side.
func (sym *symbol) tell(bids, asks []level, limit int) {
	var w told
	for s, levels := range [2][]level{bids, asks} {
		if w.whole[s] = len(levels) < limit; !w.whole[s] {
			w.edge[s] = levels[len(levels)-1].key
		}
	}
	sym.told = append(sym.told, w)
	sym.told = sym.told[max(0, len(sym.told)-answersKept):]
}

// speaks says whether a diff tells that a level has gone.
func (sym *symbol) speaks(bid bool, key int64) bool {
	for _, w := range sym.told {
		if bid && (w.whole[0] || key >= w.edge[0]) || !bid && (w.whole[1] || key <= w.edge[1]) {
			return true
		}
	}
	return len(sym.told) == 0
}

// without leaves out what the venue does not speak of.
func (sym *symbol) without(bid bool, levels []level) []level {
	var out []level
	for _, l := range levels {
		if !l.gone || sym.speaks(bid, l.key) {
			out = append(out, l)
		}
	}
	return out
}
