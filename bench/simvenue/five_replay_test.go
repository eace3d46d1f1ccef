package simvenue

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A recording of the five, and what a client subscribes to for it.
type replayCase struct {
	venue, file string
	subscribe   []string
	frames      int // of market data
}

func replayCases() []replayCase {
	list := func(symbols string) string { return `["` + strings.ReplaceAll(symbols, " ", `","`) + `"]` }
	products := list("BAND-GBP BAND-BTC YFI-BTC NU-GBP CRV-EUR SKL-GBP SKL-USD SKL-BTC NMR-EUR DASH-BTC")
	pairs := list("ADA/BTC BTC/CHF OMG/USD OCEAN/BTC ETH/CHF SC/EUR GRT/ETH KSM/BTC XMR/USD WAVES/EUR")
	return []replayCase{
		{"bybit_linear", "bybit/fastmoon_linear_btcusdt_ob500_20240601.jsonl.gz", []string{`{"op":"subscribe","args":["orderbook.500.BTCUSDT","publicTrade.BTCUSDT"]}`}, 483},
		{"bybit", "bybit/moonstream_spot_publictrade_btcusdt_20240130.jsonl", []string{`{"op":"subscribe","args":["publicTrade.BTCUSDT","orderbook.200.BTCUSDT"]}`}, 114},
		{"bybit", "bybit/tickvault_spot_btcusdt_d50_20260825.jsonl", []string{`{"op":"subscribe","args":["orderbook.50.BTCUSDT"]}`}, 9},
		{"coinbase", "coinbase/DERIVED_l2data_10products_from_exchange_20210417.jsonl.gz", []string{`{"type":"subscribe","channel":"heartbeats"}`, `{"type":"subscribe","product_ids":` + products + `,"channel":"level2"}`}, 9729},
		{"coinbase", "coinbase/fastmoon_market_trades_btcusd_20240602.jsonl", []string{`{"type":"subscribe","product_ids":["BTC-USD"],"channel":"market_trades"}`}, 44},
		{"coinbase", "coinbase/tickvault_l2data_btcusd_reduced_20260824.jsonl", []string{`{"type":"subscribe","product_ids":["BTC-USD"],"channel":"level2"}`}, 11},
		{"kraken", "kraken/DERIVED_v2_book1000_10pairs_from_v1_20210417.jsonl.gz", []string{`{"method":"subscribe","params":{"channel":"book","symbol":` + pairs + `,"depth":1000}}`}, 4279},
		{"kraken", "kraken/tickvault_v2_btcusd_d10_20260824.jsonl", []string{`{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD"],"depth":10}}`}, 4},
		{"okx", "okx/fastmoon_books_btcusdt_20240601.jsonl", []string{`{"op":"subscribe","args":[{"channel":"books","instId":"BTC-USDT"}]}`}, 345},
		{"okx", "okx/tickvault_books_btcusdt_20260824.jsonl", []string{`{"op":"subscribe","args":[{"channel":"books","instId":"BTC-USDT"}]}`}, 7},
	}
}

var control = regexp.MustCompile(`"channel":"(subscriptions|heartbeats?|status)"|"method":|"event":"|"success":`)

func (c replayCase) server(t *testing.T, opt Options) (*Server, []string) {
	t.Helper()
	path := filepath.Join(filepath.Dir(captures(t)), c.file)
	data, err := readAll(path)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, l := range splitLines(data) {
		if !control.Match(l) {
			lines = append(lines, string(l))
		}
	}
	if len(lines) != c.frames {
		t.Fatalf("%s: %d frames, want %d", c.file, len(lines), c.frames)
	}
	opt.Recordings = []Recording{{c.venue, path}}
	return start(t, opt), lines
}

// collect reads text frames until the feed has ended and the socket is silent.
func collect(t *testing.T, s *Server, c *client) (list []string) {
	t.Helper()
	for {
		m, err := c.text(400 * time.Millisecond)
		if err == nil {
			list = append(list, m)
			continue
		}
		if s.Status().Done {
			return list
		}
	}
}

