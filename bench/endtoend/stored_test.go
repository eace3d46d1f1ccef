package endtoend

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Flags of book_delta.
const (
	flagSnapshot   = 1
	flagLast       = 2
	flagKeyframe   = 4
	flagUnverified = 8
	flagFirst      = 16
)

// stored is all that QuestDB holds of one symbol.
type stored struct {
	t        *testing.T
	venue    string
	symbol   string
	depth    int // that the agent asked for
	book     []bookMessage
	top      []topRow
	trades   []storedTrade
	quotes   []storedQuote
	coverage map[string][]interval // by stream
}

// bookMessage is a message of book_delta, put together from its rows.
type bookMessage struct {
	firstNs, lastNs int64 // ts of its first and last row
	seq             int64
	prev            string // null is ""
	eventNs         string
	flags           int64 // of all rows: SNAPSHOT, KEYFRAME
	scale           string
	levels          []level
	unverified      []bool // each of levels says so
}

type topRow struct {
	ns         int64
	seq        string
	bid, ask   string // "px|qty"
	bids, asks string // as slowBook.top
}

type storedTrade struct {
	ns int64
	trade
}

type storedQuote struct {
	ns    int64
	flags int64
	quote
}

type interval struct {
	from, to            int64 // inclusive
	state, proof, cause string
	seqFirst, seqLast   string
	messages            int64
}

func (i interval) String() string {
	return fmt.Sprintf("%s %s %s [%d, %d] %d messages, seq %s to %s", i.state, i.proof, i.cause, i.from, i.to, i.messages, i.seqFirst, i.seqLast)
}

// read takes everything of a symbol of Binance out of the database.
func (db database) read(t *testing.T, symbol string) *stored {
	t.Helper()
	db.t = t
	db.applied()
	return db.readApplied(t, "binance", symbol)
}

// readApplied takes everything of a symbol out of the database, checking on the way
// what holds of every capture.
func (db database) readApplied(t *testing.T, venue, symbol string) *stored {
	t.Helper()
	db.t = t
	s := &stored{t: t, venue: venue, symbol: symbol, depth: snapshotDepth, coverage: map[string][]interval{}}
	where := fmt.Sprintf(" WHERE venue = '%s' AND symbol = '%s' ORDER BY ts", venue, symbol)
	s.readBook(db.export("SELECT ts::long ns, side, px, qty, px_scale, qty_scale, ts_event::long event, seq, seq_prev, flags FROM book_delta" + where))
	for _, r := range db.export("SELECT ts::long ns, bid, bid_size, ask, ask_size, bids, asks, ts_event::long event, seq, flags FROM book_top" + where) {
		x := topRow{ns: r.int(t, "ns"), seq: r["seq"], bids: topOf(t, r["bids"]), asks: topOf(t, r["asks"])}
		if r["bid"] != "" {
			x.bid = plain(t, r["bid"]) + "|" + plain(t, r["bid_size"])
		}
		if r["ask"] != "" {
			x.ask = plain(t, r["ask"]) + "|" + plain(t, r["ask_size"])
		}
		s.top = append(s.top, x)
	}
	for _, r := range db.export("SELECT ts::long ns, side, px, qty, px_scale, qty_scale, trade_id, ts_event::long event FROM trades" + where) {
		s.trades = append(s.trades, storedTrade{r.int(t, "ns"), trade{r["trade_id"], scaled(t, r["px"], r["px_scale"]), scaled(t, r["qty"], r["qty_scale"]), r["side"], r.int(t, "event")}})
	}
	for _, r := range db.export("SELECT ts::long ns, bid, bid_size, ask, ask_size, seq, flags FROM quotes" + where) {
		s.quotes = append(s.quotes, storedQuote{r.int(t, "ns"), r.int(t, "flags"), quote{r.int(t, "seq"), plain(t, r["bid"]), plain(t, r["bid_size"]), plain(t, r["ask"]), plain(t, r["ask_size"])}})
	}
	for _, r := range db.export("SELECT ts::long ns, ts_end::long ns_end, stream, state, proof, cause, seq_first, seq_last, messages FROM coverage" + where) {
		s.coverage[r["stream"]] = append(s.coverage[r["stream"]], interval{r.int(t, "ns"), r.int(t, "ns_end"), r["state"], r["proof"], r["cause"], r["seq_first"], r["seq_last"], r.int(t, "messages")})
	}
	s.checkTimes()
	s.checkCoverage()
	return s
}

