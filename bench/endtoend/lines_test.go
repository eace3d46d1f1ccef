package endtoend

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestLines: the BTCUSDT recording on connections that end. With a second line, or
// where the end was planned, nothing is missing.
func TestLines(t *testing.T) {
	if testing.Short() {
		t.Skip("takes two minutes")
	}
	t.Parallel()
	path := recording(t, "binance/spot_btcusdt_20240808_full.jsonl.gz")
	want := readRecording(t, path)["BTCUSDT"]
	// The cuts follow each other as the recording goes: a line must be back, and its
	// neighbour with it, before the next one. Under the race detector, beside others, that
	// has taken more than four seconds.
	speed, every := "12", 300
	if race {
		speed, every = "7", 600
	}
	var cuts []string
	for n := every; n <= 6000; n += every {
		cuts = append(cuts, fmt.Sprintf("disconnect-one@%d:BTCUSDT", n))
	}
	for _, c := range []struct {
		name, keys string
		speed      string // of ten minutes
		faults     []string
		ends       int // at least so many connections end
		takes      time.Duration
	}{
		{"two lines, cut by turns", "lines: 2", speed, cuts, 4, 70 * time.Second},
		{"planned", "reconnect_every: 5s", "7", nil, 12, 100 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			if race && c.name != "two lines, cut by turns" {
				t.Skip("one case is enough under the race detector")
			}
			share(t, works, c.takes)
			db := emptyDatabase(t)
			args := []string{"--file", "binance:" + path, "--speed", c.speed}
			if c.faults != nil {
				args = append(args, "--faults", strings.Join(c.faults, ","))
			}
			v := startVenue(t, t.TempDir(), args...)
			text := strings.Replace(v.out.String(), "rest_url:", c.keys+"\n    rest_url:", 1)
			if err := os.WriteFile(v.conf, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			a := startAgent(t, v, db)
			st := drained(t, v, a, 3*time.Minute)
			st.sound(t)
			if n := len(v.status().Struck); n != len(c.faults) {
				t.Errorf("%d faults have struck, want %d", n, len(c.faults))
			}
			said := a.errout.String()
			a.interrupt()
			got := db.read(t, "BTCUSDT")
			states := got.states("book")
			ended := strings.Count(said, "disconnected")
			if ended < c.ends {
				t.Errorf("only %d connections have ended", ended)
			}
			if states != whole {
				t.Errorf("coverage of the book: %s", states)
			}
			checkRecorded(t, got, want, 2000, 6493, 298_094)
			if n, missing := got.checkTrades(want.trades); missing != 0 || n != len(want.trades) {
				t.Errorf("%d trades of %d, %d missing", n, len(want.trades), missing)
			}
			t.Log(filepath.Base(path), c.name, states, ended, "connections have ended")
			v.verify(t, db)
		})
	}
}

// TestCuts: the BTCUSDT recording on one line that is cut twenty times, each time when
// the book is live again. What is missing is a gap, and nothing else is. The wait before
// a new connection doubles with each cut, up to half a minute, so the agent is started
// anew after every fourth.
func TestCuts(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	if race {
		t.Skip("TestLines is enough under the race detector")
	}
	const runs, each = 5, 4
	path := recording(t, "binance/spot_btcusdt_20240808_full.jsonl.gz")
	want := *readRecording(t, path)["BTCUSDT"]
	share(t, works, 44*time.Second)
	db := emptyDatabase(t)
	v := startVenue(t, t.TempDir(), "--file", "binance:"+path, "--speed", "2") // nobody waits for its end
	text := v.out.String()
	w := startWire(t, strings.TrimPrefix(v.url, "http://"))
	text = strings.Replace(text, "ws://"+strings.TrimPrefix(v.url, "http://"), "ws://"+w.ln.Addr().String(), 1)
	// At the default depth, 24 snapshots in a minute are more than the venue gives.
	text = strings.Replace(text, "rest_url:", "lines: 1\n    depth: 1000\n    rest_url:", 1)
	if err := os.WriteFile(v.conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var states []string
	for range runs {
		a := startAgent(t, v, db)
		a.recordFor(200 * time.Millisecond)
		for range each {
			gaps := a.status().Symbols[0].Gaps
			if n := w.cut(); n != 1 {
				t.Errorf("%d connections were up", n)
			}
			for began := time.Now(); a.status().Symbols[0].Gaps == gaps; time.Sleep(20 * time.Millisecond) {
				if time.Since(began) > 30*time.Second {
					t.Fatal("the agent has not noticed that it was cut off")
				}
			}
			a.recordFor(200 * time.Millisecond)
		}
		if st := a.status(); st.LedgerDifference != 0 || st.Frames["lost"] != 0 {
			t.Errorf("ledger: %+v", st)
		}
		a.interrupt()
		states = append(states, "verified"+strings.Repeat(" gap:disconnect verified", each))
	}
	if v.status().Done {
		t.Error("the recording has ended before the last cut")
	}
	got := db.read(t, "BTCUSDT")
	if s := got.states("book"); s != "gap:start "+strings.Join(states, " gap:stop ") {
		t.Errorf("coverage of the book: %s", s)
	}
	i := 0 // the rest of the recording was never asked for
	for i < len(want.diffs) && want.diffs[i].last <= got.book[len(got.book)-1].seq {
		i++
	}
	want.diffs = want.diffs[:i]
	if n := checkMissing(t, got, &want); n != runs*each+runs-1 {
		t.Errorf("%d holes in the book", n)
	}
	v.verify(t, db)
}

// wire carries connections to a venue, and can cut them.
type wire struct {
	ln net.Listener
	mu sync.Mutex
	up map[net.Conn]net.Conn // both ends
}

func startWire(t *testing.T, to string) *wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{ln: ln, up: map[net.Conn]net.Conn{}}
	t.Cleanup(func() {
		ln.Close()
		w.cut()
	})
	go func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			w.mu.Lock()
			w.up[near] = far
			w.mu.Unlock()
			go w.carry(near, near, far)
			go w.carry(near, far, near)
		}
	}()
	return w
}

// carry copies until one end closes, and then closes the other.
func (w *wire) carry(near, from, to net.Conn) {
	io.Copy(to, from)
	from.Close()
	to.Close()
	w.mu.Lock()
	delete(w.up, near)
	w.mu.Unlock()
}

// cut ends every connection at once and says how many there were.
func (w *wire) cut() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for near, far := range w.up {
		near.Close()
		far.Close()
		n++
	}
	clear(w.up)
	return n
}

// checkMissing: of the recorded events after the first snapshot, each is stored or lies
// in a gap, by its ids; none of them both. It returns how many gaps there are.
func checkMissing(t *testing.T, got *stored, want *truth) (gaps int) {
	t.Helper()
	have := map[int64]bool{}
	type hole struct{ after, before int64 }
	var holes []hole
	last := int64(0)
	for _, m := range got.book {
		if m.flags&flagSnapshot != 0 {
			if last != 0 && m.seq > last {
				holes = append(holes, hole{last, m.seq})
			}
		} else {
			have[m.seq] = true
		}
		last = m.seq
	}
	stored, missing := 0, 0
	for _, d := range want.diffs {
		if d.last <= got.book[0].seq {
			continue
		}
		inside := false
		for _, h := range holes {
			inside = inside || d.last > h.after && d.last <= h.before
		}
		switch {
		case have[d.last] == inside:
			t.Errorf("event %d: stored %v, in a gap %v", d.last, have[d.last], inside)
		case inside:
			missing++
		default:
			stored++
		}
	}
	t.Logf("%d events are stored, %d lie in %d gaps", stored, missing, len(holes))
	return len(holes)
}
