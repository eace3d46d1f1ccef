package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/s2"
	"github.com/minio/minlz"
)

// windowBytes is read at once: many blocks, and small enough to throw away.
const windowBytes = 256 << 10

// window is a file's bytes read ahead.
type window struct {
	f   File
	buf []byte
	off int64
}

// at returns n bytes from off, fewer only where the file ends. They are valid
// until the next call.
func (w *window) at(off int64, n int) ([]byte, error) {
	if d := off - w.off; d >= 0 && d+int64(n) <= int64(len(w.buf)) {
		return w.buf[d : d+int64(n)], nil
	}
	if n > windowBytes { // before memory is taken for it
		size, err := w.f.Size()
		if err != nil {
			return nil, err
		}
		n = int(max(min(int64(n), size-off), 0))
	}
	want := max(n, windowBytes)
	w.buf = grow(w.buf, want)
	got, err := w.f.ReadAt(w.buf[:want], off)
	w.buf, w.off = w.buf[:got], off
	if err != nil && !errors.Is(err, io.EOF) {
		w.buf = w.buf[:0]
		return nil, err
	}
	return w.buf[:min(n, got)], nil
}

// drop forgets what was read: the file may have changed.
func (w *window) drop() { w.buf = w.buf[:0] }

// grow returns a buffer of n bytes, b itself if it will do. After a very large
// record it gives the memory back.
func grow(b []byte, n int) []byte {
	if cap(b) < n || cap(b) > 1<<20 && n <= windowBytes {
		return make([]byte, n)
	}
	return b[:n]
}

// scan reads the blocks of one segment in order, and finds its way over damage.
type scan struct {
	win     window
	segment uint64
	head    segmentHead
	headOK  bool // head was read and is valid

	off     int64  // where the next block has to begin
	number  uint64 // which number it has to have
	anyNum  bool   // reading began in the middle: any number will do
	started bool   // the header is behind us

	// A tail that holds no whole block was searched up to this size from this
	// place; it is not searched again before the file grows.
	searchedOff, searchedSize int64

	// wasted counts bytes of payload that belonged to valid headers and were not
	// valid themselves, while searching. A forged file could make the search
	// quadratic; past eight times the file the rest is taken for damage.
	wasted int64

	// The block that next has returned; raw borrows until the next call.
	block    blockHead
	raw      []byte
	from     int64 // where it begins
	unpacked []byte

	// The damage that next has returned.
	lostOff, lostBytes, lostBlocks int64
	lostNumber                     uint64 // number of the first lost block
	repaired                       bool
}

func newScan(f File, segment uint64) *scan {
	return &scan{win: window{f: f}, segment: segment, searchedOff: -1}
}

type outcome uint8

const (
	gotBlock   outcome = iota // block, raw, from
	gotDamage                 // lost..., repaired; off is at the next valid block
	gotEnd                    // no further whole block; see tail
	gotSegment                // of a walk: a segment was begun, its header has been read if it can be
)

// next steps over one block or one damaged range. At the end, tail says what
// lies between off and the end of the file, size. An error is the disk's; the
// call may be repeated.
func (s *scan) next() (o outcome, tail verdict, size int64, err error) {
	if !s.started {
		return s.start()
	}
	for fresh := false; ; fresh = true {
		h, v, err := s.check(s.off)
		if err != nil {
			return gotEnd, bad, 0, err
		}
		if v == none {
			return gotEnd, none, s.off, nil
		}
		if v == whole {
			return s.take(h), none, 0, nil
		}
		// What is in memory may be older than the file: the writer cuts a failed
		// write off and writes the block again in its place.
		if !fresh {
			s.win.drop()
			continue
		}
		// A block in the place where one is due, whole but for a codec that we do not
		// know, is a later deeptape's. (In a search it may be a frame's own bytes.)
		if h.segment == s.segment && h.codec > codecNewest && (s.anyNum || uint64(h.number) == s.number) {
			return gotEnd, bad, 0, &NewerError{Segment: s.segment, Codec: h.codec}
		}
		return s.search(v)
	}
}

