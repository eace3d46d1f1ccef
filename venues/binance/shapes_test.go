package binance

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
	"deeptape/venues/venuetest"
)

// Every branch of the decoder with the message that is its evidence; those that
// are marked are in no recording, and are as the sheet gives them. The scales are
// 2 and 5.
func TestBinanceShapes(t *testing.T) {
	const trade = `{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}`
	wantTrade := venues.Message{Kind: venues.KindTrade, First: venuetest.Null, Seq: venuetest.Null, SeqPrev: venuetest.Null, TsEvent: 1723161255342e6,
		PxScale: 2, QtyScale: 5, Px: 6183763, Qty: 2000, Side: event.Ask, TradeID: []byte("3735683259"), TradeNum: 3735683259, TradeFirst: 3735683259}
	bought := wantTrade
	bought.Side, bought.TsEvent = event.Bid, 1723161255342_123e3

	const depth = `{"e":"depthUpdate","E":1723161255308,"s":"BTCUSDT","U":50093239203,"u":50093239207,"b":[["55653.87000000","0.00000000"]],"a":[["61838.04000000","0.32332000"]]}`
	wantDepth := venues.Message{Kind: venues.KindDelta, First: 50093239203, Seq: 50093239207, SeqPrev: 50093239202, TsEvent: 1723161255308e6, Hi: 2, PxScale: 2, QtyScale: 5}
	wantLevels := []event.Level{{Px: 5565387, Qty: 0, Side: event.Bid}, {Px: 6183804, Qty: 32332, Side: event.Ask}}
	finer := wantDepth
	finer.PxScale, finer.QtyScale = 3, 8

	ack := venues.Message{Kind: venues.KindAck, Inst: -1, TsEvent: venuetest.Null}
	for _, c := range []struct {
		name   string
		frame  string
		want   venues.Message
		levels []event.Level
	}{
		{"depth, combined", `{"stream":"btcusdt@depth@100ms","data":` + depth + `}`, wantDepth, wantLevels},
		{"depth, raw", depth, wantDepth, wantLevels},
		{"depth with spaces and other order", `{ "data" : { "a":[ [ "61838.04" , "0.32332" ] ], "b":[["55653.87","0"]],"u":50093239207,"U":50093239203,"s":"BTCUSDT","E":1723161255308,"e":"depthUpdate" }}`, wantDepth, wantLevels},
		{"depth without levels", `{"e":"depthUpdate","E":0,"s":"BTCUSDT","U":5,"u":5,"b":[],"a":[]}`, venues.Message{Kind: venues.KindDelta, First: 5, Seq: 5, SeqPrev: 4, TsEvent: venuetest.Null, PxScale: 2, QtyScale: 5}, nil},
		{"depth finer than both scales", strings.Replace(strings.Replace(depth, "55653.87000000", "55653.87100000", 1), "0.32332000", "0.32332001", 1), finer, nil},
		{"trade, a seller took", `{"stream":"btcusdt@trade","data":` + trade + `}`, wantTrade, nil},
		{"trade, a buyer took, in microseconds", strings.Replace(strings.Replace(trade, `"m":true`, `"m":false`, 1), `1723161255342`, `1723161255342123`, 1), bought, nil},
		{"bookTicker", `{"stream":"btcusdt@bookTicker","data":{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}}`,
			venues.Message{Kind: venues.KindQuote, First: venuetest.Null, Seq: 50093239212, SeqPrev: venuetest.Null, TsEvent: venuetest.Null, PxScale: 2, QtyScale: 5, Px: 6183763, Qty: 378826, AskPx: 6183764, AskQty: 154698}, nil},
		{"ack (sheet)", `{"result":null,"id":1}`, venuetest.WithID(ack, 1), nil},
		{"ack with a list (sheet)", `{"result":["btcusdt@trade"],"id":3}`, venuetest.WithID(ack, 3), nil},
		{"ack with an id that is not ours (sheet)", `{"result":null,"id":"abc"}`, ack, nil},
		{"refusal (sheet)", `{"code":2,"msg":"Invalid request: unknown variant","id":7}`, venues.Message{Kind: venues.KindRefused, Inst: -1, TsEvent: venuetest.Null, ID: 7, Text: []byte("Invalid request: unknown variant")}, nil},
		{"nested refusal (public reports)", `{"error":{"code":2,"msg":"Invalid request"},"id":1}`, venues.Message{Kind: venues.KindRefused, Inst: -1, TsEvent: venuetest.Null, ID: 1, Text: []byte("Invalid request")}, nil},
		{"refusal without id (sheet)", `{"code":3,"msg":"Invalid JSON: expected value at line 1 column 1"}`, venues.Message{Kind: venues.KindRefused, Inst: -1, TsEvent: venuetest.Null, Text: []byte("Invalid JSON: expected value at line 1 column 1")}, nil},
		{"shutdown, raw (sheet)", `{"e":"serverShutdown","E":1770123456789}`, venues.Message{Kind: venues.KindNotice, Inst: -1, TsEvent: venuetest.Null, Text: []byte("serverShutdown")}, nil},
		{"shutdown, combined (sheet)", `{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}`, venues.Message{Kind: venues.KindNotice, Inst: -1, TsEvent: venuetest.Null, Text: []byte("serverShutdown")}, nil},
	} {
		dec, _ := venuetest.DecoderAt(Venue{}, 2, 5, "BTCUSDT")
		var b venues.Batch
		if reason := dec.Decode([]byte(c.frame), &b); reason != ledger.Accepted {
			t.Errorf("%s: %v", c.name, reason)
			continue
		}
		if len(b.Messages) != 1 {
			t.Errorf("%s: %d messages", c.name, len(b.Messages))
			continue
		}
		if c.levels == nil && c.want.PxScale > 2 {
			c.want.Hi = b.Messages[0].Hi // of no use
		} else if !reflect.DeepEqual(append([]event.Level(nil), b.Levels...), c.levels) {
			t.Errorf("%s: levels %v, want %v", c.name, b.Levels, c.levels)
		}
		if !reflect.DeepEqual(b.Messages[0], c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, b.Messages[0], c.want)
		}
	}
}

