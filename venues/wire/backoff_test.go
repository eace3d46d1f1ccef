package wire

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	seed := testSeed(t)
	const least, most = 100 * time.Millisecond, 30 * time.Second
	b := NewBackoff(least, most, rand.New(rand.NewPCG(seed, 1)))
	for range 200 {
		ceiling := 2 * least
		for try := range 20 {
			d := b.Next()
			if d < least || d > ceiling {
				t.Fatalf("seed %d, try %d: %v is not in [%v, %v]", seed, try, d, least, ceiling)
			}
			ceiling = min(2*ceiling, most)
		}
		b.Reset()
	}
	// At the ceiling the waits fill the whole range.
	var low, high bool
	for range 2000 {
		d := b.Next()
		low = low || d < most/4
		high = high || d > most*3/4
	}
	if !low || !high {
		t.Errorf("seed %d: no full jitter: low %v, high %v", seed, low, high)
	}
	one := NewBackoff(time.Hour, time.Hour, rand.New(rand.NewPCG(seed, 2)))
	huge := NewBackoff(1, 1<<63-1, rand.New(rand.NewPCG(seed, 3)))
	for range 200 {
		if d := one.Next(); d != time.Hour {
			t.Fatalf("min = max: %v", d)
		}
		if d := huge.Next(); d < 1 {
			t.Fatalf("overflow: %v", d)
		}
	}
}

func TestClockGoesForwardFromTheWall(t *testing.T) {
	before := time.Now().UnixNano()
	c := NewClock()
	last := c.NowNs()
	after := time.Now().UnixNano()
	if last < before || last > after {
		t.Errorf("the clock says %d between %d and %d", last, before, after)
	}
	for range 100_000 {
		now := c.NowNs()
		if now < last {
			t.Fatalf("%d after %d", now, last)
		}
		last = now
	}
}
