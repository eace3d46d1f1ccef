package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"
)

// ReadOutcome says why Read came back.
type ReadOutcome uint8

const (
	Message     ReadOutcome = iota // a whole message
	Deadline                       // the deadline passed; a partly received frame is kept
	Interrupted                    // Interrupt was called; nothing was lost
	Closed                         // no more messages will come; Err says why
)

var outcomeNames = [...]string{"message", "deadline", "interrupted", "closed"}

func (o ReadOutcome) String() string { return outcomeNames[o] }

// Counters of one connection. They belong to the goroutine that calls Read.
type Counters struct {
	Reads    uint64 // reads that brought bytes; without TLS each is one syscall
	Bytes    uint64 // received, frame headers included, TLS excluded
	Frames   uint64 // received, fragments and control frames included
	Messages uint64 // handed out by Read

	Pings       uint64 // received
	PongsSent   uint64 // Pings = PongsSent + PongsMerged + (one that is still due)
	PongsMerged uint64 // pings answered by the pong to a later one, see pongGap
	TextsSent   uint64
}

// CloseError is the close frame of the server. Code 1005: it gave none.
type CloseError struct {
	Code   uint16
	Reason string
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("the server closed the connection: code %d, reason %q", e.Code, e.Reason)
}

// ErrClosed is the Err of a connection that our own side closed.
var ErrClosed = errors.New("closed by us")

// pongGap is the least time between two pongs. The first ping is answered at once; of
// those that come faster than this only the newest is answered (RFC 6455 section 5.5.3
// permits it), as soon as the gap is over: a server that floods us with pings cannot
// make us exceed its own limit of messages (Binance counts pongs: 5 a second).
const pongGap = 250 * time.Millisecond

// Conn is one WebSocket connection, client side. One goroutine owns it and calls all
// of its methods; only Interrupt may be called by others.
//
// Invariant: stop != nil means that the socket is shut and that Read hands out what
// is whole in the buffer, then Closed; done means that it hands out nothing more.
type Conn struct {
	Counters Counters

	nc      net.Conn
	stamper *stampConn // below TLS
	clock   Clock
	f       *frames
	opt     Options
	stampNs int64 // of the last read: the stamp of every message that it completed

	stop error
	done bool

	armed   time.Time // the read deadline that the socket has, if isArmed
	isArmed bool

	progressNs int64
	behind     int // bytes since then

	deadlineNs int64 // of ReadBy
	deadline   time.Time

	// See Interrupt.
	interrupted atomic.Bool

	pong       [ws.MaxControlFramePayloadSize]byte
	pongLen    int
	pongDue    bool  // pong[:pongLen] waits for the gap to end
	pongSentNs int64 // by clock; 0: none yet

	wbuf   bytes.Buffer
	whead  [ws.MaxHeaderSize]byte
	borrow []byte // what the last Read handed out, for mangle
}

// Read returns the next whole text or binary message, with its fragments put
// together, and the stamp of the read that brought its last byte. Messages that
// came with one read share its stamp.
//
// The payload is borrowed: it is valid until the next Read. A zero deadline means
// none. With a deadline in the past, messages that are in the buffer are still handed
// out, but the socket is not read: a caller who always comes late hears nothing new.
// Deadline comes only when no message does: under a flood, who has a timer to keep
// looks at the stamps.
//
// Read answers pings and close frames on the way, so it must be called often enough
// for the server's patience (Binance: 60 s).
func (c *Conn) Read(deadline time.Time) (payload []byte, stampNs int64, outcome ReadOutcome) {
	mangle(c.borrow)
	c.borrow = nil
	if c.done {
		return nil, 0, Closed
	}
	if c.takeInterrupt() {
		return nil, 0, Interrupted
	}
	for {
		kind, p, bad := c.f.next()
		if c.Counters.Frames != c.f.parsed {
			c.Counters.Frames = c.f.parsed
			c.progress(0)
		}
		switch kind {
		case fMessage:
			c.Counters.Messages++
			c.borrow = p
			return p, c.stampNs, Message
		case fPing:
			c.gotPing(p)
		case fPong: // nobody asked for it: we send no pings of this kind
		case fClose:
			c.gotClose(p)
			return nil, 0, Closed
		case fBad:
			c.shut(ws.StatusCode(bad.Code), bad.What, bad)
			c.done = true
			return nil, 0, Closed
		case fMore:
			if c.stop != nil {
				c.done = true
				return nil, 0, Closed
			}
			if out := c.fill(deadline); out != Message {
				return nil, 0, out
			}
		}
	}
}

