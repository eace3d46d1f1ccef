package coinbase

import (
	"testing"

	"deeptape/venues/venuetest"
)

// TestCoinbaseLimits: the limits that the venue's sheet tells.
func TestCoinbaseLimits(t *testing.T) {
	r := Venue{}.Rules()
	venuetest.CheckLimits(t, []venuetest.Limit{
		{Sheet: "8 new connections a second from an address", Got: venuetest.Connects(r), Want: "8 in 1 s"},
		{Sheet: "8 messages a second without a key, for an address", Got: venuetest.Commands(r), Want: "8 a second for the address"},
		{Sheet: "10 public requests a second from an address", Got: r.RestWeightPerMinute, Want: 600},
		{Sheet: "products on a connection (?): few, because one lost frame condemns all", Got: r.InstrumentsPerConn, Want: 4},
	})
}

func TestCoinbaseAgain(t *testing.T) {
	venuetest.CheckAgain(t, Venue{}, "BTC-USD", `{"type":"subscribe","product_ids":["BTC-USD"],"channel":"market_trades"}`, 9)
}

// TestCoinbaseLongest: the longest messages by the venue's sheet.
func TestCoinbaseLongest(t *testing.T) {
	venuetest.CheckLongest(t, Venue{}, `{"channel":"l2_data","client_id":"","timestamp":"2026-08-24T22:34:13.793075885Z","sequence_num":0,"events":[{"type":"snapshot","product_id":"AAA","updates":`+
		venuetest.ListOf(44_067, `{"side":"bid","event_time":"2026-08-24T22:34:13.483122Z","price_level":"78856.05","new_quantity":"0.0476177"}`)+`}]}`, false)
}

func TestCoinbaseScannerLimits(t *testing.T) {
	venuetest.CheckScannerLimits(t, Venue{}, []venuetest.ScannerLimit{
		{Head: `{"channel":"l2_data","timestamp":"","sequence_num":1,"events":[{"type":"update","product_id":"A","updates":[`, Element: `{"side":"bid","event_time":"2026-08-24T22:34:13Z","price_level":"1.5","new_quantity":"2"}`, Tail: `]}]}`, Fits: 50_000, TooMany: 0},
		{Head: `{"channel":"market_trades","timestamp":"","sequence_num":1,"events":[{"type":"update","trades":[`, Element: `{"product_id":"A","trade_id":"7","price":"1.5","size":"2","time":"2026-08-24T22:34:13Z","side":"BUY"}`, Tail: `]}]}`, Fits: 10_000, TooMany: 10_500},
		{Head: `{"channel":"l2_data","timestamp":"","sequence_num":1,"events":[`, Element: `{"type":"update","product_id":"A","updates":[]}`, Tail: `]}`, Fits: 100, TooMany: 0},
	})
}
