// Package venues is what all venues share: the messages that a frame is decoded into,
// the interface of a venue, and the base of every decoder. Each venue is a folder below
// (README.md says how to add one); registry lists them.
//
//	frame ─► scanner (NAME/scan.go, hotpath/scan) ──────────► Batch
//	            └─ declined ─► fastjson (NAME/NAME.go) ─────► Batch
//
// A venue turns one frame into messages at exact integer scales, says in which
// order its ids must come, and writes the texts that subscribe. It must never
// touch a socket, a file, a clock or a goroutine, and must never keep a frame's
// bytes: the same code serves the live agent, replay, verify, fuzzing and
// simulation.
//
// Invariants: a message is decoded whole or not at all; no price or size passes
// through a float; a message that needs a finer scale than its instrument has
// says so and carries no levels; every branch of a decoder has a recorded or
// specified message as its evidence in the venue's test. This package never asks
// which venue it has to do with: what only some need is an optional interface
// (lists.go).
package venues

import (
	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
)

// Kind of a decoded message.
type Kind uint8

const (
	KindControl  Kind = iota // heartbeats and whatever changes no row
	KindDelta                // levels with absolute sizes; size 0 removes; perhaps no levels
	KindSnapshot             // replaces the book, whenever it comes
	KindTrade
	KindQuote
	KindAck     // the venue accepts what command ID asked for
	KindRefused // the venue refuses it; Text says why
	KindNotice  // the venue is about to close the connection; Text says why
)

// Message is one venue message. Its byte slices borrow from the decoder and are
// valid until its next call.
type Message struct {
	Kind    Kind
	Inst    int   // place in the decoder's instruments, -1 for none
	First   int64 // first id that the message covers (Binance U), or event.Null
	Seq     int64 // the venue's id after the message, or event.Null
	SeqPrev int64 // the id that had to come before, or event.Null
	TsEvent int64 // the venue's clock, ns, or event.Null

	// What Venue.Checksum gives for the book after the message, where the message
	// says it. A value that the venue documents as "none" (OKX: 0) counts as not said.
	Checksum    uint32
	HasChecksum bool
	Lo, Hi      int // levels of the message in Batch.Levels

	// The scales that the message needs. Where one is greater than the
	// instrument's, nothing below and no level is decoded: widen, decode again.
	PxScale, QtyScale int8

	// A trade, or the bid side of a quote; the other side in AskPx, AskQty. The trades
	// of a frame stand oldest first: the decoder turns those of a venue that sends the
	// newest first. An aggressor that the venue does not tell is NoSide.
	Px, Qty       int64
	AskPx, AskQty int64
	Side          event.Side // the aggressor's
	TradeID       []byte     // as the venue writes it, without quotes
	TradeNum      int64      // the same as a number where the venue counts its trades, else event.Null
	TradeFirst    int64      // number of the first trade that this one stands for (OKX joins several), else TradeNum

	ID   int64  // of the command that an ack or refusal answers, 0 for none
	Text []byte // of a refusal or notice
}

// Batch holds what one frame brought. Reused from frame to frame.
type Batch struct {
	Messages []Message
	Levels   []event.Level
	// ConnSeq is the frame's number on its connection where the venue numbers its
	// frames (Coinbase), also on a frame that is rejected if it could be read, else
	// event.Null.
	ConnSeq int64
}

// Reset forgets the last frame and keeps the memory.
func (b *Batch) Reset() {
	b.Messages = b.Messages[:0]
	b.Levels = b.Levels[:0]
	b.ConnSeq = event.Null
}

// Decoder turns frames of one connection into messages.
type Decoder interface {
	// Decode reads one text frame. A reason other than ledger.Accepted rejects
	// it whole; the messages that b then holds say by Kind and Inst whose it was.
	Decode(frame []byte, b *Batch) ledger.Reason
	// DecodeSnapshot reads the body of a REST snapshot of instrument inst.
	DecodeSnapshot(inst int, body []byte, b *Batch) ledger.Reason
	// SetScale changes the scales at which the messages of inst are decoded.
	SetScale(inst int, px, qty int8)
	// Declined counts the frames and snapshots with messages of a book, of trades or of
	// quotes whose shape the scanner does not know, so that the whole parser read them.
	// Many of them mean that the venue has changed its spelling: slow, and not wrong.
	Declined() uint64
}

// Continuity is how a venue's book messages prove that none is missing.
type Continuity uint8

const (
	RangeChain   Continuity = iota // First <= last Seq + 1 <= Seq (Binance)
	PrevLink                       // SeqPrev == last Seq; Seq may be smaller: a reset (OKX)
	UpdateID                       // Seq == last Seq + 1; the same Seq again is a repetition (Bybit)
	ConnCounter                    // Batch.ConnSeq grows by one with every frame of the connection (Coinbase)
	ChecksumOnly                   // no ids: only Message.Checksum tells (Kraken); Seq counts since the snapshot, by feed
)

