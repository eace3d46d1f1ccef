package localdb

import (
	"fmt"
	"os"
	"strings"
	"sync"
)

var bootID = sync.OnceValues(func() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
})

// processBirth returns what tells a process from all others that have its id:
// start time in clock ticks since boot, and the boot. A zombie has ended.
func processBirth(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// proc(5): the name, in parentheses, may hold anything; field 3 (state)
	// follows the last one, and start time is field 22.
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(f) < 20 {
		return "", fmt.Errorf("cannot read start time of process %d: %.100q", pid, s)
	}
	if f[0] == "Z" || f[0] == "X" {
		return "", os.ErrProcessDone
	}
	boot, err := bootID()
	if err != nil {
		return "", err
	}
	return f[19] + " " + boot, nil
}
