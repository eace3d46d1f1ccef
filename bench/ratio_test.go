package bench

import (
	"math"
	"runtime"
	"testing"
)

// ratioMeasures are the measurements of RatioBudgets: each is one whole comparison.
var ratioMeasures = map[string]func(t *testing.T) float64{
	"decode/binance":      func(t *testing.T) float64 { return ratioDecode(t, "binance") },
	"decode/okx":          func(t *testing.T) float64 { return ratioDecode(t, "okx") },
	"decode/bybit_linear": func(t *testing.T) float64 { return ratioDecode(t, "bybit_linear") },
	"decode/kraken":       func(t *testing.T) float64 { return ratioDecode(t, "kraken") },
	"decode/coinbase":     func(t *testing.T) float64 { return ratioDecode(t, "coinbase") },
	"book/recordings":     ratioBookRecordings,
	"book/peak":           ratioBookPeak,
	"book/many":           ratioBookMany,
	"frames/gobwas-bufio": ratioFrames,
	"ring/xsync":          ratioRing,
	"line/book_delta":     ratioLineBook,
	"line/book_top":       ratioLineTop,
}

// TestGateRatios holds own code to its bars. A busy machine may disturb a measurement;
// three in a row that agree are no accident.
func TestGateRatios(t *testing.T) {
	if !gates {
		t.Skip("make gates runs it")
	}
	for _, budget := range RatioBudgets {
		t.Run(budget.What, func(t *testing.T) {
			var got []float64
			for range 3 {
				ratio := ratioMeasures[budget.What](t)
				t.Logf("%.3f, at most %.3f", ratio, budget.Most)
				if ratio <= budget.Most {
					return
				}
				got = append(got, ratio)
			}
			t.Errorf("%.3f of the time, three times, where at most %.3f is allowed (%s)", got, budget.Most, budget.Why)
		})
	}
}

// interleave plays a and b in turn, some rounds, and returns the least processor time
// of each, ns: what disturbs a round only ever adds to it. Thread time, because wall
// time would count the turns of others.
func interleave(rounds int, a, b func()) (leastA, leastB float64) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	least := [2]int64{math.MaxInt64, math.MaxInt64}
	for range rounds {
		for i, f := range []func(){a, b} {
			start := threadNs()
			f()
			least[i] = min(least[i], threadNs()-start)
		}
	}
	return float64(least[0]), float64(least[1])
}
