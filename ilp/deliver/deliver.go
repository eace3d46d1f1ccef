// Package deliver brings rows from the lanes into QuestDB: encode, batch, post,
// and know for every row whether it has arrived.
//
//	lanes ─► encode ─► one batch per table ─► poster 1 ─► POST /write
//	  ▲         │                         └─► poster 2 ─► POST /write
//	  │         └─ coverage, instruments ───► low rate ─► POST /write, later than what they tell of
//	  └─ catch-up: rows derived again from the journal
//
// It must never send a row whose input is not in the journal file (the lane does
// not show it), never drop a batch that has not been answered with 204, and never
// block a feed: where QuestDB is slow or away, batches run out, the rings fill,
// rows are deferred, and the journal is the spool. It must never wait but through
// its task.Sched: it runs in virtual time as well.
//
// Invariants: a batch is in exactly one place: free, building, at a poster, or
// finished; stored of a lane never passes a row that is in a batch not yet
// finished; coverage that tells of an instant is sent only when the rows up to it
// are stored; the acknowledged position of a lane never passes stored, nor a row of
// coverage or instruments that is not yet stored, unless a later state of the same
// interval has taken its place; a batch of live rows begins after the end of the one
// before it in its table, unless a row came late by more than holdNs.
package deliver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/lane"
	"deeptape/hotpath/ring"
	"deeptape/hotpath/task"
	"deeptape/ilp/qdb"
	"deeptape/ilp/sender"
)

// Source derives the rows of one feed again.
type Source interface {
	// Next returns the next row record and its feed, borrowed until the next call; io.EOF
	// at the journal's present end.
	Next() (rec []byte, feed uint16, err error)
	// Complete is the last input of a feed whose rows have all been handed out.
	Complete(feed uint16) uint64
	Close()
}

// Options of a deliverer.
type Options struct {
	DB         qdb.Conf
	Agent      string // for coverage.agent
	FlushRows  int    // a batch is sent at this size, or up to twice that where rows overlap; default 20,000
	FlushEvery time.Duration
	Batches    int // that exist at all; they bound the memory
	// Derive opens the journal for catch-up of one feed, at a place before the
	// input at from.
	Derive func(feed uint16, from uint64) (Source, error)
	// Prepare makes the database ready; nothing is posted before it has returned
	// nil. It is called until it does, and again after every lost connection: the
	// server that comes back may be another, without our tables or with others. It
	// must bear to be called from several goroutines.
	Prepare func(context.Context) error
	// Acked are rows that QuestDB has acknowledged to earlier runs, Mendable is how old one
	// may be that is looked for (0: any), and Heal is the command that brings them back.
	Acked      []AckedRow
	Mendable   time.Duration
	Heal       string
	Quarantine string // directory for refused rows
	// QuarantineMost is how many rows may go there within a minute; more stop delivery.
	// Default 10.
	QuarantineMost int
	// Append adds a text to the end of a file; it makes the file and its directory
	// where they are missing. One task at a time calls it. nil: on the machine's disk.
	Append func(name string, text []byte) error
	// OpenLowRate makes the client for coverage, instruments and counters; nil for
	// QuestDB's own.
	OpenLowRate func() (LowRate, error)
	// Counters gives rows for capture_stats every ten seconds; nil for none.
	Counters func() []Stat
	NowNs    func() int64
	Sched    task.Sched // nil: the machine's
	Log      *slog.Logger
}

// Deliverer is the one consumer of all row rings.
type Deliverer struct {
	opt   Options
	bell  *ring.Doorbell
	lanes []*laneState
	clock func() int64
	sched task.Sched

	building [event.NumBulkTables]*batch
	nextNs   [numGroups]int64 // nothing that was received before this is still to be taken
	heldNs   int64            // when the next row is old enough to be taken; 0: none is too young
	free     []*batch
	posters  []*poster
	wasFull  [event.NumBulkTables]bool          // the batch before was
	turns    [event.NumBulkTables]uint64        // batches that have been given to them
	answered [event.NumBulkTables]atomic.Uint64 // the latest of them that something has become of
	work     task.Queue[*batch]                 // for the posters
	finished task.Queue[*batch]
	out      int // batches at posters
	unacked  map[*batch]struct{}
	slow     *lowRate
	lost     atomic.Uint64 // connections and tables, and 1 at the start
	prepared atomic.Uint64 // value of lost for which Prepare has succeeded
	ready    atomic.Bool   // Prepare has returned nil

	watchBell    *ring.Doorbell
	quarantining atomic.Bool // a task is
	// Of the task that is: when the latest rows went, and whether they were too many.
	quarantinedNs []int64
	flooded       bool
	mostBytes     atomic.Int64 // of a request, learned from a 413; 0: not known

	lacking              lacking
	watchEvery, retryMin time.Duration // fields for tests
	lackingEvery         int64         // ns

	stopping atomic.Bool
	broken   atomic.Pointer[task.PanicError] // of a task beside Run, which then ends
	Health   Health
	Stats    Stats
}

