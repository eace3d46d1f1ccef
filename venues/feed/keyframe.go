package feed

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
)

// A keyframe is all that a machine knows, at a frame boundary. Deriving may start
// at any of them; deriving past one must find its own state equal to it, byte for
// byte, so a derivation that depends on anything but the journal is found out at
// the next keyframe. Its record holds
//
//	u32  length of the state
//	     the state as JSON, without levels and buffered frames
//	     for each instrument: its bids, its asks (px i64, qty i64 each, best
//	     first), the bytes of its buffered inputs, and those of the inputs of its
//	     book and of its trades that are held back, those of an audit, and its
//	     answer, and the bids and asks of its standby; the state says how many
//
// The rows of a keyframe let SQL build a book without going back to the venue's
// own snapshot. They are written before the book's next message, once that has been
// found to follow on: a row says that the book is right at its instant, and if the
// next message shows that one was missed, the last proven instant is that of the
// message before, not that of the keyframe. A silent book gets its rows late, but
// it gets them.
type keyframe struct {
	Config      Config            `json:"config"` // instruments at their present scales
	Lines       [numLines]keyLine `json:"lines"`
	Leader      uint8             `json:"leader"`
	Counter     canary            `json:"counter"`
	Counted     int               `json:"counted"`
	Paired      bool              `json:"paired"`
	CommandID   int64             `json:"command_id"`
	Requests    uint32            `json:"requests"`
	Hole        bool              `json:"hole"`
	Unanswered  int               `json:"unanswered"`
	BegunTs     int64             `json:"begun_ts"`
	Instruments []keyInstrument   `json:"state"`
}

type keyLine struct {
	Up       bool  `json:"up"`
	Since    int64 `json:"since"`
	AcksOwed int   `json:"acks_owed"`
	Acked    int64 `json:"acked"`
	Next     int64 `json:"next"`
	Pinged   int64 `json:"pinged"`

	Pending  []pending `json:"pending,omitempty"`
	Refused  []refusal `json:"refused,omitempty"`
	Nameless int       `json:"nameless,omitempty"`
	HeardTs  int64     `json:"heard_ts,omitempty"`
}

type keyHeld struct {
	Firsts []int64 `json:"firsts,omitempty"` // one for each frame
	Copies int     `json:"copies"`
	Bytes  int     `json:"bytes"`
	Pos    uint64  `json:"pos"`
}

type keyInstrument struct {
	State         bookState                  `json:"state"`
	Bids          int                        `json:"bids"`
	Asks          int                        `json:"asks"`
	KeyframeOwed  bool                       `json:"keyframe_owed"`
	Seq           int64                      `json:"seq"`
	LastTs        int64                      `json:"last_ts"`
	LastTrade     int64                      `json:"last_trade"`
	LastTradeTs   int64                      `json:"last_trade_ts"`
	Repeats       repeats                    `json:"repeats"`
	LastMessageTs int64                      `json:"last_message_ts"`
	LastEventTs   int64                      `json:"last_event_ts"`
	DepthTs       int64                      `json:"depth_ts"`
	LastQuote     int64                      `json:"last_quote"`
	Heard         [numProven][numLines]int64 `json:"heard"`
	Held          [numProven]keyHeld         `json:"held"`
	Streams       [event.NumStreams]Interval `json:"streams"`
	Buffered      int                        `json:"buffered"`
	BufferBytes   int                        `json:"buffer_bytes"`
	FirstID       int64                      `json:"first_id"`
	Request       uint32                     `json:"request"`
	Attempts      int                        `json:"attempts"`
	Empties       int                        `json:"empties"`
	SyncingFrom   int64                      `json:"syncing_from"`
	Probe         [4]int64                   `json:"probe"` // asked, waitNs, ahead, aheadTs
	Failing       failing                    `json:"failing"`
	Overfull      overfull                   `json:"overfull,omitzero"`
	Inband        inband                     `json:"inband"`
	Horizon       [2]horizon                 `json:"horizon"`
	Leader        uint8                      `json:"leader"`
	Sum           uint64                     `json:"sum"`
	Standby       standby                    `json:"standby"`
	StandbyLevels [2]int                     `json:"standby_levels"` // bids, asks
	Audit         audit                      `json:"audit"`
	AuditBytes    int                        `json:"audit_bytes"`
	AnswerBytes   int                        `json:"answer_bytes"`
	Canaries      [numChecks]canary          `json:"canaries"`
	Detail        string                     `json:"detail"`
	Distrust      event.Cause                `json:"distrust"`
	Stats         InstrumentStats            `json:"stats"`
}

