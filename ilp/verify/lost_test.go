package verify

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"deeptape/hotpath/event"
)

// cutTape is a tape of two runs. The rows between its instants cut and end are in
// the database, and a power loss has taken their part of the journal.
type cutTape struct {
	*tape
	cut, end, next int64 // last input left, last row of the run, the next run's record
	lost           map[string]int
}

// cutRun ends the first run. spoken: the database's coverage speaks of what was lost.
func cutRun(symbol string, spoken bool) *cutTape {
	p := &cutTape{tape: emptyTape(symbol, 10)}
	p.tick()
	p.snapshot(14)
	p.stretch(60)
	p.cut = p.now
	before := map[string]int{tableBook: len(p.books), tableTop: len(p.tops), tableDepth: len(p.depths), tableQuotes: len(p.quotes), tableTrades: len(p.trades)}
	stop := func() {
		for s := range event.NumStreams {
			ts := p.coverage[p.current(s)].end + 1
			p.open(s, stateGap, proofNone, causeStop, ts)
			if s == event.StreamBook {
				p.nullTop(ts)
			}
		}
	}
	if spoken {
		p.stretch(30)
		p.end = p.now
		stop()
	} else {
		stop()
		coverage := slices.Clone(p.coverage)
		p.now++ // the row of nulls
		p.stretch(30)
		p.end = p.now
		p.coverage, p.last = coverage, ""
	}
	p.lost = map[string]int{tableBook: len(p.books), tableTop: len(p.tops), tableDepth: len(p.depths), tableQuotes: len(p.quotes), tableTrades: len(p.trades)}
	for table, n := range before {
		p.lost[table] -= n
	}
	p.lost[tableTop]-- // nulls: the next run makes them
	p.tick()
	p.next = p.now
	p.tick()
	p.seq += 77
	p.trade += 5
	p.snapshot(12)
	p.stretch(40)
	return p
}

// left are the records that what is left of the journal makes. saidAgain: the next
// run's record has the database's word on the intervals.
func (p *cutTape) left(saidAgain bool) [][]byte {
	var h event.Head
	return slices.DeleteFunc(p.records(), func(rec []byte) bool {
		h.Get(rec)
		if h.Kind == event.RowCoverage {
			c := event.GetCoverage(rec)
			return !saidAgain && c.State != event.StateGap && c.TsEnd > p.cut && c.TsEnd <= p.end
		}
		nulls := h.Kind == event.RowTop && h.N == 0 && h.Extra == 0
		return h.Ts > p.cut && h.Ts <= p.end && !nulls
	})
}

