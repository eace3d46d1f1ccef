package world

import (
	"math"
	"testing"
)

// quoted are a market's mids on a grid of whole ms, and the mean of what its stamps show
// more than the time.
func quoted(t *testing.T, f Follower, sym Symbol, forMs int) (mids []float64, skewNs int64) {
	w := mustNew(t, hash(sym.Name)+uint64(f.DelayNs), Spec{Symbols: []Symbol{sym}, Follow: &f})
	var mid float64
	var n int64
	for {
		ev := w.Next()
		for ms := int((ev.AtNs - DefaultStartNs) / 1e6); len(mids) < min(ms, forMs); {
			mids = append(mids, mid)
		}
		if len(mids) == forMs {
			return mids, skewNs / n
		}
		skewNs, n = skewNs+ev.StampNs-ev.AtNs, n+1
		if ev.Kind == Quote {
			mid = float64(ev.Bid.Px+ev.Ask.Px) / 2
		}
	}
}

// lagOf is the lag in ms, of 0 to 150, at which changes of b go most with those of a
// before them: an estimator that knows nothing of how the markets are made.
func lagOf(a, b []float64) (best int, correlation float64) {
	const within = 5 // ms that a change is taken over
	change := func(x []float64, i int) float64 { return x[i] - x[i-within] }
	for lag := range 150 {
		var ab, aa, bb float64
		for i := 2000; i+lag < len(b); i++ {
			x, y := change(a, i), change(b, i+lag)
			ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
		}
		if c := ab / math.Sqrt(aa*bb); c > correlation {
			best, correlation = lag, c
		}
	}
	return best, correlation
}

// Markets of one world with ticks, sizes and books of their own follow the true mid as
// late as they are told, and their stamps are as wrong.
func TestFollowers(t *testing.T) {
	leader := Symbols("BTCUSDT")[0]
	leader.Mid = "BTCUSDT"
	coarse := leader
	coarse.Name, coarse.PxDecimals, coarse.QtyDecimals, coarse.MaxQtyBits = "BTC/USD", 1, 8, 30
	for seed := uint64(1); seed <= 3; seed++ {
		first, skew := quoted(t, Follower{Seed: seed}, leader, 60_000)
		if skew != 0 {
			t.Errorf("seed %d: the right clock is %d ns off", seed, skew)
		}
		for _, f := range []Follower{
			{Seed: seed, DelayNs: 30e6, OffsetNs: -12e6, DriftPpb: 2000},
			{Seed: seed, DelayNs: 80e6, OffsetNs: 7e6, JitterNs: 2e6},
		} {
			mids, skew := quoted(t, f, coarse, 60_000)
			lag, c := lagOf(first, mids)
			if want := int(f.DelayNs / 1e6); lag < want-2 || lag > want+2 || c < 0.3 {
				t.Errorf("seed %d: a lag of %d ms with a correlation of %.2f, want %d ms", seed, lag, c, want)
			}
			want := f.OffsetNs + f.DriftPpb*30 + f.JitterNs/2 // half of the minute's drift
			if d := skew - want; d < -200_000 || d > 200_000 {
				t.Errorf("seed %d: the clock is %d ns off, want %d", seed, skew, want)
			}
			t.Logf("seed %d: lag %d ms, correlation %.2f, clock %d ns off", seed, lag, c, skew)
			other := f
			other.Seed += 100
			mids, _ = quoted(t, other, coarse, 60_000)
			if lag, c := lagOf(first, mids); c > 0.15 {
				t.Errorf("seed %d: a market of another world follows by %d ms, correlation %.2f", seed, lag, c)
			}
		}
	}
}
