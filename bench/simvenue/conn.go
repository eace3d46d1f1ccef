package simvenue

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

const (
	queueFrames   = 256       // frames that wait for a socket before the feed is blocked
	maxMessageLen = 64 * 1024 // from a client
)

// conn is the transport of one session: a reader that hands the client's words
// to the session, a writer that alone touches the socket's way out, and a ticker.
type conn struct {
	p       *place
	session *Session
	sock    net.Conn
	out     outbox
	once    sync.Once
	done    chan struct{} // the connection has ended
	dead    bool          // p.mu: half-open by a fault; nothing that the client says is heard
}

func newConn(p *place) *conn {
	c := &conn{p: p, done: make(chan struct{})}
	c.out.cond.L = &c.out.mu
	return c
}

// take queues what the session sends. The venue's lock is held.
func (c *conn) take(f Frame) {
	switch f.Do {
	case HalfOpen, Trickle, Oversize:
		c.dead = true
	case Bye:
		// A client that does not read is not told, and is put out a second later.
		time.AfterFunc(time.Second, func() {
			if c.out.full() {
				c.close()
			}
		})
	}
	c.out.put(f)
	c.p.dirty = append(c.p.dirty, c)
}

// serve owns the connection until it ends.
func (c *conn) serve(sock net.Conn, r io.Reader) {
	s := c.p.s
	c.sock = sock
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	select {
	case <-s.done: // Close may have missed it
		c.close()
	default:
	}
	var wg sync.WaitGroup
	wg.Add(2)
	go func() { defer wg.Done(); c.write() }()
	go func() { defer wg.Done(); c.tick() }()
	c.read(r)
	c.close()
	wg.Wait()
}

// close ends the connection at once.
func (c *conn) close() {
	c.once.Do(func() {
		c.p.mu.Lock()
		c.session.End(time.Now().UnixNano())
		c.p.mu.Unlock()
		close(c.done)
		c.sock.Close()
		c.out.close()
		c.p.s.mu.Lock()
		delete(c.p.s.conns, c)
		c.p.s.mu.Unlock()
	})
}

// outbox holds the frames on their way out.
type outbox struct {
	mu     sync.Mutex
	cond   sync.Cond
	frames []Frame
	closed bool
}

func (o *outbox) put(f Frame) {
	o.mu.Lock()
	if !o.closed {
		o.frames = append(o.frames, f)
		o.cond.Broadcast()
	}
	o.mu.Unlock()
}

// next waits for a frame; more says whether others wait behind it.
func (o *outbox) next() (f Frame, more, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.frames) == 0 && !o.closed {
		o.cond.Wait()
	}
	if o.closed {
		return Frame{}, false, false
	}
	f = o.frames[0]
	o.frames[0] = Frame{}
	o.frames = o.frames[1:]
	o.cond.Broadcast()
	return f, len(o.frames) > 0, true
}

// room waits until the queue is not full, or the connection has ended.
func (o *outbox) room() {
	o.mu.Lock()
	for len(o.frames) >= queueFrames && !o.closed {
		o.cond.Wait()
	}
	o.mu.Unlock()
}

func (o *outbox) full() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.frames) >= queueFrames
}

func (o *outbox) close() {
	o.mu.Lock()
	o.closed, o.frames = true, nil
	o.cond.Broadcast()
	o.mu.Unlock()
}

func (c *conn) write() {
	w := bufio.NewWriterSize(c.sock, 64<<10)
	for {
		f, more, ok := c.out.next()
		if !ok {
			return
		}
		err := c.writeFrame(w, f)
		if err == nil && (!more || f.Do != Send && f.Do != Raw) {
			err = w.Flush()
		}
		switch {
		case err != nil || f.Do == Cut:
			c.close()
			return
		case f.Do == Bye:
			if t, ok := c.sock.(*net.TCPConn); ok {
				t.CloseWrite()
			}
			c.sock.SetReadDeadline(time.Now().Add(time.Second))
			return
		case f.Do == HalfOpen || f.Do == Trickle || f.Do == Oversize:
			return // the reader waits for the client to leave
		}
	}
}

func (c *conn) writeFrame(w *bufio.Writer, f Frame) error {
	header := ws.Header{Fin: true, OpCode: f.Op, Length: int64(len(f.Payload))}
	switch f.Do {
	case Cut, HalfOpen:
		return nil
	case Hold:
		err := w.Flush()
		c.pause(f.For)
		return err
	case Fragment:
		return writeFragments(w, f)
	case Raw:
		_, err := w.Write(f.Payload)
		keepRaw(f.Payload)
		return err
	case Trickle:
		return c.trickle(w, header, f.Payload)
	case Oversize:
		header.Length = 1 << 30
	}
	if err := ws.WriteHeader(w, header); err != nil {
		return err
	}
	_, err := w.Write(f.Payload)
	return err
}

