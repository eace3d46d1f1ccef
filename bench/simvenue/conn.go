package simvenue

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

const (
	queueFrames   = 256       // frames that wait for a socket before the feed is blocked
	maxMessageLen = 64 * 1024 // from a client
)

// conn is one WebSocket connection: a reader that obeys the client, a writer
// that alone touches the socket's way out, and a pinger.
type conn struct {
	s     *Server
	sock  net.Conn
	born  time.Time
	queue chan outFrame
	done  chan struct{} // the connection has ended
	wrote chan struct{} // the writer has ended: nothing queued goes out any more
	once  sync.Once
	gone  atomic.Bool // cut or closing: nothing more is queued

	dropped  chan struct{} // closed when, after gone, no stream has the connection any more
	dropOnce sync.Once

	// mu makes a change of subscription and its acknowledgement one step for
	// the feeds: no frame can come before the acknowledgement that permits it,
	// none after the one that forbids it. It may be held while the queue is
	// full; the writer never takes it.
	mu       sync.Mutex
	combined bool
	subs     map[string]bool
	names    []string // the same, in the order of subscription

	pingMu sync.Mutex
	pings  []sentPing // unanswered, oldest first

	recent []time.Time // of client messages within the last second; reader only
}

type sentPing struct {
	payload string
	at      time.Time
}

// outFrame is one thing for the writer to do.
type outFrame struct {
	op      ws.OpCode
	payload []byte
	hold    time.Duration // write nothing for so long
	end     bool          // after the frame, close the way out
	cut     bool          // no frame: end the connection
}

// serve owns the connection until it ends.
func (s *Server) serve(sock net.Conn, r io.Reader, combined bool, names []string) {
	c := &conn{
		s: s, sock: sock, born: time.Now(), combined: combined,
		queue: make(chan outFrame, queueFrames),
		done:  make(chan struct{}),
		wrote: make(chan struct{}),
		subs:  map[string]bool{},

		dropped: make(chan struct{}),
	}
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	select {
	case <-s.done: // Close may have missed it
		c.close("")
	default:
	}
	for _, n := range names {
		c.subscribe(n)
	}
	var wg sync.WaitGroup
	wg.Add(2)
	go func() { defer wg.Done(); c.write() }()
	go func() { defer wg.Done(); c.pinger() }()
	c.read(r)
	c.close("")
	wg.Wait()
}

// close ends the connection at once and gives up its subscriptions. The first
// caller's reason counts; "" is the client's doing or that of Close.
func (c *conn) close(reason string) {
	c.once.Do(func() {
		c.gone.Store(true) // before anyone can see that nothing is queued any more
		close(c.done)
		c.sock.Close()
		c.dropSubs()
		c.s.mu.Lock()
		delete(c.s.conns, c)
		if reason != "" {
			c.s.closes[reason]++
		}
		c.s.mu.Unlock()
	})
}

// put queues a frame, waiting for room. False: the connection has ended.
func (c *conn) put(f outFrame) bool {
	select {
	case c.queue <- f:
		return true
	case <-c.wrote:
		return false
	case <-c.done:
		return false
	}
}

// data queues a frame of a feed if the connection is subscribed to it.
func (c *conn) data(ev *event) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone.Load() || !c.subs[ev.stream.name] {
		return false
	}
	payload := ev.bare
	if c.combined {
		payload = ev.wrapped
	}
	return c.put(outFrame{op: ws.OpText, payload: payload})
}

// hold makes the writer pause behind what is queued.
func (c *conn) hold(d time.Duration) { c.put(outFrame{hold: d}) }

// cut ends the connection without a close frame, behind what is queued.
func (c *conn) cut() {
	c.gone.Store(true)
	c.put(outFrame{cut: true})
	c.dropSubs()
}

// dropSubs takes a connection that is gone out of every stream.
func (c *conn) dropSubs() {
	c.mu.Lock()
	names := c.names
	c.names, c.subs = nil, map[string]bool{}
	c.mu.Unlock()
	for _, n := range names {
		c.s.unsubscribe(c, n)
	}
	c.dropOnce.Do(func() { close(c.dropped) })
}

