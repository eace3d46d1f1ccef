package vsim

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// leaves says which gaps a fault must leave in the books: the causes of those of the
// symbol that it strikes, and after a semicolon those of its neighbour; "|" parts what
// may be, by chance. The key is a venue, a venue and its number of lines, or only that.
// All else the judge knows: what is called verified is so.
var leaves = map[string]map[string]string{
	"drop":      {"": "sequence", "coinbase": "sequence;sequence", "kraken": "checksum|"}, // below rank 10 nobody notices
	"duplicate": {"": "", "coinbase": "sequence;sequence"},
	"reorder": {"": "sequence", "coinbase": "sequence;sequence", "kraken": "checksum|",
		"binance/2": "sequence|", "okx/2": "sequence|", "bybit/2": "sequence|", "bybit_linear/2": "sequence|"}, // one line may wait for the other
	"disconnect":     {"": "disconnect;disconnect"},
	"disconnect-one": {"": "disconnect;disconnect", "/2": ""}, // books without ids have met, or a standby takes over

	"stall":                {"": ""},
	"half-open":            stranded,
	"slow-loris":           stranded,
	"oversized":            {"": "disconnect;disconnect"},
	"malformed":            {"": "sequence", "coinbase": "malformed;malformed", "kraken": "malformed;malformed"}, // who has ids can tell whose it was
	"fragmented":           {"": ""},
	"crossed":              {"": "", "coinbase": "sequence", "kraken": "checksum", "okx": "checksum"}, // the others store what was said
	"corrupt-checksum":     {"": "checksum"},
	"checksum-zero":        {"kraken": "checksum;checksum", "okx": ""},                      // OKX's sheet says that 0 is none
	"reset-sequence":       {"okx": "", "coinbase": "sequence;sequence", "": "venue_reset"}, // OKX's links go on
	"notice":               {"": ""},
	"refuse-subscribe":     {"": "", "binance/1": "sequence"}, // fetched, and then its stream is on
	"silent-subscribe":     {"": "", "binance/1": "silence"},
	"odd-refuse-subscribe": {"": "", "binance/1": "sequence"}, // as refuse-subscribe
	"ignore-subscribe":     {"": "", "binance/1": "sequence"},
	"stale-snapshot":       {"": ""},
	"429":                  {"": ""},
}

// stranded connections look alive until nothing has come for long.
var stranded = map[string]string{
	"": "disconnect;disconnect", "/2": "sequence;sequence",
	"binance/1": "disconnect+silence;disconnect+silence", "binance/2": "sequence+silence;sequence+silence",
	"coinbase": "disconnect;disconnect|disconnect;venue_reset", "kraken": "disconnect;disconnect",
}

func expected(venue, fault string, lines int) string {
	for _, key := range []string{fmt.Sprintf("%s/%d", venue, lines), venue, fmt.Sprintf("/%d", lines), ""} {
		if text, ok := leaves[fault][key]; ok {
			return text
		}
	}
	return "unknown"
}

// gapsOf are the causes, as leaves writes them.
func (r *Result) gapsOf(struck string) string {
	others, own := "", ""
	for symbol, list := range r.Gaps {
		slices.Sort(list)
		if text := strings.Join(slices.Compact(list), "+"); symbol == struck {
			own = text
		} else {
			others = ";" + text
		}
	}
	return own + others
}

// TestEveryFault: each fault of each venue where it can occur strikes, on one line and
// on two, while nothing else is wrong; the judge looks at all of it as ever, and the
// gaps are those that the fault must leave. The table is printed.
func TestEveryFault(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	type pair struct {
		venue, fault string
		lines        int
	}
	var pairs []pair
	for i, f := range faultNames {
		for j, v := range venueNames() {
			for lines := 1; lines <= 2; lines++ {
				if occurs(f, v) && (!raceOn || (i+2*j+lines)%8 == 0) {
					pairs = append(pairs, pair{v, f, lines})
				}
			}
		}
	}
	found := make([]string, len(pairs))
	var wg sync.WaitGroup
	next := make(chan int)
	for range 2 {
		wg.Go(func() {
			for i := range next {
				p := pairs[i]
				const seed = 1000
				r := Run(seed, Plan{p.venue, p.fault, p.lines}, false)
				switch {
				case r.Err != nil:
					found[i] = "FAILED"
					t.Errorf("%+v: %v", p, r.Err)
				case len(r.Strikes) != 1:
					found[i] = "NEVER"
					t.Errorf("%+v struck %d times", p, len(r.Strikes))
				default:
					found[i] = r.gapsOf(r.Strikes[0].Symbol)
					if want := expected(p.venue, p.fault, p.lines); !slices.Contains(strings.Split(want, "|"), found[i]) {
						t.Errorf("%+v: gaps of causes %q, want %q", p, found[i], want)
					}
				}
			}
		})
	}
	for i := range pairs {
		next <- i
	}
	close(next)
	wg.Wait()
	t.Logf("gaps of the symbol that was struck; of the other")
	for i, p := range pairs {
		t.Logf("%-17s %-13s %d lines: %s", p.fault, p.venue, p.lines, found[i])
	}
}
