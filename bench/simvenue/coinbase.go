package simvenue

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fastjson"

	"deeptape/bench/world"
)

// coinbase is Coinbase Advanced Trade: level2, market_trades and heartbeats.
// Every frame but an error has the next number of its connection. The beginning
// of a channel comes before its acknowledgement.
type coinbase struct{ v *Venue }

func (c *coinbase) facts() facts {
	return facts{
		form: regexp.MustCompile(`^[A-Z0-9]+-[A-Z0-9]+$`), example: "BTC-USD", symbol: func(base string) string { return base + "-USD" },
		size: func(base string, m *world.Symbol) { // the whole book of the venue, in one frame
			if m.Depth *= 3; base == "BTC" {
				m.Depth = 22_000
			}
		},
		faults: []string{faultReset},
		bid: func(px, qty string, stampNs int64) (list, bid string) {
			return `"updates":[`, `{"side":"bid","event_time":"` + rfc3339(stampNs-3_000_000, 6) + `","price_level":"` + px + `","new_quantity":"` + qty + `"}`
		},
		wsPath: "", inBand: true, connects: 8, window: time.Second, messages: 8, batches: true, countsSent: true,
	}
}

func (c *coinbase) topicName(k kind, sym *symbol, _ int) string {
	switch k {
	case kindBook:
		return "level2:" + sym.name
	case kindTrade:
		return "market_trades:" + sym.name
	}
	return "none:" + sym.name
}

func (c *coinbase) wishes(symbols []string) (w wishes) {
	ids := `"` + strings.Join(symbols, `","`) + `"`
	w.target = c.facts().wsPath
	w.commands = append(w.commands, `{"type":"subscribe","channel":"heartbeats"}`)
	for _, channel := range []string{"market_trades", "level2"} {
		w.commands = append(w.commands, `{"type":"subscribe","product_ids":[`+ids+`],"channel":"`+channel+`"}`)
	}
	return w
}

func (c *coinbase) open(*Session)           {}
func (c *coinbase) closing(*Session) []byte { return nil }

func (c *coinbase) tick(s *Session) {
	now := c.v.wallNs
	for _, ack := range s.later {
		s.say(c.numbered(s, "subscriptions", ack))
	}
	s.later = nil
	switch {
	case len(s.names) == 0 && now-s.bornNs >= 5e9:
		s.bye(1000, "no subscription in 5s")
		return
	case now-s.sentNs >= 75e9:
		s.bye(1000, "no updates in 75s")
		return
	}
	if _, on := s.subs["heartbeats"]; on && now >= s.beatNs {
		s.beatNs = max(s.beatNs+1e9, now)
		s.beats++
		at := time.Unix(0, now).UTC().Format("2006-01-02 15:04:05.999999999 +0000 UTC")
		// The counter is text in the documents and a number on the wire: both.
		counter := strconv.FormatInt(3000+s.beats, 10)
		if s.serial%2 == 0 {
			counter = `"` + counter + `"`
		}
		s.say(c.numbered(s, "heartbeats", fmt.Appendf(nil, `[{"current_time":"%s m=+%d.190000001","heartbeat_counter":%s}]`, at, s.beats, counter)))
	}
}

// numbered makes a control frame of its events.
func (c *coinbase) numbered(s *Session, channel string, events []byte) []byte {
	return c.seal(s, c.payload(channel, c.v.wallNs, events))
}

func (c *coinbase) payload(channel string, atNs int64, events []byte) payload {
	out := fmt.Appendf(nil, `{"channel":"%s","timestamp":"%s","sequence_num":`, channel, rfc3339Trimmed(atNs))
	hole := len(out)
	out = append(out, `,"events":`...)
	out = append(out, events...)
	return payload{bare: append(out, '}'), hole: hole}
}

// seal puts the connection's next number in its place.
func (c *coinbase) seal(s *Session, p payload) []byte {
	out := append(make([]byte, 0, len(p.bare)+8), p.bare[:p.hole]...)
	out = strconv.AppendInt(out, s.seq, 10)
	s.seq++
	return append(out, p.bare[p.hole:]...)
}

