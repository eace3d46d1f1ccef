package session

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync/atomic"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ring"
	"deeptape/hotpath/task"
	"deeptape/venues/wire"
)

// The owner reads one connection itself, the direct one. A second one has a reader of
// its own, which hands what it reads to the owner through a ring and interrupts the
// owner's wait. It is there all the time with two lines, else for a planned reconnect.
// When the direct connection ends, the owner takes over the second one's socket, and
// the reader is no more.

const (
	sideRingBytes = 1 << 20
	sideTexts     = 64 // commands that wait for the reader to write them
	sideTakes     = 64 // frames of the ring for one read of the direct connection

	// Without a second line any cut is a gap, so only a connection that has not lived
	// even this long makes the next one wait longer.
	shortLifeNs = 1e9
)

// side is a second connection. The socket is the reader's until ended is true.
type side struct {
	line    uint8
	frames  *ring.Ring // 8 bytes stamp, then the message
	texts   task.Queue[[]byte]
	up      atomic.Bool // it is connected
	stopped atomic.Bool // the reader is to leave the socket to the owner
	live    atomic.Pointer[Conn]
	ended   atomic.Bool
	cancel  context.CancelFunc

	// Once ended: the connection, or why there is none; and a frame that found no
	// room in the ring.
	conn     Conn
	err      error
	leftover []byte

	// The owner's.
	connected bool  // its connect is in the journal
	since     int64 // and its stamp
	leaving   string
}

// lineState is what the owner knows of its two lines.
type lineState struct {
	line     uint8  // of the direct connection
	since    int64  // stamp of its connect
	planned  string // why it is to be replaced, if it is
	side     *side
	readers  *task.Group
	nextSide int64 // not before is a second connection dialled again
	backoff  *wire.Backoff
	epoch    int64 // counts the times that a first line came up
}

// wantSide says whether there ought to be a second connection.
func (s *Session) wantSide() bool { return s.opt.Lines == 2 || s.lines.planned != "" }

// plan asks for a new connection in the place of one.
func (s *Session) plan(line uint8, why string) {
	l := &s.lines
	switch {
	case line == l.line && l.planned == "":
		l.planned = why
		s.log.Info("planned reconnect", "reason", why)
	case line != l.line && l.side != nil && l.side.leaving == "":
		l.side.leaving = why
	}
}

// tend keeps the second connection: takes what it brought, notices its end, dials it.
// It says whether the direct connection is to end, because the other has joined.
func (s *Session) tend(ctx context.Context) (over bool, err error) {
	l := &s.lines
	if l.side == nil {
		if s.wantSide() && s.clock.NowNs() >= l.nextSide {
			s.dialSide(ctx)
		}
		return false, nil
	}
	d := l.side
	if d.up.Load() && !d.connected {
		if err := s.connectSide(d); err != nil {
			return false, err
		}
	}
	ended := d.ended.Load() // before the last look at the ring
	if err := s.takeSide(d, ended); err != nil {
		return false, err
	}
	switch {
	case ended:
		return false, s.endSide(d.err.Error())
	case d.leaving != "" && s.machine.Joined(l.line) && l.planned == "":
		return false, s.endSide(d.leaving)
	}
	return l.planned != "" && d.connected && s.machine.Joined(d.line), nil
}

func (s *Session) connectSide(d *side) error {
	d.connected, d.since = true, s.clock.NowNs()
	s.connects++
	s.counters.Connects.Add(1)
	s.vain[1].connected()
	s.log.Info("connected", "line", d.line)
	s.limits[d.line] = newLimits(s.opt.Venue.Rules(), s.opt.Budgets)
	_, err := s.inputOf(d.line, event.InputConnect, d.since, s.connects, nil)
	s.unreserve(d.line)
	return err
}

// takeSide journals and steps what the ring holds: all of it, or enough for now.
func (s *Session) takeSide(d *side, all bool) error {
	for n := 0; all || n < sideTakes; n++ {
		rec := d.frames.Peek()
		if rec == nil {
			break
		}
		if _, err := s.frame(d.line, rec[8:], int64(binary.LittleEndian.Uint64(rec))); err != nil {
			return err
		}
		d.frames.Release()
	}
	if !all && d.frames.Peek() != nil {
		s.interrupt() // the reader may have nothing more to say: what is left must not wait for the tick
	}
	if rec := d.leftover; all && rec != nil {
		d.leftover = nil
		_, err := s.frame(d.line, rec[8:], int64(binary.LittleEndian.Uint64(rec)))
		return err
	}
	return nil
}

// endSide closes the second connection; another is dialled if one is wanted.
func (s *Session) endSide(why string) error {
	d := s.lines.side
	s.lines.side = nil
	s.unreserve(d.line)
	d.cancel()
	d.leave()
	task.WaitFor(s.bell, d.ended.Load)
	if d.connected {
		if err := s.takeSide(d, true); err != nil {
			return err
		}
	}
	if d.conn != nil {
		d.conn.Close(1000, "")
	}
	now := s.clock.NowNs()
	if d.connected && now-d.since > shortLifeNs {
		s.lines.backoff.Reset()
	}
	if d.connected && now-d.since > healthyAfterNs {
		s.failedNs[1] = 0
	} else {
		s.failed(1)
	}
	s.lines.nextSide = now + int64(s.lines.backoff.Next())
	if !d.connected {
		s.counters.ConnectFailures.Add(1)
		s.vain[1].failed(d.err)
		s.log.Warn("cannot connect", "line", d.line, "err", d.err)
		s.lines.nextSide = max(s.lines.nextSide, now+int64(s.refused(d.err)))
		return nil
	}
	s.counters.Disconnects.Add(1)
	s.countEnd(d.err)
	s.log.Warn("disconnected", "line", d.line, "reason", why)
	// Commands that still wait for the venue's budget are not for the next one.
	s.sends = slices.DeleteFunc(s.sends, func(c command) bool { return c.line == d.line })
	_, err := s.inputOf(d.line, event.InputClose, now, 0, []byte(why))
	return err
}

