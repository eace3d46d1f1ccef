package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// FS is what the journal needs of a file system. Names are whole paths. Errors
// about a file that is not there, or is there already, match fs.ErrNotExist and
// fs.ErrExist.
type FS interface {
	MkdirAll(dir string) error
	List(dir string) ([]string, error)   // the base names in dir, in any order
	Create(name string) (File, error)    // a new file, for appending; fails if it exists
	Open(name string) (File, error)      // for reading and Sync
	Rename(from, to string) error        // atomic; replaces to
	Link(from, to string) error          // a second name; fails if to exists
	Remove(name string) error            //
	SyncDir(dir string) error            // makes creations, renames and removals durable
	Lock(name string) (io.Closer, error) // held until closed, or the process is gone; *HeldError if another has it
}

// File is an open file. Write appends; it returns an error if, and only if, it
// took less than all of b.
type File interface {
	io.ReaderAt
	Write(b []byte) (int, error)
	Truncate(size int64) error
	Size() (int64, error)
	Sync() error
	Close() error
}

// HeldError says that another process holds the lock. Holder is what that
// process wrote about itself: its pid.
type HeldError struct{ Holder string }

func (e *HeldError) Error() string { return "it is in use by process " + e.Holder }

// OS is the file system of the machine. What it makes is its owner's alone: a journal
// says what somebody trades on, and whoever can write to it can make a record of anything.
var OS FS = osFS{}

const (
	dirMode  = 0o700
	fileMode = 0o600
)

type osFS struct{}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (osFS) MkdirAll(dir string) error    { return os.MkdirAll(dir, dirMode) }
func (osFS) Rename(from, to string) error { return os.Rename(from, to) }
func (osFS) Link(from, to string) error   { return os.Link(from, to) }
func (osFS) Remove(name string) error     { return os.Remove(name) }

func (osFS) List(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

func (osFS) Create(name string) (File, error) {
	// O_APPEND: after a truncation the next write begins at the new end.
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR|os.O_APPEND, fileMode)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Open(name string) (File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Lock leaves the file in place when it is released: removing it would let one
// process lock the file that another has just unlinked. It follows no symbolic link,
// because the pid would go into whatever file that names, in place of what is there.
func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, fileMode)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%q is a symbolic link, and the lock has to be a file of its own; remove the link", name)
	}
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%q is no regular file; remove it", name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, err
		}
		b := make([]byte, 32)
		n, _ := f.ReadAt(b, 0)
		return nil, &HeldError{Holder: strings.TrimSpace(string(b[:n]))}
	}
	// Whoever is refused reads the pid here; a failure to write it costs that
	// sentence and nothing else. A file of two names may be somebody else's too: it is
	// locked and left as it is.
	if links, ok := st.Sys().(*syscall.Stat_t); ok && links.Nlink == 1 && f.Truncate(0) == nil {
		_, _ = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	return f, nil
}

const (
	segmentExt = ".dtj"
	damagedExt = ".damaged"
	tmpExt     = ".tmp"
	lockName   = "LOCK"
)

func segmentName(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%012d%s", number, segmentExt))
}

// parseName returns the number of the segment that a file belongs to, and what
// follows the extension: "" for the segment itself.
func parseName(name string) (number uint64, rest string, ok bool) {
	digits, rest, ok := strings.Cut(name, segmentExt)
	if !ok || len(digits) < 12 || len(digits) > 18 {
		return 0, "", false
	}
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return 0, "", false
		}
		number = number*10 + uint64(c-'0')
	}
	return number, rest, number > 0
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
