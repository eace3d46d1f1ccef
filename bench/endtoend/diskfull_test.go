package endtoend

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"deeptape/cmd/localdb"
	"deeptape/cmd/localdb/dbtest"
)

// smallPages let QuestDB live on a small disk: it allocates a page for each column
// of each table. A page of the WAL is left as large as it is, so that QuestDB goes on
// taking rows for a while that it cannot apply.
const smallPages = "cairo.writer.data.append.page.size=64K\ncairo.writer.data.index.value.append.page.size=64K\n"

var resumes = regexp.MustCompile(`ALTER TABLE \w+ RESUME WAL`)

// healing is what the agent says is to be done.
func (a *agent) healing() (commands []string) {
	a.t.Helper()
	for _, trouble := range a.status().Troubles {
		commands = append(commands, resumes.FindAllString(trouble, -1)...)
	}
	return commands
}

func (db database) suspended() (names []string) {
	db.t.Helper()
	for _, r := range db.export("SELECT name, suspended FROM wal_tables()") {
		if r["suspended"] == "true" {
			names = append(names, r["name"])
		}
	}
	return names
}

// TestDiskFull: the disk of QuestDB is full. It answers 204 and then suspends tables,
// or answers 500; the agent names the tables and the command that heals each of
// them. Nothing but these commands is needed when there is room again, and then
// every row is there, once.
func TestDiskFull(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	if race {
		t.Skip("TestKilled is what the race detector sees of this")
	}
	share(t, waits, 24*time.Second)
	server := &ownServer{t: t, dir: dbtest.Dir(t)}
	tmpfs(t, server.dir, "320m")
	t.Cleanup(func() { // the file that says which process it is goes with the disk
		if _, err := localdb.Stop(server.dir); err != nil {
			t.Error(err)
		}
	})
	server.start(smallPages)
	db := database{t, server.HTTP}
	const length = 40 * time.Minute // nobody waits for its end
	symbols := []string{"FULUSDT", "DSKUSDT"}
	m := newMarket(t, 37, length, symbols...)
	v := startVenue(t, t.TempDir(), "binance:"+strings.Join(symbols, ","), "--seed", "37", "--start", marketStart, "--speed", "8", "--for", length.String())
	a := startAgent(t, v, db)
	a.recordFor(time.Second)
	a.isWell(patience)

	// heal makes room, does what the agent says, and nothing else.
	heal := func() (done []string) {
		unballast(t, server.dir)
		for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
			if code, _ := getText(t, a.url+"/healthz"); code == http.StatusOK {
				return done
			}
			for _, command := range a.healing() {
				name := strings.Fields(command)[2]
				if slices.Contains(db.suspended(), name) { // the agent asks every two seconds
					db.exec(command)
					done = append(done, command)
				}
			}
			if time.Since(began) > time.Minute {
				t.Fatalf("not healthy a minute after %q: %q", done, a.status().Troubles)
			}
		}
	}
	// If the WAL finds no room sooner than a table does, everything is answered 500
	// and there is nothing left to apply: then it is filled once more.
	var names []string
	for try := 1; len(names) == 0; try++ {
		if try > 5 {
			t.Fatalf("no table is suspended on a full disk: %+v", a.status())
		}
		if try > 1 {
			heal()
		}
		ballast(t, server.dir, 0)
		for full := time.Now(); len(names) == 0 && time.Since(full) < 10*time.Second; time.Sleep(50 * time.Millisecond) {
			names = db.suspended()
		}
	}
	began := time.Now()
	told := func() {
		for _, name := range names {
			a.isIll("questdb", patience, "table "+name+" is suspended", "ALTER TABLE "+name+" RESUME WAL")
		}
	}
	told()
	t.Logf("%q suspended: told within %s", names, time.Since(began).Round(100*time.Millisecond))
	// A batch is answered 500, too. Meanwhile there may be more tables.
	a.isIll("questdb", patience, "make room on the database's disk")
	names = db.suspended()
	told()
	done := heal()
	t.Logf("healed by %q", done)
	for _, name := range names {
		if !slices.Contains(done, "ALTER TABLE "+name+" RESUME WAL") {
			t.Errorf("table %s was suspended, and %q was all that was done", name, done)
		}
	}
	a.recordFor(time.Second)
	a.allAcked(time.Minute)
	if st := a.status(); st.LedgerDifference != 0 || st.Frames["lost"] != 0 {
		t.Errorf("ledger: %+v", st)
	}
	a.interrupt()
	db.applied()
	checkWhole(t, db, m, symbols)
	v.verify(t, db)
	// Of book_depth, whose batches are the first answered 500, a replay is the judge.
	depth := func() string { return db.get("/exp", "SELECT * FROM book_depth ORDER BY ts, venue, symbol") }
	live := depth()
	checkReplay(t, db, v)
	if again := depth(); again != live || strings.Count(live, "\n") < 2 {
		t.Errorf("book_depth: %d lines live, %d replayed, or they differ", strings.Count(live, "\n"), strings.Count(again, "\n"))
	}
}
