package bench

import (
	"encoding/binary"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"deeptape/hotpath/ring"
)

// A consumer of many rings that have little to say, as the journal writer and the
// deliverer are: what it costs that they sleep, and how fast they wake.

const (
	idleRings     = 150
	idlePerSecond = 1500
)

// ringIdle sends idlePerSecond messages a second for a while, each into another ring,
// at moments fixed in advance, and returns the processor time of the whole process as a
// share of one core, and how long the messages lay in their rings, sorted. Without a
// consumer, the sender takes them out itself: that is what the sending alone costs.
func ringIdle(t testing.TB, last time.Duration, consumer bool) (cores float64, lay []time.Duration) {
	var bell *ring.Doorbell
	if consumer {
		bell = ring.NewDoorbell()
	}
	rings := make([]*ring.Ring, idleRings)
	for i := range rings {
		rings[i] = ring.New(4096, bell)
	}
	began := time.Now()
	drain := func() (any bool) {
		for _, r := range rings {
			for rec := r.Peek(); rec != nil; rec = r.Peek() {
				lay = append(lay, time.Since(began)-time.Duration(binary.LittleEndian.Uint64(rec)))
				r.Release()
				any = true
			}
		}
		return any
	}
	count := int(last.Seconds() * idlePerSecond)
	lay = make([]time.Duration, 0, count)
	var ended atomic.Bool
	done := make(chan struct{})
	if consumer {
		go func() {
			defer close(done)
			for {
				last := ended.Load()
				if drain() {
					continue
				}
				if last {
					return
				}
				bell.Prepare()
				if drain() {
					bell.Cancel()
					continue
				}
				bell.Wait(50 * time.Millisecond)
			}
		}()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := processNs(t)
	began = time.Now()
	for i := range count {
		due := time.Duration(i) * time.Second / idlePerSecond
		if wait := due - time.Since(began); wait > 0 {
			ts := unix.NsecToTimespec(int64(wait))
			unix.Nanosleep(&ts, nil) // the runtime's timers round up to a millisecond
		}
		b, out := rings[i%idleRings].Claim(64)
		if out != ring.OK {
			t.Fatal(out)
		}
		binary.LittleEndian.PutUint64(b, uint64(time.Since(began)))
		rings[i%idleRings].Commit()
		if !consumer {
			drain()
		}
	}
	took := time.Since(began)
	cores = float64(processNs(t)-start) / float64(took)
	if consumer {
		ended.Store(true)
		bell.Ring()
		<-done
	}
	if len(lay) != count {
		t.Fatalf("%d of %d messages came out", len(lay), count)
	}
	slices.Sort(lay)
	return cores, lay
}

func processNs(t testing.TB) int64 {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		t.Fatal(err)
	}
	return ru.Utime.Nano() + ru.Stime.Nano()
}

// TestGateRingIdle: what the sleeping and waking of a consumer of 150 rings costs, beside
// the sending. How long messages lie is reported; with busy neighbours that is theirs.
func TestGateRingIdle(t *testing.T) {
	if !gates {
		t.Skip("make gates runs it")
	}
	var got []float64
	for range 3 {
		with, lay := ringIdle(t, time.Second, true)
		without, _ := ringIdle(t, time.Second, false)
		cost := with - without
		t.Logf("%.1f %% of a core beside %.1f %% for the sending; a message lies %v in the median, p99 %v, at most %v",
			100*cost, 100*without, lay[len(lay)/2], lay[len(lay)*99/100], lay[len(lay)-1])
		if cost <= RingIdleCores {
			return
		}
		got = append(got, cost)
	}
	t.Errorf("%.3f cores, three times, where %.2f is allowed", got, RingIdleCores)
}

// BenchmarkRingIdle reports the same.
func BenchmarkRingIdle(b *testing.B) {
	for b.Loop() {
		with, lay := ringIdle(b, time.Second, true)
		b.ReportMetric(100*with, "%core")
		b.ReportMetric(float64(lay[len(lay)/2]), "p50-ns")
		b.ReportMetric(float64(lay[len(lay)*99/100]), "p99-ns")
	}
}
