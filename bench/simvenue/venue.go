package simvenue

import (
	"fmt"
	"regexp"
	"time"

	"github.com/gobwas/ws"
	"github.com/valyala/fastjson"

	"deeptape/bench/world"
)

// Venue is one simulated market without socket, clock or goroutine: it is told
// what time it is, which connections there are and what their clients say, and
// gives what goes out on each. The server runs it on real sockets; a simulation
// may run it in virtual time. Calls must be serialised by the caller.
//
// Two times are at work: nowNs is the caller's wall clock, which heartbeats,
// limits and ends of connections go by; an event's atNs is the time of the data.
type Venue struct {
	name  string
	facts facts // of proto, asked once
	proto protocol
	opt   VenueOptions

	symbols map[string]*symbol // by venue spelling
	order   []*symbol
	topics  map[string]*topic // by name; grows as clients ask for depths of a made market
	sources []*source

	sessions []*Session // in the order of their opening
	serial   int
	limiter  weightLimiter
	connects []int64 // wall ns of connection attempts within the window

	faults  []*armedFault
	struck  []Strike
	closed  map[string]int // connections that the venue ended, by reason
	zeroSum bool           // by the fault checksum-zero, all symbols
	told    func(Told)     // see Tell

	wallNs int64 // the caller's clock at the last call
}

// VenueOptions of one venue. The zero value of a duration or limit is the
// venue's own.
type VenueOptions struct {
	StallFor     time.Duration // of the fault stall; 3 s
	PingEvery    time.Duration // WebSocket pings, where the venue sends them; 20 s
	PongWithin   time.Duration // 60 s
	ConnLife     time.Duration // where the venue cuts; 24 h
	NoticeLead   time.Duration // from the fault notice to the end of the connection; 60 s
	WeightLimit  int           // REST weight per minute (Binance); 6000
	BanAfter     int           // answers 429 within a minute before 418; 5
	ConnectLimit int           // connections per the venue's window
	MessageLimit int           // messages of a client per second; the venue's
	Ghosts       bool          // Binance's diffs do not tell what goes outside of its answers' windows
	NoClock      bool          // events come without a clock: see the package comment on Speed 0
}

func (o *VenueOptions) setDefaults(f facts) {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.StallFor, 3*time.Second)
	def(&o.PingEvery, 20*time.Second)
	def(&o.PongWithin, 60*time.Second)
	def(&o.ConnLife, 24*time.Hour)
	def(&o.NoticeLead, 60*time.Second)
	if o.WeightLimit == 0 {
		o.WeightLimit = 6000
	}
	if o.BanAfter == 0 {
		o.BanAfter = 5
	}
	if o.ConnectLimit == 0 {
		o.ConnectLimit = f.connects
	}
	if o.MessageLimit == 0 {
		o.MessageLimit = f.messages
	}
}

// facts of a venue that the core works by. Those that a name alone must tell are the same
// before there is a Venue.
type facts struct {
	form    *regexp.Regexp              // of its symbols
	example string                      // of one
	symbol  func(base string) string    // how it writes what is traded against dollars
	size    func(string, *world.Symbol) // makes a market of a base as large as the venue's; nil: as it is
	faults  []string                    // that not every venue can have

	// bid is one as it stands in a book frame, and what the list begins with that it is in.
	bid func(px, qty string, stampNs int64) (list, bid string)

	countsFrames bool // the id of a book frame is the one before it plus one, whatever the market's

	// main is the venue that is meant where none is named: its URLs have no prefix, its
	// market is the seed's own, and it follows the true mids at once.
	main     bool
	standing bool // its streams are there whoever asks

	wsPath     string // the WebSocket endpoint; Binance has several and says so itself
	inBand     bool   // the book's snapshot comes in the stream
	depths     []int  // that a client may ask for; none: the whole book
	depth      int    // where the client does not say
	connects   int    // connection attempts per window
	window     time.Duration
	messages   int  // client messages per second
	pings      bool // the venue sends WebSocket pings and cuts old connections
	truncates  bool // the client cuts its book to the depth: no word about levels pushed out
	batches    bool // trades of one moment share a frame
	countsSent bool // book updates count only where someone gets a frame
}

