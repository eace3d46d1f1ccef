package journal

import (
	"io"

	"deeptape/hotpath/event"
)

// Position is a place in the journal, between two blocks. The zero Position is
// the beginning, wherever that is now.
type Position struct {
	Segment uint64
	Offset  int64 // in the segment's file; 0: before its header
}

// Reader returns the records of a journal in order. It works from the files
// alone, so it may run in any process while the journal is being written, and
// sees whatever Flush has written. Not for use by two goroutines at once.
type Reader struct {
	w    walk
	rest []byte   // records of the current block that are still to come
	at   Position // of the current block
}

// NewReader returns a reader that begins with the block at from, or with the
// first block of its segment if no block begins there. Nothing is opened before
// the first Next.
func NewReader(fsys FS, dir string, from Position) *Reader {
	return &Reader{w: walk{fs: fsys, dir: dir, from: from}, at: from}
}

// Next returns the next record; its Data is valid until the next call.
//
// io.EOF means that there is nothing more at present: Next may be called again
// when more has been written. A *DamageError says what could not be read, once,
// and the next call goes on behind it. Any other error is the disk's, and the
// call may be repeated.
func (r *Reader) Next() (event.Input, error) {
	for len(r.rest) == 0 {
		o, d, err := r.w.next()
		if err != nil {
			return event.Input{}, err
		}
		switch o {
		case gotDamage:
			return event.Input{}, d
		case gotEnd:
			return event.Input{}, io.EOF
		case gotBlock:
			r.rest = r.w.s.raw
			r.at = Position{r.w.s.segment, r.w.s.from}
		}
	}
	in, size, err := event.GetInput(r.rest)
	if err != nil {
		panic("BUG: a checked block does not hold whole records")
	}
	r.rest = r.rest[size:]
	return in, nil
}

// Position returns where the next record is. A reader that begins there returns
// it, after what may stand before it in its block: a caller that has seen those
// knows them by their pos.
func (r *Reader) Position() Position {
	switch {
	case len(r.rest) > 0 || r.w.s == nil:
		return r.at
	case len(r.w.queue) > 0:
		return Position{r.w.s.segment, r.w.s.from} // damage is to be told before this block
	case !r.w.s.started:
		return Position{r.w.s.segment, 0}
	}
	return Position{r.w.s.segment, r.w.s.off}
}

// Close closes the file that is open. The reader is not to be used after it.
func (r *Reader) Close() { r.w.close() }
