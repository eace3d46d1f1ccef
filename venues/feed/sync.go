package feed

import (
	"math"
	"slices"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
	"deeptape/hotpath/fixed"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
)

// A book is put together as the venue's sheet says (Binance, "How to manage a
// local order book correctly"): buffer the diffs, fetch a snapshot, refuse one
// that is older than the buffer's first id, drop what it already holds, and go on
// from there.

// fetchAfterNs is how long an instrument that says nothing waits for its first
// diff before its snapshot is fetched all the same: a snapshot fetched before the
// first diff is usually older than it, and would have to be fetched again.
const fetchAfterNs = 1e9

const (
	retryDelayNsMin = 100e6
	retryDelayNsMax = 10e9
)

// emptyBelievedAfter is how many snapshots without levels in a row are fetched again
// before one is believed: the venue insists.
const emptyBelievedAfter = 3

// anyRequest is the number of a request whose real number the journal has lost.
const anyRequest = math.MaxUint32

func (m *Machine) startSync(inst *instrument) {
	m.dropBuffer(inst)
	inst.state = bookSyncing
	inst.syncingFrom = m.now
	inst.request, inst.attempts, inst.empties = 0, 0, 0
	inst.inband.RenewAt, inst.inband.Attempts = max(m.now+m.patienceNs(), inst.overfull.UntilTs), 0
}

// resync gives up one book and waits for a new snapshot; the other instruments
// go on. What was held back waits for the snapshot like what comes later.
func (m *Machine) resync(inst *instrument, cause event.Cause) {
	m.warn("%s %s: gap (%s) after id %d; resync", m.rules.Name, inst.Symbol, cause, inst.seq)
	if !m.rules.RestSnapshot {
		m.dropHeldOf(inst, event.StreamBook)
		m.dropBook(inst, cause)
		if m.usable(inst) {
			m.takeStandby(inst)
			return
		}
		m.startSync(inst)
		m.renew(inst)
		return
	}
	waiting := m.unhold(inst, event.StreamBook)
	m.dropBook(inst, cause)
	m.startSync(inst)
	m.take(waiting, inst, event.StreamBook)
}

func (m *Machine) dropBook(inst *instrument, cause event.Cause) {
	if inst.state == bookLive {
		inst.failing = failing{}
	}
	m.breakStream(inst, event.StreamBook, cause)
	inst.book.Clear()
	inst.keyframeOwed = false
	inst.probe = probe{}
	inst.horizon = [2]horizon{}
	inst.audit.end()
}

// bufferFrame keeps a frame until the snapshot is there. A full buffer starts
// again with this frame: the snapshot that it waits for must then be newer.
func (m *Machine) bufferFrame(inst *instrument, in *event.Input, msg *venues.Message) {
	if inst.buffered > 0 && len(inst.buffer)+event.InputSize(len(in.Data)) > m.bufferBytes {
		m.warn("%s %s: %d frames dropped from a full buffer while waiting for a snapshot", m.rules.Name, inst.Symbol, inst.buffered)
		m.dropBuffer(inst)
	}
	if inst.buffered == 0 || m.paired && msg.First < inst.firstID {
		inst.firstID = msg.First
	}
	inst.buffered++
	inst.buffer = event.AppendInput(inst.buffer, in.InputHead, in.Data)
	if inst.failing.Finals > 0 {
		m.alive(inst)
	}
	m.fetch(inst, 0)
}

// dropBuffer books the buffered frames as rejected: their places are in a gap.
func (m *Machine) dropBuffer(inst *instrument) {
	if inst.buffered > 0 {
		m.frames.Unbuffer(inst.buffered)
		m.frames.RejectN(ledger.OutOfSync, inst.buffered)
	}
	inst.buffer, inst.buffered = inst.buffer[:0], 0
}

// fetch asks for a snapshot unless one is under way.
func (m *Machine) fetch(inst *instrument, delayNs int64) {
	if inst.request == 0 {
		m.ask(inst, max(delayNs, inst.failing.NextTs-m.now, inst.overfull.UntilTs-m.now), inst.rank(), m.alone(inst))
	}
}

