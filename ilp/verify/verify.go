// Package verify proves what QuestDB holds, and tells how much of the time it
// calls verified.
//
// Database works from the database alone: the intervals of coverage, the frames
// and id chains of book_delta, book_top and book_depth against a book rebuilt here,
// trade ids.
// Journal compares every column of every row with rows derived again from the
// journal. Coverage only reads the intervals. What the database holds of times whose
// part of the journal is lost is neither: it is counted as Unproven.
//
// It must never write to the database, never import venues (who derives the rows
// is handed in), and never pass over what it could not check: that is said in
// SymbolReport.NotChecked. Its book is its own, not hotpath/book: a mistake there
// must not be repeated here.
//
// Invariants: a report is OK only if there was a row or an interval to look at, each that
// was asked for was looked at, and nothing was found outside of lost times; each finding names table, venue, symbol and
// instant; memory is bounded by pages of rows, by the largest book and by the
// intervals, never by the length of the record.
package verify

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"deeptape/hotpath/event"
	"deeptape/ilp/qdb"
	"deeptape/ilp/schema"
)

// Options of Database and Journal.
type Options struct {
	// From and To bound what is checked, in ns since 1970, both inclusive; 0 is
	// open. A book is rebuilt from the last snapshot at or before From.
	From, To int64
	// Want chooses the symbols; nil: all.
	Want func(venue, symbol string) bool
	// TopLevels is the agent's top_levels, 0 for the default of 10. It is needed
	// only while a book has fewer levels than that: otherwise the rows tell.
	TopLevels int
	// DepthBps is the agent's depth_bps, nil for the default. Rows of book_depth with
	// another number of bands are held against the touch only.
	DepthBps []int
	// TradesJoined says of a venue that a trade of it may stand for several, so that
	// ids are left out where no trade is missing; nil: none does that.
	TradesJoined func(venue string) bool
	// Windowed says of a venue that a snapshot of it may be a window of the book, so that
	// single levels outside say UNVERIFIED, and rows that show them; nil: none does that.
	Windowed func(venue string) bool
	// Lost are the times of which the journal has lost the inputs. What lies in
	// them is counted as Unproven, and not found. Without a journal there are none.
	Lost []Lost
}

func (o *Options) want(k key) bool { return o.Want == nil || o.Want(k.venue, k.symbol) }

// bounded says whether less than all was asked for.
func (o *Options) bounded() bool { return o.From != 0 || o.To != 0 }

// until is the upper bound as an instant.
func (o *Options) until() int64 {
	if o.To == 0 {
		return farFuture
	}
	return o.To
}

// farFuture stands for an open end in SQL; QuestDB's nanoseconds end in 2262.
const farFuture = int64(9_000_000_000_000_000_000)

// lateNs: rows may run ahead of their coverage, which the agent writes once a
// second and sends apart from them. After this long it is no longer that.
const lateNs = int64(60 * time.Second)

// key names an instrument.
type key struct{ venue, symbol string }

func compareKeys(a, b key) int {
	return cmp.Or(cmp.Compare(a.venue, b.venue), cmp.Compare(a.symbol, b.symbol))
}

// Database checks what can be checked from the database alone. An error means
// that there is no report: QuestDB does not answer, a table is suspended or has
// another shape.
func Database(ctx context.Context, db *qdb.DB, opt Options, progress io.Writer) (*Report, error) {
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
	keys, outside, err := instruments(ctx, exp, &opt, covered)
	if err != nil {
		return nil, err
	}
	report := newReport(&opt, outside)
	for _, k := range keys {
		fmt.Fprintf(progress, "checking %s %s\n", k.venue, k.symbol)
		rep, err := checkSymbol(ctx, exp, &opt, k, covered[k])
		if err != nil {
			return nil, fmt.Errorf("cannot check %s %s: %w", k.venue, k.symbol, err)
		}
		report.Symbols = append(report.Symbols, rep)
	}
	return report, nil
}

// unlimited gives a context a far deadline where it has none: QuestDB ends a
// statement after 60 seconds unless it is told how long the client will wait.
func unlimited(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, 100*time.Hour)
}

// start waits until the tables stand still and reads the intervals. What they
// speak of is in the tables from then on, whether or not an agent goes on writing.
func start(ctx context.Context, db *exporter, opt *Options, progress io.Writer) (map[key]*covers, error) {
	if opt.To != 0 && opt.To < opt.From {
		return nil, fmt.Errorf("cannot verify a time that ends at %s, before it begins at %s", stamp(opt.To), stamp(opt.From))
	}
	if err := again(ctx, func() error { return schema.CheckTables(ctx, db.db) }); err != nil {
		return nil, err
	}
	if err := waitApplied(ctx, db, progress); err != nil {
		return nil, err
	}
	covered, newest, err := loadCoverage(ctx, db, opt)
	if err != nil {
		return nil, err
	}
	if time.Since(time.Unix(0, newest)) > 10*time.Second {
		return covered, nil
	}
	// Somebody is writing, perhaps. Tables are sent apart: the rows of the
	// youngest interval may be some milliseconds behind it.
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(1500 * time.Millisecond):
	}
	return covered, waitApplied(ctx, db, progress)
}

// instruments lists those of which a table of the record has a row, or coverage an
// interval, in the time asked for; and those that the database knows of other times.
func instruments(ctx context.Context, db *exporter, opt *Options, covered map[key]*covers) (keys, outside []key, err error) {
	inside, known := map[key]bool{}, map[key]bool{}
	for k, c := range covered {
		known[k] = true
		if c.reach(opt.From, opt.until()) {
			inside[k] = true
		}
	}
	list := func(into map[key]bool, table, where string) error {
		sql := fmt.Sprintf("SELECT venue, symbol, count() FROM %s%s GROUP BY venue, symbol", db.table(table), where)
		err := again(ctx, func() error {
			return db.export(ctx, sql, func(row [][]byte) error {
				into[key{string(row[0]), string(row[1])}] = true
				return nil
			})
		})
		if err != nil {
			return fmt.Errorf("cannot list the symbols of %q: %w", table, err)
		}
		return nil
	}
	within := fmt.Sprintf(" WHERE ts BETWEEN %s AND %s", qdb.FormatTime(opt.From), qdb.FormatTime(opt.until()))
	for _, table := range []string{tableBook, tableTop, tableQuotes, tableTrades, tableDepth} {
		if err := list(inside, table, within); err != nil {
			return nil, nil, err
		}
	}
	if opt.bounded() {
		for _, table := range []string{tableCoverage, tableInstruments} {
			if err := list(known, table, ""); err != nil {
				return nil, nil, err
			}
		}
	}
	for k := range inside {
		if opt.want(k) {
			keys = append(keys, k)
		}
	}
	for k := range known {
		if opt.want(k) && !inside[k] {
			outside = append(outside, k)
		}
	}
	slices.SortFunc(keys, compareKeys)
	slices.SortFunc(outside, compareKeys)
	return keys, outside, nil
}

const (
	tableBook     = "book_delta"
	tableTop      = "book_top"
	tableQuotes   = "quotes"
	tableTrades   = "trades"
	tableDepth    = "book_depth"
	tableCoverage = "coverage"

	tableInstruments = "instruments"
)

// streamTables are the tables in the order of event.Stream.
var streamTables = [event.NumStreams]string{tableBook, tableTrades, tableQuotes}
