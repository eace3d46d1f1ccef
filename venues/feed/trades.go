package feed

import (
	"fmt"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
)

// Trades that their venue numbers without holes prove themselves: a number that is not
// above the last one is a trade that is stored already and comes again (Coinbase sends
// the last hundred on each connection), and one that jumps is a gap that says which
// numbers are missing. The last number outlives connections and runs: see Resume.
//
// What a run finds when it starts is not what its time was like. A snapshot of trades
// may hold all of those that were made while nobody recorded; they are stored, with ts
// of when we heard of them, and the time before is a gap (stop) all the same: whoever
// looks for trades by ts finds none in it. That nothing is missing stands in its detail.
// Kraken could send its last fifty as well, and is not asked to.
//
// Numbers that go back are a repetition only if the trade is not newer, by the venue's
// own clock, than all that are stored. One that is newer means that the venue counts
// anew, and must not be dropped for ever: a gap (venue_reset), and the new numbers hold.

func (m *Machine) trade(in *event.Input, msg *venues.Message) ledger.Outcome {
	inst := &m.insts[msg.Inst]
	if !m.rules.TradesCount {
		return m.uncountedTrade(in.Line, inst, msg)
	}
	if inst.lastTrade != event.Null && msg.TradeNum <= inst.lastTrade {
		if !inst.newer(msg) {
			inst.hear(event.StreamTrades, in.Line, msg.TradeNum)
			inst.stats.RepeatedTrades++
			return ledger.Duplicate
		}
		m.renumber(inst, msg.TradeNum)
	}
	iv := &inst.streams[event.StreamTrades]
	inst.hear(event.StreamTrades, in.Line, msg.TradeNum)
	switch {
	case inst.lastTrade == event.Null:
		m.beginStream(inst, event.StreamTrades, event.StateVerified, event.ProofTradeID)
	case msg.TradeFirst <= inst.lastTrade+1:
		switch {
		case iv.state == event.StateGap && iv.cause == event.CauseStop:
			iv.detail, iv.changed = "by its ids no trade is missing; those of this time came after it", true
			m.beginStream(inst, event.StreamTrades, event.StateVerified, event.ProofTradeID)
		case iv.state != event.StateVerified:
			// Whatever cut the stream, no trade was missed: the doubt is lifted.
			m.relabel(inst, event.StreamTrades, event.StateVerified, event.ProofTradeID, event.CauseNone)
		}
	case msg.TradeFirst != m.forced && (m.both() || len(inst.held[event.StreamTrades].waiting) > 0):
		m.hold(inst, event.StreamTrades, in, msg.TradeFirst)
		return ledger.Buffered
	default:
		if iv.state == event.StateVerified {
			m.warn("%s %s: gap (%s) in the trades: %d to %d are missing", m.rules.Name, inst.Symbol, event.CauseSequence, inst.lastTrade+1, msg.TradeFirst-1)
			m.breakStream(inst, event.StreamTrades, event.CauseSequence)
		}
		if iv.state == event.StateGap {
			iv.seqFirst, iv.seqLast = inst.lastTrade+1, msg.TradeFirst-1
		} else { // it is on since the run began, and was silent
			iv.detail = fmt.Sprintf("trades %d to %d are missing, from here or from the gap before", inst.lastTrade+1, msg.TradeFirst-1)
			iv.changed = true
		}
		m.beginStream(inst, event.StreamTrades, event.StateVerified, event.ProofTradeID)
	}
	inst.lastTrade = msg.TradeNum
	inst.lastTradeTs = max(inst.lastTradeTs, msg.TsEvent)
	inst.stats.Trades++
	m.putTrade(inst, msg)
	return ledger.Applied
}

// newer says that a trade was made after all that are stored, whatever its number.
func (inst *instrument) newer(msg *venues.Message) bool {
	return inst.lastTradeTs != event.Null && msg.TsEvent > inst.lastTradeTs
}

// renumber: the venue counts an instrument's trades anew.
func (m *Machine) renumber(inst *instrument, number int64) {
	m.warn("%s %s: a new trade has number %d, and the last one had %d: the venue counts anew", m.rules.Name, inst.Symbol, number, inst.lastTrade)
	m.dropHeldOf(inst, event.StreamTrades)
	m.breakStream(inst, event.StreamTrades, event.CauseVenueReset)
	inst.unheard(event.StreamTrades)
	inst.lastTrade = event.Null
}

// repeats remembers the trades of a venue that does not number them, as long as two
// lines are up or one takes over from the other: what the leader has brought last, the
// next one may bring once more. (On one connection Bybit is not known to repeat itself,
// nor does it send trades of the past: a repetition there is stored as it came.)
type repeats struct {
	Hashes []uint64 `json:"hashes,omitempty"` // of the last ones, at most repeatsMax
	Next   int      `json:"next"`             // place of the oldest, once there are so many
}

// repeatsMax is a busy second of BTCUSDT, a quarter of the longest frame of trades.
const repeatsMax = 256

// seen says whether a trade is remembered, and remembers it.
func (r *repeats) seen(msg *venues.Message) bool {
	const prime = 1099511628211 // FNV-1a
	id := uint64(14695981039346656037)
	for _, c := range msg.TradeID {
		id = (id ^ uint64(c)) * prime
	}
	for _, v := range [...]int64{msg.Px, msg.Qty, msg.TsEvent} {
		id = (id ^ uint64(v)) * prime
	}
	for _, known := range r.Hashes {
		if known == id {
			return true
		}
	}
	if len(r.Hashes) < repeatsMax {
		r.Hashes = append(r.Hashes, id)
		return false
	}
	r.Hashes[r.Next] = id
	r.Next = (r.Next + 1) % repeatsMax
	return false
}

// uncountedTrade: ids that are not numbers cannot join two lines, so such trades are
// taken from the leader alone.
func (m *Machine) uncountedTrade(number uint8, inst *instrument, msg *venues.Message) ledger.Outcome {
	if number != m.leader {
		return ledger.Duplicate
	}
	if m.paired && inst.repeats.seen(msg) {
		inst.stats.RepeatedTrades++
		return ledger.Duplicate
	}
	if iv := &inst.streams[event.StreamTrades]; iv.state != event.StateUnverified || iv.messages == 0 {
		m.beginStream(inst, event.StreamTrades, event.StateUnverified, event.ProofNone)
	}
	inst.stats.Trades++
	m.putTrade(inst, msg)
	return ledger.Applied
}

func (m *Machine) quote(number uint8, inst *instrument, msg *venues.Message) ledger.Outcome {
	if !m.recorded(event.StreamQuotes) {
		return ledger.Control // nobody has asked for it
	}
	if m.paired && msg.Seq <= inst.lastQuote && (msg.Seq != event.Null || number != m.leader) {
		return ledger.Duplicate
	}
	if !m.rules.RestSnapshot && msg.Seq != event.Null && msg.Seq == inst.lastQuote {
		return ledger.Duplicate // Bybit repeats an idle one every 3 s
	}
	inst.lastQuote = msg.Seq
	if inst.streams[event.StreamQuotes].state == event.StateGap {
		m.beginStream(inst, event.StreamQuotes, event.StateUnverified, event.ProofNone)
	}
	inst.stats.Quotes++
	m.putQuote(inst, msg)
	return ledger.Applied
}
