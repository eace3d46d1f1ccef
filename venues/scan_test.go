package venues

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
)

// The oracle of every scanner is fastjson: what a decoder makes of a frame has to be
// what it would have made without its scanner.

// scanShapes are frames in the spelling that a venue's scanner knows, for machines
// without the recordings.
var scanShapes = map[string][]string{
	"binance": {
		`{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":50093239189,"u":50093239202,"b":[["61737.63000000","0.00000000"],["61730.17000000","1.54698000"]],"a":[["61837.64000000","1.54698000"]]}}`,
		`{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":50093239189,"u":50093239202,"b":[],"a":[["61837.64000000","12345678.54698000"]]}`,
		`{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}`,
		`{"e":"trade","E":1723161255343,"s":"ETHUSDT","t":3735683259,"p":"2737.63000000","q":"0.02000000","T":1723161255342,"m":false,"M":true}`,
		`{"stream":"btcusdt@bookTicker","data":{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}}`,
		`{"u":50093239212,"s":"ETHUSDT","b":"2837.63000000","B":"3.78826000","a":"2837.64000000","A":"1.54698000"}`,
		`{"lastUpdateId":113129219,"bids":[["296.58000000","1.40000000"],["296.57000000","0.58454000"]],"asks":[["297.32000000","19.08719000"]]}`,
	},
	"okx": {
		`{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[["67761.3","0.50332964","0","17"]],"bids":[["67667.6","0.37846322","0","2"],["67657","0","0","0"]],"ts":"1717271296002","checksum":-1321208631,"seqId":26828135127,"prevSeqId":26828135124}]}`,
		`{"arg":{"channel":"books","instId":"BTC-USDT-SWAP"},"action":"snapshot","data":[{"asks":[["78722.3","12","0","10"]],"bids":[["78722.2","0.5","0","1"]],"ts":"1787612486107","seqId":80274874800,"prevSeqId":-1}]}`,
		`{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[],"bids":[],"prevSeqId":15,"seqId":15,"ts":"1787612486107","checksum":0}]}`,
		`{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":[{"asks":[["67761.3","0.5","0","17"]],"bids":[["67761.2","0.25","0","2"]],"ts":"1787612486107","seqId":82083114838}]}`,
		`{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":[{"asks":[],"bids":[["67761.2","0.25","0","2"]],"ts":"1787612486107"}]}`,
		`{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"1067468269","px":"67761.3","sz":"0.5","side":"buy","ts":"1787612486107","count":"1","source":"0","seqId":82083114838}]}`,
		`{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"1067468269","px":"67761.3","sz":"0.5","side":"sell","ts":"1787612486107","count":"3"},{"instId":"BTC-USDT","tradeId":"1067468270","px":"67761","sz":"2","side":"sell","ts":"1787612486107"}]}`,
	},
	"bybit":        bybitScanShapes,
	"bybit_linear": bybitScanShapes,
	"kraken": {
		`{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD","bids":[{"price":78871.5,"qty":0.01266503},{"price":78868.4,"qty":0.00005100}],"asks":[{"price":78872,"qty":158.50548099}],"checksum":1406471562,"timestamp":"2026-08-24T22:21:57.110183Z"}]}`,
		`{"channel":"book","type":"update","data":[{"symbol":"XMR/USD","bids":[],"asks":[{"price":13.2607,"qty":158.50548099}],"checksum":4042091119,"timestamp":"2021-04-17T16:48:53.860443Z"}]}`,
		`{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":0.00002772,"qty":0.00000000}],"asks":[],"checksum":0},{"symbol":"XMR/USD","bids":[],"asks":[{"price":1.5,"qty":2}],"checksum":4294967295,"timestamp":"2021-04-17T16:48:53Z"}]}`,
		`{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":78871.5,"qty":0.01,"ord_type":"limit","trade_id":37,"timestamp":"2026-08-24T22:21:57.110183Z"},{"symbol":"BTC/USD","side":"sell","price":78871.4,"qty":1,"ord_type":"market","trade_id":36,"timestamp":"2026-08-24T22:21:57.110184Z"}]}`,
	},
	"coinbase": {
		`{"channel":"l2_data","client_id":"","timestamp":"2026-08-24T22:34:13.793075885Z","sequence_num":0,"events":[{"type":"snapshot","product_id":"BTC-USD","updates":[{"side":"bid","event_time":"2026-08-24T22:34:13.483122Z","price_level":"78856.05","new_quantity":"0.0476177"},{"side":"offer","event_time":"2026-08-24T22:34:13.48312Z","price_level":"78856.06","new_quantity":"0"}]}]}`,
		`{"channel":"l2_data","timestamp":"2026-08-24T22:34:13.813Z","sequence_num":1,"events":[{"type":"update","product_id":"BTC-USD","updates":[]}]}`,
		`{"channel":"l2_data","timestamp":"2026-08-24T22:34:13.813Z","sequence_num":2,"events":[{"type":"update","product_id":"SKL-USD","updates":[{"side":"offer","event_time":"1970-01-01T00:00:00Z","price_level":"0.7864","new_quantity":"5.0"}]},{"type":"update","product_id":"BTC-USD","updates":[{"side":"bid","event_time":"2026-08-24T22:34:13.123456789Z","price_level":"78856.05","new_quantity":"123456789.5"}]}]}`,
		`{"channel":"market_trades","client_id":"","timestamp":"2024-06-02T17:19:03.722161857Z","sequence_num":2,"events":[{"type":"update","trades":[{"product_id":"BTC-USD","trade_id":"648774355","price":"67904.01","size":"0.059","time":"2024-06-02T17:19:03.647076Z","side":"SELL"},{"product_id":"BTC-USD","trade_id":"648774354","price":"67904.01","size":"0.03291563","time":"2024-06-02T17:19:03.647076Z","side":"BUY"}]}]}`,
	},
}

