// Package simvenue is a crypto exchange's market data on loopback: Binance,
// Coinbase Advanced, Kraken, OKX and Bybit (spot and linear), WebSocket and REST
// on one port, exact to the byte where the venue is, and unpleasant on request.
// Its data are recordings of the real wire and seeded markets (bench/world). It
// is written from the protocol sheets alone and shares no code with the agent
// that is tested against it, so that a mistake is not mirrored.
//
// It must never import venues or hotpath, never lose or invent a frame unless a
// fault says so, and never grow because a client is slow: a full queue blocks
// the feed that fills it.
//
// A venue has two halves. Venue and Session, with one file per venue behind
// them, say what goes over the wire; they have no socket, no clock and no
// goroutine, and can be stepped in virtual time. Server runs them on sockets.
//
// # Feeds and their clocks
//
// Each recording is one feed, and so are all seeded markets of a venue together.
// A feed starts when at least one connection is subscribed to one of its topics
// and Quiet (100 ms) has passed since the last subscription to any of them; 2 s
// while a recording of another venue than Binance has a topic that nobody is
// subscribed to, since clients subscribe at the pace that the venue lets. From
// then on its clock is wall time times Speed; it does not wait for clients that
// come back late, and what nobody is subscribed to is lost as in reality. With
// Live, a made market waits for nobody, and its times are those of the wall. With
// Speed 0 there is no clock: frames go as fast as the sockets take them, and the
// feed waits (again with Quiet) whenever no connection carries any of its
// topics. So that a cut loses data at Speed 0 too, and the same data each time,
// nothing of the recorded second after the fault disconnect goes to a connection
// opened since. What was queued for a connection that ends is lost, at any speed.
//
// # Snapshots
//
// Binance: the first REST body of a symbol in a recording is a gate. The feed
// stops there until a client asks for that symbol's depth (at most SnapshotWait,
// 15 s of real time; the clock stands still meanwhile), answers with the recorded
// body byte for byte whatever limit was asked, and goes on when the answer is
// written. A request that comes before the gate waits for it, at most as long,
// then gets 504. Later requests get the true book of the moment, built from the
// recorded body and the diffs sent since: lastUpdateId is the u of the last diff
// sent. A 429 or a stale answer does not open the gate. A symbol recorded
// without any REST body has an empty book before its first diff. For a seeded
// market the answer is its book of that moment, whose lastUpdateId lies inside
// a diff that is still to come, as at the real venue. With Options.Ghosts its diffs
// do not tell what goes outside of the last answers' windows.
//
// The others: a recording's own snapshot frame is sent where it was recorded. A
// subscription that comes after it gets one made of the true book. Recorded
// frames go out as they are, but for Coinbase's sequence_num, which counts what
// this connection gets. Acknowledgements, heartbeats, pongs and connection ids
// are always the simulator's own.
//
// Invariants: one queue and one writer per connection; an acknowledgement comes
// before the first frame that it permits, but at Coinbase, where it comes after;
// no goroutine is left after Close.
package simvenue

import (
	"errors"
	"fmt"
	"net"
	"net/http"
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
	World      *world.World            // of Binance; stepped by the server alone after New
	Worlds     map[string]*world.World // the same by venue
	Load       *world.Schedule         // of Binance, instead of a World; its times are wall times whatever Speed says
	Live       bool                    // made markets go by the clock on the wall, whoever listens; Speed is 1
	For        time.Duration           // feed time after which every feed ends; 0 is never

	Quiet        time.Duration // see the package comment; 100 ms
	SnapshotWait time.Duration // 15 s
	StallFor     time.Duration // of the fault stall, real time; 3 s
	TrickleEvery time.Duration // between two bytes of the fault slow-loris; 100 ms
	PingEvery    time.Duration // 20 s
	PongWithin   time.Duration // 60 s
	ConnLife     time.Duration // 24 h
	NoticeLead   time.Duration // from the fault notice to the end of the connection; 60 s
	WeightLimit  int           // Binance's REST weight per minute; 6000
	BanAfter     int           // answers 429 within a minute before 418; 5
	ConnectLimit int           // connections per the venue's window
	MessageLimit int           // messages of a client per second; the venue's
	Ghosts       bool          // see VenueOptions
}

