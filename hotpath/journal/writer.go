package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"

	"github.com/minio/minlz"

	"deeptape/hotpath/event"
)

// ErrRecord means that the bytes given to Append are not one whole record of at
// most MaxRecordBytes.
var ErrRecord = errors.New("not one whole input record")

// ErrClosed means that the writer was closed.
var ErrClosed = errors.New("journal is closed")

// Options of a writer.
type Options struct {
	SegmentBytes int64 // a segment ends before the block that would make it larger; 0: 128 MiB
}

// Stats counts what a writer did since Open.
type Stats struct {
	Records, Blocks, Segments uint64
	RawBytes, StoredBytes     uint64
	WriteErrors, SyncErrors   uint64
	UnsyncedBytes             uint64 // written, and then a Sync of them failed; see Writer.Unsynced
}

// Writer appends records. It belongs to one goroutine and starts none: it does
// something only within a call.
type Writer struct {
	fs   FS
	dir  string
	opt  Options
	lock io.Closer

	f        File   // the current segment; nil: the next Flush creates it
	segment  uint64 // its number, or the one it will get
	off      int64  // its length; every block below off is whole
	synced   int64  // its length at the last Sync
	blocks   uint32 // in it
	newName  bool   // the directory has not been synced since it was created
	prev     uint64 // the segment before it, and how many blocks that one has
	prevBlks uint32

	raw     []byte // records of the block to come, whole ones only
	records uint32
	out     []byte // the block as it goes to the file
	ends    ends   // how far each feed is in the files; excludes raw
	stats   Stats
	closed  bool

	unsynced map[uint64]uint64 // segments that were left because a Sync failed: how many bytes it was to make durable
	syncErr  error             // why the last of those Syncs failed
}

