package simvenue

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fastjson"

	"deeptape/bench/world"
)

// bybit is one market of Bybit v5: orderbook.{1,50,200,1000} and publicTrade.
// Level 1 is the quote stream. Keys come in the order of the market.
type bybit struct {
	v        *Venue
	category string // spot, linear
}

func (b *bybit) facts() facts {
	f := facts{
		form: regexp.MustCompile(`^[A-Z0-9]{2,}$`), example: "BTCUSDT", symbol: func(base string) string { return base + "USDT" },
		faults:       []string{faultReset},
		bid:          func(px, qty string, _ int64) (list, bid string) { return `"b":[`, `["` + px + `","` + qty + `"]` },
		countsFrames: true,
		wsPath:       "/v5/public/" + b.category, inBand: true, depths: []int{50, 200, 1000}, depth: 200,
		connects: 500, window: 5 * time.Minute, messages: 50, batches: true, countsSent: true,
	}
	if b.category == "linear" {
		f.size = func(base string, m *world.Symbol) {
			if base == "BTC" {
				m.PxDecimals, m.QtyDecimals, m.StartPx = 1, 3, m.StartPx/1e7*1e7
			}
		}
	}
	return f
}

func (b *bybit) topicName(k kind, sym *symbol, depth int) string {
	switch k {
	case kindBook:
		return "orderbook." + strconv.Itoa(depth) + "." + sym.name
	case kindQuote:
		return "orderbook.1." + sym.name
	}
	return "publicTrade." + sym.name
}

func (b *bybit) wishes(symbols []string) (w wishes) {
	w.target = b.facts().wsPath
	for i, name := range symbols {
		w.commands = append(w.commands, fmt.Sprintf(`{"req_id":"%d","op":"subscribe","args":["orderbook.%d.%[3]s","publicTrade.%[3]s","orderbook.1.%[3]s"]}`, i+1, b.facts().depth, name))
	}
	w.ping = `{"req_id":"ping","op":"ping"}`
	return w
}

func (b *bybit) open(*Session)           {}
func (b *bybit) closing(*Session) []byte { return nil }

// tick says a quote that has not changed for 3 s again, under the same id.
func (b *bybit) tick(s *Session) {
	now := b.v.wallNs
	if now-s.lastNs >= int64(10*time.Minute) {
		s.bye(1000, "idle")
		return
	}
	for _, n := range append([]string{}, s.names...) {
		t := s.subs[n]
		if t != nil && t.kind == kindQuote && t.live && t.sym.src.world != nil && t.lastNs > 0 && now-t.lastNs >= 3e9 {
			t.lastNs = now
			p := b.snapshot(t)
			for _, x := range t.subs {
				x.say(p.bare)
			}
		}
	}
}

func (b *bybit) seal(_ *Session, p payload) []byte { return p.bare }

func (b *bybit) px(sym *symbol, n int64) string {
	if b.category == "linear" { // padded to tick and lot
		return decimal(n, sym.pxDecimals)
	}
	return decimal(n, 0)
}

func (b *bybit) qty(sym *symbol, n int64) string {
	if b.category == "linear" && n > 0 {
		return decimal(n, sym.qtyDecimals)
	}
	return decimal(n, 0)
}

// reset is a restart of the service: a snapshot with u 1.
func (b *bybit) reset(t *topic, _ payload) payload {
	t.shift = t.seq - 1
	return b.v.dress(t, b.snapshot(t))
}

type bybitRequest struct {
	ReqID string `json:"req_id"`
	Op    string
	Args  []string
}

func (b *bybit) text(s *Session, msg []byte) {
	var r bybitRequest
	if err := json.Unmarshal(msg, &r); err != nil {
		b.say(s, r, false, "error:invalid request")
		return
	}
	switch {
	case r.Op == "ping":
		b.say(s, r, true, "pong")
		return
	case r.Op != "subscribe" && r.Op != "unsubscribe":
		b.say(s, r, false, "error:unknown op")
		return
	case b.category == "spot" && len(r.Args) > 10:
		b.say(s, r, false, "args size >10")
		return
	case len(r.Args) == 0:
		b.say(s, r, false, "error:args are empty")
		return
	}
	chars := 0
	for _, n := range s.names {
		chars += len(n)
	}
	topics := make([]*topic, len(r.Args))
	for i, a := range r.Args { // one bad topic fails the whole request
		t, known := b.find(a)
		if chars += len(a); !known || chars > 21_000 {
			b.say(s, r, false, "error:handler not found,topic:"+a)
			return
		}
		topics[i] = t
	}
	if r.Op == "unsubscribe" {
		for _, a := range r.Args {
			s.unsubscribe(a)
		}
		b.say(s, r, true, b.subscribed(r.Op))
		return
	}
	var begun []*topic
	for i, a := range r.Args {
		if _, subscribed := s.subs[a]; subscribed {
			continue
		}
		switch t := topics[i]; b.v.asked(t, faultRefuse, faultSilent, faultOdd, faultIgnore) {
		case faultOdd:
			s.say([]byte(`{"ret_code":10006,"ret_msg":"Too many visits!"}`))
			fallthrough
		case faultIgnore:
			for _, a := range r.Args[:i] {
				s.unsubscribe(a)
			}
			return
		case faultRefuse:
			for _, a := range r.Args[:i] {
				s.unsubscribe(a)
			}
			b.say(s, r, false, "error:handler not found,topic:"+a)
			return
		case faultSilent:
			s.silent[t] = true
		}
		s.subscribe(a, topics[i])
		begun = append(begun, topics[i])
	}
	b.say(s, r, true, b.subscribed(r.Op))
	for _, t := range begun {
		s.greet(t)
	}
}

