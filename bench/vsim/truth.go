package vsim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"deeptape/hotpath/event"
)

// truth holds the record of one symbol against the market's history.
type truth struct {
	run      *run
	sh       *symbolHistory
	records  [][]byte
	coverage map[event.Stream][]event.Coverage // in order of ts

	book      map[sidePx]int64
	bookSeq   int64
	bookIn    *event.Coverage // interval of the last book message
	tradeNum  int64
	tradeIn   *event.Coverage
	messages  map[*event.Coverage]int64
	lastTs    int64
	tops      int
	lastBookT int64
}

func (t *truth) judge() error {
	if err := t.parts(); err != nil {
		return err
	}
	t.messages = map[*event.Coverage]int64{}
	for _, rec := range t.records {
		var h event.Head
		h.Get(rec)
		var err error
		switch h.Kind {
		case event.RowBook:
			err = t.bookMessage(&h, rec)
		case event.RowTop:
			err = t.top(&h, rec)
		case event.RowTrade:
			err = t.trade(&h, rec)
		case event.RowQuote:
			err = t.quote(&h, rec)
		}
		if err != nil {
			return fmt.Errorf("at %d: %w", h.Ts, err)
		}
	}
	for _, list := range t.coverage {
		for i := range list {
			if c := &list[i]; t.messages[c] != c.Messages && !t.touchesCut(c) {
				return fmt.Errorf("%s: it has %d", show(c), t.messages[c])
			}
		}
	}
	return t.end()
}

// touchesCut: the database may have had more of it than the journal has kept.
func (t *truth) touchesCut(c *event.Coverage) bool {
	return slices.ContainsFunc(t.run.cuts, func(x cut) bool { return c.Ts <= x.to && x.from <= c.TsEnd })
}

// parts: every instant belongs to one interval, from the start to the stop.
func (t *truth) parts() error {
	for s := range event.NumStreams {
		list := t.coverage[s]
		if len(list) == 0 {
			return fmt.Errorf("stream %s has no coverage", s)
		}
		for i := range list {
			c := &list[i]
			t.run.stats.count(c)
			if c.TsEnd < c.Ts {
				return fmt.Errorf("%s ends before it begins", show(c))
			}
			if i > 0 && list[i-1].TsEnd+1 != c.Ts {
				if t.touchesCut(c) || t.touchesCut(&list[i-1]) {
					continue // the journal does not know what the database does
				}
				return fmt.Errorf("%s does not begin where this ends: %s", show(c), show(&list[i-1]))
			}
			if (c.State == event.StateVerified) != (c.Proof != event.ProofNone) || c.State == event.StateGap && c.Cause == event.CauseNone {
				return fmt.Errorf("%s is no judgement", show(c))
			}
		}
	}
	return nil
}

func (s *Stats) count(c *event.Coverage) {
	switch c.State {
	case event.StateGap:
		s.Gaps++
	case event.StateVerified:
		s.Verified++
	}
}

// unknown is where the instants belong that a power loss may have taken from the
// journal: what the database has of them is not proven by it any more.
var unknown event.Coverage

// interval finds where an instant belongs.
func (t *truth) interval(s event.Stream, ts int64) (*event.Coverage, error) {
	list := t.coverage[s]
	i, ok := slices.BinarySearchFunc(list, ts, func(c event.Coverage, ts int64) int {
		switch {
		case c.TsEnd < ts:
			return -1
		case c.Ts > ts:
			return 1
		}
		return 0
	})
	switch {
	case t.run.wasCut(ts):
		return &unknown, nil
	case !ok:
		return nil, fmt.Errorf("stream %s has no interval there", s)
	}
	return &list[i], nil
}

// at scales a number of a record to counts of 1e-8.
func at(n int64, scale int8) int64 { return n * pow10(8-int(scale)) }

func (t *truth) bookMessage(h *event.Head, rec []byte) error {
	n := event.Levels(rec)
	last := h.Ts + int64(max(n, 1)) - 1
	if h.Ts <= t.lastTs {
		return fmt.Errorf("ts does not grow: %d after %d", h.Ts, t.lastTs)
	}
	t.lastTs = last
	iv, err := t.interval(event.StreamBook, last)
	if err != nil {
		return err
	}
	t.messages[iv]++
	levels := make(map[sidePx]int64, n)
	for i := range n {
		l := event.GetLevel(rec, i)
		levels[sidePx{l.Side == event.Ask, at(l.Px, h.PxScale)}] = at(l.Qty, h.QtyScale)
	}
	switch {
	case h.Flags&event.FlagKeyframe != 0:
		if (iv != t.bookIn || iv == &unknown) && len(t.run.cuts) > 0 {
			// The first that is known again after a hole that a power loss has left.
			t.bookSeq, t.book = h.Seq, t.sh.bookAt(h.Seq)
		}
		if h.Seq != t.bookSeq || !maps.Equal(levels, t.book) {
			return fmt.Errorf("the keyframe of id %d is not the book of id %d", h.Seq, t.bookSeq)
		}
	case h.Flags&event.FlagSnapshot != 0:
		s, ok := t.sh.snapshots[h.Seq]
		if !ok || !maps.Equal(levels, s.levels) {
			return fmt.Errorf("the snapshot %d is none of the venue's", h.Seq)
		}
		t.book = levels
	default:
		i := t.sh.diffAt(h.Seq)
		if i < 0 || !maps.Equal(levels, t.sh.diffs[i].levels) || h.SeqPrev != t.sh.diffs[i].first-1 {
			return fmt.Errorf("the diff %d..%d is none of the venue's", h.SeqPrev+1, h.Seq)
		}
		// A silence that was only that leaves two verified intervals, one after the other.
		follows := iv == t.bookIn || t.bookIn != nil && t.bookIn.State == event.StateVerified && t.bookIn.TsEnd+1 == iv.Ts
		if iv.State == event.StateVerified && follows && (t.bookSeq < h.SeqPrev || t.bookSeq >= h.Seq) {
			return fmt.Errorf("called verified, and the diff %d..%d comes after id %d", h.SeqPrev+1, h.Seq, t.bookSeq)
		}
		if iv.State == event.StateVerified && !follows && t.bookIn != &unknown {
			return fmt.Errorf("%s begins with a diff", show(iv))
		}
		if iv == &unknown {
			t.book = t.sh.bookAt(h.SeqPrev) // there may be a hole before it
		}
		for k, qty := range levels {
			if qty == 0 {
				delete(t.book, k)
			} else {
				t.book[k] = qty
			}
		}
	}
	t.bookSeq, t.bookIn, t.lastBookT = h.Seq, iv, last
	return nil
}