// protocol is what one venue's sheet says. Its methods are called by the core.
type protocol interface {
	facts() facts
	// open says what the venue says unasked.
	open(s *Session)
	// text obeys one text message of a client.
	text(s *Session, msg []byte)
	// tick does what the passing of time asks for; it is called often.
	tick(s *Session)
	// closing gives the frame that announces the end of a connection (nil: none).
	closing(s *Session) []byte

	// topicName names the topic of a symbol's book, trades or quotes.
	topicName(k kind, sym *symbol, depth int) string
	// snapshot is the first frame of a topic.
	snapshot(t *topic) payload
	// diff, quote and trades dress the events of a made market. Levels have the
	// texts that px and qty have made, size text and all; gone ones have qty "0"
	// in whatever form the venue writes it.
	diff(t *topic, atNs int64, bids, asks []level) payload
	quote(t *topic, atNs int64, bid, ask level) payload
	trades(t *topic, list []world.Event) payload
	// number writes a price or a size of a made market.
	px(sym *symbol, n int64) string
	qty(sym *symbol, n int64) string

	// seal makes the frame of a payload for one connection.
	seal(s *Session, p payload) []byte
	// reset makes the fault reset-sequence of a book frame.
	reset(t *topic, p payload) payload

	// reader reads the lines of one recording, in order.
	reader() func(line []byte, v *fastjson.Value) (recorded, error)
	// levels calls set for every level of a recorded book frame.
	levels(bare []byte, set func(bid bool, px, qty, more string) error) error

	rest(r Request) Answer

	// wishes are what a client says so as to get all streams of these symbols.
	wishes(symbols []string) wishes
}

// payload is a frame as far as all connections share it. Its bytes are never
// written after it was made.
type payload struct {
	bare    []byte
	wrapped []byte // Binance: in the envelope of a combined stream
	hole    int    // Coinbase: where in bare the connection's number goes
}

type kind uint8

const (
	kindOther    kind = iota
	kindBook          // levels with absolute sizes
	kindSnapshot      // a REST body in a recording
	kindTrade
	kindQuote
)

func (k kind) String() string {
	return [...]string{"other", "book", "snapshot", "trade", "quote"}[k]
}

// symbol is one instrument.
type symbol struct {
	name string
	src  *source
	info instrument

	pxDecimals, qtyDecimals int // of a made market

	book  book
	quote [2]level // bid and ask of a made market's last quote
	// newest trades as the venue writes one, oldest first; kept where a
	// subscription begins with them
	recent [][]byte
	batch  []world.Event // trades of one moment that wait for the next event

	topics []*topic

	updates    int // book updates so far: what a frame fault counts
	requests   int // depth requests so far: what a REST fault counts
	subscribes int // subscriptions to its book so far: what a subscribe fault counts
	zeroSum    bool
	catchUp    func() // of a load: makes book what it should be; nil: it always is

	// Binance's recordings only.
	snapshot []byte // the recorded REST body, nil without one
	firstID  int64  // U of the first diff
	open     bool   // the gate is behind us
	early    []*event
	asks     []*ask
	cache    *cacheOld
	told     []told // windows of the newest answers
}

// topic is one thing that a connection can subscribe to.
type topic struct {
	name  string
	kind  kind
	sym   *symbol
	src   *source
	depth int
	subs  []*Session

	events, sent uint64

	live      bool    // a snapshot can be given: made market, or the recorded one has passed
	win       *window // of a made market with a depth
	seq, prev int64   // ids on the wire after the last frame, and before it
	aux       int64   // Bybit's seq
	shift     int64   // by the fault reset-sequence: what ids on the wire are less than the true ones
	lastNs    int64   // wall ns of the last frame
}

