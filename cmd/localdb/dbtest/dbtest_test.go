package dbtest_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"deeptape/cmd/localdb"
	"deeptape/cmd/localdb/dbtest"
)

// TestVictim is the process that TestKilled kills: it starts a server and says
// so.
func TestVictim(t *testing.T) {
	if os.Getenv("DBTEST_VICTIM") == "" {
		t.Skip("runs as a child of TestKilled")
	}
	info := dbtest.StartOwn(t)
	fmt.Println("\nvictim", info.PID, info.Dir)
	time.Sleep(time.Hour)
}

// TestKilled: a test process killed with SIGKILL leaves neither a server nor a
// directory.
func TestKilled(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=TestVictim$")
	cmd.Env = append(os.Environ(), "DBTEST_VICTIM=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	var pid int
	var dir string
	for sc := bufio.NewScanner(out); dir == "" && sc.Scan(); {
		if strings.HasPrefix(sc.Text(), "victim ") {
			fmt.Sscanf(sc.Text(), "victim %d %s", &pid, &dir)
		}
	}
	if info, err := localdb.Status(dir); err != nil || !info.Ready || info.PID != pid {
		t.Fatalf("status of the victim's server in %q: %+v, %v", dir, info, err)
	}
	cmd.Process.Kill()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		_, err := os.Stat(dir)
		if os.IsNotExist(err) && syscall.Kill(pid, 0) == syscall.ESRCH {
			return
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("a minute after the kill: directory %v, process %v", err, syscall.Kill(pid, 0))
		}
	}
}
