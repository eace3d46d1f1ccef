package world

import (
	"math/bits"
	"math/rand/v2"

	"github.com/tidwall/btree"
)

const (
	windowNs = 100_000_000 // of a diff
	minSide  = 50          // levels below which nothing is taken away
	meanOpNs = 6_000_000   // between two changes, at pace 1000 in a calm market
)

// regime is a kind of weather.
type regime struct {
	pace     int // changes, in tenths of calm
	sweepPct int // of changes that are aggressive orders
	trendPct int // of those that go with the trend
	meanNs   int64
}

var (
	calm   = regime{10, 2, 52, 5_000_000_000}
	active = regime{25, 4, 58, 1_500_000_000}
	burst  = regime{450, 15, 70, 110_000_000}
)

// market is one symbol.
type market struct {
	index int
	sym   Symbol
	rng   *rand.Rand
	tick  int64 // counts of 1e-8
	lot   int64
	slope int64 // how fast levels get sparser away from the touch, see gap

	bids, asks btree.Map[int64, int64] // price to size
	id         int64                   // last update id used
	diffID     int64                   // Last of the last diff
	tradeID    int64
	quoted     [2]Level // bid and ask of the last quote

	// Prices that changed since the last diff.
	bidsTouched, asksTouched btree.Map[int64, struct{}]

	weather    regime
	weatherEnd int64
	trendUp    bool
	opNs       int64   // when the next change happens
	diffNs     int64   // when the next window ends
	lead       *follow // nil: it walks by itself

	queue   []Event // made and not yet given; queue[0] is next
	bidsOut []Level // backing of the diff given last
	asksOut []Level
}

func newMarket(index int, s Symbol, startNs int64, rng *rand.Rand) *market {
	m := &market{
		index: index, sym: s, rng: rng,
		tick: pow10(8 - s.PxDecimals), lot: pow10(8 - s.QtyDecimals),
		id: 1_000_000_000 + rng.Int64N(50_000_000_000), tradeID: 100_000_000 + rng.Int64N(4_000_000_000),
		weather: calm,
	}
	m.diffID = m.id
	// All symbols end their windows on a whole millisecond, each at its own.
	m.diffNs = startNs - startNs%1_000_000 + rng.Int64N(100)*1_000_000 + 1_000_000
	m.weatherEnd = startNs + spread(m.rng, m.weather.meanNs)
	m.opNs = startNs + spread(m.rng, m.meanOp())
	span := m.sym.StartPx / m.tick * 3 / 10
	depth := min(int64(s.Depth), span/2)
	m.slope = min((span-depth)*4096/(depth*depth), 34)
	m.lay(&m.bids, -1)
	m.lay(&m.asks, +1)
	m.quoted = m.top()
	return m
}

// lay makes a side: about one level per gap, never beyond a third of the price.
func (m *market) lay(side *btree.Map[int64, int64], dir int64) {
	px := m.sym.StartPx / m.tick
	if dir > 0 {
		px++
	}
	span := m.sym.StartPx / m.tick * 3 / 10
	away := int64(0)
	for n := 0; n < m.sym.Depth && away < span; n++ {
		side.Set((px+dir*away)*m.tick, m.size())
		away += 1 + m.rng.Int64N(2*m.gap(away)-1)
	}
}

