package sender

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	questdb "github.com/questdb/go-questdb-client/v3"

	"deeptape/hotpath/event"
	"deeptape/ilp/qdb"
)

// maxPendingStats bounds the memory that capture_stats may take while QuestDB is
// away. Coverage and instruments are few, and derived from the journal anyway;
// counters are not, and the oldest are worth least.
const maxPendingStats = 20_000

// LowRate writes coverage, instruments and capture_stats, through QuestDB's own
// client. That client empties its buffer even when a flush fails, so every row is
// kept here, and written to it anew, until a flush has returned nil. A LowRate
// belongs to one goroutine.
//
// Invariant: a row leaves pending only after QuestDB has stored it, or has refused it
// alone, or, for a row of coverage or instruments, when a later row of the same key
// takes its place. Rows of one table leave together.
type LowRate struct {
	conf   qdb.Conf
	client questdb.LineSender

	coverage     []coverageRow
	coverageAt   map[coverageKey]int // index in coverage
	instruments  []instrumentRow
	instrumentAt map[instrumentKey]int
	stats        []statRow

	statsDropped uint64
	mostRows     int // of a request, learned from a 413; 0: not known
}

// leastRows bounds what a 413 teaches: one that came out of nowhere must not make a request
// of every row for ever.
const leastRows = 100

type coverageKey struct {
	ts            int64
	venue, symbol string
	stream        event.Stream
}

type coverageRow struct {
	coverageKey
	agent string
	c     event.Coverage
}

type instrumentKey struct {
	ts            int64
	venue, symbol string
}

type instrumentRow struct {
	instrumentKey
	i    event.Instrument
	size [3]float64 // tick, lot, contract size
	has  [3]bool
}

type statRow struct {
	ts                         int64
	venue, connection, counter string
	value                      int64
}

// OpenLowRate makes the client. Nothing is sent before the first Flush.
func OpenLowRate(conf qdb.Conf) (*LowRate, error) {
	timeout := conf.RequestTimeout
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	options := []questdb.LineSenderOption{
		questdb.WithHttp(), questdb.WithAddress(conf.Addr),
		// Ours, because the client's own transport asks the environment for a proxy.
		questdb.WithHttpTransport(honest(conf.NewTransport(1))),
		questdb.WithAutoFlushDisabled(),
		questdb.WithRequestTimeout(timeout),
		// Its retries sleep through a cancelled context; the caller of Flush retries.
		questdb.WithRetryTimeout(0),
	}
	if conf.HTTPS {
		options = append(options, questdb.WithTls())
	}
	if conf.Token != "" {
		options = append(options, questdb.WithBearerToken(conf.Token))
	} else if conf.Username != "" {
		options = append(options, questdb.WithBasicAuth(conf.Username, conf.Password))
	}
	client, err := questdb.NewLineSender(context.Background(), options...)
	if err != nil {
		return nil, fmt.Errorf("cannot make a client of QuestDB at %q: %w", conf.Addr, err)
	}
	return &LowRate{conf: conf, client: client, coverageAt: map[coverageKey]int{}, instrumentAt: map[instrumentKey]int{}}, nil
}

// Coverage adds an interval. A later state of the same interval, one of the same
// (ts, venue, symbol, stream), takes the place of one that is still pending.
// c.Detail is copied.
func (l *LowRate) Coverage(agent, venue, symbol string, c event.Coverage) {
	c.Detail = append([]byte(nil), c.Detail...)
	row := coverageRow{coverageKey{c.Ts, venue, symbol, c.Stream}, agent, c}
	if i, ok := l.coverageAt[row.coverageKey]; ok {
		l.coverage[i] = row
		return
	}
	l.coverageAt[row.coverageKey] = len(l.coverage)
	l.coverage = append(l.coverage, row)
}

// Instrument adds what is known of an instrument from ts on. Tick, lot and
// contract size that are no numbers are an error, and the row is not added.
func (l *LowRate) Instrument(ts int64, i event.Instrument) error {
	row := instrumentRow{instrumentKey: instrumentKey{ts, i.Venue, i.Symbol}, i: i}
	for n, text := range []string{i.Tick, i.Lot, i.ContractSize} {
		if text == "" {
			continue
		}
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("cannot write instrument %q of venue %q: its %s: %w", i.Symbol, i.Venue, sizeColumns[n], err)
		}
		row.size[n], row.has[n] = f, true
	}
	if at, ok := l.instrumentAt[row.instrumentKey]; ok {
		l.instruments[at] = row
		return nil
	}
	l.instrumentAt[row.instrumentKey] = len(l.instruments)
	l.instruments = append(l.instruments, row)
	return nil
}

var sizeColumns = [3]string{"tick", "lot", "contract_size"}

