package venues

import (
	"fmt"
	"hash/crc32"
	"math"
	"strconv"
	"strings"

	"github.com/valyala/fastjson"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
	"deeptape/hotpath/fixed"
	"deeptape/hotpath/ledger"
)

func init() { register(okx{}) }

// okx is the public stream of OKX v5: books of 400 levels, trades and bbo-tbt.
//
// Proof of the book: each update names in prevSeqId the id that came before it, and
// the snapshot in the stream starts the chain. A lost, doubled or swapped update
// breaks the chain at the next message of the same book, at the latest with the
// keepalive that an idle book sends about every 60 s. How many updates are lost
// nobody can say: the ids jump. An id smaller than the one it follows is a reset of
// the venue's numbers and breaks nothing.
//
// Where the venue sends a checksum other than 0, the best 25 levels a side are proven
// digit for digit by the same message; a wrong digit further down is seen once its
// level comes among them. Since 2026-06-23 production sends 0 or no checksum: a
// flipped digit of a price or size then goes unseen, as at Binance. Frames of 2022
// have a checksum and no ids.
//
// Trades are numbered without holes; one message may stand for several fills of one
// order at one price, and then bears the number of the last. The quotes (bbo-tbt)
// carry ids with holes by design: no proof.
//
// Sizes of derivatives are contracts, as they are sent; ContractSize says of how much.
type okx struct{}

var okxRules = Rules{
	Name: "okx", Market: "spot",
	Continuity: PrevLink, Proof: event.ProofChain,
	ChecksumTop: 25, TradesCount: true, TradesJoined: true, QuoteStream: true,
	LevelsMax:     20_000, // 400 a side
	SilenceNs:     180e9,  // the documented keepalive of an idle book comes after 60 s; the recordings pause for 0.4 s
	TradingStatus: "live",
	WSURL:         "wss://ws.okx.com/ws/v5/public", RestURL: "https://www.okx.com", // port 8443 is retired

	PingEveryNs: 20e9, // the venue cuts after 30 s without a word
	DeadAfterNs: 45e9, // two pings without their pong

	MessageBytesMax: 1 << 20, // 400 levels a side have some 40 kB
	AnswerBytesMax:  8 << 20, // all instruments of a type

	InstrumentsPerConn: 29, // fewer than 30 books
	StreamsPerConn:     87,
	ConnectsPerWindow:  3, ConnectWindowNs: 1e9,
	CommandsPerSecond:     10, // no such limit is documented
	CommandsPerHour:       480,
	RestWeightPerMinute:   600, // instruments: 20 requests in 2 s
	LongestCommandStreams: 1,   // a refusal names no topic, so each has an id of its own
}

func (okx) Rules() *Rules { return &okxRules }

// Symbol: two parts are a pair, a third is SWAP or the day on which a future ends.
func (okx) Symbol(s string) (string, error) {
	parts := strings.Split(s, "-")
	ok := len(parts) == 2 || len(parts) == 3
	for _, p := range parts {
		ok = ok && isName(p, "_")
	}
	if !ok {
		return "", fmt.Errorf("%q is not an OKX symbol; they look like BTC-USDT, BTC-USDT-SWAP or BTC-USD-261225", s)
	}
	return strings.ToUpper(s), nil
}

// okxType is the instType of a symbol.
func okxType(symbol string) string {
	switch {
	case strings.HasSuffix(symbol, "-SWAP"):
		return "SWAP"
	case strings.Count(symbol, "-") == 2:
		return "FUTURES"
	}
	return "SPOT"
}

func (okx) StreamPath([]event.Instrument, bool) string { return "" } // the URL is whole

const (
	okxBook   = "books"
	okxTrades = "trades"
	okxQuotes = "bbo-tbt"
)

func (okx) Subscribe(insts []event.Instrument, sub Subscription) []Command {
	var commands []Command
	for i, inst := range insts {
		commands = append(commands, okxSubscribe(inst, i, sub.all(), int64(len(commands)+1))...)
	}
	return commands
}

func (okx) Again(of event.Instrument, inst int, streams Streams, _ Subscription, id int64) []Command {
	return okxSubscribe(of, inst, streams, id)
}

// okxSubscribe makes a command for each stream, and so each is answered.
func okxSubscribe(of event.Instrument, inst int, streams Streams, id int64) (commands []Command) {
	for s, channel := range []string{okxBook, okxTrades, okxQuotes} {
		if streams.Has(event.Stream(s)) {
			c := okxCommand("subscribe", channel, of.Symbol, id+int64(len(commands)), inst)
			c.Streams = StreamsOf(event.Stream(s))
			commands = append(commands, c)
		}
	}
	return commands
}

func (okx) Resubscribe(inst event.Instrument, _ Subscription, id int64) []Command {
	return append([]Command{okxCommand("unsubscribe", okxBook, inst.Symbol, id, -1)}, okxSubscribe(inst, -1, bookStream, id+1)...)
}

