// Package vsim runs the whole agent - sessions, machines, rings, journal, deliverer -
// on a simulated computer: clock, network, disk, venues and QuestDB are made from one
// seed, every task of the agent is stepped by it, and time is virtual, so that minutes
// of trouble pass in milliseconds and happen again exactly when the seed is given
// again. Only what stands below the agent's interfaces is missing: sockets, TLS and
// frames (venues/wire), the kernel's files, QuestDB itself. bench/endtoend has those.
//
// A run: the agent records one or two of six venues (bench/simvenue) through faults
// drawn from the seed - the venue's own, and those of the way from it -, is killed and
// restarted, then has some minutes of peace, is stopped, and the judge looks whether
// the five promises held against what each venue said and what its market was.
//
// Faults that live below the frame are here what wire makes of them: a fragmented
// message is whole, one that comes byte by byte (slow-loris) comes late and nothing
// after it, one that is too long (oversized) ends the connection. A half-open
// connection is open, and nothing comes.
//
// What a venue says is what a faithful record holds, also where a fault made it say
// what is not so (crossed). The market's own book is what a verified record is held
// against where nothing was crossed: all levels of the subscribed depth, and of Kraken,
// whose checksums prove no more, the best ten.
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
	"slices"
	"time"

	"deeptape/bench/simvenue"
	"deeptape/bench/world"
	"deeptape/cmd/agent"
	"deeptape/cmd/config"
	"deeptape/hotpath/event"
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

	// Of a run with a plan: what struck, and by symbol the causes of the gaps in its book,
	// those of starts and stops left out.
	Strikes []simvenue.Strike
	Gaps    map[string][]string
}

const (
	journalDir = "/journal"
	calmFor    = 100 * time.Second // longer than any backoff, ban or silence
	calmAtMost = 800 * time.Second // longer than a snapshot is not asked for
	stopWithin = 30 * time.Second
)

// run is one run under way.
type run struct {
	m       *machine
	plan    Plan
	disk    *disk
	db      *questdb
	venues  []*venue
	cfg     config.Config
	aheadNs int64 // of the wall clock
	life    *life
	lives   int
	past    []*life
	calm    bool
	cuts    []cut // what power losses took
	stats   Stats
	failed  error
	gaps    map[string][]string
	lookNs  int64 // of the next look whether all is well
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

// Plan of a run. The zero value draws everything from the seed.
type Plan struct {
	Venue string // the only one
	Fault string // of the venue's own, the only one, once
	Lines int
}

// Run makes one run. With trace it keeps every line.
func Run(seed uint64, plan Plan, trace bool) Result {
	m := &machine{rng: rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)), nowNs: world.DefaultStartNs}
	if trace {
		m.trace = &Trace{startNs: m.nowNs}
	}
	r := &run{m: m, plan: plan, gaps: map[string][]string{}, disk: newDisk(m), db: newQuestDB(m)}
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
	for _, v := range r.venues {
		for _, s := range v.core.Strikes() {
			if s.Receivers > 0 || s.First == s.Last {
				r.stats.Struck[slices.Index(venueNames(), v.name)][slices.Index(faultNames, s.Fault)]++
			}
		}
	}
	r.stats.Steps, r.stats.VirtualNs = m.steps, m.nowNs-world.DefaultStartNs
	result := Result{Seed: seed, Err: err, Trace: m.trace, Stats: r.stats, Gaps: r.gaps}
	if plan.Venue != "" && len(r.venues) > 0 {
		result.Strikes = r.venues[0].core.Strikes()
	}
	return result
}

