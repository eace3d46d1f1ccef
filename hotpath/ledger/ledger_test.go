package ledger

import (
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// newSeed gives random numbers; their seed is told if the test fails, and
// DEEPTAPE_SEED=n gives them again.
func newSeed(t *testing.T) *rand.Rand {
	seed := uint64(1)
	if one, err := strconv.ParseUint(os.Getenv("DEEPTAPE_SEED"), 10, 64); err == nil {
		seed = one
	}
	t.Logf("DEEPTAPE_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// TestEntriesNameTheCounters pins which counter stands at which place: metrics
// and the status page go by it.
func TestEntriesNameTheCounters(t *testing.T) {
	type want struct{ label, reason string }
	outcomes := map[Outcome]want{
		Received: {"received", ""}, Applied: {"applied", ""}, Stale: {"stale", ""}, Duplicate: {"duplicate", ""},
		Control: {"control", ""}, Buffered: {"buffered", ""}, Lost: {"lost", ""},
	}
	reasons := map[Reason]want{
		Malformed: {"rejected", "malformed"}, Oversized: {"rejected", "oversized"}, UnknownShape: {"rejected", "unknown_shape"},
		UnknownSymbol: {"rejected", "unknown_symbol"}, Overflow: {"rejected", "overflow"}, OutOfSync: {"rejected", "out_of_sync"},
		Checksum: {"rejected", "checksum"},
	}
	if len(outcomes)+len(reasons) != len(Entries) {
		t.Fatalf("%d outcomes and %d reasons for %d entries", len(outcomes), len(reasons), len(Entries))
	}
	check := func(f *Frames, w want) {
		t.Helper()
		f.Publish()
		for k, n := range f.Read() {
			if is := Entries[k].Label == w.label && Entries[k].Reason == w.reason; is != (n == 3) || n != 0 && n != 3 {
				t.Errorf("%v: counter %d (%v) is %d", w, k, Entries[k], n)
			}
			if Entries[k].Meaning == "" {
				t.Errorf("%v means nothing", Entries[k])
			}
		}
	}
	for o, w := range outcomes {
		var f Frames
		f.Add(o, 3)
		check(&f, w)
	}
	for r, w := range reasons {
		var f Frames
		f.Reject(r)
		f.RejectN(r, 2)
		check(&f, w)
		if r.String() != w.reason {
			t.Errorf("reason %d is called %q, want %q", r, r, w.reason)
		}
	}
}

func TestRejectAsAcceptedPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("no panic")
		}
	}()
	new(Frames).Reject(Accepted)
}

// TestEveryFrameMistakeIsADifference leaves out, doubles or invents one entry.
func TestEveryFrameMistakeIsADifference(t *testing.T) {
	balanced := func() *Frames {
		f := new(Frames)
		for o := Applied; o < rejected; o++ {
			f.Add(o, 5)
		}
		for r := Malformed; r < numReasons; r++ {
			f.RejectN(r, 5)
		}
		f.Add(Received, uint64(numFrames-1)*5)
		return f
	}
	difference := func(f *Frames) int64 { f.Publish(); return f.Read().Difference() }
	if d := difference(balanced()); d != 0 {
		t.Fatalf("balanced books are off by %d", d)
	}
	f := balanced()
	f.Add(Received, 2)
	if d := difference(f); d != 2 {
		t.Errorf("two frames without outcome: %d", d)
	}
	for o := Applied; o < rejected; o++ {
		f := balanced()
		f.Add(o, 2)
		if d := difference(f); d != -2 {
			t.Errorf("two frames too many under %d: %d", o, d)
		}
	}
	for r := Malformed; r < numReasons; r++ {
		f := balanced()
		f.RejectN(r, 2)
		if d := difference(f); d != -2 {
			t.Errorf("two frames too many under %v: %d", r, d)
		}
	}
	f = balanced()
	f.Unbuffer(7)
	f.Add(Applied, 7)
	if d := difference(f); d != -2 {
		t.Errorf("two frames out of the buffer that were never in it: %d", d)
	}
}

// TestFramesAgainstOutcomeOfEachFrame gives every frame an outcome of its own and
// counts them afterwards.
func TestFramesAgainstOutcomeOfEachFrame(t *testing.T) {
	rng := newSeed(t)
	var f Frames
	var outcome []int // of each frame, as an index of Entries
	var published Counts
	for range 5000 {
		switch rng.IntN(10) {
		case 0, 1, 2, 3:
			o := Applied + Outcome(rng.IntN(int(rejected-Applied)))
			f.Add(Received, 1)
			f.Add(o, 1)
			outcome = append(outcome, int(o))
		case 4:
			r := Malformed + Reason(rng.IntN(int(numReasons-Malformed)))
			f.Add(Received, 1)
			f.Reject(r)
			outcome = append(outcome, int(rejected)+int(r)-int(Malformed))
		case 5: // a snapshot: the buffered frames become applied, or none of them does
			to, n := int(Applied), 0
			if rng.IntN(2) == 0 {
				to = int(rejected) + int(OutOfSync-Malformed)
			}
			for i, o := range outcome {
				if o == int(Buffered) {
					outcome[i] = to
					n++
				}
			}
			f.Unbuffer(n)
			if to == int(Applied) {
				f.Add(Applied, uint64(n))
			} else {
				f.RejectN(OutOfSync, n)
			}
		default:
			f.Publish()
			published = Counts{Received: uint64(len(outcome))}
			for _, o := range outcome {
				published[o]++
			}
		}
		if got := f.Read(); got != published {
			t.Fatalf("after %d frames: %v, want %v", len(outcome), got, published)
		}
		if d := f.Read().Difference(); d != 0 {
			t.Fatalf("after %d frames the books are off by %d", len(outcome), d)
		}
	}
}

// TestReadersSeeWholePublications has readers look all the time while a writer
// moves frames about: each set must balance, and received must never go back.
func TestReadersSeeWholePublications(t *testing.T) {
	rng := newSeed(t)
	var f Frames
	const readers, wanted = 2, 200
	var satisfied atomic.Int32 // readers that have seen enough different sets, or a bad one
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			defer satisfied.Add(1)
			last := uint64(0)
			for sets := 0; sets < wanted; {
				c := f.Read()
				if d := c.Difference(); d != 0 {
					t.Errorf("the books are off by %d: %v", d, c)
					return
				}
				if c[Received] < last {
					t.Errorf("received went back from %d to %d", last, c[Received])
					return
				}
				if c[Received] > last {
					sets++
				}
				last = c[Received]
			}
		})
	}
	buffered := 0
	for i := 0; satisfied.Load() < readers; i++ {
		// A frame takes a microsecond or so. Without that pause the readers,
		// which must find a moment between two publications, would starve.
		for range 300 {
			rng.Uint64()
		}
		if i%64 == 0 {
			runtime.Gosched() // where there are fewer processors than goroutines
		}
		f.Add(Received, 1)
		switch rng.IntN(4) {
		case 0:
			f.Add(Buffered, 1)
			buffered++
		case 1:
			f.Unbuffer(buffered)
			f.Add(Applied, uint64(buffered)+1)
			buffered = 0
		case 2:
			f.Reject(Malformed)
		default:
			f.Add(Stale, 1)
		}
		f.Publish()
	}
	wg.Wait()
}