var bybitScanShapes = []string{
	`{"topic":"orderbook.50.BTCUSDT","ts":1787612486116,"type":"delta","data":{"s":"BTCUSDT","b":[],"a":[["78716.8","0.027559"],["78748.5","0"]],"u":217107085,"seq":113099229629},"cts":1787612486108}`,
	`{"topic":"orderbook.500.BTCUSDT","type":"delta","ts":1717270175820,"data":{"s":"BTCUSDT","b":[["67728.40","0.004"],["67727.90","0.002"]],"a":[["67756.90","0"]],"u":20439980,"seq":185112408039},"cts":1717270175814}`,
	`{"topic":"orderbook.50.ETHUSDT","ts":1787612486096,"type":"snapshot","data":{"s":"ETHUSDT","b":[["78715","1.271882"]],"a":[["78716.8","3"]],"u":1,"seq":113099229629},"cts":1787612486000}`,
	`{"topic":"orderbook.1.BTCUSDT","type":"snapshot","ts":1787612486096,"data":{"s":"BTCUSDT","b":[["78715","1.271882"]],"a":[["78716.8","3"]],"u":217107085,"seq":113099229629},"cts":1787612486000}`,
	`{"topic":"publicTrade.BTCUSDT","ts":1706607146301,"type":"snapshot","data":[{"i":"2290000000102202106","T":1706607146299,"p":"43391.95","v":"0.000064","S":"Sell","s":"BTCUSDT","BT":false}]}`,
	`{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1706607146301,"data":[{"T":1706607146299,"s":"BTCUSDT","S":"Buy","v":"0.5","p":"43391.95","L":"PlusTick","i":"20f43950-d8dd-5b31-9112-a178eb6023af","BT":false,"RPI":true,"seq":113099229629},{"T":1706607146299,"s":"BTCUSDT","S":"Buy","v":"1","p":"43392","L":"ZeroPlusTick","i":"20f43950-d8dd-5b31-9112-a178eb6023b0","BT":true}]}`,
}

