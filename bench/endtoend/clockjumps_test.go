package endtoend

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"testing"
	"time"

	"deeptape/cmd/localdb/dbtest"
)

// TestClockJumps: the wall clock is put forward by an hour and back by two while the real
// binary records, and by another hour between two of its lives. Within a life stamps are
// carried by the steady clock, so no jump is seen; a life whose clock is behind the last row
// goes on one nanosecond after it.
//
// A static binary asks the kernel for the time, and no library between them can be put
// another in its place. So qemu-user runs the binary, and libfaketime tells qemu the time.
func TestClockJumps(t *testing.T) {
	if race {
		t.Skip("the race detector does not run in an emulator")
	}
	emulator, err := exec.LookPath("qemu-" + map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH])
	libraries, _ := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	if err != nil || len(libraries) == 0 {
		t.Skip("needs qemu-user and libfaketime")
	}
	share(t, works, time.Minute)
	db := database{t, dbtest.Start(t)}
	const symbol = "CLKUSDT"
	v := startVenue(t, t.TempDir(), "binance:"+symbol, "--seed", "37", "--for", "10m")
	clock := filepath.Join(t.TempDir(), "clock")
	ahead := func(by string) {
		t.Helper()
		if err := os.WriteFile(clock, []byte(by+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	live := func() *agent {
		t.Helper()
		args := []string{"capture", "-c", v.conf, "--journal", v.journal, "--questdb", db.conf(), "--listen", "127.0.0.1:0"}
		cmd := exec.Command("env", append([]string{
			"LD_PRELOAD=" + libraries[0], "FAKETIME_TIMESTAMP_FILE=" + clock, "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1",
			emulator, binary}, args...)...)
		a := &agent{process: startAs(t, nil, cmd, args...)}
		a.url = a.says(`url=(http://\S+)`, 2*time.Minute)
		return a
	}
	// hears waits until so many more frames have come.
	hears := func(a *agent, frames int64) {
		t.Helper()
		from := a.status().Frames["received"]
		for began := time.Now(); a.status().Frames["received"] < from+frames; time.Sleep(100 * time.Millisecond) {
			if time.Since(began) > patience {
				t.Fatalf("no more than %d frames came", a.status().Frames["received"]-from)
			}
		}
	}
	began := time.Now()
	ahead("+0")
	a := live()
	hears(a, 100)
	ahead("+3600")
	hears(a, 100)
	ahead("-3600")
	hears(a, 100)
	st := drainedNow(t, a)
	if st.LedgerDifference != 0 || len(st.Troubles) > 0 {
		t.Errorf("after the jumps: %+v", st)
	}
	a.interrupt()
	s := db.read(t, symbol)
	if s.states("book") != whole {
		t.Errorf("the clock jumped, and the coverage of the book is %s", s.states("book"))
	}
	first, last := s.book[0].firstNs, s.book[len(s.book)-1].lastNs
	if first < began.UnixNano() || last > time.Now().UnixNano() {
		t.Errorf("rows from %s to %s; the test began at %s", time.Unix(0, first), time.Unix(0, last), began)
	}

	a = live() // its clock is an hour behind the last row
	hears(a, 100)
	drainedNow(t, a)
	a.interrupt()
	said := regexp.MustCompile(`time=(\S+) `).FindStringSubmatch(a.errout.String())
	if told, err := time.Parse(time.RFC3339, said[1]); err != nil || time.Since(told) < 50*time.Minute {
		t.Fatalf("the agent's clock is not an hour behind: its log begins at %s (%v)", said[1], err)
	}
	s = db.read(t, symbol)
	if after := s.book[len(s.book)-1].lastNs; after <= last || after > last+int64(time.Minute) {
		t.Errorf("the last row of the first life is of %s, that of the second, whose clock is an hour behind, of %s", time.Unix(0, last), time.Unix(0, after))
	}
	v.verify(t, db)
}

// drainedNow waits until QuestDB has acknowledged all but what is on its way.
func drainedNow(t *testing.T, a *agent) agentStatus {
	t.Helper()
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		st := a.status()
		if st.LagInputs < 200 || time.Since(began) > patience {
			return st
		}
	}
}
