package fixed

import (
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	number   = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?$`)
	exponent = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?[eE][+-]?[0-9]+$`)
	maxInt   = big.NewInt(math.MaxInt64)
)

func tenTo(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

// oracle is Parse by regular expression and math/big.
func oracle(s string, scale int8) (int64, error) {
	if exponent.MatchString(s) {
		return 0, ErrExponent
	}
	if !number.MatchString(s) {
		return 0, ErrGarbage
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		panic(s)
	}
	r.Mul(r, new(big.Rat).SetInt(tenTo(int(scale))))
	whole := new(big.Int).Quo(r.Num(), r.Denom())
	if whole.CmpAbs(maxInt) > 0 {
		return 0, ErrOverflow
	}
	if !r.IsInt() {
		return 0, ErrFiner
	}
	return whole.Int64(), nil
}

// oracleScale tries every scale.
func oracleScale(s string) (int8, error) {
	err := error(nil)
	for scale := int8(0); scale <= MaxScale; scale++ {
		if _, err = oracle(s, scale); err == nil {
			return scale, nil
		} else if err != ErrFiner {
			break
		}
	}
	return 0, err
}

func checkText(t *testing.T, s string) {
	t.Helper()
	for scale := int8(0); scale <= MaxScale; scale++ {
		want, wantErr := oracle(s, scale)
		got, err := Parse([]byte(s), scale)
		if got != want || err != wantErr {
			t.Fatalf("Parse(%q, %d) = %d, %v; want %d, %v", s, scale, got, err, want, wantErr)
		}
		got, err = parseSlow([]byte(s), scale)
		if got != want || err != wantErr {
			t.Fatalf("parseSlow(%q, %d) = %d, %v; want %d, %v", s, scale, got, err, want, wantErr)
		}
	}
	want, wantErr := oracleScale(s)
	if got, err := Scale([]byte(s)); got != want || err != wantErr {
		t.Fatalf("Scale(%q) = %d, %v; want %d, %v", s, got, err, want, wantErr)
	}
}

var texts = []string{
	"0", "-0", "0.0", "-0.00", "1", "-1", "10", "0.1", "0.10", "0.01", "61737.63000000", "0.00000001", "0.00000000",
	"1.23456789", "123456789.123456789", "0.000000000000000001", "0.0000000000000000010", "0.0000000000000000001",
	"9223372036854775807", "-9223372036854775807", "9223372036854775808", "-9223372036854775808",
	"18446744073709551615", "18446744073709551616", "92233720368547758.07", "92233720368547758.08", "9.223372036854775807", "9.223372036854775808",
	"9.2233720368547758071", "999999999999999999", "9999999999999999999", "99999999999999999999", "1000000000000000000", "10000000000000000000",
	strings.Repeat("9", 400), "0." + strings.Repeat("0", 400), "0." + strings.Repeat("0", 400) + "1", "1." + strings.Repeat("0", 400),
	strings.Repeat("9", 400) + "." + strings.Repeat("9", 400),
	"", "-", "+1", "--1", "1.", ".5", "-.5", "-1.", "01", "00", "-01", "00.1", "1.2.3", "1,5", " 1", "1 ", "1a", "a", "1.a", "1.0a", "1.00000000000000000000a",
	"0x10", "NaN", "Infinity", "-Infinity", "null", "\"1\"", "1\x00", "1.5-", "1-", "１", "1_000", "/", ":", "1/", "1:", "1.5/", "1.5:",
	"1e5", "1E5", "1e+5", "1e-7", "-1.5e-7", "0e0", "1e", "1e+", "e5", "1e5.0", "1e5e5", "01e5", "1.e5", "1e5a", strings.Repeat("9", 400) + "e1",
}

func TestParseTable(t *testing.T) {
	for _, s := range texts {
		checkText(t, s)
	}
	// Some by hand, so that the oracle is held to something as well.
	for _, c := range []struct {
		text  string
		scale int8
		want  int64
		err   error
	}{
		{"61737.63000000", 2, 6173763, nil},
		{"61737.63", 8, 6173763000000, nil},
		{"61737.63", 1, 0, ErrFiner},
		{"-0.5", 1, -5, nil},
		{"1e-7", 8, 0, ErrExponent},
		{"+1", 8, 0, ErrGarbage},
		{"92233720369", 8, 0, ErrOverflow},
		{"92233720369.123456789", 8, 0, ErrOverflow},
		{"-9223372036854775808", 0, 0, ErrOverflow},
	} {
		if got, err := Parse([]byte(c.text), c.scale); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("Parse(%q, %d) = %d, %v; want %d, %v", c.text, c.scale, got, err, c.want, c.err)
		}
	}
	if got, err := Scale([]byte("61737.63000000")); got != 2 || err != nil {
		t.Errorf("Scale = %d, %v", got, err)
	}
}

// TestParseRandom makes texts near every border: digits, length, sign, padding,
// and now and then one wrong byte.
func TestParseRandom(t *testing.T) {
	seed := testSeed(t)
	r := rand.New(rand.NewPCG(seed, 1))
	for range rounds(5000) {
		checkText(t, randomText(r))
	}
}

