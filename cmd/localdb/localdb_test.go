package localdb_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"deeptape/cmd/localdb"
	"deeptape/cmd/localdb/dbtest"
)

// TestMain lets this binary be the second process of a test.
func TestMain(m *testing.M) {
	if dir := os.Getenv("LOCALDB_TEST_START"); dir != "" {
		info, err := localdb.Start(context.Background(), dir, localdb.Options{})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(info.PID, info.HTTP)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestLifecycle is one real server's life, in one test because a start costs
// seconds.
func TestLifecycle(t *testing.T) {
	dir := dbtest.Dir(t)

	// Two processes and two goroutines at once: one server.

	results := make(chan string, 4)
	for range 2 {
		go func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "LOCALDB_TEST_START="+dir)
			out, err := cmd.CombinedOutput()
			if err != nil {
				out = append(out, err.Error()...)
			}
			results <- strings.TrimSpace(string(out))
		}()
		go func() {
			info, err := localdb.Start(t.Context(), dir, localdb.Options{})
			if err != nil {
				results <- err.Error()
				return
			}
			results <- fmt.Sprintf("%d %s", info.PID, info.HTTP)
		}()
	}
	first := <-results
	for range 3 {
		if r := <-results; r != first {
			t.Fatalf("concurrent starts gave %q and %q", first, r)
		}
	}

	info := status(t, dir)
	if !info.Running || !info.Ready || first != fmt.Sprintf("%d %s", info.PID, info.HTTP) {
		t.Fatalf("status %+v after starts that gave %q", info, first)
	}
	if got := query(t, info.HTTP, "SELECT build()"); !strings.Contains(got, "QuestDB "+localdb.Version) {
		t.Errorf("build() = %q, want version %s", got, localdb.Version)
	}
	checkListeners(t, info)

	// A row for a table that is not there must not make one.
	resp, err := http.Post("http://"+info.HTTP+"/write", "text/plain", strings.NewReader("nobody x=1i 1700000000000000000\n"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a row for an unknown table: HTTP %d, want 400", resp.StatusCode)
	}
	query(t, info.HTTP, "CREATE TABLE kept (x LONG, ts TIMESTAMP_NS) TIMESTAMP(ts) PARTITION BY HOUR WAL")

	// kill -9, and start again at the same address with the same tables.
	if err := syscall.Kill(info.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); status(t, dir).Running; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatal("a killed server still counts as running")
		}
	}
	again, err := localdb.Start(t.Context(), dir, localdb.Options{Usual: true})
	if err != nil {
		t.Fatal(err)
	}
	if again.PID == info.PID || again.HTTP != info.HTTP || again.PG != info.PG {
		t.Errorf("started again: %+v, first: %+v", again, info)
	}
	if got := query(t, again.HTTP, "SELECT count() FROM kept"); got != "[[0]]" {
		t.Errorf("count() = %s", got)
	}

	if _, err := localdb.Start(t.Context(), dir, localdb.Options{HTTPPort: 1}); err == nil || !strings.Contains(err.Error(), again.HTTP) {
		t.Errorf("a start at another port than that of the one that runs: %v", err)
	}
	other := t.TempDir()
	_, port, _ := net.SplitHostPort(again.HTTP)
	taken, _ := strconv.Atoi(port)
	if _, err := localdb.Start(t.Context(), other, localdb.Options{HTTPPort: taken}); err == nil || !strings.Contains(err.Error(), "another QuestDB answers there") {
		t.Errorf("a start at the port of another QuestDB: %v", err)
	}
	if i := status(t, other); i.Running {
		t.Errorf("it runs all the same: %+v", i)
	}

	was, err := localdb.Stop(dir)
	if err != nil || !was {
		t.Fatalf("Stop = %v, %v", was, err)
	}
	checkGone(t, again.PID)
	for _, addr := range []string{again.HTTP, again.PG, again.Metrics} {
		l, err := net.Listen("tcp4", addr)
		if err != nil {
			t.Errorf("port not free after Stop: %v", err)
			continue
		}
		l.Close()
	}
	if i := status(t, dir); i.Running || i.Ready || i.PID != 0 || i.HTTP != info.HTTP {
		t.Errorf("status after Stop: %+v", i)
	}
	if was, err := localdb.Stop(dir); was || err != nil {
		t.Errorf("second Stop = %v, %v", was, err)
	}
}

