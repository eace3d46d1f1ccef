// Package bybit decodes the spot and the linear market of Bybit v5, and says what its messages prove:
// scan.go reads the shapes that make up the load, bybit.go every shape.
//
// Like every venue it is pure: it must never touch a socket, a file, a clock or a
// goroutine, and must never keep a frame's bytes.
//
// Invariants: those of package venues, which has what the venues share.
package bybit

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/valyala/fastjson"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
)

// Venue is a market of Bybit v5: spot, or linear derivatives. Their frames differ in
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
type Venue struct{ rules *venues.Rules }

var (
	Spot   = Venue{newRules("bybit", "spot")}
	Linear = Venue{newRules("bybit_linear", "linear")}
)

func newRules(name, market string) *venues.Rules {
	return &venues.Rules{
		Name: name, Market: market,
		Continuity: venues.UpdateID, Proof: event.ProofChain,
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
		SubscriptionBytesMax:  21_000,
	}
}

func (v Venue) Rules() *venues.Rules { return v.rules }

// Symbol takes letters and digits; a linear future also names the day on which it ends.
func (v Venue) Symbol(s string) (string, error) {
	signs, like := "", "BTCUSDT"
	if v.rules.Market == "linear" {
		signs, like = "-", "BTCUSDT, BTCPERP or BTCUSDT-25DEC26"
	}
	if !venues.IsName(s, signs) || strings.HasPrefix(s, "-") {
		return "", fmt.Errorf("%q is not a symbol of Bybit %s; they look like %s", s, v.rules.Market, like)
	}
	return strings.ToUpper(s), nil
}

func (Venue) StreamPath([]event.Instrument, bool) string { return "" } // the URL is whole

const (
	bookTopicPrefix   = "orderbook."
	tradesTopicPrefix = "publicTrade."
	quotesTopicPrefix = "orderbook.1."
)

func bookTopic(inst event.Instrument, sub venues.Subscription) string {
	return bookTopicPrefix + strconv.Itoa(sub.Depth) + "." + inst.Symbol
}

// Subscribe sends a command for each instrument: one wrong topic can make the venue
// refuse all that stand in a command.
func (Venue) Subscribe(insts []event.Instrument, sub venues.Subscription) []venues.Command {
	var commands []venues.Command
	for i, inst := range insts {
		commands = append(commands, subscribe(inst, i, sub.All(), sub, int64(i+1)))
	}
	return commands
}

func (Venue) Again(of event.Instrument, inst int, streams venues.Streams, sub venues.Subscription, id int64) []venues.Command {
	return []venues.Command{subscribe(of, inst, streams, sub, id)}
}

func subscribe(of event.Instrument, inst int, streams venues.Streams, sub venues.Subscription, id int64) venues.Command {
	var topics []string
	for s, topic := range []string{bookTopic(of, sub), tradesTopicPrefix + of.Symbol, quotesTopicPrefix + of.Symbol} {
		if streams.Has(event.Stream(s)) {
			topics = append(topics, topic)
		}
	}
	c := command("subscribe", topics, id, inst)
	c.Streams = streams
	return c
}

func (Venue) Resubscribe(inst event.Instrument, sub venues.Subscription, id int64) []venues.Command {
	return []venues.Command{
		command("unsubscribe", []string{bookTopic(inst, sub)}, id, -1),
		subscribe(inst, -1, venues.BookStream, sub, id+1),
	}
}

func command(op string, topics []string, id int64, inst int) venues.Command {
	text := `{"req_id":"` + strconv.FormatInt(id, 10) + `","op":"` + op + `","args":["` + strings.Join(topics, `","`) + `"]}`
	return venues.Command{ID: id, Text: text, Acks: 1, Inst: inst}
}

func (Venue) Ping(id int64) string {
	return `{"req_id":"` + strconv.FormatInt(id, 10) + `","op":"ping"}`
}

func (Venue) Checksum(_, _ []book.Level, _, _ int8, _ []byte) uint32 { return 0 } // it has none

// SnapshotRequest is empty: snapshots come in the stream.
func (Venue) SnapshotRequest(string, int) venues.Request { return venues.Request{} }

func (Venue) SnapshotRefused([]byte) (string, bool) { return "", false } // nothing is fetched

// InstrumentsRequest asks for the whole list, as one page. Spot has no pages; linear
// symbols beyond the page's 1,000 are left to their messages.
func (v Venue) InstrumentsRequest([]string) venues.Request {
	path := "/v5/market/instruments-info?category=" + v.rules.Market
	if v.rules.Market == "linear" {
		path += "&limit=1000"
	}
	return venues.Request{Path: path, Weight: 1}
}

// MoreInstruments asks for the next page of the list.
func (v Venue) MoreInstruments(symbols []string, answers int, body []byte) (venues.Request, bool) {
	cursor := fastjson.GetString(body, "result", "nextPageCursor")
	next := v.InstrumentsRequest(symbols)
	next.Path += "&cursor=" + cursor // which the venue has escaped for a URL
	return next, cursor != "" && answers < 10
}

func (v Venue) Instruments(body []byte, symbols []string) ([]event.Instrument, int, error) {
	doc, err := venues.ParseAnswer(body)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read instruments-info: %w", err)
	}
	if code := doc.Get("retCode"); code == nil || code.String() != "0" {
		return nil, 0, fmt.Errorf("cannot list instruments: code %v: %s", code, doc.GetStringBytes("retMsg"))
	}
	wanted := venues.FoldedNames(symbols)
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
		if !wanted.Has(inst.Symbol) {
			continue
		}
		inst.Pair = inst.Base + "-" + inst.Quote
		if inst.PxScale, inst.QtyScale, err = venues.GridScales(inst.Tick, inst.Lot); err != nil {
			return nil, 0, fmt.Errorf("cannot read tickSize %q or %s %q of %q in instruments-info: %w", inst.Tick, step, inst.Lot, inst.Symbol, err)
		}
		insts = append(insts, inst)
	}
	return insts, 0, nil
}

