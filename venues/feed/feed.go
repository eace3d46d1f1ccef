// Package feed is the session machine of one feed: the instruments of one venue
// that share one owner. It is stepped by journalled inputs and derives from them
// everything that deeptape stores: decode, sequence, book, rows, coverage.
//
// It must never read a clock, a socket or a file, start a goroutine, range over
// a map, or use a random number: the same inputs give the same rows, in the live
// agent, in catch-up, replay, verify and simulation. What it wants done outside
// it says as Actions; what came of them returns as inputs.
//
// A book moves through these states:
//
//	           connect            snapshot: fetched and joined to the buffer,
//	                                        or in the stream
//	(idle) ───────────────► (syncing) ───────────────────────────────► (live)
//	   ▲                        ▲  │ stale, cached, refused: fetched again;   │
//	   │ close, loss            │  │ none in time: subscribed again           │
//	   │                        │  └────────────────────────────────┘         │
//	   │                        └── sequence, checksum, malformed, silence ───┤
//	   └──────────────────────────────────────────────────────────────────────┘
//
// What proves a book is data (venues.Rules.Continuity) and is judged in one place,
// chain.go. Two connections may carry the same instruments, lines 0 and 1: see lines.go.
//
// The way of a frame, by file:
//
//	feed.go      Step: an input by its kind, and what ends or starts everything
//	config.go    what a run record holds, and the machine that it starts
//	foresee.go   decode, while the journal does not have the frame yet
//	frame.go     message after message; the frame gets one outcome
//	lines.go     which of two lines is believed; held.go: what waits for the other;
//	             standby.go: the book of the other line, where ids cannot join the two
//	chain.go     do its ids follow?  canary.go: is the book right after it, and which
//	             check means nothing any more
//	sync.go      a book from a fetched snapshot; inband.go: from one in the stream
//	bound.go     a book that has too many levels
//	trades.go    trades and quotes
//	turn.go      who goes first where the venue's limits make some wait
//	unknown.go   frames that nobody understands
//	probe.go     is a silent book dead?  audit.go: is a live one still the venue's?
//	rows.go      rows; depth.go: those of book_depth; coverage.go: what they prove
//	command.go   what was asked for, sent, answered, held back; refused.go: and what is
//	             asked for again because the venue has refused it
//	compare.go   a book against a snapshot at the same id, for an audit
//	keyframe.go  all of the state, written and read; derive.go: the same from a file
//
// A book that its venue cuts to the subscribed depth (venues.Rules.Truncate) is cut
// here after each message, and what falls out gets no row: the rows are the venue's
// levels and nothing else. A reader of the rows has to cut as well, after each
// message, the worst first: a level beyond the depth is not part of the book, and does
// not come back when others go. To cut only at the end is nearly right, and exact just
// after a keyframe. The depth stands in the detail of the book's intervals, "depth=N".
//
// Invariants: ts of an instrument's rows grows strictly over book, trades and
// quotes; every instant from the run's start on belongs to one coverage interval
// per instrument and stream; a row is written only for an input that is in the
// journal before it; a book is live only between a snapshot and the first doubt.
package feed

import (
	"fmt"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
)

// bufferBytesMax bounds what an instrument holds back while it waits for its
// snapshot. Waiting ends by memory, not by patience: 32 MiB is some twenty
// minutes of BTCUSDT at its recorded rate. Rows depend on it: another value is
// another Version.
const bufferBytesMax = 32 << 20

// Sink takes the rows of a machine.
type Sink interface {
	// Claim gives room for a row record of n bytes, or nil: the record is
	// deferred, and nothing but counting is owed for it.
	Claim(n int) []byte
	// Commit hands over what was claimed.
	Commit()
}

// ActionKind says what a machine wants done.
type ActionKind uint8

