package venues

import (
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
)

const (
	bybitDelta = `{"topic":"orderbook.50.BTCUSDT","ts":1787612486196,"type":"delta","data":{"s":"BTCUSDT","b":[["78710.8","0"]],"a":[["78716.8","0"],["78717.8","0.024673"]],"u":217107087,"seq":113099229662},"cts":1787612486194}`
	bybitTrade = `{"topic":"publicTrade.BTCUSDT","ts":1706607146301,"type":"snapshot","data":[{"i":"2290000000102202106","T":1706607146299,"p":"43391.95","v":"0.000064","S":"Sell","s":"BTCUSDT","BT":false}]}`
	bybitQuote = `{"topic":"orderbook.1.BTCUSDT","ts":1787612486196,"type":"snapshot","data":{"s":"BTCUSDT","b":[["78715","1.271882"]],"a":[["78716.8","0.5"]],"u":217107087,"seq":113099229662},"cts":1787612486194}`
)

// Every branch of the decoder with the message that is its evidence; those that are
// marked are in no recording, and are as the sheet gives them. The scales are 2 and 6.
func TestBybitShapes(t *testing.T) {
	btc := event.Instrument{Symbol: "BTCUSDT", PxScale: 2, QtyScale: 6}
	with := func(s, old, new string) string { return replaceOnce(t, s, old, new) }

	delta := Message{Kind: KindDelta, Inst: 1, First: null, Seq: 217107087, SeqPrev: 217107086, TsEvent: 1787612486194e6, Hi: 3, PxScale: 2, QtyScale: 6}
	levels := []event.Level{{Px: 7871080, Side: event.Bid}, {Px: 7871680, Side: event.Ask}, {Px: 7871780, Qty: 24673, Side: event.Ask}}
	snapshot, restart, finer, of2022, no1970 := delta, delta, delta, delta, delta
	snapshot.Kind, snapshot.SeqPrev = KindSnapshot, null
	restart.Kind, restart.SeqPrev, restart.Seq = KindSnapshot, null, 1
	finer.PxScale, finer.QtyScale = 3, 7
	of2022.TsEvent, no1970.TsEvent = null, null
	empty := Message{Kind: KindDelta, Inst: 1, First: null, Seq: 217107087, SeqPrev: 217107086, TsEvent: 1787612486194e6, PxScale: 2, QtyScale: 6}

	trade := Message{Kind: KindTrade, Inst: 1, First: null, Seq: null, SeqPrev: null, TsEvent: 1706607146299e6, PxScale: 2, QtyScale: 6,
		Px: 4339195, Qty: 64, Side: event.Ask, TradeID: []byte("2290000000102202106"), TradeNum: null, TradeFirst: null}
	bought, uuid, finerTrade := trade, trade, trade
	bought.Side = event.Bid
	uuid.TradeID, uuid.Side = []byte("20f43950-d8dd-5b31-9112-a178eb6023af"), event.Bid
	uuid.Px, uuid.Qty, uuid.TsEvent = 1657850, 1000, 1672304486865e6
	finerTrade.PxScale, finerTrade.Px, finerTrade.Qty, finerTrade.TradeID = 3, 0, 64, []byte("2290000000102202107")

	quote := Message{Kind: KindQuote, Inst: 1, First: null, Seq: 217107087, SeqPrev: null, TsEvent: 1787612486194e6, PxScale: 2, QtyScale: 6,
		Px: 7871500, Qty: 1271882, AskPx: 7871680, AskQty: 500000}
	noBid, noAsk := quote, quote
	noBid.Px, noBid.Qty = 0, 0
	noAsk.AskPx, noAsk.AskQty = 0, 0

	control := Message{Kind: KindControl, Inst: -1, TsEvent: null}
	ack := Message{Kind: KindAck, Inst: -1, TsEvent: null}
	refused := Message{Kind: KindRefused, Inst: -1, TsEvent: null, Text: []byte("error:handler not found,topic:orderbook.500.BTCUSDT")}

	checkShapes(t, bybit{&bybitSpot}, btc, []shape{
		{"delta, keys in the order of spot", bybitDelta, []Message{delta}, levels},
		{"delta, keys in the order of linear, numbers padded", `{"topic":"orderbook.500.BTCUSDT","type":"delta","ts":1787612486196,"data":{"s":"BTCUSDT","b":[["78710.80","0"]],"a":[["78716.80","0"],["78717.80","0.024673"]],"u":217107087,"seq":113099229662},"cts":1787612486194}`, []Message{delta}, levels},
		{"delta without levels (sheet)", with(with(bybitDelta, `["78710.8","0"]`, ``), `["78716.8","0"],["78717.8","0.024673"]`, ``), []Message{empty}, []event.Level{}},
		{"delta finer than both scales", with(with(bybitDelta, `78710.8`, `78710.801`), `0.024673`, `0.0246731`), []Message{finer}, nil},
		{"delta of 2022, without cts (documentation of then)", with(bybitDelta, `,"cts":1787612486194`, ``), []Message{of2022}, levels},
		{"1970 is no time (sheet)", with(bybitDelta, `"cts":1787612486194`, `"cts":0`), []Message{no1970}, levels},
		{"snapshot", with(bybitDelta, `delta`, `snapshot`), []Message{snapshot}, levels},
		{"snapshot after a restart (sheet)", with(with(bybitDelta, `delta`, `snapshot`), `217107087`, `1`), []Message{restart}, levels},

		{"trade, a seller took", bybitTrade, []Message{trade}, nil},
		{"trade, a buyer took", with(bybitTrade, `Sell`, `Buy`), []Message{bought}, nil},
		{"trade of linear (sheet)", `{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1672304486868,"data":[{"T":1672304486865,"s":"BTCUSDT","S":"Buy","v":"0.001","p":"16578.50","L":"PlusTick","i":"20f43950-d8dd-5b31-9112-a178eb6023af","BT":false,"RPI":false,"seq":113099229662}]}`, []Message{uuid}, nil},
		{"two trades, one finer", with(bybitTrade, `}]}`, `},{"i":"2290000000102202107","T":1706607146299,"p":"43391.951","v":"0.000064","S":"Sell","s":"BTCUSDT","BT":false}]}`), []Message{trade, finerTrade}, nil},

		{"quote (sheet)", bybitQuote, []Message{quote}, []event.Level{}},
		{"quote without bid (sheet)", with(bybitQuote, `["78715","1.271882"]`, ``), []Message{noBid}, []event.Level{}},
		{"quote without ask (sheet)", with(bybitQuote, `["78716.8","0.5"]`, ``), []Message{noAsk}, []event.Level{}},

		{"ack of spot", `{"success":true,"ret_msg":"subscribe","conn_id":"d9avrao7pl3bpiuoku0g-7tmms","op":"subscribe"}`, []Message{ack}, nil},
		{"ack of linear, with an id that is not ours", `{"success":true,"ret_msg":"","conn_id":"92e96c71-20d9-45c6-b9b5-2bf82aedc709","req_id":"Dfa8ifhlFC","op":"subscribe"}`, []Message{ack}, nil},
		{"ack with an empty id (sheet)", `{"success":true,"ret_msg":"subscribe","conn_id":"d9avrao7pl3bpiuoku0g-7tmms","req_id":"","op":"subscribe"}`, []Message{ack}, nil},
		{"ack with an id (sheet)", `{"success":true,"ret_msg":"subscribe","conn_id":"d9avrao7pl3bpiuoku0g-7tmms","req_id":"12","op":"subscribe"}`, []Message{withID(ack, 12)}, nil},
		{"ack of unsubscribe (sheet)", `{"success":true,"ret_msg":"","conn_id":"d9avrao7pl3bpiuoku0g-7tmms","req_id":"13","op":"unsubscribe"}`, []Message{withID(ack, 13)}, nil},
		{"ack of options and spreads (sheet)", `{"success":true,"conn_id":"a","data":{"failTopics":[],"successTopics":["orderbook.50.BTCUSDT"]},"type":"COMMAND_RESP"}`, []Message{ack}, nil},
		{"refusal (sheet)", `{"success":false,"ret_msg":"error:handler not found,topic:orderbook.500.BTCUSDT","conn_id":"a","req_id":"","op":"subscribe"}`, []Message{refused}, nil},
		{"refusal with an id (sheet)", `{"success":false,"ret_msg":"error:handler not found,topic:orderbook.500.BTCUSDT","conn_id":"a","req_id":"14","op":"subscribe"}`, []Message{withID(refused, 14)}, nil},
		{"refusal of some (sheet)", `{"success":true,"conn_id":"a","data":{"failTopics":["orderbook.500.BTCUSDT","x"],"successTopics":["y"]},"type":"COMMAND_RESP"}`,
			[]Message{{Kind: KindRefused, Inst: -1, TsEvent: null, Text: []byte("orderbook.500.BTCUSDT,x")}}, nil},
		{"pong", `{"success":true,"ret_msg":"pong","conn_id":"ee7bab8f-f696-4f65-8d49-eeb93717c0b1","op":"ping"}`, []Message{control}, nil},
		{"pong with an id (sheet)", `{"success":true,"ret_msg":"pong","conn_id":"a","req_id":"1","op":"ping"}`, []Message{withID(control, 1)}, nil},
		{"pong of options (sheet)", `{"args":["1672916271846"],"op":"pong"}`, []Message{control}, nil},
	})
}

