package bybit

import (
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
	"deeptape/venues/venuetest"
)

const (
	deltaFrame = `{"topic":"orderbook.50.BTCUSDT","ts":1787612486196,"type":"delta","data":{"s":"BTCUSDT","b":[["78710.8","0"]],"a":[["78716.8","0"],["78717.8","0.024673"]],"u":217107087,"seq":113099229662},"cts":1787612486194}`
	tradeFrame = `{"topic":"publicTrade.BTCUSDT","ts":1706607146301,"type":"snapshot","data":[{"i":"2290000000102202106","T":1706607146299,"p":"43391.95","v":"0.000064","S":"Sell","s":"BTCUSDT","BT":false}]}`
	quoteFrame = `{"topic":"orderbook.1.BTCUSDT","ts":1787612486196,"type":"snapshot","data":{"s":"BTCUSDT","b":[["78715","1.271882"]],"a":[["78716.8","0.5"]],"u":217107087,"seq":113099229662},"cts":1787612486194}`
)

// Every branch of the decoder with the message that is its evidence; those that are
// marked are in no recording, and are as the sheet gives them. The scales are 2 and 6.
func TestBybitShapes(t *testing.T) {
	btc := event.Instrument{Symbol: "BTCUSDT", PxScale: 2, QtyScale: 6}
	with := func(s, old, new string) string { return venuetest.ReplaceOnce(t, s, old, new) }

	delta := venues.Message{Kind: venues.KindDelta, Inst: 1, First: venuetest.Null, Seq: 217107087, SeqPrev: 217107086, TsEvent: 1787612486194e6, Hi: 3, PxScale: 2, QtyScale: 6}
	levels := []event.Level{{Px: 7871080, Side: event.Bid}, {Px: 7871680, Side: event.Ask}, {Px: 7871780, Qty: 24673, Side: event.Ask}}
	snapshot, restart, finer, of2022, no1970 := delta, delta, delta, delta, delta
	snapshot.Kind, snapshot.SeqPrev = venues.KindSnapshot, venuetest.Null
	restart.Kind, restart.SeqPrev, restart.Seq = venues.KindSnapshot, venuetest.Null, 1
	finer.PxScale, finer.QtyScale = 3, 7
	of2022.TsEvent, no1970.TsEvent = venuetest.Null, venuetest.Null
	empty := venues.Message{Kind: venues.KindDelta, Inst: 1, First: venuetest.Null, Seq: 217107087, SeqPrev: 217107086, TsEvent: 1787612486194e6, PxScale: 2, QtyScale: 6}

	trade := venues.Message{Kind: venues.KindTrade, Inst: 1, First: venuetest.Null, Seq: venuetest.Null, SeqPrev: venuetest.Null, TsEvent: 1706607146299e6, PxScale: 2, QtyScale: 6,
		Px: 4339195, Qty: 64, Side: event.Ask, TradeID: []byte("2290000000102202106"), TradeNum: venuetest.Null, TradeFirst: venuetest.Null}
	bought, uuid, finerTrade := trade, trade, trade
	bought.Side = event.Bid
	uuid.TradeID, uuid.Side = []byte("20f43950-d8dd-5b31-9112-a178eb6023af"), event.Bid
	uuid.Px, uuid.Qty, uuid.TsEvent = 1657850, 1000, 1672304486865e6
	finerTrade.PxScale, finerTrade.Px, finerTrade.Qty, finerTrade.TradeID = 3, 0, 64, []byte("2290000000102202107")

	quote := venues.Message{Kind: venues.KindQuote, Inst: 1, First: venuetest.Null, Seq: 217107087, SeqPrev: venuetest.Null, TsEvent: 1787612486194e6, PxScale: 2, QtyScale: 6,
		Px: 7871500, Qty: 1271882, AskPx: 7871680, AskQty: 500000}
	noBid, noAsk := quote, quote
	noBid.Px, noBid.Qty = 0, 0
	noAsk.AskPx, noAsk.AskQty = 0, 0

	control := venues.Message{Kind: venues.KindControl, Inst: -1, TsEvent: venuetest.Null}
	ack := venues.Message{Kind: venues.KindAck, Inst: -1, TsEvent: venuetest.Null}
	refused := venues.Message{Kind: venues.KindRefused, Inst: -1, TsEvent: venuetest.Null, Text: []byte("error:handler not found,topic:orderbook.500.BTCUSDT")}

	venuetest.CheckShapes(t, Spot, btc, []venuetest.Shape{
		{Name: "delta, keys in the order of spot", Frame: deltaFrame, Want: []venues.Message{delta}, Levels: levels},
		{Name: "delta, keys in the order of linear, numbers padded", Frame: `{"topic":"orderbook.500.BTCUSDT","type":"delta","ts":1787612486196,"data":{"s":"BTCUSDT","b":[["78710.80","0"]],"a":[["78716.80","0"],["78717.80","0.024673"]],"u":217107087,"seq":113099229662},"cts":1787612486194}`, Want: []venues.Message{delta}, Levels: levels},
		{Name: "delta without levels (sheet)", Frame: with(with(deltaFrame, `["78710.8","0"]`, ``), `["78716.8","0"],["78717.8","0.024673"]`, ``), Want: []venues.Message{empty}, Levels: []event.Level{}},
		{Name: "delta finer than both scales", Frame: with(with(deltaFrame, `78710.8`, `78710.801`), `0.024673`, `0.0246731`), Want: []venues.Message{finer}, Levels: nil},
		{Name: "delta of 2022, without cts (documentation of then)", Frame: with(deltaFrame, `,"cts":1787612486194`, ``), Want: []venues.Message{of2022}, Levels: levels},
		{Name: "1970 is no time (sheet)", Frame: with(deltaFrame, `"cts":1787612486194`, `"cts":0`), Want: []venues.Message{no1970}, Levels: levels},
		{Name: "snapshot", Frame: with(deltaFrame, `delta`, `snapshot`), Want: []venues.Message{snapshot}, Levels: levels},
		{Name: "snapshot after a restart (sheet)", Frame: with(with(deltaFrame, `delta`, `snapshot`), `217107087`, `1`), Want: []venues.Message{restart}, Levels: levels},

		{Name: "trade, a seller took", Frame: tradeFrame, Want: []venues.Message{trade}, Levels: nil},
		{Name: "trade, a buyer took", Frame: with(tradeFrame, `Sell`, `Buy`), Want: []venues.Message{bought}, Levels: nil},
		{Name: "trade of linear (sheet)", Frame: `{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1672304486868,"data":[{"T":1672304486865,"s":"BTCUSDT","S":"Buy","v":"0.001","p":"16578.50","L":"PlusTick","i":"20f43950-d8dd-5b31-9112-a178eb6023af","BT":false,"RPI":false,"seq":113099229662}]}`, Want: []venues.Message{uuid}, Levels: nil},
		{Name: "two trades, one finer", Frame: with(tradeFrame, `}]}`, `},{"i":"2290000000102202107","T":1706607146299,"p":"43391.951","v":"0.000064","S":"Sell","s":"BTCUSDT","BT":false}]}`), Want: []venues.Message{trade, finerTrade}, Levels: nil},

		{Name: "quote (sheet)", Frame: quoteFrame, Want: []venues.Message{quote}, Levels: []event.Level{}},
		{Name: "quote without bid (sheet)", Frame: with(quoteFrame, `["78715","1.271882"]`, ``), Want: []venues.Message{noBid}, Levels: []event.Level{}},
		{Name: "quote without ask (sheet)", Frame: with(quoteFrame, `["78716.8","0.5"]`, ``), Want: []venues.Message{noAsk}, Levels: []event.Level{}},

		{Name: "ack of spot", Frame: `{"success":true,"ret_msg":"subscribe","conn_id":"d9avrao7pl3bpiuoku0g-7tmms","op":"subscribe"}`, Want: []venues.Message{ack}, Levels: nil},
		{Name: "ack of linear, with an id that is not ours", Frame: `{"success":true,"ret_msg":"","conn_id":"92e96c71-20d9-45c6-b9b5-2bf82aedc709","req_id":"Dfa8ifhlFC","op":"subscribe"}`, Want: []venues.Message{ack}, Levels: nil},
		{Name: "ack with an empty id (sheet)", Frame: `{"success":true,"ret_msg":"subscribe","conn_id":"d9avrao7pl3bpiuoku0g-7tmms","req_id":"","op":"subscribe"}`, Want: []venues.Message{ack}, Levels: nil},
		{Name: "ack with an id (sheet)", Frame: `{"success":true,"ret_msg":"subscribe","conn_id":"d9avrao7pl3bpiuoku0g-7tmms","req_id":"12","op":"subscribe"}`, Want: []venues.Message{venuetest.WithID(ack, 12)}, Levels: nil},
		{Name: "ack of unsubscribe (sheet)", Frame: `{"success":true,"ret_msg":"","conn_id":"d9avrao7pl3bpiuoku0g-7tmms","req_id":"13","op":"unsubscribe"}`, Want: []venues.Message{venuetest.WithID(ack, 13)}, Levels: nil},
		{Name: "ack of options and spreads (sheet)", Frame: `{"success":true,"conn_id":"a","data":{"failTopics":[],"successTopics":["orderbook.50.BTCUSDT"]},"type":"COMMAND_RESP"}`, Want: []venues.Message{ack}, Levels: nil},
		{Name: "refusal (sheet)", Frame: `{"success":false,"ret_msg":"error:handler not found,topic:orderbook.500.BTCUSDT","conn_id":"a","req_id":"","op":"subscribe"}`, Want: []venues.Message{refused}, Levels: nil},
		{Name: "refusal with an id (sheet)", Frame: `{"success":false,"ret_msg":"error:handler not found,topic:orderbook.500.BTCUSDT","conn_id":"a","req_id":"14","op":"subscribe"}`, Want: []venues.Message{venuetest.WithID(refused, 14)}, Levels: nil},
		{Name: "refusal of some (sheet)", Frame: `{"success":true,"conn_id":"a","data":{"failTopics":["orderbook.500.BTCUSDT","x"],"successTopics":["y"]},"type":"COMMAND_RESP"}`,
			Want: []venues.Message{{Kind: venues.KindRefused, Inst: -1, TsEvent: venuetest.Null, Text: []byte("orderbook.500.BTCUSDT,x")}}, Levels: nil},
		{Name: "pong", Frame: `{"success":true,"ret_msg":"pong","conn_id":"ee7bab8f-f696-4f65-8d49-eeb93717c0b1","op":"ping"}`, Want: []venues.Message{control}, Levels: nil},
		{Name: "pong with an id (sheet)", Frame: `{"success":true,"ret_msg":"pong","conn_id":"a","req_id":"1","op":"ping"}`, Want: []venues.Message{venuetest.WithID(control, 1)}, Levels: nil},
		{Name: "pong of options (sheet)", Frame: `{"args":["1672916271846"],"op":"pong"}`, Want: []venues.Message{control}, Levels: nil},
	})
}

