// Package vsim runs the whole agent - sessions, machines, rings, journal, deliverer -
// on a simulated computer: clock, network, disk, venue and QuestDB are made from one
// seed, every task of the agent is stepped by it, and time is virtual, so that minutes
// of trouble pass in milliseconds and happen again exactly when the seed is given
// again. Only what stands below the agent's interfaces is missing: sockets, TLS and
// frames (venues/wire), the kernel's files, QuestDB itself. bench/endtoend has those.
//
// A run: the agent records a simulated market through faults drawn from the seed,
// is killed and restarted, then has some minutes of peace, is stopped, and the judge
// looks whether the five promises held against the market's true history.
//
// It must never read the machine's clock, start a goroutine that decides anything,
// or let the order of a map reach a decision.
//
// Invariant: the same seed gives the same trace, line for line.
package vsim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"deeptape/bench/world"
	"deeptape/cmd/agent"
	"deeptape/cmd/config"
	"deeptape/ilp/deliver"
	"deeptape/ilp/qdb"
	"deeptape/venues"
	"deeptape/venues/session"
)

// Result of a run.
type Result struct {
	Seed  uint64
	Err   error  // what promise was broken, or nil
	Trace *Trace // nil unless it was asked for
	Stats Stats
}

// Stats say what a run, or several, went through.
type Stats struct {
	Runs, Peaceful         int // peaceful: no fault at all
	VirtualNs              int64
	Steps                  int
	Kills, PowerLosses     int
	Stops                  int // by the operator, while there were faults
	Rows, Again, Batches   int // rows that the journal derives; rows that came to QuestDB again
	Frames, Lost, Deferred int64
	Gaps, Verified         int // intervals of coverage
}

func (s *Stats) add(o *Stats) {
	s.Runs += o.Runs
	s.Peaceful += o.Peaceful
	s.VirtualNs += o.VirtualNs
	s.Steps += o.Steps
	s.Kills += o.Kills
	s.PowerLosses += o.PowerLosses
	s.Stops += o.Stops
	s.Rows += o.Rows
	s.Again += o.Again
	s.Batches += o.Batches
	s.Frames += o.Frames
	s.Lost += o.Lost
	s.Deferred += o.Deferred
	s.Gaps += o.Gaps
	s.Verified += o.Verified
}

func (s Stats) String() string {
	return fmt.Sprintf("%d runs, %d of them without a fault, %s of virtual time in %d steps; %d kills, %d power losses, %d stops; %d frames, %d lost before the journal; %d rows, %d deferred, %d sent again in %d batches; %d verified intervals, %d gaps",
		s.Runs, s.Peaceful, time.Duration(s.VirtualNs).Round(time.Second), s.Steps, s.Kills, s.PowerLosses, s.Stops, s.Frames, s.Lost, s.Rows, s.Deferred, s.Again, s.Batches, s.Verified, s.Gaps)
}

const (
	journalDir = "/journal"
	calmFor    = 100 * time.Second // longer than any backoff, ban or silence
	stopWithin = 30 * time.Second
)

// run is one run under way.
type run struct {
	m       *machine
	disk    *disk
	db      *questdb
	venue   *venue
	cfg     config.Config
	aheadNs int64 // of the wall clock
	life    *life
	lives   int
	past    []*life
	calm    bool
	cuts    []cut // what power losses took
	stats   Stats
	failed  error
}

// life is one process.
type life struct {
	p       *process
	agent   *agent.Agent
	cancel  context.CancelFunc
	ended   bool
	err     error
	atNs    int64 // by its own clock
	stopped bool  // by the operator
	// As of the last look.
	frames, lost, deferred int64
	succeeded              bool // another is on its way
}

// cut is what a power loss may have taken: rows of these instants may be in the
// database and not in the journal.
type cut struct{ from, to int64 }

