package vsim

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gobwas/ws"

	"deeptape/bench/simvenue"
	"deeptape/venues/session"
	"deeptape/venues/wire"
)

// conn is one connection: a session of the venue at one end, session.Conn at the
// agent's.
type conn struct {
	v        *venue
	p        *process
	serial   int
	maxBytes int // of a message
	session  *simvenue.Session
	queue    []frame // on their way to the agent
	lastAtNs int64
	saidNs   int64 // when the venue hears what was written last
	halfOpen bool  // nothing comes any more, and nobody says so
	ended    bool  // no frame is put any more
	endNs    int64
	err      error // what Err says once the end has come
	reader   *coroutine
	rung     bool
	readNs   int64
	buf      []byte
}

type frame struct {
	atNs    int64
	payload []byte
	ping    bool
}

// put sends a frame after the connection's latency and what is lag more; frames of one
// connection stay in order.
func (c *conn) put(payload []byte, lag time.Duration, ping bool) {
	if c.ended || c.halfOpen {
		return
	}
	c.lastAtNs = max(c.lastAtNs, c.v.m.nowNs+int64(lag)+int64(c.v.m.between(latencyMin, latencyMax)))
	c.queue = append(c.queue, frame{c.lastAtNs, payload, ping})
	c.wake() // it may have to wait for less
}

func (c *conn) wake() {
	if c.reader != nil {
		c.reader.woken = true
	}
}

// take does what the venue's session says, as far as it shows above the frames.
func (c *conn) take(f simvenue.Frame) {
	m := c.v.m
	switch f.Do {
	case simvenue.Hold:
		c.lastAtNs = max(c.lastAtNs, m.nowNs) + int64(f.For)
	case simvenue.Cut:
		c.end(&wire.CloseError{Code: 1006}, false)
	case simvenue.Bye:
		code, reason := ws.ParseCloseFrameData(f.Payload)
		c.end(&wire.CloseError{Code: uint16(code), Reason: reason}, false)
	case simvenue.HalfOpen:
		m.say(c.v.name, "connection %d is half open from now on", c.serial)
		c.halfOpen = true
	case simvenue.Trickle: // the message is whole when its last byte has come
		lag := time.Duration(len(f.Payload)) * 10 * time.Millisecond
		c.put(f.Payload, lag, false)
		c.halfOpen = true
	case simvenue.Oversize: // its header is enough for wire
		c.end(fmt.Errorf("a message of more than %d bytes", c.maxBytes), false)
	default: // fragments are put together below
		switch {
		case f.Op == ws.OpPong:
		case f.Op == ws.OpPing:
			c.put(f.Payload, 0, true)
		case f.Data:
			c.v.weather(c, f.Payload)
		default:
			c.put(f.Payload, 0, false)
		}
	}
}

// end ends the connection from the venue's side; what is on its way is lost or not.
func (c *conn) end(why error, lose bool) {
	if c.ended {
		return
	}
	c.v.m.say(c.v.name, "connection %d ends: %v", c.serial, why)
	c.ended, c.err = true, why
	if c.endNs = max(c.lastAtNs, c.v.m.nowNs); lose {
		c.queue, c.endNs = nil, c.v.m.nowNs
	}
	c.leave()
}

// leave may be in the middle of what the venue does: its session hears of it later.
func (c *conn) leave() {
	c.v.conns = slices.DeleteFunc(c.v.conns, func(o *conn) bool { return o == c })
	c.v.m.after(0, func() { c.session.End(c.v.m.nowNs) })
	c.wake()
}

func (c *conn) ReadBy(deadlineNs int64) (payload []byte, stampNs int64, outcome wire.ReadOutcome) {
	m := c.v.m
	deadlineNs -= c.p.aheadNs
	for {
		next := int64(never)
		switch {
		case c.rung:
			c.rung = false
			return nil, 0, wire.Interrupted
		case len(c.queue) > 0 && c.queue[0].atNs <= m.nowNs:
			f := c.queue[0]
			c.queue = c.queue[1:]
			c.readNs = c.p.NowNs()
			if f.ping {
				c.say(func() { c.session.Pong(m.nowNs, f.payload) })
				continue
			}
			c.buf = append(c.buf[:0], f.payload...)
			return c.buf, c.readNs, wire.Message
		case len(c.queue) > 0:
			next = c.queue[0].atNs
		case c.ended && c.endNs <= m.nowNs:
			return nil, 0, wire.Closed
		case c.ended:
			next = c.endNs
		}
		if m.nowNs >= deadlineNs {
			return nil, 0, wire.Deadline
		}
		c.reader = m.cur
		c.p.park(min(next, deadlineNs), nil)
		c.reader = nil
	}
}

func (c *conn) Ready() bool {
	return len(c.queue) > 0 && c.queue[0].atNs <= c.v.m.nowNs && !c.queue[0].ping
}

func (c *conn) Interrupt() {
	c.rung = true
	c.wake()
}

func (c *conn) Close(uint16, string) {
	if !c.ended {
		c.ended, c.err, c.queue, c.endNs = true, wire.ErrClosed, nil, 0
		c.leave()
	}
}