// gap is the mean distance between two levels, in ticks, so far from the touch:
// it grows with the root, so that n levels span n + n*n*slope/4096 ticks.
func (m *market) gap(ticks int64) int64 {
	lo, hi := int64(0), int64(1)<<31 // the root, by halving
	for x := ticks * m.slope; lo < hi; {
		if mid := (lo + hi + 1) / 2; mid*mid <= x {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return 1 + lo/32
}

// spread draws a time with about the given mean, more often short than long.
func spread(rng *rand.Rand, mean int64) int64 {
	if rng.IntN(10) < 6 {
		return rng.Int64N(mean/8+1) + 1
	}
	return rng.Int64N(mean*481/100) + 1
}

func (m *market) meanOp() int64 {
	return meanOpNs * 10 / int64(m.weather.pace) * 1000 / int64(m.sym.PerMille)
}

// size draws a level's size, small ones far more often than large ones.
func (m *market) size() int64 {
	lots := 1 + m.rng.Int64N(int64(1)<<(1+m.rng.IntN(m.sym.MaxQtyBits)))
	q := lots * m.lot
	if m.lot > 1 && m.rng.IntN(1500) == 0 { // the real data hold a few that are finer than the lot
		q += m.rng.Int64N(m.lot)
	}
	return q
}

func (m *market) top() [2]Level {
	bp, bq, _ := m.bids.Max()
	ap, aq, _ := m.asks.Min()
	return [2]Level{{bp, bq}, {ap, aq}}
}

// fill makes events until there is one to give.
func (m *market) fill() {
	for len(m.queue) == 0 {
		switch {
		case m.lead != nil && m.lead.nextNs < min(m.diffNs, m.opNs):
			m.hear()
		case m.diffNs <= m.opNs:
			m.endWindow()
		default:
			m.change()
		}
	}
}

// endWindow makes the diff of the window, if anything was touched.
func (m *market) endWindow() {
	if m.id != m.diffID {
		ev := Event{AtNs: m.diffNs, Symbol: m.index, Kind: Diff, First: m.diffID + 1, Last: m.id}
		m.bidsOut, m.asksOut = m.bidsOut[:0], m.asksOut[:0]
		m.bidsTouched.Reverse(func(px int64, _ struct{}) bool {
			qty, _ := m.bids.Get(px)
			m.bidsOut = append(m.bidsOut, Level{px, qty})
			return true
		})
		m.asksTouched.Scan(func(px int64, _ struct{}) bool {
			qty, _ := m.asks.Get(px)
			m.asksOut = append(m.asksOut, Level{px, qty})
			return true
		})
		m.bidsTouched.Clear()
		m.asksTouched.Clear()
		ev.Bids, ev.Asks = m.bidsOut, m.asksOut
		m.diffID = m.id
		m.queue = append(m.queue, ev)
	}
	m.diffNs += windowNs
}

// set gives a level a size, 0 removes it; it takes an update id, now and then
// more than one.
func (m *market) set(bid bool, px, qty int64) {
	side, touched := &m.asks, &m.asksTouched
	if bid {
		side, touched = &m.bids, &m.bidsTouched
	}
	if qty == 0 {
		side.Delete(px)
	} else {
		side.Set(px, qty)
	}
	touched.Set(px, struct{}{})
	m.id++
	if m.rng.IntN(8) == 0 {
		m.id += m.rng.Int64N(3)
	}
}

// change is one thing that happens to the book.
func (m *market) change() {
	at := m.opNs
	if at >= m.weatherEnd {
		m.turnWeather(at)
	}
	bid := m.rng.IntN(2) == 0
	switch r := m.rng.IntN(100); {
	case r < m.weather.sweepPct:
		up := m.trendUp
		if m.rng.IntN(100) >= m.weather.trendPct {
			up = !up
		}
		m.sweep(at, up)
	case r < m.weather.sweepPct+38:
		m.atTouch(bid)
	case r < 88:
		m.inBook(bid, 1+m.rng.Int64N(int64(1)<<(1+m.rng.IntN(9))))
	default:
		// Anywhere down to an eighth of the price, equally likely at every order
		// of magnitude: much of it outside the best 5000.
		reach := bits.Len64(uint64(m.sym.StartPx/m.tick/16)) - 1
		far := int64(1) << m.rng.IntN(reach+1)
		m.inBook(bid, far+m.rng.Int64N(far))
	}
	if m.lead != nil {
		m.astray(at)
	}
	m.tellQuote(at)
	m.opNs = at + spread(m.rng, m.meanOp())
}

// tellQuote makes a quote if the touch is another than that of the last one.
func (m *market) tellQuote(at int64) {
	if t := m.top(); t != m.quoted {
		m.quoted = t
		m.queue = append(m.queue, Event{AtNs: at, Symbol: m.index, Kind: Quote, Last: m.id, Bid: t[0], Ask: t[1]})
	}
}

func (m *market) turnWeather(at int64) {
	switch r := m.rng.IntN(10); {
	case r < 4:
		m.weather = calm
	case r < 8:
		m.weather = active
	default:
		m.weather = burst
	}
	m.weatherEnd = at + spread(m.rng, m.weather.meanNs)
	m.trendUp = m.rng.IntN(2) == 0
	// A market that has run far away turns round.
	if best := m.quoted[0].Px; best < m.sym.StartPx/2 {
		m.trendUp = true
	} else if best > m.sym.StartPx*2 {
		m.trendUp = false
	}
}

func (m *market) side(bid bool) (side *btree.Map[int64, int64], best Level, away int64) {
	t := m.top()
	if bid {
		return &m.bids, t[0], -m.tick
	}
	return &m.asks, t[1], m.tick
}

// atTouch changes the best level of a side, betters it, or takes it away.
func (m *market) atTouch(bid bool) {
	side, best, away := m.side(bid)
	t := m.top()
	room := (t[1].Px-t[0].Px)/m.tick - 1 // free ticks between the sides
	r := m.rng.IntN(100)
	switch {
	case room > 0 && r < 45:
		step := room // closes the spread, or a part of it
		if m.rng.IntN(3) > 0 {
			step = 1 + m.rng.Int64N(min(room, int64(1)<<m.rng.IntN(bits.Len64(uint64(room)))))
		}
		m.set(bid, best.Px-away*step, m.size())
	case r < 60 && side.Len() > minSide:
		m.set(bid, best.Px, 0)
	default:
		qty := m.size()
		if qty == best.Qty {
			qty += m.lot
		}
		m.set(bid, best.Px, qty)
	}
}

// inBook changes a level some ticks behind the best: sets it, removes the next
// one there is, or sets one and removes it again before anyone can see it.
// Where levels are sparser than they should be, it rather sets.
func (m *market) inBook(bid bool, ticks int64) {
	side, best, away := m.side(bid)
	px := best.Px + away*ticks
	if px <= 0 {
		return
	}
	next, found := int64(0), false
	at := func(p, _ int64) bool { next, found = p, true; return false }
	if bid {
		side.Descend(px, at)
	} else {
		side.Ascend(px, at)
	}
	removePct := 24
	if found && (next-px)/away <= m.gap(ticks) || side.Len() > m.sym.Depth*5/4 {
		removePct = 62
	}
	switch r := m.rng.IntN(100); {
	case r < removePct:
		if found && side.Len() > minSide {
			m.set(bid, next, 0)
		}
	case r < 92:
		m.set(bid, px, m.size())
	default:
		if !found || next != px {
			m.set(bid, px, m.size())
			m.set(bid, px, 0)
		}
	}
}

// sweep is an aggressive order: it takes one or more of the best levels of the
// other side, in one or more trades each.
func (m *market) sweep(at int64, buy bool) {
	for levels := 1 + min(bits.TrailingZeros64(m.rng.Uint64()), 6); levels > 0; levels-- {
		side, best, _ := m.side(!buy)
		if side.Len() <= minSide {
			return
		}
		take := best.Qty
		if levels == 1 && m.rng.IntN(10) < 7 && best.Qty > m.lot {
			take = (1 + m.rng.Int64N(best.Qty/m.lot)) * m.lot
			take = min(take, best.Qty)
		}
		m.set(!buy, best.Px, best.Qty-take)
		m.fills(at, buy, best.Px, take)
	}
}

// fills are the trades of an aggressive order at one price.
func (m *market) fills(at int64, buy bool, px, take int64) {
	for left := take; left > 0; {
		qty := left
		if left > m.lot && m.rng.IntN(5) == 0 {
			qty = (1 + m.rng.Int64N(left/m.lot)) * m.lot
		}
		m.tradeID++
		m.queue = append(m.queue, Event{AtNs: at, Symbol: m.index, Kind: Trade, TradeID: m.tradeID, Px: px, Qty: qty, BuyerIsMaker: !buy})
		left -= qty
	}
}

func (m *market) book() Book {
	b := Book{LastID: m.id, Bids: make([]Level, 0, m.bids.Len()), Asks: make([]Level, 0, m.asks.Len())}
	m.bids.Reverse(func(px, qty int64) bool { b.Bids = append(b.Bids, Level{px, qty}); return true })
	m.asks.Scan(func(px, qty int64) bool { b.Asks = append(b.Asks, Level{px, qty}); return true })
	return b
}
