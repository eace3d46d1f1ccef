package feed

import (
	"fmt"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
)

// differences between the book and the venue's, inside the window of the venue's.
type differences struct {
	all, equal             int // levels
	ghosts, missing, other int // only ours, only the venue's, of another size
	inside                 bool
	fix                    []event.Level // what the venue has where we differ
}

// auditNow holds the book against a snapshot that the stream has reached.
func (m *Machine) auditNow(inst *instrument, msg *venues.Message) {
	a := &inst.audit
	window, seq := m.window(msg), msg.Seq
	venue := book.New(max(1, inst.tick))
	for _, l := range m.batch.Levels[msg.Lo:msg.Hi] {
		venue.Set(l.Side, l.Px, l.Qty)
	}
	for rest := a.buffer; len(rest) > 0; { // the diffs that it does not hold yet
		in, size, err := event.GetInput(rest)
		if err != nil {
			panic(err) // we wrote it
		}
		rest = rest[size:]
		if in.Aux <= seq || m.dec.Decode(in.Data, &m.batch) != ledger.Accepted {
			continue
		}
		for k := range m.batch.Messages {
			d := &m.batch.Messages[k]
			if d.Kind != venues.KindDelta || d.Inst != int(inst.dir-m.cfg.Base) || d.Seq <= seq {
				continue
			}
			for _, l := range m.batch.Levels[d.Lo:d.Hi] {
				venue.Set(l.Side, l.Px, l.Qty)
			}
		}
	}
	d := inst.compare(venue, window)
	if d.inside && !a.Doubted {
		m.note("%s %s: an audit contradicts the chain in %d levels; asking again", m.rules.Name, inst.Symbol, len(d.fix))
		a.Doubted = true
		m.auditAgain(inst)
		return
	}
	a.end()
	inst.horizon = window
	m.judged(inst, &d)
}

// compare walks down both books at once.
func (inst *instrument) compare(venue *book.Book, window [2]horizon) (d differences) {
	for side := event.Bid; side <= event.Ask; side++ {
		now, before := &window[side-event.Bid], &inst.horizon[side-event.Bid]
		own, theirs := inst.book.AppendLevels(nil, side), venue.AppendLevels(nil, side)
		for len(own)+len(theirs) > 0 {
			l := event.Level{Side: side} // what the venue has at the better price of the two
			was := int64(0)
			takeOwn := len(theirs) == 0 || len(own) > 0 && (own[0].Px == theirs[0].Px || (own[0].Px > theirs[0].Px) == (side == event.Bid))
			takeTheirs := len(own) == 0 || len(theirs) > 0 && (!takeOwn || own[0].Px == theirs[0].Px)
			if takeOwn {
				l.Px, was = own[0].Px, own[0].Qty
				own = own[1:]
			}
			if takeTheirs {
				l.Px, l.Qty = theirs[0].Px, theirs[0].Qty
				theirs = theirs[1:]
			}
			if now.beyond(side, l.Px) {
				continue
			}
			d.all++
			switch {
			case was == l.Qty:
				d.equal++
				continue
			case l.Qty == 0:
				d.ghosts++
			case was == 0:
				d.missing++
			default:
				d.other++
			}
			d.inside = d.inside || !before.beyond(side, l.Px)
			d.fix = append(d.fix, l)
		}
	}
	return d
}

// judged says how the audit came out, and puts the book right.
func (m *Machine) judged(inst *instrument, d *differences) {
	a := &inst.audit
	now := auditMark{inst.seq, d.equal, d.all}
	if a.Count++; a.Count == 1 || now.Equal*a.Worst.All <= a.Worst.Equal*now.All {
		a.Worst = now
	}
	worst := *a
	st := &inst.stats
	st.Audits++
	st.AuditLevels += uint64(d.all)
	st.AuditWrong += uint64(len(d.fix))
	st.AuditGhosts += uint64(d.ghosts)
	st.AuditMatchPpm = now.ppm()
	inst.detail = m.auditDetail(&worst, now, d)
	switch {
	case len(d.fix) == 0:
	case d.inside:
		m.warn("%s %s: %s; some of it lies inside of the last snapshot's window, where the chain proves that nothing is wrong: it was no proof", m.rules.Name, inst.Symbol, inst.detail)
		m.correct(inst, d)
	default: // nobody tells of all that happens out there
		m.note("%s %s: %s; all of it lies outside of the last snapshot's window, where that is normal, and is put right", m.rules.Name, inst.Symbol, inst.detail)
		m.correct(inst, d)
	}
	iv := &inst.streams[event.StreamBook]
	iv.detail, iv.changed = inst.detail, true
}

// ppm is rounded down: what is not equal is never a million.
func (a auditMark) ppm() uint64 { return uint64(a.Equal) * 1_000_000 / uint64(max(a.All, 1)) }

func (a auditMark) percent() string {
	if a.Equal == a.All {
		return "100"
	}
	ppm := a.ppm()
	return fmt.Sprintf("%d.%02d", ppm/10_000, ppm%10_000/100)
}

func (m *Machine) auditDetail(a *audit, now auditMark, d *differences) string {
	text := fmt.Sprintf("audit at id %d: %s %% of %d levels equal, %d ghosts, %d missing, %d of another size", now.ID, now.percent(), now.All, d.ghosts, d.missing, d.other)
	if a.Worst != now {
		text += fmt.Sprintf("; worst of %d audits at id %d: %s %% of %d", a.Count, a.Worst.ID, a.Worst.percent(), a.Worst.All)
	}
	return text
}

// correct makes the book what the venue says, and writes it.
func (m *Machine) correct(inst *instrument, d *differences) {
	for _, l := range d.fix {
		inst.book.Set(l.Side, l.Px, l.Qty)
	}
	if d.inside {
		m.breakStream(inst, event.StreamBook, event.CauseSequence)
		m.beginBook(inst)
	}
	m.continueBook(inst) // a silence before it has been only that
	inst.keyframeOwed = false
	inst.lastMessageTs, inst.lastEventTs = m.now, event.Null
	inst.stats.BookMessages++
	m.putWhole(inst, m.collect(inst), event.FlagSnapshot, event.Null)
	m.putTop(inst, event.Null, true)
}
