package vsim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"deeptape/bench/world"
	"deeptape/hotpath/event"
)

// history is the truth: what the venue's books were and which trades there were. It
// is written by the simulated market and read by the judge; the agent never sees it.
// Numbers are counts of 1e-8.
type history struct {
	symbols []*symbolHistory
	byName  map[string]*symbolHistory
}

type symbolHistory struct {
	name      string
	diffs     []diff
	trades    []trade
	quotes    map[int64]quote
	snapshots map[int64]snapshot // by the id that they hold
	order     []int64            // of snapshots, as they were made
	timesNs   [event.NumStreams][]int64
}

type diff struct {
	first, last int64
	levels      map[sidePx]int64 // new sizes
}

type trade struct {
	id, px, qty int64
	sell        bool
}

type quote struct{ bidPx, bidQty, askPx, askQty int64 }

type sidePx struct {
	ask bool
	px  int64
}

type snapshot struct {
	levels map[sidePx]int64
	body   string
}

func newHistory(w *world.World) *history {
	h := &history{byName: map[string]*symbolHistory{}}
	for _, s := range w.Symbols() {
		sh := &symbolHistory{name: s.Name, quotes: map[int64]quote{}, snapshots: map[int64]snapshot{}}
		h.symbols = append(h.symbols, sh)
		h.byName[s.Name] = sh
		h.snapshot(w, s.Name)
	}
	return h
}

func pow10(n int) int64 {
	p := int64(1)
	for ; n > 0; n-- {
		p *= 10
	}
	return p
}

func decimal(n int64) string {
	text := strconv.FormatInt(n%world.Unit, 10)
	return strconv.FormatInt(n/world.Unit, 10) + "." + strings.Repeat("0", 8-len(text)) + text
}

func appendLevels(b *strings.Builder, levels []world.Level) {
	b.WriteByte('[')
	for i, l := range levels {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`["` + decimal(l.Px) + `","` + decimal(l.Qty) + `"]`)
	}
	b.WriteByte(']')
}

func levelMap(bids, asks []world.Level) map[sidePx]int64 {
	levels := make(map[sidePx]int64, len(bids)+len(asks))
	for _, l := range bids {
		levels[sidePx{false, l.Px}] = l.Qty
	}
	for _, l := range asks {
		levels[sidePx{true, l.Px}] = l.Qty
	}
	return levels
}

// event notes an event and returns its frame and the name of its stream.
func (h *history) event(e *world.Event, symbol string) (text, stream string) {
	sh := h.byName[symbol]
	lower := strings.ToLower(symbol)
	var b strings.Builder
	ms := e.AtNs / 1e6
	switch e.Kind {
	case world.Diff:
		stream = lower + "@depth@100ms"
		fmt.Fprintf(&b, `{"stream":"%s","data":{"e":"depthUpdate","E":%d,"s":"%s","U":%d,"u":%d,"b":`, stream, ms, symbol, e.First, e.Last)
		appendLevels(&b, e.Bids)
		b.WriteString(`,"a":`)
		appendLevels(&b, e.Asks)
		b.WriteString("}}")
		sh.timesNs[event.StreamBook] = append(sh.timesNs[event.StreamBook], e.AtNs)
		sh.diffs = append(sh.diffs, diff{first: e.First, last: e.Last, levels: levelMap(e.Bids, e.Asks)})
	case world.Trade:
		stream = lower + "@trade"
		fmt.Fprintf(&b, `{"stream":"%s","data":{"e":"trade","E":%d,"s":"%s","t":%d,"p":"%s","q":"%s","T":%d,"m":%t,"M":true}}`,
			stream, ms, symbol, e.TradeID, decimal(e.Px), decimal(e.Qty), ms, e.BuyerIsMaker)
		sh.timesNs[event.StreamTrades] = append(sh.timesNs[event.StreamTrades], e.AtNs)
		sh.trades = append(sh.trades, trade{e.TradeID, e.Px, e.Qty, e.BuyerIsMaker})
	default:
		stream = lower + "@bookTicker"
		fmt.Fprintf(&b, `{"stream":"%s","data":{"u":%d,"s":"%s","b":"%s","B":"%s","a":"%s","A":"%s"}}`,
			stream, e.Last, symbol, decimal(e.Bid.Px), decimal(e.Bid.Qty), decimal(e.Ask.Px), decimal(e.Ask.Qty))
		sh.timesNs[event.StreamQuotes] = append(sh.timesNs[event.StreamQuotes], e.AtNs)
		sh.quotes[e.Last] = quote{e.Bid.Px, e.Bid.Qty, e.Ask.Px, e.Ask.Qty}
	}
	return b.String(), stream
}

// snapshot makes the body of a snapshot of this moment, and keeps it.
func (h *history) snapshot(w *world.World, symbol string) string {
	book, _ := w.Book(symbol)
	sh := h.byName[symbol]
	if s, ok := sh.snapshots[book.LastID]; ok {
		return s.body
	}
	var b strings.Builder
	fmt.Fprintf(&b, `{"lastUpdateId":%d,"bids":`, book.LastID)
	appendLevels(&b, book.Bids)
	b.WriteString(`,"asks":`)
	appendLevels(&b, book.Asks)
	b.WriteString("}")
	sh.snapshots[book.LastID] = snapshot{levelMap(book.Bids, book.Asks), b.String()}
	sh.order = append(sh.order, book.LastID)
	return b.String()
}

// old is a snapshot that was made before.
func (h *history) old(m *machine, symbol string) string {
	sh := h.byName[symbol]
	return sh.snapshots[sh.order[m.rng.IntN(len(sh.order))]].body
}

// diffAt is the place of the diff that ends at an id, or -1.
func (sh *symbolHistory) diffAt(last int64) int {
	i, ok := slices.BinarySearchFunc(sh.diffs, last, func(d diff, last int64) int {
		switch {
		case d.last < last:
			return -1
		case d.last > last:
			return 1
		}
		return 0
	})
	if !ok {
		return -1
	}
	return i
}

// bookAt is the true book after the diff that ends at an id.
func (sh *symbolHistory) bookAt(id int64) map[sidePx]int64 {
	from := int64(0)
	for _, at := range sh.order {
		if at <= id {
			from = max(from, at)
		}
	}
	book := maps.Clone(sh.snapshots[from].levels)
	for _, d := range sh.diffs {
		if d.last <= from || d.last > id {
			continue
		}
		for k, qty := range d.levels {
			if qty == 0 {
				delete(book, k)
			} else {
				book[k] = qty
			}
		}
	}
	return book
}
