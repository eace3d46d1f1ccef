package bench

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	gbtree "github.com/google/btree"
	tbtree "github.com/tidwall/btree"
	"golang.org/x/sys/unix"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
)

// What the ladder is measured against: the structures that one would take from
// the shelf, each with the same operations. TestBookRivalsAgree holds them to the
// same books.
type bookRival interface {
	Set(side event.Side, px, qty int64)
	Top(side event.Side, dst []book.Level) int
	Clear()
}

var bookRivals = []struct {
	name string
	make func() bookRival
}{
	{"ladder", func() bookRival { return book.New(1) }},
	{"slice", func() bookRival { return &sliceBook{} }},
	{"tidwall", func() bookRival { return newTidwallBook() }},
	{"google", func() bookRival { return newGoogleBook() }},
}

// sliceBook: sorted slices, best last, so that changes near the touch move little.
type sliceBook struct{ sides [2][]book.Level }

func (b *sliceBook) Set(side event.Side, px, qty int64) {
	flip := -int64(side - 1)
	s := b.sides[side-1]
	lo, hi := 0, len(s)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if s[mid].Px^flip < px^flip {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	switch found := lo < len(s) && s[lo].Px == px; {
	case !found && qty == 0:
	case qty == 0:
		b.sides[side-1] = append(s[:lo], s[lo+1:]...)
	case found:
		s[lo].Qty = qty
	default:
		s = append(s, book.Level{})
		copy(s[lo+1:], s[lo:])
		s[lo] = book.Level{Px: px, Qty: qty}
		b.sides[side-1] = s
	}
}

func (b *sliceBook) Top(side event.Side, dst []book.Level) int {
	s := b.sides[side-1]
	n := min(len(dst), len(s))
	for i := range n {
		dst[i] = s[len(s)-1-i]
	}
	return n
}

func (b *sliceBook) Clear() { b.sides[0], b.sides[1] = b.sides[0][:0], b.sides[1][:0] }

// tidwallBook uses Map, the fastest of that package for integer keys.
type tidwallBook struct{ sides [2]*tbtree.Map[int64, int64] }

func newTidwallBook() *tidwallBook {
	b := &tidwallBook{}
	b.Clear()
	return b
}

func (b *tidwallBook) Set(side event.Side, px, qty int64) {
	key := px ^ -int64(side-1)
	if qty == 0 {
		b.sides[side-1].Delete(key)
		return
	}
	b.sides[side-1].Set(key, qty)
}

func (b *tidwallBook) Top(side event.Side, dst []book.Level) int {
	n := 0
	b.sides[side-1].Reverse(func(key, qty int64) bool {
		dst[n] = book.Level{Px: key ^ -int64(side-1), Qty: qty}
		n++
		return n < len(dst)
	})
	return n
}

func (b *tidwallBook) Clear() {
	for i := range b.sides {
		b.sides[i] = tbtree.NewMap[int64, int64](0)
	}
}

type googleBook struct{ sides [2]*gbtree.BTreeG[book.Level] }

func newGoogleBook() *googleBook {
	b := &googleBook{}
	b.Clear()
	return b
}

func (b *googleBook) Set(side event.Side, px, qty int64) {
	v := book.Level{Px: px ^ -int64(side-1), Qty: qty}
	if qty == 0 {
		b.sides[side-1].Delete(v)
		return
	}
	b.sides[side-1].ReplaceOrInsert(v)
}

func (b *googleBook) Top(side event.Side, dst []book.Level) int {
	n := 0
	b.sides[side-1].Descend(func(v book.Level) bool {
		dst[n] = book.Level{Px: v.Px ^ -int64(side-1), Qty: v.Qty}
		n++
		return n < len(dst)
	})
	return n
}

func (b *googleBook) Clear() {
	for i := range b.sides {
		b.sides[i] = gbtree.NewG(32, func(x, y book.Level) bool { return x.Px < y.Px })
	}
}

// bookTape is one snapshot of each of some books, and the messages after them, as integers.
type bookTape struct {
	name      string
	books     int
	snapshots []bookMessage
	messages  []bookMessage
	levels    int // of messages
}

type bookMessage struct {
	book   int
	clear  bool // it replaces the book
	levels []event.Level
}

func (t *bookTape) add(m bookMessage) {
	t.messages = append(t.messages, m)
	t.levels += len(m.levels)
}

// recordedBookTape holds the rows of a recording: what its books really take.
func recordedBookTape(r *recording) *bookTape {
	tape := &bookTape{name: r.venue + "-" + r.name, books: len(r.insts)}
	begun := make([]bool, len(r.insts))
	for _, row := range r.rowsOf(event.RowBook) {
		var h event.Head
		h.Get(row)
		m := bookMessage{book: int(h.Inst), clear: h.Flags&event.FlagSnapshot != 0}
		n := event.Levels(row)
		for i := range n {
			m.levels = append(m.levels, event.GetLevel(row, n, i))
		}
		if m.clear && !begun[h.Inst] {
			begun[h.Inst] = true
			tape.snapshots = append(tape.snapshots, m)
		} else {
			tape.add(m)
		}
	}
	return tape
}

// peakBookTape is a made market at its busiest: 5,000 levels a side, a touch that
// walks, most changes near it, and as many levels removed as added.
func peakBookTape() *bookTape {
	r := rand.New(rand.NewPCG(1, 2))
	tape := &bookTape{name: "peak", books: 1, snapshots: []bookMessage{{clear: true}}}
	mid := int64(6_000_000)
	place := func(side event.Side, away int64) int64 {
		if side == event.Bid {
			return mid - 1 - away
		}
		return mid + away
	}
	for i := range int64(5000) {
		for side := event.Bid; side <= event.Ask; side++ {
			tape.snapshots[0].levels = append(tape.snapshots[0].levels, event.Level{Px: place(side, 2*i), Qty: 1 + i, Side: side})
		}
	}
	for range 5000 {
		mid += int64(r.IntN(7) - 3)
		var m []event.Level
		for range 40 {
			side := event.Bid + event.Side(r.IntN(2))
			away := int64(r.ExpFloat64() * 1500)
			m = append(m, event.Level{Px: place(side, away), Qty: int64(r.IntN(2) * (1 + r.IntN(1000))), Side: side})
		}
		tape.add(bookMessage{levels: m})
	}
	return tape
}

func recordedBookTapes(tb testing.TB) (tapes []*bookTape) {
	for _, r := range recordings(tb) {
		tapes = append(tapes, recordedBookTape(r))
	}
	return tapes
}

func bookTapes(tb testing.TB) []*bookTape { return append(recordedBookTapes(tb), peakBookTape()) }

func applyBook(b bookRival, m *bookMessage) {
	if m.clear {
		b.Clear()
	}
	if own, ok := b.(*book.Book); ok { // as the agent does
		own.Foresee(m.levels)
		own.Apply(m.levels)
		return
	}
	for i := range m.levels {
		l := &m.levels[i]
		b.Set(l.Side, l.Px, l.Qty)
	}
}

func makeBooks(tape *bookTape, make func() bookRival) (books []bookRival) {
	for range tape.books {
		books = append(books, make())
	}
	return books
}

// threadNs is the processor time of the calling thread. The machine may be shared:
// wall time would count the turns of others. The caller locks its thread.
func threadNs() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

// replayBook plays the tape into its books and returns the nanoseconds that each
// stretch of it took, without the loading of the snapshots. A stretch is so many
// messages as fit the nearest caches, where the decoder has just put them in the agent:
// they are looked at first, for how fast the tape comes from memory is no matter.
func replayBook(books []bookRival, tape *bookTape) (stretches []int64) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for i := range tape.snapshots {
		applyBook(books[tape.snapshots[i].book], &tape.snapshots[i])
	}
	for rest := tape.messages; len(rest) > 0; {
		n, levels := 0, 0
		for n < len(rest) && levels < 500 {
			for i := range rest[n].levels {
				bookSink += rest[n].levels[i].Px
			}
			levels += len(rest[n].levels)
			n++
		}
		start := threadNs()
		for i := range rest[:n] {
			m := &rest[i]
			applyBook(books[m.book], m)
		}
		stretches = append(stretches, threadNs()-start)
		rest = rest[n:]
	}
	return stretches
}

