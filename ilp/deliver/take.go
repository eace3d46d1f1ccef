package deliver

import (
	"fmt"

	"deeptape/hotpath/event"
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

// goLive ends a catch-up. The derivation knows every instrument up to here; the
// ring never had the instruments of the inputs that were deferred.
func (d *Deliverer) goLive(ls *laneState) {
	ls.source.Close()
	d.opt.Log.Info("caught up", "feed", ls.l.Feed, "to_input", ls.encoded)
	ls.dir, ls.source, ls.sourceDir, ls.held, ls.next = ls.sourceDir, nil, nil, nil, nil
}

// encode appends a record's rows to their batch. now is when the pass began: a clock that
// is read for every record takes as long as a tenth of its rows.
func (d *Deliverer) encode(ls *laneState, dir *directory, rec []byte, now int64) error {
	var h event.Head
	h.Get(rec)
	switch h.Kind {
	case event.RowInst:
		if err := d.learn(dir, rec); err != nil {
			return err
		}
		return d.slow.instrument(ls, rec)
	case event.RowCoverage:
		d.slow.coverage(ls, (*dir)[h.Inst], rec)
		return nil
	}
	t, ok := h.Kind.Table()
	if !ok {
		return fmt.Errorf("BUG: row record of kind %d", h.Kind)
	}
	b := d.building[t]
	rows := 0
	inst := (*dir)[h.Inst]
	b.body, rows = line.Append(b.body, inst, rec)
	if rows > 0 {
		b.lastInst, b.lastTs = inst, h.Ts+int64(rows)-1
	}
	b.add(ls.index, h.Pos, rows, now)
	b.endNs[ls.group()] = max(b.endNs[ls.group()], h.Ts+int64(rows)-1)
	ls.l.Rows.Deliver().Take(t, rows, ls.source != nil)
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
	l, err := line.NewInstIn(d.opt.DB.TablePrefix, inst.Venue, inst.Symbol)
	if err != nil {
		return err
	}
	dir.put(h.Inst, l)
	return nil
}
