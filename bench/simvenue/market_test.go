package simvenue

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"deeptape/bench/world"
)

func newWorld(t *testing.T, seed uint64, symbols ...string) *world.World {
	t.Helper()
	w, err := world.New(seed, world.Spec{Symbols: world.Symbols(symbols...)})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

const marketStreams = "/stream?streams=btcusdt@depth@100ms/btcusdt@trade/btcusdt@bookTicker/ethusdt@depth@100ms/ethusdt@trade/ethusdt@bookTicker"

func marketFrames(t *testing.T, seed uint64, d time.Duration) []string {
	s := start(t, Options{World: newWorld(t, seed, "BTCUSDT", "ETHUSDT"), For: d})
	c := dial(t, s, marketStreams)
	out := c.all(s)
	s.Close()
	return out
}

func TestMarketSameSeedSameBytes(t *testing.T) {
	seed := testSeed(t)
	a, b := marketFrames(t, seed, 5*time.Second), marketFrames(t, seed, 5*time.Second)
	if len(a) < 200 || strings.Join(a, "\n") != strings.Join(b, "\n") {
		t.Fatalf("seed %d: %d and %d frames differ", seed, len(a), len(b))
	}
	kinds := map[string]bool{}
	for _, f := range a {
		// Eight decimals everywhere, and nothing that a plain JSON reader would
		// write in another way.
		var m struct {
			Stream string
			Data   json.RawMessage
		}
		if err := json.Unmarshal([]byte(f), &m); err != nil || f != `{"stream":"`+m.Stream+`","data":`+string(m.Data)+`}` {
			t.Fatalf("seed %d: %v in %s", seed, err, f)
		}
		kinds[m.Stream[strings.Index(m.Stream, "@"):]] = true
	}
	if len(kinds) != 3 {
		t.Fatalf("seed %d: kinds %v", seed, kinds)
	}
}

// The documented procedure, with a snapshot asked for in the middle, leads to
// the server's own book; the quotes agree with it all the way.
func TestMarketBookSync(t *testing.T) {
	seed := testSeed(t)
	s := start(t, Options{World: newWorld(t, seed, "BTCUSDT", "ETHUSDT"), Speed: 20, For: 20 * time.Second, Quiet: 200 * time.Millisecond})
	c := dial(t, s, marketStreams)
	snaps := make(chan string, 1)
	go func() {
		time.Sleep(350 * time.Millisecond)
		_, _, body := get(t, s.RESTURL()+"/api/v3/depth?symbol=BTCUSDT&limit=5000")
		snaps <- body
	}()
	var diffs []string
	type quote struct {
		u          int64
		b, B, a, A string
	}
	var quotes []quote
	for _, f := range c.all(s) {
		switch {
		case strings.HasPrefix(f, `{"stream":"btcusdt@depth@100ms"`):
			diffs = append(diffs, f)
		case strings.HasPrefix(f, `{"stream":"btcusdt@bookTicker"`):
			var m struct{ Data map[string]any }
			d := json.NewDecoder(strings.NewReader(f))
			d.UseNumber()
			if err := d.Decode(&m); err != nil {
				t.Fatal(err)
			}
			u, _ := m.Data["u"].(json.Number).Int64()
			quotes = append(quotes, quote{u, m.Data["b"].(string), m.Data["B"].(string), m.Data["a"].(string), m.Data["A"].(string)})
		}
	}
	waitDone(t, s)
	snap := <-snaps
	first := parseBook(t, snap)
	if len(first.Bids) != 5000 || len(first.Asks) != 5000 {
		t.Fatalf("seed %d: snapshot of %d and %d levels, the market has more than 5000", seed, len(first.Bids), len(first.Asks))
	}
	// slowBook fails on a gap: the bridge holds.
	got := slowBook(t, snap, diffs)
	_, _, body := get(t, s.RESTURL()+"/sim/book?symbol=BTCUSDT")
	truth := parseBook(t, body)
	if got.LastUpdateID != truth.LastUpdateID || len(diffs) < 150 {
		t.Fatalf("seed %d: at %d after %d diffs, the server at %d", seed, got.LastUpdateID, len(diffs), truth.LastUpdateID)
	}
	if fmt.Sprint(got.Bids[:3000]) != fmt.Sprint(truth.Bids[:3000]) || fmt.Sprint(got.Asks[:3000]) != fmt.Sprint(truth.Asks[:3000]) {
		t.Fatalf("seed %d: the best 3000 levels differ", seed)
	}
	true0 := map[[2]string]bool{}
	for _, l := range append(truth.Bids, truth.Asks...) {
		true0[l] = true
	}
	for _, l := range append(got.Bids, got.Asks...) {
		if !true0[l] {
			t.Fatalf("seed %d: level %v is not in the true book", seed, l)
		}
	}
	// bookTicker as oracle, at a few places.
	for _, n := range []int{len(diffs) / 2, len(diffs) * 3 / 4, len(diffs)} {
		b := slowBook(t, snap, diffs[:n])
		var last quote
		for _, q := range quotes {
			if q.u <= b.LastUpdateID {
				last = q
			}
		}
		if want := (quote{last.u, b.Bids[0][0], b.Bids[0][1], b.Asks[0][0], b.Asks[0][1]}); last != want || last.u == 0 {
			t.Fatalf("seed %d: after %d the best is %v, the last quote %v", seed, b.LastUpdateID, want, last)
		}
	}
	if _, _, body := get(t, s.RESTURL()+"/api/v3/exchangeInfo?symbol=BTCUSDT"); !strings.Contains(body, `"tickSize":"0.01000000"`) || !strings.Contains(body, `"stepSize":"0.00001000"`) {
		t.Fatalf("exchangeInfo: %s", body)
	}
}

func TestMarketFaults(t *testing.T) {
	s := start(t, Options{World: newWorld(t, 1, "BTCUSDT", "ETHUSDT"), For: 3 * time.Second, Faults: mustFaults(t, "drop@5:BTCUSDT,stale-snapshot@1:ETHUSDT")})
	_, _, body := get(t, s.RESTURL()+"/api/v3/depth?symbol=ETHUSDT&limit=10")
	stale := parseBook(t, body).LastUpdateID
	c := dial(t, s, "/stream?streams=btcusdt@depth@100ms/ethusdt@depth@100ms")
	var last, gaps int64
	for _, f := range c.all(s) {
		var m struct {
			Data struct {
				S    string
				U, L int64
			}
		}
		f = strings.Replace(f, `"u":`, `"L":`, 1)
		if err := json.Unmarshal([]byte(f), &m); err != nil {
			t.Fatal(err)
		}
		if m.Data.S == "ETHUSDT" && stale >= m.Data.U-1 {
			t.Fatalf("the old snapshot at %d does not precede %d", stale, m.Data.U)
		}
		if m.Data.S == "BTCUSDT" {
			if last != 0 && m.Data.U != last+1 {
				gaps++
			}
			last = m.Data.L
		}
	}
	if st := waitDone(t, s); gaps != 1 || len(st.Struck) != 2 {
		t.Fatalf("%d gaps, struck %+v", gaps, st.Struck)
	}
}

// A live market goes by the clock on the wall and does not wait for clients.
func TestLive(t *testing.T) {
	began := time.Now().UnixNano()
	w, err := NewMarkets("okx", 1, began, "AAA-USDT")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Worlds: map[string]*world.World{"okx": w}, Speed: 1, Live: true})
	for end := time.Now().Add(time.Minute); s.Status().Feeds[0].AtNs < began+5e8; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("nothing happens: %+v", s.Status().Feeds)
		}
	}
	if at, now := s.Status().Feeds[0].AtNs, time.Now().UnixNano(); at > now {
		t.Errorf("the market is %d ns ahead", at-now)
	}
	if _, err := New(Options{Worlds: map[string]*world.World{"okx": w}, Speed: 2, Live: true}); err == nil {
		t.Error("live at another speed")
	}
}