func (c *coinbase) reset(_ *topic, p payload) payload { return p } // the numbers are the session's

func (c *coinbase) px(_ *symbol, n int64) string              { return decimal(n, 0) }
func (c *coinbase) qty(_ *symbol, n int64) string             { return decimal(n, 0) }
func (c *coinbase) quote(*topic, int64, level, level) payload { return payload{} }

func (c *coinbase) refuse(s *Session, why string) {
	s.say(fmt.Appendf(nil, `{"type":"error","message":%s}`, quoted(why)))
}

func (c *coinbase) text(s *Session, msg []byte) {
	var r struct {
		Type       string
		ProductIDs []string `json:"product_ids"`
		Channel    string
	}
	kinds := map[string]kind{"level2": kindBook, "market_trades": kindTrade, "heartbeats": kindOther}
	k, known := kinds[r.Channel]
	if err := json.Unmarshal(msg, &r); err == nil {
		k, known = kinds[r.Channel]
	}
	if !known || r.Type != "subscribe" && r.Type != "unsubscribe" {
		c.refuse(s, "failure to subscribe")
		return
	}
	if k == kindOther {
		if r.Type == "subscribe" {
			s.subscribe("heartbeats", nil)
		} else {
			s.unsubscribe("heartbeats")
		}
		c.ack(s)
		return
	}
	if r.Type == "unsubscribe" {
		c.unsubscribe(s, r.Channel, r.ProductIDs)
		return
	}
	var begun []*topic
	var names []string
	for _, id := range r.ProductIDs {
		t, known, _ := c.v.want(k, c.product(id), 0)
		if !known {
			c.refuse(s, "failure to subscribe")
			return
		}
		begun = append(begun, t)
		names = append(names, r.Channel+":"+c.product(id))
	}
	if len(begun) == 0 {
		c.refuse(s, "failure to subscribe")
		return
	}
	for i, t := range begun {
		if _, subscribed := s.subs[names[i]]; subscribed {
			continue
		}
		switch c.v.asked(t, faultRefuse, faultSilent, faultOdd, faultIgnore) {
		case faultOdd: // the list says nothing of it
			continue
		case faultIgnore:
			return
		case faultRefuse:
			c.refuse(s, "failure to subscribe")
			return
		case faultSilent:
			s.silent[t] = true
		}
		s.subscribe(names[i], t)
		s.greet(t)
	}
	c.ack(s)
}

// product is what a product is called in frames: X-USDC is another name of X-USD.
func (c *coinbase) product(id string) string {
	if base, isAlias := strings.CutSuffix(id, "-USDC"); isAlias && c.v.symbols[id] == nil {
		return base + "-USD"
	}
	return id
}

// unsubscribe drops products, or the whole channel where none is named.
func (c *coinbase) unsubscribe(s *Session, channel string, ids []string) {
	for _, id := range ids {
		s.unsubscribe(channel + ":" + c.product(id))
	}
	if len(ids) == 0 {
		for _, n := range s.Subscribed() {
			if strings.HasPrefix(n, channel+":") {
				s.unsubscribe(n)
			}
		}
	}
	c.ack(s)
}

// ack tells the full current set, a little later.
func (c *coinbase) ack(s *Session) {
	var channels []string
	ids := map[string][]string{}
	for _, n := range s.names {
		channel, id, ok := strings.Cut(n, ":")
		if !ok {
			id = channel
		}
		if ids[channel] == nil {
			channels = append(channels, channel)
		}
		ids[channel] = append(ids[channel], id)
	}
	out := []byte(`[{"subscriptions":{`)
	for i, channel := range channels {
		list, _ := json.Marshal(ids[channel])
		if i > 0 {
			out = append(out, ',')
		}
		out = fmt.Appendf(out, `"%s":%s`, channel, list)
	}
	s.later = append(s.later, append(out, "}}]"...))
}

