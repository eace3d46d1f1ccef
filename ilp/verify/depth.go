package verify

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"deeptape/hotpath/event"
)

// depthBpsDefault is the agent's own.
var depthBpsDefault = []int{1, 2, 5, 10, 25, 50, 100}

// depth holds the book after a message against the row of book_depth that has the
// message's LAST ts, if there is one: it is written once a second, after the last
// message before. Which rows there must be cannot be told from the database.
//
// The sums reach deeper than book_top, so they show a size that was altered there.
// After any finding the levels behind the first ones may be wrong (depthDoubt), until
// a row agrees or a snapshot or keyframe comes.
func (c *bookCheck) depth(last *bookRow, keyframe bool) error {
	c.depthDoubt = c.depthDoubt || c.doubt
	if !keyframe { // it is the agent's own and has no such time
		c.tsEvent, c.tsEventKnown = last.tsEvent, true
	}
	if err := c.drainDepth(last.ts); err != nil {
		return err
	}
	r, err := c.depths.peek()
	if err != nil || r == nil || r.ts != last.ts {
		return err
	}
	c.depths.pop() // r stays valid until the next peek
	switch what := c.depthDiffers(r); {
	case what == "":
		c.depthDoubt = false
		c.depthsEqual++
	case !c.depthDoubt:
		c.rep.find(tableDepth, r.ts, "%s", what)
		c.depthDoubt = true
	default:
		c.depthsDoubted++
	}
	if r.seq != last.seq {
		c.rep.find(tableDepth, r.ts, "seq is %s, in book_delta the message has %s", number(r.seq), number(last.seq))
	}
	if c.tsEventKnown && r.tsEvent != c.tsEvent {
		c.rep.find(tableDepth, r.ts, "ts_event is %s, in book_delta the message has %s", stamp(r.tsEvent), stamp(c.tsEvent))
	}
	if r.flags&^event.FlagUnverified != 0 {
		c.rep.find(tableDepth, r.ts, "flags is %d", r.flags)
	}
	c.st.flags(tableDepth, c.iv, r.ts, r.flags)
	return nil
}

// drainDepth takes the rows of book_depth before ts: no message ends at them.
func (c *bookCheck) drainDepth(ts int64) error {
	for {
		r, err := c.depths.peek()
		if err != nil || r == nil || r.ts >= ts {
			return err
		}
		if c.resumed {
			c.rep.find(tableDepth, r.ts, "the row is surplus: no message of book_delta ends here")
		}
		c.depths.pop()
	}
}

// depthDiffers says what in a row is not as in the rebuilt book, "" for nothing.
func (c *bookCheck) depthDiffers(r *depthRow) string {
	for s, name := range []string{"bid", "ask"} {
		levels := c.sides[s].levels
		want, got := math.NaN(), r.bid
		if len(levels) > 0 {
			want = double(levels[len(levels)-1].px, c.pxScale)
		}
		if s == 1 {
			got = r.ask
		}
		if !sameDouble(got, want) {
			return fmt.Sprintf("%s is %v, in the rebuilt book %v", name, got, want)
		}
		if len(r.sizes[s]) != len(r.sizes[0]) || len(r.sizes[s]) == 0 {
			return fmt.Sprintf("%s_depth has %d bands, bid_depth %d", name, len(r.sizes[s]), len(r.sizes[0]))
		}
		if len(r.sizes[s]) != len(c.bands) {
			c.bandsUnknown += 1 - s
			continue
		}
		c.sums = bandSums(c.sums[:0], levels, c.bands)
		for i, sum := range c.sums {
			if want := sizeOf(sum, c.qtyScale); !sameDouble(r.sizes[s][i], want) {
				return fmt.Sprintf("%s_depth within %d bps is %v, in the rebuilt book %v", name, c.bands[i], r.sizes[s][i], want)
			}
		}
	}
	return ""
}

// sizeOf is double, of null too: of a sum that does not fit, or a side without a price.
func sizeOf(m int64, scale int) float64 {
	if m == event.Null {
		return math.NaN()
	}
	return double(m, scale)
}

// bandSums appends, for each band, the size of all levels of a side that are not
// further from its best price than so many ten-thousandths of it; event.Null where
// that does not fit. levels are the worst first.
func bandSums(dst []int64, levels []level, bands []int) []int64 {
	sum, at, fits := uint64(0), len(levels)-1, true
	for _, bps := range bands {
		for ; at >= 0; at-- {
			best, px := levels[len(levels)-1].px, levels[at].px
			if !near(uint64(max(best, px))-uint64(min(best, px)), best, bps) {
				break
			}
			sum += uint64(levels[at].qty)
			fits = fits && sum <= math.MaxInt64
		}
		if fits {
			dst = append(dst, int64(sum))
		} else {
			dst = append(dst, event.Null)
		}
	}
	return dst
}

// near: distance * 10,000 is at most best * bps.
func near(distance uint64, best int64, bps int) bool {
	aHi, aLo := bits.Mul64(distance, 10_000)
	bHi, bLo := bits.Mul64(uint64(max(best, 0)), uint64(bps))
	return aHi < bHi || aHi == bHi && aLo <= bLo
}

// shownDepth is the depth to which the venue cuts the book, and the reader of its rows
// has to: the agent says it in the detail of the interval. 0: it does not.
func (iv *interval) shownDepth() int {
	for word := range strings.SplitSeq(iv.detail, "; ") {
		if digits, ok := strings.CutPrefix(word, "depth="); ok {
			if n, err := strconv.Atoi(digits); err == nil && n > 0 {
				return n
			}
		}
	}
	return 0
}

// truncate removes the worst levels. n 0 keeps all.
func (l *ladder) truncate(n int) {
	if n > 0 && len(l.levels) > n {
		l.levels = slices.Delete(l.levels, 0, len(l.levels)-n)
	}
}
