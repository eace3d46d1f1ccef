package registry

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/venues"
)

// A connection that is as full as an agent makes it is within its venue's limits of
// streams, of arguments and of their text, and may subscribe without using up its hour.
func TestFullConnection(t *testing.T) {
	for _, name := range Names() {
		v, _ := ByName(name)
		r := v.Rules()
		n := min(50, r.InstrumentsPerConn)
		if n == 0 {
			n = 50
		}
		var insts []event.Instrument
		for i := range n {
			insts = append(insts, event.Instrument{Venue: name, Symbol: fmt.Sprintf("1000000LONG%02d-USDT-SWAP", i)})
		}
		streams := 2
		if r.QuoteStream {
			streams = 3
		}
		if n*streams > r.StreamsPerConn {
			t.Errorf("%s: %d streams, and %d are allowed", name, n*streams, r.StreamsPerConn)
		}
		commands, text := v.Subscribe(insts, venues.Subscription{Quotes: true, Depth: 1000}), 0
		for _, c := range commands {
			text += len(c.Text)
			var command struct {
				Args []any `json:"args"`
			}
			if err := json.Unmarshal([]byte(c.Text), &command); err != nil || len(command.Args) > 10 {
				t.Errorf("%s: %d arguments in %s (%v)", name, len(command.Args), c.Text, err)
			}
		}
		if r.SubscriptionBytesMax > 0 && text > r.SubscriptionBytesMax {
			t.Errorf("%s: %d characters, and %d are allowed", name, text, r.SubscriptionBytesMax)
		}
		if r.CommandsPerHour > 0 && 3*len(commands) > r.CommandsPerHour {
			t.Errorf("%s: %d commands leave nothing of %d an hour for resubscriptions", name, len(commands), r.CommandsPerHour)
		}
	}
}

// TestGroups: no symbol is left out of the requests for instruments, and none is in two.
func TestGroups(t *testing.T) {
	symbols := []string{"BTC-USDT", "BTC-USDT-SWAP", "ETH-USDT", "BTC-USD-261225", "ETH-USDT-SWAP"}
	for _, name := range Names() {
		v, _ := ByName(name)
		got := slices.Concat(venues.Groups(v, symbols)...)
		slices.Sort(got)
		want := slices.Sorted(slices.Values(symbols))
		if !slices.Equal(got, want) {
			t.Errorf("%s: %s", name, got)
		}
	}
}