func okxCommand(op, channel, symbol string, id int64, inst int) Command {
	text := `{"id":"` + strconv.FormatInt(id, 10) + `","op":"` + op + `","args":[{"channel":"` + channel + `","instId":"` + symbol + `"}]}`
	return Command{ID: id, Text: text, Acks: 1, Inst: inst}
}

func (okx) Ping(int64) string { return "ping" } // no JSON, and no frame of the kind ping

// Checksum is the CRC-32 of "px:size" of the levels, the first bid, the first ask,
// the second bid and so on, joined by colons. The venue trims surplus zeros, and so
// does fixed.Append. scratch needs 64 bytes; with fewer it allocates.
func (okx) Checksum(bids, asks []book.Level, pxScale, qtyScale int8, scratch []byte) uint32 {
	crc, text := uint32(0), scratch[:0]
	for i := range max(len(bids), len(asks)) {
		for _, side := range [2][]book.Level{bids, asks} {
			if i >= len(side) {
				continue
			}
			if cap(text)-len(text) < 64 { // a level and its colons take up to 46
				crc, text = crc32.Update(crc, crc32.IEEETable, text), text[:0]
			}
			text = append(fixed.Append(text, side[i].Px, pxScale), ':')
			text = append(fixed.Append(text, side[i].Qty, qtyScale), ':')
		}
	}
	if len(text) > 0 {
		text = text[:len(text)-1] // no colon after the last
	}
	return crc32.Update(crc, crc32.IEEETable, text)
}

// SnapshotRequest: there is none; snapshots come in the stream.
func (okx) SnapshotRequest(string, int) Request { return Request{} }

func (okx) SnapshotRefused([]byte) (string, bool) { return "", false } // nothing is fetched

// InstrumentsRequest asks for the type of the first symbol: the venue lists one at a
// time, see Groups.
func (okx) InstrumentsRequest(symbols []string) Request {
	return Request{Path: "/api/v5/public/instruments?instType=" + okxType(symbols[0]), Weight: 1}
}

func (okx) Instruments(body []byte, symbols []string) ([]event.Instrument, int, error) {
	v, err := parseAnswer(body)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read instruments: %w", err)
	}
	if code := v.GetStringBytes("code"); string(code) != "0" {
		return nil, 0, fmt.Errorf("cannot list instruments: code %q: %s", code, v.GetStringBytes("msg"))
	}
	wanted := foldedNames(symbols)
	var insts []event.Instrument
	for _, s := range v.GetArray("data") {
		inst := event.Instrument{
			Venue: okxRules.Name, Market: okxRules.Market, Source: "instruments",
			Symbol: string(s.GetStringBytes("instId")), Status: string(s.GetStringBytes("state")),
			Base: string(s.GetStringBytes("baseCcy")), Quote: string(s.GetStringBytes("quoteCcy")),
			Tick: string(s.GetStringBytes("tickSz")), Lot: string(s.GetStringBytes("lotSz")),
		}
		if !wanted.has(inst.Symbol) {
			continue
		}
		if kind := string(s.GetStringBytes("ctType")); kind != "" { // a derivative
			inst.Market = kind
			inst.Base, inst.Quote, _ = strings.Cut(string(s.GetStringBytes("uly")), "-")
			if string(s.GetStringBytes("ctMult")) == "1" { // no other is listed, so what it would mean is not known
				inst.ContractSize = string(s.GetStringBytes("ctVal"))
			}
		}
		inst.Pair = inst.Base + "-" + inst.Quote
		if inst.PxScale, inst.QtyScale, err = gridScales(inst.Tick, inst.Lot); err != nil {
			return nil, 0, fmt.Errorf("cannot read tickSz %q or lotSz %q of %q in instruments: %w", inst.Tick, inst.Lot, inst.Symbol, err)
		}
		insts = append(insts, inst)
	}
	return insts, 0, nil
}

func (okx) NewDecoder(insts []event.Instrument) Decoder {
	return &okxDecoder{inStream: inStream{newDecoding(insts)}}
}

type okxDecoder struct {
	inStream
	asks []event.Level // of a message: they come before the bids
	text []byte        // what messages borrow
}

// Decode reads a push {"arg":…,"data":[…]}, an event, or the text pong.
func (d *okxDecoder) Decode(frame []byte, b *Batch) ledger.Reason {
	if d.scan(frame, b) {
		d.parser.forget()
		return ledger.Accepted
	}
	return d.handedOver(d.parse(frame, b), b)
}