// bye sends a close frame behind what is queued and closes the way out. The
// reader goes on until the client has closed too, for a second at most. Where
// an end is already under way, it ends the connection at once.
//
// It must not wait for mu before the frame is queued: a feed may hold mu while
// it waits for a client that never reads.
func (c *conn) bye(code ws.StatusCode, reason string) {
	if !c.gone.CompareAndSwap(false, true) {
		c.close("")
		return
	}
	t := time.NewTimer(time.Second)
	defer t.Stop()
	select {
	case c.queue <- outFrame{op: ws.OpClose, payload: ws.NewCloseFrameBody(code, reason), end: true}:
	case <-c.wrote:
	case <-c.done:
	case <-t.C: // the client does not read: no frame can tell it
		c.close(reason)
		return
	}
	c.s.mu.Lock()
	c.s.closes[reason]++
	c.s.mu.Unlock()
	c.dropSubs()
}

func (c *conn) write() {
	defer close(c.wrote)
	w := bufio.NewWriterSize(c.sock, 64<<10)
	for {
		var f outFrame
		select {
		case f = <-c.queue:
		case <-c.done:
			return
		}
		var err error
		switch {
		case f.hold > 0:
			if err = w.Flush(); err == nil {
				t := time.NewTimer(f.hold)
				select {
				case <-t.C:
				case <-c.done:
				}
				t.Stop()
			}
		case f.cut:
			w.Flush()
			c.close("disconnect fault")
			return
		default:
			if err = ws.WriteHeader(w, ws.Header{Fin: true, OpCode: f.op, Length: int64(len(f.payload))}); err == nil {
				_, err = w.Write(f.payload)
			}
		}
		if err == nil && (len(c.queue) == 0 || f.end) {
			err = w.Flush()
		}
		if err != nil {
			c.close("")
			return
		}
		if f.end {
			if t, ok := c.sock.(*net.TCPConn); ok {
				t.CloseWrite()
			}
			c.sock.SetReadDeadline(time.Now().Add(time.Second))
			return
		}
	}
}

// pinger sends the server's pings and ends connections that do not answer or
// have lived too long.
func (c *conn) pinger() {
	opt := &c.s.opt
	tick := time.NewTicker(max(min(opt.PingEvery, opt.PongWithin, opt.ConnLife)/8, time.Millisecond))
	defer tick.Stop()
	next := c.born.Add(opt.PingEvery)
	last := int64(0)
	for {
		select {
		case <-tick.C:
		case <-c.done:
			return
		}
		now := time.Now()
		if now.Sub(c.born) >= opt.ConnLife {
			c.bye(ws.StatusGoingAway, "24 hours")
			return
		}
		c.pingMu.Lock()
		late := len(c.pings) > 0 && now.Sub(c.pings[0].at) >= opt.PongWithin
		c.pingMu.Unlock()
		if late {
			c.bye(ws.StatusPolicyViolation, "Pong timeout")
			return
		}
		if now.Before(next) {
			continue
		}
		next = now.Add(opt.PingEvery)
		last = max(last+1, now.UnixMilli())
		payload := strconv.FormatInt(last, 10)
		// Noted before it is sent, so that its answer cannot be unknown.
		c.pingMu.Lock()
		c.pings = append(c.pings, sentPing{payload, now})
		c.pingMu.Unlock()
		t := time.NewTimer(opt.PongWithin)
		select {
		case c.queue <- outFrame{op: ws.OpPing, payload: []byte(payload)}:
			c.pingMu.Lock()
			if n := len(c.pings); n > 0 {
				c.pings[n-1].at = time.Now()
			}
			c.pingMu.Unlock()
		case <-c.wrote:
		case <-c.done:
		case <-t.C:
			c.bye(ws.StatusPolicyViolation, "Pong timeout")
		}
		t.Stop()
	}
}

// pong takes an answer. One that copies no unanswered ping keeps nothing alive.
func (c *conn) pong(payload []byte) {
	c.pingMu.Lock()
	defer c.pingMu.Unlock()
	for i, p := range c.pings {
		if p.payload == string(payload) {
			c.pings = c.pings[i+1:]
			return
		}
	}
}

var errTooLong = errors.New("message too long")

