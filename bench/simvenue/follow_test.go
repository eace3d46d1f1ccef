package simvenue

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math"
	"math/big"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"deeptape/bench/world"
)

// follower is a plain client of one symbol, by the sheet's rules: it keeps a
// book and knows whether it may be trusted. It shares nothing with the venue.
type follower struct {
	venue, symbol string
	depth         int // to cut to; 0: never
	bids, asks    map[string][2]string
	ready         bool // a snapshot has come, and nothing after it is missing
	seq           int64
	conn          int64 // Coinbase: number of the last frame, -1 before the first

	broken            []string // what was found to be missing or wrong
	books, sums       int
	trades            []string // ids, in the order of coming
	quotes, beats     int
	acks, refusals    int
	notices, resets   int
	snapshots, deltas int
}

func newFollower(venue, symbol string, depth int) *follower {
	return &follower{venue: venue, symbol: symbol, depth: depth, conn: -1, bids: map[string][2]string{}, asks: map[string][2]string{}}
}

// message is the union of what the venues send.
type message struct {
	Channel, Type, Topic, Event, Action, Method string
	E                                           string `json:"e"`
	SequenceNum                                 *int64 `json:"sequence_num"`
	Success                                     *bool
	Error, Op                                   string
	Arg                                         struct{ Channel, InstID string }
	Data                                        json.RawMessage
	Events                                      []struct {
		Type    string
		Product string `json:"product_id"`
		Updates []struct {
			Side string
			Px   string `json:"price_level"`
			Qty  string `json:"new_quantity"`
		}
		Trades []struct {
			ID string `json:"trade_id"`
		}
	}
}

type okxData struct {
	Asks, Bids       [][]string
	Checksum         int64
	SeqID, PrevSeqID int64
	TradeID          string
}

type krakenData struct {
	Symbol     string
	Bids, Asks []struct{ Price, Qty json.Number }
	Checksum   uint32
	TradeID    int64 `json:"trade_id"`
}

type bybitData struct {
	S    string
	B, A [][2]string
	U    int64 `json:"u"`
}

func (f *follower) bad(format string, args ...any) {
	f.ready = false
	f.broken = append(f.broken, fmt.Sprintf(format, args...))
}

func (f *follower) text(b []byte) {
	if string(b) == "pong" {
		return
	}
	var m message
	if err := json.Unmarshal(b, &m); err != nil {
		f.bad("not JSON: %v", err)
		return
	}
	switch f.venue {
	case "coinbase":
		f.coinbase(m)
	case "kraken":
		f.kraken(m)
	case "okx":
		f.okx(m)
	default:
		f.bybit(m)
	}
}

func (f *follower) coinbase(m message) {
	if m.Type == "error" {
		f.refusals++
		return
	}
	if m.SequenceNum == nil || *m.SequenceNum != f.conn+1 {
		f.bad("number after %d", f.conn)
	}
	if m.SequenceNum != nil {
		f.conn = *m.SequenceNum
	}
	switch m.Channel {
	case "subscriptions":
		f.acks++
	case "heartbeats":
		f.beats++
	}
	for _, e := range m.Events {
		for _, t := range e.Trades {
			f.trades = append(f.trades, t.ID)
		}
		if m.Channel != "l2_data" || e.Product != f.symbol {
			continue
		}
		var bids, asks [][2]string
		for _, u := range e.Updates {
			if u.Side == "bid" {
				bids = append(bids, [2]string{u.Px, u.Qty})
			} else {
				asks = append(asks, [2]string{u.Px, u.Qty})
			}
		}
		f.apply(e.Type == "snapshot", bids, asks)
	}
}

