package verify

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"deeptape/hotpath/event"
	"deeptape/ilp/qdb"
)

// Derive derives the rows of a journal again. It asks want about each instrument that
// the journal knows, and calls emit with the row records of those that are wanted
// (RowBook, RowTop, RowDepth, RowQuote, RowTrade, RowCoverage; others are ignored), in
// the journal's order. A RowCoverage of the same stream and ts may come again: the last
// one counts. inst and rec are borrowed until emit returns; an error of emit ends the
// derivation and is returned.
type Derive func(want func(venue, symbol string) bool, emit func(inst *event.Instrument, rec []byte) error) error

// groupMax is how many instruments are compared in one derivation: each of them
// holds some pages of each table.
const groupMax = 8

// Journal compares every column of every row with the rows that derive makes of
// the journal. What lies outside of the journal is said, not found: the database
// may be older than the journal's first segment, and newer than its end as it was
// read. The journal is derived once for each eight instruments.
func Journal(ctx context.Context, db *qdb.DB, opt Options, derive Derive, progress io.Writer) (*Report, error) {
	if progress == nil {
		progress = io.Discard
	}
	ctx, cancel := unlimited(ctx)
	defer cancel()
	exp := newExporter(db)
	defer exp.close()
	covered, err := start(ctx, exp, &opt, progress)
	if err != nil {
		return nil, err
	}
	todo, outside, err := instruments(ctx, exp, &opt, covered)
	if err != nil {
		return nil, err
	}
	report := newReport(&opt, outside)
	known, inside := map[key]bool{}, map[key]bool{}
	for _, k := range todo {
		known[k], inside[k] = true, true
	}
	for round := 0; round == 0 || len(todo) > 0; round++ {
		group := todo[:min(len(todo), groupMax)]
		todo = todo[len(group):]
		fmt.Fprintf(progress, "deriving the rows of %d instruments again, %d to go\n", len(group), len(todo))
		symbols, asked, err := compareGroup(ctx, exp, &opt, group, covered, derive)
		if err != nil {
			return nil, err
		}
		for _, s := range symbols {
			if inside[s.k] || s.made() > 0 {
				report.Symbols = append(report.Symbols, s.rep)
			} else {
				report.outside(s.k)
			}
		}
		// Instruments that the journal knows and the database does not.
		for _, k := range slices.SortedFunc(maps.Keys(asked), compareKeys) {
			if !known[k] && opt.want(k) {
				known[k] = true
				todo = append(todo, k)
			}
		}
	}
	slices.SortFunc(report.Symbols, func(a, b *SymbolReport) int {
		return compareKeys(key{a.Venue, a.Symbol}, key{b.Venue, b.Symbol})
	})
	return report, nil
}

