package venues

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/valyala/fastjson"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
	"deeptape/hotpath/fixed"
	"deeptape/hotpath/ledger"
)

func init() { register(binance{}) }

// binance is the spot market of Binance, JSON streams.
//
// Proof of the book: each diff covers the ids U..u and the next one starts at
// u+1; a REST snapshot carries the id after which the diffs apply. That proves
// transport only: a flipped digit goes unseen, and levels outside the snapshot's
// window are unknown until they change. Trades of a symbol are numbered without
// holes. The quotes (bookTicker) carry ids with holes by design: no proof.
//
// So a message that is removed, cut short or out of order is seen by the next one of
// its stream at the latest, and one that comes twice is known (package feed,
// TestMutations, has the counts).
type binance struct{}

var binanceRules = Rules{
	Name: "binance", Market: "spot",
	Continuity: RangeChain, Proof: event.ProofChain,
	RestSnapshot: true, TradesCount: true, QuoteStream: true,
	// A snapshot has 10,000 at most. Those that the touch has walked away from stay, since
	// nobody tells of their end: BTCUSDT walking 50,000 USDT in one run leaves some 300,000.
	LevelsMax:     400_000,
	SilenceNs:     30e9, // longest healthy silence in the recordings: 10.5 s
	TradingStatus: "TRADING",
	WSURL:         "wss://stream.binance.com:9443", RestURL: "https://api.binance.com",
	Depth: 5000, Depths: []int{5, 10, 20, 50, 100, 500, 1000, 5000},

	StreamsPerConn:    1024,
	ConnectsPerWindow: 300, ConnectWindowNs: 300e9,
	CommandsPerSecond:     5, // pings and pongs count too
	RestWeightPerMinute:   6000,
	RestWeightUsedHeader:  "X-MBX-USED-WEIGHT-1M",
	ConnectionLifetimeNs:  24 * 3600e9,
	DeadAfterNs:           65e9,     // three of its pings, one every 20 s
	MessageBytesMax:       2 << 20,  // 5,000 levels a side have some 450 kB
	AnswerBytesMax:        16 << 20, // exchangeInfo: up to 9 kB a symbol
	LongestCommandStreams: 200,
}

func (binance) Rules() *Rules { return &binanceRules }

// Symbol: letters and digits, not all of them ASCII.
func (binance) Symbol(s string) (string, error) {
	odd := func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }
	if s == "" || !utf8.ValidString(s) || strings.ContainsFunc(s, odd) {
		return "", fmt.Errorf("%q is not a Binance symbol; they look like BTCUSDT", s)
	}
	return strings.ToUpper(s), nil
}

// binanceEscaped writes a symbol for a URL: what is not ASCII as %XX.
func binanceEscaped(s string) string {
	var out []byte
	for i := range len(s) {
		if s[i] < utf8.RuneSelf {
			out = append(out, s[i])
		} else {
			out = fmt.Appendf(out, "%%%02X", s[i])
		}
	}
	return string(out)
}

func binanceStreams(inst event.Instrument, quotes bool) []string {
	s := strings.ToLower(inst.Symbol)
	return []string{s + "@depth@100ms", s + "@trade", s + "@bookTicker"}[:binanceStreamsOf(quotes)]
}

func binanceStreamsOf(quotes bool) int {
	if quotes {
		return 3
	}
	return 2
}

// StreamPath names one stream only: the rest is subscribed by command, because
// only commands are answered, and an answer is what tells a refusal from silence.
func (binance) StreamPath(insts []event.Instrument, quotes bool) string {
	return "/stream?streams=" + binanceEscaped(binanceStreams(insts[0], quotes)[0])
}

