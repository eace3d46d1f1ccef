package venues

import (
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
)

const (
	okxUpdate = `{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[["67761.3","0.50332964","0","17"]],"bids":[["67667.6","0.37846322","0","2"],["67657","0","0","0"]],"ts":"1717271296002","checksum":1321208631,"seqId":26828135127,"prevSeqId":26828135124}]}`
	okxTrade  = `{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"1067468269","px":"67761.3","sz":"0.5","side":"buy","ts":"1787612486107","count":"1","source":"0","seqId":82083114838}]}`
	okxQuote  = `{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":[{"asks":[["67761.3","0.5","0","17"]],"bids":[["67761.2","0.25","0","2"]],"ts":"1787612486107","seqId":82083114838}]}`
)

// Every branch of the decoder with the message that is its evidence; those that are
// marked are in no recording, and are as the sheet gives them. The scales are 1 and 8.
func TestOKXShapes(t *testing.T) {
	btc := event.Instrument{Symbol: "BTC-USDT", PxScale: 1, QtyScale: 8}
	with := func(s, old, new string) string { return replaceOnce(t, s, old, new) }

	update := Message{Kind: KindDelta, Inst: 1, First: null, Seq: 26828135127, SeqPrev: 26828135124, TsEvent: 1717271296002e6,
		Checksum: 1321208631, HasChecksum: true, Hi: 3, PxScale: 1, QtyScale: 8}
	levels := []event.Level{{Px: 676676, Qty: 37846322, Side: event.Bid}, {Px: 676570, Side: event.Bid}, {Px: 677613, Qty: 50332964, Side: event.Ask}}
	negative, zero, none, ancient, finer := update, update, update, update, update
	negative.Checksum = 1<<32 - 1783330043
	zero.Checksum, zero.HasChecksum = 0, false
	none.Checksum, none.HasChecksum = 0, false
	ancient.Seq, ancient.SeqPrev = null, null
	finer.PxScale, finer.QtyScale = 2, 9
	snapshot := Message{Kind: KindSnapshot, Inst: 1, First: null, Seq: 80274874800, SeqPrev: -1, TsEvent: 1787612486107e6, Hi: 2, PxScale: 1, QtyScale: 8}
	keepalive := Message{Kind: KindDelta, Inst: 1, First: null, Seq: 15, SeqPrev: 15, TsEvent: 1787612486107e6, PxScale: 1, QtyScale: 8}
	reset := keepalive
	reset.Seq = 3
	const empty = `{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[],"bids":[],"ts":"1787612486107","seqId":15,"prevSeqId":15}]}`

	trade := Message{Kind: KindTrade, Inst: 1, First: null, Seq: 82083114838, SeqPrev: null, TsEvent: 1787612486107e6, PxScale: 1, QtyScale: 8,
		Px: 677613, Qty: 50000000, Side: event.Bid, TradeID: []byte("1067468269"), TradeNum: 1067468269, TradeFirst: 1067468269}
	joined, sold, of2024, finerTrade := trade, trade, trade, trade
	joined.TradeFirst = 1067468267
	sold.Side = event.Ask
	of2024.Seq = null
	finerTrade.QtyScale, finerTrade.Qty, finerTrade.TradeID, finerTrade.TradeNum, finerTrade.TradeFirst = 9, 0, []byte("1067468270"), 1067468270, 1067468270

	quote := Message{Kind: KindQuote, Inst: 1, First: null, Seq: 82083114838, SeqPrev: null, TsEvent: 1787612486107e6, PxScale: 1, QtyScale: 8,
		Px: 677612, Qty: 25000000, AskPx: 677613, AskQty: 50000000}
	noBid, noAsk, noSide := quote, quote, quote
	noBid.Px, noBid.Qty = 0, 0
	noAsk.AskPx, noAsk.AskQty = 0, 0
	noSide.Px, noSide.Qty, noSide.AskPx, noSide.AskQty = 0, 0, 0, 0

	ack := Message{Kind: KindAck, Inst: -1, TsEvent: null}
	refused := Message{Kind: KindRefused, Inst: -1, TsEvent: null, Text: []byte("Subscribe failed, wrong URL or channel:books,instId:NOPE-USDT doesn't exist.")}
	notice := Message{Kind: KindNotice, Inst: -1, TsEvent: null, Text: []byte("The connection will soon be closed for a service upgrade. Please reconnect.")}

	checkShapes(t, okx{}, btc, []shape{
		{"update", okxUpdate, []Message{update}, levels},
		{"update with a negative checksum", with(okxUpdate, `1321208631`, `-1783330043`), []Message{negative}, levels},
		{"update with the same checksum unsigned (sheet)", with(okxUpdate, `1321208631`, `2511637253`), []Message{negative}, levels},
		{"update with checksum 0", with(okxUpdate, `1321208631`, `0`), []Message{zero}, levels},
		{"update without checksum (sheet)", with(okxUpdate, `"checksum":1321208631,`, ``), []Message{none}, levels},
		{"update of 2022, without ids (sheet)", with(okxUpdate, `,"seqId":26828135127,"prevSeqId":26828135124`, ``), []Message{ancient}, levels},
		{"update in another order of keys, with spaces (sheet)", `{ "data" : [ {"prevSeqId":26828135124,"seqId":26828135127,"checksum":1321208631,"ts":"1717271296002","bids":[["67667.60","0.378463220"],["67657.0","0.0"]],"asks":[["67761.3","0.50332964"]]}], "action":"update","arg":{"instId":"BTC-USDT","channel":"books"}}`, []Message{update}, levels},
		{"update finer than both scales", with(with(okxUpdate, `67667.6`, `67667.61`), `0.37846322`, `0.378463221`), []Message{finer}, nil},
		{"snapshot", `{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"snapshot","data":[{"asks":[["78722.3","0.38699412","0","10"]],"bids":[["78722.2","0.5","0","1"]],"ts":"1787612486107","checksum":0,"seqId":80274874800,"prevSeqId":-1}]}`,
			[]Message{snapshot}, []event.Level{{Px: 787222, Qty: 50000000, Side: event.Bid}, {Px: 787223, Qty: 38699412, Side: event.Ask}}},
		{"keepalive (sheet)", empty, []Message{keepalive}, []event.Level{}},
		{"reset (sheet)", with(empty, `"seqId":15,`, `"seqId":3,`), []Message{reset}, []event.Level{}},
		{"several in a frame (sheet)", with(empty, `"data":[`, `"data":[{"asks":[],"bids":[["1","2"]],"ts":"1787612486107","seqId":15,"prevSeqId":15},`),
			[]Message{{Kind: KindDelta, Inst: 1, First: null, Seq: 15, SeqPrev: 15, TsEvent: 1787612486107e6, Hi: 1, PxScale: 1, QtyScale: 8},
				{Kind: KindDelta, Inst: 1, First: null, Seq: 15, SeqPrev: 15, TsEvent: 1787612486107e6, Lo: 1, Hi: 1, PxScale: 1, QtyScale: 8}},
			[]event.Level{{Px: 10, Qty: 2e8, Side: event.Bid}}},
		{"1970 is no time (sheet)", with(empty, `"1787612486107"`, `"0"`), []Message{{Kind: KindDelta, Inst: 1, First: null, Seq: 15, SeqPrev: 15, TsEvent: null, PxScale: 1, QtyScale: 8}}, nil},

		{"trade, a buyer took (sheet)", okxTrade, []Message{trade}, nil},
		{"trade, a seller took (sheet)", with(okxTrade, `buy`, `sell`), []Message{sold}, nil},
		{"trade of three fills (sheet)", with(okxTrade, `"count":"1"`, `"count":"3"`), []Message{joined}, nil},
		{"trade of 2024 (sheet)", with(okxTrade, `,"source":"0","seqId":82083114838`, ``), []Message{of2024}, nil},
		{"trade without count (sheet)", with(okxTrade, `,"count":"1"`, ``), []Message{trade}, nil},
		{"two trades, one finer (sheet)", with(okxTrade, `}]}`, `},{"instId":"BTC-USDT","tradeId":"1067468270","px":"67761.3","sz":"0.500000001","side":"buy","ts":"1787612486107","count":"1","seqId":82083114838}]}`), []Message{trade, finerTrade}, nil},

		{"quote (sheet)", okxQuote, []Message{quote}, []event.Level{}},
		{"quote without bid (sheet)", with(okxQuote, `["67761.2","0.25","0","2"]`, ``), []Message{noBid}, []event.Level{}},
		{"quote without ask (sheet)", with(okxQuote, `["67761.3","0.5","0","17"]`, ``), []Message{noAsk}, []event.Level{}},
		{"quote without sides (sheet)", with(with(okxQuote, `["67761.3","0.5","0","17"]`, ``), `["67761.2","0.25","0","2"]`, ``), []Message{noSide}, []event.Level{}},

		{"ack of 2026, without id", `{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"32f4414f"}`, []Message{ack}, nil},
		{"ack (sheet)", `{"id":"1512","event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"32f4414f"}`, []Message{withID(ack, 1512)}, nil},
		{"ack with an id that is not ours (sheet)", `{"id":"a1","event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"32f4414f"}`, []Message{ack}, nil},
		{"ack of unsubscribe (sheet)", `{"id":"9","event":"unsubscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"32f4414f"}`, []Message{withID(ack, 9)}, nil},
		{"refusal (sheet)", `{"id":"1512","event":"error","code":"60018","msg":"Subscribe failed, wrong URL or channel:books,instId:NOPE-USDT doesn't exist.","connId":"a4d3ae55"}`, []Message{withID(refused, 1512)}, nil},
		{"refusal without id (sheet)", `{"event":"error","code":"60018","msg":"Subscribe failed, wrong URL or channel:books,instId:NOPE-USDT doesn't exist.","connId":"a4d3ae55"}`, []Message{refused}, nil},
		{"notice (sheet)", `{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade. Please reconnect.","connId":"a4d3ae55"}`, []Message{notice}, nil},
		{"pong (sheet)", `pong`, []Message{{Kind: KindControl, Inst: -1, TsEvent: null}}, nil},
	})
}

