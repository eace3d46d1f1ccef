package verify

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"deeptape/hotpath/event"
)

// listedMax is how many findings of one instrument and table a report lists. The
// rest is counted.
const listedMax = 20

// Finding is one thing that is not as it must be.
type Finding struct {
	Venue, Symbol, Table string
	Ts                   int64 // of the row, or of the interval's start; ns
	What                 string
}

func (f *Finding) String() string {
	return fmt.Sprintf("%s %s %s %s: %s", f.Table, f.Venue, f.Symbol, stamp(f.Ts), f.What)
}

// MarshalJSON writes the instant as it is written everywhere: RFC 3339.
func (f *Finding) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Venue  string `json:"venue"`
		Symbol string `json:"symbol"`
		Table  string `json:"table"`
		Ts     string `json:"ts"`
		What   string `json:"what"`
	}{f.Venue, f.Symbol, f.Table, stamp(f.Ts), f.What})
}

// StateReport is how much of a stream is in one state.
type StateReport struct {
	Intervals int   `json:"intervals"`
	Ns        int64 `json:"ns"`
	Messages  int64 `json:"messages"`
}

// StreamReport is what was seen of one stream.
type StreamReport struct {
	Stream     string      `json:"stream"`
	Verified   StateReport `json:"verified"`
	Unverified StateReport `json:"unverified"`
	Gap        StateReport `json:"gap"`
	Rows       int64       `json:"rows"`
	Matched    int         `json:"matched"`          // verified intervals whose count, ids and end are those of their rows
	Ns         int64       `json:"ns"`               // that an interval holds, of the time asked for
	Percent    float64     `json:"verified_percent"` // of Ns, as coverage says it

	// Missing lists the first gaps of the time asked for; Gap counts all.
	Missing []Missing `json:"missing,omitempty"`
}

// Missing is a gap: its first and last instant, its cause, and which ids, where
// the venue numbers them.
type Missing struct {
	FromNs  int64  `json:"from_ns"`
	ToNs    int64  `json:"to_ns"`
	Cause   string `json:"cause"`
	FirstID *int64 `json:"first_id,omitempty"`
	LastID  *int64 `json:"last_id,omitempty"`
}

func (m *Missing) String() string {
	text := fmt.Sprintf("from %s to %s (%s), cause %s", stamp(m.FromNs), stamp(m.ToNs), time.Duration(m.ToNs-m.FromNs+1), m.Cause)
	if m.FirstID != nil && m.LastID != nil {
		text += fmt.Sprintf(", ids %d to %d", *m.FirstID, *m.LastID)
	}
	return text
}

// missing notes a gap as far as it lies between from and until.
func (s *StreamReport) missing(iv *interval, from, until int64) {
	if len(s.Missing) == listedMax {
		return
	}
	m := Missing{FromNs: from, ToNs: until, Cause: iv.cause}
	if iv.seqFirst != event.Null && iv.seqLast != event.Null {
		m.FirstID, m.LastID = &iv.seqFirst, &iv.seqLast
	}
	s.Missing = append(s.Missing, m)
}

// share notes how the stream's time divides.
func (s *StreamReport) share(sh share) {
	s.Ns, s.Percent = sh.total, sh.percent(stateVerified)
	s.Verified.Ns, s.Unverified.Ns, s.Gap.Ns = sh.ns[stateVerified], sh.ns[stateUnverified], sh.ns[stateGap]
}

// add counts an interval, whose part between from and until was asked for.
func (s *StreamReport) add(iv *interval, messages, from, until int64) {
	state := &s.Gap
	switch iv.state {
	case stateVerified:
		state = &s.Verified
	case stateUnverified:
		state = &s.Unverified
	default:
		s.missing(iv, from, until)
	}
	state.Intervals++
	state.Messages += messages
}

// SymbolReport is what was proved of one instrument, and what was not.
type SymbolReport struct {
	Venue   string          `json:"venue"`
	Symbol  string          `json:"symbol"`
	Streams []*StreamReport `json:"streams,omitempty"` // book, trades, quotes; none where only a journal was compared

	Checked    int64    `json:"rows_checked"` // of all tables, by Database; in the time asked for and where a book is rebuilt before it
	Proven     []string `json:"proven"`
	NotChecked []string `json:"not_checked"`

	// Findings lists at most 20 a table; FoundTotal counts all.
	Findings   []*Finding `json:"findings"`
	FoundTotal int        `json:"findings_total"`

	// Unproven is what lies in the times of Options.Lost, by table.
	Unproven []*Unproven `json:"unproven,omitempty"`

	// InFlight sums up what of NotChecked an agent had not stored yet.
	InFlight InFlight `json:"in_flight"`

	flying  []string // the texts of NotChecked that InFlight sums up
	lost    []*lost  // of Database: a finding in one of them is none
	listed  map[string]int
	unseen  []string              // not checked either, unless the rows are compared with a journal
	journal bool                  // they were
	partial [event.NumStreams]int // intervals that reach out of the options' time
}

func newSymbolReport(k key) *SymbolReport {
	return &SymbolReport{Venue: k.venue, Symbol: k.symbol, Proven: []string{}, NotChecked: []string{}, Findings: []*Finding{}, listed: map[string]int{}}
}

// rows of the three streams.
func (r *SymbolReport) rows() (n int64) {
	for _, s := range r.Streams {
		n += s.Rows
	}
	return n
}