// readBook puts messages together: FIRST to LAST, consecutive ts, one seq.
func (s *stored) readBook(rows []row) {
	t := s.t
	t.Helper()
	open := false
	for _, r := range rows {
		at, flags := r.int(t, "ns"), r.int(t, "flags")
		if first := flags&flagFirst != 0; first == open {
			t.Fatalf("%s: FIRST is wrong at row %v", s.symbol, r)
		} else if first {
			s.book = append(s.book, bookMessage{firstNs: at, lastNs: at - 1, seq: r.int(t, "seq"), eventNs: r["event"], flags: flags &^ (flagFirst | flagLast | flagUnverified), scale: r["px_scale"] + "," + r["qty_scale"]})
			open = true
		}
		m := &s.book[len(s.book)-1]
		if at != m.lastNs+1 || r.int(t, "seq") != m.seq || r["event"] != m.eventNs || flags&^(flagFirst|flagLast|flagUnverified) != m.flags || r["px_scale"]+","+r["qty_scale"] != m.scale {
			t.Fatalf("%s: row %v does not go on message %+v", s.symbol, r, m)
		}
		m.lastNs = at
		if r["side"] != "" {
			m.levels = append(m.levels, level{r["side"], scaled(t, r["px"], r["px_scale"]), scaled(t, r["qty"], r["qty_scale"])})
			m.unverified = append(m.unverified, flags&flagUnverified != 0)
		} else if r["px"] != "" || r["qty"] != "" || flags&(flagFirst|flagLast) != flagFirst|flagLast {
			t.Fatalf("%s: row without side: %v", s.symbol, r)
		}
		if flags&flagLast != 0 {
			m.prev, open = r["seq_prev"], false
		} else if r["seq_prev"] != "" {
			t.Fatalf("%s: seq_prev on a row that is not LAST: %v", s.symbol, r)
		}
	}
	if open {
		t.Fatalf("%s: the last message has no LAST row", s.symbol)
	}
}

// checkTimes: ts is used once over book, quotes and trades, and book_top stands
// only where a message ends or a gap begins.
func (s *stored) checkTimes() {
	t := s.t
	t.Helper()
	type span struct {
		from, to int64
		what     string
	}
	var spans []span
	ends := map[int64]bool{}
	for _, m := range s.book {
		spans = append(spans, span{m.firstNs, m.lastNs, "book"})
		ends[m.lastNs] = true
	}
	for _, x := range s.trades {
		spans = append(spans, span{x.ns, x.ns, "trade"})
	}
	for _, x := range s.quotes {
		spans = append(spans, span{x.ns, x.ns, "quote"})
	}
	slices.SortFunc(spans, func(a, b span) int {
		if a.from != b.from {
			return int(a.from - b.from)
		}
		return int(a.to - b.to)
	})
	for i := 1; i < len(spans); i++ {
		if spans[i].from <= spans[i-1].to {
			t.Fatalf("%s: %+v and %+v share a ts", s.symbol, spans[i-1], spans[i])
		}
	}
	for _, i := range s.coverage["book"] {
		if i.state == "gap" {
			ends[i.from] = true
		}
	}
	for _, x := range s.top {
		if !ends[x.ns] {
			t.Errorf("%s: a book_top row at %d, where no message ends and no gap begins", s.symbol, x.ns)
		}
	}
}

// checkCoverage: per stream the intervals follow one on another without a hole or
// an overlap, every row lies in one that is no gap, messages is the number of LAST
// rows (or rows) inside, and each gap of the book is opened by a row of nulls.
func (s *stored) checkCoverage() {
	t := s.t
	t.Helper()
	at := map[string][]int64{}
	for _, m := range s.book {
		at["book"] = append(at["book"], m.lastNs)
	}
	for _, x := range s.trades {
		at["trades"] = append(at["trades"], x.ns)
	}
	for _, x := range s.quotes {
		at["quotes"] = append(at["quotes"], x.ns)
	}
	for _, stream := range []string{"book", "trades", "quotes"} {
		list := s.coverage[stream]
		if stream == "quotes" && (s.venue == "coinbase" || s.venue == "kraken") {
			if len(s.quotes) != 0 {
				t.Errorf("%s: %d quotes of a venue that has no stream of them", s.symbol, len(s.quotes))
			}
			continue
		}
		if len(list) == 0 {
			t.Errorf("%s %s: no coverage at all", s.symbol, stream)
			continue
		}
		for i, x := range list {
			if x.to < x.from {
				t.Errorf("%s %s: an interval that ends before it starts: %v", s.symbol, stream, x)
			}
			if i > 0 && x.from != list[i-1].to+1 {
				t.Errorf("%s %s: %v does not follow on %v: %d ns", s.symbol, stream, x, list[i-1], x.from-list[i-1].to-1)
			}
			n, last := int64(0), int64(0)
			for _, ns := range at[stream] {
				if ns >= x.from && ns <= x.to {
					n, last = n+1, ns
				}
			}
			if x.state == "verified" && x.to != last {
				t.Errorf("%s %s: the last row of %v is at %d", s.symbol, stream, x, last)
			}
			if n != x.messages {
				t.Errorf("%s %s: %d messages inside %v", s.symbol, stream, n, x)
			}
			if x.state == "gap" && n > 0 {
				t.Errorf("%s %s: rows inside a gap: %v", s.symbol, stream, x)
			}
			if x.state == "gap" != (x.cause != "" && x.state != "unverified") {
				t.Errorf("%s %s: a gap has a cause, and only a gap or a doubt has: %v", s.symbol, stream, x)
			}
		}
		if n := len(at[stream]); n > 0 && (at[stream][0] < list[0].from || at[stream][n-1] > list[len(list)-1].to) {
			t.Errorf("%s %s: rows outside of the coverage", s.symbol, stream)
		}
	}
	nulls := map[int64]bool{}
	for _, x := range s.top {
		if x.bid == "" && x.ask == "" && x.bids == "|" && x.asks == "|" && x.seq == "" {
			nulls[x.ns] = true
		}
	}
	gaps := 0
	for _, i := range s.coverage["book"] {
		if i.state != "gap" {
			continue
		}
		gaps++
		if !nulls[i.from] {
			t.Errorf("%s: no row of nulls in book_top at the start of %v", s.symbol, i)
		}
	}
	if len(nulls) != gaps {
		t.Errorf("%s: %d rows of nulls in book_top for %d gaps", s.symbol, len(nulls), gaps)
	}
}