func (binance) Subscribe(insts []event.Instrument, sub Subscription) []Command {
	var all []string
	for _, inst := range insts {
		all = append(all, binanceStreams(inst, sub.Quotes)...)
	}
	var commands []Command
	each := binanceStreamsOf(sub.Quotes)
	for at := 0; at < len(all); at += binanceRules.LongestCommandStreams {
		end := min(len(all), at+binanceRules.LongestCommandStreams)
		c := binanceCommand("SUBSCRIBE", all[at:end], int64(len(commands)+1))
		c.Streams, c.Several = sub.all(), [2]int{at / each, (end + each - 1) / each} // an instrument may be in two
		commands = append(commands, c)
	}
	return commands
}

// Again: to subscribe to what is on changes nothing.
func (binance) Again(of event.Instrument, inst int, streams Streams, sub Subscription, id int64) []Command {
	var names []string
	for s, name := range binanceStreams(of, sub.Quotes) {
		if streams.Has(event.Stream(s)) {
			names = append(names, name)
		}
	}
	c := binanceCommand("SUBSCRIBE", names, id)
	c.Inst, c.Streams = inst, streams
	return []Command{c}
}

func (binance) Resubscribe(inst event.Instrument, sub Subscription, id int64) []Command {
	streams := binanceStreams(inst, sub.Quotes)
	c := binanceCommand("SUBSCRIBE", streams, id+1)
	c.Streams = sub.all()
	return []Command{binanceCommand("UNSUBSCRIBE", streams, id), c}
}

func (binance) Ping(int64) string { return "" } // the venue pings

func (binance) Checksum(_, _ []book.Level, _, _ int8, _ []byte) uint32 { return 0 } // it has none

func binanceCommand(method string, streams []string, id int64) Command {
	text := `{"method":"` + method + `","params":["` + strings.Join(streams, `","`) + `"],"id":` + strconv.FormatInt(id, 10) + `}`
	return Command{ID: id, Text: text, Acks: 1, Inst: -1}
}

func (binance) SnapshotRequest(symbol string, depth int) Request {
	weight := 250
	switch {
	case depth <= 100:
		weight = 5
	case depth <= 500:
		weight = 25
	case depth <= 1000:
		weight = 50
	}
	return Request{Path: fmt.Sprintf("/api/v3/depth?symbol=%s&limit=%d", binanceEscaped(symbol), depth), Weight: weight}
}

// binanceNoSymbol is the code of "Invalid symbol.": the venue has no such symbol, or has
// it no more. Its streams are acknowledged all the same, and stay silent.
const binanceNoSymbol = -1121

// longestRefusal bounds what is looked at of an answer that is no snapshot.
const longestRefusal = 4 << 10

// SnapshotRefused reads {"code":-1121,"msg":"Invalid symbol."}.
func (binance) SnapshotRefused(body []byte) (words string, final bool) {
	if len(body) > longestRefusal {
		return "", false
	}
	v, err := fastjson.ParseBytes(body)
	if err != nil {
		return "", false
	}
	return string(v.GetStringBytes("msg")), v.GetInt("code") == binanceNoSymbol
}

func (binance) InstrumentsRequest(symbols []string) Request {
	return Request{Path: `/api/v3/exchangeInfo?symbols=%5B%22` + binanceEscaped(strings.Join(symbols, `%22,%22`)) + `%22%5D`, Weight: 20}
}

