package verify

import (
	"fmt"
	"math"
	"strings"

	"deeptape/hotpath/event"
)

// This file turns row records into the rows that the tables must hold, and says
// in which columns two rows differ. It is written from schema.sql and the layout
// of the records, not from ilp/line, whose work it checks.

func sideWord(s event.Side, bid, ask string) string {
	switch s {
	case event.Bid:
		return bid
	case event.Ask:
		return ask
	}
	return ""
}

// takeBook compares the rows of a book message: one a level, or one without.
func (s *journalSymbol) takeBook(h *event.Head, rec []byte) error {
	w := bookRow{
		ts: h.Ts, px: event.Null, qty: event.Null, tsEvent: h.TsEvent, seq: h.Seq, seqPrev: event.Null,
		pxScale: int(h.PxScale), qtyScale: int(h.QtyScale),
	}
	n := event.Levels(rec)
	rows := max(1, n)
	for i := range rows {
		w.ts, w.flags = h.Ts+int64(i), int(h.Flags)
		if n > 0 {
			l := event.GetLevel(rec, n, i)
			w.side, w.px, w.qty = sideWord(l.Side, "bid", "ask"), l.Px, l.Qty
			w.flags |= int(l.Flags)
		}
		if i == 0 {
			w.flags |= event.FlagFirst
		}
		if i == rows-1 {
			w.flags |= event.FlagLast
			w.seqPrev = h.SeqPrev
		}
		if err := s.book.take(&w); err != nil {
			return err
		}
	}
	return nil
}

// topOf fills w; its arrays reuse the memory that w has.
func topOf(h *event.Head, rec []byte, w *topRow) {
	w.ts, w.tsEvent, w.seq, w.flags = h.Ts, h.TsEvent, h.Seq, int(h.Flags)
	w.bid, w.bidSize = sideOfTop(h, rec, 0, int(h.N), &w.bids)
	w.ask, w.askSize = sideOfTop(h, rec, int(h.N), int(h.Extra), &w.asks)
}

func sideOfTop(h *event.Head, rec []byte, first, n int, m *matrix) (px, size float64) {
	m.rows, m.cols, m.values = 0, 0, m.values[:0]
	if n == 0 {
		return math.NaN(), math.NaN()
	}
	m.rows, m.cols = 2, n
	for i := range n {
		px, _ := event.GetPair(rec, first+i)
		m.values = append(m.values, double(px, int(h.PxScale)))
	}
	for i := range n {
		_, qty := event.GetPair(rec, first+i)
		m.values = append(m.values, double(qty, int(h.QtyScale)))
	}
	return m.values[0], m.values[n]
}

// depthOf fills w; its arrays reuse the memory that w has.
func depthOf(h *event.Head, rec []byte, w *depthRow) {
	w.ts, w.tsEvent, w.seq, w.flags = h.Ts, h.TsEvent, h.Seq, int(h.Flags)
	bid, ask := event.GetPair(rec, 0)
	w.bid, w.ask = sizeOf(bid, int(h.PxScale)), sizeOf(ask, int(h.PxScale))
	w.sizes[0], w.sizes[1] = w.sizes[0][:0], w.sizes[1][:0]
	for i := range int(h.N) {
		bids, asks := event.GetPair(rec, 1+i)
		w.sizes[0] = append(w.sizes[0], sizeOf(bids, int(h.QtyScale)))
		w.sizes[1] = append(w.sizes[1], sizeOf(asks, int(h.QtyScale)))
	}
}

func quoteOf(h *event.Head, rec []byte) quoteRow {
	w := quoteRow{ts: h.Ts, tsEvent: h.TsEvent, seq: h.Seq, flags: int(h.Flags)}
	w.bid, w.bidSize = sideOfQuote(h, rec, 0)
	w.ask, w.askSize = sideOfQuote(h, rec, 1)
	return w
}

