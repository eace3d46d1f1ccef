//go:build !race

package coinbase

import (
	"testing"

	"deeptape/hotpath/ledger"
	"deeptape/venues"
	"deeptape/venues/venuetest"
)

// Once its buffers have grown, decoding allocates nothing, whole books included.
func TestCoinbaseAllocations(t *testing.T) {
	for _, rec := range recordings {
		lines := append(venuetest.CaptureLines(t, rec.name), fullSnapshot(), enlarged([]byte(updateFrame)),
			[]byte(`{"channel":"heartbeats","sequence_num":17,"events":[{"current_time":"x","heartbeat_counter":3049}]}`),
			[]byte(`{"type":"error","message":"failure to subscribe"}`))
		dec, _ := venuetest.DecoderAt(Venue{}, 8, 8, append(rec.symbols, "BTC-USD")...)
		var b venues.Batch
		play := func() {
			for _, line := range lines {
				if reason := dec.Decode(line, &b); reason != ledger.Accepted {
					t.Fatalf("%v: %.200s", reason, line)
				}
			}
		}
		play()
		if n := testing.AllocsPerRun(5, play); n != 0 { // the runtime may allocate now and then
			t.Errorf("%s: %v allocations in %d frames, want 0", rec.name, n, len(lines))
		}
	}
}
