package venues

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/valyala/fastjson"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
)

func init() {
	register(bybit{&bybitSpot})
	register(bybit{&bybitLinear})
}

// bybit is a market of Bybit v5: spot, or linear derivatives. Their frames differ in
// the order of keys and in padded zeros, and in nothing that is read here.
//
// Proof of the book: u grows by one with each delta of a topic, and a snapshot, which
// may come at any time, replaces the book (u = 1: the service has started anew). A
// lost or swapped delta is noticed with the next one, a doubled one by itself. The
// venue documents the meaning of u for the deltas of other topics only; that it counts
// here is measured, on every recording. There is no checksum: a flipped digit of a
// price or size goes unseen, and so does a snapshot that is not right.
//
// Nothing numbers the trades (ids of spot have holes, those of linear are UUIDs), and
// the quotes (orderbook.1) are snapshots whose ids may jump: neither has a proof. It is
// not known that a trade ever comes twice on a connection, and none of the past is sent.
//
// REST is refused to some countries while the stream runs, so nothing depends on it:
// without metadata the scales come from the messages.
type bybit struct{ rules *Rules }

var (
	bybitSpot   = bybitRules("bybit", "spot")
	bybitLinear = bybitRules("bybit_linear", "linear")
)

func bybitRules(name, market string) Rules {
	return Rules{
		Name: name, Market: market,
		Continuity: UpdateID, Proof: event.ProofChain,
		QuoteStream:   true,
		LevelsMax:     20_000, // 1,000 a side
		SilenceNs:     30e9,   // BTCUSDT never pauses for more than 0.2 s in the recordings; a quieter symbol may
		TradingStatus: "Trading",
		WSURL:         "wss://stream.bybit.com/v5/public/" + market, RestURL: "https://api.bybit.com",
		Depth: 200, Depths: []int{50, 200, 1000},

		PingEveryNs: 20e9,
		DeadAfterNs: 45e9, // two pings without their pong

		MessageBytesMax: 1 << 20, // 1,024 trades have some 200 kB, 1,000 levels a side 60 kB
		AnswerBytesMax:  8 << 20, // all instruments of a market

		InstrumentsPerConn: 100, // the topics of a connection may have 21,000 characters
		StreamsPerConn:     300,
		ConnectsPerWindow:  500, ConnectWindowNs: 300e9,
		CommandsPerSecond:     10,   // no limit is documented
		RestWeightPerMinute:   7200, // 600 requests in 5 s
		LongestCommandStreams: 10,
	}
}

func (v bybit) Rules() *Rules { return v.rules }

// Symbol: letters and digits; a linear future also names the day on which it ends.
func (v bybit) Symbol(s string) (string, error) {
	signs, like := "", "BTCUSDT"
	if v.rules.Market == "linear" {
		signs, like = "-", "BTCUSDT, BTCPERP or BTCUSDT-25DEC26"
	}
	if !isName(s, signs) || strings.HasPrefix(s, "-") {
		return "", fmt.Errorf("%q is not a symbol of Bybit %s; they look like %s", s, v.rules.Market, like)
	}
	return strings.ToUpper(s), nil
}

func (bybit) StreamPath([]event.Instrument, bool) string { return "" } // the URL is whole

const (
	bybitBook   = "orderbook."
	bybitTrades = "publicTrade."
	bybitQuotes = "orderbook.1."
)

func bybitBookTopic(inst event.Instrument, sub Subscription) string {
	return bybitBook + strconv.Itoa(sub.Depth) + "." + inst.Symbol
}

// Subscribe sends a command for each instrument: one wrong topic can make the venue
// refuse all that stand in a command.
func (bybit) Subscribe(insts []event.Instrument, sub Subscription) []Command {
	var commands []Command
	for i, inst := range insts {
		commands = append(commands, bybitSubscribe(inst, i, sub.all(), sub, int64(i+1)))
	}
	return commands
}

func (bybit) Again(of event.Instrument, inst int, streams Streams, sub Subscription, id int64) []Command {
	return []Command{bybitSubscribe(of, inst, streams, sub, id)}
}

func bybitSubscribe(of event.Instrument, inst int, streams Streams, sub Subscription, id int64) Command {
	var topics []string
	for s, topic := range []string{bybitBookTopic(of, sub), bybitTrades + of.Symbol, bybitQuotes + of.Symbol} {
		if streams.Has(event.Stream(s)) {
			topics = append(topics, topic)
		}
	}
	c := bybitCommand("subscribe", topics, id, inst)
	c.Streams = streams
	return c
}