// scanRig holds a venue's decoders, with and without scanner, at one pair of scales.
type scanRig struct {
	with, without Decoder
	got, want     Batch
	accepted      int
}

var scanScales = []scales{{0, 0}, {1, 8}, {2, 5}, {8, 8}, {10, 11}, {18, 18}}

// scanSymbols are most of those that the shapes and the recordings name.
var scanSymbols = []string{
	"BTCUSDT", "ETHUSDT", "A", "CRVUSDT", "COMPUSDT", "OMGBUSD", "BTC-USDT", "BTC-USDT-SWAP",
	"BTC-USD", "SKL-USD", "SKL-BTC", "DASH-BTC", "BAND-BTC", "YFI-BTC",
	"BTC/USD", "XMR/USD", "SC/EUR", "WAVES/EUR", "OMG/USD", "ADA/BTC",
}

func newScanRig(tb testing.TB, v Venue, sc scales, symbols []string) *scanRig {
	var insts []event.Instrument
	for _, s := range symbols {
		insts = append(insts, event.Instrument{Venue: v.Rules().Name, Symbol: s, PxScale: sc.px, QtyScale: sc.qty})
	}
	r := &scanRig{with: v.NewDecoder(insts), without: Unscanned(v.NewDecoder(insts))}
	return r
}

// same says how the two decoders differ over a frame, "" if they do not.
// rest is the place of the instrument whose REST answer it is, or -1.
func (r *scanRig) same(frame []byte, rest int) string {
	parse := func() ledger.Reason { return r.without.Decode(frame, &r.want) }
	read := func() ledger.Reason { return r.with.Decode(frame, &r.got) }
	if rest >= 0 {
		parse = func() ledger.Reason { return r.without.DecodeSnapshot(rest, frame, &r.want) }
		read = func() ledger.Reason { return r.with.DecodeSnapshot(rest, frame, &r.got) }
	}
	want := parse()
	before := r.with.Declined()
	got := read()
	if want == ledger.Accepted && before == r.with.Declined() && len(r.got.Messages) > 0 && r.got.Messages[0].Kind != KindControl {
		r.accepted++
	}
	if got != want {
		return fmt.Sprintf("reason %v, want %v", got, want)
	}
	if r.got.ConnSeq != r.want.ConnSeq || !reflect.DeepEqual(r.got.Messages, r.want.Messages) && len(r.got.Messages)+len(r.want.Messages) > 0 {
		return fmt.Sprintf("frame %d, messages\n got %+v\nwant %+v", r.got.ConnSeq, r.got.Messages, r.want.Messages)
	}
	if !slices.Equal(r.got.Levels, r.want.Levels) {
		return fmt.Sprintf("levels\n got %v\nwant %v", r.got.Levels, r.want.Levels)
	}
	return ""
}

// restInst is 0 for a shape that is a REST answer, else -1.
func restInst(frame []byte) int {
	if bytes.HasPrefix(frame, []byte(`{"lastUpdateId":`)) {
		return 0
	}
	return -1
}

// scanFrames are the shapes and, where the recordings are, frames of every kind.
func scanFrames(tb testing.TB, v Venue) (frames [][]byte) {
	for _, s := range scanShapes[v.Rules().Name] {
		frames = append(frames, []byte(s))
	}
	if _, err := os.Stat(os.Getenv("DEEPTAPE_CAPTURES")); err != nil {
		return frames
	}
	for _, file := range recordingsOf(tb, v) {
		n := 0
		for _, line := range bytes.Split(plainFile(tb, file), []byte("\n")) {
			if n < 300 && len(line) < 3000 {
				frames = append(frames, line)
				n++
			}
		}
	}
	return frames
}

// TestScannerShapes: the shapes are taken by the scanner, and rightly.
func TestScannerShapes(t *testing.T) {
	for _, name := range Names() {
		v, _ := ByName(name)
		for _, frame := range scanShapes[name] {
			r := newScanRig(t, v, scales{8, 8}, scanSymbols)
			if diff := r.same([]byte(frame), restInst([]byte(frame))); diff != "" {
				t.Errorf("%s: %s\n%s", name, frame, diff)
			}
			if n := r.with.Declined(); n != 0 || r.accepted != 1 {
				t.Errorf("%s: not taken by the scanner: %s", name, frame)
			}
		}
	}
}

