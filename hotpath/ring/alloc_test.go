//go:build !race

package ring

import (
	"testing"
	"time"
)

func TestNoAllocations(t *testing.T) {
	d := NewDoorbell()
	r := New(4096, d)
	big := make([]byte, 2000)
	if n := testing.AllocsPerRun(1000, func() {
		r.Claim(100)
		r.Claim(1000)
		r.Abort()
		r.Claim(64)
		r.ClaimOwned(big)
		d.Prepare()
		r.Commit()
		d.Wait(time.Minute)
		for r.Peek() != nil {
			r.Release()
		}
		d.Prepare()
		d.Wait(time.Microsecond)
	}); n != 0 {
		t.Errorf("%v allocations per run", n)
	}
}
