package verify

import (
	"io"
	"slices"
	"strings"
	"testing"

	"deeptape/hotpath/event"
)

// newLinked is the record of a venue that links each message to the one before it, and
// whose snapshots come in the stream: its ids may go back, and a trade may stand for
// several.
func newLinked(symbol string) *tape {
	p := emptyTape(symbol, 10)
	p.inStream, p.joins = true, true
	p.tick()
	p.snapshot(14)
	p.stretch(30)
	// Nothing has happened: the id stays.
	p.tick()
	p.message([]bookRow{{px: event.Null, qty: event.Null}}, 0, p.now, p.seq)
	p.stretch(5)
	// The venue counts anew.
	p.tick()
	prev := p.seq
	p.seq = 7
	p.message([]bookRow{{side: "bid", px: 6_000_000, qty: 77}}, 0, p.now, prev)
	p.stretch(20)
	// Snapshots that continue the book: the last id again, and the next one.
	p.tick()
	p.snapshotAgain(12)
	p.stretch(5)
	p.tick()
	p.seq++
	p.snapshotAgain(13)
	p.stretch(10)
	p.lose()
	p.snapshot(12)
	p.stretch(20)
	return p
}

// newChecked is that of a venue with nothing but checksums, which does not say what
// falls out of its ten levels.
func newChecked(symbol string) *tape {
	p := emptyTape(symbol, 10)
	p.inStream, p.proof, p.cut = true, proofCRC, 10
	p.tick()
	p.snapshot(10)
	p.stretch(60)
	p.tick()
	p.keyframe([2]int{2, 6})
	p.stretch(40)
	p.lose()
	p.snapshot(10)
	p.stretch(40)
	return p
}

// newCounted is that of a venue that numbers the frames of a connection.
func newCounted(symbol string) *tape {
	p := emptyTape(symbol, 10)
	p.inStream, p.proof = true, proofConnection
	p.tick()
	p.snapshot(14)
	p.stretch(30)
	// One more message in the same frame.
	p.tick()
	p.message([]bookRow{{side: "bid", px: 6_000_000, qty: 78}}, 0, p.now, event.Null)
	p.stretch(30)
	return p
}

// whole is the message of a row: from its FIRST row to behind its LAST one.
// newWindowed is of a venue whose snapshots may be windows: the furthest levels say
// UNVERIFIED, and rows that show them.
func newWindowed(symbol string) *tape {
	p := newTapeOf(symbol, 10)
	for i := range p.books {
		r := &p.books[i]
		edge := 12 * 100 * pow(r.pxScale-2)
		if r.side == "bid" && r.px <= 6_000_000*pow(r.pxScale-2)-edge || r.side == "ask" && r.px >= 6_000_100*pow(r.pxScale-2)+edge {
			r.flags |= event.FlagUnverified
		}
	}
	p.tops[40].flags |= event.FlagUnverified
	p.depths[3].flags |= event.FlagUnverified
	return p
}

func (p *tape) whole(at int) (from, to int) {
	for from = at; p.books[from].flags&event.FlagFirst == 0; from-- {
	}
	for to = at; p.books[to].flags&event.FlagLast == 0; to++ {
	}
	return from, to + 1
}

var venueDamages = []struct {
	make func(string) *tape
	damage
}{
	{newLinked, damage{"a linked message removed", func(p *tape) (string, int64, string) {
		from, to := p.whole(p.find(12, 1, 0))
		cut(&p.books, from, to)
		return tableBook, p.books[from].ts, "the one before it has"
	}}},
	{newLinked, damage{"the message of a reset removed", func(p *tape) (string, int64, string) {
		i := slices.IndexFunc(p.books, func(r bookRow) bool { return r.seq == 7 })
		cut(&p.books, i, i+1)
		return tableBook, p.books[i].ts, "the one before it has"
	}}},
	{newLinked, damage{"the message before a snapshot in the stream removed", func(p *tape) (string, int64, string) {
		i := p.flagged(1, event.FlagSnapshot|event.FlagFirst)
		from, to := p.whole(i - 1)
		cut(&p.books, from, to)
		return tableBook, p.books[from].ts, "one between them is missing"
	}}},
	{newLinked, damage{"a message after a snapshot in the stream starts before it", func(p *tape) (string, int64, string) {
		i := p.flagged(0, event.FlagSnapshot|event.FlagLast) + 1
		_, to := p.whole(i)
		p.books[to-1].seqPrev--
		return tableBook, p.books[i].ts, "the message follows on id"
	}}},
	{newLinked, damage{"a trade again", func(p *tape) (string, int64, string) {
		r := p.trades[10]
		r.ts++
		p.trades = slices.Insert(p.trades, 11, r)
		return tableTrades, r.ts, "the trade before has"
	}}},
	{newChecked, damage{"a message without an id of the venue's removed", func(p *tape) (string, int64, string) {
		from, to := p.whole(p.find(12, 1, 0))
		cut(&p.books, from, to)
		return tableBook, p.books[from].ts, "seq is"
	}}},
	{newChecked, damage{"depth of the book not told", func(p *tape) (string, int64, string) {
		c := p.iv(0, event.StreamBook, stateVerified)
		c.detail = "depth=0; depth=x; somewhat deep"
		return tableBook, p.books[p.flagged(0, event.FlagKeyframe|event.FlagFirst)].ts, "in the keyframe of"
	}}},
	{newChecked, damage{"another depth told", func(p *tape) (string, int64, string) {
		c := p.iv(0, event.StreamBook, stateVerified)
		c.detail = "depth=9"
		return tableTop, p.tops[1].ts, "has 10 levels in 2 rows, the rebuilt book shows 9"
	}}},
	{newWindowed, damage{"a level that is not the furthest flagged", func(p *tape) (string, int64, string) {
		i := slices.IndexFunc(p.books, func(r bookRow) bool {
			return r.flags&(event.FlagSnapshot|event.FlagLast) == event.FlagSnapshot && r.side == "bid"
		})
		p.books[i].flags |= event.FlagUnverified
		return tableBook, p.books[i].ts, "one that is further out"
	}}},
	{newWindowed, damage{"the furthest level not flagged", func(p *tape) (string, int64, string) {
		i, j := 0, -1
		for ; j < 0; i++ {
			from, to := p.whole(i)
			j = slices.IndexFunc(p.books[from:to], func(r bookRow) bool {
				n := &p.books[i] // nearer, on the same side
				return r.side == n.side && r.flags&n.flags&event.FlagUnverified != 0 && (r.side == "bid" && r.px < n.px || r.side == "ask" && r.px > n.px)
			})
			if j >= 0 {
				p.books[from+j].flags &^= event.FlagUnverified
				break
			}
		}
		return tableBook, p.books[i].ts, "one that is further out"
	}}},
	{newWindowed, damage{"another flag of a top", func(p *tape) (string, int64, string) {
		p.tops[40].flags |= event.FlagSnapshot
		return tableTop, p.tops[40].ts, "flags is"
	}}},
	{newWindowed, damage{"another flag of a depth", func(p *tape) (string, int64, string) {
		p.depths[3].flags |= event.FlagLast
		return tableDepth, p.depths[3].ts, "flags is"
	}}},
	{newCounted, damage{"frames in another order", func(p *tape) (string, int64, string) {
		i, j := p.whole(p.find(12, 1, 0))
		for k := i; k < j; k++ {
			p.books[k].seq = p.books[i-1].seq - 1
		}
		return tableBook, p.books[i].ts, "the message before it has"
	}}},
}

