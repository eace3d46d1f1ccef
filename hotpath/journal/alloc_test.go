//go:build !race

package journal

import "testing"

func TestAppendAndFlushDoNotAllocate(t *testing.T) {
	dir := t.TempDir()
	w, _ := mustOpen(t, OS, dir, Options{})
	defer w.Close()
	m := newModel(8)
	var recs [][]byte
	for range 720 {
		recs = append(recs, m.record(800))
	}
	// Blocks of all lengths, in turn: the packer has tables of several sizes.
	groups := []int{1, 60, 2, 300, 50, 7, 220, 40, 10, 30}
	pass := func() {
		rest := recs
		for _, n := range groups {
			for _, rec := range rest[:n] {
				if err := w.Append(rec); err != nil {
					t.Fatal(err)
				}
			}
			rest = rest[n:]
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	pass()
	if n := testing.AllocsPerRun(50, pass); n != 0 {
		t.Fatalf("%v allocations per 720 records in blocks of many lengths", n)
	}
}

func TestNextDoesNotAllocate(t *testing.T) {
	dir := t.TempDir()
	w, _ := mustOpen(t, OS, dir, Options{})
	defer w.Close()
	m := newModel(9)
	for range 20000 {
		if err := w.Append(m.record(200)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	r := NewReader(OS, dir, Position{})
	defer r.Close()
	next := func() {
		for range 150 {
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
		}
	}
	next()
	if n := testing.AllocsPerRun(100, next); n != 0 {
		t.Fatalf("%v allocations per 150 records", n)
	}
}