func (r *run) all(seed uint64) error {
	m := r.m
	peaceful := r.plan.Venue == "" && m.chance(60)
	faulty, calm := m.between(20*time.Second, 100*time.Second), calmFor
	if r.plan.Venue != "" {
		if faulty = 30 * time.Second; r.plan.Fault != "half-open" && r.plan.Fault != "slow-loris" {
			calm = 40 * time.Second // nobody has to find out
		}
	}
	if peaceful {
		r.stats.Peaceful = 1
	}
	r.configure()
	for i, name := range r.draw() {
		if err := r.open(name, seed+uint64(i)<<32, i == 0, peaceful, faulty); err != nil {
			return err
		}
	}
	if !peaceful && r.plan.Venue == "" {
		r.weather(faulty)
	}
	r.boot()
	if err := r.until(m.nowNs+int64(faulty), nil); err != nil {
		return err
	}
	r.peace()
	// A venue that has been asked too often for a snapshot is left alone for minutes.
	if err := r.until(m.nowNs+int64(calm), nil); err != nil {
		return err
	}
	if err := r.until(m.nowNs+int64(calmAtMost-calmFor), r.well); err != nil {
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

// draw says which venues there are.
func (r *run) draw() []string {
	m := r.m
	if r.plan.Venue != "" {
		return []string{r.plan.Venue}
	}
	one := func() string {
		if m.chance(400) {
			return dialects[0].venue
		}
		return dialects[1+m.rng.IntN(numVenues-1)].venue
	}
	names := []string{one()}
	if second := one(); m.chance(250) && second != names[0] {
		names = append(names, second)
	}
	return names
}

// open makes a venue, and tells the agent to record it.
func (r *run) open(name string, seed uint64, first, peaceful bool, faulty time.Duration) error {
	m := r.m
	bases := []string{"AAA", "BBB"}[:1+m.rng.IntN(2)]
	if r.plan.Venue != "" {
		bases = []string{"AAA", "BBB"}
	}
	c := config.Venue{RestURL: "http://" + name, Lines: 1 + m.rng.IntN(2)}
	if r.plan.Venue != "" {
		c.Lines = r.plan.Lines
	}
	for _, b := range bases {
		c.Symbols = append(c.Symbols, simvenue.Symbol(name, b))
	}
	symbols := simvenue.Markets(name, c.Symbols...)
	for i := range symbols {
		symbols[i].Depth, symbols[i].PerMille = 100+m.rng.IntN(160), 10+m.rng.IntN(50)
		if r.plan.Venue != "" {
			symbols[i].PerMille += 20
		}
	}
	d := dialectOf(name)
	switch n := len(d.depths); {
	case n == 1:
		c.Depth = d.depths[0]
	case n > 1:
		c.Depth = d.depths[m.rng.IntN(n)]
	}
	if m.chance(300) && r.plan.Venue == "" {
		c.ReconnectEvery = config.Duration(m.between(d.reconnectLeast, 40*time.Second))
	}
	var faults []simvenue.Fault
	switch {
	case r.plan.Fault != "":
		faults = []simvenue.Fault{r.fault(r.plan.Fault, 0)}
	case !peaceful && m.chance(600):
		for range 1 + m.rng.IntN(3) {
			if f := r.fault(faultNames[m.rng.IntN(numFaults)], faulty); occurs(f.Name, name) {
				faults = append(faults, f)
			}
		}
	}
	v, err := newVenue(m, name, seed, symbols, faults)
	if err != nil {
		return err
	}
	r.venues = append(r.venues, v)
	c.WSURL = "ws://" + name + v.core.WSPath()
	r.cfg.Venues[name] = c
	m.say("run", "%s: %d symbols, depth %d, %d lines, planned reconnect every %s, faults %v", name, len(symbols), c.Depth, c.Lines, time.Duration(c.ReconnectEvery), faults)
	return nil
}

// configure draws rings, segments and limits.
func (r *run) configure() {
	m := r.m
	c := config.Default()
	c.QuestDB, c.Listen, c.TopLevels = "http::addr=simulated:9000;", "", 5
	c.Journal.Dir = journalDir
	c.Journal.Segment = config.Bytes(32<<10 + m.rng.Int64N(200<<10))
	c.Journal.Keep = config.Duration(m.between(30*time.Second, 2*time.Hour))
	c.Rings = config.Rings{Inputs: 64 << 10, Rows: 64 << 10}
	c.Venues = map[string]config.Venue{}
	r.cfg = c
	m.say("run", "segments of %d bytes", c.Journal.Segment)
}

// well: every stream has begun again.
func (r *run) well() bool {
	if r.life.agent == nil {
		return true
	}
	if r.m.nowNs < r.lookNs {
		return false
	}
	r.lookNs = r.m.nowNs + int64(time.Second)
	for _, s := range r.life.agent.Status().Symbols {
		for _, c := range s.Coverage {
			if c.State == event.StateGap.String() {
				return false
			}
		}
	}
	return true
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
	net := network{r, p}
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
		if l := r.life; l.ended && !l.p.dead && !l.succeeded && (!r.calm || l.stopped && done == nil || l.err != nil && r.mayFail()) {
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
	for _, v := range r.venues {
		for _, c := range slices.Clone(v.conns) {
			c.Close(1006, "")
		}
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
		// Of a clock that was put back the rows are ahead.
		newest := int64(0)
		for k := range r.db.rows {
			newest = max(newest, k.ts)
		}
		for _, u := range append(r.disk.unsynced, [2]int64{min(r.disk.syncNs, r.m.nowNs-int64(time.Second)), r.m.nowNs}) {
			r.cuts = append(r.cuts, cut{u[0] + l.p.aheadNs - waited, max(u[1]+l.p.aheadNs+late, newest)})
		}
	}
	r.m.after(r.m.between(0, 8*time.Second), r.bootAgain)
}

// resumed: rows of an agent that is no more have just shown in a table that was
// suspended. Another, whose own list of names a power loss has taken, cannot tell that
// from one that is alive, and may refuse to start.
func (r *run) resumed() bool {
	return r.db.resumedNs != 0 && r.m.nowNs-r.db.resumedNs < int64(10*time.Second)
}

// mayFail: an agent may end with an error only over its journal, or over another agent.
func (r *run) mayFail() bool {
	return r.resumed() || r.disk.refusing || r.disk.fail > 0 || r.disk.room < roomy/2 || r.disk.troubledNs != 0 && r.m.nowNs-r.disk.troubledNs < int64(20*time.Second)
}

func (r *run) bootAgain() {
	if r.life.p.dead || r.life.ended {
		r.boot()
	}
}
