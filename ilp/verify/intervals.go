package verify

import (
	"context"
	"fmt"

	"deeptape/hotpath/event"
	"deeptape/ilp/qdb"
)

// interval is a row of coverage, both ends inclusive.
type interval struct {
	ts, end                     int64
	state, proof, cause         string
	seqFirst, seqLast, messages int64
	detail                      string
}

func (iv *interval) String() string {
	return fmt.Sprintf("the %s interval from %s to %s", iv.state, stamp(iv.ts), stamp(iv.end))
}

// cut is the part of the interval between from and until; none if it ends before it begins.
func (iv *interval) cut(from, until int64) (a, b int64) { return max(iv.ts, from), min(iv.end, until) }

// covers are the intervals of one instrument by stream, in the order of ts.
type covers struct {
	streams [event.NumStreams][]interval
	unknown []interval // of streams that there are not
}

// reach says whether any interval reaches into [from, until].
func (c *covers) reach(from, until int64) bool {
	for s := range event.NumStreams {
		if len(within(c.streams[s], from, until)) > 0 {
			return true
		}
	}
	return len(within(c.unknown, from, until)) > 0
}

var (
	stateGap, stateUnverified, stateVerified = event.StateGap.String(), event.StateUnverified.String(), event.StateVerified.String()

	proofNone, proofChain, proofCRC = event.ProofNone.String(), event.ProofChain.String(), event.ProofCRC.String()
	proofTradeID, proofConnection   = event.ProofTradeID.String(), event.ProofConnectionSeq.String()
	causeStart, causeStop           = event.CauseStart.String(), event.CauseStop.String()
)

const coverageColumns = "ts::long t, ts_end::long te, venue, symbol, stream, state, proof, cause, seq_first, seq_last, messages, detail"

func parseInterval(f [][]byte) (k key, stream event.Stream, iv interval, err error) {
	p := parser{f: f}
	k = key{string(f[2]), string(f[3])}
	iv = interval{
		ts: p.long(0), end: p.long(1), state: string(f[5]), proof: string(f[6]), cause: string(f[7]),
		seqFirst: p.long(8), seqLast: p.long(9), messages: p.long(10), detail: string(f[11]),
	}
	for stream = range event.NumStreams {
		if stream.String() == string(f[4]) {
			return k, stream, iv, p.err
		}
	}
	return k, event.NumStreams, iv, p.err
}

// loadCoverage reads all intervals that start before the options' end, also those
// before its beginning: a book may have to be rebuilt from there. newest is the
// last instant that any of them speaks of.
func loadCoverage(ctx context.Context, db *exporter, opt *Options) (all map[key]*covers, newest int64, err error) {
	sql := fmt.Sprintf("SELECT %s FROM %s WHERE ts <= %s ORDER BY ts", coverageColumns, db.table(tableCoverage), qdb.FormatTime(opt.until()))
	take := func(row [][]byte) error {
		k, stream, iv, err := parseInterval(row)
		if err != nil {
			return err
		}
		newest = max(newest, iv.end)
		c := all[k]
		if c == nil {
			c = &covers{}
			all[k] = c
		}
		if stream == event.NumStreams {
			c.unknown = append(c.unknown, iv)
		} else {
			c.streams[stream] = append(c.streams[stream], iv)
		}
		return nil
	}
	err = again(ctx, func() error {
		all, newest = map[key]*covers{}, 0
		return db.export(ctx, sql, take)
	})
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read the intervals of coverage: %w", err)
	}
	return all, newest, nil
}

// within are the intervals that reach into [from, until].
func within(ivs []interval, from, until int64) []interval {
	for len(ivs) > 0 && ivs[0].end < from {
		ivs = ivs[1:]
	}
	for len(ivs) > 0 && ivs[len(ivs)-1].ts > until {
		ivs = ivs[:len(ivs)-1]
	}
	return ivs
}

// bookFrom is where the rebuilding of a book must start so that it stands at
// from: the last snapshot before it within the same unbroken record. Without one
// it is from itself.
func bookFrom(ctx context.Context, db *exporter, k key, ivs []interval, from int64) (int64, error) {
	start := from
	for i := len(ivs) - 1; i >= 0; i-- {
		if ivs[i].ts > from {
			continue
		}
		if ivs[i].state == stateGap {
			break
		}
		start = ivs[i].ts
	}
	if from == 0 || start == from {
		return from, nil
	}
	r, err := db.query(ctx, fmt.Sprintf("SELECT max(ts)::long t FROM %s WHERE venue = %s AND symbol = %s AND ts BETWEEN %s AND %s AND (flags & 17) = 17",
		db.table(tableBook), qdb.Quote(k.venue), qdb.Quote(k.symbol), qdb.FormatTime(start), qdb.FormatTime(from)), "t")
	if err != nil {
		return 0, err
	}
	if r.Len() == 1 {
		if ts, ok := r.Int(0, "t"); ok {
			return ts, nil
		}
	}
	return from, nil
}

// streamCheck follows one stream of one instrument through its intervals.
type streamCheck struct {
	rep    *SymbolReport
	stream event.Stream
	table  string
	ivs    []interval
	asked  int64 // what lies before is read only to rebuild the book, and not told
	from   int64 // what lies before is not read
	until  int64 // what lies behind is not read

	// windowed: what lies outside of the window that a snapshot showed says UNVERIFIED
	// in a verified interval, too.
	windowed bool

	cur      int
	closed   bool // the current interval has been judged
	messages int64
	lastTs   int64 // of the last row in the current interval
	seqFirst int64
	seqLast  int64
}

