// Package session owns a feed while it is live: one goroutine that takes what
// the venue sends from the socket to the rings, and does what the feed's machine
// asks for.
//
//	read ─► stamp ─► inputs ring (journal) ─► machine.Step ─► row ring
//
// Every input is offered to the journal before the machine sees it; a frame that
// finds no room there is dropped, counted, and stands in the journal as a loss.
// This package must never decide anything that a row depends on: it may only
// choose when to dial, to wait and to fetch, and all of that becomes an input.
//
// Invariants: only the owner goroutine touches the connection (but for
// Interrupt), the machine and the producer side of the lane; the machine steps
// inputs in the order in which they stand in the journal; every fetch is answered
// by exactly one input.
package session

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/lane"
	"deeptape/hotpath/ring"
	"deeptape/venues"
	"deeptape/venues/feed"
	"deeptape/venues/wire"
)

const (
	tickNs = int64(time.Second)

	// Binance pings every 20 s, the others more often: three missed pings and no
	// message mean that the peer is gone, whatever TCP believes.
	deadAfterNs = 65e9
	// A connection that has lived this long counts as healthy: the next backoff
	// starts small again.
	healthyAfterNs = 30e9

	// A frame waits this long for room in the journal's ring, and those behind it
	// wait in the kernel, before it is dropped and booked as lost: a disk that
	// pauses costs latency, and only one that has failed costs data. What is not a
	// frame cannot be dropped (an answer that is lost would be waited for for
	// ever) and waits as long as it takes.
	journalPatience = time.Second
	journalPoll     = 200 * time.Microsecond

	backoffMin = 250 * time.Millisecond
	backoffMax = 30 * time.Second
)

// Budgets are shared by all sessions of a venue.
type Budgets struct {
	Connects *wire.Budget
	Weight   *wire.Budget
}

// Options of a session.
type Options struct {
	Venue          venues.Venue
	WSURL, RestURL string
	Config         []byte // the run record's data
	Clock          wire.Clock
	Budgets        *Budgets
	Rest           *wire.Rest
	Log            *slog.Logger
	Rand           *rand.Rand
}

// Session runs one feed.
type Session struct {
	opt     Options
	cfg     feed.Config
	lane    *lane.Lane
	machine *feed.Machine
	log     *slog.Logger
	clock   wire.Clock

	pos      uint64
	conn     *wire.Conn // nil while there is none
	nextTick int64
	// The deadline that belongs to the tick readByTick.
	readBy     time.Time
	readByTick int64
	connects   int64
	sends      []string
	commands   *wire.Budget
	inbox      chan answer
	keyframes  uint64 // of those that the journal has asked for, made
	scratch    []byte
	live       atomic.Pointer[wire.Conn] // the connection to interrupt
	fetches    atomic.Int64              // under way

	lost        int64 // frames dropped since the last loss record
	lostFirstTs int64
	lostLastTs  int64
	reconnect   string // why, if the machine asked for it

	counters Counters
	status   atomic.Pointer[feed.Status]
}

// Counters of a session, for metrics. Any goroutine may read them.
type Counters struct {
	Connects, ConnectFailures, Disconnects, Commands, LostInputs atomic.Uint64
	FramesBytes, Pings                                           atomic.Uint64
}

type answer struct {
	inst    uint16
	request uint32
	status  uint16
	body    []byte
}

// New makes a session. pos is the position of the feed's last input in the
// journal, 0 for none.
func New(opt Options, l *lane.Lane, cfg feed.Config, pos uint64) *Session {
	s := &Session{
		opt: opt, cfg: cfg, lane: l, log: opt.Log, clock: opt.Clock, pos: pos,
		inbox:    make(chan answer, len(cfg.Instruments)+1),
		commands: wire.NewBudget(opt.Venue.Rules().CommandsPerSecond, time.Second),
	}
	s.machine = feed.New(l, &l.Frames, l.Rows.Feed())
	return s
}

// Counters of the session.
func (s *Session) Counters() *Counters { return &s.counters }

// Status is the feed's state as of its last tick, nil before the first.
func (s *Session) Status() *feed.Status { return s.status.Load() }

