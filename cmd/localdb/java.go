package localdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
)

// java is a Java runtime that can run the server.
type java struct {
	path  string
	major int
}

var javaVersion = regexp.MustCompile(`version "(?:1\.)?(\d+)`)

// findJava looks in JAVA_HOME, then on PATH.
func findJava(ctx context.Context) (java, error) {
	var tries []string
	if home := os.Getenv("JAVA_HOME"); home != "" {
		tries = append(tries, filepath.Join(home, "bin", "java"))
	}
	if p, err := exec.LookPath("java"); err == nil {
		tries = append(tries, p)
	}
	why := errors.New("there is no Java")
	for _, path := range tries {
		// It prints its version to standard error. Some systems have a java that
		// only says where to get one: no version, so no Java.
		out, err := exec.CommandContext(ctx, path, "-version").CombinedOutput()
		m := javaVersion.FindSubmatch(out)
		if err != nil || m == nil {
			continue
		}
		major, err := strconv.Atoi(string(m[1]))
		if err != nil {
			continue
		}
		if major >= 17 {
			return java{path, major}, nil
		}
		why = fmt.Errorf("the Java at %q is version %d (17 or later is needed)", path, major)
	}
	return java{}, why
}

type javaEngine struct {
	java java
	jar  string
}

func (e *javaEngine) describe() string { return fmt.Sprintf("Java %d", e.java.major) }

// args of the Java command. The server's own advice (parallel collector), a
// small heap, and nothing outside the directory: without the property and the
// flag, Java leaves libraries and counters in the system's temporary folder.
func (e *javaEngine) args(d dbDir, heap string) []string {
	a := []string{
		"-XX:+UnlockExperimentalVMOptions", "-XX:+UseParallelGC",
		"-Xms64m", "-Xmx" + heap,
		"-XX:-UsePerfData",
		"-XX:ErrorFile=" + d.path("hs_err_pid%p.log"),
		"-Djava.io.tmpdir=" + d.path("tmp"),
	}
	if e.java.major >= 24 { // which warns of native libraries, later refuses them
		a = append(a, "--enable-native-access=io.questdb")
	}
	return append(a, "-p", e.jar, "-m", "io.questdb/io.questdb.ServerMain", "-d", d.root)
}

// settings are the server's, by environment, where they win over server.conf.
func settings(http, pg, metrics string) []string {
	return []string{
		"QDB_HTTP_BIND_TO=" + http,
		"QDB_PG_NET_BIND_TO=" + pg,
		"QDB_HTTP_MIN_NET_BIND_TO=" + metrics,
		// Rows come over HTTP, where an answer says whether they are stored.
		"QDB_LINE_TCP_ENABLED=false",
		"QDB_LINE_UDP_ENABLED=false",
		// A table made by itself has no DEDUP: a row sent twice would be two.
		"QDB_LINE_AUTO_CREATE_NEW_TABLES=false",
		"QDB_LINE_AUTO_CREATE_NEW_COLUMNS=false",
		"QDB_TELEMETRY_ENABLED=false",
		"QDB_METRICS_ENABLED=true",
		// A worker that finds nothing to do yields the processor 7,000 times before it
		// sleeps for a millisecond: after each batch. With 100 the server takes half the
		// CPU beside 150 streams (0.18 of a core, 0.39 without), and answers as soon.
		"QDB_SHARED_WORKER_NAP_THRESHOLD=100",
		"QDB_WAL_APPLY_WORKER_NAP_THRESHOLD=100",
	}
}

// logConf keeps the lines about starting, trouble and nothing else: by default
// the server writes five lines for each query and each request.
const logConf = `writers=stdout
w.stdout.class=io.questdb.log.LogConsoleWriter
w.stdout.level=CRITICAL,ERROR,ADVISORY
`

// prepare makes the parts of the directory that the server would make worse. A
// log.conf that is there already is the user's.
func (d dbDir) prepare() error {
	if err := os.RemoveAll(d.path("tmp")); err != nil { // a killed server's libraries
		return fmt.Errorf("cannot clear %q: %w", d.path("tmp"), err)
	}
	for _, sub := range []string{"tmp", "conf"} {
		if err := os.MkdirAll(d.path(sub), 0o755); err != nil {
			return fmt.Errorf("cannot make directory %q: %w", d.path(sub), err)
		}
	}
	conf := filepath.Join("conf", "log.conf")
	if _, err := os.Stat(d.path(conf)); err == nil {
		return nil
	}
	return writeFileAtomic(d.path(conf), []byte(logConf))
}

// command builds the server's command. Its output goes to log, its input is empty.
func (e *javaEngine) command(d dbDir, st state, heap string, log *os.File) *exec.Cmd {
	cmd := exec.Command(e.java.path, e.args(d, heap)...)
	cmd.Dir = d.root
	cmd.Env = append(cleanEnv(), settings(st.HTTP, st.PG, st.Metrics)...)
	cmd.Stdout, cmd.Stderr = log, log
	return cmd
}

func (d dbDir) openLog() (f *os.File, sizeBytes int64, err error) {
	path := d.path("questdb.log")
	if fi, err := os.Stat(path); err == nil && fi.Size() > logRotateBytes {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, 0, fmt.Errorf("cannot put aside log %q: %w", path, err)
		}
	}
	f, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot open log %q: %w", path, err)
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("cannot open log %q: %w", path, err)
	}
	return f, fi.Size(), nil
}

// start runs the server in a session of its own, so that neither the end of its
// starter nor a Ctrl-C in its starter's terminal reaches it.
func (e *javaEngine) start(_ context.Context, d dbDir, st *state, opt Options) (runner, error) {
	if err := d.prepare(); err != nil {
		return nil, err
	}
	log, logFrom, err := d.openLog()
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := e.command(d, *st, opt.Heap, log)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot run %q: %w", e.java.path, err)
	}
	p := &process{pid: cmd.Process.Pid, logFile: log.Name(), logFrom: logFrom, exited: make(chan struct{})}
	// Read before anybody waits for it: until then its id cannot be reused.
	p.birth, err = processBirth(p.pid)
	if errors.Is(err, os.ErrProcessDone) {
		// It ended at once, as with a bad option. Whoever waits for it to be ready
		// will see that and show what it said.
		err = nil
	} else if err == nil {
		err = d.saveProcess(p)
	}
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		return nil, fmt.Errorf("cannot start QuestDB in %q: %w", d.root, err)
	}
	go func() {
		cmd.Wait() // else it would stay a zombie while this process lives
		close(p.exited)
	}()
	return p, nil
}