func sumNs(stretches []int64) (ns int64) {
	for _, s := range stretches {
		ns += s
	}
	return ns
}

var bookSink int64

func bookOf(b bookRival, side event.Side) []book.Level {
	dst := make([]book.Level, 50_000)
	return dst[:b.Top(side, dst)]
}

func TestBookRivalsAgree(t *testing.T) {
	for _, tape := range bookTapes(t) {
		own := makeBooks(tape, bookRivals[0].make)
		replayBook(own, tape)
		for _, rival := range bookRivals[1:] {
			books := makeBooks(tape, rival.make)
			replayBook(books, tape)
			for i := range books {
				for side := event.Bid; side <= event.Ask; side++ {
					if got, want := bookOf(books[i], side), bookOf(own[i], side); !slices.Equal(got, want) || len(want) < 50 {
						t.Errorf("tape %s, book %d, side %d: %s ends with %d levels, %s with %d others", tape.name, i, side, rival.name, len(got), bookRivals[0].name, len(want))
					}
				}
			}
		}
	}
}

// BenchmarkBook: ns per level of a tape, each structure on its own.
func BenchmarkBook(b *testing.B) {
	for _, tape := range bookTapes(b) {
		for _, rival := range bookRivals {
			b.Run(fmt.Sprintf("tape=%s/v=%s", tape.name, rival.name), func(b *testing.B) {
				books := makeBooks(tape, rival.make)
				var total int64
				for b.Loop() {
					total += sumNs(replayBook(books, tape))
				}
				b.ReportMetric(float64(total)/float64(b.N*tape.levels), "ns/level")
			})
		}
	}
}

