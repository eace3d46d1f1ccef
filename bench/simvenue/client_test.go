package simvenue

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// patience is for what must happen, however slow the machine is: only a test that
// fails waits that long.
const patience = time.Minute

// client is a plain one: it shows what is on the wire and answers nothing
// unless told to.
type client struct {
	t    *testing.T
	sock net.Conn
	r    io.Reader
}

func dial(t *testing.T, s *Server, path string) *client {
	t.Helper()
	return dialURL(t, s.WSURL()+path)
}

func dialURL(t *testing.T, url string) *client {
	t.Helper()
	sock, br, _, err := ws.Dial(context.Background(), url)
	if err != nil {
		t.Fatalf("cannot dial %s: %v", url, err)
	}
	if br == nil {
		br = bufio.NewReaderSize(sock, 64<<10)
	}
	c := &client{t: t, sock: sock, r: br}
	t.Cleanup(func() { sock.Close() })
	return c
}

// next returns the next frame, whatever it is.
func (c *client) next(within time.Duration) (ws.Frame, error) {
	c.sock.SetReadDeadline(time.Now().Add(within))
	//lint:ignore SA1019 the peer is our own server
	return ws.ReadFrame(c.r)
}

// text returns the next text frame, answering pings.
func (c *client) text(within time.Duration) (string, error) {
	for {
		f, err := c.next(within)
		if err != nil {
			return "", err
		}
		switch f.Header.OpCode {
		case ws.OpText:
			return string(f.Payload), nil
		case ws.OpPing:
			wsutil.WriteClientMessage(c.sock, ws.OpPong, f.Payload)
		case ws.OpClose:
			code, reason := ws.ParseCloseFrameData(f.Payload)
			return "", fmt.Errorf("closed %d %s", code, reason)
		}
	}
}

func (c *client) mustText() string {
	c.t.Helper()
	s, err := c.text(patience)
	if err != nil {
		c.t.Fatalf("no frame: %v", err)
	}
	return s
}

// silent fails if a text frame comes within d.
func (c *client) silent(d time.Duration) {
	c.t.Helper()
	s, err := c.text(d)
	var n net.Error
	if err == nil || !errors.As(err, &n) || !n.Timeout() {
		c.t.Fatalf("want silence, got %q, %v", s, err)
	}
}

// all returns the texts until the feeds have ended and what they sent to their only
// client, this one, has come.
func (c *client) all(s *Server) (texts []string) {
	c.t.Helper()
	came := make(chan string)
	go func() {
		defer close(came)
		for {
			text, err := c.text(patience)
			if err != nil {
				return
			}
			came <- text
		}
	}()
	for tick := time.Tick(10 * time.Millisecond); ; {
		select {
		case text, ok := <-came:
			if !ok {
				c.t.Fatalf("the connection ended after %d frames: %+v", len(texts), s.Status())
			}
			texts = append(texts, text)
		case <-tick:
			st, sent := s.Status(), uint64(0)
			for _, x := range st.Streams {
				sent += x.Sent
			}
			if !st.Done || uint64(len(texts)) < sent {
				continue
			}
			select {
			case text := <-came:
				c.t.Fatalf("%d frames were sent, and one more came: %s", sent, text)
			case <-time.After(50 * time.Millisecond):
			}
			c.sock.Close()
			for range came { // what reads has ended
			}
			return texts
		}
	}
}

func (c *client) send(text string) {
	c.t.Helper()
	if err := wsutil.WriteClientText(c.sock, []byte(text)); err != nil {
		c.t.Fatalf("cannot send: %v", err)
	}
}

// get may be called from any goroutine.
func get(t *testing.T, url string) (int, http.Header, string) {
	r, err := http.Get(url)
	if err != nil {
		t.Errorf("cannot get %s: %v", url, err)
		return 0, nil, ""
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Errorf("cannot read %s: %v", url, err)
	}
	return r.StatusCode, r.Header, string(body)
}