// take makes the block that was found at off the current one.
func (s *scan) take(h blockHead) outcome {
	if skip := int64(h.number) - int64(s.number); skip > 0 && !s.anyNum {
		s.lostOff, s.lostBytes, s.lostBlocks, s.lostNumber, s.repaired = s.off, 0, skip, s.number, false
		s.number = uint64(h.number)
		return gotDamage
	}
	s.anyNum = false
	s.block, s.from = h, s.off
	s.off += blockHeadSize + int64(h.stored)
	s.number = uint64(h.number) + 1
	if h.codec != codecHole {
		return gotBlock
	}
	gone := parseHole(s.raw)
	s.lostOff, s.lostBytes, s.lostBlocks, s.repaired = int64(gone.offset), int64(gone.bytes), int64(gone.blocks), true
	s.lostNumber = uint64(h.number)
	s.number = s.lostNumber + gone.blocks
	s.raw = nil
	return gotDamage
}

// readHead reads the header; off is then behind it, if it is whole. An error is the
// disk's, or a *NewerError.
func (s *scan) readHead() (verdict, error) {
	s.win.drop()
	fix, err := s.win.at(0, segmentFixSize)
	if err != nil {
		return bad, err
	}
	n, v := segmentHeadLen(fix)
	if format, newer := newerFormat(fix); newer {
		b, err := s.win.at(0, max(n, segmentFixSize))
		if err != nil {
			return bad, err
		}
		if !rottenFormat(b) {
			return bad, &NewerError{Segment: s.segment, Format: format}
		}
	}
	if v != whole {
		return v, nil
	}
	b, err := s.win.at(0, n) // at most 1.5 MiB
	if err != nil {
		return bad, err
	}
	if len(b) < n {
		return torn, nil
	}
	h, ok := parseSegmentHead(b)
	if !ok || h.number != s.segment {
		return bad, nil
	}
	s.head, s.headOK, s.off = h, true, int64(n)
	return whole, nil
}

// start reads the header and then the first block.
func (s *scan) start() (o outcome, tail verdict, size int64, err error) {
	v, err := s.readHead()
	switch {
	case err != nil:
		return gotEnd, bad, 0, err
	case v == whole:
		s.started = true
		return s.next()
	case v == none:
		return gotEnd, none, 0, nil
	}
	o, tail, size, err = s.search(v)
	s.started = o == gotDamage
	return o, tail, size, err
}

// begin starts in the middle. It is false if no valid block is there, and then
// nothing has changed.
func (s *scan) begin(off int64) (bool, error) {
	s.anyNum = true
	_, v, err := s.check(off)
	if err != nil || v != whole {
		s.anyNum = false
		return false, err
	}
	s.started, s.off = true, off
	return true, nil
}

// check looks at what is at off. If it is a whole block of this segment that may
// come next, raw holds its records.
func (s *scan) check(off int64) (blockHead, verdict, error) {
	b, err := s.win.at(off, blockHeadSize)
	if err != nil {
		return blockHead{}, bad, err
	}
	if len(b) == 0 {
		return blockHead{}, none, nil
	}
	if len(b) < blockHeadSize {
		return blockHead{}, torn, nil
	}
	h, ok := parseBlockHead(b)
	if !ok || h.segment != s.segment || !s.anyNum && uint64(h.number) < s.number {
		return h, bad, nil
	}
	b, err = s.win.at(off, blockHeadSize+int(h.stored))
	if err != nil {
		return h, bad, err
	}
	if len(b) < blockHeadSize+int(h.stored) {
		return h, torn, nil
	}
	if !s.unpack(h, b[blockHeadSize:]) {
		s.wasted += int64(h.stored)
		return h, bad, nil
	}
	return h, whole, nil
}

