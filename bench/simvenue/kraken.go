package simvenue

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fastjson"

	"deeptape/bench/world"
)

// kraken is Kraken spot, WebSocket v2: book, trade and instrument. Its numbers
// are bare, at the full precision of the pair; every book frame has the CRC-32
// of the best ten levels after it.
type kraken struct{ v *Venue }

func (k *kraken) facts() facts {
	return facts{
		form: regexp.MustCompile(`^[A-Za-z0-9.]+/[A-Za-z0-9]+$`), example: "BTC/USD", symbol: func(base string) string { return base + "/USD" },
		size: func(base string, m *world.Symbol) { // one decimal for the dearest, eight for every size
			if base == "BTC" {
				m.PxDecimals, m.StartPx = 1, m.StartPx/1e7*1e7
			}
			m.QtyDecimals, m.MaxQtyBits = 8, 30
		},
		faults: []string{faultCorrupt, faultZero},
		bid: func(px, qty string, _ int64) (list, bid string) {
			return `"bids":[`, `{"price":` + px + `,"qty":` + qty + `}`
		},
		wsPath: "/v2", inBand: true, depths: []int{10, 25, 100, 500, 1000}, depth: 10,
		connects: 150, window: 10 * time.Minute, messages: 50, truncates: true, batches: true, countsSent: true,
	}
}

func (k *kraken) topicName(kd kind, sym *symbol, depth int) string {
	switch kd {
	case kindBook:
		return "book/" + strconv.Itoa(depth) + "/" + sym.name
	case kindTrade:
		return "trade/" + sym.name
	}
	return "none/" + sym.name
}

func (k *kraken) wishes(symbols []string) (w wishes) {
	list := `"` + strings.Join(symbols, `","`) + `"`
	w.target = k.facts().wsPath
	w.commands = []string{
		`{"method":"subscribe","params":{"channel":"instrument","snapshot":true},"req_id":1}`,
		`{"method":"subscribe","params":{"channel":"trade","symbol":[` + list + `],"snapshot":true},"req_id":2}`,
		`{"method":"subscribe","params":{"channel":"book","symbol":[` + list + `],"depth":1000,"snapshot":true},"req_id":3}`,
	}
	w.ping = `{"method":"ping","req_id":4}`
	return w
}

func (k *kraken) open(s *Session) {
	// The venue's ids do not always fit 63 bits.
	s.say(fmt.Appendf(nil, `{"channel":"status","type":"update","data":[{"version":"2.0.10","system":"online","api_version":"v2","connection_id":%d}]}`, uint64(15113583034416118705)+uint64(s.serial)))
	s.beatNs = k.v.wallNs + 1e9
}

func (k *kraken) tick(s *Session) {
	now := k.v.wallNs
	if len(s.names) == 0 && now-s.lastNs >= 60e9 {
		s.bye(1000, "idle")
		return
	}
	if now >= s.beatNs {
		s.beatNs = max(s.beatNs+1e9, now)
		s.say([]byte(`{"channel":"heartbeat"}`))
	}
}

func (k *kraken) closing(*Session) []byte                   { return nil }
func (k *kraken) seal(_ *Session, p payload) []byte         { return p.bare }
func (k *kraken) reset(_ *topic, p payload) payload         { return p }
func (k *kraken) px(sym *symbol, n int64) string            { return decimal(n, sym.pxDecimals) }
func (k *kraken) qty(sym *symbol, n int64) string           { return decimal(n, 8) }
func (k *kraken) quote(*topic, int64, level, level) payload { return payload{} }

type krakenRequest struct {
	Method string
	Params struct {
		Channel  string
		Symbol   []string
		Depth    int
		Snapshot *bool
	}
	ReqID json.Number `json:"req_id"`
}

func (k *kraken) text(s *Session, msg []byte) {
	var r krakenRequest
	if err := json.Unmarshal(msg, &r); err != nil {
		k.refuse(s, r, "", "Malformed request")
		return
	}
	times := k.times()
	switch {
	case r.Method == "ping":
		s.say(fmt.Appendf(nil, `{"method":"pong"%s%s}`, reqID(r), times))
	case r.Method != "subscribe" && r.Method != "unsubscribe":
		k.refuse(s, r, "", "Method not supported")
	case r.Params.Channel == "instrument":
		k.instrument(s, r)
	case r.Params.Channel != "book" && r.Params.Channel != "trade":
		k.refuse(s, r, "", "Channel not supported")
	case len(r.Params.Symbol) == 0:
		k.refuse(s, r, "", "Symbol(s) not found")
	default:
		for _, name := range r.Params.Symbol {
			k.one(s, r, name)
		}
	}
}

