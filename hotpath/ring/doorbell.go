package ring

import (
	"sync/atomic"
	"time"
)

// Doorbell lets one consumer sleep until one of its rings has something. A
// producer pays one load of a shared flag per Commit; only if the consumer has
// parked does it pay for a wake-up. The consumer's loop:
//
//	for {
//		if drainAllRings() {
//			continue
//		}
//		bell.Prepare()
//		if drainAllRings() {
//			bell.Cancel()
//			continue
//		}
//		bell.Wait(timeout)
//	}
//
// The second look, between Prepare and Wait, is what keeps a wake-up from being
// lost. Without it:
//
//  1. consumer: Peek finds the ring empty
//  2. producer: stores tail
//  3. producer: loads the flag, finds "not parked", does not ring
//  4. consumer: sets the flag, sleeps; the record lies there until the timeout
//
// With it, each side first stores its own word and then loads the other's: the
// producer tail, then flag; the consumer flag, then tail. In the one order that
// all atomics of a Go program have, one of the two stores comes first, and the
// load of the other side comes after it: either the producer sees the flag and
// rings, or the consumer sees the record and cancels. (Both may happen: then
// a token is left over, and one later Wait may return for nothing.) A processor
// may let a load overtake an older store to another address, which would bring
// the lost wake-up back; the order of Go's atomics forbids exactly that, and on
// amd64 its price is the locked exchange in Commit. Both stores are written as an
// exchange: on amd64 that is the same instruction, and qemu, which runs our arm64
// tests, lets an arm64 load overtake an atomic store, though no arm64 processor does.
//
// A wake-up means "look again", nothing more. Prepare, Cancel and Wait are the
// consumer's; Ring is for any goroutine.
type Doorbell struct {
	_      [lineSize]byte
	parked atomic.Bool // true: the consumer sleeps or is about to
	_      [lineSize]byte

	parker   Parker        // nil: the consumer is a goroutine
	tokens   chan struct{} // holds at most one; a full one is as good as two
	timedOut atomic.Bool   // the timer has rung
	timer    *time.Timer   // the consumer's; stopped outside Wait
}

// Parker puts a consumer to sleep that is not a goroutine of its own: in a
// simulation.
type Parker interface {
	// Park sleeps until Unpark, true, or the timeout is over, false. An Unpark
	// since the last Park counts.
	Park(timeout time.Duration) bool
	Unpark()
}

// NewDoorbellAt makes a bell whose consumer sleeps at a parker.
func NewDoorbellAt(p Parker) *Doorbell { return &Doorbell{parker: p} }

// NewDoorbell makes a bell for one consumer.
func NewDoorbell() *Doorbell {
	d := &Doorbell{tokens: make(chan struct{}, 1)}
	// The timer leaves a token like a producer, which gives Wait one channel to
	// receive from: two thirds of the time of a select over tokens and a timer's
	// channel.
	d.timer = time.AfterFunc(time.Hour, func() {
		d.timedOut.Store(true)
		d.leaveToken()
	})
	d.timer.Stop()
	return d
}

// Ring wakes the consumer if it has parked. The store that the consumer is to
// see must come before it.
func (d *Doorbell) Ring() {
	if d.parked.Load() {
		d.wake()
	}
}

// wake is apart so that Ring is inlined into Commit.
func (d *Doorbell) wake() {
	// Of several producers one wins, the others have nothing to do.
	if d.parked.CompareAndSwap(true, false) {
		d.leaveToken()
	}
}

func (d *Doorbell) leaveToken() {
	if d.parker != nil {
		d.parker.Unpark()
		return
	}
	select {
	case d.tokens <- struct{}{}:
	default:
	}
}

// Prepare announces that the consumer will park. It must then look at all of
// its rings once more, and call Cancel or Wait.
func (d *Doorbell) Prepare() {
	// A left-over token stands for a store before it: the look that follows
	// will see that store, so the token may go.
	select {
	case <-d.tokens:
	default:
	}
	d.parked.Swap(true) // no Store, see above
}

// Cancel takes Prepare back.
func (d *Doorbell) Cancel() { d.parked.Store(false) }

// Wait sleeps until the bell rings, true, or the timeout is over, false; with a
// timeout of 0 or less it returns at once. The consumer is no longer parked
// afterwards. Either answer may come early, for nothing: a timer that fires just
// as the bell rings may end the next Wait.
//
// It does not spin: on a machine with fewer cores than feeds, a consumer that
// spins is what keeps the producer from running.
func (d *Doorbell) Wait(timeout time.Duration) bool {
	if timeout <= 0 {
		// Whoever has taken the flag meanwhile has rung.
		return !d.parked.CompareAndSwap(true, false)
	}
	if d.parker != nil {
		rung := d.parker.Park(timeout)
		d.parked.Store(false)
		return rung
	}
	d.timer.Reset(timeout)
	<-d.tokens
	d.timer.Stop()
	d.parked.Store(false)
	return !d.timedOut.Swap(false)
}
