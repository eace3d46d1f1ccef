package venues

import (
	"strings"

	"github.com/valyala/fastjson"
)

// What a venue lists beyond the answer to InstrumentsRequest.

// folded is a set of names in any case.
type folded map[string]bool

func foldedNames(names []string) folded {
	f := folded{}
	for _, n := range names {
		f[strings.ToUpper(n)] = true
	}
	return f
}

func (f folded) has(name string) bool { return f[strings.ToUpper(name)] }

// MoreInstruments is the request for the next part of a list of instruments, after so
// many answers of which body is the last one; ok is false where that was all. Kraken
// lists tokenized stocks apart, and Bybit's list has pages.
func MoreInstruments(v Venue, symbols []string, answers int, body []byte) (_ Request, ok bool) {
	switch v := v.(type) {
	case kraken:
		return krakenTokenized, answers == 1
	case bybit:
		cursor := fastjson.GetString(body, "result", "nextPageCursor")
		next := v.InstrumentsRequest(symbols)
		next.Path += "&cursor=" + cursor // which the venue has escaped for a URL
		return next, cursor != "" && answers < 10
	}
	return Request{}, false
}

// WholeList asks for all that a venue lists where InstrumentsRequest asks for some by
// name; ok is false where that answer is the whole list already.
func WholeList(v Venue) (_ Request, ok bool) {
	switch v.(type) {
	case binance: // without what fills most of it: the whole of exchangeInfo has more than 20 MB
		return Request{Path: "/api/v3/exchangeInfo?permissions=SPOT&showPermissionSets=false&symbolStatus=TRADING", Weight: 20}, true
	case coinbase:
		return Request{Path: "/api/v3/brokerage/market/products", Weight: 1}, true
	}
	return Request{}, false
}
