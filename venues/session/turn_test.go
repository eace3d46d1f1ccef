package session

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"deeptape/hotpath/task"
	"deeptape/venues"
	"deeptape/venues/feed"
	"deeptape/venues/registry"
	"deeptape/venues/wire"
)

// ranks that compete for a limit, in the order in which they must come: what was live,
// what is new, and what fails, who has failed longest last.
var ranks = []int64{feed.RankLive, feed.RankNew, feed.RankFailed(3e18), feed.RankFailed(2e18), feed.RankFailed(1e18)}

// everyVenue runs a test for each venue.
func everyVenue(t *testing.T, test func(t *testing.T, v venues.Venue)) {
	for _, name := range registry.Names() {
		v, err := registry.ByName(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) { test(t, v) })
	}
}

func inOrder(t *testing.T, what string, got []int64) {
	t.Helper()
	if len(got) == 0 || !slices.IsSorted(got) {
		t.Errorf("%s: came in the order %v", what, got)
	}
}

// Connects: the sessions of a venue share a limit that is used up. They look in any order.
func TestTurnOfConnects(t *testing.T) {
	everyVenue(t, func(t *testing.T, v venues.Venue) {
		const seed = 3
		rng := rand.New(rand.NewPCG(seed, 1))
		clock, budgets := &handClock{ns: 4e18}, NewBudgets(v.Rules())
		for ok := true; ok; {
			ok, _ = budgets.Connects.TryTake(clock.ns, 1)
		}
		type waiting struct {
			*sender
			rank int64
		}
		var all []waiting
		for i := range 3 * len(ranks) {
			symbol := fmt.Sprintf("A%dUSDT", i)
			if v.Rules().Name == "coinbase" {
				symbol = fmt.Sprintf("A%d-USD", i)
			}
			r := newSender(t, clock, v, budgets, symbol)
			switch rank := ranks[i%len(ranks)]; rank {
			case feed.RankLive:
				r.healthy = true
			case feed.RankNew:
			default:
				r.failedNs[0] = 1<<63 - 1 - rank
			}
			all = append(all, waiting{r, ranks[i%len(ranks)]})
		}
		var got []int64
		began := clock.ns
		for ; len(all) > 0; clock.ns += 250e6 {
			if clock.ns-began > 3600e9 {
				t.Fatalf("seed %d: %d wait for an hour", seed, len(all))
			}
			rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			var now []int64
			all = slices.DeleteFunc(all, func(w waiting) bool {
				ok, _ := w.mayDial(0, w.dialRank(false))
				if ok {
					now = append(now, w.rank)
					w.unreserve(0)
				}
				return ok
			})
			slices.Sort(now) // those who fit together need not come in an order
			got = append(got, now...)
		}
		inOrder(t, "connects", got)
		if budgets.Connects.Waiting() != 0 {
			t.Errorf("%d have left a claim", budgets.Connects.Waiting())
		}
	})
}

// Commands of a connection, or of the address: what waits in a session goes by rank, but
// for the commands of one instrument, and what waits in several does.
func TestTurnOfCommands(t *testing.T) {
	everyVenue(t, func(t *testing.T, v venues.Venue) {
		const seed = 5
		rng := rand.New(rand.NewPCG(seed, 1))
		clock, budgets := &handClock{ns: 4e18}, NewBudgets(v.Rules())
		sessions := 1
		if budgets.Commands != nil {
			sessions = 4
		}
		var all []*sender
		for i := range sessions {
			symbol := fmt.Sprintf("A%dUSDT", i)
			if v.Rules().Name == "coinbase" {
				symbol = fmt.Sprintf("A%d-USD", i)
			}
			r := newSender(t, clock, v, budgets, symbol)
			r.connect(t)
			r.sends = nil
			r.limits[0].sent = true
			for ok := true; ok; {
				ok, _ = r.limits[0].second.TryTake(clock.ns, 1)
			}
			all = append(all, r)
		}
		var wishes []command
		for i := range 4 * len(ranks) {
			wishes = append(wishes, command{inst: i, rank: ranks[i%len(ranks)]})
		}
		rng.Shuffle(len(wishes), func(i, j int) { wishes[i], wishes[j] = wishes[j], wishes[i] })
		for i, c := range wishes {
			c.text = fmt.Sprintf("end %d", c.rank)
			all[i%sessions].enqueue(c)
			c.text = fmt.Sprintf("begin %d", c.rank)
			all[i%sessions].enqueue(c)
		}
		var got []int64
		began := clock.ns
		for left := 1; left > 0; clock.ns += 250e6 {
			if clock.ns-began > 600e9 {
				t.Fatalf("seed %d: %d wait for ten minutes", seed, left)
			}
			left = 0
			var now []int64
			for _, i := range rng.Perm(sessions) {
				for _, text := range all[i].flush(t) {
					var what string
					var rank int64
					fmt.Sscan(text, &what, &rank)
					now = append(now, rank)
				}
				left += len(all[i].sends)
			}
			slices.Sort(now)
			got = append(got, now...)
		}
		if len(got) != 2*len(wishes) {
			t.Errorf("%d commands, want %d", len(got), 2*len(wishes))
		}
		inOrder(t, "commands", got)
		if c := budgets.Commands; c != nil && c.Waiting() != 0 {
			t.Errorf("%d have left a claim", c.Waiting())
		}
	})
}

