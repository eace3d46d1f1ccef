package verify

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/big"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"deeptape/cmd/localdb/dbtest"
	"deeptape/hotpath/event"
	"deeptape/ilp/qdb"
	"deeptape/ilp/schema"
)

// tape is a record as a right agent would have written it, made by hand: it knows
// nothing of the code under test but the types of the rows.
type tape struct {
	symbol   string
	books    []bookRow
	tops     []topRow
	depths   []depthRow
	quotes   []quoteRow
	trades   []tradeRow
	coverage []cover

	rng   *rand.Rand
	now   int64
	seq   int64
	trade int64
	sides [2]map[int64]int64 // the true book
	scale [2]int             // px, qty
	last  string             // first ten levels as they were last written
	n     int

	proof    string // of the book
	inStream bool   // snapshots have a time of the venue's
	cut      int    // levels a side that the venue keeps, 0: all
	joins    bool   // some trades stand for several
	bands    []int
	tsEvent  int64 // of the last message that is not a keyframe
	messages int

	rawTops   [][2][]level // the levels of tops and the values of quotes as whole numbers
	rawScales [][2]int
	rawQuotes [][4]int64
	rawDepths []rawDepth
}

type rawDepth struct {
	scale [2]int
	pairs [][2]int64 // the touch, then the bands
}

type cover struct {
	stream event.Stream
	interval
}

const t0 = int64(1_795_341_600_000_000_000) // 2026-11-22T10:00:00Z

// newTape is two stretches of book with a gap between them, a widening by a
// keyframe, a silence that the next message lifted, trades and quotes.
func newTape(symbol string) *tape { return newTapeOf(symbol, 10) }

// newTapeOf has n levels in book_top.
func newTapeOf(symbol string, n int) *tape {
	p := emptyTape(symbol, n)
	p.tick()
	p.snapshot(14)
	p.tick()
	p.delta(-3, 3) // the venue had sent its beginning before the snapshot
	p.stretch(60)
	p.tick()
	p.keyframe([2]int{2, 6})
	p.stretch(20)
	p.empty()
	// A silence: unverified at first, then lifted.
	p.open(event.StreamBook, stateVerified, proofChain, "", p.coverage[p.current(event.StreamBook)].end+1)
	p.stretch(20)
	// Lost messages, and a loss of trades.
	p.lose()
	p.snapshot(12)
	p.stretch(40)
	return p
}

// lose opens a gap of the book and of trades.
func (p *tape) lose() {
	p.open(event.StreamBook, stateGap, proofNone, "sequence", p.coverage[p.current(event.StreamBook)].end+1)
	p.nullTop(p.coverage[p.current(event.StreamBook)].ts)
	p.open(event.StreamTrades, stateGap, proofNone, "disconnect", p.coverage[p.current(event.StreamTrades)].end+1)
	p.tick()
	p.seq += 77
	p.trade += 5
}

// emptyTape has only begun.
func emptyTape(symbol string, n int) *tape {
	p := &tape{symbol: symbol, rng: rand.New(rand.NewPCG(1, 2)), now: t0, seq: 1000, trade: 500, scale: [2]int{2, 5}, n: n, proof: proofChain, bands: []int{1, 2, 5, 10, 25, 50, 100}}
	p.open(event.StreamBook, stateGap, proofNone, "start", t0)
	p.open(event.StreamTrades, stateGap, proofNone, "start", t0)
	p.open(event.StreamQuotes, stateGap, proofNone, "start", t0)
	p.nullTop(t0)
	return p
}

func (p *tape) tick() { p.now += 1 + p.rng.Int64N(5e6) }

func (p *tape) current(s event.Stream) int {
	for i := len(p.coverage) - 1; i >= 0; i-- {
		if p.coverage[i].stream == s {
			return i
		}
	}
	return -1
}

func (p *tape) open(s event.Stream, state, proof, cause string, ts int64) {
	if i := p.current(s); i >= 0 {
		p.coverage[i].end = ts - 1
	}
	p.coverage = append(p.coverage, cover{s, interval{ts: ts, end: ts, state: state, proof: proof, cause: cause, seqFirst: event.Null, seqLast: event.Null}})
}