// AppendKeyframe writes the machine's state as the data of an InputKeyframe. The
// machine must then be stepped with it, before any other input.
func (m *Machine) AppendKeyframe(dst []byte) []byte {
	k := keyframe{
		Config: m.cfg, Paired: m.paired, CommandID: m.commandID,
		Leader: m.leader, Counter: m.counter, Counted: m.counted,
		Requests: m.requests, Hole: m.hole, Unanswered: m.unanswered, BegunTs: m.begunTs, Instruments: make([]keyInstrument, len(m.insts)),
	}
	for i, l := range m.lines {
		k.Lines[i] = keyLine{l.up, l.since, l.acksOwed, l.acked, l.next, l.pinged, l.pending, l.refused, l.nameless, l.heardTs}
	}
	k.Config.Resume = nil
	k.Config.Instruments = make([]event.Instrument, len(m.insts))
	for i := range m.insts {
		inst := &m.insts[i]
		k.Config.Instruments[i] = inst.Instrument
		ki := &k.Instruments[i]
		*ki = keyInstrument{
			State: inst.state, Bids: inst.book.Len(event.Bid), Asks: inst.book.Len(event.Ask), KeyframeOwed: inst.keyframeOwed,
			Seq: inst.seq, LastTs: inst.lastTs, LastTrade: inst.lastTrade, LastTradeTs: inst.lastTradeTs, Repeats: inst.repeats, LastMessageTs: inst.lastMessageTs,
			LastEventTs: inst.lastEventTs, DepthTs: inst.depthTs,
			LastQuote: inst.lastQuote, Heard: inst.heard,
			Leader: inst.leader, Sum: inst.sum, Standby: inst.standby, StandbyLevels: inst.standby.levels(),
			Horizon: inst.horizon, Audit: inst.audit, AuditBytes: len(inst.audit.buffer), AnswerBytes: len(inst.audit.answer),
			Failing: inst.failing, Overfull: inst.overfull, Inband: inst.inband, Canaries: inst.canaries, Detail: inst.detail, Distrust: inst.distrust,
			Buffered: inst.buffered, BufferBytes: len(inst.buffer), FirstID: inst.firstID, Request: inst.request,
			Attempts: inst.attempts, Empties: inst.empties, SyncingFrom: inst.syncingFrom,
			Probe: [4]int64{inst.probe.asked, inst.probe.waitNs, inst.probe.ahead, inst.probe.aheadTs}, Stats: inst.stats,
		}
		ki.Stats.OffGrid += inst.book.OffGrid()
		for s, h := range inst.held {
			ki.Held[s] = keyHeld{nil, h.copies, h.bytes, h.pos}
			for _, f := range h.waiting {
				ki.Held[s].Firsts = append(ki.Held[s].Firsts, f.first)
			}
		}
		for s := range inst.streams {
			ki.Streams[s] = inst.streams[s].known(event.Stream(s))
		}
	}
	state, err := json.Marshal(&k)
	if err != nil {
		panic(err) // numbers and strings always marshal
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(state)))
	dst = append(dst, state...)
	for i := range m.insts {
		inst := &m.insts[i]
		for side := event.Bid; side <= event.Ask; side++ {
			dst = m.appendLevels(dst, inst.book, side)
		}
		dst = append(dst, inst.buffer...)
		for s := range inst.held {
			for _, f := range inst.held[s].waiting {
				dst = append(dst, f.record...)
			}
		}
		dst = append(dst, inst.audit.buffer...)
		dst = append(dst, inst.audit.answer...)
		for s, n := range inst.standby.levels() {
			if n > 0 {
				dst = m.appendLevels(dst, inst.standby.book, event.Side(s)+event.Bid)
			}
		}
	}
	return dst
}

// appendLevels writes one side of a book.
func (m *Machine) appendLevels(dst []byte, b *book.Book, side event.Side) []byte {
	m.scratch = b.AppendLevels(m.scratch[:0], side)
	for _, l := range m.scratch {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(l.Px))
		dst = binary.LittleEndian.AppendUint64(dst, uint64(l.Qty))
	}
	return dst
}

