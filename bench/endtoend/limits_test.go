package endtoend

import (
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// segments of a journal by name, in order.
func (v *venue) segments() []string {
	v.t.Helper()
	names, err := filepath.Glob(filepath.Join(v.journal, "*.dtj"))
	if err != nil {
		v.t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// terminate is what a service manager does: the process must end promptly.
func (p *process) terminate() (code int) {
	p.t.Helper()
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	code = p.wait(30 * time.Second)
	if took := time.Since(began); took > promptly {
		p.t.Errorf("%s needed %s to end", p.name, took)
	}
	return code
}

func (a *agent) losesFrames(within time.Duration) {
	a.t.Helper()
	for began := time.Now(); a.status().Feeds[0].LostFrames == 0; time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > within {
			a.t.Fatalf("no frame lost after %s: %+v", within, a.status())
		}
	}
}

// isRecorded checks what is stored of each symbol, and that the coverage of the
// book has gaps of these causes.
func (m *market) isRecorded(t *testing.T, db database, causes string) {
	t.Helper()
	for _, symbol := range m.names {
		s := db.read(t, symbol)
		s.depth = m.depth
		r := s.walk(m.symbol[symbol].diffs, func(id int64) []level { return m.snapshotAt(t, symbol, id) }, func(bookMessage, *slowBook) {})
		var got []string
		for _, x := range s.coverage["book"] {
			if x.state == "gap" && (len(got) == 0 || got[len(got)-1] != x.cause) {
				got = append(got, x.cause)
			}
		}
		if strings.Join(got, " ") != causes || r.diffs == 0 {
			t.Errorf("%s: coverage of the book: %s; want gaps of the causes %s; %d depth events", symbol, s.states("book"), causes, r.diffs)
		}
		s.checkTrades(m.symbol[symbol].trades)
		s.checkQuotes(m.symbol[symbol].quotes)
	}
}

// TestJournalLimits: a journal that has reached journal.max, or the end of its disk,
// gives up what QuestDB has acknowledged, and nothing else. What it cannot take is
// lost, counted, and called a gap; it goes on by itself; a stop ends within 10 s.
func TestJournalLimits(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	if race {
		t.Skip("TestKilled is what the race detector sees of this")
	}
	t.Parallel()
	t.Run("max", func(t *testing.T) { share(t, works, 50*time.Second); journalMax(t, emptyDatabase(t)) })
	t.Run("disk", func(t *testing.T) { share(t, works, 50*time.Second); journalDisk(t, emptyDatabase(t)) })
}

// limitedMarket makes a megabyte of journal every few seconds.
func limitedMarket(t *testing.T, seed uint64, symbols ...string) (*market, *venue) {
	t.Helper()
	const length = 90 * time.Minute // nobody waits for its end
	m := newMarket(t, seed, length, symbols...)
	m.depth = 1000
	v := startVenue(t, t.TempDir(), "binance:"+strings.Join(symbols, ","), "--seed", itoa(int64(seed)), "--start", marketStart, "--speed", "25", "--for", length.String())
	v.configure("    depth: 1000\n")
	return m, v
}

func journalMax(t *testing.T, db database) {
	db.t = t
	proxy := startProxy(t, db.addr)
	m, v := limitedMarket(t, 23, "LIMUSDT", "ITSUSDT")
	v.configure("journal: {segment: 1MiB, max: 3MiB}\n")
	a := startAgent(t, v, proxy.database())
	a.recordFor(time.Second)

	// QuestDB acknowledges: old segments go.
	first := v.segments()[0]
	for began := time.Now(); v.segments()[0] == first; time.Sleep(100 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatalf("nothing has gone after a minute: %q, %+v", v.segments(), a.status())
		}
	}
	if st := a.status(); st.Frames["lost"] != 0 || st.LedgerDifference != 0 {
		t.Errorf("frames are lost, and QuestDB is there: %+v", st)
	}
	a.isWell(patience)
	a.terminate()
	a = startAgent(t, v, proxy.database())
	a.recordFor(time.Second)

	// QuestDB is away: nothing goes, and in the end the journal takes nothing more.
	proxy.isAway(true)
	a.isIll("questdb", promptly, "deeptape db start")
	a.isIll("journal", time.Minute, "journal.max", "has not acknowledged", "deeptape db start")
	a.losesFrames(patience)
	full := v.segments()
	time.Sleep(3 * time.Second)
	if now := v.segments(); full[0] != now[0] || len(now) != len(full) {
		t.Errorf("a full journal had the segments %q, and then %q", full, now)
	}
	proxy.isAway(false)
	a.isWell(patience)
	a.recordFor(time.Second)
	if st := a.status(); st.LedgerDifference != 0 {
		t.Errorf("ledger: %+v", st)
	}

	// Once more, and it is stopped then: the next run delivers.
	proxy.isAway(true)
	a.isIll("journal", time.Minute, "journal.max")
	if code := a.terminate(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	proxy.isAway(false)
	a = startAgent(t, v, proxy.database())
	a.allAcked(time.Minute)
	a.recordFor(time.Second)
	a.isWell(patience)
	if code := a.terminate(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	m.isRecorded(t, db, "start stop backpressure stop")
	v.verify(t, db)
}

func journalDisk(t *testing.T, db database) {
	db.t = t
	m, v := limitedMarket(t, 29, "DISUSDT", "SKKUSDT")
	tmpfs(t, v.journal, "320m")
	a := startAgent(t, v, db)
	a.recordFor(time.Second)
	a.isWell(patience)

	ballast(t, v.journal, 100<<20) // less is left than is kept free
	a.isIll("journal", promptly, "disk is full", "until there is room")
	a.losesFrames(patience)
	unballast(t, v.journal)
	a.isWell(patience)
	a.recordFor(time.Second)
	if st := a.status(); st.LedgerDifference != 0 {
		t.Errorf("ledger: %+v", st)
	}

	ballast(t, v.journal, 0) // nothing is left: writes fail
	a.isIll("journal", promptly, "no space left|disk is full")
	if code := a.terminate(); code > 1 {
		t.Errorf("exit code %d", code)
	}
	unballast(t, v.journal)
	a = startAgent(t, v, db)
	a.allAcked(time.Minute)
	a.recordFor(time.Second)
	a.isWell(patience)
	if code := a.terminate(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	m.isRecorded(t, db, "start backpressure stop")
	v.verify(t, db)
}

// TestHangUp: a terminal that closes is an orderly stop, not a death: what came in is
// delivered, and the record ends with a stop. nohup keeps the signal away.
func TestHangUp(t *testing.T) {
	share(t, waits, 8*time.Second)
	// Where the tests run under nohup the agent would be left alone, too: what a process
	// ignores its children ignore, and what it handles they do not.
	hangUps := make(chan os.Signal, 1)
	signal.Notify(hangUps, syscall.SIGHUP)
	defer signal.Stop(hangUps)
	db := emptyDatabase(t)
	v := startVenue(t, t.TempDir(), "kraken:BTC/USD", "--seed", "6")
	a := startAgent(t, v, db)
	a.recordFor(2 * time.Second)
	if err := a.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if code := a.wait(patience); code != 0 || !strings.Contains(a.errout.String(), "nothing is left to deliver") {
		t.Errorf("it ended with %d:\n%s", code, tail(a.errout.String()))
	}
	v.verify(t, db)
}