// Run makes one run. With trace it keeps every line.
func Run(seed uint64, trace bool) Result {
	m := &machine{rng: rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)), nowNs: world.DefaultStartNs}
	if trace {
		m.trace = &Trace{startNs: m.nowNs}
	}
	r := &run{m: m, disk: newDisk(m), db: newQuestDB(m)}
	err := r.all(seed)
	if r.life != nil {
		r.life.p.kill() // what is left of it
	}
	if err != nil {
		m.say("judge", "%v", err)
	}
	r.stats.Runs = 1
	for _, l := range r.past {
		r.stats.Frames += l.frames
		r.stats.Lost += l.lost
		r.stats.Deferred += l.deferred
	}
	r.stats.Steps, r.stats.VirtualNs = m.steps, m.nowNs-world.DefaultStartNs
	return Result{Seed: seed, Err: err, Trace: m.trace, Stats: r.stats}
}

func (r *run) all(seed uint64) error {
	m := r.m
	symbols := world.Symbols("AAAUSDT", "BBBUSDT")[:1+m.rng.IntN(2)]
	for i := range symbols {
		symbols[i].Depth, symbols[i].PerMille = 2*100+m.rng.IntN(60), 10+m.rng.IntN(50)
	}
	var err error
	if r.venue, err = newVenue(m, seed, symbols); err != nil {
		return err
	}
	r.configure(symbols)
	peaceful := m.chance(60)
	faulty := m.between(20*time.Second, 100*time.Second)
	if peaceful {
		r.stats.Peaceful = 1
	} else {
		r.weather(faulty)
	}
	r.boot()
	if err := r.until(m.nowNs+int64(faulty), nil); err != nil {
		return err
	}
	r.peace()
	if err := r.until(m.nowNs+int64(calmFor), nil); err != nil {
		return err
	}
	if r.life.ended {
		return fmt.Errorf("the agent has ended although nothing was wrong: %w", r.life.err)
	}
	m.say("operator", "stops the agent for good")
	r.life.cancel()
	if err := r.until(m.nowNs+int64(stopWithin), func() bool { return r.life.ended }); err != nil {
		return err
	}
	if !r.life.ended {
		return fmt.Errorf("the agent does not stop within %s", stopWithin)
	}
	if r.life.err != nil {
		return fmt.Errorf("the agent ended with an error: %w", r.life.err)
	}
	if err := r.sample(); err != nil {
		return err
	}
	return r.judge()
}

// configure draws rings, segments and limits.
func (r *run) configure(symbols []world.Symbol) {
	m := r.m
	c := config.Default()
	c.QuestDB, c.Listen, c.TopLevels = "http::addr=simulated:9000;", "", 5
	c.Journal.Dir = journalDir
	c.Journal.Segment = config.Bytes(32<<10 + m.rng.Int64N(200<<10))
	c.Journal.Keep = config.Duration(m.between(30*time.Second, 2*time.Hour))
	c.Rings = config.Rings{Inputs: 64 << 10, Rows: 64 << 10}
	v := config.Venue{WSURL: "ws://venue", RestURL: "http://venue", Depth: 5000, Lines: 1 + m.rng.IntN(2)}
	if m.chance(300) {
		v.ReconnectEvery = config.Duration(m.between(5*time.Second, 40*time.Second))
	}
	for _, s := range symbols {
		v.Symbols = append(v.Symbols, s.Name)
	}
	c.Venues = map[string]config.Venue{"binance": v}
	r.cfg = c
	m.say("run", "%d symbols, %d lines, planned reconnect every %s, segments of %d bytes", len(symbols), v.Lines, time.Duration(v.ReconnectEvery), c.Journal.Segment)
}

// boot starts the agent, as an operator or a supervisor does.
func (r *run) boot() {
	m := r.m
	p := m.start(r.aheadNs)
	r.disk.proc, r.db.proc = p, p
	ctx, cancel := context.WithCancel(context.Background())
	l := &life{p: p, cancel: cancel, atNs: p.NowNs()}
	r.life = l
	r.past = append(r.past, l)
	r.lives++
	net := network{r.venue, p}
	m.say("operator", "starts the agent, life %d; its clock is %s ahead", r.lives, time.Duration(p.aheadNs))
	on := agent.Machine{
		Name: fmt.Sprintf("sim/%d", r.lives), Sched: p, Clock: p, Seed: m.rng.Uint64,
		FS: r.disk, FreeBytes: func(string) (int64, error) { return r.disk.room, nil },
		Dial: net.dial, Rest: func(*venues.Rules) session.Rest { return net },
		Prepare:     func(ctx context.Context, db *qdb.DB) error { return db.Ping(ctx) },
		Transport:   r.db,
		OpenLowRate: func() (deliver.LowRate, error) { return r.db.openLowRate(), nil },
	}
	cfg := r.cfg
	p.Go("agent", func() {
		a, err := agent.New(ctx, agent.Options{Config: cfg, Log: slog.New(logger{m: m}), Machine: on})
		if err == nil {
			l.agent = a
			err = a.Run(ctx)
		}
		m.say("operator", "the agent has ended: %v", err)
		l.ended, l.err = true, err
	})
}