// one answers for one symbol of a request.
func (k *kraken) one(s *Session, r krakenRequest, name string) {
	kd, depth := kindTrade, 0
	snapshot := r.Params.Snapshot != nil && *r.Params.Snapshot
	result := fmt.Sprintf(`"channel":"trade","snapshot":%t,"symbol":%s`, snapshot, quoted(name))
	if r.Params.Channel == "book" {
		if kd, depth = kindBook, r.Params.Depth; depth == 0 {
			depth = k.facts().depth
		}
		snapshot = r.Params.Snapshot == nil || *r.Params.Snapshot
		result = fmt.Sprintf(`"channel":"book","depth":%d,"snapshot":%t,"symbol":%s`, depth, snapshot, quoted(name))
	}
	t, known, depthOK := k.v.want(kd, name, depth)
	switch {
	case !known:
		k.refuse(s, r, name, "Currency pair not supported "+name)
		return
	case !depthOK:
		k.refuse(s, r, "", "Subscription depth not supported")
		return
	}
	topic := k.topicName(kd, k.v.symbols[name], depth)
	_, subscribed := s.subs[topic]
	if r.Method == "unsubscribe" {
		if !subscribed {
			k.refuse(s, r, name, "Subscription not found")
			return
		}
		s.unsubscribe(topic)
		s.say(fmt.Appendf(nil, `{"method":"unsubscribe","result":{%s},"success":true%s%s}`, result, k.times(), reqID(r)))
		return
	}
	for _, n := range s.names { // one depth per symbol
		if kd == kindBook && strings.HasPrefix(n, "book/") && strings.HasSuffix(n, "/"+name) && strings.Count(n, "/") == strings.Count(topic, "/") {
			subscribed = true
		}
	}
	if subscribed {
		k.refuse(s, r, name, "Already subscribed")
		return
	}
	hit := k.v.asked(t, faultRefuse, faultSilent, faultOdd, faultIgnore)
	switch hit {
	case faultRefuse:
		k.refuse(s, r, name, "Exceeded msg rate")
		return
	case faultOdd:
		s.say([]byte(`{"Error":"Exceeded msg rate"}`))
		return
	case faultIgnore:
		return
	}
	s.say(fmt.Appendf(nil, `{"method":"subscribe","result":{%s},"success":true%s%s}`, result, k.times(), reqID(r)))
	if hit == faultSilent {
		s.silent[t] = true
	}
	s.subscribe(topic, t)
	if snapshot {
		s.greet(t)
	}
}

func (k *kraken) times() string {
	return fmt.Sprintf(`,"time_in":"%s","time_out":"%s"`, rfc3339(k.v.wallNs, 6), rfc3339(k.v.wallNs+58_000, 6))
}

func reqID(r krakenRequest) string {
	if r.ReqID == "" {
		return ""
	}
	return `,"req_id":` + r.ReqID.String()
}

func (k *kraken) refuse(s *Session, r krakenRequest, symbol, why string) {
	out := fmt.Appendf(nil, `{"error":%s`, quoted(why))
	if r.Method != "" {
		out = fmt.Appendf(out, `,"method":%s`, quoted(r.Method))
	}
	out = append(out, `,"success":false`...)
	if symbol != "" {
		out = fmt.Appendf(out, `,"symbol":%s`, quoted(symbol))
	}
	out = append(out, k.times()...)
	out = append(out, reqID(r)...)
	s.say(append(out, '}'))
}

// instrument subscribes to the metadata of all pairs, which never change here.
func (k *kraken) instrument(s *Session, r krakenRequest) {
	s.say(fmt.Appendf(nil, `{"method":%q,"result":{"channel":"instrument","snapshot":true},"success":true%s%s}`, r.Method, k.times(), reqID(r)))
	if r.Method == "unsubscribe" {
		s.unsubscribe("instrument")
		return
	}
	s.subscribe("instrument", nil)
	out := []byte(`{"channel":"instrument","type":"snapshot","data":{"assets":[`)
	var assets, pairs [][]byte
	seen := map[string]bool{}
	for _, sym := range k.v.order {
		in := sym.info
		for _, a := range []string{in.base, in.quote} {
			if !seen[a] {
				seen[a] = true
				assets = append(assets, fmt.Appendf(nil, `{"id":%q,"status":"enabled","precision":10,"precision_display":5,"borrowable":false,"collateral_value":1.00,"margin_rate":0.00}`, a))
			}
		}
		pairs = append(pairs, fmt.Appendf(nil, `{"symbol":%q,"base":%q,"quote":%q,"status":"online","qty_precision":%d,"qty_increment":%s,"price_precision":%d,"price_increment":%s,"tick_size":%s,"cost_precision":5,"cost_min":0.5,"qty_min":0.00005,"marginable":false,"has_index":true}`,
			in.symbol, in.base, in.quote, in.qtyDecimals, exponent(in.qtyDecimals), in.pxDecimals, exponent(in.pxDecimals), exponent(in.pxDecimals)))
	}
	out = joinJSON(out, assets)
	out = append(out, `],"pairs":[`...)
	s.say(append(joinJSON(out, pairs), "]}}"...))
}