// ask asks for a snapshot. Its answer is the only one that will be taken.
func (m *Machine) ask(inst *instrument, delayNs, rank int64, spare bool) {
	m.requests++
	if inst.request = m.requests; m.hole {
		inst.request = anyRequest
	}
	inst.stats.Fetches++
	m.act(Action{Kind: ActionFetch, Inst: int(inst.dir - m.cfg.Base), Request: inst.request, DelayNs: delayNs, Rank: rank, Spare: spare})
}

// refetch asks again, later each time.
func (m *Machine) refetch(inst *instrument) {
	delayNs := m.retryDelayNs(inst)
	inst.attempts++
	inst.request = 0
	m.fetch(inst, delayNs)
}

func (m *Machine) tickSync(inst *instrument) {
	switch {
	case inst.state != bookSyncing:
	case !m.rules.RestSnapshot:
		m.tickInband(inst)
	case m.now-inst.syncingFrom >= fetchAfterNs:
		m.fetch(inst, 0)
	}
}

func (m *Machine) rest(in *event.Input) {
	request, i, status := event.SplitRestAux(in.Aux)
	if int(i) >= len(m.insts) || m.insts[i].request == 0 || m.insts[i].request != request && m.insts[i].request != anyRequest {
		return // of a session that is over
	}
	inst := &m.insts[i]
	if status != 200 {
		m.warn("%s %s: snapshot request failed with status %d: %.120s", m.rules.Name, inst.Symbol, status, in.Data)
	}
	if status != 200 || !m.readSnapshot(inst, in.Data) {
		if !inst.audit.Asked {
			m.snapshotRefused(inst, status, in.Data)
		}
		if inst.state == bookLive && inst.audit.Asked {
			inst.request = 0
			m.auditAgain(inst)
			return
		}
		m.refetch(inst)
		return
	}
	msg := &m.batch.Messages[0]
	switch {
	case inst.state == bookLive:
		inst.request, inst.attempts = 0, 0
		inst.failing, m.begunTs = failing{}, m.now
		inst.probe.answered(msg.Seq, m.now)
		if inst.audit.Asked {
			m.audited(inst, msg, in.Data)
		}
	case inst.state != bookSyncing:
		inst.request = 0
	case inst.buffered > 0 && msg.Seq+1 < inst.firstID: // stale, or out of a cache
		inst.stats.StaleSnapshots++
		m.note("%s %s: snapshot %d is older than the first buffered id %d; fetching again", m.rules.Name, inst.Symbol, msg.Seq, inst.firstID)
		m.refetch(inst)
	case msg.Hi == msg.Lo && inst.empties < emptyBelievedAfter:
		inst.empties++
		m.note("%s %s: snapshot %d is empty; fetching again", m.rules.Name, inst.Symbol, msg.Seq)
		m.refetch(inst)
	default:
		inst.request, inst.attempts, inst.empties = 0, 0, 0
		m.applySnapshot(inst, msg)
		m.replayBuffer(inst)
	}
}

// readSnapshot decodes a fetched snapshot, and says why it cannot be used.
func (m *Machine) readSnapshot(inst *instrument, body []byte) bool {
	reason := m.decode(func() ledger.Reason {
		return m.dec.DecodeSnapshot(int(inst.dir-m.cfg.Base), body, &m.batch)
	})
	if reason != ledger.Accepted {
		m.warn("%s %s: snapshot cannot be used (%s): %.120s", m.rules.Name, inst.Symbol, reason, body)
		return false
	}
	if msg := &m.batch.Messages[0]; m.tooMany(msg.Hi - msg.Lo) {
		detail := m.boundDetail(msg.Hi - msg.Lo)
		m.warn("%s %s: snapshot cannot be used (%s): %s", m.rules.Name, inst.Symbol, ledger.Malformed, detail)
		m.tellGap(inst, detail)
		return false
	}
	return true
}

