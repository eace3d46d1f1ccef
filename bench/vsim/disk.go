package vsim

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"deeptape/hotpath/journal"
)

// disk is the simulated disk, as journal.FS. It keeps apart what the kernel holds
// (what a killed process leaves) and what has reached the platter (what a power loss
// leaves). Writes and syncs of the journal's segments take time, in which a process
// may be killed: a write is then half there.
type disk struct {
	m        *machine
	proc     *process // that uses it
	names    map[string]*inode
	platter  map[string]*inode
	removed  map[string]*inode // segments that the agent has deleted
	locks    map[string]*process
	room     int64      // bytes that may still be written
	syncNs   int64      // everything before has reached the platter
	unsynced [][2]int64 // times of failed syncs: from the last good one on
	slow     int        // so many of a thousand writes take up to a second
	fail     int        // so many of a thousand fail, half done
	refusing bool       // every write fails
	faulty   bool       // something has failed
	// When it was last put right, 0 for never.
	troubledNs int64
}

type inode struct {
	data   []byte
	synced []byte
}

const roomy = int64(1) << 40

var errDisk = errors.New("input/output error")

func newDisk(m *machine) *disk {
	return &disk{m: m, names: map[string]*inode{}, platter: map[string]*inode{}, removed: map[string]*inode{}, locks: map[string]*process{}, room: roomy}
}

// powerLoss leaves what was synced, and of the rest whatever prefix the disk had got
// to, perhaps with a hole in it. It is for a time when no process lives.
func (d *disk) powerLoss() (lostBytes int) {
	after := map[string]*inode{}
	for _, name := range slices.Sorted(maps.Keys(d.names)) {
		f := d.names[name]
		if d.platter[name] != f && d.m.chance(500) {
			d.m.say("disk", "%s is gone, %d bytes", name, len(f.data))
			lostBytes += len(f.data)
			continue
		}
		data := slices.Clone(f.synced)
		if more := len(f.data) - len(f.synced); more > 0 {
			keep := d.m.rng.IntN(more + 1)
			extra := slices.Clone(f.data[len(data) : len(data)+keep])
			for at := 0; at < len(extra); at += 512 {
				if d.m.chance(250) {
					clear(extra[at:min(at+512, len(extra))])
				}
			}
			data = append(data, extra...)
			d.m.say("disk", "%s: %d of %d bytes are left", name, len(data), len(f.data))
			lostBytes += more
		}
		after[name] = &inode{data: data, synced: slices.Clone(data)}
	}
	d.names, d.platter = after, maps.Clone(after)
	return lostBytes
}

func (d *disk) MkdirAll(string) error { return nil }

func (d *disk) List(dir string) (names []string, err error) {
	for name := range d.names {
		if path.Dir(name) == path.Clean(dir) {
			names = append(names, path.Base(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

func (d *disk) refuse() error {
	if d.refusing || d.m.chance(d.fail) {
		d.faulty = true
		return errDisk
	}
	return nil
}

func (d *disk) Create(name string) (journal.File, error) {
	if _, ok := d.names[name]; ok {
		return nil, fs.ErrExist
	}
	if err := d.refuse(); err != nil {
		return nil, err
	}
	f := &inode{}
	d.names[name] = f
	return &file{d, f, strings.HasSuffix(name, ".dtj")}, nil
}

func (d *disk) Open(name string) (journal.File, error) {
	f, ok := d.names[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return &file{d, f, strings.HasSuffix(name, ".dtj")}, nil
}

func (d *disk) Rename(from, to string) error {
	f, ok := d.names[from]
	if !ok {
		return fs.ErrNotExist
	}
	if err := d.refuse(); err != nil {
		return err
	}
	delete(d.names, from)
	d.names[to] = f
	return nil
}

func (d *disk) Link(from, to string) error {
	if _, ok := d.names[to]; ok {
		return fs.ErrExist
	}
	d.names[to] = d.names[from]
	return nil
}

func (d *disk) Remove(name string) error {
	f, ok := d.names[name]
	if !ok {
		return fs.ErrNotExist
	}
	d.room += int64(len(f.data))
	delete(d.names, name)
	if strings.HasSuffix(name, ".dtj") {
		d.removed[name] = f
	}
	return nil
}

func (d *disk) SyncDir(string) error {
	d.platter = maps.Clone(d.names)
	return nil
}

type lock struct {
	d    *disk
	name string
}

func (l lock) Close() error { delete(l.d.locks, l.name); return nil }

func (d *disk) Lock(name string) (io.Closer, error) {
	if p := d.locks[name]; p != nil && !p.dead {
		return nil, &journal.HeldError{Holder: "another"}
	}
	d.locks[name] = d.proc
	return lock{d, name}, nil
}

type file struct {
	d     *disk
	f     *inode
	takes bool // its writes take time
}

func (f *file) ReadAt(b []byte, off int64) (int, error) {
	if off >= int64(len(f.f.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.f.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// wait is what an operation of a segment takes.
func (f *file) wait() {
	if !f.takes {
		return
	}
	d := f.d.m.between(20*time.Microsecond, 500*time.Microsecond)
	if f.d.m.chance(f.d.slow) {
		d = f.d.m.between(time.Millisecond, time.Second)
	}
	f.d.proc.Sleep(context.Background(), d)
}

func (f *file) Write(b []byte) (int, error) {
	first := b
	if f.takes && len(b) > 0 {
		first = b[:f.d.m.rng.IntN(len(b))]
	}
	done := f.put(first)
	f.wait()
	if done < len(first) {
		return done, syscall.ENOSPC
	}
	if err := f.d.refuse(); err != nil {
		f.d.unsynced = append(f.d.unsynced, [2]int64{f.d.syncNs, f.d.m.nowNs}) // the writer leaves the file
		return done, err
	}
	rest := b[len(first):]
	n := f.put(rest)
	if n < len(rest) {
		return done + n, syscall.ENOSPC
	}
	return len(b), nil
}

func (f *file) put(b []byte) int {
	n := int(min(int64(len(b)), f.d.room))
	f.d.faulty = f.d.faulty || n < len(b)
	f.d.room -= int64(n)
	f.f.data = append(f.f.data, b[:n]...)
	return n
}

func (f *file) Truncate(size int64) error {
	if err := f.d.refuse(); err != nil {
		return err
	}
	f.d.room += int64(len(f.f.data)) - size
	f.f.data = slices.Clone(f.f.data[:size])
	if int64(len(f.f.synced)) > size {
		f.f.synced = f.f.synced[:size]
	}
	return nil
}

func (f *file) Size() (int64, error) { return int64(len(f.f.data)), nil }

func (f *file) Sync() error {
	startNs := f.d.m.nowNs
	held := len(f.f.data) // what comes later is not in it
	f.wait()
	if err := f.d.refuse(); err != nil {
		// Nobody may believe a later sync of these bytes: they stay at risk.
		f.d.unsynced = append(f.d.unsynced, [2]int64{f.d.syncNs, f.d.m.nowNs})
		return err
	}
	f.f.synced = slices.Clone(f.f.data[:min(held, len(f.f.data))])
	f.d.syncNs = startNs
	return nil
}

func (f *file) Close() error { return nil }

// whole is the disk with the segments that have been removed: for the judge.
func (d *disk) whole() journal.FS {
	all := newDisk(d.m)
	maps.Copy(all.names, d.removed)
	maps.Copy(all.names, d.names)
	return all
}