// The commands of one instrument never change places: one may end what the next begins.
// What is for several keeps its place, and pings wait for nobody.
func TestQueueOfCommands(t *testing.T) {
	s := &Session{}
	for _, c := range []command{
		{text: "all", inst: -1},
		{text: "dead1", inst: 1, rank: feed.RankFailed(1)},
		{text: "dead2", inst: 2, rank: feed.RankFailed(2)},
		{text: "ping", inst: -1, ping: true},
		{text: "live3", inst: 3},
		{text: "again1", inst: 1}, // it was live after all: not before what it follows on
		{text: "new4", inst: 4, rank: feed.RankNew},
		{text: "other", line: 1, inst: 9, rank: feed.RankFailed(5)},
		{text: "live5", inst: 5},
	} {
		s.enqueue(c)
	}
	var got []string
	for _, c := range s.sends {
		if c.line == 0 && !c.ping {
			got = append(got, c.text)
		}
	}
	if text, want := strings.Join(got, " "), "all live3 dead1 again1 live5 new4 dead2"; text != want {
		t.Errorf("the queue is %s, want %s", text, want)
	}
}

// OKX's hour: what is refused again and again uses up only half of it, and what was live
// is resubscribed at once.
func TestTurnOfTheHour(t *testing.T) {
	v, err := registry.ByName("okx")
	if err != nil {
		t.Fatal(err)
	}
	r := newSender(t, &handClock{ns: 4e18}, v, NewBudgets(v.Rules()), "BTC-USDT")
	r.connect(t)
	r.sends = nil
	sent := 0
	for range 400 { // as many as the limit lets
		r.enqueue(command{inst: 1, rank: feed.RankFailed(4e18), text: "dead"})
		sent += len(r.flush(t))
		r.clock.ns += 1e9
	}
	if half := v.Rules().CommandsPerHour * (100 - wire.HeadroomPercent) / 200; sent != half {
		t.Errorf("%d commands for what fails, want %d", sent, half)
	}
	r.enqueue(command{inst: 2, text: "live"})
	if got := r.flush(t); !slices.Equal(got, []string{"live"}) {
		t.Errorf("sent %q, want what was live", got)
	}
	if n := strings.Count(r.log.String(), "what it refuses is asked for later"); n != 1 {
		t.Errorf("told %d times", n)
	}
}

// steppedClock is a task.Sched whose Sleep passes with the clock of the test.
type steppedClock struct {
	task.Real
	mu     sync.Mutex
	ns     int64
	asleep int
	wake   *sync.Cond
}

func (c *steppedClock) NowNs() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ns
}

func (c *steppedClock) Sleep(ctx context.Context, d time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for end := c.ns + int64(max(d, 0)); c.ns < end && ctx.Err() == nil; {
		c.asleep++ // until the clock goes on
		for now := c.ns; c.ns == now; {
			c.wake.Wait()
		}
	}
	return ctx.Err() == nil
}

// Requests: resyncs, audits and what is refused share the weight of a minute.
func TestTurnOfRequests(t *testing.T) {
	v, err := registry.ByName("binance")
	if err != nil {
		t.Fatal(err)
	}
	clock := &steppedClock{ns: 4e18}
	clock.wake = sync.NewCond(&clock.mu)
	budgets := NewBudgets(v.Rules())
	for ok := true; ok; {
		ok, _ = budgets.Weight.TryTake(clock.ns, 50)
	}
	rest := &countingRest{}
	total := 0
	s := &Session{opt: Options{Venue: v, Budgets: budgets, Rest: rest}, clock: clock, sched: clock, log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	// The audits are between the new ones and those that fail; of them, too, who has failed
	// more often comes later.
	order := []feed.Action{{Rank: feed.RankLive}, {Rank: feed.RankNew}, {Rank: feed.RankSecond + 1, Spare: true}, {Rank: feed.RankSecond + 4, Spare: true}}
	for _, rank := range ranks[2:] {
		order = append(order, feed.Action{Rank: rank, Spare: true})
	}
	var wg sync.WaitGroup
	const each = 4
	for i := range each * len(order) {
		a := order[(i*5)%len(order)]
		total++
		wg.Go(func() {
			if _, ok := s.get(t.Context(), venues.Request{Path: fmt.Sprint(a.Rank), Weight: 250}, a); !ok {
				t.Error("given up")
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for end := false; !end; {
		select {
		case <-done:
			end = true
		case <-time.After(10 * time.Microsecond):
			clock.mu.Lock()
			if clock.asleep == total-rest.count() { // all that wait have looked
				clock.ns += 50e6
				clock.asleep = 0
				clock.wake.Broadcast()
			}
			clock.mu.Unlock()
		}
	}
	var got []int64
	for _, url := range rest.urls {
		var rank int64
		fmt.Sscan(url, &rank)
		got = append(got, rank)
	}
	// A minute's worth is all resyncs, and the one audit that leaves half of it free: they
	// fit together, so they may come in any order.
	first := got[:2*each+1]
	slices.Sort(first)
	for i, rank := range first {
		if want := order[i/each].Rank; rank != want {
			t.Errorf("request %d has rank %d, want %d: %v", i, rank, want, got)
		}
	}
	if last := got[len(got)-1]; last != ranks[len(ranks)-1] {
		t.Errorf("the last one has rank %d: %v", last, got)
	}
	if n := budgets.Weight.Waiting(); n != 0 {
		t.Errorf("%d have left a claim", n)
	}
}
