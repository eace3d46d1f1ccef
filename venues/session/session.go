// Package session owns a feed while it is live: one goroutine that takes what
// the venue sends from the socket to the rings, and does what the feed's machine
// asks for.
//
//	read ─► stamp ─► inputs ring (journal) ─► machine.Step ─► row ring
//
// Every input is offered to the journal before the machine steps it (a frame is decoded
// before, see Machine.Foresee); a frame that finds no room there is dropped, counted,
// and stands in the journal as a loss.
// This package must never decide anything that a row depends on: it may only
// choose when to dial, to wait and to fetch, and all of that becomes an input.
//
// A second connection, for a planned reconnect or with two lines, has a reader of its
// own that hands its frames to the owner: see side.go.
//
// Invariants: only the owner goroutine touches the direct connection (but for
// Interrupt), the machine and the producer side of the lane; the machine steps inputs
// in the order in which they stand in the journal; every fetch is answered by exactly
// one input, unless its connection has ended before or another one of its instrument
// has taken its place; no goroutine is left when Run returns.
package session

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/lane"
	"deeptape/hotpath/ring"
	"deeptape/hotpath/task"
	"deeptape/venues"
	"deeptape/venues/feed"
	"deeptape/venues/wire"
)

const (
	tickNs = int64(time.Second)

	// A connection that has lived this long counts as healthy: the next backoff
	// starts small again.
	healthyAfterNs = 30e9

	// A frame waits this long for room in the journal's ring, and those behind it
	// wait in the kernel, before it is dropped and booked as lost: a disk that
	// pauses costs latency, and only one that has failed costs data. The rest
	// comes again or is offered again; only the ends of runs and connections wait
	// as long as it takes, and not longer than stopPatience after a stop.
	journalPatience = time.Second
	stopPatience    = 5 * time.Second
	journalPoll     = 200 * time.Microsecond

	reservePollNs = int64(250 * time.Millisecond)
	sendPollNs    = int64(5 * time.Millisecond) // no sooner is a limit looked at again

	backoffMin = 250 * time.Millisecond
	backoffMax = 30 * time.Second
)

// Options of a session.
type Options struct {
	Venue          venues.Venue
	WSURL, RestURL string
	Config         []byte // the run record's data
	Clock          wire.Clock
	Sched          task.Sched
	Dial           Dial
	Budgets        *Budgets
	Rest           Rest
	Log            *slog.Logger
	Rand           *rand.Rand
	Lines          int           // connections at a time; 0 is 1, 2 the most
	ReconnectEvery time.Duration // plan a reconnect that often; 0: only where the machine asks
}

// Session runs one feed.
type Session struct {
	opt     Options
	cfg     feed.Config
	lane    *lane.Lane
	machine *feed.Machine
	log     *slog.Logger
	clock   wire.Clock

	pos       uint64
	sched     task.Sched
	bell      *ring.Doorbell // wakes the owner where it does not read
	conn      Conn           // nil while there is none
	nextTick  int64
	connects  int64
	sends     []command
	sendNs    int64         // when to look again whether those that wait may go
	limits    [2]limits     // of the lines
	claims    [2]wire.Claim // of their next commands, where all connections share a limit
	dials     [2]wire.Claim // of their connections
	healthy   bool          // a first connection has lived for a while
	failedNs  [2]int64      // since when no first connection does, and no second one beside it; 0: it does
	reserved  [2]int        // commands of the lines' connections that are being dialled
	queued    int           // what this session has added to Budgets.queued
	lines     lineState
	inbox     task.Queue[*answer] // to requests; those of ended connections leave nothing here
	held      *answer             // taken from the inbox and not yet journalled
	keyframes uint64              // of those that the journal has asked for, made
	scratch   []byte
	live      atomic.Pointer[Conn] // the connection to interrupt
	fetchCtx  context.Context      // ends with the connection
	fetches   *task.Group
	fetching  []context.CancelFunc // per instrument: ends the last one
	stopping  context.Context      // done when the session is to end

	journalPatience, stopPatience time.Duration // fields for tests

	lost        int64 // frames dropped since the last loss record
	lostFirstTs int64
	lostLastTs  int64
	reconnect   string // why, if the machine asked for it
	unpublished bool   // frames have been stepped since the last publish

	counters Counters
	vain     [2]vain                         // of the direct connection, and of the second one
	broken   atomic.Pointer[task.PanicError] // of a goroutine beside the owner
	status   atomic.Pointer[feed.Status]
}

