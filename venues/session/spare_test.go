package session

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/lane"
	"deeptape/hotpath/ring"
	"deeptape/hotpath/task"
	"deeptape/venues/feed"
	"deeptape/venues/registry"
	"deeptape/venues/wire"
)

// countingRest answers at once.
type countingRest struct {
	mu   sync.Mutex
	urls []string
}

func (r *countingRest) Get(_ context.Context, url string) (wire.Answer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.urls = append(r.urls, url)
	return wire.Answer{Status: 200, Body: []byte("{}"), UsedWeight: -1}, nil
}

func (r *countingRest) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.urls)
}

// What can wait takes only half of the weight; a resync takes its place, and it is then
// not asked for any more.
func TestSpareFetches(t *testing.T) {
	venue, err := registry.ByName("binance")
	if err != nil {
		t.Fatal(err)
	}
	cfg := feed.Config{Depth: 100} // of weight 5
	for _, s := range []string{"AUSDT", "BUSDT", "CUSDT"} {
		cfg.Instruments = append(cfg.Instruments, event.Instrument{Venue: "binance", Symbol: s})
	}
	rest, bell := &countingRest{}, ring.NewDoorbell()
	budgets := NewBudgets(venue.Rules())
	budgets.Weight = wire.NewBudget(20, 400*time.Millisecond) // usable: 16, by what can wait: 8
	s := New(Options{Venue: venue, RestURL: "http://x", Clock: wire.NewClock(), Sched: task.Real{}, Budgets: budgets, Rest: rest,
		Log: slog.New(slog.DiscardHandler), Rand: rand.New(rand.NewPCG(1, 2))}, lane.New(1, lane.Options{InputBytes: 1 << 16, RowBytes: 1 << 16}, bell, bell), cfg, 0)
	ctx, cancel := context.WithCancel(context.Background())
	defer s.fetches.Wait()
	defer cancel()
	s.fetchCtx = ctx
	const audit = feed.RankSecond + 1 // as the machine has it
	answers := func(n int) []uint32 {
		t.Helper()
		var got []uint32
		for began := time.Now(); len(got) < n && time.Since(began) < 20*time.Second; time.Sleep(time.Millisecond) {
			if a, ok := s.inbox.Take(); ok {
				got = append(got, a.request)
			}
		}
		return got
	}
	s.fetch(feed.Action{Inst: 0, Request: 1, Rank: audit, Spare: true})
	if got := answers(1); len(got) != 1 || got[0] != 1 {
		t.Fatalf("answers to %d", got)
	}
	began := time.Now()
	s.fetch(feed.Action{Inst: 0, Request: 2, Rank: audit, Spare: true}) // waits: 10 of 8
	s.fetch(feed.Action{Inst: 1, Request: 3})                           // 10 of 16
	s.fetch(feed.Action{Inst: 0, Request: 4})                           // 15, in the place of 2
	s.fetch(feed.Action{Inst: 2, Request: 5, Rank: audit, Spare: true}) // waits until the others have left the window
	if rest.count() > 3 && time.Since(began) < 300*time.Millisecond {
		t.Errorf("%d requests at once", rest.count())
	}
	if got := answers(3); len(got) != 3 || got[2] != 5 {
		t.Errorf("answers to %d", got)
	}
	if d := time.Since(began); d < 390*time.Millisecond {
		t.Errorf("the one that can wait has waited %s", d)
	}
	time.Sleep(500 * time.Millisecond)
	if n := rest.count(); n != 4 {
		t.Errorf("%d requests: one that was replaced has been made", n)
	}
}