func (c *conn) read(r io.Reader) {
	rd := &wsutil.Reader{Source: r, State: ws.StateServerSide, CheckUTF8: true, MaxFrameSize: maxMessageLen}
	rd.OnIntermediate = func(h ws.Header, r io.Reader) error {
		_, err := c.controlFrame(h, r)
		return err
	}
	for {
		h, err := rd.NextFrame()
		var msg []byte
		if err == nil && h.OpCode.IsControl() {
			var stop bool
			if stop, err = c.controlFrame(h, rd); stop {
				c.drain(r)
				return
			}
			if err == nil {
				continue
			}
		} else if err == nil {
			if !c.allow() {
				c.bye(ws.StatusPolicyViolation, "Too many requests")
				c.drain(r)
				return
			}
			msg, err = io.ReadAll(io.LimitReader(rd, maxMessageLen+1))
			if err == nil && len(msg) > maxMessageLen {
				err = errTooLong
			}
		}
		if err != nil {
			c.refuse(err)
			c.drain(r)
			return
		}
		if h.OpCode == ws.OpBinary {
			c.bye(ws.StatusUnsupportedData, "binary message")
			c.drain(r)
			return
		}
		c.request(msg)
	}
}

// refuse names a broken frame in a close frame. Errors of the socket need none.
func (c *conn) refuse(err error) {
	var proto ws.ProtocolError
	switch {
	case errors.As(err, &proto):
		c.bye(ws.StatusProtocolError, "Protocol error")
	case errors.Is(err, wsutil.ErrInvalidUTF8):
		c.bye(ws.StatusInvalidFramePayloadData, "Invalid UTF-8")
	case errors.Is(err, errTooLong) || errors.Is(err, wsutil.ErrFrameTooLarge):
		c.bye(ws.StatusMessageTooBig, "Message too big")
	case errors.Is(err, errTooMany):
		c.bye(ws.StatusPolicyViolation, "Too many requests")
	default:
		c.close("")
	}
}

// drain reads on until the client has closed, so that a close frame on its way
// is not thrown away by a reset.
func (c *conn) drain(r io.Reader) {
	if !c.gone.Load() {
		return
	}
	t := time.AfterFunc(2*time.Second, func() { c.sock.Close() })
	defer t.Stop()
	io.Copy(io.Discard, r)
}

var errTooMany = errors.New("too many client messages")

// controlFrame obeys a ping, pong or close. stop: the connection is closing.
func (c *conn) controlFrame(h ws.Header, r io.Reader) (stop bool, err error) {
	payload, err := io.ReadAll(io.LimitReader(r, ws.MaxControlFramePayloadSize+1))
	if err != nil {
		return false, err
	}
	if h.OpCode == ws.OpClose {
		code, _ := ws.ParseCloseFrameData(payload)
		if code == 0 || code == ws.StatusNoStatusRcvd {
			code = ws.StatusNormalClosure
		}
		c.bye(code, "client closed")
		return true, nil
	}
	if !c.allow() {
		return false, errTooMany
	}
	if h.OpCode == ws.OpPing {
		c.mu.Lock()
		if !c.gone.Load() {
			c.put(outFrame{op: ws.OpPong, payload: bytes.Clone(payload)})
		}
		c.mu.Unlock()
	} else {
		c.pong(payload)
	}
	return false, nil
}

// allow counts a client message against the limit per second.
func (c *conn) allow() bool {
	now := time.Now()
	keep := c.recent[:0]
	for _, t := range c.recent {
		if now.Sub(t) < time.Second {
			keep = append(keep, t)
		}
	}
	c.recent = append(keep, now)
	return len(c.recent) <= maxMsgPerSec
}

// subscribe adds a stream of the URL.
func (c *conn) subscribe(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subscribeLocked(name)
}

func (c *conn) subscribeLocked(name string) {
	if c.gone.Load() || c.subs[name] {
		return
	}
	c.subs[name] = true
	c.names = append(c.names, name)
	c.s.subscribe(c, name)
}

func (c *conn) unsubscribeLocked(name string) {
	if !c.subs[name] {
		return
	}
	delete(c.subs, name)
	for i, n := range c.names {
		if n == name {
			c.names = append(c.names[:i:i], c.names[i+1:]...)
			break
		}
	}
	c.s.unsubscribe(c, name)
}
