package endtoend

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Decimals are compared as text in one plain form: no sign, no exponent, no
// leading or trailing zero that says nothing. "61737.63000000" is "61737.63".

// plain brings a decimal of the wire, or a double as QuestDB prints it, into that
// form.
func plain(t testing.TB, text string) string {
	t.Helper()
	digits, exp := text, 0
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		var err error
		if exp, err = strconv.Atoi(text[i+1:]); err != nil {
			t.Fatalf("cannot read decimal %q", text)
		}
		digits = text[:i]
	}
	whole, frac, _ := strings.Cut(digits, ".")
	if whole == "" || strings.Trim(whole+frac, "0123456789") != "" {
		t.Fatalf("cannot read decimal %q", text)
	}
	return shift(whole+frac, len(frac)-exp)
}

// shift is digits divided by 10^scale.
func shift(digits string, scale int) string {
	for ; scale < 0; scale++ {
		digits += "0"
	}
	if n := scale + 1 - len(digits); n > 0 {
		digits = strings.Repeat("0", n) + digits
	}
	whole, frac := digits[:len(digits)-scale], digits[len(digits)-scale:]
	whole = strings.TrimLeft(whole, "0")
	if whole == "" {
		whole = "0"
	}
	if frac = strings.TrimRight(frac, "0"); frac == "" {
		return whole
	}
	return whole + "." + frac
}

// scaled is the decimal that an integer column and its scale mean.
func scaled(t testing.TB, mantissa, scale string) string {
	t.Helper()
	n, err := strconv.Atoi(scale)
	if err != nil || n < 0 || mantissa == "" || strings.Trim(mantissa, "0123456789") != "" {
		t.Fatalf("px or qty %q at scale %q is none", mantissa, scale)
	}
	return shift(mantissa, n)
}

func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"61737.63000000": "61737.63", "0.00000000": "0", "0": "0", "00.10": "0.1", "100": "100", "100.0": "100",
		"1.0E-5": "0.00001", "1.25E7": "12500000", "7.6e-4": "0.00076", "0.5": "0.5",
	} {
		if got := plain(t, text); got != want {
			t.Errorf("plain(%q) = %q, want %q", text, got, want)
		}
	}
	for want, in := range map[string][2]string{"61737.63": {"6173763", "2"}, "0.00076": {"76", "5"}, "3": {"3", "0"}, "0": {"0", "4"}} {
		if got := scaled(t, in[0], in[1]); got != want {
			t.Errorf("scaled(%q) = %q, want %q", in, got, want)
		}
	}
}

// level of a book, in plain decimals.
type level struct{ side, px, qty string }

// sortKey orders plain decimals as text.
func sortKey(px string) string {
	whole, frac, _ := strings.Cut(px, ".")
	return fmt.Sprintf("%020s.%s", whole, frac)
}

// slowBook is a sorted list a side, best first.
type slowBook struct{ bids, asks []slowLevel }

type slowLevel struct{ key, px, qty string }

func (b *slowBook) set(l level) {
	side, sign := &b.bids, -1
	if l.side == "ask" {
		side, sign = &b.asks, 1
	}
	key := sortKey(l.px)
	i, found := slices.BinarySearchFunc(*side, key, func(x slowLevel, k string) int { return sign * strings.Compare(x.key, k) })
	switch {
	case l.qty == "0" && found:
		*side = slices.Delete(*side, i, i+1)
	case l.qty == "0":
	case found:
		(*side)[i].qty = l.qty
	default:
		*side = slices.Insert(*side, i, slowLevel{key, l.px, l.qty})
	}
}

func (b *slowBook) clear() { b.bids, b.asks = nil, nil }

// levels is the whole book, bids then asks, best first.
func (b *slowBook) levels() []level {
	var out []level
	for _, l := range b.bids {
		out = append(out, level{"bid", l.px, l.qty})
	}
	for _, l := range b.asks {
		out = append(out, level{"ask", l.px, l.qty})
	}
	return out
}

// top is the first n levels a side as "px,px|qty,qty".
func (b *slowBook) top(side string, n int) string {
	levels := b.bids
	if side == "ask" {
		levels = b.asks
	}
	var px, qty []string
	for _, l := range levels[:min(n, len(levels))] {
		px, qty = append(px, l.px), append(qty, l.qty)
	}
	return strings.Join(px, ",") + "|" + strings.Join(qty, ",")
}

// topOf brings an array column of book_top, [[prices],[sizes]], into the same form.
func topOf(t testing.TB, text string) string {
	t.Helper()
	if text == "null" || text == "" {
		return "|"
	}
	prices, sizes, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(text, "[["), "]]"), "],[")
	if !ok {
		t.Fatalf("array %q has not two rows", text)
	}
	list := func(s string) string {
		if s == "" {
			return ""
		}
		items := strings.Split(s, ",")
		for i := range items {
			items[i] = plain(t, items[i])
		}
		return strings.Join(items, ",")
	}
	return list(prices) + "|" + list(sizes)
}