// Each venue's own way to prove its books, as far as the database shows it; what it
// does not show is said.
func TestVenues(t *testing.T) {
	ctx, db, addr, prefix := open(t)
	sound := map[string]string{ // what must be said of each
		"linked":   "trades: whether one is missing where ids are left out",
		"checked":  "book_delta: checksums, which its rows do not hold",
		"counted":  "book_delta: whether a frame is missing",
		"windowed": "whether UNVERIFIED stands at all that lies outside of the window",
	}
	for name, made := range map[string]func(string) *tape{"linked": newLinked, "checked": newChecked, "counted": newCounted, "windowed": newWindowed} {
		made(prefix+name).store(t, addr)
	}
	type want struct {
		name, table, words string
		ts                 int64
	}
	wants := map[string]want{}
	for i, d := range venueDamages {
		p := d.make(prefix + "damage " + string(rune('a'+i)))
		table, ts, words := d.spoil(p)
		wants[p.symbol] = want{d.name, table, words, ts}
		p.store(t, addr)
	}
	opt := only(prefix)
	opt.TradesJoined = func(venue string) bool { return venue == "binance" } // the tapes' own
	opt.Windowed = opt.TradesJoined
	r, err := Database(ctx, db, opt, io.Discard)
	if err != nil || len(r.Symbols) != len(sound)+len(wants) {
		t.Fatalf("%d symbols, %v", len(r.Symbols), err)
	}
	for _, s := range r.Symbols {
		if said, ok := sound[strings.TrimPrefix(s.Symbol, prefix)]; ok {
			for _, f := range s.Findings {
				t.Errorf("in a sound record: %s", f)
			}
			if !strings.Contains(strings.Join(s.NotChecked, "\n"), said) || !strings.Contains(strings.Join(s.Proven, "\n"), "book_depth: ") {
				t.Errorf("%s: proven %q, not checked %q", s.Symbol, s.Proven, s.NotChecked)
			}
			continue
		}
		w := wants[s.Symbol]
		if !slices.ContainsFunc(s.Findings, func(f *Finding) bool {
			return f.Table == w.table && f.Ts == w.ts && strings.Contains(f.What, w.words)
		}) {
			t.Errorf("%s: want %s at %s with %q, got %d", w.name, w.table, stamp(w.ts), w.words, s.FoundTotal)
			for _, f := range s.Findings {
				t.Logf("  %s", f)
			}
		}
	}

	// Ids left out are a loss where trades are not joined, and bands are another's where
	// others are asked for.
	opt = only(prefix + "linked")
	opt.DepthBps = []int{1, 2}
	if r, err = Database(ctx, db, opt, io.Discard); err != nil {
		t.Fatal(err)
	}
	s := r.Symbols[0]
	if s.FoundTotal == 0 || slices.ContainsFunc(s.Findings, func(f *Finding) bool { return f.Table != tableTrades || !strings.Contains(f.What, "are missing") }) {
		t.Errorf("%d findings, %v", s.FoundTotal, s.Findings)
	}
	if said := strings.Join(s.NotChecked, "\n"); !strings.Contains(said, "of other bands than [1 2] bps") {
		t.Errorf("not checked: %s", said)
	}
	opt.DepthBps = []int{1, 2, 5, 10, 25, 50, 101}
	if r, err = Database(ctx, db, opt, io.Discard); err != nil || r.Symbols[0].FoundTotal != s.FoundTotal {
		t.Errorf("bands that hold the same: %v, %d findings", err, r.Symbols[0].FoundTotal)
	}
	opt.DepthBps[1] = 3
	if r, err = Database(ctx, db, opt, io.Discard); err != nil || r.Symbols[0].FoundTotal == s.FoundTotal {
		t.Errorf("rows of other bands were taken for right: %v", err)
	}
}
