package journal

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"deeptape/hotpath/event"
)

// TestKill kills a real process that writes, with SIGKILL, and looks at the real
// files. The child prints how many records it has flushed.
func TestKill(t *testing.T) {
	if dir := os.Getenv("JOURNAL_TEST_KILL_DIR"); dir != "" {
		w, _, err := Open(OS, dir, Options{SegmentBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		m := newModel(14)
		for n := 1; ; n++ {
			if err := w.Append(m.record(500)); err != nil {
				t.Fatal(err)
			}
			if m.rng.IntN(5) == 0 {
				if err := w.Flush(); err != nil {
					t.Fatal(err)
				}
				fmt.Printf("flushed %d\n", n)
			}
		}
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestKill$")
	cmd.Env = append(os.Environ(), "JOURNAL_TEST_KILL_DIR="+dir)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	flushed := 0
	kill := func() { cmd.Process.Kill() }
	timer := time.AfterFunc(time.Minute, kill)
	for s := bufio.NewScanner(out); s.Scan(); {
		if n, err := strconv.Atoi(s.Text()[min(8, len(s.Text())):]); err == nil {
			if flushed == 0 { // a slow machine takes its time to begin
				timer.Reset(300 * time.Millisecond)
			}
			flushed = n
		}
	}
	timer.Stop()
	if err := cmd.Wait(); err == nil {
		t.Fatal("the child ended by itself")
	}
	w, rec := mustOpen(t, OS, dir, Options{}) // the lock went with the process
	must(t, w.Close())
	got, damage := readAll(t, NewReader(OS, dir, Position{}))
	for _, d := range damage {
		if !d.Torn {
			t.Fatal(d)
		}
	}
	if flushed == 0 || len(got) < flushed {
		t.Fatalf("%d records are left, %d were flushed", len(got), flushed)
	}
	m := newModel(14)
	for len(m.recs) < len(got) {
		m.record(500)
		m.rng.IntN(5)
	}
	same(t, got, m.recs)
	in, _, _ := event.GetInput(got[len(got)-1])
	for _, f := range rec.Feeds {
		if f.Feed == in.Feed && f.Pos != in.Pos {
			t.Fatalf("recovered pos %d, want %d", f.Pos, in.Pos)
		}
	}
}