// restoreLevels sets the first count levels of rest on one side of a book.
func restoreLevels(rest []byte, b *book.Book, side event.Side, count int) ([]byte, error) {
	if count < 0 || count > len(rest)/16 {
		return nil, errShortKeyframe
	}
	for ; count > 0; count-- {
		b.Set(side, int64(binary.LittleEndian.Uint64(rest)), int64(binary.LittleEndian.Uint64(rest[8:])))
		rest = rest[16:]
	}
	return rest, nil
}

// levels of a live standby, bids and asks.
func (s *standby) levels() (n [2]int) {
	if s.Live {
		n[0], n[1] = s.book.Len(event.Bid), s.book.Len(event.Ask)
	}
	return n
}

// keyframe takes a keyframe record: it compares the state with it, or takes the
// state from it if the derivation starts here; every live book then owes its rows.
func (m *Machine) keyframe(in *event.Input) error {
	var differs error
	if m.insts == nil {
		if err := m.takeOver(in); err != nil {
			return fmt.Errorf("cannot start from keyframe %d of feed %d: %w", in.Pos, in.Feed, err)
		}
	} else if m.hole {
		if err := m.adopt(in); err != nil {
			return fmt.Errorf("cannot go on from keyframe %d of feed %d: %w", in.Pos, in.Feed, err)
		}
	} else if own := m.AppendKeyframe(nil); m.cfg.Version == Version && !m.patched && !bytes.Equal(own, in.Data) { // another version's looks otherwise
		// Either an input before it is not the one that was used, or the keyframe is not:
		// what was derived stands beside what was recorded, and does not lead to it.
		differs = fmt.Errorf("%w %d of feed %d is not what the inputs before it make: %s", errDiffers, in.Pos, in.Feed, difference(own, in.Data))
		if err := m.adopt(in); err != nil {
			return fmt.Errorf("%v; and it cannot be gone on from: %w", differs, err) // not errDiffers: the feed has ended
		}
	}
	m.flush()
	for i := range m.insts {
		inst := &m.insts[i]
		m.putInstrument(inst)
		inst.keyframeOwed = inst.state == bookLive
	}
	return differs
}

// errDiffers: the machine has told so and has gone on from the keyframe.
var errDiffers = errors.New("BUG: keyframe")

// takeOver makes the machine what the keyframe says, or leaves it as it is.
func (m *Machine) takeOver(in *event.Input) error {
	fresh := New(m.out, m.frames, m.rows)
	fresh.now, fresh.pos, fresh.frameTs, fresh.eventTs = m.now, m.pos, m.frameTs, m.eventTs
	fresh.bufferBytes, fresh.actions, fresh.batch, fresh.scratch = m.bufferBytes, m.actions, m.batch, m.scratch
	if err := fresh.restore(in); err != nil {
		return err
	}
	*m = *fresh
	return nil
}

// adopt takes over what the machine knew that made the keyframe: inputs before it are
// missing here, and were not missing there. What lies between is a gap, and what was
// believed then is believed again from the keyframe's instant on. From then on the two
// agree about books and ids, but not about the past, so later keyframes of the run
// cannot be compared.
func (m *Machine) adopt(in *event.Input) error {
	if err := Possible(in); err != nil {
		return err
	}
	m.end(event.CauseJournal)
	m.flush()
	kept := m.insts
	if err := m.takeOver(in); err != nil {
		return err
	}
	for i := range m.insts {
		inst := &m.insts[i]
		at := slices.IndexFunc(kept, func(k instrument) bool { return k.Venue == inst.Venue && k.Symbol == inst.Symbol })
		if at < 0 {
			continue // the run that brought it is what is missing
		}
		inst.lastTs = max(inst.lastTs, kept[at].lastTs)
		believed := inst.streams
		inst.streams = kept[at].streams
		for s, iv := range believed {
			if iv.state != event.StateGap {
				// The next row may have the same instant: it has the ts that it had.
				m.openInterval(inst, event.Stream(s), iv.state, iv.proof, iv.cause, m.nextTs(inst))
			}
		}
	}
	m.hole, m.patched = false, true
	return nil
}

