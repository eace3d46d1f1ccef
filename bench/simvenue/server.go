// Package simvenue is a Binance spot market-data venue on loopback: WebSocket
// and REST on one port, exact to the byte where the venue is, and unpleasant on
// request. Its data are recordings of the real wire and seeded markets
// (bench/world). It is written from the protocol sheet alone and shares no code
// with the agent that is tested against it, so that a mistake is not mirrored.
//
// It must never import venues or hotpath, never lose or invent a frame unless a
// fault says so, and never grow because a client is slow: a full queue blocks
// the feed that fills it.
//
// # Feeds and their clocks
//
// Each recording is one feed, and so are all seeded markets together. A feed
// starts when at least one connection is subscribed to one of its streams and
// Quiet (100 ms) has passed since the last subscription to any of them. From
// then on its clock is wall time times Speed; it does not wait for clients that
// come back late, and what nobody is subscribed to is lost as in reality. With
// Speed 0 there is no clock: frames go as fast as the sockets take them, and the
// feed waits (again with Quiet) whenever no connection carries any of its
// streams. So that a cut loses data at Speed 0 too, and the same data each time,
// nothing of the recorded second after the fault disconnect goes to a connection
// opened since. What was queued for a connection that ends is lost, at any speed.
//
// # Snapshots
//
// The first REST body of a symbol in a recording is a gate. The feed stops
// there until a client asks for that symbol's depth (at most SnapshotWait, 15 s
// of real time; the clock stands still meanwhile), answers with the recorded
// body byte for byte whatever limit was asked, and goes on when the answer is
// written. A request that comes before the gate waits for it, at most as long,
// then gets 504. Later requests get the true book of the moment, built from the
// recorded body and the diffs sent since: lastUpdateId is the u of the last diff
// sent. A 429 or a stale answer does not open the gate. A symbol recorded
// without any REST body has an empty book before its first diff. For a seeded
// market the answer is its book of that moment, whose lastUpdateId lies inside
// a diff that is still to come, as at the real venue.
//
// # Not there
//
// Only streams that the data hold carry frames: anything else is acknowledged
// and silent, as an unknown symbol is. timeUnit=MICROSECOND is refused.
// permessage-deflate is not offered. More than 1024 streams are refused with an
// error; the sheet does not say what the venue does.
//
// Invariants: one queue and one writer per connection; an acknowledgement comes
// before the first frame that it permits; no goroutine is left after Close.
package simvenue

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sort"
	"strings"
	"sync"
	"time"

	"deeptape/bench/world"
)

// Options of a server. The zero value of a duration or limit is the venue's own.
type Options struct {
	Addr       string  // host:port, default 127.0.0.1:0
	Speed      float64 // feed time per wall time; 0: as fast as the sockets take it
	Faults     []Fault
	Recordings []Recording
	World      *world.World  // stepped by the server alone after New
	For        time.Duration // feed time after which every feed ends; 0 is never

	Quiet        time.Duration // see the package comment; 100 ms
	SnapshotWait time.Duration // 15 s
	StallFor     time.Duration // of the fault stall, real time; 3 s
	PingEvery    time.Duration // 20 s
	PongWithin   time.Duration // 60 s
	ConnLife     time.Duration // 24 h
	WeightLimit  int           // REST weight per minute; 6000
	BanAfter     int           // answers 429 within a minute before 418; 5
	ConnectLimit int           // connections per 5 minutes; 300
}

func (o *Options) setDefaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.Quiet, 100*time.Millisecond)
	def(&o.SnapshotWait, 15*time.Second)
	def(&o.StallFor, 3*time.Second)
	def(&o.PingEvery, 20*time.Second)
	def(&o.PongWithin, 60*time.Second)
	def(&o.ConnLife, 24*time.Hour)
	defInt := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	defInt(&o.WeightLimit, 6000)
	defInt(&o.BanAfter, 5)
	defInt(&o.ConnectLimit, 300)
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
}

const (
	maxStreams   = 1024 // per connection
	maxMsgPerSec = 5    // client to server, control frames included
)

