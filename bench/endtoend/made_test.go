package endtoend

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"deeptape/bench/simvenue"
	"deeptape/bench/world"
)

// Made markets of any venue, and the judgement of what was stored of them.

// stage is a server of simulated venues inside of the test.
type stage struct {
	*venue
	server *simvenue.Server
	opt    simvenue.Options
	lists  map[string][]world.Symbol
	start  int64
}

// stageDepth is how many levels a side the made books have: more than the windows that
// are subscribed to, but at Binance and Coinbase, whose books are whole.
const stageDepth = 600

// windows are what is subscribed to and what of it the venue's proof covers; 0 is the
// whole book.
var windows = map[string]struct{ depth, proven int }{
	"binance": {5000, 0}, "coinbase": {0, 0}, "kraken": {100, 10}, "okx": {0, 400}, "bybit": {200, 200}, "bybit_linear": {200, 200},
}

// newStage serves some symbols of some venues, all at the same pace. more is added to
// the agent's configuration.
func newStage(t *testing.T, dir string, symbols map[string][]string, opt simvenue.Options) *stage {
	t.Helper()
	s := &stage{opt: opt, lists: map[string][]world.Symbol{}, start: time.Now().UnixNano()}
	s.opt.Worlds = map[string]*world.World{}
	for name, list := range symbols {
		s.lists[name] = simvenue.Markets(name, list...)
		for i := range s.lists[name] {
			s.lists[name][i].PerMille, s.lists[name][i].Depth = 200, stageDepth
		}
		s.opt.Worlds[name] = s.world(t, name)
	}
	var err error
	if s.server, err = simvenue.New(s.opt); err == nil {
		err = s.server.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.server.Close)
	conf := "venues:\n"
	for _, name := range s.server.Venues() {
		ws, rest, _ := s.server.VenueURLs(name)
		conf += fmt.Sprintf("  %s: {symbols: [%s], ws_url: %q, rest_url: %q", name, strings.Join(symbols[name], ", "), ws, rest)
		if d := windows[name].depth; d > 0 {
			conf += fmt.Sprintf(", depth: %d", d)
		}
		conf += "}\n"
	}
	s.venue = &venue{process: &process{t: t}, url: s.server.RESTURL(), conf: filepath.Join(dir, "deeptape.yaml"), journal: filepath.Join(dir, "journal")}
	if err := os.WriteFile(s.conf, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

// world makes the markets of a venue, always the same ones.
func (s *stage) world(t *testing.T, name string) *world.World {
	t.Helper()
	w, err := world.New(uint64(len(name))*31+uint64(name[0]), world.Spec{Symbols: s.lists[name], StartNs: s.start})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// made is what happened in a made market.
type made struct {
	begin  []level
	diffs  []diff
	trades map[string]trade // by id
}

// truth plays the markets of a venue again, until now.
func (s *stage) truth(t *testing.T, name string) map[string]*made {
	t.Helper()
	w := s.world(t, name)
	all := map[string]*made{}
	for _, x := range s.lists[name] {
		b, _ := w.Book(x.Name)
		all[x.Name] = &made{begin: append(worldLevels(t, "bid", b.Bids), worldLevels(t, "ask", b.Asks)...), trades: map[string]trade{}}
	}
	for {
		e := w.Next()
		if e.AtNs > time.Now().UnixNano() {
			return all
		}
		m := all[s.lists[name][e.Symbol].Name]
		switch e.Kind {
		case world.Diff:
			m.diffs = append(m.diffs, diff{e.First, e.Last, e.AtNs, append(worldLevels(t, "bid", e.Bids), worldLevels(t, "ask", e.Asks)...)})
		case world.Trade:
			side := "buy"
			if e.BuyerIsMaker {
				side = "sell"
			}
			id := itoa(e.TradeID)
			m.trades[id] = trade{id, plain8(t, e.Px), plain8(t, e.Qty), side, e.AtNs}
		}
	}
}

// judged is what checkMade found.
type judged struct {
	compared int  // messages of verified intervals after which the book was the true one
	bogus    bool // a level that no true book has was sent, and is stored
}

// checkMade plays the stored book into a slow one. After every message inside of a
// verified interval, the levels that the venue's proof covers must be those of the true
// book at the time that the message says, the best ten each time, all of them now and
// then and at the end of each interval. A bid that the venue sends at or above its own
// best ask is no level of the true book, and is stored as it was sent: it must be there
// until the venue speaks of its price again.
func (s *stored) checkMade(m *made) (j judged) {
	t := s.t
	t.Helper()
	where := s.venue + " " + s.symbol
	var verified []interval
	for _, x := range s.coverage["book"] {
		if x.state == "verified" {
			verified = append(verified, x)
			if x.proof != proofs[s.venue] {
				t.Errorf("%s: %v", where, x)
			}
		}
	}
	window := windows[s.venue]
	ours, true_ := &slowBook{}, &slowBook{}
	for _, l := range m.begin {
		true_.set(l)
	}
	next, since := 0, 0
	bogus := level{}
	for n, x := range s.book {
		if x.flags&flagKeyframe != 0 {
			if !slices.Equal(x.levels, ours.levels()) {
				t.Fatalf("%s: keyframe at %d is not the book before it", where, x.lastNs)
			}
			continue
		}
		snapshot := x.flags&flagSnapshot != 0
		at := int64(0)
		if x.eventNs != "" {
			if at = (row{"n": x.eventNs}).int(t, "n"); s.venue == "coinbase" || strings.HasPrefix(s.venue, "bybit") {
				at += 3e6 // what the matching engine stamps is 3 ms older than the frame
			}
		}
		for next < len(m.diffs) && (at > 0 && m.diffs[next].eventNs/1e6 <= at/1e6 || at == 0 && m.diffs[next].last <= x.seq) {
			for _, l := range m.diffs[next].levels {
				true_.set(l)
			}
			next++
		}
		if snapshot {
			ours.clear()
			bogus = level{}
		} else if next == 0 || m.diffs[next-1].eventNs/1e6 != at/1e6 {
			t.Fatalf("%s: stored message %d, of %s, was never sent", where, x.seq, x.eventNs)
		}
		for _, l := range x.levels {
			ours.set(l)
			if l.side == "bid" && l.px == bogus.px {
				bogus = level{}
			}
			if !snapshot && l.side == "bid" && l.qty != "0" && sortKey(l.px) >= true_.asks[0].key {
				bogus, j.bogus = l, true
			}
		}
		if s.venue == "kraken" {
			ours.bids, ours.asks = ours.bids[:min(len(ours.bids), window.depth)], ours.asks[:min(len(ours.asks), window.depth)]
		}
		i := slices.IndexFunc(verified, func(v interval) bool { return v.from <= x.lastNs && x.lastNs <= v.to })
		if i < 0 || at == 0 {
			continue
		}
		last := n == len(s.book)-1 || s.book[n+1].lastNs > verified[i].to
		levels := 10
		if since++; last || since%50 == 0 {
			if levels = window.proven; levels == 0 {
				levels = 2 * stageDepth
			}
		}
		if bogus.px != "" {
			ours.set(level{bogus.side, bogus.px, "0"})
		}
		for _, side := range []string{"bid", "ask"} {
			if got, want := ours.top(side, levels), true_.top(side, levels); got != want {
				t.Fatalf("%s: message %d at %d (%s): the best %d levels, side %s, are\n%.600s\nwant\n%.600s", where, x.seq, x.lastNs, x.eventNs, levels, side, got, want)
			}
		}
		if bogus.px != "" {
			ours.set(bogus)
		}
		j.compared++
	}
	return j
}

// checkMadeTrades: each stored trade was made so, none is stored twice, and at venues
// that count their trades those missing between the first and the last stand in gaps.
func (s *stored) checkMadeTrades(m *made) {
	t := s.t
	t.Helper()
	seen := map[string]bool{}
	missing, told, before := int64(0), int64(0), int64(0)
	for _, x := range s.trades {
		if seen[x.id] {
			t.Errorf("%s %s: trade %s is stored twice", s.venue, s.symbol, x.id)
		}
		seen[x.id] = true
		if strings.HasPrefix(s.venue, "bybit") {
			continue // its ids are texts of the simulator's own
		}
		want, ok := m.trades[x.id]
		if s.venue == "okx" { // joins several
			want.qty = x.qty
		}
		if want.tradeNs /= 1e6; !ok || (trade{x.id, x.px, x.qty, x.side, x.tradeNs / 1e6}) != want {
			t.Fatalf("%s %s: trade %+v was never made so: %+v", s.venue, s.symbol, x, want)
		}
		id := x.num(t)
		if before > 0 {
			missing += id - before - 1
		}
		before = id
	}
	if !slices.Contains([]string{"binance", "coinbase", "kraken"}, s.venue) {
		return
	}
	for _, x := range s.coverage["trades"] {
		if x.state == "gap" && x.cause != "start" && x.seqFirst != "" && x.seqLast != "" {
			told += row{"n": x.seqLast}.int(t, "n") - row{"n": x.seqFirst}.int(t, "n") + 1
		}
	}
	if missing != told {
		t.Errorf("%s %s: %d trades are missing, the coverage tells of %d: %v", s.venue, s.symbol, missing, told, s.coverage["trades"])
	}
}
