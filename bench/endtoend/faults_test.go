package endtoend

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// venueRun is a venue on which things go wrong, and what must be said of each of
// its symbols.
type venueRun struct {
	name   string
	speed  string
	length time.Duration
	faults string
	expect []expected // in the venue's order: the first symbol is ten times as busy
	check  func(t *testing.T, r *ranVenue)
}

// expected coverage of a symbol. complete: no trade and no quote is missing after
// the first.
type expected struct {
	symbol               string
	book, trades, quotes string
	complete             bool
}

// ranVenue is what came of it.
type ranVenue struct {
	venue  venueStatus
	agent  agentStatus
	stored map[string]*stored
	served *venue
	dir    string
}

const (
	whole       = "gap:start verified"
	wholeTrades = "gap:start unverified:silence verified"
	wholeQuotes = "gap:start unverified"
	resynced    = "gap:start verified gap:sequence verified"
)

func undisturbed(symbol string) expected {
	return expected{symbol, whole, wholeTrades, wholeQuotes, true}
}

var venueRuns = []venueRun{
	{
		name: "drop on one of three", speed: "4", length: time.Minute, faults: "drop@40:ETHUSDT",
		expect: []expected{undisturbed("BTCUSDT"), {"ETHUSDT", resynced, wholeTrades, wholeQuotes, true}, undisturbed("SOLUSDT")},
		check: func(t *testing.T, r *ranVenue) {
			s, struck := r.stored["ETHUSDT"], r.venue.Struck[0]
			for _, m := range s.book {
				if m.seq == struck.Last {
					t.Errorf("the dropped message %d is stored", m.seq)
				}
			}
			// From just after the last proven message to just before the snapshot.
			gap := s.coverage["book"][2]
			i := slices.IndexFunc(s.book, func(m bookMessage) bool { return m.firstNs > gap.from })
			if before := s.book[i-1]; before.lastNs+1 != gap.from || before.seq+1 != struck.First {
				t.Errorf("the gap %v does not follow on the last proven message %d at %d; dropped was %+v", gap, before.seq, before.lastNs, struck)
			}
			if after := s.book[i]; after.firstNs-1 != gap.to || after.flags&flagSnapshot == 0 || after.seq < struck.Last {
				t.Errorf("the gap %v does not end before the new snapshot %d at %d", gap, after.seq, after.firstNs)
			}
		},
	},
	{
		name: "one symbol each", speed: "2", length: 40 * time.Second,
		// The 60th update comes some three seconds after the connection: a repetition that
		// is older than the snapshot is stale and not a duplicate.
		faults: "duplicate@60:DUPUSDT,reorder@60:REOUSDT,stale-snapshot@1:OLDUSDT,429@1:TOOUSDT",
		expect: []expected{
			undisturbed("FREEUSDT"), undisturbed("DUPUSDT"), {"REOUSDT", resynced, wholeTrades, wholeQuotes, true},
			undisturbed("OLDUSDT"), undisturbed("TOOUSDT"),
		},
		check: func(t *testing.T, r *ranVenue) {
			if n := r.agent.Frames["duplicate"]; n < 1 {
				t.Errorf("%d frames counted as duplicates", n)
			}
			for _, s := range r.agent.Symbols {
				requests, stale := int64(1), int64(0)
				switch s.Symbol {
				case "REOUSDT", "TOOUSDT":
					requests = 2
				case "OLDUSDT":
					requests, stale = 2, 1
				}
				if s.Requests < requests || s.Stale < stale {
					t.Errorf("status: %+v, want %d snapshot requests, %d stale", s, requests, stale)
				}
			}
			if gap := r.stored["TOOUSDT"].coverage["book"][0]; gap.to-gap.from < 1e9 {
				t.Errorf("Retry-After: 1 was not obeyed: the first gap is %d ns", gap.to-gap.from)
			}
		},
	},
	{
		name: "the connection", speed: "5", length: time.Minute, faults: "stall@40:CONUSDT,disconnect@150:CONUSDT",
		expect: []expected{
			{"CONUSDT", "gap:start verified gap:disconnect verified", "", "gap:start unverified gap:disconnect unverified", false},
			{"TOGUSDT", "gap:start verified gap:disconnect verified", "", "gap:start unverified gap:disconnect unverified", false},
		},
		check: func(t *testing.T, r *ranVenue) {
			// What was traded meanwhile is missing, and numbered; if nothing was, the
			// next trade proves it.
			for symbol, s := range r.stored {
				missing, told := int64(0), int64(0)
				for i := 1; i < len(s.trades); i++ {
					missing += s.trades[i].num(t) - s.trades[i-1].num(t) - 1
				}
				for _, i := range s.coverage["trades"] {
					if i.state == "gap" && i.cause != "start" {
						told += row{"n": i.seqLast}.int(t, "n") - row{"n": i.seqFirst}.int(t, "n") + 1
					}
				}
				if missing != told {
					t.Errorf("%s: %d trades are missing, the coverage tells of %d: %v", symbol, missing, told, s.coverage["trades"])
				}
			}
		},
	},
}