// states of a stream in order, such as "gap:start verified gap:sequence verified".
func (s *stored) states(stream string) string {
	var out []string
	for _, i := range s.coverage[stream] {
		text := i.state
		if i.cause != "" {
			text += ":" + i.cause
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

// replayed is what walking through the stored book found.
type replayed struct {
	snapshots, keyframes int
	diffs, levels        int       // deltas and their levels
	lastID               int64     // after the last message
	book                 *slowBook // as of then
}

// horizon is what a snapshot of Binance could see: the sort keys of its worst bid and
// worst ask, "" where it had less than was asked for.
type horizon [2]string

func horizonOf(levels []level, depth int) (h horizon) {
	n := [2]int{}
	for _, l := range levels { // the last of a side is its worst
		s := map[string]int{"bid": 0, "ask": 1}[l.side]
		n[s]++
		h[s] = sortKey(l.px)
	}
	for s := range h {
		if n[s] < depth {
			h[s] = ""
		}
	}
	return h
}

func (h horizon) beyond(l level) bool {
	at := sortKey(l.px)
	return l.side == "bid" && h[0] != "" && at < h[0] || l.side == "ask" && h[1] != "" && at > h[1]
}

// checkUnverified: a level says UNVERIFIED if its interval does, or if it lies outside
// of what the last snapshot could see.
func (s *stored) checkUnverified(m *bookMessage, h horizon) {
	s.t.Helper()
	doubted := false
	for _, i := range s.coverage["book"] {
		doubted = doubted || i.state == "unverified" && m.firstNs >= i.from && m.firstNs <= i.to
	}
	for k, l := range m.levels {
		if want := doubted || h.beyond(l); m.unverified[k] != want {
			s.t.Fatalf("%s: message %d, level %+v: UNVERIFIED is %v, want %v (in doubt: %v, the window: %q)", s.symbol, m.seq, l, m.unverified[k], want, doubted, h)
		}
	}
}

// walk plays the stored book into a slow one and compares every message: deltas
// with what the venue had to say, keyframes with the slow book, snapshots with
// snapshotOf; every row of book_top with the first ten levels; that such a row is
// there if and only if they changed. Within an interval the chain must have no
// hole. after is called with the slow book after every snapshot and delta.
func (s *stored) walk(diffs []diff, snapshotOf func(id int64) []level, after func(m bookMessage, b *slowBook)) replayed {
	t := s.t
	t.Helper()
	byLast := map[int64]*diff{}
	for i := range diffs {
		byLast[diffs[i].last] = &diffs[i]
	}
	tops := map[int64]*topRow{}
	for i := range s.top {
		tops[s.top[i].ns] = &s.top[i]
	}
	gaps := map[int64]bool{} // first instant after a gap
	for _, i := range s.coverage["book"] {
		if i.state == "gap" {
			gaps[i.to+1] = true
		}
	}
	r := replayed{book: &slowBook{}}
	seen := map[int64]bool{}
	bids, asks, scale := "", "", ""
	fresh := false // no delta since the snapshot
	window := horizon{}
	for _, m := range s.book {
		changed := false
		if m.flags&(flagSnapshot|flagKeyframe) == flagSnapshot {
			window = horizonOf(m.levels, s.depth)
		}
		s.checkUnverified(&m, window)
		switch {
		case m.flags&flagKeyframe != 0:
			r.keyframes++
			if m.flags&flagSnapshot == 0 || m.seq != r.lastID || m.prev != "" {
				t.Fatalf("%s: keyframe %d after %d: flags %d, prev %q", s.symbol, m.seq, r.lastID, m.flags, m.prev)
			}
			if want := r.book.levels(); !slices.Equal(m.levels, want) {
				t.Fatalf("%s: keyframe %d has %d levels and is not the book of %d levels", s.symbol, m.seq, len(m.levels), len(want))
			}
		case m.flags&flagSnapshot != 0:
			r.snapshots++
			if m.prev != "" {
				t.Errorf("%s: snapshot %d has seq_prev %s", s.symbol, m.seq, m.prev)
			}
			if !gaps[m.firstNs] {
				t.Errorf("%s: snapshot %d does not end a gap", s.symbol, m.seq)
			}
			if want := snapshotOf(m.seq); want == nil || !slices.Equal(m.levels, want) {
				t.Fatalf("%s: snapshot %d with %d levels is not what the venue answered (%d levels)", s.symbol, m.seq, len(m.levels), len(want))
			}
			r.book.clear()
			for _, l := range m.levels {
				r.book.set(l)
			}
			r.lastID, fresh, changed = m.seq, true, true
		default:
			d := byLast[m.seq]
			if d == nil {
				t.Fatalf("%s: stored message %d was never sent", s.symbol, m.seq)
			}
			if seen[m.seq] {
				t.Fatalf("%s: message %d is stored twice", s.symbol, m.seq)
			}
			seen[m.seq] = true
			if m.prev != itoa(d.first-1) || m.eventNs != itoa(d.eventNs) || !slices.Equal(m.levels, d.levels) {
				t.Fatalf("%s: stored message\n%+v\nis not what was sent:\n%+v", s.symbol, m, *d)
			}
			if d.first != r.lastID+1 && !(fresh && d.first <= r.lastID+1 && d.last > r.lastID) {
				t.Fatalf("%s: message %d to %d does not follow on %d", s.symbol, d.first, d.last, r.lastID)
			}
			for _, l := range m.levels {
				r.book.set(l)
			}
			r.lastID, fresh = m.seq, false
			r.diffs++
			r.levels += len(m.levels)
		}
		if m.scale != scale && m.flags&flagSnapshot == 0 {
			t.Fatalf("%s: message %d is at scale %s in a book at scale %s", s.symbol, m.seq, m.scale, scale)
		}
		scale = m.scale
		if m.flags&flagKeyframe == 0 {
			nowBids, nowAsks := r.book.top("bid", topLevels), r.book.top("ask", topLevels)
			changed = changed || nowBids != bids || nowAsks != asks
			bids, asks = nowBids, nowAsks
			after(m, r.book)
		}
		top := tops[m.lastNs]
		if changed != (top != nil) {
			t.Fatalf("%s: message %d: first levels changed: %v; row in book_top: %v", s.symbol, m.seq, changed, top != nil)
		}
		if top != nil {
			best := func(side string) string {
				px, qty, _ := strings.Cut(r.book.top(side, 1), "|")
				if px == "" {
					return ""
				}
				return px + "|" + qty
			}
			if top.bids != bids || top.asks != asks || top.bid != best("bid") || top.ask != best("ask") || top.seq != itoa(m.seq) {
				t.Fatalf("%s: book_top after message %d:\n%+v\nwant bids %s\nasks %s", s.symbol, m.seq, *top, bids, asks)
			}
		}
	}
	return r
}

// topLevels is the default of the configuration.
const topLevels = 10

// checkTrades: the stored trades are some of those sent, each once, in order. It
// returns how many, and how many of those sent between them are not there.
func (s *stored) checkTrades(sent []trade) (n, missing int) {
	t := s.t
	t.Helper()
	i := 0
	for _, x := range s.trades {
		for ; i < len(sent) && sent[i].id != x.id; i++ {
			missing++
		}
		if i == len(sent) || sent[i] != x.trade {
			t.Fatalf("%s: stored trade %+v was not sent so, or not after the one before it", s.symbol, x)
		}
		if i++; n == 0 {
			missing = 0 // before the first
		}
		n++
	}
	return n, missing
}

// checkQuotes: the same for quotes.
func (s *stored) checkQuotes(sent []quote) (n, missing int) {
	t := s.t
	t.Helper()
	i := 0
	for _, x := range s.quotes {
		for ; i < len(sent) && sent[i] != x.quote; i++ {
			missing++
		}
		if i == len(sent) {
			t.Fatalf("%s: stored quote %+v was not sent so, or not after the one before it", s.symbol, x)
		}
		if x.flags != flagUnverified {
			t.Fatalf("%s: a quote cannot be proven, but its flags are %d", s.symbol, x.flags)
		}
		if i++; n == 0 {
			missing = 0
		}
		n++
	}
	return n, missing
}

func itoa(n int64) string { return fmt.Sprint(n) }
