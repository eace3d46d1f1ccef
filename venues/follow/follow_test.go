package follow

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/journal"
	"deeptape/venues/feed"
)

// journals are those that an earlier build wrote.
const journals = "../../cmd/agent/testdata/journals"

// copied copies one of them to a folder that the test may change.
func copied(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(journals, name))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// rowsOf are all records of a journal by feed, with what was said of it.
func rowsOf(t *testing.T, o Options) (byFeed map[uint16][][]byte, complete map[uint16]uint64, damaged int) {
	t.Helper()
	byFeed, complete = map[uint16][][]byte{}, map[uint16]uint64{}
	o.Damaged = func(*journal.DamageError) { damaged++ }
	o.Impossible = func(e *feed.BadInputError) { t.Errorf("impossible: %v", e) }
	f := Open(o)
	defer f.Close()
	for {
		rec, id, err := f.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var h event.Head
		h.Get(rec)
		if of := f.Instrument(&h); of == nil || of.Symbol == "" || of.Venue == "" {
			t.Fatalf("feed %d: a record of kind %d without its instrument", id, h.Kind)
		}
		if h.Pos < complete[id] {
			t.Fatalf("feed %d: a row of input %d comes when inputs up to %d are complete", id, h.Pos, complete[id])
		}
		byFeed[id] = append(byFeed[id], bytes.Clone(rec))
		complete[id] = f.Complete(id)
	}
	for id := range byFeed {
		complete[id] = f.Complete(id)
	}
	return byFeed, complete, damaged
}

// TestFollow: a feed that is followed alone gives the same rows as among others, and the
// feeds of earlier runs end where they are told to.
func TestFollow(t *testing.T) {
	for _, name := range []string{"faults", "lines", "segments"} {
		dir := filepath.Join(journals, name)
		all, complete, damaged := rowsOf(t, Options{Dir: dir})
		if len(all) == 0 || damaged != 0 {
			t.Fatalf("%s: %d feeds, %d damages", name, len(all), damaged)
		}
		for id, want := range all {
			alone, _, _ := rowsOf(t, Options{Dir: dir, Feeds: []uint16{id}})
			if len(alone) != 1 || !slices.EqualFunc(alone[id], want, bytes.Equal) {
				t.Errorf("%s: feed %d alone has %d rows, among others %d", name, id, len(alone[id]), len(want))
			}
		}
		until := map[uint16]uint64{}
		for id, pos := range complete {
			until[id] = pos / 2
		}
		part, ends, _ := rowsOf(t, Options{Dir: dir, Until: until})
		for id, rows := range part {
			if ends[id] > until[id] || len(rows) >= len(all[id]) || !slices.EqualFunc(rows, all[id][:len(rows)], bytes.Equal) {
				t.Errorf("%s: feed %d until input %d: %d of %d rows, complete to %d", name, id, until[id], len(rows), len(all[id]), ends[id])
			}
		}
	}
}

// TestDamage: what cannot be read is told once, and what stands before it is there.
func TestDamage(t *testing.T) {
	const name = "segments"
	want, _, _ := rowsOf(t, Options{Dir: filepath.Join(journals, name)})
	dir := copied(t, name)
	file := filepath.Join(dir, "000000000002.dtj")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 0x40
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	got, _, damaged := rowsOf(t, Options{Dir: dir})
	if damaged != 1 {
		t.Errorf("one block is damaged, and %d damages are told", damaged)
	}
	for id, rows := range want {
		same := 0
		for same < len(got[id]) && bytes.Equal(got[id][same], rows[same]) {
			same++
		}
		if same == 0 || len(got[id]) == 0 {
			t.Errorf("feed %d: %d of %d rows before the damage", id, same, len(rows))
		}
	}
	silent := Open(Options{Dir: dir})
	defer silent.Close()
	for {
		if _, _, err := silent.Next(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("damage that somebody else has been told of: %v", err)
		}
	}
}

// TestNoJournal: a folder that is not there is the disk's error, and not an empty journal.
func TestNoJournal(t *testing.T) {
	f := Open(Options{Dir: filepath.Join(t.TempDir(), "none")})
	defer f.Close()
	if _, _, err := f.Next(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a folder that is not there gives %v", err)
	}
}