// sideOfQuote: a side that the venue left empty is null.
func sideOfQuote(h *event.Head, rec []byte, i int) (px, size float64) {
	p, q := event.GetPair(rec, i)
	if p == 0 && q == 0 {
		return math.NaN(), math.NaN()
	}
	return double(p, int(h.PxScale)), double(q, int(h.QtyScale))
}

func tradeOf(h *event.Head, rec []byte) tradeRow {
	px, qty, aggressor, id := event.GetTrade(rec, h.N)
	return tradeRow{
		ts: h.Ts, px: px, qty: qty, tsEvent: h.TsEvent, seq: h.Seq, side: sideWord(aggressor, "buy", "sell"), id: string(id),
		pxScale: int(h.PxScale), qtyScale: int(h.QtyScale), flags: int(h.Flags),
	}
}

// differences collects the columns in which two rows differ.
type differences struct{ strings.Builder }

func (d *differences) add(column string, want, got any) {
	if d.Len() > 0 {
		d.WriteString("; ")
	}
	fmt.Fprintf(d, "%s is %v, the journal has %v", column, got, want)
}

func (d *differences) long(column string, want, got int64) {
	if want != got {
		d.add(column, number(want), number(got))
	}
}

func (d *differences) time(column string, want, got int64) {
	if want != got {
		d.add(column, stamp(want), stamp(got))
	}
}

func (d *differences) text(column, want, got string) {
	if want != got {
		d.add(column, fmt.Sprintf("%q", want), fmt.Sprintf("%q", got))
	}
}

func (d *differences) double(column string, want, got float64) {
	if !sameDouble(want, got) {
		d.add(column, want, got)
	}
}

// sameDouble: equal to the bit, or both null.
func sameDouble(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }

func (d *differences) matrix(column string, want, got *matrix) {
	if want.rows != got.rows || want.cols != got.cols {
		d.add(column, fmt.Sprintf("%d x %d", want.rows, want.cols), fmt.Sprintf("%d x %d", got.rows, got.cols))
		return
	}
	for i := range want.values {
		if !sameDouble(want.values[i], got.values[i]) {
			d.add(fmt.Sprintf("%s[%d,%d]", column, i/want.cols+1, i%want.cols+1), want.values[i], got.values[i])
			return
		}
	}
}

func differBook(want, got *bookRow) string {
	if *want == *got {
		return ""
	}
	var d differences
	d.text("side", want.side, got.side)
	d.long("px", want.px, got.px)
	d.long("qty", want.qty, got.qty)
	d.long("px_scale", int64(want.pxScale), int64(got.pxScale))
	d.long("qty_scale", int64(want.qtyScale), int64(got.qtyScale))
	d.time("ts_event", want.tsEvent, got.tsEvent)
	d.long("seq", want.seq, got.seq)
	d.long("seq_prev", want.seqPrev, got.seqPrev)
	d.long("flags", int64(want.flags), int64(got.flags))
	return d.String()
}

func differTop(want, got *topRow) string {
	var d differences
	d.double("bid", want.bid, got.bid)
	d.double("bid_size", want.bidSize, got.bidSize)
	d.double("ask", want.ask, got.ask)
	d.double("ask_size", want.askSize, got.askSize)
	d.matrix("bids", &want.bids, &got.bids)
	d.matrix("asks", &want.asks, &got.asks)
	d.time("ts_event", want.tsEvent, got.tsEvent)
	d.long("seq", want.seq, got.seq)
	d.long("flags", int64(want.flags), int64(got.flags))
	return d.String()
}