// Run records until ctx ends, then writes the stop record and closes the lane.
// It returns an error only if the derivation itself is broken.
func (s *Session) Run(ctx context.Context) error {
	defer s.lane.Close()
	defer context.AfterFunc(ctx, s.interrupt)()
	if err := s.input(event.InputRun, s.clock.NowNs(), 0, s.opt.Config); err != nil {
		return err
	}
	s.nextTick = s.clock.NowNs() + tickNs
	backoff := wire.NewBackoff(backoffMin, backoffMax, s.opt.Rand)
	for ctx.Err() == nil {
		conn, err := s.dial(ctx)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			s.counters.ConnectFailures.Add(1)
			wait := backoff.Next()
			var refused *wire.StatusError
			if errors.As(err, &refused) && refused.RetryAfter > 0 {
				wait = max(wait, refused.RetryAfter)
				s.opt.Budgets.Connects.Block(s.clock.NowNs() + int64(refused.RetryAfter))
			}
			s.log.Warn("cannot connect", "err", err, "retry_in", wait.Round(time.Millisecond))
			if err := s.idle(ctx, wait); err != nil {
				return err
			}
			continue
		}
		upSince := s.clock.NowNs()
		if err := s.serve(ctx, conn); err != nil {
			return err
		}
		if s.clock.NowNs()-upSince > healthyAfterNs {
			backoff.Reset()
		}
		if ctx.Err() == nil {
			if err := s.idle(ctx, backoff.Next()); err != nil {
				return err
			}
		}
	}
	return s.input(event.InputStop, s.clock.NowNs(), 0, nil)
}

// dial connects inside the venue's budget; ticks go on meanwhile.
func (s *Session) dial(ctx context.Context) (*wire.Conn, error) {
	for {
		ok, waitNs := s.opt.Budgets.Connects.TryTake(s.clock.NowNs(), 1)
		if ok {
			break
		}
		if err := s.idle(ctx, time.Duration(waitNs)); err != nil || ctx.Err() != nil {
			return nil, errors.Join(err, ctx.Err())
		}
	}
	type result struct {
		conn *wire.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		url := s.opt.WSURL + s.opt.Venue.StreamPath(s.cfg.Instruments, s.cfg.Quotes)
		conn, err := wire.Dial(ctx, url, wire.Options{Clock: s.clock})
		done <- result{conn, err}
	}()
	for {
		select {
		case r := <-done:
			return r.conn, r.err
		case <-time.After(s.untilTick()):
			if err := s.tick(); err != nil {
				return nil, err
			}
		}
	}
}

// idle waits without a connection; ticks and late answers go on.
func (s *Session) idle(ctx context.Context, wait time.Duration) error {
	end := time.NewTimer(wait)
	defer end.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-end.C:
			return nil
		case a := <-s.inbox:
			if err := s.answer(a); err != nil {
				return err
			}
		case <-time.After(s.untilTick()):
			if err := s.tick(); err != nil {
				return err
			}
		}
	}
}

func (s *Session) untilTick() time.Duration {
	return time.Duration(max(0, s.nextTick-s.clock.NowNs()))
}

func (s *Session) tick() error {
	now := s.clock.NowNs()
	if now < s.nextTick {
		return nil
	}
	s.nextTick = max(s.nextTick+tickNs, now+tickNs/2)
	err := s.input(event.InputTick, now, 0, nil)
	// A keyframe stands at a frame boundary, and is offered like any other input.
	if asked := s.lane.KeyframesAsked(); err == nil && asked != s.keyframes {
		s.keyframes = asked
		s.scratch = s.machine.AppendKeyframe(s.scratch[:0])
		err = s.input(event.InputKeyframe, now, 0, s.scratch)
	}
	st := s.machine.Status()
	s.status.Store(&st)
	return err
}

