package vsim

import (
	"context"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"deeptape/hotpath/ring"
)

// machine is the simulated computer: its time, and the tasks of the processes that
// run on it. One task runs at a time. Which of those that could run does is drawn
// from the seed, and so are all delays; nothing else decides.
type machine struct {
	rng    *rand.Rand
	nowNs  int64
	tasks  []*coroutine
	procs  []*process // alive
	events []*timer   // a heap by atNs, seq
	seq    uint64
	cur    *coroutine
	steps  int
	pauses int64 // until then no task runs
	broken error // what a task panicked with
	trace  *Trace

	runnable []*coroutine // scratch
}

// coroutine is one task.
type coroutine struct {
	name   string
	proc   *process
	resume func() (struct{}, bool)
	stop   func()
	yield  func(struct{}) bool
	begun  bool
	done   bool
	woken  bool
	wakeNs int64
	ctx    context.Context // its end wakes, too; may be nil
}

// process is one life of the agent. It is what the agent is given as task.Sched and
// as clock.
type process struct {
	m        *machine
	dead     bool
	aheadNs  int64 // of the wall clock, at the time when the process started
	watchers []*watcher
}

type watcher struct {
	ctx  context.Context
	run  func()
	gone bool
}

type timer struct {
	atNs int64
	seq  uint64
	run  func()
	gone bool
}

// killed ends a task of a process that is no more.
type killed struct{}

func (killed) TaskEnded() {}

const never = math.MaxInt64

// at runs f when the time has come. It returns what takes it back.
func (m *machine) at(atNs int64, run func()) *timer {
	m.seq++
	t := &timer{atNs: atNs, seq: m.seq, run: run}
	m.events = append(m.events, t)
	for i := len(m.events) - 1; i > 0; {
		up := (i - 1) / 2
		if !m.events[i].before(m.events[up]) {
			break
		}
		m.events[i], m.events[up] = m.events[up], m.events[i]
		i = up
	}
	return t
}

func (t *timer) before(u *timer) bool {
	return t.atNs < u.atNs || t.atNs == u.atNs && t.seq < u.seq
}

func (m *machine) after(d time.Duration, run func()) *timer { return m.at(m.nowNs+int64(d), run) }

func (m *machine) popEvent() *timer {
	t, last := m.events[0], len(m.events)-1
	m.events[0] = m.events[last]
	m.events[last] = nil
	m.events = m.events[:last]
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < last; c++ {
			if m.events[c].before(m.events[least]) {
				least = c
			}
		}
		if least == i {
			return t
		}
		m.events[i], m.events[least] = m.events[least], m.events[i]
		i = least
	}
}

// between draws a time, the same for all of the range.
func (m *machine) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(m.rng.Int64N(int64(hi-lo)+1))
}

// chance is true in so many of a thousand cases.
func (m *machine) chance(perMille int) bool { return m.rng.IntN(1000) < perMille }

// step runs one event or one task, or lets time pass to the next. It is false when
// nothing is left that could ever happen.
func (m *machine) step() bool {
	m.steps++
	for len(m.events) > 0 && m.events[0].atNs <= m.nowNs {
		if t := m.popEvent(); !t.gone {
			t.run()
			return true
		}
	}
	if m.nowNs >= m.pauses {
		m.fireWatchers()
		m.runnable = m.runnable[:0]
		for _, c := range m.tasks {
			if !c.begun || c.woken || c.wakeNs <= m.nowNs || c.ctx != nil && c.ctx.Err() != nil {
				m.runnable = append(m.runnable, c)
			}
		}
		if n := len(m.runnable); n > 0 {
			m.run(m.runnable[m.rng.IntN(n)])
			m.nowNs += 1000 + m.rng.Int64N(4000)
			return true
		}
	}
	next := int64(never)
	if len(m.events) > 0 {
		next = m.events[0].atNs
	}
	if m.nowNs < m.pauses {
		next = min(next, m.pauses)
	} else {
		for _, c := range m.tasks {
			next = min(next, c.wakeNs)
		}
	}
	if next == never {
		return false
	}
	m.nowNs = max(m.nowNs, next)
	return true
}