// A row of a time that the journal has lost is unproven; anywhere else it is found.
func TestLost(t *testing.T) {
	ctx, db, addr, prefix := open(t)
	j := &journal{records: map[string][][]byte{}}
	var losses []Lost
	type want struct {
		p         *cutTape
		intervals bool   // some are unproven
		words     string // of the finding; none: nothing is found
		table     string
		ts        int64
	}
	wants := map[string]want{}
	add := func(name string, spoken, saidAgain, known bool, spoil func(p *cutTape) want) {
		p := cutRun(prefix+name, spoken)
		j.names = append(j.names, p.symbol)
		j.records[p.symbol] = p.left(saidAgain)
		w := want{intervals: spoken}
		if spoil != nil {
			w = spoil(p)
		}
		w.p = p
		wants[p.symbol] = w
		p.store(t, addr)
		if known {
			losses = append(losses, Lost{Venue: "binance", Symbol: p.symbol, From: p.cut, To: p.next})
		}
	}
	add("grown", true, false, true, nil)
	add("said again", true, true, true, nil)
	add("in the gap", false, true, true, nil)
	add("not known", true, false, false, func(p *cutTape) want {
		i := slices.IndexFunc(p.books, func(r bookRow) bool { return r.ts > p.cut })
		return want{words: "the row is surplus", table: tableBook, ts: p.books[i].ts}
	})
	add("surplus before", true, false, true, func(p *cutTape) want {
		r := p.trades[5]
		r.ts++
		p.trades = slices.Insert(p.trades, 6, r)
		return want{intervals: true, words: "the row is surplus", table: tableTrades, ts: r.ts}
	})
	add("surplus behind", true, false, true, func(p *cutTape) want {
		r := p.quotes[len(p.quotes)-3]
		r.ts++
		p.quotes = slices.Insert(p.quotes, len(p.quotes)-2, r)
		return want{intervals: true, words: "the row is surplus", table: tableQuotes, ts: r.ts}
	})
	add("changed", true, false, true, func(p *cutTape) want {
		r := &p.books[40]
		r.qty += 3
		return want{intervals: true, words: "qty is", table: tableBook, ts: r.ts}
	})
	add("missing", true, false, true, func(p *cutTape) want {
		ts := p.quotes[4].ts
		cut(&p.quotes, 4, 5)
		return want{intervals: true, words: "the row is missing", table: tableQuotes, ts: ts}
	})
	add("cause changed", true, false, true, func(p *cutTape) want {
		c := p.iv(0, event.StreamBook, stateGap)
		c.cause = "disconnect"
		return want{intervals: true, words: `cause is "disconnect"`, table: tableCoverage, ts: c.ts}
	})
	add("state changed", true, false, true, func(p *cutTape) want {
		c := p.iv(0, event.StreamTrades, stateVerified)
		c.state = stateUnverified
		return want{intervals: true, words: `state is "unverified"`, table: tableCoverage, ts: c.ts}
	})

	opt := only(prefix)
	opt.Lost = losses
	r, err := Database(ctx, db, opt, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	against, err := Journal(ctx, db, opt, j.derive, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	r.Merge(against)
	if len(r.Symbols) != len(wants) {
		t.Fatalf("%d symbols, want %d", len(r.Symbols), len(wants))
	}
	rows := 0
	for _, s := range r.Symbols {
		w := wants[s.Symbol]
		found := w.words == "" && s.FoundTotal == 0
		var list []string
		for _, f := range s.Findings {
			found = found || w.words != "" && f.Ts == w.ts && f.Table == w.table && strings.Contains(f.What, w.words)
			list = append(list, f.String())
		}
		if !found {
			t.Errorf("%s: want %s at %s with %q, found %d:\n  %s", s.Symbol, w.table, stamp(w.ts), w.words, s.FoundTotal, strings.Join(list, "\n  "))
		}
		got := map[string]int{}
		for _, u := range s.Unproven {
			if got[u.Table] = u.Rows; u.From != w.p.cut || u.To != w.p.next || u.Damaged {
				t.Errorf("%s: %s", s.Symbol, u)
			}
			if u.Table != tableCoverage {
				rows += u.Rows
			}
		}
		if strings.HasSuffix(s.Symbol, "not known") {
			if len(got) > 0 {
				t.Errorf("%s: %v unproven where no loss is known", s.Symbol, got)
			}
			continue
		}
		for table, n := range w.p.lost {
			if n == 0 || got[table] != n {
				t.Errorf("%s: %d rows of %s are unproven, want %d", s.Symbol, got[table], table, n)
			}
		}
		if (got[tableCoverage] > 0) != w.intervals {
			t.Errorf("%s: %d intervals are unproven", s.Symbol, got[tableCoverage])
		}
	}
	var text, js bytes.Buffer
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteJSON(&js); err != nil {
		t.Fatal(err)
	}
	p := wants[prefix+"grown"].p
	for _, x := range []struct{ in, words string }{
		{text.String(), fmt.Sprintf("unproven     trades binance %s: %d rows newer than the journal's end of %s", p.symbol, p.lost[tableTrades], stamp(p.cut))},
		{text.String(), fmt.Sprintf("unproven: %d rows", rows)},
		{js.String(), fmt.Sprintf(`"unproven_rows": %d`, rows)},
		{js.String(), fmt.Sprintf(`"from": %q`, stamp(p.cut))},
	} {
		if !strings.Contains(x.in, x.words) {
			t.Errorf("it does not say %q:\n%s", x.words, x.in)
		}
	}
}

// Of inputs that are missing in the middle of a run the database knows more than
// what is left of the journal; it is not found. Outside of that time it is.
func TestLostInTheMiddle(t *testing.T) {
	ctx, db, addr, prefix := open(t)
	j := &journal{records: map[string][][]byte{}}
	var losses []Lost
	spoiled := prefix + "spoiled"
	for _, name := range []string{prefix + "sound", spoiled} {
		p := emptyTape(name, 10)
		p.tick()
		p.snapshot(14)
		p.stretch(60)
		from := p.now
		p.stretch(30)
		to := p.now
		p.stretch(30)
		// What the journal makes: the stream as it was, broken at the first input
		// behind the loss, and believed again from the keyframe on.
		left := *p
		left.coverage = nil
		for s := range event.NumStreams {
			i := p.current(s)
			c := p.coverage[i]
			left.coverage = append(left.coverage, slices.DeleteFunc(slices.Clone(p.coverage[:i]), func(c cover) bool { return c.stream != s })...)
			a, b, z := c, c, c
			ends := p.ends(c)
			n := int64(len(slices.DeleteFunc(slices.Clone(ends), func(ts int64) bool { return ts > from })))
			a.messages, a.interval.end, a.seqLast = n, ends[n-1], c.seqFirst
			b.ts, b.interval.end, b.state, b.proof, b.cause = a.interval.end+1, to, stateGap, proofNone, "journal"
			b.messages, b.seqFirst, b.seqLast = 0, event.Null, event.Null
			z.ts = to + 1
			z.messages = int64(len(slices.DeleteFunc(slices.Clone(ends), func(ts int64) bool { return ts <= to })))
			left.coverage = append(left.coverage, a, b, z)
		}
		nulls := left.coverage[slices.IndexFunc(left.coverage, func(c cover) bool { return c.cause == "journal" && c.stream == event.StreamBook })].ts
		at := slices.IndexFunc(left.tops, func(r topRow) bool { return r.ts > from })
		left.tops = slices.Insert(slices.Clone(left.tops), at, topRow{ts: nulls, bid: nan(), bidSize: nan(), ask: nan(), askSize: nan(), tsEvent: event.Null, seq: event.Null})
		left.rawTops = slices.Insert(slices.Clone(left.rawTops), at, [2][]level{})
		left.rawScales = slices.Insert(slices.Clone(left.rawScales), at, p.scale)
		var h event.Head
		j.names = append(j.names, name)
		j.records[name] = slices.DeleteFunc(left.records(), func(rec []byte) bool {
			h.Get(rec)
			nulls := h.Kind == event.RowTop && h.N == 0 && h.Extra == 0
			return h.Kind != event.RowCoverage && h.Ts > from && h.Ts <= to && !nulls
		})
		losses = append(losses, Lost{"binance", name, from, to, true})
		if name == spoiled {
			p.quotes[len(p.quotes)-2].bidSize++
		}
		p.store(t, addr)
	}
	opt := only(prefix)
	opt.Lost = losses
	r, err := Journal(ctx, db, opt, j.derive, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Symbols {
		want := 0
		if s.Symbol == spoiled {
			want = 1
		}
		if s.FoundTotal != want {
			t.Errorf("%s: %d findings, want %d", s.Symbol, s.FoundTotal, want)
			for _, f := range s.Findings {
				t.Logf("  %s", f)
			}
		}
		if len(s.Unproven) != 6 {
			t.Errorf("%s: %v unproven, want some of each table", s.Symbol, s.Unproven)
		}
	}
}

// Damage that no keyframe follows takes all behind it: that is said, and of no other damage.
func TestLostToTheEnd(t *testing.T) {
	ctx, db, addr, prefix := open(t)
	j := &journal{records: map[string][][]byte{}}
	opt := only(prefix)
	for _, name := range []string{"tail", "healed"} {
		p := emptyTape(prefix+name, 10)
		p.tick()
		p.snapshot(14)
		p.stretch(60)
		from := p.now
		p.stretch(30)
		to := p.now
		if name == "healed" {
			p.tick()
			to = p.now
			p.keyframe(p.scale)
			p.stretch(5)
		}
		var h event.Head
		j.names = append(j.names, p.symbol)
		j.records[p.symbol] = slices.DeleteFunc(p.records(), func(rec []byte) bool {
			h.Get(rec)
			// What is left behind the loss still speaks of coverage.
			return h.TsRecv > from && h.TsRecv <= to && h.Kind != event.RowCoverage && h.Flags&event.FlagKeyframe == 0
		})
		opt.Lost = append(opt.Lost, Lost{"binance", p.symbol, from, to, true})
		p.store(t, addr)
	}
	r, err := Database(ctx, db, opt, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	against, err := Journal(ctx, db, opt, j.derive, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	r.Merge(against)
	for _, s := range r.Symbols {
		for _, u := range s.Unproven {
			if tail := strings.HasSuffix(s.Symbol, "tail"); u.Last != tail || strings.Contains(u.String(), "no keyframe follows the damage, so nothing after it can be derived") != tail {
				t.Errorf("%s", u)
			}
		}
		if len(s.Unproven) == 0 {
			t.Errorf("%s: nothing is unproven", s.Symbol)
		}
	}
	var text bytes.Buffer
	if err := r.WriteText(&text); err != nil || !strings.Contains(text.String(), "; no keyframe follows the damage") {
		t.Errorf("%v, text:\n%s", err, &text)
	}
}

// A kill in the middle of a write tears the journal's end off, and no other run follows.
// The last tick went with it: what is left tells of each stream only what the tick before
// knew, and the database has what the last one said, of messages that the journal still
// has. That is no finding, where the journal says that its run did not stop by itself; an
// interval that is otherwise wrong is one.
func TestTornEnd(t *testing.T) {
	ctx, db, addr, prefix := open(t)
	j := &journal{records: map[string][][]byte{}}
	opt := only(prefix)
	for _, name := range []string{"killed", "stopped", "fewer", "goes on"} {
		p := emptyTape(prefix+name, 10)
		p.tick()
		p.snapshot(14)
		p.stretch(60)
		left := *p
		left.coverage = slices.Clone(p.coverage)
		for s := range event.NumStreams {
			c := &left.coverage[p.current(s)]
			ends := p.ends(*c)
			c.messages, c.interval.end, c.seqLast = int64(len(ends)-1), ends[len(ends)-2], c.seqFirst
			if name == "fewer" {
				c.messages += 2
			}
		}
		j.names = append(j.names, p.symbol)
		j.records[p.symbol] = left.records()
		if name != "stopped" {
			from := p.now
			if name == "goes on" {
				from -= 100 // the journal has grown since it was looked through
			}
			opt.Lost = append(opt.Lost, Lost{Venue: "binance", Symbol: p.symbol, From: from, To: NoRun})
		}
		p.store(t, addr)
	}
	r, err := Journal(ctx, db, opt, j.derive, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Symbols {
		found, unproven := 3, 0 // one interval of each stream
		if strings.HasSuffix(s.Symbol, "killed") {
			found, unproven = 0, 3
		}
		got := 0
		for _, u := range s.Unproven {
			if got += u.Rows; u.Table != tableCoverage || !strings.Contains(u.String(), "its run did not stop by itself, and the journal has no other") {
				t.Errorf("%s", u)
			}
			if js, err := u.MarshalJSON(); err != nil || bytes.Contains(js, []byte(`"to"`)) {
				t.Errorf("%s, %v: an end that there is not", js, err)
			}
		}
		if s.FoundTotal != found || got != unproven {
			t.Errorf("%s: %d findings, want %d; %d intervals unproven, want %d", s.Symbol, s.FoundTotal, found, got, unproven)
			for _, f := range s.Findings {
				t.Logf("  %s", f)
			}
		}
	}
}
