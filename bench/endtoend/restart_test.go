package endtoend

import (
	"strings"
	"testing"
	"time"
)

// TestRestart: an agent that stops, or is killed, and is started again on the same
// journal loses nothing that was acknowledged, doubles nothing and uses no ts twice.
func TestRestart(t *testing.T) {
	if race {
		t.Skip("TestKilled is what the race detector sees of this")
	}
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	for _, c := range []struct {
		name    string
		symbols []string
		end     func(*agent)
	}{
		{"stopped", []string{"STOUSDT", "PEDUSDT"}, (*agent).interrupt},
		{"killed", []string{"KILUSDT", "LEDUSDT"}, (*agent).kill9},
	} {
		t.Run(c.name, func(t *testing.T) {
			share(t, works, 17*time.Second)
			db := emptyDatabase(t)
			const length = 20 * time.Minute // nobody waits for its end
			m := newMarket(t, 11, length, c.symbols...)
			v := startVenue(t, t.TempDir(), "binance:"+strings.Join(c.symbols, ","), "--seed", "11", "--start", marketStart, "--speed", "8", "--for", length.String())
			type ended struct{ symbol, table, text string }
			var before []ended // what was in the tables at each end
			for i := range 3 {
				a := startAgent(t, v, db)
				st := a.recordFor(1500 * time.Millisecond)
				if c.name == "stopped" && i == 0 {
					a.isAlone(v, db)
					st = a.status()
				}
				if st.LedgerDifference != 0 || st.Frames["lost"] != 0 {
					t.Errorf("ledger: %+v", st)
				}
				if i == 2 {
					a.interrupt()
					break
				}
				c.end(a)
				db.applied()
				for _, table := range rowTables {
					got := int64(0)
					for _, symbol := range c.symbols {
						text := db.text(table, symbol)
						got += int64(strings.Count(text, "\n")) - 1
						before = append(before, ended{symbol, table, text})
					}
					if got < st.Rows[table].Acked {
						t.Errorf("%s: %d rows acknowledged, %d in the database", table, st.Rows[table].Acked, got)
					}
				}
				time.Sleep(300 * time.Millisecond) // the market goes on without us
			}
			db.applied()
			for _, x := range before {
				if after := db.text(x.table, x.symbol); !strings.HasPrefix(after, x.text) {
					t.Errorf("%s of %s: rows that were stored before a restart are not as they were", x.table, x.symbol)
				}
			}
			for _, symbol := range c.symbols {
				s := db.read(t, symbol)
				r := s.walk(m.symbol[symbol].diffs, func(id int64) []level { return m.snapshotAt(t, symbol, id) }, func(bookMessage, *slowBook) {})
				db.checkView(s, r)
				trades, _ := s.checkTrades(m.symbol[symbol].trades)
				quotes, _ := s.checkQuotes(m.symbol[symbol].quotes)
				if r.snapshots != 3 || r.diffs < 3 || trades < 3 || quotes < 3 {
					t.Errorf("%s: %+v, %d trades, %d quotes: too quiet to show anything", symbol, r, trades, quotes)
				}
				for stream, want := range map[string]string{
					"book":   "gap:start verified gap:stop verified gap:stop verified",
					"trades": "gap:start verified gap:stop verified gap:stop verified",
					"quotes": "gap:start unverified gap:stop unverified gap:stop unverified",
				} {
					// Trades are unverified from the acknowledgement to the first of them.
					if got := strings.ReplaceAll(s.states(stream), " unverified:silence", ""); got != want {
						t.Errorf("%s: coverage of %s: %s, want %s", symbol, stream, got, want)
					}
				}
			}
			v.verify(t, db)
			checkReplay(t, db, v)
		})
	}
}

func (a *agent) kill9() { a.kill() }

// isAlone starts others that would write the same journal, or the same symbols of
// the same database: they must refuse.
func (a *agent) isAlone(v *venue, db database) {
	a.t.Helper()
	for what, journal := range map[string]string{"journal": v.journal, "coverage": v.journal + "-of-another"} {
		p := start(a.t, nil, "capture", "-c", v.conf, "--journal", journal, "--questdb", db.conf(), "--listen", "127.0.0.1:0")
		if code := p.wait(patience); code != 1 || !strings.Contains(p.errout.String(), what) {
			a.t.Errorf("a second agent ended with %d, want 1 and why (%s):\n%s", code, what, tail(p.errout.String()))
		}
	}
}

// recordFor lets the agent record, from the moment when its books are live, and
// returns its status at the end.
func (a *agent) recordFor(d time.Duration) agentStatus {
	a.t.Helper()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		live := 0
		st := a.status()
		for _, s := range st.Symbols {
			if s.Coverage["book"].State == "verified" {
				live++
			}
		}
		if live > 0 && live == len(st.Symbols) {
			break
		}
		if time.Since(began) > patience {
			a.t.Fatalf("the books are not live: %+v", st)
		}
	}
	time.Sleep(d)
	return a.status()
}
