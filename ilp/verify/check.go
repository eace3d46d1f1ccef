package verify

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"deeptape/hotpath/event"
	"deeptape/ilp/qdb"
)

// checkSymbol checks one instrument in one pass over its rows, in the order of ts.
func checkSymbol(ctx context.Context, db *exporter, opt *Options, k key, covered *covers) (*SymbolReport, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the fetches that nobody waits for
	rep := newSymbolReport(k)
	// What the journal's end says nothing of is held against itself all the same.
	rep.lost = slices.DeleteFunc(opt.lostOf(k), func(l *lost) bool { return l.To == NoRun })
	for s := range event.NumStreams {
		rep.Streams = append(rep.Streams, &StreamReport{Stream: s.String()})
	}
	if covered == nil {
		covered = &covers{}
	}
	for _, iv := range within(covered.unknown, opt.From, opt.until()) {
		rep.find(tableCoverage, iv.ts, "the interval is of a stream that there is not")
	}
	var streams [event.NumStreams]*streamCheck
	for s := range event.NumStreams {
		all := covered.streams[s]
		from := opt.From
		if s == event.StreamBook {
			var err error
			if from, err = bookFrom(ctx, db, k, all, from); err != nil {
				return nil, err
			}
		}
		// Rows behind the last interval are not called anything yet.
		until := opt.until()
		if n := len(all); n > 0 {
			until = min(until, all[n-1].end)
		}
		rep.stream(s).share(shareOf(all, opt.From, opt.until()))
		streams[s] = newStreamCheck(rep, s, all, opt.From, from, until)
		if err := unspoken(ctx, db, opt, k, rep, streams[s], len(all)); err != nil {
			return nil, err
		}
	}
	streams[event.StreamBook].windowed = opt.Windowed != nil && opt.Windowed(k.venue)
	b, t, q := streams[event.StreamBook], streams[event.StreamTrades], streams[event.StreamQuotes]
	book := &bookCheck{
		rep: rep, st: b, topLevels: max(opt.TopLevels, 0),
		rows:  newPager(ctx, db, &bookShape, k, b.from, b.until),
		tops:  newPager(ctx, db, &topShape, k, b.from, b.until),
		bands: opt.DepthBps, depths: newPager(ctx, db, &depthShape, k, b.from, b.until),
	}
	book.init()
	trades := &tradeCheck{rep: rep, st: t, joined: opt.TradesJoined != nil && opt.TradesJoined(k.venue), rows: newPager(ctx, db, &tradeShape, k, t.from, t.until)}
	quotes := &quoteCheck{rep: rep, st: q, rows: newPager(ctx, db, &quoteShape, k, q.from, q.until)}

	// One clock for the three tables: no instant is used twice.
	checks := [event.NumStreams]interface {
		next() (ts int64, ok bool, err error)
		step() error
	}{book, trades, quotes}
	last, lastTable := int64(event.Null), ""
	unique := true
	for {
		best, bestTs := -1, int64(0)
		for i, c := range checks {
			ts, ok, err := c.next()
			if err != nil {
				return nil, err
			}
			if ok && (best < 0 || ts < bestTs) {
				best, bestTs = i, ts
			}
		}
		if best < 0 {
			break
		}
		if table := streamTables[best]; bestTs == last {
			unique = false
			if table == lastTable {
				rep.find(table, bestTs, "two rows have this ts")
			} else {
				rep.find(table, bestTs, "a row of %s has the same ts", lastTable)
			}
		}
		last, lastTable = bestTs, streamTables[best]
		if bestTs >= opt.From {
			rep.Streams[best].Rows++
		}
		if err := checks[best].step(); err != nil {
			return nil, err
		}
	}
	for _, s := range streams {
		s.finish()
	}
	if err := book.finish(); err != nil {
		return nil, err
	}
	rep.Checked = book.rows.read + book.tops.read + book.depths.read + trades.rows.read + quotes.rows.read
	summarize(rep, opt, streams, book, trades, unique)
	return rep, nil
}