func (p *tape) count(s event.Stream, ts, seq int64) {
	iv := &p.coverage[p.current(s)]
	iv.messages++
	iv.end = ts
	if seq != event.Null {
		if iv.seqFirst == event.Null {
			iv.seqFirst = seq
		}
		iv.seqLast = seq
	}
}

func nan() float64 { return math.NaN() }

func (p *tape) nullTop(ts int64) {
	p.tops = append(p.tops, topRow{ts: ts, bid: nan(), bidSize: nan(), ask: nan(), askSize: nan(), tsEvent: event.Null, seq: event.Null})
	p.rawTops, p.rawScales = append(p.rawTops, [2][]level{}), append(p.rawScales, p.scale)
	p.last = ""
}

func (p *tape) snapshot(depth int64) {
	p.open(event.StreamBook, stateVerified, p.proof, "", p.now)
	if p.cut > 0 {
		p.coverage[len(p.coverage)-1].detail = fmt.Sprintf("depth=%d", p.cut)
	}
	p.snapshotAgain(depth)
}

// snapshotAgain is one within an interval.
func (p *tape) snapshotAgain(depth int64) {
	p.sides = [2]map[int64]int64{{}, {}}
	var rows []bookRow
	for i := range depth {
		rows = append(rows, bookRow{side: "bid", px: 6_000_000 - 100*i, qty: 1 + p.rng.Int64N(1e6)})
	}
	for i := range depth {
		rows = append(rows, bookRow{side: "ask", px: 6_000_100 + 100*i, qty: 1 + p.rng.Int64N(1e6)})
	}
	tsEvent := int64(event.Null)
	if p.inStream {
		tsEvent = p.now - 3e6
	}
	if p.proof == proofCRC {
		p.seq = 0
	}
	p.message(rows, event.FlagSnapshot, tsEvent, event.Null)
}

// keyframe writes the whole book, at scales that are as wide or wider.
func (p *tape) keyframe(scale [2]int) {
	for s := range p.sides {
		wide := map[int64]int64{}
		for px, qty := range p.sides[s] {
			wide[px*pow(scale[0]-p.scale[0])] = qty * pow(scale[1]-p.scale[1])
		}
		p.sides[s] = wide
	}
	p.scale = scale
	var rows []bookRow
	for s, side := range []string{"bid", "ask"} {
		for _, px := range p.prices(s) {
			rows = append(rows, bookRow{side: side, px: px, qty: p.sides[s][px]})
		}
	}
	p.message(rows, event.FlagSnapshot|event.FlagKeyframe, event.Null, event.Null)
}

func pow(n int) int64 {
	m := int64(1)
	for range n {
		m *= 10
	}
	return m
}

// prices are best first.
func (p *tape) prices(s int) []int64 {
	var all []int64
	for px := range p.sides[s] {
		all = append(all, px)
	}
	slices.Sort(all)
	if s == 0 {
		slices.Reverse(all)
	}
	return all
}

// stretch is n book messages with trades and quotes among them.
func (p *tape) stretch(n int) {
	for range n {
		p.tick()
		switch p.rng.IntN(3) {
		case 0:
			p.addTrade()
		case 1:
			p.addQuote()
		}
		p.tick()
		p.delta(0, 1+p.rng.IntN(5))
	}
}

// delta changes n levels; its ids start after p.seq+from.
func (p *tape) delta(from int64, n int) {
	var rows []bookRow
	for range n {
		s := p.rng.IntN(2)
		side, px := "bid", 6_000_000-100*p.rng.Int64N(16)
		if s == 1 {
			side, px = "ask", 6_000_100+100*p.rng.Int64N(16)
		}
		px *= pow(p.scale[0] - 2)
		qty := 1 + p.rng.Int64N(1e6)
		if p.rng.IntN(3) == 0 && len(p.sides[s]) > 11 {
			qty = 0
		}
		rows = append(rows, bookRow{side: side, px: px, qty: qty})
	}
	prev := p.seq + from
	p.seq += 1 + p.rng.Int64N(9)
	switch p.proof {
	case proofCRC:
		p.seq, prev = prev+1, event.Null
	case proofConnection:
		prev = event.Null
	}
	p.message(rows, 0, p.now-3e6, prev)
}

