package simvenue

import (
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"deeptape/bench/world"
)

// A follower by the sheet's rules keeps the venue's true book, through a
// resubscription; ids, checksums and trades are without a gap.
func TestMadeMarkets(t *testing.T) {
	seed := testSeed(t)
	for _, d := range dialects {
		t.Run(d.venue+" "+d.symbol, func(t *testing.T) {
			x := newVirtual(t, d, seed, "")
			x.say(d.subscribe...)
			f := newFollower(d.venue, d.symbol, d.cut)
			x.run(20e9)
			x.say(d.unsubscribe)
			before := len(x.texts())
			x.run(3e9)
			quiet := x.texts()[before:]
			x.say(d.resubscribe)
			x.run(10e9)
			for _, m := range x.texts() {
				f.text([]byte(m))
			}
			if len(f.broken) > 0 || !f.ready {
				t.Fatalf("broken: %v", f.broken)
			}
			n := d.window
			if n == 0 {
				n = 1 << 30
			}
			f.agrees(t, x.v, n)
			if f.snapshots != 2 || f.deltas < 50 || f.acks != d.acks+2 {
				t.Errorf("%d snapshots, %d deltas, %d acks", f.snapshots, f.deltas, f.acks)
			}
			for _, m := range quiet {
				if strings.Contains(m, `"bids"`) && !strings.Contains(m, "bbo-tbt") || strings.Contains(m, "l2_data") || strings.Contains(m, `"type":"delta"`) {
					t.Fatalf("after the unsubscription: %.100s", m)
				}
			}
			if len(d.subscribe)+d.acks > 2 {
				f.tradesHaveNoGap(t)
			}
			if (d.venue == "okx" || strings.HasPrefix(d.venue, "bybit")) && f.quotes < 100 {
				t.Errorf("%d quotes", f.quotes)
			}
			if (d.venue == "coinbase" || d.venue == "kraken") && (f.beats < 30 || f.beats > 35) {
				t.Errorf("%d heartbeats in 33 s", f.beats)
			}
			if d.venue == "okx" || d.venue == "kraken" {
				if f.sums != f.books {
					t.Errorf("%d checksums in %d book messages", f.sums, f.books)
				}
			}
			t.Logf("%d deltas, %d trades, %d quotes", f.deltas, len(f.trades), f.quotes)
		})
	}
}

// tradesHaveNoGap: OKX joins some, and Coinbase says the newest of a frame first.
func (f *follower) tradesHaveNoGap(t *testing.T) {
	t.Helper()
	seen := map[string]bool{}
	lo, hi := int64(1)<<62, int64(0)
	for _, id := range f.trades {
		if seen[id] {
			t.Errorf("trade %s twice", id)
		}
		seen[id] = true
		if n, err := strconv.ParseInt(id, 10, 64); err == nil {
			lo, hi = min(lo, n), max(hi, n)
		}
	}
	if len(seen) < 20 {
		t.Errorf("%d trades", len(seen))
	}
	if f.venue != "okx" && f.venue != "bybit_linear" && hi-lo+1 != int64(len(seen)) {
		t.Errorf("%d trades from %d to %d", len(seen), lo, hi)
	}
}

// What the made markets say passes the checker of the recordings, which shares
// no line with this package.
func TestCheckerFindsNoViolation(t *testing.T) {
	seed, dir := testSeed(t), filepath.Dir(captures(t))
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	for _, d := range dialects {
		x := newVirtual(t, d, seed, "")
		x.say(d.subscribe...)
		x.run(15e9)
		path := filepath.Join(t.TempDir(), d.venue+".jsonl")
		var lines []string
		for _, m := range x.texts() {
			if !strings.Contains(m, `"orderbook.1.`) { // the checker keeps one book a symbol
				lines = append(lines, m)
			}
		}
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(python, filepath.Join(dir, "check.py"), path).CombinedOutput()
		text := string(out)
		if err != nil || strings.Contains(text, "GAP") || strings.Contains(text, "BAD") || strings.Contains(text, "NOTUP") || strings.Contains(text, "untruncated") || !strings.Contains(text, "crossed 0") || strings.Contains(text, "'other'") || strings.Contains(text, "notjson") {
			t.Errorf("%s: %v\n%s", d.venue, err, text)
		}
		proof := map[string]string{"coinbase": "coinbase.seq_ok", "kraken": "kraken2.crc_ok", "okx": "okx.crc_ok", "bybit": "bybit.u_ok", "bybit_linear": "bybit.u_ok"}[d.venue]
		if m := regexp.MustCompile(`'` + regexp.QuoteMeta(proof) + `': (\d+)`).FindStringSubmatch(text); m == nil || len(m[1]) < 2 {
			t.Errorf("%s: too few of %s\n%s", d.venue, proof, text)
		}
	}
}

