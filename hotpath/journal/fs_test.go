package journal

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLockFollowsNoLink: somebody who may write to the folder could otherwise have the
// agent overwrite any file of its user by a link named LOCK.
func TestLockFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	must(t, os.WriteFile(victim, []byte("precious"), 0o600))
	intact := func(how string) {
		t.Helper()
		if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
			t.Errorf("%s: the file behind it now holds %q, %v", how, b, err)
		}
	}

	linked := filepath.Join(dir, "linked")
	must(t, os.Mkdir(linked, 0o700))
	must(t, os.Symlink(victim, filepath.Join(linked, lockName)))
	if _, _, err := Open(OS, linked, Options{}); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("a LOCK that is a symbolic link: %v, want an error that says so", err)
	}
	intact("a symbolic link")

	// Backups make second names of files: that is no reason to refuse.
	named := filepath.Join(dir, "named")
	must(t, os.Mkdir(named, 0o700))
	must(t, os.Link(victim, filepath.Join(named, lockName)))
	w, _, err := Open(OS, named, Options{})
	must(t, err)
	must(t, w.Close())
	intact("a second name")
}

// TestFilesAreTheOwnersAlone: what is in the journal is what will be in the database.
func TestFilesAreTheOwnersAlone(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "data", "journal")
	w, _ := mustOpen(t, OS, dir, Options{})
	must(t, w.Append(newModel(1).record(40)))
	must(t, w.Close())
	seen := 0
	must(t, filepath.WalkDir(filepath.Join(root, "data"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		seen++
		if st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v: others may get at it", path, st.Mode())
		}
		return nil
	}))
	if seen != 4 { // data, journal, LOCK, a segment
		t.Errorf("%d files and folders, want 4", seen)
	}
}
