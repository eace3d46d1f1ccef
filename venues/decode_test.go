package venues

import (
	"math"
	"testing"

	"deeptape/hotpath/event"
)

func TestWhole(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "7": 7, "1067468269": 1067468269, "9223372036854775807": math.MaxInt64,
		"": -1, "00": -1, "07": -1, "-1": -1, "+1": -1, "1.0": -1, " 1": -1, "1e3": -1, "x": -1, "9223372036854775808": -1, "9999999999999999999": -1,
		"18446744073709551617": -1, "10000000000000000000000000": -1} {
		if got, ok := Whole([]byte(text)); ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: %d %v", text, got, ok)
		}
	}
	for ms, want := range map[int64]int64{1: 1e6, 1787612486107: 1787612486107e6, math.MaxInt64 / 1_000_000: math.MaxInt64 / 1_000_000 * 1_000_000, 0: event.Null} {
		if got, ok := MillisNs(ms); !ok || got != want {
			t.Errorf("%d ms: %d %v", ms, got, ok)
		}
	}
	for _, ms := range []int64{-1, math.MinInt64, math.MaxInt64/1_000_000 + 1, math.MaxInt64} {
		if got, ok := MillisNs(ms); ok {
			t.Errorf("%d ms: %d", ms, got)
		}
	}
}
