// Package agent puts a recording agent together: lanes between sessions, journal
// writer and deliverer, in their order of start and stop.
//
//	session (one per feed) ──inputs──► journaler ──► journal files
//	       └──────rows──────► deliverer ──► QuestDB
//
// It must never come between them: once running it only watches.
//
// Start: journal, database, instruments, lanes, journaler, deliverer, sessions.
// Stop: sessions (stop record, lanes closed), journaler (everything written and
// synced), deliverer (everything acknowledged, or told what is left).
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"deeptape/cmd/config"
	"deeptape/hotpath/journal"
	"deeptape/hotpath/lane"
	"deeptape/hotpath/task"
	"deeptape/ilp/deliver"
	"deeptape/ilp/qdb"
	"deeptape/ilp/schema"
	"deeptape/venues"
	"deeptape/venues/feed"
	"deeptape/venues/follow"
	"deeptape/venues/registry"
	"deeptape/venues/session"
	"deeptape/venues/wire"
)

// mostPerFeed bounds what one connection and one goroutine carry.
const mostPerFeed = 50

// instrumentsPerFeed is how many instruments of a venue share a connection: no more
// than the venue lets, or than its proof makes wise.
func instrumentsPerFeed(rules *venues.Rules) int {
	if n := rules.InstrumentsPerConn; n > 0 {
		return min(n, mostPerFeed)
	}
	return mostPerFeed
}

// feedsOf is how many feeds so many instruments of a venue take.
func feedsOf(rules *venues.Rules, instruments int) int {
	each := instrumentsPerFeed(rules)
	return (instruments + each - 1) / each
}

// The row rings of all feeds together, and of one. A row that finds no room is derived
// again from the journal, which makes it cost 0.47 us instead of 0.38 us of CPU at a
// flood of 150 streams over three feeds; so few feeds have room for two million rows each,
// and many share what there is.
const (
	rowRingsBytes    = 192 << 20
	rowRingBytesMin  = 8 << 20
	rowRingBytesMost = 64 << 20
)

// laneOptions are the sizes of one of so many lanes' rings, unless they are configured.
func laneOptions(rings config.Rings, feeds int) lane.Options {
	rows := min(max(1<<(bits.Len(uint(rowRingsBytes/feeds))-1), rowRingBytesMin), rowRingBytesMost)
	opt := lane.Options{InputBytes: 2 << 20, RowBytes: rows, InputOwnedBytes: 64 << 20, RowOwnedBytes: 64 << 20}
	if rings.Inputs > 0 {
		opt.InputBytes = powerOfTwo(rings.Inputs)
	}
	if rings.Rows > 0 {
		opt.RowBytes = powerOfTwo(rings.Rows)
	}
	return opt
}

// Options of an agent.
type Options struct {
	Config  config.Config
	Log     *slog.Logger
	Machine Machine
}

// Agent records what its configuration names.
type Agent struct {
	cfg       config.Config
	log       *slog.Logger
	name      string
	machine   Machine
	clock     wire.Clock
	started   int64
	db        *qdb.DB // nil: journal only
	dbReady   bool    // it answered at the start
	conf      qdb.Conf
	writer    *journal.Writer
	lanes     []*lane.Lane
	sessions  []*session.Session
	feeds     []feed.Config
	journaler *journaler
	deliverer *deliver.Deliverer
	pastRuns  *past
	ackedMu   sync.Mutex // of the file of acknowledged positions
	anchors   anchors
	packed    packing
	// Of capture_stats, and of its task alone: audits of each book that have been told.
	auditsTold map[instrumentKey]uint64
	// Of the watchdog: see watchProgress.
	writing, delivering progress
	status              atomic.Pointer[statusServer]
	inQuarantine        atomic.Pointer[string] // the trouble, "" for none
	letGo               atomic.Pointer[string] // the trouble: segments go that QuestDB may need; nil for none
	panics              panics
}

