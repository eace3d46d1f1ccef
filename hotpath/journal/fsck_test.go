package journal

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"deeptape/hotpath/event"
)

// blocksOf returns where each block of a segment is, and how many records it
// has, read from an undamaged journal.
func blocksOf(t *testing.T, fsys FS, number uint64) (at []piece, records []int) {
	t.Helper()
	f, err := fsys.Open(segmentName("j", number))
	must(t, err)
	s := newScan(f, number)
	for {
		o, _, _, err := s.next()
		must(t, err)
		if o != gotBlock {
			return at, records
		}
		at = append(at, piece{off: s.from, n: s.off - s.from})
		records = append(records, int(s.block.records))
	}
}

// smallJournal has 3 segments of a few small blocks, and tells for every record
// which block it is in.
func smallJournal(t *testing.T, seed uint64) (*testFS, *model, map[uint64][]piece, map[uint64][]int) {
	t.Helper()
	fsys := newTestFS(rand.New(rand.NewPCG(seed, 2)))
	m := newModel(seed)
	w, _ := mustOpen(t, fsys, "j", Options{})
	for range 3 {
		for range 3 {
			for range 1 + m.rng.IntN(4) {
				must(t, w.Append(m.record(40)))
			}
			must(t, w.Flush())
		}
		must(t, w.Rotate())
	}
	must(t, w.Close())
	at, records := map[uint64][]piece{}, map[uint64][]int{}
	for n := uint64(1); n <= 3; n++ {
		at[n], records[n] = blocksOf(t, fsys, n)
		if len(at[n]) != 3 {
			t.Fatal("not 3 blocks")
		}
	}
	return fsys, m, at, records
}

// TestEveryFlipIsFound flips every byte of a small journal in turn. Fsck has to
// see each, and a reader loses the records of that block and no other.
func TestEveryFlipIsFound(t *testing.T) {
	fsys, m, at, records := smallJournal(t, 10)
	first := 0
	for n := uint64(1); n <= 3; n++ {
		data := fsys.names[segmentName("j", n)].data
		for i := range data {
			want := slices.Clone(m.recs)
			lost := first
			for b, p := range at[n] {
				if int64(i) >= p.off && int64(i) < p.off+p.n {
					want = slices.Delete(want, lost, lost+records[n][b])
				}
				lost += records[n][b]
			}
			data[i] ^= 1 << (i % 8)
			got, damage := readAll(t, NewReader(fsys, "j", Position{}))
			if d := difference(got, want); d != "" || len(damage) != 1 || damage[0].Segment != n || damage[0].Torn {
				t.Fatalf("segment %d byte %d: %s; %v", n, i, d, damage)
			}
			d := damage[0]
			if int64(i) < d.Offset || int64(i) >= d.Offset+d.Bytes {
				t.Fatalf("segment %d byte %d: %v", n, i, d)
			}
			rep, err := Fsck(fsys, "j", false, io.Discard)
			if err != nil || rep.Clean() || rep.Damaged != 1 || rep.Disorder != 0 || rep.Unexplained != 0 || rep.Torn != 0 || int(rep.Records) != len(want) {
				t.Fatalf("segment %d byte %d: %+v %v", n, i, rep, err)
			}
			if n < 3 { // at the end of the journal nothing comes after that would tell
				missing := 0
				for _, r := range rep.Missing {
					missing += int(r.Last - r.First + 1)
				}
				if missing != len(m.recs)-len(want) {
					t.Fatalf("segment %d byte %d: %d inputs missing, Fsck knows %d", n, i, len(m.recs)-len(want), missing)
				}
			}
			data[i] ^= 1 << (i % 8)
		}
		for _, r := range records[n] {
			first += r
		}
	}
	rep, err := Fsck(fsys, "j", false, io.Discard)
	if err != nil || !rep.Clean() || rep.Segments != 3 || rep.Blocks != 9 || int(rep.Records) != len(m.recs) {
		t.Fatalf("undamaged: %+v %v", rep, err)
	}
}

