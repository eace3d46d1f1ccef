package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"deeptape/hotpath/event"
)

const (
	formatVersion = 1

	segmentMagic = 0x534a5444 // "DTJS"
	blockMagic   = 0x424a5444 // "DTJB"

	codecRaw   = 0
	codecS2    = 1 // by deeptape of before December 2026
	codecHole  = 2 // no records: stands where Fsck has taken damage out
	codecZstd  = 3 // by Pack
	codecMinLZ = 4

	codecNewest = codecMinLZ

	blockHeadSize   = 48
	segmentFixSize  = 40 // header before its table
	feedEntrySize   = 24
	segmentTailSize = 8
	holeSize        = 24

	// blockBytes closes a block: large enough that what repeats is found, small
	// enough that damage costs a fraction of a second of a busy feed.
	blockBytes = 256 << 10

	// fastBytes is the length from which a block is packed in the fastest way.
	fastBytes = 128 << 10

	// MaxRecordBytes is the largest record: 64 MiB of data and its head.
	MaxRecordBytes = 64<<20 + event.InputHeadSize

	maxStored = MaxRecordBytes + MaxRecordBytes/64 + 1024 // no packed block of a record is larger
	maxFeeds  = 1 << 16
	noTable   = 1 << 31 // instead of a count of feeds
	maxFormat = 1 << 16 // a greater number is no format of any deeptape but damage
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func crc(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// FeedEnd is how far the journal has one feed.
type FeedEnd struct {
	Feed uint16
	Pos  uint64 // highest
	Ts   int64  // highest, ns
}

type segmentHead struct {
	number     uint64
	ts         int64
	prev       uint64 // 0: this is the first
	prevBlocks uint32 // how many blocks the writer knew the previous one to have
	feeds      []FeedEnd
	noTable    bool // made by a repair, which cannot know the table
}

func segmentHeadSize(feeds int) int {
	return segmentFixSize + feeds*feedEntrySize + segmentTailSize
}

func appendSegmentHead(dst []byte, h segmentHead) []byte {
	le := binary.LittleEndian
	at := len(dst)
	dst = le.AppendUint32(dst, segmentMagic)
	dst = le.AppendUint32(dst, formatVersion)
	dst = le.AppendUint64(dst, h.number)
	dst = le.AppendUint64(dst, uint64(h.ts))
	dst = le.AppendUint64(dst, h.prev)
	dst = le.AppendUint32(dst, h.prevBlocks)
	n := uint32(len(h.feeds))
	if h.noTable {
		n = noTable
	}
	dst = le.AppendUint32(dst, n)
	for _, f := range h.feeds {
		dst = le.AppendUint64(dst, uint64(f.Feed))
		dst = le.AppendUint64(dst, f.Pos)
		dst = le.AppendUint64(dst, uint64(f.Ts))
	}
	dst = le.AppendUint32(dst, crc(dst[at:]))
	return le.AppendUint32(dst, 0)
}

// verdict is what the bytes at a place turned out to be.
type verdict uint8

const (
	whole verdict = iota // valid, all of it
	none                 // no bytes
	torn                 // the beginning of something valid, up to the end of the file
	bad                  // not valid
)

// NewerError says that a segment was written by a later deeptape, in a format that this
// one does not know. It is not damage: nothing may be taken out of such a journal, put
// behind it, or derived from the rest of it.
type NewerError struct {
	Segment uint64
	Format  uint32 // that the segment says of itself; 0: ours, but it has a block of
	Codec   uint8  // this codec
}

func (e *NewerError) Error() string {
	if e.Format == 0 {
		return fmt.Sprintf("journal segment %012d has a block of codec %d, and this deeptape knows codecs up to %d: use the newer deeptape that wrote it, which reads older ones too", e.Segment, e.Codec, codecNewest)
	}
	return fmt.Sprintf("journal segment %012d has format %d, and this deeptape knows formats up to %d: use the newer deeptape that wrote it, which reads older ones too", e.Segment, e.Format, formatVersion)
}

// newerFormat says whether a header with the magic, of which b holds the first
// segmentFixSize bytes or more, is of a later format. What comes behind the number of the
// format may be anything then. A header of our own format whose number has rotted is
// damage; it is known by its checksum, which holds for the number that it had.
func newerFormat(b []byte) (format uint32, newer bool) {
	le := binary.LittleEndian
	if len(b) < 8 || le.Uint32(b) != segmentMagic {
		return 0, false
	}
	format = le.Uint32(b[4:])
	return format, format > formatVersion && format <= maxFormat
}

// rottenFormat says whether b, a whole header by its own count of feeds, has nothing
// wrong but the number of its format.
func rottenFormat(b []byte) bool {
	n, v := segmentHeadLen(b[:min(len(b), segmentFixSize)])
	if v != whole || n > len(b) {
		return false
	}
	own := slices.Clone(b[:n])
	binary.LittleEndian.PutUint32(own[4:], formatVersion)
	_, ok := parseSegmentHead(own)
	return ok
}

// segmentHeadLen says how long the header is that begins with b. b has up to
// segmentFixSize bytes.
func segmentHeadLen(b []byte) (int, verdict) {
	le := binary.LittleEndian
	switch {
	case len(b) == 0:
		return 0, none
	case len(b) < segmentFixSize:
		return 0, torn
	case le.Uint32(b) != segmentMagic:
		return 0, bad
	case le.Uint32(b[36:]) == noTable:
		return segmentHeadSize(0), whole
	case le.Uint32(b[36:]) > maxFeeds:
		return 0, bad
	}
	return segmentHeadSize(int(le.Uint32(b[36:]))), whole
}

// parseSegmentHead reads a header of exactly len(b) bytes.
func parseSegmentHead(b []byte) (h segmentHead, ok bool) {
	le := binary.LittleEndian
	n, v := segmentHeadLen(b[:min(len(b), segmentFixSize)])
	if v != whole || n != len(b) {
		return h, false
	}
	if le.Uint32(b[n-8:]) != crc(b[:n-8]) || le.Uint32(b[n-4:]) != 0 || le.Uint32(b[4:]) != formatVersion {
		return h, false
	}
	h.number = le.Uint64(b[8:])
	h.ts = int64(le.Uint64(b[16:]))
	h.prev = le.Uint64(b[24:])
	h.prevBlocks = le.Uint32(b[32:])
	h.noTable = le.Uint32(b[36:]) == noTable
	for e := b[segmentFixSize : n-8]; len(e) > 0; e = e[feedEntrySize:] {
		h.feeds = append(h.feeds, FeedEnd{le.Uint16(e), le.Uint64(e[8:]), int64(le.Uint64(e[16:]))})
	}
	return h, true
}

type blockHead struct {
	stored, raw, records uint32
	codec                uint8
	number               uint32
	segment              uint64
	ts                   int64
	payloadCRC           uint32
}

// putBlockHead writes the header of the payload p to b.
func putBlockHead(b []byte, h blockHead, p []byte) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], blockMagic)
	le.PutUint32(b[4:], uint32(len(p)))
	le.PutUint32(b[8:], h.raw)
	le.PutUint32(b[12:], h.records)
	le.PutUint32(b[16:], uint32(h.codec))
	le.PutUint32(b[20:], h.number)
	le.PutUint64(b[24:], h.segment)
	le.PutUint64(b[32:], uint64(h.ts))
	le.PutUint32(b[40:], crc(p))
	le.PutUint32(b[44:], crc(b[:44]))
}