// powerOfTwo is the size of a ring of at least n bytes.
func powerOfTwo(n config.Bytes) int { return 1 << bits.Len64(uint64(max(n, 64<<10)-1)) }

// New opens the journal, looks at the database and learns the instruments. After
// an error nothing is left open.
func New(ctx context.Context, opt Options) (_ *Agent, err error) {
	a := &Agent{cfg: opt.Config, log: opt.Log, name: opt.Machine.Name, machine: opt.Machine, clock: opt.Machine.Clock}
	a.started = a.clock.NowNs()
	a.auditsTold = map[instrumentKey]uint64{}
	a.anchors = anchors{fs: a.machine.FS, dir: a.cfg.Journal.Dir, known: map[uint64]map[uint16]uint64{}}
	var recovery journal.Recovery
	if a.writer, recovery, err = journal.Open(a.machine.FS, a.cfg.Journal.Dir, journal.Options{SegmentBytes: int64(a.cfg.Journal.Segment)}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			a.writer.Close()
		}
	}()
	for _, d := range recovery.Damage {
		a.log.Warn("journal is damaged; only what the damage covers is lost", "damage", d)
	}
	if a.pastRuns, err = readPast(a.machine.FS, a.cfg.Journal.Dir, a.name, recovery, &a.anchors); err != nil {
		return nil, err
	}
	if err = a.lookAtQuarantine(); err != nil {
		return nil, err
	}
	if err = a.openDB(ctx); err != nil {
		return nil, err
	}
	if err = a.plan(ctx); err != nil {
		return nil, err
	}
	a.tellMemory()
	return a, nil
}

// openDB connects to QuestDB, if there is to be one. One that is away is no
// error; one with tables of another shape is.
func (a *Agent) openDB(ctx context.Context) error {
	if a.cfg.QuestDB == "off" {
		a.log.Info("journalling only: questdb is off")
		return nil
	}
	var err error
	if a.conf, err = a.cfg.Database(); err != nil {
		return err
	}
	a.conf.Transport = a.machine.Transport
	a.home(filepath.Join(filepath.Dir(a.cfg.Journal.Dir), "questdb")) // where `deeptape db` keeps it, beside the journal
	a.db = qdb.Open(a.conf)
	inTime, cancel := a.machine.Sched.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	err = a.prepareDB(inTime)
	if err == nil {
		err = a.refuseSecond(inTime)
	}
	if a.dbReady = err == nil; a.dbReady {
		a.askHome(inTime)
	}
	if away(ctx, inTime, err) {
		a.log.Warn("QuestDB is away: journalling only; "+a.conf.StartAdvice(), "addr", a.conf.Addr, "reason", err)
		return nil
	}
	return err
}

// home notes that a folder is that of the server, if it is: messages then say with which
// command that very server starts.
func (a *Agent) home(dir string) {
	if a.machine.Serves != nil && a.machine.Serves(dir, a.conf.Addr) {
		a.conf.Home = dir
	}
}

// askHome asks the server for its folder. One of another machine, or of somebody else's
// making, has none that says anything here.
func (a *Agent) askHome(ctx context.Context) {
	if a.machine.Serves == nil {
		return
	}
	const ours = "SELECT value FROM (SHOW PARAMETERS) WHERE property_path = 'cairo.sql.copy.work.root'" // FOLDER/tmp
	res, err := a.db.Query(ctx, ours)
	if err != nil || res.Len() == 0 {
		return
	}
	if a.home(filepath.Dir(res.Text(0, "value"))); a.conf.Home != "" {
		a.db.Close()
		a.db = qdb.Open(a.conf)
	}
}

// away says whether an error means that QuestDB does not answer, or not in time.
func away(ctx, inTime context.Context, err error) bool {
	return errors.Is(err, qdb.ErrUnreachable) || err != nil && inTime.Err() != nil && ctx.Err() == nil
}

