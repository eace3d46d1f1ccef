package verify

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"

	"deeptape/hotpath/event"
	"deeptape/ilp/qdb"
)

// Rows as the tables hold them. A null LONG or time is event.Null, a null DOUBLE
// is NaN, a null text is empty. The CSV of QuestDB 9.3.4 prints a double with all
// the digits that it needs, also in arrays (300,000 random ones came back bit for
// bit), so that comparing doubles exactly is sound.
type bookRow struct {
	ts, px, qty, tsEvent, seq, seqPrev int64
	side                               string
	pxScale, qtyScale                  int
	flags                              int
}

type topRow struct {
	ts, tsEvent, seq           int64
	bid, bidSize, ask, askSize float64
	bids, asks                 matrix
	flags                      int
}

type quoteRow struct {
	ts, tsEvent, seq           int64
	bid, bidSize, ask, askSize float64
	flags                      int
}

type tradeRow struct {
	ts, px, qty, tsEvent, seq int64
	side, id                  string
	pxScale, qtyScale         int
	flags                     int
}

type depthRow struct {
	ts, tsEvent, seq int64
	bid, ask         float64
	sizes            [2][]float64 // bid_depth, ask_depth
	flags            int
}

// matrix is a DOUBLE[][], row by row.
type matrix struct {
	rows, cols int
	values     []float64
}

func (m *matrix) at(row, col int) float64 { return m.values[row*m.cols+col] }

var bookShape = shape[bookRow]{
	table:   tableBook,
	columns: "ts::long t, side, px, qty, px_scale, qty_scale, ts_event::long te, seq, seq_prev, flags",
	limit:   20000,
	ts:      func(r *bookRow) int64 { return r.ts },
	parse: func(f [][]byte, r *bookRow) error {
		p := parser{f: f}
		*r = bookRow{
			ts: p.long(0), side: p.side(1), px: p.long(2), qty: p.long(3), pxScale: p.small(4), qtyScale: p.small(5),
			tsEvent: p.long(6), seq: p.long(7), seqPrev: p.long(8), flags: p.small(9),
		}
		return p.err
	},
}

var topShape = shape[topRow]{
	table:   tableTop,
	columns: "ts::long t, bid, bid_size, ask, ask_size, bids, asks, ts_event::long te, seq, flags",
	limit:   4000,
	ts:      func(r *topRow) int64 { return r.ts },
	parse: func(f [][]byte, r *topRow) error {
		p := parser{f: f}
		r.ts, r.bid, r.bidSize, r.ask, r.askSize = p.long(0), p.double(1), p.double(2), p.double(3), p.double(4)
		p.matrix(5, &r.bids)
		p.matrix(6, &r.asks)
		r.tsEvent, r.seq, r.flags = p.long(7), p.long(8), p.small(9)
		return p.err
	},
}

var quoteShape = shape[quoteRow]{
	table:   tableQuotes,
	columns: "ts::long t, bid, bid_size, ask, ask_size, ts_event::long te, seq, flags",
	limit:   20000,
	ts:      func(r *quoteRow) int64 { return r.ts },
	parse: func(f [][]byte, r *quoteRow) error {
		p := parser{f: f}
		*r = quoteRow{
			ts: p.long(0), bid: p.double(1), bidSize: p.double(2), ask: p.double(3), askSize: p.double(4),
			tsEvent: p.long(5), seq: p.long(6), flags: p.small(7),
		}
		return p.err
	},
}

var tradeShape = shape[tradeRow]{
	table:   tableTrades,
	columns: "ts::long t, side, px, qty, px_scale, qty_scale, trade_id, ts_event::long te, seq, flags",
	limit:   20000,
	ts:      func(r *tradeRow) int64 { return r.ts },
	parse: func(f [][]byte, r *tradeRow) error {
		p := parser{f: f}
		*r = tradeRow{
			ts: p.long(0), side: p.side(1), px: p.long(2), qty: p.long(3), pxScale: p.small(4), qtyScale: p.small(5),
			id: string(f[6]), tsEvent: p.long(7), seq: p.long(8), flags: p.small(9),
		}
		return p.err
	},
}