// empty is a delta without levels.
func (p *tape) empty() {
	p.tick()
	prev := p.seq
	p.seq++
	p.message([]bookRow{{px: event.Null, qty: event.Null}}, 0, p.now, prev)
}

func (p *tape) message(rows []bookRow, flags int, tsEvent, prev int64) {
	for i := range rows {
		r := &rows[i]
		r.ts, r.tsEvent, r.seq, r.seqPrev, r.flags = p.now+int64(i), tsEvent, p.seq, event.Null, flags
		r.pxScale, r.qtyScale = p.scale[0], p.scale[1]
		if i == 0 {
			r.flags |= event.FlagFirst
		}
		if i == len(rows)-1 {
			r.flags |= event.FlagLast
			r.seqPrev = prev
		}
		if s := slices.Index([]string{"bid", "ask"}, r.side); s >= 0 {
			if p.sides[s][r.px] = r.qty; r.qty == 0 {
				delete(p.sides[s], r.px)
			}
		}
	}
	for s := range p.sides { // the venue does not say what falls out
		for prices := p.prices(s); p.cut > 0 && len(prices) > p.cut; prices = prices[:len(prices)-1] {
			delete(p.sides[s], prices[len(prices)-1])
		}
	}
	p.books = append(p.books, rows...)
	p.now += int64(len(rows) - 1)
	p.count(event.StreamBook, p.now, p.seq)
	t := topRow{ts: p.now, tsEvent: tsEvent, seq: p.seq}
	t.bid, t.bidSize, t.bids = p.side(0)
	t.ask, t.askSize, t.asks = p.side(1)
	if text := fmt.Sprint(t.bids, t.asks); text != p.last {
		p.last = text
		if flags&event.FlagKeyframe == 0 {
			p.tops = append(p.tops, t)
			var raw [2][]level
			for s := range raw {
				for _, px := range p.prices(s)[:min(p.n, len(p.sides[s]))] {
					raw[s] = append(raw[s], level{px, p.sides[s][px]})
				}
			}
			p.rawTops, p.rawScales = append(p.rawTops, raw), append(p.rawScales, p.scale)
		}
	}
	if flags&event.FlagKeyframe == 0 {
		p.tsEvent = tsEvent
	}
	if p.messages++; p.messages%5 == 0 {
		p.depth()
	}
}

// depth writes what is near the touch, with numbers that do not end.
func (p *tape) depth() {
	r := depthRow{ts: p.now, tsEvent: p.tsEvent, seq: p.seq}
	raw := rawDepth{p.scale, make([][2]int64, 1+len(p.bands))}
	for s := range p.sides {
		prices := p.prices(s)
		raw.pairs[0][s] = prices[0]
		for i, bps := range p.bands {
			limit := big.NewRat(prices[0]*int64(bps), 10_000)
			for _, px := range prices {
				if away := big.NewRat(px-prices[0], 1); away.Abs(away).Cmp(limit) <= 0 {
					raw.pairs[1+i][s] += p.sides[s][px]
				}
			}
			r.sizes[s] = append(r.sizes[s], parse(raw.pairs[1+i][s], p.scale[1]))
		}
	}
	r.bid, r.ask = parse(raw.pairs[0][0], p.scale[0]), parse(raw.pairs[0][1], p.scale[0])
	p.depths, p.rawDepths = append(p.depths, r), append(p.rawDepths, raw)
}

// side are the first levels as doubles, by way of text: another way than the
// code under test takes.
func (p *tape) side(s int) (px, size float64, m matrix) {
	prices := p.prices(s)
	prices = prices[:min(len(prices), p.n)]
	m = matrix{rows: 2, cols: len(prices)}
	for _, v := range prices {
		m.values = append(m.values, parse(v, p.scale[0]))
	}
	for _, v := range prices {
		m.values = append(m.values, parse(p.sides[s][v], p.scale[1]))
	}
	return m.values[0], m.values[len(prices)], m
}

