package session

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/lane"
	"deeptape/hotpath/ring"
	"deeptape/hotpath/task"
	"deeptape/venues/feed"
	"deeptape/venues/registry"
	"deeptape/venues/wire"
)

// rig is a session with a journal in memory.
type rig struct {
	t      *testing.T
	v      *testVenue
	l      *lane.Lane
	s      *Session
	cancel context.CancelFunc
	done   chan error
	bell   *ring.Doorbell
	taker  sync.WaitGroup

	ready atomic.Int64 // reads before which the next message was there

	mu     sync.Mutex
	inputs [][]byte // the journal
	rows   [][]byte // as they came through the ring
}

type rigOptions struct {
	symbols []string
	depth   int
	weight  int // REST weight a minute
	lane    lane.Options
	idle    bool // nobody takes from the rings at first
	change  func(*Session)
}

func newRig(t *testing.T, v *testVenue, o rigOptions) *rig {
	t.Helper()
	if o.symbols == nil {
		o.symbols = []string{"BTCUSDT"}
	}
	if o.depth == 0 {
		o.depth = 100
	}
	if o.weight == 0 {
		o.weight = 6000
	}
	if o.lane == (lane.Options{}) {
		o.lane = lane.Options{InputBytes: 1 << 20, RowBytes: 1 << 20, InputOwnedBytes: 1 << 20, RowOwnedBytes: 1 << 20}
	}
	venue, err := registry.ByName("binance")
	if err != nil {
		t.Fatal(err)
	}
	cfg := feed.Config{Version: feed.Version, Agent: "test", Venue: "binance", TopLevels: 5, Quotes: true, Depth: o.depth}
	for _, s := range o.symbols {
		cfg.Instruments = append(cfg.Instruments, event.Instrument{Venue: "binance", Symbol: s, PxScale: 2, QtyScale: 1, Source: "test"})
	}
	data, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, v: v, done: make(chan error, 1), bell: ring.NewDoorbell()}
	r.l = lane.New(7, o.lane, r.bell, r.bell)
	clock := wire.NewClock()
	base := v.http.URL
	rest := wire.NewRest(wire.RestOptions{Clock: clock, MaxBodyBytes: int64(venue.Rules().AnswerBytesMax), UsedWeightHeader: venue.Rules().RestWeightUsedHeader})
	t.Cleanup(rest.Close)
	budgets := NewBudgets(venue.Rules())
	budgets.Connects = wire.NewBudget(1000, time.Minute)
	budgets.Weight = wire.NewBudget(o.weight, time.Minute)
	r.s = New(Options{
		Venue: venue, WSURL: "ws" + base[len("http"):], RestURL: base, Config: data, Clock: clock, Sched: task.Real{}, Dial: DialWire(clock),
		Budgets: budgets, Rest: rest,
		Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)), Rand: rand.New(rand.NewPCG(1, 2)),
	}, r.l, cfg, 0)
	dial := r.s.opt.Dial
	r.s.opt.Dial = func(ctx context.Context, url string, maxBytes int) (Conn, error) {
		conn, err := dial(ctx, url, maxBytes)
		if err != nil {
			return nil, err
		}
		return &waitingConn{conn, r}, nil
	}
	if o.change != nil {
		o.change(r.s)
	}
	if !o.idle {
		r.take()
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	t.Cleanup(cancel)
	go func() { r.done <- r.s.Run(ctx) }()
	return r
}

// waitingConn sees that nothing is unpublished where the owner may wait for the venue.
type waitingConn struct {
	Conn
	r *rig
}

func (c *waitingConn) ReadBy(deadlineNs int64) ([]byte, int64, wire.ReadOutcome) {
	if live := c.r.s.live.Load(); live != nil && *live == Conn(c) && !c.Ready() {
		if pos, shown := c.r.s.pos, c.r.l.Derived(); pos != shown {
			c.r.t.Errorf("the session waits at input %d and has published those up to %d", pos, shown)
		}
	} else if live != nil && *live == Conn(c) {
		c.r.ready.Add(1)
	}
	return c.Conn.ReadBy(deadlineNs)
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(string(bytes.TrimSpace(b)))
	return len(b), nil
}

// take starts the journal writer and deliverer of the test.
func (r *rig) take() {
	r.l.SetWritten(math.MaxUint64) // the rows need not wait: it is the order that is looked at
	r.taker.Go(func() {
		for {
			closed := r.l.Closed()
			worked := r.takeRows()
			worked = r.takeInputs() || worked
			if worked {
				continue
			}
			if closed {
				return
			}
			r.bell.Prepare()
			if r.takeRows() || r.takeInputs() {
				r.bell.Cancel()
				continue
			}
			r.bell.Wait(10 * time.Millisecond)
		}
	})
}

