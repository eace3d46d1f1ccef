package vsim

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"deeptape/hotpath/event"
	"deeptape/ilp/qdb"
)

// questdb is a simulated QuestDB, as an http.RoundTripper and as the client of the
// low-rate tables. It keeps rows in a set, as DEDUP does, and notes if a row is ever
// overwritten by another. What it has acknowledged for a suspended table shows only
// when the table goes on.
type questdb struct {
	m         *machine
	proc      *process // that it answers
	rows      map[rowKey]string
	coverage  map[coverageKey]coverageRow
	suspended map[string]bool
	hidden    []func() // of suspended tables
	faults    dbFaults
	up        bool
	resumedNs int64 // when such work showed last, 0 for never
	posts     int
	again     int // rows that came again
	broken    error
}

// dbFaults in thousandths of the requests.
type dbFaults struct {
	slow, failed, readOnly, lostBefore, lostAfter, full int
}

// market is a symbol of a venue.
type market struct{ venue, symbol string }

type rowKey struct {
	table  string
	market market
	ts     int64
}

type coverageKey struct {
	market market
	stream event.Stream
	ts     int64
}

type coverageRow struct {
	agent string
	c     event.Coverage
}

func newQuestDB(m *machine) *questdb {
	return &questdb{m: m, rows: map[rowKey]string{}, coverage: map[coverageKey]coverageRow{}, suspended: map[string]bool{}, up: true}
}

var refused = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}

// reach is the way to the database and what may happen on it before the request is
// read. A status other than 0 is an answer in place of the work.
func (q *questdb) reach(ctx context.Context) (status int, message string, err error) {
	q.proc.Sleep(ctx, q.m.between(200*time.Microsecond, 5*time.Millisecond))
	f := &q.faults
	if q.up && q.m.chance(f.slow) {
		q.proc.Sleep(ctx, q.m.between(0, 40*time.Second))
	}
	switch {
	case ctx.Err() != nil:
		return 0, "", ctx.Err()
	case !q.up:
		return 0, "", refused
	case q.m.chance(f.lostBefore):
		return 0, "", io.ErrUnexpectedEOF
	case q.m.chance(f.failed):
		return 500, "simulated failure", nil
	case q.m.chance(f.full):
		return 500, "write error: book_delta, errno: 28, error: No space left on device", nil
	case q.m.chance(f.readOnly):
		return 421, "instance is read-only", nil
	}
	return 0, "", nil
}

func (q *questdb) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
		req.Body.Close()
	}
	status, message, err := q.reach(req.Context())
	if err != nil {
		return nil, err
	}
	if status != 0 && req.URL.Path == "/write" {
		return respond(req, status, fmt.Sprintf(`{"code":"internal error","message":%q}`, message)), nil
	}
	switch req.URL.Path {
	case "/ping":
		return respond(req, 204, ""), nil
	case "/exec":
		return respond(req, 200, q.query(req.URL.Query().Get("query"))), nil
	case "/write":
		if err := q.take(body); err != nil {
			return nil, err
		}
		if q.m.chance(q.faults.lostAfter) {
			q.m.say("questdb", "stored, and the answer is lost")
			return nil, io.ErrUnexpectedEOF
		}
		return respond(req, 204, ""), nil
	}
	return respond(req, 404, ""), nil
}

func respond(req *http.Request, status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Status: fmt.Sprint(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: req,
	}
}

// take stores a batch.
func (q *questdb) take(body []byte) error {
	q.posts++
	err := eachRow(body, func(key rowKey, text string) error {
		q.put(key.table, func() { q.upsert(key, text) })
		return nil
	})
	if err != nil {
		q.broken = fmt.Errorf("a batch that QuestDB would refuse: %w", err)
	}
	return err
}

