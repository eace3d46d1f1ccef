package journal

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// Report is what Fsck found.
type Report struct {
	Segments, Blocks, Records int64
	StoredBytes, RawBytes     int64 // of whole blocks

	Damaged      int   // damaged ranges, and missing segments
	DamagedBytes int64 //
	LostBlocks   int64 // at least so many, in the damaged ranges
	Mended       int   // damaged ranges that this call has replaced by holes
	Holes        int   // ranges that an earlier call has
	Torn         int   // writes that were cut short: not damage, nothing confirmed was in them
	TornBytes    int64

	Missing     []Range   // inputs that are not there, by the jumps of pos
	Unexplained int       // of them with no damage or hole that would explain them
	Ends        []FeedEnd // how far each feed goes
	Disorder    int64     // records whose pos is not above the one before of their feed
}

// Clean says that nothing is wrong that this call has not mended. Holes and
// torn writes are not wrong: they are known.
func (r *Report) Clean() bool {
	return r.Damaged == r.Mended && r.Unexplained == 0 && r.Disorder == 0
}

// piece is a part of a segment in a repair: bytes to copy, or a hole.
type piece struct {
	off, n int64 // n > 0: copy
	hole   *DamageError
}

// segmentCheck is what a walk learned about one segment.
type segmentCheck struct {
	number                  uint64
	blocks, records         int64
	stored, raw             int64
	head                    segmentHead // valid, or what a repair will write instead
	headOK                  bool
	endNumber               uint64 // number of the last block + 1, lost ones included
	damage                  []*DamageError
	pieces                  []piece
	broken, missing, headed bool // headed: has a header or a block
}

type fsck struct {
	fs    FS
	dir   string
	out   io.Writer
	outer error // first error of out
	r     Report
	t     tracker
	segs  []*segmentCheck
	shown int
}

// Fsck reads a whole journal and writes to out, per segment, what is in it and
// what is damaged, and which inputs are missing. It may run beside a writer.
//
// With repair it locks the journal, and replaces every damaged segment by one
// that has holes in the place of damage; the original stays beside it under the
// name SEGMENT.damaged. Readers then return the same records and the same
// losses as before. An error is the disk's; damage is not an error.
func Fsck(fsys FS, dir string, repair bool, out io.Writer) (Report, error) {
	c := &fsck{fs: fsys, dir: dir, out: out, t: newTracker()}
	err := c.run(repair)
	return c.r, err
}

func (c *fsck) run(repair bool) (err error) {
	if repair {
		lock, err := lockDir(c.fs, c.dir)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, lock.Close()) }()
	}
	if err := c.walk(); err != nil {
		return err
	}
	c.show(len(c.segs))
	c.t.disorderInto(&c.r)
	c.r.Ends = c.t.ends.sorted()
	for _, m := range c.r.Missing {
		c.print("missing: feed %d pos %d to %d, %d inputs, between %s and %s%s\n", m.Feed, m.First, m.Last,
			m.Last-m.First+1, stamp(m.After), stamp(m.Till), map[bool]string{false: "; nothing explains it"}[m.Known])
	}
	if c.r.Disorder > 0 {
		c.print("disorder: %d records with a pos not above the one before of their feed\n", c.r.Disorder)
	}
	if repair {
		for _, s := range c.segs {
			if s.broken {
				if err := c.repair(s); err != nil {
					return err
				}
			}
		}
	}
	c.print("total: %d segments, %d blocks, %d records, %d bytes, ratio %s; %d damaged (%d bytes, %d blocks), %d mended, %d holes, %d torn (%d bytes)\n",
		c.r.Segments, c.r.Blocks, c.r.Records, c.r.StoredBytes, ratio(c.r.RawBytes, c.r.StoredBytes),
		c.r.Damaged, c.r.DamagedBytes, c.r.LostBlocks, c.r.Mended, c.r.Holes, c.r.Torn, c.r.TornBytes)
	return c.outer
}

