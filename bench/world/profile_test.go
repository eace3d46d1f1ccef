package world

import (
	"reflect"
	"testing"
)

// TestProfiles counts what each profile sends, against what it says it is.
func TestProfiles(t *testing.T) {
	const seconds = 20
	for _, p := range Profiles {
		l := NewLoad(p, 7)
		s := NewSchedule(l, DefaultStartNs+123, 3e9, seconds*1e9)
		if s.StartNs != DefaultStartNs {
			t.Fatalf("%s starts at %d, no whole second", p.Name, s.StartNs)
		}
		type key struct {
			symbol int
			kind   Kind
		}
		counts, last := map[key]int{}, map[key]int64{}
		busy, rest, bursts := 0, 0, 0
		at := int64(0)
		for list := s.Next(); list != nil; list = s.Next() {
			for _, x := range list {
				if x.AtNs < at || x.AtNs%1e6 != 0 || x.AtNs >= s.StartNs-PauseNs && x.AtNs < s.StartNs || x.AtNs >= s.EndNs {
					t.Fatalf("%s: a message is due at %d, after one at %d", p.Name, x.AtNs, at)
				}
				at = x.AtNs
				k := key{x.Symbol, x.Kind}
				switch x.Kind {
				case Diff:
					d := &l.Symbols[x.Symbol].Diffs[x.Template]
					n := len(d.Bids) + len(d.Asks)
					if last[k] == 0 {
						last[k] = l.Symbols[x.Symbol].Book.LastID
					}
					if n == 0 || x.First != last[k]+1 || x.Last != x.First+int64(n)-1 {
						t.Fatalf("%s: ids %d to %d for %d levels after %d", p.Name, x.First, x.Last, n, last[k])
					}
					last[k] = x.Last
					switch {
					case x.AtNs < s.StartNs:
					case x.Template >= diffTemplates && n == 1076:
						bursts++
					case x.Symbol < p.Busy:
						busy += n
					default:
						rest += n
					}
				case Trade:
					if last[k] != 0 && x.TradeID != last[k]+1 {
						t.Fatalf("%s: trade %d after %d", p.Name, x.TradeID, last[k])
					}
					last[k] = x.TradeID
				case Quote:
					if x.Last != last[key{x.Symbol, Diff}] {
						t.Fatalf("%s: a quote of id %d after a diff of %d", p.Name, x.Last, last[key{x.Symbol, Diff}])
					}
				}
				if x.AtNs >= s.StartNs {
					counts[k]++
				}
			}
		}
		for i := range p.Streams {
			want := [3]int{Diff: seconds * PerSecond}
			if i < p.Bursts {
				want = [3]int{Diff: seconds * (PerSecond + 1), Trade: seconds * 793, Quote: seconds * 44}
			}
			for kind, n := range want {
				if got := counts[key{i, Kind(kind)}]; got != n {
					t.Errorf("%s: symbol %d has %d messages of kind %d, want %d", p.Name, i, got, kind, n)
				}
			}
		}
		if bursts != p.Bursts*seconds {
			t.Errorf("%s: %d bursts of depth, want %d", p.Name, bursts, p.Bursts*seconds)
		}
		// The recording's mean is 45.9.
		perBusy := float64(busy) / float64(p.Busy*seconds*PerSecond)
		perRest := float64(rest) / float64((p.Streams-p.Busy)*seconds*PerSecond)
		if perBusy < 42 || perBusy > 50 || perRest < 4.3 || perRest > 5.1 {
			t.Errorf("%s: %.1f levels a message where it is busy, %.2f elsewhere; want about 45.9 and a tenth", p.Name, perBusy, perRest)
		}
	}
}

// TestLoadIsSound: no diff touches the best levels, whatever comes before what; and
// the same seed makes the same.
func TestLoadIsSound(t *testing.T) {
	p := Profile{Streams: 12, Busy: 2, Bursts: 3}
	l := NewLoad(p, 3)
	if !reflect.DeepEqual(l, NewLoad(p, 3)) {
		t.Error("the same seed makes another load")
	}
	if reflect.DeepEqual(l.Symbols[0].Diffs, NewLoad(p, 4).Symbols[0].Diffs) {
		t.Error("another seed makes the same load")
	}
	for _, s := range l.Symbols {
		if s.Quote.Bid != s.Book.Bids[0] || s.Quote.Ask != s.Book.Asks[0] || s.Quote.Bid.Px >= s.Quote.Ask.Px {
			t.Fatalf("%s: quote %v, book %v and %v", s.Name, s.Quote, s.Book.Bids[0], s.Book.Asks[0])
		}
		for _, d := range s.Diffs {
			seen := map[int64]bool{}
			for _, x := range d.Bids {
				if x.Px >= s.Quote.Bid.Px || x.Px <= 0 || x.Qty < 0 || seen[x.Px] {
					t.Fatalf("%s: bid %v, the best is %v", s.Name, x, s.Quote.Bid)
				}
				seen[x.Px] = true
			}
			for _, x := range d.Asks {
				if x.Px <= s.Quote.Ask.Px || x.Qty < 0 || seen[x.Px] {
					t.Fatalf("%s: ask %v, the best is %v", s.Name, x, s.Quote.Ask)
				}
				seen[x.Px] = true
			}
		}
	}
	if _, err := ProfileByName("storm"); err == nil {
		t.Error("there is a profile storm")
	}
}
