package verify

import (
	"slices"

	"deeptape/hotpath/event"
)

// bookCheck rebuilds the book of one instrument from book_delta and holds it
// against book_top.
//
// One damage must not be reported a thousand times. After a finding the rebuilt
// book may be wrong (doubt); then the next row of book_top that differs from it
// is taken for the truth, until a row agrees or a snapshot comes.
type bookCheck struct {
	rep  *SymbolReport
	st   *streamCheck
	rows *pager[bookRow]
	tops *pager[topRow]

	depths *pager[depthRow]
	bands  []int // of book_depth, in basis points

	message []bookRow // rows of the message that is being read
	headed  bool      // it begins with a FIRST row
	iv      *interval // its interval

	have              bool // there is a book
	sides             [2]ladder
	pxScale, qtyScale int
	seq               int64
	afterSnapshot     bool // the next delta may start below seq
	doubt             bool
	depthDoubt        bool // the same of the levels that only book_depth shows
	tsEvent           int64
	tsEventKnown      bool
	sums              []int64

	topLevels int // option, 0: unknown
	n         int // first levels that book_top holds
	nKnown    bool
	nowTop    [2][]level // first n levels now
	lastTop   [2][]level // and after the message before
	gaps      []int64    // starts of gaps still to come, each with a row of nulls

	messages, links, snapshots, keyframesEqual, topsEqual, nulls, healed, skipped int
	depthsEqual, depthsDoubted, bandsUnknown                                      int
	outside                                                                       int             // levels outside of the snapshot's window
	proofs                                                                        map[string]bool // of intervals with messages
	resumed                                                                       bool            // a gap, or the beginning of the data, was seen
}

// topLevelsDefault is the agent's own.
const topLevelsDefault = 10

func (c *bookCheck) init() {
	c.sides[0].up = true
	c.proofs = map[string]bool{}
	if c.bands == nil {
		c.bands = depthBpsDefault
	}
	c.n = c.topLevels
	if c.n == 0 {
		c.n = topLevelsDefault
	}
	c.resumed = c.st.from <= c.rep.startOf(c.st)
	for i := range c.st.ivs {
		if iv := &c.st.ivs[i]; iv.state == stateGap && iv.ts >= c.st.from {
			c.gaps = append(c.gaps, iv.ts)
		}
	}
}

// startOf is where the intervals of a stream begin.
func (r *SymbolReport) startOf(st *streamCheck) int64 {
	if len(st.ivs) == 0 {
		return farFuture
	}
	return st.ivs[0].ts
}

func (c *bookCheck) next() (int64, bool, error) {
	r, err := c.rows.peek()
	if r == nil {
		return 0, false, err
	}
	return r.ts, true, nil
}

// step takes one row and puts it into its message.
func (c *bookCheck) step() error {
	row, _ := c.rows.peek()
	r := *row
	c.rows.pop()
	before := c.st.cur
	iv, ok := c.st.admit(r.ts)
	if err := c.leave(before, c.st.cur, iv); err != nil {
		return err
	}
	if !ok {
		return nil
	}
	if r.flags&event.FlagFirst != 0 {
		if err := c.cut(); err != nil {
			return err
		}
		c.headed = true
	} else if len(c.message) == 0 {
		if !c.resumed {
			return nil // the time asked for starts within a message
		}
		c.rep.find(tableBook, r.ts, "the row is in no message: none that has begun with a FIRST row is open")
		c.doubt, c.headed = true, false
	} else if last := &c.message[len(c.message)-1]; r.ts != last.ts+1 {
		c.rep.find(tableBook, last.ts+1, "%d rows are missing within the message of %s: its next row is %s", r.ts-last.ts-1, stamp(c.message[0].ts), stamp(r.ts))
		c.doubt = true
	}
	c.iv = iv
	c.message = append(c.message, r)
	if r.flags&event.FlagLast == 0 {
		return nil
	}
	err := c.whole()
	c.message = c.message[:0]
	return err
}

