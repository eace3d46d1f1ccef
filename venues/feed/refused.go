package feed

import (
	"slices"

	"deeptape/hotpath/event"
	"deeptape/venues"
)

// What a venue refuses is asked for again, on the line that it was refused on, until the
// venue accepts it or sends it: each stream, and instrument by instrument, also where
// several were refused together, so that one bad symbol does not take the others with it.
// Each time makes the next wait longer, as for a snapshot that does not come. A book that
// waits for its snapshot in the stream is renewed by that schedule, and not from here.
// So is what a venue leaves without an answer while it talks to us otherwise: it may have
// refused it in words that we do not know, or lost it, and a new connection would cost
// every neighbour a gap.
//
// A refusal may not say of what (Coinbase's never do). If several commands wait for their
// answers, it is of one that will have none.

const refusalBytesMax = 200 // of a venue's words

// refusal holds the streams of one instrument that the venue has refused on a line.
type refusal struct {
	Inst    int            `json:"inst"`
	Streams venues.Streams `json:"streams"`
	Tries   int            `json:"tries"` // how often they were asked for again
	At      int64          `json:"at"`    // when they will be next
	Since   int64          `json:"since"` // when they were refused
}

// renewWaitNs is how long what was asked for so many times may take until it is asked for
// again.
func (m *Machine) renewWaitNs(times int) int64 {
	return min(m.patienceNs()<<min(times, 5), max(renewWaitNsMax, m.patienceNs()))
}

// insts are the places of the instruments that a command was to subscribe.
func (p *pending) insts(n int) (from, to int) {
	switch {
	case p.Book >= 0:
		from, to = p.Book, p.Book+1
	case p.Inst >= 0:
		from, to = p.Inst, p.Inst+1
	default:
		from, to = p.Several[0], p.Several[1]
	}
	if to > n { // no command of this run
		return 0, 0
	}
	return max(0, from), to
}

// of says whether a command was to subscribe an instrument, and that alone.
func (p *pending) of(i, n int) bool {
	from, to := p.insts(n)
	return from == i && to == i+1
}

// refused: what was asked for will not come, or not until it is asked for again.
func (m *Machine) refused(number uint8, msg *venues.Message) {
	l := &m.lines[number]
	text := printable(msg.Text, refusalBytesMax)
	if msg.ID == 0 && msg.Inst < 0 && l.waiting() > 1 {
		l.nameless++
		m.warn("%s refused a command, and does not say which: %s", m.rules.Name, text)
		return
	}
	p, ok := l.answered(msg.ID, msg.Inst)
	answers := 1
	for ok && msg.Inst < 0 && p.Owed > 0 { // the whole command is, whatever it was for
		p, ok = l.answered(p.ID, msg.Inst)
		answers++
	}
	m.refusedCommand(number, &p, ok, msg.Inst, text)
	if ok && p.Initial {
		m.owes(number, answers)
	}
}

// refusedCommand notes a refusal of a command, if it is known, for one instrument or for
// all that it was for (-1). A text says why.
func (m *Machine) refusedCommand(number uint8, p *pending, known bool, i int, text string) {
	from, to := i, i+1
	if i < 0 || i >= len(m.insts) {
		from, to = 0, 0
		if known {
			from, to = p.insts(len(m.insts))
		}
	}
	if to-from == 1 {
		inst := &m.insts[from]
		m.warn("%s refused command %d, for %s: %s", m.rules.Name, p.ID, inst.Symbol, text)
		if known && p.Streams != 0 {
			inst.inband.Refused = text
		}
	} else {
		m.warn("%s refused command %d: %s", m.rules.Name, p.ID, text)
	}
	if !known || p.Streams == 0 { // what was to be ended need not be
		return
	}
	whole := i < 0
	for i := from; i < to; i++ {
		if whole && slices.Contains(p.Told, i) {
			continue // it has had an answer of its own
		}
		m.lacks(number, i, p.Streams)
		if to-from > 1 {
			continue // one of them is bad, and by itself it will say so
		}
		if p.Streams.Has(event.StreamBook) && m.insts[i].state != bookLive {
			m.fails(&m.insts[i])
		}
		for s := range event.NumStreams {
			iv := &m.insts[i].streams[s]
			if detail := "refused: " + text; p.Streams.Has(s) && m.recorded(s) && iv.state == event.StateGap && iv.detail != detail {
				iv.detail, iv.changed = detail, true
			}
		}
	}
}

// lacks notes that streams of an instrument are not sent on a line.
func (m *Machine) lacks(number uint8, i int, streams venues.Streams) {
	l := &m.lines[number]
	for k := range l.refused {
		if l.refused[k].Inst == i {
			l.refused[k].Streams |= streams
			return
		}
	}
	l.refused = append(l.refused, refusal{Inst: i, Streams: streams, At: m.now + m.renewWaitNs(0), Since: m.now})
}

