package world

import (
	"fmt"
	"math/rand/v2"
)

// Profile is a load: streams of messages whose content, order and times are all
// fixed before the first is sent, so that whoever is late cannot hide it. Its zero
// value is none; Profiles has those that there are.
type Profile struct {
	Name    string
	Streams int  // symbols; each has PerSecond depth messages a second
	Busy    int  // so many of them have level counts as recorded, the rest a tenth of that
	Bursts  int  // so many symbols have the recorded burst, at the same time, once a second
	Unpaced bool // as fast as can be sent; the times say only how much and in which order
	About   string
}

// PerSecond is how many depth messages a symbol has, which is Binance's pace.
const PerSecond = 10

// Profiles are the loads of the whole-path rig, defined here and nowhere else.
//
// Their source is the recording binance/spot_btcusdt_20240808_full: 6,495 depth
// messages, 19,904 trades and 73,174 quotes of BTCUSDT in 651 s.
var Profiles = []Profile{
	{Name: "calm", Streams: 150, Busy: 5,
		About: "150 streams of 10 depth messages a second: five have the level counts of BTCUSDT (45.9 on average), the others a tenth of them"},
	{Name: "peak", Streams: 150, Busy: 5, Bursts: 10,
		About: "calm, and once a second on ten symbols at the same time what BTCUSDT had in its busiest 100 ms: 793 trades, 735 of them within 2 ms, 44 quotes, and a depth message of 1,076 levels"},
	{Name: "flood", Streams: 150, Busy: 5, Unpaced: true,
		About: "calm's messages as fast as they can be sent"},
}

// ProfileByName finds one of Profiles.
func ProfileByName(name string) (Profile, error) {
	names := ""
	for _, p := range Profiles {
		if p.Name == name {
			return p, nil
		}
		names += " " + p.Name
	}
	return Profile{}, fmt.Errorf("no profile %q: there are%s", name, names)
}

// recordedLevels are the level counts of the recording's depth messages: the means of
// a hundred equal parts of them in order, 45.86 on average.
var recordedLevels = [100]int{
	2, 3, 4, 5, 5, 6, 6, 6, 7, 7, 8, 8, 8, 9, 9, 9, 10, 10, 10, 10, 11, 11, 11, 12, 12,
	12, 13, 13, 13, 14, 14, 14, 15, 15, 15, 16, 16, 16, 17, 17, 18, 18, 19, 19, 20, 20, 20, 21, 22, 22,
	22, 23, 23, 24, 25, 25, 26, 27, 27, 28, 29, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 40, 41, 42, 44,
	46, 48, 50, 53, 55, 58, 60, 63, 66, 70, 75, 80, 88, 94, 101, 108, 118, 132, 146, 162, 185, 212, 251, 323, 543,
}

// recordedTicks are the distances of the changed levels from the touch: the middles of
// fifty equal parts of them in order. The touch itself is left out, see Load.
var recordedTicks = [50]int64{
	1, 1, 1, 16, 88, 157, 202, 285, 360, 423, 518, 599, 701, 813, 933, 1059, 1198, 1348, 1506, 1648, 1800, 1959, 2128, 2300, 2477,
	2708, 2978, 3264, 3600, 3982, 4380, 4776, 5127, 5570, 6035, 6570, 7178, 7845, 8588, 9329, 10000, 10654, 11397, 12211, 13346, 15013, 18516, 38116, 150702, 617752,
}

// recordedRemovedPct is how many of a hundred changes take a level away.
const recordedRemovedPct = 48

// The burst: what comes in which millisecond of the second, by the venue's own stamps
// of the trades. Quotes have no stamp; they stand where they stood among the trades.
var (
	burstTrades      = []clump{{3, 1}, {4, 2}, {12, 23}, {45, 1}, {48, 1}, {55, 3}, {58, 1}, {63, 4}, {64, 8}, {65, 12}, {67, 1}, {73, 292}, {74, 443}, {91, 1}}
	burstQuotes      = []clump{{10, 15}, {45, 2}, {75, 12}, {85, 15}}
	burstDepths      = []clump{{91, 1}}
	burstDepthLevels = 1076
)

type clump struct{ ms, n int }

const (
	diffTemplates  = 512
	burstTemplates = 32
	tradeTemplates = 256
)

