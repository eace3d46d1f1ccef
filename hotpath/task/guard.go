package task

import (
	"fmt"
	"runtime/debug"
)

// PanicError is what a task panicked with. It is a fault of this program.
type PanicError struct {
	Task  string
	Value any
	Stack []byte // of the goroutine that panicked
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("BUG: panic in %s: %v", e.Task, e.Value)
}

// Ended is what a simulated Sched panics with to end a task of a process that is no more.
// Guard lets it pass.
type Ended interface{ TaskEnded() }

// Guard runs what is one part of the agent and makes a panic in it a *PanicError, so that
// whoever runs it decides what becomes of the other parts.
func Guard(task string, run func() error) (err error) {
	defer func() {
		r := recover()
		if ended, ok := r.(Ended); ok {
			panic(ended)
		}
		if r != nil {
			err = &PanicError{task, r, debug.Stack()}
		}
	}()
	return run()
}
