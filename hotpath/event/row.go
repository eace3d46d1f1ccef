package event

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
)

// RowKind says what a row record holds.
type RowKind uint8

const (
	RowBook     RowKind = 1 // one book message: Head, then N levels
	RowTop      RowKind = 2 // top of our book: Head, then N bids and Extra asks of 16 bytes
	RowQuote    RowKind = 3 // the venue's own top: Head, then bid and ask of 16 bytes
	RowTrade    RowKind = 4 // Head, then px, qty and aggressor in 24 bytes, then N bytes of trade id
	RowCoverage RowKind = 5 // Head, then CoverageSize bytes, then N bytes of detail
	RowInst     RowKind = 6 // an instrument as known from Ts on: Head, then N bytes of JSON (event.Instrument)
	RowDepth    RowKind = 8 // how much lies near the touch: Head, then 1+N pairs of 16 bytes, see DepthSize
)

// HeadSize is the length of a row record's head.
//
//	 0  u32  length of the record, head and padding included
//	 4  u8   kind
//	 5  u8   flags (Flag…), without FIRST and LAST, which follow from a row's place
//	 6  i8   px_scale
//	 7  i8   qty_scale
//	 8  u32  inst: place in the run-wide instrument directory
//	12  u16  n: see the kind
//	14  u16  extra: see the kind
//	16  i64  ts of the first row, ns; row i of a book message has ts + i
//	24  i64  ts_event, the venue's clock, ns, or Null
//	32  i64  seq, or Null
//	40  i64  seq_prev, or Null
//	48  u64  pos of the input that made it
//	56  i64  ts_recv: the stamp of that input, ns
//
// A book message may have more than 65,535 levels: N is then 0xffff and the
// number follows from the length. Levels() says it in both cases.
const HeadSize = 64

// levelSize is what a level of a book message takes: a pair, and behind all pairs one
// byte, its side (two bits) and its flags (FlagUnverified only). Small, because rows wait
// in rings by the million while QuestDB is behind.
const levelSize = PairSize + 1

// tradeFixSize is the length of a trade before its id: the head, px i64, qty i64,
// aggressor u8, seven zeros.
const tradeFixSize = HeadSize + 24

// PairSize is the length of a price and size: px i64, qty i64.
const PairSize = 16

// Head is the fixed part of a row record. Feed is not in it: a ring belongs to one feed.
type Head struct {
	Kind     RowKind
	Flags    uint8
	PxScale  int8
	QtyScale int8
	Inst     uint32
	N        uint16
	Extra    uint16
	Ts       int64
	TsEvent  int64
	Seq      int64
	SeqPrev  int64
	Pos      uint64
	TsRecv   int64
}

// Level is one price with its total size on one side, at the scales of its message.
type Level struct {
	Px, Qty int64
	Side    Side
	Flags   uint8
}

// Put writes the head of a record of size bytes to the start of b.
func (h *Head) Put(b []byte, size int) {
	_ = b[HeadSize-1]
	le := binary.LittleEndian
	le.PutUint32(b[0:], uint32(size))
	b[4] = uint8(h.Kind)
	b[5] = h.Flags
	b[6] = uint8(h.PxScale)
	b[7] = uint8(h.QtyScale)
	le.PutUint32(b[8:], h.Inst)
	le.PutUint16(b[12:], h.N)
	le.PutUint16(b[14:], h.Extra)
	le.PutUint64(b[16:], uint64(h.Ts))
	le.PutUint64(b[24:], uint64(h.TsEvent))
	le.PutUint64(b[32:], uint64(h.Seq))
	le.PutUint64(b[40:], uint64(h.SeqPrev))
	le.PutUint64(b[48:], h.Pos)
	le.PutUint64(b[56:], uint64(h.TsRecv))
}

// Get reads the head at the start of b and returns the record's length.
func (h *Head) Get(b []byte) int {
	_ = b[HeadSize-1]
	le := binary.LittleEndian
	h.Kind = RowKind(b[4])
	h.Flags = b[5]
	h.PxScale = int8(b[6])
	h.QtyScale = int8(b[7])
	h.Inst = le.Uint32(b[8:])
	h.N = le.Uint16(b[12:])
	h.Extra = le.Uint16(b[14:])
	h.Ts = int64(le.Uint64(b[16:]))
	h.TsEvent = int64(le.Uint64(b[24:]))
	h.Seq = int64(le.Uint64(b[32:]))
	h.SeqPrev = int64(le.Uint64(b[40:]))
	h.Pos = le.Uint64(b[48:])
	h.TsRecv = int64(le.Uint64(b[56:]))
	return int(le.Uint32(b))
}

