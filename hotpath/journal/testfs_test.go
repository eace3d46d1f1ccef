package journal

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"syscall"
)

// testFS is a file system in memory with faults. It keeps apart what the kernel
// would hold (data, names) and what the disk would (synced, disk).
type testFS struct {
	names map[string]*testNode // as the process sees them
	disk  map[string]*testNode // as a power loss would leave them
	locks map[string]bool

	rng   *rand.Rand
	ops   int // mutating calls so far
	crash int // the mutating call that dies half done, 0: none
	dead  bool

	room   int64   // bytes that may still be written; <0: no limit
	fail   float64 // chance that a mutating call fails
	failed int
}

type testNode struct {
	data   []byte
	synced []byte // content as of the last Sync
}

var (
	errCrashed  = errors.New("the process is dead")
	errInjected = errors.New("injected error")
)

func newTestFS(rng *rand.Rand) *testFS {
	return &testFS{names: map[string]*testNode{}, disk: map[string]*testNode{}, locks: map[string]bool{}, rng: rng, room: -1}
}

// step counts a mutating call. half says that the call is to be half done and
// fail with err; otherwise err fails it undone.
func (t *testFS) step() (half bool, err error) {
	if t.dead {
		return false, errCrashed
	}
	t.ops++
	if t.ops == t.crash {
		t.dead = true
		return true, errCrashed
	}
	if t.fail > 0 && t.rng.Float64() < t.fail {
		t.failed++
		return t.rng.IntN(2) == 0, errInjected
	}
	return false, nil
}

// afterKill is what the next process finds after kill -9.
func (t *testFS) afterKill() *testFS {
	n := newTestFS(t.rng)
	for name, f := range t.names {
		n.names[name] = &testNode{data: append([]byte(nil), f.data...), synced: append([]byte(nil), f.synced...)}
	}
	for name, f := range t.disk {
		if t.names[name] == f {
			n.disk[name] = n.names[name]
		}
	}
	return n
}

// afterPowerLoss is what the next process finds after a power loss: names that SyncDir
// has not confirmed may be gone, or stand for what they stood for before, and of the
// bytes behind the last Sync any prefix may be there, with sectors of zeros in it.
func (t *testFS) afterPowerLoss() *testFS {
	n := newTestFS(t.rng)
	for name, f := range t.names {
		if old := t.disk[name]; old != f && t.rng.IntN(2) == 0 {
			if old == nil {
				continue
			}
			f = old // another file has taken its name since
		}
		data := append([]byte(nil), f.synced...)
		if len(f.data) > len(data) {
			extra := append([]byte(nil), f.data[len(data):]...)
			extra = extra[:t.rng.IntN(len(extra)+1)]
			for i := 0; i < len(extra); i += 512 {
				if t.rng.IntN(4) == 0 {
					clear(extra[i:min(i+512, len(extra))])
				}
			}
			data = append(data, extra...)
		}
		node := &testNode{data: data, synced: append([]byte(nil), data...)}
		n.names[name], n.disk[name] = node, node
	}
	return n
}

func (t *testFS) MkdirAll(string) error { return nil }

func (t *testFS) List(dir string) (names []string, err error) {
	for name := range t.names {
		if filepath.Dir(name) == filepath.Clean(dir) {
			names = append(names, filepath.Base(name))
		}
	}
	return names, nil
}

func (t *testFS) Create(name string) (File, error) {
	if _, ok := t.names[name]; ok {
		return nil, fs.ErrExist
	}
	if _, err := t.step(); err != nil {
		return nil, err
	}
	f := &testNode{}
	t.names[name] = f
	return &testFile{t, f}, nil
}

func (t *testFS) Open(name string) (File, error) {
	f, ok := t.names[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return &testFile{t, f}, nil
}

func (t *testFS) Rename(from, to string) error {
	if _, err := t.step(); err != nil {
		return err
	}
	f, ok := t.names[from]
	if !ok {
		return fs.ErrNotExist
	}
	delete(t.names, from)
	t.names[to] = f
	return nil
}

func (t *testFS) Link(from, to string) error {
	if _, err := t.step(); err != nil {
		return err
	}
	if _, ok := t.names[to]; ok {
		return fs.ErrExist
	}
	t.names[to] = t.names[from]
	return nil
}

func (t *testFS) Remove(name string) error {
	if _, err := t.step(); err != nil {
		return err
	}
	if _, ok := t.names[name]; !ok {
		return fs.ErrNotExist
	}
	delete(t.names, name)
	return nil
}

func (t *testFS) SyncDir(string) error {
	if _, err := t.step(); err != nil {
		return err
	}
	clear(t.disk)
	for name, f := range t.names {
		t.disk[name] = f
	}
	return nil
}

type testLock struct {
	t    *testFS
	name string
}

func (l testLock) Close() error { delete(l.t.locks, l.name); return nil }

func (t *testFS) Lock(name string) (io.Closer, error) {
	if t.locks[name] {
		return nil, &HeldError{Holder: "4711"}
	}
	t.locks[name] = true
	return testLock{t, name}, nil
}

type testFile struct {
	t *testFS
	f *testNode
}

func (f *testFile) ReadAt(b []byte, off int64) (int, error) {
	if off >= int64(len(f.f.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.f.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *testFile) Write(b []byte) (int, error) {
	half, err := f.t.step()
	if err != nil {
		n := 0
		if half {
			n = f.t.rng.IntN(len(b)) // never all of it: that would be success
		}
		f.f.data = append(f.f.data, b[:n]...)
		return n, err
	}
	if r := f.t.room; r >= 0 && int64(len(b)) > r {
		f.f.data = append(f.f.data, b[:r]...)
		f.t.room = 0
		return int(r), syscall.ENOSPC
	}
	if f.t.room >= 0 {
		f.t.room -= int64(len(b))
	}
	f.f.data = append(f.f.data, b...)
	return len(b), nil
}

func (f *testFile) Truncate(size int64) error {
	if _, err := f.t.step(); err != nil {
		return err
	}
	if f.t.room >= 0 {
		f.t.room += int64(len(f.f.data)) - size
	}
	f.f.data = f.f.data[:size:size]
	if int64(len(f.f.synced)) > size {
		f.f.synced = f.f.synced[:size:size]
	}
	return nil
}

func (f *testFile) Size() (int64, error) { return int64(len(f.f.data)), nil }

func (f *testFile) Sync() error {
	if _, err := f.t.step(); err != nil {
		return err
	}
	f.f.synced = append([]byte(nil), f.f.data...)
	return nil
}

func (f *testFile) Close() error { return nil }
