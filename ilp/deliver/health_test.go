package deliver

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A suspended table still takes rows. The watcher says so, and how far QuestDB is
// behind; posters that are well do not take its trouble back.
func TestWatcher(t *testing.T) {
	r := newRig(t, 13, rigOptions{feeds: 1, inputs: 100, lane: smallLane})
	r.db.wal = `["trades",true,3,10,"disk full"],["other",true,0,1000,null],["coverage",false,5,6,null]`
	ctx, cancel := context.WithCancel(context.Background())
	delivered := make(chan error, 1)
	go func() { delivered <- r.d.Run(ctx) }()
	r.feeds[0].run(1, r.bell, 0)
	wait(t, "all rows", func() bool { return r.feeds[0].l.Acked() == 100 })
	wait(t, "the trouble", func() bool { text, _ := r.d.Health.Trouble(); return text != "" })
	text, _ := r.d.Health.Trouble()
	if !strings.Contains(text, "table trades is suspended (disk full)") || !strings.Contains(text, "ALTER TABLE trades RESUME WAL") || strings.Contains(text, "other") {
		t.Errorf("trouble: %s", text)
	}
	if n := r.d.Stats.LagTxns.Load(); n != 8 {
		t.Errorf("%d transactions behind", n)
	}
	r.db.set(func() { r.db.wal = `["trades",false,10,10,null]` })
	wait(t, "the end of the trouble", func() bool { text, _ := r.d.Health.Trouble(); return text == "" })
	if n := r.d.Stats.LagTxns.Load(); n != 0 {
		t.Errorf("%d transactions behind", n)
	}
	r.d.Stop()
	if err := <-delivered; err != nil {
		t.Error(err)
	}
	cancel()
}

func TestHealth(t *testing.T) {
	var h Health
	if !h.set(fromPoster1, "away", 10) || h.set(fromPoster1, "away", 11) || !h.set(fromPoster2, "away", 12) || !h.set(fromWAL, "suspended", 5) {
		t.Error("what is news is not told apart")
	}
	if text, since := h.Trouble(); text != "away; suspended" || since != 5 {
		t.Errorf("%q since %d", text, since)
	}
	h.set(fromPoster1, "", 20)
	h.set(fromWAL, "", 20)
	if text, since := h.Trouble(); text != "away" || since != 12 {
		t.Errorf("%q since %d", text, since)
	}
	h.set(fromPoster2, "away too", 30)
	if text, since := h.Trouble(); text != "away too" || since != 12 {
		t.Errorf("%q since %d", text, since)
	}
	if !h.set(fromPoster2, "", 31) || h.set(fromPoster2, "", 32) {
		t.Error("the end of a trouble is news once")
	}
}

// TestAwayFor: a stop does not wait for a QuestDB that has been in trouble for so long, unless
// it has taken a batch since the trouble began.
func TestAwayFor(t *testing.T) {
	var h Health
	const d = 5 * time.Second
	ns := func(seconds float64) int64 { return int64(seconds * 1e9) }
	if h.AwayFor(d, ns(100)) {
		t.Error("away without a trouble")
	}
	h.lastAckNs.Store(ns(9))
	h.set(fromPoster1, "away", ns(10))
	for _, c := range []struct {
		lastAck, now float64
		want         bool
	}{{9, 14.9, false}, {9, 15, true}, {10, 15, false}, {12, 100, false}} {
		h.lastAckNs.Store(ns(c.lastAck))
		if got := h.AwayFor(d, ns(c.now)); got != c.want {
			t.Errorf("in trouble since 10 s, the last batch at %v s, now %v s: %v", c.lastAck, c.now, got)
		}
	}
}

// After a lost connection the schema is looked at again before a row is sent: a
// server that makes tables up by itself would have made them without DEDUP.
func TestPreparesAgain(t *testing.T) {
	var calls atomic.Int64
	var bad atomic.Bool
	r := newRig(t, 14, rigOptions{feeds: 1, inputs: 200, lane: smallLane, opt: Options{Prepare: func(context.Context) error {
		calls.Add(1)
		if bad.Load() {
			return errNotReady
		}
		return nil
	}}})
	f := r.feeds[0]
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	delivered := make(chan error, 1)
	go func() { delivered <- r.d.Run(ctx) }()
	for pos := uint64(1); pos <= 100; pos++ {
		f.step(pos)
		f.l.SetWritten(pos)
	}
	wait(t, "the first half", func() bool { return f.l.Acked() == 100 })
	if calls.Load() != 1 {
		t.Errorf("%d calls of Prepare", calls.Load())
	}
	bad.Store(true)
	r.db.down()
	for pos := uint64(101); pos <= 200; pos++ {
		f.step(pos)
		f.l.SetWritten(pos)
	}
	wait(t, "trouble", func() bool { text, _ := r.d.Health.Trouble(); return strings.Contains(text, "deeptape db start") })
	before := r.db.requests
	r.db.up()
	wait(t, "the right trouble", func() bool { text, _ := r.d.Health.Trouble(); return strings.Contains(text, errNotReady.Error()) })
	time.Sleep(50 * time.Millisecond)
	r.db.set(func() {
		if r.db.requests != before {
			t.Errorf("%d requests before the schema was looked at", r.db.requests-before)
		}
	})
	bad.Store(false)
	f.l.Close()
	r.d.Stop()
	if err := <-delivered; err != nil {
		t.Error(err)
	}
	r.checkAll()
}

// Counters of the agent's own come into capture_stats.
func TestCounters(t *testing.T) {
	r := newRig(t, 17, rigOptions{feeds: 1, inputs: 10, lane: smallLane, opt: Options{Counters: func() []Stat {
		return []Stat{{Ts: 5, Venue: "sim", Connection: "0", Counter: "frames", Value: 7}}
	}}})
	r.run(0, false)
	row, ok := r.db.rows[rowKey{table: "capture_stats", symbol: "frames", ts: 5}]
	if !ok || row.Get("value") != int64(7) {
		t.Errorf("%v %+v", ok, row)
	}
}
