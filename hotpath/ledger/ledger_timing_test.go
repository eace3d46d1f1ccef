package ledger

import (
	"testing"

	"deeptape/hotpath/event"
)

// BenchmarkPublish is what a frame pays: two counters of frames and one of rows.
func BenchmarkPublish(b *testing.B) {
	b.Run("of=frames", func(b *testing.B) {
		var f Frames
		for range b.N {
			f.Add(Received, 1)
			f.Add(Applied, 1)
			f.Publish()
		}
	})
	b.Run("of=rows", func(b *testing.B) {
		var r Rows
		for range b.N {
			r.Feed().Derive(event.TableBookDelta, 3, false)
			r.Feed().Publish()
		}
	})
}

func BenchmarkRecord(b *testing.B) {
	var h Histogram
	for i := range b.N {
		h.Record(int64(i) & 0xffff * 37)
		if i%16 == 0 {
			h.Publish()
		}
	}
}
