package venues

import (
	"testing"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
)

// benchRecording decodes a recording again and again.
func benchRecording(b *testing.B, v Venue, symbol, name string) {
	dec := v.NewDecoder([]event.Instrument{{Symbol: symbol, PxScale: 8, QtyScale: 8}})
	lines := captureLines(b, name)
	var batch Batch
	for _, line := range lines { // buffers grow
		dec.Decode(line, &batch)
	}
	bytes, frames, levels := 0, 0, 0
	for b.Loop() {
		for _, line := range lines {
			dec.Decode(line, &batch)
			frames++
			bytes += len(line)
			levels += len(batch.Levels)
		}
	}
	ns := float64(b.Elapsed().Nanoseconds())
	b.SetBytes(int64(bytes / b.N))
	b.ReportMetric(ns/float64(frames), "ns/frame")
	if levels > 0 {
		b.ReportMetric(ns/float64(levels), "ns/level")
	}
}

func BenchmarkOKX(b *testing.B) { benchRecording(b, okx{}, "BTC-USDT", okxRecordings[0].name) }

func BenchmarkOKXChecksum(b *testing.B) {
	var bids, asks []book.Level
	for i := range 25 {
		bids = append(bids, book.Level{Px: 677612 - int64(i), Qty: 37846322 + int64(i)})
		asks = append(asks, book.Level{Px: 677613 + int64(i), Qty: 37846322 + int64(i)})
	}
	scratch := make([]byte, 4096)
	for b.Loop() {
		okx{}.Checksum(bids, asks, 1, 8, scratch)
	}
}
