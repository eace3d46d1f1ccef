package simvenue

import (
	"strconv"
	"strings"
	"time"

	"github.com/gobwas/ws"
)

// Frame is one thing for a connection to do on its way out, in order.
type Frame struct {
	Do      Do
	Op      ws.OpCode
	Payload []byte        // shared with other connections: not to be written to
	For     time.Duration // of Hold
	Data    bool          // of a topic, and no answer, heartbeat or end
}

// Do says how a frame goes out.
type Do uint8

const (
	Send     Do = iota // as it is
	Hold               // write nothing for a while
	Cut                // end the connection without a close frame
	Bye                // write the close frame, then close the way out
	HalfOpen           // never write again, but keep the connection
	Trickle            // a byte at a time, and nothing behind it
	Oversize           // under a header that promises 1 GB, and nothing behind it
	Fragment           // in three fragments with a ping in between
	Raw                // the payload is frames, headers and all
)

// Session is one connection as the venue sees it. Its methods, like those of
// its Venue, must be serialised by the caller.
type Session struct {
	v      *Venue
	sink   func(Frame)
	serial int
	bornNs int64
	gone   bool // nothing more is sent
	over   bool // the transport has ended

	subs    map[string]*topic // nil topic: accepted and silent for ever
	names   []string          // the same, in the order of subscription
	silent  map[*topic]bool   // by the fault silent-subscribe
	waiting map[*topic]bool   // for a snapshot, until the cut's second has passed
	held    map[*topic]Frame  // by the fault reorder

	recent  []int64 // wall ns of client messages within the last second
	lastNs  int64   // wall ns of the last client message
	sentNs  int64   // wall ns of the last frame
	pings   []sentPing
	pingNs  int64 // wall ns when the next WebSocket ping is due
	pingID  int64
	closeNs int64 // after the fault notice: when the connection ends

	batch []byte // of a load: frames that go out together

	// What single venues keep of a connection.
	id       string   // Bybit, OKX: conn_id
	combined bool     // Binance: frames in envelopes
	seq      int64    // Coinbase: number of the next frame
	beatNs   int64    // Coinbase, Kraken: wall ns of the next heartbeat
	beats    int64    // Coinbase: heartbeats so far
	later    [][]byte // Coinbase: acknowledgements that come a little later
	commands []int64  // OKX: wall ns of subscribe and unsubscribe commands within the hour
}

type sentPing struct {
	payload string
	atNs    int64
}

// Open makes a connection. target is the path and query that the client asked
// for, without the server's prefix. sink takes what goes out, in order; it must
// not call back. A refusal is an HTTP answer, and there is no session.
func (v *Venue) Open(nowNs int64, target Request, sink func(Frame)) (*Session, *Answer) {
	v.wallNs = nowNs
	f := v.facts
	keep := v.connects[:0]
	for _, t := range v.connects {
		if nowNs-t < int64(f.window) {
			keep = append(keep, t)
		}
	}
	v.connects = append(keep, nowNs)
	if len(v.connects) > v.opt.ConnectLimit {
		return nil, &Answer{Status: 429, Body: []byte("too many connection attempts")}
	}
	v.serial++
	s := &Session{
		v: v, sink: sink, serial: v.serial, bornNs: nowNs, lastNs: nowNs, sentNs: nowNs,
		subs: map[string]*topic{}, silent: map[*topic]bool{}, waiting: map[*topic]bool{}, held: map[*topic]Frame{},
		pingNs: nowNs + int64(v.opt.PingEvery),
		id:     "c" + strconv.Itoa(v.serial) + "-" + v.name,
	}
	if !v.isStream(target.Path) {
		return nil, &Answer{Status: 404, Body: []byte("no such endpoint")}
	}
	if p, ok := v.proto.(interface {
		target(s *Session, r Request) *Answer
	}); ok {
		if a := p.target(s, target); a != nil {
			return nil, a
		}
	}
	v.sessions = append(v.sessions, s)
	v.proto.open(s)
	return s, nil
}

// isStream tells whether a path is a WebSocket endpoint.
func (v *Venue) isStream(path string) bool {
	if p, ok := v.proto.(interface{ isStream(path string) bool }); ok {
		return p.isStream(path)
	}
	return strings.TrimSuffix(path, "/") == v.WSPath()
}

// Text obeys a text message of the client.
func (s *Session) Text(nowNs int64, msg []byte) {
	s.v.wallNs = nowNs
	if s.gone {
		return
	}
	if !s.allow() {
		s.bye(ws.StatusPolicyViolation, "Too many requests")
		return
	}
	s.v.proto.text(s, msg)
}

// Ping answers a WebSocket ping of the client.
func (s *Session) Ping(nowNs int64, payload []byte) {
	s.v.wallNs = nowNs
	if s.gone {
		return
	}
	if !s.allow() {
		s.bye(ws.StatusPolicyViolation, "Too many requests")
		return
	}
	s.send(Frame{Op: ws.OpPong, Payload: append([]byte(nil), payload...)})
}

// Pong takes an answer. One that copies no unanswered ping keeps nothing alive.
func (s *Session) Pong(nowNs int64, payload []byte) {
	s.v.wallNs = nowNs
	if !s.gone && !s.allow() {
		s.bye(ws.StatusPolicyViolation, "Too many requests")
		return
	}
	for i, p := range s.pings {
		if p.payload == string(payload) {
			s.pings = s.pings[i+1:]
			return
		}
	}
}

