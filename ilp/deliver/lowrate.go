package deliver

import (
	"context"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/ilp/line"
	"deeptape/ilp/sender"
)

// lowRate brings coverage, instruments and counters into QuestDB through the
// official client. Coverage of an instant is held back until the rows up to it
// have been acknowledged: what is called verified is in the database.
type lowRate struct {
	d       *Deliverer
	work    chan *parcel
	done    chan *parcel
	busy    bool
	nextNs  int64
	pending map[coverageKey]*pendingCoverage
	order   []coverageKey // of pending, oldest first: the same order in every run
	parcel  *parcel       // being filled
}

type coverageKey struct {
	venue, symbol string
	stream        event.Stream
	ts            int64
}

// pendingCoverage: the newest version that may be sent, and a newer one whose rows
// are not acknowledged yet.
type pendingCoverage struct {
	lane        *laneState
	ready, next event.Coverage
	hasReady    bool
	hasNext     bool
	rows        int // records merged into this one
}

// parcel is what one flush carries.
type parcel struct {
	coverage    []coverageRow
	instruments []instrumentRow
	stats       []Stat
	rows        map[*laneState][2]int // coverage and instrument records, for the ledger
}

type coverageRow struct {
	venue, symbol string
	c             event.Coverage
}

type instrumentRow struct {
	ts   int64
	inst event.Instrument
}

// Stat is a row of capture_stats.
type Stat struct {
	Ts                         int64
	Venue, Connection, Counter string
	Value                      int64
}

const lowRateEvery = int64(250 * time.Millisecond)

func newLowRate(d *Deliverer) *lowRate {
	return &lowRate{d: d, work: make(chan *parcel, 1), done: make(chan *parcel, 1), pending: map[coverageKey]*pendingCoverage{}, parcel: newParcel()}
}

func newParcel() *parcel { return &parcel{rows: map[*laneState][2]int{}} }

func (p *parcel) empty() bool {
	return len(p.coverage) == 0 && len(p.instruments) == 0 && len(p.stats) == 0
}

func (l *lowRate) instrument(ls *laneState, rec []byte) error {
	inst, err := event.InstrumentOf(rec)
	if err != nil {
		return err
	}
	var h event.Head
	h.Get(rec)
	l.parcel.instruments = append(l.parcel.instruments, instrumentRow{h.Ts, inst})
	n := l.parcel.rows[ls]
	l.parcel.rows[ls] = [2]int{n[0], n[1] + 1}
	ls.l.Rows.Deliver().Take(ledger.Instruments, 1, ls.source != nil)
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
	p.next, p.hasNext = c, true
	p.rows++
	ls.l.Rows.Deliver().Take(ledger.Coverage, 1, ls.source != nil)
}

// settle moves next to ready once its rows are acknowledged.
func (p *pendingCoverage) settle() {
	if p.hasNext && p.next.Pos <= p.lane.l.Acked() {
		p.ready, p.hasReady, p.hasNext = p.next, true, false
	}
}

func (l *lowRate) step(now int64) (worked bool) {
	select {
	case p := <-l.done:
		for ls, n := range p.rows {
			ls.l.Rows.Deliver().Ack(ledger.Coverage, n[0], 0)
			ls.l.Rows.Deliver().Ack(ledger.Instruments, n[1], 0)
			ls.l.Rows.Deliver().Publish()
		}
		l.busy, worked = false, true
	default:
	}
	if l.busy || now < l.nextNs && !l.d.stopping.Load() {
		return worked
	}
	kept := l.order[:0]
	for _, key := range l.order {
		p := l.pending[key]
		p.settle()
		if p.hasReady {
			l.parcel.coverage = append(l.parcel.coverage, coverageRow{key.venue, key.symbol, p.ready})
			n := l.parcel.rows[p.lane]
			rows := p.rows
			if p.hasNext {
				rows--
			}
			l.parcel.rows[p.lane] = [2]int{n[0] + rows, n[1]}
			p.rows -= rows
			p.hasReady = false
		}
		if p.hasNext {
			kept = append(kept, key)
		} else {
			delete(l.pending, key)
		}
	}
	l.order = kept
	l.nextNs = now + lowRateEvery
	if l.parcel.empty() {
		return worked
	}
	l.busy = true
	l.work <- l.parcel
	l.parcel = newParcel()
	return true
}

func (l *lowRate) idle() bool {
	return !l.busy && len(l.order) == 0 && l.parcel.empty()
}

// run is the goroutine that owns the client.
func (l *lowRate) run(ctx context.Context) {
	if !l.d.waitReady(ctx) {
		return
	}
	var client *sender.LowRate
	defer func() {
		if client != nil {
			client.Close()
		}
	}()
	for p := range l.work {
		wait := retryMin
		for sent := false; ; {
			var err error
			if client == nil {
				client, err = sender.OpenLowRate(l.d.opt.DB)
			}
			if err == nil && !sent {
				l.put(client, p)
				sent = true
			}
			if err == nil {
				err = client.Flush(ctx)
			}
			if err == nil {
				break
			}
			now := l.d.clock()
			if l.d.Health.set(err.Error(), now) {
				l.d.opt.Log.Warn("QuestDB does not take coverage; the journal keeps it", "reason", err)
			}
			l.d.Stats.Retries.Add(1)
			if !sleep(ctx, wait) {
				return
			}
			wait = min(2*wait, retryMax)
		}
		l.done <- p
		l.d.bell.Ring()
	}
}

func (l *lowRate) put(client *sender.LowRate, p *parcel) {
	for i := range p.coverage {
		client.Coverage(l.d.opt.Agent, p.coverage[i].venue, p.coverage[i].symbol, p.coverage[i].c)
	}
	for i := range p.instruments {
		client.Instrument(p.instruments[i].ts, p.instruments[i].inst)
	}
	for _, s := range p.stats {
		client.Stat(s.Ts, s.Venue, s.Connection, s.Counter, s.Value)
	}
}
