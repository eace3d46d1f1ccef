package ring

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"
	"unsafe"
)

// newSeed gives random numbers; always the same, so that luck is no gate;
// DEEPTAPE_SEED=n gives others.
func newSeed(t *testing.T) *rand.Rand {
	seed := uint64(1)
	if one, err := strconv.ParseUint(os.Getenv("DEEPTAPE_SEED"), 10, 64); err == nil {
		seed = one
	}
	t.Logf("DEEPTAPE_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// mustClaim writes a record of n bytes of value v, unpublished.
func mustClaim(t *testing.T, r *Ring, n int, v byte) {
	t.Helper()
	b, out := r.Claim(n)
	if out != OK || len(b) != n || cap(b) != n {
		t.Fatalf("Claim(%d) = %d bytes of capacity %d, %v", n, len(b), cap(b), out)
	}
	fill(b, v)
}

func fill(b []byte, v byte) {
	for i := range b {
		b[i] = v
	}
}

// mustTake expects a record of n bytes of value v, and releases it.
func mustTake(t *testing.T, r *Ring, n int, v byte) {
	t.Helper()
	want := bytes.Repeat([]byte{v}, n)
	if got := r.Peek(); !bytes.Equal(got, want) {
		t.Fatalf("Peek: %d bytes, %x; want %d of %#x", len(got), got, n, v)
	}
	r.Release()
}

func mustEmpty(t *testing.T, r *Ring) {
	t.Helper()
	if got := r.Peek(); got != nil {
		t.Fatalf("Peek of an empty ring: %x", got)
	}
	if n := r.UsedBytes(); n != 0 {
		t.Fatalf("an empty ring uses %d bytes", n)
	}
}

// TestOutcomes lists every outcome of every operation and the state that permits it.
func TestOutcomes(t *testing.T) {
	const capacity = 256
	empty := func(r *Ring) {}
	full := func(r *Ring) {
		for {
			if _, out := r.Claim(24); out != OK {
				break
			}
		}
		r.Commit()
	}
	batchFull := func(r *Ring) { // as full, but unpublished: the consumer cannot help
		for {
			if _, out := r.Claim(24); out != OK {
				break
			}
		}
	}
	closed := func(r *Ring) { r.Close() }
	fullClosed := func(r *Ring) { full(r); r.Close() }
	ownedCapUsed := func(r *Ring) { r.OfferOwned(make([]byte, 1000)) }
	ownedSlotsUsed := func(r *Ring) {
		for i := range ownedSlots {
			if r.OfferOwned(make([]byte, 1)) != OK {
				panic(i)
			}
		}
	}

	claim := func(n int) func(r *Ring) Outcome {
		return func(r *Ring) Outcome { _, out := r.Claim(n); return out }
	}
	offer := func(n int) func(r *Ring) Outcome {
		return func(r *Ring) Outcome { return r.OfferOwned(make([]byte, n)) }
	}
	for _, c := range []struct {
		name     string
		capacity int
		before   func(r *Ring)
		op       func(r *Ring) Outcome
		want     Outcome
	}{
		{"claim least", capacity, empty, claim(1), OK},
		{"claim quarter", capacity, empty, claim(capacity / 4), OK},
		{"claim over quarter", capacity, empty, claim(capacity/4 + 1), TooLarge},
		{"claim over capacity", capacity, empty, claim(capacity + 1), TooLarge},
		{"claim, full", capacity, full, claim(1), BackPressured},
		{"claim over quarter, full", capacity, full, claim(capacity/4 + 1), TooLarge},
		{"claim, batch full", capacity, batchFull, claim(1), BackPressured},
		{"claim, closed", capacity, closed, claim(1), Closed},
		{"claim over quarter, closed", capacity, closed, claim(capacity), Closed},
		{"claim, full and closed", capacity, fullClosed, claim(1), Closed},
		{"offer small", capacity, empty, offer(1), OK},
		{"offer at cap", capacity, empty, offer(1000), OK},
		{"offer over cap", capacity, empty, offer(1001), TooLarge},
		{"offer, full", capacity, full, offer(1), BackPressured},
		{"offer, cap used", capacity, ownedCapUsed, offer(1), BackPressured},
		{"offer over cap, cap used", capacity, ownedCapUsed, offer(1001), TooLarge},
		{"offer, slots used", 4096, ownedSlotsUsed, offer(1), BackPressured},
		{"offer, closed", capacity, closed, offer(1), Closed},
		{"offer over cap, closed", capacity, closed, offer(1001), Closed},
		{"claim, owned cap used", capacity, ownedCapUsed, claim(capacity / 4), OK},
	} {
		r := New(c.capacity, nil)
		r.SetOwnedCap(1000)
		c.before(r)
		claimed := r.claimed
		if got := c.op(r); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		} else if got != OK && r.claimed != claimed {
			t.Errorf("%s: %v, but %d bytes were claimed", c.name, got, r.claimed-claimed)
		}
	}
	if s := BackPressured.String(); s != "back_pressured" {
		t.Errorf("BackPressured is called %q", s)
	}
}

func TestPanics(t *testing.T) {
	for name, f := range map[string]func(){
		"capacity not a power": func() { New(96, nil) },
		"capacity too small":   func() { New(MinCapacity/2, nil) },
		"capacity too large":   func() { New(MaxCapacity*2, nil) },
		"claim of nothing":     func() { New(64, nil).Claim(0) },
		"claim below nothing":  func() { New(64, nil).Claim(-8) },
		"offer of nothing":     func() { New(64, nil).OfferOwned(nil) },
		"release unpeeked":     func() { r := New(64, nil); r.Claim(8); r.Commit(); r.Release() },
		"release twice": func() {
			r := New(64, nil)
			r.Claim(8)
			r.Commit()
			r.Peek()
			r.Release()
			r.Release()
		},
		"release of empty": func() { r := New(64, nil); r.Peek(); r.Release() },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func TestClaimsOfOneBatchBecomeReadableTogether(t *testing.T) {
	r := New(1024, nil)
	mustClaim(t, r, 8, 1)
	mustClaim(t, r, 13, 2)
	if out := r.ClaimOwned(bytes.Repeat([]byte{3}, 500)); out != OK {
		t.Fatal(out)
	}
	mustClaim(t, r, 256, 4)
	mustEmpty(t, r)
	r.Commit()
	r.Commit() // nothing claimed: nothing happens
	mustTake(t, r, 8, 1)
	mustTake(t, r, 13, 2)
	mustTake(t, r, 500, 3)
	mustTake(t, r, 256, 4)
	mustEmpty(t, r)
}

func TestAbortDropsTheWholeBatch(t *testing.T) {
	r := New(256, nil)
	r.SetOwnedCap(100)
	// At every offset of the ring, so that pads are aborted too.
	for i := range 200 {
		mustClaim(t, r, 24, byte(i))
		r.Commit()
		mustClaim(t, r, 50, 0xee)
		if out := r.ClaimOwned(make([]byte, 60)); out != OK {
			t.Fatal(i, out)
		}
		if out := r.ClaimOwned(make([]byte, 60)); out != BackPressured {
			t.Fatal(i, out)
		}
		r.Abort()
		r.Abort()
		if out := r.ClaimOwned(bytes.Repeat([]byte{0xaa}, 100)); out != OK {
			t.Fatalf("%d: the aborted share of the cap is not free: %v", i, out)
		}
		r.Commit()
		mustTake(t, r, 24, byte(i))
		mustTake(t, r, 100, 0xaa)
		mustEmpty(t, r)
	}
}

func TestPeekIsTheSameUntilRelease(t *testing.T) {
	r := New(256, nil)
	mustClaim(t, r, 9, 1)
	r.OfferOwned([]byte{2, 2})
	for range 3 {
		if got := r.Peek(); len(got) != 9 || got[0] != 1 {
			t.Fatalf("%x", got)
		}
	}
	r.Release()
	for range 3 {
		if got := r.Peek(); len(got) != 2 || got[0] != 2 {
			t.Fatalf("%x", got)
		}
	}
	r.Release()
	mustEmpty(t, r)
}

// TestWrapEdges brings a record of every size to every distance from the ring's end.
func TestWrapEdges(t *testing.T) {
	for _, capacity := range []int{64, 128, 256} {
		for start := 0; start < capacity; start += 8 {
			for n := 1; n <= capacity/4; n++ {
				r := New(capacity, nil)
				// Start: any position, empty ring, as it is after some laps.
				pos := uint64(5*capacity + start)
				r.claimed, r.published, r.headCache, r.next, r.peekedEnd, r.headStored, r.tailCache = pos, pos, pos, pos, pos, pos, pos
				r.tail.Store(pos)
				r.head.Store(pos)
				// A batch of two quarters always fits an empty ring.
				mustClaim(t, r, n, 0x11)
				mustClaim(t, r, n, 0x22)
				r.Commit()
				rest, size := capacity-start, int(frameSize(uint64(n)))
				pad := 0
				if rest < size {
					pad = rest
				} else if rest -= size; 0 < rest && rest < size {
					pad = rest
				}
				if used := r.UsedBytes(); used != 2*size+pad {
					t.Fatalf("capacity %d, start %d, n %d: %d bytes used, want 2*%d+%d", capacity, start, n, used, size, pad)
				}
				mustTake(t, r, n, 0x11)
				mustTake(t, r, n, 0x22)
				mustEmpty(t, r)
			}
		}
	}
}

func TestFullRingTakesExactlyItsCapacity(t *testing.T) {
	r := New(256, nil)
	for i := range 16 { // 16 bytes each with the word
		mustClaim(t, r, 8, byte(i))
	}
	if _, out := r.Claim(1); out != BackPressured {
		t.Fatal(out)
	}
	r.Commit()
	if r.UsedBytes() != 256 || r.HighWaterBytes() != 256 {
		t.Fatalf("used %d, high water %d, want 256", r.UsedBytes(), r.HighWaterBytes())
	}
	// The consumer gives back by eighths: the first record alone is not seen yet.
	mustTake(t, r, 8, 0)
	if _, out := r.Claim(1); out != BackPressured {
		t.Fatal(out)
	}
	mustTake(t, r, 8, 1)
	mustClaim(t, r, 8, 16)
	mustClaim(t, r, 8, 17)
	if _, out := r.Claim(1); out != BackPressured {
		t.Fatal(out)
	}
	r.Commit()
	for i := 2; i < 18; i++ {
		mustTake(t, r, 8, byte(i))
	}
	mustEmpty(t, r)
}

func TestHighWater(t *testing.T) {
	r := New(1024, nil)
	for i := range 1000 {
		mustClaim(t, r, 24, byte(i))
		r.Commit()
		mustTake(t, r, 24, byte(i))
		mustEmpty(t, r)
	}
	if got := r.HighWaterBytes(); got != 32 {
		t.Fatalf("high water %d after one record at a time, want 32", got)
	}
	for i := range 5 {
		mustClaim(t, r, 24, byte(i))
		r.Commit()
	}
	if got := r.HighWaterBytes(); got < 160 || got > 192 { // a pad is possible
		t.Fatalf("high water %d after five records of 32, want 160", got)
	}
}

func TestOwnedCapComesBackOnRelease(t *testing.T) {
	r := New(256, nil)
	r.SetOwnedCap(100)
	for i := range 300 {
		a := bytes.Repeat([]byte{byte(i)}, 60)
		if out := r.OfferOwned(a); out != OK {
			t.Fatal(i, out)
		}
		if got := r.OwnedBytes(); got != 60 {
			t.Fatalf("%d owned bytes, want 60", got)
		}
		b := make([]byte, 1, 41) // the capacity counts, not the length
		if out := r.OfferOwned(b); out != BackPressured {
			t.Fatal(i, out)
		}
		if got := r.Peek(); &got[0] != &a[0] {
			t.Fatal("the buffer was copied")
		}
		if out := r.OfferOwned(b); out != BackPressured {
			t.Fatalf("%d: the share is free before Release: %v", i, out)
		}
		r.Release()
		if out := r.OfferOwned(b); out != OK {
			t.Fatalf("%d: the share is not free after Release: %v", i, out)
		}
		mustTake(t, r, 1, 0)
		mustEmpty(t, r)
		if got := r.OwnedBytes(); got != 0 {
			t.Fatalf("%d owned bytes, want 0", got)
		}
	}
}

func TestCloseKeepsWhatIsInside(t *testing.T) {
	r := New(256, nil)
	mustClaim(t, r, 8, 1)
	r.Commit()
	mustClaim(t, r, 8, 2)
	if r.Closed() {
		t.Fatal("closed too early")
	}
	r.Close()
	r.Close()
	r.Commit()
	if !r.Closed() {
		t.Fatal("not closed")
	}
	mustTake(t, r, 8, 1)
	mustTake(t, r, 8, 2)
	mustEmpty(t, r)
}

// TestFieldsOfDifferentWritersAreApart pins the layout: no 128 bytes hold words
// of both sides.
func TestFieldsOfDifferentWritersAreApart(t *testing.T) {
	var r Ring
	groups := []struct {
		name        string
		first, last uintptr
	}{
		{"cold", unsafe.Offsetof(r.buf), unsafe.Offsetof(r.closed)},
		{"producer", unsafe.Offsetof(r.claimed), unsafe.Offsetof(r.ownedCapBytes)},
		{"tail", unsafe.Offsetof(r.tail), unsafe.Offsetof(r.highWaterBytes)},
		{"consumer", unsafe.Offsetof(r.next), unsafe.Offsetof(r.isOwned)},
		{"head", unsafe.Offsetof(r.head), unsafe.Offsetof(r.bytesFreed)},
		{"end", unsafe.Sizeof(r), unsafe.Sizeof(r)},
	}
	for i := 1; i < len(groups); i++ {
		if d := groups[i].first - groups[i-1].last; d < 128 {
			t.Errorf("%s and %s are %d bytes apart", groups[i-1].name, groups[i].name, d)
		}
	}
}

// TestTwoGoroutines sends numbered records of random sizes, some of them owned,
// some of them aborted, in batches; the consumer checks every byte of every
// record against its number.
func TestTwoGoroutines(t *testing.T) {
	for _, capacity := range []int{64, 1024, 1 << 16} {
		rng := newSeed(t)
		bell := NewDoorbell()
		r := New(capacity, bell)
		r.SetOwnedCap(4 * (r.MaxRecord() + 1000)) // a batch of four owned ones fits
		count := 20_000
		if capacity == 1<<16 {
			count = 3_000 // records of 8 KiB on average, each byte written and checked
		}
		go produceNumbered(r, rand.New(rand.NewPCG(rng.Uint64(), 2)), count)
		consumeNumbered(t, r, bell, rng, count)
		if r.HighWaterBytes() > capacity || r.HighWaterBytes() == 0 {
			t.Fatalf("high water %d of %d", r.HighWaterBytes(), capacity)
		}
	}
}

// sizeOf is how long record i is, so that the consumer knows it too.
func sizeOf(i uint64, maxRecord int) (n int, owned bool) {
	x := i * 0x9e3779b97f4a7c15
	if owned = x>>60 == 0; owned {
		return maxRecord + 1 + int(x>>32)%1000, true
	}
	return 8 + int(x>>32)%(maxRecord-7), false
}

func putNumbered(b []byte, i uint64) {
	fill(b, byte(i*7))
	binary.LittleEndian.PutUint64(b, i)
}

func produceNumbered(r *Ring, rng *rand.Rand, count int) {
	defer r.Close()
	for i := uint64(0); i < uint64(count); {
		first, batch := i, uint64(1+rng.IntN(4))
		if r.Capacity() == MinCapacity {
			batch = 1 // two of a quarter, words and pads may be more than the ring
		}
		ok := true
		for ; ok && i < first+batch && i < uint64(count); i++ {
			if n, owned := sizeOf(i, r.MaxRecord()); owned {
				buf := make([]byte, n)
				putNumbered(buf, i)
				ok = r.ClaimOwned(buf) == OK
			} else {
				b, out := r.Claim(n)
				if ok = out == OK; ok {
					putNumbered(b, i)
				}
			}
		}
		switch {
		case !ok && i-first > 1 && rng.IntN(2) == 0:
			i-- // the last one was refused, publish those before it
			r.Commit()
		case !ok || rng.IntN(8) == 0:
			r.Abort()
			i = first
			runtime.Gosched()
		default:
			r.Commit()
		}
	}
}

func consumeNumbered(t *testing.T, r *Ring, bell *Doorbell, rng *rand.Rand, count int) {
	t.Helper()
	for i := uint64(0); ; {
		closed := r.Closed()
		rec := r.Peek()
		if rec == nil {
			if closed {
				if i != uint64(count) {
					t.Fatalf("%d records, want %d", i, count)
				}
				return
			}
			bell.Prepare()
			if r.Closed() || r.Peek() != nil {
				bell.Cancel()
			} else if !bell.Wait(time.Minute) {
				t.Fatalf("no record and no end for a minute after record %d", i)
			}
			continue
		}
		if rng.IntN(4) == 0 {
			rec = r.Peek()
		}
		n, _ := sizeOf(i, r.MaxRecord())
		if len(rec) != n || binary.LittleEndian.Uint64(rec) != i {
			t.Fatalf("record %d of %d bytes, want %d of %d", binary.LittleEndian.Uint64(rec), len(rec), i, n)
		}
		for j, v := range rec[8:] {
			if v != byte(i*7) {
				t.Fatalf("record %d, byte %d: %#x, want %#x", i, 8+j, v, byte(i*7))
			}
		}
		r.Release()
		i++
	}
}