// Counters of a session, for metrics. Any goroutine may read them.
type Counters struct {
	Connects, ConnectFailures, Disconnects, Commands, LostInputs atomic.Uint64
	CommandsHeld                                                 atomic.Uint64 // times that a limit of subscriptions an hour was used up
	// Connections that brought nothing for too long, and messages or answers that were
	// longer than the venue's limit.
	Dead, TooLong atomic.Uint64
}

// New makes a session. pos is the position of the feed's last input in the
// journal, 0 for none.
func New(opt Options, l *lane.Lane, cfg feed.Config, pos uint64) *Session {
	s := &Session{
		opt: opt, cfg: cfg, lane: l, log: opt.Log, clock: opt.Clock, pos: pos,
		sched: opt.Sched, bell: opt.Sched.NewDoorbell(), fetches: task.NewGroup(opt.Sched), fetching: make([]context.CancelFunc, len(cfg.Instruments)),
		journalPatience: journalPatience, stopPatience: stopPatience,
	}
	s.lines.readers = task.NewGroup(opt.Sched)
	s.machine = feed.New(l, &l.Frames, l.Rows.Feed())
	return s
}

// Counters of the session.
func (s *Session) Counters() *Counters { return &s.counters }

// Status is the feed's state as of its last tick, nil before the first.
func (s *Session) Status() *feed.Status { return s.status.Load() }

// Run records until ctx ends, then writes the stop record and closes the lane.
// It returns an error only if the derivation itself is broken, or if the journal
// takes nothing at the end.
func (s *Session) Run(ctx context.Context) error {
	defer s.lane.Close()
	defer s.fetches.Wait() // their context ends with their connection, or a panic
	ctx, end := context.WithCancel(ctx)
	defer end()
	keep := s.sched.AfterFunc(ctx, s.interrupt)
	defer keep()
	s.stopping = ctx
	if _, err := s.input(event.InputRun, s.clock.NowNs(), 0, s.opt.Config); err != nil {
		return err
	}
	s.nextTick = s.clock.NowNs() + tickNs
	backoff := wire.NewBackoff(backoffMin, backoffMax, s.opt.Rand)
	s.lines.backoff = wire.NewBackoff(backoffMin, backoffMax, s.opt.Rand)
	defer func() {
		s.leaveSide()
		s.sends, s.reserved = nil, [2]int{}
		s.tellQueue()
	}()
	for ctx.Err() == nil {
		conn, err := s.dial(ctx)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			if p := s.broken.Load(); p != nil {
				return p
			}
			s.unreserve(s.lines.line)
			s.failed(0)
			s.counters.ConnectFailures.Add(1)
			s.vain[0].failed(err)
			wait := max(backoff.Next(), s.refused(err))
			s.log.Warn("cannot connect", "err", err, "retry_in", wait.Round(time.Millisecond))
			if err := s.idle(ctx, wait); err != nil {
				return err
			}
			continue
		}
		upSince := s.clock.NowNs()
		if err := s.serveAll(ctx, conn); err != nil {
			return err
		}
		if s.clock.NowNs()-upSince > healthyAfterNs {
			backoff.Reset()
			s.healthy, s.failedNs[0] = true, 0
		} else {
			s.failed(0)
		}
		if ctx.Err() == nil {
			if err := s.idle(ctx, backoff.Next()); err != nil {
				return err
			}
		}
	}
	_, err := s.input(event.InputStop, s.clock.NowNs(), 0, nil)
	return err
}