func (binance) Instruments(body []byte, symbols []string) ([]event.Instrument, int, error) {
	v, err := parseAnswer(body)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read exchangeInfo: %w", err)
	}
	weight := 0
	for _, l := range v.GetArray("rateLimits") {
		if string(l.GetStringBytes("rateLimitType")) == "REQUEST_WEIGHT" && string(l.GetStringBytes("interval")) == "MINUTE" {
			weight = l.GetInt("limit") / max(1, l.GetInt("intervalNum"))
		}
	}
	wanted := foldedNames(symbols)
	var insts []event.Instrument
	for _, s := range v.GetArray("symbols") {
		inst := event.Instrument{
			Venue: binanceRules.Name, Market: binanceRules.Market, Source: "exchangeInfo",
			Symbol: string(s.GetStringBytes("symbol")), Status: string(s.GetStringBytes("status")),
			Base: string(s.GetStringBytes("baseAsset")), Quote: string(s.GetStringBytes("quoteAsset")),
		}
		if !wanted.has(inst.Symbol) {
			continue
		}
		inst.Pair = inst.Base + "-" + inst.Quote
		for _, f := range s.GetArray("filters") {
			var err error
			switch string(f.GetStringBytes("filterType")) {
			case "PRICE_FILTER":
				inst.Tick = string(f.GetStringBytes("tickSize"))
				inst.PxScale, err = fixed.Scale(f.GetStringBytes("tickSize"))
			case "LOT_SIZE":
				inst.Lot = string(f.GetStringBytes("stepSize"))
				inst.QtyScale, err = fixed.Scale(f.GetStringBytes("stepSize"))
			}
			if err != nil {
				return nil, 0, fmt.Errorf("cannot read filters of %q in exchangeInfo: %w", inst.Symbol, err)
			}
		}
		insts = append(insts, inst)
	}
	return insts, weight, nil
}

func (binance) NewDecoder(insts []event.Instrument) Decoder {
	return &binanceDecoder{decoding: newDecoding(insts)}
}

type binanceDecoder struct {
	decoding
	tradeID []byte
}

// Decode reads a combined frame {"stream":…,"data":…}, a bare one, or the answer
// to a command.
func (d *binanceDecoder) Decode(frame []byte, b *Batch) ledger.Reason {
	if d.scan(frame, b) {
		d.parser.forget()
		return ledger.Accepted
	}
	return d.handedOver(d.parse(frame, b), b)
}

// parse is Decode without the scanner.
func (d *binanceDecoder) parse(frame []byte, b *Batch) ledger.Reason {
	b.Reset()
	v, reason := d.parser.object(frame)
	if reason != ledger.Accepted {
		return reason
	}
	data := v
	if w := v.Get("data"); w != nil {
		data = w
	}
	name := data.Get("e")
	if name == nil {
		if data.Exists("u") && data.Exists("A") { // bookTicker has no event name
			return d.quote(data, b)
		}
		return answer(v, b)
	}
	e, _ := name.StringBytes()
	switch string(e) {
	case "depthUpdate":
		return d.depth(data, b)
	case "trade":
		return d.trade(data, b)
	case "serverShutdown":
		b.Messages = append(b.Messages, Message{Kind: KindNotice, Inst: -1, TsEvent: event.Null, Text: e})
		return ledger.Accepted
	}
	return ledger.UnknownShape
}

// answer to a command. Refusals are flat, or in a field of their own.
func answer(v *fastjson.Value, b *Batch) ledger.Reason {
	m := Message{Kind: KindAck, Inst: -1, TsEvent: event.Null, ID: v.GetInt64("id")}
	if nested := v.Get("error"); v.Exists("code") {
		m.Kind, m.Text = KindRefused, v.GetStringBytes("msg")
	} else if nested.Exists("code") {
		m.Kind, m.Text = KindRefused, nested.GetStringBytes("msg")
	} else if !v.Exists("result") {
		return ledger.UnknownShape
	}
	b.Messages = append(b.Messages, m)
	return ledger.Accepted
}

func (d *binanceDecoder) inst(data *fastjson.Value) (int, bool) {
	i, ok := d.bySymbol[string(data.GetStringBytes("s"))]
	return i, ok
}

func (d *binanceDecoder) depth(data *fastjson.Value, b *Batch) ledger.Reason {
	inst, ok := d.inst(data)
	if !ok {
		return ledger.UnknownSymbol
	}
	b.Messages = append(b.Messages, Message{Kind: KindDelta, Inst: inst})
	m := &b.Messages[0]
	var okU, oku, okE bool
	m.First, okU = id(data, "U")
	m.Seq, oku = id(data, "u")
	m.TsEvent, okE = stamp(data, "E")
	if !okU || !oku || !okE || m.First > m.Seq {
		return ledger.Malformed
	}
	m.SeqPrev = m.First - 1
	return bothSides(data.Get("b"), data.Get("a"), d.scales[m.Inst], m, b)
}

