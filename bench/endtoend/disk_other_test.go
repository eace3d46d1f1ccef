//go:build !linux

package endtoend

import "testing"

func tmpfs(t *testing.T, _, _ string) {
	t.Helper()
	t.Skip("small disks are mounted on Linux only")
}

func ballast(*testing.T, string, int64) {}
func unballast(*testing.T, string)      {}
