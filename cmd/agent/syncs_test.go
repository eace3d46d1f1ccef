package agent

import (
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/journal"
	"deeptape/hotpath/lane"
	"deeptape/hotpath/task"
	"deeptape/venues/wire"
)

// badDisk is a file system whose fsync fails while it is bad.
type badDisk struct {
	journal.FS
	bad bool
}

type badFile struct {
	journal.File
	d *badDisk
}

func (d *badDisk) Create(name string) (journal.File, error) {
	f, err := d.FS.Create(name)
	return badFile{f, d}, err
}

func (f badFile) Sync() error {
	if f.d.bad {
		return syscall.EIO
	}
	return f.File.Sync()
}

// TestFailedSyncStaysATrouble: the disk did not confirm some bytes. Writes and syncs of
// later ones that go well say nothing of those, so that the trouble stays until they are
// written again, and it is counted.
func TestFailedSyncStaysATrouble(t *testing.T) {
	disk := &badDisk{FS: journal.OS}
	dir := filepath.Join(t.TempDir(), "journal")
	w, _, err := journal.Open(disk, dir, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	sched := task.Real{}
	j := newJournaler(w, []*lane.Lane{lane.New(0, lane.Options{InputBytes: 4096, RowBytes: 4096}, nil, nil)}, sched.NewDoorbell(), sched.NewDoorbell(), time.Second, sched, wire.NewClock(), log)
	pos := uint64(0)
	put := func() {
		t.Helper()
		pos++
		data := []byte(fmt.Sprintf(`{"pos":%d,%s}`, pos, strings.Repeat(`["61837.63","0.00000"],`, 200)))
		if err := w.Append(event.AppendInput(nil, event.InputHead{Kind: event.InputFrame, Pos: pos, Ts: int64(pos)}, data)); err != nil {
			t.Fatal(err)
		}
		if !j.commit() {
			t.Fatal(j.Trouble())
		}
	}
	put()
	if j.sync(); j.Trouble() != "" {
		t.Fatalf("%q before anything is wrong", j.Trouble())
	}
	put()
	disk.bad = true
	j.sync()
	disk.bad = false
	put()
	j.sync()
	put()
	if said := j.Trouble(); !strings.Contains(said, "cannot sync") || !strings.Contains(said, "a power loss may take") || j.unsynced.Load() == 0 || j.syncErrors.Load() != 1 {
		t.Fatalf("after a failed sync, and good ones of other bytes: %q, %d bytes, %d errors", said, j.unsynced.Load(), j.syncErrors.Load())
	}
	// The packer writes the segment again and syncs that.
	if _, _, err := journal.Pack(disk, dir, 1, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	j.adopt.Store(1)
	j.turns(j.clock.NowNs())
	if j.Trouble() != "" || j.unsynced.Load() != 0 || j.syncErrors.Load() != 1 {
		t.Errorf("after its segment was written again: %q, %d bytes", j.Trouble(), j.unsynced.Load())
	}
	// Or it goes, because QuestDB has it.
	put()
	disk.bad = true
	j.sync()
	disk.bad = false
	put()
	if j.Trouble() == "" {
		t.Fatal("the second failed sync is told by nobody")
	}
	j.removeBefore.Store(w.Position().Segment)
	if j.turns(j.clock.NowNs()); j.Trouble() != "" {
		t.Errorf("after its segment was removed: %q", j.Trouble())
	}
}
