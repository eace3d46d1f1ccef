package feed

import (
	"strings"
	"testing"

	"deeptape/hotpath/event"
)

// A resubscription that the venue's limits hold back is not asked for again and again:
// its book is a gap that says what it waits for, and comes back once the command is out.
func TestSubscriptionThatWaits(t *testing.T) {
	for _, name := range marketNames {
		k := liveMarket(t, name)
		k.sends = false
		k.loss(1) // both books resync
		if n := len(k.sent); n < 4 {
			t.Fatalf("%s: %q", name, k.sent)
		}
		sent := k.sent
		k.ticks(400)
		again := 0
		for _, text := range k.sent[len(sent):] {
			if strings.Contains(text, "subscribe") {
				again++
			}
		}
		if again > 0 {
			t.Errorf("%s: %d commands more while %d wait", name, again, len(sent))
		}
		k.noted("its subscription waits for the venue's limit of commands")
		list := k.cover(0, event.StreamBook)
		if gap := list[len(list)-1]; gap.State != event.StateGap || gap.Cause != event.CauseBackpressure || gap.TsEnd < k.now || !strings.Contains(string(k.m.insts[0].streams[event.StreamBook].detail), "waits for the venue's limit") {
			t.Errorf("%s: the gap is %+v", name, gap)
		}
		for _, text := range sent {
			k.step(event.InputCommand, 0, []byte(text))
		}
		k.sends = true
		k.obey()
		k.recover()
		k.finish()
	}
}