// serve takes frames from one connection until it ends.
func (s *Session) serve(ctx context.Context, conn *wire.Conn) error {
	s.conn, s.reconnect, s.sends = conn, "", s.sends[:0]
	s.live.Store(conn)
	s.connects++
	s.counters.Connects.Add(1)
	defer func() { s.conn = nil; s.live.Store(nil) }()
	s.log.Info("connected", "instruments", len(s.cfg.Instruments))
	if err := s.input(event.InputConnect, s.clock.NowNs(), s.connects, nil); err != nil {
		return err
	}
	for ctx.Err() == nil && s.reconnect == "" {
		s.send()
		payload, stamp, outcome := conn.Read(s.deadline())
		var err error
		switch outcome {
		case wire.Message:
			err = s.input(event.InputFrame, stamp, 0, payload)
			// Published: the rows are on their way.
			s.lane.ReadPublished.Record(s.clock.NowNs() - stamp)
			if ts := s.machine.EventTs(); ts != event.Null {
				s.lane.VenueRead.Record(stamp - ts)
			}
		case wire.Closed:
			s.reconnect = conn.Err().Error()
		}
		if err == nil && outcome != wire.Message {
			err = s.drainInbox()
		}
		now := s.clock.NowNs()
		if err == nil && now >= s.nextTick {
			s.counters.FramesBytes.Store(conn.Counters.Bytes)
			s.counters.Pings.Store(conn.Counters.Pings)
			if now-conn.Counters.LastReadNs > deadAfterNs && conn.Counters.LastReadNs > 0 {
				s.reconnect = "nothing read for 65 s, not even a ping"
			}
			err = s.tick()
			if err == nil {
				err = s.drainInbox()
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
	s.sends = s.sends[:0]
	if ctx.Err() != nil {
		return nil // the stop record ends the run; what is proven stays proven to its last message
	}
	return s.input(event.InputClose, s.clock.NowNs(), 0, []byte(reason))
}

// deadline of the next read: the next tick, on the runtime's clock. The same value
// is returned until the tick, so that the socket need not be armed for each read.
func (s *Session) deadline() time.Time {
	if len(s.sends) > 0 {
		return time.Now().Add(min(s.untilTick(), 250*time.Millisecond))
	}
	if s.readByTick != s.nextTick {
		s.readByTick, s.readBy = s.nextTick, time.Now().Add(s.untilTick())
	}
	return s.readBy
}

func (s *Session) interrupt() {
	if conn := s.live.Load(); conn != nil {
		conn.Interrupt()
	}
}

func (s *Session) drainInbox() error {
	for {
		select {
		case a := <-s.inbox:
			if err := s.answer(a); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

func (s *Session) answer(a answer) error {
	return s.input(event.InputRest, s.clock.NowNs(), event.RestAux(a.request, a.inst, a.status), a.body)
}

// input gives one input its place: journal first, then the machine, then what the
// machine wants done. data is borrowed.
func (s *Session) input(kind event.InputKind, ts, aux int64, data []byte) error {
	for s.lost > 0 && !s.offerLoss() {
		if kind == event.InputFrame {
			s.lose(ts)
			return nil
		}
		time.Sleep(journalPoll)
	}
	return s.step(kind, ts, aux, data)
}

func (s *Session) step(kind event.InputKind, ts, aux int64, data []byte) error {
	in := event.Input{InputHead: event.InputHead{Kind: kind, Feed: s.lane.Feed, Pos: s.pos + 1, Ts: ts, Aux: aux}, Data: data}
	for waited := time.Duration(0); !s.journal(&in); waited += journalPoll {
		switch {
		case kind == event.InputFrame && waited >= journalPatience:
			s.lose(ts)
			return nil
		case kind == event.InputTick && waited >= journalPatience:
			return nil // the next one does as well
		}
		time.Sleep(journalPoll)
	}
	s.pos++
	s.lane.Begin(s.pos)
	err := s.machine.Step(&in)
	s.lane.End()
	if err != nil || len(s.machine.Actions()) == 0 {
		return err
	}
	return s.do(s.machine.Actions())
}

// journal offers a record to the journal's ring.
func (s *Session) journal(in *event.Input) bool {
	size := event.InputSize(len(in.Data))
	b, outcome := s.lane.Inputs.Claim(size)
	switch outcome {
	case ring.OK:
		event.PutInput(b, in.InputHead, in.Data)
		s.lane.Inputs.Commit()
		return true
	case ring.TooLarge: // a REST snapshot
		b = event.AppendInput(make([]byte, 0, size), in.InputHead, in.Data)
		return s.lane.Inputs.OfferOwned(b) == ring.OK
	}
	return false
}

// lose drops a frame that found no room before the journal.
func (s *Session) lose(ts int64) {
	if s.lost == 0 {
		s.lostFirstTs = ts
	}
	s.lost++
	s.lostLastTs = ts
	s.counters.LostInputs.Add(1)
}

// offerLoss puts the loss record in the place of the frames that are missing.
func (s *Session) offerLoss() bool {
	var first [8]byte
	binary.LittleEndian.PutUint64(first[:], uint64(s.lostFirstTs))
	in := event.Input{InputHead: event.InputHead{Kind: event.InputLoss, Feed: s.lane.Feed, Pos: s.pos + 1, Ts: s.lostLastTs, Aux: s.lost}, Data: first[:]}
	if !s.journal(&in) {
		return false
	}
	s.pos++
	s.lost = 0
	s.lane.Begin(s.pos)
	err := s.machine.Step(&in)
	s.lane.End()
	if err == nil {
		err = s.do(s.machine.Actions())
	}
	if err != nil {
		s.log.Error("cannot book a loss", "err", err)
	}
	return true
}
