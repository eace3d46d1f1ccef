//go:build !race

package ledger

import "testing"

func TestNoAllocations(t *testing.T) {
	var f Frames
	var r Rows
	var h Histogram
	var s Snapshot
	if n := testing.AllocsPerRun(1000, func() {
		f.Add(Received, 2)
		f.Add(Applied, 1)
		f.Reject(Malformed)
		f.Publish()
		r.Feed().Derive(BookDelta, 7, false)
		r.Feed().Publish()
		r.Deliver().Take(BookDelta, 7, false)
		r.Deliver().Ack(BookDelta, 6, 1)
		r.Deliver().Publish()
		h.Record(12345)
		h.Record(-7)
		h.Publish()
		h.Read(&s)
		s.Quantile(0.99)
		if f.Read().Difference() != 0 || r.Read()[BookDelta].Difference() != 0 {
			t.Error("a difference")
		}
	}); n != 0 {
		t.Errorf("%v allocations per run", n)
	}
}