func (x trade) num(t *testing.T) int64 { return row{"id": x.id}.int(t, "id") }

// TestFaults: whatever the venue does wrong, what is stored is what it sent, what is
// missing is called a gap with its cause, and nothing else is.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	share(t, works, 27*time.Second)
	db, dir := emptyDatabase(t), t.TempDir()
	runs := map[string]*ranVenue{}
	for i, f := range venueRuns {
		runs[f.name] = &ranVenue{stored: map[string]*stored{}, dir: filepath.Join(dir, itoa(int64(i)))}
		if err := os.Mkdir(runs[f.name].dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("capture", func(t *testing.T) { // ends when the parallel ones have
		for _, f := range venueRuns {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel() // each has symbols of its own
				f.run(t, db, runs[f.name])
			})
		}
	})
	for _, f := range venueRuns {
		t.Run("verify "+f.name, func(t *testing.T) {
			r := runs[f.name]
			if r.served == nil {
				t.Skip("was not captured")
			}
			said := r.served.verify(t, db)
			coverage := run(t, 0, nil, "coverage", "--questdb", db.conf())
			for _, x := range f.expect {
				book := regexp.MustCompile(`(?m)^binance ` + x.symbol + `\n +book +([\d.]+) % .* (\d+) gap;`).FindStringSubmatch(said)
				gaps := strings.Count(x.book, "gap")
				if book == nil || book[2] != itoa(int64(gaps)) || book[1] == "100.0000" { // the start is a gap as well
					t.Errorf("%s has %d gaps, verify says %q:\n%s", x.symbol, gaps, book, said)
				}
				for _, cause := range regexp.MustCompile(`gap:(\w+)`).FindAllStringSubmatch(x.book, -1) {
					if !regexp.MustCompile(`(?m)^binance +` + x.symbol + ` +book +gap +` + cause[1] + ` `).MatchString(coverage) {
						t.Errorf("coverage does not say that %s misses something (%s):\n%s", x.symbol, cause[1], coverage)
					}
				}
			}
		})
	}
}

func (f venueRun) run(t *testing.T, db database, r *ranVenue) {
	var symbols []string
	for _, x := range f.expect {
		symbols = append(symbols, x.symbol)
	}
	m := newMarket(t, 7, f.length, symbols...)
	v := startVenue(t, r.dir, "binance:"+strings.Join(symbols, ","), "--seed", "7", "--start", marketStart, "--speed", f.speed, "--for", f.length.String(), "--faults", f.faults)
	a := startAgent(t, v, db)
	r.agent = drained(t, v, a, 2*time.Minute)
	r.agent.sound(t)
	r.venue = v.status()
	a.interrupt()
	if n := strings.Count(f.faults, ",") + 1; len(r.venue.Struck) != n {
		t.Fatalf("%d faults have struck, want %d: %+v", len(r.venue.Struck), n, r.venue.Struck)
	}
	for _, x := range f.expect {
		s := db.read(t, x.symbol)
		r.stored[x.symbol] = s
		x.check(t, db, m, v, s)
	}
	f.check(t, r)
	r.served = v
}