// Stats of a deliverer; any goroutine may read them.
type Stats struct {
	Batches, Bytes, Retries, Quarantined, CatchUps atomic.Uint64
	InFlightRows                                   atomic.Int64
	// LagTxns is how many transactions QuestDB has acknowledged and not yet made
	// visible, over all of our tables, when last asked.
	LagTxns atomic.Int64
}

type laneState struct {
	l       *lane.Lane
	index   int
	dir     directory // of the records in the ring
	encoded uint64    // rows of inputs up to here are in batches, or stored
	stored  uint64    // rows of inputs up to here are stored, but for coverage and instruments

	source    Source // not nil: catching up
	sourceDir directory
	held      []byte // what it gave last and has not been taken; borrowed from it
	next      []byte // the record to take next, as look found it; borrowed
	derived   uint64 // at the start of a pass: inputs that were derived and written
	skipTo    uint64 // records of inputs before this have been delivered
	skip      int    // and so many of that input's
}

// New makes a deliverer for lanes, which wake it by bell.
func New(opt Options, bell *ring.Doorbell, lanes []*lane.Lane) *Deliverer {
	if opt.FlushRows == 0 {
		opt.FlushRows = 20_000
	}
	if opt.FlushEvery == 0 {
		opt.FlushEvery = 200 * time.Millisecond
	}
	if opt.QuarantineMost == 0 {
		opt.QuarantineMost = 10
	}
	if opt.Batches == 0 {
		opt.Batches = 11
	}
	if opt.Sched == nil {
		opt.Sched = task.Real{}
	}
	if opt.Append == nil {
		opt.Append = appendFile
	}
	if opt.OpenLowRate == nil {
		opt.OpenLowRate = func() (LowRate, error) { return sender.OpenLowRate(opt.DB) }
	}
	d := &Deliverer{opt: opt, bell: bell, clock: opt.NowNs, sched: opt.Sched, unacked: map[*batch]struct{}{}, watchBell: opt.Sched.NewDoorbell(), watchEvery: watchEvery, retryMin: retryMin, lackingEvery: lackingEveryNs}
	for _, row := range opt.Acked {
		d.lacking.note(row)
	}
	d.finished.RingAt(bell)
	d.lost.Store(1)
	for i, l := range lanes {
		d.lanes = append(d.lanes, &laneState{l: l, index: i, encoded: l.Acked(), stored: l.Acked()})
	}
	for range opt.Batches {
		d.free = append(d.free, newBatch(len(lanes), opt.FlushRows))
	}
	for t := range d.building {
		d.building[t] = d.takeBatch(event.Table(t))
	}
	for _, s := range []origin{fromPoster1, fromPoster2} {
		p := newPoster(d, s)
		d.posters = append(d.posters, p)
		d.work.RingAt(p.bell)
	}
	d.slow = newLowRate(d)
	return d
}

// Run delivers until Stop has been called and every row is acknowledged, or ctx
// ends. The error names what was left behind. All of its tasks have ended when it
// returns.
func (d *Deliverer) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	keep := d.sched.AfterFunc(ctx, d.ringAll)
	tasks := task.NewGroup(d.sched)
	tasks.Go("prepare", func() { d.orStop("making the database ready", func() { d.prepare(ctx) }) })
	for i, p := range d.posters {
		tasks.Go(fmt.Sprint("poster ", i+1), func() { d.orStop("a poster of rows", func() { p.run(ctx) }) })
	}
	tasks.Go("low rate", func() { d.orStop("the sender of coverage", func() { d.slow.run(ctx) }) })
	tasks.Go("watch", func() { d.watch(ctx) })
	defer func() {
		keep()
		cancel() // also after a failed step, when nobody else would
		d.ringAll()
		tasks.Wait()
	}()
	for {
		worked, err := d.step()
		if err != nil {
			return err
		}
		if p := d.broken.Load(); p != nil {
			return p
		}
		if ctx.Err() != nil {
			return d.leftBehind()
		}
		if d.stopping.Load() && d.idle() {
			return nil
		}
		if worked {
			continue
		}
		d.bell.Prepare()
		if worked, err = d.step(); err != nil {
			return err
		}
		if worked {
			d.bell.Cancel()
			continue
		}
		d.bell.Wait(d.parkFor())
	}
}

