package deliver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"deeptape/ilp/qdb"
	"deeptape/ilp/schema"
)

// A QuestDB that has answered 204 may not have the rows all the same: it was started in
// another folder, somebody dropped a table, or a proxy answered in its place. So the last
// row that it has acknowledged of each table and symbol is remembered, over restarts too,
// and looked for: after each prepare, and every half a minute while rows come. With them
// one row is looked for of each batch since the last time: QuestDB stores a batch whole or
// not at all, so a batch that was swallowed between others is missed, too. A query asks for
// single instants, which costs a table of any size the same, and a quiet agent asks nothing.

// AckedRow is a row that QuestDB has acknowledged.
type AckedRow struct {
	Table  string `json:"table"`
	Venue  string `json:"venue"`
	Symbol string `json:"symbol"`
	Ts     int64  `json:"ts"` // ns
}

type ackedKey struct{ table, venue, symbol string }

// lacking looks for what was acknowledged.
type lacking struct {
	mu     sync.Mutex // of rows, recent, news and found
	rows   map[ackedKey]int64
	recent []AckedRow // one of each batch since they were looked for last, at most recentMax
	news   bool       // since then
	found  bool       // some were not there

	// Of the watch alone.
	prepared  uint64                // value of Deliverer.prepared when they were looked for last
	checkedNs int64                 // and the time
	probe     []AckedRow            // to be looked for; nil: none
	before    map[ackedKey]AckedRow // looked for before: the oldest that was missing, or the latest that was there
	need      map[string]int64      // transactions of a table that must be applied before
}

const (
	lackingEveryNs = int64(30 * time.Second)
	instantsAtOnce = 200 // in a query, whose text is bounded

	// recentMax is several times what two posters bring in half a minute. Of a batch that
	// finds no room no row is looked for, but the last ones of its symbols.
	recentMax = 4096
)

func (l *lacking) note(row AckedRow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := ackedKey{row.Table, row.Venue, row.Symbol}
	if l.rows == nil {
		l.rows = map[ackedKey]int64{}
	}
	if row.Ts > l.rows[key] {
		l.rows[key], l.news = row.Ts, true
	}
	if len(l.recent) < recentMax {
		l.recent = append(l.recent, row)
	}
}

// Acked are the last rows that QuestDB has acknowledged, by table, venue and symbol. Any
// goroutine.
func (d *Deliverer) Acked() (rows []AckedRow) {
	d.lacking.mu.Lock()
	defer d.lacking.mu.Unlock()
	for _, k := range slices.SortedFunc(maps.Keys(d.lacking.rows), byTable) {
		rows = append(rows, AckedRow{k.table, k.venue, k.symbol, d.lacking.rows[k]})
	}
	return rows
}

// distinct are rows without those that come again, in the same order.
func distinct(rows []AckedRow) []AckedRow {
	has := make(map[AckedRow]bool, len(rows))
	return slices.DeleteFunc(rows, func(row AckedRow) bool {
		again := has[row]
		has[row] = true
		return again
	})
}

func byTable(a, b ackedKey) int {
	return cmp.Or(cmp.Compare(a.table, b.table), cmp.Compare(a.venue, b.venue), cmp.Compare(a.symbol, b.symbol))
}

// Lacks says that QuestDB does not have rows that it has acknowledged. Any goroutine.
func (d *Deliverer) Lacks() bool {
	d.lacking.mu.Lock()
	defer d.lacking.mu.Unlock()
	return d.lacking.found
}

// walTable is the state of a table's log of transactions.
type walTable struct {
	suspended         bool
	writer, sequencer int64
}

