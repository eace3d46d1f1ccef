package wire

import (
	"math/rand/v2"
	"time"
)

// Backoff says how long to wait before the next try: at random between min and a
// ceiling that starts at twice min and doubles with every try up to max. It never
// gives up and never says less than min, so that a venue that refuses us at once is
// not asked in a tight loop, and a fleet that lost its venue together does not come
// back together. It belongs to one goroutine.
//
// Reset is for a connection that has lived for a while. Whoever resets as soon as it
// is up turns a venue that accepts and drops into a reconnect storm.
type Backoff struct {
	min, max, ceiling time.Duration
	rng               *rand.Rand
}

// NewBackoff panics if not 0 < min <= max. The rng is the caller's choice of luck: a
// simulation gives one from its seed.
func NewBackoff(min, max time.Duration, rng *rand.Rand) *Backoff {
	if min <= 0 || max < min {
		panic("wire: backoff needs 0 < min <= max, not " + min.String() + " and " + max.String())
	}
	b := &Backoff{min: min, max: max, rng: rng}
	b.Reset()
	return b
}

// Next returns the time to wait before the next try.
func (b *Backoff) Next() time.Duration {
	d := b.min + time.Duration(b.rng.Int64N(int64(b.ceiling-b.min)+1))
	b.ceiling = b.double(b.ceiling)
	return d
}

// Reset makes the next wait a short one again.
func (b *Backoff) Reset() { b.ceiling = b.double(b.min) }

func (b *Backoff) double(d time.Duration) time.Duration {
	if d > b.max/2 {
		return b.max
	}
	return 2 * d
}
