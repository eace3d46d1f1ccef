package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"deeptape/hotpath/event"
)

// flakyFS fails one of the calls that only look: the n-th of List, Open, ReadAt and Size.
type flakyFS struct {
	FS
	n, calls int
	failed   bool
}

func (f *flakyFS) fails() bool {
	f.calls++
	if f.calls == f.n {
		f.failed = true
		return true
	}
	return false
}

func (f *flakyFS) List(dir string) ([]string, error) {
	if f.fails() {
		return nil, errInjected
	}
	return f.FS.List(dir)
}

func (f *flakyFS) Open(name string) (File, error) {
	if f.fails() {
		return nil, errInjected
	}
	file, err := f.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return &flakyFile{file, f}, nil
}

type flakyFile struct {
	File
	fs *flakyFS
}

func (f *flakyFile) ReadAt(b []byte, off int64) (int, error) {
	if f.fs.fails() {
		return 0, errInjected
	}
	return f.File.ReadAt(b, off)
}

func (f *flakyFile) Size() (int64, error) {
	if f.fs.fails() {
		return 0, errInjected
	}
	return f.File.Size()
}

// TestReadErrors: a disk that cannot be read for a moment is an error, at whichever call it
// comes; it is never damage and never the end, and the call may be repeated: nothing is lost
// and nothing comes twice.
func TestReadErrors(t *testing.T) {
	for _, damaged := range []bool{false, true} {
		fsys, m, at, records := smallJournal(t, testSeed(t))
		want, torn := m.recs, 0
		if damaged { // the search over damage reads in its own way
			node := fsys.names[segmentName("j", 2)]
			node.data[at[2][1].off+blockHeadSize+3] ^= 1
			before := records[1][0] + records[1][1] + records[1][2] + records[2][0]
			want = append(append([][]byte{}, m.recs[:before]...), m.recs[before+records[2][1]:]...)
			torn = 1
		}
		n := 1
		for ; ; n++ {
			flaky := &flakyFS{FS: fsys, n: n}
			r := NewReader(flaky, "j", Position{})
			var got [][]byte
			failures, damages := 0, 0
			for done := false; !done; {
				in, err := r.Next()
				var d *DamageError
				switch {
				case err == nil:
					got = append(got, event.AppendInput(nil, in.InputHead, in.Data))
				case errors.As(err, &d):
					damages++
				case errors.Is(err, errInjected):
					failures++
				case err == io.EOF:
					done = true
				default:
					t.Fatalf("call %d fails: %v", n, err)
				}
				if failures > 1 {
					t.Fatalf("call %d fails once, and the reader says so for ever", n)
				}
			}
			r.Close()
			if !flaky.failed {
				break
			}
			if d := difference(got, want); d != "" || damages != torn || failures != 1 {
				t.Errorf("damaged %v, call %d fails: %s; %d damages, want %d; told %d times", damaged, n, d, damages, torn, failures)
			}
		}
		if n < 12 {
			t.Errorf("only %d calls", n)
		}
	}
}

// TestFsckErrors: the disk's errors, and those of whoever is told, end a check: it must not
// say that a journal is clean which it has not read.
func TestFsckErrors(t *testing.T) {
	fsys, _, _, _ := smallJournal(t, testSeed(t))
	n := 1
	for ; ; n++ {
		flaky := &flakyFS{FS: fsys, n: n}
		_, err := Fsck(flaky, "j", false, io.Discard)
		if !flaky.failed {
			break
		}
		if !errors.Is(err, errInjected) {
			t.Errorf("call %d fails, and the check ends with %v", n, err)
		}
	}
	if n < 10 {
		t.Errorf("only %d calls", n)
	}
	for room := range 3 {
		if _, err := Fsck(fsys, "j", false, &fullWriter{room}); !errors.Is(err, errInjected) {
			t.Errorf("the report cannot be written after %d lines, and the check ends with %v", room, err)
		}
	}
}

// fullWriter takes so many writes.
type fullWriter struct{ room int }

func (w *fullWriter) Write(b []byte) (int, error) {
	if w.room--; w.room < 0 {
		return 0, errInjected
	}
	return len(b), nil
}

// TestPackErrors: a segment that cannot be read for a moment is packed later; until then it
// is as it was.
func TestPackErrors(t *testing.T) {
	n := 1
	for ; ; n++ {
		fsys := newTestFS(nil)
		m := newModel(7)
		w, _ := mustOpen(t, fsys, "j", Options{})
		must(t, messages(m, w, 60))
		must(t, w.Rotate())
		before := bytes.Clone(fsys.names[segmentName("j", 1)].data)
		flaky := &flakyFS{FS: fsys, n: n}
		_, _, err := Pack(flaky, "j", 1, noRest)
		must(t, w.Close())
		if !flaky.failed {
			must(t, err)
			break
		}
		if err == nil || !bytes.Equal(fsys.names[segmentName("j", 1)].data, before) {
			t.Errorf("call %d fails: %v", n, err)
		}
		if fsys.names[segmentName("j", 1)+tmpExt] != nil {
			t.Errorf("call %d fails, and something is left of the packing", n)
		}
	}
	if n < 3 {
		t.Errorf("only %d calls", n)
	}
}

// TestReport: the numbers of a check are those of the file.
func TestReport(t *testing.T) {
	fsys, m, at, records := smallJournal(t, testSeed(t))
	var stored, raw int64
	for _, pieces := range at {
		for _, p := range pieces {
			stored += p.n
		}
	}
	for _, rec := range m.recs {
		raw += int64(len(rec))
	}
	var out strings.Builder
	report, err := Fsck(fsys, "j", false, &out)
	must(t, err)
	if report.StoredBytes != stored || report.RawBytes != raw || report.Blocks != 9 || report.Records != int64(len(m.recs)) || report.DamagedBytes != 0 {
		t.Errorf("%+v, want %d stored and %d raw bytes of %d records", report, stored, raw, len(m.recs))
	}
	spoilt := at[2][1]
	fsys.names[segmentName("j", 2)].data[spoilt.off+blockHeadSize+3] ^= 1
	report, err = Fsck(fsys, "j", false, io.Discard)
	must(t, err)
	if report.DamagedBytes != spoilt.n || report.StoredBytes != stored-spoilt.n || report.LostBlocks != 1 || report.Records != int64(len(m.recs)-records[2][1]) {
		t.Errorf("%+v, want %d damaged bytes", report, spoilt.n)
	}
	if text := fmt.Sprint(report.Missing); report.Unexplained != 0 || len(report.Missing) == 0 {
		t.Errorf("missing %s, %d of them unexplained", text, report.Unexplained)
	}
}
