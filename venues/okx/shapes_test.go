package okx

import (
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
	"deeptape/venues/venuetest"
)

const (
	updateFrame = `{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[["67761.3","0.50332964","0","17"]],"bids":[["67667.6","0.37846322","0","2"],["67657","0","0","0"]],"ts":"1717271296002","checksum":1321208631,"seqId":26828135127,"prevSeqId":26828135124}]}`
	tradeFrame  = `{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"1067468269","px":"67761.3","sz":"0.5","side":"buy","ts":"1787612486107","count":"1","source":"0","seqId":82083114838}]}`
	quoteFrame  = `{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":[{"asks":[["67761.3","0.5","0","17"]],"bids":[["67761.2","0.25","0","2"]],"ts":"1787612486107","seqId":82083114838}]}`
)

// Every branch of the decoder with the message that is its evidence; those that are
// marked are in no recording, and are as the sheet gives them. The scales are 1 and 8.
func TestOKXShapes(t *testing.T) {
	btc := event.Instrument{Symbol: "BTC-USDT", PxScale: 1, QtyScale: 8}
	with := func(s, old, new string) string { return venuetest.ReplaceOnce(t, s, old, new) }

	update := venues.Message{Kind: venues.KindDelta, Inst: 1, First: venuetest.Null, Seq: 26828135127, SeqPrev: 26828135124, TsEvent: 1717271296002e6,
		Checksum: 1321208631, HasChecksum: true, Hi: 3, PxScale: 1, QtyScale: 8}
	levels := []event.Level{{Px: 676676, Qty: 37846322, Side: event.Bid}, {Px: 676570, Side: event.Bid}, {Px: 677613, Qty: 50332964, Side: event.Ask}}
	negative, zero, none, ancient, finer := update, update, update, update, update
	negative.Checksum = 1<<32 - 1783330043
	zero.Checksum, zero.HasChecksum = 0, false
	none.Checksum, none.HasChecksum = 0, false
	ancient.Seq, ancient.SeqPrev = venuetest.Null, venuetest.Null
	finer.PxScale, finer.QtyScale = 2, 9
	snapshot := venues.Message{Kind: venues.KindSnapshot, Inst: 1, First: venuetest.Null, Seq: 80274874800, SeqPrev: -1, TsEvent: 1787612486107e6, Hi: 2, PxScale: 1, QtyScale: 8}
	keepalive := venues.Message{Kind: venues.KindDelta, Inst: 1, First: venuetest.Null, Seq: 15, SeqPrev: 15, TsEvent: 1787612486107e6, PxScale: 1, QtyScale: 8}
	reset := keepalive
	reset.Seq = 3
	const empty = `{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[],"bids":[],"ts":"1787612486107","seqId":15,"prevSeqId":15}]}`

	trade := venues.Message{Kind: venues.KindTrade, Inst: 1, First: venuetest.Null, Seq: 82083114838, SeqPrev: venuetest.Null, TsEvent: 1787612486107e6, PxScale: 1, QtyScale: 8,
		Px: 677613, Qty: 50000000, Side: event.Bid, TradeID: []byte("1067468269"), TradeNum: 1067468269, TradeFirst: 1067468269}
	joined, sold, of2024, finerTrade := trade, trade, trade, trade
	joined.TradeFirst = 1067468267
	sold.Side = event.Ask
	of2024.Seq = venuetest.Null
	finerTrade.QtyScale, finerTrade.Qty, finerTrade.TradeID, finerTrade.TradeNum, finerTrade.TradeFirst = 9, 0, []byte("1067468270"), 1067468270, 1067468270

	quote := venues.Message{Kind: venues.KindQuote, Inst: 1, First: venuetest.Null, Seq: 82083114838, SeqPrev: venuetest.Null, TsEvent: 1787612486107e6, PxScale: 1, QtyScale: 8,
		Px: 677612, Qty: 25000000, AskPx: 677613, AskQty: 50000000}
	noBid, noAsk, noSide := quote, quote, quote
	noBid.Px, noBid.Qty = 0, 0
	noAsk.AskPx, noAsk.AskQty = 0, 0
	noSide.Px, noSide.Qty, noSide.AskPx, noSide.AskQty = 0, 0, 0, 0

	ack := venues.Message{Kind: venues.KindAck, Inst: -1, TsEvent: venuetest.Null}
	refused := venues.Message{Kind: venues.KindRefused, Inst: -1, TsEvent: venuetest.Null, Text: []byte("Subscribe failed, wrong URL or channel:books,instId:NOPE-USDT doesn't exist.")}
	notice := venues.Message{Kind: venues.KindNotice, Inst: -1, TsEvent: venuetest.Null, Text: []byte("The connection will soon be closed for a service upgrade. Please reconnect.")}

	venuetest.CheckShapes(t, Venue{}, btc, []venuetest.Shape{
		{Name: "update", Frame: updateFrame, Want: []venues.Message{update}, Levels: levels},
		{Name: "update with a negative checksum", Frame: with(updateFrame, `1321208631`, `-1783330043`), Want: []venues.Message{negative}, Levels: levels},
		{Name: "update with the same checksum unsigned (sheet)", Frame: with(updateFrame, `1321208631`, `2511637253`), Want: []venues.Message{negative}, Levels: levels},
		{Name: "update with checksum 0", Frame: with(updateFrame, `1321208631`, `0`), Want: []venues.Message{zero}, Levels: levels},
		{Name: "update without checksum (sheet)", Frame: with(updateFrame, `"checksum":1321208631,`, ``), Want: []venues.Message{none}, Levels: levels},
		{Name: "update of 2022, without ids (sheet)", Frame: with(updateFrame, `,"seqId":26828135127,"prevSeqId":26828135124`, ``), Want: []venues.Message{ancient}, Levels: levels},
		{Name: "update in another order of keys, with spaces (sheet)", Frame: `{ "data" : [ {"prevSeqId":26828135124,"seqId":26828135127,"checksum":1321208631,"ts":"1717271296002","bids":[["67667.60","0.378463220"],["67657.0","0.0"]],"asks":[["67761.3","0.50332964"]]}], "action":"update","arg":{"instId":"BTC-USDT","channel":"books"}}`, Want: []venues.Message{update}, Levels: levels},
		{Name: "update finer than both scales", Frame: with(with(updateFrame, `67667.6`, `67667.61`), `0.37846322`, `0.378463221`), Want: []venues.Message{finer}, Levels: nil},
		{Name: "snapshot", Frame: `{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"snapshot","data":[{"asks":[["78722.3","0.38699412","0","10"]],"bids":[["78722.2","0.5","0","1"]],"ts":"1787612486107","checksum":0,"seqId":80274874800,"prevSeqId":-1}]}`,
			Want: []venues.Message{snapshot}, Levels: []event.Level{{Px: 787222, Qty: 50000000, Side: event.Bid}, {Px: 787223, Qty: 38699412, Side: event.Ask}}},
		{Name: "keepalive (sheet)", Frame: empty, Want: []venues.Message{keepalive}, Levels: []event.Level{}},
		{Name: "reset (sheet)", Frame: with(empty, `"seqId":15,`, `"seqId":3,`), Want: []venues.Message{reset}, Levels: []event.Level{}},
		{Name: "several in a frame (sheet)", Frame: with(empty, `"data":[`, `"data":[{"asks":[],"bids":[["1","2"]],"ts":"1787612486107","seqId":15,"prevSeqId":15},`),
			Want: []venues.Message{{Kind: venues.KindDelta, Inst: 1, First: venuetest.Null, Seq: 15, SeqPrev: 15, TsEvent: 1787612486107e6, Hi: 1, PxScale: 1, QtyScale: 8},
				{Kind: venues.KindDelta, Inst: 1, First: venuetest.Null, Seq: 15, SeqPrev: 15, TsEvent: 1787612486107e6, Lo: 1, Hi: 1, PxScale: 1, QtyScale: 8}},
			Levels: []event.Level{{Px: 10, Qty: 2e8, Side: event.Bid}}},
		{Name: "1970 is no time (sheet)", Frame: with(empty, `"1787612486107"`, `"0"`), Want: []venues.Message{{Kind: venues.KindDelta, Inst: 1, First: venuetest.Null, Seq: 15, SeqPrev: 15, TsEvent: venuetest.Null, PxScale: 1, QtyScale: 8}}, Levels: nil},

		{Name: "trade, a buyer took (sheet)", Frame: tradeFrame, Want: []venues.Message{trade}, Levels: nil},
		{Name: "trade, a seller took (sheet)", Frame: with(tradeFrame, `buy`, `sell`), Want: []venues.Message{sold}, Levels: nil},
		{Name: "trade of three fills (sheet)", Frame: with(tradeFrame, `"count":"1"`, `"count":"3"`), Want: []venues.Message{joined}, Levels: nil},
		{Name: "trade of 2024 (sheet)", Frame: with(tradeFrame, `,"source":"0","seqId":82083114838`, ``), Want: []venues.Message{of2024}, Levels: nil},
		{Name: "trade without count (sheet)", Frame: with(tradeFrame, `,"count":"1"`, ``), Want: []venues.Message{trade}, Levels: nil},
		{Name: "two trades, one finer (sheet)", Frame: with(tradeFrame, `}]}`, `},{"instId":"BTC-USDT","tradeId":"1067468270","px":"67761.3","sz":"0.500000001","side":"buy","ts":"1787612486107","count":"1","seqId":82083114838}]}`), Want: []venues.Message{trade, finerTrade}, Levels: nil},

		{Name: "quote (sheet)", Frame: quoteFrame, Want: []venues.Message{quote}, Levels: []event.Level{}},
		{Name: "quote without bid (sheet)", Frame: with(quoteFrame, `["67761.2","0.25","0","2"]`, ``), Want: []venues.Message{noBid}, Levels: []event.Level{}},
		{Name: "quote without ask (sheet)", Frame: with(quoteFrame, `["67761.3","0.5","0","17"]`, ``), Want: []venues.Message{noAsk}, Levels: []event.Level{}},
		{Name: "quote without sides (sheet)", Frame: with(with(quoteFrame, `["67761.3","0.5","0","17"]`, ``), `["67761.2","0.25","0","2"]`, ``), Want: []venues.Message{noSide}, Levels: []event.Level{}},

		{Name: "ack of 2026, without id", Frame: `{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"32f4414f"}`, Want: []venues.Message{ack}, Levels: nil},
		{Name: "ack (sheet)", Frame: `{"id":"1512","event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"32f4414f"}`, Want: []venues.Message{venuetest.WithID(ack, 1512)}, Levels: nil},
		{Name: "ack with an id that is not ours (sheet)", Frame: `{"id":"a1","event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"32f4414f"}`, Want: []venues.Message{ack}, Levels: nil},
		{Name: "ack of unsubscribe (sheet)", Frame: `{"id":"9","event":"unsubscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"32f4414f"}`, Want: []venues.Message{venuetest.WithID(ack, 9)}, Levels: nil},
		{Name: "refusal (sheet)", Frame: `{"id":"1512","event":"error","code":"60018","msg":"Subscribe failed, wrong URL or channel:books,instId:NOPE-USDT doesn't exist.","connId":"a4d3ae55"}`, Want: []venues.Message{venuetest.WithID(refused, 1512)}, Levels: nil},
		{Name: "refusal without id (sheet)", Frame: `{"event":"error","code":"60018","msg":"Subscribe failed, wrong URL or channel:books,instId:NOPE-USDT doesn't exist.","connId":"a4d3ae55"}`, Want: []venues.Message{refused}, Levels: nil},
		{Name: "notice (sheet)", Frame: `{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade. Please reconnect.","connId":"a4d3ae55"}`, Want: []venues.Message{notice}, Levels: nil},
		{Name: "pong (sheet)", Frame: `pong`, Want: []venues.Message{{Kind: venues.KindControl, Inst: -1, TsEvent: venuetest.Null}}, Levels: nil},
	})
}