// dial connects inside the venue's budget; ticks go on meanwhile.
func (s *Session) dial(ctx context.Context) (Conn, error) {
	for {
		ok, waitNs := s.mayDial(s.lines.line, s.dialRank(false))
		if ok {
			break
		}
		if err := s.idle(ctx, time.Duration(waitNs)); err != nil || ctx.Err() != nil {
			s.opt.Budgets.Connects.Withdraw(&s.dials[s.lines.line])
			return nil, errors.Join(err, ctx.Err())
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var conn Conn
	var err error
	var done atomic.Bool
	s.sched.Go("dial", func() {
		s.beside("a dial", func() { conn, err = s.connect(ctx) })
		done.Store(true)
		s.bell.Ring()
	})
	for !done.Load() {
		s.park(done.Load, s.untilTick())
		if broken := s.tick(); broken != nil {
			cancel()
			task.WaitFor(s.bell, done.Load)
			if conn != nil {
				conn.Close(1000, "")
			}
			return nil, broken
		}
	}
	if p := s.broken.Load(); p != nil {
		return nil, p
	}
	return conn, err
}

// failed notes since when one of the two connections does not come about, or does not last.
func (s *Session) failed(which int) {
	if s.failedNs[which] == 0 {
		s.failedNs[which] = s.clock.NowNs()
	}
}

func (s *Session) connect(ctx context.Context) (Conn, error) {
	url := wire.Join(s.opt.WSURL, s.opt.Venue.StreamPath(s.cfg.Instruments, s.cfg.Quotes))
	return s.opt.Dial(ctx, url, s.opt.Venue.Rules().MessageBytesMax)
}

// park waits without a connection, at most for wait and not if ready is true.
func (s *Session) park(ready func() bool, wait time.Duration) {
	s.bell.Prepare()
	if ready() {
		s.bell.Cancel()
		return
	}
	s.bell.Wait(wait)
}

// idle waits without a connection; ticks go on.
func (s *Session) idle(ctx context.Context, wait time.Duration) error {
	end := s.clock.NowNs() + int64(wait)
	for ctx.Err() == nil && s.clock.NowNs() < end {
		s.inbox.Clear() // answers for a connection that has ended
		s.park(func() bool { return ctx.Err() != nil }, min(s.untilTick(), time.Duration(end-s.clock.NowNs())))
		if err := s.tick(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) untilTick() time.Duration {
	return time.Duration(max(0, s.nextTick-s.clock.NowNs()))
}

// beside runs what a goroutine does for the owner, who ends the run if it panics.
func (s *Session) beside(what string, run func()) {
	var p *task.PanicError
	if errors.As(task.Guard(what, func() error { run(); return nil }), &p) {
		s.broken.Store(p)
		s.interrupt()
	}
}

func (s *Session) tick() error {
	now := s.clock.NowNs()
	if now < s.nextTick {
		return nil
	}
	s.nextTick = max(s.nextTick+tickNs, now+tickNs/2)
	if p := s.broken.Load(); p != nil {
		return p
	}
	_, err := s.input(event.InputTick, now, 0, nil)
	// A keyframe stands at a frame boundary, and is offered like any other input.
	// It holds the machine's state as it is now, so no loss may be booked before
	// it; and one that finds no room is made anew at the next tick.
	if asked := s.lane.KeyframesAsked(); err == nil && asked != s.keyframes && s.lost == 0 {
		s.scratch = s.machine.AppendKeyframe(s.scratch[:0])
		var taken bool
		if taken, err = s.input(event.InputKeyframe, now, 0, s.scratch); taken {
			s.keyframes = asked
		}
	}
	st := s.machine.Status()
	s.status.Store(&st)
	return err
}

// serveAll takes frames from a new connection, and from those that take over from
// it, until none is left.
func (s *Session) serveAll(ctx context.Context, conn Conn) error {
	s.sends = s.sends[:0]
	s.limits[s.lines.line] = newLimits(s.opt.Venue.Rules(), s.opt.Budgets)
	defer s.tellQueue()
	s.connects++
	s.counters.Connects.Add(1)
	s.vain[0].connected()
	if s.opt.Lines != 2 {
		s.vain[1].connected() // a planned reconnect ends with this connection, whichever it is
	}
	l := &s.lines
	l.since, l.planned = s.clock.NowNs(), ""
	l.epoch++
	// A snapshot for connections that have ended joins nothing: it only uses up
	// the venue's weight.
	var endFetches context.CancelFunc
	s.fetchCtx, endFetches = context.WithCancel(ctx)
	defer endFetches()
	s.log.Info("connected", "line", l.line, "instruments", len(s.cfg.Instruments))
	_, err := s.input(event.InputConnect, l.since, s.connects, nil)
	s.unreserve(l.line)
	if err != nil {
		conn.Close(1000, "")
		return err
	}
	for conn != nil {
		if err := s.serve(ctx, conn); err != nil || ctx.Err() != nil {
			return err
		}
		var err error
		if conn, err = s.takeOver(); err != nil {
			return err
		}
	}
	return nil
}

// leaveSide ends what is left of the second connection.
func (s *Session) leaveSide() {
	if d := s.lines.side; d != nil {
		d.cancel()
		d.leave()
		task.WaitFor(s.bell, d.ended.Load)
		if d.conn != nil {
			d.conn.Close(1000, "")
		}
	}
	s.lines.readers.Wait()
}

// frame journals and steps one frame, and says when that was done.
func (s *Session) frame(line uint8, payload []byte, stamp int64) (now int64, err error) {
	s.machine.Foresee(payload) // what it needs comes while the journal takes the frame
	taken, err := s.inputOf(line, event.InputFrame, stamp, 0, payload)
	now = s.clock.NowNs()
	if !taken || err != nil {
		return now, err
	}
	// Published: the rows are on their way.
	s.lane.ReadPublished.Record(now - stamp)
	if ts := s.machine.EventTs(); ts != event.Null {
		s.lane.VenueRead.Record(stamp - ts)
		s.lane.VenuePublished.Record(now - ts)
	}
	return now, nil
}

// serve takes frames from one connection until it ends.
func (s *Session) serve(ctx context.Context, conn Conn) error {
	s.conn, s.reconnect = conn, ""
	s.live.Store(&conn)
	quiet := s.silence()
	defer func() {
		s.publish()
		conn.Close(1000, "") // also after an error
		s.conn = nil
		s.live.Store(nil)
	}()
	for ctx.Err() == nil && s.reconnect == "" {
		if err := s.send(); err != nil {
			return err
		}
		if s.unpublished && !conn.Ready() {
			s.publish()
		}
		payload, stamp, outcome := conn.ReadBy(s.deadline())
		var err error
		var now int64
		switch outcome {
		case wire.Message:
			now, err = s.frame(s.lines.line, payload, stamp)
		case wire.Closed:
			s.reconnect = conn.Err().Error()
			s.countEnd(conn.Err())
		}
		if outcome != wire.Message {
			if err == nil {
				err = s.drainInbox()
			}
			now = s.clock.NowNs()
		}
		if err == nil && now >= s.nextTick {
			if err := quiet.second(conn.ProgressNs()); err != nil {
				s.reconnect = err.Error()
				s.countEnd(err)
			}
			err = s.tick()
			if err == nil {
				err = s.drainInbox()
			}
			if every := int64(s.opt.ReconnectEvery); every > 0 && now-s.lines.since >= every {
				s.plan(s.lines.line, "planned every "+s.opt.ReconnectEvery.String())
			}
		}
		if err == nil && (s.lines.side != nil || s.wantSide()) {
			var over bool
			if over, err = s.tend(ctx); over {
				s.reconnect = s.lines.planned
			}
		}
		if err != nil {
			return err
		}
	}
	reason := s.reconnect
	if ctx.Err() != nil {
		reason = "stopped"
	} else {
		s.log.Warn("disconnected", "reason", reason)
		s.counters.Disconnects.Add(1)
	}
	conn.Close(1000, "")
	s.sends = slices.DeleteFunc(s.sends, func(c command) bool { return c.line == s.lines.line })
	if ctx.Err() != nil {
		return nil // the stop record ends the run; what is proven stays proven to its last message
	}
	_, err := s.input(event.InputClose, s.clock.NowNs(), 0, []byte(reason))
	return err
}

// deadline of the next read: the next tick, or sooner while commands wait for the
// venue's budget.
func (s *Session) deadline() int64 {
	if len(s.sends) > 0 {
		return min(s.nextTick, s.sendNs)
	}
	return s.nextTick
}

// interrupt makes the owner look again, wherever it waits.
func (s *Session) interrupt() {
	if conn := s.live.Load(); conn != nil {
		(*conn).Interrupt()
	}
	s.bell.Ring()
}

// drainInbox takes the answers that have come. One that finds no room before the
// journal is held, so that frames go on being read, and is tried again.
func (s *Session) drainInbox() error {
	for {
		if s.held == nil {
			if s.held, _ = s.inbox.Take(); s.held == nil {
				return nil
			}
		}
		if a := s.held; a.connection == s.lines.epoch { // the machine has forgotten the others
			taken, err := s.input(event.InputRest, s.clock.NowNs(), event.RestAux(a.request, a.inst, a.status), a.body)
			if err != nil || !taken {
				return err
			}
		}
		s.held = nil
	}
}