// Rules are the facts about a venue that the session machine works by.
type Rules struct {
	Name         string // as in commands, configuration and the column venue
	Market       string // spot, linear
	Continuity   Continuity
	Proof        event.Proof // what an unbroken book proves itself by
	RestSnapshot bool        // the book starts from a REST snapshot, not in the stream
	Truncate     bool        // after each message the book is cut to the subscribed depth: the venue does not delete what falls out
	ChecksumTop  int         // levels a side that Venue.Checksum wants; 0: no checksums
	TradesCount  bool        // trade ids of an instrument grow by one
	TradesJoined bool        // but a trade may stand for several, and bears the last one's: see Message.TradeFirst
	AcksList     bool        // each answer to a command lists all that is subscribed (Coinbase)
	QuoteStream  bool        // there is a top-of-book stream faster than the book

	// LevelsMax bounds a book, both sides together: far more levels than any book of the
	// venue has, since a book that goes over it is given up.
	LevelsMax int

	// SilenceNs is how long the book of an instrument may say nothing before the
	// silence is noticed: three times the longest healthy silence recorded.
	SilenceNs int64

	// SnapshotPatienceNs is how long the first snapshot of a book in the stream may
	// take before it is subscribed again; later ones get longer. 0: ten seconds.
	SnapshotPatienceNs int64

	TradingStatus string // what its metadata calls a symbol that trades: Instrument.Status

	WSURL, RestURL string // defaults
	Depth          int    // default; 0: the venue has no choice
	Depths         []int  // those that the venue's sheet lists

	PingEveryNs int64 // Venue.Ping is sent this often; 0: never
	// DeadAfterNs is how long a connection may bring nothing at all, no ping and no
	// heartbeat either, until it is given up, whatever TCP believes of it.
	DeadAfterNs int64

	// The longest message and the longest answer over REST that are taken, four times
	// the longest that the sheet knows, or more. One that is longer is refused before
	// memory is taken for it. What decoding takes on top is bounded by parser.
	MessageBytesMax, AnswerBytesMax int

	// Budgets, from the venue's documented limits.
	InstrumentsPerConn    int // 0: as many as StreamsPerConn lets
	StreamsPerConn        int
	ConnectsPerWindow     int
	ConnectWindowNs       int64
	CommandsPerSecond     int    // on a connection
	CommandsOfAddress     bool   // or rather for all connections of our address together
	CommandsPerHour       int    // subscribe, unsubscribe and login, on a connection; 0: no such limit
	RestWeightPerMinute   int    // until the venue says its own
	RestWeightUsedHeader  string // names the header that tells what is used up
	ConnectionLifetimeNs  int64  // after which the venue cuts; 0: no such rule
	LongestCommandStreams int    // streams per subscribe command
	SubscriptionBytesMax  int    // of all that a connection subscribes to; 0: no such limit
}

// Request is a REST request: a path with its query, and what it weighs.
type Request struct {
	Path   string
	Weight int
}

// Subscription is what is wanted of every instrument.
type Subscription struct {
	Quotes bool
	Depth  int
}

// Command is a text to send to a venue.
type Command struct {
	ID   int64 // that the answers repeat
	Text string
	Acks int // answers that it gets if all goes well, each with ID
	Inst int // that it is for, -1 for several

	Streams Streams // to which it subscribes, 0 where it does not
	Several [2]int  // of which instruments, where they are several: from and to, that not included
}

// Streams of an instrument, as a set.
type Streams uint8

// StreamsOf makes a set.
func StreamsOf(streams ...event.Stream) (set Streams) {
	for _, s := range streams {
		set |= 1 << s
	}
	return set
}

// Has says whether a stream is in the set.
func (set Streams) Has(s event.Stream) bool { return set&(1<<s) != 0 }

// All is what a subscription wants of an instrument.
func (sub Subscription) All() Streams {
	if sub.Quotes {
		return BookStream | TradesStream | quotesStream
	}
	return BookStream | TradesStream
}

const (
	BookStream   = Streams(1) << event.StreamBook
	TradesStream = Streams(1) << event.StreamTrades
	quotesStream = Streams(1) << event.StreamQuotes
)

// Venue is one market that is captured from. Its methods are pure.
type Venue interface {
	Rules() *Rules
	NewDecoder(insts []event.Instrument) Decoder
	// Symbol returns the spelling of a symbol given in any case that holds where the
	// venue's list cannot be had, or an error that says what such a symbol looks like.
	Symbol(s string) (string, error)
	// StreamPath is what the base WebSocket URL is followed by.
	StreamPath(insts []event.Instrument, quotes bool) string
	// Subscribe returns the commands to send on a new connection, with ids from 1.
	Subscribe(insts []event.Instrument, sub Subscription) []Command
	// Resubscribe returns the commands that end and renew the book of one
	// instrument (where the venue cannot, all of its streams), with ids from id on.
	Resubscribe(inst event.Instrument, sub Subscription, id int64) []Command
	// Again returns the commands that subscribe to some streams of one instrument, place
	// inst of those that were given to Subscribe, after the venue has refused them: they
	// end nothing, and what is on all the same stays on. Their ids are from id on, but
	// where the answers have none.
	Again(of event.Instrument, inst int, streams Streams, sub Subscription, id int64) []Command
	// Ping returns the text that is sent every PingEveryNs.
	Ping(id int64) string
	// Checksum of a book's best ChecksumTop levels a side, best first, whose prices
	// and sizes are counts of 10^-scale. Allocates nothing. scratch may be written to.
	Checksum(bids, asks []book.Level, pxScale, qtyScale int8, scratch []byte) uint32
	SnapshotRequest(symbol string, depth int) Request
	// SnapshotRefused reads the body of an answer that is no snapshot: the venue's words,
	// which borrow from nothing, "" where there are none; and whether the same request
	// will be refused for as long as the venue does not change its list of symbols.
	SnapshotRefused(body []byte) (words string, final bool)
	InstrumentsRequest(symbols []string) Request
	// Instruments reads the answer to InstrumentsRequest: the known ones of the
	// symbols asked for, in any case, each spelled as the venue does, and the request weight per minute (0: not told).
	Instruments(body []byte, symbols []string) (insts []event.Instrument, weightPerMinute int, err error)
}
