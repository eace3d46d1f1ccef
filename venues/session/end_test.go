package session

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"deeptape/hotpath/event"
	"deeptape/venues"
)

// What ends a connection, or an answer, and how that is told.

// quick is a venue with other rules.
type quick struct {
	venues.Venue
	rules venues.Rules
}

func (q quick) Rules() *venues.Rules { return &q.rules }

// A connection that brings nothing is given up, whichever line it is.
func TestSilentConnection(t *testing.T) {
	v := newTestVenue(t)
	r := newRig(t, v, rigOptions{change: func(s *Session) {
		rules := *s.opt.Venue.Rules()
		rules.DeadAfterNs = 1e9
		s.opt.Venue, s.opt.Lines = quick{s.opt.Venue, rules}, 2
	}})
	r.wait("the end of both lines", func() bool {
		var told [2]bool
		for _, in := range r.journal() {
			if in.Kind == event.InputClose && strings.Contains(string(in.Data), "nothing came for 1 s") {
				told[in.Line] = true
			}
		}
		return told[0] && told[1] && r.s.Counters().Dead.Load() >= 2
	})
	r.connects(3)
	r.stop()
}

// Seconds count, and not the clock: see silence.
func TestSilence(t *testing.T) {
	q := silence{afterS: 5}
	for i, c := range []struct {
		read int64
		dead bool
	}{
		{0, false}, {0, false}, {7, false}, // something came in the third second
		{7, false}, {7, false}, {7, false}, {7, false}, {7, false},
		{8, false}, // after a process that stood still, too
		{8, false}, {8, false}, {8, false}, {8, false}, {8, false}, {8, true},
	} {
		if err := q.second(c.read); (err != nil) != c.dead {
			t.Fatalf("second %d: %v", i, err)
		}
	}
}

// A header that promises a message beyond the venue's limit ends the connection with
// 1009 before a byte of it has come.
func TestMessageTooLong(t *testing.T) {
	v := newTestVenue(t)
	r := newRig(t, v, rigOptions{})
	c := v.conn()
	r.connects(1)
	if err := ws.WriteHeader(c, ws.Header{Fin: true, OpCode: ws.OpText, Length: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	r.wait("the end", func() bool { return r.count(event.InputClose) == 1 && r.s.Counters().TooLong.Load() == 1 })
	for _, in := range r.journal() {
		if text := string(in.Data); in.Kind == event.InputClose && (!strings.Contains(text, "more than 2097152 bytes") || !strings.Contains(text, "1009")) {
			t.Errorf("closed because of %q", text)
		}
	}
	<-c.ended
	r.connects(2)
	r.stop()
}

func TestAnswerTooLong(t *testing.T) {
	v := newTestVenue(t)
	v.set(func() {
		v.depth = func(w http.ResponseWriter, _ string) { w.Header().Set("Content-Length", "1000000000") }
	})
	r := newRig(t, v, rigOptions{})
	v.conn().send(t, diff("BTCUSDT", 1))
	r.wait("the refusal", func() bool { return r.count(event.InputRest) >= 1 && r.s.Counters().TooLong.Load() >= 1 })
	r.stop()
}
