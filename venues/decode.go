package venues

import (
	"math"

	"github.com/valyala/fastjson"

	"deeptape/hotpath/event"
	"deeptape/hotpath/fixed"
	"deeptape/hotpath/ledger"
)

// What the decoders of several venues share.

type scales struct{ px, qty int8 }

// id reads a whole number of 0 or more; a missing one, or one with a fraction, is
// refused.
func id(v *fastjson.Value, key string) (int64, bool) {
	f := v.Get(key)
	if f == nil {
		return 0, false
	}
	n, err := f.Int64()
	return n, err == nil && n >= 0
}

// stamp reads a venue time. Milliseconds unless the URL asked for microseconds
// (timeUnit): the two are 13 and 16 digits long until the year 2286.
func stamp(v *fastjson.Value, key string) (int64, bool) {
	n, ok := id(v, key)
	switch {
	case !ok:
		return event.Null, false
	case n <= math.MaxInt64/1_000_000:
		n *= 1e6
	case n >= 1e14 && n <= math.MaxInt64/1_000:
		n *= 1e3
	default: // no unit makes a time of it
		return event.Null, false
	}
	if n == 0 { // 1970 is no time
		n = event.Null
	}
	return n, true
}

// levels appends [["px","qty"],…]. A text finer than its scale raises need; the
// levels are then of no use and are read again after the widening.
func levels(side *fastjson.Value, s event.Side, sc scales, need *scales, b *Batch) ledger.Reason {
	list, err := side.Array()
	if err != nil {
		return ledger.Malformed
	}
	for _, l := range list {
		pair, err := l.Array()
		if err != nil || len(pair) < 2 {
			return ledger.Malformed
		}
		px, reason := decimal(pair[0], sc.px, &need.px)
		if reason != ledger.Accepted {
			return reason
		}
		qty, reason := size(pair[1], sc.qty, &need.qty)
		if reason != ledger.Accepted {
			return reason
		}
		b.Levels = append(b.Levels, event.Level{Px: px, Qty: qty, Side: s})
	}
	return ledger.Accepted
}

// decimal reads a JSON string that holds a decimal number.
func decimal(v *fastjson.Value, scale int8, need *int8) (int64, ledger.Reason) {
	if v == nil {
		return 0, ledger.Malformed
	}
	text, err := v.StringBytes()
	if err != nil {
		return 0, ledger.Malformed
	}
	m, err := fixed.Parse(text, scale)
	switch err {
	case nil:
		return m, ledger.Accepted
	case fixed.ErrOverflow:
		return 0, ledger.Overflow
	case fixed.ErrFiner:
		finer, err := fixed.Scale(text)
		if err != nil {
			return 0, ledger.Overflow
		}
		*need = max(*need, finer)
		return 0, ledger.Accepted
	}
	return 0, ledger.Malformed
}

// size is a decimal of 0 or more.
func size(v *fastjson.Value, scale int8, need *int8) (int64, ledger.Reason) {
	m, reason := decimal(v, scale, need)
	if m < 0 {
		return 0, ledger.Malformed
	}
	return m, reason
}
