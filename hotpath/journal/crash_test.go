package journal

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
)

// history runs random calls until the file system dies, or to its end. It keeps
// what was promised: flushed records outlive the process, synced ones the power.
type history struct {
	m               *model
	opt             Options
	flushed, synced int
}

func (h *history) run(fsys *testFS, calls int) error {
	w, _, err := Open(fsys, "j", h.opt)
	if err != nil {
		return err
	}
	for range calls {
		switch p := h.m.rng.IntN(22); {
		case p >= 20:
			if number := 1 + h.m.rng.Uint64N(w.segment); number < w.segment {
				err = packAndAdopt(fsys, w, number)
			}
		case p < 12:
			rec := h.m.record([]int{40, 40, 40, 3000, 3000, 70000}[h.m.rng.IntN(6)])
			before := w.stats.Records
			if err = w.Append(rec); err != nil {
				h.m.forget(len(h.m.recs) - 1)
			}
			h.flushed += int(w.stats.Records - before) // Append flushes a full block
		case p < 16:
			err = w.Flush()
		case p < 18:
			err = w.Sync()
		case p < 19:
			err = w.Rotate()
		default:
			if err = w.Close(); err == nil {
				h.flushed, h.synced = len(h.m.recs), len(h.m.recs)
				w, _, err = Open(fsys, "j", h.opt)
			}
			if err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		switch {
		case w.PendingBytes() == 0:
			h.flushed = len(h.m.recs)
		}
		if w.f == nil || w.synced == w.off {
			h.synced = h.flushed
		}
	}
	return errors.New("the history is over")
}

// check opens what is left and compares. It returns how much there is.
func (h *history) check(t *testing.T, fsys *testFS, power bool) {
	t.Helper()
	w, rec, err := Open(fsys, "j", h.opt)
	if err != nil {
		t.Fatal(err)
	}
	got, damage := readAll(t, NewReader(fsys, "j", Position{}))
	least := h.flushed
	if power {
		least = h.synced
	}
	if len(got) < least || len(got) > len(h.m.recs) {
		t.Fatalf("%d records are left of %d, %d flushed, %d synced", len(got), len(h.m.recs), h.flushed, h.synced)
	}
	if !power {
		for _, d := range append(damage, rec.Damage...) {
			if !d.Torn {
				t.Fatalf("kill -9 did damage: %v", d)
			}
		}
		if len(rec.Missing) > 0 {
			t.Fatalf("missing after kill -9: %+v", rec.Missing)
		}
		same(t, got, h.m.recs[:len(got)])
		h.m.forget(len(got))
		ends := map[uint16]uint64{}
		for _, f := range rec.Feeds {
			ends[f.Feed] = f.Pos
		}
		for feed, pos := range h.m.pos {
			if ends[feed] != pos {
				t.Fatalf("feed %d: recovered pos %d, want %d", feed, ends[feed], pos)
			}
		}
	} else {
		same(t, got[:least], h.m.recs[:least])
		// Behind the synced ones there may be holes, but nothing wrong or twice.
		i := least
		for _, g := range got[least:] {
			for i < len(h.m.recs) && difference([][]byte{g}, h.m.recs[i:i+1]) != "" {
				i++
			}
			if i++; i > len(h.m.recs) {
				t.Fatal("a record that was never written, or is out of order")
			}
		}
	}
	must(t, w.Close())
}

// TestEveryCrashPoint kills a random history within each of its calls to the
// file system, several lives long.
func TestEveryCrashPoint(t *testing.T) {
	seed := testSeed(t)
	for _, power := range []bool{false, true} {
		for crash := 1; ; crash++ {
			rng := rand.New(rand.NewPCG(seed, uint64(crash)))
			fsys := newTestFS(rng)
			h := &history{m: newModel(seed), opt: Options{SegmentBytes: 100 << 10}}
			fsys.crash = crash
			err := h.run(fsys, 100)
			if !fsys.dead {
				t.Logf("power loss %v: %d crash points", power, crash-1)
				break // the history has fewer calls than that
			}
			if !errors.Is(err, errCrashed) {
				t.Fatalf("seed %d, crash %d: %v", seed, crash, err)
			}
			if power {
				h.check(t, fsys.afterPowerLoss(), true)
				continue
			}
			for range 2 { // the journal goes on after a crash, and crashes again
				fsys = fsys.afterKill()
				h.check(t, fsys, false)
				h.flushed, h.synced = len(h.m.recs), 0
				fsys.ops, fsys.crash = 0, 1+rng.IntN(60)
				_ = h.run(fsys, 100) // to the crash, or to its end; killed either way
			}
			if t.Failed() {
				t.Fatalf("seed %d, crash %d", seed, crash)
			}
		}
	}
}

// TestErrorsLoseNothing lets calls to the file system fail at random. Whoever
// tries again until it works has every record once.
func TestErrorsLoseNothing(t *testing.T) {
	seed := testSeed(t)
	for run := range uint64(100) {
		fsys := newTestFS(rand.New(rand.NewPCG(seed, run)))
		m := newModel(seed + run)
		w, _ := mustOpen(t, fsys, "j", Options{SegmentBytes: 50 << 10})
		r := NewReader(fsys, "j", Position{})
		var got [][]byte
		fsys.fail = 0.3
		for range 100 {
			rec := m.record(2000)
			for w.Append(rec) != nil {
			}
			if m.rng.IntN(3) == 0 {
				for tries := 0; w.Flush() != nil; tries++ {
					if tries > 1000 {
						t.Fatal("never recovers")
					}
				}
			}
			if m.rng.IntN(5) == 0 {
				_ = w.Sync()
			}
			if number := 1 + m.rng.Uint64N(w.segment); number < w.segment {
				_ = packAndAdopt(fsys, w, number)
			}
			if m.rng.IntN(5) == 0 {
				more, damage := readAll(t, r)
				got = append(got, more...)
				for _, d := range damage {
					if !d.Torn {
						t.Fatalf("seed %d run %d: %v", seed, run, d)
					}
				}
			}
		}
		if fsys.failed == 0 {
			t.Fatal("nothing failed")
		}
		fsys.fail = 0
		must(t, w.Close())
		more, _ := readAll(t, r)
		if d := difference(append(got, more...), m.recs); d != "" {
			t.Fatalf("seed %d run %d: live reader: %s", seed, run, d)
		}
		all, damage := readAll(t, NewReader(fsys, "j", Position{}))
		if d := difference(all, m.recs); d != "" {
			t.Fatalf("seed %d run %d: %s; %v", seed, run, d, damage)
		}
		rep, err := Fsck(fsys, "j", false, io.Discard)
		if err != nil || !rep.Clean() || rep.Damaged > 0 || rep.Records != 100 {
			t.Fatalf("seed %d run %d: %+v %v", seed, run, rep, err)
		}
	}
}

func TestDiskFull(t *testing.T) {
	fsys := newTestFS(nil)
	m := newModel(5)
	w, _ := mustOpen(t, fsys, "j", Options{SegmentBytes: 30 << 10})
	fsys.room = 100 << 10
	refused := 0
	for range 1600 {
		rec := m.record(1000)
		for {
			err := w.Append(rec)
			if err == nil {
				break
			}
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			if w.PendingBytes() > blockBytes {
				t.Fatal("a full disk makes memory grow")
			}
			// What is there can be read, up to the last good block.
			got, damage := readAll(t, NewReader(fsys, "j", Position{}))
			if same(t, got, m.recs[:len(got)]); len(damage) > 0 {
				t.Fatal(damage[0])
			}
			if refused++; refused%3 == 0 {
				fsys.room += 20 << 10
			}
		}
	}
	fsys.room = 0
	if err := w.Flush(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("flush to a full disk: %v", err)
	}
	fsys.room = -1
	must(t, w.Flush())
	if refused == 0 || w.Stats().WriteErrors == 0 {
		t.Fatal("the disk was never full")
	}
	must(t, w.Close())
	got, damage := readAll(t, NewReader(fsys, "j", Position{}))
	if same(t, got, m.recs); len(damage) > 0 {
		t.Fatal(damage[0])
	}
}

// TestCloseSaysWhatIsLost: a Close that cannot write names the number of records.
func TestCloseSaysWhatIsLost(t *testing.T) {
	fsys := newTestFS(nil)
	m := newModel(6)
	w, _ := mustOpen(t, fsys, "j", Options{})
	must(t, w.Append(m.record(10)))
	must(t, w.Append(m.record(10)))
	fsys.room = 0
	err := w.Close()
	if !errors.Is(err, syscall.ENOSPC) || err.Error()[:len("cannot write the last 2 records")] != "cannot write the last 2 records" {
		t.Fatal(err)
	}
	fsys.room = -1
	w, _ = mustOpen(t, fsys, "j", Options{}) // the lock is free
	must(t, w.Close())
}

// TestReaderSeesBlocksGrow: while a block reaches the file byte by byte, a reader
// sees the end, and then the block.
func TestReaderSeesBlocksGrow(t *testing.T) {
	from := newTestFS(nil)
	m := newModel(7)
	w, _ := mustOpen(t, from, "j", Options{SegmentBytes: 1})
	for range 3 {
		must(t, w.Append(m.record(100)))
		must(t, w.Flush())
	}
	must(t, w.Close())
	to := newTestFS(nil)
	r := NewReader(to, "j", Position{})
	var got [][]byte
	for n := uint64(1); n <= 3; n++ {
		name := segmentName("j", n)
		f, err := to.Create(name)
		must(t, err)
		for _, b := range from.names[name].data {
			more, damage := readAll(t, r)
			if len(damage) > 0 {
				t.Fatal(damage[0])
			}
			if got = append(got, more...); len(got) != int(n-1) {
				t.Fatalf("%d records before segment %d is whole", len(got), n)
			}
			must(t, put(f, []byte{b}))
		}
		more, _ := readAll(t, r)
		got = append(got, more...)
	}
	same(t, got, m.recs)
}

// TestRecoveredIsDurable: what Open reports has to outlive a power loss, even if
// the process that wrote it was killed before its Sync.
func TestRecoveredIsDurable(t *testing.T) {
	for run := range uint64(20) {
		fsys := newTestFS(rand.New(rand.NewPCG(run, 3)))
		m := newModel(run)
		w, _ := mustOpen(t, fsys, "j", Options{})
		for range 20 {
			must(t, w.Append(m.record(1000)))
		}
		must(t, w.Flush())
		fsys = fsys.afterKill()
		_, rec := mustOpen(t, fsys, "j", Options{})
		if rec.Records != 20 {
			t.Fatalf("%+v", rec)
		}
		got, damage := readAll(t, NewReader(fsys.afterPowerLoss(), "j", Position{}))
		if same(t, got, m.recs); len(damage) > 0 {
			t.Fatal(damage[0])
		}
	}
}

// syncOnce fails one Sync of a file.
type syncOnce struct {
	*testFS
	armed bool
}

type syncOnceFile struct {
	File
	s *syncOnce
}

func (s *syncOnce) Create(name string) (File, error) {
	f, err := s.testFS.Create(name)
	return syncOnceFile{f, s}, err
}

func (f syncOnceFile) Sync() error {
	if f.s.armed {
		f.s.armed = false
		return syscall.EIO
	}
	return f.File.Sync()
}

// TestFailedSyncIsNotMadeGood: the file whose Sync failed is not synced again, as
// that would succeed and mean nothing.
func TestFailedSyncIsNotMadeGood(t *testing.T) {
	fsys := &syncOnce{testFS: newTestFS(nil)}
	m := newModel(15)
	w, _ := mustOpen(t, fsys, "j", Options{})
	must(t, w.Append(m.record(100)))
	must(t, w.Sync())
	must(t, w.Append(m.record(100)))
	fsys.armed = true
	if err := w.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	st := w.Stats()
	if st.SyncErrors != 1 || st.UnsyncedBytes == 0 || w.Position() != (Position{2, 0}) {
		t.Fatalf("%+v at %+v", st, w.Position())
	}
	must(t, w.Append(m.record(100)))
	must(t, w.Sync())
	if bytes, why := w.Unsynced(); bytes != st.UnsyncedBytes || !errors.Is(why, syscall.EIO) {
		t.Fatalf("after a sync of later bytes %d are unsynced, want %d: %v", bytes, st.UnsyncedBytes, why)
	}
	must(t, w.Close())
	first := fsys.names[segmentName("j", 1)]
	if len(first.synced) == len(first.data) {
		t.Fatal("the file was synced again")
	}
	got, damage := readAll(t, NewReader(fsys, "j", Position{}))
	if same(t, got, m.recs); len(damage) > 0 {
		t.Fatal(damage[0])
	}
}

// testSeed is always the same, so that luck is no gate; DEEPTAPE_SEED=n tries another.
func testSeed(t testing.TB) uint64 {
	seed := uint64(1)
	if one, err := strconv.ParseUint(os.Getenv("DEEPTAPE_SEED"), 10, 64); err == nil {
		seed = one
	}
	t.Logf("DEEPTAPE_SEED=%d", seed)
	return seed
}
