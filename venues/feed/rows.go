package feed

import (
	"encoding/json"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
	"deeptape/venues"
)

// claim gives room for one record of rows rows, or nil if they are deferred.
func (m *Machine) claim(size int, t event.Table, rows int) []byte {
	b := m.out.Claim(size)
	m.rows.Derive(t, rows, b == nil)
	return b
}

func (m *Machine) head(kind event.RowKind, inst *instrument, ts int64) event.Head {
	return event.Head{
		Kind: kind, Inst: inst.dir, PxScale: inst.PxScale, QtyScale: inst.QtyScale,
		Ts: ts, TsEvent: event.Null, Seq: event.Null, SeqPrev: event.Null, Pos: m.pos, TsRecv: m.now,
	}
}

// flags of a row: it says about itself what its interval says.
func (inst *instrument) flags(s event.Stream) uint8 {
	if inst.streams[s].state == event.StateUnverified {
		return event.FlagUnverified
	}
	return 0
}

// putBook writes one book message: a row a level, or one row for a message
// without levels.
func (m *Machine) putBook(inst *instrument, msg *venues.Message, levels []event.Level, flags uint8) {
	rows := max(1, len(levels))
	ts := m.takeTs(inst, rows)
	inst.counted(event.StreamBook, inst.lastTs, msg.Seq)
	b := m.claim(event.BookSize(len(levels)), event.TableBookDelta, rows)
	if b == nil {
		return
	}
	h := m.head(event.RowBook, inst, ts)
	h.Flags, h.N = flags|inst.flags(event.StreamBook), event.BookN(len(levels))
	h.TsEvent, h.Seq, h.SeqPrev = msg.TsEvent, msg.Seq, msg.SeqPrev
	h.Put(b, len(b))
	for i := range levels {
		levels[i].Flags = inst.levelFlags(levels[i].Side, levels[i].Px)
		event.PutLevel(b, len(levels), i, levels[i])
	}
	m.out.Commit()
}

// putKeyframe writes the book that m.scratch holds.
func (m *Machine) putKeyframe(inst *instrument, bids int) {
	m.putWhole(inst, bids, event.FlagSnapshot|event.FlagKeyframe, event.Null)
}

// putWhole writes the whole book as it stands in m.scratch, the bids first. tsEvent is the
// venue's clock in the message that made it so, or event.Null.
func (m *Machine) putWhole(inst *instrument, bids int, flags uint8, tsEvent int64) {
	rows := max(1, len(m.scratch))
	ts := m.takeTs(inst, rows)
	inst.counted(event.StreamBook, inst.lastTs, inst.seq)
	b := m.claim(event.BookSize(len(m.scratch)), event.TableBookDelta, rows)
	if b == nil {
		return
	}
	h := m.head(event.RowBook, inst, ts)
	h.Flags = flags | inst.flags(event.StreamBook)
	h.N, h.TsEvent, h.Seq = event.BookN(len(m.scratch)), tsEvent, inst.seq
	h.Put(b, len(b))
	for i, l := range m.scratch {
		side := event.Bid
		if i >= bids {
			side = event.Ask
		}
		event.PutLevel(b, len(m.scratch), i, event.Level{Px: l.Px, Qty: l.Qty, Side: side, Flags: inst.levelFlags(side, l.Px)})
	}
	m.out.Commit()
}

// putTop writes the first levels at the instant of the message's last row, if
// any of them has changed.
func (m *Machine) putTop(inst *instrument, tsEvent int64, always bool) {
	changed := always
	for s := range inst.top {
		side := &inst.top[s]
		n := inst.book.Top(event.Side(s)+event.Bid, m.topNow)
		if n != side.n || !equalLevels(m.topNow[:n], side.levels[:n]) {
			changed = true
			side.n = copy(side.levels, m.topNow[:n])
		}
	}
	bids, asks := &inst.top[0], &inst.top[1]
	if !changed {
		return
	}
	b := m.claim(event.TopSize(bids.n, asks.n), event.TableBookTop, 1)
	if b == nil {
		return
	}
	h := m.head(event.RowTop, inst, inst.lastTs)
	h.TsEvent, h.Seq, h.Flags = tsEvent, inst.seq, inst.flags(event.StreamBook)|inst.topFlags()
	h.N, h.Extra = uint16(bids.n), uint16(asks.n)
	h.Put(b, len(b))
	for i, l := range bids.levels[:bids.n] {
		event.PutPair(b, i, l.Px, l.Qty)
	}
	for i, l := range asks.levels[:asks.n] {
		event.PutPair(b, bids.n+i, l.Px, l.Qty)
	}
	m.out.Commit()
}

