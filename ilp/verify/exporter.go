package verify

import (
	"context"
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
