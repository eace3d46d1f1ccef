package localdb

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fakePath makes PATH one directory with the given scripts in it, and the
// cache an empty one.
func fakePath(t *testing.T, scripts map[string]string) (bin string) {
	t.Helper()
	bin = t.TempDir()
	for name, body := range scripts {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+body), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin)
	t.Setenv("JAVA_HOME", "")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	return bin
}

const (
	fakeJava17 = `echo 'openjdk version "17.0.15" 2025-04-15' >&2`
	fakeJava8  = `echo 'java version "1.8.0_402"' >&2`
)

func TestNothingInstalled(t *testing.T) {
	for name, c := range map[string]struct {
		scripts map[string]string
		says    []string
	}{
		"nothing":     {nil, []string{"there is no Java", "there is no docker"}},
		"old Java":    {map[string]string{"java": fakeJava8}, []string{"is version 8", "there is no docker"}},
		"java stub":   {map[string]string{"java": "exit 1"}, []string{"there is no Java"}},
		"no Maven":    {map[string]string{"java": fakeJava17}, []string{"no Maven", "there is no docker"}},
		"dead docker": {map[string]string{"docker": "exit 1"}, []string{"there is no Java", "docker's daemon does not answer"}},
	} {
		t.Run(name, func(t *testing.T) {
			fakePath(t, c.scripts)
			_, err := Start(t.Context(), t.TempDir(), Options{})
			if err == nil {
				t.Fatal("Start succeeded")
			}
			for _, s := range append(c.says, "Install a Java runtime of version 17 or later and Maven") {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("error lacks %q: %v", s, err)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %v", err)
			}
		})
	}
}

func TestJavaVersion(t *testing.T) {
	for out, major := range map[string]string{
		`openjdk version "17.0.15" 2025-04-15`:                        "17",
		`openjdk version "25" 2025-09-16 LTS`:                         "25",
		`java version "1.8.0_402"`:                                    "8",
		"Picked up JAVA_TOOL_OPTIONS: -Xmx1g\njava version \"21-ea\"": "21",
	} {
		if m := javaVersion.FindStringSubmatch(out); m == nil || m[1] != major {
			t.Errorf("%q: %q, want %s", out, m, major)
		}
	}
}

func TestWrongJar(t *testing.T) {
	fakePath(t, map[string]string{"java": fakeJava17})
	cache := filepath.Join(os.Getenv("XDG_CACHE_HOME"), "deeptape")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	jar := filepath.Join(cache, jarName)
	if err := os.WriteFile(jar, []byte("not a jar"), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	_, err := Start(t.Context(), dir, Options{})
	if err == nil {
		t.Fatal("a jar with a wrong hash was used")
	}
	for _, s := range []string{jar, jarSHA256, wrongSHA256, "delete it"} {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("error lacks %q: %v", s, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "questdb.pid")); err == nil {
		t.Error("a process was started")
	}
}

// TestWrongDownload: what Maven brings is checked before it is kept.
func TestWrongDownload(t *testing.T) {
	fakePath(t, map[string]string{"java": fakeJava17, "mvn": `
for a; do case $a in -DoutputDirectory=*) out=${a#-DoutputDirectory=};; esac; done
printf 'not a jar' >"$out/` + jarName + `"`})
	var log bytes.Buffer
	_, err := Start(t.Context(), t.TempDir(), Options{Log: &log})
	if err == nil || !strings.Contains(err.Error(), wrongSHA256) || !strings.Contains(err.Error(), "it is not kept") {
		t.Errorf("Start = %v", err)
	}
	if !strings.Contains(log.String(), "fetching "+jarCoordinates) {
		t.Errorf("progress: %q", log.String())
	}
	left, err := filepath.Glob(filepath.Join(os.Getenv("XDG_CACHE_HOME"), "deeptape", "*"))
	if err != nil || len(left) != 1 || !strings.HasSuffix(left[0], ".lock") {
		t.Errorf("left in the cache: %q, %v", left, err)
	}
}

func TestFailedDownload(t *testing.T) {
	fakePath(t, map[string]string{"java": fakeJava17, "mvn": "echo no way through; exit 3"})
	_, err := Start(t.Context(), t.TempDir(), Options{})
	if err == nil || !strings.Contains(err.Error(), "no way through") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("Start = %v", err)
	}
}