// BookSize is the length of a book message with n levels; no multiple of anything.
func BookSize(n int) int { return HeadSize + n*levelSize }

// BookN is the value of Head.N for n levels.
func BookN(n int) uint16 { return uint16(min(n, 0xffff)) }

// Levels is the number of levels in the book message b.
func Levels(b []byte) int { return (len(b) - HeadSize) / levelSize }

// sideBits of a level's byte; the others are its flags, which all lie above.
const sideBits = 3

// PutLevel writes level i of the n of the book message b.
func PutLevel(b []byte, n, i int, l Level) {
	PutPair(b, i, l.Px, l.Qty)
	b[HeadSize+n*PairSize+i] = uint8(l.Side) | l.Flags
}

// GetLevel reads level i of the n of the book message b.
func GetLevel(b []byte, n, i int) Level {
	px, qty := GetPair(b, i)
	m := b[HeadSize+n*PairSize+i]
	return Level{px, qty, Side(m & sideBits), m &^ sideBits}
}

// TopSize is the length of a RowTop with so many bids and asks. Both 0: the row
// of nulls that opens a gap.
func TopSize(bids, asks int) int { return HeadSize + (bids+asks)*PairSize }

// QuoteSize is the length of a RowQuote: pair 0 is the bid, pair 1 the ask; a
// side that the venue left empty has qty 0 and px 0.
const QuoteSize = HeadSize + 2*PairSize

// DepthSize is the length of a RowDepth with n bands. Pair 0 is the best bid and the
// best ask, Null where a side is empty; pair 1+i is the size of all bids and of all
// asks within band i of their own touch, at qty_scale, Null where the sum does not
// fit an int64. What the bands are stands in the run's configuration.
func DepthSize(n int) int { return HeadSize + (1+n)*PairSize }

// PutPair writes pair i of a RowTop (bids first, then asks), RowQuote or RowDepth.
func PutPair(b []byte, i int, px, qty int64) {
	b = b[HeadSize+i*PairSize:][:PairSize]
	binary.LittleEndian.PutUint64(b[0:], uint64(px))
	binary.LittleEndian.PutUint64(b[8:], uint64(qty))
}

// GetPair reads pair i.
func GetPair(b []byte, i int) (px, qty int64) {
	b = b[HeadSize+i*PairSize:][:PairSize]
	return int64(binary.LittleEndian.Uint64(b[0:])), int64(binary.LittleEndian.Uint64(b[8:]))
}

// TradeSize is the length of a RowTrade with an id of n bytes.
func TradeSize(n int) int { return Align(tradeFixSize + n) }

// PutTrade writes what the RowTrade b holds behind its head. It must have been made for an
// id of that length.
func PutTrade(b []byte, px, qty int64, aggressor Side, id []byte) {
	PutPair(b, 0, px, qty)
	binary.LittleEndian.PutUint64(b[HeadSize+PairSize:], uint64(aggressor))
	clear(b[tradeFixSize+copy(b[tradeFixSize:], id):])
}

// GetTrade reads the RowTrade b whose head says n. The id borrows from b.
func GetTrade(b []byte, n uint16) (px, qty int64, aggressor Side, id []byte) {
	px, qty = GetPair(b, 0)
	return px, qty, Side(b[HeadSize+PairSize]), b[tradeFixSize:][:n]
}

// coverageSize is the fixed part of a coverage record after the head: ts_end i64,
// seq_first i64, seq_last i64, messages i64, stream u8, state u8, proof u8, cause u8,
// 4 zeros.
const coverageSize = 40

// Coverage is one interval, both ends inclusive. The same (Inst, Stream, Ts) comes
// again as the interval grows or is judged anew; the last one counts.
type Coverage struct {
	Inst              uint32
	Stream            Stream
	State             State
	Proof             Proof
	Cause             Cause
	Ts, TsEnd         int64
	SeqFirst, SeqLast int64 // Null where there is none
	Messages          int64 // LAST rows of a book, or trades, or quotes
	Pos               uint64
	TsRecv            int64
	Detail            []byte // borrowed when read
}