// A frame that is too long for the parser is too long for the scanner: the bounds lie
// between the two lengths of each row, but where levels are taken out.
func TestScannerLimits(t *testing.T) {
	for _, c := range []struct {
		venue, head, element, tail string
		fits, tooMany              int
	}{
		{"binance", `{"e":"depthUpdate","E":1,"s":"A","U":1,"u":2,"b":[`, `["1.5","2"]`, `],"a":[]}`, 43_000, 44_000},
		{"okx", `{"arg":{"channel":"books","instId":"A"},"action":"update","data":[{"asks":[`, `["1.5","2","0","3"]`, `],"bids":[],"ts":"1"}]}`, 26_000, 26_500},
		{"okx", `{"arg":{"channel":"trades","instId":"A"},"data":[`, `{"instId":"A","tradeId":"7","px":"1.5","sz":"2","side":"buy","ts":"1"}`, `]}`, 18_000, 19_000},
		{"bybit", `{"topic":"orderbook.50.A","ts":1,"type":"delta","data":{"s":"A","b":[`, `["1.5","2"]`, `],"a":[],"u":2,"seq":3},"cts":1}`, 43_000, 44_000},
		{"bybit", `{"topic":"publicTrade.A","ts":1,"type":"snapshot","data":[`, `{"i":"7","T":1,"p":"1.5","v":"2","S":"Sell","s":"A","BT":false}`, `]}`, 16_000, 17_000},
		{"kraken", `{"channel":"book","type":"update","data":[{"symbol":"A","bids":[`, `{"price":1.5,"qty":2}`, `],"asks":[],"checksum":1}]}`, 43_000, 44_000},
		{"kraken", `{"channel":"trade","type":"update","data":[`, `{"symbol":"A","side":"buy","price":1.5,"qty":2,"ord_type":"limit","trade_id":7,"timestamp":"2026-08-24T22:21:57Z"}`, `]}`, 16_000, 17_000},
		{"coinbase", `{"channel":"l2_data","timestamp":"","sequence_num":1,"events":[{"type":"update","product_id":"A","updates":[`, `{"side":"bid","event_time":"2026-08-24T22:34:13Z","price_level":"1.5","new_quantity":"2"}`, `]}]}`, 50_000, 0},
		{"coinbase", `{"channel":"market_trades","timestamp":"","sequence_num":1,"events":[{"type":"update","trades":[`, `{"product_id":"A","trade_id":"7","price":"1.5","size":"2","time":"2026-08-24T22:34:13Z","side":"BUY"}`, `]}]}`, 10_000, 10_500},
		{"coinbase", `{"channel":"l2_data","timestamp":"","sequence_num":1,"events":[`, `{"type":"update","product_id":"A","updates":[]}`, `]}`, 100, 0},
	} {
		v, _ := ByName(c.venue)
		for _, n := range []int{c.fits, c.tooMany} {
			r := newScanRig(t, v, scales{2, 2}, scanSymbols)
			frame := []byte(c.head + strings.Repeat(c.element+",", max(1, n)-1) + c.element + c.tail)
			if diff := r.same(frame, -1); diff != "" {
				t.Errorf("%s, %d times %s: %.300s", c.venue, n, c.element, diff)
			}
			if taken := r.accepted == 1; taken != (n != c.tooMany) && n > 0 {
				t.Errorf("%s, %d times %s: taken by the scanner: %v", c.venue, n, c.element, taken)
			}
		}
	}
}

