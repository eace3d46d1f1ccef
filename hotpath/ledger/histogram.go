package ledger

import (
	"math"
	"math/bits"
	"sync/atomic"
)

// Histogram of nanoseconds: 16 buckets to each power of two, so a quantile is
// right to one part in 16. One writer, which neither locks nor allocates; values
// below zero (a venue's clock ahead of ours) have buckets of their own. Its zero
// value is empty; it takes 11 KB.
type Histogram struct {
	positive, negative [histogramBuckets]atomic.Uint64
	max, sum           atomic.Int64
	any                bool // the writer's: there is a value, so max is one
}

const (
	subBits          = 4
	histogramBuckets = 42 << subBits // up to 2^45 ns, ten hours; the last one takes all beyond
)

func bucketOf(v uint64) int {
	if v < 1<<subBits {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return min(shift<<subBits+int(v>>shift), histogramBuckets-1)
}

// bucketTop is the largest value of a bucket.
func bucketTop(i int) int64 {
	if i < 2<<subBits {
		return int64(i)
	}
	shift := i>>subBits - 1
	return int64((uint64(i&(1<<subBits-1))+(1<<subBits)+1)<<shift - 1)
}

// Record counts one value, in ns. Writer only.
func (h *Histogram) Record(v int64) {
	// The bucket comes last, and a reader loads it first: a value that it counts
	// is already in max and sum.
	if !h.any || v > h.max.Load() {
		h.any = true
		h.max.Store(v)
	}
	h.sum.Store(addSaturated(h.sum.Load(), v)) // one writer: no read-modify-write needed
	b := &h.positive[bucketOf(uint64(v))]
	if v < 0 {
		b = &h.negative[bucketOf(-uint64(v))]
	}
	b.Store(b.Load() + 1)
}

// addSaturated adds without wrapping: the end of the range is 292 years of
// latency, which a long run with a slow database can bring together.
func addSaturated(a, b int64) int64 {
	sum := a + b
	switch {
	case a > 0 && b > 0 && sum < 0:
		return math.MaxInt64
	case a < 0 && b < 0 && sum >= 0:
		return math.MinInt64
	}
	return sum
}

// Snapshot of a histogram. The zero value is empty.
type Snapshot struct {
	positive, negative [histogramBuckets]uint64
	Count              uint64
	MaxNs              int64 // largest value, also where all are below zero; 0 if there are none
	SumNs              int64 // stays at the end of its range instead of wrapping
}

// Read adds the histogram to s. Any goroutine; several histograms may be added up.
// Count and quantiles fit each other; MaxNs and SumNs may hold a few values more,
// those recorded while Read was under way.
func (h *Histogram) Read(s *Snapshot) {
	had := s.Count
	for i := range h.positive {
		p, n := h.positive[i].Load(), h.negative[i].Load()
		s.positive[i] += p
		s.negative[i] += n
		s.Count += p + n
	}
	if s.Count == had {
		return
	}
	if v := h.max.Load(); had == 0 || v > s.MaxNs {
		s.MaxNs = v
	}
	s.SumNs = addSaturated(s.SumNs, h.sum.Load())
}

// Quantile returns the value that a part q of all values lies below, q from 0 to
// 1, in ns: the one at place q*Count when they stand in order, or the last. The
// answer is the top of its bucket: never below the value, and off by less than a
// sixteenth of it. Beyond 2^45 ns it is MaxNs, or -2^45 and a bit. 0 if there are
// no values.
func (s *Snapshot) Quantile(q float64) int64 {
	rank := uint64(q * float64(s.Count))
	seen := uint64(0)
	for i := histogramBuckets - 1; i > 0; i-- {
		if seen += s.negative[i]; seen > rank {
			return min(-bucketTop(i-1)-1, s.MaxNs)
		}
	}
	for i := range histogramBuckets - 1 {
		if seen += s.positive[i]; seen > rank {
			return min(bucketTop(i), s.MaxNs)
		}
	}
	return s.MaxNs
}

// Bucket of a histogram: so many values, none above TopNs, and above the TopNs of the
// bucket before.
type Bucket struct {
	TopNs int64  `json:"top_ns"`
	Count uint64 `json:"count"`
}

// Buckets are those that hold any value, ascending. Beyond 2^45 ns the top is the end
// of the range.
func (s *Snapshot) Buckets() []Bucket {
	var list []Bucket
	for i := histogramBuckets - 1; i > 0; i-- {
		if n := s.negative[i]; n > 0 {
			list = append(list, Bucket{-bucketTop(i-1) - 1, n})
		}
	}
	for i, n := range s.positive {
		switch {
		case n > 0 && i == histogramBuckets-1:
			list = append(list, Bucket{math.MaxInt64, n})
		case n > 0:
			list = append(list, Bucket{bucketTop(i), n})
		}
	}
	return list
}
