package endtoend

import (
	"deeptape/cmd/localdb/dbtest"
	"os"
	"strings"
	"testing"
	"time"
)

// Two agents record the same symbol into one database, each under a prefix of its own:
// neither is a second writer of the other's tables, and each record is proven by itself,
// from the database and with its journal. The tables without a prefix stay empty.
func TestTablePrefix(t *testing.T) {
	db := emptyDatabase(t)
	var venues []*venue
	var agents []*agent
	for _, prefix := range []string{"one_", "two_"} {
		v := startVenue(t, t.TempDir(), "--seed", "5", "binance:BTCUSDT,ETHUSDT")
		text, err := os.ReadFile(v.conf)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(v.conf, append([]byte("table_prefix: "+prefix+"\n"), text...), 0o600); err != nil {
			t.Fatal(err)
		}
		venues, agents = append(venues, v), append(agents, startAgent(t, v, db))
	}
	time.Sleep(8 * time.Second)
	for i, a := range agents {
		if st := a.status(); len(st.Troubles) > 0 || st.Rows["book_delta"].Acked == 0 {
			t.Errorf("agent %d: %q, %d rows", i, st.Troubles, st.Rows["book_delta"].Acked)
		}
		a.interrupt()
		if code := a.wait(20 * time.Second); code != 0 {
			t.Errorf("agent %d: exit code %d", i, code)
		}
	}
	for i, v := range venues {
		prefix := []string{"one_", "two_"}[i]
		if got := v.verify(t, db); !strings.Contains(got, "OK: all that is called verified is proven") || !strings.Contains(got, "BTCUSDT") {
			t.Errorf("%s: verify proved no book:\n%s", prefix, got)
		}
		run(t, 0, nil, "verify", "-c", v.conf, "--questdb", db.conf())
		run(t, 0, nil, "schema", "--check", "-c", v.conf, "--questdb", db.conf())
		if got := run(t, 0, nil, "coverage", "-c", v.conf, "--questdb", db.conf()); !strings.Contains(got, "BTCUSDT") {
			t.Errorf("%s: coverage tells nothing:\n%s", prefix, got)
		}
		for _, table := range []string{"book_delta", "book_top", "trades", "quotes", "coverage", "instruments", "capture_stats"} {
			if n := db.export("SELECT count() n FROM " + prefix + table)[0]["n"]; n == "0" {
				t.Errorf("%s%s is empty", prefix, table)
			}
			if db.export("SELECT count() n FROM tables() WHERE table_name = '" + table + "'")[0]["n"] == "0" {
				continue
			}
			if n := db.export("SELECT count() n FROM " + table)[0]["n"]; n != "0" {
				t.Errorf("%s has %s rows, and nobody writes to it", table, n)
			}
		}
		// A replay goes to the same tables, where DEDUP absorbs it.
		run(t, 0, nil, "replay", "-c", v.conf, "--questdb", db.conf(), "--journal", v.journal)
		v.verify(t, db)
	}
}

// TestTableInTheWay: a table of somebody else's has a name of ours. The start ends with 2,
// says which table it is, of what columns, and what to do, and changes nothing; and what it
// says to do helps.
func TestTableInTheWay(t *testing.T) {
	share(t, waits, 15*time.Second)
	db := database{t, dbtest.StartOwn(t).HTTP}
	db.get("/exec", "CREATE TABLE trades (at TIMESTAMP, price DOUBLE)")
	db.get("/exec", "INSERT INTO trades VALUES (1, 2.5)")
	v := startVenue(t, t.TempDir(), "--seed", "5", "binance:BTCUSDT")
	args := []string{"capture", "-c", v.conf, "--journal", v.journal, "--questdb", db.conf(), "--listen", "off", "--for", "5s"}
	p := start(t, nil, args...)
	if code := p.wait(patience); code != 2 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"trades", "at TIMESTAMP, price DOUBLE", "questdb", "table_prefix"} {
		if said := p.errout.String(); !strings.Contains(said, want) {
			t.Errorf("should say %q:\n%s", want, said)
		}
	}
	if n := len(db.export("SELECT table_name FROM tables() WHERE table_name NOT LIKE 'sys.%' AND table_name NOT LIKE 'telemetry%'")); n != 1 {
		t.Errorf("%d tables after a start that was refused, want the one that was in the way", n)
	}
	text, err := os.ReadFile(v.conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(v.conf, append([]byte("table_prefix: mine_\n"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, 0, nil, args...)
	if n := db.export("SELECT count() n FROM mine_book_delta")[0]["n"]; n == "0" {
		t.Error("with a prefix nothing is stored")
	}
	if rows := db.export("SELECT price FROM trades"); len(rows) != 1 || rows[0]["price"] != "2.5" {
		t.Errorf("the table that was in the way has %v", rows)
	}
	v.verify(t, db)
}
