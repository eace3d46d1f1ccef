package endtoend

import (
	"encoding/csv"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"deeptape/cmd/localdb/dbtest"
)

// database is a QuestDB, spoken to by plain HTTP.
type database struct {
	t    *testing.T
	addr string
}

// emptyDatabase is a server with no row in any table, t's alone until it ends.
func emptyDatabase(t *testing.T) database {
	t.Helper()
	db := database{t, dbtest.Borrow(t)}
	db.empty()
	return db
}

func (db database) conf() string { return "http::addr=" + db.addr + ";" }

var (
	exports sync.Map // *sync.Mutex by server
	// A connection that has exported counts as one of the two while it is open.
	client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
)

func (db database) get(path, query string) string {
	db.t.Helper()
	if path == "/exp" { // QuestDB takes two connections for exports, and verify may need one
		one, _ := exports.LoadOrStore(db.addr, &sync.Mutex{})
		one.(*sync.Mutex).Lock()
		defer one.(*sync.Mutex).Unlock()
	}
	var body []byte
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		r, err := client.Get("http://" + db.addr + path + "?query=" + url.QueryEscape(query))
		if err != nil {
			db.t.Fatal(err)
		}
		body, err = io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			db.t.Fatalf("%s: %v", query, err)
		}
		if r.StatusCode == http.StatusOK {
			break
		}
		// On a busy machine QuestDB is late to see that a connection has been closed.
		if r.StatusCode != http.StatusTooManyRequests || time.Since(began) > patience {
			db.t.Fatalf("%s: status %d: %s", query, r.StatusCode, body)
		}
	}
	return string(body)
}

func (db database) exec(sql string) {
	db.t.Helper()
	db.get("/exec", sql)
}

// row is a line of an export by column name; null is "".
type row map[string]string

// int of a column; a null or anything else fails the test.
func (r row) int(t *testing.T, column string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(r[column], 10, 64)
	if err != nil {
		t.Fatalf("column %s of %v: %v", column, r, err)
	}
	return n
}

// export returns the rows of a query as QuestDB prints them.
func (db database) export(query string) []row {
	db.t.Helper()
	r := csv.NewReader(strings.NewReader(db.get("/exp", query)))
	lines, err := r.ReadAll()
	if err != nil {
		db.t.Fatalf("%s: %v", query, err)
	}
	if len(lines) == 0 {
		db.t.Fatalf("%s: an empty answer", query)
	}
	rows := make([]row, 0, len(lines)-1)
	for _, l := range lines[1:] {
		x := row{}
		for i, name := range lines[0] {
			x[name] = l[i]
		}
		rows = append(rows, x)
	}
	return rows
}

// applied waits until everything acknowledged by now is visible.
func (db database) applied() {
	db.t.Helper()
	acked := map[string]int64{}
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		behind := ""
		for _, r := range db.export("SELECT name, suspended, writerTxn, sequencerTxn FROM wal_tables()") {
			if r["suspended"] != "false" {
				db.t.Fatalf("table suspended: %v", r)
			}
			name := r["name"]
			if _, ok := acked[name]; !ok {
				acked[name] = r.int(db.t, "sequencerTxn")
			}
			if r.int(db.t, "writerTxn") < acked[name] {
				behind = name
			}
		}
		if behind == "" {
			return
		}
		if time.Since(began) > time.Minute {
			db.t.Fatalf("table %s is still behind its WAL", behind)
		}
	}
}

// tables that hold rows, as in schema.sql.
var tables = []string{"book_delta", "book_top", "quotes", "book_depth", "trades", "instruments", "coverage", "capture_stats"}

func (db database) empty() {
	db.t.Helper()
	there := map[string]bool{}
	for _, r := range db.export("SELECT table_name FROM tables()") {
		there[r["table_name"]] = true
	}
	for _, name := range tables {
		if there[name] {
			db.exec("TRUNCATE TABLE " + name)
		}
	}
	db.applied()
	for _, name := range tables {
		if there[name] && db.export("SELECT count() n FROM " + name)[0]["n"] != "0" {
			db.t.Fatalf("table %s has rows after TRUNCATE", name)
		}
	}
}

func getJSON(t *testing.T, url string, into any) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		t.Fatalf("%s: %v", url, err)
	}
}
