package line

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/ilp/line/linetest"
)

// The sample is a row record as numbers, from which both the record's bytes and
// the rows that it must give are made, each in its own way.
type sample struct {
	head   event.Head
	levels []event.Level // of a book message, or the one of a trade
	bids   [][2]int64    // of a top or quote
	asks   [][2]int64
	bands  [][2]int64 // of a depth: the touch, then each band's sizes
	id     string
}

func (s *sample) record() []byte {
	var b []byte
	h := s.head
	switch h.Kind {
	case event.RowBook:
		b = make([]byte, event.BookSize(len(s.levels)))
		h.N = event.BookN(len(s.levels))
		for i, l := range s.levels {
			event.PutLevel(b, len(s.levels), i, l)
		}
	case event.RowTop, event.RowQuote:
		b = make([]byte, event.TopSize(len(s.bids), len(s.asks)))
		h.N, h.Extra = uint16(len(s.bids)), uint16(len(s.asks))
		for i, p := range append(append([][2]int64{}, s.bids...), s.asks...) {
			event.PutPair(b, i, p[0], p[1])
		}
	case event.RowDepth:
		b = make([]byte, event.DepthSize(len(s.bands)-1))
		h.N = uint16(len(s.bands) - 1)
		for i, p := range s.bands {
			event.PutPair(b, i, p[0], p[1])
		}
	case event.RowTrade:
		b = make([]byte, event.TradeSize(len(s.id)))
		h.N = uint16(len(s.id))
		event.PutTrade(b, s.levels[0].Px, s.levels[0].Qty, s.levels[0].Side, []byte(s.id))
	}
	h.Put(b, len(b))
	return b
}

func (s *sample) append(dst []byte, inst *Inst) ([]byte, int) {
	return Append(dst, inst, s.record())
}

// rows is what the contract says that the sample must become.
func (s *sample) rows(inst *Inst) []linetest.Row {
	h := &s.head
	key := []linetest.Column{{Name: "venue", Value: linetest.Symbol(inst.Venue)}, {Name: "symbol", Value: linetest.Symbol(inst.Symbol)}}
	one := func(table string, ts int64, cells ...any) linetest.Row {
		row := linetest.Row{Table: table, Ts: ts, Columns: append([]linetest.Column{}, key...)}
		for i := 0; i < len(cells); i += 2 {
			if cells[i+1] != nil {
				row.Columns = append(row.Columns, linetest.Column{Name: cells[i].(string), Value: cells[i+1]})
			}
		}
		return row
	}
	long := func(v int64) any {
		if v == math.MinInt64 {
			return nil
		}
		return v
	}
	var eventTime any
	if h.TsEvent != math.MinInt64 {
		eventTime = linetest.Nanos(h.TsEvent)
	}
	side := func(s event.Side, bid, ask string) any {
		return []any{nil, linetest.Symbol(bid), linetest.Symbol(ask)}[s]
	}
	px, qty := any(int64(h.PxScale)), any(int64(h.QtyScale))
	switch h.Kind {
	case event.RowBook:
		if len(s.levels) == 0 {
			return []linetest.Row{one("book_delta", h.Ts, "px_scale", px, "qty_scale", qty, "ts_event", eventTime, "seq", long(h.Seq), "seq_prev", long(h.SeqPrev), "flags", int64(h.Flags)|16|2)}
		}
		var rows []linetest.Row
		for i, l := range s.levels {
			flags, prev := int64(h.Flags|l.Flags), any(nil)
			if i == 0 {
				flags |= 16
			}
			if i == len(s.levels)-1 {
				flags |= 2
				prev = long(h.SeqPrev)
			}
			rows = append(rows, one("book_delta", h.Ts+int64(i), "side", side(l.Side, "bid", "ask"), "px", l.Px, "qty", l.Qty, "px_scale", px, "qty_scale", qty,
				"ts_event", eventTime, "seq", long(h.Seq), "seq_prev", prev, "flags", flags))
		}
		return rows
	case event.RowTop, event.RowQuote:
		table := map[event.RowKind]string{event.RowTop: "book_top", event.RowQuote: "quotes"}[h.Kind]
		touch := func(side [][2]int64) (px, qty, both any) {
			if len(side) == 0 || h.Kind == event.RowQuote && side[0] == [2]int64{} {
				return nil, nil, nil
			}
			m := linetest.Matrix{nil, nil}
			for _, p := range side {
				m[0] = append(m[0], decimal(p[0], h.PxScale))
				m[1] = append(m[1], decimal(p[1], h.QtyScale))
			}
			if h.Kind == event.RowQuote {
				return m[0][0], m[1][0], nil
			}
			return m[0][0], m[1][0], m
		}
		bid, bidSize, bids := touch(s.bids)
		ask, askSize, asks := touch(s.asks)
		return []linetest.Row{one(table, h.Ts, "bid", bid, "bid_size", bidSize, "ask", ask, "ask_size", askSize, "bids", bids, "asks", asks,
			"ts_event", eventTime, "seq", long(h.Seq), "flags", int64(h.Flags))}
	case event.RowDepth:
		double := func(v int64, scale int8) any {
			if v == math.MinInt64 {
				return nil
			}
			return decimal(v, scale)
		}
		var depth [2]any
		if len(s.bands) > 1 {
			for side := range depth {
				var v linetest.Vector
				for _, band := range s.bands[1:] {
					f := double(band[side], h.QtyScale)
					if f == nil {
						f = null
					}
					v = append(v, f.(float64))
				}
				depth[side] = v
			}
		}
		return []linetest.Row{one("book_depth", h.Ts, "bid", double(s.bands[0][0], h.PxScale), "ask", double(s.bands[0][1], h.PxScale), "bid_depth", depth[0], "ask_depth", depth[1],
			"ts_event", eventTime, "seq", long(h.Seq), "flags", int64(h.Flags))}
	default:
		l := s.levels[0]
		var id any
		if s.id != "" {
			id = linetest.Text(s.id)
		}
		return []linetest.Row{one("trades", h.Ts, "side", side(l.Side, "buy", "sell"), "px", l.Px, "qty", l.Qty, "px_scale", px, "qty_scale", qty, "trade_id", id,
			"ts_event", eventTime, "seq", long(h.Seq), "flags", int64(h.Flags))}
	}
}