func (c *conn) Err() error {
	if c.ended && len(c.queue) == 0 && c.endNs <= c.v.m.nowNs {
		return c.err
	}
	return nil
}

func (c *conn) ProgressNs() int64 { return c.readNs }

func (c *conn) WriteText(b []byte) error {
	if err := c.Err(); err != nil {
		return err
	}
	text := slices.Clone(b)
	if c.v.m.chance(c.v.faults.silent) {
		c.v.m.say(c.v.name, "connection %d: unheard %.90s", c.serial, text)
		return nil
	}
	c.say(func() {
		c.v.m.say(c.v.name, "connection %d hears %.120s", c.serial, text)
		c.session.Text(c.v.m.nowNs, text)
	})
	return nil
}

// say brings something to the venue, in order.
func (c *conn) say(what func()) {
	if c.halfOpen {
		return
	}
	c.saidNs = max(c.saidNs, c.v.m.nowNs+int64(c.v.m.between(latencyMin, latencyMax)))
	c.v.m.at(c.saidNs, func() {
		if !c.ended {
			what()
		}
	})
}

// network is what a process sees of the venues.
type network struct {
	r *run
	p *process
}

// venue finds whom a URL means, and what is asked for there.
func (n network) venue(text string) (*venue, simvenue.Request) {
	u, err := url.Parse(text)
	if err == nil {
		for _, v := range n.r.venues {
			if v.name == u.Host {
				return v, simvenue.Request{Path: u.Path, RawQuery: u.RawQuery}
			}
		}
	}
	panic(fmt.Sprintf("nobody lives at %q", text))
}

func (n network) dial(ctx context.Context, url string, maxMessageBytes int) (session.Conn, error) {
	v, target := n.venue(url)
	n.p.Sleep(ctx, v.m.between(5*time.Millisecond, 100*time.Millisecond))
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if !v.online || v.m.chance(v.faults.refuse) {
		if v.m.chance(300) {
			n.p.Sleep(ctx, 10*time.Second) // nobody answers
		}
		return nil, fmt.Errorf("cannot reach the venue: %w", syscall.ECONNREFUSED)
	}
	v.serial++
	c := &conn{v: v, p: n.p, serial: v.serial, maxBytes: maxMessageBytes}
	var no *simvenue.Answer
	if c.session, no = v.core.Open(v.m.nowNs, target, c.take); no != nil {
		return nil, fmt.Errorf("the venue refuses the handshake: %d %s", no.Status, no.Body)
	}
	v.conns = append(v.conns, c)
	v.m.say(v.name, "connection %d is up", c.serial)
	return c, nil
}

var errNoAnswer = errors.New("no answer from the venue")

// Get answers a REST request.
func (n network) Get(ctx context.Context, url string) (wire.Answer, error) {
	v, target := n.venue(url)
	f := &v.faults
	a := wire.Answer{UsedWeight: -1}
	n.p.Sleep(ctx, v.m.between(5*time.Millisecond, 150*time.Millisecond))
	switch {
	case ctx.Err() != nil:
		return a, ctx.Err()
	case !v.online || v.m.chance(f.broken):
		n.p.Sleep(ctx, v.m.between(0, 30*time.Second))
		return a, errNoAnswer
	case v.m.nowNs < v.banned || v.m.chance(f.ban):
		if v.m.nowNs >= v.banned {
			v.banned = v.m.nowNs + int64(v.m.between(time.Second, 20*time.Second))
		}
		a.Status, a.RetryAfter, a.Body = 418, time.Duration(v.banned-v.m.nowNs).Truncate(time.Second)+time.Second, []byte(`{"code":-1003}`)
		return a, nil
	case v.m.chance(f.limit):
		a.Status, a.RetryAfter, a.Body = 429, v.m.between(time.Second, 5*time.Second).Truncate(time.Second), []byte(`{"code":-1003}`)
		return a, nil
	}
	answer := simvenue.Answer{Status: 503}
	if !v.unlisted || strings.HasSuffix(target.Path, "/depth") {
		answer = v.core.Get(v.m.nowNs, target)
	}
	v.m.say(v.name, "answers %d to %s?%s", answer.Status, target.Path, target.RawQuery)
	a.Status, a.Body = answer.Status, answer.Body
	for _, h := range answer.Header {
		switch h[0] {
		case "Retry-After":
			seconds, _ := strconv.Atoi(h[1])
			a.RetryAfter = time.Duration(seconds) * time.Second
		case "x-mbx-used-weight-1m":
			a.UsedWeight, _ = strconv.Atoi(h[1])
		}
	}
	if a.Status == 200 && strings.HasSuffix(target.Path, "/depth") {
		a.Body = v.snapshot(target, a.Body)
	}
	if v.m.chance(f.slow) {
		n.p.Sleep(ctx, v.m.between(0, 8*time.Second))
		if ctx.Err() != nil {
			return wire.Answer{UsedWeight: -1}, ctx.Err()
		}
	}
	a.StampNs = n.p.NowNs()
	return a, nil
}
