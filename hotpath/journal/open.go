package journal

import (
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
)

// Recovery is what Open found in a journal.
type Recovery struct {
	Segments int       // in the directory
	Scanned  int       // of them were read: from the last one with a valid header on
	Records  uint64    // in those
	Feeds    []FeedEnd // how far each feed is, in the order of feeds

	Damage  []*DamageError // in the scanned ones, torn tails included
	Missing []Range        // which inputs are not there, by the jumps of pos, in the scanned ones
	// TornBytes is the length of a write that was cut short at the very end of the
	// journal. Nothing in it was ever confirmed by Flush.
	TornBytes int64
}

// Range is a run of inputs of one feed that are not in the journal.
type Range struct {
	Feed        uint16
	First, Last uint64 // pos of the first and last missing one
	After, Till int64  // ts of the inputs around them, ns; 0: there is none
	// Known: damage or a repaired hole lies between the two, and explains it.
	Known bool
}

// tracker follows the pos of every feed through a walk.
type tracker struct {
	ends     ends
	missing  []Range
	disorder int            // records whose pos was not above the one before
	damages  int            // so far
	at       map[uint16]int // damages at the last news of a feed
	based    bool           // a header has told which feeds there were before
}

func newTracker() tracker { return tracker{ends: newEnds(), at: map[uint16]int{}} }

// header takes the table of a segment in: what it knows and no record has shown
// is missing.
func (t *tracker) header(h segmentHead) {
	if h.noTable {
		return
	}
	for _, f := range h.feeds {
		t.jump(f.Feed, f.Pos+1, 0)
		t.ends.entry(f.Feed).raise(f.Pos, f.Ts)
		t.at[f.Feed] = t.damages
	}
	t.based = true
}

// record takes one record in.
func (t *tracker) record(feed uint16, pos uint64, ts int64) {
	t.jump(feed, pos, ts)
	e := t.ends.entry(feed)
	if e.Pos > 0 && pos <= e.Pos {
		t.disorder++
	}
	e.raise(pos, ts)
	t.at[feed] = t.damages
}

func (t *tracker) lost() { t.damages++ }

func (t *tracker) jump(feed uint16, next uint64, ts int64) {
	e := *t.ends.entry(feed)
	known := t.at[feed] < t.damages
	if next <= e.Pos+1 || e.Pos == 0 && !(known && t.based) {
		return // in order; or the first that this walk can know of the feed
	}
	t.missing = append(t.missing, Range{Feed: feed, First: e.Pos + 1, Last: next - 1, After: e.Ts, Till: ts, Known: known})
}

// Open locks the directory, which it creates if need be, finds out how far the
// journal is, and returns a writer that goes on in a new segment. That segment
// is created by the first Flush. A directory that another process writes to is
// refused with an error that names it and the process.
//
// Damage does not make Open fail: it is in the Recovery, and everything behind
// it is there. Open reads the last segment, or as many as it takes to find one
// with a valid header.
func Open(fsys FS, dir string, opt Options) (*Writer, Recovery, error) {
	if opt.SegmentBytes <= 0 {
		opt.SegmentBytes = 128 << 20
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return nil, Recovery{}, fmt.Errorf("cannot create journal directory %q: %w", dir, err)
	}
	lock, err := lockDir(fsys, dir)
	if err != nil {
		return nil, Recovery{}, err
	}
	w := &Writer{
		fs: fsys, dir: dir, opt: opt, lock: lock, ends: newEnds(),
		raw: make([]byte, 0, blockBytes),
	}
	err = removeUnfinished(fsys, dir)
	var rec Recovery
	if err == nil {
		rec, err = w.recover()
	}
	if err != nil {
		return nil, Recovery{}, errors.Join(err, lock.Close())
	}
	return w, rec, nil
}

func lockDir(fsys FS, dir string) (io.Closer, error) {
	lock, err := fsys.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("cannot lock journal %q: %w", dir, err)
	}
	return lock, nil
}