// parseBlockHead reads a header; ok says that its CRC holds and that its numbers
// are possible.
func parseBlockHead(b []byte) (h blockHead, ok bool) {
	le := binary.LittleEndian
	if le.Uint32(b) != blockMagic || le.Uint32(b[44:]) != crc(b[:44]) {
		return h, false
	}
	h = blockHead{
		stored: le.Uint32(b[4:]), raw: le.Uint32(b[8:]), records: le.Uint32(b[12:]),
		codec: b[16], number: le.Uint32(b[20:]), segment: le.Uint64(b[24:]),
		ts: int64(le.Uint64(b[32:])), payloadCRC: le.Uint32(b[40:]),
	}
	if h.stored > maxStored || h.raw > MaxRecordBytes || b[17]|b[18]|b[19] != 0 {
		return h, false
	}
	switch h.codec {
	case codecRaw:
		ok = h.stored == h.raw && h.records > 0
	case codecS2, codecZstd, codecMinLZ:
		ok = h.records > 0
	case codecHole:
		ok = h.stored == holeSize && h.raw == 0 && h.records == 0
	}
	return h, ok
}

// hole is the payload of a block that stands for damage: where it was, in the
// original file, and how many blocks are gone.
type hole struct{ offset, bytes, blocks uint64 }

func appendHole(dst []byte, h hole) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, h.offset)
	dst = binary.LittleEndian.AppendUint64(dst, h.bytes)
	return binary.LittleEndian.AppendUint64(dst, h.blocks)
}

func parseHole(b []byte) hole {
	le := binary.LittleEndian
	return hole{le.Uint64(b), le.Uint64(b[8:]), le.Uint64(b[16:])}
}

// countRecords walks the records of a raw payload; ok says that they fill it.
func countRecords(raw []byte) (n uint32, ok bool) {
	for len(raw) > 0 {
		_, size, err := event.GetInput(raw)
		if err != nil {
			return n, false
		}
		raw = raw[size:]
		n++
	}
	return n, true
}

// eachRecord calls f for every record of a checked payload.
func eachRecord(raw []byte, f func(feed uint16, pos uint64, ts int64)) {
	for len(raw) > 0 {
		in, size, err := event.GetInput(raw)
		if err != nil {
			panic("BUG: a checked block does not hold whole records")
		}
		f(in.Feed, in.Pos, in.Ts)
		raw = raw[size:]
	}
}

// ends keeps how far each feed has come.
type ends struct {
	at   map[uint16]int // place in list
	list []FeedEnd
	last int // in list: inputs of one feed come one after the other
}

func newEnds() ends { return ends{at: map[uint16]int{}} }

func (e *ends) entry(feed uint16) *FeedEnd {
	if e.last < len(e.list) && e.list[e.last].Feed == feed {
		return &e.list[e.last]
	}
	i, ok := e.at[feed]
	if !ok {
		i = len(e.list)
		e.at[feed] = i
		e.list = append(e.list, FeedEnd{Feed: feed})
	}
	e.last = i
	return &e.list[i]
}

func (f *FeedEnd) raise(pos uint64, ts int64) {
	if pos > f.Pos {
		f.Pos = pos
	}
	if ts > f.Ts {
		f.Ts = ts
	}
}

// sorted returns a copy in the order of feeds.
func (e *ends) sorted() []FeedEnd {
	s := slices.Clone(e.list)
	slices.SortFunc(s, func(a, b FeedEnd) int { return int(a.Feed) - int(b.Feed) })
	return s
}
