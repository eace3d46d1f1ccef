package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"deeptape/hotpath/event"
)

func noRest() error { return nil }

// packAndAdopt is what an agent does with a complete segment, however often.
func packAndAdopt(fsys FS, w *Writer, number uint64) error {
	_, _, err := Pack(fsys, "j", number, noRest)
	if errors.Is(err, ErrNotPacked) || isNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return w.Adopt(number)
}

// messages appends records like a venue's, which pack well; none at all now and then.
func messages(m *model, w *Writer, n int) error {
	for range n {
		feed := uint16(m.rng.IntN(3))
		m.pos[feed]++
		m.ts += 1 + m.rng.Int64N(1e6)
		data := fmt.Appendf(nil, `{"e":"depthUpdate","E":%d,"b":[`, m.ts/1e6)
		for range m.rng.IntN(60) {
			data = fmt.Appendf(data, `["%d.%02d","%d.%05d"],`, 60_000+m.rng.IntN(2000), m.rng.IntN(100), m.rng.IntN(10), m.rng.IntN(100_000))
		}
		if m.rng.IntN(200) == 0 { // larger than a block
			data = append(data, strings.Repeat(`["61837.63","0.00000"],`, 20_000)...)
		}
		rec := event.AppendInput(nil, event.InputHead{Kind: event.InputFrame, Feed: feed, Pos: m.pos[feed], Ts: m.ts}, data)
		m.recs = append(m.recs, rec)
		if err := w.Append(rec); err != nil {
			return err
		}
	}
	return nil
}

// TestPack: the same records in the same blocks and in less room, for a reader that
// begins anywhere, and for one that had begun before.
func TestPack(t *testing.T) {
	fsys := newTestFS(nil)
	m := newModel(testSeed(t))
	w, _ := mustOpen(t, fsys, "j", Options{SegmentBytes: 256 << 10})
	for range 4 {
		must(t, messages(m, w, 500))
		must(t, w.Rotate())
	}
	last := w.segment - 1
	if last < 4 {
		t.Fatalf("%d segments", last)
	}
	before, err := Fsck(fsys, "j", false, io.Discard)
	must(t, err)
	at, _ := blocksOf(t, fsys, 2)
	old := NewReader(fsys, "j", Position{})
	defer old.Close()
	var got [][]byte
	for range 700 { // into the second segment, most likely
		in, err := old.Next()
		must(t, err)
		got = append(got, event.AppendInput(nil, in.InputHead, in.Data))
	}

	rests := 0
	for n := uint64(1); n <= last; n++ {
		was := int64(len(fsys.names[segmentName("j", n)].data))
		size, packed, err := Pack(fsys, "j", n, func() error { rests++; return nil })
		must(t, err)
		if size != was || packed != int64(len(fsys.names[segmentName("j", n)+tmpExt].data)) || packed > was*4/5 {
			t.Fatalf("segment %d of %d bytes: %d bytes packed to %d", n, was, size, packed)
		}
		must(t, w.Adopt(n))
	}
	after, err := Fsck(fsys, "j", false, io.Discard)
	must(t, err)
	if !after.Clean() || after.Blocks != before.Blocks || after.Records != before.Records || after.RawBytes != before.RawBytes || after.StoredBytes > before.StoredBytes*4/5 {
		t.Errorf("packed: %+v\nwas: %+v", after, before)
	}
	if int64(rests) < after.Blocks {
		t.Errorf("%d rests in %d blocks", rests, after.Blocks)
	}
	more, damage := readAll(t, old)
	if d := difference(append(got, more...), m.recs); d != "" || len(damage) > 0 {
		t.Errorf("who had begun before: %s; %v", d, damage)
	}
	all, damage := readAll(t, NewReader(fsys, "j", Position{}))
	if d := difference(all, m.recs); d != "" || len(damage) > 0 {
		t.Errorf("who begins now: %s; %v", d, damage)
	}
	// A place of the old file is the beginning of its segment, or the same block.
	for _, p := range at {
		part, damage := readAll(t, NewReader(fsys, "j", Position{Segment: 2, Offset: p.off}))
		tail := m.recs[len(m.recs)-min(len(part), len(m.recs)):]
		if d := difference(part, tail); d != "" || len(damage) > 0 || len(part) == 0 {
			t.Errorf("from offset %d: %s; %v", p.off, d, damage)
		}
	}
	// Again it stays as it is, and the journal goes on.
	if _, _, err := Pack(fsys, "j", 1, noRest); !errors.Is(err, ErrNotPacked) {
		t.Errorf("packed twice: %v", err)
	}
	must(t, messages(m, w, 100))
	must(t, w.Close())
	w, rec := mustOpen(t, fsys, "j", Options{})
	defer w.Close()
	wantEnds(t, rec, m)
	all, _ = readAll(t, NewReader(fsys, "j", Position{}))
	same(t, all, m.recs)
}

