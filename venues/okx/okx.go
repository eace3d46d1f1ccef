// Package okx decodes the public stream of OKX v5, and says what its messages prove:
// scan.go reads the shapes that make up the load, okx.go every shape.
//
// Like every venue it is pure: it must never touch a socket, a file, a clock or a
// goroutine, and must never keep a frame's bytes.
//
// Invariants: those of package venues, which has what the venues share.
package okx

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
	"deeptape/venues"
)

// Venue is the public stream of OKX v5: books of 400 levels, trades and bbo-tbt.
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
type Venue struct{}

var rules = venues.Rules{
	Name: "okx", Market: "spot",
	Continuity: venues.PrevLink, Proof: event.ProofChain,
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
	SubscriptionBytesMax:  64 << 10,
	LongestCommandStreams: 1, // a refusal names no topic, so each has an id of its own
}

func (Venue) Rules() *venues.Rules { return &rules }

// Symbol takes two parts, a pair, or three: the third is SWAP or the day on which a future
// ends.
func (Venue) Symbol(s string) (string, error) {
	parts := strings.Split(s, "-")
	ok := len(parts) == 2 || len(parts) == 3
	for _, p := range parts {
		ok = ok && venues.IsName(p, "_")
	}
	if !ok {
		return "", fmt.Errorf("%q is not an OKX symbol; they look like BTC-USDT, BTC-USDT-SWAP or BTC-USD-261225", s)
	}
	return strings.ToUpper(s), nil
}

// instType is the instType of a symbol.
func instType(symbol string) string {
	switch {
	case strings.HasSuffix(symbol, "-SWAP"):
		return "SWAP"
	case strings.Count(symbol, "-") == 2:
		return "FUTURES"
	}
	return "SPOT"
}

func (Venue) StreamPath([]event.Instrument, bool) string { return "" } // the URL is whole

const (
	bookChannel   = "books"
	tradesChannel = "trades"
	quotesChannel = "bbo-tbt"
)

func (Venue) Subscribe(insts []event.Instrument, sub venues.Subscription) []venues.Command {
	var commands []venues.Command
	for i, inst := range insts {
		commands = append(commands, subscribe(inst, i, sub.All(), int64(len(commands)+1))...)
	}
	return commands
}

func (Venue) Again(of event.Instrument, inst int, streams venues.Streams, _ venues.Subscription, id int64) []venues.Command {
	return subscribe(of, inst, streams, id)
}

// subscribe makes a command for each stream, and so each is answered.
func subscribe(of event.Instrument, inst int, streams venues.Streams, id int64) (commands []venues.Command) {
	for s, channel := range []string{bookChannel, tradesChannel, quotesChannel} {
		if streams.Has(event.Stream(s)) {
			c := command("subscribe", channel, of.Symbol, id+int64(len(commands)), inst)
			c.Streams = venues.StreamsOf(event.Stream(s))
			commands = append(commands, c)
		}
	}
	return commands
}

func (Venue) Resubscribe(inst event.Instrument, _ venues.Subscription, id int64) []venues.Command {
	return append([]venues.Command{command("unsubscribe", bookChannel, inst.Symbol, id, -1)}, subscribe(inst, -1, venues.BookStream, id+1)...)
}

func command(op, channel, symbol string, id int64, inst int) venues.Command {
	text := `{"id":"` + strconv.FormatInt(id, 10) + `","op":"` + op + `","args":[{"channel":"` + channel + `","instId":"` + symbol + `"}]}`
	return venues.Command{ID: id, Text: text, Acks: 1, Inst: inst}
}

func (Venue) Ping(int64) string { return "ping" } // no JSON, and no frame of the kind ping

// Checksum is the CRC-32 of "px:size" of the levels, the first bid, the first ask,
// the second bid and so on, joined by colons. The venue trims surplus zeros, and so
// does fixed.Append. scratch needs 64 bytes; with fewer it allocates.
func (Venue) Checksum(bids, asks []book.Level, pxScale, qtyScale int8, scratch []byte) uint32 {
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

// SnapshotRequest is empty: snapshots come in the stream.
func (Venue) SnapshotRequest(string, int) venues.Request { return venues.Request{} }

func (Venue) SnapshotRefused([]byte) (string, bool) { return "", false } // nothing is fetched

// InstrumentsRequest asks for the type of the first symbol: the venue lists one at a
// time, see Groups.
func (Venue) InstrumentsRequest(symbols []string) venues.Request {
	return venues.Request{Path: "/api/v5/public/instruments?instType=" + instType(symbols[0]), Weight: 1}
}

// Groups parts symbols by their type: the venue lists one type at a time.
func (Venue) Groups(symbols []string) [][]string {
	var groups [][]string
	place := map[string]int{}
	for _, s := range symbols {
		i, ok := place[instType(s)]
		if !ok {
			i = len(groups)
			place[instType(s)] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], s)
	}
	return groups
}

