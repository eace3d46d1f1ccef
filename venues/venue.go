// Package venues knows what each venue sends: one file per venue, pure decoding.
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
// specified message as its evidence in the venue's test.
package venues

import (
	"fmt"
	"sort"
	"strings"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
)

// Kind of a decoded message.
type Kind uint8

const (
	KindControl  Kind = iota // heartbeats and whatever changes no row
	KindDelta                // levels with absolute sizes; size 0 removes
	KindSnapshot             // replaces the book
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
	Lo, Hi  int   // levels of the message in Batch.Levels

	// The scales that the message needs. Where one is greater than the
	// instrument's, nothing below and no level is decoded: widen, decode again.
	PxScale, QtyScale int8

	// A trade, or the bid side of a quote; the other side in AskPx, AskQty.
	Px, Qty       int64
	AskPx, AskQty int64
	Side          event.Side // the aggressor's
	TradeID       []byte     // as the venue writes it, without quotes
	TradeNum      int64      // the same as a number where the venue counts its trades, else event.Null

	ID   int64  // of the command that an ack or refusal answers, 0 for none
	Text []byte // of a refusal or notice
}

// Batch holds what one frame brought. Reused from frame to frame.
type Batch struct {
	Messages []Message
	Levels   []event.Level
}

// Reset forgets the last frame and keeps the memory.
func (b *Batch) Reset() {
	b.Messages = b.Messages[:0]
	b.Levels = b.Levels[:0]
}

// Decoder turns frames of one connection into messages.
type Decoder interface {
	// Decode reads one text frame. A reason other than ledger.Accepted rejects
	// it whole; if b.Messages then holds one message, its Inst says whose it was.
	Decode(frame []byte, b *Batch) ledger.Reason
	// DecodeSnapshot reads the body of a REST snapshot of instrument inst.
	DecodeSnapshot(inst int, body []byte, b *Batch) ledger.Reason
	// SetScale changes the scales at which the messages of inst are decoded.
	SetScale(inst int, px, qty int8)
}

// Continuity is how a venue's book messages prove that none is missing.
type Continuity uint8

const (
	RangeChain Continuity = iota // First <= last Seq + 1 <= Seq (Binance)
)

// Rules are the facts about a venue that the session machine works by.
type Rules struct {
	Name         string // as in commands, configuration and the column venue
	Market       string // spot, linear
	Continuity   Continuity
	Proof        event.Proof // what an unbroken book proves itself by
	RestSnapshot bool        // the book starts from a REST snapshot, not in the stream
	TradesCount  bool        // trade ids of an instrument grow by one
	QuoteStream  bool        // there is a top-of-book stream faster than the book

	// SilenceNs is how long the book of an instrument may say nothing before the
	// silence is noticed: three times the longest healthy silence recorded.
	SilenceNs int64

	WSURL, RestURL string // defaults
	Depth          int    // default; 0: the venue has no choice
	Depths         []int  // those that the venue's sheet lists

	// Budgets, from the venue's documented limits.
	StreamsPerConn        int
	ConnectsPerWindow     int
	ConnectWindowNs       int64
	CommandsPerSecond     int
	RestWeightPerMinute   int    // until the venue says its own
	RestWeightUsedHeader  string // names the header that tells what is used up
	ConnectionLifetimeNs  int64  // after which the venue cuts; 0: no such rule
	LongestCommandStreams int    // streams per subscribe command
}

// Request is a REST request: a path with its query, and what it weighs.
type Request struct {
	Path   string
	Weight int
}

// Venue is one market that is captured from. Its methods are pure.
type Venue interface {
	Rules() *Rules
	NewDecoder(insts []event.Instrument) Decoder
	// Symbol returns the venue's own spelling of a symbol given in any case, or
	// an error that says what such a symbol looks like.
	Symbol(s string) (string, error)
	// StreamPath is what the base WebSocket URL is followed by.
	StreamPath(insts []event.Instrument, quotes bool) string
	// Subscribe returns the texts to send on a new connection, with ids from 1.
	Subscribe(insts []event.Instrument, quotes bool) []string
	// Resubscribe returns the texts that end and renew the streams of one
	// instrument, with ids from id on.
	Resubscribe(inst event.Instrument, quotes bool, id int64) []string
	SnapshotRequest(symbol string, depth int) Request
	InstrumentsRequest(symbols []string) Request
	// Instruments reads the answer to InstrumentsRequest: the known ones of the
	// symbols asked for, and the request weight per minute (0: not told).
	Instruments(body []byte, symbols []string) (insts []event.Instrument, weightPerMinute int, err error)
}

var registry = map[string]Venue{}

func register(v Venue) { registry[v.Rules().Name] = v }

// ByName returns a venue, or an error with the nearest right name.
func ByName(name string) (Venue, error) {
	if v, ok := registry[strings.ToLower(name)]; ok {
		return v, nil
	}
	return nil, fmt.Errorf("unknown venue %q; there are: %s", name, strings.Join(Names(), ", "))
}

// Names lists the venues in order.
func Names() []string {
	names := make([]string, 0, len(registry))
	for n := range registry {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}
