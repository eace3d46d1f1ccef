package registry

import (
	"math"
	"strings"
	"testing"

	"deeptape/venues/binance"
)

func TestByName(t *testing.T) {
	for _, name := range []string{"binance", "Binance", "BINANCE"} {
		if v, err := ByName(name); err != nil || v.Rules().Name != "binance" {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := ByName("binanse"); err == nil || !strings.Contains(err.Error(), "binance") {
		t.Errorf("an unknown name: %v", err)
	}
	if r := (binance.Venue{}).Rules(); r.SilenceNs < 3*105e8*95/100 || r.SilenceNs > math.MaxInt64/2 { // three times the longest healthy silence, 10.5 s
		t.Errorf("SilenceNs %d", r.SilenceNs)
	}
}
