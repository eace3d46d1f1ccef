package agent

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// A page on the web can give its own name the address of this machine, and the browser
// then lets it read what answers there. It cannot have the browser leave the name out.
func TestHostHeader(t *testing.T) {
	names := ownNames("tape.lan:9001")
	page := onlyNamed(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {}), names)
	for host, want := range map[string]int{
		"localhost:9001": 200, "LOCALHOST": 200, "a.localhost:9001": 200, "127.0.0.1:9001": 200, "[::1]:9001": 200, "[::1]": 200, "192.168.1.7:9001": 200,
		"tape.lan:9001": 200, "Tape.LAN.": 200, "": 200,
		"evil.example:9001": 421, "localhost.evil.example": 421, "127.0.0.1.evil.example:9001": 421, "tape.lan.evil.example": 421, "xlocalhost": 421,
	} {
		r := httptest.NewRequest("GET", "/status.json", nil)
		r.Host = host
		w := httptest.NewRecorder()
		if page.ServeHTTP(w, r); w.Code != want {
			t.Errorf("Host %q: %d, want %d: %s", host, w.Code, want, w.Body)
		}
	}
}

// What is left for the page is what the journal and the feeds do not need.
func TestPageConns(t *testing.T) {
	for _, c := range []struct {
		descriptors uint64
		feeds, want int
	}{{96, 1, 29}, {96, 20, pageConnsLeast}, {1024, 5, pageConnsMost}, {16, 1, pageConnsLeast}, {1 << 63, 1, pageConnsMost}} {
		if got := pageConns(c.descriptors, c.feeds); got != c.want {
			t.Errorf("%d descriptors, %d feeds: %d connections, want %d", c.descriptors, c.feeds, got, c.want)
		}
	}
}

// Who says nothing makes way; who is being answered does not, and then nobody is let in.
func TestDoor(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := newDoor(ln, 2)
	answer, asked := make(chan struct{}), make(chan struct{}, 9)
	s := &http.Server{ConnState: d.state, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		<-answer
	})}
	served := make(chan error, 1)
	go func() { served <- s.Serve(d) }()
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	ask := func(c net.Conn) { io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") }
	soon := func(c net.Conn) net.Conn { c.SetReadDeadline(time.Now().Add(20 * time.Second)); return c }

	silent := dial()
	one := dial()
	ask(one)
	<-asked
	two := dial() // takes the place of the silent one
	ask(two)
	<-asked
	if _, err := soon(silent).Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("the connection that says nothing: %v, want its end", err)
	}
	three := dial() // nobody makes way
	ask(three)
	select {
	case <-asked:
		t.Fatal("three are answered at a time, want two")
	case <-time.After(100 * time.Millisecond):
	}
	close(answer)
	for _, c := range []net.Conn{one, three} { // two may have made way after its answer
		res, err := http.ReadResponse(bufio.NewReader(soon(c)), nil)
		if err != nil || res.StatusCode != 200 {
			t.Errorf("%v, %v", res, err)
		}
	}
	s.Close()
	if err := <-served; err != http.ErrServerClosed {
		t.Error(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for began := time.Now(); len(d.in) > 0 && time.Since(began) < 20*time.Second; {
		d.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
		d.mu.Lock()
	}
	if len(d.in) > 0 {
		t.Errorf("%d connections are kept after the end", len(d.in))
	}
}