// TestEveryFlipOfAPackedSegmentIsFound is TestEveryFlipIsFound for zstd.
func TestEveryFlipOfAPackedSegmentIsFound(t *testing.T) {
	fsys := newTestFS(nil)
	m := newModel(4)
	w, _ := mustOpen(t, fsys, "j", Options{})
	for range 3 {
		must(t, messages(m, w, 4))
		must(t, w.Flush())
	}
	must(t, w.Rotate())
	must(t, packAndAdopt(fsys, w, 1))
	data := fsys.names[segmentName("j", 1)].data
	at, records := blocksOf(t, fsys, 1)
	if !bytes.Contains(data, []byte("\x28\xb5\x2f\xfd")) {
		t.Fatal("no zstd frame in it")
	}
	for i := range data {
		want, first := m.recs, 0
		for b, p := range at {
			if int64(i) >= p.off && int64(i) < p.off+p.n {
				want = slices.Concat(m.recs[:first], m.recs[first+records[b]:])
			}
			first += records[b]
		}
		data[i] ^= 1 << (i % 8)
		got, damage := readAll(t, NewReader(fsys, "j", Position{}))
		// Without a segment behind it, a bad last block is a torn end.
		if d := difference(got, want); d != "" || len(damage) == 0 && int64(i) < at[2].off {
			t.Fatalf("byte %d of %d: %s; %v", i, len(data), d, damage)
		}
		data[i] ^= 1 << (i % 8)
	}
}

// TestPackLeavesAlone what its writer did not leave so, and gives up where it is told
// to; nothing is left of it.
func TestPackLeavesAlone(t *testing.T) {
	for _, c := range []struct {
		name string
		harm func(data []byte) []byte
	}{
		{"damage", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }},
		{"torn", func(b []byte) []byte { return b[:len(b)-5] }},
		{"no header", func(b []byte) []byte { b[3] ^= 1; return b }},
		{"empty", func([]byte) []byte { return nil }},
	} {
		fsys := newTestFS(nil)
		m := newModel(8)
		w, _ := mustOpen(t, fsys, "j", Options{})
		must(t, messages(m, w, 300))
		must(t, w.Rotate())
		node := fsys.names[segmentName("j", 1)]
		node.data = c.harm(node.data)
		was := bytes.Clone(node.data)
		if _, _, err := Pack(fsys, "j", 1, noRest); !errors.Is(err, ErrNotPacked) {
			t.Errorf("%s: %v", c.name, err)
		}
		if !bytes.Equal(node.data, was) || fsys.names[segmentName("j", 1)+tmpExt] != nil {
			t.Errorf("%s: something has changed", c.name)
		}
	}
	fsys := newTestFS(nil)
	m := newModel(9)
	w, _ := mustOpen(t, fsys, "j", Options{})
	must(t, messages(m, w, 300))
	must(t, w.Rotate())
	stop, rests := errors.New("stop"), 0
	_, _, err := Pack(fsys, "j", 1, func() error {
		if rests++; rests == 3 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || fsys.names[segmentName("j", 1)+tmpExt] != nil {
		t.Errorf("stopped: %v", err)
	}
	// A segment that is removed meanwhile does not come back.
	_, _, err = Pack(fsys, "j", 1, noRest)
	must(t, err)
	must(t, messages(m, w, 10))
	must(t, w.Rotate())
	if n, err := w.RemoveBefore(2); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	must(t, w.Adopt(1))
	for name := range fsys.names {
		if strings.Contains(name, "000000000001") {
			t.Errorf("%s is there", name)
		}
	}
	if err := w.Adopt(w.segment); err == nil {
		t.Error("the segment that is written to was replaced")
	}
	// What a process that has ended left is gone after Open.
	_, _, err = Pack(fsys, "j", 2, noRest)
	must(t, err)
	fsys = fsys.afterKill()
	mustOpen(t, fsys, "j", Options{})
	if fsys.names[segmentName("j", 2)+tmpExt] != nil {
		t.Error("what was not finished is still there")
	}
}