// leave is told which intervals were left. A message does not reach from one
// into the next, and no book outlives a gap.
func (c *bookCheck) leave(before, now int, iv *interval) error {
	if before == now {
		return nil
	}
	if err := c.cut(); err != nil {
		return err
	}
	for i := before; i <= now && i < len(c.st.ivs); i++ {
		if c.st.ivs[i].state == stateGap {
			c.drop(&c.st.ivs[i])
		}
	}
	return nil
}

func (c *bookCheck) drop(gap *interval) {
	c.have, c.doubt, c.depthDoubt, c.tsEventKnown, c.resumed = false, false, false, false, true
	for s := range c.sides {
		c.sides[s].levels, c.lastTop[s] = c.sides[s].levels[:0], c.lastTop[s][:0]
	}
	if gap.cause == causeStart || gap.cause == causeStop {
		c.nKnown = false // another run, perhaps with another configuration
	}
}

// cut ends a message that has no LAST row. What there is of it is applied, unless
// it has no FIRST row either: then it is no message.
func (c *bookCheck) cut() error {
	if len(c.message) == 0 {
		return nil
	}
	if !c.headed {
		c.message = c.message[:0]
		return nil
	}
	last := c.message[len(c.message)-1]
	c.rep.find(tableBook, last.ts+1, "the message of %s has no LAST row: its rows end at %s", stamp(c.message[0].ts), stamp(last.ts))
	c.doubt = true
	err := c.apply(false)
	c.message = c.message[:0]
	return err
}

// whole takes a message that has its LAST row.
func (c *bookCheck) whole() error {
	c.messages++
	c.proofs[c.iv.proof] = true
	c.st.counted(c.message[len(c.message)-1].ts, c.message[len(c.message)-1].seq)
	return c.apply(true)
}

// apply puts the rows of c.message into the book, and holds the outcome against
// book_top if the message is whole.
func (c *bookCheck) apply(whole bool) error {
	m := c.message
	h := *c.sameHeads()
	last := m[len(m)-1]
	for i := range m {
		c.row(&m[i])
	}
	c.outsiders()
	snapshot, keyframe := h.flags&event.FlagSnapshot != 0, h.flags&event.FlagKeyframe != 0
	switch {
	case keyframe && !snapshot:
		c.rep.find(tableBook, m[0].ts, "the message is flagged KEYFRAME without SNAPSHOT")
		fallthrough
	case keyframe && c.have:
		c.keyframe(&h)
	case snapshot:
		c.snapshot(&h, whole)
	case !c.have && !c.resumed:
		c.skipped++
		if err := c.drainDepth(last.ts + 1); err != nil {
			return err
		}
		return c.drainTop(last.ts + 1)
	case !c.have:
		c.rep.find(tableBook, m[0].ts, "the message changes a book that no snapshot has begun")
		c.have, c.doubt = true, true
		c.pxScale, c.qtyScale, c.seq, c.afterSnapshot = h.pxScale, h.qtyScale, h.seq, false
		c.levels()
	default:
		c.delta(&h, &last, whole)
	}
	c.depthDoubt = c.depthDoubt || c.doubt
	for s := range c.sides {
		c.sides[s].truncate(c.iv.shownDepth())
		c.nowTop[s] = c.sides[s].top(c.nowTop[s][:0], c.n)
	}
	err := c.top(&last, whole, snapshot && !keyframe, keyframe)
	for s := range c.sides {
		c.lastTop[s] = append(c.lastTop[s][:0], c.nowTop[s]...)
	}
	if err != nil {
		return err
	}
	return c.depth(&last, keyframe)
}

// levels applies the rows of the message to the book.
func (c *bookCheck) levels() {
	for i := range c.message {
		r := &c.message[i]
		if s := sideOf(r.side); s >= 0 && r.px != event.Null && r.qty != event.Null {
			c.sides[s].set(r.px, max(0, r.qty))
		}
	}
}

func sideOf(side string) int {
	switch side {
	case "bid":
		return 0
	case "ask":
		return 1
	}
	return -1
}