// TestEveryCut cuts every segment at every length. In the last one a cut looks
// like a torn write, and is told as such; in another it is damage, even between
// two blocks.
func TestEveryCut(t *testing.T) {
	fsys, _, at, _ := smallJournal(t, 11)
	for n := uint64(1); n <= 3; n++ {
		f := fsys.names[segmentName("j", n)]
		whole := f.data
		for i := range whole {
			f.data = whole[:i:i]
			boundary := int64(i) == at[n][0].off
			for _, p := range at[n] {
				boundary = boundary || int64(i) == p.off
			}
			rep, err := Fsck(fsys, "j", false, io.Discard)
			wantDamage, wantTorn := 1, 0
			if n == 3 {
				wantDamage, wantTorn = 0, 1
				if boundary || i == 0 {
					wantTorn = 0
				}
			}
			if err != nil || rep.Damaged != wantDamage || rep.Torn != wantTorn {
				t.Fatalf("segment %d cut at %d: %+v %v", n, i, rep, err)
			}
		}
		f.data = whole
	}
}

// TestRepair does random damage of every sort, repairs it, and compares what
// readers say before and after.
func TestRepair(t *testing.T) {
	seed := testSeed(t)
	for run := range uint64(300) {
		fsys, m, _, _ := smallJournal(t, seed+run)
		rng := rand.New(rand.NewPCG(seed, run))
		for range 1 + rng.IntN(3) {
			name := segmentName("j", 1+rng.Uint64N(3))
			f := fsys.names[name]
			if f == nil || len(f.data) < 8 {
				continue
			}
			i := rng.IntN(len(f.data))
			j := i + 1 + rng.IntN(min(200, len(f.data)-i))
			switch rng.IntN(5) {
			case 0:
				f.data[i] ^= 0x10
			case 1:
				clear(f.data[i:j])
			case 2:
				f.data = slices.Delete(f.data, i, j)
			case 3:
				f.data = slices.Insert(f.data, i, f.data[i:j]...)
			case 4:
				if name != segmentName("j", 1) {
					delete(fsys.names, name)
				}
			}
		}
		got, damage := readAll(t, NewReader(fsys, "j", Position{}))
		if d := subset(got, m.recs); d != "" {
			t.Fatalf("seed %d run %d: %s", seed, run, d)
		}
		var out bytes.Buffer
		rep, err := Fsck(fsys, "j", true, &out)
		if err != nil || !rep.Clean() || rep.Mended != rep.Damaged || int(rep.Records) != len(got) {
			t.Fatalf("seed %d run %d: %+v %v\n%s", seed, run, rep, err, out.String())
		}
		again, holes := readAll(t, NewReader(fsys, "j", Position{}))
		if d := difference(again, got); d != "" {
			t.Fatalf("seed %d run %d: after repair: %s\n%s", seed, run, d, out.String())
		}
		lost, known, torn := int64(0), int64(0), 0
		for _, d := range damage {
			if lost += d.Blocks; d.Torn {
				torn++
			}
		}
		for _, d := range holes {
			if !d.Repaired && !d.Torn {
				t.Fatalf("seed %d run %d: after repair: %v\n%s", seed, run, d, out.String())
			}
			known += d.Blocks
		}
		if tornAfter := len(holes) - rep.Mended; lost != known || tornAfter > torn {
			t.Fatalf("seed %d run %d: %d blocks were lost, the holes say %d\n%s", seed, run, lost, known, out.String())
		}
		after, err := Fsck(fsys, "j", false, io.Discard)
		if err != nil || !after.Clean() || after.Damaged > 0 || len(after.Missing) != len(rep.Missing) {
			t.Fatalf("seed %d run %d: after repair: %+v %v\nbefore: %+v\n%s", seed, run, after, err, rep, out.String())
		}
		// And it can be written on.
		w, rec := mustOpen(t, fsys, "j", Options{})
		for _, f := range rec.Feeds {
			m.pos[f.Feed] = f.Pos
		}
		must(t, w.Append(m.record(10)))
		must(t, w.Close())
		if after, err = Fsck(fsys, "j", false, io.Discard); err != nil || !after.Clean() {
			t.Fatalf("seed %d run %d: written on: %+v %v", seed, run, after, err)
		}
	}
}