// rounds is fewer of them with -short, as under the race detector.
func rounds(n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}

func randomText(r *rand.Rand) string {
	var b []byte
	if r.IntN(4) == 0 {
		b = append(b, '-')
	}
	switch r.IntN(4) {
	case 0:
		b = append(b, '0')
	case 1: // near 1<<63
		d := new(big.Int).Add(maxInt, big.NewInt(int64(r.IntN(7)-3)))
		b = d.Append(b, 10)
		b = b[:len(b)-r.IntN(4)]
	default:
		b = new(big.Int).SetUint64(r.Uint64()>>r.IntN(64)).Append(b, 10)
	}
	if r.IntN(5) > 0 {
		b = append(b, '.')
		for range r.IntN(22) {
			b = append(b, "0000123456789"[r.IntN(13)])
		}
		for range r.IntN(10) {
			b = append(b, '0')
		}
	}
	if r.IntN(10) == 0 {
		b[r.IntN(len(b))] = "0+-.eE 9a/:"[r.IntN(11)]
	}
	return string(b)
}

func randomInt(r *rand.Rand) int64 {
	switch r.IntN(8) {
	case 0:
		return math.MaxInt64 - int64(r.IntN(3))
	case 1:
		return math.MinInt64 + int64(r.IntN(3))
	case 2:
		m := int64(pow10[r.IntN(len(pow10))])
		return m + int64(r.IntN(3)-1)
	}
	return int64(r.Uint64()) >> r.IntN(64)
}

func checkInt(t *testing.T, m int64, scale, by int8) {
	t.Helper()
	rat := new(big.Rat).SetFrac(big.NewInt(m), tenTo(int(scale)))
	text := rat.FloatString(int(scale))
	if scale > 0 {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	got := Append([]byte("x="), m, scale)
	if string(got) != "x="+text {
		t.Fatalf("Append(%d, %d) = %q, want %q", m, scale, got[2:], text)
	}
	if m != math.MinInt64 {
		if back, err := Parse(got[2:], scale); back != m || err != nil {
			t.Fatalf("Parse(%q, %d) = %d, %v, want %d", got[2:], scale, back, err, m)
		}
	}

	want, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	if f := Float(m, scale); f != want {
		t.Fatalf("Float(%d, %d) = %v, want %v", m, scale, f, want)
	}

	product := new(big.Int).Mul(big.NewInt(m), tenTo(int(by)))
	wantOK := product.CmpAbs(maxInt) <= 0
	wide, ok := Rescale(m, by)
	if ok != wantOK || ok && wide != product.Int64() || !ok && wide != 0 {
		t.Fatalf("Rescale(%d, %d) = %d, %v, want %v, %v", m, by, wide, ok, product, wantOK)
	}
}

func TestIntRandom(t *testing.T) {
	seed := testSeed(t)
	r := rand.New(rand.NewPCG(seed, 2))
	for range rounds(20000) {
		checkInt(t, randomInt(r), int8(r.IntN(MaxScale+1)), int8(r.IntN(22)))
	}
	checkInt(t, 0, 0, 127)
	checkInt(t, 1, MaxScale, 127)
	checkInt(t, math.MinInt64, 0, 0)
	// Ties, where one bit below decides.
	for _, m := range []int64{1<<53 - 1, 1 << 53, 1<<53 + 1, 1<<53 + 2, 1<<53 + 3, 1<<54 + 2, 1<<54 + 6, 1<<62 + 1<<9, 1<<62 + 3<<9, 1<<62 + 1<<9 + 1} {
		for scale := int8(0); scale <= MaxScale; scale++ {
			checkInt(t, m, scale, 0)
			checkInt(t, -m, scale, 0)
		}
	}
}

func TestScaleOutOfRangePanics(t *testing.T) {
	for name, f := range map[string]func(){
		"Parse 19":   func() { Parse([]byte("1"), 19) },
		"Parse -1":   func() { Parse([]byte("1"), -1) },
		"Append 19":  func() { Append(nil, 1, 19) },
		"Float -1":   func() { Float(1, -1) },
		"Rescale -1": func() { Rescale(1, -1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s did not panic", name)
				}
			}()
			f()
		}()
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range texts {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 200 {
			return
		}
		checkText(t, string(b))
	})
}

func FuzzInt(f *testing.F) {
	f.Add(int64(6173763), uint8(2), uint8(6))
	f.Add(int64(math.MinInt64), uint8(18), uint8(0))
	f.Add(int64(-1<<53-1), uint8(17), uint8(3))
	f.Fuzz(func(t *testing.T, m int64, scale, by uint8) {
		checkInt(t, m, int8(scale%(MaxScale+1)), int8(by%128))
	})
}

// testSeed is always the same, so that luck is no gate; DEEPTAPE_SEED=n tries another.
func testSeed(t testing.TB) uint64 {
	seed := uint64(1)
	if one, err := strconv.ParseUint(os.Getenv("DEEPTAPE_SEED"), 10, 64); err == nil {
		seed = one
	}
	t.Logf("DEEPTAPE_SEED=%d", seed)
	return seed
}