// Snapshots have the venue's real size.
func TestSnapshotSizes(t *testing.T) {
	for _, d := range dialects {
		x := newVirtualOf(t, d, 1, "", Markets(d.venue, d.symbol))
		x.say(d.subscribe...)
		size, levels := 0, 0
		for _, m := range x.texts() {
			f := newFollower(d.venue, d.symbol, d.cut)
			f.conn = -1
			if f.text([]byte(m)); f.snapshots == 1 {
				size, levels = len(m), len(f.bids)+len(f.asks)
			}
		}
		want := 2 * d.window
		if d.venue == "coinbase" {
			want = 40_000
			if size < 4_000_000 {
				t.Errorf("coinbase's snapshot has %d bytes", size)
			}
		}
		if levels < want {
			t.Errorf("%s: a snapshot of %d levels, %d bytes", d.venue, levels, size)
		}
	}
}

func TestSameSeedSameFrames(t *testing.T) {
	for _, d := range dialects {
		var runs [2]string
		for i := range runs {
			x := newVirtual(t, d, 7, "drop@3,duplicate@5")
			x.say(d.subscribe...)
			x.run(3e9)
			runs[i] = strings.Join(x.texts(), "\n")
		}
		if runs[0] != runs[1] || len(runs[0]) < 1000 {
			t.Errorf("%s: %d and %d bytes differ", d.venue, len(runs[0]), len(runs[1]))
		}
	}
}

// REST answers are JSON and know their symbols.
func TestVenueREST(t *testing.T) {
	for _, c := range []struct{ venue, symbol, path, want string }{
		{"coinbase", "BTC-USD", "/api/v3/brokerage/market/products/BTC-USD", `"price_increment":"0.01"`},
		{"coinbase", "BTC-USD", "/api/v3/brokerage/market/products/BTC-USDC", `"product_id":"BTC-USD"`},
		{"coinbase", "BTC-USD", "/api/v3/brokerage/market/products?product_ids=BTC-USD", `"num_products":1`},
		{"coinbase", "BTC-USD", "/api/v3/brokerage/market/product_book?product_id=BTC-USD&limit=2", `"pricebook"`},
		{"kraken", "BTC/USD", "/0/public/AssetPairs?pair=BTC/USD", `"pair_decimals":1,"lot_decimals":8`},
		{"kraken", "BTC/USD", "/0/public/AssetPairs?pair=XBTUSD", `"wsname":"BTC/USD"`},
		{"kraken", "BTC/USD", "/0/public/AssetPairs?pair=NOPE", `Unknown asset pair`},
		{"kraken", "BTC/USD", "/0/public/Depth?pair=BTCUSD&count=3", `"asks":[["`},
		{"okx", "BTC-USDT", "/api/v5/public/instruments?instType=SPOT", `"tickSz":"0.01"`},
		{"okx", "BTC-USDT", "/api/v5/public/instruments?instType=SPOT&instId=NOPE", `"code":"51001"`},
		{"okx", "BTC-USDT", "/api/v5/market/books?instId=BTC-USDT&sz=5", `"seqId"`},
		{"bybit", "BTCUSDT", "/v5/market/instruments-info?category=spot&symbol=BTCUSDT", `"basePrecision":"0.00001"`},
		{"bybit", "BTCUSDT", "/v5/market/instruments-info?category=linear", `"retCode":10001`},
		{"bybit_linear", "BTCUSDT", "/v5/market/instruments-info?category=linear", `"qtyStep":"0.001"`},
		{"bybit_linear", "BTCUSDT", "/v5/market/orderbook?category=linear&symbol=BTCUSDT", `"u":`},
	} {
		w, err := NewMarkets(c.venue, 1, epochNs, c.symbol)
		if err != nil {
			t.Fatal(err)
		}
		v, err := NewVenue(c.venue, w, nil, VenueOptions{})
		if err != nil {
			t.Fatal(err)
		}
		a := v.Get(epochNs, NewRequest(c.path))
		if a.Status != 200 || !jsonValid(a.Body) || !strings.Contains(string(a.Body), c.want) {
			t.Errorf("%s%s: %d %.400s", c.venue, c.path, a.Status, a.Body)
		}
	}
}