func (r *rig) takeInputs() (worked bool) {
	for rec := r.l.Inputs.Peek(); rec != nil; rec = r.l.Inputs.Peek() {
		r.mu.Lock()
		r.inputs = append(r.inputs, bytes.Clone(rec))
		r.mu.Unlock()
		r.l.Inputs.Release()
		worked = true
	}
	return worked
}

// takeRows takes one row record, and finds its input in the journal's ring by then.
func (r *rig) takeRows() (worked bool) {
	rec := r.l.Peek()
	if rec == nil {
		return false
	}
	pos := event.RecordPos(rec)
	row := bytes.Clone(rec)
	r.l.Release()
	r.takeInputs()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows = append(r.rows, row)
	if uint64(len(r.inputs)) < pos {
		r.t.Errorf("a row of input %d, and the journal holds %d", pos, len(r.inputs))
	}
	return true
}

// journal takes the inputs so far apart.
func (r *rig) journal() (in []event.Input) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range r.inputs {
		i, _, err := event.GetInput(rec)
		if err != nil {
			r.t.Fatal(err)
		}
		in = append(in, i)
	}
	return in
}

func (r *rig) count(kind event.InputKind) (n int) {
	for _, in := range r.journal() {
		if in.Kind == kind {
			n++
		}
	}
	return n
}

// patience is for what must happen, however slow the machine is: only a test that
// fails waits that long.
const patience = time.Minute

func (r *rig) wait(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("waited in vain for %s; journal: %s", what, r.kinds())
		}
	}
}

// kinds is the journal in short: every input's line and kind, and how many of the same
// follow each other.
func (r *rig) kinds() string {
	var b bytes.Buffer
	in := r.journal()
	for n := 0; len(in) > 0; in = in[n:] {
		for n = 1; n < len(in) && in[n].Kind == in[0].Kind && in[n].Line == in[0].Line; n++ {
		}
		fmt.Fprintf(&b, "%d:%s×%d ", in[0].Line, in[0].Kind, n)
	}
	return b.String()
}

// stop ends the session, and checks what holds for every one of them.
func (r *rig) stop() {
	r.t.Helper()
	start := time.Now()
	r.cancel()
	if err := r.end(); err != nil {
		r.t.Fatalf("Run: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second { // a wait for a dial's timeout would be longer
		r.t.Errorf("the stop took %s", took)
	}
	r.taker.Wait()
	in := r.journal()
	if last := in[len(in)-1]; last.Kind != event.InputStop {
		r.t.Errorf("the last input is %s", last.Kind)
	}
	for i := range in {
		if in[i].Pos != uint64(i)+1 || in[i].Feed != 7 {
			r.t.Fatalf("input %d of feed %d at place %d", in[i].Pos, in[i].Feed, i+1)
		}
	}
	r.checkRows(in)
}

// end waits for Run, and for all of its goroutines.
func (r *rig) end() error {
	r.t.Helper()
	var err error
	select {
	case err = <-r.done:
	case <-time.After(patience):
		buf := make([]byte, 1<<16)
		r.t.Fatalf("Run does not end:\n%s", buf[:runtime.Stack(buf, true)])
	}
	if !r.l.Closed() || !r.l.Inputs.Closed() {
		r.t.Error("the lane is not closed")
	}
	buf := make([]byte, 1<<20)
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		stacks := buf[:runtime.Stack(buf, true)]
		if !bytes.Contains(stacks, []byte("session.(*Session)")) {
			break
		}
		if time.Now().After(end) {
			r.t.Errorf("a goroutine is left:\n%s", stacks)
			break
		}
	}
	return err
}

type sliceInputs struct{ in []event.Input }

func (s *sliceInputs) Next() (event.Input, error) {
	if len(s.in) == 0 {
		return event.Input{}, io.EOF
	}
	in := s.in[0]
	s.in = s.in[1:]
	return in, nil
}

// checkRows: what the journal derives is what came through the ring, byte for
// byte, and the ledgers of both are equal and balanced.
func (r *rig) checkRows(in []event.Input) {
	r.t.Helper()
	d := feed.NewDerivation(&sliceInputs{in}, 7)
	n := 0
	for {
		rec, _, err := d.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			r.t.Fatal(err)
		}
		if n == len(r.rows) || !bytes.Equal(rec, r.rows[n]) {
			r.t.Fatalf("row record %d of %d is not what the journal derives (input %d)", n+1, len(r.rows), event.RecordPos(rec))
		}
		n++
	}
	if n != len(r.rows) {
		r.t.Errorf("%d row records, the journal derives %d", len(r.rows), n)
	}
	live, again := r.l.Frames.Read(), d.Frames(7).Read()
	if live != again || live.Difference() != 0 {
		r.t.Errorf("ledger of frames: live %v, derived %v, difference %d", live, again, live.Difference())
	}
}
