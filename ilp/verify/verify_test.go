package verify

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"deeptape/hotpath/event"
)

// damage spoils a right tape, and says what must be found: a table, the ts, and
// words of the finding.
type damage struct {
	name  string
	spoil func(p *tape) (table string, ts int64, words string)
}

// delta is the place of a row in the n-th delta of at least so many rows; i
// counts its rows.
func (p *tape) find(n, rows, i int) int {
	for at := range p.books {
		if p.books[at].flags&(event.FlagFirst|event.FlagSnapshot) != event.FlagFirst {
			continue
		}
		size := 1
		for p.books[at+size-1].flags&event.FlagLast == 0 {
			size++
		}
		if size >= rows {
			if n == 0 {
				return at + i
			}
			n--
		}
	}
	panic("no such message")
}

// first is the place of the n-th row that flags has in full.
func (p *tape) flagged(n, flags int) int {
	for at := range p.books {
		if p.books[at].flags&flags == flags {
			if n == 0 {
				return at
			}
			n--
		}
	}
	panic("no such row")
}

// iv is the place of the n-th interval of a stream and state.
func (p *tape) iv(n int, s event.Stream, state string) *cover {
	for i := range p.coverage {
		if c := &p.coverage[i]; c.stream == s && c.state == state {
			if n == 0 {
				return c
			}
			n--
		}
	}
	panic("no such interval")
}

func cut[T any](rows *[]T, from, to int) { *rows = slices.Delete(*rows, from, to) }

