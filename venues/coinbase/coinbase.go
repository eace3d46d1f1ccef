// Package coinbase decodes Coinbase Advanced, and says what its messages prove:
// scan.go reads the shapes that make up the load, coinbase.go every shape, large.go the
// snapshots that are too long to be parsed as one text.
//
// Like every venue it is pure: it must never touch a socket, a file, a clock or a
// goroutine, and must never keep a frame's bytes.
//
// Invariants: those of package venues, which has what the venues share.
package coinbase

import (
	"fmt"
	"strings"

	"github.com/valyala/fastjson"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
)

// Venue is the spot market of Coinbase Advanced Trade, public and without a key.
//
// Proof of the book: the venue numbers every text frame of a connection, from 0, acks
// and heartbeats too. A frame that was lost, came twice or changed places with another
// is seen at the next frame, within a second because of the heartbeats; but nothing
// says whose it was, so every book of the connection is suspect, which is why few
// share one. That proves transport only: there is no checksum, and a flipped digit of
// a price, a size or a time goes unseen. A frame that can be read but not understood
// keeps its number if it is known which instruments have lost by it. Where it may be
// any, it loses its number too, and the hole condemns them all.
//
// The book is whole, tens of thousands of levels, and its snapshot comes in the stream,
// also before the ack. Deletes of levels that are not there are routine. Trades of a
// product are numbered without holes; the last hundred come again on every connection,
// and are known by their numbers. Their side is the maker's, which here becomes the
// aggressor's.
//
// Answers do not say which command they answer. Each ack tells all that is subscribed,
// which is taken as an ack of every command that it bears out: again and again.
// A refusal names neither command nor product.
type Venue struct{}

var rules = venues.Rules{
	Name: "coinbase", Market: "spot",
	Continuity: venues.ConnCounter, Proof: event.ProofConnectionSeq,
	TradesCount:   true,
	AcksList:      true,
	LevelsMax:     250_000, // BTC-USD, the largest that was recorded, has 44,000
	SilenceNs:     12.5e9,  // longest healthy silence in the recordings: 4.15 s (NU-GBP)
	TradingStatus: "online",
	WSURL:         "wss://advanced-trade-ws.coinbase.com", RestURL: "https://api.coinbase.com",

	InstrumentsPerConn: 4,
	StreamsPerConn:     9, // two each, and the heartbeats
	ConnectsPerWindow:  8, ConnectWindowNs: 1e9,
	CommandsPerSecond:     8,
	CommandsOfAddress:     true,
	RestWeightPerMinute:   600,      // 10 requests a second
	DeadAfterNs:           10e9,     // ten heartbeats
	MessageBytesMax:       20 << 20, // a snapshot of BTC-USD has 4.8 MB
	AnswerBytesMax:        8 << 20,
	LongestCommandStreams: 1, // so that snapshots do not come all at once, and an ack tells each
}

func (Venue) Rules() *venues.Rules { return &rules }

// Symbol takes two names with a dash between them.
func (Venue) Symbol(s string) (string, error) {
	base, quote, _ := strings.Cut(s, "-")
	if !venues.IsName(base, "") || !venues.IsName(quote, "") {
		return "", fmt.Errorf("%q is not a Coinbase symbol; they look like BTC-USD", s)
	}
	return strings.ToUpper(s), nil
}

// Product knows that what is quoted in USDC is another name of what is quoted in USD,
// with two exceptions. The metadata says the same, but cannot always be had.
func (Venue) Product(symbol string) string {
	base, ok := strings.CutSuffix(symbol, "-USDC")
	if !ok || base == "USDT" || base == "EURC" {
		return symbol
	}
	return base + "-USD"
}

func (Venue) StreamPath([]event.Instrument, bool) string { return "" } // the URL is whole

// Subscribe asks for the heartbeats first, because they keep a quiet connection open and the
// counter going; then book and trades of one product after the other.
func (v Venue) Subscribe(insts []event.Instrument, sub venues.Subscription) []venues.Command {
	commands := []venues.Command{{ID: heartbeatsID, Text: `{"type":"subscribe","channel":"heartbeats"}`, Acks: 1, Inst: -1}}
	for i, inst := range insts {
		commands = append(commands, v.Again(inst, i, venues.BookStream|venues.TradesStream, sub, 0)...)
	}
	return commands
}

