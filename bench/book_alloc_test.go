//go:build !race

package bench

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
)

// TestBookAllocations plays the whole recording, snapshot included, and asks for
// the top after each message: once warm, that allocates nothing.
func TestBookAllocations(t *testing.T) {
	tape := recordedBookTape(recordedBTC(t))
	b := book.New(1)
	var dst [10]book.Level
	play := func() {
		applyBook(b, &tape.snapshots[0])
		for i := range tape.messages {
			applyBook(b, &tape.messages[i])
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

// TestBookMemory: what a book holds is what it says, and within BookBytes and
// FarLevelBytes, also where nearly everything lies far from the touch.
func TestBookMemory(t *testing.T) {
	r := rand.New(rand.NewPCG(44, 1))
	full := bookMessage{} // as long as Coinbase's longest book, from a cent to ten times the price
	for i := range int64(22_000) {
		away := int64(r.ExpFloat64() * 200_000)
		full.levels = append(full.levels,
			event.Level{Side: event.Bid, Px: max(1, 6_000_000-1-away), Qty: 1 + i},
			event.Level{Side: event.Ask, Px: min(60_000_000, 6_000_000+away*7), Qty: 1 + i})
	}
	churn := &bookTape{name: "44,000 levels", books: 1, snapshots: []bookMessage{full}}
	for range 2000 { // levels go and come where others were
		l := full.levels[r.IntN(len(full.levels))]
		gone := l
		gone.Qty = 0
		churn.add(bookMessage{levels: []event.Level{gone, {Side: l.Side, Px: max(1, l.Px+int64(r.IntN(100_000))-50_000), Qty: l.Qty}}})
	}
	rally := &bookTape{name: "44,000 levels and a touch that walks away from them", books: 1, snapshots: []bookMessage{full}}
	for px := int64(6_000_000); px < 9_000_000; px += 5000 {
		rally.add(bookMessage{levels: []event.Level{{Side: event.Bid, Px: px, Qty: 1}}})
	}
	for _, tape := range append(bookTapes(t), churn, rally) {
		t.Run(tape.name, func(t *testing.T) {
			before := heapBytes()
			books := makeBooks(tape, func() bookRival { return book.New(1) })
			replayBook(books, tape)
			heap := heapBytes() - before
			says, allowed, levels := 0, 0, 0
			for i := range books {
				b := books[i].(*book.Book)
				n := b.Len(event.Bid) + b.Len(event.Ask)
				says, levels = says+b.Bytes(), levels+n
				allowed += BookBytes + FarLevelBytes*n
			}
			what := fmt.Sprintf("%d books with %d levels: %d bytes, %d of the heap", len(books), levels, says, heap)
			t.Log(what)
			if says > allowed {
				t.Errorf("%s; more than %d", what, allowed)
			}
			// Sizes of the allocator's classes lie up to an eighth apart.
			if heap > says+says/8+16<<10 {
				t.Errorf("%s: it does not count all", what)
			}
			runtime.KeepAlive(books)
		})
	}
}

func heapBytes() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