// wrongSHA256 is `printf 'not a jar' | sha256sum`.
const wrongSHA256 = "1f0f631427194028bfeca05414b146420645a4c0ede4b3692c1afc9633557b08"

// TestDocker runs the docker way against a docker that notes its arguments; a
// server of the test's own answers at the published port.
func TestDocker(t *testing.T) {
	calls := filepath.Join(t.TempDir(), "calls")
	fakePath(t, map[string]string{"docker": `
printf '%s\n' "$*" >>` + calls + `
case $1 in
version) echo 28.0 ;;
inspect) if [ -e ` + calls + `.up ]; then echo true; else echo false; fi ;;
run) : >` + calls + `.up ;;
stop|rm) [ ! -e ` + calls + `.up ] || { PATH=/bin:/usr/bin; rm ` + calls + `.up; } ;;
esac`})
	dir := t.TempDir()

	go func() { // becomes the server once docker was told to run one
		for range 6000 {
			time.Sleep(10 * time.Millisecond)
			b, _ := os.ReadFile(calls)
			_, after, ok := strings.Cut(string(b), "\nrun ")
			if !ok || !strings.Contains(after, "\n") {
				continue
			}
			_, after, _ = strings.Cut(after, "--publish ")
			addr, _, _ := strings.Cut(after, ":9000 ")
			l, err := net.Listen("tcp4", addr)
			if err != nil {
				t.Errorf("cannot be the server at %q: %v", addr, err)
				return
			}
			srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprint(w, `{"dataset":[["0.0.0.0:8812"]]}`)
			})}
			go srv.Serve(l)
			for {
				time.Sleep(10 * time.Millisecond)
				if b, _ := os.ReadFile(calls); strings.Contains(string(b), "\nstop ") {
					srv.Close()
					return
				}
			}
		}
	}()

	info, err := Start(t.Context(), dir, Options{Heap: "300m"})
	if err != nil {
		t.Fatal(err)
	}
	if !info.Running || !info.Ready || info.Container == "" || info.PID != 0 {
		t.Errorf("Info = %+v", info)
	}
	again, err := Start(t.Context(), dir, Options{})
	if err != nil || again != info {
		t.Errorf("second Start = %+v, %v; first %+v", again, err, info)
	}
	if st, err := Status(dir); err != nil || st != info {
		t.Errorf("Status = %+v, %v", st, err)
	}
	if was, err := Stop(dir); !was || err != nil {
		t.Errorf("Stop = %v, %v", was, err)
	}
	if was, err := Stop(dir); was || err != nil {
		t.Errorf("second Stop = %v, %v", was, err)
	}

	b, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), "\nrun "); n != 1 {
		t.Errorf("docker run was called %d times:\n%s", n, b)
	}
	for _, s := range []string{
		"run --detach --name " + info.Container + " ",
		"--publish " + info.HTTP + ":9000 ",
		"--publish " + info.PG + ":8812 ",
		"--publish " + info.Metrics + ":9003 ",
		"--env QDB_LINE_AUTO_CREATE_NEW_TABLES=false ",
		"--env QDB_LINE_AUTO_CREATE_NEW_COLUMNS=false ",
		"--env QDB_TELEMETRY_ENABLED=false ",
		"--env JVM_PREPEND=-Xms64m -Xmx300m ",
		"--volume " + dir + ":/var/lib/questdb questdb/questdb:" + Version + "\n",
		"stop --time 20 " + info.Container + "\n",
		"rm --force " + info.Container + "\n",
	} {
		if !strings.Contains(string(b), s) {
			t.Errorf("docker was not called with %q:\n%s", s, b)
		}
	}
	if strings.Contains(string(b), "0.0.0.0:"+portOf(info.HTTP)) {
		t.Errorf("published to the world:\n%s", b)
	}
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// TestStalePidFile: a live process that has the id by chance is left alone.
func TestStalePidFile(t *testing.T) {
	victim := exec.Command("sleep", "60")
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		victim.Process.Kill()
		victim.Wait()
	}()
	birth, err := processBirth(victim.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	pid := victim.Process.Pid
	for name, content := range map[string]string{
		"other birth": fmt.Sprintf("%d 1%s\n", pid, birth),
		"other boot":  fmt.Sprintf("%d %s0\n", pid, birth),
		"no birth":    fmt.Sprintf("%d\n", pid),
		"empty":       "",
		"garbage":     "QuestDB\n",
		"init":        "1 1 1\n",
		"negative":    fmt.Sprintf("-%d %s\n", pid, birth),
		"gone":        fmt.Sprintf("%d %s\n", 1<<22-1, birth),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "questdb.pid"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if i, err := Status(dir); err != nil || i.Running {
			t.Errorf("%s: Status = %+v, %v", name, i, err)
		}
		if was, err := Stop(dir); was || err != nil {
			t.Errorf("%s: Stop = %v, %v", name, was, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "questdb.pid")); err == nil {
			t.Errorf("%s: the stale pid file stays", name)
		}
	}
	if err := victim.Process.Signal(syscall.Signal(0)); err != nil {
		t.Fatalf("a process that only had the id was killed: %v", err)
	}
	// The same file with the right birth does name it, and only then it is ended.
	dir := t.TempDir()
	d := dbDir{dir}
	if err := d.saveProcess(&process{pid: pid, birth: birth}); err != nil {
		t.Fatal(err)
	}
	if was, err := Stop(dir); !was || err != nil {
		t.Errorf("Stop = %v, %v", was, err)
	}
	if _, err := processBirth(pid); err == nil {
		t.Error("the process survives")
	}
}

