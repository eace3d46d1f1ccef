package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"deeptape/cmd/config"
	"deeptape/hotpath/journal"
	"deeptape/hotpath/task"
	"deeptape/ilp/deliver"
	"deeptape/ilp/qdb"
	"deeptape/venues"
	"deeptape/venues/session"
	"deeptape/venues/wire"
)

type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// offline is this computer without venues: every dial and request fails.
func offline() Machine {
	m := ThisMachine()
	m.Dial = func(context.Context, string, int) (session.Conn, error) { return nil, errors.New("offline") }
	m.Rest = func(*venues.Rules) session.Rest { return noRest{} }
	return m
}

type noRest struct{}

func (noRest) Get(context.Context, string) (wire.Answer, error) {
	return wire.Answer{}, errors.New("offline")
}

// runOn runs an agent on a machine and returns its log, the folder of its journal and the
// error of its run. during, if not nil, looks on, and the run is stopped after it.
func runOn(t *testing.T, m Machine, questdb string, during func(a *Agent)) (log, journal string, err error) {
	t.Helper()
	var said logged
	cfg := config.Default()
	cfg.QuestDB, cfg.Listen, cfg.Journal.Dir = questdb, "127.0.0.1:0", t.TempDir()
	cfg.Venues = map[string]config.Venue{"binance": {Symbols: []string{"BTCUSDT"}, WSURL: "ws://127.0.0.1:1", RestURL: "http://127.0.0.1:1"}}
	a, err := New(context.Background(), Options{Config: cfg, Log: slog.New(slog.NewTextHandler(&said, nil)), Machine: m})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	if during != nil {
		during(a)
		cancel()
	}
	err = <-ended
	if during == nil && ctx.Err() != nil {
		t.Error("the agent ran on")
	}
	return said.String(), cfg.Journal.Dir, err
}

type panickingRest struct{}

func (panickingRest) Get(context.Context, string) (wire.Answer, error) { panic("planted") }

// A panic in what derives, journals or delivers ends the run with an error (exit code 1)
// and the stack in the log, and the journal can be read. It took the process down at once.
func TestPanicStops(t *testing.T) {
	for name, c := range map[string]struct {
		questdb string
		plant   func(m *Machine)
	}{
		"a dial": {"off", func(m *Machine) {
			m.Dial = func(context.Context, string, int) (session.Conn, error) { panic("planted") }
		}},
		"the journal writer": {"off", func(m *Machine) { m.FS = &brokenFS{FS: m.FS} }},
		"making the database ready": {"http::addr=127.0.0.1:1;", func(m *Machine) {
			var calls atomic.Int64
			m.Prepare = func(context.Context, *qdb.DB) error {
				if calls.Add(1) == 1 {
					return qdb.ErrUnreachable // the start
				}
				panic("planted")
			}
		}},
		"the sender of coverage": {"http::addr=127.0.0.1:1;", func(m *Machine) {
			var calls atomic.Int64
			m.Prepare = func(context.Context, *qdb.DB) error {
				if calls.Add(1) == 1 {
					return qdb.ErrUnreachable
				}
				return nil
			}
			m.OpenLowRate = func() (deliver.LowRate, error) { panic("planted") }
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m := offline()
			c.plant(&m)
			log, dir, err := runOn(t, m, c.questdb, nil)
			var p *task.PanicError
			if !errors.As(err, &p) || p.Task != name {
				t.Errorf("%v, want a panic in %s", err, name)
			}
			if !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "panics_test.go") {
				t.Errorf("the log has no stack:\n%s", log)
			}
			r := journal.NewReader(journal.OS, dir, journal.Position{Segment: 1})
			defer r.Close()
			for {
				if _, err := r.Next(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("the journal: %v", err)
				}
			}
		})
	}
}

// brokenFS panics at the second sync of a file.
type brokenFS struct {
	journal.FS
	syncs atomic.Int64
}

func (f *brokenFS) Create(name string) (journal.File, error) {
	file, err := f.FS.Create(name)
	if strings.HasSuffix(name, ".tmp") {
		return file, err
	}
	return &brokenFile{file, f}, err
}

type brokenFile struct {
	journal.File
	fs *brokenFS
}

func (f *brokenFile) Sync() error {
	if f.fs.syncs.Add(1) == 2 {
		panic("planted")
	}
	return f.File.Sync()
}

// A panic in what only looks on is a trouble on /healthz, and an ERROR with the stack, and
// recording goes on: the trouble ends when the same thing goes well again.
func TestPanicSurvived(t *testing.T) {
	m := offline()
	var broken atomic.Bool
	broken.Store(true)
	free := m.FreeBytes
	m.FreeBytes = func(dir string) (int64, error) {
		if broken.Load() {
			panic("planted")
		}
		return free(dir)
	}
	m.Rest = func(*venues.Rules) session.Rest { return panickingRest{} } // instruments at the start
	log, _, err := runOn(t, m, "off", func(a *Agent) {
		told := func() (n int) {
			for _, text := range a.troubles() {
				if strings.Contains(text, "BUG: panic in looking after the journal's limits: planted") {
					n++
				}
			}
			return n
		}
		await := func(what string, ok func() bool) {
			t.Helper()
			for began := time.Now(); !ok(); time.Sleep(20 * time.Millisecond) {
				if time.Since(began) > 20*time.Second {
					t.Fatalf("no %s: %v", what, a.troubles())
				}
			}
		}
		await("trouble", func() bool { return told() == 1 && a.StatusAddr() != "" })
		if resp, err := http.Get("http://" + a.StatusAddr() + "/healthz"); err != nil || resp.StatusCode != 503 {
			t.Errorf("healthz: %v %v", resp, err)
		}
		broken.Store(false)
		await("end of the trouble", func() bool { return told() == 0 })
	})
	if err != nil {
		t.Errorf("the run ended with %v", err)
	}
	for _, what := range []string{"looking after the journal's limits", "reading the instruments of binance"} {
		if !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "BUG: panic in "+what) || !strings.Contains(log, "panics_test.go") {
			t.Errorf("the log does not tell of %s:\n%s", what, log)
		}
	}
}

// A page that panics answers 500 and is told until it answers again.
func TestPanicOfPage(t *testing.T) {
	var log logged
	a := &Agent{log: slog.New(slog.NewTextHandler(&log, nil))}
	broken := true
	page := a.surviving(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if broken {
			panic("planted")
		}
	}))
	for _, want := range []int{500, 200} {
		w := &answer{header: http.Header{}, status: 200}
		req, _ := http.NewRequest("GET", "http://x/metrics", nil)
		page.ServeHTTP(w, req)
		if w.status != want || len(a.panics.troubles()) != want/500 {
			t.Errorf("status %d, troubles %v; want %d", w.status, a.panics.troubles(), want)
		}
		broken = false
	}
}

type answer struct {
	header http.Header
	status int
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) Write(p []byte) (int, error) { return len(p), nil }
func (a *answer) WriteHeader(s int)           { a.status = s }