// unspoken looks for rows behind the last interval of a stream. A few seconds of
// them are what an agent has sent but not yet judged; it calls nothing of that
// verified.
func unspoken(ctx context.Context, db *exporter, opt *Options, k key, rep *SymbolReport, st *streamCheck, intervals int) error {
	if intervals == 0 || st.until >= opt.until() {
		return nil
	}
	r, err := db.query(ctx, fmt.Sprintf("SELECT count() n, min(ts)::long first, max(ts)::long last FROM %s WHERE venue = %s AND symbol = %s AND ts BETWEEN %s AND %s",
		db.table(st.table), qdb.Quote(k.venue), qdb.Quote(k.symbol), qdb.FormatTime(max(st.until+1, opt.From)), qdb.FormatTime(opt.until())), "n", "first", "last")
	if err != nil {
		return err
	}
	if r.Len() != 1 {
		return fmt.Errorf("cannot check %s: QuestDB has answered %d rows to a count", st.table, r.Len())
	}
	n, _ := r.Int(0, "n")
	first, _ := r.Int(0, "first")
	last, _ := r.Int(0, "last")
	switch {
	case n == 0:
	case last > st.until+lateNs:
		rep.find(st.table, last, "the row lies %.0f s behind the last interval of coverage, which ends at %s; %d rows lie behind it",
			float64(last-st.until)/1e9, stamp(st.until), n)
	default:
		rep.inFlight(InFlight{Rows: n, FromNs: first}, "%s: %d rows from %s on, which no interval of coverage speaks of yet", st.table, n, stamp(first))
	}
	return nil
}

// summarize says in words what the pass has proved, and what it cannot see.
func summarize(rep *SymbolReport, opt *Options, streams [event.NumStreams]*streamCheck, book *bookCheck, trades *tradeCheck, unique bool) {
	for s, t := range rep.Streams {
		if t.Verified.Intervals > 0 {
			rep.proven("%s: %d of %d verified intervals hold exactly the messages that coverage counts, from their first id to their last", t.Stream, t.Matched, t.Verified.Intervals)
		}
		if n := rep.partial[s]; n > 0 {
			rep.notChecked("%s: the counts of %d intervals that reach out of the time asked for", t.Stream, n)
		}
	}
	if book.messages > 0 {
		rep.proven("book_delta: %d messages whole from FIRST to LAST, %d links of their ids, %d snapshots, %d keyframes equal to the rebuilt book",
			book.messages, book.links, book.snapshots, book.keyframesEqual)
		complete := ""
		if rep.listed[tableTop] == 0 && len(rep.Unproven) == 0 {
			complete = "; no row is missing, none is surplus"
		}
		rep.proven("book_top: %d rows equal to the rebuilt book's first %d levels, and %d rows of nulls at the start of gaps%s", book.topsEqual, book.n, book.nulls, complete)
		rep.leaveToJournal("book_delta: a size altered below the first %d levels shows only at the next keyframe (%d seen), in the sums of book_depth, or when the level comes up; the journal shows it", book.n, book.keyframesEqual)
	}
	if book.st.windowed && book.messages > 0 {
		rep.proven("book_delta: %d levels outside of the window of a snapshot (UNVERIFIED), each further out than the others of its message", book.outside)
		seen := ""
		if book.outside > 0 {
			seen = fmt.Sprintf("book_delta: %d levels outside of the window of a snapshot are UNVERIFIED; ", book.outside)
		}
		rep.leaveToJournal("%sbook_delta, book_top, book_depth: whether UNVERIFIED stands at all that lies outside of the window of the last snapshot or audit: its rows do not hold the window; the journal shows it", seen)
	}
	if book.proofs[proofCRC] {
		rep.leaveToJournal("book_delta: checksums, which its rows do not hold: ids that count on show that no row was removed, and not that no message was missed; the journal shows both")
	}
	if book.proofs[proofConnection] {
		rep.leaveToJournal("book_delta: whether a frame is missing: the venue numbers those of all symbols of a connection together; the journal shows it")
	}
	if book.depthsEqual > 0 {
		rep.proven("book_depth: %d rows equal to the rebuilt book", book.depthsEqual)
		rep.leaveToJournal("book_depth: whether a row is missing; the journal shows it")
	}
	if book.depthsDoubted > 0 {
		rep.notChecked("book_depth: %d rows that follow on damage", book.depthsDoubted)
	}
	if book.bandsUnknown > 0 {
		rep.leaveToJournal("book_depth: the sizes in %d rows, of other bands than %d bps (depth_bps); the journal shows them", book.bandsUnknown, book.bands)
	}
	if book.skipped > 0 {
		rep.notChecked("book_delta: %d messages before the first snapshot in the time asked for", book.skipped)
	}
	if book.healed > 0 {
		rep.notChecked("book_top: %d rows that follow on damage, after which the book was put right by them", book.healed)
	}
	if trades.linked > 0 {
		rep.proven("trades: %d trade ids follow on the one before", trades.linked)
	}
	if trades.jumps > 0 {
		rep.leaveToJournal("trades: whether one is missing where ids are left out (%d times): the venue may join several in one; the journal shows it", trades.jumps)
	}
	if rep.Streams[event.StreamTrades].Rows > 0 {
		rep.leaveToJournal("trades: prices, sizes and sides; the journal shows them")
	}
	if rep.Streams[event.StreamQuotes].Rows > 0 {
		rep.leaveToJournal("quotes: only how many there are; the journal shows their values")
	}
	if unique {
		rep.proven("ts: strictly increasing over %d rows of book_delta, quotes and trades together", rep.rows())
	}
	rep.leaveToJournal("the tables instruments and capture_stats")
}

