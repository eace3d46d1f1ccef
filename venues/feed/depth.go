package feed

import (
	"math/bits"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
)

// How much lies near the touch: once a second, for each band of so many basis points,
// the size of all bids down to that far below the best bid, and of all asks up to that
// far above the best ask. Sums are exact; one that does not fit an int64 is null.
//
// The row stands at the instant of the book's last message: until the next one nobody
// knows that the book is still right. A second without a message has none.

const depthBpsMax = 10_000 // the whole way to a price of 0

// putDepth writes one row of book_depth, if there is something new to say.
func (m *Machine) putDepth(inst *instrument) {
	iv := &inst.streams[event.StreamBook]
	n := len(m.cfg.DepthBps)
	if n == 0 || inst.state != bookLive || iv.messages == 0 || iv.end == inst.depthTs {
		return
	}
	inst.depthTs = iv.end
	b := m.claim(event.DepthSize(n), event.TableBookDepth, 1)
	if b == nil {
		return
	}
	widest := m.cfg.DepthBps[n-1]
	h := m.head(event.RowDepth, inst, iv.end)
	h.TsEvent, h.Seq, h.N = inst.lastEventTs, inst.seq, uint16(n)
	h.Flags = inst.flags(event.StreamBook) | inst.bandFlags(event.Bid, widest) | inst.bandFlags(event.Ask, widest)
	h.Put(b, len(b))
	bids := m.nearest(inst, event.Bid)
	event.PutPair(b, 0, bestPx(bids), event.Null)
	m.sumBands(b, bids, event.Bid)
	asks := m.nearest(inst, event.Ask)
	bid, _ := event.GetPair(b, 0)
	event.PutPair(b, 0, bid, bestPx(asks))
	m.sumBands(b, asks, event.Ask)
	m.out.Commit()
}

func bestPx(levels []book.Level) int64 {
	if len(levels) == 0 {
		return event.Null
	}
	return levels[0].Px
}

// nearest returns the levels of a side, best first, at least as many as the widest
// band holds. Borrowed from m.scratch.
func (m *Machine) nearest(inst *instrument, side event.Side) []book.Level {
	for n := 256; ; n *= 4 {
		for cap(m.scratch) < n {
			m.scratch = append(m.scratch[:cap(m.scratch)], book.Level{})
		}
		levels := m.scratch[:inst.book.Top(side, m.scratch[:n])]
		if len(levels) < n || away(levels[0].Px, levels[n-1].Px) > bandOf(levels[0].Px, m.cfg.DepthBps[len(m.cfg.DepthBps)-1]) {
			return levels
		}
	}
}

// away is the distance of two prices.
func away(best, px int64) uint64 {
	if px > best {
		best, px = px, best
	}
	return uint64(best) - uint64(px)
}

// bandOf is how far from a best price a band reaches: so many ten-thousandths of it, in
// whole units of price. Nothing is near a price that is not above 0 but that price.
func bandOf(best int64, bps int) uint64 {
	hi, lo := bits.Mul64(uint64(max(best, 0)), uint64(bps))
	q, _ := bits.Div64(hi, lo, depthBpsMax) // bps is at most depthBpsMax, so it fits
	return q
}

// sumBands writes the sums of one side.
func (m *Machine) sumBands(b []byte, levels []book.Level, side event.Side) {
	sum, next, fits := int64(0), 0, true
	for i, bps := range m.cfg.DepthBps {
		for next < len(levels) && away(levels[0].Px, levels[next].Px) <= bandOf(levels[0].Px, bps) {
			sum += levels[next].Qty
			fits = fits && sum >= 0
			next++
		}
		bids, asks := event.GetPair(b, 1+i)
		own := &bids
		if side == event.Ask {
			own = &asks
		}
		if *own = sum; !fits {
			*own = event.Null
		}
		event.PutPair(b, 1+i, bids, asks)
	}
}