// Again gives the commands the ids of their streams, because the answers have none.
func (Venue) Again(of event.Instrument, inst int, streams venues.Streams, _ venues.Subscription, _ int64) (commands []venues.Command) {
	for s, channel := range []string{"level2", "market_trades"} {
		if streams.Has(event.Stream(s)) {
			commands = append(commands, venues.Command{
				ID: streamID(inst, channel), Text: command("subscribe", channel, of), Acks: 1, Inst: inst, Streams: venues.StreamsOf(event.Stream(s)),
			})
		}
	}
	return commands
}

// Resubscribe ends and renews the book; the trades go on. No ack can be told from
// those of other commands: the new snapshot is the answer.
func (Venue) Resubscribe(inst event.Instrument, _ venues.Subscription, id int64) []venues.Command {
	return []venues.Command{
		{ID: id, Text: command("unsubscribe", "level2", inst), Inst: -1},
		{ID: id + 1, Text: command("subscribe", "level2", inst), Inst: -1, Streams: venues.BookStream},
	}
}

const heartbeatsID = 1

// streamID of the command that subscribes to a channel of instrument inst. The
// decoder finds it again from what an ack says.
func streamID(inst int, channel string) int64 {
	id := int64(2 + 2*inst)
	if channel == "market_trades" {
		id++
	}
	return id
}

func command(what, channel string, inst event.Instrument) string {
	return `{"type":"` + what + `","product_ids":["` + inst.Symbol + `"],"channel":"` + channel + `"}`
}

func (Venue) Ping(int64) string { return "" } // the heartbeats do

func (Venue) Checksum(_, _ []book.Level, _, _ int8, _ []byte) uint32 { return 0 } // it has none

// SnapshotRequest is empty: snapshots come in the stream, and nothing ties a REST book
// to it.
func (Venue) SnapshotRequest(string, int) venues.Request { return venues.Request{} }

func (Venue) SnapshotRefused([]byte) (string, bool) { return "", false } // nothing is fetched

func (Venue) InstrumentsRequest(symbols []string) venues.Request {
	return venues.Request{Path: "/api/v3/brokerage/market/products?product_ids=" + venues.Escaped(strings.Join(symbols, "&product_ids=")), Weight: 1}
}

func (Venue) WholeList() venues.Request {
	return venues.Request{Path: "/api/v3/brokerage/market/products", Weight: 1}
}

// Instruments reads a list of products. A symbol that is only an alias has the data of
// the product that it stands for, whose name is its Pair.
func (Venue) Instruments(body []byte, symbols []string) ([]event.Instrument, int, error) {
	v, err := venues.ParseAnswer(body)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read products: %w", err)
	}
	list := v.Get("products")
	if list == nil || list.Type() != fastjson.TypeArray {
		return nil, 0, fmt.Errorf("cannot read products: there is no list in %.200q", body)
	}
	products := map[string]*fastjson.Value{}
	for _, p := range list.GetArray() {
		for _, alias := range p.GetArray("alias_to") {
			if name := string(alias.GetStringBytes()); products[name] == nil {
				products[name] = p
			}
		}
	}
	for _, p := range list.GetArray() { // a name of its own outranks an alias
		products[string(p.GetStringBytes("product_id"))] = p
	}
	var insts []event.Instrument
	for _, symbol := range symbols {
		p := products[symbol]
		if p == nil {
			continue
		}
		inst := event.Instrument{
			Venue: rules.Name, Market: rules.Market, Source: "products", Symbol: symbol,
			Pair: string(p.GetStringBytes("product_id")), Status: string(p.GetStringBytes("status")),
			Tick: string(p.GetStringBytes("price_increment")), Lot: string(p.GetStringBytes("base_increment")),
		}
		if of := string(p.GetStringBytes("alias")); of != "" {
			inst.Pair = of
		}
		inst.Base, inst.Quote, _ = strings.Cut(inst.Pair, "-")
		for _, limit := range []string{"post_only", "limit_only", "cancel_only", "view_only", "trading_disabled"} {
			if p.GetBool(limit) {
				inst.Status = limit // the severest stands last
			}
		}
		if inst.PxScale, inst.QtyScale, err = venues.GridScales(inst.Tick, inst.Lot); err != nil {
			return nil, 0, fmt.Errorf("cannot read increments of %q in products: %w", symbol, err)
		}
		insts = append(insts, inst)
	}
	return insts, 0, nil
}