func (o *Options) setDefaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.Quiet, 100*time.Millisecond)
	def(&o.SnapshotWait, 15*time.Second)
	def(&o.TrickleEvery, 100*time.Millisecond)
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
}

// Server is some simulated venues on one port.
type Server struct {
	opt  Options
	http *http.Server
	ln   net.Listener
	done chan struct{}
	once sync.Once
	wg   sync.WaitGroup

	places []*place // in the order of their names

	mu     sync.Mutex
	closed bool
	conns  map[*conn]struct{}
}

// place is a venue on this server.
type place struct {
	s      *Server
	prefix string // of its paths; Binance has none

	mu    sync.Mutex // guards v and all behind it; never held while a client is waited for
	v     *Venue
	dirty []*conn // that got frames since the lock was taken
	feeds []*feed
}

// New loads the data and opens the port; Start begins to serve.
func New(opt Options) (*Server, error) {
	opt.setDefaults()
	if opt.Live && opt.Speed != 1 {
		return nil, fmt.Errorf("cannot run live at speed %v", opt.Speed)
	}
	if opt.Speed < 0 {
		return nil, fmt.Errorf("cannot run at speed %v: it must not be negative", opt.Speed)
	}
	worlds := map[string]*world.World{}
	for name, w := range opt.Worlds {
		worlds[name] = w
	}
	if opt.World != nil {
		worlds[mainVenue()] = opt.World
	}
	if opt.Load != nil && len(opt.Faults) > 0 {
		return nil, errors.New("cannot serve: faults do not strike a load")
	}
	if len(opt.Recordings) == 0 && len(worlds) == 0 && opt.Load == nil {
		return nil, errors.New("cannot serve: neither a recording nor a market was given")
	}
	s := &Server{opt: opt, done: make(chan struct{}), conns: map[*conn]struct{}{}}
	for _, r := range opt.Recordings {
		if r.Venue == "" {
			r.Venue = mainVenue()
		}
		p, err := s.place(r.Venue)
		if err == nil {
			err = loadRecording(p.v, r.Path)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, name := range sortedKeys(worlds) {
		p, err := s.place(name)
		if err != nil {
			return nil, err
		}
		src, err := newMarket(p.v, worlds[name])
		if err != nil {
			return nil, err
		}
		p.v.sources = append(p.v.sources, src)
	}
	if opt.Load != nil {
		p, err := s.place(loadVenue)
		if err != nil {
			return nil, err
		}
		src, err := newLoad(p.v, opt.Load)
		if err != nil {
			return nil, err
		}
		p.v.sources = append(p.v.sources, src)
	}
	var venues []*Venue
	for _, p := range s.places {
		venues = append(venues, p.v)
		for _, src := range p.v.sources {
			p.feeds = append(p.feeds, newFeed(p, src))
		}
	}
	armed, err := arm(opt.Faults, venues)
	if err != nil {
		return nil, err
	}
	for _, v := range venues {
		v.faults = armed
	}
	ln, err := net.Listen("tcp", opt.Addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %q: %w", opt.Addr, err)
	}
	s.ln = ln
	s.http = &http.Server{Handler: s.routes(), ReadHeaderTimeout: 10 * time.Second}
	return s, nil
}

// place finds or makes the place of a venue.
func (s *Server) place(name string) (*place, error) {
	for _, p := range s.places {
		if p.v.name == name {
			return p, nil
		}
	}
	o := s.opt
	v, err := newVenue(name, VenueOptions{
		StallFor: o.StallFor, PingEvery: o.PingEvery, PongWithin: o.PongWithin, ConnLife: o.ConnLife, NoticeLead: o.NoticeLead,
		WeightLimit: o.WeightLimit, BanAfter: o.BanAfter, ConnectLimit: o.ConnectLimit, MessageLimit: o.MessageLimit, NoClock: o.Speed == 0, Ghosts: o.Ghosts,
	})
	if err != nil {
		return nil, err
	}
	p := &place{s: s, v: v}
	if !v.facts.main {
		p.prefix = "/" + name
	}
	s.places = append(s.places, p)
	return p, nil
}

// Start serves until Close. It may be called once.
func (s *Server) Start() error {
	select {
	case <-s.done:
		return errors.New("cannot start: the server is closed")
	default:
	}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		s.http.Serve(s.ln) // its error is that of Close
	}()
	for _, p := range s.places {
		for _, f := range p.feeds {
			s.wg.Add(1)
			go func() {
				defer s.wg.Done()
				f.run()
			}()
		}
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
		s.mu.Lock()
		var all []*conn
		for c := range s.conns {
			all = append(all, c)
		}
		s.mu.Unlock()
		for _, c := range all {
			c.close()
		}
	})
	s.wg.Wait()
}

