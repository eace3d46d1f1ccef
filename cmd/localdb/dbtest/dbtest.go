// Package dbtest gives tests a real QuestDB.
//
// Invariant: however a test process ends, by passing, by a panic, by kill -9 or
// by the timeout of go test, its servers end and their directories go. Nothing
// in a process can promise that for itself, so a shell of its own session
// watches it through a pipe: when the pipe closes, the process is gone.
package dbtest

import (
	"context"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"deeptape/cmd/localdb"
)

// Start returns the address, host:port, of a QuestDB that all tests of this
// process share: a test uses tables or symbols of its own, or drops what it
// made. DEEPTAPE_TEST_QUESTDB names one that runs already instead.
func Start(t testing.TB) string {
	t.Helper()
	skipShort(t)
	if addr := os.Getenv("DEEPTAPE_TEST_QUESTDB"); addr != "" {
		return addr
	}
	s := shared()
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.info.HTTP
}

// Borrow returns the address of a QuestDB that is t's alone until t ends, and another
// test's then. It may have served others: what they have stored is there.
func Borrow(t testing.TB) string {
	t.Helper()
	skipShort(t)
	idle.Lock()
	defer idle.Unlock() // one starts at a time: each takes a core for some seconds
	if len(idle.servers) == 0 {
		dir, err := guardedDir()
		if err != nil {
			t.Fatal(err)
		}
		info, err := start(dir)
		if err != nil {
			t.Fatal(err)
		}
		idle.servers = append(idle.servers, info.HTTP)
	}
	last := len(idle.servers) - 1
	addr := idle.servers[last]
	idle.servers = idle.servers[:last]
	t.Cleanup(func() {
		idle.Lock()
		defer idle.Unlock()
		idle.servers = append(idle.servers, addr)
	})
	return addr
}

// skipShort skips what would start a server, which takes seconds, where -short asks for a
// quick answer.
func skipShort(t testing.TB) {
	if testing.Short() {
		t.Skip("-short: no real QuestDB")
	}
}

// idle are the servers that nobody has borrowed.
var idle struct {
	sync.Mutex
	servers []string
}

// StartOwn returns a QuestDB of t's own, which t may stop, kill or break. It
// ends with t.
func StartOwn(t testing.TB) localdb.Info {
	t.Helper()
	skipShort(t)
	info, err := start(Dir(t))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// Dir returns a directory for a server that t starts itself, with localdb or a
// program that uses it. It ends with t, and so does the server.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := guardedDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := localdb.Stop(dir); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

type server struct {
	info localdb.Info
	err  error
}

var shared = sync.OnceValue(func() server {
	dir, err := guardedDir()
	if err != nil {
		return server{err: err}
	}
	info, err := start(dir)
	return server{info, err}
})

// A server of a test lives for a minute or two. Java's second compiler would work longer
// for it than it gains: without it a server needs 4 s of a core to start, and not 6.
func init() {
	if os.Getenv("JDK_JAVA_OPTIONS") == "" {
		os.Setenv("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")
	}
}

func start(dir string) (localdb.Info, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return localdb.Start(ctx, dir, localdb.Options{Log: os.Stderr})
}

// guardedDir makes a directory, and the shell that kills the server of it, if
// there is one, and removes it when this process has ended.
func guardedDir() (string, error) {
	dir, err := os.MkdirTemp("", "deeptape-dbtest-")
	if err != nil {
		return "", err
	}
	// The pid file is read at the end: it names the server of that moment. The
	// directory may be a small disk that a test has mounted.
	const script = `cat
if read -r pid rest <"$0/questdb.pid"; then
	kill -9 "$pid"
	while kill -0 "$pid"; do sleep 0.05; done
fi
umount -l "$0"
rm -rf "$0"`
	cmd := exec.Command("sh", "-c", script, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C is for the tests
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	// The garbage collector would close the pipe, and that is the signal.
	guards.Lock()
	defer guards.Unlock()
	guards.pipes = append(guards.pipes, pipe)
	return dir, nil
}

var guards struct {
	sync.Mutex
	pipes []io.Closer
}
