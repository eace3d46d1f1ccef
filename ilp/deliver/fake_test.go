package deliver

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"deeptape/ilp/line/linetest"
	"deeptape/ilp/qdb"
	"deeptape/ilp/schema"
)

// rowKey is what DEDUP goes by.
type rowKey struct {
	table, symbol, stream string
	ts                    int64
}

// fakeDB answers like QuestDB 9.3.4 and keeps rows in a set, as DEDUP does. Its
// faults are what the failure table of the real one lists.
type fakeDB struct {
	t    *testing.T
	addr string

	mu          sync.Mutex
	server      *http.Server
	rows        map[rowKey]linetest.Row
	posts       int
	requests    int
	again       int // rows that came again
	rng         *rand.Rand
	faulty      bool
	poison      map[rowKey]bool
	foreign     int  // a status in place of the work, with foreignBody
	mended      bool // poison is taken
	foreignBody string
	maxBody     int            // larger ones get 413
	schema      map[string]int // tables that are missing: so many posts refused
	read        func()         // a request has been read, and is not yet stored
	stored      func(rowKey, linetest.Row)
	dropped     string                    // a table that is not there
	swallows    func([]linetest.Row) bool // a request is answered with 204 and not stored
	wal         string                    // dataset of wal_tables()
}

func newFakeDB(t *testing.T, seed uint64) *fakeDB {
	f := &fakeDB{t: t, rows: map[rowKey]linetest.Row{}, rng: rand.New(rand.NewPCG(seed, 77)), poison: map[rowKey]bool{}, schema: map[string]int{}}
	f.up()
	t.Cleanup(f.down)
	return f
}

// up serves, at the same address as before.
func (f *fakeDB) up() {
	addr := f.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	var ln net.Listener
	var err error
	for range 6000 { // the kernel may still be closing the old one
		if ln, err = net.Listen("tcp", addr); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.addr = ln.Addr().String()
	f.server = &http.Server{Handler: f}
	go f.server.Serve(ln)
}

// down: connections break, new ones are refused.
func (f *fakeDB) down() { f.server.Close() }

func (f *fakeDB) conf() qdb.Conf { return qdb.Conf{Addr: f.addr} }

func (f *fakeDB) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func keyOf(row *linetest.Row) rowKey {
	k := rowKey{table: row.Table, ts: row.Ts}
	sym, _ := row.Get("symbol").(linetest.Symbol)
	stream, _ := row.Get("stream").(linetest.Symbol)
	k.symbol, k.stream = string(sym), string(stream)
	if row.Table == "capture_stats" {
		counter, _ := row.Get("counter").(linetest.Symbol)
		k.symbol = string(counter)
	}
	return k
}

func refuse(w http.ResponseWriter, status int, message string, line int) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if line > 0 {
		fmt.Fprintf(w, `{"code":"invalid","message":"failed to parse line protocol:errors encountered on line(s):\n%s","line":%d,"errorId":"x"}`, message, line)
	} else {
		fmt.Fprintf(w, `{"code":"internal error","message":%q}`, message)
	}
}

func (f *fakeDB) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/ping" { // where a redirect leads
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if r.URL.Path == "/exec" {
		f.mu.Lock()
		defer f.mu.Unlock()
		if sql := r.URL.Query().Get("query"); strings.Contains(sql, " WHERE ts IN (") {
			f.instants(w, sql)
			return
		}
		fmt.Fprintf(w, `{"columns":[{"name":"name","type":"STRING"},{"name":"suspended","type":"BOOLEAN"},{"name":"writerTxn","type":"LONG"},{"name":"sequencerTxn","type":"LONG"},{"name":"errorMessage","type":"STRING"}],"dataset":[%s],"count":%d}`,
			f.wal, strings.Count(f.wal, "["))
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	f.mu.Lock()
	f.requests++
	if f.foreign != 0 {
		w.Header().Set("Location", "/ping")
		w.WriteHeader(f.foreign)
		io.WriteString(w, f.foreignBody)
		f.mu.Unlock()
		return
	}
	fault, slow := -1, time.Duration(0)
	if f.faulty && f.rng.IntN(3) > 0 {
		fault = f.rng.IntN(7)
		slow = time.Duration(f.rng.IntN(20)) * time.Millisecond
	}
	f.mu.Unlock()
	switch fault {
	case 0:
		refuse(w, 500, "oops", 0)
		return
	case 1:
		refuse(w, 500, "write error: book_delta, errno: 28, error: No space left on device", 0)
		return
	case 2:
		refuse(w, 421, "instance is read-only", 0)
		return
	case 3: // gone before it stores
		f.hangUp(w)
		return
	case 5:
		time.Sleep(slow)
	}
	if f.read != nil {
		f.read()
	}
	if !f.store(w, body) {
		return
	}
	if fault == 4 || fault == 6 { // gone after it has stored: the answer is lost
		f.hangUp(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (f *fakeDB) hangUp(w http.ResponseWriter) {
	if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
		c.Close()
	}
}

// store takes all rows of a request or none.
func (f *fakeDB) store(w http.ResponseWriter, body []byte) bool {
	rows, err := linetest.Decode(body)
	if err != nil {
		f.t.Errorf("a request does not parse: %v", err)
		refuse(w, 400, err.Error(), 1)
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.maxBody > 0 && len(body) > f.maxBody {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return false
	}
	for i := range rows {
		if rows[i].Table != rows[0].Table {
			f.t.Errorf("one request for tables %s and %s", rows[0].Table, rows[i].Table)
		}
		if n := f.schema[rows[i].Table]; n > 0 {
			f.schema[rows[i].Table]--
			refuse(w, 400, fmt.Sprintf("error in line %d: table: %s; table does not exist, creating new tables is disabled", i+1, rows[i].Table), i+1)
			return false
		}
		if f.poison[keyOf(&rows[i])] && !f.mended {
			w.WriteHeader(400)
			fmt.Fprintf(w, `{"code":"invalid","message":"line protocol value: 40000 is out bounds of column type: SHORT","line":%d}`, i+1)
			return false
		}
	}
	f.posts++
	if f.swallows != nil && f.swallows(rows) {
		return true
	}
	for i := range rows {
		k := keyOf(&rows[i])
		if _, ok := f.rows[k]; ok && k.stream == "" {
			f.again++
		}
		if f.stored != nil {
			f.stored(k, rows[i])
		}
		f.rows[k] = rows[i]
	}
	return true
}

// chaos has bad times, with the server away in between, and good ones, in which
// what was deferred is caught up, until stop closes.
func (f *fakeDB) chaos(seed uint64, stop chan struct{}) {
	rng := rand.New(rand.NewPCG(seed, 78))
	wait := func(ms int) bool {
		select {
		case <-stop:
			return false
		case <-time.After(time.Duration(ms) * time.Millisecond):
			return true
		}
	}
	for on := true; on; on = wait(50 + rng.IntN(150)) {
		f.set(func() { f.faulty = true })
		wait(rng.IntN(100))
		f.down()
		wait(rng.IntN(50))
		f.up()
		wait(rng.IntN(100))
		f.set(func() { f.faulty = false })
	}
}

// The fake goes by the keys that the tables have.
func TestFakeKeys(t *testing.T) {
	for _, table := range schema.Tables() {
		want := "ts venue symbol"
		switch table.Name {
		case "coverage":
			want += " stream"
		case "capture_stats":
			want = "ts venue connection counter"
		}
		if got := strings.Join(table.Keys, " "); got != want {
			t.Errorf("%s: keys %s, the fake has %s", table.Name, got, want)
		}
	}
}

var errNotReady = errors.New("the fake is not ready")
