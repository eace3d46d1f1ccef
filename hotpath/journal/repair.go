package journal

import (
	"errors"
	"fmt"
	"io"
	"strconv"
)

// repair writes a segment anew, with holes where damage was, beside the old one,
// and then puts it in its place. Until the rename, which is atomic, the old one
// is what readers find; after it, the old one has the name that ends in .damaged.
func (c *fsck) repair(s *segmentCheck) (err error) {
	name := segmentName(c.dir, s.number)
	tmp := name + tmpExt
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot repair %q: %w", name, err)
		}
	}()
	if err := c.fs.Remove(tmp); err != nil && !isNotExist(err) {
		return err
	}
	if err := c.rewrite(s, name, tmp); err != nil {
		return err
	}
	kept := ""
	if !s.missing {
		if kept, err = c.keep(name); err != nil {
			return err
		}
	}
	if err := c.fs.Rename(tmp, name); err != nil {
		return err
	}
	if err := c.fs.SyncDir(c.dir); err != nil {
		return err
	}
	for _, d := range s.damage {
		if !d.Torn && !d.Repaired {
			c.r.Mended++
		}
	}
	if kept != "" {
		c.print("repaired %s; the original is %s\n", name, kept)
	} else {
		c.print("repaired %s; it had been missing\n", name)
	}
	return nil
}

// keep gives the original a second name, one that nothing has yet.
func (c *fsck) keep(name string) (string, error) {
	for i := 1; ; i++ {
		kept := name + damagedExt
		if i > 1 {
			kept += strconv.Itoa(i)
		}
		f, err := c.fs.Open(kept)
		if err == nil {
			f.Close()
			continue
		}
		if !isNotExist(err) {
			return "", err
		}
		return kept, c.fs.Link(name, kept)
	}
}

// rewrite makes the file tmp, and reads it back.
func (c *fsck) rewrite(s *segmentCheck, name, tmp string) (err error) {
	to, err := c.fs.Create(tmp)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	var from File
	if !s.missing {
		if from, err = c.fs.Open(name); err != nil {
			return err
		}
		defer from.Close()
	}
	if err := put(to, appendSegmentHead(nil, s.head)); err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for _, p := range s.pieces {
		if d := p.hole; d != nil {
			b := appendHole(make([]byte, blockHeadSize), hole{uint64(d.Offset), uint64(d.Bytes), uint64(d.Blocks)})
			putBlockHead(b, blockHead{codec: codecHole, number: uint32(d.number), segment: s.number}, b[blockHeadSize:])
			if err := put(to, b); err != nil {
				return err
			}
		}
		for off, n := p.off, p.n; n > 0; {
			b := buf[:min(n, int64(len(buf)))]
			if got, err := from.ReadAt(b, off); got < len(b) {
				return err
			}
			if err := put(to, b); err != nil {
				return err
			}
			off += int64(len(b))
			n -= int64(len(b))
		}
	}
	if err := to.Sync(); err != nil {
		return err
	}
	return readBack(to, s)
}

func put(f File, b []byte) error {
	if n, err := f.Write(b); n < len(b) {
		if err == nil {
			err = io.ErrShortWrite
		}
		return err
	}
	return nil
}

// readBack makes sure that the new file holds everything that was readable in
// the old one, and no damage.
func readBack(f File, s *segmentCheck) error {
	k := newScan(f, s.number)
	var blocks, records int64
	for {
		o, tail, _, err := k.next()
		switch {
		case err != nil:
			return err
		case o == gotBlock:
			blocks++
			records += int64(k.block.records)
		case o == gotDamage && !k.repaired:
			return fmt.Errorf("what was written has damage at offset %d", k.lostOff)
		case o == gotEnd:
			if tail != none || blocks != s.blocks || records != s.records || !k.headOK {
				return fmt.Errorf("what was written has %d blocks and %d records, want %d and %d", blocks, records, s.blocks, s.records)
			}
			return nil
		}
	}
}
