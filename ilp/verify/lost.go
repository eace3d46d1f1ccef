package verify

import (
	"encoding/json"
	"fmt"
	"math"
)

// Lost is a time whose inputs the journal has lost, so that nothing can be derived
// of it: what the database holds of it is neither proven nor found.
type Lost struct {
	Venue, Symbol string
	// From is the stamp of the last input before the loss, To that of the first one
	// behind it, NoRun where the journal ends with the loss; ns, the first exclusive, the
	// second inclusive.
	From, To int64
	// Damaged: the loss is in the middle of a run, and what is left of the run is derived
	// without what came before. Otherwise it is the newest part of a run that did
	// not stop by itself: what a power loss takes.
	Damaged bool
}

// NoRun is the end of what a run has lost that did not stop by itself, or goes on, and
// that no other run follows.
const NoRun = int64(math.MaxInt64)

// heldNs: a frame that waits for another connection's has the stamp of its coming,
// and is derived by the input that ends the waiting. It waits for at most this long.
const heldNs = int64(2_000_000_000)

// toldNs: coverage is told anew at each tick, once a second, where anything is new.
const toldNs = int64(2_000_000_000)

// Unproven counts what the database holds of a lost time, by table. It is not a
// finding.
type Unproven struct {
	Venue, Symbol, Table string
	From, To             int64 // of the Lost, ns
	Rows                 int   // of coverage: intervals that reach into it
	Damaged              bool
	// Last: behind the damage the journal has nothing from which rows could be derived
	// again, so that To is its end. Only a comparison with the journal knows.
	Last bool
}

func (u *Unproven) String() string {
	what := "rows"
	if u.Table == tableCoverage {
		what = "intervals, as far as they are"
	}
	if u.Last {
		return fmt.Sprintf("%s %s %s: %d %s within a lost part of the journal, between %s and its end at %s: no keyframe follows the damage, so nothing after it can be derived",
			u.Table, u.Venue, u.Symbol, u.Rows, what, stamp(u.From), stamp(u.To))
	}
	if u.Damaged {
		return fmt.Sprintf("%s %s %s: %d %s within a lost part of the journal, between %s and %s", u.Table, u.Venue, u.Symbol, u.Rows, what, stamp(u.From), stamp(u.To))
	}
	if u.To == NoRun {
		return fmt.Sprintf("%s %s %s: %d %s newer than the journal's end of %s (its run did not stop by itself, and the journal has no other)",
			u.Table, u.Venue, u.Symbol, u.Rows, what, stamp(u.From))
	}
	return fmt.Sprintf("%s %s %s: %d %s newer than the journal's end of %s, before the next run at %s (a power loss took the journal's newest part)",
		u.Table, u.Venue, u.Symbol, u.Rows, what, stamp(u.From), stamp(u.To))
}

// MarshalJSON writes the instants as RFC 3339, and no end where there is none.
func (u *Unproven) MarshalJSON() ([]byte, error) {
	to := ""
	if u.To != NoRun {
		to = stamp(u.To)
	}
	return json.Marshal(struct {
		Venue   string `json:"venue"`
		Symbol  string `json:"symbol"`
		Table   string `json:"table"`
		From    string `json:"from"`
		To      string `json:"to,omitempty"`
		Rows    int    `json:"rows"`
		Damaged bool   `json:"damaged"`
		Last    bool   `json:"no_keyframe_follows"`
	}{u.Venue, u.Symbol, u.Table, stamp(u.From), to, u.Rows, u.Damaged, u.Last})
}

// lostOf are the lost times of one instrument, with what is learnt of each.
func (o *Options) lostOf(k key) []*lost {
	var all []*lost
	for _, l := range o.Lost {
		if l.Venue == k.venue && l.Symbol == k.symbol {
			all = append(all, &lost{Lost: l})
		}
	}
	return all
}

type lost struct {
	Lost
	lastRow int64 // ts of the last row that the inputs before it make
}

// begin is the instant behind which a row may be of a lost input.
func (l *lost) begin() int64 { return max(l.lastRow, l.From-heldNs) }

// end is the last instant that the journal's inputs before the loss speak of.
func (l *lost) end() int64 { return max(l.lastRow, l.From) }

func lostAt(all []*lost, ts int64) *lost {
	for _, l := range all {
		if ts > l.begin() && ts <= l.To {
			return l
		}
	}
	return nil
}

// unproven counts what lies in a lost time.
func (r *SymbolReport) unproven(table string, l *lost) {
	for _, u := range r.Unproven {
		if u.Table == table && u.From == l.From {
			u.Rows++
			return
		}
	}
	r.Unproven = append(r.Unproven, &Unproven{r.Venue, r.Symbol, table, l.From, l.To, 1, l.Damaged, false})
}

