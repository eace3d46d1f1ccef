package deliver

import (
	"context"
	"sync"

	"deeptape/hotpath/ring"
	"deeptape/hotpath/task"
)

// queue hands things from one task to others, in order. It holds no more than
// there are, which is why nobody waits to put one in.
type queue[T any] struct {
	mu    sync.Mutex // never held over a wait
	items []T
	bells []*ring.Doorbell // of those that take; fixed before the first put
}

func (q *queue[T]) put(v T) {
	q.mu.Lock()
	q.items = append(q.items, v)
	q.mu.Unlock()
	for _, b := range q.bells {
		b.Ring()
	}
}

// take returns the oldest, false if there is none.
func (q *queue[T]) take() (v T, ok bool) {
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

// await waits for the oldest at the bell of the one task that calls it; false when
// ctx has ended, for which somebody must ring.
func (q *queue[T]) await(ctx context.Context, bell *ring.Doorbell) (v T, ok bool) {
	task.WaitFor(bell, func() bool {
		v, ok = q.take()
		return ok || ctx.Err() != nil
	})
	return v, ok
}
