package kraken

import (
	"testing"

	"deeptape/venues/venuetest"
)

// TestKrakenLimits: the limits that the venue's sheet tells.
func TestKrakenLimits(t *testing.T) {
	r := Venue{}.Rules()
	venuetest.CheckLimits(t, []venuetest.Limit{
		{Sheet: "150 connection attempts in 10 minutes from an address (?)", Got: venuetest.Connects(r), Want: "150 in 600 s"},
		{Sheet: "messages (?): there is a limit, which depends on the load", Got: venuetest.Commands(r), Want: "2 a second on a connection"},
		{Sheet: "1 public request a second from an address (?)", Got: r.RestWeightPerMinute, Want: 60},
		{Sheet: "symbols on a connection: no limit that is fixed", Got: r.InstrumentsPerConn, Want: 25},
	})
}

func TestKrakenAgain(t *testing.T) {
	venuetest.CheckAgain(t, Venue{}, "BTC/USD", `{"method":"subscribe","params":{"channel":"trade","snapshot":false,"symbol":["BTC/USD"]},"req_id":41}`, 41)
}

// TestKrakenLongest: the longest messages by the venue's sheet.
func TestKrakenLongest(t *testing.T) {
	venuetest.CheckLongest(t, Venue{}, `{"channel":"book","type":"snapshot","data":[{"symbol":"AAA","bids":`+venuetest.ListOf(1000, `{"price":1234578871.51234567,"qty":1234567890.01266503}`)+`,"asks":`+
		venuetest.ListOf(1000, `{"price":1234578871.51234567,"qty":1234567890.01266503}`)+`,"checksum":1406471562,"timestamp":"2026-08-24T22:21:57.110183Z"}]}`, false)
}

func TestKrakenScannerLimits(t *testing.T) {
	venuetest.CheckScannerLimits(t, Venue{}, []venuetest.ScannerLimit{
		{Head: `{"channel":"book","type":"update","data":[{"symbol":"A","bids":[`, Element: `{"price":1.5,"qty":2}`, Tail: `],"asks":[],"checksum":1}]}`, Fits: 43_000, TooMany: 44_000},
		{Head: `{"channel":"trade","type":"update","data":[`, Element: `{"symbol":"A","side":"buy","price":1.5,"qty":2,"ord_type":"limit","trade_id":7,"timestamp":"2026-08-24T22:21:57Z"}`, Tail: `]}`, Fits: 16_000, TooMany: 17_000},
	})
}
