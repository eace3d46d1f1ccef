package venuetest

import (
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
)

// ListOf is a JSON list of n times the same element.
func ListOf(n int, element string) string {
	return "[" + strings.Repeat(element+",", n-1) + element + "]"
}

// CheckLongest decodes the longest message of a venue by its sheet, of the symbol AAA: it is
// taken, and fills a quarter at most of the room that the Rules give. rest says that it is
// the body of a REST answer.
func CheckLongest(t *testing.T, v venues.Venue, text string, rest bool) {
	t.Helper()
	room := v.Rules().MessageBytesMax
	dec := v.NewDecoder([]event.Instrument{{Venue: v.Rules().Name, Symbol: "AAA", PxScale: 8, QtyScale: 8}})
	var b venues.Batch
	reason := dec.Decode([]byte(text), &b)
	if rest {
		room = v.Rules().AnswerBytesMax
		reason = dec.DecodeSnapshot(0, []byte(text), &b)
	}
	if reason != ledger.Accepted || len(b.Messages) == 0 || room < 4*len(text) {
		t.Errorf("%d bytes, room for %d, %d messages, reason %v", len(text), room, len(b.Messages), ledger.Entries[reason].Reason)
	}
}