var damages = []damage{
	{"level row removed", func(p *tape) (string, int64, string) {
		i := p.find(9, 4, 1)
		ts := p.books[i].ts
		cut(&p.books, i, i+1)
		return tableBook, ts, "1 rows are missing within the message"
	}},
	{"first row removed", func(p *tape) (string, int64, string) {
		i := p.find(9, 4, 0)
		cut(&p.books, i, i+1)
		return tableBook, p.books[i].ts, "in no message"
	}},
	{"last row removed", func(p *tape) (string, int64, string) {
		i := p.find(9, 3, 0)
		for p.books[i].flags&event.FlagLast == 0 {
			i++
		}
		ts := p.books[i].ts
		cut(&p.books, i, i+1)
		return tableBook, ts, "no LAST row"
	}},
	{"level row added", func(p *tape) (string, int64, string) {
		i := p.find(9, 1, 0)
		r := p.books[i]
		r.ts -= 1
		r.flags = 0
		p.books = slices.Insert(p.books, i, r)
		return tableBook, r.ts, "in no message"
	}},
	{"message added", func(p *tape) (string, int64, string) {
		i := p.find(9, 1, 0)
		r := p.books[i]
		r.ts -= 1
		r.flags = event.FlagFirst | event.FlagLast
		r.seqPrev = p.books[i-1].seq
		r.seq = r.seqPrev + 1
		p.books = slices.Insert(p.books, i, r)
		return tableBook, r.ts + 1, "the one before it has"
	}},
	{"qty altered in the top", func(p *tape) (string, int64, string) {
		i := p.flagged(0, event.FlagSnapshot|event.FlagFirst)
		p.books[i+2].qty++
		return tableTop, p.books[i].ts + 27, "the size of bids, level 3"
	}},
	{"qty altered below the top, shown by the keyframe", func(p *tape) (string, int64, string) {
		i := p.flagged(0, event.FlagKeyframe|event.FlagFirst)
		p.books[i+11].qty += 5
		return tableBook, p.books[i+11].ts, "in the keyframe of"
	}},
	{"keyframe level removed from its end", func(p *tape) (string, int64, string) {
		i := p.flagged(0, event.FlagKeyframe|event.FlagLast)
		p.books[i-1].flags |= event.FlagLast
		ts := p.books[i].ts
		_ = ts
		cut(&p.books, i, i+1)
		return tableBook, p.books[p.flagged(0, event.FlagKeyframe|event.FlagFirst)].ts, "has size 0, in the rebuilt book"
	}},
	{"message removed", func(p *tape) (string, int64, string) {
		i := p.find(9, 2, 0)
		j := i
		for p.books[j].flags&event.FlagLast == 0 {
			j++
		}
		next := p.books[j+1].ts
		cut(&p.books, i, j+1)
		return tableBook, next, "a message is missing"
	}},
	{"snapshot removed", func(p *tape) (string, int64, string) {
		cut(&p.books, 0, 28)
		return tableBook, p.books[0].ts, "no snapshot has begun"
	}},
	{"last message removed", func(p *tape) (string, int64, string) {
		i := len(p.books) - 1
		for p.books[i].flags&event.FlagFirst == 0 {
			i--
		}
		cut(&p.books, i, len(p.books))
		return tableCoverage, p.iv(2, event.StreamBook, stateVerified).ts, "messages, the table book_delta holds"
	}},
	{"seq altered in one row", func(p *tape) (string, int64, string) {
		i := p.find(9, 4, 2)
		p.books[i].seq++
		return tableBook, p.books[i].ts, "seq is"
	}},
	{"seq altered in the first row", func(p *tape) (string, int64, string) {
		i := p.find(9, 4, 0)
		p.books[i].seq++
		return tableBook, p.books[i].ts, "seq is"
	}},
	{"seq raised in a whole message", func(p *tape) (string, int64, string) {
		i := p.find(9, 1, 0)
		for ; ; i++ {
			p.books[i].seq++
			if p.books[i].flags&event.FlagLast != 0 {
				break
			}
		}
		return tableBook, p.books[i+1].ts, "follows on id"
	}},
	{"seq_prev removed", func(p *tape) (string, int64, string) {
		i := p.find(9, 1, 0)
		ts := p.books[i].ts
		for p.books[i].flags&event.FlagLast == 0 {
			i++
		}
		p.books[i].seqPrev = event.Null
		return tableBook, ts, "seq_prev is null"
	}},
	{"seq_prev where it must not be", func(p *tape) (string, int64, string) {
		i := p.find(9, 3, 0)
		p.books[i].seqPrev = p.books[i].seq - 1
		return tableBook, p.books[i].ts, "not the LAST one"
	}},
	{"ts_event altered", func(p *tape) (string, int64, string) {
		i := p.find(9, 3, 1)
		p.books[i].tsEvent++
		return tableBook, p.books[i].ts, "ts_event is"
	}},
	{"scale altered in one row", func(p *tape) (string, int64, string) {
		i := p.find(9, 3, 1)
		p.books[i].qtyScale++
		return tableBook, p.books[i].ts, "qty_scale is"
	}},
	{"keyframe of a widening removed", func(p *tape) (string, int64, string) {
		i := p.flagged(0, event.FlagKeyframe|event.FlagFirst)
		j := p.flagged(0, event.FlagKeyframe|event.FlagLast)
		cut(&p.books, i, j+1)
		return tableBook, p.books[i].ts, "no keyframe changes them"
	}},
	{"side altered", func(p *tape) (string, int64, string) {
		i := p.find(9, 3, 1)
		p.books[i].side = "bud"
		return tableBook, p.books[i].ts, `side is "bud"`
	}},
	{"side removed", func(p *tape) (string, int64, string) {
		i := p.find(9, 3, 1)
		p.books[i].side = ""
		return tableBook, p.books[i].ts, "is null"
	}},
	{"flags altered", func(p *tape) (string, int64, string) {
		i := p.find(9, 3, 1)
		p.books[i].flags |= event.FlagUnverified
		return tableBook, p.books[i].ts, "flagged UNVERIFIED"
	}},
	{"book row in a gap", func(p *tape) (string, int64, string) {
		r := p.books[0]
		r.ts = p.iv(1, event.StreamBook, stateGap).ts
		r.flags = event.FlagFirst | event.FlagLast
		at := slices.IndexFunc(p.books, func(b bookRow) bool { return b.ts > r.ts })
		p.books = slices.Insert(p.books, at, r)
		return tableBook, r.ts, "the row lies in the gap interval"
	}},
	{"book row before all coverage", func(p *tape) (string, int64, string) {
		r := p.books[0]
		r.ts = t0 - 5
		p.books = slices.Insert(p.books, 0, r)
		return tableBook, r.ts, "in no interval"
	}},
	{"book row long after all coverage", func(p *tape) (string, int64, string) {
		r := p.books[0]
		r.ts = p.now + 61e9
		p.books = append(p.books, r)
		return tableBook, r.ts, "behind the last interval"
	}},
	{"top row removed", func(p *tape) (string, int64, string) {
		ts := p.tops[30].ts
		cut(&p.tops, 30, 31)
		return tableTop, ts, "the row is missing"
	}},
	{"top row added", func(p *tape) (string, int64, string) {
		r := p.tops[30]
		r.ts++
		p.tops = slices.Insert(p.tops, 31, r)
		return tableTop, r.ts, "no message of book_delta ends here"
	}},
	{"top row added where nothing changed", func(p *tape) (string, int64, string) {
		r := p.tops[30]
		r.ts = p.books[p.flagged(0, event.FlagKeyframe|event.FlagLast)].ts
		at := slices.IndexFunc(p.tops, func(b topRow) bool { return b.ts > r.ts })
		p.tops = slices.Insert(p.tops, at, r)
		return tableTop, r.ts, "changes none of the first 10 levels"
	}},
	{"best bid altered by an ulp", func(p *tape) (string, int64, string) {
		p.tops[30].bid += 7.3e-12
		return tableTop, p.tops[30].ts, "bid is"
	}},
	{"ask size altered", func(p *tape) (string, int64, string) {
		p.tops[30].askSize += 1
		return tableTop, p.tops[30].ts, "ask_size is"
	}},
	{"array altered", func(p *tape) (string, int64, string) {
		m := &p.tops[30].asks
		m.values = slices.Clone(m.values)
		m.values[m.cols+9]++
		return tableTop, p.tops[30].ts, "the size of asks, level 10"
	}},
	{"array shortened", func(p *tape) (string, int64, string) {
		m := &p.tops[30].bids
		*m = matrix{rows: 2, cols: 9, values: append(slices.Clone(m.values[:9]), m.values[10:19]...)}
		return tableTop, p.tops[30].ts, "bids has 9 levels"
	}},
	{"seq of a top row altered", func(p *tape) (string, int64, string) {
		p.tops[30].seq++
		return tableTop, p.tops[30].ts, "seq is"
	}},
	{"row of nulls removed", func(p *tape) (string, int64, string) {
		ts := p.iv(1, event.StreamBook, stateGap).ts
		i := slices.IndexFunc(p.tops, func(r topRow) bool { return r.ts == ts })
		cut(&p.tops, i, i+1)
		return tableTop, ts, "the row of nulls is missing"
	}},
	{"row of nulls filled", func(p *tape) (string, int64, string) {
		ts := p.iv(1, event.StreamBook, stateGap).ts
		i := slices.IndexFunc(p.tops, func(r topRow) bool { return r.ts == ts })
		p.tops[i] = p.tops[i-1]
		p.tops[i].ts = ts
		return tableTop, ts, "must hold nulls"
	}},
	{"size altered below the top, shown by the depth", func(p *tape) (string, int64, string) {
		i := p.flagged(0, event.FlagSnapshot|event.FlagFirst)
		p.books[i+13].qty++
		at := slices.IndexFunc(p.depths, func(r depthRow) bool { return r.ts > p.books[i].ts })
		return tableDepth, p.depths[at].ts, "bid_depth within 5 bps is"
	}},
	{"depth altered by an ulp", func(p *tape) (string, int64, string) {
		v := slices.Clone(p.depths[5].sizes[1])
		v[1] = math.Nextafter(v[1], 0)
		p.depths[5].sizes[1] = v
		return tableDepth, p.depths[5].ts, "ask_depth within 2 bps is"
	}},
	{"price of a depth row altered", func(p *tape) (string, int64, string) {
		p.depths[5].ask = nan()
		return tableDepth, p.depths[5].ts, "ask is NaN"
	}},
	{"band of a depth row removed", func(p *tape) (string, int64, string) {
		p.depths[5].sizes[1] = p.depths[5].sizes[1][1:]
		return tableDepth, p.depths[5].ts, "ask_depth has 6 bands"
	}},
	{"depth row added", func(p *tape) (string, int64, string) {
		r := p.depths[5]
		r.ts++
		p.depths = slices.Insert(p.depths, 6, r)
		return tableDepth, r.ts, "no message of book_delta ends here"
	}},
	{"depth row in a gap", func(p *tape) (string, int64, string) {
		r := p.depths[5]
		r.ts = p.iv(1, event.StreamBook, stateGap).ts
		at := slices.IndexFunc(p.depths, func(b depthRow) bool { return b.ts > r.ts })
		p.depths = slices.Insert(p.depths, at, r)
		return tableDepth, r.ts, "no message of book_delta ends here"
	}},
	{"seq of a depth row altered", func(p *tape) (string, int64, string) {
		p.depths[5].seq++
		return tableDepth, p.depths[5].ts, "seq is"
	}},
	{"ts_event of a depth row altered", func(p *tape) (string, int64, string) {
		p.depths[5].tsEvent++
		return tableDepth, p.depths[5].ts, "ts_event is"
	}},
	{"flags of a depth row altered", func(p *tape) (string, int64, string) {
		p.depths[5].flags = event.FlagUnverified
		return tableDepth, p.depths[5].ts, "is flagged UNVERIFIED"
	}},
	{"trade removed", func(p *tape) (string, int64, string) {
		cut(&p.trades, 10, 12)
		return tableTrades, p.trades[10].ts, fmt.Sprintf("%d to %d are missing", 511, 512)
	}},
	{"trade id altered", func(p *tape) (string, int64, string) {
		p.trades[10].id = "7"
		return tableTrades, p.trades[10].ts, "trade_id is 7"
	}},
	{"trade id garbage", func(p *tape) (string, int64, string) {
		p.trades[10].id = "x"
		return tableTrades, p.trades[10].ts, `trade_id is "x"`
	}},
	{"another flag of a trade", func(p *tape) (string, int64, string) {
		p.trades[10].flags |= event.FlagSnapshot // of books only: who sums up the rows of snapshots would count it
		return tableTrades, p.trades[10].ts, "flags is 1"
	}},
	{"a proven trade flagged", func(p *tape) (string, int64, string) {
		p.trades[10].flags |= event.FlagUnverified
		return tableTrades, p.trades[10].ts, "the row is flagged UNVERIFIED and lies in"
	}},
	{"another flag of a quote", func(p *tape) (string, int64, string) {
		p.quotes[10].flags |= event.FlagLast
		return tableQuotes, p.quotes[10].ts, "flags is"
	}},
	{"trade added", func(p *tape) (string, int64, string) {
		r := p.trades[10]
		r.ts++
		p.trades = slices.Insert(p.trades, 11, r)
		return tableTrades, r.ts, "trade_id is 511, the trade before has 511"
	}},
	{"last trade removed", func(p *tape) (string, int64, string) {
		cut(&p.trades, len(p.trades)-1, len(p.trades))
		return tableCoverage, p.iv(1, event.StreamTrades, stateVerified).ts, "the table trades holds"
	}},
	{"side of a trade altered", func(p *tape) (string, int64, string) {
		p.trades[10].side = "bid"
		return tableTrades, p.trades[10].ts, `side is "bid"`
	}},
	{"trade in a gap", func(p *tape) (string, int64, string) {
		r := p.trades[10]
		r.ts = t0 + 1
		p.trades = slices.Insert(p.trades, 0, r)
		return tableTrades, r.ts, "the row lies in the gap"
	}},
	{"trade at the ts of a level", func(p *tape) (string, int64, string) {
		i := p.find(20, 2, 0)
		ts := p.books[i].ts
		j := slices.IndexFunc(p.trades, func(r tradeRow) bool { return r.ts > ts })
		p.trades[j].ts = ts
		return tableTrades, ts, "a row of book_delta has the same ts"
	}},
	{"quote removed", func(p *tape) (string, int64, string) {
		cut(&p.quotes, 10, 11)
		return tableCoverage, p.iv(0, event.StreamQuotes, stateUnverified).ts, "the table quotes holds"
	}},
	{"quote not flagged", func(p *tape) (string, int64, string) {
		p.quotes[10].flags = 0
		return tableQuotes, p.quotes[10].ts, "not flagged UNVERIFIED"
	}},
	{"interval removed", func(p *tape) (string, int64, string) {
		c := p.iv(1, event.StreamBook, stateGap)
		next := c.end + 1
		for i := range p.coverage {
			if &p.coverage[i] == c {
				cut(&p.coverage, i, i+1)
				break
			}
		}
		return tableCoverage, next, "no interval holds the time"
	}},
	{"interval stretched", func(p *tape) (string, int64, string) {
		c := p.iv(1, event.StreamBook, stateVerified)
		c.end += 10
		return tableCoverage, p.iv(1, event.StreamBook, stateGap).ts, "starts before the one of"
	}},
	{"messages altered", func(p *tape) (string, int64, string) {
		c := p.iv(1, event.StreamBook, stateVerified)
		c.messages++
		return tableCoverage, c.ts, "speaks of"
	}},
	{"gap called verified", func(p *tape) (string, int64, string) {
		c := p.iv(1, event.StreamBook, stateGap)
		c.state, c.proof = stateVerified, proofChain
		return tableCoverage, c.ts, "holds no row of book_delta"
	}},
	{"proof removed", func(p *tape) (string, int64, string) {
		c := p.iv(1, event.StreamBook, stateVerified)
		c.proof = "none"
		return tableCoverage, c.ts, "without a proof"
	}},
	{"first id altered", func(p *tape) (string, int64, string) {
		c := p.iv(1, event.StreamBook, stateVerified)
		c.seqFirst++
		return tableCoverage, c.ts, "goes from id"
	}},
	{"all coverage removed", func(p *tape) (string, int64, string) {
		p.coverage = nil
		return tableTrades, p.trades[0].ts, "in no interval"
	}},
}

