package ledger

import (
	"math/bits"
	"sync/atomic"
)

// Histogram of nanoseconds: 16 buckets to each power of two, so a quantile is
// right to one part in 16. One writer, which neither locks nor allocates; values
// below zero (a venue's clock ahead of ours) have buckets of their own.
type Histogram struct {
	positive, negative [histogramBuckets]atomic.Uint64
	max                atomic.Int64
}

const (
	subBits          = 4
	histogramBuckets = 42 << subBits // up to 2^45 ns, ten hours
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
	b := &h.positive[0]
	if v < 0 {
		b = &h.negative[bucketOf(uint64(-v))]
	} else {
		b = &h.positive[bucketOf(uint64(v))]
	}
	b.Store(b.Load() + 1) // one writer: no read-modify-write needed
	if v > h.max.Load() {
		h.max.Store(v)
	}
}

// Snapshot of a histogram.
type Snapshot struct {
	positive, negative [histogramBuckets]uint64
	Count              uint64
	MaxNs              int64
}

// Read adds the histogram to s. Any goroutine; several histograms may be added up.
func (h *Histogram) Read(s *Snapshot) {
	for i := range h.positive {
		p, n := h.positive[i].Load(), h.negative[i].Load()
		s.positive[i] += p
		s.negative[i] += n
		s.Count += p + n
	}
	s.MaxNs = max(s.MaxNs, h.max.Load())
}

// Quantile returns the value below which a part q of all lies, in ns; 0 if there
// are none.
func (s *Snapshot) Quantile(q float64) int64 {
	rank := uint64(q * float64(s.Count))
	seen := uint64(0)
	for i := histogramBuckets - 1; i >= 0; i-- {
		if seen += s.negative[i]; seen > rank {
			return -bucketTop(i)
		}
	}
	for i := range s.positive {
		if seen += s.positive[i]; seen > rank {
			return bucketTop(i)
		}
	}
	return s.MaxNs
}
