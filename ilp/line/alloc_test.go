//go:build !race

package line

import (
	"math/rand/v2"
	"testing"
)

func TestNoAllocations(t *testing.T) {
	inst := mustInst(t, "binance", "BTCUSDT")
	r := rand.New(rand.NewPCG(3, 4))
	var records [][]byte
	for range 50 {
		records = append(records, randomSample(r).record())
	}
	dst := make([]byte, 0, 1<<20)
	n := testing.AllocsPerRun(20, func() {
		dst = dst[:0]
		for _, rec := range records {
			dst, _ = Append(dst, inst, rec)
		}
	})
	if n != 0 || len(dst) == 0 {
		t.Errorf("%v allocations and %d bytes", n, len(dst))
	}
}
