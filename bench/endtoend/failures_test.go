package endtoend

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"deeptape/cmd/localdb"
	"deeptape/cmd/localdb/dbtest"
)

// ownServer is a QuestDB with a server.conf of ours.
type ownServer struct {
	t   *testing.T
	dir string
	localdb.Info
}

func (s *ownServer) start(conf string) {
	s.t.Helper()
	file := filepath.Join(s.dir, "conf", "server.conf")
	err := os.MkdirAll(filepath.Dir(file), 0o755)
	if err == nil {
		err = os.WriteFile(file, []byte(conf), 0o644)
	}
	if err == nil {
		s.Info, err = localdb.Start(context.Background(), s.dir, localdb.Options{})
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *ownServer) stop() {
	s.t.Helper()
	if _, err := localdb.Stop(s.dir); err != nil {
		s.t.Fatal(err)
	}
}

func (s *ownServer) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(s.PID, sig); err != nil {
		s.t.Fatal(err)
	}
}

// once returns a trick that is played on the first batch of a table, and a channel
// that is closed then.
func once(table string, trick func(w *written)) (func(w *written), chan struct{}) {
	done := make(chan struct{})
	return func(w *written) {
		select {
		case <-done:
		default:
			if bytes.HasPrefix(w.body, []byte(table+",")) {
				trick(w)
				close(done)
			}
		}
	}, done
}

func await(t *testing.T, what string, done chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s has not happened within %s", what, patience)
	}
}

// TestFailures goes through what a QuestDB can do to an agent, one after the other
// under one load. Each is told of promptly with what heals it, and in the end every
// row is there, once.
func TestFailures(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	if race {
		t.Skip("TestKilled is what the race detector sees of this")
	}
	share(t, waits, 68*time.Second)
	const develop = "dev.mode.enabled=true\n" // else it refuses to suspend a table
	server := &ownServer{t: t, dir: dbtest.Dir(t)}
	server.start(develop)
	db := database{t, server.HTTP}
	proxy := startProxy(t, server.HTTP)
	symbols := []string{"FAIUSDT", "LUREUSDT"}
	const length = 40 * time.Minute // nobody waits for its end
	m := newMarket(t, 19, length, symbols...)
	v := startVenue(t, t.TempDir(), "binance:"+strings.Join(symbols, ","), "--seed", "19", "--start", marketStart, "--speed", "8", "--for", length.String())
	a := startAgent(t, v, proxy.database())
	a.recordFor(500 * time.Millisecond)

	step := func(what string, f func()) {
		began := time.Now()
		f()
		if st := a.status(); st.LedgerDifference != 0 || st.Frames["lost"] != 0 {
			t.Errorf("%s: ledger: %+v", what, st)
		}
		t.Logf("%s: %s", what, time.Since(began).Round(100*time.Millisecond))
	}
	step("killed in a flush, then refused", func() {
		trick, done := once("book_delta", func(w *written) {
			w.half = func() { server.signal(syscall.SIGKILL) }
		})
		proxy.writes(trick)
		await(t, "a flush", done)
		a.isIll("questdb", promptly, "deeptape db start")
		server.start(develop)
		a.isWell(patience)
	})
	step("the answer is lost after the commit", func() {
		for _, table := range rowTables {
			trick, done := once(table, func(w *written) { w.cut = true })
			proxy.writes(trick)
			await(t, "a batch of "+table, done)
		}
		a.isWell(patience)
	})
	step("it takes no writes", func() {
		server.stop()
		server.start(develop + "readonly=true\n")
		a.isIll("questdb", promptly, "(?i)read.?only", "restart")
		server.stop()
		server.start(develop)
		a.isWell(patience)
	})
	step("a table is suspended", func() {
		// A table that is being written at that moment forgets it at the end.
		for suspended := false; !suspended; {
			db.exec("ALTER TABLE quotes SUSPEND WAL")
			time.Sleep(300 * time.Millisecond)
			suspended = db.export("SELECT suspended FROM wal_tables() WHERE name = 'quotes'")[0]["suspended"] == "true"
		}
		a.isIll("questdb", promptly, "quotes is suspended", "ALTER TABLE quotes RESUME WAL")
		db.exec("ALTER TABLE quotes RESUME WAL")
		a.isWell(patience)
	})
	step("it hangs", func() {
		server.signal(syscall.SIGSTOP)
		a.isIll("questdb", promptly, "acknowledged nothing for", "deeptape db start")
		server.signal(syscall.SIGCONT)
		a.isWell(patience)
	})
	step("a table is dropped", func() {
		db.exec("DROP TABLE quotes")
		// The agent makes it again and goes on writing there; what it had is still missing.
		a.isIll("questdb", time.Minute, "lacks rows that it has acknowledged", "quotes of ", "deeptape replay --journal ")
		run(t, 0, nil, "schema", "--check", "--questdb", db.conf())
		run(t, 0, nil, "replay", "--journal", v.journal, "--questdb", db.conf())
		a.isWell(time.Minute)
	})
	bad := ""
	step("it refuses a row", func() {
		// Wherever this row comes, its px is no number.
		proxy.writes(func(w *written) {
			rows := bytes.SplitAfter(w.body, []byte("\n"))
			if bad == "" && bytes.HasPrefix(w.body, []byte("trades,")) {
				bad = string(rows[len(rows)/2-1])
			}
			if bad != "" {
				w.body = bytes.Replace(w.body, []byte(bad), []byte(strings.Replace(bad, "px=", "px=x", 1)), 1)
			}
		})
		a.isIll("questdb", promptly, "1 rows that it refused are in quarantine", "deeptape replay --journal .* --from ")
	})
	// The ledger has it when the rest of its batch is stored.
	for began := time.Now(); a.status().Rows["trades"].Quarantined != 1; time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatalf("quarantine: %+v", a.status())
		}
	}
	text, err := os.ReadFile(filepath.Join(v.journal, "quarantine", "trades.ilp"))
	if lines := strings.Split(string(text), "\n"); err != nil || len(lines) != 3 || !strings.Contains(lines[0], "refused: ") || lines[1]+"\n" != bad {
		t.Errorf("quarantine (%v):\n%s\nwant one row, with the reason before it:\n%s", err, text, bad)
	}
	a.interrupt()
	db.applied()
	count := func() int64 { return db.export("SELECT count() n FROM trades")[0].int(t, "n") }
	n := count()
	// The journal has the bad row.
	run(t, 0, nil, "replay", "--journal", v.journal, "--questdb", db.conf())
	db.applied()
	if again := count(); again != n+1 {
		t.Errorf("%d trades, %d after a replay: not all but the bad one were there", n, again)
	}
	checkWhole(t, db, m, symbols)
	v.verify(t, db)
}

// checkWhole: every message of the market is stored once, in one verified interval.
func checkWhole(t *testing.T, db database, m *market, symbols []string) {
	t.Helper()
	for _, symbol := range symbols {
		s := db.read(t, symbol)
		r := s.walk(m.symbol[symbol].diffs, func(id int64) []level { return m.snapshotAt(t, symbol, id) }, func(bookMessage, *slowBook) {})
		trades, noTrades := s.checkTrades(m.symbol[symbol].trades)
		quotes, noQuotes := s.checkQuotes(m.symbol[symbol].quotes)
		if s.states("book") != whole || r.snapshots != 1 || noTrades > 0 || noQuotes > 0 || trades == 0 || quotes == 0 {
			t.Errorf("%s: coverage of the book %s, %d snapshots; of %d trades and %d quotes %d and %d are missing", symbol, s.states("book"), r.snapshots, trades, quotes, noTrades, noQuotes)
		}
	}
}
