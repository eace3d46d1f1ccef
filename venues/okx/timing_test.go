package okx

import (
	"testing"

	"deeptape/hotpath/book"
	"deeptape/venues/venuetest"
)

func BenchmarkOKX(b *testing.B) { venuetest.BenchRecording(b, Venue{}, "BTC-USDT", recordings[0].name) }

func BenchmarkOKXChecksum(b *testing.B) {
	var bids, asks []book.Level
	for i := range 25 {
		bids = append(bids, book.Level{Px: 677612 - int64(i), Qty: 37846322 + int64(i)})
		asks = append(asks, book.Level{Px: 677613 + int64(i), Qty: 37846322 + int64(i)})
	}
	scratch := make([]byte, 4096)
	for b.Loop() {
		Venue{}.Checksum(bids, asks, 1, 8, scratch)
	}
}
