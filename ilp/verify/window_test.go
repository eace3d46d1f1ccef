package verify

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"deeptape/hotpath/event"
)

// Whatever part of a sound record is asked for, nothing is found; damage is found
// by whoever asks for its time.
func TestWindow(t *testing.T) {
	ctx, db, addr, prefix := open(t)
	sound := newTape(prefix + "sound")
	sound.store(t, addr)
	spoiled := newTape(prefix + "spoiled")
	at := spoiled.tops[60].ts
	spoiled.tops[60].bidSize++
	spoiled.store(t, addr)
	end := sound.now
	for _, w := range []struct {
		name     string
		from, to int64
	}{
		{"all", 0, 0},
		{"to the middle of a message", 0, sound.books[sound.find(30, 4, 2)].ts},
		{"from the middle of a message", sound.books[sound.find(30, 4, 2)].ts, 0},
		{"within", sound.books[sound.find(20, 4, 2)].ts, sound.books[sound.find(30, 4, 1)].ts},
		{"from a gap", sound.iv(1, event.StreamBook, stateGap).ts + 1, 0},
		{"to a gap", 0, sound.iv(1, event.StreamBook, stateGap).ts},
		{"from within a keyframe", sound.books[sound.flagged(0, event.FlagKeyframe|event.FlagFirst)].ts + 3, 0},
		{"from within the first snapshot", sound.books[5].ts, 0},
		{"from the interval after the silence", sound.iv(1, event.StreamBook, stateVerified).ts + 1, 0},
		{"the last instant", end, end},
		{"after the end", end + 1, end + 1e9},
	} {
		opt := only(prefix)
		opt.From, opt.To = w.from, w.to
		r, err := Database(ctx, db, opt, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range r.Symbols {
			want := 0
			if s.Symbol == spoiled.symbol && w.from <= at && (w.to == 0 || w.to >= at) {
				want = 1
			}
			if s.FoundTotal == want || s.Symbol == spoiled.symbol && w.from > at && s.FoundTotal == 1 && s.Findings[0].Ts == at { // on the way from the snapshot
				continue
			}
			t.Errorf("%s, %s: %d findings, want %d", w.name, s.Symbol, s.FoundTotal, want)
			for _, f := range s.Findings {
				t.Logf("  %s", f)
			}
		}
	}
	opt := only(prefix)
	opt.From = sound.books[sound.find(30, 4, 2)].ts
	j := &journal{names: []string{sound.symbol}, records: map[string][][]byte{sound.symbol: sound.records()}}
	opt.Want = func(_, symbol string) bool { return symbol == sound.symbol }
	both, err := Database(ctx, db, opt, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Journal(ctx, db, opt, j.derive, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	both.Merge(r)
	if len(both.Symbols) != 1 || !both.OK() {
		t.Errorf("%d symbols, %d findings", len(both.Symbols), both.Found())
	}
	var text, js bytes.Buffer
	both.Verbose = true
	if err := both.WriteText(&text); err != nil || !strings.Contains(text.String(), "links of their ids") || !strings.Contains(text.String(), "of the journal's") || strings.Contains(text.String(), "the journal shows") {
		t.Errorf("%v, text:\n%s", err, &text)
	}
	var back struct {
		OK      *bool `json:"ok"`
		Symbols []struct {
			Venue, Symbol string
			Streams       []struct {
				Stream  string
				Percent *float64 `json:"verified_percent"`
			}
			NotChecked []string `json:"not_checked"`
			Findings   []any
		}
	}
	if err := both.WriteJSON(&js); err != nil || json.Unmarshal(js.Bytes(), &back) != nil || back.OK == nil || !*back.OK || len(back.Symbols) != 1 ||
		len(back.Symbols[0].Streams) != 3 || back.Symbols[0].Streams[0].Percent == nil || back.Symbols[0].Findings == nil || len(back.Symbols[0].NotChecked) == 0 {
		t.Errorf("%v, JSON:\n%s", err, &js)
	}
}

// The number of levels in book_top is another where the agent is configured so.
func TestTopLevels(t *testing.T) {
	ctx, db, addr, prefix := open(t)
	for _, c := range []struct {
		name string
		n    int
	}{{"five", 5}, {"twenty", 20}} {
		p := newTapeOf(prefix+c.name, c.n)
		p.store(t, addr)
	}
	r, err := Database(ctx, db, only(prefix), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Symbols) != 2 {
		t.Fatalf("%d symbols", len(r.Symbols))
	}
	for _, s := range r.Symbols {
		for _, f := range s.Findings {
			t.Errorf("%s", f)
		}
	}
	opt := only(prefix + "twenty")
	opt.TopLevels = 20
	if r, err = Database(ctx, db, opt, io.Discard); err != nil || !r.OK() || len(r.Symbols) != 1 {
		t.Errorf("%v, %+v", err, r)
	}
	opt.TopLevels = 5
	if r, err = Database(ctx, db, opt, io.Discard); err != nil || r.OK() {
		t.Errorf("rows of 14 levels were taken for rows of 5: %v", err)
	}
}

// A window that holds nothing proves nothing; who is recorded at other times only is
// named in one line, with none of the intervals of those.
func TestEmptyWindow(t *testing.T) {
	ctx, db, addr, prefix := open(t)
	early, late := newTape(prefix+"early"), newTape(prefix+"late")
	const shift = int64(3600e9)
	for i := range late.coverage {
		late.coverage[i].ts += shift
		late.coverage[i].interval.end += shift
	}
	late.books, late.tops, late.depths, late.quotes, late.trades = nil, nil, nil, nil, nil
	rows := newTape(prefix + "rows") // and no interval
	rows.coverage = nil
	for _, p := range []*tape{early, late, rows} {
		p.store(t, addr)
	}
	j := &journal{names: []string{early.symbol, late.symbol}, records: map[string][][]byte{early.symbol: early.records(), late.symbol: newTape(late.symbol).records()}}
	for _, w := range []struct {
		name        string
		from, to    int64
		symbols     string // listed
		notInIt     string // early, late, by their first letters
		ok          bool
		lastLine    string
		withJournal bool
	}{
		{"far behind", early.now + 10*shift, 0, "", "el", false, "NOT PROVEN: nothing recorded in this window", false},
		{"far behind, with a journal", early.now + 10*shift, 0, "", "el", false, "NOT PROVEN: nothing recorded in this window", true},
		{"far before", 1, t0 - shift, "", "el", false, "NOT PROVEN: nothing recorded in this window", true},
		{"early only", t0, early.now, "er", "l", false, "", false},
		{"late only", early.now + 1, 0, "l", "e", false, "", false},
	} {
		opt := only(prefix)
		opt.From, opt.To = w.from, w.to
		r, err := Database(ctx, db, opt, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if w.withJournal {
			against, err := Journal(ctx, db, opt, j.derive, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			r.Merge(against)
		}
		symbols, notInIt := "", ""
		for _, s := range r.Symbols {
			symbols += s.Symbol[len(prefix):][:1]
		}
		var text bytes.Buffer
		if err := r.WriteText(&text); err != nil {
			t.Fatal(err)
		}
		for _, i := range r.NotRecorded {
			if notInIt += i.Symbol[len(prefix):][:1]; strings.Count(text.String(), i.Symbol) != 1 || !strings.Contains(text.String(), i.Venue+" "+i.Symbol+": not recorded in this window\n") {
				t.Errorf("%s: text does not name %q once:\n%s", w.name, i.Symbol, &text)
			}
		}
		if symbols != w.symbols || notInIt != w.notInIt || r.OK() != w.ok || !strings.HasSuffix(text.String(), w.lastLine+"\n") {
			t.Errorf("%s: symbols %q, not recorded %q, ok %v:\n%s", w.name, symbols, notInIt, r.OK(), &text)
		}
	}
}
