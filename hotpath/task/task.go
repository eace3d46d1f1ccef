// Package task is what the agent asks of the machine under it to run, to wait and
// to be woken: so that the same agent runs on Go's scheduler, or step by step on a
// simulated machine in virtual time (bench/vsim).
//
// It must never know what a task does. Whoever is to run in virtual time starts
// goroutines, sleeps and waits through a Sched only: no channel that blocks, no
// select without a default, no WaitGroup, no timer of its own, and no lock held over
// anything that waits. A task waits at a Doorbell for whatever others leave for it,
// and looks again when it is woken; a Queue is where they leave it in order.
//
// Invariants: on a simulated Sched one task runs at a time, and changes only where
// it waits, so everything between two waits happens at one instant.
package task

import (
	"context"
	"sync/atomic"
	"time"

	"deeptape/hotpath/ring"
)

// Sched runs tasks. Real is the one of the machine.
type Sched interface {
	// Go starts a task. The name stands in the trace of a simulation.
	Go(name string, run func())
	// Sleep waits for d, true, or until ctx ends, false.
	Sleep(ctx context.Context, d time.Duration) bool
	// NewDoorbell makes a bell for one waiting task.
	NewDoorbell() *ring.Doorbell
	// AfterFunc runs f soon after ctx has ended; f must not wait. stop says whether
	// it has kept f from running.
	AfterFunc(ctx context.Context, f func()) (stop func() bool)
	// WithTimeout ends a context after d. Its Cause is then
	// context.DeadlineExceeded.
	WithTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc)
}

// Real is Go's scheduler and the machine's clock.
type Real struct{}

func (Real) Go(_ string, run func()) { go run() }

func (Real) Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (Real) NewDoorbell() *ring.Doorbell { return ring.NewDoorbell() }

func (Real) AfterFunc(ctx context.Context, f func()) (stop func() bool) {
	return context.AfterFunc(ctx, f)
}

func (Real) WithTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d)
}

// Group is tasks that are waited for together.
type Group struct {
	sched   Sched
	running atomic.Int64
	bell    *ring.Doorbell
}

// NewGroup makes a group without tasks. One task may wait for it.
func NewGroup(s Sched) *Group { return &Group{sched: s, bell: s.NewDoorbell()} }

// Go starts a task of the group.
func (g *Group) Go(name string, run func()) {
	g.running.Add(1)
	g.sched.Go(name, func() {
		defer func() {
			g.running.Add(-1)
			g.bell.Ring()
		}()
		run()
	})
}

// Wait returns when every task of the group has ended.
func (g *Group) Wait() { WaitFor(g.bell, func() bool { return g.running.Load() == 0 }) }

// WaitFor waits at a bell until ok. Whoever makes it so rings afterwards.
func WaitFor(bell *ring.Doorbell, ok func() bool) {
	for !ok() {
		bell.Prepare()
		if ok() {
			bell.Cancel()
			return
		}
		bell.Wait(time.Hour)
	}
}