const (
	ActionSend      ActionKind = iota // send Text on the connection Line
	ActionFetch                       // fetch the snapshot of Inst after DelayNs, in place of one that is under way; answer with Request
	ActionReconnect                   // replace the connection Line before it ends: dial the other line, and close this one when the other is Joined; Text says why
	ActionNote                        // tell the operator Text
	ActionWarn                        // the same, of what leaves a hole in the record or in its proof
)

// Action is a wish of the machine. In a replay nobody grants it.
type Action struct {
	Kind    ActionKind
	Line    uint8
	Ping    bool // the command changes no subscription
	Inst    int  // of a fetch, and of a command that is for one instrument; else -1
	Request uint32
	DelayNs int64
	Rank    int64 // of a fetch or a command: who waits for the venue's limits goes by it, the lower first; see turn.go
	Spare   bool  // it takes only what others leave of the venue's limit
	Text    string
}

type bookState uint8

const (
	bookIdle bookState = iota
	bookSyncing
	bookLive
)

var bookStateNames = [...]string{"idle", "syncing", "live"}

// instrument is all that a machine knows of one instrument.
type instrument struct {
	event.Instrument
	dir     uint32 // directory index
	state   bookState
	book    *book.Book
	tick    int64 // of the book at PxScale, 0 where it is not known
	seq     int64 // id after the last applied book message
	lastTs  int64 // ts of the last row of any stream
	top     [2]topSide
	streams [event.NumStreams]interval

	lastTrade     int64 // number of the last trade, event.Null before the first
	lastTradeTs   int64 // latest venue time of a trade, event.Null before the first
	repeats       repeats
	lastMessageTs int64 // stamp of the last applied book message
	lastEventTs   int64 // and the venue's clock in it
	depthTs       int64 // instant of the last row of book_depth
	lastQuote     int64 // id of the last quote, event.Null before the first

	// Of the book and the trades: the highest id that each line has brought, event.Null
	// for none, and what waits for the other line. See lines.go.
	heard [numProven][numLines]int64
	held  [numProven]held

	// The scales of the decoder. They differ from the instrument's only while a
	// finer message is tried.
	tryPx, tryQty int8
	keyframeOwed  bool // the live book is to be written whole before its next message

	// Waiting for a snapshot. buffer holds whole input records; firstID is the
	// first id of the first of them.
	buffer      []byte
	buffered    int
	firstID     int64
	request     uint32 // number of the request under way, 0 for none
	attempts    int
	empties     int // snapshots without levels, in a row
	syncingFrom int64
	probe       probe
	failing     failing
	overfull    overfull

	leader  uint8   // line that the book is taken from, where it has no ids
	sum     uint64  // of the book's last message while standbys are built, see sumOf
	standby standby // see standby.go

	horizon  [2]horizon // of bids, of asks
	audit    audit
	inband   inband
	canaries [numChecks]canary
	detail   string // what coverage says beside a book that is not in a gap
	distrust event.Cause

	stats InstrumentStats
}

type topSide struct {
	n      int
	levels []book.Level
}

// InstrumentStats counts what happened to one instrument since the run began.
type InstrumentStats struct {
	BookMessages   uint64
	Trades         uint64
	Quotes         uint64
	Gaps           uint64
	Fetches        uint64
	StaleSnapshots uint64
	Widenings      uint64
	OffGrid        uint64
	RepeatedTrades uint64
	Resubscribed   uint64
	Checksums      uint64 // that agreed
	BadChecksums   uint64
	Audits         uint64
	AuditLevels    uint64 // compared
	AuditWrong     uint64 // of them that were not as the venue had them
	AuditGhosts    uint64 // of these, those that the venue did not have at all
	AuditMatchPpm  uint64 // levels that were equal in the last audit, in millionths
	AuditsGivenUp  uint64
	LastGapCause   event.Cause
	LastGapTs      int64
}

