package verify

import (
	"context"
	"fmt"

	"deeptape/ilp/qdb"
)

// pager reads rows of one table and one instrument in the order of ts, a page at
// a time: an export that stays open while others are read would run into the
// server's limits on time and on connections. The next page is fetched while one
// is read.
type pager[T any] struct {
	ctx   context.Context
	db    *exporter
	shape *shape[T]
	where string
	until int64
	limit int

	page  []T
	at    int
	spare []T
	next  chan fetched[T]
	err   error
	ended bool
	read  int64 // rows that pop has passed
}

// shape says how the rows of a table are read.
type shape[T any] struct {
	table   string
	columns string // the first is ts::long
	limit   int    // rows a page
	parse   func(row [][]byte, into *T) error
	ts      func(*T) int64
}

type fetched[T any] struct {
	rows []T
	from int64 // where the next page starts
	last bool
	err  error
}

func newPager[T any](ctx context.Context, db *exporter, s *shape[T], k key, from, until int64) *pager[T] {
	p := &pager[T]{
		ctx: ctx, db: db, shape: s, until: until, limit: s.limit,
		where: fmt.Sprintf("venue = %s AND symbol = %s", qdb.Quote(k.venue), qdb.Quote(k.symbol)),
		next:  make(chan fetched[T], 1), // so that a fetch ends although nobody waits for it any more
	}
	if until < from { // QuestDB's BETWEEN would swap them
		p.ended = true
		return p
	}
	go p.fetch(from, nil)
	return p
}

// peek returns the row that comes next, nil after the last. It is valid until
// the next call of peek that follows a pop.
func (p *pager[T]) peek() (*T, error) {
	for p.at == len(p.page) {
		if p.err != nil || p.ended {
			return nil, p.err
		}
		f := <-p.next
		p.err = f.err
		p.spare, p.page, p.at = p.page, f.rows, 0
		if f.err != nil {
			p.page = nil
			return nil, f.err
		}
		p.ended = f.last
		if !f.last {
			go p.fetch(f.from, p.spare)
		}
	}
	return &p.page[p.at], nil
}

func (p *pager[T]) pop() { p.at++; p.read++ }

// fetch reads a page into the memory of buf.
func (p *pager[T]) fetch(from int64, buf []T) {
	f := fetched[T]{}
	sql := fmt.Sprintf("SELECT %s FROM %s WHERE %s AND ts BETWEEN %s AND %s ORDER BY ts LIMIT %d",
		p.shape.columns, p.db.table(p.shape.table), p.where, qdb.FormatTime(from), qdb.FormatTime(p.until), p.limit)
	take := func(row [][]byte) error {
		if n := len(f.rows); n < cap(f.rows) {
			f.rows = f.rows[:n+1] // keeps the memory of the row that was there
		} else {
			var zero T
			f.rows = append(f.rows, zero)
		}
		return p.shape.parse(row, &f.rows[len(f.rows)-1])
	}
	f.err = again(p.ctx, func() error {
		f.rows = buf[:0]
		return p.db.export(p.ctx, sql, take)
	})
	if f.err != nil {
		f.err = fmt.Errorf("cannot read %q where %s: %w", p.shape.table, p.where, f.err)
	}
	f.last = len(f.rows) < p.limit
	if f.err == nil && !f.last {
		// Rows of one instant must not be torn apart by the page's end.
		n := len(f.rows) - 1
		f.from = p.shape.ts(&f.rows[n])
		for n > 0 && p.shape.ts(&f.rows[n-1]) == f.from {
			n--
		}
		if n == 0 {
			f.err = fmt.Errorf("cannot read %q where %s: %d rows have one ts", p.shape.table, p.where, p.limit)
		}
		f.rows = f.rows[:n]
	}
	p.next <- f
}
