package deliver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ring"
	"deeptape/hotpath/task"
	"deeptape/ilp/line"
	"deeptape/ilp/qdb"
	"deeptape/ilp/sender"
)

// LowRate is what takes the tables that see a few rows a second: sender.LowRate, or
// one of a simulated QuestDB. What is added is pending until Flush has returned nil,
// or the *sender.RefusedError that names it. One task calls it.
type LowRate interface {
	Coverage(agent, venue, symbol string, c event.Coverage)
	Instrument(ts int64, i event.Instrument) error
	Stat(ts int64, venue, connection, counter string, value int64)
	Flush(ctx context.Context) error
	Close() error
}

// lowRate brings coverage, instruments and counters into QuestDB through the
// official client. Coverage of an instant is held back until the rows up to it
// are stored: what is called verified is in the database.
type lowRate struct {
	d       *Deliverer
	bell    *ring.Doorbell // of run
	work    task.Queue[*parcel]
	done    task.Queue[*parcel]
	sent    *parcel // that run has, or nil
	nextNs  int64
	statsNs int64
	pending map[coverageKey]*pendingCoverage
	order   []coverageKey                 // of pending, oldest first: the same order in every run
	parcel  *parcel                       // being filled
	known   map[coverageKey]instrumentRow // the last word on each instrument; stream is the zero value
	latest  map[coverageKey]coverageRow   // the last word on each stream's last interval, which may be open; ts is the zero value
	again   atomic.Bool                   // both are to be sent again
	low     []uint64                      // per lane: the first input with a record in pending or parcel, 0 for none
}

type coverageKey struct {
	venue, symbol string
	stream        event.Stream
	ts            int64
}

// pendingCoverage is an interval on its way. Its states come faster than the rows
// that they tell of are stored, so that one that replaced the other might never
// be sent: next stays as it is until its rows are stored, and what comes
// meanwhile replaces last.
type pendingCoverage struct {
	lane              *laneState
	ready, next, last state
}

// state of an interval, and the records that it stands for.
type state struct {
	c       event.Coverage
	low     uint64 // input of the first of them
	records int    // 0: no state
}

// take puts a newer state in the place of s.
func (s *state) take(newer *state) {
	if s.records == 0 {
		s.low = newer.low
	}
	s.c, s.records = newer.c, s.records+newer.records
	*newer = state{}
}

// settle makes ready what may be sent.
func (p *pendingCoverage) settle() {
	for p.next.records > 0 && p.next.c.Pos <= p.lane.stored {
		p.ready.take(&p.next)
		if p.last.records > 0 {
			p.next.take(&p.last)
		}
	}
}

// parcel is what one flush carries.
type parcel struct {
	coverage    []coverageRow
	instruments []instrumentRow
	put         int // instruments that the client has, or has refused
	stats       []Stat
	lanes       []parcelLane
}

// parcelLane is a lane's share in a parcel.
type parcelLane struct {
	low                   uint64 // see lowRate.low
	coverage, instruments int    // records
	// Of them, those that are in quarantine.
	refusedCoverage, refusedInstruments int
}

type coverageRow struct {
	lane, records int
	venue, symbol string
	c             event.Coverage
}

type instrumentRow struct {
	lane    int
	ts      int64
	inst    event.Instrument
	refused bool
	again   bool // it was stored before, and is not there any more: no record stands for it
}

// Stat is a row of capture_stats.
type Stat struct {
	Ts                         int64
	Venue, Connection, Counter string
	Value                      int64
}

const (
	lowRateEveryNs = int64(250 * time.Millisecond)
	statsEveryNs   = int64(10 * time.Second)

	// maxPending bounds the memory while QuestDB is away. What does not fit stays
	// in the lanes, and in the journal.
	maxPending = 20_000
)

func newLowRate(d *Deliverer) *lowRate {
	l := &lowRate{d: d, bell: d.sched.NewDoorbell(), pending: map[coverageKey]*pendingCoverage{}, known: map[coverageKey]instrumentRow{}, latest: map[coverageKey]coverageRow{}, low: make([]uint64, len(d.lanes))}
	l.work.RingAt(l.bell)
	l.done.RingAt(d.bell)
	l.parcel = l.newParcel()
	return l
}

func (l *lowRate) newParcel() *parcel { return &parcel{lanes: make([]parcelLane, len(l.low))} }

func (p *parcel) empty() bool {
	return len(p.coverage) == 0 && len(p.instruments) == 0 && len(p.stats) == 0
}