// Machine derives one feed. Not for concurrent use: it belongs to its owner.
type Machine struct {
	cfg    Config
	feed   uint16
	venue  venues.Venue
	rules  *venues.Rules
	dec    venues.Decoder
	batch  venues.Batch
	out    Sink
	frames *ledger.Frames
	rows   *ledger.RowsDerived

	foreseen  foreseen
	insts     []instrument
	actions   []Action
	now       int64  // stamp of the input that is being stepped
	pos       uint64 // and its position
	eventTs   int64  // the venue's clock in the last frame, or event.Null
	frameTs   int64  // stamp that the rows of this message start from
	lines     [numLines]line
	paired    bool  // two lines have been up since the last time that none was
	holding   int   // frames held back
	forced    int64 // number of the trade that opens a gap, event.Null for none
	only      part  // of the frame that is taken again
	rejected  ledger.Reason
	kept      bool // the frame that is being taken has been held back
	leader    uint8
	standing  bool // standbys are built
	counter   canary
	counted   int  // frames of the leader's connection since the number was last off
	outOfTurn bool // the frame is not the one that was due on its connection
	failing   [numChecks]int
	commandID int64
	requests  uint32
	hole      bool // inputs of this run are missing in the journal, up to now
	skipped   bool // the input before this one was there, and could not be taken
	// Connections in a row whose subscription went unanswered.
	unanswered int
	begunTs    int64     // when the venue last gave a book that was asked for
	strange    []Unknown // see unknown.go
	patched    bool      // keyframes cannot be compared: one has told what was missing (see adopt), or another version wrote them

	bufferBytes int // bufferBytesMax, but in tests
	topNow      []book.Level
	scratch     []book.Level
	sums        [2][]book.Level // the levels that a checksum covers
	text        []byte
}

// New makes a machine that has not yet seen its run record. frames and rows are
// written by the machine only.
func New(out Sink, frames *ledger.Frames, rows *ledger.RowsDerived) *Machine {
	return &Machine{out: out, frames: frames, rows: rows, bufferBytes: bufferBytesMax}
}

// Actions returns what the last Step wants done. Valid until the next Step.
func (m *Machine) Actions() []Action { return m.actions }

// EventTs is the venue's own time in the last frame, ns, or event.Null.
func (m *Machine) EventTs() int64 { return m.eventTs }

// Step takes one input. It fails only where the journal itself cannot be right: a run
// record or keyframe that does not parse, an input before the run record or of a line
// that there is not, a keyframe that is not what the inputs before it make.
func (m *Machine) Step(in *event.Input) error {
	err := m.StepUnpublished(in)
	m.Publish()
	return err
}

// Publish shows the ledgers what has been counted.
func (m *Machine) Publish() {
	m.frames.Publish()
	m.rows.Publish()
}

// StepUnpublished is Step but for Publish, which may follow after several.
func (m *Machine) StepUnpublished(in *event.Input) error {
	missing := in.Pos != m.pos+1 || m.skipped
	m.skipped = false
	m.now, m.pos, m.frameTs = in.Ts, in.Pos, in.Ts
	m.actions = m.actions[:0]
	m.eventTs = event.Null
	if in.Kind != event.InputFrame {
		m.foreseen.data = nil // batch may become another's
	}
	if in.Kind == event.InputRun {
		return m.run(in)
	}
	if m.insts == nil && in.Kind != event.InputKeyframe {
		return fmt.Errorf("cannot step feed %d: input %d (%s) stands before the run record", in.Feed, in.Pos, in.Kind)
	}
	if missing && m.insts != nil {
		m.missing()
	}
	if in.Line >= numLines {
		return errLine(in)
	}
	switch in.Kind {
	case event.InputFrame:
		if !m.lines[in.Line].up { // its connect is missing in the journal
			m.lineUp(in.Line)
		}
		m.frames.Add(ledger.Received, 1)
		m.frame(in)
	case event.InputTick:
		m.tick()
	case event.InputCommand:
		m.sent(in.Line, in.Data)
	case event.InputRest:
		m.rest(in)
	case event.InputConnect:
		m.connect(in.Line)
	case event.InputClose:
		m.close(in.Line)
	case event.InputLoss:
		m.loss(in)
	case event.InputStop:
		m.stop()
	case event.InputKeyframe:
		if err := m.keyframe(in); err != nil {
			return err
		}
	}
	if m.holding > 0 {
		m.settle()
	}
	return nil
}