// unlessAway takes an error for what it is unless it means that QuestDB has gone away
// while the agent starts: it then journals only, as if nobody had answered at first.
func (a *Agent) unlessAway(err error) error {
	if a.dbReady = err == nil; errors.Is(err, qdb.ErrUnreachable) {
		a.log.Warn("QuestDB has gone away: journalling only", "reason", err)
		return nil
	}
	return err
}

// keys of all instruments that are recorded.
func (a *Agent) keys() (keys []instrumentKey) {
	for _, name := range a.cfg.VenueNames() {
		for _, s := range a.cfg.Venues[name].Symbols {
			keys = append(keys, instrumentKey{name, s})
		}
	}
	return keys
}

// prepareDB makes what is missing and refuses what is wrong.
func (a *Agent) prepareDB(ctx context.Context) error { return a.machine.Prepare(ctx, a.db) }

func prepare(ctx context.Context, db *qdb.DB) error {
	if err := db.Ping(ctx); err != nil {
		return err
	}
	if err := schema.Create(ctx, db); err != nil {
		return err
	}
	return schema.Check(ctx, db)
}

// plan splits the symbols over feeds and makes a lane and a session for each.
func (a *Agent) plan(ctx context.Context) error {
	sched := a.machine.Sched
	journalBell, deliverBell := sched.NewDoorbell(), sched.NewDoorbell()
	var markets []*market
	connects := map[string]*wire.Budget{} // by host: two markets of a venue may share one
	for _, name := range a.cfg.VenueNames() {
		venue, err := registry.ByName(name)
		if err != nil {
			return err
		}
		rules := venue.Rules()
		m := &market{name: name, venue: venue, rest: a.machine.Rest(rules), budgets: session.NewBudgets(rules)}
		if host := hostOf(a.cfg.Venues[name].WSURL); connects[host] != nil {
			m.budgets.Connects = connects[host]
		} else {
			connects[host] = m.budgets.Connects
		}
		markets = append(markets, m)
	}
	if err := a.lookUp(ctx, markets); err != nil {
		return err
	}
	if a.dbReady {
		if err := a.unlessAway(a.resumeAhead(ctx, a.keys())); err != nil {
			return err
		}
	}
	feeds := 0
	for _, m := range markets {
		feeds += feedsOf(m.venue.Rules(), len(m.insts))
	}
	base := uint32(0)
	for _, m := range markets {
		name, venue, rest, budgets, insts := m.name, m.venue, m.rest, m.budgets, m.insts
		vc, rules := a.cfg.Venues[name], venue.Rules()
		_, weight := budgets.Weight.Used(a.clock.NowNs())
		audit := auditEvery(vc, venue, len(vc.Symbols), weight)
		if vc.Audit != nil && audit > time.Duration(*vc.Audit) {
			a.log.Info("audits are less often than configured: they take at most a quarter of the venue's request weight", "venue", name, "every", audit.Round(time.Second))
		}
		for len(insts) > 0 {
			n := min(len(insts), instrumentsPerFeed(rules))
			number := uint16(len(a.lanes))
			pos := a.pastRuns.pos[number]
			cfg := feed.Config{
				Version: feed.Version, Agent: a.name, Venue: name, Base: base, Instruments: insts[:n],
				TopLevels: a.cfg.TopLevels, DepthBps: a.cfg.Bands(), Quotes: a.cfg.Quotes && rules.QuoteStream, Depth: vc.Depth,
				AuditEveryNs: int64(audit),
			}
			for _, inst := range cfg.Instruments {
				key := instrumentKey{name, inst.Symbol}
				resume, known := a.pastRuns.resume[key]
				if !known && a.dbReady {
					var err error
					resume, err = a.resumeFromDB(ctx, key)
					if err = a.unlessAway(err); err != nil {
						return err
					}
				}
				cfg.Resume = append(cfg.Resume, resume)
			}
			data, err := json.Marshal(cfg)
			if err != nil {
				return fmt.Errorf("cannot write the run record of feed %d: %w", number, err)
			}
			l := lane.New(number, laneOptions(a.cfg.Rings, feeds), journalBell, deliverBell)
			l.StartAt(pos)
			a.lanes = append(a.lanes, l)
			a.feeds = append(a.feeds, cfg)
			a.sessions = append(a.sessions, session.New(session.Options{
				Venue: venue, WSURL: vc.WSURL, RestURL: vc.RestURL, Config: data, Clock: a.clock, Sched: sched, Dial: a.machine.Dial, Budgets: budgets, Rest: rest,
				Log: a.log.With("venue", name, "feed", number), Rand: rand.New(rand.NewPCG(a.machine.Seed(), a.machine.Seed())),
				Lines: vc.Lines, ReconnectEvery: time.Duration(vc.ReconnectEvery),
			}, l, cfg, pos))
			insts = insts[n:]
			base += uint32(n)
		}
	}
	a.journaler = newJournaler(a.writer, a.lanes, journalBell, deliverBell, time.Duration(a.cfg.Journal.Sync), sched, a.clock, a.log)
	if a.db == nil {
		return nil
	}
	a.deliverer = deliver.New(deliver.Options{
		DB: a.conf, Agent: a.name, Log: a.log, NowNs: a.clock.NowNs,
		Quarantine: quarantineDir(a.cfg.Journal.Dir), QuarantineMost: a.cfg.Quarantine,
		Acked: readStored(a.machine.FS, a.cfg.Journal.Dir), Mendable: time.Duration(a.cfg.Journal.Keep), Heal: a.healCommand(),
		Derive:      a.derive,
		Counters:    a.counters,
		Prepare:     a.prepareDB,
		Append:      a.machine.appender(),
		OpenLowRate: a.machine.OpenLowRate,
		Sched:       sched,
	}, deliverBell, a.lanes)
	return nil
}

