package endtoend

import (
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fromEnv is a number that the environment may change.
func fromEnv(t *testing.T, name string, n uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return n
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestKilled: the agent is killed at random moments under load, on its start, on
// its way to the first snapshot, while it delivers what it left behind the last
// time, or in full run. What it had acknowledged is there, nothing is there twice,
// and coverage tells exactly what was missed. DEEPTAPE_KILLS kills it more often,
// DEEPTAPE_SEED chooses the moments.
func TestKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	share(t, works, 55*time.Second)
	few := uint64(20)
	if race {
		few = 6
	}
	kills := int(fromEnv(t, "DEEPTAPE_KILLS", few))
	seed := fromEnv(t, "DEEPTAPE_SEED", uint64(time.Now().UnixNano()))
	t.Logf("%d kills; the same moments: DEEPTAPE_SEED=%d", kills, seed)
	random := rand.New(rand.NewPCG(seed, seed))
	db := emptyDatabase(t)
	symbols := []string{"DEDUSDT", "UNDUSDT"}
	length := time.Duration(2*kills+20) * time.Minute // nobody waits for its end
	m := newMarket(t, 17, length, symbols...)
	v := startVenue(t, t.TempDir(), "binance:"+strings.Join(symbols, ","), "--seed", "17", "--start", marketStart, "--speed", "10", "--for", length.String())
	// A snapshot of 5000 levels weighs 250 of the 6000 that a venue allows a minute.
	m.depth = 1000
	v.configure("    depth: 1000\n")

	first := time.Now()
	p := startAgent(t, v, db)
	p.recordFor(0)
	full := time.Since(first) // what this machine needs until an agent is in full run
	p.kill()
	began := time.Now()
	for range kills {
		before := db.rows()
		p := start(t, nil, "capture", "-c", v.conf, "--journal", v.journal, "--questdb", db.conf(), "--listen", "127.0.0.1:0")
		// Of the time until it is in full run, and as long again.
		time.Sleep(time.Duration(random.Int64N(int64(2 * full))))
		acked := map[string]int64{}
		if url := regexp.MustCompile(`url=(http://\S+)`).FindStringSubmatch(p.errout.String()); url != nil {
			a := &agent{process: p, url: url[1]}
			st := a.status()
			if st.LedgerDifference != 0 || st.Frames["lost"] != 0 {
				t.Errorf("ledger: %+v", st)
			}
			for table, r := range st.Rows {
				acked[table] = r.Acked
			}
		}
		select {
		case <-p.ended:
			t.Fatalf("the agent has ended by itself:\n%s", tail(p.errout.String()))
		default:
		}
		p.kill()
		after := db.rows()
		for _, table := range rowTables {
			if got := after[table] - before[table]; got < acked[table] {
				t.Errorf("%s: %d rows acknowledged since the last kill, %d in the database", table, acked[table], got)
			}
		}
	}
	t.Logf("in full run after %s; %d kills in %s", full.Round(10*time.Millisecond), kills, time.Since(began).Round(time.Second))

	a := startAgent(t, v, db)
	a.recordFor(500 * time.Millisecond)
	a.allAcked(time.Minute)
	a.interrupt()
	for _, symbol := range symbols {
		s := db.read(t, symbol)
		s.depth = m.depth
		r := s.walk(m.symbol[symbol].diffs, func(id int64) []level { return m.snapshotAt(t, symbol, id) }, func(bookMessage, *slowBook) {})
		db.checkView(s, r)
		states := s.states("book")
		if !regexp.MustCompile(`^gap:start(( verified)? gap:stop)+ verified$`).MatchString(states) || strings.Count(states, " verified") != r.snapshots || r.snapshots < kills/4 {
			t.Errorf("%s: coverage of the book: %s; %d snapshots", symbol, states, r.snapshots)
		}
		// What was sent between the first row and the last and is not stored lies in a
		// gap: of the book by the chain, see walk; of the trades by their ids.
		trades, missing := s.checkTrades(m.symbol[symbol].trades)
		quotes, _ := s.checkQuotes(m.symbol[symbol].quotes)
		if trades < kills || quotes < kills || r.diffs < kills || missing == 0 {
			t.Errorf("%s: %d trades, %d missing, %d quotes, %d depth events: too quiet to show anything", symbol, trades, missing, quotes, r.diffs)
		}
		for i := 1; i < len(s.trades); i++ {
			if s.trades[i].num(t) == s.trades[i-1].num(t)+1 {
				continue
			}
			if !slices.ContainsFunc(s.coverage["trades"], func(x interval) bool {
				return x.state == "gap" && x.from > s.trades[i-1].ns && x.to < s.trades[i].ns
			}) {
				t.Errorf("%s: trades between %s and %s are missing, and no gap says so", symbol, s.trades[i-1].id, s.trades[i].id)
			}
		}
		// A kill's gap begins with the last row of its stream that was journalled.
		var gaps []interval
		for _, x := range s.coverage["book"] {
			if n := len(gaps); n > 0 && x.state == "gap" && gaps[n-1].to+1 == x.from {
				gaps[n-1].to = x.to // killed again before there was a snapshot
			} else if x.state == "gap" {
				gaps = append(gaps, x)
			}
		}
		for i, x := range gaps {
			if i == 0 {
				continue // before the first row there is none
			}
			last := slices.IndexFunc(s.book, func(m bookMessage) bool { return m.firstNs > x.from })
			if last < 1 || s.book[last-1].lastNs+1 != x.from || s.book[last].firstNs-1 != x.to || s.book[last].flags&flagSnapshot == 0 {
				t.Errorf("%s: gap %d of the book, %v, is not from the last row to the first of a snapshot", symbol, i, x)
			}
		}
	}
	v.verify(t, db)
	checkReplay(t, db, v)
}

// rows counts what is visible.
func (db database) rows() map[string]int64 {
	db.t.Helper()
	n := map[string]int64{}
	for _, r := range db.export("SELECT table_name FROM tables()") {
		if slices.Contains(rowTables, r["table_name"]) {
			n[r["table_name"]] = 0
		}
	}
	if len(n) == 0 {
		return n // the first agent has not made them
	}
	db.applied()
	for table := range n {
		n[table] = db.export("SELECT count() n FROM " + table)[0].int(db.t, "n")
	}
	return n
}

// allAcked waits until little is on its way, and nothing of earlier runs.
func (a *agent) allAcked(within time.Duration) {
	a.t.Helper()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if st := a.status(); st.LagInputs < 1000 && (!strings.Contains(a.errout.String(), "delivering what") || strings.Contains(a.errout.String(), "delivered what")) {
			return
		}
		if time.Since(began) > within {
			a.t.Fatalf("after %s much is still on its way: %+v", within, a.status())
		}
	}
}