func parse(v int64, scale int) float64 {
	f, err := strconv.ParseFloat(fmt.Sprintf("%de-%d", v, scale), 64)
	if err != nil {
		panic(err)
	}
	return f
}

func (p *tape) addTrade() {
	i := p.current(event.StreamTrades)
	if p.coverage[i].state == stateGap {
		p.open(event.StreamTrades, stateVerified, proofTradeID, "", p.now)
	}
	p.trade++
	if p.joins && p.trade%4 == 0 {
		p.trade += p.trade % 3
	}
	p.trades = append(p.trades, tradeRow{ts: p.now, side: []string{"buy", "sell"}[p.rng.IntN(2)], px: 6_000_000 + p.rng.Int64N(100), qty: 1 + p.rng.Int64N(1000),
		pxScale: p.scale[0], qtyScale: p.scale[1], id: strconv.FormatInt(p.trade, 10), tsEvent: p.now - 5e6, seq: event.Null})
	p.count(event.StreamTrades, p.now, p.trade)
}

func (p *tape) addQuote() {
	i := p.current(event.StreamQuotes)
	if p.coverage[i].state == stateGap {
		p.open(event.StreamQuotes, stateUnverified, proofNone, "", p.now)
	}
	raw := [4]int64{6_000_000 + p.rng.Int64N(100), p.rng.Int64N(1e6), 6_000_150, 0}
	q := quoteRow{ts: p.now, bid: parse(raw[0], 2), bidSize: parse(raw[1], 5), ask: parse(raw[2], 2), askSize: 0,
		tsEvent: event.Null, seq: p.seq, flags: event.FlagUnverified}
	if p.rng.IntN(9) == 0 {
		raw[2], q.ask, q.askSize = 0, nan(), nan() // nobody offers
	}
	p.quotes, p.rawQuotes = append(p.quotes, q), append(p.rawQuotes, raw)
	p.count(event.StreamQuotes, p.now, p.seq)
}

// writer writes line protocol, by hand.
type writer struct {
	bytes.Buffer
	first bool
}

func (w *writer) start(table, symbol, side string) {
	fmt.Fprintf(w, "%s,venue=binance,symbol=%s", table, strings.ReplaceAll(symbol, " ", `\ `))
	w.symbol("side", side)
	w.first = true
}

func (w *writer) symbol(name, value string) {
	if value != "" {
		fmt.Fprintf(w, ",%s=%s", name, value)
	}
}

func (w *writer) name(name string) {
	sep := ","
	if w.first {
		sep, w.first = " ", false
	}
	fmt.Fprintf(w, "%s%s=", sep, name)
}

func (w *writer) long(name string, v int64, suffix string) {
	if v != event.Null {
		w.name(name)
		fmt.Fprintf(w, "%d%s", v, suffix)
	}
}

func (w *writer) double(name string, v float64) {
	if !math.IsNaN(v) {
		w.name(name)
		w.WriteString("=\x10")
		binary.Write(w, binary.LittleEndian, v)
	}
}

func (w *writer) matrix(name string, m matrix) {
	if m.rows > 0 {
		w.name(name)
		w.WriteString("=\x0e\x0a\x02")
		binary.Write(w, binary.LittleEndian, []uint32{uint32(m.rows), uint32(m.cols)})
		binary.Write(w, binary.LittleEndian, m.values)
	}
}

func (w *writer) vector(name string, v []float64) {
	w.name(name)
	w.WriteString("=\x0e\x0a\x01")
	binary.Write(w, binary.LittleEndian, uint32(len(v)))
	binary.Write(w, binary.LittleEndian, v)
}

func (w *writer) text(name, v string) {
	if v != "" {
		w.name(name)
		fmt.Fprintf(w, "%q", v)
	}
}

func (w *writer) end(ts int64) { fmt.Fprintf(w, " %d\n", ts) }