func (c *conn) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.done:
	}
}

// writeFragments writes a message in three fragments with a ping in between.
func writeFragments(w io.Writer, f Frame) error {
	n := len(f.Payload)
	for i, part := range [][]byte{f.Payload[:n/3], f.Payload[n/3 : n/2], f.Payload[n/2:]} {
		header := ws.Header{Fin: i == 2, OpCode: f.Op, Length: int64(len(part))}
		if i > 0 {
			header.OpCode = ws.OpContinuation
		}
		if err := ws.WriteHeader(w, header); err != nil {
			return err
		}
		if _, err := w.Write(part); err != nil {
			return err
		}
		if i == 0 {
			if err := ws.WriteHeader(w, ws.Header{Fin: true, OpCode: ws.OpPing}); err != nil {
				return err
			}
		}
	}
	return nil
}

// trickle writes a frame a byte at a time.
func (c *conn) trickle(w *bufio.Writer, header ws.Header, payload []byte) error {
	if err := ws.WriteHeader(w, header); err != nil {
		return err
	}
	for i := range payload {
		if err := w.WriteByte(payload[i]); err != nil {
			return err
		}
		if err := w.Flush(); err != nil {
			return err
		}
		c.pause(c.p.s.opt.TrickleEvery)
	}
	return nil
}

// tick tells the session what time it is.
func (c *conn) tick() {
	opt := &c.p.v.opt
	every := min(opt.PingEvery, opt.PongWithin, opt.ConnLife, opt.NoticeLead, 800*time.Millisecond) / 8
	tick := time.NewTicker(max(every, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.done:
			return
		}
		c.hear(func(s *Session, nowNs int64) { s.Tick(nowNs) })
	}
}

// hear gives the session something to react to, unless it is dead.
func (c *conn) hear(do func(s *Session, nowNs int64)) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if !c.dead {
		do(c.session, time.Now().UnixNano())
	}
	c.p.dirty = c.p.dirty[:0] // nobody waits for room here: the client sets the pace
}

var errTooLong = errors.New("message too long")

func (c *conn) read(r io.Reader) {
	rd := &wsutil.Reader{Source: r, State: ws.StateServerSide, CheckUTF8: true, MaxFrameSize: maxMessageLen}
	rd.OnIntermediate = func(h ws.Header, r io.Reader) error {
		return c.controlFrame(h, r)
	}
	for {
		h, err := rd.NextFrame()
		var msg []byte
		if err == nil && h.OpCode.IsControl() {
			if err = c.controlFrame(h, rd); err == nil && !c.gone() {
				continue
			}
		} else if err == nil {
			msg, err = io.ReadAll(io.LimitReader(rd, maxMessageLen+1))
			if err == nil && len(msg) > maxMessageLen {
				err = errTooLong
			}
			if err == nil && h.OpCode == ws.OpBinary {
				c.bye(ws.StatusUnsupportedData, "binary message")
			} else if err == nil {
				c.hear(func(s *Session, nowNs int64) { s.Text(nowNs, msg) })
				c.out.room()
			}
		}
		if err != nil {
			c.refuse(err)
		}
		if err != nil || c.gone() {
			c.drain(r)
			return
		}
	}
}

// gone tells whether the session has ended, or nothing is heard any more.
func (c *conn) gone() bool {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	return c.session.Gone()
}

func (c *conn) bye(code ws.StatusCode, reason string) {
	c.hear(func(s *Session, nowNs int64) { s.Closing(nowNs, code, reason) })
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
	default:
		c.close()
	}
}

// drain reads on until the client has closed, so that a close frame on its way
// is not thrown away by a reset. A connection that a fault left half-open lasts
// as long as the client likes.
func (c *conn) drain(r io.Reader) {
	c.p.mu.Lock()
	dead := c.dead
	c.p.mu.Unlock()
	if !dead {
		t := time.AfterFunc(2*time.Second, func() { c.sock.Close() })
		defer t.Stop()
	}
	io.Copy(io.Discard, r)
}

// controlFrame obeys a ping, pong or close.
func (c *conn) controlFrame(h ws.Header, r io.Reader) error {
	payload, err := io.ReadAll(io.LimitReader(r, ws.MaxControlFramePayloadSize+1))
	if err != nil {
		return err
	}
	switch h.OpCode {
	case ws.OpClose:
		code, _ := ws.ParseCloseFrameData(payload)
		if code == 0 || code == ws.StatusNoStatusRcvd {
			code = ws.StatusNormalClosure
		}
		c.bye(code, "client closed")
	case ws.OpPing:
		c.hear(func(s *Session, nowNs int64) { s.Ping(nowNs, payload) })
	default:
		c.hear(func(s *Session, nowNs int64) { s.Pong(nowNs, payload) })
	}
	return nil
}
