// Package fixed turns decimal text into an int64 mantissa at a scale, and back:
// "61737.63" at scale 2 is 6173763. A conversion is exact or it is an error.
//
// The text is a JSON number without an exponent:
//
//	-?(0|[1-9][0-9]*)(\.[0-9]+)?
//
// so "", "-", "+1", "01", "1." and ".5" are garbage. "-0" is legal and is 0.
// Surplus zeros at the end of a fraction do not count as digits: venues pad.
//
// This package must never round, never allocate, and never let a float touch a
// price or a size (Float is for the DOUBLE columns, at the very end of the way).
//
// Invariants: a mantissa lies in ±(1<<63 - 1), so it can always be negated and
// is never event.Null; a scale lies in 0..MaxScale, and a function that is given
// another one panics, because only a bug can bring it.
package fixed

import (
	"errors"
	"math"
	"math/bits"
	"strconv"
)

// MaxScale is the greatest number of fraction digits: 10^18 is the greatest
// power of ten in an int64.
const MaxScale = 18

// What Parse and Scale answer for a text that they cannot convert. Where a text
// has more than one fault, the first of ErrGarbage, ErrExponent, ErrOverflow,
// ErrFiner is named: a wider scale helps against ErrFiner and nothing else.
var (
	ErrGarbage  = errors.New("text is not a decimal number")
	ErrExponent = errors.New("number has an exponent")
	ErrOverflow = errors.New("number does not fit into 63 bits at this scale")
	ErrFiner    = errors.New("number has more fraction digits than the scale")
)

var pow10 = [MaxScale + 1]uint64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9,
	1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
}

// shortText is a length at which the digits of a text cannot overflow a uint64.
const shortText = 19

// Parse returns the decimal text b times 10^scale. It does not keep b. The
// errors are the four above, always the same values.
func Parse(b []byte, scale int8) (int64, error) {
	if uint8(scale) > MaxScale {
		panic("fixed: scale out of range")
	}
	if len(b) == 0 || len(b) > shortText {
		return parseSlow(b, scale)
	}
	// Only what is right leaves from here with a value. Anything that looks odd
	// is read a second time by parseSlow, which tells what it is.
	i := 0
	if b[0] == '-' {
		i = 1
	}
	first := i
	var m uint64
	for ; i < len(b); i++ {
		c := b[i] - '0'
		if c > 9 {
			break
		}
		m = m*10 + uint64(c)
	}
	if i == first || b[first] == '0' && i > first+1 {
		return parseSlow(b, scale)
	}
	missing := int(scale)
	if i < len(b) {
		if b[i] != '.' || i+1 == len(b) {
			return parseSlow(b, scale)
		}
		i++
		end := min(len(b), i+missing)
		missing -= end - i
		for ; i < end; i++ {
			c := b[i] - '0'
			if c > 9 {
				return parseSlow(b, scale)
			}
			m = m*10 + uint64(c)
		}
		for ; i < len(b); i++ {
			if b[i] != '0' {
				return parseSlow(b, scale)
			}
		}
	}
	if missing > 0 {
		hi, lo := bits.Mul64(m, pow10[missing])
		if hi != 0 {
			return 0, ErrOverflow
		}
		m = lo
	}
	if m > math.MaxInt64 {
		return 0, ErrOverflow
	}
	if b[0] == '-' {
		return -int64(m), nil
	}
	return int64(m), nil
}

// parseSlow is Parse for texts of any length, and names what is wrong.
func parseSlow(b []byte, scale int8) (int64, error) {
	t, err := split(b)
	if err != nil {
		return 0, err
	}
	var m uint64
	for _, c := range t.whole {
		if !push(&m, c) {
			return 0, ErrOverflow
		}
	}
	for i := range int(scale) {
		c := byte('0')
		if i < len(t.frac) {
			c = t.frac[i]
		}
		if !push(&m, c) {
			return 0, ErrOverflow
		}
	}
	if len(t.frac) > int(scale) {
		return 0, ErrFiner
	}
	if t.neg {
		return -int64(m), nil
	}
	return int64(m), nil
}

// push appends one digit to m, unless it would leave 63 bits.
func push(m *uint64, digit byte) bool {
	hi, lo := bits.Mul64(*m, 10)
	lo, carry := bits.Add64(lo, uint64(digit-'0'), 0)
	*m = lo
	return hi+carry == 0 && lo <= math.MaxInt64
}

// parts is a decimal text taken apart; the slices borrow from it.
type parts struct {
	neg   bool
	whole []byte // at least one digit
	frac  []byte // ends with a digit other than 0, or is empty
}

