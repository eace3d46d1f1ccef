package feed

import (
	"hash/fnv"
	"slices"

	"deeptape/hotpath/event"
	"deeptape/venues"
)

// Commands are answered, and an answer is what tells a refusal from silence. Each line
// keeps its commands until they are. A subscription that goes unheard leaves streams
// that are off and look quiet. Where the venue talks to us otherwise, it is split and asked
// for again on the same connection (refused.go); where nothing but heartbeats has come
// since, the connection is replaced.

// answerPatienceNs is how long a command that has been sent may go unanswered before the
// operator is told and it is asked for again, or, if nothing comes at all and the
// connection's subscription needs it, another connection is asked for. It doubles with
// every connection that has to go so: a venue that has stopped answering must not be
// called in a loop.
const (
	answerPatienceNs = 10e9
	unansweredMax    = 8 // at most so often: 43 minutes

	// A command that has not been sent for so long is held back by more than the limit
	// of a second.
	unsentPatienceNs = 10e9
)

// pending is a command that has not had all of its answers.
type pending struct {
	ID      int64  `json:"id"`
	Inst    int    `json:"inst"` // -1: for several
	Owed    int    `json:"owed"`
	Book    int    `json:"book"` // whose subscription it renews, -1: none
	Text    uint64 `json:"text"` // hash of what is sent
	AskedTs int64  `json:"asked_ts"`
	SentTs  int64  `json:"sent_ts"` // 0: not yet
	Initial bool   `json:"initial"` // of the connection's subscription
	Noted   bool   `json:"noted"`

	Streams venues.Streams `json:"streams"`        // that it subscribes to
	Several [2]int         `json:"several"`        // see venues.Command
	Told    []int          `json:"told,omitempty"` // instruments of several that have had their answer
}

// send asks for a command to be sent: initial, of a connection's subscription, or to
// renew that of a book (else -1).
func (m *Machine) send(number uint8, c venues.Command, book int, initial bool) {
	of := book
	if of < 0 {
		of = c.Inst
	}
	rank := m.rankOf(number, of, c.Streams)
	if m.lines[1-number].up && (initial || of >= 0 && !m.leads(&m.insts[of], number)) {
		rank = max(rank, RankSecond) // the other line has it
	}
	m.act(Action{Kind: ActionSend, Line: number, Inst: of, Rank: rank, Text: c.Text})
	l := &m.lines[number]
	l.pending = append(l.pending, pending{
		ID: c.ID, Inst: c.Inst, Owed: c.Acks, Book: book, Text: hashOf([]byte(c.Text)), AskedTs: m.now, Initial: initial,
		Streams: c.Streams, Several: c.Several,
	})
}

// sent notes that a command has gone out.
func (m *Machine) sent(number uint8, text []byte) {
	hash := hashOf(text)
	l := &m.lines[number]
	for k := range l.pending {
		if p := &l.pending[k]; p.Text == hash && p.SentTs == 0 {
			if p.SentTs = m.now; p.Owed == 0 {
				l.pending = slices.Delete(l.pending, k, k+1)
			}
			return
		}
	}
}

// unsent returns since when a command that begins or renews the subscription of a book has
// waited to be sent, 0 if there is none: the venue's limits hold it back.
func (m *Machine) unsent(inst *instrument) (since int64) {
	book := int(inst.dir - m.cfg.Base)
	for i := range m.lines {
		for k := range m.lines[i].pending {
			p := &m.lines[i].pending[k]
			from, to := p.insts(len(m.insts))
			begins := p.Initial && p.Streams.Has(event.StreamBook) && from <= book && book < to && m.cfg.Version >= splitsSince
			if p.SentTs == 0 && (p.Book == book || begins) {
				since = max(since, p.AskedTs)
			}
		}
	}
	return since
}

// tellUnsent says in a book's gap, and to the operator, that its subscription waits.
func (m *Machine) tellUnsent(inst *instrument, since int64) {
	const why = "its subscription waits for the venue's limit of commands"
	iv := &inst.streams[event.StreamBook]
	if m.now-since < unsentPatienceNs || iv.detail == why || iv.cause == event.CauseJournal {
		return // what the journal has lost may have been the sending
	}
	iv.detail, iv.changed = why, true
	m.warn("%s %s: the book is a gap, and %s", m.rules.Name, inst.Symbol, why)
}

