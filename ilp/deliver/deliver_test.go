package deliver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/lane"
	"deeptape/hotpath/ring"
)

// run delivers everything, with whatever faults the database has.
func (r *rig) run(pause int, faults bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	delivered := make(chan error, 1)
	go func() { delivered <- r.d.Run(ctx) }()
	stop := make(chan struct{})
	var watching, chaos sync.WaitGroup
	watching.Go(func() { r.watchAcks(stop) })
	healthy := make(chan struct{})
	if faults {
		chaos.Go(func() { r.db.chaos(r.seed, healthy) })
	}
	var owners sync.WaitGroup
	for _, f := range r.feeds {
		owners.Go(func() { f.run(r.seed, r.bell, pause) })
	}
	owners.Wait()
	close(healthy)
	chaos.Wait()
	r.d.Stop()
	if err := <-delivered; err != nil {
		r.t.Fatalf("seed %d: %v", r.seed, err)
	}
	close(stop)
	watching.Wait()
	r.checkAll()
}

// Whatever the database does, and although the rings are small and rows are
// deferred all the time, every row arrives, nothing is acknowledged before, and
// the ledger balances at every moment.
//
// DEEPTAPE_SEED=n runs one seed alone.
func TestExactlyOnce(t *testing.T) {
	var catchUps, retries uint64
	again := 0
	run := func(seed uint64) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			r := newRig(t, seed, rigOptions{feeds: 3, inputs: 2500, lane: smallLane})
			r.run(60_000, true)
			catchUps, retries, again = catchUps+r.d.Stats.CatchUps.Load(), retries+r.d.Stats.Retries.Load(), again+r.db.again
			t.Logf("%d requests, %d with rows, %d rows stored again, %d catch-ups, %d retries, %d rows", r.db.requests, r.db.posts, r.db.again, r.d.Stats.CatchUps.Load(), r.d.Stats.Retries.Load(), expectedRows(r.feeds))
		})
	}
	if one, err := strconv.ParseUint(os.Getenv("DEEPTAPE_SEED"), 10, 64); err == nil {
		run(one)
		return
	}
	// The speed of the machine may spare one seed what others suffer.
	for seed := range uint64(20) {
		if run(1 + seed); t.Failed() || catchUps > 0 && retries > 0 && again > 0 {
			return
		}
	}
	t.Errorf("the test no longer reaches what it is for: %d catch-ups, %d retries, %d rows stored again", catchUps, retries, again)
}

func expectedRows(feeds []*testFeed) (n int) {
	for _, f := range feeds {
		n += f.expected()
	}
	return n
}

// The instruments of a run may themselves be deferred, and never come through the
// ring: the rows of later inputs, which do, are theirs all the same.
func TestDeferredInstruments(t *testing.T) {
	r := newRig(t, 4, rigOptions{feeds: 1, inputs: 2000, lane: lane.Options{InputBytes: 64, RowBytes: 512, RowOwnedBytes: 100}})
	r.run(1000, false)
	if r.feeds[0].l.RowHighWaterBytes() == 0 {
		t.Error("no row came through the ring")
	}
}

// Without faults and with large rings nothing is deferred and nothing is sent twice.
func TestQuiet(t *testing.T) {
	r := newRig(t, 5, rigOptions{feeds: 2, inputs: 1500, lane: lane.Options{InputBytes: 64, RowBytes: 4 << 20, RowOwnedBytes: 1 << 20}})
	r.run(0, false)
	if n := r.d.Stats.CatchUps.Load(); n != 0 {
		t.Errorf("%d catch-ups", n)
	}
	if r.db.again != 0 {
		t.Errorf("%d rows were sent twice", r.db.again)
	}
	if text, _ := r.d.Health.Trouble(); text != "" {
		t.Errorf("trouble at the end: %s", text)
	}
	if r.d.Health.LastAckNs() == 0 {
		t.Error("no time of the last answer")
	}
}

// poisonSome makes every nth bulk row one that the database refuses, and returns
// how many there are by table.
func (r *rig) poisonSome(n int) map[string]int {
	count, seen := map[string]int{}, map[string]int{}
	for _, f := range r.feeds {
		for _, recs := range f.inputs {
			for _, rec := range recs {
				if rec.table == event.TableCoverage || rec.table == event.TableInstruments {
					continue
				}
				for _, e := range rec.rows {
					if seen[e.key.table]++; seen[e.key.table]%n == 0 {
						r.db.poison[e.key] = true
						count[e.key.table]++
					}
				}
			}
		}
	}
	return count
}

