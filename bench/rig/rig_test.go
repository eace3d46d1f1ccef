package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestMain: a test binary is also the rig's other processes.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(play(role))
	}
	os.Exit(m.Run())
}

// TestRigShort is the gate of the whole path: at calm and at peak, for five seconds
// each, no frame is dropped, there is no gap, the ledger balances, every row is in
// QuestDB and verified, and the median of schedule to published is at most twice the
// bare reader's, unless one of three reruns disagrees. Some 70 s.
func TestRigShort(t *testing.T) {
	if os.Getenv("DEEPTAPE_GATES") == "" {
		t.Skip("a gate: make gates")
	}
	deeptape := filepath.Join(t.TempDir(), "deeptape")
	if out, err := exec.Command("go", "build", "-o", deeptape, "deeptape/cmd/deeptape").CombinedOutput(); err != nil {
		t.Fatalf("cannot build deeptape: %v\n%s", err, out)
	}
	for _, profile := range []string{"calm", "peak"} {
		t.Run(profile, func(t *testing.T) {
			var out bytes.Buffer
			err := run(context.Background(), options{deeptape: deeptape, profile: profile, length: 5 * time.Second, seed: 1, out: &out})
			t.Logf("\n%s", out.String())
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHistogramOfAnInterval: what two looks at cumulative buckets have between them.
func TestHistogramOfAnInterval(t *testing.T) {
	before := histogram{buckets: []bucket{{-5, 2}, {10, 3}, {20, 1}}}
	after := histogram{buckets: []bucket{{-5, 2}, {7, 1}, {10, 5}, {20, 1}, {90, 7}}}
	h := after.since(before)
	if h.count() != 10 {
		t.Fatalf("%d values, want 10", h.count())
	}
	// 7, 10, 10, and seven times 90.
	for _, c := range []struct {
		q    float64
		want int64
	}{{0, 7}, {0.1, 10}, {0.25, 10}, {0.3, 90}, {0.5, 90}, {1, 90}} {
		if got := h.quantile(c.q); got != c.want {
			t.Errorf("quantile %v is %d, want %d", c.q, got, c.want)
		}
	}
	if q := (histogram{}).quantile(0.5); q != 0 {
		t.Errorf("the median of nothing is %d", q)
	}
}

// TestBareReader: stamped messages count from the start on, and quotes after the first.
func TestBareReader(t *testing.T) {
	r := bareReader{fromMs: 1000}
	for i, text := range []string{
		`{"stream":"a@bookTicker","data":{"u":1}}`,                            // before anything
		`{"stream":"a@depth@100ms","data":{"e":"depthUpdate","E":999,"x":1}}`, // too early
		`{"stream":"a@bookTicker","data":{"u":2}}`,
		`{"stream":"a@depth@100ms","data":{"e":"depthUpdate","E":1000,"x":1}}`,
		`{"stream":"a@bookTicker","data":{"u":3}}`,
		`{"stream":"a@trade","data":{"e":"trade","E":1001}}`,
	} {
		r.frame([]byte(text), 1_002_000_000+int64(i))
	}
	if r.frames != 3 || len(r.latencies) != 2 || r.latencies[0] != 2_000_003 || r.latencies[1] != 1_000_005 {
		t.Errorf("%d frames, latencies %v", r.frames, r.latencies)
	}
}
