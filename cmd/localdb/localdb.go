// Package localdb runs a QuestDB of its own in a directory, for people who
// have none: `deeptape db` and `deeptape demo`.
//
// The directory is QuestDB's root (conf/, db/, ...) and holds four files of
// ours beside it:
//
//	deeptape-db.json   ports, kept from one start to the next
//	deeptape-db.lock   held (flock) by whoever starts or stops the server
//	questdb.pid        process id, its start time and the boot it belongs to
//	questdb.log        what the server prints; rotated at a start once large
//
// The server is the release pinned below: the jar fetched by its Maven
// coordinates and checked by SHA-256 before every start, run by a Java of 17
// or later; or, where one of these is missing, the container image of the same
// version.
//
// Invariants:
//   - one directory, one server: Start of a running one returns the running one,
//     however many processes call it at once;
//   - a process is signalled only if its id, start time and boot all match the
//     pid file: a recycled id is never killed;
//   - a jar whose hash differs is never run;
//   - nothing listens on anything but 127.0.0.1;
//   - Stop returns when the process is gone and its ports can be bound again.
package localdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Version of QuestDB that this package runs.
const Version = "9.3.4"

const (
	// readyTimeout bounds a start. A quiet machine needs 3 s; one with all its
	// cores taken was seen to need 8; a large database replays its WAL first.
	readyTimeout = 3 * time.Minute

	// stopTimeout is what a server gets between TERM and KILL. It needs 0.2 s;
	// killing it loses nothing that it has acknowledged.
	stopTimeout = 20 * time.Second

	// logRotateBytes: a larger log is put aside (one generation) at a start.
	logRotateBytes = 16 << 20
)

// Options of Start. The zero value is good.
type Options struct {
	Heap     string    // largest Java heap, as -Xmx takes it; "" is 512m
	HTTPPort int       // this one and no other; 0: the directory's own, else any that is free
	PGPort   int       // the same for the PostgreSQL protocol
	Usual    bool      // where the choice is free, QuestDB's usual ports first: 9000, 8812
	Log      io.Writer // progress, a line at a time; nil for none
}

// Info tells where a server is. Addresses are "127.0.0.1:port".
type Info struct {
	Dir     string
	Version string
	HTTP    string // REST, ILP over HTTP, web console
	PG      string // PostgreSQL wire protocol
	Metrics string // Prometheus metrics and health, on a server of their own
	LogFile string // "" when it runs in a container

	Running   bool
	Ready     bool   // it answered a query just now
	PID       int    // 0 when it is stopped, or runs in a container
	Container string // container name, or ""
}

// Conf returns the client configuration string of the server.
func (i Info) Conf() string { return "http::addr=" + i.HTTP + ";" }

// Start brings up the server of dir, making the directory if need be, and
// returns once it answers queries. If it runs already, Start returns that one.
// The server outlives this process; Stop ends it. When ctx ends first, nothing
// is left running.
func Start(ctx context.Context, dir string, opt Options) (Info, error) {
	if opt.Heap == "" {
		opt.Heap = "512m"
	}
	if opt.Log == nil {
		opt.Log = io.Discard
	}
	d, err := openDir(dir, true)
	if err != nil {
		return Info{}, err
	}
	unlock, err := lockFile(ctx, d.path("deeptape-db.lock"), func() {
		fmt.Fprintf(opt.Log, "waiting for another start or stop of %s\n", d.root)
	})
	if err != nil {
		return Info{}, err
	}
	defer unlock()

	st, err := d.loadState()
	if err != nil {
		return Info{}, err
	}
	if r := d.running(st); r != nil {
		if err := st.runsAt(d, opt); err != nil {
			return Info{}, err
		}
		fmt.Fprintf(opt.Log, "QuestDB runs already in %s\n", d.root)
		return d.awaitRunning(ctx, st, r)
	}
	engine, err := findEngine(ctx, d, opt)
	if err != nil {
		return Info{}, err
	}
	return d.startNew(ctx, st, engine, opt)
}

// awaitRunning waits for a server that somebody else started: it may have lost
// its starter half-way.
func (d dbDir) awaitRunning(ctx context.Context, st state, r runner) (Info, error) {
	if err := waitReady(ctx, st, r); err != nil {
		return Info{}, fmt.Errorf("cannot use QuestDB that runs in %q (%s): %w; `deeptape db stop --dir %s` ends it",
			d.root, r.describe(), err, d.root)
	}
	info := d.info(st, r)
	info.Ready = true
	return info, nil
}

