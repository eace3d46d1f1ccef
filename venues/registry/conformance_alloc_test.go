//go:build !race

package registry

import "testing"

// Once its buffers have grown, decoding allocates nothing, whatever the venue.
func TestConformanceAllocations(t *testing.T) {
	eachVenue(t, func(t *testing.T, rec *recorded) {
		r := rec.reader()
		lines := rec.lines[:min(len(rec.lines), 20_000)]
		play := func() {
			for _, line := range lines {
				if !line.rest {
					r.dec.Decode(line.text, &r.batch)
				}
			}
		}
		for _, line := range lines { // finds the scales
			r.read(line)
		}
		play()
		if n := testing.AllocsPerRun(1, play); n != 0 {
			t.Errorf("%v allocations in %d frames, want 0", n, len(lines))
		}
	})
}
