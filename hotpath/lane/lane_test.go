package lane

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ring"
)

// plan is what a feed derives from its inputs, known beforehand: the oracle, and
// the journal of these tests. Input pos is plan[pos-1].
type plan [][]record

type record struct {
	number uint64
	size   int
}

var tiny = Options{InputBytes: 64, RowBytes: 1024, RowOwnedBytes: 2048}

// newPlan makes inputs with a few records each. Some records are larger than a
// quarter of the ring, some larger than what the lane takes at all, and some
// inputs have more rows than the ring has room.
func newPlan(rng *rand.Rand, inputs int) plan {
	p := make(plan, inputs)
	number := uint64(0)
	for i := range p {
		n := rng.IntN(4)
		if rng.IntN(20) == 0 {
			n = 30
		}
		for range n {
			number++
			size := event.HeadSize + 8*rng.IntN(10)
			switch rng.IntN(40) {
			case 0, 1:
				size = tiny.RowBytes/4 + 8 + 8*rng.IntN(60)
			case 2:
				size = tiny.RowOwnedBytes + 8
			}
			p[i] = append(p[i], record{number, size})
		}
	}
	return p
}

func (p plan) records() (n uint64) {
	for _, recs := range p {
		n += uint64(len(recs))
	}
	return n
}

func put(b []byte, pos, number uint64) {
	h := event.Head{Pos: pos}
	h.Put(b, len(b))
	for i := event.HeadSize; i < len(b); i++ {
		b[i] = byte(number)
	}
	binary.LittleEndian.PutUint64(b[16:], number)
}

// owner steps through the plan as a session does: journal, then Begin, rows, End.
type owner struct {
	l        *Lane
	plan     plan
	pos      uint64 // of the current input
	next     int    // its next record; -1: not begun
	offered  atomic.Uint64
	deferred uint64 // records that found no room
	episodes int
	last     uint64 // deferredFrom when last looked
	sameAsL  int    // episodes that began in the input in which the one before ended
}

func (o *owner) done() bool { return o.next < 0 && o.pos == uint64(len(o.plan)) }

// step does the least that another goroutine can see.
func (o *owner) step() {
	switch {
	case o.next < 0:
		o.pos++
		o.next = 0
		o.offered.Store(o.pos)
	case o.next == 0:
		o.l.Begin(o.pos)
		o.next = 1
	case o.next <= len(o.plan[o.pos-1]):
		r := o.plan[o.pos-1][o.next-1]
		if b := o.l.Claim(r.size); b != nil {
			put(b, o.pos, r.number)
			o.l.Commit()
		} else {
			o.deferred++
		}
		o.next++
	default:
		o.l.End()
		o.next = -1
	}
	if from := o.l.deferredFrom.Load(); from != o.last {
		o.episodes++
		if o.last != 0 && from == o.l.liveFrom.Load() {
			o.sameAsL++
		}
		o.last = from
	}
}

// deliverer follows the protocol. It fails if a record is not the next one.
type deliverer struct {
	l        *Lane
	plan     plan
	inFile   func() uint64 // how far the journal can be read
	had      uint64        // records
	acked    uint64        // inputs of which all records have been had
	catching bool
	skipTo   uint64
	skip     int
	at       uint64 // input to derive next
	record   int    // of it
	skipped  int
}

func (d *deliverer) have(pos, number uint64, b []byte) error {
	if number != d.had+1 {
		return fmt.Errorf("record %d of input %d comes after record %d", number, pos, d.had)
	}
	for _, c := range b {
		if c != byte(number) {
			return fmt.Errorf("record %d of input %d holds other bytes", number, pos)
		}
	}
	d.had = number
	return nil
}

