package localdb

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
)

// process is a server that runs as a process of this machine.
type process struct {
	pid     int
	birth   string // start time and boot; with pid it names one process for ever
	logFile string
	logFrom int64         // where this start's lines begin
	exited  chan struct{} // closed once reaped; nil when it is not a child of ours
}

func (p *process) describe() string  { return fmt.Sprintf("process %d", p.pid) }
func (p *process) inContainer() bool { return false }

func (p *process) alive() bool {
	if p.exited != nil {
		select {
		case <-p.exited:
			return false
		default:
		}
	}
	birth, err := processBirth(p.pid)
	return err == nil && birth == p.birth
}

func (p *process) stop(patience time.Duration) error {
	// The handle comes first, then the look at the birth: on Linux the handle
	// then means the process looked at, even if its id is reused afterwards.
	h, err := os.FindProcess(p.pid)
	if err != nil || !p.alive() {
		return nil
	}
	defer h.Release()
	signal := func(s os.Signal) error {
		if err := h.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("cannot signal process %d: %w", p.pid, err)
		}
		return nil
	}
	if patience > 0 {
		if err := signal(syscall.SIGTERM); err != nil {
			return err
		}
		if p.awaitExit(patience) {
			return nil
		}
	}
	if err := signal(syscall.SIGKILL); err != nil {
		return err
	}
	if !p.awaitExit(10 * time.Second) {
		return fmt.Errorf("process %d survives SIGKILL", p.pid)
	}
	return nil
}

func (p *process) awaitExit(patience time.Duration) bool {
	for deadline := time.Now().Add(patience); p.alive(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// logTail returns the last lines that the server printed since its start.
func (p *process) logTail() string {
	const maxBytes, maxLines = 16 << 10, 25
	f, err := os.Open(p.logFile)
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	defer f.Close()
	from := p.logFrom
	if fi, err := f.Stat(); err == nil && fi.Size()-from > maxBytes {
		from = fi.Size() - maxBytes
	}
	b, err := io.ReadAll(io.NewSectionReader(f, from, maxBytes))
	if err != nil {
		return "(cannot read log: " + err.Error() + ")"
	}
	return lastLines(b, maxLines)
}

func lastLines(b []byte, n int) string {
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return string(bytes.Join(lines, []byte("\n")))
}

// waitReady returns once the server answers, or an error once it is gone, has
// taken too long, or ctx has ended.
func waitReady(ctx context.Context, st state, r runner) error {
	deadline := time.Now().Add(readyTimeout)
	for {
		err := askServer(ctx, st, r)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !r.alive() {
			return errors.New("it ended before it answered; its last words")
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no answer within %v: %w; its last words", readyTimeout, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// askServer asks one query that only the server of st answers rightly: another
// one may sit on its HTTP port, but not with the same PostgreSQL address.
func askServer(ctx context.Context, st state, r runner) error {
	const query = "SELECT value FROM (SHOW PARAMETERS) WHERE property_path = 'pg.net.bind.to'"
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+st.HTTP+"/exec?query="+url.QueryEscape(query), nil)
	if err != nil {
		return err
	}
	resp, err := localClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	var answer struct {
		Dataset [][]string
		Error   string
	}
	if err := json.Unmarshal(body, &answer); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("unexpected answer, HTTP %d: %.200q", resp.StatusCode, body)
	}
	if len(answer.Dataset) != 1 || len(answer.Dataset[0]) != 1 {
		return fmt.Errorf("unexpected answer: %.200q", body)
	}
	// In a container the addresses are the container's own, and its port mapping
	// is exclusive.
	if got := answer.Dataset[0][0]; !r.inContainer() && got != st.PG {
		return fmt.Errorf("another QuestDB (PostgreSQL at %s, not %s) answers at %s", got, st.PG, st.HTTP)
	}
	return nil
}

// localClient goes to 127.0.0.1 whatever HTTP_PROXY says, and keeps nothing open.
var localClient = &http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}}

// cleanEnv is this process's environment without the variables that would
// change the server behind the directory's back.
func cleanEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "QDB_") {
			env = append(env, kv)
		}
	}
	return env
}
