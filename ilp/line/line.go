// Package line writes row records as lines of InfluxDB line protocol, as QuestDB
// 9.3.4 takes them on POST /write: text for whole numbers, the binary forms of
// protocol version 2 for doubles and arrays of doubles.
//
// It must never allocate once dst is large enough, never decide what a row says
// (the record does), and never write a row without its time: QuestDB would
// answer 204 and put its own clock there.
//
// Invariants: the same record gives the same bytes, so that a batch encoded
// again is the batch that was sent; a null is a column left out; the columns of
// a row stand in the order of the table; each row ends with a line end.
//
// Own code stands here instead of go-questdb-client/v3 because that client has
// neither arrays nor binary doubles nor nanoseconds outside of the designated
// timestamp, and takes several times the processor time per level (see
// bench/line_timing_test.go). It stays the oracle of the rows that it can write.
package line

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"deeptape/hotpath/event"
	"deeptape/hotpath/fixed"
)

// Inst is an instrument as the rows name it: the beginnings of its lines, escaped
// once. It is read-only after NewInst and may be shared.
type Inst struct {
	Venue, Symbol string

	// By event.Side. With a level they end in "px=", without one in the space
	// that parts the symbol columns from the others.
	book  [3]string
	trade [3]string
	top   string
	quote string
	depth string
}

// NewInst is an instrument in tables without a prefix; see NewInstIn.
func NewInst(venue, symbol string) (*Inst, error) { return NewInstIn("", venue, symbol) }

// NewInstIn is an instrument in tables whose names have a prefix, which needs no escape.
// It refuses a venue or symbol that could not be told apart from the rest of
// a line, or from another name, once it is stored: empty, or with a control
// character. One that is not UTF-8 QuestDB answers with 500, as if a retry could
// help; it is refused here.
func NewInstIn(prefix, venue, symbol string) (*Inst, error) {
	for _, name := range []string{venue, symbol} {
		if err := checkName(name); err != nil {
			return nil, fmt.Errorf("cannot write rows of instrument %q of venue %q: %w", symbol, venue, err)
		}
	}
	key := string(appendEscaped(append(appendEscaped([]byte(",venue="), venue), ",symbol="...), symbol))
	i := &Inst{
		Venue: venue, Symbol: symbol,
		top:   prefix + event.TableBookTop.String() + key + " ",
		quote: prefix + event.TableQuotes.String() + key + " ",
		depth: prefix + event.TableBookDepth.String() + key + " ",
	}
	i.book[event.NoSide] = prefix + event.TableBookDelta.String() + key + " "
	i.book[event.Bid] = prefix + event.TableBookDelta.String() + key + ",side=bid px="
	i.book[event.Ask] = prefix + event.TableBookDelta.String() + key + ",side=ask px="
	i.trade[event.NoSide] = prefix + event.TableTrades.String() + key + " px="
	i.trade[event.Bid] = prefix + event.TableTrades.String() + key + ",side=buy px="
	i.trade[event.Ask] = prefix + event.TableTrades.String() + key + ",side=sell px="
	return i, nil
}

func checkName(s string) error {
	if s == "" {
		return fmt.Errorf("the name is empty")
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%q is not UTF-8", s)
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f {
			return fmt.Errorf("%q holds a control character", s)
		}
	}
	return nil
}

// appendEscaped writes the value of a symbol column.
func appendEscaped(dst []byte, s string) []byte {
	for i := range len(s) {
		switch s[i] {
		case ' ', ',', '=', '\\':
			dst = append(dst, '\\')
		}
		dst = append(dst, s[i])
	}
	return dst
}

// iQty is "i,qty=" in one store, with two bytes to be overwritten.
const iQty = 'i' | ','<<8 | 'q'<<16 | 't'<<24 | 'y'<<32 | '='<<40

// Append adds the rows of a record of a bulk table to dst, and returns how many there are.
// A record of another kind is a mistake of the caller's, and panics: its bytes mean
// something else.
func Append(dst []byte, inst *Inst, rec []byte) ([]byte, int) {
	var h event.Head
	rec = rec[:h.Get(rec)]
	switch h.Kind {
	case event.RowBook:
		return appendBook(dst, inst, &h, rec)
	case event.RowTop:
		return appendTop(dst, inst, &h, rec), 1
	case event.RowQuote:
		return appendQuote(dst, inst, &h, rec), 1
	case event.RowTrade:
		return appendTrade(dst, inst, &h, rec), 1
	case event.RowDepth:
		return appendDepth(dst, inst, &h, rec), 1
	}
	panic(fmt.Sprintf("BUG: a row record of kind %d has no lines", h.Kind))
}