// full says that nothing more should come in for now. Only while a parcel is
// under way: its end makes room, so that waiting for it ends.
func (l *lowRate) full() bool {
	return l.sent != nil && len(l.order)+len(l.parcel.instruments) >= maxPending
}

// limit is stored, or less where a record of coverage or instruments of an
// earlier input is not yet stored.
func (l *lowRate) limit(ls *laneState, stored uint64) uint64 {
	if low := l.low[ls.index]; low != 0 {
		stored = min(stored, low-1)
	}
	if l.sent != nil {
		if low := l.sent.lanes[ls.index].low; low != 0 {
			stored = min(stored, low-1)
		}
	}
	return stored
}

func lower(low *uint64, pos uint64) {
	if *low == 0 || pos != 0 && pos < *low {
		*low = pos
	}
}

func (l *lowRate) instrument(ls *laneState, rec []byte) error {
	inst, err := event.InstrumentOf(rec)
	if err != nil {
		return err
	}
	var h event.Head
	h.Get(rec)
	l.parcel.instruments = append(l.parcel.instruments, instrumentRow{lane: ls.index, ts: h.Ts, inst: inst})
	l.known[coverageKey{venue: inst.Venue, symbol: inst.Symbol}] = instrumentRow{lane: ls.index, ts: h.Ts, inst: inst, again: true}
	l.parcel.lanes[ls.index].instruments++
	lower(&l.parcel.lanes[ls.index].low, h.Pos)
	lower(&l.low[ls.index], h.Pos)
	ls.l.Rows.Deliver().Take(event.TableInstruments, 1, ls.source != nil)
	return nil
}

func (l *lowRate) coverage(ls *laneState, inst *line.Inst, rec []byte) {
	c := event.GetCoverage(rec)
	c.Detail = append([]byte(nil), c.Detail...)
	key := coverageKey{inst.Venue, inst.Symbol, c.Stream, c.Ts}
	p := l.pending[key]
	if p == nil {
		p = &pendingCoverage{lane: ls}
		l.pending[key] = p
		l.order = append(l.order, key)
	}
	p.settle()
	came := state{c: c, low: c.Pos, records: 1}
	if p.next.records == 0 {
		p.next.take(&came)
	} else {
		p.last.take(&came)
	}
	lower(&l.low[ls.index], c.Pos)
	ls.l.Rows.Deliver().Take(event.TableCoverage, 1, ls.source != nil)
}

func (l *lowRate) step(now int64) (worked bool) {
	if p, ok := l.done.Take(); ok {
		for i, n := range p.lanes {
			rows := l.d.lanes[i].l.Rows.Deliver()
			rows.Ack(event.TableCoverage, n.coverage-n.refusedCoverage, n.refusedCoverage)
			rows.Ack(event.TableInstruments, n.instruments-n.refusedInstruments, n.refusedInstruments)
			rows.Publish()
		}
		for i := range p.instruments {
			if row := &p.instruments[i]; !row.refused {
				l.d.lacking.note(AckedRow{"instruments", row.inst.Venue, row.inst.Symbol, row.ts})
			}
		}
		l.sent, worked = nil, true
	}
	if l.sent != nil || now < l.nextNs && !l.d.stopping.Load() {
		return worked
	}
	l.nextNs = now + lowRateEveryNs
	if l.d.opt.Counters != nil && now >= l.statsNs {
		l.statsNs = now + statsEveryNs
		l.parcel.stats = l.d.opt.Counters()
	}
	if l.again.Swap(false) {
		for _, key := range slices.SortedFunc(maps.Keys(l.known), func(a, b coverageKey) int {
			return cmp.Or(cmp.Compare(a.venue, b.venue), cmp.Compare(a.symbol, b.symbol))
		}) {
			l.parcel.instruments = append(l.parcel.instruments, l.known[key])
		}
		for _, key := range slices.SortedFunc(maps.Keys(l.latest), func(a, b coverageKey) int {
			return cmp.Or(cmp.Compare(a.venue, b.venue), cmp.Compare(a.symbol, b.symbol), cmp.Compare(a.stream, b.stream))
		}) {
			l.parcel.coverage = append(l.parcel.coverage, l.latest[key]) // before newer states of it
		}
	}
	l.fill()
	if l.parcel.empty() {
		return worked
	}
	l.sent = l.parcel
	l.parcel = l.newParcel()
	l.work.Put(l.sent)
	return true
}

