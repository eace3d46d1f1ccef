package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"

	"deeptape/hotpath/event"
)

// model makes records and remembers them: the oracle of what a reader has to
// return.
type model struct {
	rng  *rand.Rand
	pos  map[uint16]uint64
	ts   int64
	recs [][]byte
}

func newModel(seed uint64) *model {
	return &model{rng: rand.New(rand.NewPCG(seed, 1)), pos: map[uint16]uint64{}, ts: 1_700_000_000_000_000_000}
}

// record makes the next record, up to size bytes of data, half of it noise.
func (m *model) record(size int) []byte {
	feed := uint16(m.rng.IntN(4))
	m.pos[feed]++
	m.ts += 1 + m.rng.Int64N(1e6)
	data := make([]byte, m.rng.IntN(size+1))
	for i := 0; i+8 <= len(data); i += 16 {
		binary.LittleEndian.PutUint64(data[i:], m.rng.Uint64())
	}
	rec := event.AppendInput(nil, event.InputHead{
		Kind: event.InputFrame, Line: 1, Feed: feed, Pos: m.pos[feed], Ts: m.ts, Aux: m.rng.Int64(),
	}, data)
	m.recs = append(m.recs, rec)
	return rec
}

// forget takes back everything from record n on, as a crash does.
func (m *model) forget(n int) {
	m.recs = m.recs[:n]
	clear(m.pos)
	for _, r := range m.recs {
		in, _, _ := event.GetInput(r)
		m.pos[in.Feed] = in.Pos
	}
}

func mustOpen(t *testing.T, fsys FS, dir string, opt Options) (*Writer, Recovery) {
	t.Helper()
	w, rec, err := Open(fsys, dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	return w, rec
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// readAll reads to the end, and keeps the damage apart.
func readAll(t *testing.T, r *Reader) (recs [][]byte, damage []*DamageError) {
	t.Helper()
	for {
		in, err := r.Next()
		var d *DamageError
		switch {
		case err == io.EOF:
			return recs, damage
		case errors.As(err, &d):
			damage = append(damage, d)
		case err != nil:
			t.Fatal(err)
		default:
			recs = append(recs, event.AppendInput(nil, in.InputHead, in.Data))
		}
	}
}

func same(t *testing.T, got, want [][]byte) {
	t.Helper()
	if d := difference(got, want); d != "" {
		t.Fatal(d)
	}
}

func difference(got, want [][]byte) string {
	for i := range min(len(got), len(want)) {
		if !bytes.Equal(got[i], want[i]) {
			return fmt.Sprintf("record %d differs", i)
		}
	}
	if len(got) != len(want) {
		return fmt.Sprintf("%d records, want %d", len(got), len(want))
	}
	return ""
}

func TestWriteAndRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "journal")
	m := newModel(1)
	opt := Options{SegmentBytes: 200 << 10}
	w, rec := mustOpen(t, OS, dir, opt)
	if rec.Segments != 0 || len(rec.Feeds) != 0 {
		t.Fatalf("recovery of nothing: %+v", rec)
	}
	r := NewReader(OS, dir, Position{})
	defer r.Close()
	var got [][]byte
	for i := range 3000 {
		must(t, w.Append(m.record(1000)))
		if i%250 == 0 {
			must(t, w.Flush())
			more, damage := readAll(t, r)
			if got = append(got, more...); len(damage) > 0 {
				t.Fatal(damage[0])
			}
			same(t, got, m.recs) // the reader is as far as the last Flush
		}
		if i == 1000 {
			must(t, w.Rotate())
		}
	}
	st := w.Stats()
	must(t, w.Close())
	more, _ := readAll(t, r)
	same(t, append(got, more...), m.recs)
	if st.Segments < 5 {
		t.Fatalf("%d segments: nothing was rotated", st.Segments)
	}
	if err := w.Append(m.recs[0]); err != ErrClosed {
		t.Fatalf("append after close: %v", err)
	}

	w, rec = mustOpen(t, OS, dir, opt)
	if rec.Scanned != 1 || rec.Segments < 5 || len(rec.Damage)+len(rec.Missing) > 0 || rec.TornBytes != 0 {
		t.Fatalf("recovery: %+v", rec)
	}
	wantEnds(t, rec, m)
	must(t, w.Append(m.record(10)))
	must(t, w.Close())
	all, damage := readAll(t, NewReader(OS, dir, Position{}))
	same(t, all, m.recs)
	if len(damage) > 0 {
		t.Fatal(damage[0])
	}
}

