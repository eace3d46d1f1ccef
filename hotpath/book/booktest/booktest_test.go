package booktest

import (
	"math"
	"slices"
	"testing"

	"deeptape/hotpath/event"
)

// TestByHand holds the oracle to answers that were worked out on paper.
func TestByHand(t *testing.T) {
	b := New(5)
	for _, c := range []struct {
		side    event.Side
		px, qty int64
		want    bool
	}{
		{event.Bid, 100, 7, true}, {event.Bid, 105, 1, true}, {event.Bid, 95, 0, false}, {event.Bid, 105, 1, false},
		{event.Bid, 101, 2, true}, {event.Ask, 110, 3, true}, {event.Ask, -5, 4, true}, {event.Ask, 110, -1, true}, {event.Ask, 115, 9, true},
	} {
		if got := b.Set(c.side, c.px, c.qty); got != c.want {
			t.Errorf("Set(%d, %d, %d) = %v", c.side, c.px, c.qty, got)
		}
	}
	if b.Rescale(18, 0) || !b.Rescale(1, 2) {
		t.Error("Rescale took what overflows, or refused what fits")
	}
	if got, want := b.Levels(event.Bid), []Level{{1050, 100}, {1010, 200}, {1000, 700}}; !slices.Equal(got, want) {
		t.Errorf("bids %v, want %v", got, want)
	}
	if got, want := b.Levels(event.Ask), []Level{{-50, 400}, {1150, 900}}; !slices.Equal(got, want) {
		t.Errorf("asks %v, want %v", got, want)
	}
	if b.OffGrid() != 1 || b.Tick != 50 || b.Len(event.Bid) != 3 {
		t.Errorf("off grid %d, tick %d, bids %d", b.OffGrid(), b.Tick, b.Len(event.Bid))
	}
	b.Truncate(1)
	if b.Len(event.Bid) != 1 || b.Bids[1050] != 100 || b.Len(event.Ask) != 1 || b.Asks[-50] != 400 {
		t.Errorf("truncated to %v %v", b.Bids, b.Asks)
	}
	b.Clear()
	b.Set(event.Bid, math.MinInt64, 1)
	if !b.Rescale(0, 0) || b.Rescale(1, 0) || b.Len(event.Bid) != 1 || b.Len(event.Ask) != 0 {
		t.Error("the least price was not kept")
	}
}