// Strike arms one more fault of frames while the server runs. Its venue and symbol are
// named, and its N counts the symbol's updates from now on.
func (s *Server) Strike(f Fault) error {
	for _, p := range s.places {
		if p.v.name != f.Venue {
			continue
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		sym := p.v.symbols[f.Symbol]
		if sym == nil || !hasName(frameFaults, f.Name) {
			return fmt.Errorf("cannot arm fault %q: it does not strike the frames of one symbol", f)
		}
		armed, err := arm([]Fault{f}, []*Venue{p.v})
		if err != nil {
			return err
		}
		armed[0].N += sym.updates
		p.v.faults = append(p.v.faults[:len(p.v.faults):len(p.v.faults)], armed...) // the venues share what they began with
		return nil
	}
	return fmt.Errorf("cannot arm fault %q: %s is not served", f, f.Venue)
}

// Addr is host:port.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// WSURL is what a client of the first venue connects to; of Binance it is the
// base for /stream and /ws.
func (s *Server) WSURL() string { return s.places[0].wsURL() }

// RESTURL is the base of the first venue's REST paths and of its control pages
// /sim/book?symbol= and /sim/status.
func (s *Server) RESTURL() string { return s.places[0].restURL() }

// VenueURLs says where a venue is, as a configuration of the agent does. ok is
// false where the venue is not served.
func (s *Server) VenueURLs(name string) (ws, rest string, ok bool) {
	for _, p := range s.places {
		if p.v.name == name {
			return p.wsURL(), p.restURL(), true
		}
	}
	return "", "", false
}

func (p *place) wsURL() string {
	return "ws://" + p.s.Addr() + p.prefix + p.v.WSPath()
}

func (p *place) restURL() string { return "http://" + p.s.Addr() + p.prefix }

// Venues that are served, in the order of the options.
func (s *Server) Venues() []string {
	var names []string
	for _, p := range s.places {
		names = append(names, p.v.name)
	}
	return names
}

// Symbols of all venues, in the order of the options.
func (s *Server) Symbols() []string {
	var names []string
	for _, p := range s.places {
		names = append(names, p.v.Symbols()...)
	}
	return names
}

// VenueSymbols are the symbols of one venue.
func (s *Server) VenueSymbols(name string) []string {
	for _, p := range s.places {
		if p.v.name == name {
			return p.v.Symbols()
		}
	}
	return nil
}

// Depth is the book depth that the recordings of a venue hold, 0 if there are
// none or clients have no choice.
func (s *Server) Depth(name string) int {
	for _, p := range s.places {
		if p.v.name != name || len(p.v.facts.depths) < 2 {
			continue
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, sym := range p.v.order {
			for _, t := range sym.topics {
				if t.kind == kindBook && sym.src.world == nil {
					return t.depth
				}
			}
		}
	}
	return 0
}
