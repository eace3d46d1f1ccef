package world

import "math/bits"

// follow says what of a market follows a true mid.
type follow struct {
	mid            *Mid
	delayNs        int64
	px             int64 // the true price, as far as the venue knows
	nextNs, nextPx int64 // when it hears of the next step, and the price then
}

func (m *market) followMid(f *Follower, startNs int64) {
	m.lead = &follow{mid: NewMid(f.Seed, m.sym.Mid, startNs), delayNs: f.DelayNs}
	m.lead.px = m.lead.mid.Px()
	m.lead.next()
}

func (f *follow) next() {
	f.nextNs, f.nextPx = f.mid.Step()
	f.nextNs += f.delayNs
}

// hear takes note of a step of the true mid.
func (m *market) hear() {
	at := m.lead.nextNs
	m.lead.px = m.lead.nextPx
	m.lead.next()
	m.astray(at)
	m.tellQuote(at)
}

// astray brings the market back where its mid is further from the true one than two
// ticks and two millionths.
func (m *market) astray(at int64) {
	t := m.top()
	off := t[0].Px + t[1].Px - 2*m.lead.px
	if may := 4*m.tick + m.lead.px/250_000; off < -may {
		m.pull(at, true)
	} else if off > may {
		m.pull(at, false)
	}
}

// pull moves the touch to the true price. Of the side that stands in the way an
// aggressive order takes the first levels, and the others are withdrawn; the other side
// comes after, as dense as it should be there.
func (m *market) pull(at int64, up bool) {
	dir, near := m.tick, m.lead.px/m.tick*m.tick // where the side that comes after will be best
	if !up {
		dir, near = -m.tick, near+m.tick
	}
	near -= dir * m.rng.Int64N(2)
	_, own, _ := m.side(up)
	if (near-own.Px)/dir < 0 {
		near = own.Px
	}
	far := near + dir*(1+m.rng.Int64N(2))
	side, best, _ := m.side(!up)
	for taken := 1 + min(bits.TrailingZeros64(m.rng.Uint64()), 4); (far-best.Px)/dir > 0; taken-- {
		if side.Len() <= minSide {
			m.extend(!up)
		}
		m.set(!up, best.Px, 0)
		if taken > 0 {
			m.fills(at, up, best.Px, best.Qty)
		}
		_, best, _ = m.side(!up)
	}
	if best.Px != far {
		m.set(!up, far, m.size())
	}
	px := near
	for left := 20 + 60*m.sym.PerMille/1000; left > 0 && (px-own.Px)/dir > 0; left-- {
		m.set(up, px, m.size())
		px -= dir * (1 + m.rng.Int64N(2*m.gap((near-px)/dir)-1))
	}
}

// extend puts a level behind the last of a side.
func (m *market) extend(bid bool) {
	side, _, away := m.side(bid)
	last, _, _ := side.Max()
	if bid {
		last, _, _ = side.Min()
	}
	if px := last + away*(1+m.rng.Int64N(8)); px > 0 {
		m.set(bid, px, m.size())
	}
}