// Closing answers the close frame of the client, or a message that breaks the
// protocol of WebSocket.
func (s *Session) Closing(nowNs int64, code ws.StatusCode, reason string) {
	s.v.wallNs = nowNs
	s.bye(code, reason)
}

// Tick does what the passing of time asks for: heartbeats, pings, ends of
// connections. It wants to be called at least every 100 ms.
func (s *Session) Tick(nowNs int64) {
	v := s.v
	v.wallNs = nowNs
	if s.gone {
		return
	}
	if s.closeNs > 0 && nowNs >= s.closeNs {
		s.bye(ws.StatusGoingAway, "after notice")
		return
	}
	if v.facts.pings {
		if nowNs-s.bornNs >= int64(v.opt.ConnLife) {
			s.bye(ws.StatusGoingAway, "24 hours")
			return
		}
		if len(s.pings) > 0 && nowNs-s.pings[0].atNs >= int64(v.opt.PongWithin) {
			s.bye(ws.StatusPolicyViolation, "Pong timeout")
			return
		}
		if nowNs >= s.pingNs {
			s.pingNs = nowNs + int64(v.opt.PingEvery)
			s.pingID = max(s.pingID+1, nowNs/1e6)
			payload := strconv.FormatInt(s.pingID, 10)
			s.pings = append(s.pings, sentPing{payload, nowNs})
			s.send(Frame{Op: ws.OpPing, Payload: []byte(payload)})
		}
	}
	v.proto.tick(s)
}

// End says that the transport is no more.
func (s *Session) End(nowNs int64) {
	s.v.wallNs = nowNs
	if s.over {
		return
	}
	s.over = true
	s.leave()
	for i, x := range s.v.sessions {
		if x == s {
			s.v.sessions = append(s.v.sessions[:i:i], s.v.sessions[i+1:]...)
			break
		}
	}
}

// Gone tells whether the venue has said its last word on the connection.
func (s *Session) Gone() bool { return s.gone }

// Subscribed lists the topics in the order of subscription.
func (s *Session) Subscribed() []string { return append([]string{}, s.names...) }

// allow counts a client message against the limit per second.
func (s *Session) allow() bool {
	now := s.v.wallNs
	s.lastNs = now
	keep := s.recent[:0]
	for _, t := range s.recent {
		if now-t < int64(time.Second) {
			keep = append(keep, t)
		}
	}
	s.recent = append(keep, now)
	return len(s.recent) <= s.v.opt.MessageLimit
}

func (s *Session) send(f Frame) {
	if !s.gone {
		s.sentNs = s.v.wallNs
		s.sink(f)
	}
}

func (s *Session) say(text []byte) { s.send(textFrame(text)) }

// bye sends a close frame behind what is queued.
func (s *Session) bye(code ws.StatusCode, reason string) {
	if s.gone {
		return
	}
	s.send(Frame{Do: Bye, Op: ws.OpClose, Payload: ws.NewCloseFrameBody(code, reason)})
	s.v.closes(reason)
	s.leave()
}

// cut ends the connection without a close frame, behind what is queued.
func (s *Session) cut() {
	if !s.gone {
		s.send(Frame{Do: Cut})
		s.v.closes("disconnect fault")
		s.leave()
	}
}

// strand leaves the connection open, and nothing ever comes again.
func (s *Session) strand(f Frame) {
	s.send(f)
	s.leave()
}

// leave gives up all subscriptions.
func (s *Session) leave() {
	s.gone = true
	for _, n := range append([]string{}, s.names...) {
		s.unsubscribe(n)
	}
}

func (s *Session) has(t *topic) bool { return s.subs[t.name] == t }

// subscribe adds a topic under its name; nil is accepted and silent for ever.
// Where the book begins in the stream, greet sends its beginning.
func (s *Session) subscribe(name string, t *topic) {
	if _, ok := s.subs[name]; ok || s.gone {
		return
	}
	s.subs[name] = t
	s.names = append(s.names, name)
	if t == nil {
		return
	}
	t.subs = append(append([]*Session{}, t.subs...), s)
	t.src.carried++
	t.src.lastSub = s.v.wallNs
}

// greet sends the snapshot with which a topic begins, if it can be given. A
// recording that has not come to its own snapshot will send that one.
func (s *Session) greet(t *topic) {
	switch {
	case t == nil || !t.live || s.silent[t]:
	case t.src.graceNs > 0 && s.late(t.src, t.src.graceNs-1):
		s.waiting[t] = true
	default:
		p := s.v.proto.snapshot(t)
		if p.bare == nil {
			return
		}
		t.lastNs = s.v.wallNs
		p = s.v.dress(t, p)
		s.v.tell(t, p, true, nil)
		f := textFrame(s.v.proto.seal(s, p))
		f.Data = true
		s.send(f)
	}
}

// late tells whether the second after a cut hides an event from the session.
func (s *Session) late(src *source, atNs int64) bool {
	return atNs < src.graceNs && s.serial > src.graceSerial
}

func (s *Session) unsubscribe(name string) {
	t, ok := s.subs[name]
	if !ok {
		return
	}
	delete(s.subs, name)
	for i, n := range s.names {
		if n == name {
			s.names = append(s.names[:i:i], s.names[i+1:]...)
			break
		}
	}
	if t == nil {
		return
	}
	delete(s.silent, t)
	delete(s.waiting, t)
	delete(s.held, t)
	var rest []*Session
	for _, x := range t.subs {
		if x != s {
			rest = append(rest, x)
		}
	}
	t.subs = rest
	t.src.carried--
}