// Append adds one whole record, as event.AppendInput makes it, to the current
// block. The record is on disk after the next Flush. An error means that rec was
// not taken: where the block had to be written first and that failed, the same
// call may be tried again.
func (w *Writer) Append(rec []byte) error {
	if len(rec) < event.InputHeadSize || len(rec) > MaxRecordBytes {
		return ErrRecord
	}
	if n := int(binary.LittleEndian.Uint32(rec)); n < event.InputHeadSize || event.Align(n) != len(rec) {
		return ErrRecord
	}
	if w.closed {
		return ErrClosed
	}
	if len(w.raw) > 0 && len(w.raw)+len(rec) > blockBytes {
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if need := len(w.raw) + len(rec); need > cap(w.raw) {
		// One large record; Flush gives the memory back.
		w.raw = append(make([]byte, 0, max(need, blockBytes)), w.raw...)
	}
	w.raw = append(w.raw, rec...)
	w.records++
	return nil
}

// PendingBytes returns how much Append has taken that no Flush has written.
func (w *Writer) PendingBytes() int { return len(w.raw) }

// Flush writes the current block. After nil, everything appended so far outlives
// this process, and readers see it. After an error nothing of the block is in
// the journal, nothing is forgotten, and Flush may be called again.
func (w *Writer) Flush() error {
	if w.closed {
		return ErrClosed
	}
	if len(w.raw) == 0 {
		return nil
	}
	n := blockHeadSize
	if need := n + max(len(w.raw), minlz.MaxEncodedLen(len(w.raw))); cap(w.out) < need {
		w.out = make([]byte, need)
	}
	w.out = w.out[:cap(w.out)]
	first, _, _ := event.GetInput(w.raw)
	h := blockHead{raw: uint32(len(w.raw)), records: w.records, codec: codecMinLZ, ts: first.Ts}
	p := compress(w.out[n:], w.raw)
	if p == nil || len(p) >= len(w.raw) {
		h.codec = codecRaw
		p = w.out[n : n+copy(w.out[n:], w.raw)]
	}
	n += len(p)
	if w.f != nil && w.blocks > 0 && (w.off+int64(n) > w.opt.SegmentBytes || w.blocks == math.MaxUint32) {
		if err := w.leave(true); err != nil {
			return err
		}
	}
	if w.f == nil {
		if err := w.create(first.Ts); err != nil {
			w.stats.WriteErrors++
			return err
		}
	}
	h.segment, h.number = w.segment, w.blocks
	putBlockHead(w.out, h, p)
	if err := w.write(w.out[:n]); err != nil {
		w.stats.WriteErrors++
		return err
	}
	w.blocks++
	w.stats.Blocks++
	w.stats.Records += uint64(w.records)
	w.stats.RawBytes += uint64(len(w.raw))
	w.stats.StoredBytes += uint64(n)
	for rest := w.raw; len(rest) > 0; {
		in, size, _ := event.GetInput(rest)
		w.ends.entry(in.Feed).raise(in.Pos, in.Ts)
		rest = rest[size:]
	}
	w.raw, w.records = w.raw[:0], 0
	if cap(w.raw) > 4*blockBytes {
		w.raw, w.out = make([]byte, 0, blockBytes), nil
	}
	return nil
}

// compress packs a block into dst; nil: it is too large for that, one record of more than
// 8 MiB. Blocks that only a flood fills within the time that a group may take are packed
// in the fastest way: the longer block gives back what that loses. Of the JSON of 150
// made streams:
//
//	256 KiB  fastest 0.282 at 1220 MB/s, balanced 0.229 at 660, s2 0.278 at 960
//	 60 KiB  fastest 0.308 at 1220 MB/s, balanced 0.258 at 680, s2 better 0.274 at 590
func compress(dst, raw []byte) []byte {
	level := minlz.LevelBalanced
	if len(raw) >= fastBytes {
		level = minlz.LevelSuperFast
	}
	p, err := minlz.Encode(dst, raw, level)
	if err != nil {
		return nil
	}
	return p
}

// write appends b to the segment, all of it or, as far as anyone can tell later,
// nothing.
func (w *Writer) write(b []byte) error {
	n, err := w.f.Write(b)
	if n == len(b) {
		w.off += int64(n)
		return nil
	}
	if err == nil {
		err = io.ErrShortWrite
	}
	err = fmt.Errorf("cannot write a block of %d bytes to %q: %w", len(b), segmentName(w.dir, w.segment), err)
	if n > 0 {
		if cut := w.f.Truncate(w.off); cut != nil {
			// The torn tail stays, and the next header tells that it is one.
			err = errors.Join(err, fmt.Errorf("cannot cut the torn block off, going to a new segment: %w", cut), w.leave(true))
		}
	}
	return err
}

// create begins a segment. Its time is that of its first record.
func (w *Writer) create(ts int64) error {
	name := segmentName(w.dir, w.segment)
	f, err := w.fs.Create(name)
	if err != nil {
		return fmt.Errorf("cannot create journal segment %q: %w", name, err)
	}
	head := appendSegmentHead(nil, segmentHead{
		number: w.segment, ts: ts, prev: w.prev, prevBlocks: w.prevBlks, feeds: w.ends.sorted(),
	})
	n, err := f.Write(head)
	if n < len(head) {
		if err == nil {
			err = io.ErrShortWrite
		}
		f.Close()
		if w.fs.Remove(name) != nil {
			w.segment++ // what is left there is no segment, and readers see that
		}
		return fmt.Errorf("cannot write the header of %q: %w", name, err)
	}
	w.f, w.off, w.synced, w.blocks, w.newName = f, int64(n), 0, 0, true
	w.stats.Segments++
	w.stats.StoredBytes += uint64(n)
	return nil
}

// leave closes the segment, so that the next Flush begins a new one. With sync,
// what is in it is made durable first; an error says that it may not be.
func (w *Writer) leave(sync bool) error {
	var err error
	if sync {
		err = w.syncSegment()
	}
	if w.f == nil {
		return err // syncSegment left it
	}
	w.f.Close() // everything is written; what close could report, Sync has
	w.f = nil
	w.prev, w.prevBlks = w.segment, w.blocks
	w.segment++
	w.off, w.synced, w.blocks = 0, 0, 0
	return err
}

// syncSegment makes what was written durable. If that fails it leaves the
// segment: a second fsync of the same pages would say that all is well.
func (w *Writer) syncSegment() error {
	if w.f == nil || w.synced == w.off {
		return nil
	}
	err := w.f.Sync()
	if err == nil && w.newName {
		if err = w.fs.SyncDir(w.dir); err == nil {
			w.newName = false
		}
	}
	if err == nil {
		w.synced = w.off
		return nil
	}
	err = fmt.Errorf("cannot sync %q: %w", segmentName(w.dir, w.segment), err)
	w.stats.SyncErrors++
	w.stats.UnsyncedBytes += uint64(w.off - w.synced)
	if w.unsynced == nil {
		w.unsynced = map[uint64]uint64{}
	}
	w.unsynced[w.segment], w.syncErr = uint64(w.off-w.synced), err
	w.leave(false)
	return err
}

// Sync flushes, and then makes everything that was written durable: after nil it
// outlives a power loss. Call it as often as a power loss may cost; kill -9 costs
// nothing that Flush has written, with or without Sync. After an error, bytes
// written since the Sync before may or may not be durable, and no later Sync
// speaks for them.
func (w *Writer) Sync() error {
	if err := w.Flush(); err != nil {
		return err
	}
	return w.syncSegment()
}

// Unsynced returns how many bytes a power loss may take although a Sync was to make them
// durable, and why the last such Sync failed; 0 and nil where there are none. No later Sync
// speaks for them, because the kernel forgets what it could not write: they are durable
// once their segment has been written again, by Pack and Adopt, and gone with RemoveBefore.
func (w *Writer) Unsynced() (bytes uint64, why error) {
	for _, n := range w.unsynced {
		bytes += n
	}
	if bytes == 0 {
		return 0, nil
	}
	return bytes, w.syncErr
}

// Rotate flushes and ends the current segment, if it has any block. The next
// block begins a new one. After an error from the flush nothing was rotated.
func (w *Writer) Rotate() error {
	if err := w.Flush(); err != nil {
		return err
	}
	if w.f == nil || w.blocks == 0 {
		return nil
	}
	return w.leave(true)
}

// Position returns where the next block will be. If Flush then begins a new
// segment, a reader finds that by itself.
func (w *Writer) Position() Position { return Position{w.segment, w.off} }

// Stats returns the counts up to now.
func (w *Writer) Stats() Stats { return w.stats }

// RemoveBefore removes all segments that are older than the given one, oldest
// first, and returns how many. It never removes the current one. What is in them
// is gone: the caller has made sure that nobody needs it.
func (w *Writer) RemoveBefore(segment uint64) (removed int, err error) {
	if w.closed {
		return 0, ErrClosed
	}
	list, _, err := listSegments(w.fs, w.dir)
	if err != nil {
		return 0, err
	}
	for _, n := range list {
		if n >= segment || n >= w.segment {
			break
		}
		if err := w.fs.Remove(segmentName(w.dir, n)); err != nil {
			return removed, fmt.Errorf("cannot remove a journal segment: %w", err)
		}
		delete(w.unsynced, n)
		removed++
	}
	return removed, nil
}

// Close flushes, syncs, and gives up the lock, whatever happens. An error says
// what may not be on disk.
func (w *Writer) Close() error {
	if w.closed {
		return ErrClosed
	}
	err := w.Sync()
	if n := w.records; n > 0 {
		err = fmt.Errorf("cannot write the last %d records of journal %q: %w", n, w.dir, err)
	}
	if w.f != nil {
		w.f.Close()
		w.f = nil
	}
	w.closed = true
	if e := w.lock.Close(); e != nil {
		err = errors.Join(err, fmt.Errorf("cannot unlock journal %q: %w", filepath.Clean(w.dir), e))
	}
	return err
}
