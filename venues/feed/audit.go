package feed

import (
	"math/bits"
	"slices"

	"deeptape/hotpath/event"
	"deeptape/venues"
)

// Binance's diffs speak only of levels inside the window of the snapshot that the venue
// itself keeps in mind: a level outside may change or go and nobody is told. So a book
// with a perfect chain rots from its far ends. Where Config.AuditEveryNs asks for it,
//
//   - a row of a level outside the window of the last snapshot says UNVERIFIED, and so
//     does a row of book_top or book_depth that shows what lies outside; a side of which
//     the snapshot had fewer levels than asked for has no outside;
//   - now and then, and soon when the touch has walked to the window's edge, a snapshot
//     is fetched of a live book. The diffs that come meanwhile are kept, and brought to
//     the snapshot as well, so that both stand at the same id. Inside the new window they
//     must be equal: how far they are stands in the detail of the book's interval;
//   - where they are not, the book becomes what the venue says, and is written as a
//     snapshot at its id. (Not as a keyframe, which by contract repeats the book that
//     there is.) If the old window held the difference, the chain has lied, or the answer
//     has: another one is asked for, and if that says so too it is a gap.
//
// An audit must never cost the record anything: its request waits for what others leave
// of the venue's budget, a resync or a probe takes its place, an answer that does not
// fit (empty, refused, out of a cache) is asked for again a few times and then not
// before the next period. A fresh snapshot begins the period anew. The compare itself
// is in compare.go. It keeps its feed for 1.8 ms where both are equal, 2.6 ms where the
// whole book is written: 5,000 levels a side and ten diffs, decoding included
// (BenchmarkAudit).

const (
	auditTriesMax = 5
	auditRetryNs  = 1e9 // doubled each time

	// auditAheadNs is how long an answer waits for the stream to reach its id.
	auditAheadNs = 5e9

	// auditEarlyNs is the least time between two audits of a book, whatever asks for them.
	auditEarlyNs = 60e9

	// auditBytesMax bounds the diffs that are kept for an answer: half an hour of BTCUSDT
	// at its recorded rate is some 50 MiB, a minute less than 2. Rows depend on it.
	auditBytesMax = 4 << 20
)

// audit is the state of one instrument's.
type audit struct {
	DueTs   int64 `json:"due_ts"`   // 0: not yet planned
	LastTs  int64 `json:"last_ts"`  // when the last one was begun, or the book
	Asked   bool  `json:"asked"`    // one is under way
	Tries   int   `json:"tries"`    // answers that did not fit
	First   int64 `json:"first"`    // first id that is kept, event.Null for none
	Ahead   int64 `json:"ahead"`    // id of the answer that waits for the stream, event.Null for none
	AheadTs int64 `json:"ahead_ts"` // since when
	Doubted bool  `json:"doubted"`  // one answer has contradicted the chain

	Count int       `json:"count"` // audits of this book
	Worst auditMark `json:"worst"` // of them

	buffer []byte // whole input records of the diffs since it was asked; Aux is the diff's id
	answer []byte // that waits
}

// auditMark is how an audit came out.
type auditMark struct {
	ID    int64 `json:"id"`
	Equal int   `json:"equal"`
	All   int   `json:"all"`
}

// horizon is how far one side of the last snapshot reached.
type horizon struct {
	Bounded bool  `json:"bounded"`
	Px      int64 `json:"px"` // of the worst level
}

// beyond says that a level of the side lies outside.
func (h *horizon) beyond(side event.Side, px int64) bool {
	return h.Bounded && (side == event.Bid && px < h.Px || side == event.Ask && px > h.Px)
}

func (m *Machine) audits() bool { return m.cfg.AuditEveryNs > 0 && m.rules.RestSnapshot }

func (inst *instrument) levelFlags(side event.Side, px int64) uint8 {
	if inst.horizon[side-event.Bid].beyond(side, px) {
		return event.FlagUnverified
	}
	return 0
}

// topFlags: the first levels, as the last row of book_top has them, are the venue's only
// where all of them lie inside the window, and as many as there is room for.
func (inst *instrument) topFlags() uint8 {
	for s := range inst.horizon {
		t := &inst.top[s]
		if h := &inst.horizon[s]; h.Bounded && (t.n < len(t.levels) || h.beyond(event.Side(s)+event.Bid, t.levels[t.n-1].Px)) {
			return event.FlagUnverified
		}
	}
	return 0
}

// bandFlags: the same of a side's widest band.
func (inst *instrument) bandFlags(side event.Side, bps int) uint8 {
	h := &inst.horizon[side-event.Bid]
	if best, ok := inst.book.Best(side); h.Bounded && (!ok || h.beyond(side, best.Px) || away(best.Px, h.Px) < bandOf(best.Px, bps)) {
		return event.FlagUnverified
	}
	return 0
}

