// Package binance decodes the spot market of Binance, and says what its messages prove:
// scan.go reads the shapes that make up the load, binance.go every shape.
//
// Like every venue it is pure: it must never touch a socket, a file, a clock or a
// goroutine, and must never keep a frame's bytes.
//
// Invariants: those of package venues, which has what the venues share.
package binance

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
	"deeptape/venues"
)

// Venue is the spot market of Binance, JSON streams.
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
type Venue struct{}

var rules = venues.Rules{
	Name: "binance", Market: "spot",
	Continuity: venues.RangeChain, Proof: event.ProofChain,
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

func (Venue) Rules() *venues.Rules { return &rules }

// Symbol takes letters and digits, not all of them ASCII.
func (Venue) Symbol(s string) (string, error) {
	odd := func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }
	if s == "" || !utf8.ValidString(s) || strings.ContainsFunc(s, odd) {
		return "", fmt.Errorf("%q is not a Binance symbol; they look like BTCUSDT", s)
	}
	return strings.ToUpper(s), nil
}

func streamNames(inst event.Instrument, quotes bool) []string {
	s := strings.ToLower(inst.Symbol)
	return []string{s + "@depth@100ms", s + "@trade", s + "@bookTicker"}[:streamsPerSymbol(quotes)]
}

func streamsPerSymbol(quotes bool) int {
	if quotes {
		return 3
	}
	return 2
}

// StreamPath names one stream only: the rest is subscribed by command, because
// only commands are answered, and an answer is what tells a refusal from silence.
func (Venue) StreamPath(insts []event.Instrument, quotes bool) string {
	return "/stream?streams=" + venues.Escaped(streamNames(insts[0], quotes)[0])
}

func (Venue) Subscribe(insts []event.Instrument, sub venues.Subscription) []venues.Command {
	var all []string
	for _, inst := range insts {
		all = append(all, streamNames(inst, sub.Quotes)...)
	}
	var commands []venues.Command
	each := streamsPerSymbol(sub.Quotes)
	for at := 0; at < len(all); at += rules.LongestCommandStreams {
		end := min(len(all), at+rules.LongestCommandStreams)
		c := command("SUBSCRIBE", all[at:end], int64(len(commands)+1))
		c.Streams, c.Several = sub.All(), [2]int{at / each, (end + each - 1) / each} // an instrument may be in two
		commands = append(commands, c)
	}
	return commands
}

// Again subscribes once more: for a stream that is on already, that changes nothing.
func (Venue) Again(of event.Instrument, inst int, streams venues.Streams, sub venues.Subscription, id int64) []venues.Command {
	var names []string
	for s, name := range streamNames(of, sub.Quotes) {
		if streams.Has(event.Stream(s)) {
			names = append(names, name)
		}
	}
	c := command("SUBSCRIBE", names, id)
	c.Inst, c.Streams = inst, streams
	return []venues.Command{c}
}

func (Venue) Resubscribe(inst event.Instrument, sub venues.Subscription, id int64) []venues.Command {
	streams := streamNames(inst, sub.Quotes)
	c := command("SUBSCRIBE", streams, id+1)
	c.Streams = sub.All()
	return []venues.Command{command("UNSUBSCRIBE", streams, id), c}
}

func (Venue) Ping(int64) string { return "" } // the venue pings

func (Venue) Checksum(_, _ []book.Level, _, _ int8, _ []byte) uint32 { return 0 } // it has none

func command(method string, streams []string, id int64) venues.Command {
	text := `{"method":"` + method + `","params":["` + strings.Join(streams, `","`) + `"],"id":` + strconv.FormatInt(id, 10) + `}`
	return venues.Command{ID: id, Text: text, Acks: 1, Inst: -1}
}

func (Venue) SnapshotRequest(symbol string, depth int) venues.Request {
	weight := 250
	switch {
	case depth <= 100:
		weight = 5
	case depth <= 500:
		weight = 25
	case depth <= 1000:
		weight = 50
	}
	return venues.Request{Path: fmt.Sprintf("/api/v3/depth?symbol=%s&limit=%d", venues.Escaped(symbol), depth), Weight: weight}
}