func TestBybitRejects(t *testing.T) {
	with := func(s, old, new string) string { return venuetest.ReplaceOnce(t, s, old, new) }
	var rejects []venuetest.Reject
	add := func(name, frame string, want ledger.Reason, kind venues.Kind, inst int) {
		rejects = append(rejects, venuetest.Reject{Name: name, Frame: frame, Want: want, Kind: kind, Inst: inst})
	}
	for _, c := range []struct {
		name, frame string
		want        ledger.Reason
	}{
		{"empty", ``, ledger.Malformed},
		{"no JSON", `hello`, ledger.Malformed},
		{"cut short", deltaFrame[:len(deltaFrame)-1], ledger.Malformed},
		{"an array", `[1,2]`, ledger.Malformed},
		{"nested deeply", strings.Repeat(`{"data":`, 100_000) + `1` + strings.Repeat(`}`, 100_000), ledger.Malformed},
		{"no fields", `{}`, ledger.UnknownShape},
		{"topic is a number", `{"topic":7}`, ledger.UnknownShape},
		{"topic is empty", `{"topic":""}`, ledger.UnknownShape},
		{"a topic that nobody asked for", with(deltaFrame, `orderbook.50.`, `tickers.50.`), ledger.UnknownShape},
		{"a book of no depth", with(deltaFrame, `orderbook.50.`, `orderbook.`), ledger.UnknownShape},
		{"a book of no symbol", with(deltaFrame, `orderbook.50.BTCUSDT`, `orderbook.50`), ledger.UnknownShape},
		{"a depth and a symbol of nothing", with(deltaFrame, `orderbook.50.`, `50.`), ledger.UnknownShape},
		{"the full book", with(deltaFrame, `orderbook.50.`, `orderbook.full.`), ledger.UnknownShape},
		{"the book with RPI orders", with(deltaFrame, `orderbook.50.`, `orderbook.rpi.`), ledger.UnknownShape},
		{"a depth with a leading zero", with(deltaFrame, `orderbook.50.`, `orderbook.050.`), ledger.UnknownShape},
		{"success is no boolean", `{"success":"true","op":"subscribe"}`, ledger.UnknownShape},
		{"an answer to nothing", `{"success":true,"op":"auth"}`, ledger.UnknownShape},
		{"a REST book", `{"retCode":0,"retMsg":"OK","result":{"s":"BTCUSDT","b":[],"a":[],"ts":1,"u":1,"seq":1,"cts":1},"retExtInfo":{},"time":1}`, ledger.UnknownShape},
		{"book of an unknown symbol", strings.ReplaceAll(deltaFrame, `BTCUSDT`, `ETHUSDT`), ledger.UnknownSymbol},
		{"trades of an unknown symbol", strings.ReplaceAll(tradeFrame, `BTCUSDT`, `ETHUSDT`), ledger.UnknownSymbol},
		{"symbol in the wrong case", strings.ReplaceAll(deltaFrame, `BTCUSDT`, `btcusdt`), ledger.UnknownSymbol},
	} {
		add(c.name, c.frame, c.want, 0, -1)
	}
	book := func(name, old, new string) {
		add("book, "+name, with(deltaFrame, old, new), ledger.Malformed, venues.KindDelta, 1)
	}
	book("no type", `"type":"delta",`, ``)
	book("another type", `delta`, `update`)
	book("no data", `"data":`, `"x":`)
	book("of another symbol than the topic", `"s":"BTCUSDT"`, `"s":"OTHER"`)
	book("no symbol", `"s":"BTCUSDT",`, ``)
	book("no u", `"u":217107087,`, ``)
	book("u as text", `217107087`, `"217107087"`)
	book("u negative", `217107087`, `-1`)
	book("u with a fraction", `217107087`, `1.5`)
	book("u too large", `217107087`, `9223372036854775808`)
	book("cts as text", `1787612486194`, `"1787612486194"`)
	book("cts negative", `1787612486194`, `-1`)
	book("cts beyond 2262", `1787612486194`, `9223372036855`)
	book("no b", `"b":[["78710.8","0"]],`, ``)
	book("no a", `"a":[["78716.8","0"],["78717.8","0.024673"]],`, ``)
	book("b is no list", `[["78710.8","0"]]`, `{}`)
	book("a level that is no list", `["78710.8","0"]`, `"78710.8"`)
	book("a level without size", `["78710.8","0"]`, `["78710.8"]`)
	book("px as number", `"78710.8"`, `78710.8`)
	book("px with an exponent", `"78710.8"`, `"7.8e4"`)
	book("size negative", `"0.024673"`, `"-0.024673"`)
	add("book, px too large", with(deltaFrame, `"78710.8"`, `"92233720368547758.08"`), ledger.Overflow, venues.KindDelta, 1)
	add("snapshot without u", with(with(deltaFrame, `delta`, `snapshot`), `"u":217107087,`, ``), ledger.Malformed, venues.KindSnapshot, 1)

	trade := func(name, old, new string) {
		add("trade, "+name, with(tradeFrame, old, new), ledger.Malformed, venues.KindTrade, 1)
	}
	trade("data is no list", `"data":[`, `"data":7,"x":[`)
	trade("none", `"data":[`, `"data":[],"x":[`)
	trade("of another symbol than the topic", `"s":"BTCUSDT"`, `"s":"OTHER"`)
	add("trade, of an unknown symbol and not of the topic's, which is the first", with(with(tradeFrame, `publicTrade.BTCUSDT`, `publicTrade.OTHER`), `"s":"BTCUSDT"`, `"s":"ETHUSDT"`), ledger.Malformed, venues.KindTrade, 0)
	trade("no id", `"i":"2290000000102202106",`, ``)
	trade("id empty", `"2290000000102202106"`, `""`)
	trade("id as number", `"2290000000102202106"`, `2290000000102202106`)
	trade("id too long", `2290000000102202106`, strings.Repeat("1", 65))
	trade("no time", `"T":1706607146299,`, ``)
	trade("time as text", `1706607146299`, `"1706607146299"`)
	trade("no side", `"S":"Sell",`, ``)
	trade("side in the wrong case", `Sell`, `sell`)
	trade("no px", `"p":"43391.95",`, ``)
	trade("px as number", `"43391.95"`, `43391.95`)
	trade("no size", `"v":"0.000064",`, ``)
	trade("size negative", `"0.000064"`, `"-0.000064"`)
	trade("the second is bad", `}]}`, `},{"s":"BTCUSDT"}]}`)
	add("trade, size too large", with(tradeFrame, `"0.000064"`, `"9223372036855"`), ledger.Overflow, venues.KindTrade, 1)

	quote := func(name, old, new string) {
		add("quote, "+name, with(quoteFrame, old, new), ledger.Malformed, venues.KindQuote, 1)
	}
	quote("a delta", `snapshot`, `delta`)
	quote("no u", `"u":217107087,`, ``)
	quote("two bids", `["78715","1.271882"]`, `["78715","1"],["78714","1"]`)
	quote("two asks", `["78716.8","0.5"]`, `["78716.8","1"],["78717","1"]`)
	quote("no b", `"b":[["78715","1.271882"]],`, ``)
	quote("size negative", `"0.5"`, `"-0.5"`)

	venuetest.CheckRejects(t, Spot, event.Instrument{Symbol: "BTCUSDT", PxScale: 2, QtyScale: 6}, rejects)
}

