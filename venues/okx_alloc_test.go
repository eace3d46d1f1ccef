//go:build !race

package venues

import (
	"testing"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
)

// noAllocations: once its buffers have grown, decoding allocates nothing, whatever the
// frame, taken or not.
func noAllocations(t *testing.T, name string, v Venue, inst event.Instrument, taken, refused [][]byte) {
	t.Helper()
	dec := v.NewDecoder([]event.Instrument{inst})
	var b Batch
	play := func() {
		for _, frame := range taken {
			if reason := dec.Decode(frame, &b); reason != ledger.Accepted {
				t.Fatalf("%s: %v: %.200s", name, reason, frame)
			}
		}
		for _, frame := range refused {
			if reason := dec.Decode(frame, &b); reason == ledger.Accepted {
				t.Fatalf("%s is taken: %.200s", name, frame)
			}
		}
	}
	play()
	if n := testing.AllocsPerRun(1, play); n != 0 {
		t.Errorf("%s: %v allocations in %d frames, want 0", name, n, len(taken)+len(refused))
	}
}

func bytesOf(texts ...string) (out [][]byte) {
	for _, s := range texts {
		out = append(out, []byte(s))
	}
	return out
}

func TestOKXAllocations(t *testing.T) {
	inst := event.Instrument{Symbol: "BTC-USDT", PxScale: 8, QtyScale: 8}
	for _, rec := range okxRecordings {
		noAllocations(t, rec.name, okx{}, inst, captureLines(t, rec.name), nil)
	}
	noAllocations(t, "shapes", okx{}, inst,
		bytesOf(okxUpdate, okxTrade, okxQuote, `pong`, `{"id":"1512","event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"32f4414f"}`,
			`{"id":"1512","event":"error","code":"60018","msg":"Subscribe failed","connId":"a"}`, `{"event":"notice","code":"64008","msg":"soon"}`),
		bytesOf(`{"event":"an event with a name of more than thirty-two letters"}`, `{"arg":{"channel":"a channel with a name of more than thirty-two letters","instId":"BTC-USDT"},"data":[]}`,
			`{"arg":{"channel":"books","instId":"A-SYMBOL-WITH-A-NAME-OF-MORE-THAN-THIRTY-TWO-LETTERS"},"data":[]}`,
			`{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"an action with a name of more than thirty-two letters","data":[]}`))

	var sides [2][]book.Level
	for i := range 25 {
		sides[0] = append(sides[0], book.Level{Px: 1e18 - int64(i), Qty: 1e18 + int64(i)})
		sides[1] = append(sides[1], book.Level{Px: 1e18 + int64(i), Qty: 1e18 - int64(i)})
	}
	for _, scratch := range [][]byte{make([]byte, 64), make([]byte, 4096)} {
		if n := testing.AllocsPerRun(10, func() { okx{}.Checksum(sides[0], sides[1], 9, 18, scratch) }); n != 0 {
			t.Errorf("checksum: %v allocations with %d bytes of scratch", n, len(scratch))
		}
	}
}
