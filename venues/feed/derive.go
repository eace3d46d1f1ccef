package feed

import (
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
}

type derived struct {
	machine *Machine
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

// Next returns the next row record and the feed that it belongs to. The record is
// borrowed until the next call. The error is io.EOF at the present end of the
// journal (a later call may find more), whatever the journal's reader says, or
// what makes a derivation impossible.
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
		if err := f.machine.Step(&in); err != nil {
			return nil, in.Feed, fmt.Errorf("cannot derive rows: %w", err)
		}
		d.last = f
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