func (bybit) Resubscribe(inst event.Instrument, sub Subscription, id int64) []Command {
	return []Command{
		bybitCommand("unsubscribe", []string{bybitBookTopic(inst, sub)}, id, -1),
		bybitSubscribe(inst, -1, bookStream, sub, id+1),
	}
}

func bybitCommand(op string, topics []string, id int64, inst int) Command {
	text := `{"req_id":"` + strconv.FormatInt(id, 10) + `","op":"` + op + `","args":["` + strings.Join(topics, `","`) + `"]}`
	return Command{ID: id, Text: text, Acks: 1, Inst: inst}
}

func (bybit) Ping(id int64) string {
	return `{"req_id":"` + strconv.FormatInt(id, 10) + `","op":"ping"}`
}

func (bybit) Checksum(_, _ []book.Level, _, _ int8, _ []byte) uint32 { return 0 } // it has none

// SnapshotRequest: there is none; snapshots come in the stream.
func (bybit) SnapshotRequest(string, int) Request { return Request{} }

func (bybit) SnapshotRefused([]byte) (string, bool) { return "", false } // nothing is fetched

// InstrumentsRequest asks for the whole list, as one page. Spot has no pages; linear
// symbols beyond the page's 1,000 are left to their messages.
func (v bybit) InstrumentsRequest([]string) Request {
	path := "/v5/market/instruments-info?category=" + v.rules.Market
	if v.rules.Market == "linear" {
		path += "&limit=1000"
	}
	return Request{Path: path, Weight: 1}
}

func (v bybit) Instruments(body []byte, symbols []string) ([]event.Instrument, int, error) {
	doc, err := parseAnswer(body)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read instruments-info: %w", err)
	}
	if code := doc.Get("retCode"); code == nil || code.String() != "0" {
		return nil, 0, fmt.Errorf("cannot list instruments: code %v: %s", code, doc.GetStringBytes("retMsg"))
	}
	wanted := foldedNames(symbols)
	step := "basePrecision"
	if v.rules.Market == "linear" {
		step = "qtyStep"
	}
	var insts []event.Instrument
	for _, s := range doc.GetArray("result", "list") {
		inst := event.Instrument{
			Venue: v.rules.Name, Market: v.rules.Market, Source: "instruments-info",
			Symbol: string(s.GetStringBytes("symbol")), Status: string(s.GetStringBytes("status")),
			Base: string(s.GetStringBytes("baseCoin")), Quote: string(s.GetStringBytes("quoteCoin")),
			Tick: string(s.GetStringBytes("priceFilter", "tickSize")), Lot: string(s.GetStringBytes("lotSizeFilter", step)),
		}
		if !wanted.has(inst.Symbol) {
			continue
		}
		inst.Pair = inst.Base + "-" + inst.Quote
		if inst.PxScale, inst.QtyScale, err = gridScales(inst.Tick, inst.Lot); err != nil {
			return nil, 0, fmt.Errorf("cannot read tickSize %q or %s %q of %q in instruments-info: %w", inst.Tick, step, inst.Lot, inst.Symbol, err)
		}
		insts = append(insts, inst)
	}
	return insts, 0, nil
}

func (bybit) NewDecoder(insts []event.Instrument) Decoder {
	return &bybitDecoder{inStream: inStream{newDecoding(insts)}}
}

type bybitDecoder struct {
	inStream
	text []byte // of a refusal that lists topics
}

// Decode reads a push {"topic":…,"data":…}, or the answer to a command.
func (d *bybitDecoder) Decode(frame []byte, b *Batch) ledger.Reason {
	if d.scan(frame, b) {
		d.parser.forget()
		return ledger.Accepted
	}
	return d.handedOver(d.parse(frame, b), b)
}

// parse is Decode without the scanner.
func (d *bybitDecoder) parse(frame []byte, b *Batch) ledger.Reason {
	b.Reset()
	v, reason := d.parser.object(frame)
	if reason != ledger.Accepted {
		return reason
	}
	topic := v.GetStringBytes("topic")
	if topic == nil {
		return d.answer(v, b)
	}
	m := Message{First: event.Null, Seq: event.Null, SeqPrev: event.Null, TsEvent: event.Null}
	if symbol, ok := bytes.CutPrefix(topic, []byte(bybitTrades)); ok {
		m.Kind = KindTrade
		if m.Inst, ok = d.bySymbol[string(symbol)]; !ok {
			return ledger.UnknownSymbol
		}
		return d.trades(v, m, b)
	}
	rest, ok := bytes.CutPrefix(topic, []byte(bybitBook))
	depth, symbol, named := bytes.Cut(rest, []byte("."))
	if _, digits := whole(depth); !ok || !named || !digits {
		return ledger.UnknownShape
	}
	if m.Inst, ok = d.bySymbol[string(symbol)]; !ok {
		return ledger.UnknownSymbol
	}
	m.Kind = KindDelta
	snapshot := string(v.GetStringBytes("type")) == "snapshot"
	switch {
	case string(depth) == "1":
		m.Kind = KindQuote
	case snapshot:
		m.Kind = KindSnapshot
	}
	b.Messages = append(b.Messages, m)
	if !snapshot && (m.Kind == KindQuote || string(v.GetStringBytes("type")) != "delta") { // the best level comes in snapshots only
		return ledger.Malformed
	}
	return d.book(v, &b.Messages[0], b)
}