// The words of the sheets, answered.
func TestVenueRequests(t *testing.T) {
	for _, c := range []struct{ venue, symbol, say, want string }{
		{"coinbase", "BTC-USD", `{"type":"subscribe","product_ids":["NOPE"],"channel":"level2"}`, `{"type":"error","message":"failure to subscribe"}`},
		{"coinbase", "BTC-USD", `{`, `{"type":"error","message":"failure to subscribe"}`},
		{"coinbase", "BTC-USD", `{"type":"subscribe","channel":"heartbeats"}`, `{"channel":"subscriptions","timestamp":"TIME","sequence_num":0,"events":[{"subscriptions":{"heartbeats":["heartbeats"]}}]}`},
		{"kraken", "BTC/USD", `{"method":"ping","req_id":42}`, `{"method":"pong","req_id":42,"time_in":"TIME","time_out":"TIME"}`},
		{"kraken", "BTC/USD", `{"method":"subscribe","params":{"channel":"book","symbol":["FOO/BAR"],"depth":10},"req_id":7}`, `{"error":"Currency pair not supported FOO/BAR","method":"subscribe","success":false,"symbol":"FOO/BAR","time_in":"TIME","time_out":"TIME","req_id":7}`},
		{"kraken", "BTC/USD", `{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD"],"depth":11}}`, `{"error":"Subscription depth not supported","method":"subscribe","success":false,"time_in":"TIME","time_out":"TIME"}`},
		{"kraken", "BTC/USD", `{"method":"subscribe","params":{"channel":"trade","symbol":["BTC/USD"]},"req_id":9}`, `{"method":"subscribe","result":{"channel":"trade","snapshot":false,"symbol":"BTC/USD"},"success":true,"time_in":"TIME","time_out":"TIME","req_id":9}`},
		{"okx", "BTC-USDT", `ping`, `pong`},
		{"okx", "BTC-USDT", `{"id":"1512","op":"subscribe","args":[{"channel":"books","instId":"NOPE-USDT"}]}`, `{"id":"1512","event":"error","code":"60018","msg":"Subscribe failed, wrong URL or channel:books,instId:NOPE-USDT doesn't exist.","connId":"32f44150"}`},
		{"okx", "BTC-USDT", `{"id":"1512","op":"subscribe","args":[{"channel":"trades","instId":"BTC-USDT"}]}`, `{"id":"1512","event":"subscribe","arg":{"channel":"trades","instId":"BTC-USDT"},"connId":"32f44150"}`},
		{"okx", "BTC-USDT", `nonsense`, `{"event":"error","code":"60012","msg":"Illegal request: nonsense","connId":"32f44150"}`},
		{"bybit", "BTCUSDT", `{"req_id":"1","op":"ping"}`, `{"success":true,"ret_msg":"pong","conn_id":"c1-bybit","req_id":"1","op":"ping"}`},
		{"bybit", "BTCUSDT", `{"op":"subscribe","args":["publicTrade.BTCUSDT"]}`, `{"success":true,"ret_msg":"subscribe","conn_id":"c1-bybit","op":"subscribe"}`},
		{"bybit_linear", "BTCUSDT", `{"req_id":"x","op":"subscribe","args":["publicTrade.BTCUSDT"]}`, `{"success":true,"ret_msg":"","conn_id":"c1-bybit_linear","req_id":"x","op":"subscribe"}`},
		{"bybit_linear", "BTCUSDT", `{"op":"subscribe","args":["publicTrade.BTCUSDT","orderbook.500.BTCUSDT"]}`, `{"success":false,"ret_msg":"error:handler not found,topic:orderbook.500.BTCUSDT","conn_id":"c1-bybit_linear","req_id":"","op":"subscribe"}`},
		{"bybit", "BTCUSDT", `{"op":"subscribe","args":["a","b","c","d","e","f","g","h","i","j","k"]}`, `{"success":false,"ret_msg":"args size >10","conn_id":"c1-bybit","req_id":"","op":"subscribe"}`},
	} {
		x := newVirtual(t, dialect{venue: c.venue, symbol: c.symbol}, 1, "")
		x.out = nil
		x.say(c.say)
		got := x.texts()
		time := regexp.MustCompile(`"20[0-9-]+T[0-9:.]+Z"`)
		if len(got) == 0 || time.ReplaceAllString(got[0], `"TIME"`) != c.want {
			t.Errorf("%s %s:\n got %s\nwant %s", c.venue, c.say, got, c.want)
		}
	}
}