// until runs to a time, or until done. A process that has ended is started again.
func (r *run) until(endNs int64, done func() bool) error {
	sampleNs := r.m.nowNs
	for r.m.nowNs < endNs && (done == nil || !done()) {
		if !r.m.step() {
			return errors.New("everything has come to a stop")
		}
		if r.m.broken != nil {
			return r.m.broken
		}
		if r.db.broken != nil {
			return r.db.broken
		}
		if r.failed != nil {
			return r.failed
		}
		if l := r.life; l.ended && !l.p.dead && !l.succeeded && (!r.calm || l.stopped && done == nil) {
			l.succeeded = true
			if l.err != nil && !r.mayFail() && !(l.stopped && l.agent == nil) {
				return fmt.Errorf("the agent ended with an error: %w", l.err)
			}
			r.m.after(r.m.between(0, 10*time.Second), r.bootAgain)
		}
		if r.m.nowNs >= sampleNs {
			sampleNs = r.m.nowNs + int64(time.Second)
			if err := r.sample(); err != nil {
				return err
			}
		}
	}
	return nil
}

// sample looks whether the agent's own books balance.
func (r *run) sample() error {
	if r.life == nil || r.life.agent == nil {
		return nil
	}
	s := r.life.agent.Status()
	if s.LedgerDifference != 0 {
		return fmt.Errorf("promise 4: the ledger's difference is %d: frames %v, rows %v", s.LedgerDifference, s.Frames, s.Rows)
	}
	l := r.life
	l.frames, l.lost, l.deferred = s.Frames["received"], s.Frames["lost"], 0
	for _, rows := range s.Rows {
		l.deferred += int64(rows.Deferred)
	}
	return nil
}

// die ends the process as a kill -9 or a power loss does, and starts the next one a
// while later.
func (r *run) die(power bool) {
	l := r.life
	if l.p.dead {
		return
	}
	l.p.kill()
	for _, c := range append([]*conn(nil), r.venue.conns...) {
		c.Close(1006, "")
	}
	r.stats.Kills++
	r.m.say("operator", "kill -9")
	// Not together with a disk that has failed: what it had not synced is then lost
	// long after it was written, and rows derived around such a hole may have other ts
	// than those that QuestDB had before. No promise holds against both at once.
	if power && !r.disk.faulty {
		r.stats.PowerLosses++
		lost := r.disk.powerLoss()
		r.m.say("operator", "power loss: %d bytes were not on the platter", lost)
		// A frame may have waited for a while before it was written, and the writer
		// learns late that a sync has failed.
		const waited, late = int64(5 * time.Second), int64(2 * time.Second)
		for _, u := range append(r.disk.unsynced, [2]int64{min(r.disk.syncNs, r.m.nowNs-int64(time.Second)), r.m.nowNs}) {
			r.cuts = append(r.cuts, cut{u[0] + l.p.aheadNs - waited, u[1] + l.p.aheadNs + late})
		}
	}
	r.m.after(r.m.between(0, 8*time.Second), r.bootAgain)
}

// mayFail: an agent may end with an error only over its journal.
func (r *run) mayFail() bool {
	return r.disk.refusing || r.disk.fail > 0 || r.disk.room < roomy/2 || r.disk.troubledNs != 0 && r.m.nowNs-r.disk.troubledNs < int64(20*time.Second)
}

func (r *run) bootAgain() {
	if r.life.p.dead || r.life.ended {
		r.boot()
	}
}
