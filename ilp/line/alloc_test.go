//go:build !race

package line

import (
	"math/rand/v2"
	"testing"

	"deeptape/hotpath/event"
)

func TestNoAllocations(t *testing.T) {
	inst := mustInst(t, "binance", "BTCUSDT")
	r := rand.New(rand.NewPCG(3, 4))
	var samples []*sample
	var records [][]byte
	for range 50 {
		s := randomSample(r)
		samples, records = append(samples, s), append(records, s.record())
	}
	dst := make([]byte, 0, 1<<20)
	n := testing.AllocsPerRun(20, func() {
		dst = dst[:0]
		for i, rec := range records {
			switch samples[i].head.Kind {
			case event.RowBook:
				dst, _ = AppendBook(dst, inst, rec)
			case event.RowTop:
				dst, _ = AppendTop(dst, inst, rec)
			case event.RowQuote:
				dst, _ = AppendQuote(dst, inst, rec)
			case event.RowTrade:
				dst, _ = AppendTrade(dst, inst, rec)
			case event.RowDepth:
				dst, _ = AppendDepth(dst, inst, rec)
			}
		}
	})
	if n != 0 || len(dst) == 0 {
		t.Errorf("%v allocations and %d bytes", n, len(dst))
	}
}