func TestDatabase(t *testing.T) {
	ctx, db, addr, prefix := open(t)
	type want struct {
		damage
		table, words string
		ts           int64
	}
	wants := map[string]want{}
	sound := newTape(prefix + "sound")
	sound.store(t, addr)
	for i, d := range damages {
		p := newTape(fmt.Sprintf("%s%02d", prefix, i))
		table, ts, words := d.spoil(p)
		wants[p.symbol] = want{d, table, words, ts}
		p.store(t, addr)
	}
	r, err := Database(ctx, db, only(prefix), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Symbols) != len(damages)+1 {
		t.Fatalf("%d symbols in the report, want %d", len(r.Symbols), len(damages)+1)
	}
	for _, s := range r.Symbols {
		if s.Symbol == sound.symbol {
			for _, f := range s.Findings {
				t.Errorf("in a sound record: %s", f)
			}
			var b bytes.Buffer
			if err := (&Report{Symbols: []*SymbolReport{s}}).WriteText(&b); err != nil || !strings.Contains(b.String(), "OK: ") {
				t.Errorf("report of a sound record (%v):\n%s", err, &b)
			}
			t.Logf("\n%s", &b)
			continue
		}
		w := wants[s.Symbol]
		found := false
		for _, f := range s.Findings {
			found = found || f.Table == w.table && f.Ts == w.ts && strings.Contains(f.What, w.words) && f.Symbol == s.Symbol && f.Venue == "binance"
		}
		if !found || testing.Verbose() {
			var list []string
			for _, f := range s.Findings {
				list = append(list, f.String())
			}
			report := t.Logf
			if !found {
				report = t.Errorf
			}
			report("%s: want %s at %s with %q, got %d:\n  %s", w.name, w.table, stamp(w.ts), w.words, s.FoundTotal, strings.Join(list, "\n  "))
		}
	}
}