func (c *coinbase) snapshot(t *topic) payload {
	if t.kind == kindTrade {
		var list [][]byte // newest first
		for i := len(t.sym.recent) - 1; i >= 0; i-- {
			list = append(list, t.sym.recent[i])
		}
		return c.payload("market_trades", max(t.src.atNs, c.v.wallNs)+t.src.skewNs, append(joinJSON([]byte(`[{"type":"snapshot","trades":[`), list), "]}]"...))
	}
	return c.book(t, "snapshot", t.src.stampNs(), t.sym.book.top(true, 0), t.sym.book.top(false, 0))
}

func (c *coinbase) diff(t *topic, atNs int64, bids, asks []level) payload {
	return c.book(t, "update", atNs, bids, asks)
}

func (c *coinbase) book(t *topic, what string, atNs int64, bids, asks []level) payload {
	out := make([]byte, 0, 120*(len(bids)+len(asks))+100)
	out = fmt.Appendf(out, `[{"type":"%s","product_id":"%s","updates":[`, what, t.sym.name)
	at := rfc3339(atNs-3_000_000, 6)
	for i, l := range append(bids[:len(bids):len(bids)], asks...) {
		side := "bid"
		if i >= len(bids) {
			side = "offer"
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, `{"side":"`...)
		out = append(out, side...)
		out = append(out, `","event_time":"`...)
		out = append(out, at...)
		out = append(out, `","price_level":"`...)
		out = append(out, l.px...)
		out = append(out, `","new_quantity":"`...)
		out = append(out, l.qty...)
		out = append(out, `"}`...)
	}
	return c.payload("l2_data", atNs, append(out, "]}]"...))
}

// trade names the side of the maker.
func (c *coinbase) trade(sym *symbol, e world.Event) []byte {
	side := "SELL"
	if e.BuyerIsMaker {
		side = "BUY"
	}
	return fmt.Appendf(nil, `{"product_id":"%s","trade_id":"%d","price":"%s","size":"%s","time":"%s","side":"%s"}`,
		sym.name, e.TradeID, c.px(sym, e.Px), c.qty(sym, e.Qty), rfc3339(e.StampNs, 6), side)
}

func (c *coinbase) trades(t *topic, list []world.Event) payload {
	var parts [][]byte
	for i := len(list) - 1; i >= 0; i-- {
		parts = append(parts, c.trade(t.sym, list[i]))
	}
	return c.payload("market_trades", list[0].StampNs, append(joinJSON([]byte(`[{"type":"update","trades":[`), parts), "]}]"...))
}

func (c *coinbase) reader() func([]byte, *fastjson.Value) (recorded, error) {
	return func(line []byte, v *fastjson.Value) (recorded, error) {
		channel := string(v.GetStringBytes("channel"))
		events := v.GetArray("events")
		i, j := number(line, `"sequence_num":`)
		if channel != "l2_data" && channel != "market_trades" || len(events) == 0 {
			return recorded{skip: true}, nil
		}
		if len(events) != 1 || j == 0 {
			return recorded{}, errors.New("a frame of several products, or without a number")
		}
		e := events[0]
		r := recorded{payload: payload{bare: append(append([]byte(nil), line[:i]...), line[j:]...), hole: i}}
		r.snapshot = string(e.GetStringBytes("type")) == "snapshot"
		r.last = v.GetInt64("sequence_num")
		r.first = r.last - 1
		r.kind, r.symbol = kindBook, string(e.GetStringBytes("product_id"))
		if channel == "market_trades" {
			r.kind, r.symbol = kindTrade, string(e.GetStringBytes("trades", "0", "product_id"))
		}
		if r.symbol == "" {
			return recorded{skip: true}, nil
		}
		r.name = map[kind]string{kindBook: "level2:", kindTrade: "market_trades:"}[r.kind] + r.symbol
		return r, nil
	}
}