func (x expected) check(t *testing.T, db database, m *market, v *venue, s *stored) {
	t.Helper()
	want := m.symbol[s.symbol]
	r := s.checkMarket(m, v)
	db.checkView(s, r)
	for stream, want := range map[string]string{"book": x.book, "trades": x.trades, "quotes": x.quotes} {
		if got := s.states(stream); want != "" && got != want {
			t.Errorf("%s: coverage of %s: %s, want %s", s.symbol, stream, got, want)
		}
	}
	if gaps := strings.Count(s.states("book"), "gap"); r.snapshots != gaps {
		t.Errorf("%s: %d snapshots after %d gaps", s.symbol, r.snapshots, gaps)
	}
	trades, noTrades := s.checkTrades(want.trades)
	quotes, noQuotes := s.checkQuotes(want.quotes)
	if trades == 0 || quotes == 0 || r.diffs == 0 {
		t.Fatalf("%s: %d trades, %d quotes, %d depth events: too quiet to show anything", s.symbol, trades, quotes, r.diffs)
	}
	if x.complete && (noTrades > 0 || s.trades[trades-1].trade != want.trades[len(want.trades)-1]) {
		t.Errorf("%s: after the first of %d trades %d are missing, the last is %+v", s.symbol, trades, noTrades, s.trades[trades-1])
	}
	if x.complete && (noQuotes > 0 || s.quotes[quotes-1].quote != want.quotes[len(want.quotes)-1]) {
		t.Errorf("%s: after the first of %d quotes %d are missing, the last is %+v", s.symbol, quotes, noQuotes, s.quotes[quotes-1])
	}
}

// checkMarket walks through the stored book of a made market, and compares its end
// with the venue's own book, as rebuilt here and as the view `book` has it.
func (s *stored) checkMarket(m *market, v *venue) replayed {
	t := s.t
	t.Helper()
	s.depth = m.depth
	window := [2]string{} // what the last snapshot could see: worst bid, worst ask
	r := s.walk(m.symbol[s.symbol].diffs, func(id int64) []level {
		levels := m.snapshotAt(t, s.symbol, id)
		for _, l := range levels { // the last of a side is its worst
			if l.side == "bid" {
				window[0] = sortKey(l.px)
			} else {
				window[1] = sortKey(l.px)
			}
		}
		return levels
	}, func(bookMessage, *slowBook) {})
	id, truth := v.trueBook(s.symbol)
	if id != r.lastID {
		t.Errorf("%s: stored up to id %d, the venue's book is at %d", s.symbol, r.lastID, id)
		return r
	}
	// A level beyond the snapshot's window is unknown until it changes.
	qty := map[level]string{}
	for _, l := range r.book.levels() {
		qty[level{side: l.side, px: l.px}] = l.qty
	}
	for _, l := range truth.levels() {
		key, at := level{side: l.side, px: l.px}, sortKey(l.px)
		inside := l.side == "bid" && at >= window[0] || l.side == "ask" && at <= window[1]
		if got := qty[key]; got != l.qty && (got != "" || inside) {
			t.Errorf("%s: level %+v of the venue's book is %q in ours", s.symbol, l, got)
		}
		delete(qty, key)
	}
	for l, q := range qty {
		t.Errorf("%s: level %+v with %s is not in the venue's book", s.symbol, l, q)
	}
	return r
}

// checkView compares the view `book` at the last message with the slow book.
func (db database) checkView(s *stored, r replayed) {
	t := s.t
	t.Helper()
	db.t = t
	last := s.book[len(s.book)-1]
	pxScale, qtyScale, _ := strings.Cut(last.scale, ",")
	at := time.Unix(0, last.lastNs).UTC().Format("2006-01-02T15:04:05.000000000Z")
	b := &slowBook{}
	for _, x := range db.export("DECLARE @at := '" + at + "', @venue := 'binance', @symbol := '" + s.symbol + "' SELECT side, px, qty FROM book") {
		b.set(level{x["side"], scaled(t, x["px"], pxScale), scaled(t, x["qty"], qtyScale)})
	}
	if got, want := b.levels(), r.book.levels(); !slices.Equal(got, want) {
		t.Errorf("%s: the view `book` has %d levels at %s and is not the book of %d levels", s.symbol, len(got), at, len(want))
	}
}