// recover reads the end of the journal and sets the writer behind it.
func (w *Writer) recover() (Recovery, error) {
	list, highest, err := listSegments(w.fs, w.dir)
	if err != nil {
		return Recovery{}, err
	}
	w.segment = highest + 1
	rec := Recovery{Segments: len(list)}
	if len(list) == 0 {
		return rec, nil
	}
	from := len(list) - 1
	for ; from > 0; from-- {
		if h, err := ReadSegment(w.fs, w.dir, list[from]); err != nil {
			return rec, err
		} else if h.Valid {
			break
		}
	}
	rec.Scanned = len(list) - from
	for _, n := range list[from:] {
		// What a process before us wrote and did not sync is readable now; it must
		// not be taken back by a power loss after we have built on it.
		if err := w.syncOld(n); err != nil {
			return rec, err
		}
	}
	if err := w.fs.SyncDir(w.dir); err != nil {
		return rec, fmt.Errorf("cannot sync journal directory %q: %w", w.dir, err)
	}
	t := newTracker()
	k := walk{fs: w.fs, dir: w.dir, from: Position{Segment: list[from]}}
	defer k.close()
	for end := false; !end; {
		o, d, err := k.next()
		if err != nil {
			return rec, err
		}
		switch o {
		case gotSegment:
			if k.s.headOK {
				t.header(k.s.head)
			}
		case gotBlock:
			rec.Records += uint64(k.s.block.records)
			eachRecord(k.s.raw, t.record)
		case gotDamage:
			rec.Damage = append(rec.Damage, d)
			if !d.Torn {
				t.lost()
			}
		case gotEnd:
			end = true
		}
	}
	if k.tail == torn {
		rec.TornBytes = k.size - k.s.off
	}
	switch {
	case k.s.started:
		w.prev, w.prevBlks = k.s.segment, uint32(min(k.s.number, math.MaxUint32))
	case k.left.number > 0:
		w.prev, w.prevBlks = k.left.number, uint32(min(k.left.blocks, math.MaxUint32))
	}
	rec.Feeds, rec.Missing = t.ends.sorted(), t.missing
	w.ends = newEnds()
	for _, f := range rec.Feeds {
		w.ends.entry(f.Feed).raise(f.Pos, f.Ts)
	}
	return rec, nil
}

func (w *Writer) syncOld(number uint64) error {
	name := segmentName(w.dir, number)
	f, err := w.fs.Open(name)
	if err != nil {
		return fmt.Errorf("cannot open journal segment: %w", err)
	}
	err = f.Sync()
	f.Close()
	if err != nil {
		return fmt.Errorf("cannot sync %q: %w", name, err)
	}
	return nil
}

// Segment is what the header of a segment says.
type Segment struct {
	Number uint64
	Valid  bool      // the header could be read and has a table of feeds; else Feeds is empty, and Ts may be 0
	Bytes  int64     // of the file
	Ts     int64     // of its first record, ns
	Feeds  []FeedEnd // how far each feed was before it
}

// Segments lists the segments of a journal in order, to find where a time or a
// pos is, and which ones are old.
func Segments(fsys FS, dir string) ([]Segment, error) {
	list, _, err := listSegments(fsys, dir)
	if err != nil {
		return nil, err
	}
	all := make([]Segment, 0, len(list))
	for _, n := range list {
		s, err := ReadSegment(fsys, dir, n)
		if isNotExist(err) {
			continue // removed meanwhile
		}
		if err != nil {
			return all, err
		}
		all = append(all, s)
	}
	return slices.Clip(all), nil
}

// ReadSegment reads the header of one segment.
func ReadSegment(fsys FS, dir string, number uint64) (Segment, error) {
	name := segmentName(dir, number)
	f, err := fsys.Open(name)
	if err != nil {
		return Segment{}, fmt.Errorf("cannot open journal segment: %w", err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return Segment{}, fmt.Errorf("cannot read %q: %w", name, err)
	}
	s := newScan(f, number)
	if _, err := s.readHead(); err != nil {
		return Segment{}, fmt.Errorf("cannot read %q: %w", name, err)
	}
	return Segment{Number: number, Valid: s.headOK && !s.head.noTable, Bytes: size, Ts: s.head.ts, Feeds: s.head.feeds}, nil
}