func (Venue) Instruments(body []byte, symbols []string) ([]event.Instrument, int, error) {
	v, err := venues.ParseAnswer(body)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read instruments: %w", err)
	}
	if code := v.GetStringBytes("code"); string(code) != "0" {
		return nil, 0, fmt.Errorf("cannot list instruments: code %q: %s", code, v.GetStringBytes("msg"))
	}
	wanted := venues.FoldedNames(symbols)
	var insts []event.Instrument
	for _, s := range v.GetArray("data") {
		inst := event.Instrument{
			Venue: rules.Name, Market: rules.Market, Source: "instruments",
			Symbol: string(s.GetStringBytes("instId")), Status: string(s.GetStringBytes("state")),
			Base: string(s.GetStringBytes("baseCcy")), Quote: string(s.GetStringBytes("quoteCcy")),
			Tick: string(s.GetStringBytes("tickSz")), Lot: string(s.GetStringBytes("lotSz")),
		}
		if !wanted.Has(inst.Symbol) {
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
		if inst.PxScale, inst.QtyScale, err = venues.GridScales(inst.Tick, inst.Lot); err != nil {
			return nil, 0, fmt.Errorf("cannot read tickSz %q or lotSz %q of %q in instruments: %w", inst.Tick, inst.Lot, inst.Symbol, err)
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
	asks []event.Level // of a message: they come before the bids
	text []byte        // what messages borrow
}

// Decode reads a push {"arg":…,"data":[…]}, an event, or the text pong.
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
	if string(frame) == "pong" {
		b.Messages = append(b.Messages, venues.Message{Kind: venues.KindControl, Inst: -1, TsEvent: event.Null})
		return ledger.Accepted
	}
	v, reason := d.Parser.Object(frame)
	if reason != ledger.Accepted {
		return reason
	}
	if name := v.GetStringBytes("event"); name != nil {
		return decodeEvent(name, v, b)
	}
	arg := v.Get("arg")
	m := venues.Message{First: event.Null, Seq: event.Null, SeqPrev: event.Null, TsEvent: event.Null}
	action := v.GetStringBytes("action") // of books only
	right := true
	switch string(arg.GetStringBytes("channel")) {
	case bookChannel:
		m.Kind = venues.KindDelta
		if string(action) == "snapshot" {
			m.Kind = venues.KindSnapshot
		} else {
			right = string(action) == "update"
		}
	case tradesChannel:
		m.Kind = venues.KindTrade
	case quotesChannel:
		m.Kind = venues.KindQuote
	default:
		return ledger.UnknownShape
	}
	var known bool
	if m.Inst, known = d.BySymbol[string(arg.GetStringBytes("instId"))]; !known {
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

// decodeEvent reads an answer or an announcement.
func decodeEvent(name []byte, v *fastjson.Value, b *venues.Batch) ledger.Reason {
	m := venues.Message{Inst: -1, TsEvent: event.Null, ID: venues.CommandID(v, "id")}
	switch string(name) {
	case "subscribe", "unsubscribe":
		m.Kind = venues.KindAck
	case "error":
		m.Kind, m.Text = venues.KindRefused, v.GetStringBytes("msg")
	case "notice":
		if string(v.GetStringBytes("code")) != "64008" { // the only one that says that the end is near
			return ledger.UnknownShape
		}
		m.Kind, m.Text = venues.KindNotice, v.GetStringBytes("msg")
	default:
		return ledger.UnknownShape
	}
	b.Messages = append(b.Messages, m)
	return ledger.Accepted
}

// message reads one element of data into m, which has its kind and instrument.
func (d *decoder) message(data *fastjson.Value, m *venues.Message, b *venues.Batch) ledger.Reason {
	ms, ok := venues.Whole(data.GetStringBytes("ts"))
	if ok {
		m.TsEvent, ok = venues.MillisNs(ms)
	}
	if !ok {
		return ledger.Malformed
	}
	if m.Kind == venues.KindTrade {
		return d.trade(data, m)
	}
	if data.Exists("seqId") || data.Exists("prevSeqId") { // frames of 2022 have neither
		if m.Seq, ok = venues.Uint(data, "seqId"); !ok {
			return ledger.Malformed
		}
	}
	reason := venues.BothSides(data.Get("bids"), data.Get("asks"), d.Scales[m.Inst], m, b)
	if m.Kind == venues.KindQuote {
		if reason == ledger.Accepted {
			reason = venues.Touch(m, b)
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

func (d *decoder) trade(data *fastjson.Value, m *venues.Message) ledger.Reason {
	if inst, ok := d.BySymbol[string(data.GetStringBytes("instId"))]; !ok || inst != m.Inst {
		return ledger.Malformed
	}
	m.TradeID = data.GetStringBytes("tradeId")
	count, okCount := int64(1), true
	if c := data.Get("count"); c != nil {
		count, okCount = venues.Whole(c.GetStringBytes())
	}
	var ok bool
	if m.TradeNum, ok = venues.Whole(m.TradeID); !ok || !okCount || count < 1 || count > m.TradeNum+1 {
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
		if m.Seq, ok = venues.Uint(data, "seqId"); !ok {
			return ledger.Malformed
		}
	}
	return venues.PxQty(data.Get("px"), data.Get("sz"), d.Scales[m.Inst], m)
}
