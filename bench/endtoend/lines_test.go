package endtoend

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestLines: the BTCUSDT recording, 20 times as fast, on connections that end. With a
// second line, or where the end was planned, nothing is missing; with one line that is
// cut, what is missing is a gap, and nothing else is.
func TestLines(t *testing.T) {
	if testing.Short() {
		t.Skip("takes two minutes")
	}
	path := recording(t, "binance/spot_btcusdt_20240808_full.jsonl.gz")
	want := readRecording(t, path)["BTCUSDT"]
	var cuts []string
	for n := 300; n <= 6000; n += 300 {
		cuts = append(cuts, fmt.Sprintf("disconnect-one@%d:BTCUSDT", n))
	}
	for _, c := range []struct {
		name, keys string
		faults     []string
		whole      bool
	}{
		{"two lines, twenty cuts", "lines: 2", cuts, true},
		{"planned", "reconnect_every: 5s", nil, true},
		// The wait before a new connection doubles with each cut: four will do.
		{"one line, four cuts", "lines: 1", []string{cuts[0], cuts[3], cuts[8], cuts[14]}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if race && c.name != "two lines, twenty cuts" {
				t.Skip("one case is enough under the race detector")
			}
			db := emptyDatabase(t)
			args := []string{"--file", "binance:" + path, "--speed", "20"}
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
			if c.whole {
				if n := strings.Count(said, "disconnected"); n < 4 {
					t.Errorf("only %d connections have ended", n)
				}
				if states != whole {
					t.Errorf("coverage of the book: %s", states)
				}
				checkRecorded(t, got, want, 2000, 6493, 298_094)
				if n, missing := got.checkTrades(want.trades); missing != 0 || n != len(want.trades) {
					t.Errorf("%d trades of %d, %d missing", n, len(want.trades), missing)
				}
			} else {
				if states != whole+strings.Repeat(" gap:disconnect verified", len(c.faults)) {
					t.Errorf("coverage of the book: %s", states)
				}
				checkMissing(t, got, want)
			}
			t.Log(filepath.Base(path), c.name, states)
			v.verify(t, db)
		})
	}
}

// checkMissing: of the recorded events after the first snapshot, each is stored or lies
// in a gap, by its ids; none of them both.
func checkMissing(t *testing.T, got *stored, want *truth) {
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
}
