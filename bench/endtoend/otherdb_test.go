package endtoend

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"deeptape/cmd/localdb/dbtest"
)

// TestEmptyDatabase: QuestDB is exchanged for an empty one while an agent records. Tables are
// made, and what is missing is a trouble with the command that brings it back; instruments
// and the intervals that go on come by themselves. After the command the whole is proven.
func TestEmptyDatabase(t *testing.T) {
	share(t, works, 70*time.Second)
	full, empty := database{t, dbtest.StartOwn(t).HTTP}, database{t, dbtest.StartOwn(t).HTTP}
	proxy := startProxy(t, full.addr)
	v := startVenue(t, t.TempDir(), "binance:EMPUSDT", "kraken:EMP/USD", "--seed", "43", "--for", "10m")
	a := startAgent(t, v, proxy.database())
	a.recordFor(3 * time.Second)
	for began := time.Now(); a.status().Rows["book_delta"].Acked == 0; time.Sleep(100 * time.Millisecond) {
		if time.Since(began) > 2*time.Minute {
			t.Fatalf("nothing is acknowledged: %+v", a.status())
		}
	}
	a.isWell(patience)

	proxy.isAway(true)
	proxy.mu.Lock()
	proxy.to = empty.addr
	proxy.mu.Unlock()
	proxy.isAway(false)
	a.isIll("questdb", 2*time.Minute, "lacks rows that it has acknowledged", "deeptape replay --journal ")
	for _, symbol := range []string{"EMPUSDT", "EMP/USD"} {
		for began := time.Now(); ; time.Sleep(200 * time.Millisecond) {
			instruments := empty.export("SELECT count() n FROM instruments WHERE symbol = '" + symbol + "'")[0]["n"]
			coverage := empty.export("SELECT count_distinct(stream) n FROM coverage WHERE symbol = '" + symbol + "'")[0]["n"]
			if instruments != "0" && coverage >= "2" {
				break
			}
			if time.Since(began) > patience {
				t.Fatalf("%s: %s rows of instruments, coverage of %s streams", symbol, instruments, coverage)
			}
		}
	}
	run(t, 0, nil, "replay", "--journal", v.journal, "--questdb", empty.conf())
	a.isWell(2 * time.Minute)
	a.interrupt()
	empty.applied()
	v.verify(t, empty)
	before := full.export("SELECT count() n FROM book_delta")[0]["n"]
	since := full.export("SELECT max(ts) ts FROM book_delta")[0]["ts"]
	if again := empty.export("SELECT count() n FROM book_delta WHERE ts <= '" + since + "'")[0]["n"]; again != before {
		t.Errorf("the first database has %s rows of book_delta, and of that time the second has %s", before, again)
	}
}

// TestTablesOfBefore: a table of an older version lacks a column. The start fails and
// says which, with the statement that adds it; after that it records.
func TestTablesOfBefore(t *testing.T) {
	share(t, waits, 20*time.Second)
	db := database{t, dbtest.StartOwn(t).HTTP}
	v := startVenue(t, t.TempDir(), "binance:OLDUSDT", "--seed", "47", "--for", "10m")
	ddl := run(t, 0, nil, "schema")
	table := regexp.MustCompile(`(?s)CREATE TABLE IF NOT EXISTS trades .*?;`).FindString(ddl)
	older := regexp.MustCompile(`\n[^\n]*\btrade_id [^\n]*`).ReplaceAllString(table, "")
	if table == "" || older == table {
		t.Fatalf("the DDL is not as it was:\n%s", ddl)
	}
	db.get("/exec", strings.TrimSuffix(regexp.MustCompile(`--[^\n]*`).ReplaceAllString(older, ""), ";"))
	args := []string{"capture", "-c", v.conf, "--journal", v.journal, "--questdb", db.conf(), "--listen", "off", "--for", "4s"}
	p := start(t, nil, args...)
	if code := p.wait(patience); code != 1 {
		t.Errorf("exit code %d", code)
	}
	heal := regexp.MustCompile(`ALTER TABLE trades ADD COLUMN trade_id \w+`).FindString(p.errout.String())
	if heal == "" {
		t.Fatalf("nobody says what heals it:\n%s", p.errout.String())
	}
	db.get("/exec", heal)
	run(t, 0, nil, args...)
	v.verify(t, db)
	if n := db.export("SELECT count() n FROM trades WHERE trade_id IS NOT NULL")[0]["n"]; n == "0" {
		t.Error("no trade has its id")
	}
}

// TestSecondAgent: a second agent, with a journal of its own, would write the same symbols
// into the same tables. It is refused while the first one extends its coverage.
func TestSecondAgent(t *testing.T) {
	share(t, waits, 15*time.Second)
	db := database{t, dbtest.Start(t)}
	v := startVenue(t, t.TempDir(), "binance:TWOUSDT", "--seed", "53", "--for", "10m")
	a := startAgent(t, v, db)
	a.recordFor(2 * time.Second)
	a.isWell(patience)
	p := start(t, nil, "capture", "-c", v.conf, "--journal", t.TempDir(), "--questdb", db.conf(), "--listen", "off", "--for", "20s")
	if code := p.wait(patience); code == 0 || !strings.Contains(p.errout.String(), "TWOUSDT") {
		t.Errorf("exit code %d\n%s", code, p.errout.String())
	}
	a.isWell(patience)
	a.interrupt()
	v.verify(t, db)
}
