package agent

import (
	"context"
	"errors"
	"io/fs"
	"sync/atomic"
	"time"

	"deeptape/hotpath/journal"
)

// Complete segments of the journal are packed again, more tightly, when the agent has
// nothing better to do: while no rows wait for the journal and none of an earlier run
// are being delivered, a block at a time, with nine times as long a rest after each.
// So it takes a tenth of one core at most, and pauses for a burst; a journal of a busy
// hour takes 40 % less room a minute later.
const (
	packEvery = 5 * time.Second
	packRest  = 9 // times what the last block took
)

// packing counts what was done. Any goroutine may read it.
type packing struct {
	segments, savedBytes atomic.Uint64
}

// packJournal runs until ctx ends.
func (a *Agent) packJournal(ctx context.Context) {
	done := map[uint64]bool{} // packed, or to be left as they are
	for a.machine.Sched.Sleep(ctx, packEvery) {
		a.survive("packing the journal", func() {
			if err := a.packNext(ctx, done); err != nil && ctx.Err() == nil {
				a.log.Warn("cannot pack a journal segment; it stays as it is", "err", err)
			}
		})
	}
}

// packNext packs the oldest complete segment that is not.
func (a *Agent) packNext(ctx context.Context, done map[uint64]bool) error {
	fsys, dir := a.machine.FS, a.cfg.Journal.Dir
	if free, err := a.machine.FreeBytes(dir); err != nil || free < freeBytesLow {
		return err
	}
	segments, err := journal.Segments(fsys, dir)
	if err != nil {
		return err
	}
	var number uint64
	for i := range segments { // the last one is still written to
		if n := segments[i].Number; i+1 < len(segments) && !done[n] {
			number = n
			break
		}
	}
	if number == 0 || !a.quiet() {
		return nil
	}
	began := a.clock.NowNs()
	before, after, err := journal.Pack(fsys, dir, number, func() error {
		spent := time.Duration(a.clock.NowNs() - began)
		for wait := max(packRest*spent, time.Millisecond); ; wait = packEvery {
			if !a.machine.Sched.Sleep(ctx, wait) {
				return ctx.Err()
			}
			if a.quiet() {
				break
			}
		}
		began = a.clock.NowNs()
		return nil
	})
	switch {
	case errors.Is(err, journal.ErrNotPacked), errors.Is(err, fs.ErrNotExist): // or removed meanwhile
		done[number] = true
		return nil
	case err != nil:
		// Until the next start: what ails it may last. What a failed sync has left is
		// durable only once it is packed, so that is tried on.
		done[number] = a.journaler.unsynced.Load() == 0
		return err
	}
	// The writer puts it in its place, or the journal has ended, and the next Open
	// removes it.
	a.journaler.adopt.Store(number)
	for a.journaler.adopt.Load() != 0 {
		if !a.machine.Sched.Sleep(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
	}
	done[number] = true
	a.packed.segments.Add(1)
	a.packed.savedBytes.Add(uint64(before - after))
	return nil
}

// quiet says that nobody waits for the journal's or this process's work.
func (a *Agent) quiet() bool {
	if _, behind := a.pastRuns.behind(); behind > 0 && a.deliverer != nil {
		return false
	}
	for _, l := range a.lanes {
		if l.Deferring() || l.Inputs.UsedBytes() > l.Inputs.Capacity()/4 {
			return false
		}
	}
	return true
}
