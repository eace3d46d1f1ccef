package verify

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"deeptape/ilp/qdb"
)

// exporter runs exports one after the other on one connection of its own.
// QuestDB 9.3.4 allows as many connections that have ever exported anything as
// it has workers (two on a small machine), counts them until they are closed, and
// answers 429 to one too many. A client that does other things on its connections
// between exports soon has too many.
type exporter struct {
	db   *qdb.DB // everything but exports
	mu   sync.Mutex
	line *qdb.DB // exports, under mu: its one connection is idle whenever mu is free
}

func newExporter(db *qdb.DB) *exporter { return &exporter{db: db, line: qdb.Open(db.Conf())} }

// table is the name in the database of one of ours; findings name it without the prefix.
func (e *exporter) table(name string) string { return e.db.Table(name) }

func (e *exporter) close() { e.line.Close() }

// export is qdb.DB.Export. Where others hold all the places it waits, up to 30
// seconds.
func (e *exporter) export(ctx context.Context, sql string, fn func(row [][]byte) error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for deadline := time.Now().Add(30 * time.Second); ; {
		err := e.line.Export(ctx, sql, fn) // a refused one has handed out no row
		if err == nil || !strings.Contains(err.Error(), "answered 429") || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// query is qdb.DB.Query of what only reads, asked again as again does.
func (e *exporter) query(ctx context.Context, sql string, columns ...string) (r *qdb.Result, err error) {
	err = again(ctx, func() error {
		r, err = e.db.Query(ctx, sql, columns...)
		return err
	})
	return r, err
}

// againPause is the time before something is asked again, twice that before the last time.
var againPause = time.Second

// again does what only reads, and begins anew each time that it is called, up to three
// times: that a busy server has no answer now says nothing about the record.
func again(ctx context.Context, read func() error) error {
	for try := 1; ; try++ {
		err := read()
		if err == nil || !qdb.Passing(err) {
			return err
		}
		if try == 3 {
			return fmt.Errorf("the check could not be completed, which says nothing against the record; it may be run again: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(try) * againPause):
		}
	}
}