// null stands for a NaN, which is not equal to itself: no size is so large.
const null = 1e300

// withoutNaN puts null for each NaN of an array.
func withoutNaN(rows []linetest.Row) []linetest.Row {
	for _, row := range rows {
		for _, c := range row.Columns {
			if v, ok := c.Value.(linetest.Vector); ok {
				for i := range v {
					if math.IsNaN(v[i]) {
						v[i] = null
					}
				}
			}
		}
	}
	return rows
}

// decimal is the double nearest to m / 10^scale, by way of text.
func decimal(m int64, scale int8) float64 {
	f, err := strconv.ParseFloat(fmt.Sprintf("%de-%d", m, scale), 64)
	if err != nil {
		panic(err)
	}
	return f
}

func randomSample(r *rand.Rand) *sample {
	maybe := func(v int64) int64 {
		if r.IntN(4) == 0 {
			return event.Null
		}
		return v
	}
	number := func() int64 { return int64(r.Uint64() >> (1 + r.IntN(63))) }
	s := &sample{head: event.Head{
		Kind: []event.RowKind{event.RowBook, event.RowBook, event.RowTop, event.RowQuote, event.RowTrade, event.RowDepth}[r.IntN(6)], Flags: []uint8{0, 1, 5, 8, 13}[r.IntN(5)],
		PxScale: int8(r.IntN(19)), QtyScale: int8(r.IntN(19)), Inst: r.Uint32(), Ts: number() >> 1,
		TsEvent: maybe(number() - 5), Seq: maybe(number() - 5), SeqPrev: maybe(number() - 5), Pos: r.Uint64(), TsRecv: number(),
	}}
	if r.IntN(3) == 0 {
		s.head.Ts = s.head.Ts/1000*1000 + 995 // so that levels carry into further digits
	}
	level := func() event.Level {
		return event.Level{Px: number() - 3, Qty: number(), Side: event.Side(1 + r.IntN(2)), Flags: uint8(r.IntN(2) * 8)}
	}
	pairs := func(n int) (p [][2]int64) {
		for range n {
			p = append(p, [2]int64{number() + 1, number()})
		}
		return p
	}
	switch s.head.Kind {
	case event.RowBook:
		for range r.IntN(12) {
			s.levels = append(s.levels, level())
		}
	case event.RowTop:
		s.bids, s.asks = pairs(r.IntN(4)), pairs(r.IntN(4))
	case event.RowQuote:
		s.bids, s.asks = pairs(1), pairs(1)
		if r.IntN(3) == 0 {
			s.bids[0] = [2]int64{}
		}
		if r.IntN(3) == 0 {
			s.asks[0] = [2]int64{}
		}
	case event.RowDepth:
		s.bands = append([][2]int64{{maybe(number()), maybe(number())}}, pairs(r.IntN(8))...)
		for i := range s.bands {
			s.bands[i][1] = maybe(s.bands[i][1])
		}
	case event.RowTrade:
		s.levels = []event.Level{level()}
		for range r.IntN(20) {
			s.id += string(rune(r.IntN(0x250)))
		}
	}
	return s
}

