//go:build !race

package book

import (
	"math/rand/v2"
	"testing"

	"deeptape/hotpath/event"
)

// TestNoAllocations plays a market whose touch walks through many windows, with
// levels far away and off the grid, again and again: once the far lists have
// grown, nothing may allocate. bench does the same with the recording.
func TestNoAllocations(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	mid := int64(1_000_000)
	market := make([]event.Level, 20000)
	for i := range market {
		side := event.Bid + event.Side(i%2)
		away := int64(r.ExpFloat64() * windowTicks * 3 / 2)
		if side == event.Bid {
			away = -away
		}
		mid += int64(r.IntN(41) - 19)
		off := int64(0)
		if i%100 == 0 {
			off = 2
		}
		market[i] = event.Level{Px: (mid+away)*5 + off, Qty: int64(r.IntN(3)), Side: side}
	}
	b := New(5)
	var dst [10]Level
	play := func() {
		b.Clear()
		for _, v := range market {
			b.Set(v.Side, v.Px, v.Qty)
			b.Best(v.Side)
			b.Top(v.Side, dst[:])
			b.Truncate(4000)
		}
	}
	play()
	if n := testing.AllocsPerRun(3, play); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	if b.ladders[0].far.n == b.ladders[0].far.off || b.ladders[0].far.off == 0 || b.ladders[0].count == 0 {
		t.Error("the market did not reach window, far list and the prices off the grid")
	}
}
