package journal

import (
	"bytes"
	"testing"

	"deeptape/hotpath/event"
)

// TestSearchOfAForgedFile: a search over damage reads each payload that a valid header
// claims. Somebody who forges headers, each of which claims the rest of the file, would
// make the search quadratic: this megabyte would be read ten thousand times.
func TestSearchOfAForgedFile(t *testing.T) {
	const size, step = 1 << 20, 96
	file := bytes.Repeat([]byte("x"), size)
	for off := 0; off < size/2; off += step {
		// The header is right for zeros, and x stands there: the payload is not valid.
		claimed := make([]byte, (size-off)/2)
		h := blockHead{raw: uint32(len(claimed)), records: 1, segment: 1}
		putBlockHead(file[off:], h, claimed)
	}
	node := &testNode{data: file}
	s := newScan(&testFile{newTestFS(nil), node}, 1)
	s.anyNum = true
	at, _, err := s.find(0, size)
	if err != nil || at != -1 {
		t.Fatalf("found a block at %d (%v)", at, err)
	}
	if most := int64(10*size + windowBytes); s.wasted > most || s.wasted < 8*size {
		t.Errorf("%d bytes of payload were read for nothing in a file of %d bytes; want between %d and %d", s.wasted, size, 8*size, most)
	}
}

// TestSearchGoesFar: damage as it happens does not end the search early, though valid
// headers stand before payloads that are not: all blocks of a file are cut off but the last.
func TestSearchGoesFar(t *testing.T) {
	var file []byte
	rec := event.AppendInput(nil, event.InputHead{Kind: event.InputFrame, Feed: 1, Pos: 1, Ts: 1}, bytes.Repeat([]byte("y"), 8000))
	for range 100 {
		var head [blockHeadSize]byte
		putBlockHead(head[:], blockHead{raw: uint32(len(rec)), records: 1, segment: 1}, rec)
		file = append(append(file, head[:]...), rec...)
	}
	last := len(file) - len(rec) - blockHeadSize
	for off := blockHeadSize + 100; off < last; off += blockHeadSize + len(rec) {
		file[off] ^= 1
	}
	s := newScan(&testFile{newTestFS(nil), &testNode{data: file}}, 1)
	s.anyNum = true
	at, _, err := s.find(0, int64(len(file)))
	if err != nil || at != int64(last) {
		t.Errorf("found %d (%v), want the last block at %d", at, err, last)
	}
}

// TestForgedSizeTakesNoMemory: a packed block that claims to hold much more than packing
// can bring is refused before memory is taken for it; 40 bytes would take 64 MiB.
func TestForgedSizeTakesNoMemory(t *testing.T) {
	p := make([]byte, 40)
	s := newScan(&testFile{newTestFS(nil), &testNode{}}, 1)
	if s.unpack(blockHead{codec: codecZstd, stored: 40, raw: MaxRecordBytes, records: 1, payloadCRC: crc(p)}, p) {
		t.Error("40 bytes of zeros are taken for 64 MiB of records")
	}
	if cap(s.unpacked) > 0 {
		t.Errorf("%d bytes are taken on the word of a forged block", cap(s.unpacked))
	}
}

// TestPackLeavesWhatNobodyWouldBelieve: a record that packs better than a forged block may
// claim stays as its writer left it, and is read.
func TestPackLeavesWhatNobodyWouldBelieve(t *testing.T) {
	fsys := newTestFS(nil)
	w, _ := mustOpen(t, fsys, "j", Options{})
	defer w.Close()
	var want [][]byte
	for i, data := range [][]byte{[]byte("before"), make([]byte, 16<<20), []byte("behind")} {
		rec := event.AppendInput(nil, event.InputHead{Kind: event.InputRest, Feed: 1, Pos: uint64(i + 1), Ts: int64(i + 1)}, data)
		want = append(want, rec)
		must(t, w.Append(rec))
	}
	must(t, w.Rotate())
	must(t, packAndAdopt(fsys, w, 1))
	got, damage := readAll(t, NewReader(fsys, "j", Position{}))
	if d := difference(got, want); d != "" || len(damage) > 0 {
		t.Errorf("after packing: %s; %v", d, damage)
	}
	z, err := packer()
	must(t, err)
	if n := len(z.EncodeAll(want[1], nil)); credible(len(want[1]), n) {
		t.Fatalf("16 MiB of zeros pack to %d bytes, which is not too good to be believed: the test tests nothing", n)
	}
}
