package endtoend

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"deeptape/cmd/localdb"
	"deeptape/cmd/localdb/dbtest"
)

// TestStopWithDatabaseAway: nobody waits for a QuestDB that is not there.
func TestStopWithDatabaseAway(t *testing.T) {
	share(t, waits, 3*time.Second)
	v := startVenue(t, t.TempDir(), "binance:STPUSDT", "--seed", "14", "--start", marketStart, "--for", "1m")
	a := startAgent(t, v, database{t, "127.0.0.1:1"})
	a.recordFor(2 * time.Second)
	began := time.Now()
	a.interrupt()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("the stop took %s, and QuestDB was away all the time", took)
	}
	if said := a.errout.String(); !strings.Contains(said, "the next capture delivers them") {
		t.Errorf("the agent does not say what becomes of its rows:\n%s", tail(said))
	}
}

// TestDatabaseAway: QuestDB is killed in the middle and comes back. Recording goes
// on without it, and in the end every row is there, once.
func TestDatabaseAway(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some twenty seconds")
	}
	share(t, works, 25*time.Second)
	info := dbtest.StartOwn(t)
	db := database{t, info.HTTP}
	const length = 20 * time.Minute // nobody waits for its end
	symbols := []string{"AWAUSDT", "YYYUSDT"}
	m := newMarket(t, 13, length, symbols...)
	speed := "20"
	if race { // the agent is several times slower then
		speed = "4"
	}
	v := startVenue(t, t.TempDir(), "binance:"+strings.Join(symbols, ","), "--seed", "13", "--start", marketStart, "--speed", speed, "--for", length.String())
	a := startAgent(t, v, db)
	a.recordFor(time.Second)
	if err := syscall.Kill(info.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	time.Sleep(4 * time.Second)
	away := a.status()
	if away.LagInputs == 0 || len(away.Troubles) == 0 {
		t.Errorf("QuestDB is away, and the status says %+v", away)
	}
	if _, err := localdb.Start(context.Background(), info.Dir, localdb.Options{}); err != nil {
		t.Fatal(err)
	}
	// Only an agent that knows of the database again waits for it at its stop, and the
	// rows that a stop leaves to the journal would be missing below.
	st := a.status()
	for began := time.Now(); len(st.Troubles) > 0 || st.LagInputs > 2000; st = a.status() {
		if time.Since(began) > 3*time.Minute {
			t.Fatalf("three minutes after QuestDB is back: %+v", st)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if st.LedgerDifference != 0 || st.Frames["lost"] != 0 {
		t.Errorf("ledger: %+v", st)
	}
	if st.Frames["received"] <= away.Frames["received"] {
		t.Errorf("the agent does not record: %d frames, %d a while ago", st.Frames["received"], away.Frames["received"])
	}
	a.interrupt()
	for _, symbol := range symbols {
		s := db.read(t, symbol)
		r := s.walk(m.symbol[symbol].diffs, func(id int64) []level { return m.snapshotAt(t, symbol, id) }, func(bookMessage, *slowBook) {})
		if s.states("book") != whole || r.snapshots != 1 || r.diffs == 0 {
			t.Errorf("%s: coverage of the book: %s; %d snapshots, %d depth events", symbol, s.states("book"), r.snapshots, r.diffs)
		}
		trades, noTrades := s.checkTrades(m.symbol[symbol].trades)
		quotes, noQuotes := s.checkQuotes(m.symbol[symbol].quotes)
		if trades == 0 || quotes == 0 || noTrades > 0 || noQuotes > 0 {
			t.Errorf("%s: %d trades and %d quotes, %d and %d are missing", symbol, trades, quotes, noTrades, noQuotes)
		}
	}
	v.verify(t, db)
}