// remember keeps recorded trades for those who subscribe later.
func (c *coinbase) remember(ev *event) {
	v, err := fastjson.ParseBytes(ev.payload.numberless())
	if err != nil || ev.kind != kindTrade {
		return
	}
	list := v.GetArray("events", "0", "trades")
	for i := len(list) - 1; i >= 0; i-- {
		ev.sym.recent = append(ev.sym.recent, list[i].MarshalTo(nil))
	}
	ev.sym.recent = ev.sym.recent[max(len(ev.sym.recent)-100, 0):]
}

func (c *coinbase) levels(bare []byte, set func(bool, string, string, string) error) error {
	v, err := fastjson.ParseBytes(payload{bare: bare}.numberless())
	if err != nil {
		return err
	}
	for _, u := range v.GetArray("events", "0", "updates") {
		bid := string(u.GetStringBytes("side")) == "bid"
		if err := set(bid, string(u.GetStringBytes("price_level")), string(u.GetStringBytes("new_quantity")), ""); err != nil {
			return err
		}
	}
	return nil
}

// numberless is a frame that can be read although its number is not in yet.
func (p payload) numberless() []byte {
	const key = `"sequence_num":`
	i := indexOf(p.bare, key) + len(key)
	return []byte(string(p.bare[:i]) + "0" + string(p.bare[i:]))
}

func (c *coinbase) rest(r Request) Answer {
	const products = "/api/v3/brokerage/market/products"
	q := r.query()
	missing := Answer{Status: 404, Body: []byte(`{"error":"NOT_FOUND","error_details":"product not found","message":"product not found"}`)}
	switch {
	case r.Path == products:
		var parts [][]byte
		for _, sym := range c.v.order {
			ids := q["product_ids"]
			for i, id := range ids {
				ids[i] = c.product(id)
			}
			if len(ids) == 0 || hasName(ids, sym.name) {
				parts = append(parts, c.info(sym))
			}
		}
		return ok(fmt.Appendf(joinJSON([]byte(`{"products":[`), parts), `],"num_products":%d}`, len(parts)))
	case strings.HasPrefix(r.Path, products+"/"):
		if sym := c.v.symbols[c.product(strings.TrimPrefix(r.Path, products+"/"))]; sym != nil {
			return ok(c.info(sym))
		}
		return missing
	case r.Path == "/api/v3/brokerage/market/product_book":
		sym := c.v.symbols[c.product(q.Get("product_id"))]
		if sym == nil {
			return missing
		}
		limit, _ := strconv.Atoi(q.Get("limit"))
		side := func(levels []level) []byte {
			var rows [][]byte
			for _, l := range levels {
				rows = append(rows, fmt.Appendf(nil, `{"price":"%s","size":"%s"}`, l.px, l.qty))
			}
			return joinJSON(nil, rows)
		}
		bid, _ := sym.book.best(true)
		return ok(fmt.Appendf(nil, `{"pricebook":{"product_id":"%s","bids":[%s],"asks":[%s],"time":"%s"},"last":"%s","mid_market":"%s","spread_bps":"0","spread_absolute":"0"}`,
			sym.name, side(sym.book.top(true, limit)), side(sym.book.top(false, limit)), rfc3339(sym.src.stampNs(), 6), bid.px, bid.px))
	}
	return Answer{Status: 404, Body: []byte(`{"error":"NOT_FOUND"}`)}
}

func (c *coinbase) info(sym *symbol) []byte {
	in := sym.info
	tick, lot := decimal(step(in.pxDecimals), 0), decimal(step(in.qtyDecimals), 0)
	alias := "[]"
	if in.quote == "USD" {
		alias = `["` + in.base + `-USDC"]`
	}
	return fmt.Appendf(nil, `{"product_id":"%s","price":"0","base_increment":"%s","quote_increment":"%s","price_increment":"%s","base_min_size":"%s","base_currency_id":"%s","quote_currency_id":"%s","status":"online","trading_disabled":false,"is_disabled":false,"cancel_only":false,"limit_only":false,"post_only":false,"view_only":false,"alias":"","alias_to":%s,"product_type":"SPOT","base_display_symbol":"%s","quote_display_symbol":"%s"}`,
		sym.name, lot, tick, tick, lot, in.base, in.quote, alias, in.base, in.quote)
}
