package venuetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"regexp"
	"strings"
	"time"

	"deeptape/hotpath/event"
)

func Object(v any) map[string]any { m, _ := v.(map[string]any); return m }

func Number(v any) string {
	if n, ok := v.(json.Number); ok {
		return n.String()
	}
	return ""
}

func Text(v any) string { s, _ := v.(string); return s }

func Pairs(v any) (out [][]string) {
	list, _ := v.([]any)
	for _, e := range list {
		var pair []string
		l, _ := e.([]any)
		for _, x := range l {
			pair = append(pair, Text(x))
		}
		out = append(out, pair)
	}
	return out
}

func ParseJSON(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows")
	}
	return v, nil
}

// SameNumber compares a mantissa at a scale with decimal text, exactly: the
// digits of the text, with the point moved, are the mantissa.
func SameNumber(m int64, scale int8, text string) bool {
	whole, frac, _ := strings.Cut(text, ".")
	frac = strings.TrimRight(frac, "0")
	if len(frac) > int(scale) {
		return false
	}
	want, ok := new(big.Int).SetString(whole+frac+strings.Repeat("0", int(scale)-len(frac)), 10)
	return ok && !strings.ContainsAny(text, "_+") && want.Cmp(big.NewInt(m)) == 0
}

// FractionDigits counts those of decimal text, without surplus zeros.
func FractionDigits(text string) int8 {
	_, frac, _ := strings.Cut(text, ".")
	return int8(len(strings.TrimRight(frac, "0")))
}

func SameInt(got int64, text string) bool { return fmt.Sprint(got) == text }

func IsInt64(s string) bool {
	n, ok := new(big.Int).SetString(s, 10)
	return ok && n.IsInt64()
}

func List(v any) []any { l, _ := v.([]any); return l }

// IsTime says whether ns is what a time in RFC 3339 says.
func IsTime(ns int64, text string) bool {
	at, err := time.Parse(time.RFC3339Nano, text)
	return err == nil && (ns == at.UnixNano() || at.Year() <= 1970 && ns == event.Null)
}

var WholeText = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)

// sameOrNull compares a number with text of which "" is null.
func sameOrNull(got int64, text string) bool {
	return text == "?" || text == "" && got == event.Null || text != "" && SameInt(got, text)
}

func sameMillis(ns int64, text string) bool {
	want, ok := new(big.Int).SetString(text, 10)
	if !ok || want.Sign() == 0 {
		return ns == event.Null && (ok || text == "")
	}
	return want.Mul(want, big.NewInt(1e6)).Cmp(big.NewInt(ns)) == 0
}
