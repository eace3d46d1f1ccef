package bybit

import (
	"testing"

	"deeptape/venues/venuetest"
)

func BenchmarkBybit(b *testing.B) {
	venuetest.BenchRecording(b, Linear, "BTCUSDT", recordings[0].name)
}

func BenchmarkBybitTrades(b *testing.B) {
	venuetest.BenchRecording(b, Spot, "BTCUSDT", recordings[2].name)
}
