package simvenue

import (
	"fmt"
	"testing"
)

// What a diff keeps to itself: that a level outside of every kept answer's window is gone.
func TestGhosts(t *testing.T) {
	at := func(gone bool, keys ...int64) (levels []level) {
		for _, k := range keys {
			levels = append(levels, level{key: k, gone: gone})
		}
		return levels
	}
	sym := &symbol{}
	told := func(bid, gone bool, keys ...int64) (out []int64) {
		for _, l := range sym.without(bid, at(gone, keys...)) {
			out = append(out, l.key)
		}
		return out
	}
	want := func(what string, got []int64, want ...int64) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: told %d, want %d", what, got, want)
		}
	}
	want("before any answer", told(true, true, 9, 1), 9, 1)
	sym.tell(at(false, 10, 9, 8), at(false, 11, 12), 3) // the asks are all there are
	want("bids gone", told(true, true, 20, 10, 8, 7, 1), 20, 10, 8)
	want("bids changed", told(true, false, 20, 8, 7, 1), 20, 8, 7, 1)
	want("asks gone", told(false, true, 3, 11, 99), 3, 11, 99)
	sym.tell(at(false, 7, 6, 5), at(false, 11, 12, 13), 3)
	want("bids gone, after another answer", told(true, true, 8, 5, 4), 8, 5)
	for range answersKept {
		sym.tell(at(false, 10, 9, 8), at(false, 11, 12, 13), 3)
	}
	want("bids gone, later", told(true, true, 8, 7, 5), 8)
	want("asks gone, later", told(false, true, 10, 13, 14), 10, 13)
}
