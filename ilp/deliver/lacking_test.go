package deliver

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"deeptape/cmd/localdb/dbtest"
	"deeptape/ilp/line/linetest"
	"deeptape/ilp/qdb"
	"deeptape/ilp/schema"
)

// instants answers the query for rows of single instants.
func (f *fakeDB) instants(w http.ResponseWriter, sql string) {
	if f.dropped != "" && strings.Contains(sql, " FROM "+f.dropped+" ") {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"query":%q,"error":"table does not exist [table=%s]","position":30}`, sql, f.dropped)
		return
	}
	var rows []string
	for k, row := range f.rows {
		at := strings.Trim(qdb.FormatTime(k.ts), "'")
		if strings.Contains(sql, " FROM "+k.table+" ") && strings.Contains(sql, at) {
			rows = append(rows, fmt.Sprintf(`[%q,%q,%q]`, string(row.Get("venue").(linetest.Symbol)), k.symbol, at))
		}
	}
	fmt.Fprintf(w, `{"columns":[{"name":"venue","type":"SYMBOL"},{"name":"symbol","type":"SYMBOL"},{"name":"ts","type":"TIMESTAMP_NS"}],"dataset":[%s],"count":%d}`, strings.Join(rows, ","), len(rows))
}

// A database that lacks what it has acknowledged, because it is another one or because
// somebody answered 204 in its place, is told, with the command; instruments are sent again;
// when the rows are back the trouble goes. Nobody looked before.
func TestLacking(t *testing.T) {
	r := newRig(t, 31, rigOptions{feeds: 1, inputs: 100, lane: smallLane, opt: Options{Heal: "`heal`"}})
	r.d.lackingEvery = int64(30 * time.Millisecond)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	delivered := make(chan error, 1)
	go func() { delivered <- r.d.Run(ctx) }()
	r.feeds[0].run(1, r.bell, 0)
	wait(t, "all rows", func() bool { return r.feeds[0].l.Acked() == 100 && len(r.d.Acked()) > 3 })
	time.Sleep(150 * time.Millisecond)
	if text, _ := r.d.Health.Trouble(); text != "" {
		t.Errorf("trouble: %s", text)
	}
	var kept map[rowKey]linetest.Row
	r.db.set(func() {
		kept, r.db.rows = r.db.rows, map[rowKey]linetest.Row{}
		r.db.stored = nil // coverage is sent again before the rows that it tells of
	})
	r.d.lacking.mu.Lock()
	r.d.lacking.news = true // as if a row had come
	r.d.lacking.mu.Unlock()
	wait(t, "the trouble", func() bool {
		text, _ := r.d.Health.Trouble()
		return strings.Contains(text, "lacks rows") && strings.Contains(text, "`heal`") && r.d.Lacks()
	})
	// The rows of a table that is not there are missing, too, and no reason to look no further.
	r.db.set(func() { r.db.dropped = "trades" })
	r.d.lacking.mu.Lock()
	r.d.lacking.news = true
	r.d.lacking.mu.Unlock()
	time.Sleep(100 * time.Millisecond)
	wait(t, "the trouble, with a table dropped", func() bool {
		text, _ := r.d.Health.Trouble()
		return strings.Contains(text, "lacks rows") && !strings.Contains(text, "cannot look for")
	})
	r.db.set(func() { r.db.dropped = "" })
	wait(t, "instruments and coverage", func() bool {
		has := map[string]bool{}
		r.db.set(func() {
			for k := range r.db.rows {
				has[k.table] = true
			}
		})
		return has["instruments"] && has["coverage"]
	})
	r.db.set(func() {
		for k, row := range kept {
			r.db.rows[k] = row
		}
	})
	wait(t, "the end of the trouble", func() bool { text, _ := r.d.Health.Trouble(); return text == "" && !r.d.Lacks() })
	r.d.Stop()
	if err := <-delivered; err != nil {
		t.Error(err)
	}
}

// A busy symbol's last row is overtaken before it is looked for. Rows that come after a loss
// are there, and must hide neither the loss nor end its trouble: the row that was looked for
// before is looked for again.
func TestLackingOvertaken(t *testing.T) {
	r := newRig(t, 32, rigOptions{feeds: 1, inputs: 100, lane: smallLane, opt: Options{Heal: "`heal`"}})
	r.d.lackingEvery = int64(30 * time.Millisecond)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	delivered := make(chan error, 1)
	go func() { delivered <- r.d.Run(ctx) }()
	r.feeds[0].run(1, r.bell, 0)
	wait(t, "all rows", func() bool { return r.feeds[0].l.Acked() == 100 && len(r.d.Acked()) > 3 })
	time.Sleep(150 * time.Millisecond) // they are looked for
	kept := map[rowKey]linetest.Row{}
	// overtake puts a newer row beside each of kept, acknowledges it, and drops the old ones.
	newer := int64(0)
	overtake := func() {
		newer++
		acked := r.d.Acked()
		r.db.set(func() {
			if newer == 1 {
				kept, r.db.rows = r.db.rows, map[rowKey]linetest.Row{}
				r.db.stored = nil // coverage is sent again before the rows that it tells of
			}
			for k, row := range kept {
				k.ts += newer << 32
				r.db.rows[k] = row
			}
		})
		for _, row := range acked {
			row.Ts += 1 << 32
			r.d.lacking.note(row)
		}
	}
	overtake()
	ill := func() bool {
		text, _ := r.d.Health.Trouble()
		return strings.Contains(text, "lacks rows") && r.d.Lacks()
	}
	wait(t, "the trouble", ill)
	for range 10 {
		overtake()
		time.Sleep(50 * time.Millisecond)
		if !ill() {
			t.Fatal("newer rows ended the trouble, and the old ones are not there")
		}
	}
	r.db.set(func() {
		for k, row := range kept {
			r.db.rows[k] = row
		}
	})
	wait(t, "the end of the trouble", func() bool { text, _ := r.d.Health.Trouble(); return text == "" && !r.d.Lacks() })
	r.d.Stop()
	if err := <-delivered; err != nil {
		t.Error(err)
	}
}

// TestLackingBatch: one batch that somebody answered 204 for, and did not pass on, is told,
// though the rows before it and behind it are there.
func TestLackingBatch(t *testing.T) {
	r := newRig(t, 33, rigOptions{feeds: 1, inputs: 400, lane: smallLane, opt: Options{Heal: "`heal`"}})
	r.d.lackingEvery = int64(30 * time.Millisecond)
	batches := 0
	var lost []linetest.Row
	r.db.set(func() {
		r.db.stored = nil // coverage tells of the rows that are swallowed
		r.db.swallows = func(rows []linetest.Row) bool {
			if rows[0].Table != "book_delta" {
				return false
			}
			if batches++; batches == 2 {
				lost = rows
			}
			return batches == 2
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	delivered := make(chan error, 1)
	go func() { delivered <- r.d.Run(ctx) }()
	r.feeds[0].run(1, r.bell, 0)
	wait(t, "all rows", func() bool { return r.feeds[0].l.Acked() == 400 })
	r.db.set(func() {
		if batches < 3 {
			t.Fatalf("%d batches of book_delta: the one that is swallowed must stand between others", batches)
		}
	})
	wait(t, "the trouble", func() bool {
		text, _ := r.d.Health.Trouble()
		return strings.Contains(text, "lacks rows") && strings.Contains(text, "book_delta") && r.d.Lacks()
	})
	r.db.set(func() {
		for i := range lost {
			r.db.rows[keyOf(&lost[i])] = lost[i]
		}
	})
	wait(t, "the end of the trouble", func() bool { text, _ := r.d.Health.Trouble(); return text == "" && !r.d.Lacks() })
	r.d.Stop()
	if err := <-delivered; err != nil {
		t.Error(err)
	}
}

// The query is one that QuestDB takes, and it finds the row of the very nanosecond.
func TestLiveInstants(t *testing.T) {
	addr := dbtest.Start(t)
	ctx := context.Background()
	db := qdb.Open(qdb.Conf{Addr: addr})
	defer db.Close()
	if err := schema.Create(ctx, db); err != nil {
		t.Fatal(err)
	}
	const ts = 1_700_000_000_000_000_001
	if err := db.Exec(ctx, fmt.Sprintf("INSERT INTO capture_stats (ts, venue, counter) VALUES (%s, 'v', 'c')", qdb.FormatTime(ts))); err != nil {
		t.Fatal(err)
	}
	if err := db.Exec(ctx, fmt.Sprintf("INSERT INTO trades (ts, venue, symbol) VALUES (%s, 'v', 's')", qdb.FormatTime(ts))); err != nil {
		t.Fatal(err)
	}
	d := New(Options{NowNs: func() int64 { return ts }}, nil, nil)
	there, not := AckedRow{"trades", "v", "s", ts}, AckedRow{"trades", "v", "s", ts + 1}
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		missing, err := d.missing(ctx, db, []AckedRow{there, not})
		if err != nil {
			t.Fatal(err)
		}
		if len(missing) == 1 && missing[0] == not {
			return
		}
		if time.Since(began) > 20*time.Second {
			t.Fatalf("missing: %v", missing)
		}
	}
}
