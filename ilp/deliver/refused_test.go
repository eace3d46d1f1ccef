package deliver

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"deeptape/hotpath/event"
)

// A row that the database refuses, and names, goes into quarantine with the reason; its
// neighbours are stored.
func TestPoison(t *testing.T) {
	r := newRig(t, 7, rigOptions{feeds: 2, inputs: 600, lane: smallLane})
	want := r.poisonSome(61)
	r.run(0, false)
	total := 0
	for table, n := range want {
		total += n
		text, err := os.ReadFile(filepath.Join(r.dir, table+".ilp"))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(text), "refused: line protocol value: 40000 is out bounds of column type: SHORT\n"+table+","); got != n {
			t.Errorf("%s: %d rows in quarantine, want %d:\n%s", table, got, n, text)
		}
		for k := range r.db.poison {
			if k.table == table && !strings.Contains(string(text), fmt.Sprintf(" %d\n", k.ts)) {
				t.Errorf("%s: the row of %d is not in quarantine", table, k.ts)
			}
		}
	}
	if len(want) != int(event.NumBulkTables) {
		t.Errorf("only %v have poison", want)
	}
	if got := r.d.Stats.Quarantined.Load(); got != uint64(total) {
		t.Errorf("%d rows counted, want %d", got, total)
	}
	// Per lane as well: the ledger knows whose they were.
	for _, f := range r.feeds {
		for table, c := range f.l.Rows.Read() {
			n := uint64(0)
			for k := range r.db.poison {
				if k.table == event.Table(table).String() && strings.HasPrefix(k.symbol, fmt.Sprintf("F%d", f.l.Feed)) {
					n++
				}
			}
			if c.Quarantined != n {
				t.Errorf("feed %d, %s: %d in quarantine, want %d", f.l.Feed, event.Table(table).String(), c.Quarantined, n)
			}
		}
	}
}

// So it is with rows of coverage and instruments: none keeps the others waiting, and
// the ledger knows them.
func TestPoisonLowRate(t *testing.T) {
	r := newRig(t, 18, rigOptions{feeds: 2, inputs: 600, lane: smallLane})
	// Every fifth record's row, and all states of it.
	low := map[event.Table]bool{event.TableCoverage: true, event.TableInstruments: true}
	seen := 0
	each := func(visit func(feed int, rec testRecord)) {
		for i, f := range r.feeds {
			for _, recs := range f.inputs {
				for _, rec := range recs {
					if low[rec.table] {
						visit(i, rec)
					}
				}
			}
		}
	}
	each(func(_ int, rec testRecord) {
		if seen++; seen%5 == 0 {
			r.db.poison[rec.rows[0].key] = true
		}
	})
	var want [2][event.NumTables]uint64 // records
	each(func(feed int, rec testRecord) {
		if r.db.poison[rec.rows[0].key] {
			want[feed][rec.table]++
		}
	})
	r.run(0, false)
	for i, f := range r.feeds {
		for table, c := range f.l.Rows.Read() {
			if c.Quarantined != want[i][table] {
				t.Errorf("feed %d, %s: %d records in quarantine, want %d", i, event.Table(table).String(), c.Quarantined, want[i][table])
			}
		}
	}
	for _, table := range []string{"coverage", "instruments"} {
		text, err := os.ReadFile(filepath.Join(r.dir, table+".ilp"))
		if err != nil {
			t.Fatal(err)
		}
		for k := range r.db.poison {
			if k.table == table && !strings.Contains(string(text), fmt.Sprintf("out bounds of column type: SHORT\n%s,venue=sim,symbol=%s,", table, k.symbol)) {
				t.Errorf("%+v is not in quarantine", k)
			}
		}
	}
	if text, _ := r.d.Health.Trouble(); text != "" {
		t.Errorf("trouble at the end: %s", text)
	}
}

// A batch that is too large for the server is cut.
func TestTooLarge(t *testing.T) {
	r := newRig(t, 8, rigOptions{feeds: 1, inputs: 500, lane: smallLane})
	r.db.maxBody = 3000
	r.run(0, false)
	if n := r.d.Stats.Quarantined.Load(); n != 0 {
		t.Errorf("%d rows in quarantine", n)
	}
}