func split(b []byte) (t parts, err error) {
	if len(b) > 0 && b[0] == '-' {
		t.neg, b = true, b[1:]
	}
	n := digits(b)
	if n == 0 || n > 1 && b[0] == '0' {
		return t, ErrGarbage
	}
	t.whole, b = b[:n], b[n:]
	if len(b) > 0 && b[0] == '.' {
		n = digits(b[1:])
		if n == 0 {
			return t, ErrGarbage
		}
		t.frac, b = b[1:1+n], b[1+n:]
		for len(t.frac) > 0 && t.frac[len(t.frac)-1] == '0' {
			t.frac = t.frac[:len(t.frac)-1]
		}
	}
	if len(b) == 0 {
		return t, nil
	}
	if b[0] != 'e' && b[0] != 'E' {
		return t, ErrGarbage
	}
	b = b[1:]
	if len(b) > 0 && (b[0] == '+' || b[0] == '-') {
		b = b[1:]
	}
	if len(b) == 0 || digits(b) != len(b) {
		return t, ErrGarbage
	}
	return t, ErrExponent
}

// digits counts the digits that b starts with.
func digits(b []byte) int {
	for i, c := range b {
		if c < '0' || c > '9' {
			return i
		}
	}
	return len(b)
}

// Scale returns the least scale at which Parse can read b: the number of its
// fraction digits without surplus zeros. Where there is none it returns the
// error that Parse gives at every scale that is wide enough (ErrOverflow), or at
// MaxScale (ErrFiner), or the fault of the text.
func Scale(b []byte) (int8, error) {
	t, err := split(b)
	if err != nil {
		return 0, err
	}
	scale := int8(min(len(t.frac), MaxScale))
	if _, err := Parse(b, scale); err != nil {
		return 0, err
	}
	return scale, nil
}

const digitPairs = "00010203040506070809" +
	"10111213141516171819" +
	"20212223242526272829" +
	"30313233343536373839" +
	"40414243444546474849" +
	"50515253545556575859" +
	"60616263646566676869" +
	"70717273747576777879" +
	"80818283848586878889" +
	"90919293949596979899"

// Append appends m / 10^scale to dst as decimal text without surplus zeros. Any
// m is legal. Parse reads the text back to m at the same scale.
func Append(dst []byte, m int64, scale int8) []byte {
	if uint8(scale) > MaxScale {
		panic("fixed: scale out of range")
	}
	u := uint64(m)
	if m < 0 {
		dst = append(dst, '-')
		u = -u
	}
	if scale == 0 {
		return strconv.AppendUint(dst, u, 10)
	}
	whole := u / pow10[scale]
	frac := u - whole*pow10[scale]
	dst = strconv.AppendUint(dst, whole, 10)
	if frac == 0 {
		return dst
	}
	var text [1 + MaxScale]byte // '.', then the fraction
	text[0] = '.'
	i := int(scale)
	for i >= 2 {
		q := frac / 100
		p := (frac - q*100) * 2
		text[i-1], text[i] = digitPairs[p], digitPairs[p+1]
		frac, i = q, i-2
	}
	if i == 1 {
		text[1] = byte('0' + frac)
	}
	end := int(scale)
	for text[end] == '0' {
		end--
	}
	return append(dst, text[:end+1]...)
}

// Rescale returns m * 10^by, and false where that overflows. by must not be
// negative; it may be greater than MaxScale (only 0 survives that).
func Rescale(m int64, by int8) (int64, bool) {
	if by < 0 {
		panic("fixed: rescale by a negative power")
	}
	if m == 0 {
		return 0, true
	}
	if by > MaxScale || m == math.MinInt64 {
		return 0, false
	}
	u := uint64(m)
	if m < 0 {
		u = -u
	}
	hi, lo := bits.Mul64(u, pow10[by])
	if hi != 0 || lo > math.MaxInt64 {
		return 0, false
	}
	if m < 0 {
		return -int64(lo), true
	}
	return int64(lo), true
}

// Float returns the double nearest to m / 10^scale, ties to even: the same that
// strconv.ParseFloat makes of Append's text. It is for DOUBLE columns only.
func Float(m int64, scale int8) float64 {
	if uint8(scale) > MaxScale {
		panic("fixed: scale out of range")
	}
	u := uint64(m)
	if m < 0 {
		u = -u
	}
	var f float64
	if u <= 1<<53 {
		// Both operands are exact doubles (10^18 is, too), so the one division
		// rounds correctly.
		f = float64(u) / float64(pow10[scale])
	} else {
		// A quotient of 63 or 64 bits, its lowest bit also standing for all that
		// is below it: the conversion drops at least ten bits and so rounds right.
		d := pow10[scale]
		su, sd := bits.LeadingZeros64(u), bits.LeadingZeros64(d)
		u <<= su
		q, rem := bits.Div64(u>>1, u<<63, d<<sd)
		if rem != 0 {
			q |= 1
		}
		f = math.Ldexp(float64(q), sd-su-63)
	}
	if m < 0 {
		return -f
	}
	return f
}