// difference shows the first place where two keyframes part. (Their lengths, which
// come first, may only follow from it.)
func difference(a, b []byte) string {
	i := min(4, len(a), len(b))
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	from := max(0, i-60)
	return fmt.Sprintf("at byte %d, derived %q, journalled %q", i, a[from:min(len(a), i+40)], b[from:min(len(b), i+40)])
}

var errShortKeyframe = errors.New("it is cut short")

func (m *Machine) restore(in *event.Input) error {
	data := in.Data
	if len(data) < 4 || uint64(binary.LittleEndian.Uint32(data)) > uint64(len(data)-4) {
		return errShortKeyframe
	}
	n := int(binary.LittleEndian.Uint32(data))
	var k keyframe
	if err := json.Unmarshal(data[4:4+n], &k); err != nil {
		return err
	}
	if len(k.Instruments) != len(k.Config.Instruments) {
		return errors.New("its instruments do not match its configuration")
	}
	rest := data[4+n:]
	err := m.setUp(k.Config, in.Feed)
	if err != nil {
		return err
	}
	m.paired, m.commandID, m.requests, m.hole = k.Paired, k.CommandID, k.Requests, k.Hole
	m.begunTs = k.BegunTs
	m.unanswered = max(0, min(k.Unanswered, unansweredMax))
	for i, l := range k.Lines {
		m.lines[i] = line{l.Up, l.Since, l.AcksOwed, l.Acked, l.Next, l.Pinged, l.Pending, l.Refused, l.Nameless, l.HeardTs}
		if slices.ContainsFunc(l.Refused, func(r refusal) bool { return r.Inst < 0 || r.Inst >= len(m.insts) || r.Tries < 0 }) {
			return errors.New("it says that an instrument was refused that there is not")
		}
	}
	m.leader, m.counter, m.counted = k.Leader, k.Counter, k.Counted
	for i := range m.insts {
		inst, ki := &m.insts[i], &k.Instruments[i]
		if !ki.possible() {
			return fmt.Errorf("the state of instrument %q cannot be", inst.Symbol)
		}
		inst.state, inst.keyframeOwed, inst.seq = ki.State, ki.KeyframeOwed, ki.Seq
		inst.lastTs, inst.lastTrade, inst.lastMessageTs = ki.LastTs, ki.LastTrade, ki.LastMessageTs
		inst.lastEventTs, inst.depthTs = ki.LastEventTs, ki.DepthTs
		if inst.repeats = ki.Repeats; ki.LastTradeTs != 0 { // 0: of a version that did not keep it
			inst.lastTradeTs = ki.LastTradeTs
		}
		inst.lastQuote, inst.heard = ki.LastQuote, ki.Heard
		inst.failing, inst.overfull = ki.Failing, ki.Overfull
		inst.inband, inst.detail, inst.distrust = ki.Inband, ki.Detail, ki.Distrust
		inst.canaries = ki.Canaries
		for c := range inst.canaries {
			if inst.canaries[c].Failed {
				m.failing[c]++
			}
		}
		inst.firstID, inst.request, inst.attempts, inst.empties, inst.syncingFrom = ki.FirstID, ki.Request, ki.Attempts, ki.Empties, ki.SyncingFrom
		inst.probe = probe{ki.Probe[0], ki.Probe[1], ki.Probe[2], ki.Probe[3]}
		inst.stats = ki.Stats
		for s := range inst.streams {
			inst.streams[s] = ki.Streams[s].interval()
		}
		levels := [2]int{ki.Bids, ki.Asks}
		for s, count := range levels {
			if rest, err = restoreLevels(rest, inst.book, event.Side(s)+event.Bid, count); err != nil {
				return err
			}
			if inst.state == bookLive {
				inst.top[s].n = inst.book.Top(event.Side(s)+event.Bid, inst.top[s].levels)
			}
		}
		inst.stats.OffGrid -= inst.book.OffGrid()
		if inst.buffer, rest, err = m.restoreFrames(rest, ki.BufferBytes, ki.Buffered, 0); err != nil {
			return err
		}
		inst.buffered = ki.Buffered
		for s, kh := range ki.Held {
			h := &inst.held[s]
			var records []byte
			if records, rest, err = m.restoreFrames(rest, kh.Bytes, len(kh.Firsts), kh.Copies); err != nil {
				return err
			}
			for _, first := range kh.Firsts {
				_, size, _ := event.GetInput(records)
				h.waiting = append(h.waiting, heldFrame{first, records[:size:size]})
				records = records[size:]
			}
			h.bytes, h.copies, h.pos = kh.Bytes, kh.Copies, kh.Pos
			m.holding += len(h.waiting)
		}
		inst.horizon, inst.audit = ki.Horizon, ki.Audit
		if inst.audit.buffer, rest, err = restoreRecords(rest, ki.AuditBytes); err != nil {
			return err
		}
		if ki.AnswerBytes < 0 || ki.AnswerBytes > len(rest) {
			return errShortKeyframe
		}
		inst.audit.answer, rest = append([]byte(nil), rest[:ki.AnswerBytes]...), rest[ki.AnswerBytes:]
		if inst.leader, inst.sum, inst.standby = ki.Leader, ki.Sum, ki.Standby; m.cfg.Version < standbySince {
			inst.leader = m.leader
		}
		if ki.Leader >= numLines {
			return fmt.Errorf("the book of instrument %q is taken from line %d", inst.Symbol, ki.Leader)
		}
		if !ki.Standby.Live {
			continue
		}
		inst.standby.book = book.New(max(1, inst.tick))
		for s, count := range ki.StandbyLevels {
			if rest, err = restoreLevels(rest, inst.standby.book, event.Side(s)+event.Bid, count); err != nil {
				return err
			}
		}
	}
	m.standing = m.standbys() && m.both()
	if len(rest) != 0 {
		return fmt.Errorf("%d bytes are left over", len(rest))
	}
	return nil
}