// exponent is 10^-decimals as this channel writes it: small ones as 1e-08.
func exponent(decimals int) string {
	if decimals > 4 {
		return fmt.Sprintf("1e-%02d", decimals)
	}
	return decimal(step(decimals), 0)
}

func (k *kraken) snapshot(t *topic) payload {
	if t.kind == kindTrade {
		list := t.sym.recent[max(len(t.sym.recent)-50, 0):]
		return payload{bare: append(joinJSON([]byte(`{"channel":"trade","type":"snapshot","data":[`), list), "]}"...)}
	}
	return k.frame(t, "snapshot", t.src.stampNs(), t.sym.book.top(true, t.depth), t.sym.book.top(false, t.depth))
}

// diff gives the levels in no order, and now and then one price twice: the last
// one counts.
func (k *kraken) diff(t *topic, atNs int64, bids, asks []level) payload {
	mix := func(list []level) []level {
		n := len(list)
		if n < 2 {
			return list
		}
		cut := int(t.seq % int64(n))
		out := append(append(make([]level, 0, n+1), list[cut:]...), list[:cut]...)
		if x := out[n-1]; t.seq%4 == 0 && !x.gone {
			x.qty = k.qty(t.sym, 12_345_678)
			out = append([]level{x}, out...)
		}
		return out
	}
	return k.frame(t, "update", atNs, mix(bids), mix(asks))
}

func (k *kraken) frame(t *topic, what string, atNs int64, bids, asks []level) payload {
	out := fmt.Appendf(nil, `{"channel":"book","type":%q,"data":[{"symbol":%q,"bids":`, what, t.sym.name)
	out = krakenLevels(out, bids)
	out = append(out, `,"asks":`...)
	out = krakenLevels(out, asks)
	return payload{bare: fmt.Appendf(out, `,"checksum":%d,"timestamp":"%s"}]}`, krakenCRC(&t.sym.book), rfc3339(atNs, 6))}
}

func krakenLevels(out []byte, levels []level) []byte {
	out = append(out, '[')
	for i, l := range levels {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, `{"price":`...)
		out = append(out, l.px...)
		out = append(out, `,"qty":`...)
		out = append(out, l.qty...)
		out = append(out, '}')
	}
	return append(out, ']')
}

// krakenCRC is over the best ten asks, then the best ten bids: the digits of
// price and size without point and leading zeros.
func krakenCRC(b *book) uint32 {
	var text []byte
	for _, l := range append(b.top(false, 10), b.top(true, 10)...) {
		text = append(text, strings.TrimLeft(strings.Replace(l.px, ".", "", 1), "0")...)
		text = append(text, strings.TrimLeft(strings.Replace(l.qty, ".", "", 1), "0")...)
	}
	return crc32.ChecksumIEEE(text)
}

func (k *kraken) trade(sym *symbol, e world.Event) []byte {
	side := "buy"
	if e.BuyerIsMaker {
		side = "sell"
	}
	return fmt.Appendf(nil, `{"symbol":%q,"side":"%s","price":%s,"qty":%s,"ord_type":"limit","trade_id":%d,"timestamp":"%s"}`,
		sym.name, side, k.px(sym, e.Px), k.qty(sym, e.Qty), e.TradeID, rfc3339(e.StampNs, 6))
}

func (k *kraken) trades(t *topic, list []world.Event) payload {
	var parts [][]byte
	for _, e := range list {
		parts = append(parts, k.trade(t.sym, e))
	}
	return payload{bare: append(joinJSON([]byte(`{"channel":"trade","type":"update","data":[`), parts), "]}"...)}
}