func TestBybitRejects(t *testing.T) {
	with := func(s, old, new string) string { return replaceOnce(t, s, old, new) }
	var rejects []reject
	add := func(name, frame string, want ledger.Reason, kind Kind, inst int) {
		rejects = append(rejects, reject{name, frame, want, kind, inst})
	}
	for _, c := range []struct {
		name, frame string
		want        ledger.Reason
	}{
		{"empty", ``, ledger.Malformed},
		{"no JSON", `hello`, ledger.Malformed},
		{"cut short", bybitDelta[:len(bybitDelta)-1], ledger.Malformed},
		{"an array", `[1,2]`, ledger.Malformed},
		{"nested deeply", strings.Repeat(`{"data":`, 100_000) + `1` + strings.Repeat(`}`, 100_000), ledger.Malformed},
		{"no fields", `{}`, ledger.UnknownShape},
		{"topic is a number", `{"topic":7}`, ledger.UnknownShape},
		{"topic is empty", `{"topic":""}`, ledger.UnknownShape},
		{"a topic that nobody asked for", with(bybitDelta, `orderbook.50.`, `tickers.50.`), ledger.UnknownShape},
		{"a book of no depth", with(bybitDelta, `orderbook.50.`, `orderbook.`), ledger.UnknownShape},
		{"a book of no symbol", with(bybitDelta, `orderbook.50.BTCUSDT`, `orderbook.50`), ledger.UnknownShape},
		{"a depth and a symbol of nothing", with(bybitDelta, `orderbook.50.`, `50.`), ledger.UnknownShape},
		{"the full book", with(bybitDelta, `orderbook.50.`, `orderbook.full.`), ledger.UnknownShape},
		{"the book with RPI orders", with(bybitDelta, `orderbook.50.`, `orderbook.rpi.`), ledger.UnknownShape},
		{"a depth with a leading zero", with(bybitDelta, `orderbook.50.`, `orderbook.050.`), ledger.UnknownShape},
		{"success is no boolean", `{"success":"true","op":"subscribe"}`, ledger.UnknownShape},
		{"an answer to nothing", `{"success":true,"op":"auth"}`, ledger.UnknownShape},
		{"a REST book", `{"retCode":0,"retMsg":"OK","result":{"s":"BTCUSDT","b":[],"a":[],"ts":1,"u":1,"seq":1,"cts":1},"retExtInfo":{},"time":1}`, ledger.UnknownShape},
		{"book of an unknown symbol", strings.ReplaceAll(bybitDelta, `BTCUSDT`, `ETHUSDT`), ledger.UnknownSymbol},
		{"trades of an unknown symbol", strings.ReplaceAll(bybitTrade, `BTCUSDT`, `ETHUSDT`), ledger.UnknownSymbol},
		{"symbol in the wrong case", strings.ReplaceAll(bybitDelta, `BTCUSDT`, `btcusdt`), ledger.UnknownSymbol},
	} {
		add(c.name, c.frame, c.want, 0, -1)
	}
	book := func(name, old, new string) {
		add("book, "+name, with(bybitDelta, old, new), ledger.Malformed, KindDelta, 1)
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
	add("book, px too large", with(bybitDelta, `"78710.8"`, `"92233720368547758.08"`), ledger.Overflow, KindDelta, 1)
	add("snapshot without u", with(with(bybitDelta, `delta`, `snapshot`), `"u":217107087,`, ``), ledger.Malformed, KindSnapshot, 1)

	trade := func(name, old, new string) {
		add("trade, "+name, with(bybitTrade, old, new), ledger.Malformed, KindTrade, 1)
	}
	trade("data is no list", `"data":[`, `"data":7,"x":[`)
	trade("none", `"data":[`, `"data":[],"x":[`)
	trade("of another symbol than the topic", `"s":"BTCUSDT"`, `"s":"OTHER"`)
	add("trade, of an unknown symbol and not of the topic's, which is the first", with(with(bybitTrade, `publicTrade.BTCUSDT`, `publicTrade.OTHER`), `"s":"BTCUSDT"`, `"s":"ETHUSDT"`), ledger.Malformed, KindTrade, 0)
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
	add("trade, size too large", with(bybitTrade, `"0.000064"`, `"9223372036855"`), ledger.Overflow, KindTrade, 1)

	quote := func(name, old, new string) {
		add("quote, "+name, with(bybitQuote, old, new), ledger.Malformed, KindQuote, 1)
	}
	quote("a delta", `snapshot`, `delta`)
	quote("no u", `"u":217107087,`, ``)
	quote("two bids", `["78715","1.271882"]`, `["78715","1"],["78714","1"]`)
	quote("two asks", `["78716.8","0.5"]`, `["78716.8","1"],["78717","1"]`)
	quote("no b", `"b":[["78715","1.271882"]],`, ``)
	quote("size negative", `"0.5"`, `"-0.5"`)

	checkRejects(t, bybit{&bybitSpot}, event.Instrument{Symbol: "BTCUSDT", PxScale: 2, QtyScale: 6}, rejects)
}

func FuzzBybit(f *testing.F) {
	for _, s := range []string{bybitDelta, bybitTrade, bybitQuote,
		strings.Replace(bybitDelta, "delta", "snapshot", 1), strings.Replace(bybitDelta, `,"cts":1787612486194`, ``, 1),
		strings.Replace(bybitTrade, `}]}`, `},{"i":"20f43950-d8dd","T":0,"p":"1.001","v":"5","S":"Buy","s":"BTCUSDT"}]}`, 1),
		`{"success":true,"ret_msg":"pong","req_id":"1","op":"ping"}`, `{"success":false,"ret_msg":"no","req_id":"2","op":"subscribe"}`, `{"success":true,"op":"unsubscribe"}`,
		`{"success":true,"data":{"failTopics":["a","b"],"successTopics":[]},"type":"COMMAND_RESP"}`, `{"args":["1"],"op":"pong"}`,
		`{"topic":"orderbook.200.ETHUSDT","type":"snapshot","data":{"s":"ETHUSDT","b":[["1.000000000000000001","2"]],"a":[["0.5","-0"]],"u":1}}`,
	} {
		f.Add([]byte(s), int8(2), int8(6))
		f.Add([]byte(s), int8(0), int8(18))
	}
	f.Fuzz(func(t *testing.T, frame []byte, px, qty int8) {
		fuzzVenue(t, bybit{&bybitSpot}, frame, px, qty, bybitTold)
	})
}
