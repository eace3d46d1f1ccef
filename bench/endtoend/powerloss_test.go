package endtoend

import (
	le "encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestPowerLoss: the agent is killed, and the newest blocks of its journal are gone,
// as a power loss takes what was not synced. QuestDB has had their rows. They stay,
// the restarted agent goes on behind them, and verify calls them unproven.
func TestPowerLoss(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a few seconds")
	}
	if race {
		t.Skip("TestKilled is what the race detector sees of this")
	}
	share(t, works, 40*time.Second)
	db := emptyDatabase(t)
	const length = 20 * time.Minute // nobody waits for its end
	symbols := []string{"POWUSDT", "LOSUSDT"}
	newMarket(t, 23, length, symbols...)
	v := startVenue(t, t.TempDir(), "binance:"+strings.Join(symbols, ","), "--seed", "23", "--start", marketStart, "--speed", "8", "--for", length.String())
	a := startAgent(t, v, db)
	a.recordFor(300 * time.Millisecond)
	a.kill9() // loses nothing
	a = startAgent(t, v, db)
	a.recordFor(1500 * time.Millisecond)
	a.allAcked(time.Minute)
	a.kill9()
	db.applied()
	before := map[string]string{}
	for _, table := range rowTables {
		for _, symbol := range symbols {
			before[table+symbol] = db.text(table, symbol)
		}
	}
	run(t, 0, nil, "verify", "-c", v.conf, "--questdb", db.conf(), "--journal", v.journal)

	// The journal's end is torn off, and no other run follows: what the database has of it
	// is newer than the journal, wherever its end is.
	cutJournal := filepath.Join(t.TempDir(), "cut")
	if err := os.CopyFS(cutJournal, os.DirFS(v.journal)); err != nil {
		t.Fatal(err)
	}
	cuts, _ := filepath.Glob(filepath.Join(cutJournal, "*.dtj"))
	slices.Sort(cuts)
	ends, _ := blocksOf(t, cuts[len(cuts)-1])
	for k := 1; k <= 25 && k < len(ends)-1; k++ { // blocks of 50 ms, so that a tick is among them
		if err := os.Truncate(cuts[len(cuts)-1], ends[len(ends)-k]+100); err != nil {
			t.Fatal(err)
		}
		run(t, 0, nil, "verify", "-c", v.conf, "--questdb", db.conf(), "--journal", cutJournal)
	}

	// Whole blocks go: those of the last half second that QuestDB has, at least.
	stored := db.export("SELECT ts::long t FROM quotes ORDER BY ts DESC LIMIT 1")[0].int(t, "t")
	segments, err := filepath.Glob(filepath.Join(v.journal, "*.dtj"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("segments %v: %v", segments, err)
	}
	slices.Sort(segments)
	last := segments[len(segments)-1]
	blocks, stamps := blocksOf(t, last)
	keep := len(blocks) - 1
	for keep > 1 && stamps[keep] > stored-int64(500*time.Millisecond) {
		keep--
	}
	if err := os.Truncate(last, blocks[keep]); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d blocks are left", keep, len(blocks))

	a = startAgent(t, v, db)
	a.recordFor(1500 * time.Millisecond)
	a.allAcked(time.Minute)
	a.interrupt()
	db.applied()
	for _, table := range rowTables {
		for _, symbol := range symbols {
			// A row of nulls, with which a gap begins, may stand among them.
			after := map[string]bool{}
			for line := range strings.Lines(db.text(table, symbol)) {
				after[line] = true
			}
			for line := range strings.Lines(before[table+symbol]) {
				if !after[line] {
					t.Errorf("%s of %s: a row that was stored before the power loss is not there: %s", table, symbol, line)
				}
			}
		}
	}
	text := v.verify(t, db)
	if !strings.Contains(text, "newer than the journal's end of") {
		t.Errorf("verify does not say what is unproven:\n%s", text)
	}
	var report struct {
		OK       bool
		Unproven int `json:"unproven_rows"`
		Symbols  []struct {
			Symbol   string
			Unproven []struct{ Table, From string }
		}
	}
	if err := json.Unmarshal([]byte(run(t, 0, nil, "verify", "-c", v.conf, "--questdb", db.conf(), "--journal", v.journal, "--json")), &report); err != nil || !report.OK || report.Unproven == 0 {
		t.Errorf("report %+v, %v", report, err)
	}
	t.Logf("%d rows unproven", report.Unproven)
	for _, s := range report.Symbols {
		for _, u := range s.Unproven {
			if u.From != s.Unproven[0].From {
				t.Errorf("%s: unproven after %s and after %s: the kill alone lost nothing", s.Symbol, s.Unproven[0].From, u.From)
			}
		}
	}

	// A block in the middle of the last run rots.
	segments, _ = filepath.Glob(filepath.Join(v.journal, "*.dtj"))
	slices.Sort(segments)
	last = segments[len(segments)-1]
	blocks, _ = blocksOf(t, last)
	f, err := os.OpenFile(last, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 60), blocks[len(blocks)/2]); err != nil {
		t.Fatal(err)
	}
	f.Close()
	text = v.verify(t, db)
	if !strings.Contains(text, "within a lost part of the journal") {
		t.Errorf("verify does not say what is unproven:\n%s", text)
	}

	// One row more, of a time that the journal has, is found.
	db.exec("INSERT INTO trades SELECT dateadd('n', 333, ts) ts, venue, symbol, side, px, qty, px_scale, qty_scale, trade_id, ts_event, seq, flags FROM trades WHERE symbol = '" + symbols[0] + "' LIMIT 2, 3")
	db.applied()
	if text = run(t, 1, nil, "verify", "-c", v.conf, "--questdb", db.conf(), "--journal", v.journal); !strings.Contains(text, "FOUND trades") || !strings.Contains(text, "the row is surplus") {
		t.Errorf("verify does not name the row that was added:\n%s", text)
	}
}

// blocksOf are where a segment's blocks begin, and the stamps of their first records.
// The layout is that of hotpath/journal's package comment.
func blocksOf(t *testing.T, name string) (starts, stamps []int64) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil || len(b) < 40 {
		t.Fatalf("segment of %d bytes: %v", len(b), err)
	}
	feeds := int64(le.LittleEndian.Uint32(b[36:]) &^ (1 << 31))
	for at := 40 + 24*feeds + 8; at+48 <= int64(len(b)); {
		if string(b[at:at+4]) != "BJTD" && string(b[at:at+4]) != "DTJB" {
			t.Fatalf("no block at %d of %s: % x", at, name, b[at:at+4])
		}
		starts = append(starts, at)
		stamps = append(stamps, int64(le.LittleEndian.Uint64(b[at+32:])))
		at += 48 + int64(le.LittleEndian.Uint32(b[at+4:]))
	}
	if len(starts) < 3 {
		t.Fatalf("%d blocks in %s: too few to lose some", len(starts), name)
	}
	return starts, stamps
}