func (d *deliverer) step() (worked bool, err error) {
	if d.catching {
		return d.derive()
	}
	derived := min(d.l.Derived(), d.l.Written())
	if b := d.l.Peek(); b != nil {
		var h event.Head
		if size := h.Get(b); size != len(b) {
			return false, fmt.Errorf("record of %d bytes says %d", len(b), size)
		}
		if w := d.l.Written(); h.Pos > w {
			return false, fmt.Errorf("record of input %d is shown while the journal holds %d", h.Pos, w)
		}
		if p := d.l.Derived(); h.Pos > p {
			return false, fmt.Errorf("record of input %d is shown while the owner is at %d", h.Pos, p)
		}
		err = d.have(h.Pos, uint64(h.Ts), b[event.HeadSize:])
		d.l.Release()
		d.acked = max(d.acked, h.Pos-1)
		return true, err
	}
	if from, skip, ok := d.l.Episode(); ok {
		d.catching, d.at, d.record, d.skipTo, d.skip = true, 1, 0, from, skip
		d.skipped += skip
		return true, nil
	}
	if d.l.Empty() && !d.l.Deferring() {
		d.acked = max(d.acked, derived)
	}
	return false, nil
}

// derive reads the journal from its beginning, as a derivation does.
func (d *deliverer) derive() (worked bool, err error) {
	file := d.inFile()
	for d.at <= file && d.record == len(d.plan[d.at-1]) {
		d.at, d.record = d.at+1, 0
	}
	if d.at > file {
		d.acked = max(d.acked, min(d.at-1, d.l.Derived()))
		d.catching = !d.l.CaughtUp(d.at - 1)
		return !d.catching, nil
	}
	r := d.plan[d.at-1][d.record]
	switch {
	case d.at < d.skipTo:
	case d.at == d.skipTo && d.skip > 0:
		d.skip--
	default:
		switch d.l.Turn(d.at) {
		case NotYet:
			return false, nil
		case Live:
			d.catching = false
			return true, nil
		}
		err = d.have(d.at, r.number, nil)
	}
	d.record++
	if d.at > 1 {
		d.acked = max(d.acked, min(d.at-1, d.skipTo-1))
		if d.at >= d.skipTo {
			d.acked = max(d.acked, d.at-1)
		}
	}
	return true, err
}

// ackedRight: what is acknowledged has been had.
func (d *deliverer) ackedRight() error {
	if d.acked == 0 {
		return nil
	}
	for pos := d.acked; pos > 0; pos-- {
		if recs := d.plan[pos-1]; len(recs) > 0 {
			if last := recs[len(recs)-1].number; last > d.had {
				return fmt.Errorf("input %d is acknowledged, and its record %d has not been had, only %d", pos, last, d.had)
			}
			return nil
		}
	}
	return nil
}

// Owner, journal writer and deliverer, interleaved at random, one visible effect
// at a time.
func TestInterleavings(t *testing.T) {
	var episodes, skipped, sameAsL, deferred int
	for seed := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, 1))
		p := newPlan(rng, 120)
		l := New(1, tiny, nil, nil)
		o := &owner{l: l, plan: p, next: -1}
		file := uint64(0)
		d := &deliverer{l: l, plan: p, inFile: func() uint64 { return file }}
		// Who is fast and who is slow changes from seed to seed, and now and then.
		var weight [4]int
		total := p.records()
		for i := 0; d.had < total || d.catching || !o.done() || d.acked < uint64(len(p)); i++ {
			if i > 1_000_000 {
				t.Fatalf("seed %d: stuck: %d of %d records had, catching up %v, owner at %d", seed, d.had, p.records(), d.catching, o.pos)
			}
			if i%100 == 0 {
				for w := range weight {
					weight[w] = 1 + rng.IntN(20)
				}
			}
			n := rng.IntN(weight[0] + weight[1] + weight[2] + weight[3])
			switch {
			case n < weight[0]:
				if !o.done() {
					o.step()
					if o.done() {
						l.Close()
					}
				}
			case n < weight[0]+weight[1]:
				file = o.offered.Load()
			case n < weight[0]+weight[1]+weight[2]:
				l.SetWritten(file)
			default:
				_, err := d.step()
				if err == nil {
					err = d.ackedRight()
				}
				if err != nil {
					t.Fatalf("seed %d, step %d: %v", seed, i, err)
				}
			}
		}
		episodes += o.episodes
		skipped += d.skipped
		sameAsL += o.sameAsL
		deferred += int(o.deferred)
	}
	t.Logf("%d episodes, %d records deferred, %d skipped, %d episodes began where one ended", episodes, deferred, skipped, sameAsL)
	if episodes < 200 || skipped == 0 || sameAsL == 0 {
		t.Errorf("the test no longer reaches what it is for: %d episodes, %d records skipped, %d episodes begun where one ended", episodes, skipped, sameAsL)
	}
}