// ReadBy is Read with a deadline on the connection's own clock, ns. The same deadline
// given again does not arm the socket again.
func (c *Conn) ReadBy(deadlineNs int64) (payload []byte, stampNs int64, outcome ReadOutcome) {
	if deadlineNs != c.deadlineNs {
		c.deadlineNs, c.deadline = deadlineNs, time.Now().Add(time.Duration(deadlineNs-c.clock.NowNs()))
	}
	return c.Read(c.deadline)
}

// Ready says that a Read that is not interrupted returns a message without a look at the
// socket. It may say no where that is so. The owner's.
func (c *Conn) Ready() bool { return !c.done && c.f.ready() }

// ProgressNs is the stamp of the last read that got on, 0 for none: it ended a frame, or
// brought the 4096th byte since the last that did. A server that sends a byte now and
// then is as good as silent. The owner's.
func (c *Conn) ProgressNs() int64 { return c.progressNs }

const progressBytes = 4096

// progress is told of a frame that has ended (n 0), or of bytes that have come.
func (c *Conn) progress(n int) {
	if c.behind += n; n == 0 || c.behind >= progressBytes {
		c.progressNs, c.behind = c.stampNs, 0
	}
}

// Interrupt makes a Read that waits, or else the next one, return Interrupted soon.
// Any goroutine may call it; calls that are not yet seen by Read count as one.
//
// How none is lost. The caller sets the flag, then moves the socket's deadline into
// the past. Read sets its own deadline, then looks at the flag, then reads. Suppose
// that Read's deadline overwrites the caller's: then the caller had moved it before,
// so it had set the flag before that, and Read, which looks after, sees it. Suppose
// that Read looks and sees no flag: then the caller sets it later, moves the deadline
// later still, and the read that follows (or waits already) fails with a timeout.
//
// How none is invented. The caller may be stopped between flag and deadline; Read
// sees the flag, returns Interrupted, is called again, arms, and only now comes the
// late deadline. That read times out with neither flag nor deadline reached: fill
// arms again and goes on.
func (c *Conn) Interrupt() {
	if c.interrupted.CompareAndSwap(false, true) {
		c.nc.SetReadDeadline(longAgo)
	}
}

var longAgo = time.Unix(1, 0)

// takeInterrupt reports and clears the flag. The socket's deadline, which is or will be
// the interrupter's, is put right by fill.
func (c *Conn) takeInterrupt() bool {
	return c.interrupted.Load() && c.interrupted.Swap(false)
}

// fill reads once. Message means that bytes came, or that stop is set.
func (c *Conn) fill(deadline time.Time) ReadOutcome {
	space := c.f.space()
	for empty := 0; ; {
		d := deadline
		if c.pongDue {
			wait := c.pongSentNs + int64(pongGap) - c.clock.NowNs()
			if wait <= 0 {
				c.sendPong()
				continue
			}
			if t := time.Now().Add(time.Duration(wait)); d.IsZero() || t.Before(d) {
				d = t
			}
		}
		if !c.isArmed || c.armed != d {
			c.nc.SetReadDeadline(d) // fails only on a closed socket; the read will say so
			c.armed, c.isArmed = d, true
		}
		if c.takeInterrupt() {
			return Interrupted
		}
		n, err := c.nc.Read(space)
		if n > 0 {
			c.stampNs = c.stamper.lastNs
			c.f.took(n)
			c.Counters.Reads++
			c.Counters.Bytes += uint64(n)
			c.progress(n)
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				c.lost("read from", err)
			}
			return Message
		}
		switch {
		case err == nil:
			if empty++; empty == 100 {
				c.lost("read from", io.ErrNoProgress)
				return Message
			}
		case errors.Is(err, os.ErrDeadlineExceeded):
			if c.takeInterrupt() {
				return Interrupted
			}
			if !deadline.IsZero() && !time.Now().Before(deadline) {
				return Deadline
			}
			c.isArmed = false // an interrupter, seen before or still to be seen; or a pong is due
		default:
			c.lost("read from", err)
			return Message
		}
		if c.stop != nil {
			return Message
		}
	}
}