func (Venue) NewDecoder(insts []event.Instrument) venues.Decoder {
	return &decoder{InStream: venues.InStream{Decoding: venues.NewDecoding(insts)}}
}

type decoder struct {
	venues.InStream
	text []byte // of a refusal that lists topics
}

// Decode reads a push {"topic":…,"data":…}, or the answer to a command.
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
	topic := v.GetStringBytes("topic")
	if topic == nil {
		return d.answer(v, b)
	}
	m := venues.Message{First: event.Null, Seq: event.Null, SeqPrev: event.Null, TsEvent: event.Null}
	if symbol, ok := bytes.CutPrefix(topic, []byte(tradesTopicPrefix)); ok {
		m.Kind = venues.KindTrade
		if m.Inst, ok = d.BySymbol[string(symbol)]; !ok {
			return ledger.UnknownSymbol
		}
		return d.trades(v, m, b)
	}
	rest, ok := bytes.CutPrefix(topic, []byte(bookTopicPrefix))
	depth, symbol, named := bytes.Cut(rest, []byte("."))
	if _, digits := venues.Whole(depth); !ok || !named || !digits {
		return ledger.UnknownShape
	}
	if m.Inst, ok = d.BySymbol[string(symbol)]; !ok {
		return ledger.UnknownSymbol
	}
	m.Kind = venues.KindDelta
	snapshot := string(v.GetStringBytes("type")) == "snapshot"
	switch {
	case string(depth) == "1":
		m.Kind = venues.KindQuote
	case snapshot:
		m.Kind = venues.KindSnapshot
	}
	b.Messages = append(b.Messages, m)
	if !snapshot && (m.Kind == venues.KindQuote || string(v.GetStringBytes("type")) != "delta") { // the best level comes in snapshots only
		return ledger.Malformed
	}
	return d.book(v, &b.Messages[0], b)
}

func (d *decoder) book(v *fastjson.Value, m *venues.Message, b *venues.Batch) ledger.Reason {
	data := v.Get("data")
	var ok bool
	if m.Seq, ok = venues.Uint(data, "u"); !ok || !d.same(data, m.Inst) {
		return ledger.Malformed
	}
	if m.Kind == venues.KindDelta {
		m.SeqPrev = m.Seq - 1
	}
	if v.Exists("cts") { // the matching engine's clock; ts is the sender's. Frames of 2022 have none
		if m.TsEvent, ok = unixTime(v, "cts"); !ok {
			return ledger.Malformed
		}
	}
	reason := venues.BothSides(data.Get("b"), data.Get("a"), d.Scales[m.Inst], m, b)
	if m.Kind == venues.KindQuote && reason == ledger.Accepted {
		reason = venues.Touch(m, b)
	}
	return reason
}

func (d *decoder) trades(v *fastjson.Value, m venues.Message, b *venues.Batch) ledger.Reason {
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

const tradeIDMax = 64 // a UUID has 36 characters

func (d *decoder) trade(data *fastjson.Value, m *venues.Message) ledger.Reason {
	var ok bool
	m.TradeID = data.GetStringBytes("i")
	if m.TsEvent, ok = unixTime(data, "T"); !ok || !d.same(data, m.Inst) || len(m.TradeID) == 0 || len(m.TradeID) > tradeIDMax {
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
	return venues.PxQty(data.Get("p"), data.Get("v"), d.Scales[m.Inst], m)
}

// same says whether data is of the instrument that the topic names.
func (d *decoder) same(data *fastjson.Value, inst int) bool {
	i, ok := d.BySymbol[string(data.GetStringBytes("s"))]
	return ok && i == inst
}

func unixTime(v *fastjson.Value, key string) (int64, bool) {
	ms, ok := venues.Uint(v, key)
	if !ok {
		return event.Null, false
	}
	return venues.MillisNs(ms)
}

// answer reads what comes back for a command or a ping. The topics of a command that
// were refused may stand in a list, in an answer that says success.
func (d *decoder) answer(v *fastjson.Value, b *venues.Batch) ledger.Reason {
	m := venues.Message{Inst: -1, TsEvent: event.Null, ID: venues.CommandID(v, "req_id")}
	op, success := v.GetStringBytes("op"), v.Get("success")
	switch {
	case string(op) == "pong":
		m.Kind = venues.KindControl
	case success == nil || success.Type() != fastjson.TypeTrue && success.Type() != fastjson.TypeFalse:
		return ledger.UnknownShape
	case !success.GetBool():
		m.Kind, m.Text = venues.KindRefused, v.GetStringBytes("ret_msg")
	case string(op) == "ping":
		m.Kind = venues.KindControl
	case string(op) == "subscribe" || string(op) == "unsubscribe":
		m.Kind = venues.KindAck
	case string(v.GetStringBytes("type")) == "COMMAND_RESP":
		m.Kind = venues.KindAck
		d.text = d.text[:0]
		for _, topic := range v.GetArray("data", "failTopics") {
			m.Kind = venues.KindRefused
			if len(d.text) > 0 {
				d.text = append(d.text, ',')
			}
			d.text = append(d.text, topic.GetStringBytes()...)
		}
		if m.Kind == venues.KindRefused {
			m.Text = d.text
		}
	default:
		return ledger.UnknownShape
	}
	b.Messages = append(b.Messages, m)
	return ledger.Accepted
}