// subset says what is wrong if got is not want with some records left out.
func subset(got, want [][]byte) string {
	i := 0
	for _, g := range got {
		for i < len(want) && !bytes.Equal(g, want[i]) {
			i++
		}
		if i++; i > len(want) {
			return "a record that is not of this journal, or out of order"
		}
	}
	return ""
}

func TestRepairKeepsTheOriginal(t *testing.T) {
	fsys, _, at, _ := smallJournal(t, 12)
	name := segmentName("j", 2)
	fsys.names[name].data[at[2][1].off+50] ^= 1
	before := slices.Clone(fsys.names[name].data)
	var out bytes.Buffer
	if _, err := Fsck(fsys, "j", false, &out); err != nil || !bytes.Equal(before, fsys.names[name].data) || len(fsys.names) != 3 {
		t.Fatal("a look has changed something")
	}
	if s := out.String(); !strings.Contains(s, "segment 000000000002") || !strings.Contains(s, "missing: feed") {
		t.Fatalf("the report is\n%s", s)
	}
	w, _ := mustOpen(t, fsys, "j", Options{})
	var held *HeldError
	if _, err := Fsck(fsys, "j", true, io.Discard); !errors.As(err, &held) {
		t.Fatalf("repair under a writer: %v", err)
	}
	must(t, w.Close())
	// Every call of the repair may be the last one: nothing is lost by that.
	want, _ := readAll(t, NewReader(fsys, "j", Position{}))
	for crash := 1; ; crash++ {
		half := fsys.afterKill()
		half.crash = crash
		_, err := Fsck(half, "j", true, io.Discard)
		if !half.dead {
			must(t, err)
			if !bytes.Equal(half.names[name+damagedExt].data, before) {
				t.Fatal("the original is not kept")
			}
			break
		}
		next := half.afterKill()
		got, _ := readAll(t, NewReader(next, "j", Position{}))
		same(t, got, want)
		rep, err := Fsck(next, "j", true, io.Discard)
		if err != nil || !rep.Clean() {
			t.Fatalf("crash %d: %+v %v", crash, rep, err)
		}
		got, _ = readAll(t, NewReader(next, "j", Position{}))
		same(t, got, want)
	}
}

// TestFsckSeesPos: jumps and disorder that no damage explains are a bug of the
// one who appended, and not clean.
func TestFsckSeesPos(t *testing.T) {
	for _, c := range []struct {
		pos                   []uint64
		unexplained, disorder int
	}{
		{[]uint64{1, 2, 3}, 0, 0},
		{[]uint64{1, 2, 5}, 1, 0},
		{[]uint64{1, 2, 2}, 0, 1},
		{[]uint64{1, 3, 2}, 1, 1},
	} {
		fsys := newTestFS(nil)
		w, _ := mustOpen(t, fsys, "j", Options{})
		for _, p := range c.pos {
			must(t, w.Append(event.AppendInput(nil, event.InputHead{Kind: event.InputTick, Feed: 7, Pos: p, Ts: int64(p)}, nil)))
			must(t, w.Rotate())
		}
		must(t, w.Close())
		rep, err := Fsck(fsys, "j", false, io.Discard)
		if err != nil || rep.Unexplained != c.unexplained || int(rep.Disorder) != c.disorder || rep.Clean() != (c.unexplained+c.disorder == 0) {
			t.Fatalf("%v: %+v %v", c.pos, rep, err)
		}
	}
}

// TestRepairedHeaderStillJudges: a header that a repair has made counts the blocks
// of the segment before, as the one that was lost did.
func TestRepairedHeaderStillJudges(t *testing.T) {
	fsys, _, at, _ := smallJournal(t, 16)
	fsys.names[segmentName("j", 2)].data[9] ^= 1
	rep, err := Fsck(fsys, "j", true, io.Discard)
	if err != nil || !rep.Clean() || rep.Mended != 1 {
		t.Fatalf("%+v %v", rep, err)
	}
	f := fsys.names[segmentName("j", 1)]
	f.data = f.data[:at[1][2].off]
	rep, err = Fsck(fsys, "j", false, io.Discard)
	if err != nil || rep.Clean() || rep.Damaged != 1 || rep.LostBlocks != 1 {
		t.Fatalf("%+v %v", rep, err)
	}
}