// source gives events in order: one recording, or all made markets together.
type source struct {
	name    string
	world   *world.World // nil: a recording
	pull    func() (*event, bool)
	carried int   // subscriptions to its topics, over all connections
	lastSub int64 // wall ns of the latest
	skipped int
	atNs    int64    // of the last event; before it, of the source's beginning
	skewNs  int64    // what the venue's clock shows more than that; 0 for a recording
	queue   []*event // of a recording

	// After the fault disconnect without a clock: up to graceNs of feed time no
	// connection opened after the cut gets anything, however fast it came back.
	graceNs     int64
	graceSerial int
}

// event is one line of a recording or one event of a market.
type event struct {
	atNs        int64
	kind        kind
	sym         *symbol
	topic       *topic // nil: a market's, which topics get it is for the venue
	payload     payload
	snapshot    bool // a book frame that replaces the book
	first, last int64
	aux         int64
	made        world.Event

	// Of a load: what is due together.
	src     *source
	load    *loadSource
	due     []world.Sending // valid until the source is pulled again
	unpaced bool
}

// newVenue makes an empty venue.
func newVenue(name string, opt VenueOptions) (*Venue, error) {
	protocol := protocols[name]
	if protocol == nil {
		return nil, unknownVenue(name)
	}
	v := &Venue{name: name, symbols: map[string]*symbol{}, topics: map[string]*topic{}, closed: map[string]int{}}
	v.proto = protocol(v)
	v.facts = v.proto.facts()
	v.opt = opt
	v.opt.setDefaults(v.facts)
	v.limiter = weightLimiter{limit: v.opt.WeightLimit, banAfter: v.opt.BanAfter}
	return v, nil
}

// NewVenue makes a venue of made markets, for a caller that steps it itself.
// Each fault strikes this venue if it can occur there.
func NewVenue(name string, w *world.World, faults []Fault, opt VenueOptions) (*Venue, error) {
	v, err := newVenue(name, opt)
	if err != nil {
		return nil, err
	}
	src, err := newMarket(v, w)
	if err != nil {
		return nil, err
	}
	v.sources = append(v.sources, src)
	armed, err := arm(faults, []*Venue{v})
	v.faults = armed
	return v, err
}

// Name of the venue, as in commands and configuration.
func (v *Venue) Name() string { return v.name }

// WSPath is what its WebSocket URL ends with in a configuration; Binance's is the base.
func (v *Venue) WSPath() string { return v.proto.facts().wsPath }

// Symbols in the order of their sources.
func (v *Venue) Symbols() []string {
	var names []string
	for _, sym := range v.order {
		names = append(names, sym.name)
	}
	return names
}

// symbolOf finds or makes one while src is loaded.
func (v *Venue) symbolOf(src *source, name string) (*symbol, error) {
	sym := v.symbols[name]
	if sym == nil {
		sym = &symbol{name: name, src: src}
		v.symbols[name] = sym
		v.order = append(v.order, sym)
	}
	if sym.src != src {
		return nil, fmt.Errorf("cannot serve %s: symbol %s already comes from %s", src.name, name, sym.src.name)
	}
	return sym, nil
}

// topicOf finds or makes one while its source is loaded, or at the first
// subscription.
func (v *Venue) topicOf(name string, k kind, sym *symbol, depth int) *topic {
	t := v.topics[name]
	if t == nil {
		t = &topic{name: name, kind: k, sym: sym, src: sym.src, depth: depth}
		v.topics[name] = t
		sym.topics = append(sym.topics, t)
	}
	return t
}

// want finds the topic that a client asks for. known: the symbol exists.
// depthOK: it may be had at that depth. The topic is nil where the data hold no
// such thing: the subscription is accepted and silent.
func (v *Venue) want(k kind, symbol string, depth int) (t *topic, known, depthOK bool) {
	sym := v.symbols[symbol]
	if sym == nil {
		return nil, false, true
	}
	name := v.proto.topicName(k, sym, depth)
	if t := v.topics[name]; t != nil {
		return t, true, true
	}
	if sym.src.world == nil {
		for _, t := range sym.topics {
			if k == kindBook && t.kind == kindBook {
				return nil, true, false // recorded at another depth
			}
		}
		return nil, true, true
	}
	f := v.facts
	if k == kindBook && len(f.depths) > 0 {
		for _, d := range f.depths {
			depthOK = depthOK || d == depth
		}
		if !depthOK {
			return nil, true, false
		}
	}
	t = v.topicOf(name, k, sym, depth)
	t.live = true
	if k == kindBook {
		t.seq, t.aux = sym.book.lastID, sym.book.lastID
		if depth > 0 {
			t.win = newWindow(depth, &sym.book)
		}
	}
	return t, true, true
}