func dialVenue(t *testing.T, s *Server, venue string) *client {
	t.Helper()
	url, _, _ := s.VenueURLs(venue)
	return dialURL(t, url)
}

var sequenceNum = regexp.MustCompile(`"sequence_num":\d+`)

// Every recording comes out of a socket with its own bytes, but for the number
// that Coinbase gives each frame of a connection; that one grows by one. The
// checker finds the session as faultless as the file.
func TestReplayOfFive(t *testing.T) {
	for _, c := range replayCases() {
		t.Run(filepath.Base(c.file), func(t *testing.T) {
			s, want := c.server(t, Options{})
			cl := dialVenue(t, s, c.venue)
			for _, m := range c.subscribe {
				cl.send(m)
			}
			all := collect(t, s, cl)
			var got []string
			next := "0"
			for _, m := range all {
				if c.venue == "coinbase" {
					var f struct {
						N json.Number `json:"sequence_num"`
					}
					if json.Unmarshal([]byte(m), &f); f.N.String() != next {
						t.Fatalf("number %s, want %s: %.200s", f.N, next, m)
					}
					n, _ := f.N.Int64()
					next = json.Number(jsonInt(n + 1)).String()
				}
				if !control.MatchString(m) {
					got = append(got, m)
				}
			}
			if len(got) != len(want) {
				t.Fatalf("%d frames, want %d", len(got), len(want))
			}
			for i := range want {
				a, b := got[i], want[i]
				if c.venue == "coinbase" {
					a, b = sequenceNum.ReplaceAllString(a, "N"), sequenceNum.ReplaceAllString(b, "N")
				}
				if a != b {
					t.Fatalf("frame %d: got %.200s\nwant %.200s", i, a, b)
				}
			}
			checker(t, all)
		})
	}
}

func jsonInt(n int64) string { b, _ := json.Marshal(n); return string(b) }

