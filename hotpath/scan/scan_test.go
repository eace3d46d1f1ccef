package scan

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/fixed"
)

// number makes a decimal text: mostly right, of any length, and often next to a limit.
func number(r *rand.Rand) []byte {
	digits := func(n int) (b []byte) {
		for range n {
			b = append(b, "0123456789"[r.IntN(10)])
		}
		return b
	}
	var b []byte
	switch r.IntN(8) {
	case 0:
		b = strconv.AppendUint(b, 1<<63-3+r.Uint64N(6), 10)
		if k := r.IntN(len(b)); k > 0 {
			b = append(b[:k:k], append([]byte("."), b[k:]...)...)
		}
	case 1:
		b = []byte{"0123456789"[r.IntN(10)]}
	default:
		b = digits(r.IntN(12))
		if r.IntN(3) > 0 {
			b = bytes.TrimLeft(b, "0")
		}
		if len(b) == 0 && r.IntN(10) > 0 {
			b = append(b, '0')
		}
	}
	if r.IntN(4) > 0 && !bytes.Contains(b, []byte(".")) {
		b = append(append(b, '.'), digits(r.IntN(11))...)
		b = append(b, strings.Repeat("0", r.IntN(2)*r.IntN(12))...)
	}
	if r.IntN(20) == 0 && len(b) > 0 {
		b[r.IntN(len(b))] = byte(r.IntN(256))
	}
	return b
}

// Decimal accepts what fixed.Parse reads, with the same value, up to the first byte
// that belongs to no number; whatever stands behind it, and however near the end is.
func TestDecimal(t *testing.T) {
	const seed = 5
	r := rand.New(rand.NewPCG(seed, 1))
	accepted, declined := 0, 0
	for range 300_000 {
		text := number(r)
		scale := int8(r.IntN(fixed.MaxScale + 1))
		before := strings.Repeat("x", r.IntN(3))
		frame := []byte(before + string(text) + pick(r, "", `"`, `,`, `}`, `","`, `"]]}`, "\x00", `x`, `e5`, `E`, `-`, `" and more than a word`, `}],"asks":[]}`))
		end := len(before)
		for points := 0; end < len(frame) && (frame[end]-'0' < 10 || frame[end] == '.' && points == 0); end++ {
			if frame[end] == '.' {
				points++
			}
		}
		want, err := fixed.Parse(frame[len(before):end], scale)
		m, next := Decimal(frame, len(before), scale)
		switch {
		case next < 0 && err != nil:
			declined++
		case next < 0 && end-len(before) < longestDecimal && err == nil && (end == len(frame) || frame[end] != '.') || next >= 0 && (err != nil || m != want || next != end):
			t.Fatalf("seed %d: %q at scale %d: %d to %d, want %d, %v", seed, frame, scale, m, next, want, err)
		default:
			accepted++
		}
	}
	if accepted < 90_000 || declined < 30_000 {
		t.Errorf("%d accepted, %d declined", accepted, declined)
	}
}

func pick(r *rand.Rand, of ...string) string { return of[r.IntN(len(of))] }

func TestUint(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 1))
	for range 300_000 {
		text := strconv.FormatUint(r.Uint64()>>r.IntN(64), 10)
		if r.IntN(10) == 0 {
			text = pick(r, "", "0", "00", "01", "-1", "+1", ".5", "x", "1.5", "1e3", "9999999999999999", "10000000000000000", "99999999", "100000000")
		}
		frame := []byte(text + pick(r, "", ",", "}", `,"s":"BTCUSDT"`, "\x00", "e5", ".0"))
		end := 0
		for end < len(frame) && frame[end]-'0' < 10 {
			end++
		}
		want, err := strconv.ParseInt(string(frame[:end]), 10, 64)
		legal := err == nil && (end == 1 || frame[0] != '0') && end <= 16
		if n, next := Uint(frame, 0); legal != (next == end) || !legal && next != Declined || legal && n != want {
			t.Fatalf("%q: %d to %d, want %d to %d, %v", frame, n, next, want, end, legal)
		}
	}
}