// rowsOf are the levels of one side in the message.
func (c *bookCheck) rowsOf(side int) []level {
	var levels []level
	for i := range c.message {
		if r := &c.message[i]; sideOf(r.side) == side && r.px != event.Null && r.qty != event.Null {
			levels = append(levels, level{r.px, max(0, r.qty)})
		}
	}
	return levels
}

// snapshot replaces the book.
func (c *bookCheck) snapshot(h *bookRow, whole bool) {
	damaged := c.doubt && (!whole || len(c.message) > 0 && !c.intact())
	c.snapshots++
	if whole && c.have && !c.doubt && c.st.messages > 1 && c.iv.state == stateVerified && c.iv.proof == proofChain && h.seq != c.seq && h.seq != c.seq+1 {
		c.rep.find(tableBook, c.message[0].ts, "the snapshot's id is %s, the message before it has %s: one between them is missing", number(h.seq), number(c.seq))
	}
	// One that came apart from the stream may be older than what the stream had sent by
	// then: that has no time of the venue's.
	c.have, c.doubt, c.depthDoubt, c.afterSnapshot, c.resumed = true, damaged, damaged, h.tsEvent == event.Null, true
	c.pxScale, c.qtyScale, c.seq = h.pxScale, h.qtyScale, h.seq
	for s := range c.sides {
		c.sides[s].load(c.rowsOf(s))
	}
}

// intact says that no row of the message is missing or differs from the others.
func (c *bookCheck) intact() bool {
	m := c.message
	for i := range m {
		if m[i].ts != m[0].ts+int64(i) || head(&m[i]) != head(&m[0]) {
			return false
		}
	}
	return m[0].flags&event.FlagFirst != 0 && m[len(m)-1].flags&event.FlagLast != 0
}

// keyframe is the agent's own writing of the whole book: what was rebuilt must
// be the same, at the keyframe's scales.
func (c *bookCheck) keyframe(h *bookRow) {
	if h.seq != c.seq {
		c.rep.find(tableBook, c.message[0].ts, "the keyframe's seq is %s, the message before it has %s", number(h.seq), number(c.seq))
		c.seq = h.seq
	}
	equal := true
	for s := range c.sides {
		own := &c.sides[s]
		var want ladder
		want.up = own.up
		want.load(c.rowsOf(s))
		if h.pxScale != c.pxScale || h.qtyScale != c.qtyScale {
			if !own.rescale(h.pxScale-c.pxScale, h.qtyScale-c.qtyScale) {
				c.rep.find(tableBook, c.message[0].ts, "the keyframe's scales are %d and %d, the book before it has %d and %d", h.pxScale, h.qtyScale, c.pxScale, c.qtyScale)
				own.levels = want.levels
				equal = false
			}
		}
		if !slices.Equal(own.levels, want.levels) {
			equal = false
			c.keyframeDiffers(s, own, &want, h)
			own.levels = want.levels
		}
		// The same levels at the new scale are no change.
		c.lastTop[s] = own.top(c.lastTop[s][:0], c.n)
	}
	c.pxScale, c.qtyScale, c.doubt = h.pxScale, h.qtyScale, c.doubt && !c.intact()
	c.depthDoubt = c.doubt
	if equal {
		c.keyframesEqual++
	}
}

// keyframeDiffers names the first levels that differ.
func (c *bookCheck) keyframeDiffers(s int, own, want *ladder, h *bookRow) {
	name := [2]string{"bid", "ask"}[s]
	rows := map[int64]int64{}
	for i := range c.message {
		if r := &c.message[i]; sideOf(r.side) == s {
			rows[r.px] = r.ts
		}
	}
	all := map[int64][2]int64{}
	for _, l := range own.levels {
		all[l.px] = [2]int64{l.qty, 0}
	}
	for _, l := range want.levels {
		all[l.px] = [2]int64{all[l.px][0], l.qty}
	}
	var differ []int64
	for px, qty := range all {
		if qty[0] != qty[1] {
			differ = append(differ, px)
		}
	}
	slices.Sort(differ)
	for i, px := range differ {
		if i == 3 {
			c.rep.find(tableBook, c.message[0].ts, "the keyframe differs from the rebuilt book in %d more %s levels", len(differ)-i, name)
			return
		}
		ts, ok := rows[px]
		if !ok {
			ts = c.message[0].ts
		}
		c.rep.find(tableBook, ts, "in the keyframe of %s %s %s has size %s, in the rebuilt book %s: one of the rows since the snapshot is not right", stamp(c.message[0].ts), name,
			decimal(px, h.pxScale), decimal(all[px][1], h.qtyScale), decimal(all[px][0], h.qtyScale))
	}
}