// subscribed is the ret_msg of success.
func (b *bybit) subscribed(op string) string {
	if b.category == "spot" {
		return op
	}
	return ""
}

// find takes a topic apart. A known one may be nil: see Venue.want.
func (b *bybit) find(name string) (t *topic, known bool) {
	if sym, ok := strings.CutPrefix(name, "publicTrade."); ok {
		t, known, _ = b.v.want(kindTrade, sym, 0)
		return t, known
	}
	rest, ok := strings.CutPrefix(name, "orderbook.")
	text, sym, ok2 := strings.Cut(rest, ".")
	depth, err := strconv.Atoi(text)
	if !ok || !ok2 || err != nil || strconv.Itoa(depth) != text {
		return nil, false
	}
	k := kindBook
	if depth == 1 {
		k = kindQuote
	}
	t, known, depthOK := b.v.want(k, sym, depth)
	return t, known && depthOK
}

func (b *bybit) say(s *Session, r bybitRequest, success bool, text string) {
	id := ""
	if r.ReqID != "" || !success {
		id = `"req_id":` + quoted(r.ReqID) + `,`
	}
	op := r.Op
	s.say(fmt.Appendf(nil, `{"success":%t,"ret_msg":%s,"conn_id":"%s",%s"op":%s}`, success, quoted(text), s.id, id, quoted(op)))
}

func (b *bybit) snapshot(t *topic) payload {
	switch t.kind {
	case kindTrade:
		return payload{}
	case kindQuote:
		if t.sym.src.world == nil {
			return payload{}
		}
		return b.quote(t, t.src.stampNs(), t.sym.quote[0], t.sym.quote[1])
	}
	return b.frame(t, "snapshot", t.src.stampNs(), t.sym.book.top(true, t.depth), t.sym.book.top(false, t.depth))
}

func (b *bybit) diff(t *topic, atNs int64, bids, asks []level) payload {
	return b.frame(t, "delta", atNs, bids, asks)
}

func (b *bybit) quote(t *topic, atNs int64, bid, ask level) payload {
	return b.frame(t, "snapshot", atNs, []level{bid}, []level{ask})
}

func (b *bybit) frame(t *topic, what string, atNs int64, bids, asks []level) payload {
	ms := atNs / 1e6
	out := fmt.Appendf(nil, `{"topic":"%s","ts":%d,"type":"%s","data":{"s":"%s","b":`, t.name, ms, what, t.sym.name)
	if b.category == "linear" && t.kind == kindBook {
		out = fmt.Appendf(nil, `{"topic":"%s","type":"%s","ts":%d,"data":{"s":"%s","b":`, t.name, what, ms, t.sym.name)
	}
	out = appendPairs(out, bids)
	out = append(out, `,"a":`...)
	out = appendPairs(out, asks)
	return payload{bare: fmt.Appendf(out, `,"u":%d,"seq":%d},"cts":%d}`, t.seq, t.aux, ms-3)}
}

func (b *bybit) trades(t *topic, list []world.Event) payload {
	var parts [][]byte
	for _, e := range list {
		side, tick, id := "Buy", "", strconv.FormatInt(2_290_000_000_000_000_000+e.TradeID, 10)
		if e.BuyerIsMaker {
			side = "Sell"
		}
		if b.category == "linear" {
			tick = `"L":"PlusTick",`
			id = fmt.Sprintf("%08x-%04x-5%03x-8%03x-%012x", uint32(e.TradeID*2654435761), e.TradeID>>16&0xffff, e.TradeID&0xfff, e.TradeID>>12&0xfff, e.TradeID)
		}
		parts = append(parts, fmt.Appendf(nil, `{"T":%d,"s":"%s","S":"%s","v":"%s","p":"%s",%s"i":"%s","BT":false,"RPI":false,"seq":%d}`,
			e.StampNs/1e6, t.sym.name, side, b.qty(t.sym, e.Qty), b.px(t.sym, e.Px), tick, id, t.sym.book.lastID))
	}
	out := fmt.Appendf(nil, `{"topic":"%s","type":"snapshot","ts":%d,"data":[`, t.name, list[0].StampNs/1e6)
	return payload{bare: append(joinJSON(out, parts), "]}"...)}
}