// Several subscriptions to one alias and the real name are one.
func TestCoinbaseAlias(t *testing.T) {
	x := newVirtual(t, dialects[0], 1, "")
	x.say(`{"type":"subscribe","product_ids":["BTC-USDC"],"channel":"level2"}`)
	x.run(2e9)
	f := newFollower("coinbase", "BTC-USD", 0)
	for _, m := range x.texts() {
		f.text([]byte(m))
	}
	if f.snapshots != 1 || f.deltas < 5 {
		t.Fatalf("%d snapshots, %d deltas", f.snapshots, f.deltas)
	}
	if !strings.Contains(fmt.Sprint(x.texts()), `{"level2":["BTC-USD"]}`) {
		t.Error("no acknowledgement of BTC-USD")
	}
}

// A quiet book is kept alive by OKX, a quiet quote by Bybit; an idle connection ends.
func TestIdle(t *testing.T) {
	for _, c := range []struct {
		venue, symbol, say string
		after              int64
		want               string
	}{
		{"okx", "BTC-USDT", `{"op":"subscribe","args":[{"channel":"books","instId":"BTC-USDT"}]}`, 61e9, `"asks":[],"bids":[]`},
		{"bybit", "BTCUSDT", `{"op":"subscribe","args":["orderbook.1.BTCUSDT"]}`, 4e9, `"type":"snapshot"`},
		{"okx", "BTC-USDT", `ping`, 31e9, "bye"},
		{"coinbase", "BTC-USD", `{}`, 6e9, "bye"},
		{"kraken", "BTC/USD", `{"method":"ping"}`, 61e9, "bye"},
		{"bybit", "BTCUSDT", `{"op":"ping"}`, 601e9, "bye"},
	} {
		x := newVirtual(t, dialect{venue: c.venue, symbol: c.symbol}, 1, "")
		x.say(c.say)
		x.out = nil
		end := x.now + c.after
		for ; x.now < end; x.now += 100e6 {
			x.s.Tick(x.now)
			if c.want != "bye" && x.now-epochNs > 25e9 {
				x.s.Text(x.now, []byte("ping")) // stay alive
			}
		}
		got := fmt.Sprint(x.texts())
		for _, f := range x.out {
			if f.Do == Bye {
				got += "bye"
			}
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s %s: %.300s", c.venue, c.say, got)
		}
	}
}

