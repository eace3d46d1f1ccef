package feed

import (
	"fmt"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
)

// Binance's diffs speak only of levels inside the window of the snapshot that the venue
// itself keeps in mind: a level outside may change or go and nobody is told. So a book
// with a perfect chain rots from its far ends. Where Config.AuditEveryNs asks for it,
//
//   - a row of a level outside the window of the last snapshot says UNVERIFIED; a side
//     of which the snapshot had fewer levels than asked for has no outside;
//   - now and then a snapshot is fetched of a live book. The diffs that come meanwhile
//     are kept, and brought to the snapshot as well, so that both stand at the same id.
//     Inside the new window they must be equal: how far they are stands in the detail
//     of the book's interval;
//   - where they are not, the book becomes what the venue says, and is written as a
//     snapshot at its id. (Not as a keyframe, which by contract repeats the book that
//     there is.) If the old window held the difference, the chain has lied: a gap.

const auditTriesMax = 5

// audit is the state of one instrument's.
type audit struct {
	DueTs int64 `json:"due_ts"` // 0: not yet planned
	Asked bool  `json:"asked"`
	Tries int   `json:"tries"`
	First int64 `json:"first"` // first id that is kept, event.Null for none

	buffer []byte // whole input records of the diffs since it was asked
}

// horizon is how far one side of the last snapshot reached.
type horizon struct {
	Bounded bool  `json:"bounded"`
	Px      int64 `json:"px"` // of the worst level
}

func (m *Machine) audits() bool { return m.cfg.AuditEveryNs > 0 && m.rules.RestSnapshot }

// beyond says that a level lies outside the window of the last snapshot.
func (inst *instrument) beyond(side event.Side, px int64) bool {
	h := inst.horizon[side-event.Bid]
	return h.Bounded && (side == event.Bid && px < h.Px || side == event.Ask && px > h.Px)
}

func (inst *instrument) levelFlags(side event.Side, px int64) uint8 {
	if inst.beyond(side, px) {
		return event.FlagUnverified
	}
	return 0
}

// window notes how far a snapshot reaches.
func (m *Machine) window(msg *venues.Message) (w [2]horizon) {
	var n [2]int
	for _, l := range m.batch.Levels[msg.Lo:msg.Hi] {
		s := l.Side - event.Bid
		if n[s]++; n[s] == 1 || l.Side == event.Bid && l.Px < w[s].Px || l.Side == event.Ask && l.Px > w[s].Px {
			w[s].Px = l.Px
		}
	}
	for s := range w {
		if w[s].Bounded = m.audits() && m.cfg.Depth > 0 && n[s] >= m.cfg.Depth; !w[s].Bounded {
			w[s].Px = 0
		}
	}
	return w
}

func (m *Machine) tickAudit(i int, inst *instrument) {
	a := &inst.audit
	switch every := m.cfg.AuditEveryNs; {
	case !m.audits() || inst.state != bookLive:
	case a.DueTs == 0: // not all at once
		a.DueTs = m.now + every/int64(len(m.insts))*int64(i+1)
	case m.now >= a.DueTs && !a.Asked && inst.request == 0:
		*a = audit{DueTs: a.DueTs + every, Asked: true, First: event.Null, buffer: a.buffer[:0]}
		m.fetch(inst, 0)
	}
}

// keep keeps a diff that the book has taken, for the snapshot that is on its way.
func (a *audit) keep(in *event.Input, msg *venues.Message, bytesMax int) {
	if !a.Asked {
		return
	}
	if len(a.buffer)+event.InputSize(len(in.Data)) > bytesMax {
		a.end() // it has waited too long; there will be another one
		return
	}
	if a.First == event.Null {
		a.First = msg.First
	}
	a.buffer = event.AppendInput(a.buffer, in.InputHead, in.Data)
}

func (a *audit) end() { *a = audit{DueTs: a.DueTs, First: event.Null, buffer: a.buffer[:0]} }

// audited takes the snapshot of a live book.
func (m *Machine) audited(inst *instrument, msg *venues.Message) {
	a := &inst.audit
	oldest := inst.seq + 1
	if a.First != event.Null {
		oldest = a.First
	}
	if msg.Seq+1 < oldest || msg.Seq > inst.seq { // no way to the same id
		if a.Tries++; a.Tries >= auditTriesMax {
			m.note("%s %s: no snapshot for the audit fits the stream; later", m.rules.Name, inst.Symbol)
			a.end()
			return
		}
		m.refetch(inst)
		return
	}
	inst.attempts = 0
	seq, window := msg.Seq, m.window(msg)
	shadow := book.New(max(1, inst.tick))
	for _, l := range m.batch.Levels[msg.Lo:msg.Hi] {
		shadow.Set(l.Side, l.Px, l.Qty)
	}
	for rest := a.buffer; len(rest) > 0; {
		in, size, err := event.GetInput(rest)
		if err != nil {
			panic(err) // we wrote it
		}
		rest = rest[size:]
		if m.dec.Decode(in.Data, &m.batch) != ledger.Accepted {
			continue // it was, when it came
		}
		for k := range m.batch.Messages {
			d := &m.batch.Messages[k]
			if d.Kind != venues.KindDelta || d.Inst != int(inst.dir-m.cfg.Base) || d.Seq <= seq {
				continue
			}
			for _, l := range m.batch.Levels[d.Lo:d.Hi] {
				shadow.Set(l.Side, l.Px, l.Qty)
			}
		}
	}
	a.end()
	m.compare(inst, shadow, window)
}

// compare holds the book against the venue's, inside the window of the venue's.
func (m *Machine) compare(inst *instrument, venue *book.Book, window [2]horizon) {
	before := inst.horizon
	inst.horizon = window // so that beyond asks about the new one
	equal, all, ghosts, inside := 0, 0, 0, false
	var fix []event.Level
	for side := event.Bid; side <= event.Ask; side++ {
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
			if inst.beyond(side, l.Px) {
				continue
			}
			if all++; was == l.Qty {
				equal++
				continue
			}
			if l.Qty == 0 {
				ghosts++
			}
			h := before[side-event.Bid]
			inside = inside || !h.Bounded || side == event.Bid && l.Px >= h.Px || side == event.Ask && l.Px <= h.Px
			fix = append(fix, l)
		}
	}
	inst.stats.Audits++
	inst.stats.AuditLevels += uint64(all)
	inst.stats.AuditWrong += uint64(len(fix))
	percent := "100"
	if len(fix) > 0 { // rounded down: what is not equal is never 100
		percent = fmt.Sprintf("%d.%02d", equal*100/all, equal*10_000/all%100)
	}
	detail := fmt.Sprintf("audit at id %d: %s %% of %d levels equal, %d ghosts", inst.seq, percent, all, ghosts)
	if len(fix) > 0 {
		m.note("%s %s: %s", m.rules.Name, inst.Symbol, detail)
		m.correct(inst, fix, inside)
	}
	iv := &inst.streams[event.StreamBook]
	iv.detail, iv.changed = detail, true
}

// correct makes the book what the venue says, and writes it.
func (m *Machine) correct(inst *instrument, fix []event.Level, inside bool) {
	for _, l := range fix {
		inst.book.Set(l.Side, l.Px, l.Qty)
	}
	if inside {
		m.breakStream(inst, event.StreamBook, event.CauseSequence)
		m.beginBook(inst)
	}
	m.continueBook(inst) // a silence before it has been only that
	inst.keyframeOwed = false
	inst.stats.BookMessages++
	m.putWhole(inst, m.collect(inst), event.FlagSnapshot)
	m.putTop(inst, event.Null, true)
}
