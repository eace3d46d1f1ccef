// Package kraken decodes the spot market of Kraken, and says what its messages prove:
// scan.go reads the shapes that make up the load, kraken.go every shape.
//
// Like every venue it is pure: it must never touch a socket, a file, a clock or a
// goroutine, and must never keep a frame's bytes.
//
// Invariants: those of package venues, which has what the venues share.
package kraken

import (
	"bytes"
	"errors"
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

// Venue is the spot market of Kraken, WebSocket v2.
//
// Proof of the book: every message carries the CRC-32 of the best ten levels a side as
// they stand after it. There is no id of any kind. So a wrong digit among the best ten
// is seen by the message that brings it, and a lost or cut message by the next one of
// its symbol if it changed the best ten. What it cannot see: a level below rank ten
// that was lost, or is wrong, until it comes among the best ten (then the message that
// brings it there tells), or is set again, removed or pushed out (then the book has
// healed); a message that came twice, or two of the same levels that changed places
// below rank ten; and a wrong time. Of the recording's messages that were taken out 8
// in 10 were told of, within 198 messages; 1 in 10 healed unseen, and 1 in 10 stayed
// unseen for 200. A frame that cannot be read at all does not say whose it was. Trades
// of a symbol are numbered without holes.
//
// The venue does not remove what falls out of the subscribed depth: the book is cut
// after each whole message.
//
// The checksum is over the digits as they are printed, surplus zeros and all, so the
// scales of an instrument must be the decimals of its book as they are printed. They
// come from the book's messages themselves, the first of which is the snapshot, and
// not from the metadata: a scale that is too fine would break every checksum, and
// scales only grow. If the venue prints fewer decimals one day, the checksums fail
// until the next start.
type Venue struct{}

var rules = venues.Rules{
	Name: "kraken", Market: "spot",
	Continuity: venues.ChecksumOnly, Proof: event.ProofCRC,
	Truncate: true, ChecksumTop: 10, TradesCount: true,
	LevelsMax:     20_000, // 1,000 a side, and what one message adds before the cut
	SilenceNs:     27e9,   // longest healthy silence in the recordings: 9 s (MINA/GBP)
	TradingStatus: "online",
	WSURL:         "wss://ws.kraken.com/v2", RestURL: "https://api.kraken.com",
	Depth: 1000, Depths: []int{10, 25, 100, 500, 1000},

	InstrumentsPerConn: 25, // no documented limit; a busy book of 1000 brings 50 messages a second
	StreamsPerConn:     50,
	ConnectsPerWindow:  150, ConnectWindowNs: 600e9,
	DeadAfterNs:           5e9,     // five heartbeats; they come whatever else does
	MessageBytesMax:       1 << 20, // a snapshot of 1,000 levels a side has some 130 kB
	AnswerBytesMax:        8 << 20, // all pairs
	CommandsPerSecond:     2,       // the limit is unpublished and depends on the load
	RestWeightPerMinute:   60,
	LongestCommandStreams: 10,
}

func (Venue) Rules() *venues.Rules { return &rules }

// newerNames are those of the older API and of REST.
var newerNames = map[string]string{"XBT": "BTC", "XDG": "DOGE"}

// Renamed gives the stream's BTC and DOGE for the XBT and XDG of the list of pairs.
func (Venue) Renamed(listed string) string {
	if !strings.Contains(listed, "/") {
		return listed
	}
	return newerName(listed)
}

// newerName is the spelling of v2 for a name in that of the older API.
func newerName(old string) string {
	base, quote, _ := strings.Cut(old, "/")
	if name, ok := newerNames[base]; ok {
		base = name
	}
	if name, ok := newerNames[quote]; ok {
		quote = name
	}
	return base + "/" + quote
}

// Symbol takes two names with a slash between them. One that is written with a capital stays
// as it is: a tokenized stock ends with a small x (AAPLx/USD), and the socket refuses it
// in capitals. The venue's list has the last word.
func (Venue) Symbol(s string) (string, error) {
	base, quote, _ := strings.Cut(s, "/")
	if !venues.IsName(base, ".") || !venues.IsName(quote, ".") {
		return "", fmt.Errorf("%q is not a Kraken symbol; they look like BTC/USD", s)
	}
	if capitals := strings.ToUpper(s); newerName(capitals) != capitals {
		return "", fmt.Errorf("%q is spelled as in Kraken's older API; write %s", s, newerName(capitals))
	}
	return capitals(base) + "/" + capitals(quote), nil
}

func capitals(name string) string {
	if name == strings.ToLower(name) {
		return strings.ToUpper(name)
	}
	return name
}

func (Venue) StreamPath([]event.Instrument, bool) string { return "" } // the URL is whole

// Subscribe asks for a few symbols at a time. Each symbol is answered for itself.
func (Venue) Subscribe(insts []event.Instrument, sub venues.Subscription) []venues.Command {
	var commands []venues.Command
	for from := 0; from < len(insts); from += rules.LongestCommandStreams {
		some := insts[from:min(len(insts), from+rules.LongestCommandStreams)]
		commands = append(commands, subscribe(some, from, venues.BookStream|venues.TradesStream, sub, int64(len(commands)+1))...)
	}
	return commands
}

func (Venue) Again(of event.Instrument, inst int, streams venues.Streams, sub venues.Subscription, id int64) []venues.Command {
	return subscribe([]event.Instrument{of}, inst, streams, sub, id)
}

func subscribe(some []event.Instrument, from int, streams venues.Streams, sub venues.Subscription, id int64) (commands []venues.Command) {
	for s, params := range []string{bookParams(sub.Depth, true), tradeParams} {
		if !streams.Has(event.Stream(s)) {
			continue
		}
		c := command("subscribe", params, some, id+int64(len(commands)), from)
		if c.Streams = venues.StreamsOf(event.Stream(s)); len(some) > 1 {
			c.Inst, c.Several = -1, [2]int{from, from + len(some)}
		}
		commands = append(commands, c)
	}
	return commands
}

// Resubscribe ends and renews the book; the trades go on.
func (Venue) Resubscribe(inst event.Instrument, sub venues.Subscription, id int64) []venues.Command {
	one := []event.Instrument{inst}
	return append([]venues.Command{command("unsubscribe", bookParams(sub.Depth, false), one, id, -1)}, subscribe(one, -1, venues.BookStream, sub, id+1)...)
}

// The trades before the subscription are not asked for: they would bear the time at
// which we heard of them.
const tradeParams = `"channel":"trade","snapshot":false`

func bookParams(depth int, snapshot bool) string {
	s := `"channel":"book","depth":` + strconv.Itoa(depth)
	if snapshot {
		s += `,"snapshot":true`
	}
	return s
}

func command(method, params string, insts []event.Instrument, id int64, inst int) venues.Command {
	var symbols []string
	for _, i := range insts {
		symbols = append(symbols, `"`+i.Symbol+`"`)
	}
	text := `{"method":"` + method + `","params":{` + params + `,"symbol":[` + strings.Join(symbols, ",") + `]},"req_id":` + strconv.FormatInt(id, 10) + `}`
	return venues.Command{ID: id, Text: text, Acks: len(insts), Inst: inst}
}

func (Venue) Ping(int64) string { return "" } // heartbeats come every second

// Checksum is the CRC-32 of the digits of price and size, without the point and
// without zeros in front, of the asks and then of the bids, best first. The scales
// are the decimals as they are printed, so a mantissa has these very digits. scratch
// needs 64 bytes; with fewer it allocates.
func (Venue) Checksum(bids, asks []book.Level, _, _ int8, scratch []byte) uint32 {
	crc := uint32(0)
	for _, side := range [2][]book.Level{asks, bids} {
		for _, l := range side {
			text := scratch[:0]
			for _, m := range [2]int64{l.Px, l.Qty} {
				if m != 0 { // of a 0 no digit is left
					text = strconv.AppendInt(text, m, 10)
				}
			}
			crc = crc32.Update(crc, crc32.IEEETable, text)
		}
	}
	return crc
}

// SnapshotRequest is empty: snapshots come in the stream.
func (Venue) SnapshotRequest(string, int) venues.Request { return venues.Request{} }

func (Venue) SnapshotRefused([]byte) (string, bool) { return "", false } // nothing is fetched

// InstrumentsRequest asks for all pairs: one unknown name among those asked for
// would refuse the rest. (The channel instrument says the same in the venue's newer
// spelling, but at the price of a connection.)
func (Venue) InstrumentsRequest([]string) venues.Request {
	return venues.Request{Path: "/0/public/AssetPairs", Weight: 1}
}

// MoreInstruments lists what AssetPairs leaves out: tokenized stocks.
func (Venue) MoreInstruments(_ []string, answers int, _ []byte) (venues.Request, bool) {
	return venues.Request{Path: "/0/public/AssetPairs?aclass_base=tokenized_asset", Weight: 1}, answers == 1
}

func (Venue) Instruments(body []byte, symbols []string) ([]event.Instrument, int, error) {
	v, err := venues.ParseAnswer(body)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read AssetPairs: %w", err)
	}
	for _, e := range v.GetArray("error") {
		return nil, 0, fmt.Errorf("cannot read AssetPairs: the venue says %s", e)
	}
	pairs := v.GetObject("result")
	if pairs == nil {
		return nil, 0, errors.New("cannot read AssetPairs: it has no result")
	}
	wanted := venues.FoldedNames(symbols)
	var insts []event.Instrument
	pairs.Visit(func(_ []byte, p *fastjson.Value) {
		symbol := newerName(string(p.GetStringBytes("wsname")))
		if err != nil || !wanted.Has(symbol) {
			return
		}
		inst := event.Instrument{
			Venue: rules.Name, Market: rules.Market, Source: "AssetPairs",
			Symbol: symbol, Status: string(p.GetStringBytes("status")), Tick: string(p.GetStringBytes("tick_size")),
		}
		inst.Base, inst.Quote, _ = strings.Cut(symbol, "/")
		inst.Pair = inst.Base + "-" + inst.Quote
		px, okPx := venues.Uint(p, "pair_decimals")
		lot, okLot := venues.Uint(p, "lot_decimals")
		if !okPx || !okLot || px > fixed.MaxScale || lot > fixed.MaxScale {
			err = fmt.Errorf("cannot read the decimals of %q in AssetPairs", symbol)
			return
		}
		if inst.Tick == "" {
			inst.Tick = string(fixed.Append(nil, 1, int8(px)))
		}
		inst.Lot = string(fixed.Append(nil, 1, int8(lot)))
		insts = append(insts, inst) // at the scales 0 and 0: see above
	})
	return insts, 0, err
}