// tradeCheck checks the trades of one instrument.
type tradeCheck struct {
	rep  *SymbolReport
	st   *streamCheck
	rows *pager[tradeRow]

	known    bool  // the two below hold something
	id       int64 // of the trade before
	expected int64 // what that id should have been
	unbroken bool  // no gap since
	linked   int64
	joined   bool // an id may stand for several trades: those before it are left out
	jumps    int64
}

func (c *tradeCheck) next() (int64, bool, error) {
	r, err := c.rows.peek()
	if r == nil {
		return 0, false, err
	}
	return r.ts, true, nil
}

func (c *tradeCheck) step() error {
	r, _ := c.rows.peek()
	c.rows.pop()
	before := c.st.cur
	iv, ok := c.st.admit(r.ts)
	for i := before; i < c.st.cur && i < len(c.st.ivs); i++ {
		if c.st.ivs[i].state != stateVerified {
			c.unbroken = false
		}
	}
	if !ok {
		return nil
	}
	if r.side != "buy" && r.side != "sell" && r.side != "" {
		c.rep.find(tableTrades, r.ts, "side is %q", r.side)
	}
	if r.px == event.Null || r.qty == event.Null {
		c.rep.find(tableTrades, r.ts, "px or qty is null")
	}
	if r.flags&^event.FlagUnverified != 0 {
		c.rep.find(tableTrades, r.ts, "flags is %d", r.flags)
	}
	c.st.flags(tableTrades, iv, r.ts, r.flags)
	if iv.proof != proofTradeID {
		c.st.counted(r.ts, event.Null)
		c.unbroken = c.unbroken && iv.state == stateVerified
		return nil
	}
	id, err := strconv.ParseInt(r.id, 10, 64)
	if err != nil {
		c.rep.find(tableTrades, r.ts, "trade_id is %q, a number that counts trades is called for", r.id)
		id = c.expected + 1
		if !c.known || !c.unbroken {
			c.st.counted(r.ts, event.Null)
			return nil
		}
	}
	switch {
	case !c.known:
		c.expected = id
	case !c.unbroken:
		if id <= c.id {
			c.rep.find(tableTrades, r.ts, "trade_id is %d, the trade before the gap had %d", id, c.id)
		}
		c.expected = id
	case id == c.id+1 || id == c.expected+1:
		c.expected = id
		c.linked++
	case id > c.id && c.joined:
		c.expected = id
		c.jumps++
	case id > c.id+1:
		c.rep.find(tableTrades, r.ts, "trade_id is %d, the trade before has %d: %d to %d are missing in a verified interval", id, c.id, c.id+1, id-1)
		c.expected++
	default:
		c.rep.find(tableTrades, r.ts, "trade_id is %d, the trade before has %d", id, c.id)
		c.expected++
	}
	c.known, c.unbroken, c.id = true, true, id
	c.st.counted(r.ts, id)
	return nil
}

// quoteCheck counts the quotes of one instrument.
type quoteCheck struct {
	rep  *SymbolReport
	st   *streamCheck
	rows *pager[quoteRow]
}

func (c *quoteCheck) next() (int64, bool, error) {
	r, err := c.rows.peek()
	if r == nil {
		return 0, false, err
	}
	return r.ts, true, nil
}

func (c *quoteCheck) step() error {
	r, _ := c.rows.peek()
	c.rows.pop()
	iv, ok := c.st.admit(r.ts)
	if !ok {
		return nil
	}
	if r.flags&^event.FlagUnverified != 0 {
		c.rep.find(tableQuotes, r.ts, "flags is %d", r.flags)
	}
	c.st.flags(tableQuotes, iv, r.ts, r.flags)
	c.st.counted(r.ts, r.seq)
	return nil
}
