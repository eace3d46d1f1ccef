package verify

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"deeptape/hotpath/event"
	"deeptape/ilp/qdb"
)

// CoverageInterval is an interval, cut to the time asked for.
type CoverageInterval struct {
	From, To            int64 // both inclusive, ns
	State, Proof, Cause string
	Messages            int64 // of the whole interval, also where it is cut
	Detail              string
}

// MarshalJSON writes the instants as RFC 3339.
func (iv CoverageInterval) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		From     string `json:"from"`
		To       string `json:"to"`
		State    string `json:"state"`
		Proof    string `json:"proof"`
		Cause    string `json:"cause,omitempty"`
		Messages int64  `json:"messages"`
		Detail   string `json:"detail,omitempty"`
	}{stamp(iv.From), stamp(iv.To), iv.State, iv.Proof, iv.Cause, iv.Messages, iv.Detail})
}

// CoverageStream is what is known of one stream of one instrument. The per cents
// are of the time that its intervals hold within the time asked for.
type CoverageStream struct {
	Venue             string             `json:"venue"`
	Symbol            string             `json:"symbol"`
	Stream            string             `json:"stream"`
	VerifiedPercent   float64            `json:"verified_percent"`
	UnverifiedPercent float64            `json:"unverified_percent"`
	GapPercent        float64            `json:"gap_percent"`
	Ns                int64              `json:"ns"`
	Intervals         []CoverageInterval `json:"intervals"`
}

// CoverageReport is the outcome of Coverage, by venue, symbol and stream.
type CoverageReport struct {
	Streams []*CoverageStream `json:"streams"`
}

// CoverageOptions say what of coverage is asked for.
type CoverageOptions struct {
	From, To int64                           // ns, both inclusive; 0 is an open end
	Want     func(venue, symbol string) bool // nil: every instrument
	Stream   string                          // book, trades or quotes; "": all
	State    string                          // verified, unverified or gap: intervals in it, and streams that have one; "": all
}

// Coverage reads the intervals that reach into the time asked for. The per cents of a
// stream are of all its intervals there, whatever State is. It believes them: Database and
// Journal are what proves them.
func Coverage(ctx context.Context, db *qdb.DB, of CoverageOptions) (*CoverageReport, error) {
	exp := newExporter(db)
	defer exp.close()
	opt := Options{From: of.From, To: of.To}
	all, _, err := loadCoverage(ctx, exp, &opt)
	if err != nil {
		return nil, err
	}
	r := &CoverageReport{Streams: []*CoverageStream{}}
	for k, c := range all {
		if of.Want != nil && !of.Want(k.venue, k.symbol) {
			continue
		}
		for s := range event.NumStreams {
			if of.Stream != "" && of.Stream != s.String() {
				continue
			}
			t := coverageOf(k, s, within(c.streams[s], of.From, opt.until()), of.From, opt.until())
			if t == nil {
				continue
			}
			if of.State != "" {
				t.Intervals = slices.DeleteFunc(t.Intervals, func(iv CoverageInterval) bool { return iv.State != of.State })
			}
			if len(t.Intervals) > 0 {
				r.Streams = append(r.Streams, t)
			}
		}
	}
	slices.SortFunc(r.Streams, func(a, b *CoverageStream) int {
		return cmp.Or(cmp.Compare(a.Venue, b.Venue), cmp.Compare(a.Symbol, b.Symbol), cmp.Compare(a.Stream, b.Stream))
	})
	return r, nil
}

// share is how the time of one stream divides among the states: of all instants
// between two bounds that an interval holds, gaps of any cause among them. It is what
// both the coverage and the proof of it give per cents of.
type share struct {
	ns    map[string]int64 // by state
	total int64
}

func shareOf(ivs []interval, from, until int64) share {
	s := share{ns: map[string]int64{}}
	for i := range ivs {
		if a, b := ivs[i].cut(from, until); a <= b {
			s.ns[ivs[i].state] += b - a + 1
			s.total += b - a + 1
		}
	}
	return s
}

func (s *share) percent(state string) float64 {
	if s.total == 0 {
		return 0
	}
	return 100 * float64(s.ns[state]) / float64(s.total)
}

func coverageOf(k key, s event.Stream, ivs []interval, from, until int64) *CoverageStream {
	sh := shareOf(ivs, from, until)
	if sh.total == 0 {
		return nil
	}
	t := &CoverageStream{Venue: k.venue, Symbol: k.symbol, Stream: s.String(), Ns: sh.total}
	for i := range ivs {
		iv := &ivs[i]
		if a, b := iv.cut(from, until); a <= b {
			t.Intervals = append(t.Intervals, CoverageInterval{a, b, iv.state, iv.proof, iv.cause, iv.messages, iv.detail})
		}
	}
	t.VerifiedPercent, t.UnverifiedPercent, t.GapPercent = sh.percent(stateVerified), sh.percent(stateUnverified), sh.percent(stateGap)
	return t
}

// WriteJSON writes the report as one JSON object.
func (r *CoverageReport) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// WriteText writes a table of the per cents, under it every interval that is not
// verified, or with all every interval, and what the intervals say besides.
func (r *CoverageReport) WriteText(w io.Writer, all bool) error {
	p := printer{w: w}
	if len(r.Streams) == 0 {
		p.line("no coverage in the time asked for")
		return p.err
	}
	p.line("%-14s %-16s %-7s %11s %11s %11s %14s", "VENUE", "SYMBOL", "STREAM", "VERIFIED %", "UNVERIF. %", "GAP %", "TIME")
	for _, t := range r.Streams {
		p.line("%-14s %-16s %-7s %11.4f %11.4f %11.4f %14s", t.Venue, t.Symbol, t.Stream, t.VerifiedPercent, t.UnverifiedPercent, t.GapPercent,
			time.Duration(t.Ns).Round(time.Millisecond))
	}
	p.line("")
	p.line("%-14s %-16s %-7s %-10s %-12s %-30s  %-30s %14s", "VENUE", "SYMBOL", "STREAM", "STATE", "CAUSE", "FROM", "TO", "TIME")
	for _, t := range r.Streams {
		for _, iv := range t.Intervals {
			if all || iv.State != stateVerified {
				p.line("%-14s %-16s %-7s %-10s %-12s %-30s  %-30s %14s", t.Venue, t.Symbol, t.Stream, iv.State, cmp.Or(iv.Cause, "-"),
					stamp(iv.From), stamp(iv.To), fmt.Sprint(time.Duration(iv.To-iv.From+1)))
			}
		}
	}
	first := true
	for _, t := range r.Streams {
		for _, iv := range t.Intervals {
			if iv.Detail == "" {
				continue
			}
			if first {
				first = false
				p.line("")
				p.line("%-14s %-16s %-7s %-10s %-30s  %s", "VENUE", "SYMBOL", "STREAM", "STATE", "FROM", "DETAIL")
			}
			p.line("%-14s %-16s %-7s %-10s %-30s  %s", t.Venue, t.Symbol, t.Stream, iv.State, stamp(iv.From), iv.Detail)
		}
	}
	return p.err
}
