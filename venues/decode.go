package venues

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/valyala/fastjson"

	"deeptape/hotpath/event"
	"deeptape/hotpath/fixed"
	"deeptape/hotpath/ledger"
)

// What the decoders of several venues share.

// Scales are how many decimals prices and sizes of an instrument have.
type Scales struct{ Px, Qty int8 }

// Uint reads a whole number of 0 or more; a missing one, or one with a fraction, is
// refused.
func Uint(v *fastjson.Value, key string) (int64, bool) {
	f := v.Get(key)
	if f == nil {
		return 0, false
	}
	n, err := f.Int64()
	return n, err == nil && n >= 0
}

// UnixTime reads a venue time. Milliseconds unless the URL asked for microseconds
// (timeUnit): the two are 13 and 16 digits long until the year 2286.
func UnixTime(v *fastjson.Value, key string) (int64, bool) {
	n, ok := Uint(v, key)
	if !ok {
		return event.Null, false
	}
	return UnixNs(n)
}

// UnixNs is stamp for a number of 0 or more.
func UnixNs(n int64) (int64, bool) {
	switch {
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
func levels(side *fastjson.Value, s event.Side, sc Scales, need *Scales, b *Batch) ledger.Reason {
	list, err := side.Array()
	if err != nil {
		return ledger.Malformed
	}
	for _, l := range list {
		pair, err := l.Array()
		if err != nil || len(pair) < 2 {
			return ledger.Malformed
		}
		px, reason := Decimal(pair[0], sc.Px, &need.Px)
		if reason != ledger.Accepted {
			return reason
		}
		qty, reason := Size(pair[1], sc.Qty, &need.Qty)
		if reason != ledger.Accepted {
			return reason
		}
		b.Levels = append(b.Levels, event.Level{Px: px, Qty: qty, Side: s})
	}
	return ledger.Accepted
}

// Decimal reads a JSON string that holds a decimal number.
func Decimal(v *fastjson.Value, scale int8, need *int8) (int64, ledger.Reason) {
	if v == nil {
		return 0, ledger.Malformed
	}
	text, err := v.StringBytes()
	if err != nil {
		return 0, ledger.Malformed
	}
	return Exact(text, scale, need)
}

// Exact reads decimal text, which it does not keep.
func Exact(text []byte, scale int8, need *int8) (int64, ledger.Reason) {
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

// Size is a decimal of 0 or more.
func Size(v *fastjson.Value, scale int8, need *int8) (int64, ledger.Reason) {
	m, reason := Decimal(v, scale, need)
	if m < 0 {
		return 0, ledger.Malformed
	}
	return m, reason
}

// BothSides reads the levels of a message, bids first, each side a list as levels
// wants it, and says what scales they need.
func BothSides(bids, asks *fastjson.Value, sc Scales, m *Message, b *Batch) ledger.Reason {
	if bids == nil || asks == nil {
		return ledger.Malformed
	}
	need := sc
	m.Lo = len(b.Levels)
	reason := levels(bids, event.Bid, sc, &need, b)
	if reason == ledger.Accepted {
		reason = levels(asks, event.Ask, sc, &need, b)
	}
	m.Hi = len(b.Levels)
	m.PxScale, m.QtyScale = need.Px, need.Qty
	return reason
}

// Touch turns the one level that a quote has a side into the fields of the message.
// A side without a level stays 0 and 0, which is what an empty side is.
func Touch(m *Message, b *Batch) ledger.Reason {
	for i, l := range b.Levels[m.Lo:m.Hi] {
		switch {
		case i > 0 && l.Side == b.Levels[m.Lo+i-1].Side:
			return ledger.Malformed
		case l.Side == event.Bid:
			m.Px, m.Qty = l.Px, l.Qty
		default:
			m.AskPx, m.AskQty = l.Px, l.Qty
		}
	}
	b.Levels = b.Levels[:m.Lo]
	m.Lo, m.Hi = 0, 0
	return ledger.Accepted
}

// PxQty reads price and size of a trade.
func PxQty(px, qty *fastjson.Value, sc Scales, m *Message) (reason ledger.Reason) {
	need := sc
	if m.Px, reason = Decimal(px, sc.Px, &need.Px); reason == ledger.Accepted {
		m.Qty, reason = Size(qty, sc.Qty, &need.Qty)
	}
	m.PxScale, m.QtyScale = need.Px, need.Qty
	return reason
}

// Whole reads a text that is nothing but the digits of a whole number, without
// surplus zeros: number and text stand for each other.
func Whole(text []byte) (n int64, ok bool) {
	if len(text) == 0 || len(text) > 19 || text[0] == '0' && len(text) > 1 {
		return 0, false
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0') // 19 digits: beyond the range it has turned negative
	}
	return n, n >= 0
}

// CommandID reads the id of ours that an answer repeats as text; 0 is none of ours.
func CommandID(v *fastjson.Value, key string) int64 {
	n, _ := Whole(v.GetStringBytes(key))
	return n
}

// MillisNs turns a venue's milliseconds into ns. 1970 is no time.
func MillisNs(ms int64) (int64, bool) {
	switch {
	case ms < 0 || ms > math.MaxInt64/1_000_000:
		return event.Null, false
	case ms == 0:
		return event.Null, true
	}
	return ms * 1e6, true
}

// IsName says whether a part of a symbol is letters and digits, not all of them ASCII,
// and the signs given.
func IsName(s, signs string) bool {
	odd := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(signs, r)
	}
	return s != "" && !strings.ContainsFunc(s, odd) // a byte that is no UTF-8 is odd
}

// GridScales are the scales at which tick and lot size are whole numbers.
func GridScales(tick, lot string) (px, qty int8, err error) {
	if px, err = fixed.Scale([]byte(tick)); err == nil {
		qty, err = fixed.Scale([]byte(lot))
	}
	return px, qty, err
}

// SortTrades puts the trades of a frame into the order of their numbers: some venues
// send the newest first.
func SortTrades(trades []Message) {
	byNumber := func(a, b Message) int { return cmp.Compare(a.TradeNum, b.TradeNum) }
	if !slices.IsSortedFunc(trades, byNumber) {
		slices.SortStableFunc(trades, byNumber)
	}
}

// MarkLost says in the batch of a rejected frame, once for each instrument, whose
// message of which kind is lost.
func MarkLost(b *Batch, kind Kind, inst int) {
	for i := range b.Messages {
		if b.Messages[i].Inst == inst {
			return
		}
	}
	b.Messages = append(b.Messages, Message{Kind: kind, Inst: inst, First: event.Null, Seq: event.Null, SeqPrev: event.Null, TsEvent: event.Null})
}

// Escaped writes a symbol for a URL: what is not ASCII as %XX.
func Escaped(s string) string {
	var out []byte
	for i := range len(s) {
		if s[i] < utf8.RuneSelf {
			out = append(out, s[i])
		} else {
			out = fmt.Appendf(out, "%%%02X", s[i])
		}
	}
	return string(out)
}