// Next is the venue's next event of made markets, to be given to Step. It never
// ends.
func (v *Venue) Next() *Event {
	ev, _ := v.sources[0].pull()
	return &Event{ev}
}

// Event is something that happens at the venue at AtNs.
type Event struct{ ev *event }

// AtNs is when the event happens, ns since 1970, whatever the venue's clock shows.
func (e *Event) AtNs() int64 { return e.ev.atNs }

// Step lets an event happen: what it makes is sent to the sessions that are
// subscribed.
func (v *Venue) Step(e *Event, nowNs int64) {
	v.wallNs = nowNs
	v.step(e.ev)
}

// Made is the event as the market made it. Its levels are valid until the next call
// of Next.
func (e *Event) Made() world.Event { return e.ev.made }

// Told is a frame of a topic as the venue means it to go out, whoever gets it.
type Told struct {
	Symbol string
	Kind   string // book, trade, quote
	// Frame is the text. It is shared and not to be written to; Binance's has no
	// envelope, Coinbase's the number 0.
	Frame    []byte
	Greeting bool // the snapshot with which one subscription begins
	Crossed  bool // a fault put a level in that the true book has not
}

// Tell has told called with every frame of every topic, before any fault keeps it
// from a client: what a faithful record holds is this. told must not call back.
func (v *Venue) Tell(told func(Told)) { v.told = told }

func (v *Venue) tell(t *topic, p payload, greeting bool, hit []string) {
	if v.told == nil || p.bare == nil {
		return
	}
	if p.hole > 0 {
		p.bare = p.numberless()
	}
	v.told(Told{t.sym.name, t.kind.String(), p.bare, greeting, hasName(hit, faultCrossed)})
}

// Disarm takes back all faults that have not struck, and checksums that are 0. What
// has struck a connection stays with it.
func (v *Venue) Disarm() {
	v.faults, v.zeroSum = nil, false
	for _, sym := range v.order {
		sym.zeroSum = false
	}
}

func (v *Venue) closes(reason string) { v.closed[reason]++ }

// carriers are the connections with any topic of sym, the oldest first.
func (v *Venue) carriers(sym *symbol) []*Session {
	var list []*Session
	for _, s := range v.sessions {
		for _, t := range sym.topics {
			if s.has(t) {
				list = append(list, s)
				break
			}
		}
	}
	return list
}

// incomplete tells whether a recording has a topic that nobody is subscribed to.
// Binance's clients name theirs at once, in the URL.
func (v *Venue) incomplete(src *source) bool {
	for _, sym := range v.order {
		for _, t := range sym.topics {
			if v.proto.facts().inBand && src.world == nil && t.src == src && len(t.subs) == 0 {
				return true
			}
		}
	}
	return false
}

// current makes the true book of a load's symbol what it should be.
func (sym *symbol) current() {
	if sym.catchUp != nil {
		sym.catchUp()
	}
}

// Strikes are the faults that have struck, in order.
func (v *Venue) Strikes() []Strike { return append([]Strike{}, v.struck...) }

// Book is the true book of a symbol after the last event, best first, as the
// venue writes prices and sizes; id is of the last update.
func (v *Venue) Book(symbol string) (id int64, bids, asks [][2]string, ok bool) {
	sym := v.symbols[symbol]
	if sym == nil {
		return 0, nil, nil, false
	}
	sym.current()
	for _, l := range sym.book.top(true, 0) {
		bids = append(bids, [2]string{l.px, l.qty})
	}
	for _, l := range sym.book.top(false, 0) {
		asks = append(asks, [2]string{l.px, l.qty})
	}
	return sym.book.lastID, bids, asks, true
}

func textFrame(b []byte) Frame { return Frame{Op: ws.OpText, Payload: b} }
