package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"
)

// TestNewerFormatIsRefused: a segment of a later format is not damage. Whoever took it
// for that would cut it out with fsck --repair, write behind it, or derive rows as if its
// inputs were lost.
func TestNewerFormatIsRefused(t *testing.T) {
	for name, change := range map[string]func(data []byte, first piece){
		"a header with its checksum": func(data []byte, first piece) {
			binary.LittleEndian.PutUint32(data[4:], formatVersion+1)
			n := int(first.off)
			binary.LittleEndian.PutUint32(data[n-8:], crc(data[:n-8]))
		},
		"a header of another layout": func(data []byte, _ piece) {
			binary.LittleEndian.PutUint32(data[4:], formatVersion+1)
			binary.LittleEndian.PutUint32(data[36:], 0xfffffff0) // no count of feeds
		},
		"a block of another codec": func(data []byte, first piece) {
			b := data[first.off:]
			b[16] = codecNewest + 1
			binary.LittleEndian.PutUint32(b[44:], crc(b[:44]))
		},
	} {
		fsys, _, at, _ := smallJournal(t, 12)
		data := fsys.names[segmentName("j", 3)].data
		change(data, at[3][0])
		before := slices.Clone(data)
		refused := func(what string, err error) {
			t.Helper()
			var newer *NewerError
			if !errors.As(err, &newer) || newer.Segment != 3 {
				t.Errorf("%s: %s: %v, want a refusal that names segment 3", name, what, err)
			}
		}
		_, err := Fsck(fsys, "j", false, io.Discard)
		refused("fsck", err)
		_, err = Fsck(fsys, "j", true, io.Discard)
		refused("repair", err)
		_, _, err = Open(fsys, "j", Options{})
		refused("the writer", err)
		r := NewReader(fsys, "j", Position{})
		for err = nil; err == nil; _, err = r.Next() {
		}
		refused("a reader", err)
		if !bytes.Equal(fsys.names[segmentName("j", 3)].data, before) {
			t.Errorf("%s: the segment was changed", name)
		}
		if names, _ := fsys.List("j"); len(names) != 3 && len(names) != 4 { // and a LOCK
			t.Errorf("%s: files were made: %v", name, names)
		}
	}
}
