package vsim

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fastjson"
)

// This file reads what the simulated venues say, with eyes of its own: from the
// sheets of the protocols, and without anything of the agent.

// sent is a book frame.
type sent struct {
	whole       bool  // it replaces the book
	first, last int64 // ids, where the venue has them: the first that it covers, and its own
	ts          int64 // the venue's clock, ns
	levels      []lvl // in the order of the frame

	made    int  // diffs of the market up to it
	crossed bool // by a fault
}

type trade struct {
	id      string
	px, qty int64
	sell    bool
	ts      int64
}

type quote struct{ bidPx, bidQty, askPx, askQty int64 }

// pow10 is 10^n.
func pow10(n int) int64 {
	p := int64(1)
	for ; n > 0; n-- {
		p *= 10
	}
	return p
}

var errNumber = errors.New("no number that counts of 1e-8 can hold")

// units reads a decimal, with or without quotes, as a count of 1e-8.
func units(v *fastjson.Value) (int64, error) {
	if v == nil {
		return 0, errNumber
	}
	text := v.MarshalTo(nil)
	if text[0] == '"' {
		text = text[1 : len(text)-1]
	}
	whole, frac, _ := strings.Cut(string(text), ".")
	if len(frac) > 8 || whole == "" {
		return 0, fmt.Errorf("%w: %s", errNumber, text)
	}
	return strconv.ParseInt(whole+frac+"00000000"[len(frac):], 10, 64)
}

// integer reads an integer, with or without quotes.
func integer(v *fastjson.Value, keys ...string) int64 {
	v = v.Get(keys...)
	if v == nil {
		return 0
	}
	text := v.MarshalTo(nil)
	if text[0] == '"' {
		text = text[1 : len(text)-1]
	}
	n, _ := strconv.ParseInt(string(text), 10, 64)
	return n
}

func word(v *fastjson.Value, keys ...string) string { return string(v.GetStringBytes(keys...)) }

func rfc3339(text string) int64 {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return 0
	}
	return t.UnixNano()
}

// reader reads the frames of one venue.
type reader struct {
	dialect *dialect
	p       fastjson.Parser
}

// pairs appends levels that are arrays, or objects with the given keys.
func pairs(levels []lvl, list []*fastjson.Value, ask bool, px, qty string) ([]lvl, error) {
	for _, l := range list {
		p, err := units(l.Get(px))
		if err != nil {
			return nil, err
		}
		q, err := units(l.Get(qty))
		if err != nil {
			return nil, err
		}
		levels = append(levels, lvl{ask, p, q})
	}
	return levels, nil
}

func both(v *fastjson.Value, bids, asks, px, qty string) ([]lvl, error) {
	levels, err := pairs(nil, v.GetArray(bids), false, px, qty)
	if err == nil {
		levels, err = pairs(levels, v.GetArray(asks), true, px, qty)
	}
	return levels, err
}

// book reads a book frame, or the body of Binance's snapshot.
func (r *reader) book(frame []byte) (s sent, err error) {
	v, err := r.p.ParseBytes(frame)
	if err != nil {
		return s, err
	}
	s, err = r.dialect.book(v)
	return s, err
}

// trades reads a frame of trades, oldest first.
func (r *reader) trades(frame []byte) (list []trade, err error) {
	v, err := r.p.ParseBytes(frame)
	if err != nil {
		return nil, err
	}
	add := func(d *fastjson.Value, id, px, qty string, sell bool, ts int64) {
		p, errPx := units(d.Get(px))
		q, errQty := units(d.Get(qty))
		if err = errors.Join(err, errPx, errQty); id == "" || ts == 0 {
			err = errors.Join(err, fmt.Errorf("a trade without id or time: %s", frame))
		}
		list = append(list, trade{id: id, px: p, qty: q, sell: sell, ts: ts})
	}
	r.dialect.trades(v, add)
	return list, err
}

// quote reads a frame of the quote stream.
func (r *reader) quote(frame []byte) (id int64, q quote, err error) {
	v, err := r.p.ParseBytes(frame)
	if err != nil {
		return 0, q, err
	}
	four := func(v *fastjson.Value, bidPx, bidQty, askPx, askQty []string) {
		for i, keys := range [][]string{bidPx, bidQty, askPx, askQty} {
			n, bad := units(v.Get(keys...))
			err = errors.Join(err, bad)
			*[]*int64{&q.bidPx, &q.bidQty, &q.askPx, &q.askQty}[i] = n
		}
	}
	if r.dialect.quote == nil {
		return 0, q, errors.New("a venue without quotes sends one")
	}
	id = r.dialect.quote(v, four)
	return id, q, err
}
