//go:build !race

package bench

import (
	"errors"
	"os"
	"testing"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
)

// TestBookAllocations plays the whole recording, snapshot included, and asks for
// the top after each message: once warm, that allocates nothing.
func TestBookAllocations(t *testing.T) {
	tape, err := recordedBookTape()
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("no recording: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	b := book.New(1)
	var dst [10]book.Level
	play := func() {
		b.Clear()
		applyBook(b, tape.snapshot)
		for _, m := range tape.messages {
			applyBook(b, m)
			b.Top(event.Bid, dst[:])
			b.Top(event.Ask, dst[:])
		}
	}
	play()
	if n := testing.AllocsPerRun(2, play); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	// What check.py, which shares no code with this, found at the end.
	if bids, asks := b.Len(event.Bid), b.Len(event.Ask); bids != 1971 || asks != 2962 || b.OffGrid() != 0 {
		t.Errorf("%d bids, %d asks, %d off the grid; want 1971, 2962, 0", bids, asks, b.OffGrid())
	}
	if err := b.Check(); err != nil {
		t.Error(err)
	}
}
