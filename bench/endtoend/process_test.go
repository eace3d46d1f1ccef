package endtoend

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the deeptape under test, built once.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		flag.Set("test.parallel", "100") // share says who runs
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "deeptape-endtoend-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "deeptape")
	build := []string{"build", "-o", binary, "deeptape/cmd/deeptape"}
	if race {
		build = slices.Insert(build, 1, "-race")
	}
	out, err := exec.Command("go", build...).CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "cannot build deeptape: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// patience is for what takes a second or two on a quiet machine. Ours has two cores, and
// up to eight tests at a time, other packages' and whatever else runs beside them; what
// is broken never comes.
const patience = time.Minute

// promptly is for what is promised within 5 s, or 10 s, on a quiet machine.
const promptly = 20 * time.Second

// output collects what a process prints, and may be read meanwhile.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// process is a running deeptape.
type process struct {
	t           *testing.T
	name        string
	cmd         *exec.Cmd
	out, errout output
	ended       chan struct{}
	err         error // of Wait, once ended
}

// start runs deeptape with args. Whatever happens, it is gone when the test is.
func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	return startAs(t, env, exec.Command(binary, args...), args...)
}

// startAs runs it by another command, which makes way for it.
func startAs(t *testing.T, env []string, cmd *exec.Cmd, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: args[0], cmd: cmd, ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.errout
	p.cmd.SysProcAttr = childAttr()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", strings.Join(args, " "), tail(p.errout.String()))
		}
	})
	return p
}

func tail(s string) string {
	const max = 4000
	if len(s) > max {
		return "…" + s[len(s)-max:]
	}
	return s
}

// kill is kill -9 of the whole group.
func (p *process) kill() {
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.ended
}

// interrupt is Ctrl-C; the process must end by itself with exit code 0.
func (p *process) interrupt() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		p.t.Fatalf("cannot interrupt %s: %v\n%s", p.name, err, tail(p.errout.String()))
	}
	if code := p.wait(patience); code != 0 {
		p.t.Fatalf("%s ended with %d after SIGINT:\n%s", p.name, code, tail(p.errout.String()))
	}
}

// wait returns the exit code.
func (p *process) wait(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(within):
		p.cmd.Process.Signal(syscall.SIGQUIT) // where does it stand?
		time.Sleep(200 * time.Millisecond)
		p.t.Fatalf("%s has not ended after %s:\n%s", p.name, within, p.errout.String())
	}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		p.t.Fatalf("%s: %v", p.name, p.err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// says waits until the process has printed what re matches, and returns the
// last submatch.
func (p *process) says(re string, within time.Duration) string {
	p.t.Helper()
	r := regexp.MustCompile(re)
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		for _, o := range []*output{&p.out, &p.errout} {
			if m := r.FindStringSubmatch(o.String()); m != nil {
				return m[len(m)-1]
			}
		}
		select {
		case <-p.ended:
			p.t.Fatalf("%s ended (%v) before it said %q:\n%s", p.name, p.err, re, tail(p.errout.String()))
		default:
		}
		if time.Since(began) > within {
			p.t.Fatalf("%s has not said %q after %s:\n%s", p.name, re, within, tail(p.errout.String()))
		}
	}
}

// run is a deeptape that ends by itself. A code other than want fails the test.
func run(t *testing.T, want int, env []string, args ...string) string {
	t.Helper()
	p := start(t, env, args...)
	if code := p.wait(2 * time.Minute); code != want {
		t.Fatalf("deeptape %s: exit code %d, want %d\n%s\n%s", strings.Join(args, " "), code, want, tail(p.out.String()), tail(p.errout.String()))
	}
	return p.out.String()
}
