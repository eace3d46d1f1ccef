package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"deeptape/hotpath/journal"
	"deeptape/hotpath/task"
	"deeptape/ilp/deliver"
	"deeptape/ilp/qdb"
	"deeptape/venues"
	"deeptape/venues/session"
	"deeptape/venues/wire"
)

// Machine is what an agent runs on: this computer, or a simulated one.
type Machine struct {
	Name  string // of the agent: one that no other living agent has
	Sched task.Sched
	Clock wire.Clock
	Seed  func() uint64 // for jitter; rows do not depend on it
	FS    journal.FS
	// FreeBytes says how much room the disk of a directory has.
	FreeBytes func(dir string) (int64, error)
	Dial      session.Dial
	Rest      func(rules *venues.Rules) session.Rest
	// Prepare makes the database's tables and refuses wrong ones.
	Prepare func(ctx context.Context, db *qdb.DB) error

	// Where nil, the computer's own: see qdb.Conf and deliver.Options.
	Transport http.RoundTripper
	// Serves says whether a folder is that of the local QuestDB at an address; nil where
	// nobody can know. Only messages depend on it.
	Serves      func(dir, addr string) bool
	OpenLowRate func() (deliver.LowRate, error)
}

// ThisMachine is the computer that we run on.
func ThisMachine() Machine {
	host, _ := os.Hostname()
	clock := wire.NewClock()
	return Machine{
		Name: fmt.Sprintf("%s/%d", host, os.Getpid()), Sched: task.Real{}, Clock: clock, Seed: rand.Uint64,
		FS: journal.OS, FreeBytes: freeBytes, Dial: session.DialWire(clock),
		Rest: func(rules *venues.Rules) session.Rest {
			return wire.NewRest(wire.RestOptions{Clock: clock, MaxBodyBytes: int64(rules.AnswerBytesMax), UsedWeightHeader: rules.RestWeightUsedHeader})
		},
		Prepare: prepare,
	}
}

func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("cannot ask how full the disk of %q is: %w", dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil // Bsize is an int64 on Linux and a uint32 on Darwin
}

// descriptors is how many files and sockets this process may have open.
func descriptors() uint64 {
	var most unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &most); err != nil {
		return 1024 // what a process has unless somebody says otherwise
	}
	return uint64(most.Cur)
}

// readFile returns the whole text of a small file.
func readFile(fsys journal.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	text := make([]byte, size)
	n, err := f.ReadAt(text, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return text[:n], nil
}

// replaceFile writes a file so that a reader finds the old text or the new one.
func replaceFile(fsys journal.FS, name string, text []byte) error {
	if err := fsys.Remove(name + ".tmp"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // of one that was killed
	}
	f, err := fsys.Create(name + ".tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return fsys.Rename(name+".tmp", name)
}

// appender adds a text to a file, which is made if it is not there, with its directory.
// Rows in quarantine are rare: the file is written whole.
func (m *Machine) appender() func(name string, text []byte) error {
	return func(name string, text []byte) error {
		old, err := readFile(m.FS, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := m.FS.MkdirAll(filepath.Dir(name)); err != nil {
			return err
		}
		return replaceFile(m.FS, name, append(old, text...))
	}
}
