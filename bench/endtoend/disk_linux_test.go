package endtoend

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// tmpfs makes a small disk of its own of a directory, or skips the test.
func tmpfs(t *testing.T, dir, size string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		t.Skipf("only root may mount a small disk: %v", err)
	}
	if err != nil {
		t.Fatalf("cannot mount a small disk on %s: %v", dir, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("cannot unmount %s: %v", dir, err)
		}
	})
}

// ballast fills the disk of a directory, by so many bytes or, with 0, to the last.
func ballast(t *testing.T, dir string, bytes int64) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "ballast"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if bytes > 0 {
		if err := syscall.Fallocate(int(f.Fd()), 0, 0, bytes); err != nil {
			t.Fatal(err)
		}
		return
	}
	if bytes, err = f.Seek(0, 2); err != nil {
		t.Fatal(err)
	}
	for step := int64(64 << 20); step >= 4096; step /= 2 {
		for syscall.Fallocate(int(f.Fd()), 0, bytes, step) == nil {
			bytes += step
		}
	}
}

func unballast(t *testing.T, dir string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
}