func mustInst(t testing.TB, venue, symbol string) *Inst {
	t.Helper()
	inst, err := NewInst(venue, symbol)
	if err != nil {
		t.Fatal(err)
	}
	return inst
}

// agree checks the bytes of samples, written one after the other, against what
// the contract says, and returns them.
func agree(t *testing.T, inst *Inst, samples ...*sample) []byte {
	t.Helper()
	var b []byte
	var want []linetest.Row
	for _, s := range samples {
		var n int
		b, n = s.append(b, inst)
		rows := s.rows(inst)
		if n != len(rows) {
			t.Fatalf("%d rows announced for %+v, want %d", n, s, len(rows))
		}
		want = append(want, rows...)
	}
	got, err := linetest.Decode(b)
	if err != nil {
		t.Fatalf("%v in\n%q", err, b)
	}
	if !reflect.DeepEqual(withoutNaN(got), want) {
		t.Fatalf("wrote %q\nwhich reads %+v\nwant        %+v", b, got, want)
	}
	return b
}

func TestRandom(t *testing.T) {
	seed := testSeed(t)
	r := rand.New(rand.NewPCG(seed, 1))
	insts := []*Inst{mustInst(t, "binance", "BTCUSDT"), mustInst(t, "kraken", "BTC/USD"), mustInst(t, "odd venue", `a b,c=d\e"f`), mustInst(t, "b", "币安人生USDT")}
	for range 800 {
		inst := insts[r.IntN(len(insts))]
		a, b := randomSample(r), randomSample(r)
		first := agree(t, inst, a, b)
		if again := agree(t, inst, a, b); !bytes.Equal(first, again) {
			t.Fatalf("the same records gave other bytes:\n%q\n%q", first, again)
		}
	}
}

// The bytes themselves, once, so that a reader sees them and a change is noticed.
func TestBytes(t *testing.T) {
	inst := mustInst(t, "kraken", "BTC/USD, =")
	head := func(kind event.RowKind) event.Head {
		return event.Head{Kind: kind, Flags: event.FlagSnapshot, PxScale: 1, QtyScale: 8, Ts: 1700000000000000009, TsEvent: 1700000000000000000, Seq: 7, SeqPrev: 6}
	}
	for _, c := range []struct {
		s    sample
		want string
	}{
		{sample{head: head(event.RowBook), levels: []event.Level{{Px: 617376, Qty: 100, Side: event.Bid}, {Px: 617377, Side: event.Ask, Flags: event.FlagUnverified}}},
			`book_delta,venue=kraken,symbol=BTC/USD\,\ \=,side=bid px=617376i,qty=100i,px_scale=1i,qty_scale=8i,ts_event=1700000000000000000n,seq=7i,flags=17i 1700000000000000009` + "\n" +
				`book_delta,venue=kraken,symbol=BTC/USD\,\ \=,side=ask px=617377i,qty=0i,px_scale=1i,qty_scale=8i,ts_event=1700000000000000000n,seq=7i,seq_prev=6i,flags=11i 1700000000000000010` + "\n"},
		{sample{head: head(event.RowBook)},
			`book_delta,venue=kraken,symbol=BTC/USD\,\ \= px_scale=1i,qty_scale=8i,ts_event=1700000000000000000n,seq=7i,seq_prev=6i,flags=19i 1700000000000000009` + "\n"},
		{sample{head: event.Head{Kind: event.RowTop, Ts: 5, TsEvent: event.Null, Seq: event.Null, SeqPrev: event.Null}},
			`book_top,venue=kraken,symbol=BTC/USD\,\ \= flags=0i 5` + "\n"},
		{sample{head: head(event.RowTop), bids: [][2]int64{{15, 200000000}}},
			`book_top,venue=kraken,symbol=BTC/USD\,\ \= bid==` + "\x10\x00\x00\x00\x00\x00\x00\xf8\x3f" + `,bid_size==` + "\x10\x00\x00\x00\x00\x00\x00\x00\x40" +
				`,bids==` + "\x0e\x0a\x02\x02\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\xf8\x3f\x00\x00\x00\x00\x00\x00\x00\x40" +
				`,ts_event=1700000000000000000n,seq=7i,flags=1i 1700000000000000009` + "\n"},
		{sample{head: head(event.RowDepth), bands: [][2]int64{{15, event.Null}, {200000000, 0}, {event.Null, 0}}},
			`book_depth,venue=kraken,symbol=BTC/USD\,\ \= bid==` + "\x10\x00\x00\x00\x00\x00\x00\xf8\x3f" +
				`,bid_depth==` + "\x0e\x0a\x01\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x40\x01\x00\x00\x00\x00\x00\xf8\x7f" +
				`,ask_depth==` + "\x0e\x0a\x01\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
				`,ts_event=1700000000000000000n,seq=7i,flags=1i 1700000000000000009` + "\n"},
		{sample{head: head(event.RowTrade), levels: []event.Level{{Px: 617376, Qty: 5, Side: event.Ask}}, id: "a\"b\\\n"},
			`trades,venue=kraken,symbol=BTC/USD\,\ \=,side=sell px=617376i,qty=5i,px_scale=1i,qty_scale=8i,trade_id="a\"b\\\` + "\n" + `",ts_event=1700000000000000000n,seq=7i,flags=1i 1700000000000000009` + "\n"},
	} {
		if got := agree(t, inst, &c.s); string(got) != c.want {
			t.Errorf("wrote\n%q, want\n%q", got, c.want)
		}
	}
}

// More levels than Head.N can say.
func TestHugeMessage(t *testing.T) {
	s := &sample{head: event.Head{Kind: event.RowBook, Ts: 99999, TsEvent: 1, Seq: 2, SeqPrev: 3}}
	for i := range 70000 {
		s.levels = append(s.levels, event.Level{Px: int64(i), Qty: 1, Side: event.Bid})
	}
	b, n := s.append(nil, mustInst(t, "v", "s"))
	rows, err := linetest.Decode(b)
	if err != nil || n != 70000 || len(rows) != n {
		t.Fatalf("%d rows announced, %d written, %v", n, len(rows), err)
	}
	for i := range rows {
		if rows[i].Ts != 99999+int64(i) {
			t.Fatalf("row %d has ts %d", i, rows[i].Ts)
		}
	}
}

func TestNewInst(t *testing.T) {
	for _, bad := range []string{"", "a\nb", "a\rb", "a\x00b", "a\x7fb", "a\xffb"} {
		if _, err := NewInst("v", bad); err == nil || !strings.Contains(err.Error(), "cannot write rows") {
			t.Errorf("symbol %q: %v", bad, err)
		}
		if _, err := NewInst(bad, "s"); err == nil {
			t.Errorf("venue %q was taken", bad)
		}
	}
}

func TestWrongKindPanics(t *testing.T) {
	inst := mustInst(t, "v", "s")
	for _, kind := range []event.RowKind{0, event.RowCoverage, event.RowInst, 99} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a record of kind %d has lines", kind)
				}
			}()
			rec := make([]byte, event.HeadSize)
			h := event.Head{Kind: kind}
			h.Put(rec, len(rec))
			Append(nil, inst, rec)
		}()
	}
}

