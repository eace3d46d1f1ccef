//go:build !race

package okx

import (
	"testing"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
	"deeptape/venues/venuetest"
)

func TestOKXAllocations(t *testing.T) {
	inst := event.Instrument{Symbol: "BTC-USDT", PxScale: 8, QtyScale: 8}
	for _, rec := range recordings {
		venuetest.NoAllocations(t, rec.name, Venue{}, inst, venuetest.CaptureLines(t, rec.name), nil)
	}
	venuetest.NoAllocations(t, "shapes", Venue{}, inst,
		venuetest.BytesOf(updateFrame, tradeFrame, quoteFrame, `pong`, `{"id":"1512","event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"32f4414f"}`,
			`{"id":"1512","event":"error","code":"60018","msg":"Subscribe failed","connId":"a"}`, `{"event":"notice","code":"64008","msg":"soon"}`),
		venuetest.BytesOf(`{"event":"an event with a name of more than thirty-two letters"}`, `{"arg":{"channel":"a channel with a name of more than thirty-two letters","instId":"BTC-USDT"},"data":[]}`,
			`{"arg":{"channel":"books","instId":"A-SYMBOL-WITH-A-NAME-OF-MORE-THAN-THIRTY-TWO-LETTERS"},"data":[]}`,
			`{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"an action with a name of more than thirty-two letters","data":[]}`))

	var sides [2][]book.Level
	for i := range 25 {
		sides[0] = append(sides[0], book.Level{Px: 1e18 - int64(i), Qty: 1e18 + int64(i)})
		sides[1] = append(sides[1], book.Level{Px: 1e18 + int64(i), Qty: 1e18 - int64(i)})
	}
	for _, scratch := range [][]byte{make([]byte, 64), make([]byte, 4096)} {
		if n := testing.AllocsPerRun(10, func() { Venue{}.Checksum(sides[0], sides[1], 9, 18, scratch) }); n != 0 {
			t.Errorf("checksum: %v allocations with %d bytes of scratch", n, len(scratch))
		}
	}
}