// A stop with the database away ends with what is left; another deliverer brings
// that from the journal.
func TestStopAway(t *testing.T) {
	r := newRig(t, 10, rigOptions{feeds: 2, inputs: 800, lane: smallLane})
	ctx, cancel := context.WithCancel(context.Background())
	delivered := make(chan error, 1)
	go func() { delivered <- r.d.Run(ctx) }()
	half := func(from, to uint64) {
		for _, f := range r.feeds {
			for pos := from; pos <= to; pos++ {
				f.step(pos)
				f.l.SetWritten(pos)
				r.bell.Ring()
			}
		}
	}
	half(1, 400)
	wait(t, "some rows", func() bool { return r.feeds[0].l.Acked() > 0 })
	r.db.down()
	half(401, 800)
	for _, f := range r.feeds {
		f.l.Close()
	}
	r.d.Stop()
	time.Sleep(50 * time.Millisecond)
	cancel()
	err := <-delivered
	var left uint64
	for _, f := range r.feeds {
		left += f.l.Derived() - f.l.Acked()
	}
	if left == 0 {
		t.Fatal("the database was not away soon enough")
	}
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("rows of %d inputs", left)) || !strings.Contains(err.Error(), "deeptape replay") {
		t.Errorf("left %d, error: %v", left, err)
	}
	for i, f := range r.feeds {
		for table, c := range f.l.Rows.Read() {
			if c.Difference() != 0 {
				t.Errorf("feed %d, %s: difference %d", i, event.Table(table).String(), c.Difference())
			}
		}
	}

	// The next process: whatever is not acknowledged, out of the journal.
	r.db.up()
	var lanes []*lane.Lane
	bell := ring.NewDoorbell()
	for _, f := range r.feeds {
		acked := f.l.Acked()
		f.l = lane.New(f.l.Feed, lane.Options{InputBytes: 64, RowBytes: 4 << 20, RowOwnedBytes: 1 << 20}, nil, bell)
		f.l.StartAt(acked)
		for _, rec := range f.inputs[0][:2] { // the instruments, which a derivation has too
			f.inputs[acked] = append([]testRecord{rec}, f.inputs[acked]...)
		}
		lanes = append(lanes, f.l)
		f.run(r.seed, bell, 0)
	}
	d := New(r.d.opt, bell, lanes)
	d.Stop()
	if err := d.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	r.db.mu.Lock()
	defer r.db.mu.Unlock()
	for _, f := range r.feeds {
		for pos := range f.inputs {
			if m := f.missing(r.db, uint64(pos)+1, false); m != "" {
				t.Fatal(m)
			}
		}
	}
}

// With the database away, what the deliverer holds stays within its batches, and
// the feeds never wait.
func TestBounded(t *testing.T) {
	r := newRig(t, 11, rigOptions{feeds: 2, inputs: 8000, lane: smallLane})
	r.db.down()
	ctx, cancel := context.WithCancel(context.Background())
	delivered := make(chan error, 1)
	go func() { delivered <- r.d.Run(ctx) }()
	start := time.Now()
	for _, f := range r.feeds {
		f.run(r.seed, r.bell, 0)
	}
	if took := time.Since(start); took > time.Minute { // one that waits for the database does so for ever
		t.Errorf("the feeds took %s", took)
	}
	time.Sleep(100 * time.Millisecond)
	cancel()
	if err := <-delivered; err == nil {
		t.Error("no error, with the database away")
	}
	opt := r.d.opt
	if n := r.d.Stats.InFlightRows.Load(); n > int64(opt.Batches*(2*opt.FlushRows+300)) {
		t.Errorf("%d rows in batches of which there are %d of %d rows", n, opt.Batches, opt.FlushRows)
	}
	for _, f := range r.feeds {
		if !f.l.Deferring() {
			t.Error("a feed with a full ring does not defer")
		}
	}
}

func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// A step that fails ends Run at once, even if the database never was there.
func TestFailingStep(t *testing.T) {
	broken := errors.New("broken journal")
	r := newRig(t, 15, rigOptions{feeds: 1, inputs: 2500, lane: smallLane, opt: Options{
		Prepare: func(context.Context) error { return errNotReady },
		Derive:  func(uint16, uint64) (Source, error) { return nil, broken },
	}})
	r.d.opt.Batches = 1000
	for range 1000 {
		r.d.free = append(r.d.free, newBatch(1, 1))
	}
	delivered := make(chan error, 1)
	go func() { delivered <- r.d.Run(context.Background()) }()
	r.feeds[0].run(1, r.bell, 0)
	select {
	case err := <-delivered:
		if !errors.Is(err, broken) {
			t.Errorf("error: %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("Run does not end")
	}
}

// Nothing to deliver, and no database: a stop ends at once.
func TestStopIdle(t *testing.T) {
	r := newRig(t, 16, rigOptions{feeds: 1, inputs: 0, lane: smallLane, opt: Options{Prepare: func(context.Context) error { return errNotReady }}})
	r.feeds[0].l.Close()
	delivered := make(chan error, 1)
	go func() { delivered <- r.d.Run(context.Background()) }()
	r.d.Stop()
	select {
	case err := <-delivered:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("Run does not end")
	}
}
