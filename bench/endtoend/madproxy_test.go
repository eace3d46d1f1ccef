package endtoend

import (
	"bytes"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"deeptape/cmd/localdb/dbtest"
)

// TestMadProxy: something between the agent and QuestDB answers in its place. Whatever it
// says, no row goes into quarantine and none is lost: it is told, and when the proxy behaves
// again everything is stored. Only a 204 for what was thrown away needs the command that the
// agent names.
func TestMadProxy(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	if race {
		t.Skip("TestKilled is what the race detector sees of this")
	}
	share(t, waits, 60*time.Second)
	db := database{t, dbtest.StartOwn(t).HTTP}
	proxy := startProxy(t, db.addr)
	symbols := []string{"MADUSDT", "PRXUSDT"}
	const length = 40 * time.Minute // nobody waits for its end
	m := newMarket(t, 41, length, symbols...)
	v := startVenue(t, t.TempDir(), "binance:"+strings.Join(symbols, ","), "--seed", "41", "--start", marketStart, "--speed", "8", "--for", length.String())
	a := startAgent(t, v, proxy.database())
	a.recordFor(500 * time.Millisecond)
	a.isWell(patience)

	says := func(status int, contentType, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			w.Write([]byte(text))
		}
	}
	endless := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}
	for _, c := range []struct {
		name string
		mad  http.HandlerFunc
		told string
	}{
		{"400 in HTML", says(400, "text/html", "<html><body>Bad Request</body></html>"), "status 400 is not QuestDB's word"},
		{"400 cut short", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "500")
			w.WriteHeader(400)
			w.Write([]byte(`{"code":"invalid","message":"failed to parse line protocol:errors encoun`))
			panic(http.ErrAbortHandler)
		}, "."},
		{"413", says(413, "text/html", "<html>Request Entity Too Large</html>"), "the limit of the proxy before it"},
		{"302", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) }, "302"},
		{"an endless 400", endless, "."},
	} {
		began := time.Now()
		proxy.writes(func(w *written) { w.mad = c.mad })
		a.isIll("questdb", promptly, c.told)
		proxy.writes(nil)
		a.isWell(patience)
		t.Logf("%s: %s", c.name, time.Since(began).Round(100*time.Millisecond))
	}
	proxy.queries(says(200, "application/json", `{"columns":[{"name":"name","type":"VARCHAR"}],"dataset":[["quotes"]],"count":1}`))
	a.isIll("questdb", promptly, "it has no column")
	proxy.queries(nil)
	a.isWell(patience)

	// For a moment somebody says 204 and stores nothing; the rows behind it are there.
	var swallowed atomic.Int64
	proxy.writes(func(w *written) {
		if bytes.HasPrefix(w.body, []byte("book_delta,")) {
			swallowed.Add(1)
		}
		w.mad = says(204, "", "")
	})
	for began := time.Now(); swallowed.Load() < 2; time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatal("no batch comes")
		}
	}
	proxy.writes(nil)
	a.isIll("questdb", 2*time.Minute, "lacks rows that it has acknowledged", "does nothing answer in its place", "deeptape replay --journal ")
	proxy.writes(nil)
	run(t, 0, nil, "replay", "--journal", v.journal, "--questdb", db.conf())
	a.isWell(time.Minute)
	if st := a.status(); st.LedgerDifference != 0 || st.Frames["lost"] != 0 {
		t.Errorf("ledger: %+v", st)
	}
	a.interrupt()
	db.applied()
	if _, err := os.Stat(filepath.Join(v.journal, "quarantine")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the quarantine: %v", err)
	}
	checkWhole(t, db, m, symbols)
	v.verify(t, db)
}