// healCommand brings into QuestDB what the journal has and QuestDB has not.
func (a *Agent) healCommand() string { return "`deeptape replay --journal " + a.cfg.Journal.Dir + "`" }

func hostOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return base
	}
	return u.Host
}

// After a stop: how long a journal that cannot be written is tried, and how long
// the rows that are on their way may take, from the stop on. Who stops us kills us
// after 10 s. A QuestDB that has taken nothing for longer than stopAway is away, and
// the journal has what is on its way: that stop waits no longer than this.
const (
	journalStopWithin = 4 * time.Second
	stopWithin        = 8 * time.Second
	stopAway          = time.Second
)

// Run records until ctx ends. The error says what went wrong, or what is not in
// QuestDB yet although it is in the journal.
func (a *Agent) Run(ctx context.Context) error {
	defer a.writer.Close()
	if a.cfg.Listen != "" {
		status, err := a.serveStatus()
		if err != nil {
			return err
		}
		a.status.Store(status)
		defer status.close()
	}
	feeds, cancelFeeds := context.WithCancelCause(ctx)
	defer cancelFeeds(nil)

	sched := a.machine.Sched
	var journalErr, undelivered error
	journalling, delivering, recording, watching := task.NewGroup(sched), task.NewGroup(sched), task.NewGroup(sched), task.NewGroup(sched)
	journalling.Go("journal", func() {
		if journalErr = a.orStop("the journal writer", a.journaler.run); journalErr != nil {
			cancelFeeds(journalErr)
		}
	})
	deliverCtx, cancelDeliver := context.WithCancel(context.Background())
	defer watching.Wait()
	defer cancelDeliver()
	if a.deliverer != nil {
		delivering.Go("deliver", func() {
			if undelivered = a.orStop("the deliverer", func() error { return a.deliver(feeds, deliverCtx) }); undelivered != nil {
				cancelFeeds(undelivered)
			}
		})
	}
	watching.Go("keep acked", func() { a.keepAcked(deliverCtx) })
	if a.dbReady {
		watching.Go("watch for a second agent", func() {
			a.survive("the watch for a second agent", func() { a.watchForSecond(deliverCtx, func(err error) { cancelFeeds(err) }) })
		})
	}
	watching.Go("limit the journal", func() { a.keepWithinLimits(deliverCtx) })
	watching.Go("pack the journal", func() { a.packJournal(deliverCtx) })
	watching.Go("watch progress", func() { a.watchProgress(deliverCtx) })
	var stopped atomic.Int64
	keep := sched.AfterFunc(feeds, func() { stopped.Store(a.clock.NowNs()); a.journaler.stopping.Store(true) })
	defer keep()
	errs := make([]error, len(a.sessions))
	for i, s := range a.sessions {
		recording.Go(fmt.Sprintf("feed %d", i), func() {
			if errs[i] = a.orStop(fmt.Sprintf("%s feed %d", a.feeds[i].Venue, i), func() error { return s.Run(feeds) }); errs[i] != nil {
				cancelFeeds(errs[i])
			}
		})
	}
	recording.Wait()
	a.log.Info("stopping: writing what is on its way", "within", stopWithin)
	journalling.Wait()
	err := errors.Join(errors.Join(errs...), journalErr)
	if cause := context.Cause(feeds); err == nil && cause != nil && ctx.Err() == nil {
		err = cause // another part, or another agent, has ended the run
	}
	if a.deliverer != nil {
		a.deliverer.Stop()
		left := stopWithin
		if at := stopped.Load(); at != 0 { // else every session has ended by itself
			left -= time.Duration(a.clock.NowNs() - at)
		}
		watching.Go("limit the stop", func() {
			if sched.Sleep(deliverCtx, min(left, stopAway)) && !a.deliverer.Health.AwayFor(stopAway, a.clock.NowNs()) {
				sched.Sleep(deliverCtx, left-stopAway)
			}
			cancelDeliver()
		})
	}
	delivering.Wait()
	a.logSummary()
	var left *deliver.LeftBehindError
	if errors.As(undelivered, &left) {
		a.log.Warn(left.Error()) // QuestDB was away: no failure of ours, and no loss
		undelivered = nil
	}
	return errors.Join(err, undelivered, a.saveAcked(), a.inVain(ctx))
}