// scannerAgrees: line for line of a recording, and nothing is handed over once the
// scales are found. (TestConformanceDecode calls it, to load the recording once.)
func scannerAgrees(t *testing.T, rec *recorded) {
	r := newScanRig(t, rec.venue, scales{}, rec.symbols)
	s := rec.reader()
	sc := make([]scales, len(rec.symbols))
	var declined [2]uint64
	for pass := range declined {
		before := r.with.Declined()
		for n, line := range rec.lines {
			rest := -1
			for i := range s.insts {
				if line.rest && (len(s.insts) == 1 || strings.Contains(line.url, "symbol="+s.insts[i].Symbol)) {
					rest = i
				}
			}
			if pass == 0 {
				s.read(line)
			}
			for i := range s.insts {
				if inst := &s.insts[i]; sc[i] != (scales{inst.PxScale, inst.QtyScale}) {
					sc[i] = scales{inst.PxScale, inst.QtyScale}
					r.with.SetScale(i, inst.PxScale, inst.QtyScale)
					r.without.SetScale(i, inst.PxScale, inst.QtyScale)
				}
			}
			if diff := r.same(line.text, rest); diff != "" {
				t.Fatalf("line %d: %s\n%s", n+1, diff, line.text)
			}
		}
		declined[pass] = r.with.Declined() - before
	}
	if declined[1] > 0 {
		t.Errorf("%d of %d lines handed over, %d while the scales grew", declined[1], len(rec.lines), declined[0])
	}
}

// TestScanners changes frames in ways that know JSON, from a fixed seed. Longer, and
// with other seeds: make fuzz.
func TestScanners(t *testing.T) {
	const seed = 1
	changes := 100_000
	if raceOn {
		changes = 10_000
	}
	if s := os.Getenv("DEEPTAPE_SCAN_CHANGES"); s != "" {
		changes, _ = strconv.Atoi(s)
	}
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, _ := ByName(name)
			frames := scanFrames(t, v)
			var rigs []*scanRig
			for _, sc := range scanScales {
				rigs = append(rigs, newScanRig(t, v, sc, scanSymbols))
			}
			m := mutant{r: rand.New(rand.NewPCG(seed, 2))}
			for range changes {
				frame := pick(m.r, frames)
				rest := restInst(frame)
				frame = m.change(frame)
				if diff := pick(m.r, rigs).same(frame, rest); diff != "" {
					t.Fatalf("seed %d: %s\n%q", seed, diff, frame)
				}
			}
			accepted, declined := 0, uint64(0)
			for _, r := range rigs {
				accepted += r.accepted
				declined += r.with.Declined()
			}
			t.Logf("%d changed frames: the scanner took %d and handed over %d", changes, accepted, declined)
			if accepted < changes/50 || declined < uint64(changes/50) {
				t.Errorf("%d taken and %d handed over: both must be tested", accepted, declined)
			}
		})
	}
}

// fuzzScanner fuzzes one exchange's scanners: any bytes, and changes of them.
func fuzzScanner(f *testing.F, venues ...string) {
	var rigs []*scanRig
	for _, name := range venues {
		v, err := ByName(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, frame := range scanFrames(f, v) {
			f.Add(frame, uint64(0))
			f.Add(frame, uint64(len(frame)))
		}
		for _, sc := range scanScales {
			rigs = append(rigs, newScanRig(f, v, sc, scanSymbols))
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte, seed uint64) {
		rest := restInst(frame)
		if seed != 0 {
			frame = (&mutant{r: rand.New(rand.NewPCG(seed, 3))}).change(frame)
		}
		for _, r := range rigs {
			if diff := r.same(frame, rest); diff != "" {
				t.Fatalf("%s\n%q", diff, frame)
			}
		}
	})
}

func FuzzScanBinance(f *testing.F)  { fuzzScanner(f, "binance") }
func FuzzScanOKX(f *testing.F)      { fuzzScanner(f, "okx") }
func FuzzScanBybit(f *testing.F)    { fuzzScanner(f, "bybit", "bybit_linear") }
func FuzzScanKraken(f *testing.F)   { fuzzScanner(f, "kraken") }
func FuzzScanCoinbase(f *testing.F) { fuzzScanner(f, "coinbase") }
