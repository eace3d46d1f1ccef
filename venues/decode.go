package venues

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"unicode"

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
	if !ok {
		return event.Null, false
	}
	return eitherUnit(n)
}

// eitherUnit is stamp for a number of 0 or more.
func eitherUnit(n int64) (int64, bool) {
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
	return exact(text, scale, need)
}

// exact reads decimal text, which it does not keep.
func exact(text []byte, scale int8, need *int8) (int64, ledger.Reason) {
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

// bothSides reads the levels of a message, bids first, each side a list as levels
// wants it, and says what scales they need.
func bothSides(bids, asks *fastjson.Value, sc scales, m *Message, b *Batch) ledger.Reason {
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
	m.PxScale, m.QtyScale = need.px, need.qty
	return reason
}

// touch turns the one level that a quote has a side into the fields of the message.
// A side without a level stays 0 and 0, which is what an empty side is.
func touch(m *Message, b *Batch) ledger.Reason {
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

// pxQty reads price and size of a trade.
func pxQty(px, qty *fastjson.Value, sc scales, m *Message) (reason ledger.Reason) {
	need := sc
	if m.Px, reason = decimal(px, sc.px, &need.px); reason == ledger.Accepted {
		m.Qty, reason = size(qty, sc.qty, &need.qty)
	}
	m.PxScale, m.QtyScale = need.px, need.qty
	return reason
}

// whole reads a text that is nothing but the digits of a whole number, without
// surplus zeros: number and text stand for each other.
func whole(text []byte) (n int64, ok bool) {
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

// commandID reads the id of ours that an answer repeats as text; 0 is none of ours.
func commandID(v *fastjson.Value, key string) int64 {
	n, _ := whole(v.GetStringBytes(key))
	return n
}

// millis turns a venue's milliseconds into ns. 1970 is no time.
func millis(ms int64) (int64, bool) {
	switch {
	case ms < 0 || ms > math.MaxInt64/1_000_000:
		return event.Null, false
	case ms == 0:
		return event.Null, true
	}
	return ms * 1e6, true
}

// isName says whether a part of a symbol is letters and digits, not all of them ASCII,
// and the signs given.
func isName(s, signs string) bool {
	odd := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(signs, r)
	}
	return s != "" && !strings.ContainsFunc(s, odd) // a byte that is no UTF-8 is odd
}

// gridScales are the scales at which tick and lot size are whole numbers.
func gridScales(tick, lot string) (px, qty int8, err error) {
	if px, err = fixed.Scale([]byte(tick)); err == nil {
		qty, err = fixed.Scale([]byte(lot))
	}
	return px, qty, err
}

// ascending puts the trades of a frame into the order of their numbers: some venues
// send the newest first.
func ascending(trades []Message) {
	byNumber := func(a, b Message) int { return cmp.Compare(a.TradeNum, b.TradeNum) }
	if !slices.IsSortedFunc(trades, byNumber) {
		slices.SortStableFunc(trades, byNumber)
	}
}

// lost says in the batch of a rejected frame, once for each instrument, whose
// message of which kind is lost.
func lost(b *Batch, kind Kind, inst int) {
	for i := range b.Messages {
		if b.Messages[i].Inst == inst {
			return
		}
	}
	b.Messages = append(b.Messages, Message{Kind: kind, Inst: inst, First: event.Null, Seq: event.Null, SeqPrev: event.Null, TsEvent: event.Null})
}
