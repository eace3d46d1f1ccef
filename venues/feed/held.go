package feed

import (
	"slices"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
)

// What waits for the other line: frames that jump over ids which it may still bring.
// See lines.go for when.
//
// Invariants: the frames of a stream stand in the order of the first id that each of
// them starts with, those with the same one in the order in which they came, so that
// only the first can follow on; a frame is taken off before it is judged anew, and is
// held again only for a later id. So each id that comes costs the frames that it lets
// go, and not all that wait.

const (
	holdNs       = 2e9     // since the first of them came
	holdBytesMax = 4 << 20 // of one stream; a second of BTCUSDT is 30 kB
)

// held is what one stream of an instrument keeps back.
type held struct {
	waiting []heldFrame
	bytes   int    // of their records
	copies  int    // of them that are counted where another part of the same frame waits
	pos     uint64 // of the frame that was held last, 0 once it has been taken off
}

// heldFrame is a whole input record. It owns its bytes: waiting is rare.
type heldFrame struct {
	first  int64
	record []byte
}

// countedElsewhere, as the aux of a waiting frame, marks a copy.
const countedElsewhere = 1

// hold keeps a frame back.
func (m *Machine) hold(inst *instrument, s event.Stream, in *event.Input, first int64) {
	h := &inst.held[s]
	if h.pos == in.Pos { // with an earlier message of the same frame
		return
	}
	head := in.InputHead
	if m.kept { // another part of it waits already
		head.Aux = countedElsewhere
	}
	h.copies += int(head.Aux)
	m.kept = true
	h.pos = in.Pos
	at := len(h.waiting)
	for at > 0 && h.waiting[at-1].first > first { // a line's ids ascend: nearly always the end
		at--
	}
	f := heldFrame{first, event.AppendInput(nil, head, in.Data)}
	h.waiting = slices.Insert(h.waiting, at, f)
	h.bytes += len(f.record)
	m.holding++
}

// next takes the first of the waiting frames off.
func (m *Machine) next(inst *instrument, s event.Stream) []byte {
	h := &inst.held[s]
	f := h.waiting[0]
	if h.waiting = h.waiting[1:]; len(h.waiting) == 0 {
		h.waiting = nil
	}
	in, _, _ := event.GetInput(f.record)
	h.bytes -= len(f.record)
	h.copies -= int(in.Aux)
	h.pos = 0
	m.holding--
	m.frames.Unbuffer(1 - int(in.Aux))
	return f.record
}

// unhold takes all of them off, in their order.
func (m *Machine) unhold(inst *instrument, s event.Stream) (records []byte) {
	for len(inst.held[s].waiting) > 0 {
		records = append(records, m.next(inst, s)...)
	}
	return records
}

// release ends the waiting: the trades are stored beside their gap, the book's frames
// are in one.
func (m *Machine) release(inst *instrument) {
	for len(inst.held[event.StreamTrades].waiting) > 0 {
		m.giveUp(inst)
	}
	m.dropHeld(inst)
}

// dropHeld books what is held back as rejected: its places are in a gap.
func (m *Machine) dropHeld(inst *instrument) {
	for s := range event.Stream(numProven) {
		m.dropHeldOf(inst, s)
	}
}

func (m *Machine) dropHeldOf(inst *instrument, s event.Stream) {
	if h := &inst.held[s]; len(h.waiting) > 0 {
		n := len(h.waiting) - h.copies
		m.unhold(inst, s)
		m.frames.RejectN(ledger.OutOfSync, n)
	}
}

// take takes what an instrument has of a stream in frames that have waited.
func (m *Machine) take(records []byte, inst *instrument, s event.Stream) {
	eventTs, only := m.eventTs, m.only
	m.only = part{int(inst.dir - m.cfg.Base), s}
	for len(records) > 0 {
		in, size, err := event.GetInput(records)
		if err != nil {
			panic(err) // we wrote it
		}
		records = records[size:]
		m.frameTs = in.Ts
		m.frame(&in)
	}
	m.frameTs, m.eventTs, m.only = m.now, eventTs, only
}

// giveUp stops waiting for what comes before the first of the held trades. The others
// may have to wait for more.
func (m *Machine) giveUp(inst *instrument) {
	m.forced = inst.held[event.StreamTrades].waiting[0].first
	m.take(m.next(inst, event.StreamTrades), inst, event.StreamTrades)
	m.forced = event.Null
}

// settle judges anew what is held back.
func (m *Machine) settle() {
	for i := range m.insts {
		inst := &m.insts[i]
		for s := range event.Stream(numProven) {
			// Each turn takes at least one frame off, for good.
			for h := &inst.held[s]; len(h.waiting) > 0; {
				f := &h.waiting[0]
				if f.first <= inst.last(s)+1 {
					m.take(m.next(inst, s), inst, s)
				} else if !m.passed(inst, s) && m.now-stampOf(f.record) < holdNs && h.bytes <= min(holdBytesMax, m.bufferBytes) {
					break
				} else if s == event.StreamBook {
					m.failed(inst, checkChain, event.CauseSequence)
				} else {
					m.giveUp(inst)
				}
			}
		}
	}
}
