package ring

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestBellRingsOnlyIfParked(t *testing.T) {
	d := NewDoorbell()
	d.Ring()
	if len(d.tokens) != 0 {
		t.Fatal("a ring without a parked consumer left a token")
	}
	d.Prepare()
	d.Ring()
	d.Ring()
	if !d.Wait(time.Minute) {
		t.Fatal("rung bell, Wait timed out")
	}
	d.Prepare()
	if d.Wait(0) {
		t.Fatal("one ring woke two Waits")
	}
}

func TestBellTimeout(t *testing.T) {
	d := NewDoorbell()
	for _, timeout := range []time.Duration{-1, 0, time.Millisecond} {
		d.Prepare()
		start := time.Now()
		if d.Wait(timeout) {
			t.Fatalf("Wait(%v) says rung", timeout)
		}
		if took := time.Since(start); took < timeout {
			t.Fatalf("Wait(%v) took %v", timeout, took)
		}
		if d.parked.Load() {
			t.Fatalf("still parked after Wait(%v)", timeout)
		}
	}
	// Without Prepare too: nobody can ring, the timer must.
	if d.Wait(time.Millisecond) {
		t.Fatal("Wait without Prepare says rung")
	}
	// A ring after the timeout, or after Cancel, wakes nobody and leaves nothing.
	d.Ring()
	d.Prepare()
	d.Cancel()
	d.Ring()
	d.Prepare()
	if d.Wait(time.Millisecond) {
		t.Fatal("an old ring woke a later Wait")
	}
}

func TestBellRingBetweenPrepareAndWait(t *testing.T) {
	d := NewDoorbell()
	r := New(64, d)
	d.Prepare()
	if r.Peek() != nil {
		t.Fatal("not empty")
	}
	r.Claim(8)
	r.Commit()
	if !d.Wait(time.Minute) {
		t.Fatal("timed out")
	}
	if r.Peek() == nil {
		t.Fatal("woken without a record")
	}
	// Close wakes too.
	d.Prepare()
	r.Close()
	if !d.Wait(time.Minute) {
		t.Fatal("timed out")
	}
}

// TestEveryOrderWakes plays the steps of both sides in every order that keeps
// each side's own, three records in a row, so that tokens left over from one
// reach the next: the consumer must never be asleep while a record lies there.
func TestEveryOrderWakes(t *testing.T) {
	// A bit pattern says whose turn it is: two steps of the producer among five.
	var orders []uint
	for p := uint(0); p < 1<<5; p++ {
		if bits.OnesCount(p) == 2 {
			orders = append(orders, p)
		}
	}
	play := func(d *Doorbell, r *Ring, order uint) (seen bool) {
		producer := []func(){
			func() { r.Claim(8); r.Commit() }, // r has no bell: the store alone
			d.Ring,
		}
		consumer := []func(){
			d.Prepare,
			func() {
				if seen = r.Peek() != nil; seen {
					d.Cancel()
				}
			},
			func() {}, // asleep, if it has seen nothing
		}
		for range 5 {
			side := &consumer
			if order&1 != 0 {
				side = &producer
			}
			order >>= 1
			(*side)[0]()
			*side = (*side)[1:]
		}
		if !seen {
			if len(d.tokens) == 0 {
				return false // asleep for good
			}
			seen = d.Wait(time.Minute) && r.Peek() != nil
		}
		return seen
	}
	for i := range len(orders) * len(orders) * len(orders) {
		d := NewDoorbell()
		r := New(256, nil)
		for _, order := range []uint{orders[i%10], orders[i/10%10], orders[i/100]} {
			if !play(d, r, order) {
				t.Fatalf("sequence %d, order %05b: record not seen", i, order)
			}
			r.Release()
		}
	}
}

// TestNoLostWakeup has several producers, each with its own ring, all with one
// bell. Every producer waits until its record has been taken before it sends
// the next, so the consumer parks all the time, and a lost wake-up stops
// everything: a Wait then times out. The producers are consumers of
// acknowledgements, with a bell each, which tests the other direction too.
func TestNoLostWakeup(t *testing.T) {
	const patience = time.Minute
	for _, producers := range []int{1, 4} {
		count := 4_000 / producers
		d := NewDoorbell()
		rings := make([]*Ring, producers)
		acks := make([]*Doorbell, producers)
		taken := make([]atomic.Uint64, producers)
		var wg sync.WaitGroup
		for p := range rings {
			rings[p], acks[p] = New(256, d), NewDoorbell()
			wg.Go(func() {
				for i := range uint64(count) {
					if _, out := rings[p].Claim(int(1 + i%64)); out != OK {
						t.Errorf("producer %d, record %d: %v", p, i, out)
						return
					}
					rings[p].Commit()
					// Mostly the producer looks long enough to see its record taken,
					// and then a little longer: that puts the next commit anywhere
					// on the consumer's way to sleep.
					for n := 0; n < 5000 && taken[p].Load() <= i; n++ {
					}
					for n := uint64(0); n < i%97; n++ {
						taken[p].Load()
					}
					for taken[p].Load() <= i {
						acks[p].Prepare()
						if taken[p].Load() > i {
							acks[p].Cancel()
						} else if !acks[p].Wait(patience) {
							t.Errorf("producer %d: no wake-up for %v, record %d of %d, %d taken", p, patience, i, count, taken[p].Load())
							return
						}
					}
				}
			})
		}
		drain := func() (n int) {
			for p, r := range rings {
				for r.Peek() != nil {
					r.Release()
					taken[p].Add(1)
					acks[p].Ring()
					n++
				}
			}
			return n
		}
		waits := 0
		for got := 0; got < producers*count; {
			n := drain()
			if n == 0 {
				d.Prepare()
				if n = drain(); n > 0 {
					d.Cancel()
				} else if waits++; !d.Wait(patience / 2) {
					t.Fatalf("%d producers: no wake-up for %v after %d of %d records, %d still there", producers, patience/2, got, producers*count, drain())
				}
			}
			got += n
		}
		wg.Wait()
		if waits == 0 {
			t.Fatal("the consumer never parked: nothing was tested")
		}
		t.Logf("%d producers: parked %d times for %d records", producers, waits, producers*count)
	}
}
