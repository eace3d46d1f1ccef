package agent

import (
	"math"
	"strings"
	"testing"

	"deeptape/cmd/config"
	"deeptape/hotpath/event"
	"deeptape/venues/feed"
)

// A limit below what the rings alone hold is told and raised; one that is enough, or none,
// is left alone.
func TestMemoryLimit(t *testing.T) {
	a := &Agent{feeds: []feed.Config{{Instruments: make([]event.Instrument, 3)}, {Instruments: make([]event.Instrument, 2)}}}
	const need = 2*(2+64) + 5 + 48 // MiB
	for _, c := range []struct {
		rings config.Rings
		limit int64
		want  int64 // the limit then
		words []string
	}{
		{config.Rings{}, 64 << 20, need << 20, []string{"GOMEMLIMIT is 64 MiB", "some 185 MiB", "132 MiB of rings", "5 books"}},
		{config.Rings{}, need << 20, need << 20, nil},
		{config.Rings{}, math.MaxInt64, math.MaxInt64, nil},
		{config.Rings{Inputs: 1 << 20, Rows: 4 << 20}, 64 << 20, 64 << 20, nil},
	} {
		a.cfg.Rings = c.rings
		limit := c.limit
		said := a.withinMemory(func(to int64) int64 {
			old := limit
			if to >= 0 {
				limit = to
			}
			return old
		})
		if limit != c.want || (said == "") != (c.words == nil) {
			t.Errorf("limit %d MiB: %d MiB then, want %d; %q", c.limit>>20, limit>>20, c.want>>20, said)
		}
		for _, w := range c.words {
			if !strings.Contains(said, w) {
				t.Errorf("limit %d MiB: it does not say %q: %s", c.limit>>20, w, said)
			}
		}
	}
}
