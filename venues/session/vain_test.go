package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/venues/wire"
)

// Ten refusals with one status are an error until a connection comes about; other
// statuses begin anew, and a network that is away says nothing.
func TestVain(t *testing.T) {
	status := 404
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	defer srv.Close()
	dial := DialWire(wire.NewClock())
	var s Session
	refuse := func(n int) {
		for range n {
			_, err := dial(context.Background(), srv.URL, 1<<20)
			s.vain[0].failed(err)
		}
	}
	refuse(9)
	s.vain[0].failed(errors.New("connection refused"))
	if s.InVain() != "" {
		t.Errorf("after 9: %q", s.InVain())
	}
	refuse(1)
	if got := s.InVain(); !strings.Contains(got, "10 connects in a row were answered with status 404") || !strings.Contains(got, "ws_url") {
		t.Errorf("after 10: %q", got)
	}
	status = 503
	refuse(9)
	if s.InVain() != "" {
		t.Errorf("9 of another status: %q", s.InVain())
	}
	refuse(1)
	if s.InVain() == "" {
		t.Error("10 of another status, and nothing is told")
	}
	s.vain[0].connected()
	if s.InVain() != "" {
		t.Errorf("after a connection: %q", s.InVain())
	}
}

// A certificate that is not trusted is told at once.
func TestVainCertificate(t *testing.T) {
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	_, err := DialWire(wire.NewClock())(context.Background(), srv.URL, 1<<20)
	var s Session
	s.vain[0].failed(err)
	if got := s.InVain(); !strings.Contains(got, "certificate is not trusted") || !strings.Contains(got, "unknown authority") {
		t.Errorf("%q", got)
	}
}

// A session counts its refused connects, and goes on trying; its URLs keep their queries.
func TestVainSession(t *testing.T) {
	v := newTestVenue(t)
	refuse := true
	v.accept = func(int) int {
		if refuse {
			return http.StatusNotFound
		}
		return 0
	}
	asked := make(chan string, 100)
	v.http.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case asked <- r.URL.Path + "?" + r.URL.RawQuery:
		default:
		}
		v.serve(w, r)
	})
	r := newRig(t, v, rigOptions{change: func(s *Session) {
		s.vain[0].status, s.vain[0].times = http.StatusNotFound, vainAfter-1
		s.opt.WSURL += "?timeUnit=MICROSECOND"
		s.opt.RestURL += "?key=1"
	}})
	r.wait("the error", func() bool { return r.s.InVain() != "" })
	v.set(func() { refuse = false })
	r.wait("its end", func() bool { return r.s.InVain() == "" })
	want := map[string]bool{"/stream?streams=btcusdt@depth@100ms&timeUnit=MICROSECOND": true, "/api/v3/depth?symbol=BTCUSDT&limit=100&key=1": true}
	seen := ""
	r.wait("both URLs", func() bool {
		select {
		case url := <-asked:
			seen += fmt.Sprintln(url)
			delete(want, url)
		default:
		}
		return len(want) == 0
	})
	r.stop()
}

// TestVainSecondLine: a second connection that is refused with the same status for ever is
// told as well; the first one records meanwhile.
func TestVainSecondLine(t *testing.T) {
	v := newTestVenue(t)
	refuse := true
	v.accept = func(n int) int {
		if n > 1 && refuse {
			return http.StatusNotFound
		}
		return 0
	}
	r := newRig(t, v, rigOptions{change: func(s *Session) {
		s.opt.Lines = 2
		s.vain[1].status, s.vain[1].times = http.StatusNotFound, vainAfter-1
	}})
	c := v.conn()
	r.wait("the error", func() bool { return strings.HasPrefix(r.s.InVain(), "the second connection: 10 connects in a row") })
	c.send(t, diff("BTCUSDT", 1))
	r.wait("a frame", func() bool { return r.count(event.InputFrame) >= 2 }) // the ack is the first
	v.set(func() { refuse = false })
	r.wait("its end", func() bool { return r.s.InVain() == "" })
	r.stop()
}
