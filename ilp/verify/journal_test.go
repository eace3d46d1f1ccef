package verify

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"deeptape/hotpath/event"
)

// records are the tape as row records, in the order in which a machine makes them.
func (p *tape) records() [][]byte {
	type stamped struct {
		ts, order int64
		rec       []byte
	}
	var all []stamped
	add := func(ts, order int64, rec []byte) { all = append(all, stamped{ts, order, rec}) }
	head := func(kind event.RowKind, ts, tsEvent, seq int64, flags int) event.Head {
		return event.Head{Kind: kind, Ts: ts, TsEvent: tsEvent, Seq: seq, SeqPrev: event.Null, TsRecv: ts, Flags: uint8(flags), PxScale: 2, QtyScale: 5}
	}
	for i := 0; i < len(p.books); {
		n := 1
		for p.books[i+n-1].flags&event.FlagLast == 0 {
			n++
		}
		rows := p.books[i : i+n]
		i += n
		h := head(event.RowBook, rows[0].ts, rows[0].tsEvent, rows[0].seq, rows[0].flags&^(event.FlagFirst|event.FlagLast))
		h.SeqPrev, h.PxScale, h.QtyScale = rows[n-1].seqPrev, int8(rows[0].pxScale), int8(rows[0].qtyScale)
		if rows[0].side == "" {
			n = 0
		}
		h.N = event.BookN(n)
		b := make([]byte, event.BookSize(n))
		h.Put(b, len(b))
		for k := range n {
			side := event.Bid
			if rows[k].side == "ask" {
				side = event.Ask
			}
			event.PutLevel(b, n, k, event.Level{Px: rows[k].px, Qty: rows[k].qty, Side: side})
		}
		add(h.Ts, 0, b)
	}
	for i, r := range p.tops {
		raw := p.rawTops[i]
		h := head(event.RowTop, r.ts, r.tsEvent, r.seq, r.flags)
		h.PxScale, h.QtyScale = int8(p.rawScales[i][0]), int8(p.rawScales[i][1])
		h.N, h.Extra = uint16(len(raw[0])), uint16(len(raw[1]))
		b := make([]byte, event.TopSize(len(raw[0]), len(raw[1])))
		h.Put(b, len(b))
		for k, l := range append(slices.Clone(raw[0]), raw[1]...) {
			event.PutPair(b, k, l.px, l.qty)
		}
		add(r.ts, 1, b)
	}
	for i, r := range p.depths {
		raw := p.rawDepths[i]
		h := head(event.RowDepth, r.ts, r.tsEvent, r.seq, r.flags)
		h.PxScale, h.QtyScale, h.N = int8(raw.scale[0]), int8(raw.scale[1]), uint16(len(raw.pairs)-1)
		b := make([]byte, event.DepthSize(len(raw.pairs)-1))
		h.Put(b, len(b))
		for k, pair := range raw.pairs {
			event.PutPair(b, k, pair[0], pair[1])
		}
		add(r.ts, 1, b)
	}
	for i, r := range p.quotes {
		raw := p.rawQuotes[i]
		h := head(event.RowQuote, r.ts, r.tsEvent, r.seq, r.flags)
		b := make([]byte, event.QuoteSize)
		h.Put(b, len(b))
		event.PutPair(b, 0, raw[0], raw[1])
		event.PutPair(b, 1, raw[2], raw[3])
		add(r.ts, 2, b)
	}
	for _, r := range p.trades {
		h := head(event.RowTrade, r.ts, r.tsEvent, r.seq, r.flags)
		h.PxScale, h.QtyScale, h.N = int8(r.pxScale), int8(r.qtyScale), uint16(len(r.id))
		b := make([]byte, event.TradeSize(len(r.id)))
		h.Put(b, len(b))
		side := event.Bid
		if r.side == "sell" {
			side = event.Ask
		}
		event.PutTrade(b, r.px, r.qty, side, []byte(r.id))
		add(r.ts, 3, b)
	}
	for _, c := range p.coverage {
		// An interval is written as it begins and grows, and once more as it ends.
		ends := p.ends(c)
		for i, messages := range []int64{0, c.messages / 2, c.messages} {
			v := event.Coverage{Stream: c.stream, Ts: c.ts, TsEnd: c.ts, SeqFirst: c.seqFirst, SeqLast: c.seqLast, Messages: messages, Detail: []byte(c.detail)}
			switch {
			case i == 2:
				v.TsEnd = c.interval.end
			case messages > 0:
				v.TsEnd = ends[messages-1]
			}
			for v.State = 0; v.State.String() != c.state; v.State++ {
			}
			for v.Proof = 0; v.Proof.String() != c.proof; v.Proof++ {
			}
			for v.Cause = 0; v.Cause.String() != c.cause; v.Cause++ {
			}
			v.TsRecv = v.TsEnd
			b := make([]byte, event.CoverageSize(len(v.Detail)))
			event.PutCoverage(b, &v)
			add(v.TsEnd, 4, b)
		}
	}
	slices.SortStableFunc(all, func(a, b stamped) int { return cmp.Or(cmp.Compare(a.ts, b.ts), cmp.Compare(a.order, b.order)) })
	var out [][]byte
	for _, s := range all {
		out = append(out, s.rec)
	}
	return out
}