// orStop runs a task that rows pass through, and ends the delivery if it panics: nobody
// knows then what became of its batch, and the journal has the rows.
func (d *Deliverer) orStop(what string, run func()) {
	var p *task.PanicError
	if errors.As(task.Guard(what, func() error { run(); return nil }), &p) {
		d.broken.Store(p)
		d.bell.Ring()
	}
}

// prepare calls Prepare until it succeeds.
func (d *Deliverer) prepare(ctx context.Context) {
	if d.prepareAs(ctx, fromPrepare) {
		d.ready.Store(true)
		d.ringAll()
	}
}

// ringAll makes every task look again.
func (d *Deliverer) ringAll() {
	d.bell.Ring()
	for _, p := range d.posters {
		p.bell.Ring()
	}
	d.slow.bell.Ring()
	d.watchBell.Ring()
}

// prepareAs calls Prepare until it succeeds, if any connection or table has been lost since
// it last did. One that was idle then has seen nothing and must not be the first
// to send to a server that nobody has looked at.
func (d *Deliverer) prepareAs(ctx context.Context, s origin) bool {
	lost := d.lost.Load()
	if lost == d.prepared.Load() {
		return true
	}
	for wait := d.retryMin; ; wait = min(2*wait, prepareMax) {
		err := d.opt.Prepare(ctx)
		if err == nil {
			d.prepared.Store(lost)
			if s == fromPrepare { // the others see first whether their rows are taken
				d.Health.set(s, "", d.clock())
			}
			return true
		}
		if ctx.Err() == nil && d.Health.set(s, err.Error(), d.clock()) {
			d.opt.Log.Warn("QuestDB is not ready; the journal keeps the rows", "reason", err)
		}
		if !d.sched.Sleep(ctx, wait) {
			return false
		}
	}
}

// waitReady says whether the database has become ready before ctx ended.
func (d *Deliverer) waitReady(ctx context.Context, bell *ring.Doorbell) bool {
	task.WaitFor(bell, func() bool { return d.ready.Load() || ctx.Err() != nil })
	return d.ready.Load()
}

// Stop makes Run return once everything that the lanes hold is acknowledged. The
// lanes must be closed, or be about to be.
func (d *Deliverer) Stop() { d.stopping.Store(true); d.bell.Ring() }

// burstNs is how long nothing may have come for a burst to be over.
const burstNs = int64(20 * time.Millisecond)

// dueNs is when a batch goes that does not become full: some time after its first row, so
// that QuestDB has few transactions; but the rest of a burst, after a full batch, as soon
// as the burst is over. It is one transaction more, after many rows.
func (d *Deliverer) dueNs(b *batch) int64 {
	due := b.firstNs + int64(d.opt.FlushEvery)
	if d.wasFull[b.table] {
		due = min(due, b.lastNs+burstNs)
	}
	return due
}

func (d *Deliverer) parkFor() time.Duration {
	wait := d.opt.FlushEvery
	now := d.clock()
	for _, b := range d.building {
		if b != nil && b.rows > 0 {
			wait = min(wait, max(time.Millisecond, time.Duration(d.dueNs(b)-now)))
		}
	}
	if d.heldNs != 0 {
		wait = min(wait, max(time.Millisecond, time.Duration(d.heldNs-now)))
	}
	return wait
}

// step is one duty cycle.
func (d *Deliverer) step() (worked bool, err error) {
	now := d.clock() // once: read for every record it takes as long as a tenth of its rows
	worked = d.collect()
	for g := range numGroups {
		did, err := d.take(g, now)
		if err != nil {
			return worked, err
		}
		worked = worked || did
	}
	for t, b := range d.building {
		if b == nil {
			d.building[t] = d.takeBatch(event.Table(t))
			continue
		}
		age := time.Duration(now - b.firstNs)
		due := (b.rows >= d.opt.FlushRows || now >= d.dueNs(b)) && d.isWhole(b)
		if b.rows > 0 && (due || age >= 2*d.opt.FlushEvery || d.stopping.Load()) {
			d.dispatch(t)
			worked = true
		}
	}
	d.publishAcks()
	return d.slow.step(now) || worked, nil
}