// fill puts all coverage that is ready into the parcel.
func (l *lowRate) fill() {
	clear(l.low)
	kept := l.order[:0]
	for _, key := range l.order {
		p := l.pending[key]
		p.settle()
		if p.ready.records > 0 {
			l.parcel.coverage = append(l.parcel.coverage, coverageRow{p.lane.index, p.ready.records, key.venue, key.symbol, p.ready.c})
			share := &l.parcel.lanes[p.lane.index]
			share.coverage += p.ready.records
			of := coverageKey{venue: key.venue, symbol: key.symbol, stream: key.stream}
			if last, ok := l.latest[of]; !ok || p.ready.c.Ts >= last.c.Ts {
				l.latest[of] = coverageRow{lane: p.lane.index, venue: key.venue, symbol: key.symbol, c: p.ready.c} // no record stands for it
			}
			lower(&share.low, p.ready.low)
			p.ready = state{}
		}
		if p.next.records == 0 {
			delete(l.pending, key)
			continue
		}
		kept = append(kept, key)
		lower(&l.low[p.lane.index], p.next.low)
	}
	l.order = kept
}

func (l *lowRate) idle() bool {
	return l.sent == nil && len(l.order) == 0 && l.parcel.empty()
}

// run is the task that owns the client.
func (l *lowRate) run(ctx context.Context) {
	if !l.d.waitReady(ctx, l.bell) {
		return
	}
	var client LowRate
	defer func() {
		if client != nil {
			client.Close()
		}
	}()
	for {
		p, ok := l.work.Await(ctx, l.bell)
		if !ok {
			return
		}
		wait := l.d.retryMin
		var refused []sender.RefusedRow // not yet in quarantine
		for sent := false; ; wait = min(2*wait, retryMax) {
			if !l.d.prepareAs(ctx, fromLowRate) {
				return
			}
			var err error
			if client == nil {
				client, err = l.d.opt.OpenLowRate()
			}
			if err == nil && !sent {
				err = l.put(client, p)
				sent = err == nil
			}
			if err == nil {
				err = client.Flush(ctx)
			}
			var some *sender.RefusedError
			if errors.As(err, &some) {
				refused, err = append(refused, some.Rows...), some.Err
			}
			for err == nil && len(refused) > 0 {
				if err = l.d.quarantine(refused[0].Table, refused[0].Reason, refused[0].Text); err == nil {
					p.refuse(&refused[0])
					refused = refused[1:]
				}
			}
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
			l.d.trouble(fromLowRate, err.Error())
			l.d.Stats.Retries.Add(1)
			if errors.Is(err, qdb.ErrUnreachable) || sender.RefusedTable(err) {
				l.d.lost.Add(1)
			}
			if !l.d.sched.Sleep(ctx, wait) {
				return
			}
		}
		if l.d.Health.set(fromLowRate, "", l.d.clock()) {
			l.d.opt.Log.Info("QuestDB takes coverage again")
		}
		l.done.Put(p)
	}
}

// refuse notes that a row is in quarantine and not in the database.
func (p *parcel) refuse(r *sender.RefusedRow) {
	switch r.Table {
	case "coverage":
		for _, row := range p.coverage {
			if row.c.Ts == r.Ts && row.venue == r.Venue && row.symbol == r.Symbol && row.c.Stream == r.Stream {
				p.lanes[row.lane].refusedCoverage += row.records
			}
		}
	case "instruments":
		for i := range p.instruments { // of the same key, all are one row
			if row := &p.instruments[i]; !row.refused && !row.again && row.ts == r.Ts && row.inst.Venue == r.Venue && row.inst.Symbol == r.Symbol {
				row.refused = true
				p.lanes[row.lane].refusedInstruments++
			}
		}
	}
}

// put hands a parcel to the client, which keeps it until it is stored. The error
// is that of a quarantine that cannot be written; put may then be called again.
func (l *lowRate) put(client LowRate, p *parcel) error {
	for ; p.put < len(p.instruments); p.put++ {
		i := &p.instruments[p.put]
		if err := client.Instrument(i.ts, i.inst); err != nil {
			if i.again {
				continue // it was refused the first time
			}
			text, _ := json.Marshal(i.inst) // strings and small integers always marshal
			if err := l.d.quarantine("instruments", err.Error(), append(text, '\n')); err != nil {
				return err
			}
			i.refused = true
			p.lanes[i.lane].refusedInstruments++
		}
	}
	for i := range p.coverage {
		client.Coverage(l.d.opt.Agent, p.coverage[i].venue, p.coverage[i].symbol, p.coverage[i].c)
	}
	for _, s := range p.stats {
		client.Stat(s.Ts, s.Venue, s.Connection, s.Counter, s.Value)
	}
	return nil
}