func FuzzBybit(f *testing.F) {
	for _, s := range []string{deltaFrame, tradeFrame, quoteFrame,
		strings.Replace(deltaFrame, "delta", "snapshot", 1), strings.Replace(deltaFrame, `,"cts":1787612486194`, ``, 1),
		strings.Replace(tradeFrame, `}]}`, `},{"i":"20f43950-d8dd","T":0,"p":"1.001","v":"5","S":"Buy","s":"BTCUSDT"}]}`, 1),
		`{"success":true,"ret_msg":"pong","req_id":"1","op":"ping"}`, `{"success":false,"ret_msg":"no","req_id":"2","op":"subscribe"}`, `{"success":true,"op":"unsubscribe"}`,
		`{"success":true,"data":{"failTopics":["a","b"],"successTopics":[]},"type":"COMMAND_RESP"}`, `{"args":["1"],"op":"pong"}`,
		`{"topic":"orderbook.200.ETHUSDT","type":"snapshot","data":{"s":"ETHUSDT","b":[["1.000000000000000001","2"]],"a":[["0.5","-0"]],"u":1}}`,
	} {
		f.Add([]byte(s), int8(2), int8(6))
		f.Add([]byte(s), int8(0), int8(18))
	}
	f.Fuzz(func(t *testing.T, frame []byte, px, qty int8) {
		venuetest.FuzzVenue(t, Spot, frame, px, qty, told)
	})
}

func FuzzScanBybit(f *testing.F) { venuetest.FuzzScanner(f, Spot, Linear) }