// mergeUnproven prefers the count of other, which has met each row once.
func (r *SymbolReport) mergeUnproven(other []*Unproven) {
next:
	for _, o := range other {
		for _, u := range r.Unproven {
			if u.Table == o.Table && u.From == o.From {
				u.Rows = o.Rows
				continue next
			}
		}
		r.Unproven = append(r.Unproven, o)
	}
	// A table of which the journal has not met a row is of the same loss.
	for _, o := range other {
		for _, u := range r.Unproven {
			u.Last = u.Last || o.Last && u.From == o.From
		}
	}
}

// noKeyframe marks what is behind damage that no keyframe and no run follows: a loss
// ends at the first of them, or else at the journal's last input, and only behind the
// former is there anything that was made of a later one.
func (s *journalSymbol) noKeyframe(last int64) {
	for _, u := range s.rep.Unproven {
		u.Last = u.Damaged && last <= u.To && s.keyframe < u.To
	}
}

// UnprovenRows counts the rows of lost times, without intervals.
func (r *Report) UnprovenRows() int {
	n := 0
	for _, s := range r.Symbols {
		for _, u := range s.Unproven {
			if u.Table != tableCoverage {
				n += u.Rows
			}
		}
	}
	return n
}

// noKeyframe says whether damage that no keyframe follows is why some rows are unproven.
func (r *Report) noKeyframe() bool {
	for _, s := range r.Symbols {
		for _, u := range s.Unproven {
			if u.Last {
				return true
			}
		}
	}
	return false
}

// goesOn: the journal was still being written when its losses were looked for, and now
// has more: what had no end then is not lost.
func (s *journalSymbol) goesOn(recv int64) {
	if n := len(s.lost); n > 0 && s.lost[n-1].To == NoRun && recv > s.lost[n-1].From {
		s.lost = s.lost[:n-1] // it is told last
	}
}

// learn notes the last row before each loss: rows of inputs that are left.
func (s *journalSymbol) learn(recv, ts int64) {
	for _, l := range s.lost {
		if recv <= l.From && ts <= l.To {
			l.lastRow = max(l.lastRow, ts)
		}
	}
}

// madeInLost says whether the record that is compared is of what is left in a damaged
// part: it may make other rows than the whole did.
func (s *journalSymbol) madeInLost() *lost {
	for _, l := range s.lost {
		if l.Damaged && s.recv > l.From && s.recv <= l.To {
			return l
		}
	}
	return nil
}

// lostBefore says of a row that the journal does not make, between two that it makes,
// whether a lost input may have made it. A gap's row of nulls and a row of
// book_depth have the ts of an earlier message.
func (s *journalSymbol) lostBefore(got any, ts, prev, next int64) *lost {
	if l := lostAt(s.lost, ts); l != nil {
		return l
	}
	for _, l := range s.lost {
		if ts <= l.To && ts > prev && next > l.end() && late(got, l.From) {
			return l
		}
	}
	return nil
}

// grownInLost says whether a stored interval is a derived one that went on in lost
// time: it was the same one until then. What is told of an interval is up to a tick old,
// so a lost tick may have told of messages from shortly before the loss.
func (s *journalSymbol) grownInLost(e, got *interval) *lost {
	for _, l := range s.lost {
		same := e.state == got.state && e.cause == got.cause || e.state == stateUnverified && got.state == stateVerified
		if e.ts <= l.end() && e.end <= l.To && got.end > l.end()-toldNs && got.end > e.end && got.messages >= e.messages && same && (got.end <= l.To || l.Damaged) {
			return l
		}
	}
	return nil
}

// begunInLost says whether an interval that the journal does not make is of lost
// inputs. A gap starts where the last message was, and is known only later.
func (s *journalSymbol) begunInLost(expect map[int64]*expectedInterval, iv *interval) *lost {
	if l := lostAt(s.lost, iv.ts); l != nil {
		return l
	}
	for _, l := range s.lost {
		if iv.ts > l.To || iv.end <= l.end() {
			continue
		}
		newest := true
		for ts := range expect {
			newest = newest && (ts < iv.ts || ts > l.end())
		}
		if newest {
			return l
		}
	}
	return nil
}

// endsInLost: what the next run's record says of an interval, it has from the database.
func (s *journalSymbol) endsInLost(iv *interval) *lost {
	for _, l := range s.lost {
		if iv.end > l.end() && iv.end <= l.To {
			return l
		}
	}
	return nil
}

// splitByLoss says of an interval that only the journal makes whether it is a piece of
// one that the database holds whole: the loss ended the first piece, and the next
// keyframe began the last one.
func (s *journalSymbol) splitByLoss(stored []interval, e *interval) *lost {
	for _, l := range s.lost {
		if !l.Damaged {
			continue
		}
		if e.ts <= l.To && e.end > l.end() {
			return l
		}
		for i := range stored {
			if iv := &stored[i]; iv.ts <= l.To && iv.ts < e.ts && iv.end == e.end && iv.state == e.state && iv.messages >= e.messages {
				return l
			}
		}
	}
	return nil
}