// eachRow gives the rows of a body as they are: two texts are the same if and only if
// the rows are. It knows just enough of the protocol to find their ends; that QuestDB
// would take them is tested elsewhere.
func eachRow(body []byte, row func(key rowKey, text string) error) error {
	for len(body) > 0 {
		n, err := rowEnd(body)
		if err != nil {
			return fmt.Errorf("%w: %.200q", err, body)
		}
		text := string(body[:n])
		body = body[n:]
		head, _, _ := strings.Cut(text, " ")
		table, tags, _ := strings.Cut(head, ",")
		venue, okV := tag(tags, "venue=")
		symbol, ok := tag(tags, "symbol=")
		ts, err := strconv.ParseInt(text[strings.LastIndexByte(text, ' ')+1:n-1], 10, 64)
		if err != nil || !ok || !okV {
			return fmt.Errorf("a line without venue, symbol or time: %q", text)
		}
		if err := row(rowKey{table, market{venue, symbol}, ts}, text); err != nil {
			return err
		}
	}
	return nil
}

// tag is the value of a symbol column.
func tag(tags, name string) (string, bool) {
	_, value, ok := strings.Cut(tags, name)
	value, _, _ = strings.Cut(value, ",")
	return value, ok
}

var errRow = errors.New("a line that does not end")

// rowEnd is the length of the first line: a line feed inside a binary value is none.
func rowEnd(b []byte) (int, error) {
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == '\n':
			return i + 1, nil
		case b[i] != '=' || i+2 >= len(b) || b[i+1] != '=':
		case b[i+2] == 16: // a double
			i += 2 + 8
		case b[i+2] == 14 && i+4 < len(b): // an array of doubles
			dims, cells := int(b[i+4]), 1
			i += 4
			for range dims {
				if i+4 >= len(b) {
					return 0, errRow
				}
				cells *= int(binary.LittleEndian.Uint32(b[i+1:]))
				i += 4
			}
			i += 8 * cells
		}
	}
	return 0, errRow
}

func (q *questdb) put(table string, store func()) {
	if q.suspended[table] {
		q.hidden = append(q.hidden, store)
		return
	}
	store()
}

func (q *questdb) upsert(key rowKey, text string) {
	if old, ok := q.rows[key]; ok {
		q.again++
		if old != text && q.broken == nil {
			q.broken = fmt.Errorf("promise 3: a row of %s %v at %d is overwritten by another:\n%s%s", key.table, key.market, key.ts, old, text)
		}
	}
	q.rows[key] = text
}

func (q *questdb) suspend(table string) {
	q.m.say("questdb", "%s is suspended", table)
	q.suspended[table] = true
}

func (q *questdb) resume() {
	clear(q.suspended)
	if len(q.hidden) > 0 {
		q.resumedNs = q.m.nowNs
	}
	for _, store := range q.hidden {
		store()
	}
	q.hidden = nil
}

// lowRate is the client of the low-rate tables.
type lowRate struct {
	q    *questdb
	work []func()
}

func (q *questdb) openLowRate() *lowRate { return &lowRate{q: q} }

func (l *lowRate) Coverage(agent, venue, symbol string, c event.Coverage) {
	c.Detail = bytes.Clone(c.Detail)
	l.work = append(l.work, func() {
		l.q.put("coverage", func() { l.q.coverage[coverageKey{market{venue, symbol}, c.Stream, c.Ts}] = coverageRow{agent, c} })
	})
}

func (l *lowRate) Instrument(ts int64, i event.Instrument) error {
	text, _ := json.Marshal(i)
	l.work = append(l.work, func() {
		// What is known of an instrument may change twice at one instant: the last
		// word counts.
		l.q.put("instruments", func() { l.q.rows[rowKey{"instruments", market{i.Venue, i.Symbol}, ts}] = string(text) + "\n" })
	})
	return nil
}

func (l *lowRate) Stat(int64, string, string, string, int64) {}

func (l *lowRate) Flush(ctx context.Context) error {
	status, message, err := l.q.reach(ctx)
	if err == nil && status == 0 {
		for _, store := range l.work {
			store()
		}
		if !l.q.m.chance(l.q.faults.lostAfter) {
			l.work = nil
			return nil
		}
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		return fmt.Errorf("%d: %s", status, message)
	}
	if ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w: %w", qdb.ErrUnreachable, err)
}

func (l *lowRate) Close() error { return nil }