// lookForAcked looks for the acknowledged rows when it is time, and all that was
// acknowledged is applied. It belongs to the watch, which has just seen wal.
func (d *Deliverer) lookForAcked(ctx context.Context, db *qdb.DB, wal map[string]walTable) error {
	l := &d.lacking
	if l.probe == nil {
		now := d.clock()
		l.mu.Lock()
		due := l.prepared != d.prepared.Load() || (l.news || l.found) && now-l.checkedNs >= d.lackingEvery
		var recent []AckedRow
		if due {
			recent, l.recent, l.news = l.recent, nil, false
		}
		l.mu.Unlock()
		if !due {
			return nil
		}
		l.prepared, l.checkedNs = d.prepared.Load(), now
		looked := append(d.Acked(), recent...)
		for _, key := range slices.SortedFunc(maps.Keys(l.before), byTable) {
			looked = append(looked, l.before[key]) // newer rows may be there all the same
		}
		looked = distinct(looked)
		for _, row := range looked {
			// The journal could not mend what is older.
			if d.opt.Mendable == 0 || now-row.Ts < int64(d.opt.Mendable) {
				l.probe = append(l.probe, row)
			}
		}
		l.need = map[string]int64{}
		for name, t := range wal { // later transactions than these rows', if not theirs
			l.need[name] = t.sequencer
		}
		return nil // wal is older than some of them
	}
	for name, t := range wal {
		// Another database counts its transactions from the start.
		if t.suspended || t.writer < min(l.need[name], t.sequencer) {
			return nil
		}
	}
	missing, err := d.missing(ctx, db, l.probe)
	if err != nil {
		return err
	}
	looked := len(l.probe)
	l.before = map[ackedKey]AckedRow{}
	for _, row := range l.probe {
		key := ackedKey{row.Table, row.Venue, row.Symbol}
		old, ok := l.before[key]
		lost, wasLost := slices.Contains(missing, row), slices.Contains(missing, old)
		if !ok || lost && (!wasLost || row.Ts < old.Ts) || !lost && !wasLost && row.Ts > old.Ts {
			l.before[key] = row
		}
	}
	l.probe = nil
	l.mu.Lock()
	l.found = len(missing) > 0
	l.mu.Unlock()
	text := ""
	if len(missing) > 0 {
		var texts []string
		for _, row := range missing[:min(3, len(missing))] {
			texts = append(texts, fmt.Sprintf("%s of %s %s at %s", row.Table, row.Venue, row.Symbol, strings.Trim(qdb.FormatTime(row.Ts), "'")))
		}
		text = fmt.Sprintf("QuestDB at %s lacks rows that it has acknowledged: %d of the %d that were looked for, such as %s; is it the right one, and does nothing answer in its place? When it is, %s brings back what the journal has; until then the journal lets go of nothing by age, but journal.max and a disk that fills up go before", d.opt.DB.Addr, len(missing), looked, strings.Join(texts, ", "), d.opt.Heal)
		d.slow.again.Store(true)
	}
	if d.Health.set(fromLacking, text, d.clock()) {
		if text != "" {
			d.opt.Log.Error("QuestDB has lost rows", "reason", text)
		} else {
			d.opt.Log.Info("QuestDB has what it has acknowledged")
		}
	}
	return nil
}

// missing are those of rows that the database does not have.
func (d *Deliverer) missing(ctx context.Context, db *qdb.DB, rows []AckedRow) (missing []AckedRow, err error) {
	ctx, cancel := d.sched.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, t := range schema.Tables() {
		var of []AckedRow
		for _, row := range rows {
			if row.Table == t.Name {
				of = append(of, row)
			}
		}
		for part := range slices.Chunk(of, instantsAtOnce) {
			var instants []string
			for _, row := range part {
				instants = append(instants, qdb.FormatTime(row.Ts))
			}
			slices.Sort(instants)
			res, err := db.Query(ctx, fmt.Sprintf("SELECT venue, symbol, ts FROM %s WHERE ts IN (%s)", db.Table(t.Name), strings.Join(slices.Compact(instants), ",")), "venue", "symbol", "ts")
			var refused *qdb.SQLError
			if errors.As(err, &refused) && strings.Contains(refused.Message, "table does not exist") {
				missing = append(missing, part...)
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("cannot look for acknowledged rows: %w", err)
			}
			has := map[AckedRow]bool{}
			for i := range res.Len() {
				ts, _ := res.Time(i, "ts")
				has[AckedRow{t.Name, res.Text(i, "venue"), res.Text(i, "symbol"), ts}] = true
			}
			for _, row := range part {
				if !has[row] {
					missing = append(missing, row)
				}
			}
		}
	}
	return missing, nil
}