func (d dbDir) startNew(ctx context.Context, st state, e engine, opt Options) (Info, error) {
	// A port found free can be taken before the server binds it, so a lost race
	// gets another try with other ports.
	for try := 1; ; try++ {
		if err := st.choosePorts(opt); err != nil {
			return Info{}, err
		}
		// Before the process exists, so that nobody finds one without its ports.
		if err := d.saveState(st); err != nil {
			return Info{}, err
		}
		fmt.Fprintf(opt.Log, "starting QuestDB %s in %s (%s)\n", Version, d.root, e.describe())
		began := time.Now()
		r, err := e.start(ctx, d, &st, opt)
		if err != nil && try < 3 && portWasTaken(err.Error()) { // docker says it at once
			fmt.Fprintln(opt.Log, "a port was taken meanwhile; trying others")
			continue
		}
		if err != nil {
			return Info{}, err
		}
		err = waitReady(ctx, st, r)
		if err == nil {
			fmt.Fprintf(opt.Log, "QuestDB answers at http://%s after %.1f s\n", st.HTTP, time.Since(began).Seconds())
			info := d.info(st, r)
			info.Ready = true
			return info, nil
		}
		tail := r.logTail()
		if kerr := r.stop(0); kerr != nil {
			return Info{}, fmt.Errorf("cannot start QuestDB in %q: %w; and cannot end it: %w", d.root, err, kerr)
		}
		d.forget()
		if ctx.Err() == nil && try < 3 && portWasTaken(tail) {
			fmt.Fprintln(opt.Log, "a port was taken meanwhile; trying others")
			continue
		}
		return Info{}, fmt.Errorf("cannot start QuestDB in %q: %w\n%s", d.root, err, indent(tail))
	}
}

// Stop ends the server of dir and reports whether there was one to end. It
// returns when the process is gone and its ports are free again.
func Stop(dir string) (wasRunning bool, err error) {
	d, err := openDir(dir, false)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout+stopTimeout)
	defer cancel()
	unlock, err := lockFile(ctx, d.path("deeptape-db.lock"), nil)
	if err != nil {
		return false, err
	}
	defer unlock()

	st, err := d.loadState()
	if err != nil {
		return false, err
	}
	r := d.running(st)
	if r == nil {
		d.forget()
		return false, nil
	}
	if err := r.stop(stopTimeout); err != nil {
		return true, fmt.Errorf("cannot stop QuestDB in %q (%s): %w", d.root, r.describe(), err)
	}
	d.forget()
	return true, awaitPortsFree(st, 5*time.Second)
}

// Status tells about the server of dir without changing anything. A directory
// that does not exist, or holds no server, is a stopped one.
func Status(dir string) (Info, error) {
	d, err := openDir(dir, false)
	if errors.Is(err, os.ErrNotExist) {
		return Info{Dir: dir, Version: Version}, nil
	}
	if err != nil {
		return Info{}, err
	}
	st, err := d.loadState()
	if err != nil {
		return Info{}, err
	}
	r := d.running(st)
	info := d.info(st, r)
	if r != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		info.Ready = askServer(ctx, st, r) == nil
	}
	return info, nil
}

func (d dbDir) info(st state, r runner) Info {
	info := Info{Dir: d.root, Version: Version, HTTP: st.HTTP, PG: st.PG, Metrics: st.Metrics, LogFile: d.path("questdb.log")}
	if r == nil {
		return info
	}
	info.Running = true
	switch r := r.(type) {
	case *process:
		info.PID = r.pid
	case *container:
		info.Container, info.LogFile = r.name, ""
	}
	return info
}

// runner is a server that has been started: a process or a container.
type runner interface {
	alive() bool
	stop(patience time.Duration) error // TERM, then KILL when patience ends; idempotent
	logTail() string
	describe() string
	inContainer() bool
}

// engine is a way of starting one.
type engine interface {
	start(ctx context.Context, d dbDir, st *state, opt Options) (runner, error)
	describe() string
}