// compareGroup derives the journal once and compares the rows of a few instruments.
func compareGroup(ctx context.Context, db *exporter, opt *Options, group []key, covered map[key]*covers, derive Derive) ([]*journalSymbol, map[key]bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var symbols []*journalSymbol
	byKey := map[key]*journalSymbol{}
	for _, k := range group {
		s, err := newJournalSymbol(ctx, db, opt, k, covered[k])
		if err != nil {
			return nil, nil, fmt.Errorf("cannot compare %s %s: %w", k.venue, k.symbol, err)
		}
		symbols = append(symbols, s)
		byKey[k] = s
	}
	asked := map[key]bool{}
	end := int64(math.MinInt64) // the journal's end
	err := derive(func(venue, symbol string) bool {
		k := key{venue, symbol}
		asked[k] = true
		return byKey[k] != nil
	}, func(inst *event.Instrument, rec []byte) error {
		s := byKey[key{inst.Venue, inst.Symbol}]
		if s == nil {
			return nil
		}
		var h event.Head
		rec = rec[:h.Get(rec)]
		end = max(end, h.TsRecv)
		return s.take(&h, rec)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("cannot derive the rows of the journal again: %w", err)
	}
	for _, s := range symbols {
		last := s.last
		// Feeds share a journal, but not the instant at which each was last heard.
		s.last = max(s.last, end-feedSkewNs)
		if err := s.finish(); err != nil {
			return nil, nil, fmt.Errorf("cannot compare %s %s: %w", s.k.venue, s.k.symbol, err)
		}
		s.noKeyframe(last)
	}
	return symbols, asked, nil
}

// feedSkewNs: a feed ticks once a second, so that by then each has been heard.
const feedSkewNs = 5_000_000_000

// journalSymbol compares one instrument.
type journalSymbol struct {
	k   key
	rep *SymbolReport
	opt *Options

	derived     bool
	first, last int64 // of the journal, for this instrument: stamps of its inputs
	firstRow    int64 // ts of the first row that it makes of this instrument
	dbEnd       [event.NumStreams]int64
	empty       bool // the database holds nothing of it

	book   against[bookRow]
	top    against[topRow]
	quotes against[quoteRow]
	trades against[tradeRow]
	depth  against[depthRow]

	wanted      topRow // memory for the one that is compared
	wantedDepth depthRow

	lost []*lost // times whose inputs the journal has lost
	recv int64   // stamp of the record that is compared

	keyframe int64 // stamp of the last keyframe that made rows

	covered covers
	expect  [event.NumStreams]map[int64]*expectedInterval
}

// expectedInterval is an interval as derived: its last version, and whether the
// database holds this or an earlier one.
type expectedInterval struct {
	interval
	matched bool
}

func newJournalSymbol(ctx context.Context, db *exporter, opt *Options, k key, covered *covers) (*journalSymbol, error) {
	s := &journalSymbol{k: k, rep: newSymbolReport(k), opt: opt, first: math.MaxInt64, firstRow: math.MaxInt64, last: math.MinInt64, empty: true, lost: opt.lostOf(k)}
	if covered != nil {
		s.covered = *covered
	}
	for stream := range event.NumStreams {
		s.expect[stream] = map[int64]*expectedInterval{}
		s.dbEnd[stream] = math.MinInt64
		for i := range s.covered.streams[stream] {
			s.dbEnd[stream] = max(s.dbEnd[stream], s.covered.streams[stream][i].end)
			s.empty = false
		}
		r, err := db.query(ctx, fmt.Sprintf("SELECT ts::long t FROM %s WHERE venue = %s AND symbol = %s AND ts <= %s ORDER BY ts DESC LIMIT 1",
			db.table(streamTables[stream]), qdb.Quote(k.venue), qdb.Quote(k.symbol), qdb.FormatTime(opt.until())), "t")
		if err != nil {
			return nil, err
		}
		if r.Len() > 0 {
			ts, _ := r.Int(0, "t")
			s.dbEnd[stream] = max(s.dbEnd[stream], ts-lateNs)
			s.empty = false
		}
	}
	from, until := opt.From, opt.until()
	s.book = against[bookRow]{s: s, stream: event.StreamBook, rows: halfPager(ctx, db, &bookShape, k, from, until), differ: differBook, show: showBook}
	s.top = against[topRow]{s: s, stream: event.StreamBook, rows: halfPager(ctx, db, &topShape, k, from, until), differ: differTop, show: showTop}
	s.depth = against[depthRow]{s: s, stream: event.StreamBook, rows: halfPager(ctx, db, &depthShape, k, from, until), differ: differDepth, show: showDepth}
	s.quotes = against[quoteRow]{s: s, stream: event.StreamQuotes, rows: halfPager(ctx, db, &quoteShape, k, from, until), differ: differQuote, show: showQuote}
	s.trades = against[tradeRow]{s: s, stream: event.StreamTrades, rows: halfPager(ctx, db, &tradeShape, k, from, until), differ: differTrade, show: showTrade}
	return s, nil
}

// halfPager reads smaller pages: many are open at a time.
func halfPager[T any](ctx context.Context, db *exporter, s *shape[T], k key, from, until int64) *pager[T] {
	half := *s
	half.limit /= 2
	return newPager(ctx, db, &half, k, from, until)
}

// take compares the rows of one record.
func (s *journalSymbol) take(h *event.Head, rec []byte) error {
	s.first, s.last, s.recv = min(s.first, h.TsRecv), max(s.last, h.TsRecv), h.TsRecv
	s.goesOn(h.TsRecv)
	switch h.Kind {
	case event.RowBook, event.RowTop, event.RowDepth, event.RowQuote, event.RowTrade:
		s.firstRow = min(s.firstRow, h.Ts)
		last := h.Ts
		if h.Kind == event.RowBook {
			last += int64(max(1, event.Levels(rec))) - 1
			if h.Flags&event.FlagKeyframe != 0 {
				s.keyframe = h.TsRecv
			}
		}
		s.learn(h.TsRecv, last)
	}
	switch h.Kind {
	case event.RowBook:
		return s.takeBook(h, rec)
	case event.RowTop:
		topOf(h, rec, &s.wanted)
		return s.top.take(&s.wanted)
	case event.RowDepth:
		depthOf(h, rec, &s.wantedDepth)
		return s.depth.take(&s.wantedDepth)
	case event.RowQuote:
		w := quoteOf(h, rec)
		return s.quotes.take(&w)
	case event.RowTrade:
		w := tradeOf(h, rec)
		return s.trades.take(&w)
	case event.RowCoverage:
		s.takeCoverage(rec)
	}
	return nil
}

func (s *journalSymbol) takeCoverage(rec []byte) {
	c := event.GetCoverage(rec)
	s.derived = true
	iv := interval{
		ts: c.Ts, end: c.TsEnd, state: c.State.String(), proof: c.Proof.String(), cause: c.Cause.String(),
		seqFirst: c.SeqFirst, seqLast: c.SeqLast, messages: c.Messages, detail: string(c.Detail),
	}
	e := s.expect[c.Stream][c.Ts]
	if e == nil {
		e = &expectedInterval{}
		s.expect[c.Stream][c.Ts] = e
	}
	e.interval = iv
	if got := s.stored(c.Stream, c.Ts); got != nil && *got == iv {
		e.matched = true
	}
}

// stored is the interval that the database has at ts, nil if there is none.
func (s *journalSymbol) stored(stream event.Stream, ts int64) *interval {
	ivs := s.covered.streams[stream]
	i, ok := slices.BinarySearchFunc(ivs, ts, func(iv interval, ts int64) int {
		switch {
		case iv.ts < ts:
			return -1
		case iv.ts > ts:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return &ivs[i]
}

// finish takes the rows that no record was left for, and compares the intervals.
func (s *journalSymbol) finish() error {
	if !s.derived {
		s.rep.notChecked("the journal knows nothing of this instrument: all its rows lie outside the journal")
		return nil
	}
	s.rep.journal = true
	for _, rest := range []func() error{s.book.finish, s.top.finish, s.depth.finish, s.quotes.finish, s.trades.finish} {
		if err := rest(); err != nil {
			return err
		}
	}
	if s.empty && s.made() > 0 {
		s.rep.find(tableCoverage, s.first, "the database holds nothing of this instrument, the journal makes %d rows", s.rows())
	}
	for stream := range event.NumStreams {
		s.finishCoverage(stream)
	}
	s.rep.notChecked("the tables instruments and capture_stats, and the column agent of coverage, against the journal")
	return nil
}

func (s *journalSymbol) finishCoverage(stream event.Stream) {
	equal, pending, behind, before, after := 0, 0, 0, 0, 0
	stored := s.covered.streams[stream]
	newest := int64(math.MinInt64) // start of the journal's last interval
	for ts := range s.expect[stream] {
		newest = max(newest, ts)
	}
	for _, ts := range slices.Sorted(maps.Keys(s.expect[stream])) {
		e := s.expect[stream][ts]
		if e.end < s.opt.From || e.ts > s.opt.until() {
			continue
		}
		got := s.stored(stream, ts)
		switch {
		case got == nil && (s.empty || len(stored) > 0 && ts > s.dbEnd[stream]):
			pending++
		case got == nil && s.splitByLoss(stored, &e.interval) != nil:
			s.rep.unproven(tableCoverage, s.splitByLoss(stored, &e.interval))
		case got == nil:
			s.rep.find(tableCoverage, ts, "%s: the interval is missing; the journal has %s", stream, &e.interval)
		case *got == e.interval:
			equal++
			if l := s.endsInLost(got); l != nil {
				s.rep.unproven(tableCoverage, l)
			}
		case e.matched && got.ts == stored[len(stored)-1].ts:
			behind++ // it was right a while ago and nothing newer is there
		case ts == newest && got.end > s.last:
			after++
		case s.grownInLost(&e.interval, got) != nil:
			s.rep.unproven(tableCoverage, s.grownInLost(&e.interval, got))
		default:
			s.rep.find(tableCoverage, ts, "%s: %s", stream, differInterval(&e.interval, got))
		}
	}
	for i := range stored {
		iv := &stored[i]
		switch {
		case iv.end < s.opt.From || s.expect[stream][iv.ts] != nil:
		case iv.ts < s.first:
			before++
		case iv.ts > s.last, iv.ts > newest && iv.end > s.last:
			after++ // a gap starts where the last message was, and is known only later
		case s.begunInLost(s.expect[stream], iv) != nil:
			s.rep.unproven(tableCoverage, s.begunInLost(s.expect[stream], iv))
		default:
			s.rep.find(tableCoverage, iv.ts, "%s: the interval is surplus: the journal makes none that starts here", stream)
		}
	}
	if equal > 0 {
		s.rep.proven("coverage, %s: %d intervals equal to the journal's in every column but agent", stream, equal)
	}
	if before > 0 {
		s.rep.notChecked("coverage, %s: %d intervals from before the journal's beginning at %s (outside the journal)", stream, before, stamp(s.first))
	}
	if after > 0 {
		s.rep.notChecked("coverage, %s: %d intervals newer than the journal's end at %s (outside the journal)", stream, after, stamp(s.last))
	}
	if pending > 0 || behind > 0 {
		s.rep.inFlight(InFlight{Intervals: int64(pending + behind)}, "coverage, %s: %d intervals that are not yet in the database, %d that have since grown in the journal", stream, pending, behind)
	}
}

// against compares the rows of one table of one instrument with derived ones.
type against[T any] struct {
	s      *journalSymbol
	stream event.Stream // whose coverage the table belongs to
	rows   *pager[T]
	differ func(want, got *T) string
	show   func(*T) string

	lastTs                       int64
	derived, equal               int
	before, after                int // rows outside the journal
	pending                      int // derived rows that the database does not have yet
	beforeTs, afterTs, pendingTs int64
}

// take compares one derived row. They come in the order of ts.
func (a *against[T]) take(want *T) error {
	ts, table := a.rows.shape.ts(want), a.rows.shape.table
	if ts < a.s.opt.From || ts > a.s.opt.until() {
		a.s.derived = true
		return nil
	}
	if ts <= a.lastTs && a.derived > 0 {
		a.s.rep.find(table, ts, "the journal makes this row after one of %s: it cannot be compared", stamp(a.lastTs))
		return nil
	}
	prev := a.lastTs
	a.lastTs = ts
	a.derived++
	a.s.derived = true
	for {
		got, err := a.rows.peek()
		if err != nil {
			return err
		}
		switch {
		case got != nil && a.rows.shape.ts(got) < ts:
			a.surplus(got, prev, ts)
			a.rows.pop()
			continue
		case got != nil && a.rows.shape.ts(got) == ts:
			if what := a.differ(want, got); what == "" {
				a.equal++
			} else if l := a.s.madeInLost(); l != nil {
				a.s.rep.unproven(table, l)
			} else {
				a.s.rep.find(table, ts, "%s", what)
			}
			a.rows.pop()
		case ts > a.s.dbEnd[a.stream]:
			if a.pending++; a.pending == 1 {
				a.pendingTs = ts
			}
		case a.s.madeInLost() != nil: // the whole did not make it
		default:
			a.s.rep.find(table, ts, "the row is missing; the journal has %s", a.show(want))
		}
		return nil
	}
}

// surplus takes a stored row between two derived ones.
func (a *against[T]) surplus(got *T, prev, next int64) {
	ts := a.rows.shape.ts(got)
	// A row that would have fallen behind another was moved behind it: it may be
	// later than the first stamp of a journal whose beginning is gone, but not than
	// the first row made of what is left, because ts only grows.
	if ts < a.s.first || ts < a.s.firstRow && a.s.firstRow != math.MaxInt64 {
		a.before++
		a.beforeTs = ts
		return
	}
	if l := a.s.lostBefore(got, ts, prev, next); l != nil {
		a.s.rep.unproven(a.rows.shape.table, l)
		return
	}
	a.s.rep.find(a.rows.shape.table, ts, "the row is surplus: %s, the journal makes none with this ts", a.show(got))
}

// late: such a row has the ts of the last message, but is written only when a gap is
// noticed after it, or a second is over; behind the last derived row it is newer than
// the journal, whose last stamp is last.
func late(row any, last int64) bool {
	switch r := row.(type) {
	case *topRow:
		return r.bids.rows == 0 && r.asks.rows == 0 && r.seq == event.Null
	case *depthRow:
		return r.ts > last-feedSkewNs
	}
	return false
}

func (a *against[T]) finish() error {
	for {
		got, err := a.rows.peek()
		if err != nil {
			return err
		}
		if got == nil {
			break
		}
		if ts := a.rows.shape.ts(got); ts > a.lastTs && (ts > a.s.last || late(got, a.s.last)) {
			if a.after++; a.after == 1 {
				a.afterTs = ts
			}
		} else {
			a.surplus(got, a.lastTs, math.MaxInt64)
		}
		a.rows.pop()
	}
	rep, table := a.s.rep, a.rows.shape.table
	if a.derived > 0 {
		rep.proven("%s: %d of the journal's %d rows are equal in every column", table, a.equal, a.derived)
	}
	if a.before > 0 {
		rep.notChecked("%s: %d rows, the last of %s, from before the journal's beginning at %s (outside the journal)", table, a.before, stamp(a.beforeTs), stamp(a.s.first))
	}
	if a.after > 0 {
		rep.notChecked("%s: %d rows from %s on, newer than the journal's end at %s (outside the journal)", table, a.after, stamp(a.afterTs), stamp(a.s.last))
	}
	if a.pending > 0 {
		rep.inFlight(InFlight{Rows: int64(a.pending), FromNs: a.pendingTs}, "%s: %d rows from %s on that are in the journal and not yet in the database", table, a.pending, stamp(a.pendingTs))
	}
	return nil
}
