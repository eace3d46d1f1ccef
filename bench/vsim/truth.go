package vsim

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"deeptape/hotpath/event"
	"deeptape/venues"
	"deeptape/venues/registry"
)

// truth holds the record of one symbol against what its venue said and what was so.
type truth struct {
	run      *run
	sh       *symbolHistory
	rules    *venues.Rules
	depth    int // of the recorded book; 0 is all
	proven   int // levels a side that are proven; 0 is all of them
	records  [][]byte
	coverage map[event.Stream][]event.Coverage // in order of ts

	book      *book // as recorded
	bookSeq   int64
	next      int             // place of the diff that must come next; -1: not known
	crossed   bool            // a fault made the venue say what is not so, and nothing has put it right
	bookIn    *event.Coverage // interval of the last book message
	so        *book           // the market's own book after soMade of its changes
	soMade    int
	tradeAt   int // place of the last trade
	tradeIn   *event.Coverage
	messages  map[*event.Coverage]int64
	lastTs    int64
	tops      int
	lastBookT int64
}

func (r *run) newTruth(v *venue, sh *symbolHistory) (*truth, error) {
	known, err := registry.ByName(v.name)
	if err != nil {
		return nil, err
	}
	t := &truth{
		run: r, sh: sh, rules: known.Rules(), depth: r.cfg.Venues[v.name].Depth,
		coverage: map[event.Stream][]event.Coverage{}, messages: map[*event.Coverage]int64{},
		book: &book{}, next: -1, so: sh.start.clone(), tradeAt: -1,
	}
	if t.rules.Continuity == venues.ChecksumOnly {
		t.proven = t.rules.ChecksumTop
	}
	return t, nil
}