// findEngine prefers Java with the jar; without one of its parts, docker.
func findEngine(ctx context.Context, d dbDir, opt Options) (engine, error) {
	java, why := findJava(ctx)
	if why == nil {
		jar, err := fetchJar(ctx, opt.Log)
		if err == nil {
			return &javaEngine{java: java, jar: jar}, nil
		}
		if !errors.Is(err, errNoMaven) {
			return nil, err
		}
		why = err
	}
	docker, err := findDocker(ctx)
	if err == nil {
		fmt.Fprintf(opt.Log, "%v; using docker\n", why)
		return &dockerEngine{docker: docker}, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("cannot start QuestDB: %w, and %w. "+
		"Install a Java runtime of version 17 or later and Maven (Debian, Ubuntu: apt-get install default-jre-headless maven), "+
		"or docker with its daemon running", why, err)
}

func portWasTaken(logTail string) bool {
	l := strings.ToLower(logTail)
	return strings.Contains(l, "could not bind") || strings.Contains(l, "address already in use") || strings.Contains(l, "port is already allocated")
}

func indent(s string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n    ")
}

// portPatience is how long a recorded port may be taken before another is chosen: a server
// that was killed holds its sockets until the kernel has taken its memory back.
const portPatience = 2 * time.Second

// choosePorts takes the ports that opt names, or says who holds them. Where it names none,
// it keeps the recorded ones that are free, or soon are, then takes the usual ones, then any.
func (st *state) choosePorts(opt Options) error {
	var held []net.Listener
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	deadline := time.Now().Add(portPatience)
	choose := func(recorded string, named, usual int) (string, error) {
		var tries []string
		switch {
		case named != 0:
			tries = []string{local(named)}
		case recorded != "":
			tries = []string{recorded, local(0)}
		case opt.Usual:
			tries = []string{local(usual), local(0)}
		default:
			tries = []string{local(0)}
		}
		for _, addr := range tries {
			var by time.Time // now or not at all
			if addr == recorded {
				by = deadline
			}
			l, err := listenBy(addr, by)
			switch {
			case err == nil:
				held = append(held, l) // so that the next choice is another one
				return l.Addr().String(), nil
			case named != 0:
				return "", fmt.Errorf("cannot start QuestDB at %s: %s; end that, choose another port, or name none to get one that is free", addr, holderOf(addr, err))
			case addr == local(0):
				return "", fmt.Errorf("cannot find a free port on 127.0.0.1: %w", err)
			}
			fmt.Fprintf(opt.Log, "%s is taken; using another port\n", addr)
		}
		panic("unreachable: the last try returns")
	}
	var err error
	if st.HTTP, err = choose(st.HTTP, opt.HTTPPort, 9000); err != nil {
		return err
	}
	if st.PG, err = choose(st.PG, opt.PGPort, 8812); err != nil {
		return err
	}
	st.Metrics, err = choose(st.Metrics, 0, 0)
	return err
}

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// holderOf says who holds an address, as far as can be seen, for an address at which
// nobody can listen for the reason err.
func holderOf(addr string, err error) string {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err.Error()
	}
	client := http.Client{Timeout: 2 * time.Second}
	r, err := client.Get("http://" + addr + "/exec?query=SELECT%20build()")
	if err != nil {
		return "another program holds the port"
	}
	defer r.Body.Close()
	if b, err := io.ReadAll(io.LimitReader(r.Body, 64<<10)); err == nil && bytes.Contains(b, []byte("QuestDB")) {
		return "another QuestDB answers there (`deeptape db status --dir DIR` says where one of ours runs)"
	}
	return "another program answers there"
}

// runsAt refuses a running server at other ports than those that opt names.
func (st *state) runsAt(d dbDir, opt Options) error {
	for _, p := range []struct {
		named int
		at    string
	}{{opt.HTTPPort, st.HTTP}, {opt.PGPort, st.PG}} {
		if p.named != 0 && p.at != local(p.named) {
			return fmt.Errorf("cannot start QuestDB at %s: the one of %q runs at %s; `deeptape db stop --dir %s` ends it", local(p.named), d.root, p.at, d.root)
		}
	}
	return nil
}

// listenBy listens at addr as soon as that is free. The error is of the last try, which is
// made after the deadline.
func listenBy(addr string, deadline time.Time) (net.Listener, error) {
	for {
		l, err := net.Listen("tcp4", addr)
		if err == nil || time.Now().After(deadline) {
			return l, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// awaitPortsFree returns once every port of st can be bound again.
func awaitPortsFree(st state, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for _, addr := range []string{st.HTTP, st.PG, st.Metrics} {
		if addr == "" {
			continue
		}
		l, err := listenBy(addr, deadline)
		if err != nil {
			return fmt.Errorf("QuestDB has stopped, but something holds its port: %w", err)
		}
		l.Close()
	}
	return nil
}

// DefaultDir is where `deeptape db` keeps its database unless told otherwise:
// below the current directory, beside the journal.
func DefaultDir() string { return filepath.Join("deeptape-data", "questdb") }