func (f *follower) kraken(m message) {
	switch {
	case m.Success != nil && *m.Success:
		f.acks++
	case m.Success != nil:
		f.refusals++
	case m.Channel == "heartbeat":
		f.beats++
	}
	if m.Channel != "book" && m.Channel != "trade" {
		return
	}
	var data []krakenData
	json.Unmarshal(m.Data, &data)
	for _, d := range data {
		if d.Symbol != f.symbol {
			continue
		}
		if m.Channel == "trade" {
			f.trades = append(f.trades, fmt.Sprint(d.TradeID))
			continue
		}
		var bids, asks [][2]string
		for _, l := range d.Bids {
			bids = append(bids, [2]string{l.Price.String(), l.Qty.String()})
		}
		for _, l := range d.Asks {
			asks = append(asks, [2]string{l.Price.String(), l.Qty.String()})
		}
		f.apply(m.Type == "snapshot", bids, asks)
		var text []byte
		for _, l := range append(f.top(f.asks, 1, 10), f.top(f.bids, -1, 10)...) {
			for _, t := range l {
				text = append(text, bytes.TrimLeft(bytes.ReplaceAll([]byte(t), []byte("."), nil), "0")...)
			}
		}
		if f.sums++; f.ready && crc32.ChecksumIEEE(text) != d.Checksum {
			f.bad("checksum")
		}
	}
}

func (f *follower) okx(m message) {
	switch m.Event {
	case "subscribe", "unsubscribe":
		f.acks++
		return
	case "error":
		f.refusals++
		return
	case "notice":
		f.notices++
		return
	}
	if m.Arg.InstID != f.symbol {
		return
	}
	var data []okxData
	json.Unmarshal(m.Data, &data)
	for _, d := range data {
		switch m.Arg.Channel {
		case "trades":
			f.trades = append(f.trades, d.TradeID)
		case "bbo-tbt":
			f.quotes++
		case "books":
			snap := m.Action == "snapshot"
			if !snap && f.ready && d.PrevSeqID != f.seq {
				f.bad("id %d before %d, want %d", d.PrevSeqID, d.SeqID, f.seq)
			}
			if d.SeqID < d.PrevSeqID {
				f.resets++
			}
			f.seq = d.SeqID
			pairs := func(list [][]string) (out [][2]string) {
				for _, l := range list {
					out = append(out, [2]string{l[0], l[1]})
				}
				return out
			}
			f.apply(snap, pairs(d.Bids), pairs(d.Asks))
			if d.Checksum == 0 {
				continue
			}
			bids, asks := f.top(f.bids, -1, 25), f.top(f.asks, 1, 25)
			var parts []string
			for i := 0; i < 25; i++ {
				if i < len(bids) {
					parts = append(parts, bids[i][:]...)
				}
				if i < len(asks) {
					parts = append(parts, asks[i][:]...)
				}
			}
			if f.sums++; f.ready && int64(int32(crc32.ChecksumIEEE([]byte(strings.Join(parts, ":"))))) != d.Checksum {
				f.bad("checksum")
			}
		}
	}
}

func (f *follower) bybit(m message) {
	if m.Success != nil {
		if *m.Success {
			f.acks++
		} else {
			f.refusals++
		}
		return
	}
	if strings.HasPrefix(m.Topic, "publicTrade.") {
		var data []struct{ I string }
		json.Unmarshal(m.Data, &data)
		for _, d := range data {
			f.trades = append(f.trades, d.I)
		}
		return
	}
	var d bybitData
	json.Unmarshal(m.Data, &d)
	if strings.HasPrefix(m.Topic, "orderbook.1.") {
		f.quotes++
		return
	}
	snap := m.Type == "snapshot"
	if !snap && f.ready && d.U != f.seq+1 {
		f.bad("u %d after %d", d.U, f.seq)
	}
	if snap && d.U == 1 {
		f.resets++
	}
	f.seq = d.U
	f.apply(snap, d.B, d.A)
}

func (f *follower) apply(snap bool, bids, asks [][2]string) {
	f.books++
	if snap {
		f.snapshots++
		f.ready, f.bids, f.asks = true, map[string][2]string{}, map[string][2]string{}
	} else {
		f.deltas++
	}
	for i, list := range [][][2]string{bids, asks} {
		side := f.bids
		if i == 1 {
			side = f.asks
		}
		for _, l := range list {
			px, qty := new(big.Rat), new(big.Rat)
			px.SetString(l[0])
			qty.SetString(l[1])
			if qty.Sign() == 0 {
				delete(side, px.RatString())
			} else {
				side[px.RatString()] = l
			}
		}
	}
	if f.depth > 0 {
		f.bids = f.cut(f.bids, -1)
		f.asks = f.cut(f.asks, 1)
	}
	if f.ready && len(f.bids) > 0 && len(f.asks) > 0 && best(f.bids, -1) >= best(f.asks, 1) {
		f.bad("crossed")
	}
}

