//go:build !race

package lane

import "testing"

func TestNoAllocations(t *testing.T) {
	l := New(1, tiny, nil, nil)
	l.SetWritten(1 << 40)
	pos := uint64(0)
	if n := testing.AllocsPerRun(1000, func() {
		pos++
		derive(l, pos, 10) // defers now and then
		drain(l)
		l.Episode()
		l.CaughtUp(pos)
	}); n != 0 {
		t.Errorf("%v allocations an input", n)
	}
}