func differDepth(want, got *depthRow) string {
	var d differences
	d.double("bid", want.bid, got.bid)
	d.double("ask", want.ask, got.ask)
	for s, column := range []string{"bid_depth", "ask_depth"} {
		if len(want.sizes[s]) != len(got.sizes[s]) {
			d.add(column, fmt.Sprintf("%d bands", len(want.sizes[s])), fmt.Sprintf("%d bands", len(got.sizes[s])))
			continue
		}
		for i := range want.sizes[s] {
			d.double(fmt.Sprintf("%s[%d]", column, i+1), want.sizes[s][i], got.sizes[s][i])
		}
	}
	d.time("ts_event", want.tsEvent, got.tsEvent)
	d.long("seq", want.seq, got.seq)
	d.long("flags", int64(want.flags), int64(got.flags))
	return d.String()
}

func differQuote(want, got *quoteRow) string {
	var d differences
	d.double("bid", want.bid, got.bid)
	d.double("bid_size", want.bidSize, got.bidSize)
	d.double("ask", want.ask, got.ask)
	d.double("ask_size", want.askSize, got.askSize)
	d.time("ts_event", want.tsEvent, got.tsEvent)
	d.long("seq", want.seq, got.seq)
	d.long("flags", int64(want.flags), int64(got.flags))
	return d.String()
}

func differTrade(want, got *tradeRow) string {
	if *want == *got {
		return ""
	}
	var d differences
	d.text("side", want.side, got.side)
	d.long("px", want.px, got.px)
	d.long("qty", want.qty, got.qty)
	d.long("px_scale", int64(want.pxScale), int64(got.pxScale))
	d.long("qty_scale", int64(want.qtyScale), int64(got.qtyScale))
	d.text("trade_id", want.id, got.id)
	d.time("ts_event", want.tsEvent, got.tsEvent)
	d.long("seq", want.seq, got.seq)
	d.long("flags", int64(want.flags), int64(got.flags))
	return d.String()
}

func differInterval(want, got *interval) string {
	var d differences
	d.time("ts_end", want.end, got.end)
	d.text("state", want.state, got.state)
	d.text("proof", want.proof, got.proof)
	d.text("cause", want.cause, got.cause)
	d.long("seq_first", want.seqFirst, got.seqFirst)
	d.long("seq_last", want.seqLast, got.seqLast)
	d.long("messages", want.messages, got.messages)
	d.text("detail", want.detail, got.detail)
	return d.String()
}

func showBook(r *bookRow) string {
	if r.px == event.Null || r.qty == event.Null {
		return "a message without levels, seq " + number(r.seq)
	}
	return fmt.Sprintf("%s %s size %s, seq %s", r.side, decimal(r.px, r.pxScale), decimal(r.qty, r.qtyScale), number(r.seq))
}

func showTop(r *topRow) string {
	return fmt.Sprintf("bid %v size %v, ask %v size %v, seq %s", r.bid, r.bidSize, r.ask, r.askSize, number(r.seq))
}

func showDepth(r *depthRow) string {
	return fmt.Sprintf("bid %v with %v near it, ask %v with %v, seq %s", r.bid, r.sizes[0], r.ask, r.sizes[1], number(r.seq))
}

func showQuote(r *quoteRow) string {
	return fmt.Sprintf("bid %v size %v, ask %v size %v, seq %s", r.bid, r.bidSize, r.ask, r.askSize, number(r.seq))
}

func showTrade(r *tradeRow) string {
	if r.px == event.Null || r.qty == event.Null {
		return fmt.Sprintf("trade %q without price or size", r.id)
	}
	return fmt.Sprintf("trade %q, %s %s size %s", r.id, r.side, decimal(r.px, r.pxScale), decimal(r.qty, r.qtyScale))
}

// rows is how many the journal makes in the time asked for.
func (s *journalSymbol) rows() int {
	return s.book.derived + s.top.derived + s.depth.derived + s.quotes.derived + s.trades.derived
}

// made is how many rows and intervals the journal makes in the time asked for.
func (s *journalSymbol) made() int {
	n := s.rows()
	for _, intervals := range s.expect {
		for _, e := range intervals {
			if a, b := e.cut(s.opt.From, s.opt.until()); a <= b {
				n++
			}
		}
	}
	return n
}