// start runs a server and fails the test if it leaves a goroutine behind.
func start(t *testing.T, opt Options) *Server {
	t.Helper()
	if opt.Quiet == 0 {
		opt.Quiet = 30 * time.Millisecond
	}
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		http.DefaultClient.CloseIdleConnections()
		deadline := time.Now().Add(patience)
		for {
			buf := make([]byte, 1<<20)
			buf = buf[:runtime.Stack(buf, true)]
			left := 0
			for _, g := range strings.Split(string(buf), "\n\n") {
				if strings.Contains(g, "simvenue.(*") && !strings.Contains(g, "testing.tRunner") || strings.Contains(g, "net/http.(*conn)") {
					left++
				}
			}
			if left == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("%d goroutines left after Close:\n%s", left, buf)
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	return s
}

// write makes a recording of the lines, 10 ms apart; "rest URL|BODY" is a REST line.
func write(t *testing.T, lines ...string) Recording {
	t.Helper()
	var data, recv bytes.Buffer
	for i, l := range lines {
		dir := "ws"
		if url, body, ok := strings.Cut(strings.TrimPrefix(l, "rest "), "|"); ok && strings.HasPrefix(l, "rest ") {
			dir, l = strings.TrimSpace("rest "+url), body
		} else if strings.HasPrefix(l, "tx ") {
			dir, l = "tx", l[3:]
		}
		fmt.Fprintln(&data, l)
		fmt.Fprintf(&recv, "%d\t%s\n", 1_700_000_000_000_000_000+int64(i)*10_000_000, dir)
	}
	path := filepath.Join(t.TempDir(), "rec.jsonl")
	if err := os.WriteFile(path, data.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(strings.TrimSuffix(path, "jsonl")+"recv", recv.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return Recording{Path: path}
}

// diffLine is the wrapped diff of one symbol with one bid.
func diffLine(symbol string, first, last int, px, qty string) string {
	return fmt.Sprintf(`{"stream":"%s@depth@100ms","data":%s}`, strings.ToLower(symbol), bareDiff(symbol, first, last, px, qty))
}

func bareDiff(symbol string, first, last int, px, qty string) string {
	return fmt.Sprintf(`{"e":"depthUpdate","E":1700000000000,"s":%q,"U":%d,"u":%d,"b":[[%q,%q]],"a":[]}`, symbol, first, last, px, qty)
}

// aRecording: diffs 1-10, 11-20, REST at 15, diffs to 100; a trade in between.
func aRecording(t *testing.T, symbol string) (Recording, []string) {
	var lines []string
	for i := 0; i < 10; i++ {
		if i == 2 {
			lines = append(lines, `rest https://example.org/api/v3/depth?symbol=`+symbol+`&limit=1000|{"lastUpdateId":15,"bids":[["99.00000000","1.00000000"]],"asks":[["200.00000000","2.50000000"]]}`)
		}
		lines = append(lines, diffLine(symbol, i*10+1, i*10+10, fmt.Sprintf("%d.00000000", 100+i), fmt.Sprintf("%d.00000000", 1+i)))
		if i == 4 {
			lines = append(lines, fmt.Sprintf(`{"stream":"%s@trade","data":{"e":"trade","E":1,"s":%q,"t":7,"p":"99.00000000","q":"0.10000000","T":1,"m":true,"M":true}}`, strings.ToLower(symbol), symbol))
		}
	}
	return write(t, lines...), lines
}

func frames(lines []string) []string {
	var out []string
	for _, l := range lines {
		if !strings.HasPrefix(l, "rest ") && !strings.HasPrefix(l, "tx ") {
			out = append(out, l)
		}
	}
	return out
}

func waitDone(t *testing.T, s *Server) Status {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		st := s.Status()
		if st.Done {
			return st
		}
		if time.Now().After(deadline) {
			t.Fatalf("not done: %+v", st)
		}
	}
}

// restBook is a REST body as numbers and text.
type restBook struct {
	LastUpdateID int64       `json:"lastUpdateId"`
	Bids         [][2]string `json:"bids"`
	Asks         [][2]string `json:"asks"`
}

func parseBook(t *testing.T, body string) restBook {
	t.Helper()
	var b restBook
	if err := json.Unmarshal([]byte(body), &b); err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	return b
}

// testSeed is always the same, so that luck is no gate; DEEPTAPE_SEED=n tries another.
func testSeed(t testing.TB) uint64 {
	seed := uint64(1)
	if one, err := strconv.ParseUint(os.Getenv("DEEPTAPE_SEED"), 10, 64); err == nil {
		seed = one
	}
	t.Logf("DEEPTAPE_SEED=%d", seed)
	return seed
}
