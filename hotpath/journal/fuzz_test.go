package journal

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"testing"
)

// seal makes the CRCs of whatever looks like a header right, so that the fuzzer
// comes past them.
func seal(b []byte) {
	le := binary.LittleEndian
	sum := func(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }
	if len(b) >= 48 && string(b[:4]) == "DTJS" {
		n := 40
		if feeds := le.Uint32(b[36:]); feeds < 1<<16 {
			n += int(feeds) * 24
		}
		if n+8 <= len(b) {
			le.PutUint32(b[n:], sum(b[:n]))
		}
	}
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte("DTJB"))
		if i < 0 || at+i+48 > len(b) {
			return
		}
		at += i
		h := b[at:]
		if n := int(le.Uint32(h[4:])); n <= len(h)-48 {
			le.PutUint32(h[40:], sum(h[48:48+n]))
		}
		le.PutUint32(h[44:], sum(h[:44]))
		at += 4
	}
}

// FuzzSegment reads a segment of arbitrary bytes, between two that are whole.
func FuzzSegment(f *testing.F) {
	fsys := newTestFS(nil)
	m := newModel(13)
	w, _, err := Open(fsys, "j", Options{})
	if err != nil {
		f.Fatal(err)
	}
	for range 3 {
		for range 3 {
			for range 3 {
				if err := w.Append(m.record(60)); err != nil {
					f.Fatal(err)
				}
			}
			if err := w.Flush(); err != nil {
				f.Fatal(err)
			}
		}
		if err := w.Rotate(); err != nil {
			f.Fatal(err)
		}
	}
	data := func(n uint64) []byte { return bytes.Clone(fsys.names[segmentName("j", n)].data) }
	middle := data(2)
	f.Add(middle, false, true)
	if _, _, err := Pack(fsys, "j", 2, noRest); err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.Clone(fsys.names[segmentName("j", 2)+tmpExt].data), true, false)
	delete(fsys.names, segmentName("j", 2)+tmpExt)
	f.Add(middle[:len(middle)-3], true, false)
	f.Add(append(middle[:200:200], middle[100:]...), true, true)
	f.Add([]byte{}, false, false)
	big := bytes.Clone(middle) // a block that says it is 64 MiB long
	i := bytes.Index(big, []byte("DTJB"))
	binary.LittleEndian.PutUint32(big[i+4:], MaxRecordBytes)
	binary.LittleEndian.PutUint32(big[i+8:], MaxRecordBytes)
	f.Add(big, true, true)
	f.Add(appendSegmentHead(nil, segmentHead{number: 2, noTable: true}), false, true)

	f.Fuzz(func(t *testing.T, b []byte, sealed, last bool) {
		b = bytes.Clone(b)
		if sealed {
			seal(b)
		}
		fsys := newTestFS(nil)
		files := map[uint64][]byte{1: data(1), 2: b}
		if !last {
			files[3] = data(3)
		}
		for n, d := range files {
			fsys.names[segmentName("j", n)] = &testNode{data: d}
		}
		k := walk{fs: fsys, dir: "j"}
		for steps := 0; ; steps++ {
			if steps > 100+len(b)/10 {
				t.Fatal("an endless loop")
			}
			o, _, err := k.next()
			if err != nil {
				t.Fatal(err)
			}
			if o == gotEnd {
				break
			}
			if o != gotBlock {
				continue
			}
			// The pair of the reader's own checks: these bytes are what it returned.
			h := files[k.s.segment][k.s.from:]
			p := h[48 : 48+binary.LittleEndian.Uint32(h[4:])]
			table := crc32.MakeTable(crc32.Castagnoli)
			if crc32.Checksum(h[:44], table) != binary.LittleEndian.Uint32(h[44:]) || crc32.Checksum(p, table) != binary.LittleEndian.Uint32(h[40:]) {
				t.Fatal("a block that its CRC does not cover")
			}
			if cap(k.s.unpacked) > MaxRecordBytes || cap(k.s.win.buf) > len(b)+windowBytes {
				t.Fatal("memory beyond what the file can need")
			}
		}
		k.close()

		if sealed {
			return // numbers of holes and chains may be forged: a repair promises nothing
		}
		got, _ := readAll(t, NewReader(fsys, "j", Position{}))
		rep, err := Fsck(fsys, "j", true, io.Discard)
		if err != nil || rep.Damaged != rep.Mended || int(rep.Records) != len(got) {
			t.Fatalf("%+v %v", rep, err)
		}
		again, damage := readAll(t, NewReader(fsys, "j", Position{}))
		if d := difference(again, got); d != "" {
			t.Fatalf("after repair: %s", d)
		}
		for _, d := range damage {
			if !d.Repaired && !d.Torn {
				t.Fatalf("after repair: %v", d)
			}
		}
		w, _, err := Open(fsys, "j", Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Append(m.recs[0]); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		again, _ = readAll(t, NewReader(fsys, "j", Position{}))
		if d := difference(again, append(got, m.recs[0])); d != "" {
			t.Fatalf("written on: %s", d)
		}
	})
}
