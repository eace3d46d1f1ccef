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

// okx is OKX v5, public: books, bbo-tbt and trades. Its made markets carry the
// checksum of before 2026-06-23, so that it can be tested; the fault
// checksum-zero makes them those of today.
type okx struct{ v *Venue }

const okxDepth = 400

func (o *okx) facts() facts {
	return facts{
		form: regexp.MustCompile(`^[A-Z0-9]+-[A-Z0-9]+(-[A-Z0-9]+)*$`), example: "BTC-USDT", symbol: func(base string) string { return base + "-USDT" },
		faults: []string{faultCorrupt, faultZero, faultReset, faultNotice},
		bid: func(px, qty string, _ int64) (list, bid string) {
			return `"bids":[`, `["` + px + `","` + qty + `","0","1"]`
		},
		wsPath: "/ws/v5/public", inBand: true, depths: []int{okxDepth}, depth: okxDepth,
		connects: 3, window: time.Second, messages: 50, batches: true, countsSent: true,
	}
}

var okxChannels = map[string]kind{"books": kindBook, "bbo-tbt": kindQuote, "trades": kindTrade}

func (o *okx) topicName(k kind, sym *symbol, _ int) string {
	for channel, x := range okxChannels {
		if x == k {
			return channel + ":" + sym.name
		}
	}
	return "none:" + sym.name
}

func (o *okx) wishes(symbols []string) (w wishes) {
	var args []string
	for _, name := range symbols {
		for _, channel := range []string{"books", "trades", "bbo-tbt"} {
			args = append(args, `{"channel":"`+channel+`","instId":"`+name+`"}`)
		}
	}
	w.target = o.facts().wsPath
	w.commands = []string{`{"id":"1","op":"subscribe","args":[` + strings.Join(args, ",") + `]}`}
	w.ping = "ping"
	return w
}

func (o *okx) open(s *Session) { s.id = fmt.Sprintf("%08x", 0x32f4414f+s.serial) }

func (o *okx) tick(s *Session) {
	now := o.v.wallNs
	if len(s.names) == 0 && now-s.bornNs >= 30e9 || now-s.sentNs >= 30e9 {
		s.bye(1000, "no data in 30s")
		return
	}
	for _, n := range append([]string{}, s.names...) {
		t := s.subs[n]
		if t == nil || t.kind != kindBook || !t.live || t.lastNs == 0 || now-t.lastNs < 60e9 {
			continue
		}
		t.lastNs = now
		p := o.v.dress(t, o.frame(t, "update", t.src.stampNs(), nil, nil, t.seq))
		o.v.tell(t, p, false, nil)
		for _, x := range t.subs {
			if !x.silent[t] {
				x.say(p.bare)
			}
		}
	}
}

func (o *okx) closing(s *Session) []byte {
	return fmt.Appendf(nil, `{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade. Please reconnect.","connId":"%s"}`, s.id)
}

func (o *okx) seal(_ *Session, p payload) []byte { return p.bare }
func (o *okx) px(_ *symbol, n int64) string      { return decimal(n, 0) }
func (o *okx) qty(_ *symbol, n int64) string     { return decimal(n, 0) }

// reset goes on from an id that is about half the one before.
func (o *okx) reset(t *topic, p payload) payload {
	before := t.prev - t.shift
	t.shift = t.seq - before/2
	p.bare = setNumber(p.bare, `"seqId":`, before/2)
	return p
}

var okxID = regexp.MustCompile(`^[0-9A-Za-z]{1,32}$`)

type okxRequest struct {
	ID   string
	Op   string
	Args []struct{ Channel, InstID string }
}

func (o *okx) text(s *Session, msg []byte) {
	if string(msg) == "ping" {
		s.say([]byte("pong"))
		return
	}
	var r okxRequest
	if err := json.Unmarshal(msg, &r); err != nil || r.Op != "subscribe" && r.Op != "unsubscribe" || len(r.Args) == 0 || len(msg) > 64<<10 || r.ID != "" && !okxID.MatchString(r.ID) {
		r.ID = ""
		o.refuse(s, r, "60012", "Illegal request: "+string(msg[:min(len(msg), 200)]))
		return
	}
	if !o.budget(s) {
		o.refuse(s, r, "60014", "Requests too frequent")
		return
	}
	var begun []*topic
	for _, a := range r.Args {
		k, channel := okxChannels[a.Channel]
		t, known, _ := o.v.want(k, a.InstID, okxDepth)
		if !channel || !known {
			o.refuse(s, r, "60018", fmt.Sprintf("Subscribe failed, wrong URL or channel:%s,instId:%s doesn't exist.", a.Channel, a.InstID))
			continue
		}
		name := o.topicName(k, o.v.symbols[a.InstID], 0)
		if r.Op == "unsubscribe" {
			s.unsubscribe(name)
			o.ack(s, r, a.Channel, a.InstID)
			continue
		}
		_, subscribed := s.subs[name]
		hit := ""
		if !subscribed {
			hit = o.v.asked(t, faultRefuse, faultSilent, faultOdd, faultIgnore)
		}
		if hit == faultOdd {
			s.say([]byte(`{"event":"busy","msg":"try again later"}`))
		}
		if hit == faultOdd || hit == faultIgnore {
			continue
		}
		if hit == faultRefuse {
			o.refuse(s, r, "64003", "Refused by the fault refuse-subscribe")
			continue
		}
		if hit == faultSilent {
			s.silent[t] = true
		}
		o.ack(s, r, a.Channel, a.InstID)
		s.subscribe(name, t)
		if !subscribed {
			begun = append(begun, t)
		}
	}
	for _, t := range begun {
		s.greet(t)
	}
}