// CoverageSize is the length of a RowCoverage with n bytes of detail.
func CoverageSize(n int) int { return Align(HeadSize + coverageSize + n) }

// PutCoverage writes a record of CoverageSize(len(c.Detail)) bytes.
func PutCoverage(b []byte, c *Coverage) {
	size := CoverageSize(len(c.Detail))
	b = b[:size]
	h := Head{Kind: RowCoverage, Inst: c.Inst, N: uint16(len(c.Detail)), Ts: c.Ts, TsEvent: Null, Seq: Null, SeqPrev: Null, Pos: c.Pos, TsRecv: c.TsRecv}
	h.Put(b, size)
	le := binary.LittleEndian
	p := b[HeadSize:]
	le.PutUint64(p[0:], uint64(c.TsEnd))
	le.PutUint64(p[8:], uint64(c.SeqFirst))
	le.PutUint64(p[16:], uint64(c.SeqLast))
	le.PutUint64(p[24:], uint64(c.Messages))
	p[32], p[33], p[34], p[35] = uint8(c.Stream), uint8(c.State), uint8(c.Proof), uint8(c.Cause)
	p[36], p[37], p[38], p[39] = 0, 0, 0, 0
	n := copy(p[coverageSize:], c.Detail)
	for i := coverageSize + n; i < len(p); i++ {
		p[i] = 0
	}
}

// GetCoverage reads a RowCoverage; Detail borrows from b.
func GetCoverage(b []byte) Coverage {
	var h Head
	h.Get(b)
	le := binary.LittleEndian
	p := b[HeadSize:]
	return Coverage{
		Inst: h.Inst, Ts: h.Ts, Pos: h.Pos, TsRecv: h.TsRecv,
		TsEnd: int64(le.Uint64(p[0:])), SeqFirst: int64(le.Uint64(p[8:])), SeqLast: int64(le.Uint64(p[16:])), Messages: int64(le.Uint64(p[24:])),
		Stream: Stream(p[32]), State: State(p[33]), Proof: Proof(p[34]), Cause: Cause(p[35]),
		Detail: p[coverageSize:][:h.N],
	}
}

// Instrument is one tradable product at one venue. It stands in the run record of
// the journal, and as a row in the table instruments.
type Instrument struct {
	Venue        string `json:"venue"`
	Symbol       string `json:"symbol"` // the venue's own spelling
	Pair         string `json:"pair,omitempty"`
	Market       string `json:"market,omitempty"` // spot, linear
	Base         string `json:"base,omitempty"`
	Quote        string `json:"quote,omitempty"`
	PxScale      int8   `json:"px_scale"`
	QtyScale     int8   `json:"qty_scale"`
	Tick         string `json:"tick,omitempty"` // decimal text; empty: unknown
	Lot          string `json:"lot,omitempty"`
	ContractSize string `json:"contract_size,omitempty"`
	Status       string `json:"status,omitempty"`
	Source       string `json:"source"` // where the numbers came from: exchangeInfo, messages
}

// KindOf is the kind in the head of the row record b.
func KindOf(b []byte) RowKind { return RowKind(b[4]) }

// RecordPos is the input position in the head of the row record b.
func RecordPos(b []byte) uint64 { return binary.LittleEndian.Uint64(b[48:]) }

// RecordTsRecv is the receive time in the head of the row record b.
func RecordTsRecv(b []byte) int64 { return int64(binary.LittleEndian.Uint64(b[56:])) }

// SetRecordPos changes it: a replay has positions of its own.
func SetRecordPos(b []byte, pos uint64) { binary.LittleEndian.PutUint64(b[48:], pos) }

// InstrumentOf reads the instrument in the RowInst b. It allocates.
func InstrumentOf(b []byte) (Instrument, error) {
	var h Head
	var inst Instrument
	h.Get(b)
	err := json.Unmarshal(b[HeadSize:][:h.N], &inst)
	if err != nil {
		err = fmt.Errorf("cannot read instrument record: %w", err)
	}
	return inst, err
}
