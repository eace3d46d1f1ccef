package venuetest

import (
	"reflect"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/venues"
)

// CheckAgain holds Again to the text that subscribes to the trades of a symbol, place 3
// of its connection, and to the id that the answer bears where 41 is the next one.
func CheckAgain(t *testing.T, v venues.Venue, symbol, text string, id int64) {
	t.Helper()
	trades := venues.StreamsOf(event.StreamTrades)
	got := v.Again(event.Instrument{Symbol: symbol}, 3, trades, venues.Subscription{Quotes: true, Depth: 10}, 41)
	if want := []venues.Command{{ID: id, Text: text, Acks: 1, Inst: 3, Streams: trades, Several: [2]int{}}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}