// walk fills segs and the tracker.
func (c *fsck) walk() error {
	k := walk{fs: c.fs, dir: c.dir}
	defer k.close()
	for {
		o, d, err := k.next()
		if err != nil {
			return err
		}
		if k.s == nil {
			return nil // no segment at all
		}
		s := c.segment(k.s.segment)
		s.endNumber = max(s.endNumber, k.s.number)
		switch o {
		case gotDamage:
			c.damage(d)
		case gotSegment:
			s.headed = true
			if s.head, s.headOK = k.s.head, k.s.headOK; s.headOK {
				c.t.header(s.head)
			} else {
				s.head = c.inventHead(s)
			}
		case gotBlock:
			if s.blocks == 0 && !s.headOK {
				s.head.ts = k.s.block.ts
			}
			n := k.s.off - k.s.from
			s.blocks++
			s.records += int64(k.s.block.records)
			s.stored += n
			s.raw += int64(k.s.block.raw)
			s.copy(k.s.from, n)
			eachRecord(k.s.raw, c.t.record)
			c.show(len(c.segs) - 1) // the ones before can bring no more news
		case gotEnd:
			if k.tail == torn {
				c.r.Torn++
				c.r.TornBytes += k.size - k.s.off
				s.damage = append(s.damage, &DamageError{Segment: s.number, Offset: k.s.off, Bytes: k.size - k.s.off, Torn: true})
			}
			return nil
		}
	}
}

// damage books a loss under the segment that it is in.
func (c *fsck) damage(d *DamageError) {
	s := c.segment(d.Segment)
	s.damage = append(s.damage, d)
	switch {
	case d.Torn:
		c.r.Torn++
		c.r.TornBytes += d.Bytes
		return
	case d.Repaired:
		c.r.Holes++
		s.pieces = append(s.pieces, piece{hole: d})
	default:
		c.r.Damaged++
		c.r.DamagedBytes += d.Bytes
		c.r.LostBlocks += d.Blocks
		s.broken = true
		s.missing = s.missing || d.Missing
		if !s.headed {
			s.headed = true
			s.head = c.inventHead(s)
		}
		s.pieces = append(s.pieces, piece{hole: d})
	}
	s.endNumber = max(s.endNumber, d.number+uint64(d.Blocks))
	c.t.lost()
}

// inventHead makes a header for a segment that has none, from what came before.
func (c *fsck) inventHead(s *segmentCheck) segmentHead {
	// No table: where a feed was before it is what the damage may have hidden.
	h := segmentHead{number: s.number, noTable: true}
	for _, f := range c.t.ends.list {
		h.ts = max(h.ts, f.Ts)
	}
	for _, p := range c.segs {
		if p.headed && p.number < s.number {
			h.prev, h.prevBlocks = p.number, uint32(p.endNumber)
		}
	}
	return h
}

// segment returns the entry of a segment; they come in order, but for the tail
// of the one before, and a missing one.
func (c *fsck) segment(number uint64) *segmentCheck {
	i := len(c.segs)
	for i > 0 && c.segs[i-1].number > number {
		i--
	}
	if i > 0 && c.segs[i-1].number == number {
		return c.segs[i-1]
	}
	c.segs = append(c.segs, nil)
	copy(c.segs[i+1:], c.segs[i:])
	c.segs[i] = &segmentCheck{number: number}
	return c.segs[i]
}

func (s *segmentCheck) copy(off, n int64) {
	if i := len(s.pieces) - 1; i >= 0 && s.pieces[i].n > 0 && s.pieces[i].off+s.pieces[i].n == off {
		s.pieces[i].n += n
		return
	}
	s.pieces = append(s.pieces, piece{off: off, n: n})
}

// show prints the segments up to the n-th.
func (c *fsck) show(n int) {
	for ; c.shown < n; c.shown++ {
		s := c.segs[c.shown]
		if !s.missing {
			c.r.Segments++
		}
		c.r.Blocks += s.blocks
		c.r.Records += s.records
		c.r.StoredBytes += s.stored
		c.r.RawBytes += s.raw
		c.print("segment %012d: %d blocks, %d records, %d bytes, ratio %s\n", s.number, s.blocks, s.records, s.stored, ratio(s.raw, s.stored))
		for _, d := range s.damage {
			c.print("  %v\n", d)
		}
	}
}

func (t *tracker) disorderInto(r *Report) {
	r.Disorder = int64(t.disorder)
	r.Missing = t.missing
	for _, m := range t.missing {
		if !m.Known {
			r.Unexplained++
		}
	}
}

func (c *fsck) print(format string, args ...any) {
	if _, err := fmt.Fprintf(c.out, format, args...); err != nil && c.outer == nil {
		c.outer = err
	}
}

func ratio(raw, stored int64) string {
	if stored == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", float64(raw)/float64(stored))
}

func stamp(ts int64) string {
	if ts == 0 {
		return "?"
	}
	return time.Unix(0, ts).UTC().Format(time.RFC3339Nano)
}