// parse is Decode without the scanner.
func (d *okxDecoder) parse(frame []byte, b *Batch) ledger.Reason {
	b.Reset()
	if string(frame) == "pong" {
		b.Messages = append(b.Messages, Message{Kind: KindControl, Inst: -1, TsEvent: event.Null})
		return ledger.Accepted
	}
	v, reason := d.parser.object(frame)
	if reason != ledger.Accepted {
		return reason
	}
	if name := v.GetStringBytes("event"); name != nil {
		return okxEvent(name, v, b)
	}
	arg := v.Get("arg")
	m := Message{First: event.Null, Seq: event.Null, SeqPrev: event.Null, TsEvent: event.Null}
	action := v.GetStringBytes("action") // of books only
	right := true
	switch string(arg.GetStringBytes("channel")) {
	case okxBook:
		m.Kind = KindDelta
		if string(action) == "snapshot" {
			m.Kind = KindSnapshot
		} else {
			right = string(action) == "update"
		}
	case okxTrades:
		m.Kind = KindTrade
	case okxQuotes:
		m.Kind = KindQuote
	default:
		return ledger.UnknownShape
	}
	var known bool
	if m.Inst, known = d.bySymbol[string(arg.GetStringBytes("instId"))]; !known {
		return ledger.UnknownSymbol
	}
	list := v.GetArray("data")
	if len(list) == 0 || !right {
		b.Messages = append(b.Messages, m)
		return ledger.Malformed
	}
	for _, data := range list {
		b.Messages = append(b.Messages, m)
		if reason := d.message(data, &b.Messages[len(b.Messages)-1], b); reason != ledger.Accepted {
			b.Messages = b.Messages[:1] // all are of one instrument
			return reason
		}
	}
	return ledger.Accepted
}

// okxEvent reads an answer or an announcement.
func okxEvent(name []byte, v *fastjson.Value, b *Batch) ledger.Reason {
	m := Message{Inst: -1, TsEvent: event.Null, ID: commandID(v, "id")}
	switch string(name) {
	case "subscribe", "unsubscribe":
		m.Kind = KindAck
	case "error":
		m.Kind, m.Text = KindRefused, v.GetStringBytes("msg")
	case "notice":
		if string(v.GetStringBytes("code")) != "64008" { // the only one that says that the end is near
			return ledger.UnknownShape
		}
		m.Kind, m.Text = KindNotice, v.GetStringBytes("msg")
	default:
		return ledger.UnknownShape
	}
	b.Messages = append(b.Messages, m)
	return ledger.Accepted
}

// message reads one element of data into m, which has its kind and instrument.
func (d *okxDecoder) message(data *fastjson.Value, m *Message, b *Batch) ledger.Reason {
	ms, ok := whole(data.GetStringBytes("ts"))
	if ok {
		m.TsEvent, ok = millis(ms)
	}
	if !ok {
		return ledger.Malformed
	}
	if m.Kind == KindTrade {
		return d.trade(data, m)
	}
	if data.Exists("seqId") || data.Exists("prevSeqId") { // frames of 2022 have neither
		if m.Seq, ok = id(data, "seqId"); !ok {
			return ledger.Malformed
		}
	}
	reason := bothSides(data.Get("bids"), data.Get("asks"), d.scales[m.Inst], m, b)
	if m.Kind == KindQuote {
		if reason == ledger.Accepted {
			reason = touch(m, b)
		}
		return reason
	}
	if m.Seq != event.Null {
		prev := data.Get("prevSeqId")
		if prev == nil {
			return ledger.Malformed
		}
		n, err := prev.Int64()
		if err != nil || n < -1 { // -1: a snapshot follows on nothing
			return ledger.Malformed
		}
		m.SeqPrev = n
	}
	if c := data.Get("checksum"); c != nil { // as a signed number, or an unsigned one
		crc, err := c.Int64()
		if err != nil || crc < math.MinInt32 || crc > math.MaxUint32 {
			return ledger.Malformed
		}
		m.Checksum, m.HasChecksum = uint32(crc), crc != 0
	}
	return reason
}

func (d *okxDecoder) trade(data *fastjson.Value, m *Message) ledger.Reason {
	if inst, ok := d.bySymbol[string(data.GetStringBytes("instId"))]; !ok || inst != m.Inst {
		return ledger.Malformed
	}
	m.TradeID = data.GetStringBytes("tradeId")
	count, okCount := int64(1), true
	if c := data.Get("count"); c != nil {
		count, okCount = whole(c.GetStringBytes())
	}
	var ok bool
	if m.TradeNum, ok = whole(m.TradeID); !ok || !okCount || count < 1 || count > m.TradeNum+1 {
		return ledger.Malformed
	}
	m.TradeFirst = m.TradeNum - (count - 1)
	switch string(data.GetStringBytes("side")) { // of the one who took
	case "buy":
		m.Side = event.Bid
	case "sell":
		m.Side = event.Ask
	default:
		return ledger.Malformed
	}
	if data.Exists("seqId") { // frames of 2024 have none
		if m.Seq, ok = id(data, "seqId"); !ok {
			return ledger.Malformed
		}
	}
	return pxQty(data.Get("px"), data.Get("sz"), d.scales[m.Inst], m)
}