// inVain is the error of a run whose time was up and that a venue has refused to the end,
// with the same words: what was to be recorded is not. A person who stops a run knows.
func (a *Agent) inVain(ctx context.Context) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil
	}
	var errs []error
	for i, s := range a.sessions {
		if vain := s.InVain(); vain != "" {
			errs = append(errs, fmt.Errorf("%s feed %d: %s", a.feeds[i].Venue, i, vain))
		}
	}
	return errors.Join(errs...)
}

// deliver brings the rows of earlier runs, until feeds ends, and then those of this
// one, until ctx ends, into QuestDB.
func (a *Agent) deliver(feeds, ctx context.Context) error {
	if err := a.deliverPast(feeds); err != nil {
		return err
	}
	if _, behind := a.pastRuns.behind(); behind > 0 { // stopped
		return &deliver.LeftBehindError{Inputs: behind + a.liveLag()}
	}
	return a.deliverer.Run(ctx)
}

// derive opens the journal for one feed, at the last keyframe before the input at
// from.
func (a *Agent) derive(number uint16, from uint64) (deliver.Source, error) {
	at, err := a.anchors.startOf(map[uint16]uint64{number: from - 1})
	if err != nil {
		return nil, err
	}
	return follow.Open(follow.Options{
		FS: a.machine.FS, Dir: a.cfg.Journal.Dir, From: at, Feeds: []uint16{number},
		Damaged: follow.WarnDamaged(a.log), Impossible: follow.WarnImpossible(a.log),
	}), nil
}
