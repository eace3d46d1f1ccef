package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"deeptape/bench/world"
	"deeptape/cmd/localdb"
	"deeptape/ilp/qdb"
)

// rig is one profile and the database that its runs share.
type rig struct {
	opt      options
	profile  world.Profile
	dir      string
	db       *qdb.DB
	info     localdb.Info
	messages int // of one run, from its start on
	stamped  int // of them, those with a time
	levels   int
	warmNs   int64
	runs     int
}

func newRig(ctx context.Context, opt options, profile world.Profile) (r *rig, err error) {
	r = &rig{opt: opt, profile: profile}
	if r.opt.deeptape, err = filepath.Abs(opt.deeptape); err != nil {
		return nil, err
	}
	if _, err := os.Stat(r.opt.deeptape); err != nil {
		return nil, fmt.Errorf("no agent to run: %w; make build", err)
	}
	r.warmFor(leastWarmNs)
	if r.dir, err = os.MkdirTemp("", "deeptape-rig-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if r.info, err = localdb.Start(ctx, filepath.Join(r.dir, "questdb"), localdb.Options{}); err != nil {
		return nil, err
	}
	conf, err := qdb.ParseConf(r.info.Conf())
	if err != nil {
		return nil, err
	}
	r.db = qdb.Open(conf)
	return r, nil
}

func (r *rig) close() {
	if _, err := localdb.Stop(filepath.Join(r.dir, "questdb")); err != nil {
		fmt.Fprintln(os.Stderr, "rig:", err)
	}
	os.RemoveAll(r.dir)
}

// What a run takes before its start: processes, connections, 150 snapshots. Where that
// is not enough the run is begun again with more.
const (
	leadNs      = 2_000_000_000 // at least; a third of the warm-up, if that is more
	leastWarmNs = 6_000_000_000
	mostWarmNs  = 50_000_000_000
)

// warmFor sets how long the next runs warm up, and so what they send: where in the
// turn of its messages a symbol is when the run starts.
func (r *rig) warmFor(ns int64) {
	r.warmNs = ns
	r.messages, r.stamped, r.levels = world.NewLoad(r.profile, r.opt.seed).Total(ns, int64(r.opt.length))
}

// newJob is a schedule that begins soon.
func (r *rig) newJob() job {
	start := time.Now().UnixNano() + max(leadNs, r.warmNs/3) + r.warmNs
	return job{Profile: r.profile.Name, Seed: r.opt.seed, StartNs: start - start%1e9, WarmNs: r.warmNs, ForNs: int64(r.opt.length)}
}

// child is a process of the rig. It dies with us.
type child struct {
	name    string
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	out     *bufio.Reader
	errout  output
	waiting sync.Once
	err     error
}

func (r *rig) child(name string, env []string, path string, args ...string) (*child, error) {
	c := &child{name: name, cmd: exec.Command(path, args...)}
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.Stderr = &c.errout
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(stdout)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	return c, nil
}

// role starts this program in another role and reads its first answer.
func (r *rig) role(name string, j job, answer any) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c, err := r.child(name, []string{roleEnv + "=" + name}, self)
	if err != nil {
		return nil, err
	}
	if err = json.NewEncoder(c.stdin).Encode(j); err == nil {
		err = c.answer(answer)
	}
	if err != nil {
		c.kill()
		return nil, err
	}
	return c, nil
}

// answer reads the next line of a role.
func (c *child) answer(to any) error {
	line, err := c.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, to)
	}
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", c.name, err, c.errout.String())
	}
	return nil
}

// wait takes what is left of its output and its end.
func (c *child) wait() error {
	c.waiting.Do(func() {
		io.Copy(io.Discard, c.out)
		if c.err = c.cmd.Wait(); c.err != nil {
			c.err = fmt.Errorf("%s: %w\n%s", c.name, c.err, c.errout.String())
		}
	})
	return c.err
}

// end asks a role to end.
func (c *child) end() error {
	c.stdin.Close()
	return c.wait()
}

func (c *child) kill() {
	c.cmd.Process.Kill()
	c.wait()
}

// output keeps the last of what a process prints, and may be read meanwhile.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.b.Len() > 1<<20 {
		o.b.Next(o.b.Len() / 2)
	}
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// says waits until the process has logged what re matches.
func (c *child) says(ctx context.Context, re string) (string, error) {
	r := regexp.MustCompile(re)
	for began := time.Now(); time.Since(began) < time.Minute; {
		if m := r.FindStringSubmatch(c.errout.String()); m != nil {
			return m[1], nil
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("%s has not said %q:\n%s", c.name, re, c.errout.String())
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func pauseUntil(ctx context.Context, ns int64) error {
	return pause(ctx, time.Duration(ns-time.Now().UnixNano()))
}

func getJSON(url string, to any) error {
	c := http.Client{Timeout: 20 * time.Second}
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(to)
}

// readBare runs venue and bare reader.
func (r *rig) readBare(ctx context.Context) (got readings, err error) {
	j := r.newJob()
	var addrs venueAddrs
	venue, err := r.role("venue", j, &addrs)
	if err != nil {
		return got, err
	}
	defer venue.kill()
	j.WSURL = addrs.WSURL
	var connected string
	reader, err := r.role("reader", j, &connected)
	if err != nil {
		return got, err
	}
	defer reader.kill()
	if err := pauseUntil(ctx, j.StartNs+j.ForNs); err != nil {
		return got, err
	}
	for done := false; !done; { // and then what is on its way
		if err := pause(ctx, time.Second); err != nil {
			return got, err
		}
		if _, done, err = r.sentNow(addrs); err != nil {
			return got, err
		}
	}
	reader.stdin.Close()
	if err := reader.answer(&got); err != nil {
		return got, err
	}
	return got, errors.Join(reader.wait(), venue.end())
}

// sentNow counts what the venue has sent; done: that is all.
func (r *rig) sentNow(addrs venueAddrs) (messages int64, done bool, err error) {
	var st struct {
		Done    bool
		Streams []struct{ Sent int64 }
	}
	err = getJSON(addrs.RestURL+"/sim/status", &st)
	for _, s := range st.Streams {
		messages += s.Sent
	}
	return messages, st.Done, err
}

// symbols of the profile, as configuration.
func (r *rig) symbols() string {
	var names []string
	for _, s := range world.NewLoad(r.profile, r.opt.seed).Symbols {
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}