func TestOKXRejects(t *testing.T) {
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
		{"ping is ours to send", `ping`, ledger.Malformed},
		{"pong as JSON", `"pong"`, ledger.Malformed},
		{"pong and more", `pong `, ledger.Malformed},
		{"cut short", okxUpdate[:len(okxUpdate)-1], ledger.Malformed},
		{"an array", `[1,2]`, ledger.Malformed},
		{"nested deeply", strings.Repeat(`{"data":`, 100_000) + `1` + strings.Repeat(`}`, 100_000), ledger.Malformed},
		{"no fields", `{}`, ledger.UnknownShape},
		{"arg is no object", `{"arg":7,"data":[]}`, ledger.UnknownShape},
		{"a channel that nobody asked for", with(okxUpdate, `"books"`, `"books5"`), ledger.UnknownShape},
		{"an event that nobody knows", `{"event":"login","code":"0"}`, ledger.UnknownShape},
		{"a notice of something else", `{"event":"notice","code":"64009","msg":"?"}`, ledger.UnknownShape},
		{"a REST book", `{"code":"0","msg":"","data":[{"asks":[],"bids":[],"ts":"1","seqId":1}]}`, ledger.UnknownShape},
		{"unknown symbol", with(okxUpdate, `BTC-USDT`, `ETH-USDT`), ledger.UnknownSymbol},
		{"symbol in the wrong case", with(okxUpdate, `BTC-USDT`, `btc-usdt`), ledger.UnknownSymbol},
		{"no symbol", with(okxUpdate, `,"instId":"BTC-USDT"`, ``), ledger.UnknownSymbol},
		{"trades of an unknown symbol", strings.ReplaceAll(okxTrade, `BTC-USDT`, `ETH-USDT`), ledger.UnknownSymbol},
	} {
		add(c.name, c.frame, c.want, 0, -1)
	}
	book := func(name, old, new string) {
		add("book, "+name, with(okxUpdate, old, new), ledger.Malformed, KindDelta, 1)
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
	add("book, px too large", with(okxUpdate, `"67761.3"`, `"922337203685477581"`), ledger.Overflow, KindDelta, 1)
	add("snapshot without ts", with(with(okxUpdate, `update`, `snapshot`), `"ts":"1717271296002",`, ``), ledger.Malformed, KindSnapshot, 1)
	add("book, the second of two is bad", with(okxUpdate, `}]}`, `},{"asks":[],"bids":[],"ts":"1","seqId":1}]}`), ledger.Malformed, KindDelta, 1)

	trade := func(name, old, new string) {
		add("trade, "+name, with(okxTrade, old, new), ledger.Malformed, KindTrade, 1)
	}
	trade("of another instrument than arg", `{"instId":"BTC-USDT","t`, `{"instId":"OTHER","t`)
	trade("of an unknown instrument", `{"instId":"BTC-USDT","t`, `{"instId":"ETH-USDT","t`)
	add("trade, of an unknown instrument and not of arg's, which is the first", with(with(okxTrade, `"instId":"BTC-USDT"}`, `"instId":"OTHER"}`), `{"instId":"BTC-USDT","t`, `{"instId":"ETH-USDT","t`), ledger.Malformed, KindTrade, 0)
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
	add("trade, size too large", with(okxTrade, `"0.5"`, `"92233720368548"`), ledger.Overflow, KindTrade, 1)
	add("trades, none", with(okxTrade, `"data":[{`, `"data":[],"x":[{`), ledger.Malformed, KindTrade, 1)
	add("trades, the second is bad", with(okxTrade, `}]}`, `},{"instId":"BTC-USDT"}]}`), ledger.Malformed, KindTrade, 1)

	quote := func(name, old, new string) {
		add("quote, "+name, with(okxQuote, old, new), ledger.Malformed, KindQuote, 1)
	}
	quote("no ts", `"ts":"1787612486107",`, ``)
	quote("seqId as text", `82083114838`, `"82083114838"`)
	quote("two bids", `["67761.2","0.25","0","2"]`, `["67761.2","0.25"],["67761.1","0.25"]`)
	quote("two asks", `["67761.3","0.5","0","17"]`, `["67761.3","0.5"],["67761.4","0.25"]`)
	quote("no bids", `"bids":[["67761.2","0.25","0","2"]],`, ``)
	quote("px as number", `"67761.2"`, `67761.2`)
	quote("size negative", `"0.25"`, `"-0.25"`)

	checkRejects(t, okx{}, event.Instrument{Symbol: "BTC-USDT", PxScale: 1, QtyScale: 8}, rejects)
}

func FuzzOKX(f *testing.F) {
	for _, s := range []string{okxUpdate, okxTrade, okxQuote, `pong`,
		strings.Replace(okxUpdate, "update", "snapshot", 1), strings.Replace(okxTrade, `"count":"1"`, `"count":"3"`, 1),
		strings.Replace(okxUpdate, `1321208631`, `-1783330043`, 1), strings.Replace(okxUpdate, `,"seqId":26828135127,"prevSeqId":26828135124`, ``, 1),
		`{"id":"1512","event":"error","code":"60018","msg":"no","connId":"a"}`, `{"event":"notice","code":"64008","msg":"soon"}`,
		`{"id":"7","event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"}}`,
		`{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[["1.000000000000000001","2"]],"bids":[["0.5","-0"]],"ts":"0","seqId":3,"prevSeqId":15},{}]}`,
	} {
		f.Add([]byte(s), int8(1), int8(8))
		f.Add([]byte(s), int8(0), int8(18))
	}
	f.Fuzz(func(t *testing.T, frame []byte, px, qty int8) { fuzzVenue(t, okx{}, frame, px, qty, okxTold) })
}
