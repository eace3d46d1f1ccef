package session

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/lane"
	"deeptape/hotpath/ring"
	"deeptape/hotpath/task"
	"deeptape/venues"
	"deeptape/venues/feed"
	"deeptape/venues/registry"
)

// sender is a session that only sends, on a connection and a clock of the test.
type sender struct {
	*Session
	conn  *listener
	clock *handClock
	log   bytes.Buffer
}

type handClock struct{ ns int64 }

func (c *handClock) NowNs() int64 { return c.ns }

// listener keeps what it is sent.
type listener struct {
	Conn
	texts []string
}

func (l *listener) WriteText(b []byte) error { l.texts = append(l.texts, string(b)); return nil }

func newSender(t *testing.T, clock *handClock, venue venues.Venue, budgets *Budgets, symbols ...string) *sender {
	r := &sender{conn: &listener{}, clock: clock}
	name := venue.Rules().Name
	cfg := feed.Config{Version: feed.Version, Venue: name, TopLevels: 5, Depth: venue.Rules().Depth}
	for _, s := range symbols {
		cfg.Instruments = append(cfg.Instruments, event.Instrument{Venue: name, Symbol: s})
	}
	data, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	bell := ring.NewDoorbell()
	l := lane.New(7, lane.Options{InputBytes: 1 << 20, RowBytes: 1 << 20, InputOwnedBytes: 1 << 20, RowOwnedBytes: 1 << 20}, bell, bell)
	r.Session = New(Options{Venue: venue, Clock: clock, Sched: task.Real{}, Budgets: budgets, Log: slog.New(slog.NewTextHandler(&r.log, nil))}, l, cfg, 0)
	r.stopping = context.Background()
	if _, err := r.input(event.InputRun, clock.ns, 0, data); err != nil {
		t.Fatal(err)
	}
	return r
}

// connect as serveAll does.
func (r *sender) connect(t *testing.T) {
	r.Session.conn, r.sends = r.conn, nil
	r.limits[0] = newLimits(r.opt.Venue.Rules(), r.opt.Budgets)
	if _, err := r.input(event.InputConnect, r.clock.ns, 1, nil); err != nil {
		t.Fatal(err)
	}
	r.unreserve(0)
}

func (r *sender) flush(t *testing.T) (sent []string) {
	r.conn.texts = nil
	if err := r.send(); err != nil {
		t.Fatal(err)
	}
	return r.conn.texts
}

// Subscriptions beyond the venue's limit of an hour wait, in their order, and are told
// of; pings pass by them. Another connection has an hour of its own.
func TestHourOfSubscriptions(t *testing.T) {
	okx, err := registry.ByName("okx")
	if err != nil {
		t.Fatal(err)
	}
	rules := *okx.Rules()
	rules.CommandsPerSecond, rules.CommandsPerHour = 1000, 10 // 8 with headroom
	v := quick{okx, rules}
	r := newSender(t, &handClock{ns: 1e18}, v, NewBudgets(&rules), "BTC-USDT")
	r.connect(t)
	r.sends = nil
	add := func(n int) {
		for range n {
			r.sends = append(r.sends, command{text: fmt.Sprintf("c%d", len(r.sends))})
		}
		r.sends = append(r.sends, command{ping: true, text: "ping"})
	}
	add(12)
	if got := strings.Join(r.flush(t), " "); got != "c0 c1 c2 c3 c4 c5 c6 c7 ping" {
		t.Errorf("sent %s", got)
	}
	for range 59 * 4 {
		r.clock.ns += 15e9
		r.sends = append(r.sends, command{ping: true, text: "ping"})
		if got := r.flush(t); !slices.Equal(got, []string{"ping"}) {
			t.Fatalf("sent %s", got)
		}
	}
	if n := strings.Count(r.log.String(), "used up"); n != 1 || r.counters.CommandsHeld.Load() != 1 {
		t.Errorf("told %d times: %s", n, r.log.String())
	}
	r.clock.ns += 2 * int64(time.Minute)
	if got := strings.Join(r.flush(t), " "); got != "c8 c9 c10 c11" || len(r.sends) != 0 {
		t.Errorf("sent %s, %d wait", got, len(r.sends))
	}
	for range 4 {
		r.connect(t)
		r.sends = nil
		add(8)
		if got := r.flush(t); len(got) != 9 {
			t.Errorf("sent %s on a new connection", got)
		}
	}
}