func best(side map[string][2]string, dir float64) float64 {
	least := math.Inf(1)
	for _, l := range side {
		px, _ := strconv.ParseFloat(l[0], 64)
		least = min(least, px*dir)
	}
	return least * dir
}

func (f *follower) cut(side map[string][2]string, dir int) map[string][2]string {
	if len(side) <= f.depth {
		return side
	}
	out := map[string][2]string{}
	for _, l := range f.top(side, dir, f.depth) {
		px := new(big.Rat)
		px.SetString(l[0])
		out[px.RatString()] = l
	}
	return out
}

// top sorts floats of at most 2^53, which is enough to order the prices here.
func (f *follower) top(side map[string][2]string, dir, n int) [][2]string {
	type row struct {
		px float64
		l  [2]string
	}
	rows := make([]row, 0, len(side))
	for _, l := range side {
		px, _ := json.Number(l[0]).Float64()
		rows = append(rows, row{px * float64(dir), l})
	}
	var out [][2]string
	for i := 0; n < 30 && i < min(n, len(rows)); i++ { // a few of many: no sort
		best := i
		for j := i; j < len(rows); j++ {
			if rows[j].px < rows[best].px {
				best = j
			}
		}
		rows[i], rows[best] = rows[best], rows[i]
		out = append(out, rows[i].l)
	}
	if n < 30 {
		return out
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i].px < rows[j].px })
	for _, r := range rows[:min(n, len(rows))] {
		out = append(out, r.l)
	}
	return out
}

// agrees compares with the venue's true book over the best n levels a side.
func (f *follower) agrees(t *testing.T, v *Venue, n int) {
	t.Helper()
	_, bids, asks, ok := v.Book(f.symbol)
	if !ok || len(bids) == 0 || len(asks) == 0 {
		t.Fatalf("no true book of %s", f.symbol)
	}
	for _, s := range []struct {
		name      string
		got, want [][2]string
	}{{"bids", f.top(f.bids, -1, 1<<30), bids[:min(n, len(bids))]}, {"asks", f.top(f.asks, 1, 1<<30), asks[:min(n, len(asks))]}} {
		if fmt.Sprint(s.got) != fmt.Sprint(s.want) {
			t.Errorf("%s %s: %d levels differ from the true %d", f.venue, s.name, len(s.got), len(s.want))
		}
	}
}

// dialect is what a test has to say to a venue.
type dialect struct {
	venue, symbol string
	window        int // levels a side that the book has; 0: all
	cut           int // the client cuts to
	subscribe     []string
	unsubscribe   string // the book
	resubscribe   string
	acks          int
}

