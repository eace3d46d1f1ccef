//go:build !race

package binance

import (
	"testing"

	"deeptape/hotpath/ledger"
	"deeptape/venues"
	"deeptape/venues/venuetest"
)

// Once its buffers have grown, decoding allocates nothing, whatever the frame.
func TestBinanceAllocations(t *testing.T) {
	for _, rec := range recordings {
		lines := venuetest.CaptureLines(t, rec.name)
		dec, _ := venuetest.DecoderAt(Venue{}, 8, 8, rec.symbols...)
		var b venues.Batch
		taken := 0
		play := func() {
			taken = 0
			for _, line := range lines {
				if dec.Decode(line, &b) == ledger.Accepted || dec.DecodeSnapshot(0, line, &b) == ledger.Accepted {
					taken++
				}
			}
		}
		play()
		if taken != len(lines)-rec.other {
			t.Errorf("%s: %d of %d taken", rec.name, taken, len(lines))
		}
		if n := testing.AllocsPerRun(1, play); n != 0 {
			t.Errorf("%s: %v allocations in %d frames, want 0", rec.name, n, len(lines))
		}
	}
}