// Load is the content of a profile: for each symbol a book and templates of messages
// that are sent in turn. A diff gives absolute sizes, so that a template may come
// again; none of them touches the best level of a side, so that the sides never
// cross and a quote is true at any time. Nothing changes after it was made.
type Load struct {
	Profile Profile
	Symbols []LoadSymbol
}

// LoadSymbol is one symbol of a load. Events have no times and no ids.
type LoadSymbol struct {
	Symbol
	Book   Book    // at the start; its LastID is before the first diff
	Diffs  []Event // then the burst's
	Trades []Event
	Quote  Event

	phaseMs int // when in each tenth of a second its diff is due
	bursts  bool
}

// NewLoad makes a profile's content. The same seed makes the same.
func NewLoad(p Profile, seed uint64) *Load {
	l := &Load{Profile: p}
	rng := rand.New(rand.NewPCG(seed, 150))
	for i := range p.Streams {
		s := LoadSymbol{phaseMs: i * 100 / p.Streams, bursts: i < p.Bursts}
		s.Name = fmt.Sprintf("S%03dUSDT", i)
		share := 10
		// Two decimals and tens of thousands, as BTCUSDT.
		s.StartPx, s.PxDecimals, s.QtyDecimals, s.MaxQtyBits, s.Depth = (20_000+rng.Int64N(60_000))*Unit+37*Unit/100, 2, 5, 20, 500
		if i < p.Busy {
			share, s.Depth = 1, 5000
		}
		s.fill(rng, share)
		l.Symbols = append(l.Symbols, s)
	}
	return l
}

func (s *LoadSymbol) fill(rng *rand.Rand, share int) {
	tick, lot := pow10(8-s.PxDecimals), pow10(8-s.QtyDecimals)
	size := func() int64 { return (1 + rng.Int64N(int64(1)<<(1+rng.IntN(s.MaxQtyBits)))) * lot }
	s.Book.LastID = 10_000_000_000 + rng.Int64N(50_000_000_000)
	for n := range int64(s.Depth) { // about a level in every five ticks, as far as most changes reach
		away := 5 * n * tick
		s.Book.Bids = append(s.Book.Bids, Level{s.StartPx - away, size()})
		s.Book.Asks = append(s.Book.Asks, Level{s.StartPx + tick + away, size()})
	}
	bid, ask := s.Book.Bids[0], s.Book.Asks[0]
	s.Quote = Event{Kind: Quote, Bid: bid, Ask: ask}
	seen := map[int64]bool{}
	diff := func(levels int) Event {
		ev := Event{Kind: Diff}
		for clear(seen); len(seen) < levels; {
			k := rng.IntN(len(recordedTicks))
			away := recordedTicks[k]
			if k > 0 { // anywhere between this part and the one before
				away = recordedTicks[k-1] + rng.Int64N(away-recordedTicks[k-1]+1)
			}
			l := Level{bid.Px - max(away, 1)*tick, size()}
			side := &ev.Bids
			if rng.IntN(2) == 0 {
				l.Px, side = ask.Px+max(away, 1)*tick, &ev.Asks
			}
			if rng.IntN(100) < recordedRemovedPct {
				l.Qty = 0
			}
			if l.Px > 0 && !seen[l.Px] {
				seen[l.Px] = true
				*side = append(*side, l)
			}
		}
		return ev
	}
	for range diffTemplates {
		n := recordedLevels[rng.IntN(len(recordedLevels))]
		s.Diffs = append(s.Diffs, diff(max(1, (n+rng.IntN(share))/share)))
	}
	if s.bursts {
		for range burstTemplates {
			s.Diffs = append(s.Diffs, diff(burstDepthLevels))
		}
	}
	for range tradeTemplates {
		ev := Event{Kind: Trade, Px: bid.Px, Qty: size(), BuyerIsMaker: true}
		if rng.IntN(2) == 0 {
			ev.Px, ev.BuyerIsMaker = ask.Px, false
		}
		s.Trades = append(s.Trades, ev)
	}
}

// Sending is one message of a schedule.
type Sending struct {
	AtNs        int64 // when it is due; whole milliseconds, so that a venue's stamp tells it exactly
	Symbol      int   // in Load.Symbols
	Kind        Kind
	Template    int   // in the symbol's Diffs or Trades
	First, Last int64 // update ids of a diff; a quote has Last only
	TradeID     int64
}

