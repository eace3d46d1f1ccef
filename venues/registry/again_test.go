package registry

import (
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/venues"
)

// TestAgain: what was refused is asked for again, all of it and nothing else, and
// nothing is ended.
func TestAgain(t *testing.T) {
	for _, name := range Names() {
		v, _ := ByName(name)
		sub := venues.Subscription{Quotes: v.Rules().QuoteStream, Depth: v.Rules().Depth}
		for asked := venues.Streams(1); asked <= sub.All(); asked++ {
			if asked&^sub.All() != 0 {
				continue
			}
			var got venues.Streams
			for _, c := range v.Again(event.Instrument{Symbol: "BTC-USDT"}, 3, asked, sub, 41) {
				if c.Inst != 3 || c.Acks != 1 || c.Streams&got != 0 || strings.Contains(strings.ToLower(c.Text), "unsub") {
					t.Errorf("%s, streams %b: %+v", name, asked, c)
				}
				got |= c.Streams
			}
			if got != asked {
				t.Errorf("%s: streams %b are asked for, want %b", name, got, asked)
			}
		}
	}
}