func (Venue) NewDecoder(insts []event.Instrument) venues.Decoder {
	return &decoder{InStream: venues.InStream{Decoding: venues.NewDecoding(insts)}}
}

type decoder struct {
	venues.InStream
	minute venues.TimeReader
	number []byte // the text of the last one read
	text   []byte // what messages borrow
}

// Decode reads a frame of a channel, or the answer to a command.
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
	d.text = d.text[:0]
	v, reason := d.Parser.Object(frame)
	if reason != ledger.Accepted {
		return reason
	}
	if !v.Exists("channel") {
		return d.answer(v, b)
	}
	switch string(v.GetStringBytes("channel")) {
	case "heartbeat", "status":
		b.Messages = append(b.Messages, venues.Message{Kind: venues.KindControl, Inst: -1, TsEvent: event.Null})
		return ledger.Accepted
	case "book":
		kind := venues.KindDelta
		if string(v.GetStringBytes("type")) == "snapshot" {
			kind = venues.KindSnapshot
		}
		return d.all(v, kind, b)
	case "trade":
		return d.all(v, venues.KindTrade, b)
	}
	return ledger.UnknownShape
}

// all reads the entries of a frame, or says whose messages it would have held.
func (d *decoder) all(v *fastjson.Value, kind venues.Kind, b *venues.Batch) ledger.Reason {
	data := v.Get("data")
	reason := ledger.Accepted
	if t := string(v.GetStringBytes("type")); data == nil || data.Type() != fastjson.TypeArray || t != "snapshot" && t != "update" {
		reason = ledger.Malformed
	}
	entries := data.GetArray()
	for _, e := range entries {
		if reason != ledger.Accepted {
			break
		}
		if kind == venues.KindTrade {
			reason = d.trade(e, b)
		} else {
			reason = d.book(e, kind, b)
		}
	}
	if reason == ledger.Accepted {
		if kind == venues.KindTrade {
			venues.SortTrades(b.Messages)
		}
		return reason
	}
	b.Messages = b.Messages[:0]
	for _, e := range entries {
		if inst, ok := d.inst(e); ok {
			venues.MarkLost(b, kind, inst)
		}
	}
	return reason
}