// ends are the last instants of the messages of an interval.
func (p *tape) ends(c cover) []int64 {
	var ends []int64
	add := func(ts int64) {
		if ts >= c.ts && ts <= c.interval.end {
			ends = append(ends, ts)
		}
	}
	switch c.stream {
	case event.StreamBook:
		for _, r := range p.books {
			if r.flags&event.FlagLast != 0 {
				add(r.ts)
			}
		}
	case event.StreamTrades:
		for _, r := range p.trades {
			add(r.ts)
		}
	case event.StreamQuotes:
		for _, r := range p.quotes {
			add(r.ts)
		}
	}
	return ends
}

// journal derives the records of several tapes, all of them in one feed.
type journal struct {
	names   []string
	records map[string][][]byte
	passes  int
}

func (j *journal) derive(want func(venue, symbol string) bool, emit func(*event.Instrument, []byte) error) error {
	j.passes++
	for _, name := range j.names {
		if !want("binance", name) {
			continue
		}
		for _, rec := range j.records[name] {
			if err := emit(&event.Instrument{Venue: "binance", Symbol: name}, slices.Clone(rec)); err != nil {
				return err
			}
		}
	}
	return nil
}

var journalDamages = []damage{
	{"qty altered far below the top", func(p *tape) (string, int64, string) {
		i := p.flagged(1, event.FlagSnapshot|event.FlagFirst) + 39
		p.books[i].qty += 5
		return tableBook, p.books[i].ts, fmt.Sprintf("qty is %d, the journal has %d", p.books[i].qty, p.books[i].qty-5)
	}},
	{"price of a trade altered", func(p *tape) (string, int64, string) {
		p.trades[4].px++
		return tableTrades, p.trades[4].ts, fmt.Sprintf("px is %d, the journal has %d", p.trades[4].px, p.trades[4].px-1)
	}},
	{"size of a trade and its side altered", func(p *tape) (string, int64, string) {
		r := &p.trades[4]
		r.qty, r.side = r.qty*2, map[string]string{"buy": "sell", "sell": "buy"}[r.side]
		return tableTrades, r.ts, fmt.Sprintf("; qty is %d, the journal has %d", r.qty, r.qty/2)
	}},
	{"first trade removed", func(p *tape) (string, int64, string) {
		ts := p.trades[0].ts
		cut(&p.trades, 0, 1)
		return tableTrades, ts, `the row is missing; the journal has trade "501"`
	}},
	{"trade added before the others", func(p *tape) (string, int64, string) {
		r := p.trades[0]
		r.ts--
		p.trades = slices.Insert(p.trades, 0, r)
		return tableTrades, r.ts, `the row is surplus: trade "501"`
	}},
	{"quote altered", func(p *tape) (string, int64, string) {
		p.quotes[7].bidSize += 1
		return tableQuotes, p.quotes[7].ts, "bid_size is"
	}},
	{"quote made null", func(p *tape) (string, int64, string) {
		p.quotes[7].bid = nan()
		return tableQuotes, p.quotes[7].ts, "bid is NaN, the journal has 6000"
	}},
	{"quote moved", func(p *tape) (string, int64, string) {
		p.quotes[7].ts++
		return tableQuotes, p.quotes[7].ts, "the row is surplus: bid 6000"
	}},
	{"last quote removed", func(p *tape) (string, int64, string) {
		n := len(p.quotes) - 1
		ts := p.quotes[n].ts
		cut(&p.quotes, n, n+1)
		return tableQuotes, ts, "the row is missing; the journal has bid 6000"
	}},
	{"event time of a message altered", func(p *tape) (string, int64, string) {
		i := p.find(9, 1, 0)
		for p.books[i].flags&event.FlagLast == 0 {
			i++
		}
		p.books[i].tsEvent = event.Null
		return tableBook, p.books[i].ts, "ts_event is null, the journal has 2026-11-22T10:00:00.0"
	}},
	{"depth row removed", func(p *tape) (string, int64, string) {
		ts := p.depths[7].ts
		cut(&p.depths, 7, 8)
		return tableDepth, ts, "the row is missing; the journal has bid 6000"
	}},
	{"depth row moved to another message", func(p *tape) (string, int64, string) {
		ts := p.tops[1].ts
		r := p.depths[0]
		r.ts = ts
		p.depths = slices.Insert(p.depths, 0, r)
		return tableDepth, ts, "the row is surplus: bid 6000"
	}},
	{"depth altered", func(p *tape) (string, int64, string) {
		p.depths[7].sizes[0] = slices.Clone(p.depths[7].sizes[0])
		p.depths[7].sizes[0][3]++
		return tableDepth, p.depths[7].ts, "bid_depth[4] is"
	}},
	{"cause altered", func(p *tape) (string, int64, string) {
		c := p.iv(1, event.StreamBook, stateGap)
		c.cause = "disconnect"
		return tableCoverage, c.ts, `cause is "disconnect", the journal has "sequence"`
	}},
	{"silence called a gap", func(p *tape) (string, int64, string) {
		c := p.iv(1, event.StreamBook, stateVerified)
		c.state = stateGap
		return tableCoverage, c.ts, `state is "gap", the journal has "verified"`
	}},
	{"interval added", func(p *tape) (string, int64, string) {
		c := *p.iv(1, event.StreamBook, stateGap)
		c.ts++
		p.coverage = append(p.coverage, c)
		return tableCoverage, c.ts, "the interval is surplus"
	}},
}

