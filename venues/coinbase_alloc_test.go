//go:build !race

package venues

import (
	"testing"

	"deeptape/hotpath/ledger"
)

// Once its buffers have grown, decoding allocates nothing, whole books included.
func TestCoinbaseAllocations(t *testing.T) {
	for _, rec := range coinbaseRecordings {
		lines := append(captureLines(t, rec.name), coinbaseFullSnapshot(), enlarged([]byte(coinbaseUpdate)),
			[]byte(`{"channel":"heartbeats","sequence_num":17,"events":[{"current_time":"x","heartbeat_counter":3049}]}`),
			[]byte(`{"type":"error","message":"failure to subscribe"}`))
		dec, _ := decoderAt(coinbase{}, 8, 8, append(rec.symbols, "BTC-USD")...)
		var b Batch
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