// applySnapshot makes a fetched snapshot the book.
func (m *Machine) applySnapshot(inst *instrument, msg *venues.Message) {
	m.load(inst, msg)
	inst.seq, inst.state = msg.Seq, bookLive
	inst.inband.Applied = 1
	if inst.failing.SinceTs != 0 {
		m.nothingRefused(int(inst.dir - m.cfg.Base))
	}
	if inst.horizon = m.window(msg); m.audits() {
		inst.audit.renew(m.now)
		inst.detail = m.depthDetail()
	}
	m.beginBook(inst)
	m.putSnapshot(inst, msg)
}

// load puts the levels of a snapshot into the book, in place of what was there.
func (m *Machine) load(inst *instrument, msg *venues.Message) {
	inst.book.Clear()
	levels := m.batch.Levels[msg.Lo:msg.Hi]
	inst.book.Apply(levels)
	inst.keyframeOwed = false
}

func (m *Machine) putSnapshot(inst *instrument, msg *venues.Message) {
	inst.lastMessageTs, inst.lastEventTs = m.now, msg.TsEvent
	inst.stats.BookMessages++
	m.putBook(inst, msg, m.batch.Levels[msg.Lo:msg.Hi], event.FlagSnapshot)
	m.putTop(inst, msg.TsEvent, true)
}

// replayBuffer takes the buffered frames in the order in which they came. One
// that does not follow on resyncs like any other, and buffers the rest again.
func (m *Machine) replayBuffer(inst *instrument) {
	waiting := slices.Clone(inst.buffer) // rare; bufferFrame may need inst.buffer meanwhile
	m.frames.Unbuffer(inst.buffered)
	inst.buffer, inst.buffered = inst.buffer[:0], 0
	m.take(waiting, inst, event.StreamBook)
}

// widen raises the scales of an instrument, or changes nothing and returns false
// where a level of the book would no longer fit.
//
// A live book owes a keyframe then, so that no book in the database mixes scales.
// It is written before the next message of the book and not before that one has
// been found to follow on: the keyframe says that the book is right at its
// instant, and until then nobody knows that.
func (m *Machine) widen(inst *instrument, px, qty int8) bool {
	if !m.rescale(inst, px-inst.PxScale, qty-inst.QtyScale) {
		return false
	}
	for s := range inst.horizon {
		if h := &inst.horizon[s]; h.Bounded {
			// It stood in the snapshot; where it does not fit any more, nothing can be
			// beyond it.
			if h.Px, h.Bounded = fixed.Rescale(h.Px, px-inst.PxScale); !h.Bounded {
				h.Px = 0
			}
		}
	}
	inst.PxScale, inst.QtyScale = px, qty
	m.dropStandby(inst) // it stands at the old scale
	inst.standby.book = nil
	inst.stats.Widenings++
	inst.keyframeOwed = inst.state == bookLive
	for s := range inst.top { // the same levels, at the new scale
		inst.top[s].n = inst.book.Top(event.Side(s)+event.Bid, inst.top[s].levels)
	}
	m.putInstrument(inst)
	return true
}

func (m *Machine) rescale(inst *instrument, pxBy, qtyBy int8) bool {
	if inst.tick != 0 {
		if !inst.book.Rescale(pxBy, qtyBy) {
			return false
		}
		inst.tick, _ = fixed.Rescale(inst.tick, pxBy) // the book has done the same
		return true
	}
	// Rescale would widen the steps of the grid too, and the prices that made the
	// widening necessary would all stand off it.
	wider := book.New(1)
	for side := event.Bid; side <= event.Ask; side++ {
		m.scratch = inst.book.AppendLevels(m.scratch[:0], side)
		for _, l := range m.scratch {
			px, okPx := fixed.Rescale(l.Px, pxBy)
			qty, okQty := fixed.Rescale(l.Qty, qtyBy)
			if !okPx || !okQty {
				return false
			}
			wider.Set(side, px, qty)
		}
	}
	inst.book = wider
	return true
}