func wantEnds(t *testing.T, rec Recovery, m *model) {
	t.Helper()
	if len(rec.Feeds) != len(m.pos) {
		t.Fatalf("%d feeds, want %d", len(rec.Feeds), len(m.pos))
	}
	last := map[uint16]int64{}
	for _, r := range m.recs {
		in, _, _ := event.GetInput(r)
		last[in.Feed] = in.Ts
	}
	for _, f := range rec.Feeds {
		if f.Pos != m.pos[f.Feed] || f.Ts != last[f.Feed] {
			t.Fatalf("feed %d ends at pos %d ts %d, want %d %d", f.Feed, f.Pos, f.Ts, m.pos[f.Feed], last[f.Feed])
		}
	}
}

// Journals of before December 2026 have blocks that s2 packed.
func TestReadsS2(t *testing.T) {
	dir := t.TempDir()
	m := newModel(3)
	var raw []byte
	for range 50 {
		raw = append(raw, m.record(400)...)
	}
	segment := appendSegmentHead(nil, segmentHead{number: 1, ts: m.ts})
	for number, encode := range []func(dst, src []byte) []byte{s2.Encode, s2.EncodeBetter} {
		p := encode(nil, raw)
		block := append(make([]byte, blockHeadSize), p...)
		putBlockHead(block, blockHead{raw: uint32(len(raw)), records: 50, codec: codecS2, number: uint32(number), segment: 1, ts: m.ts}, p)
		segment = append(segment, block...)
	}
	must(t, os.WriteFile(segmentName(dir, 1), segment, 0o644))
	got, _ := readAll(t, NewReader(OS, dir, Position{}))
	same(t, got, append(m.recs, m.recs...))
}

func TestLargeRecord(t *testing.T) {
	dir := t.TempDir()
	m := newModel(2)
	w, _ := mustOpen(t, OS, dir, Options{})
	must(t, w.Append(m.record(100)))
	big := event.AppendInput(nil, event.InputHead{Kind: event.InputRest, Feed: 1, Pos: 1, Ts: 1}, bytes.Repeat([]byte("0123456789abcdef"), 64<<20/16))
	if len(big) != MaxRecordBytes {
		t.Fatalf("the largest record has %d bytes", len(big))
	}
	m.recs = append(m.recs, big)
	must(t, w.Append(big))
	must(t, w.Append(m.record(100)))
	if cap(w.raw) > 1<<20 || cap(w.out) > 1<<20 {
		t.Fatal("memory of a large record is kept")
	}
	for _, b := range [][]byte{nil, make([]byte, 32), big[:40], make([]byte, MaxRecordBytes+8), {0: 25, 31: 0}} {
		if err := w.Append(b); err != ErrRecord {
			t.Fatalf("append of %d bytes that are no record: %v", len(b), err)
		}
	}
	must(t, w.Close())
	got, _ := readAll(t, NewReader(OS, dir, Position{}))
	same(t, got, m.recs)
}

func TestSecondWriterIsRefused(t *testing.T) {
	dir := t.TempDir()
	w, _ := mustOpen(t, OS, dir, Options{})
	_, _, err := Open(OS, dir, Options{})
	var held *HeldError
	if !errors.As(err, &held) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Fatalf("second writer: %v", err)
	}
	must(t, w.Close())
	w, _ = mustOpen(t, OS, dir, Options{})
	must(t, w.Close())
	if list, _, _ := listSegments(OS, dir); len(list) > 0 {
		t.Fatal("an agent that wrote nothing left a segment")
	}
}