// takeOver makes the second connection the direct one. It is nil if there is none
// that works.
func (s *Session) takeOver() (Conn, error) {
	l := &s.lines
	if l.side == nil {
		return nil, nil
	}
	d := l.side
	d.leave()
	if !d.up.Load() {
		d.cancel() // still dialling
	}
	task.WaitFor(s.bell, d.ended.Load)
	if d.up.Load() && !d.connected {
		if err := s.connectSide(d); err != nil {
			return nil, err
		}
	}
	if err := s.takeSide(d, true); err != nil {
		return nil, err
	}
	if d.conn == nil || d.conn.Err() != nil {
		return nil, s.endSide(d.reason())
	}
	l.side = nil
	s.failedNs[1] = 0
	// The next one is dialled soon; later each time if the venue accepts and drops.
	now := s.clock.NowNs()
	if now-l.since > shortLifeNs {
		l.backoff.Reset()
	}
	l.nextSide = now + int64(l.backoff.Next())
	l.line, l.since, l.planned = d.line, d.since, d.leaving
	// What the reader has not written is in the journal already.
	for text, ok := d.texts.Take(); ok; text, ok = d.texts.Take() {
		if err := d.conn.WriteText(text); err != nil {
			break // Read will say Closed
		}
	}
	d.cancel()
	return d.conn, nil
}

func (d *side) reason() string {
	if d.err != nil {
		return d.err.Error()
	}
	return "stopped"
}

// leave asks the reader to leave the socket.
func (d *side) leave() {
	d.stopped.Store(true)
	if conn := d.live.Load(); conn != nil {
		(*conn).Interrupt()
	}
}

// dialSide starts the reader, inside the venue's budget of connects.
func (s *Session) dialSide(ctx context.Context) {
	l := &s.lines
	if ok, waitNs := s.mayDial(1-l.line, s.dialRank(true)); !ok {
		l.nextSide = s.clock.NowNs() + min(waitNs, reservePollNs)
		return
	}
	d := &side{line: 1 - l.line, frames: ring.New(sideRingBytes, nil)}
	d.frames.SetOwnedCap(2 * s.opt.Venue.Rules().MessageBytesMax)
	ctx, d.cancel = context.WithCancel(ctx)
	l.side = d
	l.readers.Go("second line", func() {
		s.beside("the reader of the second line", func() { s.readSide(ctx, d) })
		d.ended.Store(true)
		s.interrupt()
	})
}

// readSide dials, and reads until it is told to leave or the connection ends.
func (s *Session) readSide(ctx context.Context, d *side) {
	conn, err := s.connect(ctx)
	if err != nil {
		d.err = err
		return
	}
	d.conn = conn
	d.live.Store(&conn)
	d.up.Store(true)
	quiet := s.silence()
	s.interrupt()
	for !d.stopped.Load() {
		payload, stamp, outcome := conn.ReadBy(s.clock.NowNs() + tickNs)
		switch outcome {
		case wire.Closed:
			d.err = conn.Err()
			return
		case wire.Message:
			if !s.offerSide(d, payload, stamp) {
				return
			}
			s.interrupt()
		case wire.Deadline:
			if err := quiet.second(conn.ProgressNs()); err != nil {
				d.err = err
				conn.Close(1000, "")
				return
			}
			fallthrough
		default:
			for !d.stopped.Load() {
				text, ok := d.texts.Take()
				if !ok || conn.WriteText(text) != nil {
					break // Read will say Closed
				}
			}
		}
	}
}

// offerSide puts a message into the ring. Without room it waits, and the kernel holds
// the rest; it is false if the reader is to leave meanwhile.
func (s *Session) offerSide(d *side, payload []byte, stamp int64) bool {
	n := 8 + len(payload)
	var owned []byte
	if n > d.frames.MaxRecord() {
		owned = make([]byte, n)
		binary.LittleEndian.PutUint64(owned, uint64(stamp))
		copy(owned[8:], payload)
	}
	for {
		outcome := ring.OK
		if owned != nil {
			outcome = d.frames.OfferOwned(owned)
		} else {
			var b []byte
			if b, outcome = d.frames.Claim(n); outcome == ring.OK {
				binary.LittleEndian.PutUint64(b, uint64(stamp))
				copy(b[8:], payload)
				d.frames.Commit()
			}
		}
		if outcome == ring.OK {
			return true
		}
		if outcome != ring.BackPressured || d.stopped.Load() {
			d.leftover = append(binary.LittleEndian.AppendUint64(nil, uint64(stamp)), payload...)
			if outcome != ring.BackPressured {
				d.err = errors.New("a message is too large for the second line")
				d.conn.Close(1009, "")
			}
			return false
		}
		s.interrupt()
		s.sched.Sleep(context.Background(), journalPoll)
	}
}