func TestOKXRejects(t *testing.T) {
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
		{"ping is ours to send", `ping`, ledger.Malformed},
		{"pong as JSON", `"pong"`, ledger.Malformed},
		{"pong and more", `pong `, ledger.Malformed},
		{"cut short", updateFrame[:len(updateFrame)-1], ledger.Malformed},
		{"an array", `[1,2]`, ledger.Malformed},
		{"nested deeply", strings.Repeat(`{"data":`, 100_000) + `1` + strings.Repeat(`}`, 100_000), ledger.Malformed},
		{"no fields", `{}`, ledger.UnknownShape},
		{"arg is no object", `{"arg":7,"data":[]}`, ledger.UnknownShape},
		{"a channel that nobody asked for", with(updateFrame, `"books"`, `"books5"`), ledger.UnknownShape},
		{"an event that nobody knows", `{"event":"login","code":"0"}`, ledger.UnknownShape},
		{"a notice of something else", `{"event":"notice","code":"64009","msg":"?"}`, ledger.UnknownShape},
		{"a REST book", `{"code":"0","msg":"","data":[{"asks":[],"bids":[],"ts":"1","seqId":1}]}`, ledger.UnknownShape},
		{"unknown symbol", with(updateFrame, `BTC-USDT`, `ETH-USDT`), ledger.UnknownSymbol},
		{"symbol in the wrong case", with(updateFrame, `BTC-USDT`, `btc-usdt`), ledger.UnknownSymbol},
		{"no symbol", with(updateFrame, `,"instId":"BTC-USDT"`, ``), ledger.UnknownSymbol},
		{"trades of an unknown symbol", strings.ReplaceAll(tradeFrame, `BTC-USDT`, `ETH-USDT`), ledger.UnknownSymbol},
	} {
		add(c.name, c.frame, c.want, 0, -1)
	}
	book := func(name, old, new string) {
		add("book, "+name, with(updateFrame, old, new), ledger.Malformed, venues.KindDelta, 1)
	}
	book("no action", `"action":"update",`, ``)
	book("another action", `"update"`, `"upsert"`)
	book("data is no list", `"data":[{`, `"data":7,"x":[{`)
	book("no data", `"data":[{`, `"data":[],"x":[{`)
	book("data holds no objects", `"data":[{`, `"data":[7],"x":[{`)
	book("no ts", `"ts":"1717271296002",`, ``)
	book("ts as number", `"1717271296002"`, `1717271296002`)
	book("ts with a fraction", `"1717271296002"`, `"1717271296002.5"`)
	book("ts negative", `"1717271296002"`, `"-1"`)
	book("ts beyond 2262", `"1717271296002"`, `"9223372036855"`)
	book("ts beyond 63 bits", `"1717271296002"`, `"9223372036854775808"`)
	book("ts of 20 digits", `"1717271296002"`, `"17172712960021717271"`)
	book("no seqId", `"seqId":26828135127,`, ``)
	book("no prevSeqId", `,"prevSeqId":26828135124`, ``)
	book("seqId as text", `26828135127`, `"26828135127"`)
	book("seqId negative", `26828135127`, `-1`)
	book("prevSeqId as text", `26828135124`, `"26828135124"`)
	book("prevSeqId below -1", `26828135124`, `-2`)
	book("prevSeqId with a fraction", `26828135124`, `1.5`)
	book("checksum as text", `1321208631`, `"1321208631"`)
	book("checksum null", `1321208631`, `null`)
	book("checksum of 33 bits", `1321208631`, `4294967296`)
	book("checksum below 32 bits", `1321208631`, `-2147483649`)
	book("no asks", `"asks":[["67761.3","0.50332964","0","17"]],`, ``)
	book("no bids", `"bids":[["67667.6","0.37846322","0","2"],["67657","0","0","0"]],`, ``)
	book("a level that is no list", `["67761.3","0.50332964","0","17"]`, `"67761.3"`)
	book("a level without size", `"67761.3","0.50332964","0","17"`, `"67761.3"`)
	book("px as number", `"67761.3"`, `67761.3`)
	book("px with an exponent", `"67761.3"`, `"6.77e4"`)
	book("size negative", `"0.50332964"`, `"-0.50332964"`)
	add("book, px too large", with(updateFrame, `"67761.3"`, `"922337203685477581"`), ledger.Overflow, venues.KindDelta, 1)
	add("snapshot without ts", with(with(updateFrame, `update`, `snapshot`), `"ts":"1717271296002",`, ``), ledger.Malformed, venues.KindSnapshot, 1)
	add("book, the second of two is bad", with(updateFrame, `}]}`, `},{"asks":[],"bids":[],"ts":"1","seqId":1}]}`), ledger.Malformed, venues.KindDelta, 1)

	trade := func(name, old, new string) {
		add("trade, "+name, with(tradeFrame, old, new), ledger.Malformed, venues.KindTrade, 1)
	}
	trade("of another instrument than arg", `{"instId":"BTC-USDT","t`, `{"instId":"OTHER","t`)
	trade("of an unknown instrument", `{"instId":"BTC-USDT","t`, `{"instId":"ETH-USDT","t`)
	add("trade, of an unknown instrument and not of arg's, which is the first", with(with(tradeFrame, `"instId":"BTC-USDT"}`, `"instId":"OTHER"}`), `{"instId":"BTC-USDT","t`, `{"instId":"ETH-USDT","t`), ledger.Malformed, venues.KindTrade, 0)
	trade("no instId", `{"instId":"BTC-USDT","t`, `{"t`)
	trade("no id", `"tradeId":"1067468269",`, ``)
	trade("id as number", `"1067468269"`, `1067468269`)
	trade("id is no number", `"1067468269"`, `"a"`)
	trade("id empty", `"1067468269"`, `""`)
	trade("id with a leading zero", `"1067468269"`, `"01067468269"`)
	trade("id too large", `"1067468269"`, `"9223372036854775808"`)
	trade("no side", `"side":"buy",`, ``)
	trade("side in the wrong case", `"buy"`, `"Buy"`)
	trade("no ts", `"ts":"1787612486107",`, ``)
	trade("count 0", `"count":"1"`, `"count":"0"`)
	trade("count as number", `"count":"1"`, `"count":1`)
	trade("count greater than the id", `"count":"1"`, `"count":"1067468271"`)
	trade("count too large", `"count":"1"`, `"count":"9223372036854775807"`)
	trade("seqId as text", `82083114838`, `"82083114838"`)
	trade("no px", `"px":"67761.3",`, ``)
	trade("px as number", `"67761.3"`, `67761.3`)
	trade("no size", `"sz":"0.5",`, ``)
	trade("size negative", `"0.5"`, `"-0.5"`)
	add("trade, size too large", with(tradeFrame, `"0.5"`, `"92233720368548"`), ledger.Overflow, venues.KindTrade, 1)
	add("trades, none", with(tradeFrame, `"data":[{`, `"data":[],"x":[{`), ledger.Malformed, venues.KindTrade, 1)
	add("trades, the second is bad", with(tradeFrame, `}]}`, `},{"instId":"BTC-USDT"}]}`), ledger.Malformed, venues.KindTrade, 1)

	quote := func(name, old, new string) {
		add("quote, "+name, with(quoteFrame, old, new), ledger.Malformed, venues.KindQuote, 1)
	}
	quote("no ts", `"ts":"1787612486107",`, ``)
	quote("seqId as text", `82083114838`, `"82083114838"`)
	quote("two bids", `["67761.2","0.25","0","2"]`, `["67761.2","0.25"],["67761.1","0.25"]`)
	quote("two asks", `["67761.3","0.5","0","17"]`, `["67761.3","0.5"],["67761.4","0.25"]`)
	quote("no bids", `"bids":[["67761.2","0.25","0","2"]],`, ``)
	quote("px as number", `"67761.2"`, `67761.2`)
	quote("size negative", `"0.25"`, `"-0.25"`)

	venuetest.CheckRejects(t, Venue{}, event.Instrument{Symbol: "BTC-USDT", PxScale: 1, QtyScale: 8}, rejects)
}

func FuzzOKX(f *testing.F) {
	for _, s := range []string{updateFrame, tradeFrame, quoteFrame, `pong`,
		strings.Replace(updateFrame, "update", "snapshot", 1), strings.Replace(tradeFrame, `"count":"1"`, `"count":"3"`, 1),
		strings.Replace(updateFrame, `1321208631`, `-1783330043`, 1), strings.Replace(updateFrame, `,"seqId":26828135127,"prevSeqId":26828135124`, ``, 1),
		`{"id":"1512","event":"error","code":"60018","msg":"no","connId":"a"}`, `{"event":"notice","code":"64008","msg":"soon"}`,
		`{"id":"7","event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"}}`,
		`{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[["1.000000000000000001","2"]],"bids":[["0.5","-0"]],"ts":"0","seqId":3,"prevSeqId":15},{}]}`,
	} {
		f.Add([]byte(s), int8(1), int8(8))
		f.Add([]byte(s), int8(0), int8(18))
	}
	f.Fuzz(func(t *testing.T, frame []byte, px, qty int8) { venuetest.FuzzVenue(t, Venue{}, frame, px, qty, told) })
}

func FuzzScanOKX(f *testing.F) { venuetest.FuzzScanner(f, Venue{}) }
