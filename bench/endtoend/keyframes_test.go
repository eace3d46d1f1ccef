package endtoend

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestFromKeyframes: whatever keyframe a replay starts from, it brings into an empty
// database what live capture has written from there on.
func TestFromKeyframes(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	if race {
		t.Skip("the same rows come from one goroutine each, only later")
	}
	path := recording(t, "binance/spot_btcusdt_20240808_full.jsonl.gz")
	share(t, toils, 26*time.Second)
	db := emptyDatabase(t)
	// A keyframe is made at the next tick after a segment began, and one takes seconds.
	v := startVenue(t, t.TempDir(), "--file", "binance:"+path, "--speed", "40", "--faults", "disconnect@2200:BTCUSDT,drop@4300:BTCUSDT")
	v.configure("journal: {segment: 1MiB}\n")
	a := startAgent(t, v, db)
	drained(t, v, a, 2*time.Minute).sound(t)
	a.interrupt()

	// The messages that write the whole book tell where a replay may begin.
	var written, keyframes []int64
	for _, m := range db.read(t, "BTCUSDT").book {
		if m.flags&flagSnapshot != 0 {
			written = append(written, m.firstNs)
		}
		if m.flags&flagKeyframe != 0 {
			keyframes = append(keyframes, m.firstNs)
		}
	}
	keyframes = keyframes[1:] // of the scale, which has become finer
	segments := v.segments()
	if len(segments) < 4 || len(keyframes) < 3 {
		t.Fatalf("%d segments, and keyframes in the book at %d: too few to show anything", len(segments), keyframes)
	}
	live := db.all()
	var starts []int64
	for i := range segments[1:] {
		// Without the segments before it, there is nothing to start from but the keyframe.
		journal := t.TempDir()
		for _, name := range segments[i+1:] {
			if err := os.Link(name, filepath.Join(journal, filepath.Base(name))); err != nil {
				t.Fatal(err)
			}
		}
		db.empty()
		run(t, 0, nil, "replay", "--journal", journal, "--questdb", db.conf())
		db.applied()
		again := db.all()
		lines := strings.SplitN(again["book_delta"], "\n", 3)
		first := csvRows(t, strings.Join(lines[:len(lines)-1], "\n"))
		if len(first) == 0 {
			if i+2 == len(segments) { // it began just before the end
				continue
			}
			t.Fatalf("from segment %d: no rows", i+1)
		}
		from := nsOf(t, first[0]["ts"])
		if !slices.Contains(written, from) {
			t.Errorf("from segment %d: the book begins at %d, where live capture has not written it whole", i+1, from)
		}
		starts = append(starts, from)
		for _, table := range rowTables {
			checkEnd(t, table, from, live[table], again[table])
		}
		checkIntervals(t, from, live["coverage"], again["coverage"])
		t.Logf("from segment %d of %d: %d rows of book_delta", i+1, len(segments), strings.Count(again["book_delta"], "\n")-1)
	}
	for _, at := range keyframes {
		if !slices.Contains(starts, at) {
			t.Errorf("no replay has begun at the keyframe at %d, but at %d", at, starts)
		}
	}
}

// checkEnd: the rows of a replay are the last ones of live capture, digit for digit,
// and among them are all from the instant from on. (What comes between the keyframe
// and its rows in the book, a trade or a quote, is in both.)
func checkEnd(t *testing.T, table string, from int64, live, again string) {
	t.Helper()
	head, end, _ := strings.Cut(again, "\n")
	rest, ok := strings.CutSuffix(live, "\n"+end)
	if !ok || !strings.HasPrefix(live, head) {
		a, b := strings.Split(live, "\n"), strings.Split(again, "\n")
		i := 1 // lines from the end
		for i < min(len(a), len(b)) && a[len(a)-i] == b[len(b)-i] {
			i++
		}
		t.Errorf("%s: %d lines live, %d replayed; not the same, from the end:\nlive\n%s\nreplayed\n%s", table, len(a), len(b), a[len(a)-i], b[len(b)-i])
		return
	}
	if i := strings.LastIndex(rest, "\n"); i > 0 {
		if last := csvRows(t, head+"\n"+rest[i+1:])[0]; nsOf(t, last["ts"]) >= from {
			t.Errorf("%s: a replay from %d lacks %v", table, from, last)
		}
	}
}

// checkIntervals: a replay writes the intervals that had not ended at its keyframe,
// each with the beginning that it has in live capture; none that live capture has not.
func checkIntervals(t *testing.T, from int64, live, again string) {
	t.Helper()
	a, b := strings.Split(live, "\n"), strings.Split(again, "\n")
	for i, x := range csvRows(t, live) {
		if nsOf(t, x["ts_end"]) >= from && !slices.Contains(b, a[i+1]) {
			t.Errorf("coverage: a replay from %d lacks %s; it has\n%s", from, a[i+1], again)
		}
	}
	for _, x := range b {
		if !slices.Contains(a, x) {
			t.Errorf("coverage: a replay from %d has %s; live capture has\n%s", from, x, live)
		}
	}
}

// csvRows of an export by column name.
func csvRows(t *testing.T, text string) (rows []row) {
	t.Helper()
	lines, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || len(lines) == 0 {
		t.Fatalf("an export of %d lines: %v", len(lines), err)
	}
	for _, l := range lines[1:] {
		x := row{}
		for i, name := range lines[0] {
			x[name] = l[i]
		}
		rows = append(rows, x)
	}
	return rows
}

func nsOf(t *testing.T, ts string) int64 {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, ts)
	if err != nil {
		t.Fatal(err)
	}
	return at.UnixNano()
}