// reader knows the depth of a book from the acknowledgement before it.
func (k *kraken) reader() func([]byte, *fastjson.Value) (recorded, error) {
	depths := map[string]int{}
	return func(line []byte, v *fastjson.Value) (recorded, error) {
		r := recorded{payload: payload{bare: line}}
		channel := string(v.GetStringBytes("channel"))
		data := v.GetArray("data")
		if string(v.GetStringBytes("method")) == "subscribe" && v.GetBool("success") {
			depths[string(v.GetStringBytes("result", "symbol"))] = v.GetInt("result", "depth")
		}
		if channel != "book" && channel != "trade" || len(data) == 0 {
			return recorded{skip: true}, nil
		}
		r.symbol = string(data[0].GetStringBytes("symbol"))
		for _, d := range data {
			if r.symbol == "" || string(d.GetStringBytes("symbol")) != r.symbol {
				return r, fmt.Errorf("a frame of no symbol, or of several")
			}
		}
		r.snapshot = string(v.GetStringBytes("type")) == "snapshot"
		r.kind, r.name = kindTrade, "trade/"+r.symbol
		if channel == "book" {
			if r.depth = depths[r.symbol]; r.depth == 0 {
				r.depth = 10
			}
			r.kind, r.name = kindBook, fmt.Sprintf("book/%d/%s", r.depth, r.symbol)
		}
		return r, nil
	}
}

func (k *kraken) remember(ev *event) {
	v, err := fastjson.ParseBytes(ev.payload.bare)
	if err != nil || ev.kind != kindTrade {
		return
	}
	for _, d := range v.GetArray("data") {
		ev.sym.recent = append(ev.sym.recent, d.MarshalTo(nil))
	}
	ev.sym.recent = ev.sym.recent[max(len(ev.sym.recent)-100, 0):]
}

// levels keeps the text of the numbers: it is what the checksum is made of.
func (k *kraken) levels(bare []byte, set func(bool, string, string, string) error) error {
	v, err := fastjson.ParseBytes(bare)
	if err != nil {
		return err
	}
	for _, d := range v.GetArray("data") {
		for _, side := range []string{"bids", "asks"} {
			for _, l := range d.GetArray(side) {
				if l.Get("price") == nil || l.Get("qty") == nil {
					return fmt.Errorf("a level without price or qty")
				}
				if err := set(side == "bids", string(l.Get("price").MarshalTo(nil)), string(l.Get("qty").MarshalTo(nil)), ""); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (k *kraken) rest(r Request) Answer {
	pick := func(pairs string) []*symbol {
		var list []*symbol
		for _, sym := range k.v.order {
			for _, want := range strings.Split(pairs, ",") {
				in := sym.info
				if want == "" || want == sym.name || want == in.base+in.quote || strings.ReplaceAll(want, "XBT", "BTC") == in.base+in.quote {
					list = append(list, sym)
				}
			}
		}
		return list
	}
	q := r.query()
	list := pick(q.Get("pair"))
	unknown := ok([]byte(`{"error":["EQuery:Unknown asset pair"]}`))
	var parts [][]byte
	switch r.Path {
	case "/0/public/AssetPairs":
		stocks := q.Get("aclass_base") == "tokenized_asset" // AAPLx/USD: listed apart
		for _, sym := range list {
			in := sym.info
			if stocks != strings.HasSuffix(in.base, "x") {
				continue
			}
			parts = append(parts, fmt.Appendf(nil, `"%s%s":{"altname":"%s%s","wsname":%q,"base":%q,"quote":%q,"lot":"unit","pair_decimals":%d,"lot_decimals":%d,"lot_multiplier":1,"ordermin":"0.00005","costmin":"0.5","tick_size":%q,"status":"online"}`,
				in.base, in.quote, in.base, in.quote, sym.name, in.base, in.quote, in.pxDecimals, in.qtyDecimals, decimal(step(in.pxDecimals), 0)))
		}
	case "/0/public/Depth":
		count, err := strconv.Atoi(q.Get("count"))
		if err != nil || count < 1 || count > 500 {
			count = 100
		}
		for _, sym := range list {
			at := sym.src.stampNs() / 1e9
			side := func(levels []level) []byte {
				var rows [][]byte
				for _, l := range levels {
					rows = append(rows, fmt.Appendf(nil, `["%s","%s",%d]`, decimal(l.key, 5), l.qty, at))
				}
				return joinJSON(nil, rows)
			}
			parts = append(parts, fmt.Appendf(nil, `"%s%s":{"asks":[%s],"bids":[%s]}`, sym.info.base, sym.info.quote, side(sym.book.top(false, count)), side(sym.book.top(true, count))))
		}
	default:
		return Answer{Status: 404, Body: []byte(`{"error":["EGeneral:Unknown method"]}`)}
	}
	if len(parts) == 0 {
		return unknown
	}
	return ok(append(joinJSON([]byte(`{"error":[],"result":{`), parts), "}}"...))
}