func TestText(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 1))
	for range 300_000 {
		frame := make([]byte, r.IntN(40))
		for k := range frame {
			frame[k] = []byte{'a', 'Z', 0, 0xff, 0x80, '!', '#', '[', ']', '\\', '"'}[r.IntN(9+r.IntN(3))]
		}
		want := bytes.IndexAny(frame, "\"\\") // the oracle looks at runes: bytes above 127 are none of the two
		if want >= 0 && frame[want] == '\\' {
			want = Declined
		}
		if got := Text(frame, 0); got != want {
			t.Fatalf("%q: %d, want %d", frame, got, want)
		}
	}
}

// Anything may stand behind a place that was declined, or at one that is beyond the
// end: it is declined.
func TestDeclined(t *testing.T) {
	frame := []byte(`[["1","2"]]1234567890123456"`)
	for _, i := range []int{Declined, -2, len(frame), len(frame) + 1, len(frame) + 100, -1 << 63, 1<<63 - 1} {
		if n := Literal(frame, i, "["); n != Declined {
			t.Errorf("a literal at %d: %d", i, n)
		}
		if _, n := Uint(frame, i); n != Declined {
			t.Errorf("a whole number at %d: %d", i, n)
		}
		if _, n := Decimal(frame, i, 2); n != Declined {
			t.Errorf("a decimal at %d: %d", i, n)
		}
		if n := Text(frame, i); n != Declined {
			t.Errorf("a text at %d: %d", i, n)
		}
		if levels, n := Pairs(frame, i, nil, 1, 2, 2); n != Declined || len(levels) > 0 {
			t.Errorf("levels at %d: %d", i, n)
		}
		if levels, n := PaddedPairs(frame, i, nil, 1, 2, 2); n != Declined || len(levels) > 0 {
			t.Errorf("padded levels at %d: %d", i, n)
		}
	}
	for _, scale := range []int8{-1, 19, 127, -128} {
		if _, n := Decimal(frame, 3, scale); n != Declined {
			t.Errorf("scale %d: %d", scale, n)
		}
	}
}

// What is cut anywhere is declined, or has ended before the cut.
func TestPairsCut(t *testing.T) {
	whole := `[["61737.63000000","0.00000000"],["0.1","123456789.5"],["7","8"]]`
	want, end := Pairs([]byte(whole+"xxxx"), 0, nil, 1, 8, 8)
	if end != len(whole) || fmt.Sprint(want) != "[{6173763000000 0 1 0} {10000000 12345678950000000 1 0} {700000000 800000000 1 0}]" {
		t.Fatalf("%v to %d", want, end)
	}
	for n := range len(whole) {
		if got, end := Pairs([]byte(whole[:n]), 0, nil, 1, 8, 8); end != Declined {
			t.Errorf("%q: %v to %d", whole[:n], got, end)
		}
	}
}

func FuzzDecimal(f *testing.F) {
	for _, s := range []string{"61737.63000000", "0.00000000", "0", "123456789.5", "1.", ".5", "01"} {
		f.Add([]byte(s+`","`), int8(8))
	}
	f.Fuzz(func(t *testing.T, frame []byte, scale int8) {
		m, next := Decimal(frame, 0, scale)
		if next == Declined {
			return
		}
		if want, err := fixed.Parse(frame[:next], scale); err != nil || want != m {
			t.Fatalf("%q at %d: %d, want %d, %v", frame[:next], scale, m, want, err)
		}
		if next < len(frame) && (frame[next]-'0' < 10 || frame[next] == '.' && bytes.IndexByte(frame[:next], '.') < 0) {
			t.Fatalf("%q goes on behind %d", frame, next)
		}
	})
}