// restoreFrames takes the first n bytes of rest, which hold so many whole frames, copies
// among them.
func (m *Machine) restoreFrames(rest []byte, n, frames, copies int) (kept, left []byte, err error) {
	if kept, left, err = restoreRecords(rest, n); err != nil {
		return nil, nil, err
	}
	found, counted := 0, 0
	for b := kept; len(b) > 0; found++ {
		in, size, _ := event.GetInput(b)
		b = b[size:]
		if in.Aux != countedElsewhere {
			counted++
		}
	}
	if found != frames || counted != frames-copies {
		return nil, nil, fmt.Errorf("%d frames wait in it, and it says %d", found, frames)
	}
	m.frames.Add(ledger.Received, uint64(counted))
	m.frames.Add(ledger.Buffered, uint64(counted))
	return kept, left, nil
}

// restoreRecords takes the first n bytes of rest, which hold whole frames.
func restoreRecords(rest []byte, n int) (kept, left []byte, err error) {
	if n < 0 || n > len(rest) {
		return nil, nil, errShortKeyframe
	}
	kept = append(kept, rest[:n]...)
	for b := kept; len(b) > 0; {
		in, size, err := event.GetInput(b)
		if err != nil || in.Kind != event.InputFrame {
			return nil, nil, errShortKeyframe
		}
		b = b[size:]
	}
	return kept, rest[n:], nil
}

func (iv *interval) known(s event.Stream) Interval {
	return Interval{
		Stream: s, State: iv.state, Proof: iv.proof, Cause: iv.cause, Ts: iv.ts, End: iv.end,
		SeqFirst: iv.seqFirst, SeqLast: iv.seqLast, Messages: iv.messages, Detail: iv.detail,
	}
}

func (iv *Interval) interval() interval {
	return interval{
		state: iv.State, proof: iv.Proof, cause: iv.Cause, ts: iv.Ts, end: iv.End,
		seqFirst: iv.SeqFirst, seqLast: iv.SeqLast, messages: iv.Messages, detail: iv.Detail,
	}
}

// possible says whether a machine could have written this. The journal's checksums
// guard the bytes; this guards against a record of another version.
func (ki *keyInstrument) possible() bool {
	for s, iv := range ki.Streams {
		if iv.Stream != event.Stream(s) || iv.State > event.StateVerified || iv.Proof > event.ProofTradeID || iv.Cause > event.CauseJournal {
			return false
		}
	}
	return ki.State <= bookLive && ki.Distrust <= event.CauseJournal && ki.Inband.Attempts >= 0 && ki.Failing.Finals >= 0 && ki.Overfull.Times >= 0 && ki.Inband.Unlucky >= 0 && ki.Buffered >= 0 && ki.Attempts >= 0 && ki.Stats.LastGapCause <= event.CauseJournal
}
