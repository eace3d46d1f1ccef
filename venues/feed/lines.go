package feed

import (
	"encoding/binary"
	"slices"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
)

// Two connections may carry the same instruments: for a while, so that one takes
// over from the other before the venue cuts it, or all the time. Each brings its
// frames in order; between the two there is none. While both are up
//
//   - whichever brings the next id of a book, or the next trade, is applied, and the
//     other's copy is a duplicate; of the quotes, whose ids have holes by design, the
//     first that brings a higher id;
//   - a frame that jumps over ids is held back, because the other line may still bring
//     them. It is a gap once every line that is up has passed the first missing id, or
//     after holdNs, or when more than holdBytesMax wait.
//
// One line that ends while the other is up is no gap: what the other has not brought
// yet it will bring, or jump over.
//
// Invariants: with one line up nothing is held back at the end of a step, but frames
// of a line that has ended, which the other has not reached; a held frame is counted
// as buffered; frames are held in the order in which they came.

const numLines = 2

// numProven streams prove themselves by ids: the book and the trades.
const numProven = 2

var _ = [1]int{}[event.StreamBook+event.StreamTrades-1] // they are 0 and 1

// goneLine marks a waiting frame whose connection has ended: a new connection of that
// line has not brought it.
const goneLine = 0xff

const (
	holdNs       = 2e9
	holdBytesMax = 4 << 20 // of one stream; a second of BTCUSDT is 30 kB
)

// A line has joined when it could carry the feed alone. What the venue sent on the
// other line before it began to send on this one gets joinNs to come; a book that
// stays silent keeps a line from having joined for joinPatienceNs.
const (
	joinNs         = 1e9
	joinPatienceNs = 10e9
)

// line is one connection.
type line struct {
	up       bool
	since    int64 // stamp of its connect
	acksOwed int
	acked    int64 // stamp of the last ack that was owed, 0 before
}

// held is what waits for the other line.
type held struct {
	bytes  []byte // whole input records
	frames int
	first  int64 // least id that one of them starts with
}

func (m *Machine) connected() bool { return m.lines[0].up || m.lines[1].up }

func (m *Machine) both() bool { return m.lines[0].up && m.lines[1].up }

func (inst *instrument) hear(s event.Stream, number uint8, id int64) {
	if number != goneLine {
		inst.heard[s][number] = max(inst.heard[s][number], id)
	}
}

func (inst *instrument) unheard(s event.Stream) {
	inst.heard[s] = [numLines]int64{event.Null, event.Null}
}

// last is the id that the next message of a stream has to follow.
func (inst *instrument) last(s event.Stream) int64 {
	if s == event.StreamBook {
		return inst.seq
	}
	return inst.lastTrade
}

// passed says that no line will bring what comes next.
func (m *Machine) passed(inst *instrument, s event.Stream) bool {
	for i := range m.lines {
		if m.lines[i].up && inst.heard[s][i] <= inst.last(s) {
			return false
		}
	}
	return true
}

// lineUp starts on a connection. Only the first one makes the books start again.
func (m *Machine) lineUp(number uint8) {
	alone := !m.connected()
	m.lines[number] = line{up: true, since: m.now}
	if m.paired = !alone; alone {
		m.startSyncAll()
	}
}

func (m *Machine) connect(number uint8) {
	if m.lines[number].up { // its close is missing in the journal
		m.close(number)
	}
	if !m.connected() {
		m.commandID = 0
	}
	acks := 0
	for _, c := range m.venue.Subscribe(m.cfg.Instruments, m.subscription()) {
		m.commandID = max(m.commandID, c.ID)
		acks += c.Acks
		m.act(Action{Kind: ActionSend, Line: number, Text: c.Text})
	}
	m.lineUp(number)
	m.lines[number].acksOwed = acks
}

func (m *Machine) subscription() venues.Subscription {
	return venues.Subscription{Quotes: m.cfg.Quotes, Depth: m.cfg.Depth}
}

// close ends one connection, and with the last one what was believed.
func (m *Machine) close(number uint8) {
	m.lines[number] = line{}
	for i := range m.insts {
		inst := &m.insts[i]
		for s := range inst.heard {
			inst.heard[s][number] = event.Null
			markGone(inst.held[s].bytes, number)
		}
		markGone(inst.buffer, number)
	}
	other := &m.lines[1-number]
	if !other.up {
		m.end(event.CauseDisconnect)
		return
	}
	if other.acksOwed == 0 {
		return
	}
	// Its streams may not be on yet. Ids will tell of a book or a trade, but
	// nothing would of a quote.
	for i := range m.insts {
		m.breakStream(&m.insts[i], event.StreamQuotes, event.CauseDisconnect)
	}
}

