package ledger

import (
	"math"
	"math/bits"
	"sync/atomic"
)

// Histogram of nanoseconds: 16 buckets to each power of two, so a quantile is
// right to one part in 16. One writer, which neither locks nor allocates; values
// below zero (a venue's clock ahead of ours) have buckets of their own. Its zero
// value is empty; it takes 16 KB.
//
// Readers see what was recorded before the last Publish. An atomic store is a locked
// instruction, two for each value: of the values of a burst most lie in few buckets.
type Histogram struct {
	buckets  [2 * histogramBuckets]atomic.Uint64 // those below zero behind the others
	max, sum atomic.Int64

	// The writer's alone.
	any            bool // there is a value, so max is one
	maxNow, sumNow int64
	more           [2 * histogramBuckets]uint32 // not yet published
	touched        [32]uint16                   // buckets that have more
	numTouched     int
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

// Record counts one value, in ns. Readers see it after the next Publish. Writer only.
func (h *Histogram) Record(v int64) {
	if !h.any || v > h.maxNow {
		h.any, h.maxNow = true, v
	}
	h.sumNow = addSaturated(h.sumNow, v)
	i := bucketOf(uint64(v))
	if v < 0 {
		i = histogramBuckets + bucketOf(-uint64(v))
	}
	if h.more[i] == 0 {
		if h.numTouched == len(h.touched) {
			h.Publish()
		}
		h.touched[h.numTouched] = uint16(i)
		h.numTouched++
	}
	if h.more[i]++; h.more[i] == math.MaxUint32 {
		h.Publish()
	}
}

// Publish shows readers what has been recorded. Writer only.
func (h *Histogram) Publish() {
	if h.numTouched == 0 {
		return
	}
	// The buckets come last, and a reader loads them first: a value that it counts is
	// already in max and sum.
	if h.max.Load() != h.maxNow {
		h.max.Store(h.maxNow)
	}
	h.sum.Store(h.sumNow)
	for _, i := range h.touched[:h.numTouched] {
		b := &h.buckets[i]
		b.Store(b.Load() + uint64(h.more[i])) // one writer: no read-modify-write needed
		h.more[i] = 0
	}
	h.numTouched = 0
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
// those published while Read was under way.
func (h *Histogram) Read(s *Snapshot) {
	had := s.Count
	for i := range histogramBuckets {
		p, n := h.buckets[i].Load(), h.buckets[histogramBuckets+i].Load()
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
