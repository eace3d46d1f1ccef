package endtoend

import (
	"os"
	"strings"
	"testing"
	"time"
)

// gapBar is what a planned reconnect may cost a book at most.
const gapBar = 2 * time.Second

// TestPlannedWithoutIDs: books whose venue does not number their messages go to the next
// connection before the old one ends, several times over: 24 of Kraken, 10 of Coinbase.
// Where both connections have brought the same message and had the same book there is no
// gap; else one from the old connection's last message on, of less than gapBar. (Before,
// every book was dropped and subscribed anew, one by one: gaps of up to half a minute.)
func TestPlannedWithoutIDs(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	bases := strings.Fields("BTC ETH SOL XRP ADA DOGE DOT LTC LINK AVAX UNI ATOM XLM TRX ETC FIL NEAR APT ARB OP INJ SUI TIA SEI")
	for _, c := range []struct {
		venue, pair string
		books       int
	}{{"kraken", "/USD", 24}, {"coinbase", "-USD", 10}} {
		t.Run(c.venue, func(t *testing.T) {
			share(t, works, 40*time.Second)
			db := emptyDatabase(t)
			var symbols []string
			for _, base := range bases[:c.books] {
				symbols = append(symbols, base+c.pair)
			}
			v := startVenue(t, t.TempDir(), c.venue+":"+strings.Join(symbols, ","), "--seed", "8")
			text := strings.Replace(v.out.String(), "rest_url:", "reconnect_every: 8s\n    rest_url:", 1)
			if err := os.WriteFile(v.conf, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			a := startAgent(t, v, db)
			ended := func() int { return strings.Count(a.errout.String(), "msg=disconnected") }
			for began := time.Now(); ended() < 3; time.Sleep(50 * time.Millisecond) {
				if time.Since(began) > 2*time.Minute {
					t.Fatalf("%d planned reconnects in two minutes", ended())
				}
			}
			a.recordFor(time.Second)
			a.status().balanced(t)
			a.interrupt()
			db.applied()
			longest, gaps, met := time.Duration(0), 0, 0
			for _, r := range db.export("SELECT symbol, state, cause, ts::long ns, ts_end::long ns_end, detail FROM coverage WHERE stream = 'book' ORDER BY ts") {
				switch {
				case strings.Contains(r["detail"], "handed over"):
					met++
				case r["state"] == "gap" && r["cause"] != "start" && r["cause"] != "stop":
					gaps++
					took := time.Duration(r.int(t, "ns_end") - r.int(t, "ns"))
					longest = max(longest, took)
					if took >= gapBar {
						t.Errorf("%s: a gap (%s) of %s", r["symbol"], r["cause"], took)
					}
				}
			}
			if met == 0 || met+gaps < c.books {
				t.Errorf("%d books were handed over without a gap and %d with one; of %d books at %d reconnects", met, gaps, c.books, ended())
			}
			t.Logf("%s: %d books, %d planned reconnects: %d times without a gap, %d gaps, the longest %s", c.venue, c.books, ended(), met, gaps, longest)
			v.verify(t, db)
		})
	}
}