// appendBook writes the rows of a RowBook to dst, and returns how many there are:
// one per level, or one row without side, px and qty if it has no levels. Row i
// has ts + i; the first is flagged FIRST, the last LAST and carries seq_prev.
func appendBook(dst []byte, inst *Inst, h *event.Head, rec []byte) ([]byte, int) {
	n := event.Levels(rec)
	cols, ts := newColumns(h), newClock(h.Ts)
	if n == 0 {
		dst = append(dst, inst.book[event.NoSide]...)
		dst = append(dst, cols.buf[1:cols.prev]...) // without its comma: it is the first column
		dst = appendPrev(dst, h)
		return appendEnd(dst, h.Flags|event.FlagFirst|event.FlagLast, h.Ts), 1
	}
	// Room for all rows at once: after this nobody asks whether there is any.
	dst = slices.Grow(dst, n*(len(inst.book[event.Ask])+maxNumbers+cols.n+maxEnd)+maxPrev)
	buf, at := dst[:cap(dst)], len(dst)
	flags := h.Flags | event.FlagFirst
	for i := range n {
		level := event.GetLevel(rec, n, i)
		at += copy(buf[at:], inst.book[level.Side])
		at = putInt(buf, at, level.Px)
		binary.LittleEndian.PutUint64(buf[at:], iQty)
		at += len("i,qty=")
		at = putInt(buf, at, level.Qty)
		buf[at] = 'i'
		at++
		last := i == n-1
		if last {
			flags |= event.FlagLast
		}
		at = cols.put(buf, at, h, last)
		at = putSmall(buf, at, flags|level.Flags)
		buf[at], buf[at+1] = 'i', ' '
		at = ts.put(buf, at+2)
		buf[at] = '\n'
		at++
		ts.tick()
		flags = h.Flags
	}
	return buf[:at], n
}

// appendTop writes the row of a RowTop: the touch as plain columns, both sides as
// [[prices], [sizes]]. The columns of an empty side are null; with both empty it
// is the row that opens a gap.
func appendTop(dst []byte, inst *Inst, h *event.Head, rec []byte) []byte {
	bids, asks := int(h.N), int(h.Extra)
	dst = append(dst, inst.top...)
	start := len(dst)
	if bids > 0 {
		dst = appendTouch(dst, "bid==\x10", ",bid_size==\x10", h, rec, 0)
	}
	if asks > 0 {
		dst = appendComma(dst, start)
		dst = appendTouch(dst, "ask==\x10", ",ask_size==\x10", h, rec, bids)
	}
	if bids > 0 {
		dst = appendSide(append(dst, ",bids="...), h, rec, 0, bids)
	}
	if asks > 0 {
		dst = appendSide(append(dst, ",asks="...), h, rec, bids, asks)
	}
	return appendTail(dst, start, h)
}

// appendQuote writes the row of a RowQuote. A side that the venue left empty is null.
func appendQuote(dst []byte, inst *Inst, h *event.Head, rec []byte) []byte {
	dst = append(dst, inst.quote...)
	start := len(dst)
	if px, qty := event.GetPair(rec, 0); px != 0 || qty != 0 {
		dst = appendTouch(dst, "bid==\x10", ",bid_size==\x10", h, rec, 0)
	}
	if px, qty := event.GetPair(rec, 1); px != 0 || qty != 0 {
		dst = appendComma(dst, start)
		dst = appendTouch(dst, "ask==\x10", ",ask_size==\x10", h, rec, 1)
	}
	return appendTail(dst, start, h)
}

// appendTrade writes the row of a RowTrade. side is the aggressor's; a trade
// without an id has a null there.
func appendTrade(dst []byte, inst *Inst, h *event.Head, rec []byte) []byte {
	px, qty, aggressor, id := event.GetTrade(rec, h.N)
	dst = append(dst, inst.trade[aggressor]...)
	start := len(dst)
	dst = strconv.AppendInt(dst, px, 10)
	dst = append(dst, "i,qty="...)
	dst = strconv.AppendInt(dst, qty, 10)
	dst = append(dst, 'i')
	dst = append(dst, scalesOf(h)...)
	if len(id) > 0 {
		dst = append(dst, `,trade_id="`...)
		dst = appendQuoted(dst, id)
		dst = append(dst, '"')
	}
	return appendTail(dst, start, h)
}

