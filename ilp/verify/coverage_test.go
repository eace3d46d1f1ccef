package verify

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"strings"
	"testing"
)

func TestCoverage(t *testing.T) {
	ctx, db, addr, prefix := open(t)
	p := newTape(prefix + "x")
	// A hundred seconds of book: 10 s gap, 60 s verified, 30 s gap.
	p.books, p.tops, p.quotes, p.trades, p.coverage = nil, nil, nil, nil, nil
	p.open(0, stateGap, proofNone, "start", t0)
	p.open(0, stateVerified, proofChain, "", t0+10e9)
	p.open(0, stateGap, proofNone, "sequence", t0+70e9)
	p.coverage[2].end = t0 + 100e9 - 1
	p.coverage[1].detail = "audit at id 7: 99.50 % of 200 levels equal"
	p.store(t, addr)
	if err := waitApplied(ctx, newExporter(db), &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from, to      int64
		verified, gap float64
		intervals     int
	}{
		{0, 0, 60, 40, 3},
		{t0 + 60e9, t0 + 80e9 - 1, 50, 50, 2},
		{t0 + 20e9, t0 + 30e9, 100, 0, 1},
		{t0 + 90e9, 0, 0, 100, 1},
		{t0 + 100e9, 0, 0, 0, 0},
	} {
		r, err := Coverage(ctx, db, CoverageOptions{From: c.from, To: c.to})
		if err != nil {
			t.Fatal(err)
		}
		got := &CoverageStream{}
		for _, s := range r.Streams {
			if s.Symbol == p.symbol {
				got = s
			}
		}
		opt := only(prefix)
		opt.From, opt.To = c.from, c.to
		proof, err := Database(ctx, db, opt, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range proof.Symbols { // damaged as it is, its time is the same
			if b := s.Streams[0]; b.Percent != got.VerifiedPercent || b.Ns != got.Ns || b.Verified.Ns+b.Gap.Ns != b.Ns || b.Verified.Intervals+b.Gap.Intervals != c.intervals {
				t.Errorf("from %d to %d: coverage says %.4f %% of %d ns, verify %+v", c.from-t0, c.to-t0, got.VerifiedPercent, got.Ns, b)
			}
		}
		if math.Abs(got.VerifiedPercent-c.verified) > 1e-9 || math.Abs(got.GapPercent-c.gap) > 1e-9 || len(got.Intervals) != c.intervals {
			t.Errorf("from %d to %d: %+v", c.from-t0, c.to-t0, got)
		}
		if c.from != 0 {
			continue
		}
		// A state picks intervals, and leaves the per cents what they are; a stream or a name
		// picks streams.
		for _, f := range []struct {
			opt     CoverageOptions
			streams int // of the symbol
			ivs     int
		}{
			{CoverageOptions{State: stateGap}, 1, 2},
			{CoverageOptions{State: stateUnverified}, 0, 0},
			{CoverageOptions{Stream: "book", State: stateVerified}, 1, 1},
			{CoverageOptions{Stream: "quotes"}, 0, 0},
			{CoverageOptions{Want: func(_, symbol string) bool { return symbol != p.symbol }}, 0, 0},
			{CoverageOptions{Want: func(_, symbol string) bool { return symbol == p.symbol }}, 1, 3},
		} {
			part, err := Coverage(ctx, db, f.opt)
			if err != nil {
				t.Fatal(err)
			}
			streams, ivs := 0, 0
			for _, s := range part.Streams {
				if s.Symbol == p.symbol {
					streams++
					ivs += len(s.Intervals)
					if s.VerifiedPercent != got.VerifiedPercent {
						t.Errorf("%+v: %.4f %% verified, without a filter %.4f %%", f.opt, s.VerifiedPercent, got.VerifiedPercent)
					}
				}
			}
			if streams != f.streams || ivs != f.ivs {
				t.Errorf("%+v: %d streams with %d intervals, want %d with %d", f.opt, streams, ivs, f.streams, f.ivs)
			}
		}
		var text, js bytes.Buffer
		if err := r.WriteText(&text, false); err != nil || !strings.Contains(text.String(), "sequence     2026-11-22T10:01:10.000000000Z  2026-11-22T10:01:39.999999999Z") {
			t.Errorf("%v, text:\n%s", err, &text)
		}
		if want := "book    verified   2026-11-22T10:00:10.000000000Z  audit at id 7: 99.50 % of 200 levels equal"; !strings.Contains(text.String(), want) {
			t.Errorf("text without %q:\n%s", want, &text)
		}
		var back struct {
			Streams []struct {
				Symbol    string
				Percent   float64 `json:"verified_percent"`
				Intervals []struct{ From, State, Cause, Detail string }
			}
		}
		if err := r.WriteJSON(&js); err != nil || json.Unmarshal(js.Bytes(), &back) != nil || len(back.Streams) != len(r.Streams) {
			t.Errorf("%v, JSON:\n%s", err, &js)
		}
		for _, s := range back.Streams {
			if s.Symbol == p.symbol && s.Intervals[1].Detail != p.coverage[1].detail {
				t.Errorf("JSON: %+v", s)
			}
		}
	}
}