// leastBook plays the tape to all structures in turn, some rounds, and returns the
// nanoseconds per level of each, of every stretch the least that it ever took: what
// disturbs it only ever adds.
func leastBook(tape *bookTape, rounds int) (perLevel []float64) {
	var books [][]bookRival
	for _, r := range bookRivals {
		books = append(books, makeBooks(tape, r.make))
	}
	least := make([][]int64, len(books))
	for range rounds {
		for i := range books {
			stretches := replayBook(books[i], tape)
			if least[i] == nil {
				least[i] = stretches
			}
			for j, ns := range stretches {
				least[i][j] = min(least[i][j], ns)
			}
		}
	}
	for i := range least {
		perLevel = append(perLevel, float64(sumNs(least[i]))/float64(tape.levels))
	}
	return perLevel
}

// manyBooksTape has so many books that they share no cache, and a message for each in turn.
func manyBooksTape() *bookTape {
	const books, messages = 256, 200
	one := peakBookTape()
	tape := &bookTape{books: books}
	for i := range books {
		tape.snapshots = append(tape.snapshots, bookMessage{book: i, clear: true, levels: one.snapshots[0].levels})
	}
	for _, m := range one.messages[:messages] {
		for i := range books {
			m.book = i
			tape.add(m)
		}
	}
	return tape
}

// unforeseen is a ladder that is not told what is to come.
type unforeseen struct{ *book.Book }

// BenchmarkBookMany: so many books that they share no cache, a message to each in turn.
func BenchmarkBookMany(b *testing.B) {
	tape := manyBooksTape()
	rivals := slices.Clone(bookRivals)
	rivals = append(rivals, rivals[0])
	rivals[len(rivals)-1].name, rivals[len(rivals)-1].make = "unforeseen", func() bookRival { return unforeseen{book.New(1)} }
	for _, rival := range rivals {
		b.Run(fmt.Sprintf("books=%d/v=%s", tape.books, rival.name), func(b *testing.B) {
			own := makeBooks(tape, rival.make)
			var total int64
			for b.Loop() {
				total += sumNs(replayBook(own, tape))
			}
			b.ReportMetric(float64(total)/float64(b.N*tape.levels), "ns/level")
			if x, ok := own[0].(*book.Book); ok {
				b.ReportMetric(float64(tape.books*x.Bytes())/(1<<20), "MiB")
			}
		})
	}
}

// BenchmarkBookTop: the ten best of both sides, after each of the last messages of a
// tape (the replay between them is not counted, its effect on the caches is).
func BenchmarkBookTop(b *testing.B) {
	for _, tape := range bookTapes(b) {
		for _, rival := range bookRivals {
			b.Run(fmt.Sprintf("tape=%s/v=%s", tape.name, rival.name), func(b *testing.B) {
				const calls = 20 // reading the clock costs more than one call
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				books := makeBooks(tape, rival.make)
				var dst [10]book.Level
				var total int64
				last := tape.messages[max(0, len(tape.messages)-1000):]
				replayBook(books, tape)
				for b.Loop() {
					for i := range last {
						x := books[last[i].book]
						applyBook(x, &last[i])
						start := threadNs()
						for range calls {
							x.Top(event.Bid, dst[:])
							x.Top(event.Ask, dst[:])
						}
						total += threadNs() - start
					}
				}
				b.ReportMetric(float64(total)/float64(b.N*calls*len(last)), "ns/both")
			})
		}
	}
}

// ratioBookRecordings is the ladder against the best of the others, for each recording
// its own best, per level over all recordings.
func ratioBookRecordings(t *testing.T) float64 {
	var own, best, levels float64
	for _, tape := range recordedBookTapes(t) {
		ns := leastBook(tape, 12)
		t.Logf("%s: %.1f ns a level in %v", tape.name, ns, bookNames())
		own += ns[0] * float64(tape.levels)
		best += slices.Min(ns[1:]) * float64(tape.levels)
		levels += float64(tape.levels)
	}
	t.Logf("all: %.1f ns a level, the best others %.1f", own/levels, best/levels)
	return own / best
}

// ratioBookPeak is the ladder against the sorted slice where the market is busiest.
func ratioBookPeak(t *testing.T) float64 {
	ns := leastBook(peakBookTape(), 8)
	t.Logf("peak: %.1f ns a level in %v", ns, bookNames())
	return ns[0] / ns[1]
}

// ratioBookMany is what asking the memory ahead is for: books that share no cache.
func ratioBookMany(t *testing.T) float64 {
	tape := manyBooksTape()
	asked := makeBooks(tape, bookRivals[0].make)
	alone := makeBooks(tape, func() bookRival { return unforeseen{book.New(1)} })
	least := [2]int64{math.MaxInt64, math.MaxInt64}
	for range 4 {
		for i, books := range [][]bookRival{asked, alone} {
			least[i] = min(least[i], sumNs(replayBook(books, tape)))
		}
	}
	t.Logf("%d books: %.1f ns a level, unforeseen %.1f", tape.books, float64(least[0])/float64(tape.levels), float64(least[1])/float64(tape.levels))
	return float64(least[0]) / float64(least[1])
}

func bookNames() (names []string) {
	for _, r := range bookRivals {
		names = append(names, r.name)
	}
	return names
}
