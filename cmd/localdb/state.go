package localdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// dbDir is the directory of one server.
type dbDir struct{ root string }

func (d dbDir) path(name string) string { return filepath.Join(d.root, name) }

// openDir makes the directory if create is set, else it must exist.
func openDir(dir string, create bool) (dbDir, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return dbDir{}, fmt.Errorf("cannot resolve directory %q: %w", dir, err)
	}
	if create {
		if err := os.MkdirAll(abs, 0o755); err != nil {
			return dbDir{}, fmt.Errorf("cannot make directory %q: %w", abs, err)
		}
	}
	fi, err := os.Stat(abs)
	if err != nil {
		return dbDir{}, fmt.Errorf("cannot open directory %q: %w", abs, err)
	}
	if !fi.IsDir() {
		return dbDir{}, fmt.Errorf("cannot use %q: not a directory", abs)
	}
	return dbDir{abs}, nil
}

// state is deeptape-db.json. It outlives the server, so that a directory keeps
// its addresses.
type state struct {
	HTTP      string `json:"http,omitempty"`
	PG        string `json:"pg,omitempty"`
	Metrics   string `json:"metrics,omitempty"`
	Container string `json:"container,omitempty"` // its name, while docker runs the server
}

func (d dbDir) loadState() (state, error) {
	var st state
	p := d.path("deeptape-db.json")
	b, err := os.ReadFile(p)
	if errors.Is(err, fs.ErrNotExist) {
		return st, nil
	}
	if err != nil {
		return st, fmt.Errorf("cannot read %q: %w", p, err)
	}
	if err := json.Unmarshal(b, &st); err != nil {
		return st, fmt.Errorf("cannot read %q: %w; it holds only port numbers: delete it", p, err)
	}
	return st, nil
}

// Serves says whether a folder is that of a server, running or not, whose HTTP address is
// addr.
func Serves(dir, addr string) bool {
	st, err := dbDir{dir}.loadState()
	return err == nil && st.HTTP != "" && st.HTTP == addr
}

func (d dbDir) saveState(st state) error {
	b, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return err
	}
	return writeFileAtomic(d.path("deeptape-db.json"), append(b, '\n'))
}

// forget removes what says that a server runs here. A failure is harmless: what
// stays is stale, and is known as such by its start time.
func (d dbDir) forget() {
	os.Remove(d.path("questdb.pid"))
	if st, err := d.loadState(); err == nil && st.Container != "" {
		st.Container = ""
		_ = d.saveState(st)
	}
}

// running returns the server that dir's files speak of, nil if it is gone.
func (d dbDir) running(st state) runner {
	if st.Container != "" {
		if c := findContainer(st.Container); c != nil && c.alive() {
			return c
		}
	}
	if p := d.loadProcess(); p != nil && p.alive() {
		return p
	}
	return nil
}

// loadProcess reads questdb.pid; nil if there is none, or none that makes sense.
func (d dbDir) loadProcess() *process {
	b, err := os.ReadFile(d.path("questdb.pid"))
	if err != nil {
		return nil
	}
	var pid int
	if _, err := fmt.Sscanf(string(b), "%d", &pid); err != nil || pid <= 1 {
		return nil
	}
	_, birth, ok := strings.Cut(strings.TrimSpace(string(b)), " ")
	if !ok {
		return nil
	}
	return &process{pid: pid, birth: birth, logFile: d.path("questdb.log")}
}

func (d dbDir) saveProcess(p *process) error {
	return writeFileAtomic(d.path("questdb.pid"), fmt.Appendf(nil, "%d %s\n", p.pid, p.birth))
}

func writeFileAtomic(path string, b []byte) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("cannot write %q: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("cannot write %q: %w", path, err)
	}
	return nil
}

// lockFile takes the lock at path, which lasts until unlock or the end of this
// process. It calls waiting, if not nil, once when somebody else holds it.
func lockFile(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open lock %q: %w", path, err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("cannot lock %q: %w", path, err)
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("cannot lock %q, another process holds it: %w", path, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