func (b *bybit) reader() func([]byte, *fastjson.Value) (recorded, error) {
	return func(line []byte, v *fastjson.Value) (recorded, error) {
		r := recorded{payload: payload{bare: line}, name: string(v.GetStringBytes("topic"))}
		if sym, ok := strings.CutPrefix(r.name, "publicTrade."); ok && sym != "" {
			r.kind, r.symbol = kindTrade, sym
			return r, nil
		}
		rest, isBook := strings.CutPrefix(r.name, "orderbook.")
		text, sym, _ := strings.Cut(rest, ".")
		depth, err := strconv.Atoi(text)
		if !isBook || err != nil || sym == "" {
			return recorded{skip: true}, nil
		}
		r.symbol = sym
		if r.kind, r.depth = kindBook, depth; depth == 1 {
			r.kind = kindQuote
		}
		r.snapshot = string(v.GetStringBytes("type")) == "snapshot"
		d := v.Get("data")
		r.last, r.aux = d.GetInt64("u"), d.GetInt64("seq")
		r.first = r.last - 1
		return r, nil
	}
}

func (b *bybit) levels(bare []byte, set func(bool, string, string, string) error) error {
	v, err := fastjson.ParseBytes(bare)
	if err != nil {
		return err
	}
	if err := setPairs(true, v.GetArray("data", "b"), set); err != nil {
		return err
	}
	return setPairs(false, v.GetArray("data", "a"), set)
}

func (b *bybit) rest(r Request) Answer {
	q := r.query()
	now := b.v.wallNs / 1e6
	bad := func(text string) Answer {
		return ok(fmt.Appendf(nil, `{"retCode":10001,"retMsg":%s,"result":{},"retExtInfo":{},"time":%d}`, quoted(text), now))
	}
	if r.Path != "/v5/market/instruments-info" && r.Path != "/v5/market/orderbook" {
		return Answer{Status: 404, Body: []byte("404 page not found")}
	}
	if q.Get("category") != b.category {
		return bad("Illegal category")
	}
	sym := b.v.symbols[q.Get("symbol")]
	if q.Get("symbol") != "" && sym == nil {
		return bad("params error: symbol invalid")
	}
	if r.Path == "/v5/market/orderbook" {
		if sym == nil {
			return bad("params error: symbol invalid")
		}
		n, err := strconv.Atoi(q.Get("limit"))
		if err != nil || n < 1 || n > 1000 {
			n = map[string]int{"spot": 1, "linear": 25}[b.category]
		}
		u := sym.book.lastID
		if t := b.v.topics["orderbook.1000."+sym.name]; t != nil {
			u = t.seq - t.shift
		}
		out := fmt.Appendf(nil, `{"retCode":0,"retMsg":"OK","result":{"s":"%s","a":`, sym.name)
		out = appendPairs(out, sym.book.top(false, n))
		out = appendPairs(append(out, `,"b":`...), sym.book.top(true, n))
		ms := sym.src.stampNs() / 1e6
		return ok(fmt.Appendf(out, `,"ts":%d,"u":%d,"seq":%d,"cts":%d},"retExtInfo":{},"time":%d}`, ms, u, sym.book.lastID, ms-3, now))
	}
	var parts [][]byte
	for _, x := range b.v.order {
		if sym != nil && x != sym {
			continue
		}
		in := x.info
		tick, lot := decimal(step(in.pxDecimals), 0), decimal(step(in.qtyDecimals), 0)
		if b.category == "spot" {
			parts = append(parts, fmt.Appendf(nil, `{"symbol":"%s","baseCoin":"%s","quoteCoin":"%s","innovation":"0","status":"Trading","marginTrading":"none","lotSizeFilter":{"basePrecision":"%s","quotePrecision":"0.00000001","minOrderQty":"%s","maxOrderQty":"100","minOrderAmt":"5","maxOrderAmt":"4000000"},"priceFilter":{"tickSize":"%s"}}`,
				in.symbol, in.base, in.quote, lot, lot, tick))
		} else {
			parts = append(parts, fmt.Appendf(nil, `{"symbol":"%s","contractType":"LinearPerpetual","status":"Trading","baseCoin":"%s","quoteCoin":"%s","launchTime":"1585526400000","deliveryTime":"0","priceScale":"%d","priceFilter":{"minPrice":"%s","maxPrice":"1999999.80","tickSize":"%s"},"lotSizeFilter":{"maxOrderQty":"1190.000","minOrderQty":"%s","qtyStep":"%s","minNotionalValue":"5"},"fundingInterval":480,"settleCoin":"USDT"}`,
				in.symbol, in.base, in.quote, in.pxDecimals, tick, tick, lot, lot))
		}
	}
	out := fmt.Appendf(nil, `{"retCode":0,"retMsg":"OK","result":{"category":"%s","list":[`, b.category)
	return ok(fmt.Appendf(joinJSON(out, parts), `],"nextPageCursor":""},"retExtInfo":{},"time":%d}`, now))
}