var depthShape = shape[depthRow]{
	table:   tableDepth,
	columns: "ts::long t, bid, ask, bid_depth, ask_depth, ts_event::long te, seq, flags",
	limit:   4000,
	ts:      func(r *depthRow) int64 { return r.ts },
	parse: func(f [][]byte, r *depthRow) error {
		p := parser{f: f}
		r.ts, r.bid, r.ask = p.long(0), p.double(1), p.double(2)
		r.sizes[0], r.sizes[1] = p.vector(3, r.sizes[0][:0]), p.vector(4, r.sizes[1][:0])
		r.tsEvent, r.seq, r.flags = p.long(5), p.long(6), p.small(7)
		return p.err
	},
}

// parser reads the fields of one exported row and keeps the first error.
type parser struct {
	f   [][]byte
	err error
}

func (p *parser) fail(i int, err error) {
	if p.err == nil {
		p.err = fmt.Errorf("cannot read value %d of an exported row, %q: %w", i+1, p.f[i], err)
	}
}

func (p *parser) long(i int) int64 {
	if p.f[i] == nil {
		return event.Null
	}
	v, err := strconv.ParseInt(string(p.f[i]), 10, 64)
	if err != nil {
		p.fail(i, err)
	}
	return v
}

func (p *parser) small(i int) int { return int(p.long(i)) }

func (p *parser) double(i int) float64 {
	if p.f[i] == nil {
		return math.NaN()
	}
	v, err := strconv.ParseFloat(string(p.f[i]), 64)
	if err != nil {
		p.fail(i, err)
	}
	return v
}

// side keeps the words of every row as constants.
func (p *parser) side(i int) string {
	switch string(p.f[i]) {
	case "":
		return ""
	case "bid":
		return "bid"
	case "ask":
		return "ask"
	case "buy":
		return "buy"
	case "sell":
		return "sell"
	}
	return string(p.f[i])
}

var (
	errVector = errors.New("not a one-dimensional array")
	errMatrix = errors.New("not a two-dimensional array")
)

// vector reads [1.0,null]. A null within it is NaN, a null array is empty.
func (p *parser) vector(i int, v []float64) []float64 {
	b := p.f[i]
	if b == nil || string(b) == "null" || string(b) == "[]" {
		return v
	}
	if len(b) < 2 || b[0] != '[' || b[len(b)-1] != ']' {
		p.fail(i, errVector)
		return v
	}
	for word := range bytes.SplitSeq(b[1:len(b)-1], []byte(",")) {
		f := math.NaN()
		if string(word) != "null" {
			var err error
			if f, err = strconv.ParseFloat(string(word), 64); err != nil {
				p.fail(i, err)
				return v
			}
		}
		v = append(v, f)
	}
	return v
}

// matrix reads [[1.0,2.0],[3.0,4.0]].
func (p *parser) matrix(i int, m *matrix) {
	m.rows, m.cols, m.values = 0, 0, m.values[:0]
	b := p.f[i]
	if b == nil || string(b) == "null" || string(b) == "[]" {
		return
	}
	if len(b) < 2 || b[0] != '[' || b[len(b)-1] != ']' {
		p.fail(i, errMatrix)
		return
	}
	depth, from := 0, 0
	for at, c := range b {
		switch c {
		case '[':
			depth++
			from = at + 1
			if depth == 2 {
				m.rows++
			}
		case ',', ']':
			if depth == 2 && at > from {
				word := b[from:at]
				v := math.NaN()
				if string(word) != "null" {
					var err error
					if v, err = strconv.ParseFloat(string(word), 64); err != nil {
						p.fail(i, err)
						return
					}
				}
				m.values = append(m.values, v)
			}
			from = at + 1
			if c == ']' {
				depth--
			}
		}
	}
	if depth != 0 || m.rows == 0 || len(m.values)%m.rows != 0 {
		p.fail(i, errMatrix)
		return
	}
	m.cols = len(m.values) / m.rows
}

// stamp is how instants are printed: RFC 3339 with nanoseconds.
func stamp(ns int64) string {
	if ns == event.Null {
		return "null"
	}
	s := qdb.FormatTime(ns)
	return s[1 : len(s)-1]
}
