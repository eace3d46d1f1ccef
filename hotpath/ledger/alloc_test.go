//go:build !race

package ledger

import (
	"testing"

	"deeptape/hotpath/event"
)

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
		r.Feed().Derive(event.TableBookDelta, 7, false)
		r.Feed().Publish()
		r.Deliver().Take(event.TableBookDelta, 7, false)
		r.Deliver().Ack(event.TableBookDelta, 6, 1)
		r.Deliver().Publish()
		h.Record(12345)
		h.Record(-7)
		h.Publish()
		h.Read(&s)
		s.Quantile(0.99)
		if f.Read().Difference() != 0 || r.Read()[event.TableBookDelta].Difference() != 0 {
			t.Error("a difference")
		}
	}); n != 0 {
		t.Errorf("%v allocations per run", n)
	}
}