func TestBinanceRejects(t *testing.T) {
	depth := func(old, new string) string {
		const d = `{"e":"depthUpdate","E":1723161255308,"s":"BTCUSDT","U":10,"u":12,"b":[["55653.87","0.5"]],"a":[["61838.04","0.3"]]}`
		return venuetest.ReplaceOnce(t, d, old, new)
	}
	trade := func(old, new string) string {
		return venuetest.ReplaceOnce(t, `{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":37,"p":"61837.63","q":"0.02","T":1723161255342,"m":true}`, old, new)
	}
	quote := func(old, new string) string {
		return venuetest.ReplaceOnce(t, `{"u":39,"s":"BTCUSDT","b":"61837.63","B":"3.7","a":"61837.64","A":"1.5"}`, old, new)
	}
	for _, c := range []struct {
		name, frame string
		want        ledger.Reason
	}{
		{"empty", ``, ledger.Malformed},
		{"no JSON", `hello`, ledger.Malformed},
		{"cut short", depth(`"]]}`, `"]]`), ledger.Malformed},
		{"something follows", depth(`"]]}`, `"]]}}`), ledger.Malformed},
		{"an array", `[1,2]`, ledger.Malformed},
		{"null", `null`, ledger.Malformed},
		{"nested deeply", strings.Repeat(`{"data":`, 100_000) + `1` + strings.Repeat(`}`, 100_000), ledger.Malformed},
		{"nested deeply in a level", depth(`"55653.87"`, strings.Repeat(`[`, 299)+strings.Repeat(`]`, 299)), ledger.Malformed},
		{"no fields", `{}`, ledger.UnknownShape},
		{"data without fields", `{"stream":"btcusdt@depth","data":{}}`, ledger.UnknownShape},
		{"data is no object", `{"stream":"btcusdt@depth","data":7}`, ledger.UnknownShape},
		{"event that nobody asked for", `{"e":"kline","E":1,"s":"BTCUSDT"}`, ledger.UnknownShape},
		{"event name is a number", `{"e":5,"u":39,"s":"BTCUSDT","b":"1","B":"1","a":"1","A":"1"}`, ledger.UnknownShape},
		{"partial book", `{"lastUpdateId":160,"bids":[["0.0024","10"]],"asks":[["0.0026","100"]]}`, ledger.UnknownShape},

		{"depth of an unknown symbol", depth(`BTCUSDT`, `ETHUSDT`), ledger.UnknownSymbol},
		{"depth without symbol", depth(`"s":"BTCUSDT",`, ``), ledger.UnknownSymbol},
		{"symbol in the wrong case", depth(`BTCUSDT`, `btcusdt`), ledger.UnknownSymbol},
		{"depth without U", depth(`"U":10,`, ``), ledger.Malformed},
		{"depth without u", depth(`"u":12,`, ``), ledger.Malformed},
		{"depth without E", depth(`"E":1723161255308,`, ``), ledger.Malformed},
		{"depth without b", depth(`"b":[["55653.87","0.5"]],`, ``), ledger.Malformed},
		{"depth without a", depth(`,"a":[["61838.04","0.3"]]`, ``), ledger.Malformed},
		{"U > u", depth(`"U":10`, `"U":13`), ledger.Malformed},
		{"U as text", depth(`"U":10`, `"U":"10"`), ledger.Malformed},
		{"U negative", depth(`"U":10`, `"U":-10`), ledger.Malformed},
		{"u with a fraction", depth(`"u":12`, `"u":12.5`), ledger.Malformed},
		{"u with an exponent", depth(`"u":12`, `"u":12e1`), ledger.Malformed},
		{"u too large", depth(`"u":12`, `"u":9223372036854775808`), ledger.Malformed},
		{"b is no list", depth(`[["55653.87","0.5"]]`, `{}`), ledger.Malformed},
		{"level is no list", depth(`["55653.87","0.5"]`, `"55653.87"`), ledger.Malformed},
		{"level with one text", depth(`,"0.5"`, ``), ledger.Malformed},
		{"px as number", depth(`"55653.87"`, `55653.87`), ledger.Malformed},
		{"qty as number", depth(`"0.5"`, `0.5`), ledger.Malformed},
		{"qty negative", depth(`"0.5"`, `"-0.5"`), ledger.Malformed},
		{"qty with an exponent", depth(`"0.5"`, `"5e-1"`), ledger.Malformed},
		{"px empty", depth(`"55653.87"`, `""`), ledger.Malformed},
		{"px not a number", depth(`"55653.87"`, `"NaN"`), ledger.Malformed},
		{"px with a leading zero", depth(`"55653.87"`, `"055653.87"`), ledger.Malformed},
		{"px with a space", depth(`"55653.87"`, `" 55653.87"`), ledger.Malformed},
		{"px too large", depth(`"55653.87"`, `"92233720368547758.08"`), ledger.Overflow},
		{"px with more digits than any scale", depth(`"55653.87"`, `"0.0000000000000000001"`), ledger.Overflow},
		{"px that fits at no scale", depth(`"55653.87"`, `"10.000000000000000001"`), ledger.Overflow},
		{"time of no unit", depth(`1723161255308`, `92233720368547`), ledger.Malformed},
		{"time in nanoseconds", depth(`1723161255308`, `1723161255308000000`), ledger.Malformed},
		{"time negative", depth(`1723161255308`, `-1`), ledger.Malformed},
		{"time as text", depth(`1723161255308`, `"1723161255308"`), ledger.Malformed},

		{"trade of an unknown symbol", trade(`BTCUSDT`, `ETHUSDT`), ledger.UnknownSymbol},
		{"trade without id", trade(`"t":37,`, ``), ledger.Malformed},
		{"trade id as text", trade(`"t":37`, `"t":"37"`), ledger.Malformed},
		{"trade without time", trade(`,"T":1723161255342`, ``), ledger.Malformed},
		{"trade without side", trade(`,"m":true`, ``), ledger.Malformed},
		{"trade side as text", trade(`"m":true`, `"m":"true"`), ledger.Malformed},
		{"trade without px", trade(`"p":"61837.63",`, ``), ledger.Malformed},
		{"trade without qty", trade(`"q":"0.02",`, ``), ledger.Malformed},
		{"trade qty negative", trade(`"0.02"`, `"-0.02"`), ledger.Malformed},
		{"trade px as number", trade(`"61837.63"`, `61837.63`), ledger.Malformed},
		{"trade qty too large", trade(`"0.02"`, `"92233720368548"`), ledger.Overflow},

		{"quote of an unknown symbol", quote(`BTCUSDT`, `ETHUSDT`), ledger.UnknownSymbol},
		{"quote id as text", quote(`39`, `"39"`), ledger.Malformed},
		{"quote without bid", quote(`"b":"61837.63",`, ``), ledger.Malformed},
		{"quote ask as number", quote(`"61837.64"`, `61837.64`), ledger.Malformed},
		{"quote size negative", quote(`"1.5"`, `"-1.5"`), ledger.Malformed},
	} {
		dec, _ := venuetest.DecoderAt(Venue{}, 2, 5, "BTCUSDT")
		var b venues.Batch
		if got := dec.Decode([]byte(c.frame), &b); got != c.want {
			t.Errorf("%s: %v, want %v: %.200s", c.name, got, c.want, c.frame)
		}
		// Whose message it was is known wherever the symbol could be read.
		if c.want == ledger.Malformed && !strings.Contains(c.name, "nested") && strings.Contains(c.frame, `"s":"BTCUSDT"`) && strings.HasSuffix(c.frame, "}") && !strings.HasSuffix(c.frame, "}}") {
			if len(b.Messages) != 1 || b.Messages[0].Inst != 0 {
				t.Errorf("%s: does not say whose it was", c.name)
			}
		}
	}
	for _, body := range []string{``, `{}`, `[]`, `null`, `{"code":-1121,"msg":"Invalid symbol."}`, `{"lastUpdateId":"1","bids":[],"asks":[]}`,
		`{"lastUpdateId":-1,"bids":[],"asks":[]}`, `{"lastUpdateId":1,"bids":[]}`, `{"lastUpdateId":1,"asks":[],"bids":[["1","-1"]]}`, `{"lastUpdateId":1,"asks":[],"bids":[[1,2]]}`} {
		dec, _ := venuetest.DecoderAt(Venue{}, 2, 5, "BTCUSDT")
		var b venues.Batch
		if got := dec.DecodeSnapshot(0, []byte(body), &b); got != ledger.Malformed {
			t.Errorf("snapshot %q: %v, want malformed", body, got)
		}
	}
}

