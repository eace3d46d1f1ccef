//go:build !race

package kraken

import (
	"testing"

	"deeptape/hotpath/book"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
	"deeptape/venues/venuetest"
)

// Once its buffers have grown, decoding allocates nothing, and neither does a checksum.
func TestKrakenAllocations(t *testing.T) {
	for _, rec := range recordings {
		lines := append(venuetest.CaptureLines(t, rec.name), []byte(tradeFrame),
			[]byte(`{"method":"subscribe","result":{"channel":"book","symbol":"BTC/USD","warnings":["x"]},"success":true,"req_id":4}`),
			[]byte(`{"channel":"trade","type":"snapshot","data":[{"symbol":"BTC/USD","side":"buy","price":7.5,"qty":1,"trade_id":5,"timestamp":"2026-08-24T22:21:58Z"},{"symbol":"BTC/USD","side":"buy","price":7.5,"qty":1,"trade_id":4,"timestamp":"2026-08-24T22:21:58Z"}]}`))
		dec, _ := venuetest.DecoderAt(Venue{}, 8, 8, append(rec.symbols, "BTC/USD")...)
		levels := make([]book.Level, 10)
		for i := range levels {
			levels[i] = book.Level{Px: 1e18, Qty: 1e18}
		}
		scratch := make([]byte, 64)
		var b venues.Batch
		play := func() {
			for _, line := range lines {
				if reason := dec.Decode(line, &b); reason != ledger.Accepted {
					t.Fatalf("%v: %.200s", reason, line)
				}
			}
			Venue{}.Checksum(levels, levels, 8, 8, scratch)
		}
		play()
		if n := testing.AllocsPerRun(5, play); n != 0 { // the runtime may allocate now and then
			t.Errorf("%s: %v allocations in %d frames, want 0", rec.name, n, len(lines))
		}
	}
}