// budget: 480 commands an hour.
func (o *okx) budget(s *Session) bool {
	keep := s.commands[:0]
	for _, t := range s.commands {
		if o.v.wallNs-t < int64(time.Hour) {
			keep = append(keep, t)
		}
	}
	s.commands = append(keep, o.v.wallNs)
	return len(s.commands) <= 480
}

func (r okxRequest) id() string {
	if r.ID == "" {
		return "{"
	}
	return `{"id":` + quoted(r.ID) + `,`
}

func (o *okx) ack(s *Session, r okxRequest, channel, inst string) {
	s.say(fmt.Appendf(nil, `%s"event":"%s","arg":{"channel":"%s","instId":%s},"connId":"%s"}`, r.id(), r.Op, channel, quoted(inst), s.id))
}

func (o *okx) refuse(s *Session, r okxRequest, code, why string) {
	s.say(fmt.Appendf(nil, `%s"event":"error","code":"%s","msg":%s,"connId":"%s"}`, r.id(), code, quoted(why), s.id))
}

func (o *okx) snapshot(t *topic) payload {
	switch t.kind {
	case kindQuote:
		if t.sym.src.world == nil {
			return payload{}
		}
		return o.quote(t, t.src.stampNs(), t.sym.quote[0], t.sym.quote[1])
	case kindTrade:
		return payload{}
	}
	return o.frame(t, "snapshot", t.src.stampNs(), t.sym.book.top(true, okxDepth), t.sym.book.top(false, okxDepth), -1)
}

func (o *okx) diff(t *topic, atNs int64, bids, asks []level) payload {
	return o.frame(t, "update", atNs, bids, asks, t.prev)
}

func (o *okx) frame(t *topic, action string, atNs int64, bids, asks []level, prev int64) payload {
	out := fmt.Appendf(nil, `{"arg":{"channel":"books","instId":"%s"},"action":"%s","data":[{"asks":`, t.sym.name, action)
	out = okxLevels(out, asks)
	out = append(out, `,"bids":`...)
	out = okxLevels(out, bids)
	return payload{bare: fmt.Appendf(out, `,"ts":"%d","checksum":%d,"seqId":%d,"prevSeqId":%d}]}`, atNs/1e6, okxCRC(&t.sym.book), t.seq, prev)}
}

// okxLevels writes [price, size, "0", orders]; a made market's orders are made up.
func okxLevels(out []byte, levels []level) []byte {
	out = append(out, '[')
	for i, l := range levels {
		if i > 0 {
			out = append(out, ',')
		}
		orders := l.more
		switch {
		case l.gone:
			orders = "0"
		case orders == "":
			orders = strconv.FormatInt(1+l.key/1e6%7, 10)
		}
		out = append(out, `["`...)
		out = append(out, l.px...)
		out = append(out, `","`...)
		out = append(out, l.qty...)
		out = append(out, `","0","`...)
		out = append(out, orders...)
		out = append(out, `"]`...)
	}
	return append(out, ']')
}

// okxCRC is over the best 25 of each side: bid, ask, bid, ask, price and size
// joined by colons; signed.
func okxCRC(b *book) int32 {
	bids, asks := b.top(true, 25), b.top(false, 25)
	var parts []string
	for i := range max(len(bids), len(asks)) {
		if i < len(bids) {
			parts = append(parts, bids[i].px, bids[i].qty)
		}
		if i < len(asks) {
			parts = append(parts, asks[i].px, asks[i].qty)
		}
	}
	return int32(crc32.ChecksumIEEE([]byte(strings.Join(parts, ":"))))
}

func (o *okx) quote(t *topic, atNs int64, bid, ask level) payload {
	out := fmt.Appendf(nil, `{"arg":{"channel":"bbo-tbt","instId":"%s"},"data":[{"asks":`, t.sym.name)
	out = okxLevels(out, []level{ask})
	out = append(out, `,"bids":`...)
	out = okxLevels(out, []level{bid})
	return payload{bare: fmt.Appendf(out, `,"ts":"%d","seqId":%d}]}`, atNs/1e6, t.seq)}
}