func hashOf(text []byte) uint64 {
	h := fnv.New64a()
	h.Write(text)
	return h.Sum64()
}

// answered takes one answer off the command that it is for, and returns that. An answer
// without an id is for the oldest one. It may name the instrument that it is of, else -1.
func (l *line) answered(id int64, inst int) (pending, bool) {
	for i := range l.pending {
		p := &l.pending[i]
		if p.ID != id && id != 0 || p.Owed == 0 {
			continue
		}
		if p.Owed--; inst >= 0 && p.Inst < 0 {
			p.Told = append(p.Told, inst)
		}
		of := *p
		if p.Owed == 0 {
			l.pending = append(l.pending[:i], l.pending[i+1:]...)
		}
		return of, true
	}
	return pending{}, false
}

// ack takes the answer that what was asked for will come.
func (m *Machine) ack(number uint8, msg *venues.Message) {
	p, ok := m.lines[number].answered(msg.ID, msg.Inst)
	if !ok {
		return
	}
	from, to := p.insts(len(m.insts))
	if msg.Inst >= 0 {
		from, to = msg.Inst, msg.Inst+1
	}
	if to-from == 1 && p.Book < 0 { // a book is there when its snapshot is
		m.comes(number, from, p.Streams)
	}
	switch {
	case p.Initial:
		m.owes(number, 1)
	case to-from == 1 && p.Streams.Has(event.StreamTrades):
		m.awaitTrades(number, from)
	}
}

// owes: once every command of a connection's subscription is answered the streams are on
// that were not refused, so a trade that has not come yet is not missed for want of one;
// it is unproven.
func (m *Machine) owes(number uint8, answers int) {
	l := &m.lines[number]
	if l.acksOwed -= answers; l.acksOwed > 0 {
		return
	}
	l.acked, m.unanswered = m.now, 0
	for i := range m.insts {
		m.awaitTrades(number, i)
	}
}

// awaitTrades ends the gap of a stream of trades that is on and has had none.
func (m *Machine) awaitTrades(number uint8, i int) {
	inst := &m.insts[i]
	if m.lines[number].isRefused(i, venues.StreamsOf(event.StreamTrades)) {
		return
	}
	iv := &inst.streams[event.StreamTrades]
	if (inst.lastTrade == event.Null || iv.cause == event.CauseStop) && iv.state == event.StateGap && m.now > iv.ts {
		m.openInterval(inst, event.StreamTrades, event.StateUnverified, event.ProofNone, event.CauseSilence, m.now)
		inst.lastTs = max(inst.lastTs, m.now)
	}
}

// tickCommands sends the pings that are due, and tells of commands without answer.
func (m *Machine) tickCommands() {
	for i := range m.lines {
		l := &m.lines[i]
		if !l.up {
			continue
		}
		if every := m.rules.PingEveryNs; every > 0 && m.now-l.pinged >= every {
			l.pinged = m.now
			m.commandID++
			m.act(Action{Kind: ActionSend, Line: uint8(i), Inst: -1, Ping: true, Text: m.venue.Ping(m.commandID)})
		}
		m.tickRefused(uint8(i))
		m.unheard(uint8(i))
		for k := range l.pending {
			p := &l.pending[k]
			if p.SentTs == 0 || p.Noted || m.now-p.SentTs < answerPatienceNs<<m.unanswered {
				continue
			}
			first := !slices.ContainsFunc(l.pending, func(q pending) bool { return q.Noted && q.Initial })
			p.Noted = true
			if p.Initial && first {
				m.unanswered = min(m.unanswered+1, unansweredMax)
				m.act(Action{Kind: ActionReconnect, Line: uint8(i), Text: "a subscription goes unanswered"})
			}
			who := "several symbols"
			if p.Inst >= 0 && p.Inst < len(m.insts) {
				who = m.insts[p.Inst].Symbol
			}
			m.warn("%s has not answered command %d, for %s, in %d s", m.rules.Name, p.ID, who, (m.now-p.SentTs)/1e9)
		}
	}
}
