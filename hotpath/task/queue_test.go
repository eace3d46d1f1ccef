package task

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"

	"deeptape/hotpath/ring"
)

// TestQueueIsASlice: any mix of Put, Take, Len and Clear does what it does to a slice,
// and what was taken is not kept alive.
func TestQueueIsASlice(t *testing.T) {
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, 0))
	var q Queue[*int]
	var want []*int
	for i := range 20_000 {
		switch n := rng.IntN(100); {
		case n < 50:
			q.Put(&i)
			want = append(want, &i)
		case n < 99:
			var oldest *int
			if len(want) > 0 {
				oldest, want = want[0], want[1:]
			}
			if v, ok := q.Take(); v != oldest || ok != (oldest != nil) {
				t.Fatalf("seed %d, step %d: took %p, %v, want %p", seed, i, v, ok, oldest)
			}
		default:
			q.Clear()
			want = nil
		}
		if q.Len() != len(want) {
			t.Fatalf("seed %d, step %d: %d in the queue, want %d", seed, i, q.Len(), len(want))
		}
		for _, p := range q.items[len(q.items):cap(q.items)] {
			if p != nil {
				t.Fatalf("seed %d, step %d: the queue holds on to what has left it", seed, i)
			}
		}
	}
}

// TestQueueHandsOver: several put and several wait. Each thing comes out once, each
// taker sees a putter's in order, and those who wait leave when told to.
func TestQueueHandsOver(t *testing.T) {
	const putters, takers, each = 3, 2, 5_000
	type thing struct{ from, n int }
	var q Queue[thing]
	ctx, cancel := context.WithCancel(context.Background())
	putting, taking := NewGroup(Real{}), NewGroup(Real{})
	var bells [takers]*ring.Doorbell
	for i := range bells {
		bells[i] = Real{}.NewDoorbell()
		q.RingAt(bells[i])
	}
	var taken [putters][each]atomic.Int32
	var all atomic.Int64
	for _, bell := range bells {
		taking.Go("taker", func() {
			var next [putters]int
			for {
				v, ok := q.Await(ctx, bell)
				if !ok {
					return
				}
				if v.n < next[v.from] {
					t.Errorf("putter %d: %d after %d", v.from, v.n, next[v.from]-1)
				}
				next[v.from] = v.n + 1
				taken[v.from][v.n].Add(1)
				all.Add(1)
			}
		})
	}
	for from := range putters {
		putting.Go("putter", func() {
			for n := range each {
				q.Put(thing{from, n})
			}
		})
	}
	putting.Wait()
	for q.Len() > 0 {
		runtime.Gosched()
	}
	cancel()
	for _, bell := range bells {
		bell.Ring()
	}
	taking.Wait()
	if all.Load() != putters*each {
		t.Fatalf("%d came out of %d", all.Load(), putters*each)
	}
	for from := range taken {
		for n := range taken[from] {
			if got := taken[from][n].Load(); got != 1 {
				t.Fatalf("putter %d: %d came out %d times", from, n, got)
			}
		}
	}
}
