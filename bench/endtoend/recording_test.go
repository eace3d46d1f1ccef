package endtoend

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestRecording is the main job on real input: ten minutes of BTCUSDT, as fast as
// the sockets take them, into a real QuestDB and back, digit for digit.
func TestRecording(t *testing.T) {
	if race {
		t.Skip("TestLines is the same recording under the race detector")
	}
	if testing.Short() {
		t.Skip("takes some twenty seconds")
	}
	path := recording(t, "binance/spot_btcusdt_20240808_full.jsonl.gz")
	want := readRecording(t, path)["BTCUSDT"]
	if len(want.snapshots) != 1 || len(want.diffs) != 6495 {
		t.Fatalf("the recording has %d snapshots and %d depth events", len(want.snapshots), len(want.diffs))
	}
	share(t, toils, 24*time.Second)
	db := emptyDatabase(t)
	v := startVenue(t, t.TempDir(), "--file", "binance:"+path, "--speed", "0")
	a := startAgent(t, v, db)
	st := drained(t, v, a, 2*time.Minute)
	st.sound(t)
	a.interrupt()
	got := db.read(t, "BTCUSDT")

	t.Run("rows", func(t *testing.T) {
		got.t = t
		checkRecorded(t, got, want, 2000, 6493, 298_094)
		if n, _ := got.checkTrades(want.trades); n != len(want.trades) || n != 19_904 {
			t.Errorf("%d trades of %d", n, len(want.trades))
		}
		if n, _ := got.checkQuotes(want.quotes); n != len(want.quotes) || n != 73_174 {
			t.Errorf("%d quotes of %d", n, len(want.quotes))
		}
		for stream, states := range map[string]string{"book": "gap:start verified", "trades": "gap:start unverified:silence verified", "quotes": "gap:start unverified"} {
			if s := got.states(stream); s != states {
				t.Errorf("coverage of %s: %s", stream, s)
			}
		}
		book := got.coverage["book"][1]
		if book.from != got.book[0].firstNs || book.to != got.book[len(got.book)-1].lastNs || book.proof != "chain" ||
			book.seqFirst != "50093239218" || book.seqLast != itoa(want.diffs[len(want.diffs)-1].last) {
			t.Errorf("coverage of the book: %v", book)
		}
		if x := got.coverage["trades"][2]; x.from != got.trades[0].ns || x.to != got.trades[len(got.trades)-1].ns || x.proof != "trade_id" {
			t.Errorf("coverage of the trades: %v", x)
		}
	})
	t.Run("bookTicker", func(t *testing.T) { checkBookTicker(t, got, want, 6491) })
	t.Run("verify", func(t *testing.T) {
		t.Log(v.verify(t, db))
	})
	t.Run("derived twice", func(t *testing.T) {
		var lines [2][]byte
		for i, procs := range []string{"GOMAXPROCS=1", "GOMAXPROCS=2"} {
			file := filepath.Join(t.TempDir(), "rows")
			run(t, 0, []string{procs}, "replay", "--journal", v.journal, "--out", file)
			var err error
			if lines[i], err = os.ReadFile(file); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(lines[0], lines[1]) {
			t.Error("two derivations of one journal differ")
		}
		// The snapshot, a keyframe, every level, trade and quote: it was not nothing.
		if n := bytes.Count(lines[0], []byte("\n")); n < 2*2000+298_094+19_904+73_174 {
			t.Errorf("only %d lines", n)
		}
	})
	t.Run("replayed", func(t *testing.T) { checkReplay(t, db, v) })
}

// checkRecorded compares the stored book with a recording.
func checkRecorded(t *testing.T, got *stored, want *truth, snapshotLevels, diffs, levels int) {
	t.Helper()
	id := want.snapshots[0].id
	if n := len(want.snapshots[0].levels); n != snapshotLevels {
		t.Fatalf("the recorded snapshot has %d levels", n)
	}
	r := got.walk(want.diffs, func(x int64) []level {
		if x == id {
			return want.snapshots[0].levels
		}
		return nil
	}, func(bookMessage, *slowBook) {})
	if r.snapshots != 1 || r.diffs != diffs || r.levels != levels || r.lastID != want.diffs[len(want.diffs)-1].last {
		t.Errorf("%s: stored %d snapshots, %d depth events with %d levels, the last %d; want 1, %d, %d, %d", got.symbol,
			r.snapshots, r.diffs, r.levels, r.lastID, diffs, levels, want.diffs[len(want.diffs)-1].last)
	}
	t.Logf("%s: %d levels, %d depth events with %d levels, %d keyframes, %d rows of book_top", got.symbol, snapshotLevels, r.diffs, r.levels, r.keyframes, len(got.top))
}

// checkBookTicker asks the venue itself: after each depth event the best bid and
// ask of book_top, price and size, are those of the last bookTicker whose id is not
// above the event's (and not before the first event's). equal is how often that
// holds in the recording.
func checkBookTicker(t *testing.T, got *stored, want *truth, equal int) {
	t.Helper()
	good, q, top, from := 0, -1, -1, int64(0)
	for _, m := range got.book {
		if m.flags&flagSnapshot != 0 {
			continue
		}
		if from == 0 {
			prev, err := strconv.ParseInt(m.prev, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			from = prev + 1
		}
		for q+1 < len(want.quotes) && want.quotes[q+1].id <= m.seq {
			q++
		}
		for top+1 < len(got.top) && got.top[top+1].ns <= m.lastNs {
			top++
		}
		if q < 0 || top < 0 || want.quotes[q].id < from {
			continue
		}
		x := want.quotes[q]
		if got.top[top].bid == x.bid+"|"+x.bidQty && got.top[top].ask == x.ask+"|"+x.askQty {
			good++
		}
	}
	if good != equal {
		t.Errorf("%s: book_top equals the bookTicker after %d depth events, want %d", got.symbol, good, equal)
	}
}

// checkReplay: the rows of live capture are those that a replay brings into an
// empty database, byte for byte as QuestDB exports them.
func checkReplay(t *testing.T, db database, v *venue) {
	t.Helper()
	db.t = t
	live := db.all()
	db.empty()
	run(t, 0, nil, "replay", "--journal", v.journal, "--questdb", db.conf())
	db.applied()
	again := db.all()
	for table, text := range live {
		if text == again[table] {
			continue
		}
		a, b := strings.Split(text, "\n"), strings.Split(again[table], "\n")
		i := 0
		for i < min(len(a), len(b)) && a[i] == b[i] {
			i++
		}
		t.Errorf("%s: %d lines live, %d replayed; from line %d on:\nlive\n%s\nreplayed\n%s", table, len(a), len(b), i+1,
			strings.Join(a[i:min(i+5, len(a))], "\n"), strings.Join(b[i:min(i+5, len(b))], "\n"))
	}
}

var rowTables = []string{"book_delta", "book_top", "quotes", "trades"}

// text of a table's rows of one symbol.
func (db database) text(table, symbol string) string {
	db.t.Helper()
	return db.get("/exp", "SELECT * FROM "+table+" WHERE symbol = '"+symbol+"' ORDER BY ts")
}

// all exports every table that is a function of the journal.
func (db database) all() map[string]string {
	out := map[string]string{}
	for _, table := range rowTables {
		out[table] = db.get("/exp", "SELECT * FROM "+table+" ORDER BY ts, venue, symbol")
	}
	out["coverage"] = db.get("/exp", "SELECT ts, ts_end, venue, symbol, stream, state, proof, cause, seq_first, seq_last, messages, detail FROM coverage ORDER BY ts, venue, symbol, stream")
	return out
}

// TestFourSymbols: four interleaved symbols whose @trade stays silent, which is no
// gap of the book.
func TestFourSymbols(t *testing.T) {
	if race {
		t.Skip("TestFaults is what the race detector sees of this")
	}
	path := recording(t, "binance/cryptofeed_us_4sym_20211012.jsonl")
	share(t, works, 8*time.Second)
	all := readRecording(t, path)
	db := emptyDatabase(t)
	v := startVenue(t, t.TempDir(), "--file", "binance:"+path, "--speed", "0")
	a := startAgent(t, v, db)
	drained(t, v, a, time.Minute).sound(t)
	a.interrupt()
	events, ticker := 0, map[string]int{"COMPUSDT": 103, "OMGBUSD": 155, "CRVUSDT": 18, "ZRXUSDT": 39} // as check.py counts
	if len(all) != len(ticker) {
		t.Fatalf("the recording has %d symbols", len(all))
	}
	for symbol, want := range all {
		got := db.read(t, symbol)
		// The events up to the snapshot's id are in the snapshot.
		after := slices.DeleteFunc(slices.Clone(want.diffs), func(d diff) bool { return d.last <= want.snapshots[0].id })
		levels := 0
		for _, d := range after {
			levels += len(d.levels)
		}
		checkRecorded(t, got, want, len(want.snapshots[0].levels), len(after), levels)
		checkBookTicker(t, got, want, ticker[symbol])
		events += len(after)
		if s := got.states("book"); s != "gap:start verified" {
			t.Errorf("%s: coverage of the book: %s", symbol, s)
		}
		if s := got.states("trades"); len(got.trades) != 0 || s != "gap:start unverified:silence" {
			t.Errorf("%s: %d trades, coverage %s", symbol, len(got.trades), s)
		}
		if n, _ := got.checkQuotes(want.quotes); n != len(want.quotes) {
			t.Errorf("%s: %d quotes of %d", symbol, n, len(want.quotes))
		}
	}
	if events != 332 {
		t.Errorf("%d depth events after the snapshots, want 332", events)
	}
	v.verify(t, db)
}
