package verify

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// WriteText writes the report for people: each instrument in short (all of it, if
// Verbose), then what was not checked or is unproven, the findings, and the verdict.
func (r *Report) WriteText(w io.Writer) error {
	p := printer{w: w}
	for _, s := range r.Symbols {
		if r.Verbose {
			s.writeLong(&p)
		} else {
			s.writeShort(&p)
		}
	}
	if !r.Verbose {
		r.writeNotChecked(&p)
		r.writeInFlight(&p)
	}
	for _, s := range r.Symbols {
		for _, u := range s.Unproven {
			p.line("  unproven     %s", u)
		}
	}
	for _, s := range r.Symbols {
		for _, f := range s.Findings {
			p.line("FOUND %s", f)
		}
		if more := s.FoundTotal - len(s.Findings); more > 0 {
			p.line("FOUND %s %s: %d more", s.Venue, s.Symbol, more)
		}
	}
	for _, i := range r.NotRecorded {
		p.line("%s %s: not recorded in this window", i.Venue, i.Symbol)
	}
	if n := r.UnprovenRows(); n > 0 {
		why := ""
		if r.noKeyframe() {
			why = "; no keyframe follows the damage at its end, so nothing after that can be derived"
		}
		p.line("unproven: %d rows of times whose part of the journal is lost%s", n, why)
	}
	switch n := r.Found(); {
	case n > 0:
		p.line("NOT PROVEN: %d findings", n)
	case len(r.Symbols) == 0 && r.bounded:
		p.line("NOT PROVEN: nothing recorded in this window")
	case len(r.Symbols) == 0:
		p.line("NOT PROVEN: nothing recorded, the database holds no row and no interval of what was asked for")
	default:
		p.line("OK: all that is called verified is proven, as far as it was checked")
	}
	return p.err
}

// writeShort writes one line under the instrument's name.
func (r *SymbolReport) writeShort(p *printer) {
	p.line("%s %s", r.Venue, r.Symbol)
	var b strings.Builder
	for i, t := range r.Streams {
		if i > 0 {
			b.WriteString("; ")
		}
		switch {
		case t.Ns == 0 && t.Rows == 0:
			fmt.Fprintf(&b, "%s not recorded", t.Stream)
		case t.Verified.Intervals == 0 && t.Unverified.Intervals > 0: // often the venue offers no proof
			fmt.Fprintf(&b, "%s %.4f %% unverified", t.Stream, 100*float64(t.Unverified.Ns)/float64(t.Ns))
		default:
			fmt.Fprintf(&b, "%s %.4f %% verified", t.Stream, t.Percent)
		}
		if i == 0 {
			fmt.Fprintf(&b, ", %d gap", t.Gap.Intervals)
		}
	}
	if len(r.Streams) > 0 {
		fmt.Fprintf(&b, "; %d rows checked", r.Checked)
	} else {
		b.WriteString("compared with the journal only")
	}
	p.line("  %s; %d findings", &b, r.FoundTotal)
}

func (r *SymbolReport) writeLong(p *printer) {
	p.line("%s %s", r.Venue, r.Symbol)
	for _, t := range r.Streams {
		p.line("  %-7s %8.4f %% of its time verified; intervals: %d verified, %d unverified, %d gap; %d messages in %d rows", t.Stream, t.Percent,
			t.Verified.Intervals, t.Unverified.Intervals, t.Gap.Intervals, t.Verified.Messages+t.Unverified.Messages+t.Gap.Messages, t.Rows)
	}
	for _, t := range r.Streams {
		for i := range t.Missing {
			p.line("  missing      %s: %s", t.Stream, &t.Missing[i])
		}
		if more := t.Gap.Intervals - len(t.Missing); more > 0 {
			p.line("  missing      %s: %d more gaps", t.Stream, more)
		}
	}
	if len(r.Streams) > 0 {
		p.line("  checked      %d rows", r.Checked)
	}
	for _, text := range r.Proven {
		p.line("  proved       %s", text)
	}
	for _, text := range r.NotChecked {
		p.line("  not checked  %s", text)
	}
}

var digits = regexp.MustCompile(`[0-9]+`)

// writeNotChecked says what was not checked: what is said of many instruments, but for
// its figures, once, with those of the first.
func (r *Report) writeNotChecked(p *printer) {
	type said struct {
		text, first string
		others      int
	}
	var all []*said
	of := map[string]*said{}
	for _, s := range r.Symbols {
		for _, text := range s.NotChecked {
			if slices.Contains(s.flying, text) {
				continue
			}
			like := digits.ReplaceAllString(text, "0")
			if of[like] != nil {
				of[like].others++
				continue
			}
			of[like] = &said{text: text, first: s.Venue + " " + s.Symbol}
			all = append(all, of[like])
		}
	}
	for _, t := range all {
		if t.others == 0 {
			p.line("  not checked  %s (%s)", t.text, t.first)
		} else {
			p.line("  not checked  %s (%s, and the like of %d others)", t.text, t.first, t.others)
		}
	}
}

// writeInFlight sums up what was on its way.
func (r *Report) writeInFlight(p *printer) {
	var all InFlight
	symbols := 0
	for _, s := range r.Symbols {
		if s.InFlight != (InFlight{}) {
			symbols++
			all.add(s.InFlight)
		}
	}
	if symbols == 0 {
		return
	}
	from := ""
	if all.FromNs > 0 {
		from = " from " + stamp(all.FromNs) + " on"
	}
	p.line("  in flight    %d rows%s and %d intervals of %d symbols were on their way while this looked, because an agent records; to check them too, verify again once it has stopped, or an earlier time with --to (--verbose lists them)", all.Rows, from, all.Intervals, symbols)
}

// printer keeps the first error of many writes.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}
