package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// The writer packs blocks fast, see compress. A segment that is complete can be packed
// again with zstd, which has an entropy coder: a journal is digits for the most part, and
// those it nearly halves. Per MB of the BTCUSDT recording in blocks of 64 KiB:
//
//	s2 0.208 at 1000 MB/s, zstd fastest 0.123 at 400, default 0.127 at 330,
//	better 0.121 at 180, best 0.110 at 43
//
// and of 150 made streams: 0.325, 0.199, 0.198, 0.191, 0.176.

// packer makes one zstd frame of a block. Its memory is some MB, whatever a record is.
var packer = sync.OnceValues(func() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithEncoderCRC(false))
})

// unpacker never writes more than it was given room for.
var unpacker = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxRecordBytes), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxWindow(8<<20))
})

// credible says whether a packed block may hold so much. A frame that unpacks to more
// than a thousandfold is forged, and no memory is taken on its word.
func credible(raw, packed int) bool { return raw <= 1024*(packed+64) }

// unzstd unpacks p into dst, whose length is what it must fill.
func unzstd(dst, p []byte) bool {
	z, err := unpacker()
	if err != nil {
		return false
	}
	got, err := z.DecodeAll(p, dst[:0:len(dst)])
	return err == nil && len(got) == len(dst)
}

// ErrNotPacked means that a segment was left as it is: it is packed already, or is not
// as its writer left it.
var ErrNotPacked = errors.New("the segment stays as it is")

// Pack writes a complete segment anew, beside it, block for block in less room, and
// reads it back; Writer.Adopt then puts it in its place. The same records, in the same
// blocks: readers cannot tell. A segment with damage, holes or a torn end is left alone,
// so that what is known of it stays known. rest is called before every block; its
// error ends the work, and nothing is left of it.
//
// Whoever calls it holds the journal's lock through a Writer, and packs no segment that
// the Writer may still write to.
func Pack(fsys FS, dir string, number uint64, rest func() error) (before, after int64, err error) {
	name := segmentName(dir, number)
	tmp := name + tmpExt
	if err := fsys.Remove(tmp); err != nil && !isNotExist(err) {
		return 0, 0, fmt.Errorf("cannot pack %q: %w", name, err)
	}
	from, err := fsys.Open(name)
	if err != nil {
		return 0, 0, fmt.Errorf("cannot pack %q: %w", name, err)
	}
	defer from.Close()
	to, err := fsys.Create(tmp)
	if err != nil {
		return 0, 0, fmt.Errorf("cannot pack %q: %w", name, err)
	}
	before, after, err = pack(from, to, number, rest)
	if err = errors.Join(err, to.Close()); err != nil {
		if gone := fsys.Remove(tmp); gone != nil {
			err = errors.Join(err, gone)
		}
		return 0, 0, fmt.Errorf("cannot pack %q: %w", name, err)
	}
	return before, after, nil
}

func pack(from, to File, number uint64, rest func() error) (before, after int64, err error) {
	z, err := packer()
	if err != nil {
		return 0, 0, err
	}
	k := newScan(from, number)
	if v, err := k.readHead(); err != nil || v != whole {
		return 0, 0, errors.Join(err, ErrNotPacked)
	}
	k.started = true
	w := packing{to: to}
	if head, err := k.win.at(0, int(k.off)); err != nil {
		return 0, 0, err
	} else if err := w.put(head); err != nil {
		return 0, 0, err
	}
	var out, check []byte
	var blocks, records int64
	for {
		if err := rest(); err != nil {
			return 0, 0, err
		}
		o, tail, size, err := k.next()
		switch {
		case err != nil:
			return 0, 0, err
		case o == gotDamage, o == gotEnd && (tail != none || blocks == 0), o == gotBlock && k.block.codec == codecZstd:
			return 0, 0, ErrNotPacked
		case o == gotEnd:
			if err := errors.Join(w.flush(), to.Sync()); err != nil {
				return 0, 0, err
			}
			if err := readBack(to, &segmentCheck{number: number, blocks: blocks, records: records}); err != nil {
				return 0, 0, err
			}
			return size, w.bytes, nil
		}
		blocks++
		records += int64(k.block.records)
		if cap(out) > 4*blockBytes { // after a very large record
			out, check = nil, nil
		}
		if cap(out) < blockHeadSize {
			out = make([]byte, blockHeadSize, 2*blockBytes)
		}
		out = z.EncodeAll(k.raw, out[:blockHeadSize])
		h := k.block
		if n := len(out) - blockHeadSize; n >= int(h.stored) || !credible(len(k.raw), n) {
			// It takes no less room this way, or nobody would believe it.
			b, err := k.win.at(k.from, blockHeadSize+int(h.stored))
			if err != nil {
				return 0, 0, err
			}
			if err := w.put(b); err != nil {
				return 0, 0, err
			}
			continue
		}
		check = grow(check, len(k.raw))
		if !unzstd(check, out[blockHeadSize:]) || !bytes.Equal(check, k.raw) || len(out) > math.MaxUint32 {
			return 0, 0, fmt.Errorf("BUG: block %d does not come back as it was", h.number)
		}
		h.codec = codecZstd
		putBlockHead(out, h, out[blockHeadSize:])
		if err := w.put(out); err != nil {
			return 0, 0, err
		}
	}
}

// packing gathers small writes.
type packing struct {
	to    File
	buf   []byte
	bytes int64
}

func (w *packing) put(b []byte) error {
	w.bytes += int64(len(b))
	if w.buf = append(w.buf, b...); len(w.buf) < 1<<20 {
		return nil
	}
	return w.flush()
}

func (w *packing) flush() error {
	err := put(w.to, w.buf)
	w.buf = w.buf[:0]
	return err
}

// Adopt puts what Pack has made in the place of its segment. It is the writer's to do
// because RemoveBefore is: a segment that has been removed meanwhile does not come
// back. Who reads the old file goes on reading it.
func (w *Writer) Adopt(number uint64) error {
	if w.closed {
		return ErrClosed
	}
	name := segmentName(w.dir, number)
	if number >= w.segment {
		return fmt.Errorf("BUG: %q is still written to", name)
	}
	f, err := w.fs.Open(name)
	if isNotExist(err) {
		return w.fs.Remove(name + tmpExt)
	}
	if err != nil {
		return fmt.Errorf("cannot replace %q: %w", name, err)
	}
	f.Close()
	if err := w.fs.Rename(name+tmpExt, name); err != nil {
		return fmt.Errorf("cannot replace %q: %w", name, err)
	}
	if err := w.fs.SyncDir(w.dir); err != nil {
		return err
	}
	delete(w.unsynced, number) // Pack has synced what stands there now
	return nil
}

// removeUnfinished removes what a process that has ended did not finish: a repair, or
// a packing. The lock is ours.
func removeUnfinished(fsys FS, dir string) error {
	names, err := fsys.List(dir)
	if err != nil {
		return fmt.Errorf("cannot list journal %q: %w", dir, err)
	}
	for _, name := range names {
		if n, rest, ok := parseName(name); ok && rest == tmpExt {
			if err := fsys.Remove(segmentName(dir, n) + tmpExt); err != nil && !isNotExist(err) {
				return fmt.Errorf("cannot remove what was not finished: %w", err)
			}
		}
	}
	return nil
}
