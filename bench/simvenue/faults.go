package simvenue

import (
	"fmt"
	"strconv"
	"strings"
)

// Fault strikes once: at the N-th book update of its symbol (the events of the
// feed count, from 1, whether or not anyone is subscribed), or at the N-th valid
// depth request. Without a symbol it strikes the first symbol that gets to N.
type Fault struct {
	Name   string
	N      int
	Symbol string // "" is any
}

func (f Fault) String() string {
	t := f.Name + "@" + strconv.Itoa(f.N)
	if f.Symbol != "" {
		t += ":" + f.Symbol
	}
	return t
}

const (
	faultDrop       = "drop"           // the frame is not sent; the true book has it
	faultDuplicate  = "duplicate"      // the frame is sent twice
	faultReorder    = "reorder"        // the frame is sent after the symbol's next one
	faultDisconnect = "disconnect"     // after the frame, every connection carrying the symbol ends without a close frame
	faultCutOne     = "disconnect-one" // the same for one of them, the one that has carried it longest
	faultStall      = "stall"          // after the frame, those connections get nothing, not even pings, for StallFor; then all that was due, in order
	faultStale      = "stale-snapshot" // the answer is an old book: its lastUpdateId lies before the first diff of the feed
	fault429        = "429"            // the answer is 429 with Retry-After: 1
)

var faultNames = []string{faultDrop, faultDuplicate, faultReorder, faultDisconnect, faultCutOne, faultStall, faultStale, fault429}

// FaultNames are the names that ParseFaults knows, for a usage text.
func FaultNames() []string { return append([]string(nil), faultNames...) }

// ParseFaults reads NAME@N[:SYMBOL] items separated by commas. Symbols are put
// into the venue's spelling; whether they exist is for New to say.
func ParseFaults(text string) ([]Fault, error) {
	var faults []Fault
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	for _, item := range strings.Split(text, ",") {
		item = strings.TrimSpace(item)
		name, rest, ok := strings.Cut(item, "@")
		known := false
		for _, n := range faultNames {
			known = known || n == name
		}
		if !known {
			return nil, fmt.Errorf("cannot read fault %q: no fault is called %q, the nearest is %q", item, name, nearest(name, faultNames))
		}
		count, symbol, hasSymbol := strings.Cut(rest, ":")
		n, err := strconv.Atoi(count)
		if !ok || err != nil || n < 1 || count[0] == '+' || (hasSymbol && symbol == "") {
			return nil, fmt.Errorf("cannot read fault %q: want %s@N or %s@N:SYMBOL with N from 1", item, name, name)
		}
		faults = append(faults, Fault{name, n, strings.ToUpper(symbol)})
	}
	return faults, nil
}

// nearest is the candidate with the fewest edits from word.
func nearest(word string, candidates []string) string {
	best, bestEdits := "", 1<<30
	for _, c := range candidates {
		if e := edits(strings.ToLower(word), strings.ToLower(c)); e < bestEdits {
			best, bestEdits = c, e
		}
	}
	return best
}

func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diag
			if a[i-1] != b[j-1] {
				cost++
			}
			diag = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

type armedFault struct {
	Fault
	struck bool
}

// strikeLocked returns the names of the faults among kinds that hit the n-th
// occasion of sym, and disarms them.
func (s *Server) strikeLocked(sym *symbol, n int, kinds ...string) []string {
	var hit []string
	for _, f := range s.faults {
		if f.struck || f.N != n || (f.Symbol != "" && f.Symbol != sym.name) {
			continue
		}
		for _, k := range kinds {
			if k == f.Name {
				f.struck = true
				hit = append(hit, k)
			}
		}
	}
	return hit
}