func (c *Conn) gotPing(p []byte) {
	c.Counters.Pings++
	if c.pongDue {
		c.Counters.PongsMerged++
	}
	c.pongLen = copy(c.pong[:], p)
	c.pongDue = true
	if c.pongSentNs == 0 || c.clock.NowNs()-c.pongSentNs >= int64(pongGap) {
		c.sendPong()
	}
}

func (c *Conn) sendPong() {
	c.pongDue = false
	c.pongSentNs = c.clock.NowNs()
	if c.write(ws.OpPong, c.pong[:c.pongLen]) == nil {
		c.Counters.PongsSent++
	}
}

func (c *Conn) gotClose(body []byte) {
	e := &CloseError{Code: uint16(ws.StatusNoStatusRcvd)}
	if len(body) >= 2 {
		code, reason := ws.ParseCloseFrameData(body)
		e.Code, e.Reason = uint16(code), reason
	}
	c.done = true
	if c.stop != nil {
		return // we closed first
	}
	c.writeWithin(goodbyeTimeout, ws.OpClose, body[:min(2, len(body))])
	c.stop = e
	c.stamper.Close()
}

// lost shuts the connection because its socket failed.
func (c *Conn) lost(verb string, err error) {
	if c.stop != nil {
		return
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // an end without a close frame is never expected
	}
	where := "between frames"
	if c.f.inside() {
		where = "inside a frame"
	}
	c.stop = fmt.Errorf("cannot %s venue %q at byte %d, %s: %w", verb, c.RemoteAddr(), c.f.pos, where, err)
	c.stamper.Close() // not through TLS, which would try to send its own goodbye
}

// shut says goodbye, as well as it can, and closes the socket.
func (c *Conn) shut(code ws.StatusCode, reason string, why error) {
	if c.stop != nil {
		return
	}
	c.writeWithin(goodbyeTimeout, ws.OpClose, ws.NewCloseFrameBody(code, reason))
	c.stop = why // also if the goodbye failed
	c.stamper.Close()
}

// goodbyeTimeout is how long a close frame may take: nobody waits for a server that
// does not read. The close frame is the end of the stream, with TLS too: TLS's own
// end, which would wait once more, is not sent.
const goodbyeTimeout = time.Second

// WriteText sends one text message. b is copied and masked, and it is the caller's
// again on return. A write that does not end within Options.WriteTimeout fails, and
// a failed write ends the connection: the server may have got a part of it.
func (c *Conn) WriteText(b []byte) error {
	if err := c.write(ws.OpText, b); err != nil {
		return err
	}
	c.Counters.TextsSent++
	return nil
}

// Close sends a close frame and closes the socket at once, without waiting for the
// server's: if bytes of the server are under way then, the kernel resets the
// connection and the server may not see our code. What is whole in the buffer can
// still be read. A second Close does nothing.
func (c *Conn) Close(code uint16, reason string) {
	c.shut(ws.StatusCode(code), reason, ErrClosed)
}

// Err says why the connection ended: *CloseError, *ProtocolError, ErrClosed or a
// wrapped error of the socket. It is nil while the connection is up.
func (c *Conn) Err() error { return c.stop }

// RemoteAddr is the address of the server, as host:port.
func (c *Conn) RemoteAddr() string { return c.nc.RemoteAddr().String() }

func (c *Conn) write(op ws.OpCode, p []byte) error {
	return c.writeWithin(c.opt.WriteTimeout, op, p)
}

func (c *Conn) writeWithin(timeout time.Duration, op ws.OpCode, p []byte) error {
	if c.stop != nil {
		return c.stop
	}
	h := ws.Header{Fin: true, OpCode: op, Masked: true, Mask: ws.NewMask(), Length: int64(len(p))}
	c.wbuf.Reset()
	ws.WriteHeaderBuffer(&c.wbuf, h, c.whead[:]) // a bytes.Buffer never fails
	at := c.wbuf.Len()
	c.wbuf.Write(p)
	ws.Cipher(c.wbuf.Bytes()[at:], h.Mask, 0)

	c.nc.SetWriteDeadline(time.Now().Add(timeout))
	if _, err := c.nc.Write(c.wbuf.Bytes()); err != nil {
		c.lost("write to", err)
		return c.stop
	}
	return nil
}
