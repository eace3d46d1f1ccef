package endtoend

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// Most of these tests wait most of the time: for a market to pass, or until somebody's
// patience has ended. So they run side by side, as many as two cores carry, the longest
// first. -parallel counts tests, whatever they do; here each says what it takes.
const (
	wholeMachine = 6
	waits        = 1 // an agent, a venue and a QuestDB at a quiet market's pace
	works        = 2 // at a fast one's
	toils        = 3 // as fast as it goes
)

// share runs t beside others, and returns when there is room for it. takes is about how
// long it does.
func share(t *testing.T, weight int, takes time.Duration) {
	t.Helper()
	t.Parallel()
	machine.enter(weight, takes)
	began := time.Now()
	t.Cleanup(func() {
		machine.leave(weight)
		t.Logf("took %s", time.Since(began).Round(time.Second))
	})
}

var machine = seats{free: wholeMachine}

type seats struct {
	mu      sync.Mutex
	free    int
	opened  bool // all who come at once have come
	waiting []*seat
}

type seat struct {
	weight int
	takes  time.Duration
	in     chan struct{}
}

func (m *seats) enter(weight int, takes time.Duration) {
	me := &seat{weight, takes, make(chan struct{})}
	m.mu.Lock()
	if len(m.waiting) == 0 && !m.opened {
		time.AfterFunc(200*time.Millisecond, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.opened = true
			m.admit()
		})
	}
	m.waiting = append(m.waiting, me)
	slices.SortStableFunc(m.waiting, func(a, b *seat) int { return int(b.takes - a.takes) })
	m.admit()
	m.mu.Unlock()
	<-me.in
}

func (m *seats) leave(weight int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.free += weight
	m.admit()
}

// admit lets in who fits. Nobody overtakes: what is long and large must begin early.
func (m *seats) admit() {
	for m.opened && len(m.waiting) > 0 && m.waiting[0].weight <= m.free {
		m.free -= m.waiting[0].weight
		close(m.waiting[0].in)
		m.waiting = m.waiting[1:]
	}
}
