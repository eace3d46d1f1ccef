package wire

import "time"

// Clock gives the time of a stamp: Unix wall time in nanoseconds. Two calls in
// sequence never go back. It may be called from several goroutines.
type Clock interface{ NowNs() int64 }

// NewClock reads the wall clock once and carries it forward by the monotonic clock,
// so that a step of the wall clock (NTP, an operator) never reorders stamps. The
// price is that a step is not followed either: a new anchor is a new Clock, and
// whoever makes one journals it.
func NewClock() Clock {
	t := time.Now()
	return &anchored{anchor: t, anchorNs: t.UnixNano()}
}

type anchored struct {
	anchor   time.Time // carries the monotonic reading
	anchorNs int64     // the same instant as Unix time
}

func (c *anchored) NowNs() int64 {
	return c.anchorNs + int64(time.Since(c.anchor))
}