func TestResumeAtPosition(t *testing.T) {
	fsys := newTestFS(nil)
	m := newModel(3)
	w, _ := mustOpen(t, fsys, "j", Options{SegmentBytes: 20000})
	for range 400 {
		must(t, w.Append(m.record(300)))
		if m.rng.IntN(8) == 0 {
			must(t, w.Flush())
		}
	}
	must(t, w.Close())
	r := NewReader(fsys, "j", Position{})
	for i := range m.recs {
		// Whoever resumes gets this record after at most the ones before it.
		got, damage := readAll(t, NewReader(fsys, "j", r.Position()))
		at := len(m.recs) - len(got)
		if at > i || len(damage) > 0 {
			t.Fatalf("resumed at record %d, want %d or before; %v", at, i, damage)
		}
		same(t, got, m.recs[at:])
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	// A place where no block begins: from the segment's start, not from nowhere.
	p := r.Position()
	got, damage := readAll(t, NewReader(fsys, "j", Position{p.Segment - 1, 77}))
	want, _ := readAll(t, NewReader(fsys, "j", Position{p.Segment - 1, 0}))
	if len(damage) > 0 || len(want) == 0 {
		t.Fatal(damage, len(want))
	}
	same(t, got, want)
	got, _ = readAll(t, NewReader(fsys, "j", Position{p.Segment + 5, 77}))
	same(t, got, m.recs)
	if got, _ = readAll(t, NewReader(fsys, "j", Position{p.Segment + 1, 0})); len(got) > 0 {
		t.Fatal("a reader of what is still to come returns what was")
	}
}

func TestSegmentsAndRemoveBefore(t *testing.T) {
	fsys := newTestFS(nil)
	m := newModel(4)
	w, _ := mustOpen(t, fsys, "j", Options{SegmentBytes: 10000})
	slow := NewReader(fsys, "j", Position{})
	for i := range 300 {
		must(t, w.Append(m.record(300)))
		must(t, w.Flush())
		if i == 0 {
			if _, err := slow.Next(); err != nil {
				t.Fatal(err)
			}
		}
	}
	all, err := Segments(fsys, "j")
	must(t, err)
	if len(all) < 5 {
		t.Fatal(len(all))
	}
	for _, s := range all {
		in, err := NewReader(fsys, "j", Position{Segment: s.Number}).Next()
		if err != nil || in.Ts != s.Ts || !s.Valid {
			t.Fatalf("segment %+v begins with ts %d: %v", s, in.Ts, err)
		}
		for _, f := range s.Feeds {
			if f.Feed == in.Feed && f.Pos != in.Pos-1 {
				t.Fatalf("segment %d: feed %d is at %d, first record is %d", s.Number, f.Feed, f.Pos, in.Pos)
			}
		}
	}
	n, err := w.RemoveBefore(all[3].Number)
	if n != 3 || err != nil {
		t.Fatal(n, err)
	}
	got, damage := readAll(t, NewReader(fsys, "j", Position{}))
	if len(got) == 0 || len(damage) > 0 {
		t.Fatalf("%d records, %v", len(got), damage)
	}
	same(t, got, m.recs[len(m.recs)-len(got):])
	// The reader that was too slow is told.
	more, damage := readAll(t, slow)
	if len(damage) != 1 || !damage[0].Missing || damage[0].Segment != all[2].Number {
		t.Fatal(damage)
	}
	same(t, more[len(more)-len(got):], got)
	if n, err = w.RemoveBefore(1 << 40); err != nil || n != len(all)-4 {
		t.Fatal(n, err)
	}
	must(t, w.Close())
}
