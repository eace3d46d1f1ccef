package simvenue

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"time"
)

// weightLimiter is the REST budget of the one address that there is.
type weightLimiter struct {
	limit, banAfter int

	minute   int64
	used     int
	over     int // answers 429 in this minute
	banUntil time.Time
}

// take charges weight. Where status is not 200, retryAfter is in seconds.
func (l *weightLimiter) take(weight int, now time.Time) (status, used, retryAfter int, banUntil time.Time) {
	if m := now.Unix() / 60; m != l.minute {
		l.minute, l.used, l.over = m, 0, 0
	}
	if now.Before(l.banUntil) {
		return 418, l.used, 1 + int(l.banUntil.Sub(now).Seconds()), l.banUntil
	}
	l.used += weight
	if l.used <= l.limit {
		return 200, l.used, 0, time.Time{}
	}
	l.over++
	if l.over > l.banAfter {
		l.banUntil = now.Add(2 * time.Minute)
		return 418, l.used, 120, l.banUntil
	}
	return 429, l.used, 60 - int(now.Unix()%60), time.Time{}
}

func (b *binance) rest(r Request) Answer {
	switch r.Path {
	case "/api/v3/ping":
		return b.charge(1, func() Answer { return ok([]byte("{}")) })
	case "/api/v3/time":
		return b.charge(1, func() Answer { return ok(fmt.Appendf(nil, `{"serverTime":%d}`, b.v.wallNs/1e6)) })
	case "/api/v3/depth":
		limit := 100
		text := r.query().Get("limit")
		if n, err := strconv.Atoi(text); err == nil || errors.Is(err, strconv.ErrRange) {
			limit = min(n, 5000)
		}
		return b.charge(depthWeight(limit), func() Answer { return b.depth(r, limit, text) })
	case "/api/v3/exchangeInfo":
		return b.charge(20, func() Answer { return b.exchangeInfo(r) })
	}
	return Answer{Status: 404, Body: []byte("404 page not found\n")}
}

func ok(body []byte) Answer { return Answer{Status: 200, Body: body} }

func fail(status, code int, format string, args ...any) Answer {
	return Answer{Status: status, Body: fmt.Appendf(nil, `{"code":%d,"msg":%s}`, code, quoted(fmt.Sprintf(format, args...)))}
}

// charge takes weight, and refuses the request or lets do answer it.
func (b *binance) charge(weight int, do func() Answer) (a Answer) {
	status, used, retry, ban := b.v.limiter.take(weight, time.Unix(0, b.v.wallNs))
	switch status {
	case 429:
		a = b.tooMany(retry)
	case 418:
		a = fail(status, -1003, "Way too much request weight used; IP banned until %d. Please use WebSocket Streams for live updates to avoid bans.", ban.UnixMilli())
		a.Header = append(a.Header, [2]string{"Retry-After", strconv.Itoa(retry)})
	default:
		a = do()
	}
	// The venue's headers are in lower case.
	a.Header = append(a.Header, [2]string{"x-mbx-used-weight", strconv.Itoa(used)}, [2]string{"x-mbx-used-weight-1m", strconv.Itoa(used)})
	return a
}

func (b *binance) tooMany(retryAfter int) Answer {
	a := fail(429, -1003, "Too much request weight used; current limit is %d request weight per 1 MINUTE. Please use WebSocket Streams for live updates to avoid polling the API.", b.v.opt.WeightLimit)
	a.Header = append(a.Header, [2]string{"Retry-After", strconv.Itoa(retryAfter)})
	return a
}

// known reads the parameters; those not in names are an error, as at the venue.
func known(r Request, names ...string) (url.Values, *Answer) {
	q, err := url.ParseQuery(r.RawQuery)
	if err != nil {
		a := fail(400, -1100, "Illegal characters found in a parameter.")
		return nil, &a
	}
	read := 0
	for _, k := range names {
		if _, ok := q[k]; ok {
			read++
		}
	}
	if read < len(q) {
		a := fail(400, -1104, "Not all sent parameters were read; read '%d' parameter(s) but was sent '%d'.", read, len(q))
		return nil, &a
	}
	return q, nil
}

var (
	symbolText = regexp.MustCompile(`^[A-Z0-9-_.]{1,20}$`)
	numberText = regexp.MustCompile(`^[0-9]{1,20}$`)
)