// The decoder must tell a broken row from a whole one, or it asserts nothing.
func TestDecoderRefuses(t *testing.T) {
	for _, bad := range []string{
		"t,a=b x=1i\n", "t,a=b x=1i 5", "t,a=b x=1i -5\n", "t x= 5\n", "t x=1i,x=2i 5\n", "t,x=a x=1i 5\n", "t,a=b=c x=1i 5\n", ",a=b x=1i 5\n", "t,a=b 5\n",
		"t x=\"a 5\n", "t x=\"a\nb\" 5\n", "t x==\x10aaaa 5\n", "t x==\x0e\x0a\x02\x02\x00\x00\x00\xff\xff\xff\xff 5\n", "t x==\x11aaaaaaaa 5\n", "t x=1i,=2i 5\n",
		"t x=99999999999999999999i 5\n", "t x=1n5 5\n", "t x=1i 5 6\n",
	} {
		if rows, err := linetest.Decode([]byte(bad)); err == nil {
			t.Errorf("%q reads %+v", bad, rows)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add(uint64(1), "BTC/USD", []byte("trades,venue=a,symbol=b px=1i 5\n"))
	f.Add(uint64(7), `\ ,=`, []byte("t x==\x0e\x0a\x02\x02\x00\x00\x00\x01\x00\x00\x00aaaaaaaaaaaaaaaa 5\n"))
	f.Fuzz(func(t *testing.T, seed uint64, symbol string, raw []byte) {
		linetest.Decode(raw)
		inst, err := NewInst("venue", symbol)
		if err != nil {
			return
		}
		r := rand.New(rand.NewPCG(seed, 2))
		agree(t, inst, randomSample(r), randomSample(r))
	})
}

// testSeed is always the same, so that luck is no gate; DEEPTAPE_SEED=n tries another.
func testSeed(t testing.TB) uint64 {
	seed := uint64(1)
	if one, err := strconv.ParseUint(os.Getenv("DEEPTAPE_SEED"), 10, 64); err == nil {
		seed = one
	}
	t.Logf("DEEPTAPE_SEED=%d", seed)
	return seed
}