// top looks at every eighth top of the book.
func (t *truth) top(h *event.Head, rec []byte) error {
	if t.tops++; t.tops%8 != 0 || t.bookIn == &unknown || h.N == 0 && h.Extra == 0 {
		return nil
	}
	if h.Seq != t.bookSeq || h.Ts != t.lastBookT {
		return fmt.Errorf("the top of id %d at %d does not belong to the message of id %d at %d", h.Seq, h.Ts, t.bookSeq, t.lastBookT)
	}
	for side, count := range []int{int(h.N), int(h.Extra)} {
		var px []int64
		for k := range t.book {
			if k.ask == (side == 1) {
				px = append(px, k.px)
			}
		}
		slices.Sort(px)
		if side == 0 {
			slices.Reverse(px)
		}
		if count != min(len(px), t.run.cfg.TopLevels) {
			return fmt.Errorf("the top has %d levels on side %d, the book %d", count, side, len(px))
		}
		for i := range count {
			p, q := event.GetPair(rec, side*int(h.N)+i)
			if at(p, h.PxScale) != px[i] || at(q, h.QtyScale) != t.book[sidePx{side == 1, px[i]}] {
				return fmt.Errorf("level %d of the top is %s, in truth %s", i, decimal(at(p, h.PxScale)), decimal(px[i]))
			}
		}
	}
	return nil
}

func (t *truth) trade(h *event.Head, rec []byte) error {
	if h.Ts <= t.lastTs {
		return fmt.Errorf("ts does not grow: %d after %d", h.Ts, t.lastTs)
	}
	t.lastTs = h.Ts
	iv, err := t.interval(event.StreamTrades, h.Ts)
	if err != nil {
		return err
	}
	t.messages[iv]++
	l := event.GetLevel(rec, 0)
	id, err := strconv.ParseInt(string(event.TradeID(rec, h.N)), 10, 64)
	if err != nil {
		return err
	}
	first := t.sh.trades[0].id
	if i := id - first; i < 0 || i >= int64(len(t.sh.trades)) || t.sh.trades[i] != (trade{id, at(l.Px, h.PxScale), at(l.Qty, h.QtyScale), l.Side == event.Ask}) {
		return fmt.Errorf("the trade %d is none of the venue's", id)
	}
	if id <= t.tradeNum {
		return fmt.Errorf("the trade %d comes after %d", id, t.tradeNum)
	}
	if iv.State == event.StateVerified && iv == t.tradeIn && id != t.tradeNum+1 {
		return fmt.Errorf("called verified, and the trade %d comes after %d", id, t.tradeNum)
	}
	t.tradeNum, t.tradeIn = id, iv
	return nil
}

func (t *truth) quote(h *event.Head, rec []byte) error {
	if h.Ts <= t.lastTs {
		return fmt.Errorf("ts does not grow: %d after %d", h.Ts, t.lastTs)
	}
	t.lastTs = h.Ts
	iv, err := t.interval(event.StreamQuotes, h.Ts)
	if err != nil {
		return err
	}
	t.messages[iv]++
	bid, bidQty := event.GetPair(rec, 0)
	ask, askQty := event.GetPair(rec, 1)
	got := quote{at(bid, h.PxScale), at(bidQty, h.QtyScale), at(ask, h.PxScale), at(askQty, h.QtyScale)}
	if want, ok := t.sh.quotes[h.Seq]; !ok || got != want {
		return fmt.Errorf("the quote %d is none of the venue's", h.Seq)
	}
	return nil
}

// end: after so much peace everything is well again, and without a fault it was
// never anything else.
func (t *truth) end() error {
	for s := range event.NumStreams {
		list := t.coverage[s]
		last := &list[len(list)-1]
		if last.State == event.StateGap {
			return fmt.Errorf("after the peace: %s", show(last))
		}
		// What was sent in the last seconds may have been under way when the agent stopped.
		times := t.sh.timesNs[s]
		i, _ := slices.BinarySearch(times, t.run.m.nowNs-int64(5*time.Second))
		if i > 0 && times[i-1]+t.run.life.p.aheadNs > last.TsEnd+int64(time.Second) {
			return fmt.Errorf("after the peace: %s, and there was a message at %d", show(last), times[i-1]+t.run.life.p.aheadNs)
		}
		if s == event.StreamBook && last.State != event.StateVerified {
			return fmt.Errorf("after the peace: %s", show(last))
		}
		if t.run.stats.Peaceful > 0 && (len(list) > 3 || t.run.life.lost > 0) {
			return fmt.Errorf("nothing was wrong, and there are %d intervals: %s", len(list), show(&list[2]))
		}
	}
	return nil
}