var (
	ofTable    = regexp.MustCompile(`^SELECT ts FROM (\w+) WHERE venue = '(\w+)' AND symbol = '([^']+)' LIMIT -1$`)
	ofTrades   = regexp.MustCompile(`^SELECT trade_id, ts_event FROM trades WHERE venue = '(\w+)' AND symbol = '([^']+)' LIMIT -(\d+)$`)
	ofTrade    = regexp.MustCompile(`,trade_id="(\d+)".*,ts_event=(\d+)n`)
	ofStream   = regexp.MustCompile(`^SELECT stream, max\(ts_end\) ts_end FROM coverage WHERE venue = '(\w+)' AND symbol = '([^']+)' GROUP BY stream$`)
	ofAll      = regexp.MustCompile(`^SELECT venue, symbol, max\(ts\) ts FROM (\w+) WHERE ts > '([^']+)' GROUP BY venue, symbol$`)
	ofInstants = regexp.MustCompile(`^SELECT venue, symbol, ts FROM (\w+) WHERE ts IN \((.*)\)$`)
	ofAhead    = regexp.MustCompile(`^SELECT venue, symbol, stream, state, .* FROM coverage WHERE ts_end > (\d+)::timestamp_ns ORDER BY ts$`)
	ofKnown    = regexp.MustCompile(`^SELECT DISTINCT symbol FROM instruments WHERE venue = '(\w+)'$`)
	ofRecent   = regexp.MustCompile(`^SELECT venue, symbol, last\(agent\) agent, max\(ts_end\) ts_end FROM coverage WHERE ts_end > (\d+)::timestamp_ns GROUP BY venue, symbol$`)
)

func byTime(a, b coverageKey) int {
	return cmp.Or(cmp.Compare(a.ts, b.ts), byMarket(a.market, b.market), cmp.Compare(a.stream, b.stream))
}

func byMarket(a, b market) int {
	return cmp.Or(cmp.Compare(a.venue, b.venue), cmp.Compare(a.symbol, b.symbol))
}

