package journal

import (
	"fmt"
	"slices"
)

// listSegments returns the numbers of the segments in dir, ascending, and the
// highest number that any file there belongs to.
func listSegments(fsys FS, dir string) (numbers []uint64, highest uint64, err error) {
	names, err := fsys.List(dir)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot list journal %q: %w", dir, err)
	}
	for _, name := range names {
		n, rest, ok := parseName(name)
		if !ok {
			continue
		}
		highest = max(highest, n)
		if rest == "" {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, highest, nil
}

// left is a segment that the walk has left, and what lay at its end. What that
// means is known only from the header of the next one.
type left struct {
	number uint64 // 0: nothing
	blocks uint64 // number of its last block + 1, as far as it could be read
	off    int64  // end of its last whole block
	bytes  int64  // from there to the end of the file
	tail   verdict
}

// walk goes through the blocks of all segments in order. It may be used while
// the journal is being written.
type walk struct {
	fs   FS
	dir  string
	from Position
	list []uint64 // segments as last seen

	s    *scan // nil before the first segment
	size int64 // of its file, and what lay at its end, after gotEnd
	tail verdict
	// sealed: a later segment was seen before the last look at this one, so what
	// the writer put here has all been seen.
	sealed bool
	judged bool // left has been judged by the header of this segment
	left   left
	husk   left // a segment after it that has no header and no block
	polls  uint

	queue []news // found and not yet told
}

type news struct {
	o outcome
	d *DamageError
}

func (w *walk) lost(d *DamageError) { w.queue = append(w.queue, news{gotDamage, d}) }

// pollsPerList: at the end of the journal the successor is looked for by its
// name; only every so often the directory is listed, for the case that segments
// were removed before this reader came to them.
const pollsPerList = 64

// next returns gotSegment, gotBlock, with the block in w.s, gotDamage, or gotEnd:
// nothing more at present. What was lost at the end of a segment is told before
// gotSegment of the next, by whose header it is known. An error is the disk's; the call
// may be repeated.
func (w *walk) next() (outcome, *DamageError, error) {
	for {
		if len(w.queue) > 0 {
			n := w.queue[0]
			w.queue = w.queue[1:]
			return n.o, n.d, nil
		}
		if w.s == nil {
			if ok, err := w.first(); err != nil || !ok {
				return gotEnd, nil, err
			}
			continue
		}
		o, tail, size, err := w.s.next()
		if err != nil {
			return gotEnd, nil, fmt.Errorf("cannot read %q: %w", segmentName(w.dir, w.s.segment), err)
		}
		if w.s.started && !w.judged {
			w.judged = true
			w.judge(w.s.head, w.s.headOK)
			w.queue = append(w.queue, news{gotSegment, nil})
			if o == gotBlock {
				w.queue = append(w.queue, news{gotBlock, nil})
				continue
			}
		}
		switch o {
		case gotBlock:
			return gotBlock, nil, nil
		case gotDamage:
			s := w.s
			w.lost(&DamageError{Segment: s.segment, Offset: s.lostOff, Bytes: s.lostBytes, Blocks: s.lostBlocks, Repaired: s.repaired, number: s.lostNumber})
			continue
		}
		after, ok, err := w.after(w.s.segment)
		if err != nil {
			return gotEnd, nil, err
		}
		if !ok {
			if tail != bad {
				w.tail, w.size = tail, size
				if len(w.queue) > 0 {
					continue
				}
				return gotEnd, nil, nil
			}
			// Not the beginning of a block, so no write that is under way.
			w.lost(&DamageError{Segment: w.s.segment, Offset: w.s.off, Bytes: size - w.s.off, Blocks: 1, number: w.s.number})
			w.s.skip(size)
			continue
		}
		if !w.sealed {
			w.sealed = true // one more look: a last block may have come before the new segment
			w.s.win.drop()
			continue
		}
		old := w.s
		if ok, err := w.open(after); err != nil {
			return gotEnd, nil, err
		} else if ok {
			w.leave(old, tail, size)
		}
	}
}

// skip gives the rest of the file up, as one block.
func (s *scan) skip(size int64) {
	s.off, s.started = size, true
	s.number++
}

// first opens the segment to begin with.
func (w *walk) first() (ok bool, err error) {
	if w.list, _, err = listSegments(w.fs, w.dir); err != nil || len(w.list) == 0 {
		return false, err
	}
	last := w.list[len(w.list)-1]
	if w.from.Segment > last+1 {
		w.from = Position{} // not of this journal
	}
	i, found := slices.BinarySearch(w.list, w.from.Segment)
	if i == len(w.list) {
		return false, nil
	}
	if ok, err = w.open(w.list[i]); !ok || err != nil {
		return false, err
	}
	if !found && w.from.Segment > 0 {
		w.lost(&DamageError{Segment: w.from.Segment, Missing: true})
	}
	if found && w.from.Offset > 0 {
		// A place that is no block's, as after a repair: from the start of the
		// segment, then. Earlier is harmless.
		if w.judged, err = w.s.begin(w.from.Offset); err != nil {
			return false, err
		}
	}
	return true, nil
}

// after returns the segment that follows number.
func (w *walk) after(number uint64) (uint64, bool, error) {
	if i, _ := slices.BinarySearch(w.list, number+1); i < len(w.list) {
		return w.list[i], true, nil
	}
	f, err := w.fs.Open(segmentName(w.dir, number+1))
	switch {
	case err == nil:
		f.Close()
	case !isNotExist(err):
		return 0, false, fmt.Errorf("cannot open journal segment: %w", err)
	default:
		w.polls++
		if w.polls%pollsPerList != 1 {
			return 0, false, nil
		}
	}
	if w.list, _, err = listSegments(w.fs, w.dir); err != nil {
		return 0, false, err
	}
	if i, _ := slices.BinarySearch(w.list, number+1); i < len(w.list) {
		return w.list[i], true, nil
	}
	return 0, false, nil
}

// open makes a segment the current one; ok is false if it is gone.
func (w *walk) open(number uint64) (ok bool, err error) {
	f, err := w.fs.Open(segmentName(w.dir, number))
	if isNotExist(err) {
		w.list = nil
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot open journal segment: %w", err)
	}
	s := newScan(f, number)
	if w.s != nil {
		w.s.win.f.Close()
		s.win.buf, s.unpacked = w.s.win.buf[:0], w.s.unpacked
	}
	w.s, w.sealed, w.judged = s, false, false
	return true, nil
}

func (w *walk) close() {
	if w.s != nil {
		w.s.win.f.Close()
	}
}

// leave notes how a segment ended.
func (w *walk) leave(s *scan, tail verdict, size int64) {
	l := left{number: s.segment, blocks: s.number, off: s.off, bytes: max(size-s.off, 0), tail: tail}
	switch {
	case s.started:
	case tail == bad:
		w.judge(segmentHead{}, false) // its header will not judge the one before it
	default:
		// The header was not finished. If so by a crash, the segment was never
		// begun, and the next header speaks about the one before.
		w.tornHusk()
		w.husk = l
		return
	}
	w.left = l
}

func (w *walk) tornHusk() {
	if w.husk.bytes > 0 {
		w.lost(&DamageError{Segment: w.husk.number, Bytes: w.husk.bytes, Torn: true})
	}
	w.husk = left{}
}

// judge says what is gone between the segment that was left and the one that
// follows, by the header h of that one, if it could be read.
func (w *walk) judge(h segmentHead, ok bool) {
	l := w.left
	w.left = left{}
	if ok && w.husk.number > 0 && w.husk.number == h.prev {
		// It had been begun, and was cut down later.
		if l.number > 0 {
			w.left = l
			w.husk, l = left{}, w.husk
			w.judge(segmentHead{}, false)
		} else {
			w.husk, l = left{}, w.husk
		}
		w.left = left{}
		l.tail = bad
	}
	w.tornHusk()
	if l.number == 0 {
		return
	}
	d := &DamageError{Segment: l.number, Offset: l.off, Bytes: l.bytes, number: l.blocks}
	switch {
	case ok && h.prev == l.number && uint64(h.prevBlocks) > l.blocks:
		d.Blocks = int64(uint64(h.prevBlocks) - l.blocks)
		w.lost(d)
	case l.bytes > 0:
		if d.Torn = l.tail == torn; !d.Torn {
			d.Blocks = 1
		}
		w.lost(d)
	}
	if ok && h.prev > l.number {
		w.lost(&DamageError{Segment: h.prev, Blocks: int64(h.prevBlocks), Missing: true})
	}
}