func newStreamCheck(rep *SymbolReport, s event.Stream, all []interval, asked, from, until int64) *streamCheck {
	c := &streamCheck{rep: rep, stream: s, table: streamTables[s], asked: asked, from: from, until: until}
	c.ivs = within(all, from, until)
	c.reset()
	c.continuity()
	return c
}

func (c *streamCheck) reset() {
	c.messages, c.lastTs, c.seqFirst, c.seqLast = 0, event.Null, event.Null, event.Null
}

// continuity: every instant between the first and the last belongs to one interval.
func (c *streamCheck) continuity() {
	name := c.stream.String()
	for i := range c.ivs {
		iv := &c.ivs[i]
		if iv.end < iv.ts {
			c.rep.find(tableCoverage, iv.ts, "%s: the interval ends at %s, before it starts", name, stamp(iv.end))
		}
		switch iv.state {
		case stateVerified:
			if iv.proof == "" || iv.proof == proofNone {
				c.rep.find(tableCoverage, iv.ts, "%s: the interval is called verified without a proof", name)
			}
		case stateGap, stateUnverified:
		default:
			c.rep.find(tableCoverage, iv.ts, "%s: there is no state %q", name, iv.state)
		}
		if i == 0 {
			continue
		}
		switch before := &c.ivs[i-1]; {
		case iv.ts == before.ts: // two rows where the keys allow one
			c.rep.find(tableCoverage, iv.ts, "%s: two intervals start here", name)
		case iv.ts <= before.end:
			c.rep.find(tableCoverage, iv.ts, "%s: the interval starts before the one of %s ends, at %s", name, stamp(before.ts), stamp(before.end))
		case iv.ts > before.end+1:
			c.rep.find(tableCoverage, iv.ts, "%s: no interval holds the time from %s to %s", name, stamp(before.end+1), stamp(iv.ts-1))
		}
	}
}

// at moves on to the interval of ts and returns it, nil if there is none. ts must
// not go back.
func (c *streamCheck) at(ts int64) *interval {
	for c.cur < len(c.ivs) && ts > c.ivs[c.cur].end {
		c.close()
		c.cur++
		c.closed = false
		c.reset()
	}
	if c.cur < len(c.ivs) && ts >= c.ivs[c.cur].ts {
		return &c.ivs[c.cur]
	}
	return nil
}

// admit says whether a row at ts is in an interval that may hold rows.
func (c *streamCheck) admit(ts int64) (*interval, bool) {
	iv := c.at(ts)
	switch {
	case iv == nil:
		c.rep.find(c.table, ts, "the row lies in no interval of coverage")
		return nil, false
	case iv.state == stateGap:
		c.rep.find(c.table, ts, "the row lies in %s", iv)
		return iv, false
	}
	return iv, true
}

// flags: the row of a table says about itself what its interval says. A checksum proves
// the first levels only, and a snapshot may have been a window, so there single levels
// may be unverified.
func (c *streamCheck) flags(table string, iv *interval, ts int64, flags int) {
	switch marked := flags&event.FlagUnverified != 0; {
	case iv.state == stateUnverified && !marked:
		c.rep.find(table, ts, "the row lies in %s and is not flagged UNVERIFIED", iv)
	case iv.state == stateVerified && marked && iv.proof != proofCRC && !c.windowed:
		c.rep.find(table, ts, "the row is flagged UNVERIFIED and lies in %s", iv)
	}
}

// counted notes a whole message of the current interval whose last row is at ts.
func (c *streamCheck) counted(ts, seq int64) {
	c.messages++
	c.lastTs = ts
	if seq != event.Null {
		if c.seqFirst == event.Null {
			c.seqFirst = seq
		}
		c.seqLast = seq
	}
}

// close judges the current interval once its rows are read.
func (c *streamCheck) close() {
	if c.cur >= len(c.ivs) || c.closed {
		return
	}
	c.closed = true
	iv := &c.ivs[c.cur]
	if a, b := iv.cut(c.asked, c.until); a <= b || iv.ts >= c.asked {
		c.rep.stream(c.stream).add(iv, c.messages, a, b)
	}
	name := c.stream.String()
	if iv.ts < c.from || iv.end > c.until {
		c.rep.partial[c.stream]++
		return
	}
	found, at := c.rep.FoundTotal+len(c.rep.Unproven), iv.ts
	if lostAt(c.rep.lost, iv.end) != nil {
		at = iv.end // it speaks of rows that may never have been sent
	}
	if c.messages != iv.messages {
		c.rep.find(tableCoverage, at, "%s: %s speaks of %d messages, the table %s holds %d", name, iv, iv.messages, c.table, c.messages)
	}
	if iv.state != stateVerified {
		return
	}
	switch c.lastTs {
	case iv.end:
	case event.Null:
		c.rep.find(tableCoverage, at, "%s: %s holds no row of %s", name, iv, c.table)
	default:
		c.rep.find(tableCoverage, at, "%s: %s ends where there is no last row in %s, which has its last one at %s", name, iv, c.table, stamp(c.lastTs))
	}
	// Of trades that are not counted by the venue no number is known.
	if (iv.proof == proofTradeID || c.stream != event.StreamTrades) &&
		(c.seqFirst != iv.seqFirst || c.seqLast != iv.seqLast) {
		c.rep.find(tableCoverage, at, "%s: %s goes from id %s to %s, the rows in %s from %s to %s", name, iv,
			number(iv.seqFirst), number(iv.seqLast), c.table, number(c.seqFirst), number(c.seqLast))
	}
	if found == c.rep.FoundTotal+len(c.rep.Unproven) {
		c.rep.stream(c.stream).Matched++
	}
}

// finish judges what is left.
func (c *streamCheck) finish() {
	c.at(farFuture + 1)
}

func number(v int64) string {
	if v == event.Null {
		return "null"
	}
	return fmt.Sprint(v)
}