// Schedule is what is sent when: warmNs of calm, to connect and to fill caches by, a
// pause, and from StartNs on the profile for so long. An unpaced profile is unpaced
// from StartNs on.
type Schedule struct {
	Load           *Load
	StartNs, EndNs int64

	ms      int64 // the millisecond that queue is of
	warmMs  int64 // the pause begins
	queue   []Sending
	symbols []scheduled
	dueAt   [100][]int // symbols by phase
}

// scheduled is how far a symbol has come.
type scheduled struct {
	lastID, tradeID       int64
	diffs, bursts, trades int
}

// PauseNs is the silence before StartNs.
const PauseNs = 1_000_000_000

// NewSchedule begins warmNs before startNs; both are rounded down to whole seconds.
func NewSchedule(l *Load, startNs, warmNs, forNs int64) *Schedule {
	startNs -= startNs % 1e9
	s := &Schedule{Load: l, StartNs: startNs, EndNs: startNs + forNs}
	s.ms, s.warmMs = (startNs-warmNs)/1e9*1e3-1, (startNs-PauseNs)/1e6
	for i := range l.Symbols {
		s.symbols = append(s.symbols, scheduled{lastID: l.Symbols[i].Book.LastID, tradeID: 1_000_000_000})
		phase := l.Symbols[i].phaseMs
		s.dueAt[phase] = append(s.dueAt[phase], i)
	}
	return s
}

// Next gives the messages that are due next, all at the same time, or nil at the end.
// Valid until the next Next.
func (s *Schedule) Next() []Sending {
	for s.queue = s.queue[:0]; len(s.queue) == 0; {
		if s.ms++; s.ms >= s.warmMs && s.ms < s.StartNs/1e6 {
			s.ms = s.StartNs / 1e6
		}
		if s.ms*1e6 >= s.EndNs {
			return nil
		}
		s.fill()
	}
	return s.queue
}

func (s *Schedule) fill() {
	for _, i := range s.dueAt[s.ms%100] {
		at := &s.symbols[i]
		s.diff(i, at.diffs%diffTemplates)
		at.diffs++
	}
	if s.Load.Profile.Bursts == 0 || s.ms*1e6 < s.StartNs || s.ms%1000 >= 100 {
		return
	}
	s.burst(burstTrades, func(i int) {
		at := &s.symbols[i]
		at.tradeID++
		s.queue = append(s.queue, Sending{AtNs: s.ms * 1e6, Symbol: i, Kind: Trade, Template: at.trades % tradeTemplates, TradeID: at.tradeID})
		at.trades++
	})
	s.burst(burstQuotes, func(i int) {
		s.queue = append(s.queue, Sending{AtNs: s.ms * 1e6, Symbol: i, Kind: Quote, Last: s.symbols[i].lastID})
	})
	s.burst(burstDepths, func(i int) {
		at := &s.symbols[i]
		s.diff(i, diffTemplates+at.bursts%burstTemplates)
		at.bursts++
	})
}

// burst gives every bursting symbol its turn, one message at a time.
func (s *Schedule) burst(list []clump, send func(symbol int)) {
	for _, b := range list {
		if int64(b.ms) != s.ms%1000 {
			continue
		}
		for range b.n {
			for i := range s.Load.Profile.Bursts {
				send(i)
			}
		}
	}
}

func (s *Schedule) diff(i, template int) {
	d, at := &s.Load.Symbols[i].Diffs[template], &s.symbols[i]
	x := Sending{AtNs: s.ms * 1e6, Symbol: i, Kind: Diff, Template: template, First: at.lastID + 1}
	at.lastID += int64(len(d.Bids) + len(d.Asks))
	x.Last = at.lastID
	s.queue = append(s.queue, x)
}

// Total counts what a schedule of such a warm-up and length sends from its start on:
// messages, those of them that carry a time, and levels.
func (l *Load) Total(warmNs, forNs int64) (messages, stamped, levels int) {
	s := NewSchedule(l, DefaultStartNs, warmNs, forNs)
	for list := s.Next(); list != nil; list = s.Next() {
		for _, x := range list {
			if x.AtNs < s.StartNs {
				continue
			}
			messages++
			if x.Kind != Quote {
				stamped++
			}
			if x.Kind == Diff {
				levels += int(x.Last - x.First + 1)
			}
		}
	}
	return messages, stamped, levels
}
