package simvenue

import (
	"fmt"
	"strconv"

	"github.com/tidwall/btree"
)

// book is a plain one: a sorted map per side. Prices and sizes keep the text of
// the wire.
type book struct {
	bids, asks btree.Map[int64, level] // by price in units of 1e-8
	lastID     int64
}

// level is a price and the whole size there. more is what else the venue writes
// about it (OKX: the number of orders).
type level struct {
	key           int64 // the price in units of 1e-8
	px, qty, more string
	gone          bool // qty is zero
}

func (b *book) side(bid bool) *btree.Map[int64, level] {
	if bid {
		return &b.bids
	}
	return &b.asks
}

func (b *book) clear() {
	b.bids.Clear()
	b.asks.Clear()
}

// set gives a level a size; zero removes it.
func (b *book) set(bid bool, px, qty, more string) error {
	l, err := newLevel(px, qty, more)
	if err == nil {
		b.put(bid, l)
	}
	return err
}

func (b *book) put(bid bool, l level) {
	if l.gone {
		b.side(bid).Delete(l.key)
	} else {
		b.side(bid).Set(l.key, l)
	}
}

func newLevel(px, qty, more string) (level, error) {
	key, err := units(px)
	if err != nil {
		return level{}, err
	}
	n, err := units(qty)
	return level{key, px, qty, more, n == 0}, err
}

// top gives the best n levels of a side, best first; 0 gives all.
func (b *book) top(bid bool, n int) []level {
	side := b.side(bid)
	if n <= 0 || n > side.Len() {
		n = side.Len()
	}
	out := make([]level, 0, n)
	take := func(_ int64, l level) bool {
		if len(out) < n {
			out = append(out, l)
		}
		return len(out) < n
	}
	if bid {
		side.Reverse(take)
	} else {
		side.Scan(take)
	}
	return out
}

// best of a side; false without one.
func (b *book) best(bid bool) (level, bool) {
	var l level
	var ok bool
	if bid {
		_, l, ok = b.bids.Max()
	} else {
		_, l, ok = b.asks.Min()
	}
	return l, ok
}

// truncate leaves the best depth levels of each side.
func (b *book) truncate(depth int) {
	for b.bids.Len() > depth {
		b.bids.PopMin()
	}
	for b.asks.Len() > depth {
		b.asks.PopMax()
	}
}

// body is a REST answer of Binance, and of /sim/book, with at most limit levels
// a side; limit 0 is all.
func (b *book) body(limit int) []byte {
	out := append([]byte(nil), `{"lastUpdateId":`...)
	out = strconv.AppendInt(out, b.lastID, 10)
	out = append(out, `,"bids":`...)
	out = appendPairs(out, b.top(true, limit))
	out = append(out, `,"asks":`...)
	out = appendPairs(out, b.top(false, limit))
	return append(out, '}')
}

// appendPairs writes [["px","qty"],...].
func appendPairs(out []byte, levels []level) []byte {
	out = append(out, '[')
	for i, l := range levels {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, `["`...)
		out = append(out, l.px...)
		out = append(out, `","`...)
		out = append(out, l.qty...)
		out = append(out, `"]`...)
	}
	return append(out, ']')
}

// window is what a subscriber of a limited depth has been told: the best depth
// levels of each side.
type window struct {
	depth      int
	bids, asks []level
}

func newWindow(depth int, b *book) *window {
	return &window{depth, b.top(true, depth), b.top(false, depth)}
}

// advance moves the window to the book of now and gives what has to be said:
// levels that came in or changed, levels that are gone, and, if pushed says so,
// levels that still exist but fell out. Best first. gone makes the level that
// says a level is gone.
func (w *window) advance(b *book, pushed bool, gone func(level) level) (bids, asks []level) {
	now := newWindow(w.depth, b)
	bids = changes(w.bids, now.bids, &b.bids, true, pushed, gone)
	asks = changes(w.asks, now.asks, &b.asks, false, pushed, gone)
	*w = *now
	return bids, asks
}

func changes(old, now []level, side *btree.Map[int64, level], bid, pushed bool, gone func(level) level) (out []level) {
	for i, j := 0, 0; i < len(old) || j < len(now); {
		switch {
		case j == len(now) || i < len(old) && old[i].key != now[j].key && (old[i].key > now[j].key) == bid:
			if _, exists := side.Get(old[i].key); !exists || pushed {
				out = append(out, gone(old[i]))
			}
			i++
		case i == len(old) || old[i].key != now[j].key:
			out = append(out, now[j])
			j++
		default:
			if old[i] != now[j] {
				out = append(out, now[j])
			}
			i++
			j++
		}
	}
	return out
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

// appendDecimal writes a count of 1e-8 with eight decimals, always.
func appendDecimal(dst []byte, n int64) []byte {
	dst = strconv.AppendInt(dst, n/1e8, 10)
	dst = append(dst, '.')
	f := strconv.AppendInt(nil, n%1e8+1e8, 10)
	return append(dst, f[1:]...)
}

// decimal writes a count of 1e-8 with at least so many decimals, and no zero at
// its end beyond them.
func decimal(n int64, least int) string {
	t := appendDecimal(nil, n)
	for len(t) > 0 && t[len(t)-1] == '0' && len(t)-1-indexOf(t, ".") > least {
		t = t[:len(t)-1]
	}
	if t[len(t)-1] == '.' {
		t = t[:len(t)-1]
	}
	return string(t)
}

// cacheOld is what the fault stale-snapshot answers with: a book as it was when
// the feed began, under an id that lies before the first diff.
type cacheOld struct {
	body   []byte
	lastID int64
}

// oldBody puts id in the place of a REST body's lastUpdateId.
func oldBody(body []byte, id int64) []byte { return setNumber(body, `"lastUpdateId":`, id) }