// The same with goroutines and bells, for the race detector and for orders that
// steps do not have.
func TestGoroutines(t *testing.T) {
	seed := testSeed(t)
	inputs := 40_000
	if testing.Short() {
		inputs = 10_000
	}
	rng := rand.New(rand.NewPCG(seed, 2))
	p := newPlan(rng, inputs)
	bell := ring.NewDoorbell()
	l := New(1, tiny, nil, bell)
	o := &owner{l: l, plan: p, next: -1}
	var file atomic.Uint64
	var wg sync.WaitGroup
	wg.Go(func() {
		rng := rand.New(rand.NewPCG(seed, 3))
		lead := uint64(1)
		for !o.done() {
			o.step()
			if o.next >= 0 {
				continue
			}
			// Ahead of the deliverer by little or much, so that there are many
			// episodes, short and long.
			if rng.IntN(100) == 0 {
				lead = 1 + uint64(rng.IntN(300))
			}
			for o.pos > l.Acked()+lead {
				runtime.Gosched()
			}
		}
		l.Close()
	})
	wg.Go(func() {
		for w := uint64(0); w < uint64(len(p)); {
			if w = o.offered.Load(); w > file.Load() {
				file.Store(w)
				l.SetWritten(w)
				bell.Ring()
			}
			runtime.Gosched()
		}
	})
	d := &deliverer{l: l, plan: p, inFile: file.Load}
	// Deriving from the journal's beginning for each of many episodes would take
	// as long as the square of the inputs.
	deadline := time.Now().Add(3 * time.Minute)
	total := p.records()
	for d.had < total || d.acked < uint64(len(p)) {
		worked, err := d.step()
		if worked && d.catching && d.at < d.skipTo {
			d.at, d.record = d.skipTo, 0
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("seed %d: stuck: %d of %d records had, %d of %d inputs acknowledged, catching up %v from %d at %d, journal %d, owner %d", seed, d.had, p.records(), d.acked, len(p), d.catching, d.skipTo, d.at, file.Load(), l.Derived())
		}
		l.SetAcked(d.acked)
		if worked {
			continue
		}
		bell.Prepare()
		if worked, err = d.step(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if worked {
			bell.Cancel()
		} else {
			bell.Wait(time.Millisecond)
		}
	}
	wg.Wait()
	if err := d.ackedRight(); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if err := checkEmpty(l); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	t.Logf("seed %d: %d episodes, %d of %d records deferred", seed, o.episodes, o.deferred, p.records())
	if o.episodes < 10 {
		t.Errorf("seed %d: only %d episodes", seed, o.episodes)
	}
}

func checkEmpty(l *Lane) error {
	if !l.Empty() || l.RowBytes() != 0 {
		return fmt.Errorf("the ring still holds %d bytes", l.RowBytes())
	}
	return nil
}

// derive puts one input with n records of a size that Claim takes.
func derive(l *Lane, pos uint64, n int) (put int) {
	l.Begin(pos)
	for range n {
		if b := l.Claim(200); b != nil {
			h := event.Head{Pos: pos}
			h.Put(b, len(b))
			l.Commit()
			put++
		}
	}
	l.End()
	return put
}

func drain(l *Lane) (n int) {
	for l.Peek() != nil {
		l.Release()
		n++
	}
	return n
}

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// A wish that comes when the owner has gone live already must not end the next
// episode: the deliverer has not entered it, and would never derive its rows.
func TestLateWish(t *testing.T) {
	l := New(1, tiny, nil, nil)
	l.SetWritten(100)
	derive(l, 1, 20) // deferred from 1
	had := drain(l)
	from, skip, ok := l.Episode()
	want(t, "episode", fmt.Sprint(from, skip, ok), fmt.Sprint(1, had, true))
	want(t, "caught up before the owner has gone live", l.CaughtUp(1), false)
	derive(l, 2, 1) // goes live
	want(t, "deferring", l.Deferring(), false)
	l.wantLive.Store(1) // the deliverer's store, a moment later than its decision
	derive(l, 3, 20)    // defers again
	want(t, "deferring again", l.Deferring(), true)
	want(t, "rows put while deferring", derive(l, 4, 1), 0)
	want(t, "turn of 1", l.Turn(1), Deferred)
	want(t, "turn of 2", l.Turn(2), Live)
}

// The input in which an episode ends may be the one in which the next begins.
func TestEpisodeAfterEpisode(t *testing.T) {
	l := New(1, tiny, nil, nil)
	l.SetWritten(100)
	derive(l, 1, 20)
	drain(l)
	l.Episode()
	l.CaughtUp(1)
	derive(l, 2, 20) // goes live, fills the ring, defers
	want(t, "deferring", l.Deferring(), true)
	want(t, "turn of 2 in the first episode", l.Turn(2), Live)
	had := drain(l)
	from, skip, ok := l.Episode()
	want(t, "second episode", fmt.Sprint(from, skip, ok), fmt.Sprint(2, had, true))
	want(t, "turn of 2 in the second episode", l.Turn(2), Deferred)
	want(t, "caught up", l.CaughtUp(2), false)
	derive(l, 3, 1)
	want(t, "deferring at the end", l.Deferring(), false)
	want(t, "caught up after going live", l.CaughtUp(2), true)
}

// The journal may hold an input before its owner has begun it. Whether its rows
// will be in the ring is not yet known.
func TestJournalAhead(t *testing.T) {
	l := New(1, tiny, nil, nil)
	l.SetWritten(2)
	derive(l, 1, 20)
	drain(l)
	l.Episode()
	l.CaughtUp(1)
	want(t, "turn of 2 before the owner", l.Turn(2), NotYet)
	derive(l, 2, 1)
	want(t, "turn of 2", l.Turn(2), Live)
}

func TestCloseWhileDeferring(t *testing.T) {
	l := New(1, tiny, nil, nil)
	l.SetWritten(100)
	derive(l, 1, 20)
	drain(l)
	l.Episode()
	derive(l, 2, 20)
	l.Close()
	want(t, "caught up too early", l.CaughtUp(1), false)
	want(t, "caught up", l.CaughtUp(2), true)
	_, _, again := l.Episode()
	want(t, "the same episode again", again, false)
}

// A row is shown only when its input is written and its owner has done with it.
func TestGates(t *testing.T) {
	l := New(1, tiny, nil, nil)
	l.StartAt(6)
	derive(l, 7, 1)
	want(t, "not written", l.Peek() == nil, true)
	want(t, "empty", l.Empty(), false)
	l.SetWritten(7)
	want(t, "written", l.Peek() != nil, true)
	l.Release()
	l.SetWritten(9)
	l.Begin(8)
	h := event.Head{Pos: 8}
	h.Put(l.Claim(event.HeadSize), event.HeadSize)
	l.Commit()
	want(t, "owner not done", l.Peek() == nil, true)
	l.End()
	want(t, "owner done", l.Peek() != nil, true)
	l.Release()
	want(t, "acked", l.Acked(), 6)
	l.SetAcked(8)
	want(t, "acked", l.Acked(), 8)
}

// An owner that waits for Room never defers.
func TestRoom(t *testing.T) {
	l := New(1, tiny, nil, nil)
	l.SetWritten(1 << 30)
	rng := rand.New(rand.NewPCG(1, 1))
	for pos := uint64(1); pos < 20_000; pos++ {
		n := event.HeadSize + 8*rng.IntN(100)
		if !l.Room(n) {
			drain(l)
			if !l.Room(n) {
				t.Fatalf("no room for %d bytes in an empty lane", n)
			}
		}
		l.Begin(pos)
		b := l.Claim(n)
		if b == nil {
			t.Fatalf("a lane with room deferred %d bytes: %d in the ring, %d owned", n, l.rows.UsedBytes(), l.rows.OwnedBytes())
		}
		put(b, pos, pos)
		l.Commit()
		l.End()
		if rng.IntN(4) == 0 && l.Peek() != nil {
			l.Release()
		}
	}
}

// testSeed is always the same, so that luck is no gate; DEEPTAPE_SEED=n tries another.
func testSeed(t testing.TB) uint64 {
	seed := uint64(1)
	if one, err := strconv.ParseUint(os.Getenv("DEEPTAPE_SEED"), 10, 64); err == nil {
		seed = one
	}
	t.Logf("DEEPTAPE_SEED=%d", seed)
	return seed
}