// checker runs the recordings' checker over frames.
func checker(t *testing.T, frames []string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "session.jsonl")
	if err := os.WriteFile(path, []byte(strings.Join(frames, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	out, err := exec.Command(python, filepath.Join(filepath.Dir(captures(t)), "check.py"), path).CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("GAP")) || bytes.Contains(out, []byte("BAD")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// In the middle of a recording, a second client, and a first that subscribes
// anew, get a snapshot from which the rest follows without a gap.
func TestReplayLateSubscription(t *testing.T) {
	for _, c := range []struct {
		file, symbol, unsubscribe string
		cut                       int
	}{
		{"okx/fastmoon_books_btcusdt_20240601.jsonl", "BTC-USDT", `{"op":"unsubscribe","args":[{"channel":"books","instId":"BTC-USDT"}]}`, 0},
		{"bybit/fastmoon_linear_btcusdt_ob500_20240601.jsonl.gz", "BTCUSDT", `{"op":"unsubscribe","args":["orderbook.500.BTCUSDT"]}`, 0},
		{"kraken/DERIVED_v2_book1000_10pairs_from_v1_20210417.jsonl.gz", "SC/EUR", `{"method":"unsubscribe","params":{"channel":"book","symbol":["SC/EUR"],"depth":1000}}`, 1000},
		{"coinbase/DERIVED_l2data_10products_from_exchange_20210417.jsonl.gz", "SKL-USD", `{"type":"unsubscribe","product_ids":["SKL-USD"],"channel":"level2"}`, 0},
	} {
		for _, rc := range replayCases() {
			if rc.file != c.file {
				continue
			}
			t.Run(rc.venue, func(t *testing.T) {
				t.Parallel()
				// Slow enough for a second client that comes seconds late.
				s, _ := rc.server(t, Options{Speed: 12})
				first := dialVenue(t, s, rc.venue)
				subscribe := rc.subscribe[len(rc.subscribe)-1]
				first.send(subscribe)
				f := newFollower(rc.venue, c.symbol, c.cut)
				for f.deltas < 5 {
					f.text([]byte(first.mustText()))
				}
				late := dialVenue(t, s, rc.venue)
				late.send(subscribe)
				first.send(c.unsubscribe)
				first.send(subscribe)
				g := newFollower(rc.venue, c.symbol, c.cut)
				done := make(chan []string)
				go func() { done <- collect(t, s, late) }()
				for _, m := range collect(t, s, first) {
					f.text([]byte(m))
				}
				for _, m := range <-done {
					g.text([]byte(m))
				}
				// Two of the files have no times: they are over before the second
				// client comes.
				timed := rc.venue == "kraken" || rc.venue == "coinbase"
				if len(f.broken)+len(g.broken) > 0 || f.snapshots != 2 || g.snapshots != 1 || timed && g.deltas < 5 {
					t.Fatalf("first: %d snapshots %v; late: %d snapshots %d deltas %v", f.snapshots, f.broken, g.snapshots, g.deltas, g.broken)
				}
				p := s.places[0]
				f.agrees(t, p.v, 1<<30)
				g.agrees(t, p.v, 1<<30)
			})
		}
	}
}

// Several venues on one port do not touch each other.
func TestVenuesTogether(t *testing.T) {
	dir := filepath.Dir(captures(t))
	var recs []Recording
	seen := map[string]bool{}
	for _, c := range replayCases() {
		if !seen[c.venue] {
			seen[c.venue] = true
			recs = append(recs, Recording{c.venue, filepath.Join(dir, c.file)})
		}
	}
	recs = append(recs, Recording{"binance", filepath.Join(dir, "binance", "cryptofeed_us_4sym_20211012.jsonl")})
	s := start(t, Options{Recordings: recs, SnapshotWait: time.Millisecond})
	seen = map[string]bool{}
	for _, c := range replayCases() {
		if seen[c.venue] {
			continue
		}
		seen[c.venue] = true
		url, rest, ok := s.VenueURLs(c.venue)
		if !ok || !strings.Contains(url, "/"+c.venue) {
			t.Fatalf("%s is at %q", c.venue, url)
		}
		cl := dialURL(t, url)
		for _, m := range c.subscribe {
			cl.send(m)
		}
		n := 0
		for n < c.frames {
			m, err := cl.text(5 * time.Second)
			if err != nil {
				t.Fatalf("%s after %d frames: %v", c.venue, n, err)
			}
			if !control.MatchString(m) {
				n++
			}
		}
		if code, _, body := get(t, rest+"/sim/status"); code != 200 || !strings.Contains(body, `"venue":"`+c.venue+`"`) || strings.Contains(body, `"venue":"binance"`) {
			t.Errorf("%s status: %d %s", c.venue, code, body)
		}
	}
	if _, rest, _ := s.VenueURLs("binance"); rest != "http://"+s.Addr() {
		t.Errorf("binance is at %q", rest)
	} else if code, _, body := get(t, rest+"/api/v3/ping"); code != 200 || body != "{}" {
		t.Errorf("%d %s", code, body)
	}
}

// A client that subscribes one by one, as fast as Coinbase lets it, misses
// nothing of a recording at speed 0.
func TestReplayWaitsForASlowSubscriber(t *testing.T) {
	for _, c := range replayCases() {
		if c.venue != "coinbase" || c.frames < 9000 {
			continue
		}
		s, _ := c.server(t, Options{})
		cl := dialVenue(t, s, c.venue)
		symbols := s.VenueSymbols("coinbase")
		for _, p := range symbols {
			cl.send(`{"type":"subscribe","product_ids":["` + p + `"],"channel":"level2"}`)
			time.Sleep(150 * time.Millisecond) // longer than Quiet, and fewer than 8 a second
		}
		n := 0
		for _, m := range collect(t, s, cl) {
			if !control.MatchString(m) {
				n++
			}
		}
		if len(symbols) != 10 || n != c.frames {
			t.Errorf("%d frames of %d symbols, want %d", n, len(symbols), c.frames)
		}
	}
}
