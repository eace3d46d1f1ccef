package venues

import "testing"

func BenchmarkBybit(b *testing.B) {
	benchRecording(b, bybit{&bybitLinear}, "BTCUSDT", bybitRecordings[0].name)
}

func BenchmarkBybitTrades(b *testing.B) {
	benchRecording(b, bybit{&bybitSpot}, "BTCUSDT", bybitRecordings[2].name)
}