func (Venue) NewDecoder(insts []event.Instrument) venues.Decoder {
	d := &decoder{InStream: venues.InStream{Decoding: venues.NewDecoding(insts)}}
	for i, inst := range insts { // an alias gives way to a name of its own
		for _, name := range []string{inst.Pair, Venue{}.Product(inst.Symbol)} {
			if _, taken := d.BySymbol[name]; !taken && name != "" {
				d.BySymbol[name] = i
			}
		}
	}
	d.Names = venues.NewNameTable(d.BySymbol)
	return d
}

type decoder struct {
	venues.InStream
	minute venues.TimeReader
	text   []byte // what messages borrow

	// Of a large frame: what is left when the levels are taken out, and they.
	frame  []byte
	levels [][]byte
	level  fastjson.Parser
}

// Decode reads a numbered frame of a channel, or an error.
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
	d.levels = d.levels[:0]
	if len(frame) > largeBytes {
		var reason ledger.Reason
		if frame, reason = d.takeOut(frame); reason != ledger.Accepted {
			return reason
		}
	}
	v, reason := d.Parser.Object(frame)
	if reason != ledger.Accepted {
		return reason
	}
	if string(v.GetStringBytes("type")) == "error" {
		b.Messages = append(b.Messages, venues.Message{Kind: venues.KindRefused, Inst: -1, TsEvent: event.Null, Text: v.GetStringBytes("message")})
		return ledger.Accepted
	}
	if n, ok := venues.Uint(v, "sequence_num"); ok {
		b.ConnSeq = n
	}
	switch string(v.GetStringBytes("channel")) {
	case "heartbeats": // its counter is a text or a number, and the time is Go's own format: neither is needed
		return d.control(b)
	case "subscriptions":
		return d.subscriptions(v, b)
	case "l2_data":
		return d.events(v, false, b)
	case "market_trades":
		return d.events(v, true, b)
	}
	return ledger.UnknownShape
}

func (d *decoder) control(b *venues.Batch) ledger.Reason {
	if b.ConnSeq == event.Null {
		return ledger.Malformed
	}
	b.Messages = append(b.Messages, venues.Message{Kind: venues.KindControl, Inst: -1, TsEvent: event.Null})
	return ledger.Accepted
}

// subscriptions: all that is subscribed by now.
func (d *decoder) subscriptions(v *fastjson.Value, b *venues.Batch) ledger.Reason {
	if reason := d.control(b); reason != ledger.Accepted {
		return reason
	}
	for _, e := range v.GetArray("events") {
		set := e.Get("subscriptions")
		if set.Exists("heartbeats") {
			b.Messages = append(b.Messages, venues.Message{Kind: venues.KindAck, Inst: -1, TsEvent: event.Null, ID: heartbeatsID})
		}
		for _, channel := range [...]string{"level2", "market_trades"} {
			for _, product := range set.GetArray(channel) {
				if inst, ok := d.BySymbol[string(product.GetStringBytes())]; ok {
					b.Messages = append(b.Messages, venues.Message{Kind: venues.KindAck, Inst: inst, TsEvent: event.Null, ID: streamID(inst, channel)})
				}
			}
		}
	}
	return ledger.Accepted
}

// events reads the books or the trades of a frame, or says whose it would have held.
func (d *decoder) events(v *fastjson.Value, trades bool, b *venues.Batch) ledger.Reason {
	list := v.Get("events")
	reason := ledger.Accepted
	if b.ConnSeq == event.Null || list == nil || list.Type() != fastjson.TypeArray {
		reason = ledger.Malformed
	}
	for _, e := range list.GetArray() {
		if reason != ledger.Accepted {
			break
		}
		if trades {
			reason = d.trades(e, b)
		} else {
			reason = d.book(e, b)
		}
	}
	if reason == ledger.Accepted {
		if trades {
			venues.SortTrades(b.Messages)
		}
		return reason
	}
	b.Messages = b.Messages[:0]
	if !d.whose(list, trades, b) {
		b.ConnSeq = event.Null
	}
	return reason
}

// whose puts into b of whom a rejected frame held messages. It returns false if that
// is not all.
func (d *decoder) whose(events *fastjson.Value, trades bool, b *venues.Batch) (all bool) {
	if events == nil || events.Type() != fastjson.TypeArray {
		return false
	}
	all = true
	note := func(kind venues.Kind, of *fastjson.Value) {
		if inst, ok := d.inst(of); ok {
			venues.MarkLost(b, kind, inst)
		} else if of.GetStringBytes("product_id") == nil {
			all = false
		}
	}
	for _, e := range events.GetArray() {
		switch list := e.Get("trades"); {
		case !trades && kind(e) == venues.KindSnapshot:
			note(venues.KindSnapshot, e)
		case !trades:
			note(venues.KindDelta, e)
		case list == nil || list.Type() != fastjson.TypeArray:
			all = false
		default:
			for _, t := range list.GetArray() {
				note(venues.KindTrade, t)
			}
		}
	}
	return all
}

