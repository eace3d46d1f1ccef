package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Bytes is a size such as 128MiB, 200GiB or 1048576.
type Bytes int64

var units = []struct {
	name string
	size int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}}

// UnmarshalYAML reads a size.
func (b *Bytes) UnmarshalYAML(node ast.Node) error {
	n, err := parseBytes(node.GetToken().Value)
	if err != nil {
		return &valueError{node.GetToken(), err}
	}
	*b = n
	return nil
}

func parseBytes(s string) (Bytes, error) {
	number, size := s, int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			number, size = strings.TrimSpace(rest), u.size
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/size {
		return 0, fmt.Errorf("%q is not a size; write 128MiB, 200GiB or a number of bytes", s)
	}
	return Bytes(n * size), nil
}

// Duration is a time span such as 200ms, 72h.
type Duration time.Duration

// UnmarshalYAML reads a time span.
func (d *Duration) UnmarshalYAML(node ast.Node) error {
	s := node.GetToken().Value
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return &valueError{node.GetToken(), fmt.Errorf("%q is not a time span; write 200ms, 10m or 72h", s)}
	}
	*d = Duration(v)
	return nil
}

// Currencies that pairs are quoted in, as where a pair without a sign is split; those
// that end like another one come before it.
var quoteCurrencies = []string{"FDUSD", "TUSD", "USD", "USDT", "USDC", "EUR", "GBP", "JPY", "TRY", "BTC", "ETH", "BNB"}

// spellings of a pair that people write with another venue's sign in the middle, or
// none: without one, split before a quote currency, and with another one.
func spellings(s string) []string {
	signs := func(to string) string {
		return strings.NewReplacer("-", to, "/", to, "_", to, ":", to, " ", to).Replace(s)
	}
	plain := signs("")
	out := []string{plain}
	for _, quote := range quoteCurrencies {
		if base, ok := strings.CutSuffix(strings.ToUpper(plain), quote); ok && base != "" {
			out = append(out, base+"-"+quote, base+"/"+quote)
		}
	}
	return append(out, signs("-"), signs("/"))
}

// nearest returns `; did you mean "x"?` if a name is close enough.
func nearest(s string, names []string) string {
	if at := Nearest(s, names); at != "" {
		return fmt.Sprintf("; did you mean %q?", at)
	}
	return ""
}

// Nearest returns the name that is most like s in any case, or "" if none is close
// enough.
func Nearest(s string, names []string) string {
	best, at := 1+len(s)/2, ""
	for _, n := range names {
		if d := distance(strings.ToLower(s), strings.ToLower(n)); d < best {
			best, at = d, n
		}
	}
	return at
}

// distance counts the single-letter edits between two words (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

// Time reads an instant: RFC 3339, or relative to now such as -1h. Unix ns.
func Time(s string, now time.Time) (int64, error) {
	if strings.HasPrefix(s, "-") {
		d, err := time.ParseDuration(s[1:])
		if err == nil && d >= 0 {
			return now.Add(-d).UnixNano(), nil
		}
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t.UnixNano(), nil
	}
	return 0, fmt.Errorf("%q is not a time; write 2026-11-22T10:00:00Z, or -1h for an hour ago", s)
}
