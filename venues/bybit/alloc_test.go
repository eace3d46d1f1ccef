//go:build !race

package bybit

import (
	"testing"

	"deeptape/hotpath/event"
	"deeptape/venues/venuetest"
)

func TestBybitAllocations(t *testing.T) {
	inst := event.Instrument{Symbol: "BTCUSDT", PxScale: 8, QtyScale: 8}
	for _, rec := range recordings {
		venuetest.NoAllocations(t, rec.name, rec.venue, inst, venuetest.CaptureLines(t, rec.name), nil)
	}
	venuetest.NoAllocations(t, "shapes", Spot, inst,
		venuetest.BytesOf(deltaFrame, tradeFrame, quoteFrame, `{"success":true,"ret_msg":"subscribe","conn_id":"d9avrao7pl3bpiuoku0g-7tmms","req_id":"7","op":"subscribe"}`,
			`{"success":false,"ret_msg":"error:handler not found,topic:orderbook.500.BTCUSDT","conn_id":"a","req_id":"7","op":"subscribe"}`,
			`{"success":true,"ret_msg":"pong","conn_id":"a","op":"ping"}`, `{"success":true,"conn_id":"a","data":{"failTopics":["b","c"],"successTopics":[]},"type":"COMMAND_RESP"}`),
		venuetest.BytesOf(`{"topic":"a topic with a name of more than thirty-two letters"}`, `{"topic":"orderbook.50.ASYMBOLWITHANAMEOFMORETHANTHIRTYTWOLETTERS","type":"delta"}`,
			`{"topic":"publicTrade.ASYMBOLWITHANAMEOFMORETHANTHIRTYTWOLETTERS","type":"delta"}`, `{"topic":"orderbook.50.BTCUSDT","type":"a type with a name of more than thirty-two letters"}`,
			`{"success":true,"op":"an op with a name of more than thirty-two letters"}`))
}
