package venues

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
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
	for _, name := range Names() {
		v, _ := ByName(name)
		insts := []event.Instrument{{Venue: name, Symbol: "AAA-USD"}}
		most := uint64(0)
		for what, h := range hostile {
			limit := v.Rules().MessageBytesMax
			// As long as it may be, and with as many values.
			part := len(h[1]) * mostValues / (values([]byte(h[1])) - 1 + 2)
			for _, text := range [][]byte{hostileText(h).of(limit), hostileText(h).of(min(limit, part))} {
				dec := v.NewDecoder(insts)
				var b Batch
				took := allocated(func() { dec.Decode(text, &b) })
				took += allocated(func() { dec.DecodeSnapshot(0, text, &b) })
				most = max(most, took)
				if len(b.Levels) > 0 || took > 2*mostValues*540+3*uint64(len(text)) {
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

// A text that is refused has too many values in truth, or commas in its texts.
func TestValues(t *testing.T) {
	var count func(v any) int
	count = func(v any) (n int) {
		switch x := v.(type) {
		case []any:
			for _, e := range x {
				n += count(e)
			}
		case map[string]any:
			for _, e := range x {
				n += count(e)
			}
		}
		return n + 1
	}
	for _, text := range []string{`0`, `[]`, `{}`, `[[],{}]`, `{"a":{"b":[1,"2",null,true,[[]]]},"c":[{},{}]}`, `[1,[2,[3,[4]]],{"a":{"b":{}}}]`} {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		if got, want := values([]byte(text)), count(v); got < want || got > want+strings.Count(text, "[")+strings.Count(text, "{") {
			t.Errorf("%s: %d values, want %d", text, got, want)
		}
	}
}

// The longest message of each venue by its sheet is taken, and has four times its room.
func TestLongestMessages(t *testing.T) {
	list := func(n int, element string) string { return "[" + strings.Repeat(element+",", n-1) + element + "]" }
	for _, c := range []struct {
		venue, text string
		rest        bool
	}{
		{"binance", `{"lastUpdateId":5,"bids":` + list(5000, `["61685.99000000","12345.25869000"]`) + `,"asks":` + list(5000, `["61685.99000000","12345.25869000"]`) + `}`, true},
		{"binance", `{"e":"depthUpdate","E":1,"s":"AAA","U":5,"u":5,"b":` + list(5000, `["61685.99000000","12345.25869000"]`) + `,"a":` + list(5000, `["61685.99000000","12345.25869000"]`) + `}`, false},
		{"coinbase", `{"channel":"l2_data","client_id":"","timestamp":"2026-08-24T22:34:13.793075885Z","sequence_num":0,"events":[{"type":"snapshot","product_id":"AAA","updates":` +
			list(44_067, `{"side":"bid","event_time":"2026-08-24T22:34:13.483122Z","price_level":"78856.05","new_quantity":"0.0476177"}`) + `}]}`, false},
		{"kraken", `{"channel":"book","type":"snapshot","data":[{"symbol":"AAA","bids":` + list(1000, `{"price":1234578871.51234567,"qty":1234567890.01266503}`) + `,"asks":` +
			list(1000, `{"price":1234578871.51234567,"qty":1234567890.01266503}`) + `,"checksum":1406471562,"timestamp":"2026-08-24T22:21:57.110183Z"}]}`, false},
		{"okx", `{"arg":{"channel":"books","instId":"AAA"},"action":"snapshot","data":[{"asks":` + list(400, `["78722.3","1234567.38699412","0","10000"]`) + `,"bids":` +
			list(400, `["78722.3","1234567.38699412","0","10000"]`) + `,"ts":"1787612486107","checksum":0,"seqId":80274874800,"prevSeqId":-1}]}`, false},
		{"bybit", `{"topic":"orderbook.200.AAA","type":"snapshot","ts":1,"data":{"s":"AAA","b":` + list(1000, `["78715.12","1234567.271882"]`) + `,"a":` + list(1000, `["78715.12","1234567.271882"]`) + `,"u":1,"seq":2},"cts":1}`, false},
		{"bybit_linear", `{"topic":"publicTrade.AAA","type":"snapshot","ts":1,"data":` +
			list(1024, `{"T":1787612486107,"s":"AAA","S":"Buy","v":"1234567.271882","p":"78715.12","L":"PlusTick","i":"2e5f7a59-1b34-5a8c-a8b7-3e7d1c2f9b10","BT":false,"RPI":false,"seq":113099229623}`) + `}`, false},
	} {
		v, _ := ByName(c.venue)
		room := v.Rules().MessageBytesMax
		dec := v.NewDecoder([]event.Instrument{{Venue: c.venue, Symbol: "AAA", PxScale: 8, QtyScale: 8}})
		var b Batch
		reason := dec.Decode([]byte(c.text), &b)
		if c.rest {
			room = v.Rules().AnswerBytesMax
			reason = dec.DecodeSnapshot(0, []byte(c.text), &b)
		}
		if reason != ledger.Accepted || len(b.Messages) == 0 || room < 4*len(c.text) {
			t.Errorf("%s: %d bytes, room for %d, %d messages, reason %v", c.venue, len(c.text), room, len(b.Messages), ledger.Entries[reason].Reason)
		}
	}
}