// The same text of digits is a time in one unit only, whatever its length.
func TestBinanceTimes(t *testing.T) {
	dec, insts := venuetest.DecoderAt(Venue{}, 2, 5, "BTCUSDT")
	var b venues.Batch
	for _, text := range []string{"0", "1", "999999999999", "1723161255308", "9223372036854", "100000000000000", "1723161255308123", "9223372036854775"} {
		frame := fmt.Appendf(nil, `{"e":"depthUpdate","E":%s,"s":"BTCUSDT","U":5,"u":5,"b":[],"a":[]}`, text)
		v, _ := venuetest.ParseJSON(frame)
		w, _ := readWire(v)
		if reason := dec.Decode(frame, &b); reason != ledger.Accepted {
			t.Errorf("%s: %v", text, reason)
		} else if err := differ(&b, insts, w, 0); err != nil {
			t.Error(err)
		}
	}
	for _, text := range []string{"9223372036855", "99999999999999", "9223372036854776", "99999999999999999", "9223372036854775807"} {
		frame := fmt.Appendf(nil, `{"e":"depthUpdate","E":%s,"s":"BTCUSDT","U":5,"u":5,"b":[],"a":[]}`, text)
		if reason := dec.Decode(frame, &b); reason != ledger.Malformed {
			t.Errorf("%s: %v, want malformed", text, reason)
		}
	}
}