// window notes how far a snapshot reaches. The venue gives no more than its sheet lists,
// however much is asked for.
func (m *Machine) window(msg *venues.Message) (w [2]horizon) {
	depth := m.cfg.Depth
	if !m.audits() || depth <= 0 {
		return w
	}
	if len(m.rules.Depths) > 0 {
		depth = min(depth, slices.Max(m.rules.Depths))
	}
	var n [2]int
	for _, l := range m.batch.Levels[msg.Lo:msg.Hi] {
		s := l.Side - event.Bid
		if n[s]++; n[s] == 1 || l.Side == event.Bid && l.Px < w[s].Px || l.Side == event.Ask && l.Px > w[s].Px {
			w[s].Px = l.Px
		}
	}
	for s := range w {
		if w[s].Bounded = n[s] >= depth; !w[s].Bounded {
			w[s].Px = 0
		}
	}
	return w
}

func (m *Machine) tickAudit(inst *instrument) {
	a, every := &inst.audit, m.cfg.AuditEveryNs
	if !m.audits() || inst.state != bookLive {
		return
	}
	if a.DueTs == 0 {
		// Not all at once: multiples of the golden ratio spread the instruments of all
		// feeds evenly over a period, however many there are.
		phase, _ := bits.Mul64(uint64(inst.dir+1)*0x9e37_79b9_7f4a_7c15, uint64(every))
		a.DueTs = m.now + 1 + int64(phase)
	}
	switch {
	case a.Asked && a.Ahead != event.Null:
		if inst.seq >= a.Ahead {
			m.auditAnswer(inst, a.answer)
		} else if m.now-a.AheadTs >= auditAheadNs {
			m.auditAgain(inst)
		}
	case a.Asked || inst.request != 0:
	case m.now >= a.DueTs || inst.topFlags() != 0 && m.now-a.LastTs >= auditEarlyNs:
		for a.DueTs <= m.now {
			a.DueTs += every * ((m.now-a.DueTs)/every + 1)
		}
		a.begin(m.now)
		m.ask(inst, 0, rankAudit, true)
	}
}

// renew plans the audits of a new book.
func (a *audit) renew(now int64) {
	a.end()
	a.DueTs, a.LastTs, a.Count, a.Worst = 0, now, 0, auditMark{}
}

func (a *audit) begin(now int64) {
	a.end()
	a.Asked, a.LastTs = true, now
}

// end forgets the one that is under way.
func (a *audit) end() {
	if cap(a.buffer) > auditBytesMax/16 {
		a.buffer = nil
	}
	a.buffer, a.answer = a.buffer[:0], nil
	a.Asked, a.Tries, a.First, a.Doubted = false, 0, event.Null, false
	a.Ahead, a.AheadTs = event.Null, 0
}

// keep keeps a diff that the book has taken, for the answer that is on its way. Without
// room it begins anew: the answer must then be newer.
func (a *audit) keep(in *event.Input, msg *venues.Message, bytesMax int) {
	if !a.Asked {
		return
	}
	if len(a.buffer) > 0 && len(a.buffer)+event.InputSize(len(in.Data)) > min(bytesMax, auditBytesMax) {
		a.buffer, a.First = a.buffer[:0], event.Null
	}
	if a.First == event.Null {
		a.First = msg.First
	}
	head := in.InputHead
	head.Aux = msg.Seq
	a.buffer = event.AppendInput(a.buffer, head, in.Data)
}

// auditAgain asks for another answer, later each time, and not for ever.
func (m *Machine) auditAgain(inst *instrument) {
	a := &inst.audit
	a.answer, a.Ahead, a.AheadTs = nil, event.Null, 0
	if a.Tries++; a.Tries >= auditTriesMax {
		m.note("%s %s: no snapshot for the audit fits the stream; later", m.rules.Name, inst.Symbol)
		inst.stats.AuditsGivenUp++
		a.end()
		return
	}
	if inst.request == 0 {
		m.ask(inst, auditRetryNs<<(a.Tries-1), rankAudit+int64(a.Tries), true)
	}
}

// auditAnswer takes the body of a snapshot of a live book.
func (m *Machine) auditAnswer(inst *instrument, body []byte) {
	if !m.readSnapshot(inst, body) {
		m.auditAgain(inst)
		return
	}
	m.audited(inst, &m.batch.Messages[0], body)
}

// audited takes the snapshot of a live book.
func (m *Machine) audited(inst *instrument, msg *venues.Message, body []byte) {
	a := &inst.audit
	oldest := inst.seq + 1
	if a.First != event.Null {
		oldest = a.First
	}
	switch {
	case msg.Lo == msg.Hi || msg.Seq+1 < oldest: // nothing, or out of a cache
		m.auditAgain(inst)
	case msg.Seq > inst.seq: // the stream is on its way there
		a.Ahead, a.AheadTs = msg.Seq, m.now
		if len(a.answer) == 0 || &a.answer[0] != &body[0] {
			a.answer = append(a.answer[:0], body...)
		}
	default:
		m.auditNow(inst, msg)
	}
}
