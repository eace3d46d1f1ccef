package simvenue

import (
	"net/url"
	"regexp"
	"strings"
)

// Request is what a client asks for over HTTP: a path without the server's
// prefix, and a query.
type Request struct {
	Path     string
	RawQuery string
}

// NewRequest takes a path with its query apart.
func NewRequest(target string) Request {
	path, query, _ := strings.Cut(target, "?")
	return Request{path, query}
}

// query reads what can be read of the parameters.
func (r Request) query() url.Values {
	q, _ := url.ParseQuery(r.RawQuery)
	return q
}

// Answer to a Request. Header names are written as they stand.
type Answer struct {
	Status int
	Header [][2]string
	Body   []byte

	gate *symbol // Binance's recordings: the answer is the recorded body, when the feed gets there
}

// Get answers a REST request at once. It is a 504 where only a recording's own
// snapshot would do.
func (v *Venue) Get(nowNs int64, r Request) Answer {
	a := v.get(nowNs, r)
	if a.gate != nil {
		return a.gate.timeout()
	}
	return a
}

func (v *Venue) get(nowNs int64, r Request) Answer {
	v.wallNs = nowNs
	return v.proto.rest(r)
}

var symbolInURL = regexp.MustCompile(`[?&]symbol=([^&\s]+)`)