// trades joins the fills of one order at one price, as the venue does: the id is
// that of the last.
func (o *okx) trades(t *topic, list []world.Event) payload {
	var parts [][]byte
	for i := 0; i < len(list); {
		e, n := list[i], 1
		for ; i+n < len(list) && list[i+n].Px == e.Px && list[i+n].BuyerIsMaker == e.BuyerIsMaker; n++ {
			e.Qty += list[i+n].Qty
			e.TradeID = list[i+n].TradeID
		}
		i += n
		side := "buy"
		if e.BuyerIsMaker {
			side = "sell"
		}
		parts = append(parts, fmt.Appendf(nil, `{"instId":"%s","tradeId":"%d","px":"%s","sz":"%s","side":"%s","ts":"%d","count":"%d","source":"0","seqId":%d}`,
			t.sym.name, e.TradeID, o.px(t.sym, e.Px), o.qty(t.sym, e.Qty), side, e.StampNs/1e6, n, t.sym.book.lastID))
	}
	out := fmt.Appendf(nil, `{"arg":{"channel":"trades","instId":"%s"},"data":[`, t.sym.name)
	return payload{bare: append(joinJSON(out, parts), "]}"...)}
}

func (o *okx) reader() func([]byte, *fastjson.Value) (recorded, error) {
	return func(line []byte, v *fastjson.Value) (recorded, error) {
		r := recorded{payload: payload{bare: line}, symbol: string(v.GetStringBytes("arg", "instId"))}
		channel := string(v.GetStringBytes("arg", "channel"))
		data := v.GetArray("data")
		k, known := okxChannels[channel]
		if !known || len(data) == 0 || r.symbol == "" {
			return recorded{skip: true}, nil
		}
		r.kind, r.name = k, channel+":"+r.symbol
		if k == kindBook {
			r.depth = okxDepth
			r.snapshot = string(v.GetStringBytes("action")) == "snapshot"
			r.first, r.last = data[0].GetInt64("prevSeqId"), data[len(data)-1].GetInt64("seqId")
		}
		return r, nil
	}
}

func (o *okx) levels(bare []byte, set func(bool, string, string, string) error) error {
	v, err := fastjson.ParseBytes(bare)
	if err != nil {
		return err
	}
	for _, d := range v.GetArray("data") {
		if err := setPairs(true, d.GetArray("bids"), set); err != nil {
			return err
		}
		if err := setPairs(false, d.GetArray("asks"), set); err != nil {
			return err
		}
	}
	return nil
}

func (o *okx) rest(r Request) Answer {
	q := r.query()
	nothing := ok([]byte(`{"code":"51001","msg":"Instrument ID doesn't exist","data":[]}`))
	switch r.Path {
	case "/api/v5/public/instruments":
		kindOf := func(name string) string {
			switch {
			case strings.HasSuffix(name, "-SWAP"):
				return "SWAP"
			case strings.Count(name, "-") > 1:
				return "FUTURES"
			}
			return "SPOT"
		}
		var parts [][]byte
		for _, sym := range o.v.order {
			in := sym.info
			if id := q.Get("instId"); id != "" && id != sym.name || kindOf(sym.name) != q.Get("instType") {
				continue
			}
			parts = append(parts, fmt.Appendf(nil, `{"alias":"","baseCcy":"%s","category":"1","ctMult":"","ctType":"","ctVal":"","ctValCcy":"","expTime":"","instFamily":"","instId":"%s","instIdCode":%d,"instType":"%s","lever":"10","listTime":"1548133413000","lotSz":"%s","minSz":"0.00001","optType":"","openType":"call_auction","quoteCcy":"%s","ruleType":"normal","settleCcy":"","state":"live","stk":"","tickSz":"%s","uly":""}`,
				in.base, sym.name, len(parts)+1, kindOf(sym.name), decimal(step(in.qtyDecimals), 0), in.quote, decimal(step(in.pxDecimals), 0)))
		}
		if len(parts) == 0 && q.Get("instId") != "" {
			return nothing
		}
		return ok(append(joinJSON([]byte(`{"code":"0","msg":"","data":[`), parts), "]}"...))
	case "/api/v5/market/books":
		sym := o.v.symbols[q.Get("instId")]
		if sym == nil {
			return nothing
		}
		n, err := strconv.Atoi(q.Get("sz"))
		if err != nil || n < 1 {
			n = 1
		}
		n = min(n, okxDepth)
		out := okxLevels([]byte(`{"code":"0","msg":"","data":[{"asks":`), sym.book.top(false, n))
		out = okxLevels(append(out, `,"bids":`...), sym.book.top(true, n))
		return ok(fmt.Appendf(out, `,"ts":"%d","seqId":%d}]}`, sym.src.stampNs()/1e6, sym.book.lastID))
	}
	return Answer{Status: 404, Body: []byte(`{"code":"404","msg":"Not Found","data":[]}`)}
}