// answer to a command: one for each of its symbols.
func (d *decoder) answer(v *fastjson.Value, b *venues.Batch) ledger.Reason {
	m := venues.Message{Kind: venues.KindAck, Inst: -1, TsEvent: event.Null}
	if n, ok := venues.Uint(v, "req_id"); ok { // else it is none of ours
		m.ID = n
	}
	of := v
	switch success := v.Get("success"); {
	case string(v.GetStringBytes("method")) == "pong":
		m.Kind = venues.KindControl
	case v.Exists("error"):
		m.Kind, m.Text = venues.KindRefused, v.GetStringBytes("error")
	case v.Exists("Error"): // {"Error":"Exceeded msg rate"}: of one command, and it does not say which
		m.Kind, m.Text = venues.KindRefused, v.GetStringBytes("Error")
	case success != nil && success.Type() == fastjson.TypeTrue:
		of = v.Get("result")
		if w := of.Get("warnings"); w != nil {
			d.text = w.MarshalTo(d.text)
			m.Text = d.text
		}
	default:
		return ledger.UnknownShape
	}
	if inst, ok := d.inst(of); ok {
		m.Inst = inst
	}
	b.Messages = append(b.Messages, m)
	return ledger.Accepted
}

func (d *decoder) inst(e *fastjson.Value) (int, bool) {
	i, ok := d.BySymbol[string(e.GetStringBytes("symbol"))]
	return i, ok
}