func (t *truth) judge() error {
	if err := t.parts(); err != nil {
		return err
	}
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

// recorded: the venue has the stream.
func (t *truth) recorded(s event.Stream) bool { return s != event.StreamQuotes || t.rules.QuoteStream }

// parts: every instant belongs to one interval, from the start to the stop.
func (t *truth) parts() error {
	for s := range event.NumStreams {
		list := t.coverage[s]
		if (len(list) > 0) != t.recorded(s) {
			return fmt.Errorf("stream %s has %d intervals", s, len(list))
		}
		for i := range list {
			c := &list[i]
			t.run.stats.count(c)
			if s == event.StreamBook && c.State == event.StateGap && c.Cause != event.CauseStart && c.Cause != event.CauseStop {
				t.run.gaps[t.sh.name] = append(t.run.gaps[t.sh.name], c.Cause.String())
			}
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
	levels := make([]lvl, 0, n)
	for i := range n {
		l := event.GetLevel(rec, n, i)
		levels = append(levels, lvl{l.Side == event.Ask, at(l.Px, h.PxScale), at(l.Qty, h.QtyScale)})
	}
	// A silence that was only that leaves two verified intervals, one after the other.
	follows := iv == t.bookIn || t.bookIn != nil && t.bookIn.State == event.StateVerified && t.bookIn.TsEnd+1 == iv.Ts
	switch {
	case h.Flags&event.FlagKeyframe != 0:
		err = t.keyframe(h, iv, newBook(levels))
	case h.Flags&event.FlagSnapshot != 0:
		err = t.snapshot(h, newBook(levels), iv.State == event.StateVerified && follows)
	default:
		err = t.diff(h, iv, levels, follows)
	}
	t.bookSeq, t.bookIn, t.lastBookT = h.Seq, iv, last
	return err
}

func (t *truth) keyframe(h *event.Head, iv *event.Coverage, b *book) error {
	if (iv != t.bookIn || iv == &unknown) && len(t.run.cuts) > 0 {
		// The first that is known again after a hole that a power loss has left: the
		// diff after it will tell whether it is true.
		t.bookSeq, t.book, t.next = h.Seq, b, -1
		return nil
	}
	if h.Seq != t.bookSeq || !b.same(t.book, 0) {
		return fmt.Errorf("the keyframe of id %d is not the book of id %d: %s", h.Seq, t.bookSeq, b.differs(t.book))
	}
	return nil
}

func (t *truth) snapshot(h *event.Head, b *book, follows bool) error {
	key := h.TsEvent
	if t.rules.RestSnapshot {
		key = h.Seq
	}
	next := -1
	for _, s := range t.sh.snapshots[key] {
		if b.same(s.book, 0) {
			next = t.sh.after(s, h.Seq)
		}
	}
	for _, i := range t.sh.byTime[key] { // a venue that begins anew tells everybody
		if d := &t.sh.diffs[i]; d.whole && b.same(newBook(d.levels), 0) {
			next = i + 1
		}
	}
	// The agent may have built the book from another connection: it is the market's after a
	// message, the one that must come next rather than another.
	for _, i := range t.sh.byTime[key] {
		if next < 0 || i+1 == t.next {
			if t.isAfter(b, &t.sh.diffs[i]) {
				next = i + 1
			}
		}
	}
	// What the venue has said that is not so stands in the books of all connections.
	lied := false
	for _, i := range t.sh.byTime[key] {
		if next < 0 && slices.ContainsFunc(t.sh.diffs[:i+1], func(d sent) bool { return d.crossed }) {
			next, lied = i+1, true
		}
	}
	if next < 0 {
		return fmt.Errorf("the snapshot %d of %d is none of the venue's", h.Seq, h.TsEvent)
	}
	// Where ids count by one, a snapshot of the next id is the book that the message of
	// that id makes: the message itself may have fallen between two subscriptions, and
	// no state of the book is missing.
	instead := t.rules.Continuity == venues.UpdateID && h.Seq == t.bookSeq+1 && next == t.next+1
	if follows && t.next >= 0 && next != t.next && !instead {
		return fmt.Errorf("called verified, and the snapshot %d comes before message %d, not %d", h.Seq, next, t.next)
	}
	t.book, t.next, t.crossed = b, next, lied
	return nil
}

// isAfter says whether a book without ids of its own is the market's after a message, as far as
// it is proven.
func (t *truth) isAfter(b *book, d *sent) bool {
	if t.rules.Continuity != venues.ConnCounter && t.rules.Continuity != venues.ChecksumOnly || d.whole || d.crossed {
		return false
	}
	t.advance(d.made)
	so := t.so
	if t.depth > 0 {
		so = so.clone()
		so.cut(t.depth)
	}
	return b.same(so, t.proven)
}

func (t *truth) diff(h *event.Head, iv *event.Coverage, levels []lvl, follows bool) error {
	i := t.sh.find(h.TsEvent, h.Seq, h.SeqPrev, levels, t.next)
	if i < 0 {
		return fmt.Errorf("the diff %d..%d of %d is none of the venue's", h.SeqPrev+1, h.Seq, h.TsEvent)
	}
	d := &t.sh.diffs[i]
	verified := iv.State == event.StateVerified
	switch {
	case !verified || t.bookIn == &unknown:
	case !follows:
		return fmt.Errorf("%s begins with a diff", show(iv))
	case i != t.next && t.next >= 0 && t.proven == 0: // a checksum tells only what the best levels are
		return fmt.Errorf("called verified, and message %d, the diff %d..%d, comes where %d must", i, h.SeqPrev+1, h.Seq, t.next)
	}
	if iv == &unknown { // there may be a hole before it
		t.advance(d.made - 1)
		t.book = t.so.clone()
		t.crossed = true // or not: nobody knows
	}
	t.book.apply(levels)
	if t.rules.Truncate {
		t.book.cut(t.depth)
	}
	t.next, t.crossed = i+1, t.crossed || d.crossed
	if verified && !t.crossed {
		t.advance(d.made)
		t.run.stats.Compared++
		so := t.so
		if t.depth > 0 {
			so = so.clone()
			so.cut(t.depth)
		}
		if !t.book.same(so, t.proven) {
			return fmt.Errorf("called verified, and after message %d, the diff %d..%d, the book is not the market's: %s", i, h.SeqPrev+1, h.Seq, t.book.differs(so))
		}
	}
	return nil
}

// advance makes t.so the market's book after so many of its changes.
func (t *truth) advance(made int) {
	if made < t.soMade { // rare
		t.so, t.soMade = t.sh.start.clone(), 0
	}
	for ; t.soMade < made; t.soMade++ {
		t.so.apply(t.sh.made[t.soMade])
	}
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
		levels := t.book[side]
		if count != min(len(levels), t.run.cfg.TopLevels) {
			return fmt.Errorf("the top has %d levels on side %d, the book %d", count, side, len(levels))
		}
		for i := range count {
			p, q := event.GetPair(rec, side*int(h.N)+i)
			if at(p, h.PxScale) != levels[i].px || at(q, h.QtyScale) != levels[i].qty {
				return fmt.Errorf("level %d of the top is %d, in truth %d", i, at(p, h.PxScale), levels[i].px)
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
	px, qty, aggressor, text := event.GetTrade(rec, h.N)
	id := string(text)
	i, ok := t.sh.tradeAt[id]
	got := trade{id, at(px, h.PxScale), at(qty, h.QtyScale), aggressor == event.Ask, h.TsEvent}
	if !ok || t.sh.trades[i] != got {
		return fmt.Errorf("the trade %+v is none of the venue's", got)
	}
	if i <= t.tradeAt && t.rules.TradesCount {
		return fmt.Errorf("the trade %s, number %d, comes after number %d", id, i, t.tradeAt)
	}
	if iv.State == event.StateVerified && iv == t.tradeIn && i != t.tradeAt+1 {
		return fmt.Errorf("called verified, and the trade %s, number %d, comes after number %d", id, i, t.tradeAt)
	}
	t.tradeAt, t.tradeIn = i, iv
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
	if !slices.Contains(t.sh.quotes[h.Seq], got) {
		return fmt.Errorf("the quote %d is none of the venue's", h.Seq)
	}
	return nil
}

// end: after so much peace everything is well again, and without a fault it was
// never anything else.
func (t *truth) end() error {
	for s := range event.NumStreams {
		list := t.coverage[s]
		if !t.recorded(s) {
			continue
		}
		last := &list[len(list)-1]
		// Without ids that lines have in common a planned reconnect is seen in the record.
		planned := t.run.cfg.Venues[t.sh.venue].ReconnectEvery > 0 && !t.rules.RestSnapshot
		if planned && last.State == event.StateGap && last.TsEnd-last.Ts < int64(20*time.Second) {
			continue
		}
		if last.State == event.StateGap {
			return fmt.Errorf("after the peace: %s", show(last))
		}
		// What was sent in the last seconds may have been under way when the agent stopped.
		times := t.sh.timesNs[s]
		i, _ := slices.BinarySearch(times, t.run.m.nowNs-int64(5*time.Second))
		if i > 0 && times[i-1]+t.run.life.p.aheadNs > last.TsEnd+int64(time.Second) {
			return fmt.Errorf("after the peace: %s, and there was a message at %d", show(last), times[i-1]+t.run.life.p.aheadNs)
		}
		if s == event.StreamBook && last.State != event.StateVerified && !(last.State == event.StateUnverified && bytes.Contains(last.Detail, []byte("no longer checked"))) {
			return fmt.Errorf("after the peace: %s", show(last))
		}
		if t.run.stats.Peaceful > 0 && !planned && (len(list) > 3 || t.run.life.lost > 0) {
			return fmt.Errorf("nothing was wrong, and there are %d intervals: %s", len(list), show(&list[2]))
		}
	}
	return nil
}