// markGone changes the line of waiting records (see event.InputHeadSize).
func markGone(records []byte, number uint8) {
	for len(records) > 0 {
		if records[5] == number {
			records[5] = goneLine
		}
		records = records[event.Align(int(binary.LittleEndian.Uint32(records))):]
	}
}

// hold keeps a frame back.
func (m *Machine) hold(inst *instrument, s event.Stream, in *event.Input, first int64) {
	h := &inst.held[s]
	if h.frames == 0 || first < h.first {
		h.first = first
	}
	h.bytes = event.AppendInput(h.bytes, in.InputHead, in.Data)
	h.frames++
	m.holding++
}

// unhold empties what a stream holds back; the caller takes it.
func (m *Machine) unhold(inst *instrument, s event.Stream) []byte {
	h := &inst.held[s]
	waiting := slices.Clone(h.bytes) // rare; hold may need the memory meanwhile
	m.frames.Unbuffer(h.frames)
	m.holding -= h.frames
	h.bytes, h.frames = h.bytes[:0], 0
	return waiting
}

// release ends the waiting: the trades are stored beside their gap, the book's frames
// are in one.
func (m *Machine) release(inst *instrument) {
	for inst.held[event.StreamTrades].frames > 0 {
		m.giveUp(inst)
	}
	m.dropHeld(inst)
}

// dropHeld books what is held back as rejected: its places are in a gap.
func (m *Machine) dropHeld(inst *instrument) {
	for s := range event.Stream(numProven) {
		n := inst.held[s].frames
		m.unhold(inst, s)
		m.frames.RejectN(ledger.OutOfSync, n)
	}
}

// take takes frames that have waited.
func (m *Machine) take(waiting []byte) {
	eventTs := m.eventTs
	for len(waiting) > 0 {
		in, size, err := event.GetInput(waiting)
		if err != nil {
			panic(err) // we wrote it
		}
		waiting = waiting[size:]
		m.frameTs = in.Ts
		m.frame(&in)
	}
	m.frameTs, m.eventTs = m.now, eventTs
}

// giveUp stops waiting for what comes before the first of the held trades. The others
// may have to wait for more.
func (m *Machine) giveUp(inst *instrument) {
	m.forced = inst.held[event.StreamTrades].first
	m.take(m.unhold(inst, event.StreamTrades))
	m.forced = event.Null
}

// settle judges anew what is held back.
func (m *Machine) settle() {
	for i := range m.insts {
		inst := &m.insts[i]
		for s := range event.Stream(numProven) {
			// Each turn takes at least one frame off, for good.
			for h := &inst.held[s]; h.frames > 0; {
				if h.first <= inst.last(s)+1 {
					m.take(m.unhold(inst, s))
				} else if !m.passed(inst, s) && m.now-stampOf(h.bytes) < holdNs && len(h.bytes) <= min(holdBytesMax, m.bufferBytes) {
					break
				} else if s == event.StreamBook {
					m.resync(inst, event.CauseSequence)
				} else {
					m.giveUp(inst)
				}
			}
		}
	}
}

func stampOf(record []byte) int64 { return int64(binary.LittleEndian.Uint64(record[16:])) }

// Joined says whether a line could carry the feed alone: a planned reconnect may then
// close the other.
func (m *Machine) Joined(number uint8) bool {
	l := &m.lines[number]
	if !l.up || m.now-l.since >= joinPatienceNs {
		return l.up
	}
	if l.acksOwed > 0 || m.now-l.acked < joinNs {
		return false
	}
	for i := range m.insts {
		if inst := &m.insts[i]; inst.state == bookLive && inst.heard[event.StreamBook][number] == event.Null {
			return false
		}
	}
	return true
}

// tickLines asks for a new connection a while before the venue cuts an old one.
// Between a 48th and a 24th of its lifetime, not the same for any two lines: one that
// fails has time to be tried again, and an agent's feeds do not go all at once.
func (m *Machine) tickLines() {
	lead := m.rules.ConnectionLifetimeNs / 48
	for i := range m.lines {
		l := &m.lines[i]
		spread := int64((int(m.feed)*numLines+i)*29%64) * lead / 64
		if l.up && lead > 0 && m.now-l.since >= m.rules.ConnectionLifetimeNs-lead-spread {
			m.act(Action{Kind: ActionReconnect, Line: uint8(i), Text: "the venue will end it soon"})
		}
	}
}
