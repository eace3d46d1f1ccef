package deliver

import (
	"errors"
	"fmt"
	"io"

	"deeptape/hotpath/event"
	"deeptape/hotpath/lane"
	"deeptape/ilp/line"
)

// directory maps the instrument numbers of records to instruments. It learns them
// from RowInst records, which stand before every other row of an instrument.
type directory []*line.Inst

func (d *directory) put(i uint32, inst *line.Inst) {
	for len(*d) <= int(i) {
		*d = append(*d, nil)
	}
	(*d)[i] = inst
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
	now := d.clock()
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
		if err := d.encode(ls, &ls.dir, rec, now); err != nil {
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
	now := d.clock()
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
			err = d.encode(ls, &ls.sourceDir, ls.held, now)
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

// encode appends a record's rows to their batch. now is when the pass began: a clock that
// is read for every record takes as long as a tenth of its rows.
func (d *Deliverer) encode(ls *laneState, dir *directory, rec []byte, now int64) error {
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
	case event.RowDepth:
		t = bulkDepth
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
	case bulkDepth:
		b.body, rows = line.AppendDepth(b.body, inst, rec)
	}
	b.add(ls.index, h.Pos, rows, now)
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