// query answers the few statements that an agent asks.
func (q *questdb) query(sql string) string {
	var names []string
	var data [][]any
	iso := func(ns int64) string { return strings.Trim(qdb.FormatTime(ns), "'") }
	if g := ofTable.FindStringSubmatch(sql); g != nil {
		names = []string{"ts"}
		last := int64(0)
		for k := range q.rows {
			if k.table == g[1] && k.market == (market{g[2], g[3]}) {
				last = max(last, k.ts)
			}
		}
		if last > 0 {
			data = append(data, []any{iso(last)})
		}
	} else if g := ofTrades.FindStringSubmatch(sql); g != nil {
		names = []string{"trade_id", "ts_event"}
		var keys []rowKey
		for k := range q.rows {
			if k.table == "trades" && k.market == (market{g[1], g[2]}) {
				keys = append(keys, k)
			}
		}
		slices.SortFunc(keys, func(a, b rowKey) int { return cmp.Compare(a.ts, b.ts) })
		n, _ := strconv.Atoi(g[3])
		for _, k := range keys[max(0, len(keys)-n):] {
			if t := ofTrade.FindStringSubmatch(q.rows[k]); t != nil {
				at, _ := strconv.ParseInt(t[2], 10, 64)
				data = append(data, []any{t[1], iso(at)})
			}
		}
	} else if g := ofStream.FindStringSubmatch(sql); g != nil {
		names = []string{"stream", "ts_end"}
		ends := map[event.Stream]int64{}
		for k, r := range q.coverage {
			if k.market == (market{g[1], g[2]}) {
				ends[k.stream] = max(ends[k.stream], r.c.TsEnd)
			}
		}
		for _, s := range slices.Sorted(maps.Keys(ends)) {
			data = append(data, []any{s.String(), iso(ends[s])})
		}
	} else if g := ofAll.FindStringSubmatch(sql); g != nil {
		names = []string{"venue", "symbol", "ts"}
		after, _ := qdb.ParseTime(g[2])
		last := map[market]int64{}
		for k := range q.rows {
			if k.table == g[1] && k.ts > after {
				last[k.market] = max(last[k.market], k.ts)
			}
		}
		for _, s := range slices.SortedFunc(maps.Keys(last), byMarket) {
			data = append(data, []any{s.venue, s.symbol, iso(last[s])})
		}
	} else if g := ofInstants.FindStringSubmatch(sql); g != nil {
		names = []string{"venue", "symbol", "ts"}
		at := map[int64]bool{}
		for _, text := range strings.Split(g[2], ",") {
			ts, _ := qdb.ParseTime(strings.Trim(text, "'"))
			at[ts] = true
		}
		var keys []rowKey
		for k := range q.rows {
			if k.table == g[1] && at[k.ts] {
				keys = append(keys, k)
			}
		}
		slices.SortFunc(keys, func(a, b rowKey) int { return cmp.Or(cmp.Compare(a.ts, b.ts), byMarket(a.market, b.market)) })
		for _, k := range keys {
			data = append(data, []any{k.market.venue, k.market.symbol, iso(k.ts)})
		}
	} else if g := ofAhead.FindStringSubmatch(sql); g != nil {
		names = []string{"venue", "symbol", "stream", "state", "proof", "cause", "ts", "ts_end", "seq_first", "seq_last", "messages"}
		after, _ := strconv.ParseInt(g[1], 10, 64)
		for _, k := range slices.SortedFunc(maps.Keys(q.coverage), byTime) {
			c := q.coverage[k].c
			id := func(n int64) any {
				if n == event.Null {
					return nil
				}
				return n
			}
			if c.TsEnd > after {
				data = append(data, []any{k.market.venue, k.market.symbol, c.Stream.String(), c.State.String(), c.Proof.String(), c.Cause.String(), iso(c.Ts), iso(c.TsEnd), id(c.SeqFirst), id(c.SeqLast), c.Messages})
			}
		}
	} else if g := ofRecent.FindStringSubmatch(sql); g != nil {
		names = []string{"venue", "symbol", "agent", "ts_end"}
		var after int64
		fmt.Sscan(g[1], &after)
		last := map[market]coverageKey{}
		ends := map[market]int64{}
		for k, r := range q.coverage {
			if r.c.TsEnd > after {
				ends[k.market] = max(ends[k.market], r.c.TsEnd)
				if k.ts > last[k.market].ts || k.ts == last[k.market].ts && k.stream > last[k.market].stream {
					last[k.market] = k
				}
			}
		}
		for _, s := range slices.SortedFunc(maps.Keys(ends), byMarket) {
			data = append(data, []any{s.venue, s.symbol, q.coverage[last[s]].agent, iso(ends[s])})
		}
	} else if strings.Contains(sql, "wal_tables()") {
		names = []string{"name", "suspended", "writerTxn", "sequencerTxn", "errorMessage"}
		for _, t := range slices.Sorted(maps.Keys(q.suspended)) {
			data = append(data, []any{t, true, 1, 2, "No space left on device"})
		}
	} else if g := ofKnown.FindStringSubmatch(sql); g != nil {
		names = []string{"symbol"}
		symbols := map[string]bool{}
		for k := range q.rows {
			if k.table == "instruments" && k.market.venue == g[1] {
				symbols[k.market.symbol] = true
			}
		}
		for _, s := range slices.Sorted(maps.Keys(symbols)) {
			data = append(data, []any{s})
		}
	} else if strings.HasPrefix(sql, "SELECT agent FROM coverage") {
		names = []string{"agent"}
	} else if q.broken == nil {
		q.broken = fmt.Errorf("the simulated QuestDB does not know the statement %q", sql)
	}
	type column struct {
		Name string `json:"name"`
		Type string `json:"type"`
	}
	answer := struct {
		Columns []column `json:"columns"`
		Dataset [][]any  `json:"dataset"`
		Count   int      `json:"count"`
	}{Dataset: data, Count: len(data)}
	for _, n := range names {
		answer.Columns = append(answer.Columns, column{n, "VARCHAR"})
	}
	text, err := json.Marshal(answer)
	if err != nil {
		panic(err) // texts, booleans and small numbers always marshal
	}
	return string(text)
}
