package feed

import (
	"errors"
	"fmt"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
)

// Inputs is a journal being read. io.EOF means that there is no more for now.
type Inputs interface {
	Next() (event.Input, error)
}

// Derivation derives rows again from journalled inputs: the same machines, fed
// from a file. It is what catch-up, replay and verify run. One goroutine.
type Derivation struct {
	inputs Inputs
	only   map[uint16]bool // nil: every feed
	feeds  map[uint16]*derived
	last   *derived
	told   func(*BadInputError) // nil: Next returns it
}

type derived struct {
	machine *Machine
	ended   bool // by an input that cannot be right; the next keyframe or run begins it again
	frames  ledger.Frames
	rows    ledger.Rows
	out     records
}

// records is a Sink that never defers: it keeps the rows of one input.
type records struct {
	bytes   []byte
	ends    []int
	claimed int
	next    int // record to hand out
}

func (r *records) Claim(n int) []byte {
	at := 0
	if len(r.ends) > 0 {
		at = r.ends[len(r.ends)-1]
	}
	for cap(r.bytes)-at < n {
		r.bytes = append(r.bytes[:cap(r.bytes)], 0)
	}
	r.bytes = r.bytes[:cap(r.bytes)]
	r.claimed = at + n
	return r.bytes[at:r.claimed:r.claimed]
}

func (r *records) Commit() { r.ends = append(r.ends, r.claimed) }

func (r *records) reset() { r.ends, r.next = r.ends[:0], 0 }

func (r *records) take() []byte {
	if r.next == len(r.ends) {
		return nil
	}
	at := 0
	if r.next > 0 {
		at = r.ends[r.next-1]
	}
	b := r.bytes[at:r.ends[r.next]]
	r.next++
	return b
}

// NewDerivation derives the rows of the given feeds, or of all.
func NewDerivation(inputs Inputs, only ...uint16) *Derivation {
	d := &Derivation{inputs: inputs, feeds: map[uint16]*derived{}}
	if len(only) > 0 {
		d.only = map[uint16]bool{}
		for _, f := range only {
			d.only[f] = true
		}
	}
	return d
}

// BadInputError says that an input whose checksum is right cannot be: no machine makes it,
// or the journalled keyframe is another than its inputs make. It ends the derivation of
// its feed until the feed's next keyframe or run; the time until then is a gap with cause
// journal. Other feeds go on.
type BadInputError struct {
	Feed uint16
	Pos  uint64
	Ts   int64 // stamp of the input, ns
	Err  error
}

func (e *BadInputError) Error() string { return "cannot derive rows: " + e.Err.Error() }

func (e *BadInputError) Unwrap() error { return e.Err }

// PassOver has told called with each input that cannot be right, where Next would
// return the error.
func (d *Derivation) PassOver(told func(*BadInputError)) { d.told = told }

// Possible says what makes an input impossible, whatever came before it. Of a run record
// or a keyframe it builds the machine, and throws it away.
func Possible(in *event.Input) error {
	var frames ledger.Frames
	var rows ledger.Rows
	m := New(&records{}, &frames, rows.Feed())
	switch {
	case in.Line >= numLines:
		return errLine(in)
	case in.Kind == event.InputRun:
		cfg, err := ConfigOf(in)
		if err != nil {
			return err
		}
		return m.setUp(cfg, in.Feed)
	case in.Kind == event.InputKeyframe:
		return m.restore(in)
	}
	return nil
}

func errLine(in *event.Input) error {
	return fmt.Errorf("cannot step feed %d: input %d (%s) is of line %d, and a feed has %d", in.Feed, in.Pos, in.Kind, in.Line, numLines)
}

// Next returns the next row record and the feed that it belongs to. The record is
// borrowed until the next call. The error is io.EOF at the present end of the
// journal (a later call may find more), whatever the journal's reader says, or a
// *BadInputError, and then the next call goes on behind it.
func (d *Derivation) Next() (rec []byte, feedID uint16, err error) {
	for {
		if d.last != nil {
			if rec := d.last.out.take(); rec != nil {
				return rec, d.last.machine.feed, nil
			}
		}
		in, err := d.inputs.Next()
		if err != nil {
			return nil, 0, err
		}
		if d.only != nil && !d.only[in.Feed] {
			continue
		}
		f := d.feeds[in.Feed]
		if f == nil {
			if in.Kind != event.InputRun && in.Kind != event.InputKeyframe { // not where a derivation can start
				continue
			}
			f = &derived{}
			f.machine = New(&f.out, &f.frames, f.rows.Feed())
			d.feeds[in.Feed] = f
		}
		f.out.reset()
		if f.ended && in.Kind != event.InputRun && in.Kind != event.InputKeyframe {
			f.machine.skip(&in)
			continue
		}
		d.last, f.ended = f, false
		if err := f.machine.Step(&in); err != nil {
			if f.ended = !errors.Is(err, errDiffers); f.ended {
				f.machine.skip(&in)
			}
			bad := &BadInputError{Feed: in.Feed, Pos: in.Pos, Ts: in.Ts, Err: err}
			if d.told == nil {
				return nil, in.Feed, bad
			}
			d.told(bad)
		}
	}
}

// Pos is the position of the last input of a feed that has been stepped and whose
// rows have all been handed out.
func (d *Derivation) Pos(feedID uint16) uint64 {
	f := d.feeds[feedID]
	if f == nil {
		return 0
	}
	if f.out.next < len(f.out.ends) {
		return f.machine.pos - 1
	}
	return f.machine.pos
}

// Machine of a feed, nil before its run record.
func (d *Derivation) Machine(feedID uint16) *Machine {
	if f := d.feeds[feedID]; f != nil {
		return f.machine
	}
	return nil
}

// Frames of a feed: the ledger of this derivation.
func (d *Derivation) Frames(feedID uint16) *ledger.Frames { return &d.feeds[feedID].frames }