// What somebody before QuestDB answers condemns no row: all are kept, it is told, and when
// QuestDB answers again all are stored. Before, 400 and 413 sent every row into quarantine.
func TestForeignAnswers(t *testing.T) {
	for name, answer := range map[string]struct {
		status int
		body   string
	}{
		"html":      {400, "<html>Bad Request</html>"},
		"cut":       {400, `{"code":"invalid","message":"error in line 1: ta`},
		"no line":   {400, `{"code":"invalid","message":"bad"}`},
		"elsewhere": {400, `{"code":"invalid","message":"bad","line":999999}`},
		"too large": {413, ""},
		"redirect":  {302, ""},
		"not 204":   {200, "welcome"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 27, rigOptions{feeds: 1, inputs: 300, lane: smallLane})
			r.db.foreign, r.db.foreignBody = answer.status, answer.body
			told := make(chan string, 1)
			go func() {
				defer r.db.set(func() { r.db.foreign = 0 })
				for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(time.Millisecond) {
					if text, _ := r.d.Health.Trouble(); text != "" {
						time.Sleep(100 * time.Millisecond) // some retries
						told <- text
						return
					}
				}
				told <- ""
			}()
			r.run(0, false)
			if <-told == "" {
				t.Error("nothing was told")
			}
			if n := r.d.Stats.Quarantined.Load(); n != 0 {
				t.Errorf("%d rows in quarantine", n)
			}
		})
	}
}

// Many rows that are refused have a cause in common: after some within a minute delivery
// stops and says what goes on; it does when that cause is mended, and all are stored.
func TestQuarantineFlood(t *testing.T) {
	r := newRig(t, 28, rigOptions{feeds: 1, inputs: 600, lane: smallLane, opt: Options{QuarantineMost: 5}})
	r.poisonSome(7)
	stopped := func() bool {
		text, _ := r.d.Health.Trouble()
		return strings.Contains(text, "delivery has stopped") && strings.Contains(text, "`quarantine`")
	}
	found := make(chan bool, 1)
	go func() {
		began := time.Now()
		for !stopped() && time.Since(began) < 10*time.Second {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(50 * time.Millisecond)
		found <- stopped()
		r.db.set(func() { r.db.mended = true })
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	delivered := make(chan error, 1)
	go func() { delivered <- r.d.Run(ctx) }()
	r.feeds[0].run(r.seed, r.bell, 0)
	r.d.Stop()
	if err := <-delivered; err != nil {
		t.Error(err)
	}
	if !<-found {
		t.Error("delivery did not stop")
	}
	if n := r.d.Stats.Quarantined.Load(); n != 5 {
		t.Errorf("%d rows in quarantine, want 5", n)
	}
}

// A table of the wrong shape is no fault of the rows: nothing is quarantined, the
// trouble names the command, and delivery goes on when it is mended.
func TestSchema(t *testing.T) {
	var prepared atomic.Int64
	r := newRig(t, 9, rigOptions{feeds: 1, inputs: 300, lane: smallLane, opt: Options{Prepare: func(context.Context) error { prepared.Add(1); return nil }}})
	r.db.schema["trades"] = math.MaxInt // until it was told
	var told atomic.Bool
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			default:
				if text, since := r.d.Health.Trouble(); strings.Contains(text, "table does not exist") && strings.Contains(text, "`deeptape schema --check`") && strings.Contains(text, "trades") && since > 0 {
					told.Store(true)
					r.db.set(func() { r.db.schema["trades"] = 0 })
				}
				time.Sleep(time.Millisecond)
			}
		}
	}()
	r.run(0, false)
	if !told.Load() {
		t.Error("no trouble was told")
	}
	if prepared.Load() < 2 {
		t.Error("a table is not there, and nobody has made it again")
	}
	if n := r.d.Stats.Quarantined.Load(); n != 0 {
		t.Errorf("%d rows in quarantine", n)
	}
	if text, _ := r.d.Health.Trouble(); text != "" {
		t.Errorf("trouble at the end: %s", text)
	}
}