// DecodeSnapshot reads {"lastUpdateId":…,"bids":[…],"asks":[…]}.
func (d *binanceDecoder) DecodeSnapshot(inst int, body []byte, b *Batch) ledger.Reason {
	if d.scanSnapshot(inst, body, b) {
		d.parser.forget()
		return ledger.Accepted
	}
	return d.handedOver(d.parseSnapshot(inst, body, b), b)
}

// parseSnapshot is DecodeSnapshot without the scanner.
func (d *binanceDecoder) parseSnapshot(inst int, body []byte, b *Batch) ledger.Reason {
	b.Reset()
	b.Messages = append(b.Messages, Message{Kind: KindSnapshot, Inst: inst, First: event.Null, SeqPrev: event.Null, TsEvent: event.Null})
	m := &b.Messages[0]
	v, reason := d.parser.object(body)
	if reason != ledger.Accepted {
		return reason
	}
	var ok bool
	if m.Seq, ok = id(v, "lastUpdateId"); !ok {
		return ledger.Malformed
	}
	return bothSides(v.Get("bids"), v.Get("asks"), d.scales[m.Inst], m, b)
}

func (d *binanceDecoder) trade(data *fastjson.Value, b *Batch) ledger.Reason {
	inst, ok := d.inst(data)
	if !ok {
		return ledger.UnknownSymbol
	}
	b.Messages = append(b.Messages, Message{Kind: KindTrade, Inst: inst, First: event.Null, Seq: event.Null, SeqPrev: event.Null})
	m := &b.Messages[0]
	maker := data.Get("m")
	var okT, okt bool
	m.TsEvent, okT = stamp(data, "T")
	m.TradeNum, okt = id(data, "t")
	if !okT || !okt || maker == nil {
		return ledger.Malformed
	}
	m.TradeFirst = m.TradeNum
	d.tradeID = strconv.AppendInt(d.tradeID[:0], m.TradeNum, 10)
	m.TradeID = d.tradeID
	switch maker.Type() { // m: the buyer is the maker, so a seller took
	case fastjson.TypeTrue:
		m.Side = event.Ask
	case fastjson.TypeFalse:
		m.Side = event.Bid
	default:
		return ledger.Malformed
	}
	return pxQty(data.Get("p"), data.Get("q"), d.scales[inst], m)
}

func (d *binanceDecoder) quote(data *fastjson.Value, b *Batch) ledger.Reason {
	inst, ok := d.inst(data)
	if !ok {
		return ledger.UnknownSymbol
	}
	b.Messages = append(b.Messages, Message{Kind: KindQuote, Inst: inst, First: event.Null, SeqPrev: event.Null, TsEvent: event.Null})
	m := &b.Messages[0]
	if m.Seq, ok = id(data, "u"); !ok {
		return ledger.Malformed
	}
	need := d.scales[inst]
	reason := d.pair(data, "b", "B", inst, &m.Px, &m.Qty, &need)
	if reason == ledger.Accepted {
		reason = d.pair(data, "a", "A", inst, &m.AskPx, &m.AskQty, &need)
	}
	m.PxScale, m.QtyScale = need.px, need.qty
	return reason
}

func (d *binanceDecoder) pair(data *fastjson.Value, pxKey, qtyKey string, inst int, px, qty *int64, need *scales) (reason ledger.Reason) {
	sc := d.scales[inst]
	if *px, reason = decimal(data.Get(pxKey), sc.px, &need.px); reason != ledger.Accepted {
		return reason
	}
	*qty, reason = size(data.Get(qtyKey), sc.qty, &need.qty)
	return reason
}
