package session

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// testVenue is a Binance that does what a test tells it.
type testVenue struct {
	t    *testing.T
	http *httptest.Server

	mu       sync.Mutex
	accept   func(n int) int // HTTP status for the nth attempt to connect, from 1; 0: upgrade
	attempts int
	depth    func(w http.ResponseWriter, symbol string)
	asked    []time.Time // depth requests
	commands []time.Time
	conns    chan *testConn
}

// testConn is one connection, as the venue sees it.
type testConn struct {
	net.Conn
	writing sync.Mutex
	ended   chan struct{} // closed when the client has gone
}

func newTestVenue(t *testing.T) *testVenue {
	v := &testVenue{t: t, conns: make(chan *testConn, 100)}
	v.accept = func(int) int { return 0 }
	v.depth = func(w http.ResponseWriter, _ string) { fmt.Fprint(w, snapshot(0)) }
	v.http = httptest.NewServer(http.HandlerFunc(v.serve))
	t.Cleanup(v.http.Close)
	return v
}

// snapshot is a book whose last id is id.
func snapshot(id int) string {
	return fmt.Sprintf(`{"lastUpdateId":%d,"bids":[["100.00","1.0"],["99.00","2.0"]],"asks":[["101.00","3.0"]]}`, id)
}

// diff is the book update with one id.
func diff(symbol string, id int) string {
	return fmt.Sprintf(`{"stream":"x","data":{"e":"depthUpdate","E":%d,"s":%q,"U":%d,"u":%d,"b":[["%d.00","1.5"]],"a":[]}}`,
		time.Now().UnixMilli(), symbol, id, id, 50+id%50)
}

func (v *testVenue) set(change func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change()
}

func (v *testVenue) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/api/v3/depth") {
		v.mu.Lock()
		v.asked = append(v.asked, time.Now())
		depth := v.depth
		v.mu.Unlock()
		depth(w, r.URL.Query().Get("symbol"))
		return
	}
	v.mu.Lock()
	v.attempts++
	status := v.accept(v.attempts)
	v.mu.Unlock()
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	sock, _, _, err := ws.UpgradeHTTP(r, w)
	if err != nil {
		return
	}
	c := &testConn{Conn: sock, ended: make(chan struct{})}
	v.conns <- c
	defer sock.Close()
	defer close(c.ended)
	for {
		text, err := wsutil.ReadClientText(sock)
		if err != nil {
			return
		}
		v.set(func() { v.commands = append(v.commands, time.Now()) })
		id := text[strings.LastIndex(string(text), ":")+1 : len(text)-1]
		c.write(`{"result":null,"id":` + string(id) + `}`)
	}
}

// conn waits for the client's next connection.
func (v *testVenue) conn() *testConn {
	v.t.Helper()
	select {
	case c := <-v.conns:
		return c
	case <-time.After(patience):
		v.t.Fatal("the session does not connect")
		return nil
	}
}

func (c *testConn) send(t *testing.T, text string) {
	t.Helper()
	if err := c.write(text); err != nil {
		t.Fatalf("cannot send: %v", err)
	}
}

// write is one frame, whole: wsutil writes its header and its payload by themselves, and
// an answer of serve must not come between.
func (c *testConn) write(text string) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return wsutil.WriteServerText(c.Conn, []byte(text))
}
