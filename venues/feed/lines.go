package feed

import (
	"encoding/binary"

	"deeptape/hotpath/event"
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
// Books without ids of their own (Coinbase's connections count their frames, Kraken's
// books have checksums only) cannot be joined: each is taken from one line, its leader. The
// other line's copies make no rows; see standby.go for how the other comes to lead it. Trades
// that the venue does not number (Bybit) are taken from one line, too, until that ends.
//
// Invariants: with one line up nothing is held back at the end of a step, but frames
// of a line that has ended, which the other has not reached; a held frame is counted
// as buffered. How they wait is in held.go.

const numLines = 2

// numProven streams prove themselves by ids: the book and the trades.
const numProven = 2

var _ = [1]int{}[event.StreamBook+event.StreamTrades-1] // they are 0 and 1

// goneLine marks a waiting frame whose connection has ended: a new connection of that
// line has not brought it.
const goneLine = 0xff

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
	next     int64 // number of its next frame where the venue counts them, event.Null for any
	pinged   int64 // stamp of the last ping, or of its connect
	pending  []pending
	refused  []refusal
	nameless int   // refusals that did not say of what, and are not yet put to a command
	heardTs  int64 // when it last brought data or an answer while a command waited for its own
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

// heardDelta: an id that goes back by a link is where the line stands now.
func (inst *instrument) heardDelta(number uint8, msg *venues.Message) {
	if number != goneLine && msg.SeqPrev != event.Null && msg.Seq < msg.SeqPrev {
		inst.heard[event.StreamBook][number] = msg.Seq
		return
	}
	inst.hear(event.StreamBook, number, max(msg.Seq, 0))
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
	m.lines[number] = line{up: true, since: m.now, pinged: m.now, next: event.Null}
	m.standBy()
	for i := range m.insts {
		m.insts[i].inband.Joined[number] = false
	}
	if m.paired = !alone; !alone {
		return
	}
	m.leader = number
	m.trustAgain()
	for i := range m.insts {
		m.insts[i].leader = number
		m.insts[i].inband = inband{Expected: 1}
		if !m.rules.RestSnapshot {
			m.insts[i].lastQuote = event.Null
		}
	}
	m.startSyncAll()
}

func (m *Machine) connect(number uint8) {
	if m.lines[number].up { // its close is missing in the journal
		m.close(number)
	}
	if !m.connected() {
		m.commandID = 0
	}
	m.lineUp(number)
	l := &m.lines[number]
	l.next = 0
	for _, c := range m.venue.Subscribe(m.cfg.Instruments, m.subscription()) {
		m.commandID = max(m.commandID, c.ID)
		l.acksOwed += c.Acks
		m.send(number, c, -1, true)
	}
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
			for _, f := range inst.held[s].waiting {
				markGone(f.record, number)
			}
		}
		markGone(inst.buffer, number)
	}
	other := &m.lines[1-number]
	if !other.up {
		m.standBy()
		m.end(event.CauseDisconnect)
		return
	}
	if m.standing {
		m.inherit(number)
	}
	m.standBy()
	if number == m.leader {
		m.handOver(1 - number)
	}
	for i := range m.insts {
		// The other may not have brought its snapshot yet, and then nothing joins its ids
		// to those that were.
		inst := &m.insts[i]
		if !m.rules.RestSnapshot && !m.single() && inst.state == bookLive && !inst.inband.Joined[1-number] {
			m.dropHeldOf(inst, event.StreamBook)
			m.dropBook(inst, event.CauseDisconnect)
			m.startSync(inst)
		}
	}
	for _, r := range other.refused { // nobody brings it now; a book is missed by its silence or its snapshot
		for _, s := range []event.Stream{event.StreamTrades, event.StreamQuotes} {
			if r.Streams.Has(s) {
				m.breakStream(&m.insts[r.Inst], s, event.CauseDisconnect)
			}
		}
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
		inst := &m.insts[i]
		if inst.state == bookLive && (inst.heard[event.StreamBook][number] == event.Null || m.standing && inst.leader != number) {
			return false
		}
	}
	return true
}

// tickLines asks for a new connection a while before the venue cuts an old one.
// Between a 48th and a 24th of its lifetime, not the same for any two lines: one that
// fails has time to be tried again, and an agent's feeds do not go all at once.
func (m *Machine) tickLines() {
	m.tickCommands()
	lead := m.rules.ConnectionLifetimeNs / 48
	for i := range m.lines {
		l := &m.lines[i]
		spread := int64((int(m.feed)*numLines+i)*29%64) * lead / 64
		if l.up && lead > 0 && m.now-l.since >= m.rules.ConnectionLifetimeNs-lead-spread {
			m.act(Action{Kind: ActionReconnect, Line: uint8(i), Text: "the venue will end it soon"})
		}
	}
}