func (d *decoder) book(e *fastjson.Value, kind venues.Kind, b *venues.Batch) ledger.Reason {
	inst, ok := d.inst(e)
	if !ok {
		return ledger.UnknownSymbol
	}
	b.Messages = append(b.Messages, venues.Message{Kind: kind, Inst: inst, First: event.Null, Seq: event.Null, SeqPrev: event.Null, TsEvent: event.Null, Lo: len(b.Levels)})
	m := &b.Messages[len(b.Messages)-1]
	sum, ok := venues.Uint(e, "checksum")
	if !ok || sum > math.MaxUint32 {
		return ledger.Malformed
	}
	m.Checksum, m.HasChecksum = uint32(sum), true
	if e.Exists("timestamp") { // older servers left it out of snapshots
		if m.TsEvent, ok = venues.RFC3339Time(e, "timestamp"); !ok {
			return ledger.Malformed
		}
	}
	need := d.Scales[inst]
	reason := d.levels(e.Get("bids"), event.Bid, d.Scales[inst], &need, b)
	if reason == ledger.Accepted {
		reason = d.levels(e.Get("asks"), event.Ask, d.Scales[inst], &need, b)
	}
	m.Hi = len(b.Levels)
	m.PxScale, m.QtyScale = need.Px, need.Qty
	return reason
}

// levels appends [{"price":px,"qty":qty},…] in its order: the same price may come
// twice, and the last one holds. need rises to the decimals as they are printed.
func (d *decoder) levels(side *fastjson.Value, s event.Side, sc venues.Scales, need *venues.Scales, b *venues.Batch) ledger.Reason {
	if side == nil || side.Type() != fastjson.TypeArray {
		return ledger.Malformed
	}
	for _, l := range side.GetArray() {
		px, reason := d.printed(l.Get("price"), sc.Px, &need.Px)
		if reason != ledger.Accepted {
			return reason
		}
		qty, reason := d.printed(l.Get("qty"), sc.Qty, &need.Qty)
		if reason != ledger.Accepted {
			return reason
		}
		if qty < 0 {
			return ledger.Malformed
		}
		b.Levels = append(b.Levels, event.Level{Px: px, Qty: qty, Side: s})
	}
	return ledger.Accepted
}

// decimal reads a bare number by its text. One with an exponent is refused: the book
// and the trades were never seen with one.
func (d *decoder) decimal(v *fastjson.Value, scale int8, need *int8) (int64, ledger.Reason) {
	if v == nil || v.Type() != fastjson.TypeNumber {
		return 0, ledger.Malformed
	}
	d.number = v.MarshalTo(d.number[:0])
	return venues.Exact(d.number, scale, need)
}

// printed is a decimal that needs all of its decimals, surplus zeros too.
func (d *decoder) printed(v *fastjson.Value, scale int8, need *int8) (int64, ledger.Reason) {
	m, reason := d.decimal(v, scale, need)
	if reason != ledger.Accepted {
		return 0, reason
	}
	if point := bytes.IndexByte(d.number, '.'); point >= 0 {
		decimals := len(d.number) - 1 - point
		if decimals > fixed.MaxScale {
			return 0, ledger.Overflow
		}
		*need = max(*need, int8(decimals))
	}
	return m, ledger.Accepted
}

func (d *decoder) trade(e *fastjson.Value, b *venues.Batch) ledger.Reason {
	inst, ok := d.inst(e)
	if !ok {
		return ledger.UnknownSymbol
	}
	b.Messages = append(b.Messages, venues.Message{Kind: venues.KindTrade, Inst: inst, First: event.Null, Seq: event.Null, SeqPrev: event.Null})
	m := &b.Messages[len(b.Messages)-1]
	var okNum, okTime bool
	m.TradeNum, okNum = venues.Uint(e, "trade_id")
	m.TsEvent, okTime = venues.RFC3339Time(e, "timestamp")
	if !okNum || !okTime {
		return ledger.Malformed
	}
	m.TradeFirst = m.TradeNum
	from := len(d.text)
	d.text = strconv.AppendInt(d.text, m.TradeNum, 10)
	m.TradeID = d.text[from:len(d.text):len(d.text)]
	switch string(e.GetStringBytes("side")) { // the taker's
	case "buy":
		m.Side = event.Bid
	case "sell":
		m.Side = event.Ask
	default:
		return ledger.Malformed
	}
	need := d.Scales[inst]
	var reason ledger.Reason
	if m.Px, reason = d.decimal(e.Get("price"), need.Px, &need.Px); reason != ledger.Accepted {
		return reason
	}
	m.Qty, reason = d.decimal(e.Get("qty"), need.Qty, &need.Qty)
	m.PxScale, m.QtyScale = need.Px, need.Qty
	if m.Qty < 0 {
		return ledger.Malformed
	}
	return reason
}