// Where the venue counts the commands of an address, the connections share the limit, no
// window has more, and each that is dialled soon sends its first command: the venue cuts
// one that is up for 5 s without.
func TestCommandsOfAddress(t *testing.T) {
	v, err := registry.ByName("coinbase")
	if err != nil {
		t.Fatal(err)
	}
	rules := v.Rules()
	clock := &handClock{ns: 1e18}
	budgets := NewBudgets(rules)
	const sessions = 13
	var all []*sender
	for i := range sessions {
		var symbols []string
		for k := range 4 {
			symbols = append(symbols, fmt.Sprintf("A%d%d-USD", i, k))
		}
		all = append(all, newSender(t, clock, v, budgets, symbols...))
	}
	start := clock.ns
	up, first := make([]int64, sessions), make([]int64, sessions)
	var sentAt []int64
	for total := 0; total < 9*sessions; clock.ns += 50e6 {
		if clock.ns-start > 60e9 {
			t.Fatalf("%d commands in a minute", total)
		}
		for i, r := range all {
			if up[i] == 0 && r.reserve(0) {
				r.connect(t)
				up[i] = clock.ns
				for range 20 * (i % 2) { // books that resync at once
					r.sends = append(r.sends, command{text: "again"})
				}
			}
			if up[i] == 0 {
				continue
			}
			for _, text := range r.flush(t) {
				sentAt = append(sentAt, clock.ns)
				if text != "again" {
					total++
				}
				if first[i] == 0 {
					first[i] = clock.ns
				}
			}
		}
	}
	for i := range all {
		if waited := first[i] - up[i]; waited > 3e9 {
			t.Errorf("connection %d was silent for %s", i, time.Duration(waited))
		}
	}
	for i, at := range sentAt {
		n := 0
		for n < i && at-sentAt[i-n] < 1e9 {
			n++
		}
		if n > rules.CommandsPerSecond {
			t.Fatalf("%d commands within a second", n)
		}
	}
	for _, r := range all { // the stop
		r.sends = nil
		r.tellQueue()
	}
	if n := budgets.queued.Load(); n != 0 {
		t.Errorf("%d commands are said to wait", n)
	}
	t.Logf("%d commands of %d connections in %s", len(sentAt), sessions, time.Duration(clock.ns-start))
}

// A dial that fails gives back what it reserved.
func TestReservation(t *testing.T) {
	v, _ := registry.ByName("coinbase")
	budgets := NewBudgets(v.Rules())
	a := newSender(t, &handClock{ns: 1e18}, v, budgets, "A-USD", "B-USD", "C-USD", "D-USD")
	b := newSender(t, &handClock{ns: 1e18}, v, budgets, "E-USD", "F-USD", "G-USD", "H-USD")
	if !a.reserve(0) || b.reserve(0) || b.reserve(1) {
		t.Error("two connections are dialled at once")
	}
	a.unreserve(0)
	if !b.reserve(1) || budgets.queued.Load() != 9 {
		t.Errorf("%d wait", budgets.queued.Load())
	}
	b.unreserve(1)
	if budgets.queued.Load() != 0 {
		t.Errorf("%d wait", budgets.queued.Load())
	}
}

// An answer that limits us is obeyed; a ban is never asked about again at once.
func TestPenalties(t *testing.T) {
	for _, c := range []struct {
		status     int
		retryAfter time.Duration
		want       time.Duration
	}{
		{429, 0, time.Second}, {429, 30 * time.Second, 30 * time.Second},
		{418, 0, 2 * time.Minute}, {418, time.Hour, time.Hour}, {418, 5 * time.Second, 5 * time.Second},
		{503, 5 * time.Second, 5 * time.Second}, {503, 0, 0}, {200, 0, 0},
	} {
		if got := penalty(c.status, c.retryAfter); got != c.want {
			t.Errorf("%d with Retry-After %s: %s, want %s", c.status, c.retryAfter, got, c.want)
		}
	}
}