// comes notes that streams of an instrument are sent on a line after all.
func (m *Machine) comes(number uint8, i int, streams venues.Streams) {
	l := &m.lines[number]
	k := slices.IndexFunc(l.refused, func(r refusal) bool { return r.Inst == i })
	if k < 0 {
		return
	}
	if l.refused[k].Streams &^= streams; l.refused[k].Streams == 0 {
		l.refused = slices.Delete(l.refused, k, k+1)
		m.nothingRefused(i)
	}
}

// nothingRefused forgets the venue's words where no line lacks anything of an instrument.
func (m *Machine) nothingRefused(i int) {
	if !m.lines[0].isRefused(i, ^venues.Streams(0)) && !m.lines[1].isRefused(i, ^venues.Streams(0)) {
		m.insts[i].inband.Refused = ""
	}
}

// heardOf: a message of a line shows that its stream is on, and that the venue talks to us.
func (m *Machine) heardOf(number uint8, msg *venues.Message) {
	if msg.Kind != venues.KindControl && msg.Kind != venues.KindNotice {
		m.lines[number].heardTs = m.now
	}
	switch msg.Kind {
	case venues.KindDelta:
		if m.rules.RestSnapshot {
			m.comes(number, msg.Inst, venues.StreamsOf(event.StreamBook))
		}
	case venues.KindSnapshot:
		m.comes(number, msg.Inst, venues.StreamsOf(event.StreamBook))
	case venues.KindTrade:
		m.comes(number, msg.Inst, venues.StreamsOf(event.StreamTrades))
	case venues.KindQuote:
		m.comes(number, msg.Inst, venues.StreamsOf(event.StreamQuotes))
	}
}

// isRefused says whether any of some streams of an instrument has been refused.
func (l *line) isRefused(i int, streams venues.Streams) bool {
	return slices.ContainsFunc(l.refused, func(r refusal) bool { return r.Inst == i && r.Streams&streams != 0 })
}

// waiting is how many commands that subscribe have been sent and wait for answers.
func (l *line) waiting() (n int) {
	for k := range l.pending {
		if p := &l.pending[k]; p.SentTs != 0 && p.Streams != 0 {
			n++
		}
	}
	return n
}

// tickRefused asks again for what is due.
func (m *Machine) tickRefused(number uint8) {
	l := &m.lines[number]
	if l.nameless > 0 {
		m.tickNameless(number)
	}
	for k := range l.refused {
		r := &l.refused[k]
		if m.now < r.At {
			continue
		}
		inst := &m.insts[r.Inst]
		wanted := r.Streams
		if !m.rules.RestSnapshot && inst.state == bookSyncing && m.leads(inst, number) {
			wanted &^= venues.StreamsOf(event.StreamBook)
		}
		before := func(p pending) bool { return p.Streams&wanted != 0 && !p.Initial && p.of(r.Inst, len(m.insts)) }
		unsent := func(p pending) bool { return p.SentTs == 0 && before(p) }
		r.At = m.now + m.renewWaitNs(r.Tries)
		if wanted == 0 || slices.ContainsFunc(l.pending, unsent) {
			continue
		}
		r.Tries++
		r.At = m.now + m.renewWaitNs(r.Tries)
		l.pending = slices.DeleteFunc(l.pending, before) // those had their time
		inst.stats.Resubscribed++
		for _, c := range m.venue.Again(inst.Instrument, r.Inst, wanted, m.subscription(), m.commandID+1) {
			m.commandID = max(m.commandID, c.ID)
			m.send(number, c, -1, false)
		}
	}
}

// tickNameless finds what a refusal without a name was of: a command that has had its time
// and is without an answer.
func (m *Machine) tickNameless(number uint8) {
	l := &m.lines[number]
	if len(l.pending) == 0 {
		l.nameless = 0
		return
	}
	for l.nameless > 0 {
		k := slices.IndexFunc(l.pending, func(p pending) bool {
			return p.Streams != 0 && p.SentTs != 0 && m.now-p.SentTs >= answerPatienceNs
		})
		if k < 0 {
			return
		}
		p := l.pending[k]
		l.pending = slices.Delete(l.pending, k, k+1)
		l.nameless--
		m.refusedCommand(number, &p, true, -1, "it was refused without its name, and is not answered")
		if p.Initial {
			m.owes(number, p.Owed)
		}
	}
}

// unheard takes the commands that the venue has left without an answer, while it brought
// data or answered others, as refused. The connection stays: it serves the neighbours.
func (m *Machine) unheard(number uint8) {
	l := &m.lines[number]
	if m.cfg.Version < splitsSince {
		return
	}
	for {
		k := slices.IndexFunc(l.pending, func(p pending) bool {
			return p.Streams != 0 && p.SentTs != 0 && l.heardTs > p.SentTs && m.now-p.SentTs >= answerPatienceNs
		})
		if k < 0 {
			return
		}
		p := l.pending[k]
		l.pending = slices.Delete(l.pending, k, k+1)
		why := "no answer came to it, though the venue talks to us"
		if m.rules.AcksList {
			why = "the venue leaves it out of what it says is subscribed"
		}
		m.refusedCommand(number, &p, true, -1, why)
		if p.Initial {
			m.owes(number, p.Owed)
		}
	}
}
