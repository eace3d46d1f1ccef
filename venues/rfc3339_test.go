package venues

import (
	"math"
	"math/rand/v2"
	"regexp"
	"testing"
	"time"

	"deeptape/hotpath/event"
)

func TestRFC3339(t *testing.T) {
	for text, want := range map[string]int64{
		"2026-08-24T22:34:13.793075885Z": 1787610853_793075885,
		"2026-08-24T22:34:13.82310097Z":  1787610853_823100970, // surplus zeros are trimmed
		"2024-06-02T17:19:01.80569Z":     1717348741_805690000,
		"2026-08-24T22:21:57.110183Z":    1787610117_110183000,
		"2024-02-29T00:00:00Z":           1709164800_000000000,
		"2261-12-31T23:59:59.999999999Z": 9214646399_999999999,
		"1971-01-01T00:00:00Z":           31536000_000000000,
		"1970-01-01T00:00:00Z":           event.Null,
		"1970-12-31T23:59:59.999999999Z": event.Null,
		"0001-01-01T00:00:00Z":           event.Null,
		"0000-02-29T00:00:00Z":           event.Null,
	} {
		if got, ok := RFC3339([]byte(text)); !ok || got != want {
			t.Errorf("%s: %d %v, want %d", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "Z", "2026-08-24", "2026-08-24T22:34:13", "2026-08-24T22:34:13.Z", "2026-08-24T22:34:13.1234567890Z", "2026-08-24T22:34:13,5Z",
		"2026-08-24T22:34:13+00:00", "2026-08-24 22:34:13Z", "2026-08-24T24:00:00Z", "2026-08-24T22:60:13Z", "2026-08-24T22:34:60Z", "2026-00-24T22:34:13Z", "2026-13-24T22:34:13Z",
		"2026-08-00T22:34:13Z", "2026-08-32T22:34:13Z", "2026-02-29T22:34:13Z", "2100-02-29T22:34:13Z", "2024-02-30T22:34:13Z", "2024-04-31T22:34:13Z", "2262-01-01T00:00:00Z",
		"-026-08-24T22:34:13Z", "2026-08-24T22:34:1 Z", "2026-08-24T22:34:13.-1Z", "1787610853", "1970-01-01T00:00:00.x0Z"} {
		if got, ok := RFC3339([]byte(text)); ok {
			t.Errorf("%q is taken as %d", text, got)
		}
	}
}

// Every day from 1970 to 2261, at some instant of it, with every length of fraction.
func TestRFC3339EveryDay(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, 0, 40)
	for day := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC); day.Year() < 2262; day = day.AddDate(0, 0, 1) {
		trim := int64(math.Pow10(rng.IntN(10)))
		at := day.Add(time.Duration(rng.Int64N(86400e9) / trim * trim))
		buf = at.AppendFormat(buf[:0], time.RFC3339Nano)
		want := at.UnixNano()
		if at.Year() == 1970 {
			want = event.Null
		}
		if got, ok := RFC3339(buf); !ok || got != want {
			t.Fatalf("%s: %d %v, want %d", buf, got, ok, want)
		}
	}
}

var plainTime = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$`)

// FuzzRFC3339: what is taken is what the standard library reads in it, and of what
// that takes nothing is refused that has the venues' form and fits.
func FuzzRFC3339(f *testing.F) {
	for _, s := range []string{"2026-08-24T22:34:13.793075885Z", "2026-08-24T22:34:13Z", "1970-01-01T00:00:00Z", "2024-02-29T23:59:59.1Z", "2262-04-11T23:47:16.854775807Z", "2026-08-24T22:34:13.5+01:00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := RFC3339([]byte(text))
		want, err := time.Parse(time.RFC3339Nano, text)
		fits := err == nil && plainTime.MatchString(text) && want.Year() < 2262
		if ok != fits {
			t.Fatalf("%q is taken: %v; the standard library reads %v, %v", text, ok, want, err)
		}
		switch {
		case !ok:
		case want.Year() <= 1970:
			if got != event.Null {
				t.Fatalf("%q is %d", text, got)
			}
		case got != want.UnixNano():
			t.Fatalf("%q is %d, want %d", text, got, want.UnixNano())
		}
	})
}
