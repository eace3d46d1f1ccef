package endtoend

import (
	"math"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// follower is what the simulator's configuration says of a venue: how late its markets
// follow the true mids, and how much its clock is off and its stamps are late.
type follower struct{ delay, offset, jitter time.Duration }

// follower reads the comment of a venue.
func (v *venue) follower(t *testing.T, name string) (f follower) {
	t.Helper()
	said := regexp.MustCompile(`(?m)^# ` + name + ` follows the true mids by (\S+); its clock is ([+-]\d+) ms off .* late by up to (\S+)$`).FindStringSubmatch(v.out.String())
	if said == nil {
		t.Fatalf("the configuration does not say how %s follows:\n%s", name, v.out.String())
	}
	var err error
	for i, to := range []*time.Duration{&f.delay, &f.offset, &f.jitter} {
		text := said[i+1]
		if i == 1 {
			text += "ms"
		}
		if *to, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// tradedAt are the prices of the last trade of a venue, on a grid of whole ms from
// beginNs on, by our clock; and the least that a trade came after its own time.
func tradedAt(t *testing.T, db database, name string, beginNs int64, forMs int) (px []float64, least time.Duration) {
	t.Helper()
	rows := db.export("SELECT cast(ts AS LONG) ns, cast(ts_event AS LONG) event_ns, px, px_scale FROM trades WHERE venue = '" + name + "' ORDER BY ts")
	if len(rows) < 200 {
		t.Fatalf("%s: %d trades are too few", name, len(rows))
	}
	least = math.MaxInt64
	last := 0.0
	for _, r := range rows {
		ns := r.int(t, "ns")
		for ms := int((ns - beginNs) / 1e6); len(px) < min(ms, forMs); {
			px = append(px, last)
		}
		n, err := strconv.ParseFloat(r["px"], 64)
		if err != nil {
			t.Fatal(err)
		}
		last = n / math.Pow10(int(r.int(t, "px_scale")))
		if r["event_ns"] != "" {
			least = min(least, time.Duration(ns-r.int(t, "event_ns")))
		}
	}
	for len(px) < forMs {
		px = append(px, last)
	}
	return px, least
}

// lag is the one, of -200 to 200 ms, at which changes of b go most with those of a before
// them.
func lag(a, b []float64) (best time.Duration, correlation float64) {
	const within, most = 20, 200 // ms; a change is taken over the first
	for ms := -most; ms <= most; ms++ {
		var ab, aa, bb float64
		for i := most + within; i+most < len(a); i++ {
			x, y := a[i]-a[i-within], b[i+ms]-b[i+ms-within]
			ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
		}
		if c := ab / math.Sqrt(aa*bb); c > correlation {
			best, correlation = time.Duration(ms)*time.Millisecond, c
		}
	}
	return best, correlation
}

// TestLag: who knows nothing but the rows finds how late the simulated venues follow one
// another, and how much their clocks are off, as the configuration says that they are.
func TestLag(t *testing.T) {
	if testing.Short() {
		t.Skip("takes most of a minute")
	}
	const length = 30 * time.Second
	share(t, waits, length+10*time.Second)
	db := emptyDatabase(t)
	v := startVenue(t, t.TempDir(), "--seed", "39", "binance:BTCUSDT", "kraken:BTC/USD", "coinbase:BTC-USD")
	a := startAgent(t, v, db)
	for began := time.Now(); len(db.export("SELECT venue, n FROM (SELECT venue, count() n FROM trades GROUP BY venue) WHERE n >= 3")) < 3; time.Sleep(200 * time.Millisecond) {
		if time.Since(began) > 2*time.Minute {
			t.Fatal("after two minutes one of three venues has no trades")
		}
	}
	begin := time.Now().UnixNano()
	time.Sleep(length)
	a.interrupt()
	db.applied()
	found := map[string][]float64{}
	for _, name := range []string{"binance", "kraken", "coinbase"} {
		px, least := tradedAt(t, db, name, begin, int(length/time.Millisecond))
		found[name] = px
		// The fastest of a thousand trades takes little more than the clock is off.
		want := v.follower(t, name)
		if late := least + want.offset; late < -2*time.Millisecond || late > 10*time.Millisecond {
			t.Errorf("%s: trades come %s after their time at least, and its clock is %s off", name, least, want.offset)
		}
		t.Logf("%s: trades come %s after their time at least, clock %s off", name, least, want.offset)
	}
	for _, pair := range [][2]string{{"binance", "kraken"}, {"binance", "coinbase"}} {
		got, c := lag(found[pair[0]], found[pair[1]])
		want := v.follower(t, pair[1]).delay - v.follower(t, pair[0]).delay
		if d := got - want; d < -25*time.Millisecond || d > 25*time.Millisecond || c < 0.12 {
			t.Errorf("%s after %s: a lag of %s with a correlation of %.2f, want %s", pair[1], pair[0], got, c, want)
		}
		t.Logf("%s after %s: %s, correlation %.2f, made to be %s", pair[1], pair[0], got, c, want)
	}
}
