package vsim

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"deeptape/bench/simvenue"
	"deeptape/venues/registry"
)

func number(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q: %v", name, text, err)
	}
	return n
}

// many makes runs from a seed on, on all cores, until one fails. It returns the first
// that failed, and what all of them went through.
func many(first, runs uint64) (failed *Result, sum Stats) {
	var next atomic.Uint64
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				n := next.Add(1) - 1
				if n >= runs {
					return
				}
				r := Run(first+n, Plan{}, false)
				mu.Lock()
				sum.add(&r.Stats)
				if r.Err != nil && (failed == nil || r.Seed < failed.Seed) {
					failed = &r
				}
				stop := failed != nil
				mu.Unlock()
				if stop {
					return
				}
			}
		})
	}
	wg.Wait()
	return failed, sum
}

// TestSim: DEEPTAPE_SIM_SEED runs one seed and prints its trace, DEEPTAPE_SIM_RUNS so
// many from it on. Without a seed it begins at 1, so that a change of the code is judged
// and not luck; `make sim RUNS=n` begins anywhere.
func TestSim(t *testing.T) {
	if os.Getenv("DEEPTAPE_SIM_SEED") != "" && os.Getenv("DEEPTAPE_SIM_RUNS") == "" {
		r := Run(number(t, "DEEPTAPE_SIM_SEED", 0), Plan{}, true)
		t.Logf("seed %d\n%s", r.Seed, strings.Join(r.Trace.Lines, "\n"))
		t.Logf("%s", r.Stats)
		if r.Err != nil {
			t.Error(r.Err)
		}
		return
	}
	otherwise := uint64(40)
	if raceOn {
		otherwise = 15
	}
	runs := number(t, "DEEPTAPE_SIM_RUNS", otherwise)
	first := number(t, "DEEPTAPE_SIM_SEED", 1)
	start := time.Now()
	failed, sum := many(first, runs)
	t.Logf("seeds %d to %d in %s: %s", first, first+runs-1, time.Since(start).Round(time.Millisecond), sum)
	if runs >= 500 {
		t.Logf("the venues' own faults:\n%s", sum.struck())
	}
	if failed != nil {
		again := Run(failed.Seed, Plan{}, true)
		t.Fatalf("seed %d: %v\n`make sim SEED=%d` shows the whole trace; its end:\n%s", failed.Seed, failed.Err, failed.Seed,
			strings.Join(again.Trace.Lines[max(0, len(again.Trace.Lines)-40):], "\n"))
	}
	if runs >= 500 && (sum.Kills < 100 || sum.PowerLosses < 5 || sum.Deferred < 1000 || sum.Lost < 100 || sum.Peaceful < 10 || sum.Compared < 100_000) {
		t.Errorf("the weather was too mild: %s", sum)
	}
}

// TestSameSeed: the same seed gives the same trace, line for line.
func TestSameSeed(t *testing.T) {
	first := rand.Uint64N(1e15)
	for seed := first; seed < first+6; seed++ {
		a, b := Run(seed, Plan{}, true), Run(seed, Plan{}, true)
		if !slices.Equal(a.Trace.Lines, b.Trace.Lines) {
			for i := range a.Trace.Lines {
				if i >= len(b.Trace.Lines) || a.Trace.Lines[i] != b.Trace.Lines[i] {
					t.Fatalf("seed %d: the traces part at line %d:\n%s\n%s", seed, i, a.Trace.Lines[i], b.Trace.Lines[min(i, len(b.Trace.Lines)-1)])
				}
			}
		}
		if a.Stats != b.Stats {
			t.Fatalf("seed %d: %s and %s", seed, a.Stats, b.Stats)
		}
	}
}

// TestCanary: a known bug, built in by a tag, must be found. What cannot find a bug
// that is there says nothing when it finds none.
func TestCanary(t *testing.T) {
	if raceOn {
		t.Skip("it builds and runs other binaries")
	}
	for name, runs := range map[string]string{"planted_ack": "1000", "planted_chain": "1000"} {
		t.Run(name, func(t *testing.T) {
			first := rand.Uint64N(1e15)
			cmd := exec.Command("go", "test", "-count=1", "-tags="+name, "-run=^TestSim$", ".")
			cmd.Env = append(os.Environ(), "DEEPTAPE_SIM_RUNS="+runs, "DEEPTAPE_SIM_SEED="+strconv.FormatUint(first, 10))
			start := time.Now()
			out, err := cmd.CombinedOutput()
			at := strings.Index(string(out), "promise ")
			if err == nil || at < 0 {
				t.Fatalf("not found in %s runs from seed %d: %v\n%.2000s", runs, first, err, out)
			}
			line, _, _ := strings.Cut(string(out[at:]), "\n")
			t.Logf("found in %s: %.200s", time.Since(start).Round(time.Millisecond), line)
		})
	}
}

// TestDialects: each venue that is recorded and each that is simulated has a dialect here.
func TestDialects(t *testing.T) {
	names := venueNames()
	slices.Sort(names)
	if !slices.Equal(names, registry.Names()) || !slices.Equal(names, simvenue.Venues()) || len(names) != numVenues {
		t.Errorf("dialects of %v; recorded are %v, simulated are %v", names, registry.Names(), simvenue.Venues())
	}
}
