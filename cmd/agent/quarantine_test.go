package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"deeptape/cmd/config"
	"deeptape/hotpath/journal"
	"deeptape/venues/wire"
)

// Rows in quarantine are told from the start on, with the command that sends them again;
// after it they are gone, but for those that it did not bring. An agent counted only what it
// had put there itself, and no command emptied the folder.
func TestQuarantine(t *testing.T) {
	dir := t.TempDir()
	const (
		array = "# at refused: r\nbook_top,venue=v,symbol=s bids==\x0e\x0a\x01\x01\x00\x00\x00\n\n\n\n\n\n\n\n 100\n" // line ends inside of a value
		text  = "# at refused: r\ncoverage,venue=v,symbol=s detail=\"a\n\" 200\n"
		json  = "# at refused: r\n{\"Symbol\":\"s\"}\n"
		cut   = "# at refused: r\nbook_top,venue=v"
	)
	files := map[string]string{"book_top.ilp": array + strings.Replace(array, " 100", " 300", 1) + cut, "coverage.ilp": text, "instruments.ilp": json}
	if err := os.MkdirAll(quarantineDir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(quarantineDir(dir), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := &Agent{
		cfg: config.Config{Journal: config.Journal{Dir: dir}}, machine: Machine{FS: journal.OS},
		log: slog.New(slog.DiscardHandler), clock: wire.NewClock(), journaler: &journaler{},
	}
	trouble := func() string { // as the status page and /healthz say it
		if err := a.lookAtQuarantine(); err != nil {
			t.Fatal(err)
		}
		return strings.Join(a.troubles(), "; ")
	}
	if s := trouble(); !strings.Contains(s, " 5 rows") || !strings.Contains(s, "deeptape replay --journal "+dir+" --from 1970-01-01T00:00:00.000000100Z`") {
		t.Errorf("trouble: %s", s)
	}
	replay := func(from, to, first int64) int {
		if err := takeUpQuarantine(dir); err != nil {
			t.Fatal(err)
		}
		left, err := emptyQuarantine(dir, from, to, first)
		if err != nil {
			t.Fatal(err)
		}
		return left
	}
	// The window has the rows of 200 and 300; what has no time stays. The journal begins at 250.
	if left := replay(150, 400, 250); left != 4 {
		t.Errorf("%d are left", left)
	}
	if s := trouble(); !strings.Contains(s, " 4 rows") {
		t.Errorf("trouble: %s", s)
	}
	// What is refused during a replay stays.
	if err := takeUpQuarantine(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(quarantineDir(dir), "trades.ilp"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if left, err := emptyQuarantine(dir, 0, 0, 50); err != nil || left != 0 {
		t.Errorf("%d are left, %v", left, err)
	}
	if s := trouble(); !strings.Contains(s, " 1 rows") {
		t.Errorf("trouble: %s", s)
	}
	if left := replay(0, 0, 50); left != 0 || trouble() != "" {
		t.Errorf("%d are left: %q", left, trouble())
	}
}
