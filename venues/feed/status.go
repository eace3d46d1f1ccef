package feed

import (
	"slices"

	"deeptape/hotpath/event"
)

// Status is what the operator sees of a feed. It is built at each tick and is
// read-only from then on.
type Status struct {
	Venue       string
	Connected   bool
	Lines       int       // connections that are up, at most two
	Declined    uint64    // frames and snapshots of this run that the scanner handed to the whole parser
	Unknown     []Unknown // frames of this run that nobody understands
	Instruments []InstrumentStatus
}

// InstrumentStatus is one line of the status page. Times are stamps of our clock, ns.
type InstrumentStatus struct {
	Symbol        string
	Book          string // idle, syncing, live
	Bids, Asks    int
	Seq           int64
	LastMessageTs int64
	Buffered      int
	Refused       string // why the venue does not send what was asked for, as it said; empty if it does
	Streams       [event.NumStreams]StreamStatus
	Stats         InstrumentStats
}

// StreamStatus is the current coverage interval of a stream; zero where the stream is
// not recorded.
type StreamStatus struct {
	State, Proof, Cause string
	Ts, TsEnd           int64
	Messages            int64
	Detail              string
}

// Status of the machine as of its last input. It allocates: once a second is fine.
func (m *Machine) Status() Status {
	st := Status{Venue: m.cfg.Venue, Connected: m.connected(), Unknown: slices.Clone(m.strange), Instruments: make([]InstrumentStatus, len(m.insts))}
	if m.dec != nil { // else there has been no run yet
		st.Declined = m.dec.Declined()
	}
	for i := range m.lines {
		if m.lines[i].up {
			st.Lines++
		}
	}
	for i := range m.insts {
		inst := &m.insts[i]
		s := InstrumentStatus{
			Symbol: inst.Symbol, Book: bookStateNames[inst.state], Seq: inst.seq, LastMessageTs: inst.lastMessageTs,
			Bids: inst.book.Len(event.Bid), Asks: inst.book.Len(event.Ask), Buffered: inst.buffered, Refused: inst.inband.Refused, Stats: inst.stats,
		}
		s.Stats.OffGrid += inst.book.OffGrid()
		for k := range inst.streams {
			iv := &inst.streams[k]
			if iv.ts == 0 {
				continue
			}
			s.Streams[k] = StreamStatus{iv.state.String(), iv.proof.String(), iv.cause.String(), iv.ts, iv.end, iv.messages, iv.detail}
		}
		st.Instruments[i] = s
	}
	return st
}

// Resume tells where instrument i ended, for the run record of a later run.
func (m *Machine) Resume(i int) Resume {
	r := Resume{LastTs: m.insts[i].lastTs}
	if n := m.insts[i].lastTrade; n != event.Null {
		r.LastTrade, r.LastTradeTs = n, max(m.insts[i].lastTradeTs, 0)
	}
	for s := range m.insts[i].streams {
		iv := &m.insts[i].streams[s]
		r.Ends[s] = iv.end
		if iv.changed {
			r.Unwritten = append(r.Unwritten, iv.known(event.Stream(s)))
		}
	}
	return r
}

// Symbols of the run, in their order, and their venue.
func (m *Machine) Symbols() (venue string, symbols []string) {
	for i := range m.insts {
		symbols = append(symbols, m.insts[i].Symbol)
	}
	return m.cfg.Venue, symbols
}