func equalLevels(a, b []book.Level) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// putTopNull opens a gap in book_top, at the gap's own start: an ASOF JOIN must
// not carry the last good book through it.
func (m *Machine) putTopNull(inst *instrument, ts int64) {
	inst.top[0].n, inst.top[1].n = 0, 0
	b := m.claim(event.TopSize(0, 0), event.TableBookTop, 1)
	if b == nil {
		return
	}
	h := m.head(event.RowTop, inst, ts)
	h.Put(b, len(b))
	m.out.Commit()
}

func (m *Machine) putTrade(inst *instrument, msg *venues.Message) {
	ts := m.takeTs(inst, 1)
	inst.counted(event.StreamTrades, ts, msg.TradeNum)
	b := m.claim(event.TradeSize(len(msg.TradeID)), event.TableTrades, 1)
	if b == nil {
		return
	}
	h := m.head(event.RowTrade, inst, ts)
	h.TsEvent, h.Seq, h.N = msg.TsEvent, msg.Seq, uint16(len(msg.TradeID))
	h.Flags = inst.flags(event.StreamTrades)
	h.Put(b, len(b))
	event.PutTrade(b, msg.Px, msg.Qty, msg.Side, msg.TradeID)
	m.out.Commit()
}

func (m *Machine) putQuote(inst *instrument, msg *venues.Message) {
	ts := m.takeTs(inst, 1)
	inst.counted(event.StreamQuotes, ts, msg.Seq)
	b := m.claim(event.QuoteSize, event.TableQuotes, 1)
	if b == nil {
		return
	}
	h := m.head(event.RowQuote, inst, ts)
	h.TsEvent, h.Seq, h.Flags = msg.TsEvent, msg.Seq, inst.flags(event.StreamQuotes)
	h.Put(b, len(b))
	event.PutPair(b, 0, msg.Px, msg.Qty)
	event.PutPair(b, 1, msg.AskPx, msg.AskQty)
	m.out.Commit()
}

func (m *Machine) putCoverage(inst *instrument, s event.Stream) {
	if iv := &inst.streams[s]; iv.changed {
		iv.changed = false
		m.putInterval(inst, s, iv)
	}
}

func (m *Machine) putInterval(inst *instrument, s event.Stream, iv *interval) {
	b := m.claim(event.CoverageSize(len(iv.detail)), event.TableCoverage, 1)
	if b == nil {
		return
	}
	m.text = append(m.text[:0], iv.detail...)
	event.PutCoverage(b, &event.Coverage{
		Inst: inst.dir, Stream: s, State: iv.state, Proof: iv.proof, Cause: iv.cause,
		Ts: iv.ts, TsEnd: max(iv.end, iv.ts), SeqFirst: iv.seqFirst, SeqLast: iv.seqLast, Messages: iv.messages,
		Pos: m.pos, TsRecv: m.now, Detail: m.text,
	})
	m.out.Commit()
}

// putInstrument tells what is known of the instrument from now on. Rare: once a
// run, and at every widening.
func (m *Machine) putInstrument(inst *instrument) {
	text, err := json.Marshal(&inst.Instrument)
	if err != nil {
		panic(err) // strings and small integers always marshal
	}
	b := m.claim(event.Align(event.HeadSize+len(text)), event.TableInstruments, 1)
	if b == nil {
		return
	}
	h := m.head(event.RowInst, inst, m.nextTs(inst))
	h.N = uint16(len(text))
	h.Put(b, len(b))
	n := copy(b[event.HeadSize:], text)
	clear(b[event.HeadSize+n:])
	m.out.Commit()
}