// paddedList makes a list of levels as Binance has it: most prices have as many digits as
// the last one, and most sizes are small; sometimes a byte of it is another, or a few are
// missing.
func paddedList(r *rand.Rand) []byte {
	b := []byte("[")
	n := 1 + r.IntN(9)
	number := func(n int) {
		first := len(b)
		for range n {
			b = append(b, "0123456789"[r.IntN(10)])
		}
		if n > 1 && r.IntN(50) > 0 {
			b[first] = "123456789"[r.IntN(9)]
		}
		if r.IntN(100) == 0 {
			return
		}
		b = append(b, '.')
		for k := range 8 {
			digit := "0123456789"[r.IntN(10)]
			if k >= 2 && r.IntN(200) > 0 {
				digit = '0'
			}
			b = append(b, digit)
		}
	}
	for k := range r.IntN(12) {
		if k > 0 {
			b = append(b, ',')
		}
		if r.IntN(20) == 0 {
			n = 1 + r.IntN(9)
		}
		b = append(b, `["`...)
		number(n)
		b = append(b, `","`...)
		number(1 + r.IntN(10)/9)
		b = append(b, `"]`...)
	}
	b = append(b, "]"...)
	b = append(b, `,"a":[],"or":"whatever comes then"}}`[:r.IntN(37)]...)
	if r.IntN(6) == 0 {
		k := r.IntN(len(b))
		b = slices.Delete(b, k, min(len(b), k+1+r.IntN(3)))
	}
	if len(b) > 0 && r.IntN(4) == 0 {
		const others = "0159.,\"[] -e\x00\x80\xff/:"
		b[r.IntN(len(b))] = others[r.IntN(len(others))]
	}
	return b
}

// samePairs: what PaddedPairs says is what Pairs says.
func samePairs(frame []byte, room int, px, qty int8) error {
	before := []event.Level{{Px: 1, Qty: 2, Side: event.Ask, Flags: 3}}
	want, end := Pairs(frame, 0, slices.Clone(before), event.Bid, px, qty)
	dirty := slices.Repeat([]event.Level{{Px: -1, Qty: -1, Side: event.Ask, Flags: 7}}, 1+room)
	dirty[0] = before[0]
	got, next := PaddedPairs(frame, 0, dirty[:1], event.Bid, px, qty)
	if next != end || end != Declined && !slices.Equal(got, want) {
		return fmt.Errorf("%q at scales %d and %d, room for %d: %v to %d, want %v to %d", frame, px, qty, room, got, next, want, end)
	}
	return nil
}

func TestPaddedPairs(t *testing.T) {
	const seed = 8
	r := rand.New(rand.NewPCG(seed, 1))
	accepted := 0
	for range 200_000 {
		frame, px, qty := paddedList(r), int8(2+r.IntN(8)), int8(2+r.IntN(8))
		if err := samePairs(frame, r.IntN(16), px, qty); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if _, end := Pairs(frame, 0, nil, event.Bid, px, qty); end != Declined {
			accepted++
		}
	}
	if accepted < 50_000 || accepted > 180_000 {
		t.Errorf("%d of 200,000 accepted", accepted)
	}
	// The short way is taken at all, and it ends where it should.
	frame := []byte(`[["61737.63000000","0.00120000"],["61737.64000000","9.00000000"]],"a":[["61738.00000000","1.0`)
	like := padded{px: &scaleds[2], qty: &scaleds[5], side: event.Bid}
	like.guess(5)
	got, end := like.read(frame, 3, make([]event.Level, 0, 4))
	if want := []event.Level{{Px: 6173763, Qty: 120, Side: event.Bid}, {Px: 6173764, Qty: 900000, Side: event.Bid}}; !slices.Equal(got, want) || frame[end-1] != ']' || frame[end] != ',' {
		t.Errorf("%v to %d", got, end)
	}
}

func FuzzPairs(f *testing.F) {
	r := rand.New(rand.NewPCG(9, 1))
	for range 200 {
		f.Add(paddedList(r), uint8(r.IntN(16)), int8(2), int8(5))
	}
	f.Fuzz(func(t *testing.T, frame []byte, room uint8, px, qty int8) {
		if err := samePairs(frame, int(room), px, qty); err != nil {
			t.Fatal(err)
		}
	})
}