func (r *SymbolReport) stream(s event.Stream) *StreamReport { return r.Streams[s] }

func (r *SymbolReport) find(table string, ts int64, format string, args ...any) {
	if l := lostAt(r.lost, ts); l != nil {
		r.unproven(table, l)
		return
	}
	r.FoundTotal++
	if r.listed[table]++; r.listed[table] > listedMax {
		return
	}
	r.Findings = append(r.Findings, &Finding{r.Venue, r.Symbol, table, ts, fmt.Sprintf(format, args...)})
}

func (r *SymbolReport) proven(format string, args ...any) {
	r.Proven = append(r.Proven, fmt.Sprintf(format, args...))
}

func (r *SymbolReport) notChecked(format string, args ...any) {
	r.NotChecked = append(r.NotChecked, fmt.Sprintf(format, args...))
}

// InFlight is what was on its way into the database while it was looked at, because an
// agent records.
type InFlight struct {
	Rows      int64 `json:"rows"`
	Intervals int64 `json:"intervals"`         // of coverage
	FromNs    int64 `json:"from_ns,omitempty"` // ts of the first row, 0 for none
}

func (f *InFlight) add(o InFlight) {
	f.Rows += o.Rows
	f.Intervals += o.Intervals
	if o.FromNs > 0 && (f.FromNs == 0 || o.FromNs < f.FromNs) {
		f.FromNs = o.FromNs
	}
}

// inFlight says what is not checked because it is not stored yet.
func (r *SymbolReport) inFlight(f InFlight, format string, args ...any) {
	r.InFlight.add(f)
	r.notChecked(format, args...)
	r.flying = append(r.flying, r.NotChecked[len(r.NotChecked)-1])
}

// leaveToJournal says what only a comparison with the journal can check.
func (r *SymbolReport) leaveToJournal(format string, args ...any) {
	r.notChecked(format, args...)
	r.unseen = append(r.unseen, r.NotChecked[len(r.NotChecked)-1])
}

// Report is the outcome of Database, of Journal, or of both.
type Report struct {
	Symbols []*SymbolReport `json:"symbols"`

	// NotRecorded are the instruments that the database or the journal knows, but not
	// of the time asked for.
	NotRecorded []Instrument `json:"not_recorded,omitempty"`

	// Verbose: WriteText gives all that WriteJSON does.
	Verbose bool `json:"-"`

	bounded bool // less than all was asked for
}

// Instrument names one.
type Instrument struct {
	Venue  string `json:"venue"`
	Symbol string `json:"symbol"`
}

func newReport(opt *Options, outside []key) *Report {
	r := &Report{Symbols: []*SymbolReport{}, bounded: opt.bounded()}
	for _, k := range outside {
		r.outside(k)
	}
	return r
}

// outside notes that nothing of an instrument is in the time asked for.
func (r *Report) outside(k key) {
	if i := (Instrument{k.venue, k.symbol}); !slices.Contains(r.NotRecorded, i) {
		r.NotRecorded = append(r.NotRecorded, i)
	}
}

// Found is the number of findings.
func (r *Report) Found() int {
	n := 0
	for _, s := range r.Symbols {
		n += s.FoundTotal
	}
	return n
}

// OK says that something was looked at, and nothing was found.
func (r *Report) OK() bool { return len(r.Symbols) > 0 && r.Found() == 0 }

// Merge adds what other says, symbol by symbol. What the journal has checked is no
// longer called unchecked.
func (r *Report) Merge(other *Report) {
	for _, o := range other.Symbols {
		var mine *SymbolReport
		for _, s := range r.Symbols {
			if s.Venue == o.Venue && s.Symbol == o.Symbol {
				mine = s
			}
		}
		if mine == nil {
			r.Symbols = append(r.Symbols, o)
			continue
		}
		if mine.Streams == nil {
			mine.Streams = o.Streams
		}
		if o.journal {
			mine.NotChecked = slices.DeleteFunc(mine.NotChecked, func(text string) bool {
				return slices.Contains(mine.unseen, text) || slices.Contains(mine.flying, text)
			})
			mine.InFlight, mine.flying = InFlight{}, nil // rows without an interval are compared one by one
		}
		mine.Proven = append(mine.Proven, o.Proven...)
		mine.NotChecked = append(mine.NotChecked, o.NotChecked...)
		mine.InFlight.add(o.InFlight)
		mine.flying = append(mine.flying, o.flying...)
		mine.Findings = append(mine.Findings, o.Findings...)
		mine.FoundTotal += o.FoundTotal
		mine.mergeUnproven(o.Unproven)
	}
	for _, i := range other.NotRecorded {
		r.outside(key{i.Venue, i.Symbol})
	}
	r.NotRecorded = slices.DeleteFunc(r.NotRecorded, func(i Instrument) bool {
		return slices.ContainsFunc(r.Symbols, func(s *SymbolReport) bool { return s.Venue == i.Venue && s.Symbol == i.Symbol })
	})
}

// WriteJSON writes the report with ok, findings_total and unproven_rows at its top.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(struct {
		OK       bool `json:"ok"`
		Found    int  `json:"findings_total"`
		Unproven int  `json:"unproven_rows"`
		*Report
	}{r.OK(), r.Found(), r.UnprovenRows(), r})
}
