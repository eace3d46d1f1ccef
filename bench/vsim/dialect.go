package vsim

import (
	"slices"
	"strconv"
	"time"

	"github.com/valyala/fastjson"
)

// dialect is what this package has to know of a venue: what may be asked of it, and how its
// frames are read.
type dialect struct {
	venue  string
	depths []int // that a run draws from; none: the venue has no choice

	// A planned reconnect comes no sooner, or a book that begins anew each time would not
	// get going.
	reconnectLeast time.Duration

	book   func(v *fastjson.Value) (sent, error) // of a frame, or of the body of a snapshot
	trades func(v *fastjson.Value, add addTrade)
	quote  func(v *fastjson.Value, four addQuote) (id int64) // nil: it has no such stream
}

type (
	addTrade func(d *fastjson.Value, id, px, qty string, sell bool, ts int64)
	addQuote func(v *fastjson.Value, bidPx, bidQty, askPx, askQty []string)
)

// dialects are those of all simulated venues, in the order of Stats.Struck. The first is
// drawn for two runs in five.
var dialects = []dialect{
	{"binance", []int{5000}, 5 * time.Second, binanceBook, binanceTrades, binanceQuote},
	{"coinbase", nil, 15 * time.Second, coinbaseBook, coinbaseTrades, nil},
	{"kraken", []int{10, 25, 100, 1000}, 15 * time.Second, krakenBook, krakenTrades, nil},
	{"okx", nil, 15 * time.Second, okxBook, okxTrades, quoteIn("bids", "asks", "seqId", "data", "0")},
	{"bybit", []int{50, 200}, 15 * time.Second, bybitBook, bybitTrades, quoteIn("b", "a", "u", "data")},
	{"bybit_linear", []int{50, 200}, 15 * time.Second, bybitBook, bybitTrades, quoteIn("b", "a", "u", "data")},
}

// numVenues is len(dialects), for an array.
const numVenues = 6

func venueNames() (names []string) {
	for _, d := range dialects {
		names = append(names, d.venue)
	}
	return names
}

// dialectOf panics for a name that is no venue's.
func dialectOf(venue string) *dialect {
	return &dialects[slices.IndexFunc(dialects, func(d dialect) bool { return d.venue == venue })]
}

// quoteIn reads a quote that is a book of one level a side: by the names of its sides and of
// its id, and where they are.
func quoteIn(bids, asks, id string, path ...string) func(*fastjson.Value, addQuote) int64 {
	return func(v *fastjson.Value, four addQuote) int64 {
		d := v.Get(path...)
		four(d, []string{bids, "0", "0"}, []string{bids, "0", "1"}, []string{asks, "0", "0"}, []string{asks, "0", "1"})
		return integer(d, id)
	}
}

func binanceBook(v *fastjson.Value) (s sent, err error) {
	if v.Exists("lastUpdateId") {
		s.whole, s.last = true, integer(v, "lastUpdateId")
		s.levels, err = both(v, "bids", "asks", "0", "1")
		return s, err
	}
	s.first, s.last, s.ts = integer(v, "U"), integer(v, "u"), integer(v, "E")*1e6
	s.levels, err = both(v, "b", "a", "0", "1")
	return s, err
}

func binanceTrades(v *fastjson.Value, add addTrade) {
	add(v, strconv.FormatInt(integer(v, "t"), 10), "p", "q", v.GetBool("m"), integer(v, "T")*1e6)
}

func binanceQuote(v *fastjson.Value, four addQuote) int64 {
	four(v, []string{"b"}, []string{"B"}, []string{"a"}, []string{"A"})
	return integer(v, "u")
}

func coinbaseBook(v *fastjson.Value) (s sent, err error) {
	e := v.Get("events", "0")
	s.whole = word(e, "type") == "snapshot"
	for _, u := range e.GetArray("updates") {
		s.ts = max(s.ts, rfc3339(word(u, "event_time")))
		if s.levels, err = pairs(s.levels, []*fastjson.Value{u}, word(u, "side") == "offer", "price_level", "new_quantity"); err != nil {
			return s, err
		}
	}
	return s, nil
}

// coinbaseTrades: the newest stands first, and the side is the maker's.
func coinbaseTrades(v *fastjson.Value, add addTrade) {
	list := v.GetArray("events", "0", "trades")
	for _, d := range slices.Backward(list) {
		add(d, word(d, "trade_id"), "price", "size", word(d, "side") == "BUY", rfc3339(word(d, "time")))
	}
}

func krakenBook(v *fastjson.Value) (s sent, err error) {
	d := v.Get("data", "0")
	s.whole, s.ts = word(v, "type") == "snapshot", rfc3339(word(d, "timestamp"))
	s.levels, err = both(d, "bids", "asks", "price", "qty")
	return s, err
}

func krakenTrades(v *fastjson.Value, add addTrade) {
	for _, d := range v.GetArray("data") {
		add(d, strconv.FormatInt(integer(d, "trade_id"), 10), "price", "qty", word(d, "side") == "sell", rfc3339(word(d, "timestamp")))
	}
}

func okxBook(v *fastjson.Value) (s sent, err error) {
	d := v.Get("data", "0")
	s.whole, s.ts = word(v, "action") == "snapshot", integer(d, "ts")*1e6
	s.last, s.first = integer(d, "seqId"), integer(d, "prevSeqId")+1
	s.levels, err = both(d, "bids", "asks", "0", "1")
	return s, err
}

func okxTrades(v *fastjson.Value, add addTrade) {
	for _, d := range v.GetArray("data") {
		add(d, word(d, "tradeId"), "px", "sz", word(d, "side") == "sell", integer(d, "ts")*1e6)
	}
}

func bybitBook(v *fastjson.Value) (s sent, err error) {
	d := v.Get("data")
	s.whole, s.ts = word(v, "type") == "snapshot", integer(v, "cts")*1e6
	s.last = integer(d, "u")
	s.first = s.last
	s.levels, err = both(d, "b", "a", "0", "1")
	return s, err
}

func bybitTrades(v *fastjson.Value, add addTrade) {
	for _, d := range v.GetArray("data") {
		add(d, word(d, "i"), "p", "v", word(d, "S") == "Sell", integer(d, "T")*1e6)
	}
}