// Server is one simulated venue.
type Server struct {
	opt  Options
	http *http.Server
	ln   net.Listener
	done chan struct{}
	once sync.Once
	wg   sync.WaitGroup

	feeds   []*feed
	symbols map[string]*symbol // by venue spelling; fixed after New
	order   []*symbol
	streams map[string]*stream // fixed after New

	limiter weightLimiter

	mu     sync.Mutex // guards all below, and the fields of symbol and stream that say so
	closed bool
	conns  map[*conn]struct{}
	closes map[string]int // connections ended by the server, by reason
	faults []*armedFault
	struck []Strike
}

// stream is one stream name that the data hold.
type stream struct {
	name   string
	sym    *symbol
	feed   *feed
	subs   []*conn // mu; copied on write, so that a copy of the header is a snapshot
	events uint64  // mu
	sent   uint64  // mu
}

// symbol is one instrument of a feed.
type symbol struct {
	name string
	feed *feed
	info instrument

	snapshot []byte // the recorded REST body, nil without one
	firstID  int64  // U of the first diff that the feed will send

	// mu of the server guards the rest.
	book     book
	open     bool      // the gate is behind us
	early    []*event  // diffs sent before the gate
	asks     []*ask    // depth requests waiting for the gate
	diffs    int       // depth events so far: what a frame fault counts
	requests int       // depth requests so far: what a REST fault counts
	held     *event    // by the fault reorder
	cache    *cacheOld // for the fault stale-snapshot
}

// New loads the data and opens the port; Start begins to serve.
func New(opt Options) (*Server, error) {
	opt.setDefaults()
	if opt.Speed < 0 {
		return nil, fmt.Errorf("cannot run at speed %v: it must not be negative", opt.Speed)
	}
	if len(opt.Recordings) == 0 && opt.World == nil {
		return nil, errors.New("cannot serve: neither a recording nor a market was given")
	}
	s := &Server{
		opt:     opt,
		done:    make(chan struct{}),
		symbols: map[string]*symbol{},
		streams: map[string]*stream{},
		conns:   map[*conn]struct{}{},
		closes:  map[string]int{},
		limiter: weightLimiter{limit: opt.WeightLimit, banAfter: opt.BanAfter},
	}
	for _, r := range opt.Recordings {
		f, err := loadRecording(s, r)
		if err != nil {
			return nil, err
		}
		if err := s.addFeed(f); err != nil {
			return nil, err
		}
	}
	if opt.World != nil {
		if err := s.addFeed(newMarket(s, opt.World)); err != nil {
			return nil, err
		}
	}
	for _, f := range opt.Faults {
		if f.Symbol != "" && s.symbols[f.Symbol] == nil {
			var names []string
			for _, sym := range s.order {
				names = append(names, sym.name)
			}
			return nil, fmt.Errorf("cannot arm fault %q: no symbol %q here, the nearest is %q", f, f.Symbol, nearest(f.Symbol, names))
		}
		s.faults = append(s.faults, &armedFault{Fault: f})
	}
	ln, err := net.Listen("tcp", opt.Addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %q: %w", opt.Addr, err)
	}
	s.ln = ln
	s.http = &http.Server{Handler: s.routes(), ReadHeaderTimeout: 10 * time.Second}
	return s, nil
}

func (s *Server) addFeed(f *feed) error {
	for _, sym := range f.symbols {
		if s.symbols[sym.name] != nil {
			return fmt.Errorf("cannot serve %s: symbol %s already comes from %s", f.name, sym.name, s.symbols[sym.name].feed.name)
		}
		s.symbols[sym.name] = sym
		s.order = append(s.order, sym)
	}
	for _, st := range f.streams {
		s.streams[st.name] = st
	}
	s.feeds = append(s.feeds, f)
	return nil
}

// Start serves until Close. It may be called once.
func (s *Server) Start() error {
	select {
	case <-s.done:
		return errors.New("cannot start: the server is closed")
	default:
	}
	s.wg.Add(1 + len(s.feeds))
	go func() {
		defer s.wg.Done()
		s.http.Serve(s.ln) // its error is that of Close
	}()
	for _, f := range s.feeds {
		go func() {
			defer s.wg.Done()
			f.run()
		}()
	}
	return nil
}

// Close cuts every connection and returns when all goroutines have ended.
func (s *Server) Close() {
	s.once.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		close(s.done)
		s.ln.Close()
		s.http.Close()
		for _, c := range s.allConns() {
			c.close("")
		}
	})
	s.wg.Wait()
}

// Addr is host:port.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// WSURL is the base for /stream and /ws.
func (s *Server) WSURL() string { return "ws://" + s.Addr() }

