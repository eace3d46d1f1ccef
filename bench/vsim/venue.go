package vsim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/valyala/fastjson"

	"deeptape/bench/world"
	"deeptape/venues/session"
	"deeptape/venues/wire"
)

// venue is a simulated Binance: its market goes on whoever listens, and history
// keeps what is true. Faults strike on the way from it to the agent, at rates of so
// many of a thousand.
type venue struct {
	m       *machine
	w       *world.World
	next    world.Event
	history *history
	conns   []*conn
	faults  venueFaults
	online  bool // it accepts connections
	serial  int

	banned  int64 // until then every request is refused
	cached  map[string]string
	empties map[string]int // empty snapshots in a row: the agent believes the fourth
}

// venueFaults, each in thousandths of the events that it could strike.
type venueFaults struct {
	drop, double, cut, garble    int // frames
	lag                          int // frames that come up to 3 s late, and those behind them with them
	disconnect, halfOpen         int // connections, a frame
	refuse                       int // connects
	stale, cacheFor, empty, slow int // snapshots
	limit, ban, broken           int // requests: 429, 418, no answer
	silent                       int // subscribe commands that are never answered nor obeyed
	shutdown                     int // notices, a frame
}

const latencyMin, latencyMax = 2 * time.Millisecond, 40 * time.Millisecond

func newVenue(m *machine, seed uint64, symbols []world.Symbol) (*venue, error) {
	w, err := world.New(seed, world.Spec{Symbols: symbols, StartNs: m.nowNs})
	if err != nil {
		return nil, err
	}
	v := &venue{m: m, w: w, history: newHistory(w), online: true, cached: map[string]string{}, empties: map[string]int{}}
	v.next = w.Next()
	v.schedule()
	return v, nil
}

func (v *venue) schedule() {
	v.m.at(max(v.next.AtNs, v.m.nowNs), func() {
		v.send(&v.next)
		v.next = v.w.Next()
		v.schedule()
	})
}

// send makes the frame of an event, notes it as true, and gives it to the
// connections that carry it.
func (v *venue) send(e *world.Event) {
	symbol := v.w.Symbols()[e.Symbol].Name
	text, stream := v.history.event(e, symbol)
	for _, c := range slices.Clone(v.conns) {
		if !c.subs[stream] {
			continue
		}
		f := &v.faults
		switch {
		case v.m.chance(f.disconnect):
			c.end(&wire.CloseError{Code: 1006, Reason: "simulated cut"}, true)
			continue
		case v.m.chance(f.halfOpen):
			v.m.say("venue", "connection %d is half open from now on", c.serial)
			c.halfOpen = true
		case v.m.chance(f.shutdown):
			c.put(`{"stream":"`+stream+`","data":{"e":"serverShutdown","E":`+strconv.FormatInt(e.AtNs/1e6, 10)+`}}`, 0)
		}
		if v.m.chance(f.drop) {
			v.m.say("venue", "connection %d: dropped %.90s", c.serial, text)
			continue
		}
		lag := time.Duration(0)
		if v.m.chance(f.lag) {
			lag = v.m.between(0, 3*time.Second)
		}
		switch {
		case v.m.chance(f.cut):
			v.m.say("venue", "connection %d: cut short %.90s", c.serial, text)
			c.put(text[:v.m.rng.IntN(len(text))], lag)
		case v.m.chance(f.garble):
			at := v.m.rng.IntN(len(text))
			v.m.say("venue", "connection %d: broken at byte %d: %.90s", c.serial, at, text)
			c.put(text[:at]+"\x00"+text[at+1:], lag)
		default:
			c.put(text, lag)
		}
		if v.m.chance(f.double) {
			c.put(text, lag)
		}
	}
}

// conn is one connection, as session.Conn at the agent's end.
type conn struct {
	v        *venue
	p        *process
	serial   int
	subs     map[string]bool
	queue    []frame // on their way to the agent
	lastAtNs int64
	halfOpen bool // nothing comes any more, and nobody says so
	ended    bool // no frame is put any more
	endNs    int64
	err      error // what Err says once the end has come
	reader   *coroutine
	rung     bool
	readNs   int64
	buf      []byte
}

type frame struct {
	atNs int64
	text string
}

// put sends a text after the connection's latency and what is lag more; frames of one
// connection stay in order.
func (c *conn) put(text string, lag time.Duration) {
	if c.ended || c.halfOpen {
		return
	}
	c.lastAtNs = max(c.lastAtNs, c.v.m.nowNs+int64(lag)+int64(c.v.m.between(latencyMin, latencyMax)))
	c.queue = append(c.queue, frame{c.lastAtNs, text})
	if c.reader != nil {
		c.reader.woken = true // it may have to wait for less
	}
}