func (d *decoder) inst(of *fastjson.Value) (int, bool) {
	i, ok := d.BySymbol[string(of.GetStringBytes("product_id"))]
	return i, ok
}

// kind is KindControl where the venue has no such event.
func kind(e *fastjson.Value) venues.Kind {
	switch string(e.GetStringBytes("type")) {
	case "snapshot":
		return venues.KindSnapshot
	case "update":
		return venues.KindDelta
	}
	return venues.KindControl
}

// book reads an event of one product. Its time is that of its latest level.
func (d *decoder) book(e *fastjson.Value, b *venues.Batch) ledger.Reason {
	inst, ok := d.inst(e)
	if !ok {
		return ledger.UnknownSymbol
	}
	sc := d.Scales[inst]
	need := sc
	m := venues.Message{Kind: kind(e), Inst: inst, First: event.Null, Seq: b.ConnSeq, SeqPrev: event.Null, TsEvent: event.Null, Lo: len(b.Levels)}
	updates := e.Get("updates")
	if m.Kind == venues.KindControl || updates == nil {
		return ledger.Malformed
	}
	reason := ledger.Malformed
	if updates.Type() == fastjson.TypeArray {
		reason = ledger.Accepted
		for _, u := range updates.GetArray() {
			if reason = level(u, sc, &need, &m, b); reason != ledger.Accepted {
				break
			}
		}
	} else if n, ok := venues.Uint(e, "updates"); ok && n < int64(len(d.levels)) {
		reason = d.takenOut(d.levels[n], sc, &need, &m, b)
	}
	m.Hi, m.PxScale, m.QtyScale = len(b.Levels), need.Px, need.Qty
	b.Messages = append(b.Messages, m)
	return reason
}

func level(u *fastjson.Value, sc venues.Scales, need *venues.Scales, m *venues.Message, b *venues.Batch) ledger.Reason {
	var l event.Level
	switch string(u.GetStringBytes("side")) {
	case "bid":
		l.Side = event.Bid
	case "offer":
		l.Side = event.Ask
	default:
		return ledger.Malformed
	}
	ts, ok := venues.RFC3339Time(u, "event_time")
	if !ok {
		return ledger.Malformed
	}
	m.TsEvent = max(m.TsEvent, ts)
	var reason ledger.Reason
	if l.Px, reason = venues.Decimal(u.Get("price_level"), sc.Px, &need.Px); reason != ledger.Accepted {
		return reason
	}
	if l.Qty, reason = venues.Size(u.Get("new_quantity"), sc.Qty, &need.Qty); reason != ledger.Accepted {
		return reason
	}
	b.Levels = append(b.Levels, l)
	return ledger.Accepted
}

func (d *decoder) trades(e *fastjson.Value, b *venues.Batch) ledger.Reason {
	list := e.Get("trades")
	if list == nil || list.Type() != fastjson.TypeArray {
		return ledger.Malformed
	}
	for _, t := range list.GetArray() {
		if reason := d.trade(t, b); reason != ledger.Accepted {
			return reason
		}
	}
	return ledger.Accepted
}

func (d *decoder) trade(t *fastjson.Value, b *venues.Batch) ledger.Reason {
	inst, ok := d.inst(t)
	if !ok {
		return ledger.UnknownSymbol
	}
	m := venues.Message{Kind: venues.KindTrade, Inst: inst, First: event.Null, Seq: event.Null, SeqPrev: event.Null, TradeID: t.GetStringBytes("trade_id")}
	var okNum, okTime bool
	m.TradeNum, okNum = venues.Whole(m.TradeID)
	m.TsEvent, okTime = venues.RFC3339Time(t, "time")
	if !okNum || !okTime {
		return ledger.Malformed
	}
	m.TradeFirst = m.TradeNum
	switch string(t.GetStringBytes("side")) { // the maker's
	case "SELL":
		m.Side = event.Bid
	case "BUY":
		m.Side = event.Ask
	default:
		return ledger.Malformed
	}
	reason := venues.PxQty(t.Get("price"), t.Get("size"), d.Scales[inst], &m)
	b.Messages = append(b.Messages, m)
	return reason
}
