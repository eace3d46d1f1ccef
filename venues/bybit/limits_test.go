package bybit

import (
	"testing"

	"deeptape/venues/venuetest"
)

// TestBybitLimits: the limits that the venue's sheet tells.
func TestBybitLimits(t *testing.T) {
	r := Spot.Rules()
	venuetest.CheckLimits(t, []venuetest.Limit{
		{Sheet: "500 new connections in 5 minutes, of a domain", Got: venuetest.Connects(r), Want: "500 in 300 s"},
		{Sheet: "at most 10 arguments in a request (spot)", Got: r.LongestCommandStreams, Want: 10},
		{Sheet: "600 requests in 5 s from an address", Got: r.RestWeightPerMinute, Want: 7200},
		{Sheet: "messages a second (?)", Got: venuetest.Commands(r), Want: "10 a second on a connection"},
		{Sheet: "a ping every 20 s", Got: r.PingEveryNs, Want: int64(20e9)},
		{Sheet: "the same domain as spot", Got: venuetest.Connects(Linear.Rules()), Want: venuetest.Connects(r)},
	})
}

func TestBybitAgain(t *testing.T) {
	venuetest.CheckAgain(t, Spot, "BTCUSDT", `{"req_id":"41","op":"subscribe","args":["publicTrade.BTCUSDT"]}`, 41)
}

// TestBybitLongest: the longest messages by the venue's sheet.
func TestBybitLongest(t *testing.T) {
	venuetest.CheckLongest(t, Spot, `{"topic":"orderbook.200.AAA","type":"snapshot","ts":1,"data":{"s":"AAA","b":`+venuetest.ListOf(1000, `["78715.12","1234567.271882"]`)+`,"a":`+venuetest.ListOf(1000, `["78715.12","1234567.271882"]`)+`,"u":1,"seq":2},"cts":1}`, false)
	venuetest.CheckLongest(t, Linear, `{"topic":"publicTrade.AAA","type":"snapshot","ts":1,"data":`+
		venuetest.ListOf(1024, `{"T":1787612486107,"s":"AAA","S":"Buy","v":"1234567.271882","p":"78715.12","L":"PlusTick","i":"2e5f7a59-1b34-5a8c-a8b7-3e7d1c2f9b10","BT":false,"RPI":false,"seq":113099229623}`)+`}`, false)
}

func TestBybitScannerLimits(t *testing.T) {
	venuetest.CheckScannerLimits(t, Spot, []venuetest.ScannerLimit{
		{Head: `{"topic":"orderbook.50.A","ts":1,"type":"delta","data":{"s":"A","b":[`, Element: `["1.5","2"]`, Tail: `],"a":[],"u":2,"seq":3},"cts":1}`, Fits: 43_000, TooMany: 44_000},
		{Head: `{"topic":"publicTrade.A","ts":1,"type":"snapshot","data":[`, Element: `{"i":"7","T":1,"p":"1.5","v":"2","S":"Sell","s":"A","BT":false}`, Tail: `]}`, Fits: 16_000, TooMany: 17_000},
	})
}
