package bench

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"

	gbtree "github.com/google/btree"
	tbtree "github.com/tidwall/btree"
	"github.com/valyala/fastjson"
	"golang.org/x/sys/unix"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
	"deeptape/hotpath/fixed"
)

// What the ladder is measured against: the structures that one would take from
// the shelf, each with the same operations. TestBookRivalsAgree holds them to the
// same books.
type bookRival interface {
	Set(side event.Side, px, qty int64) bool
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

func (b *sliceBook) Set(side event.Side, px, qty int64) bool {
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
		return false
	case qty == 0:
		b.sides[side-1] = append(s[:lo], s[lo+1:]...)
	case found:
		changed := s[lo].Qty != qty
		s[lo].Qty = qty
		return changed
	default:
		s = append(s, book.Level{})
		copy(s[lo+1:], s[lo:])
		s[lo] = book.Level{Px: px, Qty: qty}
		b.sides[side-1] = s
	}
	return true
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

func (b *tidwallBook) Set(side event.Side, px, qty int64) bool {
	key := px ^ -int64(side-1)
	if qty == 0 {
		_, had := b.sides[side-1].Delete(key)
		return had
	}
	old, _ := b.sides[side-1].Set(key, qty)
	return old != qty
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

func (b *googleBook) Set(side event.Side, px, qty int64) bool {
	v := book.Level{Px: px ^ -int64(side-1), Qty: qty}
	if qty == 0 {
		_, had := b.sides[side-1].Delete(v)
		return had
	}
	old, _ := b.sides[side-1].ReplaceOrInsert(v)
	return old.Qty != qty
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

// bookTape is a snapshot and the messages after it, as integers.
type bookTape struct {
	snapshot []event.Level
	messages [][]event.Level
	levels   int
}

func (t *bookTape) add(message []event.Level) {
	t.messages = append(t.messages, message)
	t.levels += len(message)
}

// recordedBookTape is the BTCUSDT recording: 6,493 messages, 298,077 levels; a
// book of 1,971 bids and 2,962 asks at its end.
var recordedBookTape = sync.OnceValues(func() (*bookTape, error) {
	dir := os.Getenv("DEEPTAPE_CAPTURES")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "captures")
	}
	f, err := os.Open(filepath.Join(dir, "binance", "spot_btcusdt_20240808_full.jsonl.gz"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	tape := &bookTape{}
	var parser fastjson.Parser
	var parseErr error
	levels := func(dst []event.Level, side event.Side, v []*fastjson.Value) []event.Level {
		for _, l := range v {
			px, err := fixed.Parse(l.GetStringBytes("0"), 2)
			if err == nil {
				var qty int64
				qty, err = fixed.Parse(l.GetStringBytes("1"), 8)
				dst = append(dst, event.Level{Px: px, Qty: qty, Side: side})
			}
			if err != nil && parseErr == nil {
				parseErr = fmt.Errorf("cannot read level %q: %w", l, err)
			}
		}
		return dst
	}
	type early struct {
		u      int64
		levels []event.Level
	}
	var buffered []early
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		v, err := parser.ParseBytes(lines.Bytes())
		if err != nil {
			return nil, err
		}
		if v.Exists("lastUpdateId") {
			tape.snapshot = levels(tape.snapshot, event.Bid, v.GetArray("bids"))
			tape.snapshot = levels(tape.snapshot, event.Ask, v.GetArray("asks"))
			for _, e := range buffered {
				if e.u > v.GetInt64("lastUpdateId") {
					tape.add(e.levels)
				}
			}
			continue
		}
		v = v.Get("data")
		if string(v.GetStringBytes("e")) != "depthUpdate" {
			continue
		}
		m := levels(levels(nil, event.Bid, v.GetArray("b")), event.Ask, v.GetArray("a"))
		if tape.snapshot == nil {
			buffered = append(buffered, early{v.GetInt64("u"), m})
		} else {
			tape.add(m)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return tape, parseErr
})

// peakBookTape is a made market at its busiest: 5,000 levels a side, a touch that
// walks, most changes near it, and as many levels removed as added.
func peakBookTape() *bookTape {
	r := rand.New(rand.NewPCG(1, 2))
	tape := &bookTape{}
	mid := int64(6_000_000)
	place := func(side event.Side, away int64) int64 {
		if side == event.Bid {
			return mid - 1 - away
		}
		return mid + away
	}
	for i := range int64(5000) {
		for side := event.Bid; side <= event.Ask; side++ {
			tape.snapshot = append(tape.snapshot, event.Level{Px: place(side, 2*i), Qty: 1 + i, Side: side})
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
		tape.add(m)
	}
	return tape
}

func bookTapes(b testing.TB) map[string]*bookTape {
	tapes := map[string]*bookTape{"peak": peakBookTape()}
	if tape, err := recordedBookTape(); err == nil {
		tapes["recording"] = tape
	} else if os.IsNotExist(err) {
		b.Logf("no recording, only the made tape: %v", err)
	} else {
		b.Fatal(err)
	}
	return tapes
}

func applyBook(b bookRival, levels []event.Level) {
	for i := range levels {
		l := &levels[i]
		b.Set(l.Side, l.Px, l.Qty)
	}
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

// replayBook plays the tape into every book, message by message, and returns the
// nanoseconds that took, without the loading of the snapshots.
func replayBook(books []bookRival, tape *bookTape) int64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, b := range books {
		b.Clear()
		applyBook(b, tape.snapshot)
	}
	start := threadNs()
	for _, m := range tape.messages {
		for _, b := range books {
			applyBook(b, m)
		}
	}
	return threadNs() - start
}

func bookOf(b bookRival, side event.Side) []book.Level {
	dst := make([]book.Level, 50_000)
	return dst[:b.Top(side, dst)]
}

func TestBookRivalsAgree(t *testing.T) {
	for name, tape := range bookTapes(t) {
		var want [2][]book.Level
		for i, rival := range bookRivals {
			b := rival.make()
			replayBook([]bookRival{b}, tape)
			for side := event.Bid; side <= event.Ask; side++ {
				got := bookOf(b, side)
				if i == 0 {
					want[side-1] = got
				} else if !slices.Equal(got, want[side-1]) {
					t.Errorf("tape %s, side %d: %s and %s end with different books", name, side, bookRivals[0].name, rival.name)
				}
			}
		}
		if len(want[0]) < 1000 || len(want[1]) < 1000 {
			t.Errorf("tape %s ends with %d bids and %d asks only", name, len(want[0]), len(want[1]))
		}
	}
}

// BenchmarkBookUpdate: ns per level, each structure on its own.
func BenchmarkBookUpdate(b *testing.B) {
	for name, tape := range bookTapes(b) {
		for _, n := range []int{1, 10} {
			for _, rival := range bookRivals {
				b.Run(fmt.Sprintf("tape=%s/books=%d/v=%s", name, n, rival.name), func(b *testing.B) {
					var books []bookRival
					for range n {
						books = append(books, rival.make())
					}
					var total int64
					for b.Loop() {
						total += replayBook(books, tape)
					}
					b.ReportMetric(float64(total)/float64(b.N*n*tape.levels), "ns/level")
				})
			}
		}
	}
}

// BenchmarkBookRatio plays the tape to all structures in turn, and compares the
// best round of the ladder with the best round of the best other one: what
// disturbs a round only ever adds to it.
func BenchmarkBookRatio(b *testing.B) {
	for name, tape := range bookTapes(b) {
		b.Run("tape="+name, func(b *testing.B) {
			var books []bookRival
			for _, r := range bookRivals {
				books = append(books, r.make())
			}
			least := slices.Repeat([]int64{math.MaxInt64}, len(books))
			for b.Loop() {
				for i := range books {
					least[i] = min(least[i], replayBook(books[i:i+1], tape))
				}
			}
			for i, r := range bookRivals {
				b.ReportMetric(float64(least[i])/float64(tape.levels), r.name+"-ns/level")
			}
			b.ReportMetric(float64(least[0])/float64(slices.Min(least[1:])), "ratio")
		})
	}
}

// BenchmarkBookMany: so many books that they share no cache, the ladder alone.
func BenchmarkBookMany(b *testing.B) {
	tape := *peakBookTape()
	tape.messages = tape.messages[:200]
	books := make([]bookRival, 256)
	bytes := 0
	for i := range books {
		books[i] = book.New(1)
	}
	var total int64
	for b.Loop() {
		total += replayBook(books, &tape)
	}
	for _, x := range books {
		bytes += x.(*book.Book).Bytes()
	}
	b.ReportMetric(float64(total)/float64(b.N*len(books)*200*40), "ns/level")
	b.ReportMetric(float64(bytes)/(1<<20), "MiB")
}

// BenchmarkBookTop: the ten best of both sides, after each of the last thousand
// messages of a tape (the replay between them is not counted, its effect on the
// caches is).
func BenchmarkBookTop(b *testing.B) {
	for name, tape := range bookTapes(b) {
		for _, rival := range bookRivals {
			b.Run(fmt.Sprintf("tape=%s/v=%s", name, rival.name), func(b *testing.B) {
				const calls = 20 // reading the clock costs more than one call
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				x := rival.make()
				var dst [10]book.Level
				var total int64
				last := tape.messages[len(tape.messages)-1000:]
				replayBook([]bookRival{x}, tape)
				for b.Loop() {
					for _, m := range last {
						applyBook(x, m)
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