// RESTURL is the base for /api/v3 and for the control pages /sim/book?symbol=
// and /sim/status.
func (s *Server) RESTURL() string { return "http://" + s.Addr() }

// Symbols in the order of the options.
func (s *Server) Symbols() []string {
	var names []string
	for _, sym := range s.order {
		names = append(names, sym.name)
	}
	return names
}

// Status of the server at one instant.
type Status struct {
	Done        bool           `json:"done"` // every feed has come to its end
	Feeds       []FeedStatus   `json:"feeds"`
	Streams     []StreamStatus `json:"streams"`
	Symbols     []SymbolStatus `json:"symbols"`
	Struck      []Strike       `json:"struck"`
	Connections int            `json:"connections"`
	Closes      map[string]int `json:"closes"` // connections ended by the server, by reason
}

type FeedStatus struct {
	Name    string `json:"name"`
	Started bool   `json:"started"`
	Done    bool   `json:"done"`
	AtNs    int64  `json:"at_ns"` // feed time of the last event
	Skipped int    `json:"skipped"`
}

type StreamStatus struct {
	Symbol string `json:"symbol"`
	Stream string `json:"stream"`
	Events uint64 `json:"events"` // that came up in the feed
	Sent   uint64 `json:"sent"`   // frames queued, counted per connection
}

type SymbolStatus struct {
	Symbol       string `json:"symbol"`
	LastUpdateID int64  `json:"lastUpdateId"` // of the true book
	Diffs        int    `json:"diffs"`        // what a frame fault counts
	Requests     int    `json:"requests"`     // what a REST fault counts
}

// Strike is a fault that has struck. First and Last are U and u of the frame,
// or lastUpdateId of the stale answer (0 for 429).
type Strike struct {
	Fault     string `json:"fault"`
	Symbol    string `json:"symbol"`
	First     int64  `json:"first"`
	Last      int64  `json:"last"`
	Receivers int    `json:"receivers"` // connections that were subscribed to the frame
}

// Status may be called at any time, also after Close.
func (s *Server) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{Done: true, Connections: len(s.conns), Closes: map[string]int{}, Struck: append([]Strike{}, s.struck...)}
	for reason, n := range s.closes {
		st.Closes[reason] = n
	}
	for _, f := range s.feeds {
		st.Feeds = append(st.Feeds, FeedStatus{f.name, f.started.Load(), f.ended.Load(), f.atNs.Load(), f.skipped})
		st.Done = st.Done && f.ended.Load()
	}
	for _, x := range s.streams {
		st.Streams = append(st.Streams, StreamStatus{x.sym.name, x.name, x.events, x.sent})
	}
	sort.Slice(st.Streams, func(i, j int) bool { return st.Streams[i].Stream < st.Streams[j].Stream })
	for _, sym := range s.order {
		st.Symbols = append(st.Symbols, SymbolStatus{sym.name, sym.book.lastID, sym.diffs, sym.requests})
	}
	return st
}

func (s *Server) allConns() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	var cs []*conn
	for c := range s.conns {
		cs = append(cs, c)
	}
	return cs
}

// subscribe adds c to the subscribers of the named stream, if the data hold it.
func (s *Server) subscribe(c *conn, name string) {
	st := s.streams[name]
	if st == nil {
		return
	}
	s.mu.Lock()
	st.subs = append(append([]*conn{}, st.subs...), c)
	s.mu.Unlock()
	st.feed.lastSub.Store(time.Now().UnixNano())
	st.feed.carried.Add(1)
}

func (s *Server) unsubscribe(c *conn, name string) {
	st := s.streams[name]
	if st == nil {
		return
	}
	s.mu.Lock()
	var rest []*conn
	for _, x := range st.subs {
		if x != c {
			rest = append(rest, x)
		}
	}
	st.subs = rest
	s.mu.Unlock()
	st.feed.carried.Add(-1)
}

// carriers are the connections with any stream of sym.
func (s *Server) carriers(sym *symbol) []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	var cs []*conn
	seen := map[*conn]bool{}
	for _, st := range sym.feed.streams {
		if st.sym != sym {
			continue
		}
		for _, c := range st.subs {
			if !seen[c] {
				seen[c] = true
				cs = append(cs, c)
			}
		}
	}
	return cs
}

func lower(symbol string) string { return strings.ToLower(symbol) }
