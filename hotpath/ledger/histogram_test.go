package ledger

import (
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// checkHistogram compares a snapshot with the values themselves.
func checkHistogram(t *testing.T, s *Snapshot, values []int64) {
	t.Helper()
	sorted := slices.Sorted(slices.Values(values))
	sum := new(big.Int)
	for _, v := range sorted {
		sum.Add(sum, big.NewInt(v))
	}
	if s.Count != uint64(len(sorted)) {
		t.Fatalf("Count %d, want %d", s.Count, len(sorted))
	}
	if len(sorted) == 0 {
		if s.MaxNs != 0 || s.SumNs != 0 || s.Quantile(0) != 0 || s.Quantile(0.5) != 0 || s.Quantile(1) != 0 {
			t.Fatalf("an empty histogram: max %d, sum %d, median %d", s.MaxNs, s.SumNs, s.Quantile(0.5))
		}
		return
	}
	if last := sorted[len(sorted)-1]; s.MaxNs != last {
		t.Fatalf("MaxNs %d, want %d", s.MaxNs, last)
	}
	if sum.IsInt64() && s.SumNs != sum.Int64() {
		t.Fatalf("SumNs %d, want %d", s.SumNs, sum)
	}
	below, rest := int64(math.MinInt64), sorted
	for _, b := range s.Buckets() {
		n := 0
		for n < len(rest) && rest[n] <= b.TopNs {
			n++
		}
		if n == 0 || uint64(n) != b.Count || rest[0] <= below && below > math.MinInt64 {
			t.Fatalf("%d values in the bucket up to %d, want %d", b.Count, b.TopNs, n)
		}
		below, rest = b.TopNs, rest[n:]
	}
	if len(rest) > 0 {
		t.Fatalf("%d values are in no bucket", len(rest))
	}
	// Parts of 1024, so that q*Count is exact.
	step := 1
	if len(sorted) == 1 {
		step = 512
	}
	for k := 0; k <= 1024; k += step {
		q := float64(k) / 1024
		want := sorted[min(k*len(sorted)/1024, len(sorted)-1)]
		got := s.Quantile(q)
		if got < want {
			t.Fatalf("Quantile(%v) of %d values is %d, below %d", q, len(sorted), got, want)
		}
		if want >= -(1<<45) && want < 1<<45 {
			off := float64(got) - float64(want)
			if off > math.Abs(float64(want))/16 {
				t.Fatalf("Quantile(%v) of %d values is %d, want %d", q, len(sorted), got, want)
			}
		}
	}
}

// randomValue favours edges of powers of two, and covers all magnitudes up to 2^most.
func randomValue(rng *rand.Rand, most int) int64 {
	v := int64(rng.Uint64() >> (64 - 1 - rng.IntN(most)))
	switch rng.IntN(4) {
	case 0:
		v = int64(1) << rng.IntN(most)
	case 1:
		v = int64(1)<<rng.IntN(most) - 1
	}
	return v
}

func TestHistogramAgainstSortedValues(t *testing.T) {
	rng := newSeed(t)
	var s Snapshot
	checkHistogram(t, &s, nil)
	for round := range 60 {
		var h Histogram
		var values []int64
		negatives := round % 4 // none, few, half, all
		for range rng.IntN(3000) {
			v := randomValue(rng, 45)
			if negatives == 3 || negatives > 0 && rng.IntN(4/negatives) == 0 {
				v = -v
			}
			h.Record(v)
			values = append(values, v)
			if round%2 == 0 && rng.IntN(20) == 0 {
				h.Publish()
			}
		}
		h.Publish()
		s := Snapshot{}
		h.Read(&s)
		checkHistogram(t, &s, values)
	}
}

func TestHistogramsAddUp(t *testing.T) {
	rng := newSeed(t)
	var s Snapshot
	var values []int64
	for i := range 5 {
		var h Histogram
		for range i * 100 { // the first is empty
			v := -randomValue(rng, 40) // all below zero: MaxNs must not be 0 by default
			h.Record(v)
			values = append(values, v)
		}
		h.Publish()
		h.Read(&s)
		checkHistogram(t, &s, values)
	}
}

// TestHistogramEveryEdge records one value at a time.
func TestHistogramEveryEdge(t *testing.T) {
	check := func(v int64) {
		t.Helper()
		var h Histogram
		var s Snapshot
		h.Record(v)
		h.Read(&s)
		checkHistogram(t, &s, nil)
		h.Publish()
		h.Read(&s)
		checkHistogram(t, &s, []int64{v})
	}
	for v := int64(-100); v <= 100; v++ {
		check(v)
	}
	for e := 6; e < 63; e++ {
		for sub := range int64(16) {
			v := int64(1)<<e + sub<<(e-4)
			check(v)
			check(v - 1)
			check(-v)
			check(1 - v)
		}
	}
	check(math.MaxInt64)
	check(math.MinInt64)
}

func TestHistogramFarValues(t *testing.T) {
	var h Histogram
	for _, v := range []int64{math.MinInt64, math.MinInt64 + 1, math.MaxInt64, math.MaxInt64, 1 << 45} {
		h.Record(v)
	}
	h.Publish()
	var s Snapshot
	h.Read(&s)
	if s.Count != 5 || s.MaxNs != math.MaxInt64 || s.Quantile(1) != math.MaxInt64 || s.Quantile(0.5) != math.MaxInt64 {
		t.Errorf("count %d, max %d, median %d", s.Count, s.MaxNs, s.Quantile(0.5))
	}
	if q := s.Quantile(0); q > -(1<<45)+(1<<41) || q < -(1<<45) {
		t.Errorf("the least is %d, want about -2^45", q)
	}
	// Saturated below, then above: no wrap in between.
	h = Histogram{}
	h.Record(math.MaxInt64)
	h.Record(1)
	h.Publish()
	s = Snapshot{}
	h.Read(&s)
	if s.SumNs != math.MaxInt64 {
		t.Errorf("sum %d", s.SumNs)
	}
	h.Read(&s)
	if s.SumNs != math.MaxInt64 || s.Count != 4 {
		t.Errorf("sum of two %d, count %d", s.SumNs, s.Count)
	}
	h = Histogram{}
	h.Record(math.MinInt64)
	h.Record(-1)
	h.Publish()
	s = Snapshot{}
	h.Read(&s)
	if s.SumNs != math.MinInt64 {
		t.Errorf("sum %d", s.SumNs)
	}
}

// TestHistogramReadWhileWritten: counts only grow, and a quantile is one of the
// values that were written.
func TestHistogramReadWhileWritten(t *testing.T) {
	var h Histogram
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		defer close(done)
		for i := range 300_000 {
			h.Record(int64(i%3)*10 - 10)
			if i%7 == 0 {
				h.Publish()
			}
		}
		h.Publish()
	})
	last := uint64(0)
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		var s Snapshot
		h.Read(&s)
		if s.Count < last {
			t.Fatalf("count went back from %d to %d", last, s.Count)
		}
		last = s.Count
		if q := s.Quantile(0.5); q != 0 && q != -10 && q != 10 || s.Count > 10 && s.MaxNs != 10 {
			t.Fatalf("median %d, max %d of %d", q, s.MaxNs, s.Count)
		}
	}
	wg.Wait()
	if last != 300_000 {
		t.Fatalf("%d values, want 300000", last)
	}
}