// skip passes over an input that cannot be taken, or that stands behind one: for the
// next input that is stepped it is missing.
func (m *Machine) skip(in *event.Input) { m.pos, m.skipped = in.Pos, true }

// recorded says whether a stream is: there are venues without quotes, and runs that
// do not want them. What is not recorded has no interval, because a gap would say that
// something is missing.
func (m *Machine) recorded(s event.Stream) bool {
	return s != event.StreamQuotes || m.cfg.Quotes && m.rules.QuoteStream
}

func (m *Machine) act(a Action) { m.actions = append(m.actions, a) }

func (m *Machine) note(format string, args ...any) {
	m.act(Action{Kind: ActionNote, Text: fmt.Sprintf(format, args...)})
}

func (m *Machine) warn(format string, args ...any) {
	m.act(Action{Kind: ActionWarn, Text: fmt.Sprintf(format, args...)})
}

// end ends what was believed of every stream: nothing that comes later is known to
// follow on.
func (m *Machine) end(cause event.Cause) {
	for i := range m.insts {
		inst := &m.insts[i]
		m.dropBuffer(inst)
		m.release(inst)
		m.dropBook(inst, cause)
		m.dropStandby(inst)
		m.breakStream(inst, event.StreamTrades, cause)
		m.breakStream(inst, event.StreamQuotes, cause)
		inst.state, inst.request = bookIdle, 0
	}
}

// missing stands for inputs that the journal has lost. Whatever they were, books
// and streams are not known to follow on. The numbers of the requests made
// meanwhile are lost as well: from now on the answer to any request will do.
func (m *Machine) missing() {
	m.hole = true
	m.restart(event.CauseJournal)
	m.warn("inputs before %d are missing in the journal: every book of this feed resyncs", m.pos)
}

// loss stands for frames that never reached the journal: any of them may have
// belonged to any instrument of the feed.
func (m *Machine) loss(in *event.Input) {
	m.frames.Add(ledger.Received, uint64(in.Aux))
	m.frames.Add(ledger.Lost, uint64(in.Aux))
	m.restart(event.CauseBackpressure)
	m.warn("%d frames lost before the journal: every book of this feed resyncs", in.Aux)
}

// restart gives up every book, and starts again on the same connections.
func (m *Machine) restart(cause event.Cause) {
	m.end(cause)
	for i := range m.lines {
		m.lines[i].next = event.Null
	}
	if !m.connected() {
		return
	}
	m.startSyncAll()
	for i := range m.insts {
		m.renew(&m.insts[i])
	}
}

func (m *Machine) startSyncAll() {
	for i := range m.insts {
		m.startSync(&m.insts[i])
	}
}

func (m *Machine) stop() {
	for i := range m.insts {
		m.release(&m.insts[i])
		m.dropBuffer(&m.insts[i])
		for s := range event.NumStreams {
			m.extendGap(&m.insts[i], s)
		}
	}
	m.flush()
}

// flush writes every interval that has changed since it was last written.
func (m *Machine) flush() {
	for i := range m.insts {
		for s := range event.NumStreams {
			m.putCoverage(&m.insts[i], s)
		}
	}
}

func (m *Machine) dropBuffers() {
	for i := range m.insts {
		m.dropBuffer(&m.insts[i])
		m.dropHeld(&m.insts[i])
	}
}

// tick runs once a second of the feed's own time.
func (m *Machine) tick() {
	m.tickLines()
	for i := range m.insts {
		inst := &m.insts[i]
		if m.connected() {
			m.tickSync(inst)
			m.tickStandby(inst)
			m.tickSilence(inst)
			m.putDepth(inst)
			m.tickAudit(inst)
		}
		for s := range event.NumStreams {
			m.extendGap(inst, s)
			m.putCoverage(inst, s)
		}
	}
}
