// Package deliver brings rows from the lanes into QuestDB: encode, batch, post,
// and know for every row whether it has arrived.
//
//	lanes ─► encode ─► one batch per table ─► poster 1 ─► POST /write
//	  ▲         │                         └─► poster 2 ─► POST /write
//	  │         └─ coverage, instruments ───► low rate ─► POST /write, once stored is what they tell of
//	  └─ catch-up: rows derived again from the journal
//
// It must never send a row whose input is not in the journal file (the lane does
// not show it), never drop a batch that has not been answered with 204, and never
// block a feed: where QuestDB is slow or away, batches run out, the rings fill,
// rows are deferred, and the journal is the spool.
//
// Invariants: a batch is in exactly one place: free, building, at a poster, or
// finished; stored of a lane never passes a row that is in a batch not yet
// finished; coverage that tells of an instant is sent only when the rows up to it
// are stored; the acknowledged position of a lane never passes stored, nor a row of
// coverage or instruments that is not yet stored, unless a later state of the same
// interval has taken its place.
package deliver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/lane"
	"deeptape/hotpath/ring"
	"deeptape/ilp/line"
	"deeptape/ilp/qdb"
)

// Source derives the rows of one feed again.
type Source interface {
	// Next returns the next row record, borrowed until the next call; io.EOF at
	// the journal's present end.
	Next() (rec []byte, err error)
	// Pos is the last input whose rows have all been handed out.
	Pos() uint64
	Close()
}

// Options of a deliverer.
type Options struct {
	DB         qdb.Conf
	Agent      string // for coverage.agent
	FlushRows  int    // a batch is sent at this size; default 20,000
	FlushEvery time.Duration
	Batches    int // that exist at all; they bound the memory
	// Derive opens the journal for catch-up of one feed, at a place before the
	// input at from.
	Derive func(feed uint16, from uint64) (Source, error)
	// Prepare makes the database ready; nothing is posted before it has returned
	// nil. It is called until it does, and again after every lost connection: the
	// server that comes back may be another, without our tables or with others. It
	// must bear to be called from several goroutines.
	Prepare    func(context.Context) error
	Quarantine string // directory for refused rows; made when needed
	// Counters gives rows for capture_stats every ten seconds; nil for none.
	Counters func() []Stat
	NowNs    func() int64
	Log      *slog.Logger
}

// Deliverer is the one consumer of all row rings.
type Deliverer struct {
	opt   Options
	bell  *ring.Doorbell
	lanes []*laneState
	clock func() int64

	building [numBulk]*batch
	free     []*batch
	posters  []*poster
	finished chan *batch
	out      int // batches at posters
	unacked  map[*batch]struct{}
	slow     *lowRate
	lost     atomic.Uint64 // connections, and 1 at the start
	prepared atomic.Uint64 // value of lost for which Prepare has succeeded
	ready    chan struct{} // closed once Prepare has returned nil

	watchEvery, retryMin time.Duration // fields for tests

	stopping atomic.Bool
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
	skipTo    uint64 // records of inputs before this have been delivered
	skip      int    // and so many of that input's
}

// directory maps the instrument numbers of records to instruments. It learns them
// from RowInst records, which stand before every other row of an instrument.
type directory []*line.Inst

func (d *directory) put(i uint32, inst *line.Inst) {
	for len(*d) <= int(i) {
		*d = append(*d, nil)
	}
	(*d)[i] = inst
}

// New makes a deliverer for lanes, which wake it by bell.
func New(opt Options, bell *ring.Doorbell, lanes []*lane.Lane) *Deliverer {
	if opt.FlushRows == 0 {
		opt.FlushRows = 20_000
	}
	if opt.FlushEvery == 0 {
		opt.FlushEvery = 200 * time.Millisecond
	}
	if opt.Batches == 0 {
		opt.Batches = 10
	}
	d := &Deliverer{opt: opt, bell: bell, clock: opt.NowNs, finished: make(chan *batch, opt.Batches), unacked: map[*batch]struct{}{}, ready: make(chan struct{}), watchEvery: watchEvery, retryMin: retryMin}
	d.lost.Store(1)
	for i, l := range lanes {
		d.lanes = append(d.lanes, &laneState{l: l, index: i, encoded: l.Acked(), stored: l.Acked()})
	}
	for range opt.Batches {
		d.free = append(d.free, newBatch(len(lanes)))
	}
	for t := range d.building {
		d.building[t] = d.takeBatch(bulkTable(t))
	}
	work := make(chan *batch, opt.Batches)
	for _, s := range []origin{fromPoster1, fromPoster2} {
		d.posters = append(d.posters, newPoster(d, s, work))
	}
	d.slow = newLowRate(d)
	return d
}