// unpack checks a payload and puts its records into raw.
func (s *scan) unpack(h blockHead, p []byte) bool {
	if crc(p) != h.payloadCRC {
		return false
	}
	switch h.codec {
	case codecHole:
		s.raw = p
		g := parseHole(p)
		return g.blocks <= math.MaxUint32 && g.offset <= math.MaxInt64 && g.bytes <= math.MaxInt64
	case codecMinLZ, codecS2:
		decodedLen, decode := minlz.DecodedLen, minlz.Decode
		if h.codec == codecS2 {
			decodedLen, decode = s2.DecodedLen, s2.Decode
		}
		if n, err := decodedLen(p); err != nil || n != int(h.raw) {
			return false
		}
		s.unpacked = grow(s.unpacked, int(h.raw))
		raw, err := decode(s.unpacked, p)
		if err != nil {
			return false
		}
		s.raw = raw
	case codecZstd:
		if !credible(int(h.raw), len(p)) {
			return false
		}
		s.unpacked = grow(s.unpacked, int(h.raw))
		if !unzstd(s.unpacked, p) {
			return false
		}
		s.raw = s.unpacked
	default:
		s.raw = p
	}
	n, ok := countRecords(s.raw)
	return ok && n == h.records
}

// search looks for the next whole block behind off, where v was found.
func (s *scan) search(v verdict) (o outcome, tail verdict, size int64, err error) {
	size, err = s.win.f.Size()
	if err != nil {
		return gotEnd, bad, 0, err
	}
	if s.searchedOff == s.off && s.searchedSize == size {
		return gotEnd, v, size, nil
	}
	at, h, err := s.find(s.off+1, size)
	if err != nil {
		return gotEnd, bad, 0, err
	}
	// The writer may have been at this place when we looked first. If there is a
	// block behind it now, it is done with it: look again.
	if s.started {
		s.win.drop()
		again, v2, err := s.check(s.off)
		if err != nil {
			return gotEnd, bad, 0, err
		}
		if v2 == whole {
			return s.take(again), none, 0, nil
		}
		v = v2
	}
	if at < 0 {
		s.searchedOff, s.searchedSize = s.off, size
		return gotEnd, v, size, nil
	}
	s.lostOff, s.lostBytes, s.lostNumber, s.repaired = s.off, at-s.off, s.number, false
	s.lostBlocks = int64(h.number) - int64(s.number)
	if s.anyNum {
		s.lostBlocks = 0
	}
	s.off, s.number = at, uint64(h.number)
	return gotDamage, none, 0, nil
}

var magicBytes = []byte("DTJB")

// find returns the place of the first whole block from off on, or -1.
func (s *scan) find(off, size int64) (int64, blockHead, error) {
	for off < size {
		b, err := s.win.at(off, windowBytes/4)
		if err != nil {
			return -1, blockHead{}, err
		}
		i := bytes.Index(b, magicBytes)
		if i < 0 {
			if len(b) < windowBytes/4 {
				return -1, blockHead{}, nil
			}
			off += int64(len(b)) - 3
			continue
		}
		off += int64(i)
		if s.wasted > 8*size+windowBytes {
			return -1, blockHead{}, nil
		}
		h, v, err := s.check(off)
		if err != nil {
			return -1, blockHead{}, err
		}
		if v == whole {
			return off, h, nil
		}
		off++
	}
	return -1, blockHead{}, nil
}

// DamageError says that a part of the journal could not be read. It is returned
// once; reading goes on behind it.
type DamageError struct {
	Segment uint64
	Offset  int64 // in the segment's file; of the original, if Repaired
	Bytes   int64
	Blocks  int64 // that are gone, as far as the numbers of the others tell

	Torn     bool // a write that was cut short: nothing that Flush had confirmed
	Repaired bool // a hole that Fsck has left
	Missing  bool // the segment's file is not there

	number uint64 // of the first lost block
}

func (e *DamageError) Error() string {
	switch {
	case e.Missing:
		return fmt.Sprintf("journal segment %012d is missing, with %d blocks", e.Segment, e.Blocks)
	case e.Torn:
		return fmt.Sprintf("journal segment %012d ends in a torn write of %d bytes at offset %d", e.Segment, e.Bytes, e.Offset)
	case e.Repaired:
		return fmt.Sprintf("journal segment %012d had damage of %d bytes at offset %d, since repaired: %d blocks are gone", e.Segment, e.Bytes, e.Offset, e.Blocks)
	}
	return fmt.Sprintf("journal segment %012d is damaged: %d bytes at offset %d, %d blocks are gone", e.Segment, e.Bytes, e.Offset, e.Blocks)
}
