//go:build !linux

package localdb

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// processBirth returns what tells a process from all others that have its id:
// the date and second of its start. A zombie has ended.
func processBirth(pid int) (string, error) {
	cmd := exec.Command("ps", "-o", "stat=,lstart=", "-p", fmt.Sprint(pid))
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		return "", err // ps fails when there is no such process
	}
	f := strings.Fields(string(out))
	if len(f) < 2 || strings.HasPrefix(f[0], "Z") {
		return "", os.ErrProcessDone
	}
	return strings.Join(f[1:], "-"), nil
}