func TestBinanceHugeMessage(t *testing.T) {
	var bids, asks []string
	for i := range 20_000 { // close to mostValues
		bids = append(bids, fmt.Sprintf(`["%d.%02d","%d"]`, 200_000-i, i%100, i))
		asks = append(asks, fmt.Sprintf(`["%d.5","0.%05d"]`, 200_001+i, i))
	}
	frame := []byte(`{"e":"depthUpdate","E":1723161255308,"s":"BTCUSDT","U":5,"u":5,"b":[` + strings.Join(bids, ",") + `],"a":[` + strings.Join(asks, ",") + `]}`)
	dec, insts := venuetest.DecoderAt(Venue{}, 2, 5, "BTCUSDT")
	var b venues.Batch
	if reason := dec.Decode(frame, &b); reason != ledger.Accepted {
		t.Fatal(reason)
	}
	v, err := venuetest.ParseJSON(frame)
	if err != nil {
		t.Fatal(err)
	}
	w, _ := readWire(v)
	if err := differ(&b, insts, w, 0); err != nil {
		t.Error(err)
	}
}

func TestBinanceTexts(t *testing.T) {
	v := Venue{}
	insts := []event.Instrument{{Symbol: "BTCUSDT"}, {Symbol: "ETHUSDT"}}
	for _, c := range []struct{ got, want any }{
		{v.StreamPath(insts, true), "/stream?streams=btcusdt@depth@100ms"},
		{v.StreamPath([]event.Instrument{{Symbol: "币安USDT"}}, true), "/stream?streams=%E5%B8%81%E5%AE%89usdt@depth@100ms"},
		{textsOf(v.Subscribe(insts, venues.Subscription{Quotes: true})), []string{`{"method":"SUBSCRIBE","params":["btcusdt@depth@100ms","btcusdt@trade","btcusdt@bookTicker","ethusdt@depth@100ms","ethusdt@trade","ethusdt@bookTicker"],"id":1}`}},
		{textsOf(v.Subscribe(insts[1:], venues.Subscription{})), []string{`{"method":"SUBSCRIBE","params":["ethusdt@depth@100ms","ethusdt@trade"],"id":1}`}},
		{textsOf(v.Resubscribe(insts[0], venues.Subscription{}, 41)), []string{
			`{"method":"UNSUBSCRIBE","params":["btcusdt@depth@100ms","btcusdt@trade"],"id":41}`,
			`{"method":"SUBSCRIBE","params":["btcusdt@depth@100ms","btcusdt@trade"],"id":42}`}},
		{v.SnapshotRequest("BTCUSDT", 5000), venues.Request{Path: "/api/v3/depth?symbol=BTCUSDT&limit=5000", Weight: 250}},
		{v.SnapshotRequest("BTCUSDT", 1001), venues.Request{Path: "/api/v3/depth?symbol=BTCUSDT&limit=1001", Weight: 250}},
		{v.SnapshotRequest("BTCUSDT", 1000), venues.Request{Path: "/api/v3/depth?symbol=BTCUSDT&limit=1000", Weight: 50}},
		{v.SnapshotRequest("BTCUSDT", 500), venues.Request{Path: "/api/v3/depth?symbol=BTCUSDT&limit=500", Weight: 25}},
		{v.SnapshotRequest("币USDT", 100), venues.Request{Path: "/api/v3/depth?symbol=%E5%B8%81USDT&limit=100", Weight: 5}},
		{v.InstrumentsRequest([]string{"BTCUSDT", "ETHUSDT"}), venues.Request{Path: "/api/v3/exchangeInfo?symbols=%5B%22BTCUSDT%22,%22ETHUSDT%22%5D", Weight: 20}},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("got %q\nwant %q", c.got, c.want)
		}
	}
	// Many streams: several commands, each within the limit, no stream twice or missing.
	var many []event.Instrument
	for i := range 300 {
		many = append(many, event.Instrument{Symbol: fmt.Sprintf("A%dUSDT", i)})
	}
	seen := map[string]bool{}
	texts := textsOf(v.Subscribe(many, venues.Subscription{Quotes: true}))
	for i, text := range texts {
		var c struct {
			Method string
			Params []string
			ID     int
		}
		if err := json.Unmarshal([]byte(text), &c); err != nil || c.Method != "SUBSCRIBE" || c.ID != i+1 || len(c.Params) > rules.LongestCommandStreams {
			t.Errorf("command %d: %v, %+v", i, err, c)
		}
		for _, s := range c.Params {
			if seen[s] {
				t.Errorf("%s twice", s)
			}
			seen[s] = true
		}
	}
	if len(seen) != 900 {
		t.Errorf("%d streams, want 900", len(seen))
	}
	for in, want := range map[string]string{"btcUsdt": "BTCUSDT", "1000SATSUSDT": "1000SATSUSDT", "币安usdt": "币安USDT",
		"": "", "BTC-USDT": "", "btc/usdt": "", "A\"B": "", "A&limit=1": "", "A%20": "", "A B": "", "A\x00": "", "A\xff": ""} {
		if got, err := v.Symbol(in); got != want || (err != nil) != (want == "") {
			t.Errorf("Symbol(%q) = %q, %v", in, got, err)
		}
	}
}