func (m *machine) run(c *coroutine) {
	c.begun, c.woken, c.wakeNs, c.ctx = true, false, never, nil
	m.cur = c
	c.resume()
	m.cur = nil
	if c.done {
		m.forget(c)
	}
}

func (m *machine) forget(c *coroutine) {
	m.tasks = slices.DeleteFunc(m.tasks, func(t *coroutine) bool { return t == c })
}

func (m *machine) fireWatchers() {
	for _, p := range m.procs {
		for i := 0; i < len(p.watchers); i++ { // one that runs may add another
			if w := p.watchers[i]; !w.gone && w.ctx.Err() != nil {
				w.gone = true
				w.run()
			}
		}
		p.watchers = slices.DeleteFunc(p.watchers, func(w *watcher) bool { return w.gone })
	}
}

// start begins a process.
func (m *machine) start(aheadNs int64) *process {
	p := &process{m: m, aheadNs: aheadNs}
	m.procs = append(m.procs, p)
	return p
}

// kill ends a process as kill -9 does: none of its tasks runs another step, but for
// what their deferred calls do to memory that nobody looks at any more.
func (p *process) kill() {
	p.dead = true
	p.m.procs = slices.DeleteFunc(p.m.procs, func(q *process) bool { return q == p })
	for _, c := range slices.Clone(p.m.tasks) {
		if c.proc == p {
			c.stop()
			p.m.forget(c)
		}
	}
}

// NowNs is the process's clock: anchored when it started, and steady since.
func (p *process) NowNs() int64 { return p.m.nowNs + p.aheadNs }

func (p *process) Go(name string, run func()) {
	if p.dead {
		panic(killed{})
	}
	c := &coroutine{name: name, proc: p, wakeNs: never}
	c.resume, c.stop = iter.Pull(func(yield func(struct{}) bool) {
		c.yield = yield
		defer func() {
			c.done = true
			if r := recover(); r != nil {
				if _, ok := r.(killed); !ok && p.m.broken == nil {
					p.m.broken = fmt.Errorf("panic in task %q: %v\n%s", name, r, debug.Stack())
				}
			}
		}()
		run()
	})
	p.m.tasks = append(p.m.tasks, c)
}

// park lets others run until wakeNs (of the machine), or until ctx ends, or until
// somebody wakes the task.
func (p *process) park(wakeNs int64, ctx context.Context) {
	c := p.m.cur
	if p.dead {
		panic(killed{})
	}
	c.wakeNs, c.ctx = wakeNs, ctx
	if !c.yield(struct{}{}) || p.dead {
		panic(killed{})
	}
}

func (p *process) Sleep(ctx context.Context, d time.Duration) bool {
	for end := p.m.nowNs + int64(max(d, 0)); ; {
		if ctx != nil && ctx.Err() != nil {
			return false
		}
		if p.m.nowNs >= end && d > 0 || d <= 0 {
			return true
		}
		p.park(end, ctx)
	}
}

func (p *process) NewDoorbell() *ring.Doorbell { return ring.NewDoorbellAt(&parker{p: p}) }

// parker is where a task waits at a doorbell.
type parker struct {
	p     *process
	c     *coroutine
	token bool
}

func (k *parker) Park(timeout time.Duration) bool {
	if !k.token {
		k.c = k.p.m.cur
		k.p.park(k.p.m.nowNs+int64(timeout), nil)
		k.c = nil
	}
	rung := k.token
	k.token = false
	return rung
}

func (k *parker) Unpark() {
	k.token = true
	if k.c != nil {
		k.c.woken = true
	}
}

func (p *process) AfterFunc(ctx context.Context, f func()) (stop func() bool) {
	w := &watcher{ctx: ctx, run: f}
	p.watchers = append(p.watchers, w)
	return func() bool {
		was := w.gone
		w.gone = true
		return !was
	}
}

func (p *process) WithTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	t := p.m.after(d, func() { cancel(context.DeadlineExceeded) })
	return ctx, func() {
		t.gone = true
		cancel(nil)
	}
}