var dialects = []dialect{
	{"coinbase", "BTC-USD", 0, 0, []string{
		`{"type":"subscribe","channel":"heartbeats"}`,
		`{"type":"subscribe","product_ids":["BTC-USD"],"channel":"level2"}`,
		`{"type":"subscribe","product_ids":["BTC-USD"],"channel":"market_trades"}`,
	}, `{"type":"unsubscribe","product_ids":["BTC-USD"],"channel":"level2"}`, `{"type":"subscribe","product_ids":["BTC-USD"],"channel":"level2"}`, 3},
	{"kraken", "BTC/USD", 1000, 1000, []string{
		`{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD"],"depth":1000,"snapshot":true},"req_id":1}`,
		`{"method":"subscribe","params":{"channel":"trade","symbol":["BTC/USD"],"snapshot":false},"req_id":2}`,
	}, `{"method":"unsubscribe","params":{"channel":"book","symbol":["BTC/USD"],"depth":1000}}`, `{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD"],"depth":1000}}`, 2},
	{"kraken", "ETH/USD", 10, 10, []string{
		`{"method":"subscribe","params":{"channel":"book","symbol":["ETH/USD"],"depth":10,"snapshot":true},"req_id":1}`,
	}, `{"method":"unsubscribe","params":{"channel":"book","symbol":["ETH/USD"]}}`, `{"method":"subscribe","params":{"channel":"book","symbol":["ETH/USD"]}}`, 1},
	{"okx", "BTC-USDT", 400, 0, []string{
		`{"id":"1","op":"subscribe","args":[{"channel":"books","instId":"BTC-USDT"}]}`,
		`{"id":"2","op":"subscribe","args":[{"channel":"trades","instId":"BTC-USDT"},{"channel":"bbo-tbt","instId":"BTC-USDT"}]}`,
	}, `{"op":"unsubscribe","args":[{"channel":"books","instId":"BTC-USDT"}]}`, `{"op":"subscribe","args":[{"channel":"books","instId":"BTC-USDT"}]}`, 3},
	{"bybit", "BTCUSDT", 200, 0, []string{
		`{"req_id":"a","op":"subscribe","args":["orderbook.200.BTCUSDT","publicTrade.BTCUSDT","orderbook.1.BTCUSDT"]}`,
	}, `{"op":"unsubscribe","args":["orderbook.200.BTCUSDT"]}`, `{"op":"subscribe","args":["orderbook.200.BTCUSDT"]}`, 1},
	{"bybit_linear", "BTCUSDT", 1000, 0, []string{
		`{"req_id":"a","op":"subscribe","args":["orderbook.1000.BTCUSDT","publicTrade.BTCUSDT","orderbook.1.BTCUSDT"]}`,
	}, `{"op":"unsubscribe","args":["orderbook.1000.BTCUSDT"]}`, `{"op":"subscribe","args":["orderbook.1000.BTCUSDT"]}`, 1},
}

// virtual is a venue in virtual time with one connection.
type virtual struct {
	t   *testing.T
	v   *Venue
	s   *Session
	now int64
	ev  *Event
	out []Frame
}

const epochNs = 1_790_000_000_000_000_000

// newVirtual makes a venue whose book is no larger than a test can follow.
func newVirtual(t *testing.T, d dialect, seed uint64, faults string) *virtual {
	t.Helper()
	markets := Markets(d.venue, d.symbol)
	markets[0].Depth = min(markets[0].Depth, 1500)
	return newVirtualOf(t, d, seed, faults, markets)
}

func newVirtualOf(t *testing.T, d dialect, seed uint64, faults string, markets []world.Symbol) *virtual {
	t.Helper()
	w, err := world.New(seed, world.Spec{Symbols: markets, StartNs: epochNs})
	if err != nil {
		t.Fatal(err)
	}
	list, err := ParseFaults(faults)
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVenue(d.venue, w, list, VenueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	x := &virtual{t: t, v: v, now: epochNs}
	x.connect()
	return x
}

func (x *virtual) connect() {
	x.t.Helper()
	s, refused := x.v.Open(x.now, NewRequest(x.v.proto.facts().wsPath), func(f Frame) { x.out = append(x.out, f) })
	if refused != nil {
		x.t.Fatalf("refused: %+v", refused)
	}
	x.s = s
}

// say sends texts, a tick apart.
func (x *virtual) say(texts ...string) {
	for _, m := range texts {
		x.now += 100e6
		x.s.Text(x.now, []byte(m))
		x.now += 100e6
		x.s.Tick(x.now)
	}
}

// run lets so many ns pass.
func (x *virtual) run(ns int64) {
	end := x.now + ns
	tick := x.now
	for x.now < end {
		if x.ev == nil {
			x.ev = x.v.Next()
		}
		for tick < x.ev.AtNs() && tick < end {
			x.now = tick
			x.s.Tick(x.now)
			tick += 100e6
		}
		if x.ev.AtNs() >= end {
			x.now = end
			return
		}
		x.now = max(x.now, x.ev.AtNs())
		x.v.Step(x.ev, x.now)
		x.ev = nil
	}
}

// texts are the text frames so far.
func (x *virtual) texts() (list []string) {
	for _, f := range x.out {
		if f.Op == ws.OpText {
			list = append(list, string(f.Payload))
		}
	}
	return list
}

func jsonValid(b []byte) bool { return json.Valid(b) }