// delta changes levels, and continues the chain of ids.
func (c *bookCheck) delta(h, last *bookRow, whole bool) {
	if h.pxScale != c.pxScale || h.qtyScale != c.qtyScale {
		c.rep.find(tableBook, c.message[0].ts, "the scales are %d and %d, the book before has %d and %d, and no keyframe changes them", h.pxScale, h.qtyScale, c.pxScale, c.qtyScale)
		c.doubt = true
		if c.sides[0].rescale(h.pxScale-c.pxScale, h.qtyScale-c.qtyScale) && c.sides[1].rescale(h.pxScale-c.pxScale, h.qtyScale-c.qtyScale) {
			c.pxScale, c.qtyScale = h.pxScale, h.qtyScale
		}
	}
	if whole && c.iv.state == stateVerified {
		c.link(h, last.seqPrev)
	}
	c.seq, c.afterSnapshot = h.seq, false
	if h.pxScale == c.pxScale && h.qtyScale == c.qtyScale {
		c.levels()
	}
}

// link checks that a message follows on the one before. The first delta after a
// snapshot may start below the snapshot's id, for the venue had sent it already
// when it took the snapshot; later ones start exactly there.
func (c *bookCheck) link(h *bookRow, seqPrev int64) {
	ts := c.message[0].ts
	ok := false
	switch {
	case seqPrev != event.Null && seqPrev == c.seq:
		ok = true
	case seqPrev != event.Null && seqPrev > c.seq:
		c.rep.find(tableBook, ts, "the message follows on id %d, the one before it has %s: a message is missing", seqPrev, number(c.seq))
	case seqPrev != event.Null && c.afterSnapshot:
		if ok = h.seq > c.seq; !ok {
			c.rep.find(tableBook, ts, "the message's id is %s, the snapshot before it has %s already", number(h.seq), number(c.seq))
		}
	case seqPrev != event.Null:
		c.rep.find(tableBook, ts, "the message follows on id %d, the one before it has %s", seqPrev, number(c.seq))
	case c.iv.proof == proofChain:
		c.rep.find(tableBook, ts, "seq_prev is null: nothing chains the message to the one before it")
	case c.iv.proof == proofCRC:
		// The agent's own count of messages since the snapshot.
		if ok = h.seq == c.seq+1; !ok {
			c.rep.find(tableBook, ts, "seq is %s, the message before it has %s", number(h.seq), number(c.seq))
		}
	default: // a frame of the connection may hold several messages of the book
		if ok = h.seq >= c.seq; !ok {
			c.rep.find(tableBook, ts, "seq is %s, the message before it has %s", number(h.seq), number(c.seq))
		}
	}
	if ok {
		c.links++
	} else {
		c.doubt = true
	}
}

// finish takes what is left when the rows have ended.
func (c *bookCheck) finish() error {
	if len(c.message) > 0 && c.st.until < c.lastEnd() {
		c.message = c.message[:0] // the time asked for ends within it
	}
	if err := c.cut(); err != nil {
		return err
	}
	if err := c.drainDepth(farFuture); err != nil {
		return err
	}
	return c.drainTop(farFuture)
}

func (c *bookCheck) lastEnd() int64 {
	if n := len(c.st.ivs); n > 0 {
		return c.st.ivs[n-1].end
	}
	return event.Null
}