func TestJournal(t *testing.T) {
	ctx, db, addr, prefix := open(t)
	j := &journal{records: map[string][][]byte{}}
	type want struct {
		damage
		table, words string
		ts           int64
	}
	wants := map[string]want{}
	all := slices.Clone(journalDamages)
	for i, d := range damages { // some of them: each takes its time
		// Two lie outside of the journal.
		if i%4 == 0 && d.name != "book row long after all coverage" && d.name != "book row before all coverage" {
			all = append(all, d)
		}
	}
	for i, d := range all {
		p := newTape(fmt.Sprintf("%sdamage %02d", prefix, i))
		j.names = append(j.names, p.symbol)
		j.records[p.symbol] = newTape(p.symbol).records()
		table, ts, words := d.spoil(p)
		if i >= len(journalDamages) {
			table, words = "", "" // only that it is found at all
		}
		wants[p.symbol] = want{d, table, words, ts}
		p.store(t, addr)
	}

	// A sound one, and sound ones whose journal and database do not reach as far.
	sound := newTape(prefix + "sound")
	sound.store(t, addr)
	older := newTape(prefix + "older") // the journal's beginning is gone
	older.store(t, addr)
	newer := newTape(prefix + "newer") // the database is ahead of what was read
	newer.store(t, addr)
	pending := newTape(prefix + "pending") // the database is behind
	absent := newTape(prefix + "absent")   // the database has nothing at all
	for _, p := range []*tape{sound, older, newer, pending, absent} {
		j.names = append(j.names, p.symbol)
		j.records[p.symbol] = p.records()
	}
	var h event.Head
	second := older.iv(1, event.StreamBook, stateVerified).ts
	j.records[older.symbol] = slices.DeleteFunc(j.records[older.symbol], func(rec []byte) bool {
		h.Get(rec)
		return h.Ts < second
	})
	third := newer.iv(2, event.StreamBook, stateVerified).ts
	j.records[newer.symbol] = slices.DeleteFunc(j.records[newer.symbol], func(rec []byte) bool {
		h.Get(rec)
		return h.TsRecv >= third
	})
	p := pending
	for s := range event.NumStreams {
		c := &p.coverage[p.current(s)]
		ends := p.ends(*c)
		c.messages /= 2
		c.interval.end = ends[c.messages-1]
		switch last := c.interval.end; s {
		case event.StreamBook:
			p.books = slices.DeleteFunc(p.books, func(r bookRow) bool { return r.ts > last })
			p.tops = slices.DeleteFunc(p.tops, func(r topRow) bool { return r.ts > last })
		case event.StreamTrades:
			p.trades = slices.DeleteFunc(p.trades, func(r tradeRow) bool { return r.ts > last })
		case event.StreamQuotes:
			p.quotes = slices.DeleteFunc(p.quotes, func(r quoteRow) bool { return r.ts > last })
		}
	}
	p.store(t, addr)
	only := newTape(prefix + "unknown") // the journal knows nothing of it
	only.store(t, addr)

	r, err := Journal(ctx, db, Options{Want: func(_, s string) bool { return strings.HasPrefix(s, prefix) }}, j.derive, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(all) + 6; len(r.Symbols) != n || j.passes != (n+groupMax-1)/groupMax {
		t.Fatalf("%d symbols in %d passes, want %d", len(r.Symbols), j.passes, n)
	}
	says := func(s *SymbolReport, words ...string) {
		t.Helper()
		text := strings.Join(append(slices.Clone(s.Proven), s.NotChecked...), "\n")
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("%s: should say %q, says\n%s", s.Symbol, w, text)
			}
		}
	}
	for _, s := range r.Symbols {
		var list []string
		for _, f := range s.Findings {
			list = append(list, f.String())
		}
		text := strings.Join(list, "\n  ")
		switch s.Symbol {
		case sound.symbol:
			says(s, fmt.Sprintf("book_delta: %d of the journal's %[1]d rows are equal", len(sound.books)), fmt.Sprintf("book_top: %d of the journal's %[1]d rows are equal", len(sound.tops)),
				fmt.Sprintf("trades: %d of the journal's %[1]d rows are equal", len(sound.trades)), fmt.Sprintf("quotes: %d of the journal's %[1]d rows are equal", len(sound.quotes)),
				"coverage, book: 5 intervals equal")
		case older.symbol:
			says(s, "from before the journal's beginning")
		case newer.symbol:
			says(s, "newer than the journal's end")
		case pending.symbol:
			says(s, "not yet in the database", "that have since grown in the journal")
			if s.InFlight.Rows == 0 || s.InFlight.Intervals == 0 || s.InFlight.FromNs == 0 {
				t.Errorf("of %s is in flight: %+v", s.Symbol, s.InFlight)
			}
			var short strings.Builder
			if err := (&Report{Symbols: []*SymbolReport{s}}).WriteText(&short); err != nil || strings.Count(short.String(), "yet in the database")+strings.Count(short.String(), "in flight") != 1 {
				t.Errorf("%v, and what is in flight is not summed up in one line:\n%s", err, &short)
			}
		case only.symbol:
			says(s, "the journal knows nothing of this instrument")
		case absent.symbol:
			if s.FoundTotal != 1 || !strings.Contains(text, "the database holds nothing of this instrument") {
				t.Errorf("absent: %s", text)
			}
			continue
		default:
			w := wants[s.Symbol]
			found := false
			for _, f := range s.Findings {
				found = found || f.Ts == w.ts && (w.table == "" || f.Table == w.table && strings.Contains(f.What, w.words))
			}
			// A row that follows on the damage may be what the other test looks for.
			if w.table == "" {
				found = s.FoundTotal > 0
			}
			if !found {
				t.Errorf("%s: want %s at %s with %q, got %d:\n  %s", w.name, w.table, stamp(w.ts), w.words, s.FoundTotal, text)
			}
			continue
		}
		if s.FoundTotal > 0 {
			t.Errorf("%s is sound, found %d:\n  %s", s.Symbol, s.FoundTotal, text)
		}
	}
}
