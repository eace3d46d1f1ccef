package task

import (
	"context"
	"sync"

	"deeptape/hotpath/ring"
)

// Queue hands things from some tasks to others, in order. Nobody waits to put one
// in: whoever puts bounds it. The zero value is empty and rings at nobody.
type Queue[T any] struct {
	mu    sync.Mutex // never held over a wait
	items []T
	bells []*ring.Doorbell
}

// RingAt adds a bell that every Put rings: that of one task that takes. Not after the
// first Put.
func (q *Queue[T]) RingAt(bell *ring.Doorbell) { q.bells = append(q.bells, bell) }

// Put adds the newest.
func (q *Queue[T]) Put(v T) {
	q.mu.Lock()
	q.items = append(q.items, v)
	q.mu.Unlock()
	for _, b := range q.bells {
		b.Ring()
	}
}

// Take returns the oldest; without one, the zero value and false.
func (q *Queue[T]) Take() (v T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return v, false
	}
	v = q.items[0]
	n := copy(q.items, q.items[1:])
	clear(q.items[n:])
	q.items = q.items[:n]
	return v, true
}

// Await waits for the oldest at the bell of the one task that calls it; false when
// ctx has ended, for which somebody must ring.
func (q *Queue[T]) Await(ctx context.Context, bell *ring.Doorbell) (v T, ok bool) {
	WaitFor(bell, func() bool {
		v, ok = q.Take()
		return ok || ctx.Err() != nil
	})
	return v, ok
}

// Len is how many there are.
func (q *Queue[T]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

// Clear drops all.
func (q *Queue[T]) Clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.items)
	q.items = q.items[:0]
}
