package journal

import "testing"

// hookFS lets a test do something at the worst moment of a reader.
type hookFS struct {
	*testFS
	onOpen func(name string)
	onSize func()
}

type hookFile struct {
	File
	fs *hookFS
}

func (h *hookFS) Open(name string) (File, error) {
	if h.onOpen != nil {
		h.onOpen(name)
	}
	f, err := h.testFS.Open(name)
	if err != nil {
		return nil, err
	}
	return hookFile{f, h}, nil
}

func (f hookFile) Size() (int64, error) {
	if f.fs.onSize != nil {
		f.fs.onSize()
	}
	return f.File.Size()
}

// TestLastBlockBeforeRotation: a reader is at the end of segment 1. Then the
// writer puts a last block there, rotates, and begins segment 2. Then the reader
// looks for segment 2, and finds it. It must not go there yet.
func TestLastBlockBeforeRotation(t *testing.T) {
	fsys := &hookFS{testFS: newTestFS(nil)}
	m := newModel(20)
	w, _ := mustOpen(t, fsys.testFS, "j", Options{})
	must(t, w.Append(m.record(100)))
	must(t, w.Flush())
	r := NewReader(fsys, "j", Position{})
	done := false
	fsys.onOpen = func(name string) {
		if name == segmentName("j", 2) && !done {
			done = true
			must(t, w.Append(m.record(100)))
			must(t, w.Rotate())
			must(t, w.Append(m.record(100)))
			must(t, w.Flush())
		}
	}
	got, damage := readAll(t, r)
	if same(t, got, m.recs); len(damage) > 0 || !done {
		t.Fatal(done, damage)
	}
}

// TestTornBlockIsWrittenAgain: a reader sees the first bytes of a write that
// failed. Before it looks further the writer has cut them off and written the
// block, and one more, in their place. That is no damage.
func TestTornBlockIsWrittenAgain(t *testing.T) {
	fsys := &hookFS{testFS: newTestFS(nil)}
	m := newModel(21)
	w, _ := mustOpen(t, fsys.testFS, "j", Options{})
	must(t, w.Append(m.record(100)))
	must(t, w.Flush())
	f := fsys.names[segmentName("j", 1)]
	before := len(f.data)
	must(t, w.Append(m.record(100)))
	must(t, w.Flush())
	must(t, w.Append(m.record(100)))
	must(t, w.Flush())
	whole := f.data
	for n := before + 1; n < len(whole); n++ {
		f.data = whole[:n:n]
		done := false
		fsys.onSize = func() { f.data, done = whole, true }
		got, damage := readAll(t, NewReader(fsys, "j", Position{}))
		if len(damage) > 0 {
			t.Fatalf("%d bytes: %v", n, damage[0])
		}
		if done {
			same(t, got, m.recs)
		} else if len(got) != 2 { // n is between the two: there was nothing to search for
			t.Fatalf("%d bytes: %d records", n, len(got))
		}
	}
	must(t, w.Close())
}
