package endtoend

import (
	"context"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"deeptape/cmd/localdb"
	"deeptape/cmd/localdb/dbtest"
)

// smallRings makes rows find no room soon.
const smallRings = "rings: {inputs: 1MiB, rows: 1MiB}\n"

// configure adds to the configuration.
func (v *venue) configure(text string) {
	v.t.Helper()
	f, err := os.OpenFile(v.conf, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(text)
		f.Close()
	}
	if err != nil {
		v.t.Fatal(err)
	}
}

func getText(t *testing.T, url string) (status int, body string) {
	t.Helper()
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(text)
}

// isIll waits until /healthz, /status.json and /metrics tell of a trouble whose text
// all of these match.
func (a *agent) isIll(part string, within time.Duration, res ...string) {
	a.t.Helper()
	metric := regexp.MustCompile(`(?m)^deeptape_troubles\{part="` + part + `"\} [1-9]`)
	all := func(text string) bool {
		for _, re := range res {
			if !regexp.MustCompile(re).MatchString(text) {
				return false
			}
		}
		return true
	}
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		code, health := getText(a.t, a.url+"/healthz")
		troubles := strings.Join(a.status().Troubles, "\n")
		_, metrics := getText(a.t, a.url+"/metrics")
		counted := metric.MatchString(metrics)
		if code == http.StatusServiceUnavailable && all(health) && all(troubles) && counted {
			return
		}
		if time.Since(began) > within {
			a.t.Fatalf("after %s none or not all tell of %q (counted: %v):\n/healthz %d %s\n/status.json %s", within, res, counted, code, health, troubles)
		}
	}
}

func (a *agent) isWell(within time.Duration) {
	a.t.Helper()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		code, health := getText(a.t, a.url+"/healthz")
		if code == http.StatusOK {
			return
		}
		if time.Since(began) > within {
			a.t.Fatalf("not healthy after %s: %d %s", within, code, health)
		}
	}
}

// peakMiB is the most memory that the process has had.
func (p *process) peakMiB() int {
	p.t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	if err != nil {
		p.t.Skipf("cannot tell how much memory a process has: %v", err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		p.t.Fatalf("no VmHWM in %s", text)
	}
	kB, _ := strconv.Atoi(string(m[1]))
	return kB >> 10
}

func (st agentStatus) deferred() (n int64) {
	for _, r := range st.Rows {
		n += r.Deferred
	}
	return n
}

// TestOutage: QuestDB is killed in the middle of a fast market and is away for 20 s.
// The rows that find no room are derived from the journal when it is back: none is
// lost, none is there twice, memory stays bounded.
func TestOutage(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	if race {
		t.Skip("TestKilled is what the race detector sees of this")
	}
	path := recording(t, "binance/spot_btcusdt_20240808_full.jsonl.gz")
	share(t, works, 68*time.Second)
	const away = 20 * time.Second
	want := readRecording(t, path)["BTCUSDT"]
	info := dbtest.StartOwn(t)
	db := database{t, info.HTTP}
	v := startVenue(t, t.TempDir(), "--file", "binance:"+path, "--speed", "15")
	v.configure(smallRings)
	a := startAgent(t, v, db)
	a.recordFor(2 * time.Second)
	a.isWell(patience)
	if err := syscall.Kill(info.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	a.isIll("questdb", promptly, "^questdb: ", "deeptape db start")
	deferred := int64(0)
	for time.Since(killed) < away {
		st := a.status()
		if deferred = max(deferred, st.deferred()); st.LedgerDifference != 0 {
			t.Errorf("ledger: %+v", st)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if _, err := localdb.Start(context.Background(), info.Dir, localdb.Options{}); err != nil {
		t.Fatal(err)
	}
	deferred = max(deferred, a.status().deferred())
	a.isWell(patience)
	st := drained(t, v, a, 2*time.Minute)
	st.sound(t)
	if st.deferred() != 0 || deferred < 100_000 {
		t.Errorf("%d rows were deferred at once, want 100,000; %d are still", deferred, st.deferred())
	}
	peak := a.peakMiB()
	if peak >= 300 {
		t.Errorf("the agent took %d MiB, want less than 300", peak)
	}
	a.interrupt()
	t.Logf("%d rows deferred at once, %d MiB at most", deferred, peak)

	s := db.read(t, "BTCUSDT")
	r := s.walk(want.diffs, func(id int64) []level {
		if id == want.snapshots[0].id {
			return want.snapshots[0].levels
		}
		return nil
	}, func(bookMessage, *slowBook) {})
	if s.states("book") != whole || r.snapshots != 1 || r.lastID != want.diffs[len(want.diffs)-1].last {
		t.Errorf("book: coverage %s; %d snapshots, %d depth events, the last %d", s.states("book"), r.snapshots, r.diffs, r.lastID)
	}
	trades, noTrades := s.checkTrades(want.trades)
	quotes, noQuotes := s.checkQuotes(want.quotes)
	if noTrades > 0 || noQuotes > 0 || s.trades[trades-1].trade != want.trades[len(want.trades)-1] || s.quotes[quotes-1].quote != want.quotes[len(want.quotes)-1] {
		t.Errorf("of %d trades and %d quotes stored %d and %d are missing in between, or the last is", trades, quotes, noTrades, noQuotes)
	}
	v.verify(t, db)
}
