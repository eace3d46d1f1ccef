// Package event holds the records that cross package borders: inputs on their
// way to the journal, and rows on their way to QuestDB.
//
// Both are flat bytes with a pinned layout, little-endian, a multiple of eight
// long, so that a ring, a journal block and a replay hold the same thing. An
// input record is also the journal's on-disk record: its layout changes only
// together with the journal's format version. Row records never reach a disk.
//
// This package must never read a clock, a socket or a file, and must never
// allocate: every function works in the bytes that it is given.
//
// Invariants: a record's first four bytes are its whole length, which is a multiple of
// 8 but for a book message's; a record is written once, by the Put and Append functions here,
// and only read after that. No price or size in a record is a float.
package event

import "math"

// Null stands for "no value" in every int64 field of a record that may be null:
// ts_event, seq, seq_prev. QuestDB uses the same number for a null LONG.
const Null = math.MinInt64

// Side of a level, or of the aggressor of a trade.
type Side uint8

const (
	NoSide Side = iota
	Bid         // a bid level; as an aggressor: a buyer
	Ask         // an ask level; as an aggressor: a seller
)

// Row flags, as they stand in the column flags.
const (
	FlagSnapshot   = 1  // the message replaces the book
	FlagLast       = 2  // last row of its message
	FlagKeyframe   = 4  // ours, not the venue's; always with FlagSnapshot
	FlagUnverified = 8  // mirrors the coverage interval
	FlagFirst      = 16 // first row of its message
)

// Align rounds n up to a record length.
func Align(n int) int { return (n + 7) &^ 7 }

// Stream is one of the three streams that coverage speaks about.
type Stream uint8

const (
	StreamBook Stream = iota
	StreamTrades
	StreamQuotes
	NumStreams
)

var streamNames = [...]string{"book", "trades", "quotes"}

func (s Stream) String() string { return streamNames[s] }

// State of a coverage interval.
type State uint8

const (
	StateGap State = iota
	StateUnverified
	StateVerified
)

var stateNames = [...]string{"gap", "unverified", "verified"}

func (s State) String() string { return stateNames[s] }

// Proof is why an interval is called verified.
type Proof uint8

const (
	ProofNone Proof = iota
	ProofChain
	ProofCRC
	ProofConnectionSeq
	ProofTradeID
)

var proofNames = [...]string{"none", "chain", "crc", "connection_seq", "trade_id"}

func (p Proof) String() string { return proofNames[p] }

// Cause is why an interval is not verified.
type Cause uint8

const (
	CauseNone Cause = iota
	CauseDisconnect
	CauseSequence
	CauseChecksum
	CauseVenueReset
	CauseBackpressure
	CauseMalformed
	CauseSilence
	CauseStart
	CauseStop
	CauseJournal
)

var causeNames = [...]string{"", "disconnect", "sequence", "checksum", "venue_reset", "backpressure", "malformed", "silence", "start", "stop", "journal"}

// String is empty for CauseNone: the column is null then.
func (c Cause) String() string { return causeNames[c] }