// collect takes finished batches back.
func (d *Deliverer) collect() (worked bool) {
	for {
		b, ok := d.finished.Take()
		if !ok {
			return worked
		}
		d.out--
		delete(d.unacked, b)
		d.finish(b)
		d.free = append(d.free, b)
		worked = true
	}
}

func (d *Deliverer) finish(b *batch) {
	now := d.clock()
	for i := range b.low {
		if b.low[i] == 0 {
			continue
		}
		l := d.lanes[i].l
		l.Rows.Deliver().Ack(b.table, b.rowsOf[i]-b.refusedOf[i], b.refusedOf[i])
		l.Rows.Deliver().Publish()
		l.JournalledAcked.Record(now - b.journalledNs[i])
		l.JournalledAcked.Publish()
	}
	d.Stats.InFlightRows.Add(-int64(b.rows))
	for _, n := range b.refusedOf {
		if n > 0 {
			return // it may be the last row
		}
	}
	if b.lastInst != nil {
		d.lacking.note(AckedRow{b.table.String(), b.lastInst.Venue, b.lastInst.Symbol, b.lastTs})
	}
}

func (d *Deliverer) takeBatch(t event.Table) *batch {
	if len(d.free) == 0 {
		return nil
	}
	b := d.free[len(d.free)-1]
	d.free = d.free[:len(d.free)-1]
	b.reset(t)
	return b
}

func (d *Deliverer) dispatch(t int) {
	b := d.building[t]
	d.building[t] = d.takeBatch(event.Table(t))
	d.wasFull[t] = b.rows >= d.opt.FlushRows
	d.turns[t]++
	b.turn = d.turns[t]
	d.unacked[b] = struct{}{}
	d.out++
	d.work.Put(b)
}

// roomForAny: a record may go to any table, so every table needs a batch. A full one is
// sent when the next record of a group, received at ns, comes after all of it, which at a
// flood is so with each read of a socket.
func (d *Deliverer) roomForAny(g group, ns int64) bool {
	if d.slow.full() {
		return false
	}
	for t, b := range d.building {
		if b == nil {
			if d.building[t] = d.takeBatch(event.Table(t)); d.building[t] == nil {
				return false
			}
		} else if b.rows >= d.opt.FlushRows && (b.endsBefore(g, ns) || b.rows >= 2*d.opt.FlushRows) {
			d.dispatch(t)
			if d.building[t] == nil {
				return false
			}
		}
	}
	return true
}

// publishAcks: rows are stored up to before the first that is in a batch not yet
// finished.
func (d *Deliverer) publishAcks() {
	for _, ls := range d.lanes {
		stored := ls.encoded
		for _, b := range d.building {
			if b != nil && b.low[ls.index] != 0 {
				stored = min(stored, b.low[ls.index]-1)
			}
		}
		for b := range d.unacked {
			if b.low[ls.index] != 0 && !planted {
				stored = min(stored, b.low[ls.index]-1)
			}
		}
		ls.stored = max(ls.stored, stored)
		if acked := d.slow.limit(ls, ls.stored); acked > ls.l.Acked() {
			ls.l.SetAcked(acked)
		}
	}
}

// idle says that nothing is left to deliver.
func (d *Deliverer) idle() bool {
	if d.out > 0 || !d.slow.idle() {
		return false
	}
	for _, b := range d.building {
		if b != nil && b.rows > 0 {
			return false
		}
	}
	for _, ls := range d.lanes {
		if !ls.l.Closed() || !ls.l.Empty() || ls.source != nil || ls.l.Acked() < ls.l.Derived() {
			return false
		}
	}
	return true
}

// leftBehind names what is not in QuestDB yet.
func (d *Deliverer) leftBehind() error {
	var inputs uint64
	for _, ls := range d.lanes {
		inputs += ls.l.Derived() - min(ls.l.Derived(), ls.l.Acked())
	}
	if inputs == 0 && d.slow.idle() {
		return nil
	}
	return &LeftBehindError{inputs}
}

// LeftBehindError says that a stop came before QuestDB had everything. Nothing is
// lost: the journal has it.
type LeftBehindError struct{ Inputs uint64 }

func (e *LeftBehindError) Error() string {
	return fmt.Sprintf("rows of %d inputs are not in QuestDB yet; the journal keeps them: the next capture delivers them, or `deeptape replay`", e.Inputs)
}