func (d *bybitDecoder) book(v *fastjson.Value, m *Message, b *Batch) ledger.Reason {
	data := v.Get("data")
	var ok bool
	if m.Seq, ok = id(data, "u"); !ok || !d.same(data, m.Inst) {
		return ledger.Malformed
	}
	if m.Kind == KindDelta {
		m.SeqPrev = m.Seq - 1
	}
	if v.Exists("cts") { // the matching engine's clock; ts is the sender's. Frames of 2022 have none
		if m.TsEvent, ok = bybitTime(v, "cts"); !ok {
			return ledger.Malformed
		}
	}
	reason := bothSides(data.Get("b"), data.Get("a"), d.scales[m.Inst], m, b)
	if m.Kind == KindQuote && reason == ledger.Accepted {
		reason = touch(m, b)
	}
	return reason
}

func (d *bybitDecoder) trades(v *fastjson.Value, m Message, b *Batch) ledger.Reason {
	m.TradeNum, m.TradeFirst = event.Null, event.Null
	list := v.GetArray("data")
	for _, data := range list {
		b.Messages = append(b.Messages, m)
		if reason := d.trade(data, &b.Messages[len(b.Messages)-1]); reason != ledger.Accepted {
			b.Messages = b.Messages[:1] // all are of one instrument
			return reason
		}
	}
	if len(list) == 0 {
		b.Messages = append(b.Messages, m)
		return ledger.Malformed
	}
	return ledger.Accepted
}

const bybitTradeIDMax = 64 // a UUID has 36 characters

func (d *bybitDecoder) trade(data *fastjson.Value, m *Message) ledger.Reason {
	var ok bool
	m.TradeID = data.GetStringBytes("i")
	if m.TsEvent, ok = bybitTime(data, "T"); !ok || !d.same(data, m.Inst) || len(m.TradeID) == 0 || len(m.TradeID) > bybitTradeIDMax {
		return ledger.Malformed
	}
	switch string(data.GetStringBytes("S")) { // of the one who took
	case "Buy":
		m.Side = event.Bid
	case "Sell":
		m.Side = event.Ask
	default:
		return ledger.Malformed
	}
	return pxQty(data.Get("p"), data.Get("v"), d.scales[m.Inst], m)
}

// same says whether data is of the instrument that the topic names.
func (d *bybitDecoder) same(data *fastjson.Value, inst int) bool {
	i, ok := d.bySymbol[string(data.GetStringBytes("s"))]
	return ok && i == inst
}

func bybitTime(v *fastjson.Value, key string) (int64, bool) {
	ms, ok := id(v, key)
	if !ok {
		return event.Null, false
	}
	return millis(ms)
}

// answer reads what comes back for a command or a ping. The topics of a command that
// were refused may stand in a list, in an answer that says success.
func (d *bybitDecoder) answer(v *fastjson.Value, b *Batch) ledger.Reason {
	m := Message{Inst: -1, TsEvent: event.Null, ID: commandID(v, "req_id")}
	op, success := v.GetStringBytes("op"), v.Get("success")
	switch {
	case string(op) == "pong":
		m.Kind = KindControl
	case success == nil || success.Type() != fastjson.TypeTrue && success.Type() != fastjson.TypeFalse:
		return ledger.UnknownShape
	case !success.GetBool():
		m.Kind, m.Text = KindRefused, v.GetStringBytes("ret_msg")
	case string(op) == "ping":
		m.Kind = KindControl
	case string(op) == "subscribe" || string(op) == "unsubscribe":
		m.Kind = KindAck
	case string(v.GetStringBytes("type")) == "COMMAND_RESP":
		m.Kind = KindAck
		d.text = d.text[:0]
		for _, topic := range v.GetArray("data", "failTopics") {
			m.Kind = KindRefused
			if len(d.text) > 0 {
				d.text = append(d.text, ',')
			}
			d.text = append(d.text, topic.GetStringBytes()...)
		}
		if m.Kind == KindRefused {
			m.Text = d.text
		}
	default:
		return ledger.UnknownShape
	}
	b.Messages = append(b.Messages, m)
	return ledger.Accepted
}