// TestCancelledStart: a start given up leaves no process.
func TestCancelledStart(t *testing.T) {
	dir := dbtest.Dir(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var pid int
	go func() {
		defer cancel()
		for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(5 * time.Millisecond) {
			if i, err := localdb.Status(dir); err == nil && i.Running {
				pid = i.PID
				return
			}
		}
	}()
	_, err := localdb.Start(ctx, dir, localdb.Options{})
	if err == nil || ctx.Err() == nil {
		t.Fatalf("Start = %v, context: %v", err, ctx.Err())
	}
	if pid == 0 {
		t.Fatal("the process was never seen")
	}
	checkGone(t, pid)
	if i := status(t, dir); i.Running {
		t.Errorf("status after a cancelled start: %+v", i)
	}
}

// TestFailedStart: the error shows what the server said.
func TestFailedStart(t *testing.T) {
	dir := t.TempDir()
	_, err := localdb.Start(t.Context(), dir, localdb.Options{Heap: "7bananas"})
	if err == nil || !strings.Contains(err.Error(), "Invalid maximum heap size") || !strings.Contains(err.Error(), dir) {
		t.Errorf("Start with a wrong heap = %v", err)
	}
	if i := status(t, dir); i.Running {
		t.Errorf("status after a failed start: %+v", i)
	}
}

func TestNoSuchDirectory(t *testing.T) {
	dir := t.TempDir() + "/none"
	if was, err := localdb.Stop(dir); was || err != nil {
		t.Errorf("Stop = %v, %v", was, err)
	}
	if i := status(t, dir); i.Running {
		t.Errorf("Status = %+v", i)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("Stop or Status made the directory: %v", err)
	}
}

func status(t *testing.T, dir string) localdb.Info {
	t.Helper()
	info, err := localdb.Status(dir)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// checkGone gives the goroutine that reaps a child of this process a moment.
func checkGone(t *testing.T, pid int) {
	t.Helper()
	for began := time.Now(); syscall.Kill(pid, 0) != syscall.ESRCH; time.Sleep(time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Errorf("process %d is still there", pid)
			return
		}
	}
}

// query returns the answer's dataset as JSON text.
func query(t *testing.T, addr, sql string) string {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/exec?query=" + url.QueryEscape(sql))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: HTTP %d: %s", sql, resp.StatusCode, body)
	}
	var answer struct{ Dataset json.RawMessage }
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("%s: %v: %s", sql, err, body)
	}
	return string(bytes.TrimSpace(answer.Dataset))
}

// checkListeners reads the kernel's table of sockets: the three ports on
// 127.0.0.1, and no other listener of the process.
func checkListeners(t *testing.T, info localdb.Info) {
	t.Helper()
	want := map[string]bool{info.HTTP: true, info.PG: true, info.Metrics: true}
	sockets := map[string]bool{}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", info.PID))
	if err != nil {
		t.Skipf("no /proc here: %v", err)
	}
	for _, fd := range fds {
		if link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", info.PID, fd.Name())); err == nil {
			if inode, ok := strings.CutPrefix(link, "socket:["); ok {
				sockets[strings.TrimSuffix(inode, "]")] = true
			}
		}
	}
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		b, err := os.ReadFile("/proc/net/" + table)
		if err != nil {
			continue // no IPv6 here
		}
		for _, line := range strings.Split(string(b), "\n")[1:] {
			f := strings.Fields(line) // sl local remote state ... inode is field 10
			if len(f) < 10 || !sockets[f[9]] || (f[3] != "0A" && strings.HasPrefix(table, "tcp")) {
				continue
			}
			var port int
			host, hexPort, _ := strings.Cut(f[1], ":")
			fmt.Sscanf(hexPort, "%x", &port)
			addr := fmt.Sprintf("127.0.0.1:%d", port)
			if host != "0100007F" || !want[addr] {
				t.Errorf("the server has a %s socket at %s:%d", table, host, port)
			}
			delete(want, addr)
		}
	}
	for addr := range want {
		t.Errorf("nothing of process %d listens on %s", info.PID, addr)
	}
}