// end ends the connection from the venue's side; what is on its way is lost or not.
func (c *conn) end(why error, lose bool) {
	if c.ended {
		return
	}
	c.v.m.say("venue", "connection %d ends: %v", c.serial, why)
	c.ended, c.err = true, why
	if c.endNs = c.lastAtNs; lose {
		c.queue, c.endNs = nil, c.v.m.nowNs
	}
	c.leave()
}

func (c *conn) leave() {
	c.v.conns = slices.DeleteFunc(c.v.conns, func(o *conn) bool { return o == c })
	if c.reader != nil {
		c.reader.woken = true
	}
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
			c.buf = append(c.buf[:0], c.queue[0].text...)
			c.queue = c.queue[1:]
			c.readNs = c.p.NowNs()
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

func (c *conn) Interrupt() {
	c.rung = true
	if c.reader != nil {
		c.reader.woken = true
	}
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
	if c.halfOpen {
		return nil
	}
	text := string(b)
	c.v.m.after(c.v.m.between(latencyMin, latencyMax), func() {
		if !c.ended {
			c.v.command(c, text)
		}
	})
	return nil
}

// command obeys SUBSCRIBE and UNSUBSCRIBE.
func (v *venue) command(c *conn, text string) {
	r, err := fastjson.Parse(text)
	if err != nil {
		c.end(&wire.CloseError{Code: 1008, Reason: "not JSON"}, false)
		return
	}
	if v.m.chance(v.faults.silent) {
		v.m.say("venue", "connection %d: unheard %.90s", c.serial, text)
		return
	}
	for _, p := range r.GetArray("params") {
		stream := string(p.GetStringBytes())
		if string(r.GetStringBytes("method")) == "SUBSCRIBE" {
			c.subs[stream] = true
		} else {
			delete(c.subs, stream)
		}
	}
	c.put(fmt.Sprintf(`{"result":null,"id":%d}`, r.GetInt64("id")), 0)
}

// network is what a process sees of the venue.
type network struct {
	v *venue
	p *process
}

func (n network) dial(ctx context.Context, url string, _ int) (session.Conn, error) {
	v := n.v
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
	c := &conn{v: v, p: n.p, serial: v.serial, subs: map[string]bool{}}
	_, streams, _ := strings.Cut(url, "?streams=")
	for _, s := range strings.Split(streams, "/") {
		c.subs[s] = true
	}
	v.conns = append(v.conns, c)
	v.m.say("venue", "connection %d is up", c.serial)
	return c, nil
}

var errNoAnswer = errors.New("no answer from the venue")

// Get answers a REST request.
func (n network) Get(ctx context.Context, url string) (wire.Answer, error) {
	v, f := n.v, &n.v.faults
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
	a.Status = 200
	if strings.Contains(url, "exchangeInfo") {
		a.Body = []byte(v.exchangeInfo())
		return a, nil
	}
	_, symbol, _ := strings.Cut(url, "symbol=")
	symbol, _, _ = strings.Cut(symbol, "&")
	body := v.history.snapshot(v.w, symbol)
	switch {
	case v.m.chance(f.stale):
		body = v.history.old(v.m, symbol)
	case v.m.chance(f.cacheFor):
		v.cached[symbol] = body
		v.m.after(v.m.between(0, 10*time.Second), func() { delete(v.cached, symbol) })
	case v.empties[symbol] < 3 && v.m.chance(f.empty):
		v.empties[symbol]++
		id, _, _ := strings.Cut(strings.TrimPrefix(body, `{"lastUpdateId":`), ",")
		body = `{"lastUpdateId":` + id + `,"bids":[],"asks":[]}`
	}
	if old, ok := v.cached[symbol]; ok {
		body = old
	}
	if v.m.chance(f.slow) {
		n.p.Sleep(ctx, v.m.between(0, 8*time.Second))
		if ctx.Err() != nil {
			return wire.Answer{UsedWeight: -1}, ctx.Err()
		}
	}
	if !strings.Contains(body, `"bids":[]`) {
		v.empties[symbol] = 0
	}
	a.Body, a.StampNs = []byte(body), n.p.NowNs()
	return a, nil
}

func (v *venue) exchangeInfo() string {
	var b strings.Builder
	b.WriteString(`{"rateLimits":[{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":6000}],"symbols":[`)
	for i, s := range v.w.Symbols() {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"symbol":"%s","status":"TRADING","baseAsset":"%s","quoteAsset":"USDT","filters":[{"filterType":"PRICE_FILTER","tickSize":"%s"},{"filterType":"LOT_SIZE","stepSize":"%s"}]}`,
			s.Name, strings.TrimSuffix(s.Name, "USDT"), decimal(pow10(8-s.PxDecimals)), decimal(pow10(8-s.QtyDecimals)))
	}
	return b.String() + "]}"
}