// appendDepth writes the row of a RowDepth: a side's array has the size of each band.
// An empty side has no price; a sum that is too large is a null of the array.
func appendDepth(dst []byte, inst *Inst, h *event.Head, rec []byte) []byte {
	dst = append(dst, inst.depth...)
	start := len(dst)
	bid, ask := event.GetPair(rec, 0)
	if bid != event.Null {
		dst = append(dst, "bid==\x10"...)
		dst = appendDouble(dst, fixed.Float(bid, h.PxScale))
	}
	if ask != event.Null {
		dst = append(appendComma(dst, start), "ask==\x10"...)
		dst = appendDouble(dst, fixed.Float(ask, h.PxScale))
	}
	if n := int(h.N); n > 0 {
		dst = appendBands(append(appendComma(dst, start), "bid_depth="...), h, rec, n, 0)
		dst = appendBands(append(dst, ",ask_depth="...), h, rec, n, 1)
	}
	return appendTail(dst, start, h)
}

func appendPrev(dst []byte, h *event.Head) []byte {
	if h.SeqPrev == event.Null {
		return dst
	}
	dst = append(dst, ",seq_prev="...)
	dst = strconv.AppendInt(dst, h.SeqPrev, 10)
	return append(dst, 'i')
}

// appendTail writes what the rows of the other tables end with. start is where
// their columns begin: the first one has no comma before it.
func appendTail(dst []byte, start int, h *event.Head) []byte {
	if h.TsEvent != event.Null {
		dst = append(appendComma(dst, start), "ts_event="...)
		dst = strconv.AppendInt(dst, h.TsEvent, 10)
		dst = append(dst, 'n')
	}
	if h.Seq != event.Null {
		dst = append(appendComma(dst, start), "seq="...)
		dst = strconv.AppendInt(dst, h.Seq, 10)
		dst = append(dst, 'i')
	}
	dst = append(appendComma(dst, start), "flags="...)
	dst = appendSmall(dst, h.Flags)
	dst = append(dst, 'i', ' ')
	dst = strconv.AppendInt(dst, h.Ts, 10)
	return append(dst, '\n')
}

func appendEnd(dst []byte, flags uint8, ts int64) []byte {
	dst = append(dst, ",flags="...)
	dst = appendSmall(dst, flags)
	dst = append(dst, 'i', ' ')
	dst = strconv.AppendInt(dst, ts, 10)
	return append(dst, '\n')
}

func appendComma(dst []byte, start int) []byte {
	if len(dst) == start {
		return dst
	}
	return append(dst, ',')
}

// appendSmall writes the number of a flags column.
func appendSmall(dst []byte, v uint8) []byte {
	if v >= 100 {
		dst = append(dst, '0'+v/100)
	}
	if v >= 10 {
		dst = append(dst, '0'+v/10%10)
	}
	return append(dst, '0'+v%10)
}

// appendTouch writes pair i as two columns of binary doubles.
func appendTouch(dst []byte, px, qty string, h *event.Head, rec []byte, i int) []byte {
	p, q := event.GetPair(rec, i)
	dst = append(dst, px...)
	dst = appendDouble(dst, fixed.Float(p, h.PxScale))
	dst = append(dst, qty...)
	return appendDouble(dst, fixed.Float(q, h.QtyScale))
}

// appendSide writes n pairs from number first on as a DOUBLE[][] of two rows:
// 0x0e (array), 0x0a (of doubles), the number of dimensions, their lengths as
// u32, the elements row by row; all little-endian.
func appendSide(dst []byte, h *event.Head, rec []byte, first, n int) []byte {
	dst = append(dst, '=', 0x0e, 0x0a, 2)
	dst = binary.LittleEndian.AppendUint32(dst, 2)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
	for i := first; i < first+n; i++ {
		px, _ := event.GetPair(rec, i)
		dst = appendDouble(dst, fixed.Float(px, h.PxScale))
	}
	for i := first; i < first+n; i++ {
		_, qty := event.GetPair(rec, i)
		dst = appendDouble(dst, fixed.Float(qty, h.QtyScale))
	}
	return dst
}

// appendBands writes one side's sizes as a DOUBLE[], the form of appendSide with one
// dimension.
func appendBands(dst []byte, h *event.Head, rec []byte, n, side int) []byte {
	dst = append(dst, '=', 0x0e, 0x0a, 1)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
	for i := range n {
		var sizes [2]int64
		sizes[0], sizes[1] = event.GetPair(rec, 1+i)
		f := math.NaN()
		if sizes[side] != event.Null {
			f = fixed.Float(sizes[side], h.QtyScale)
		}
		dst = appendDouble(dst, f)
	}
	return dst
}

func appendDouble(dst []byte, f float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(f))
}

// appendQuoted writes the inside of a text value. Line ends are escaped like
// quotes, QuestDB keeps them as part of the text; every other byte is kept as it is.
func appendQuoted(dst, s []byte) []byte {
	for _, c := range s {
		switch c {
		case '"', '\\', '\n', '\r':
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return dst
}