// store writes the tape, a request a table.
func (p *tape) store(t *testing.T, addr string) {
	t.Helper()
	var w writer
	for _, r := range p.books {
		w.start(tableBook, p.symbol, r.side)
		w.long("px", r.px, "i")
		w.long("qty", r.qty, "i")
		w.long("px_scale", int64(r.pxScale), "i")
		w.long("qty_scale", int64(r.qtyScale), "i")
		w.long("ts_event", r.tsEvent, "n")
		w.long("seq", r.seq, "i")
		w.long("seq_prev", r.seqPrev, "i")
		w.long("flags", int64(r.flags), "i")
		w.end(r.ts)
	}
	post(t, addr, &w.Buffer)
	for _, r := range p.tops {
		w.start(tableTop, p.symbol, "")
		w.double("bid", r.bid)
		w.double("bid_size", r.bidSize)
		w.double("ask", r.ask)
		w.double("ask_size", r.askSize)
		w.matrix("bids", r.bids)
		w.matrix("asks", r.asks)
		w.long("ts_event", r.tsEvent, "n")
		w.long("seq", r.seq, "i")
		w.long("flags", int64(r.flags), "i")
		w.end(r.ts)
	}
	post(t, addr, &w.Buffer)
	for _, r := range p.depths {
		w.start(tableDepth, p.symbol, "")
		w.double("bid", r.bid)
		w.double("ask", r.ask)
		w.vector("bid_depth", r.sizes[0])
		w.vector("ask_depth", r.sizes[1])
		w.long("ts_event", r.tsEvent, "n")
		w.long("seq", r.seq, "i")
		w.long("flags", int64(r.flags), "i")
		w.end(r.ts)
	}
	post(t, addr, &w.Buffer)
	for _, r := range p.quotes {
		w.start(tableQuotes, p.symbol, "")
		w.double("bid", r.bid)
		w.double("bid_size", r.bidSize)
		w.double("ask", r.ask)
		w.double("ask_size", r.askSize)
		w.long("ts_event", r.tsEvent, "n")
		w.long("seq", r.seq, "i")
		w.long("flags", int64(r.flags), "i")
		w.end(r.ts)
	}
	post(t, addr, &w.Buffer)
	for _, r := range p.trades {
		w.start(tableTrades, p.symbol, r.side)
		w.long("px", r.px, "i")
		w.long("qty", r.qty, "i")
		w.long("px_scale", int64(r.pxScale), "i")
		w.long("qty_scale", int64(r.qtyScale), "i")
		w.text("trade_id", r.id)
		w.long("ts_event", r.tsEvent, "n")
		w.long("seq", r.seq, "i")
		w.long("flags", int64(r.flags), "i")
		w.end(r.ts)
	}
	post(t, addr, &w.Buffer)
	for _, r := range p.coverage {
		w.start(tableCoverage, p.symbol, "")
		w.symbol("stream", r.stream.String())
		w.symbol("state", r.state)
		w.symbol("proof", r.proof)
		w.symbol("cause", r.cause)
		w.symbol("agent", "test")
		w.long("ts_end", r.interval.end, "n")
		w.long("seq_first", r.seqFirst, "i")
		w.long("seq_last", r.seqLast, "i")
		w.long("messages", r.messages, "i")
		w.text("detail", r.detail)
		w.end(r.ts)
	}
	post(t, addr, &w.Buffer)
}

func post(t *testing.T, addr string, b *bytes.Buffer) {
	t.Helper()
	defer b.Reset()
	if b.Len() == 0 {
		return
	}
	resp, err := http.Post("http://"+addr+"/write", "text/plain", bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		text, _ := io.ReadAll(resp.Body)
		t.Fatalf("POST /write: %s: %s", resp.Status, text)
	}
}

// open starts a QuestDB with deeptape's tables. Tests, and runs on one server,
// tell themselves apart by symbols that begin with a prefix of their own.
func open(t *testing.T) (ctx context.Context, db *qdb.DB, addr, prefix string) {
	addr = dbtest.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	db = qdb.Open(qdb.Conf{Addr: addr})
	t.Cleanup(func() { db.Close(); cancel() })
	if err := schema.Create(ctx, db); err != nil {
		t.Fatal(err)
	}
	return ctx, db, addr, fmt.Sprintf("%s-%d ", t.Name(), time.Now().UnixNano())
}

// only are the options that choose a test's own symbols.
func only(prefix string) Options {
	return Options{Want: func(venue, symbol string) bool { return strings.HasPrefix(symbol, prefix) }}
}