// The trades of a session, as the reader of the recordings understands them, are
// those of the market: price, size and the aggressor's side.
func TestTradesAreTheMarkets(t *testing.T) {
	seed, dir := testSeed(t), filepath.Dir(captures(t))
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	for _, d := range dialects {
		if d.symbol == "ETH/USD" {
			continue // subscribes to no trades
		}
		x := newVirtual(t, d, seed, "")
		x.say(d.subscribe...)
		x.run(10e9)
		x.v.finish(x.v.sources[0])

		markets := Markets(d.venue, d.symbol)
		markets[0].Depth = min(markets[0].Depth, 1500)
		w, err := world.New(seed, world.Spec{Symbols: markets, StartNs: epochNs})
		if err != nil {
			t.Fatal(err)
		}
		// OKX joins fills, so sizes are summed by side and price.
		want := map[string]int64{}
		for e := w.Next(); e.AtNs < x.now; e = w.Next() {
			if e.Kind == world.Trade {
				side := "buy"
				if e.BuyerIsMaker {
					side = "sell"
				}
				want[fmt.Sprintf("%s %d", side, e.Px)] += e.Qty
			}
		}
		path := filepath.Join(t.TempDir(), "session.jsonl")
		if err := os.WriteFile(path, []byte(strings.Join(x.texts(), "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(python, filepath.Join(dir, "rows.py"), strings.TrimSuffix(d.venue, "_linear"), path).Output()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int64{}
		n := 0
		for _, line := range strings.Split(string(out), "\n") {
			var r struct{ K, Sym, Px, Qty, Side string }
			if json.Unmarshal([]byte(line), &r) != nil || r.K != "trade" {
				continue
			}
			got[fmt.Sprintf("%s %d", r.Side, mantissa(t, r.Px))] += mantissa(t, r.Qty)
			n++
		}
		if n < 20 || len(got) != len(want) {
			t.Errorf("%s: %d trades at %d prices, want %d", d.venue, n, len(got), len(want))
		}
		for k, qty := range want {
			if got[k] != qty {
				t.Errorf("%s: %s: size %d, want %d", d.venue, k, got[k], qty)
			}
		}
	}
}

// mantissa counts 1e-8.
func mantissa(t *testing.T, text string) int64 {
	t.Helper()
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		t.Fatalf("no number: %q", text)
	}
	r.Mul(r, big.NewRat(1e8, 1))
	if !r.IsInt() {
		t.Fatalf("too fine: %q", text)
	}
	return r.Num().Int64()
}

// A frame that reorder holds back is not sent into a later subscription.
func TestHeldFrameEndsWithItsSubscription(t *testing.T) {
	for _, d := range dialects {
		x := newVirtual(t, d, 1, "reorder@5")
		x.say(d.subscribe...)
		for len(x.v.Strikes()) == 0 {
			x.run(20e6)
		}
		before := len(x.out)
		x.say(d.unsubscribe, d.resubscribe)
		x.run(3e9)
		f := newFollower(d.venue, d.symbol, d.cut)
		ready := false
		for _, fr := range x.out[before:] {
			if f.conn = -1; fr.Op == ws.OpText {
				f.text(fr.Payload)
			}
			ready = ready || f.ready
			if ready && !f.ready && d.venue != "coinbase" {
				t.Fatalf("%s: %v", d.venue, f.broken)
			}
		}
		n := d.window
		if n == 0 {
			n = 1 << 30
		}
		f.agrees(t, x.v, n)
	}
}

// A snapshot is of the time of the market, also before its first event.
func TestSnapshotBeforeTheFirstEvent(t *testing.T) {
	for _, d := range dialects {
		x := newVirtual(t, d, 1, "")
		x.say(d.subscribe...)
		n := 0
		for _, m := range x.texts() {
			if strings.Contains(m, `"snapshot"`) {
				n++
				if !strings.Contains(m, strconv.FormatInt(epochNs/1e6, 10)) && !strings.Contains(m, rfc3339(epochNs, 0)[:16]) || strings.Contains(m, `"1970`) || strings.Contains(m, `:-3`) {
					t.Errorf("%s: a snapshot of another time: ...%s", d.venue, m[max(0, len(m)-200):])
				}
			}
		}
		if n == 0 {
			t.Errorf("%s: no snapshot", d.venue)
		}
	}
}