// Run delivers until Stop has been called and every row is acknowledged, or ctx
// ends. The error names what was left behind. All of its goroutines have ended
// when it returns.
func (d *Deliverer) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { d.prepare(ctx) })
	for _, p := range d.posters {
		wg.Go(func() { p.run(ctx) })
	}
	wg.Go(func() { d.slow.run(ctx) })
	wg.Go(func() { d.watch(ctx) })
	defer wg.Wait()
	defer close(d.slow.work)
	defer close(d.posters[0].work)
	defer cancel() // also after a failed step, when nobody else would
	for {
		worked, err := d.step()
		if err != nil {
			return err
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

// prepare calls Prepare until it succeeds.
func (d *Deliverer) prepare(ctx context.Context) {
	if d.prepareAs(ctx, fromPrepare) {
		close(d.ready)
	}
}

// prepareAs calls Prepare until it succeeds, if any connection has been lost since
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
		if !sleep(ctx, wait) {
			return false
		}
	}
}

// waitReady says whether the database has become ready before ctx ended.
func (d *Deliverer) waitReady(ctx context.Context) bool {
	select {
	case <-d.ready:
		return true
	case <-ctx.Done():
		return false
	}
}

// Stop makes Run return once everything that the lanes hold is acknowledged. The
// lanes must be closed, or be about to be.
func (d *Deliverer) Stop() { d.stopping.Store(true); d.bell.Ring() }

func (d *Deliverer) parkFor() time.Duration {
	wait := d.opt.FlushEvery
	now := d.clock()
	for _, b := range d.building {
		if b != nil && b.rows > 0 {
			wait = min(wait, max(time.Millisecond, time.Duration(b.firstNs-now)+d.opt.FlushEvery))
		}
	}
	return wait
}

