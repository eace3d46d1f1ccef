package verify

import (
	"fmt"
	"math"
	"slices"

	"deeptape/hotpath/event"
)

// top holds the book after a message against book_top. Where the first levels
// have changed, or a snapshot has replaced them, there is one row at the
// message's LAST ts; elsewhere there is none.
func (c *bookCheck) top(last *bookRow, whole, always, keyframe bool) error {
	if err := c.drainTop(last.ts); err != nil {
		return err
	}
	r, err := c.tops.peek()
	if err != nil {
		return err
	}
	if r != nil && r.ts != last.ts {
		r = nil
	}
	if r != nil {
		c.tops.pop() // r stays valid until the next peek
		c.learn(r, always)
	}
	changed := always || !slices.Equal(c.nowTop[0], c.lastTop[0]) || !slices.Equal(c.nowTop[1], c.lastTop[1])
	switch {
	case r == nil && changed && whole && !c.doubt && !keyframe:
		c.rep.find(tableTop, last.ts, "the row is missing: the message that ends here changes one of the first %d levels", c.n)
	case r == nil:
	case !c.doubt && (!changed || keyframe):
		c.rep.find(tableTop, last.ts, "the row is surplus: the message that ends here changes none of the first %d levels", c.n)
	default:
		c.compareTop(r, last)
	}
	return nil
}

// learn finds out how many levels the agent writes: as many as a row has where
// the book has more.
func (c *bookCheck) learn(r *topRow, snapshot bool) {
	if c.topLevels > 0 || c.nKnown {
		return
	}
	m := max(r.bids.cols, r.asks.cols)
	cut := len(c.sides[0].levels) > m || len(c.sides[1].levels) > m
	if n := c.n; snapshot && cut || m > n {
		c.n, c.nKnown = m, cut
	} else {
		return
	}
	for s := range c.sides {
		c.nowTop[s] = c.sides[s].top(c.nowTop[s][:0], c.n)
	}
}

// compareTop compares a row with the rebuilt book, value by value.
func (c *bookCheck) compareTop(r *topRow, last *bookRow) {
	what := c.differs(r)
	switch {
	case what == "":
		c.doubt = false
		c.topsEqual++
	case !c.doubt:
		c.rep.find(tableTop, r.ts, "%s", what)
		c.doubt = true
	default:
		c.heal(r)
		if again := c.differs(r); again != "" {
			c.rep.find(tableTop, r.ts, "%s", again)
		} else {
			c.healed++
		}
	}
	if r.seq != last.seq {
		c.rep.find(tableTop, r.ts, "seq is %s, in book_delta the message has %s", number(r.seq), number(last.seq))
	}
	if r.tsEvent != last.tsEvent {
		c.rep.find(tableTop, r.ts, "ts_event is %s, in book_delta the message has %s", stamp(r.tsEvent), stamp(last.tsEvent))
	}
	if r.flags&^event.FlagUnverified != 0 {
		c.rep.find(tableTop, r.ts, "flags is %d", r.flags)
	}
	c.st.flags(tableTop, c.iv, r.ts, r.flags)
}

// differs says what in a row is not as in the rebuilt book, "" for nothing.
func (c *bookCheck) differs(r *topRow) string {
	for s := range c.sides {
		name, px, size, array := "bid", r.bid, r.bidSize, &r.bids
		if s == 1 {
			name, px, size, array = "ask", r.ask, r.askSize, &r.asks
		}
		levels := c.nowTop[s]
		if len(levels) == 0 {
			if !math.IsNaN(px) || !math.IsNaN(size) || array.rows != 0 {
				return fmt.Sprintf("%s is %v with size %v and %d levels, the rebuilt book has none", name, px, size, array.cols)
			}
			continue
		}
		if array.rows != 2 || array.cols != len(levels) {
			return fmt.Sprintf("%ss has %d levels in %d rows, the rebuilt book shows %d in 2", name, array.cols, array.rows, len(levels))
		}
		for i, l := range levels {
			wantPx, wantSize := double(l.px, c.pxScale), double(l.qty, c.qtyScale)
			switch {
			case i == 0 && px != wantPx:
				return fmt.Sprintf("%s is %v, in the rebuilt book %v", name, px, wantPx)
			case i == 0 && size != wantSize:
				return fmt.Sprintf("%s_size is %v, in the rebuilt book %v", name, size, wantSize)
			case array.at(0, i) != wantPx:
				return fmt.Sprintf("the price of %ss, level %d, is %v, in the rebuilt book %v", name, i+1, array.at(0, i), wantPx)
			case array.at(1, i) != wantSize:
				return fmt.Sprintf("the size of %ss, level %d (%v), is %v, in the rebuilt book %v", name, i+1, wantPx, array.at(1, i), wantSize)
			}
		}
	}
	return ""
}

// heal makes the first levels of the rebuilt book those of the row, as far as the
// row's doubles are exact at the book's scales.
func (c *bookCheck) heal(r *topRow) {
	for s := range c.sides {
		array := &r.bids
		if s == 1 {
			array = &r.asks
		}
		if array.rows != 2 && array.rows != 0 {
			return
		}
		own := &c.sides[s]
		levels := make([]level, array.cols)
		for i := range levels {
			l := &levels[len(levels)-1-i]
			l.px, l.qty = mantissa(array.at(0, i), c.pxScale), mantissa(array.at(1, i), c.qtyScale)
		}
		// What is better than the row's last level, or equal, is replaced; all of
		// it where the row shows fewer levels than it could.
		keep := 0
		if array.cols >= c.n {
			keep, _ = slices.BinarySearchFunc(own.levels, levels[0].px, own.compare)
		}
		own.levels = append(own.levels[:keep], levels...)
		c.nowTop[s] = own.top(c.nowTop[s][:0], c.n)
	}
}

func mantissa(f float64, scale int) int64 {
	if scale < 0 || scale >= len(tens) {
		return 0
	}
	return int64(math.Round(f * tens[scale]))
}

// drainTop takes the rows of book_top before ts: only the rows of nulls that open
// gaps may be there.
func (c *bookCheck) drainTop(ts int64) error {
	for {
		r, err := c.tops.peek()
		if err != nil {
			return err
		}
		have := r != nil && r.ts < ts
		due := len(c.gaps) > 0 && c.gaps[0] < ts
		switch {
		case due && have && r.ts == c.gaps[0]:
			if r.bids.rows != 0 || r.asks.rows != 0 || !math.IsNaN(r.bid) || !math.IsNaN(r.ask) || !math.IsNaN(r.bidSize) || !math.IsNaN(r.askSize) {
				c.rep.find(tableTop, r.ts, "a gap starts here, the row must hold nulls: bid is %v, ask is %v", r.bid, r.ask)
			} else {
				c.nulls++
			}
			c.tops.pop()
			c.gaps = c.gaps[1:]
		case due && (!have || r.ts > c.gaps[0]):
			c.rep.find(tableTop, c.gaps[0], "the row of nulls is missing with which a gap starts")
			c.gaps = c.gaps[1:]
		case have && c.resumed:
			c.rep.find(tableTop, r.ts, "the row is surplus: no message of book_delta ends here")
			c.tops.pop()
		case have:
			c.tops.pop() // before the first snapshot in the time asked for
		default:
			return nil
		}
	}
}
