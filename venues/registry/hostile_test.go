package registry

import (
	"runtime"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/venues"
)

// hostile texts, each as a whole of many parts.
var hostile = map[string][3]string{
	"numbers":        {`{"data":[`, `0,`, `0]}`},
	"texts":          {`{"data":[`, `"",`, `0]}`},
	"empty lists":    {`{"data":[`, `[],`, `0]}`},
	"empty objects":  {`{"data":[`, `{},`, `0]}`},
	"deep lists":     {`{"data":[`, strings.Repeat("[", 290) + strings.Repeat("]", 290) + ",", `0]}`},
	"deep objects":   {`{"data":[`, strings.Repeat(`{"":`, 290) + "0" + strings.Repeat("}", 290) + ",", `0]}`},
	"small objects":  {`{"data":[`, `{"":0},`, `0]}`},
	"members":        {`{`, `"":0,`, `"":0}`},
	"same members":   {`{"e":0,`, `"data":{"e":"depthUpdate"},`, `"u":0}`},
	"no end":         {`{"data":[`, `[`, ``},
	"one long text":  {`{"data":"`, `x`, `"}`},
	"escapes":        {`{"data":"`, `\n`, `"}`},
	"updates":        {`{"channel":"l2_data","sequence_num":1,"events":[{"type":"update","product_id":"AAA-USD",`, `"updates":[],`, `"x":0}]}`},
	"empty levels":   {`{"channel":"l2_data","sequence_num":1,"events":[{"type":"update","product_id":"AAA-USD","updates":[`, `{},`, `{}]}]}`},
	"updates in one": {`{"channel":"l2_data","sequence_num":1,"events":[{"type":"update","product_id":"AAA-USD","updates":[[`, `0,`, `0]]}]}`},
}

func (h hostileText) of(bytes int) []byte {
	return []byte(h[0] + strings.Repeat(h[1], (bytes-len(h[0])-len(h[2]))/len(h[1])) + h[2])
}

type hostileText [3]string

// allocated by f, bytes.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// The longest message that a venue's limit lets through takes no decoder more than the
// bound that parser tells, whatever is in it; and afterwards it lets go of it.
func TestHostileMessages(t *testing.T) {
	const valuesMax = 128 << 10 // that the parser takes of one message
	for _, name := range Names() {
		v, _ := ByName(name)
		insts := []event.Instrument{{Venue: name, Symbol: "AAA-USD"}}
		most := uint64(0)
		for what, h := range hostile {
			limit := v.Rules().MessageBytesMax
			// As long as it may be, and with as many values.
			part := len(h[1]) * valuesMax / (strings.Count(h[1], ",") + strings.Count(h[1], "[") + strings.Count(h[1], "{") + 2)
			for _, text := range [][]byte{hostileText(h).of(limit), hostileText(h).of(min(limit, part))} {
				dec := v.NewDecoder(insts)
				var b venues.Batch
				took := allocated(func() { dec.Decode(text, &b) })
				took += allocated(func() { dec.DecodeSnapshot(0, text, &b) })
				most = max(most, took)
				if len(b.Levels) > 0 || took > 2*valuesMax*540+3*uint64(len(text)) {
					t.Errorf("%s: %s: %d MB for %d bytes", name, what, took/1e6, len(text))
				}
				if took := allocated(func() { dec.Decode([]byte(`{"a":1}`), &b) }); took > 1<<20 {
					t.Errorf("%s: %s: the message after it takes %d bytes", name, what, took)
				}
			}
		}
		t.Logf("%s: at most %d MB for messages of %d bytes", name, most/1e6, v.Rules().MessageBytesMax)
	}
}