// TestChoosePorts: those that are named or none; else recorded, then usual, then any; never
// one that is taken.
func TestChoosePorts(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	var log bytes.Buffer

	st := state{HTTP: taken}
	if err := st.choosePorts(Options{Log: &log}); err != nil {
		t.Fatal(err)
	}
	if st.HTTP == taken || st.HTTP == st.PG || st.PG == st.Metrics || !strings.Contains(log.String(), taken) {
		t.Errorf("%+v with %s taken; log %q", st, taken, log.String())
	}
	kept := st
	if err := st.choosePorts(Options{Log: &log, Usual: true}); err != nil || st != kept {
		t.Errorf("recorded ports were not kept: %+v, then %+v, %v", kept, st, err)
	}
	named := st
	if err := named.choosePorts(Options{Log: &log, HTTPPort: l.Addr().(*net.TCPAddr).Port}); err == nil || !strings.Contains(err.Error(), taken) || !strings.Contains(err.Error(), "choose another port") {
		t.Errorf("a named port that is taken: %+v, %v", named, err)
	}
	// A server that was killed is about to let go of its port.
	st = state{HTTP: taken}
	time.AfterFunc(portPatience/4, func() { l.Close() })
	if err := st.choosePorts(Options{Log: &log}); err != nil || st.HTTP != taken {
		t.Errorf("a recorded port that is free soon was not kept: %+v, %v", st, err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	st = state{}
	if err := st.choosePorts(Options{Log: &log, HTTPPort: port}); err != nil || st.HTTP != taken {
		t.Errorf("wanted %s, got %+v, %v", taken, st, err)
	}
	if b, err := json.Marshal(st); err != nil || strings.Contains(string(b), "container") {
		t.Errorf("state %s, %v", b, err)
	}
}
