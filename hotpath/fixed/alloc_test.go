//go:build !race

package fixed

import "testing"

func TestNoAllocations(t *testing.T) {
	buf := make([]byte, 0, 64)
	inputs := [][]byte{[]byte("61737.63000000"), []byte("-0.00001000"), []byte("1.00000000000000000000000"), []byte("1e5"), []byte("x"), []byte("99999999999999999999"), []byte("0.001")}
	n := testing.AllocsPerRun(100, func() {
		for _, b := range inputs {
			m, _ := Parse(b, 2)
			Scale(b)
			buf = Append(buf[:0], m, 8)
			Float(m<<53, 7)
			Rescale(m, 6)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