// step is one duty cycle.
func (d *Deliverer) step() (worked bool, err error) {
	worked = d.collect()
	for _, ls := range d.lanes {
		did, err := d.take(ls)
		if err != nil {
			return worked, err
		}
		worked = worked || did
	}
	now := d.clock()
	for t, b := range d.building {
		if b == nil {
			d.building[t] = d.takeBatch(bulkTable(t))
			continue
		}
		if b.rows > 0 && (b.rows >= d.opt.FlushRows || now-b.firstNs >= int64(d.opt.FlushEvery) || d.stopping.Load()) {
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
		select {
		case b := <-d.finished:
			d.out--
			delete(d.unacked, b)
			d.finish(b)
			d.free = append(d.free, b)
			worked = true
		default:
			return worked
		}
	}
}

func (d *Deliverer) finish(b *batch) {
	now := d.clock()
	for i := range b.low {
		if b.low[i] == 0 {
			continue
		}
		l := d.lanes[i].l
		l.Rows.Deliver().Ack(b.table.ledger(), b.rowsOf[i]-b.refusedOf[i], b.refusedOf[i])
		l.Rows.Deliver().Publish()
		l.JournalledAcked.Record(now - b.journalledNs[i])
	}
	d.Stats.InFlightRows.Add(-int64(b.rows))
}

func (d *Deliverer) takeBatch(t bulkTable) *batch {
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
	d.building[t] = d.takeBatch(bulkTable(t))
	d.unacked[b] = struct{}{}
	d.out++
	d.posters[0].work <- b // has room for every batch that exists
}

// lanePassRecords bounds what one lane may have encoded before the others' turn.
const lanePassRecords = 256

// take encodes what a lane has, and publishes what it took as a whole.
func (d *Deliverer) take(ls *laneState) (worked bool, err error) {
	if ls.source != nil {
		worked, err = d.catchUp(ls)
	} else {
		worked, err = d.takeLive(ls)
	}
	if worked {
		ls.l.Rows.Deliver().Publish()
	}
	return worked, err
}

func (d *Deliverer) takeLive(ls *laneState) (worked bool, err error) {
	// Read before the ring: what is derived by now and not in the ring after
	// this pass was never in it.
	derived := min(ls.l.Derived(), ls.l.Written())
	all := false
	for range lanePassRecords {
		if !d.roomForAny() {
			return worked, nil
		}
		rec := ls.l.Peek()
		if all = rec == nil; all {
			break
		}
		pos := event.RecordPos(rec)
		if err := d.encode(ls, &ls.dir, rec); err != nil {
			return worked, err
		}
		ls.l.Release()
		ls.encoded = max(ls.encoded, pos-1)
		worked = true
	}
	if from, skip, ok := ls.l.Episode(); ok {
		source, err := d.opt.Derive(ls.l.Feed, from)
		if err != nil {
			return worked, fmt.Errorf("cannot derive deferred rows of feed %d: %w", ls.l.Feed, err)
		}
		ls.source, ls.sourceDir, ls.skipTo, ls.skip = source, nil, from, skip
		ls.encoded = max(ls.encoded, from-1)
		d.Stats.CatchUps.Add(1)
		d.opt.Log.Info("catching up from the journal", "feed", ls.l.Feed, "from_input", from)
		return true, nil
	}
	// What is left in the ring, if anything, is of later inputs: it may stay there
	// for long while the journal takes nothing.
	if all && !ls.l.Deferring() {
		ls.encoded = max(ls.encoded, derived)
	}
	return worked, nil
}

// catchUp takes derived rows until the point from which the ring has them.
func (d *Deliverer) catchUp(ls *laneState) (worked bool, err error) {
	for range lanePassRecords {
		if !d.roomForAny() {
			return worked, nil
		}
		if ls.held == nil {
			ls.held, err = ls.source.Next()
			if errors.Is(err, io.EOF) {
				ls.encoded = max(ls.encoded, min(ls.source.Pos(), ls.l.Derived()))
				if !ls.l.CaughtUp(ls.source.Pos()) {
					return worked, nil
				}
				d.goLive(ls)
				return true, nil
			}
			if err != nil {
				return worked, fmt.Errorf("cannot derive deferred rows of feed %d: %w", ls.l.Feed, err)
			}
		}
		pos := event.RecordPos(ls.held)
		switch {
		case pos < ls.skipTo:
			err = d.learn(&ls.sourceDir, ls.held)
		case pos == ls.skipTo && ls.skip > 0:
			ls.skip--
			err = d.learn(&ls.sourceDir, ls.held)
		default:
			ls.encoded = max(ls.encoded, pos-1)
			switch ls.l.Turn(pos) {
			case lane.NotYet:
				return worked, nil
			case lane.Live:
				d.goLive(ls)
				return true, nil
			}
			err = d.encode(ls, &ls.sourceDir, ls.held)
		}
		if err != nil {
			return worked, err
		}
		ls.held, worked = nil, true
	}
	return worked, nil
}

// goLive ends a catch-up. The derivation knows every instrument up to here; the
// ring never had the instruments of the inputs that were deferred.
func (d *Deliverer) goLive(ls *laneState) {
	ls.source.Close()
	d.opt.Log.Info("caught up", "feed", ls.l.Feed, "to_input", ls.encoded)
	ls.dir, ls.source, ls.sourceDir, ls.held = ls.sourceDir, nil, nil, nil
}

// roomForAny: a record may go to any table, so every table needs a batch.
func (d *Deliverer) roomForAny() bool {
	if d.slow.full() {
		return false
	}
	for t, b := range d.building {
		if b == nil {
			if d.building[t] = d.takeBatch(bulkTable(t)); d.building[t] == nil {
				return false
			}
		} else if b.rows >= d.opt.FlushRows {
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
			if b.low[ls.index] != 0 {
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

// encode appends a record's rows to their batch.
func (d *Deliverer) encode(ls *laneState, dir *directory, rec []byte) error {
	var h event.Head
	h.Get(rec)
	var t bulkTable
	switch h.Kind {
	case event.RowBook:
		t = bulkBook
	case event.RowTop:
		t = bulkTop
	case event.RowQuote:
		t = bulkQuotes
	case event.RowTrade:
		t = bulkTrades
	case event.RowInst:
		if err := d.learn(dir, rec); err != nil {
			return err
		}
		return d.slow.instrument(ls, rec)
	case event.RowCoverage:
		d.slow.coverage(ls, (*dir)[h.Inst], rec)
		return nil
	default:
		return fmt.Errorf("BUG: row record of kind %d", h.Kind)
	}
	b := d.building[t]
	rows := 0
	inst := (*dir)[h.Inst]
	switch t {
	case bulkBook:
		b.body, rows = line.AppendBook(b.body, inst, rec)
	case bulkTop:
		b.body, rows = line.AppendTop(b.body, inst, rec)
	case bulkQuotes:
		b.body, rows = line.AppendQuote(b.body, inst, rec)
	case bulkTrades:
		b.body, rows = line.AppendTrade(b.body, inst, rec)
	}
	b.add(ls.index, h.Pos, rows, d.clock())
	ls.l.Rows.Deliver().Take(t.ledger(), rows, ls.source != nil)
	d.Stats.InFlightRows.Add(int64(rows))
	return nil
}

// learn takes an instrument from a RowInst record; other records are passed over.
func (d *Deliverer) learn(dir *directory, rec []byte) error {
	var h event.Head
	h.Get(rec)
	if h.Kind != event.RowInst {
		return nil
	}
	inst, err := event.InstrumentOf(rec)
	if err != nil {
		return err
	}
	l, err := line.NewInst(inst.Venue, inst.Symbol)
	if err != nil {
		return err
	}
	dir.put(h.Inst, l)
	return nil
}
