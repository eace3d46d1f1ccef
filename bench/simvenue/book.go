package simvenue

import (
	"fmt"
	"sort"
	"strconv"

	"github.com/valyala/fastjson"
)

// book is a plain one: a map per side, sorted when someone asks. Prices and
// sizes keep the text of the wire.
type book struct {
	bids, asks map[int64]level // by price in units of 1e-8
	lastID     int64
}

type level struct{ px, qty string }

func newBook() book { return book{bids: map[int64]level{}, asks: map[int64]level{}} }

// load replaces the book with a REST body.
func (b *book) load(body []byte) error {
	v, err := fastjson.ParseBytes(body)
	if err != nil {
		return err
	}
	*b = newBook()
	if err := setLevels(b.bids, v.GetArray("bids")); err != nil {
		return err
	}
	if err := setLevels(b.asks, v.GetArray("asks")); err != nil {
		return err
	}
	b.lastID = v.GetInt64("lastUpdateId")
	return nil
}

// apply takes a bare depthUpdate.
func (b *book) apply(diff []byte) error {
	v, err := fastjson.ParseBytes(diff)
	if err != nil {
		return err
	}
	if err := setLevels(b.bids, v.GetArray("b")); err != nil {
		return err
	}
	if err := setLevels(b.asks, v.GetArray("a")); err != nil {
		return err
	}
	b.lastID = v.GetInt64("u")
	return nil
}

func setLevels(side map[int64]level, levels []*fastjson.Value) error {
	for _, l := range levels {
		px, qty := string(l.GetStringBytes("0")), string(l.GetStringBytes("1"))
		key, err := units(px)
		if err != nil {
			return err
		}
		n, err := units(qty)
		if err != nil {
			return err
		}
		if n == 0 {
			delete(side, key)
		} else {
			side[key] = level{px, qty}
		}
	}
	return nil
}

// units reads a plain decimal with at most eight decimals as a count of 1e-8.
func units(t string) (int64, error) {
	n, frac, seen := int64(0), -1, false
	for i := 0; i < len(t); i++ {
		c := t[i]
		if c == '.' && frac < 0 && seen {
			frac = 0
			continue
		}
		if c < '0' || c > '9' || frac == 8 || n > (1<<63-1-9)/10 {
			return 0, fmt.Errorf("cannot read decimal %q", t)
		}
		seen = true
		n = n*10 + int64(c-'0')
		if frac >= 0 {
			frac++
		}
	}
	if !seen {
		return 0, fmt.Errorf("cannot read decimal %q", t)
	}
	for frac = max(frac, 0); frac < 8; frac++ {
		if n > (1<<63-1)/10 {
			return 0, fmt.Errorf("cannot read decimal %q", t)
		}
		n *= 10
	}
	return n, nil
}

// appendDecimal writes a count of 1e-8 as the venue does: eight decimals, always.
func appendDecimal(dst []byte, n int64) []byte {
	dst = strconv.AppendInt(dst, n/1e8, 10)
	dst = append(dst, '.')
	f := strconv.AppendInt(nil, n%1e8+1e8, 10)
	return append(dst, f[1:]...)
}

// body is the REST answer with at most limit levels a side; limit 0 is all.
func (b *book) body(limit int) []byte {
	out := append([]byte(nil), `{"lastUpdateId":`...)
	out = strconv.AppendInt(out, b.lastID, 10)
	out = append(out, `,"bids":`...)
	out = appendSide(out, b.bids, limit, func(x, y int64) bool { return x > y })
	out = append(out, `,"asks":`...)
	out = appendSide(out, b.asks, limit, func(x, y int64) bool { return x < y })
	return append(out, '}')
}

func appendSide(out []byte, side map[int64]level, limit int, better func(x, y int64) bool) []byte {
	keys := make([]int64, 0, len(side))
	for k := range side {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return better(keys[i], keys[j]) })
	if limit > 0 && len(keys) > limit {
		keys = keys[:limit]
	}
	out = append(out, '[')
	for i, k := range keys {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, `["`...)
		out = append(out, side[k].px...)
		out = append(out, `","`...)
		out = append(out, side[k].qty...)
		out = append(out, `"]`...)
	}
	return append(out, ']')
}

// cacheOld is what the fault stale-snapshot answers with: a book as it was when
// the feed began, under an id that lies before the first diff.
type cacheOld struct {
	body   []byte
	lastID int64
}

// oldBody puts id in the place of a REST body's lastUpdateId.
func oldBody(body []byte, id int64) []byte {
	const key = `"lastUpdateId":`
	i := indexOf(body, key)
	if i < 0 {
		return body
	}
	i += len(key)
	j := i
	for j < len(body) && body[j] >= '0' && body[j] <= '9' {
		j++
	}
	out := append([]byte(nil), body[:i]...)
	out = strconv.AppendInt(out, id, 10)
	return append(out, body[j:]...)
}