// Stat adds the value of a counter. With more than a bounded number pending, the
// oldest is dropped and counted.
func (l *LowRate) Stat(ts int64, venue, connection, counter string, value int64) {
	if len(l.stats) == maxPendingStats {
		// A tenth at once, so that the copy is rare.
		n := copy(l.stats, l.stats[maxPendingStats/10:])
		l.statsDropped += uint64(len(l.stats) - n)
		l.stats = l.stats[:n]
	}
	l.stats = append(l.stats, statRow{ts, venue, connection, counter, value})
}

// StatsDropped counts the counters that were never written.
func (l *LowRate) StatsDropped() uint64 { return l.statsDropped }

// Pending is the number of rows that QuestDB has not acknowledged.
func (l *LowRate) Pending() int { return len(l.coverage) + len(l.instruments) + len(l.stats) }

// Flush sends all pending rows, one request per table, and forgets the rows of
// each table that QuestDB has acknowledged. The rows of a table that failed stay,
// and the next Flush sends them again. The error names the tables; it is
// errors.Is(err, qdb.ErrUnreachable) if there was no answer. Rows that QuestDB
// refuses for what is in them are forgotten too, and named by a *RefusedError.
func (l *LowRate) Flush(ctx context.Context) error {
	var refused []RefusedRow
	var failed []error
	for _, t := range []struct {
		name   string
		rows   int
		write  func(i int) (ts int64)
		key    func(i int) RefusedRow
		stored func()
	}{
		{"instruments", len(l.instruments), l.writeInstrument, l.instrumentKey, func() { l.instruments = l.instruments[:0]; clear(l.instrumentAt) }},
		{"coverage", len(l.coverage), l.writeCoverage, l.coverageKey, func() { l.coverage = l.coverage[:0]; clear(l.coverageAt) }},
		{"capture_stats", len(l.stats), l.writeStat, l.statKey, func() { l.stats = l.stats[:0] }},
	} {
		bad, err := l.send(ctx, t.name, t.rows, t.write)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		for _, b := range bad {
			row := t.key(b.row)
			row.Table, row.Reason, row.Text = t.name, b.reason, b.text
			refused = append(refused, row)
		}
		t.stored()
	}
	if len(refused) > 0 {
		return &RefusedError{refused, errors.Join(failed...)}
	}
	return errors.Join(failed...)
}

func (l *LowRate) writeCoverage(i int) int64 {
	r := &l.coverage[i]
	l.symbol("venue", r.venue)
	l.symbol("symbol", r.symbol)
	l.symbol("stream", r.stream.String())
	l.symbol("state", r.c.State.String())
	l.symbol("proof", r.c.Proof.String())
	l.symbol("cause", r.c.Cause.String())
	l.symbol("agent", r.agent)
	// The client has microseconds for times; whole numbers go into TIMESTAMP_NS as ns.
	l.client.Int64Column("ts_end", r.c.TsEnd)
	l.long("seq_first", r.c.SeqFirst)
	l.long("seq_last", r.c.SeqLast)
	l.client.Int64Column("messages", r.c.Messages)
	if len(r.c.Detail) > 0 {
		l.client.StringColumn("detail", string(r.c.Detail))
	}
	return r.ts
}

func (l *LowRate) writeInstrument(i int) int64 {
	r := &l.instruments[i]
	l.symbol("venue", r.venue)
	l.symbol("symbol", r.instrumentKey.symbol)
	l.symbol("pair", r.i.Pair)
	l.symbol("market", r.i.Market)
	l.symbol("base", r.i.Base)
	l.symbol("quote", r.i.Quote)
	l.symbol("status", r.i.Status)
	l.symbol("source", r.i.Source)
	l.client.Int64Column("px_scale", int64(r.i.PxScale))
	l.client.Int64Column("qty_scale", int64(r.i.QtyScale))
	for n, name := range sizeColumns {
		if r.has[n] {
			l.client.Float64Column(name, r.size[n])
		}
	}
	return r.ts
}

func (l *LowRate) writeStat(i int) int64 {
	r := &l.stats[i]
	l.symbol("venue", r.venue)
	l.symbol("connection", r.connection)
	l.symbol("counter", r.counter)
	l.client.Int64Column("value", r.value)
	return r.ts
}

// symbol leaves an empty value out, so that it is null. QuestDB answers 500 to a
// symbol that is not UTF-8, which would keep the table waiting for ever.
func (l *LowRate) symbol(name, value string) {
	if value != "" {
		l.client.Symbol(name, strings.ToValidUTF8(value, "?"))
	}
}

func (l *LowRate) long(name string, value int64) {
	if value != event.Null {
		l.client.Int64Column(name, value)
	}
}

// Close closes the client. Rows that are pending are not sent: Flush first.
func (l *LowRate) Close() error {
	if err := l.client.Close(context.Background()); err != nil {
		return fmt.Errorf("cannot close the client of QuestDB at %q: %w", l.conf.Addr, err)
	}
	return nil
}