// noSymbol is the code of "Invalid symbol.": the venue has no such symbol, or has
// it no more. Its streams are acknowledged all the same, and stay silent.
const noSymbol = -1121

// longestRefusal bounds what is looked at of an answer that is no snapshot.
const longestRefusal = 4 << 10

// SnapshotRefused reads {"code":-1121,"msg":"Invalid symbol."}.
func (Venue) SnapshotRefused(body []byte) (words string, final bool) {
	if len(body) > longestRefusal {
		return "", false
	}
	v, err := fastjson.ParseBytes(body)
	if err != nil {
		return "", false
	}
	return string(v.GetStringBytes("msg")), v.GetInt("code") == noSymbol
}

func (Venue) InstrumentsRequest(symbols []string) venues.Request {
	return venues.Request{Path: `/api/v3/exchangeInfo?symbols=%5B%22` + venues.Escaped(strings.Join(symbols, `%22,%22`)) + `%22%5D`, Weight: 20}
}

// WholeList leaves out what fills most of it: the whole of exchangeInfo has more than 20 MB.
func (Venue) WholeList() venues.Request {
	return venues.Request{Path: "/api/v3/exchangeInfo?permissions=SPOT&showPermissionSets=false&symbolStatus=TRADING", Weight: 20}
}

func (Venue) Instruments(body []byte, symbols []string) ([]event.Instrument, int, error) {
	v, err := venues.ParseAnswer(body)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read exchangeInfo: %w", err)
	}
	weight := 0
	for _, l := range v.GetArray("rateLimits") {
		if string(l.GetStringBytes("rateLimitType")) == "REQUEST_WEIGHT" && string(l.GetStringBytes("interval")) == "MINUTE" {
			weight = l.GetInt("limit") / max(1, l.GetInt("intervalNum"))
		}
	}
	wanted := venues.FoldedNames(symbols)
	var insts []event.Instrument
	for _, s := range v.GetArray("symbols") {
		inst := event.Instrument{
			Venue: rules.Name, Market: rules.Market, Source: "exchangeInfo",
			Symbol: string(s.GetStringBytes("symbol")), Status: string(s.GetStringBytes("status")),
			Base: string(s.GetStringBytes("baseAsset")), Quote: string(s.GetStringBytes("quoteAsset")),
		}
		if !wanted.Has(inst.Symbol) {
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

func (Venue) NewDecoder(insts []event.Instrument) venues.Decoder {
	return &decoder{Decoding: venues.NewDecoding(insts)}
}

type decoder struct {
	venues.Decoding
	tradeID []byte
}

// Decode reads a combined frame {"stream":…,"data":…}, a bare one, or the answer
// to a command.
func (d *decoder) Decode(frame []byte, b *venues.Batch) ledger.Reason {
	if d.scan(frame, b) {
		d.Parser.Forget()
		return ledger.Accepted
	}
	return d.HandedOver(d.Parse(frame, b), b)
}

// Parse is Decode without the scanner.
func (d *decoder) Parse(frame []byte, b *venues.Batch) ledger.Reason {
	b.Reset()
	v, reason := d.Parser.Object(frame)
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
		b.Messages = append(b.Messages, venues.Message{Kind: venues.KindNotice, Inst: -1, TsEvent: event.Null, Text: e})
		return ledger.Accepted
	}
	return ledger.UnknownShape
}

// answer to a command. Refusals are flat, or in a field of their own.
func answer(v *fastjson.Value, b *venues.Batch) ledger.Reason {
	m := venues.Message{Kind: venues.KindAck, Inst: -1, TsEvent: event.Null, ID: v.GetInt64("id")}
	if nested := v.Get("error"); v.Exists("code") {
		m.Kind, m.Text = venues.KindRefused, v.GetStringBytes("msg")
	} else if nested.Exists("code") {
		m.Kind, m.Text = venues.KindRefused, nested.GetStringBytes("msg")
	} else if !v.Exists("result") {
		return ledger.UnknownShape
	}
	b.Messages = append(b.Messages, m)
	return ledger.Accepted
}

func (d *decoder) inst(data *fastjson.Value) (int, bool) {
	i, ok := d.BySymbol[string(data.GetStringBytes("s"))]
	return i, ok
}

func (d *decoder) depth(data *fastjson.Value, b *venues.Batch) ledger.Reason {
	inst, ok := d.inst(data)
	if !ok {
		return ledger.UnknownSymbol
	}
	b.Messages = append(b.Messages, venues.Message{Kind: venues.KindDelta, Inst: inst})
	m := &b.Messages[0]
	var okU, oku, okE bool
	m.First, okU = venues.Uint(data, "U")
	m.Seq, oku = venues.Uint(data, "u")
	m.TsEvent, okE = venues.UnixTime(data, "E")
	if !okU || !oku || !okE || m.First > m.Seq {
		return ledger.Malformed
	}
	m.SeqPrev = m.First - 1
	return venues.BothSides(data.Get("b"), data.Get("a"), d.Scales[m.Inst], m, b)
}

// DecodeSnapshot reads {"lastUpdateId":…,"bids":[…],"asks":[…]}.
func (d *decoder) DecodeSnapshot(inst int, body []byte, b *venues.Batch) ledger.Reason {
	if d.scanSnapshot(inst, body, b) {
		d.Parser.Forget()
		return ledger.Accepted
	}
	return d.HandedOver(d.ParseSnapshot(inst, body, b), b)
}

// ParseSnapshot is DecodeSnapshot without the scanner.
func (d *decoder) ParseSnapshot(inst int, body []byte, b *venues.Batch) ledger.Reason {
	b.Reset()
	b.Messages = append(b.Messages, venues.Message{Kind: venues.KindSnapshot, Inst: inst, First: event.Null, SeqPrev: event.Null, TsEvent: event.Null})
	m := &b.Messages[0]
	v, reason := d.Parser.Object(body)
	if reason != ledger.Accepted {
		return reason
	}
	var ok bool
	if m.Seq, ok = venues.Uint(v, "lastUpdateId"); !ok {
		return ledger.Malformed
	}
	return venues.BothSides(v.Get("bids"), v.Get("asks"), d.Scales[m.Inst], m, b)
}

func (d *decoder) trade(data *fastjson.Value, b *venues.Batch) ledger.Reason {
	inst, ok := d.inst(data)
	if !ok {
		return ledger.UnknownSymbol
	}
	b.Messages = append(b.Messages, venues.Message{Kind: venues.KindTrade, Inst: inst, First: event.Null, Seq: event.Null, SeqPrev: event.Null})
	m := &b.Messages[0]
	maker := data.Get("m")
	var okT, okt bool
	m.TsEvent, okT = venues.UnixTime(data, "T")
	m.TradeNum, okt = venues.Uint(data, "t")
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
	return venues.PxQty(data.Get("p"), data.Get("q"), d.Scales[inst], m)
}

func (d *decoder) quote(data *fastjson.Value, b *venues.Batch) ledger.Reason {
	inst, ok := d.inst(data)
	if !ok {
		return ledger.UnknownSymbol
	}
	b.Messages = append(b.Messages, venues.Message{Kind: venues.KindQuote, Inst: inst, First: event.Null, SeqPrev: event.Null, TsEvent: event.Null})
	m := &b.Messages[0]
	if m.Seq, ok = venues.Uint(data, "u"); !ok {
		return ledger.Malformed
	}
	need := d.Scales[inst]
	reason := d.pair(data, "b", "B", inst, &m.Px, &m.Qty, &need)
	if reason == ledger.Accepted {
		reason = d.pair(data, "a", "A", inst, &m.AskPx, &m.AskQty, &need)
	}
	m.PxScale, m.QtyScale = need.Px, need.Qty
	return reason
}

func (d *decoder) pair(data *fastjson.Value, pxKey, qtyKey string, inst int, px, qty *int64, need *venues.Scales) (reason ledger.Reason) {
	sc := d.Scales[inst]
	if *px, reason = venues.Decimal(data.Get(pxKey), sc.Px, &need.Px); reason != ledger.Accepted {
		return reason
	}
	*qty, reason = venues.Size(data.Get(qtyKey), sc.Qty, &need.Qty)
	return reason
}