func TestBinanceExchangeInfo(t *testing.T) {
	body, err := io.ReadAll(venuetest.Capture(t, "rest/binance_exchangeInfo_20211012.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		RateLimits []struct {
			RateLimitType, Interval string
			IntervalNum, Limit      int
		}
		Symbols []struct {
			Symbol, Status, BaseAsset, QuoteAsset string
			Filters                               []map[string]any
		}
	}
	if err := json.Unmarshal(body, &info); err != nil {
		t.Fatal(err)
	}
	var symbols []string
	for _, s := range info.Symbols {
		symbols = append(symbols, s.Symbol)
	}
	insts, weight, err := Venue{}.Instruments(body, append(symbols[1:], "NOSUCHPAIR"))
	if err != nil {
		t.Fatal(err)
	}
	if weight != 1200 { // the budget of 2021
		t.Errorf("weight %d a minute, want 1200", weight)
	}
	if len(insts) != len(symbols)-1 || len(insts) < 100 {
		t.Fatalf("%d instruments, want %d", len(insts), len(symbols)-1)
	}
	for i, inst := range insts {
		s := info.Symbols[i+1]
		want := event.Instrument{Venue: "binance", Market: "spot", Source: "exchangeInfo", Symbol: s.Symbol, Status: s.Status,
			Base: s.BaseAsset, Quote: s.QuoteAsset, Pair: s.BaseAsset + "-" + s.QuoteAsset}
		for _, f := range s.Filters {
			switch f["filterType"] {
			case "PRICE_FILTER":
				want.Tick = f["tickSize"].(string)
				want.PxScale = venuetest.FractionDigits(want.Tick)
			case "LOT_SIZE":
				want.Lot = f["stepSize"].(string)
				want.QtyScale = venuetest.FractionDigits(want.Lot)
			}
		}
		if inst != want {
			t.Errorf("got %+v\nwant %+v", inst, want)
		}
	}
	for _, bad := range []string{``, `{`, `{"symbols":[{"symbol":"X","filters":[{"filterType":"LOT_SIZE","stepSize":"1e-5"}]}]}`} {
		if _, _, err := (Venue{}).Instruments([]byte(bad), []string{"X"}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// FuzzBinance: whatever comes, the decoder returns; what it takes and is JSON
// holds what the oracle reads in it. (fastjson takes some texts that are no JSON,
// such as a number 007: they cannot come from a venue.)
func FuzzBinance(f *testing.F) {
	for _, s := range []string{
		`{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1723161255308,"s":"BTCUSDT","U":50093239203,"u":50093239207,"b":[["55653.87000000","0.00000000"]],"a":[["61838.04000000","0.32332000"],["1.5","18014398509.48198"]]}}`,
		`{"e":"trade","E":1723161255343,"s":"ETHUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342123,"m":true,"M":true}`,
		`{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}`,
		`{"result":null,"id":1}`, `{"code":2,"msg":"Invalid request: \u0041","id":-7}`, `{"e":"serverShutdown","E":1}`,
		`{"lastUpdateId":77,"bids":[["1.000000000000000001","2"]],"asks":[["-0.5","-0"]]}`,
		`{"\u0065":"trade"}`, `{"data":[]}`, `[`, `{"e":"depthUpdate","E":92233720368547,"s":"BTCUSDT","U":1,"u":9223372036854775807,"b":[],"a":[]}`,
	} {
		f.Add([]byte(s), int8(2), int8(5))
		f.Add([]byte(s), int8(0), int8(18))
	}
	f.Fuzz(func(t *testing.T, frame []byte, px, qty int8) {
		if px < 0 || px > 18 || qty < 0 || qty > 18 {
			return
		}
		dec, insts := venuetest.DecoderAt(Venue{}, px, qty, "BTCUSDT", "ETHUSDT")
		v, err := venuetest.ParseJSON(frame)
		oracle := err == nil && !venuetest.RepeatsKey(frame) && strings.ToValidUTF8(string(frame), "") == string(frame) && !strings.Contains(string(frame), `\`)
		for _, snapshot := range []bool{false, true} {
			var b venues.Batch
			w, known := readWire(v)
			decode := dec.Decode
			if snapshot {
				w, known = readWireSnapshot(v), true
				decode = func(frame []byte, b *venues.Batch) ledger.Reason { return dec.DecodeSnapshot(1, frame, b) }
			}
			for range 3 {
				if decode(frame, &b) != ledger.Accepted {
					break
				}
				if !oracle {
					break
				}
				if !known {
					t.Fatalf("taken as %+v", b.Messages)
				}
				if err := differ(&b, insts, w, 1); err != nil {
					t.Fatal(err)
				}
				m := &b.Messages[0]
				if m.Inst < 0 {
					break
				}
				insts[m.Inst].PxScale, insts[m.Inst].QtyScale = m.PxScale, m.QtyScale
				dec.SetScale(m.Inst, m.PxScale, m.QtyScale)
			}
		}
	})
}

func textsOf(commands []venues.Command) (texts []string) {
	for _, c := range commands {
		texts = append(texts, c.Text)
	}
	return texts
}

func FuzzScanBinance(f *testing.F) { venuetest.FuzzScanner(f, Venue{}) }
