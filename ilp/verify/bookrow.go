package verify

import "deeptape/hotpath/event"

// What a row of book_delta says without the book: by itself, and beside the other rows of
// its message.

const messageFlags = event.FlagSnapshot | event.FlagKeyframe

// head is what all rows of a message have in common.
func head(r *bookRow) [5]int64 {
	return [5]int64{r.seq, r.tsEvent, int64(r.pxScale), int64(r.qtyScale), int64(r.flags & messageFlags)}
}

var headNames = [5]string{"seq", "ts_event", "px_scale", "qty_scale", "flags"}

// sameHeads names each row that differs from the rest of its message, and returns
// a row with the common values.
func (c *bookCheck) sameHeads() *bookRow {
	m := c.message
	rule := &m[0]
	if len(m) > 2 && head(&m[0]) != head(&m[1]) && head(&m[1]) == head(&m[2]) {
		rule = &m[1] // two against one
	}
	want := head(rule)
	for i := range m {
		if got := head(&m[i]); got != want {
			for k := range got {
				if got[k] != want[k] {
					c.rep.find(tableBook, m[i].ts, "%s is %s, the row at %s of the same message has %s", headNames[k], number(got[k]), stamp(rule.ts), number(want[k]))
				}
			}
			c.doubt = true
		}
	}
	return rule
}

// row checks what a row says without its neighbours.
func (c *bookCheck) row(r *bookRow) {
	isSide := r.side == "bid" || r.side == "ask"
	nulls := 0
	for _, null := range []bool{r.side == "", r.px == event.Null, r.qty == event.Null} {
		if null {
			nulls++
		}
	}
	switch {
	case nulls == 3 && len(c.message) > 1:
		c.rep.find(tableBook, r.ts, "the row has no level, in a message of %d rows", len(c.message))
	case nulls == 3:
	case nulls > 0:
		c.rep.find(tableBook, r.ts, "one of side, px and qty is null")
	case !isSide:
		c.rep.find(tableBook, r.ts, "side is %q", r.side)
	case r.qty < 0:
		c.rep.find(tableBook, r.ts, "qty is %d", r.qty)
	}
	if r.seqPrev != event.Null && r.flags&event.FlagLast == 0 {
		c.rep.find(tableBook, r.ts, "seq_prev is %d, but the row is not the LAST one of its message", r.seqPrev)
	}
	if r.flags&^(event.FlagFirst|event.FlagLast|messageFlags|event.FlagUnverified) != 0 {
		c.rep.find(tableBook, r.ts, "flags is %d", r.flags)
	}
	c.st.flags(tableBook, c.iv, r.ts, r.flags)
}

// outsiders: in a verified interval the levels of a message that say UNVERIFIED lie
// outside of a window, so they are further from the touch than all the others.
func (c *bookCheck) outsiders() {
	if !c.st.windowed || c.iv.state != stateVerified {
		return
	}
	var inner [2]int64 // price of the furthest level that is inside
	var has [2]bool
	further := func(s int, a, b int64) bool { return s == 0 && a < b || s == 1 && a > b }
	for _, outside := range []bool{false, true} {
		for i := range c.message {
			r := &c.message[i]
			s := sideOf(r.side)
			if s < 0 || r.px == event.Null || r.flags&event.FlagUnverified != 0 != outside {
				continue
			}
			switch {
			case !outside:
				if !has[s] || further(s, r.px, inner[s]) {
					inner[s], has[s] = r.px, true
				}
			case has[s] && !further(s, r.px, inner[s]):
				c.rep.find(tableBook, r.ts, "the level is flagged UNVERIFIED as outside of the snapshot's window, and one that is further out, at %s, is not", decimal(inner[s], r.pxScale))
			default:
				c.outside++
			}
		}
	}
}