// symbol finds what a parameter names.
func (b *binance) symbol(name string) (*symbol, *Answer) {
	if sym := b.v.symbols[name]; sym != nil {
		return sym, nil
	}
	a := fail(400, -1121, "Invalid symbol.")
	switch {
	case name == "":
		a = fail(400, -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
	case !symbolText.MatchString(name):
		a = fail(400, -1100, "Illegal characters found in parameter 'symbol'; legal range is '^[A-Z0-9-_.]{1,20}$'.")
	}
	return nil, &a
}

func depthWeight(limit int) int {
	switch {
	case limit <= 100:
		return 5
	case limit <= 500:
		return 25
	case limit <= 1000:
		return 50
	}
	return 250
}

func (b *binance) depth(r Request, limit int, text string) Answer {
	q, bad := known(r, "symbol", "limit", "symbolStatus")
	if bad != nil {
		return *bad
	}
	if text != "" && !numberText.MatchString(text) {
		return fail(400, -1100, "Illegal characters found in parameter 'limit'; legal range is '^[0-9]{1,20}$'.")
	}
	if limit == 0 {
		return fail(400, -1130, "Data sent for parameter 'limit' is not valid.")
	}
	sym, bad := b.symbol(q.Get("symbol"))
	if bad != nil {
		return *bad
	}
	v := b.v
	sym.requests++
	hit := v.strike(sym, sym.requests, faultStale, fault429)
	for _, name := range hit {
		strike := Strike{Fault: name, Venue: v.name, Symbol: sym.name, WallNs: v.wallNs}
		if name == faultStale {
			strike.First, strike.Last = sym.cache.lastID, sym.cache.lastID
		}
		v.struck = append(v.struck, strike)
	}
	switch {
	case hasName(hit, fault429):
		return b.tooMany(1)
	case len(hit) > 0:
		return ok(sym.cache.body)
	case !sym.open:
		return Answer{gate: sym}
	case sym.src.world == nil:
		sym.current()
		return ok(sym.book.body(limit))
	}
	return ok(b.liveBody(sym, limit))
}

// liveBody is the book of a made market at this moment, whose id may lie inside
// a diff that is still to come.
func (b *binance) liveBody(sym *symbol, limit int) []byte {
	w, _ := sym.src.world.Book(sym.name)
	out := fmt.Appendf(nil, `{"lastUpdateId":%d`, w.LastID)
	bids, asks := b.v.texts(sym, w.Bids, limit), b.v.texts(sym, w.Asks, limit)
	sym.tell(bids, asks, limit)
	for _, side := range []struct {
		name   string
		levels []level
	}{{"bids", bids}, {"asks", asks}} {
		out = appendPairs(fmt.Appendf(out, `,"%s":`, side.name), side.levels)
	}
	return append(out, '}')
}

func (sym *symbol) timeout() Answer {
	return fail(504, -1007, "Timeout waiting for response from backend server. Send status unknown; execution status unknown.")
}

func (b *binance) exchangeInfo(r Request) Answer {
	q, bad := known(r, "symbol", "symbols", "permissions", "showPermissionSets", "symbolStatus")
	if bad != nil {
		return *bad
	}
	list := b.v.order
	switch {
	case q.Has("symbol") && q.Has("symbols"):
		return fail(400, -1128, "Combination of optional parameters invalid.")
	case q.Has("symbol"):
		sym, bad := b.symbol(q.Get("symbol"))
		if bad != nil {
			return *bad
		}
		list = []*symbol{sym}
	case q.Has("symbols"):
		var names []string
		if json.Unmarshal([]byte(q.Get("symbols")), &names) != nil || len(names) == 0 {
			return fail(400, -1100, `Illegal characters found in parameter 'symbols'; legal range is '^\[("[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}){0,1}\]$'.`)
		}
		list = nil
		for _, n := range names {
			sym, bad := b.symbol(n)
			if bad != nil {
				return *bad
			}
			list = append(list, sym)
		}
	}
	out := fmt.Appendf(nil, `{"timezone":"UTC","serverTime":%d,"rateLimits":[{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":%d},{"rateLimitType":"ORDERS","interval":"SECOND","intervalNum":10,"limit":100},{"rateLimitType":"ORDERS","interval":"DAY","intervalNum":1,"limit":200000},{"rateLimitType":"RAW_REQUESTS","interval":"MINUTE","intervalNum":5,"limit":300000}],"exchangeFilters":[],"symbols":[`, b.v.wallNs/1e6, b.v.opt.WeightLimit)
	var parts [][]byte
	for _, sym := range list {
		parts = append(parts, b.info(sym.info))
	}
	return ok(append(joinJSON(out, parts), "]}"...))
}

func (b *binance) info(in instrument) []byte {
	tick, lot := appendDecimal(nil, step(in.pxDecimals)), appendDecimal(nil, step(in.qtyDecimals))
	return fmt.Appendf(nil, `{"symbol":%q,"status":"TRADING","baseAsset":%q,"baseAssetPrecision":8,"quoteAsset":%q,"quotePrecision":8,"quoteAssetPrecision":8,"baseCommissionPrecision":8,"quoteCommissionPrecision":8,"orderTypes":["LIMIT","LIMIT_MAKER","MARKET"],"icebergAllowed":true,"ocoAllowed":true,"isSpotTradingAllowed":true,"isMarginTradingAllowed":false,"filters":[{"filterType":"PRICE_FILTER","minPrice":%q,"maxPrice":"1000000.00000000","tickSize":%q},{"filterType":"LOT_SIZE","minQty":%q,"maxQty":"9000.00000000","stepSize":%q},{"filterType":"NOTIONAL","minNotional":"5.00000000","applyMinToMarket":true,"maxNotional":"9000000.00000000","applyMaxToMarket":false,"avgPriceMins":5}],"permissions":[],"permissionSets":[["SPOT"]]}`,
		in.symbol, in.base, in.quote, tick, tick, lot, lot)
}
