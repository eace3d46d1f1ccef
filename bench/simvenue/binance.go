package simvenue

import (
	"bytes"
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

// binance is Binance spot. Only streams that the data hold carry frames:
// anything else is acknowledged and silent, as an unknown symbol is.
// timeUnit=MICROSECOND is refused.
type binance struct{ v *Venue }

const maxStreams = 1024 // per connection

func (b *binance) facts() facts {
	return facts{
		form: regexp.MustCompile(`^[A-Z0-9]{2,}$`), example: "BTCUSDT", symbol: func(base string) string { return base + "USDT" },
		faults: []string{faultNotice, faultStale, fault429},
		bid:    func(px, qty string, _ int64) (list, bid string) { return `"b":[`, `["` + px + `","` + qty + `"]` },
		main:   true, standing: true,
		connects: 300, window: 5 * time.Minute, messages: 5, pings: true,
	}
}

// isStream tells whether a path is a WebSocket endpoint: there are several.
func (b *binance) isStream(path string) bool {
	return path == "/ws" || path == "/stream" || strings.HasPrefix(path, "/ws/")
}

func (b *binance) topicName(k kind, sym *symbol, _ int) string {
	suffix := map[kind]string{kindBook: "@depth@100ms", kindTrade: "@trade", kindQuote: "@bookTicker"}[k]
	return strings.ToLower(sym.name) + suffix
}

func (b *binance) wishes(symbols []string) (w wishes) {
	var streams []string
	for _, name := range symbols {
		for _, k := range []kind{kindBook, kindTrade, kindQuote} {
			streams = append(streams, b.topicName(k, b.v.symbols[name], 0))
		}
		w.fetch = append(w.fetch, "/api/v3/depth?symbol="+name+"&limit=5000")
	}
	w.target = "/stream?streams=" + strings.Join(streams, "/")
	return w
}

// target reads the streams of the URL. An answer refuses the connection.
func (b *binance) target(s *Session, r Request) *Answer {
	q := r.query()
	if u := q.Get("timeUnit"); u != "" && !strings.EqualFold(u, "MILLISECOND") {
		return &Answer{Status: 400, Body: []byte("timeUnit is not simulated")}
	}
	list := strings.TrimPrefix(strings.TrimPrefix(r.Path, "/ws"), "/")
	s.combined = r.Path == "/stream"
	if s.combined {
		list = q.Get("streams")
	}
	seen := map[string]bool{}
	for _, n := range strings.Split(list, "/") {
		if n != "" {
			seen[n] = true
		}
	}
	if len(seen) > maxStreams {
		return &Answer{Status: 400, Body: []byte("too many streams")}
	}
	for _, n := range strings.Split(list, "/") {
		if n != "" {
			b.subscribe(s, n)
		}
	}
	return nil
}

func (b *binance) subscribe(s *Session, name string) {
	t := b.v.topics[name]
	if _, ok := s.subs[name]; !ok && b.v.asked(t, faultSilent) != "" {
		s.silent[t] = true
	}
	s.subscribe(name, t)
}

func (b *binance) open(*Session) {}
func (b *binance) tick(*Session) {}

func (b *binance) closing(s *Session) []byte {
	body := fmt.Appendf(nil, `{"e":"serverShutdown","E":%d}`, b.v.wallNs/1e6)
	if s.combined {
		return wrap("!serverShutdown", body)
	}
	return body
}

func (b *binance) snapshot(*topic) payload { return payload{} }

func (b *binance) seal(s *Session, p payload) []byte {
	if s.combined {
		return p.wrapped
	}
	return p.bare
}

func (b *binance) reset(_ *topic, p payload) payload { return p }

func (b *binance) px(_ *symbol, n int64) string  { return string(appendDecimal(nil, n)) }
func (b *binance) qty(_ *symbol, n int64) string { return string(appendDecimal(nil, n)) }

func (b *binance) diff(t *topic, atNs int64, bids, asks []level) payload {
	out := append([]byte(nil), `{"e":"depthUpdate","E":`...)
	out = strconv.AppendInt(out, atNs/1e6, 10)
	out = append(out, `,"s":"`...)
	out = append(out, t.sym.name...)
	out = append(out, `","U":`...)
	out = strconv.AppendInt(out, t.prev+1, 10)
	out = append(out, `,"u":`...)
	out = strconv.AppendInt(out, t.seq, 10)
	out = append(out, `,"b":`...)
	out = appendPairs(out, bids)
	out = append(out, `,"a":`...)
	out = appendPairs(out, asks)
	return b.payload(t, append(out, '}'))
}

func (b *binance) payload(t *topic, bare []byte) payload {
	return payload{bare: bare, wrapped: wrap(t.name, bare)}
}

func (b *binance) quote(t *topic, _ int64, bid, ask level) payload {
	return b.payload(t, fmt.Appendf(nil, `{"u":%d,"s":"%s","b":"%s","B":"%s","a":"%s","A":"%s"}`, t.seq, t.sym.name, bid.px, bid.qty, ask.px, ask.qty))
}

func (b *binance) trades(t *topic, list []world.Event) payload {
	e := list[0]
	return b.payload(t, fmt.Appendf(nil, `{"e":"trade","E":%d,"s":"%s","t":%d,"p":"%s","q":"%s","T":%d,"m":%t,"M":true}`,
		e.StampNs/1e6, t.sym.name, e.TradeID, b.px(t.sym, e.Px), b.qty(t.sym, e.Qty), e.StampNs/1e6, e.BuyerIsMaker))
}

func (b *binance) reader() func([]byte, *fastjson.Value) (recorded, error) {
	return readBinance
}

// readBinance reads the envelope of a frame; it skips all but market data.
func readBinance(line []byte, v *fastjson.Value) (recorded, error) {
	skip := recorded{skip: true}
	var r recorded
	d := v
	if v.Exists("stream") && v.Exists("data") {
		r.name = string(v.GetStringBytes("stream"))
		head := `{"stream":"` + r.name + `","data":`
		if !bytes.HasPrefix(line, []byte(head)) || line[len(line)-1] != '}' || strings.IndexByte(r.name, '@') < 1 || r.name[0] == '!' {
			return skip, nil
		}
		r.payload = payload{wrapped: line, bare: line[len(head) : len(line)-1]}
		// What will be applied to the true book is what is checked here: the very
		// bytes, which a strange envelope could make differ from its "data".
		var err error
		if d, err = fastjson.ParseBytes(r.payload.bare); err != nil {
			return skip, err
		}
	}
	kind := string(d.GetStringBytes("e"))
	r.symbol = string(d.GetStringBytes("s"))
	name, s := "", strings.ToLower(r.symbol)
	switch {
	case kind == "depthUpdate":
		r.kind, name = kindBook, s+"@depth@100ms"
	case kind == "trade" || kind == "aggTrade":
		r.kind, name = kindTrade, s+"@"+kind
	case kind == "kline":
		name = s + "@kline_" + string(d.GetStringBytes("k", "i"))
	case kind == "" && s != "" && d.Exists("u") && d.Exists("B"):
		r.kind, name = kindQuote, s+"@bookTicker"
	}
	if r.payload.wrapped == nil {
		if name == "" || s == "" {
			return skip, nil
		}
		r.name, r.payload = name, payload{bare: line, wrapped: wrap(name, line)}
	}
	if r.symbol == "" { // a partial-depth stream: the name of the stream is all there is
		head, _, _ := strings.Cut(r.name, "@")
		r.symbol = strings.ToUpper(head)
	}
	if r.kind == kindBook {
		r.first, r.last = d.GetInt64("U"), d.GetInt64("u")
		if r.first < 1 || r.last < r.first {
			return skip, fmt.Errorf("update ids U %d and u %d", r.first, r.last)
		}
	}
	return r, nil
}

func (b *binance) levels(bare []byte, set func(bool, string, string, string) error) error {
	v, err := fastjson.ParseBytes(bare)
	if err != nil {
		return err
	}
	if err := setPairs(true, v.GetArray("b"), set); err != nil {
		return err
	}
	return setPairs(false, v.GetArray("a"), set)
}

// loadBody puts a REST body into an empty book.
func loadBody(b *book, body []byte) (lastID int64, err error) {
	v, err := fastjson.ParseBytes(body)
	if err != nil {
		return 0, err
	}
	if err := setPairs(true, v.GetArray("bids"), b.set); err != nil {
		return 0, err
	}
	return v.GetInt64("lastUpdateId"), setPairs(false, v.GetArray("asks"), b.set)
}

const methods = "`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"

// requestError is an error answer.
type requestError struct {
	code   int
	msg    string
	nested bool // by a fault: in a field of its own
	silent bool // by a fault: not said
}

// text obeys one JSON message of the client and answers it. The answer goes out
// before the first frame that it permits.
func (b *binance) text(s *Session, msg []byte) {
	id, result, err := b.obey(s, msg)
	var out []byte
	switch {
	case err != nil && err.silent:
		return
	case err != nil && err.nested:
		out = fmt.Appendf(out, `{"error":{"code":%d,"msg":%s},"id":%s}`, err.code, quoted(err.msg), id)
	case err != nil:
		out = fmt.Appendf(out, `{"code":%d,"msg":%s`, err.code, quoted(err.msg))
		if id != nil {
			out = fmt.Appendf(out, `,"id":%s`, id)
		}
		out = append(out, '}')
	default:
		out = fmt.Appendf(out, `{"result":%s,"id":%s}`, result, id)
	}
	s.say(out)
}

// obey returns the request's id as it was written (nil where there is no valid
// one) and the result as JSON.
func (b *binance) obey(s *Session, msg []byte) (id json.RawMessage, result string, rerr *requestError) {
	invalid := func(format string, args ...any) *requestError {
		return &requestError{code: 2, msg: "Invalid request: " + fmt.Sprintf(format, args...)}
	}
	var any0 any
	if err := json.Unmarshal(msg, &any0); err != nil {
		line, col := 1, 1
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			line, col = lineCol(msg, int(syntax.Offset))
		}
		return nil, "", &requestError{code: 3, msg: fmt.Sprintf("Invalid JSON: expected value at line %d column %d", line, col)}
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(msg, &fields) != nil || fields == nil {
		return nil, "", invalid("invalid type, expected an object")
	}
	if id = fields["id"]; !validID(id) {
		return nil, "", invalid("request ID must be an unsigned integer")
	}
	endLine, endCol := lineCol(msg, len(bytes.TrimSpace(msg)))
	raw, ok := fields["method"]
	if !ok {
		return id, "", invalid("missing field `method` at line %d column %d", endLine, endCol)
	}
	var method string
	if json.Unmarshal(raw, &method) != nil {
		method = string(raw)
	}
	var params []json.RawMessage
	if p, ok := fields["params"]; ok && json.Unmarshal(p, &params) != nil {
		return id, "", invalid("params must be an array")
	}
	switch method {
	case "SUBSCRIBE", "UNSUBSCRIBE":
		if _, ok := fields["params"]; !ok {
			return id, "", invalid("missing field `params` at line %d column %d", endLine, endCol)
		}
		rerr := b.change(s, method == "SUBSCRIBE", params, invalid)
		return id, "null", rerr
	case "LIST_SUBSCRIPTIONS":
		if len(params) > 0 {
			return id, "", invalid("too many parameters")
		}
		list, _ := json.Marshal(s.Subscribed())
		return id, string(list), nil
	case "SET_PROPERTY", "GET_PROPERTY":
		var name string
		if len(params) == 0 || params[0][0] != '"' || json.Unmarshal(params[0], &name) != nil {
			return id, "", invalid("property name must be a string")
		}
		want := 1
		if method == "SET_PROPERTY" {
			want = 2
		}
		if len(params) > want {
			return id, "", invalid("too many parameters")
		}
		if name != "combined" {
			return id, "", &requestError{code: 0, msg: "Unknown property"}
		}
		if method == "GET_PROPERTY" {
			return id, strconv.FormatBool(s.combined), nil
		}
		value := ""
		if len(params) == 2 {
			value = string(params[1])
		}
		if value != "true" && value != "false" {
			return id, "", &requestError{code: 1, msg: "Invalid value type: expected Boolean"}
		}
		s.combined = value == "true"
		return id, "null", nil
	}
	line, col := lineCol(msg, bytes.Index(msg, raw)+len(raw))
	return id, "", invalid("unknown variant `%s`, expected one of %s at line %d column %d", method, methods, line, col)
}

// change subscribes or unsubscribes.
func (b *binance) change(s *Session, add bool, params []json.RawMessage, invalid func(string, ...any) *requestError) *requestError {
	var names []string
	fresh := map[string]bool{}
	for _, p := range params {
		var name string
		if len(p) == 0 || p[0] != '"' || json.Unmarshal(p, &name) != nil {
			return invalid("stream name must be a string")
		}
		names = append(names, name)
		if _, ok := s.subs[name]; !ok {
			fresh[name] = true
		}
	}
	if !add {
		for _, n := range names {
			s.unsubscribe(n)
		}
		return nil
	}
	if len(s.subs)+len(fresh) > maxStreams {
		return invalid("too many streams, at most %d", maxStreams)
	}
	for _, n := range names {
		t := b.v.topics[n]
		if !fresh[n] {
			continue
		}
		delete(fresh, n)
		switch hit := b.v.asked(t, faultRefuse, faultSilent, faultOdd, faultIgnore); hit {
		case faultRefuse:
			return invalid("refused by the fault refuse-subscribe")
		case faultOdd, faultIgnore:
			err := invalid("refused by the fault odd-refuse-subscribe")
			err.nested, err.silent = hit == faultOdd, hit == faultIgnore
			return err
		case faultSilent:
			s.silent[t] = true
		}
		s.subscribe(n, t)
	}
	return nil
}

// validID: a signed 64-bit integer, at most 36 letters, digits, - and _, or null.
func validID(id json.RawMessage) bool {
	if len(id) == 0 {
		return false
	}
	if string(id) == "null" {
		return true
	}
	if id[0] != '"' {
		_, err := strconv.ParseInt(string(id), 10, 64)
		return err == nil
	}
	text := id[1 : len(id)-1]
	if len(text) > 36 {
		return false
	}
	for _, b := range text {
		if !(b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b == '-' || b == '_') {
			return false
		}
	}
	return true
}

// lineCol turns an offset into line and column, from 1.
func lineCol(msg []byte, offset int) (line, col int) {
	offset = max(min(offset, len(msg)), 0)
	line = 1 + bytes.Count(msg[:offset], []byte("\n"))
	col = offset - (bytes.LastIndexByte(msg[:offset], '\n') + 1)
	return line, max(col, 1)
}
