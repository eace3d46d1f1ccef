package okx

import (
	"fmt"
	"testing"

	"deeptape/venues"
	"deeptape/venues/venuetest"
)

// TestOKXLimits: the limits that the venue's sheet tells.
func TestOKXLimits(t *testing.T) {
	r := Venue{}.Rules()
	venuetest.CheckLimits(t, []venuetest.Limit{
		{Sheet: "3 connection requests a second from an address", Got: venuetest.Connects(r), Want: "3 in 1 s"},
		{Sheet: "480 of subscribe, unsubscribe and login an hour on a connection", Got: r.CommandsPerHour, Want: 480},
		{Sheet: "messages a second (?)", Got: venuetest.Commands(r), Want: "10 a second on a connection"},
		{Sheet: "fewer than 30 channels of books on a connection", Got: r.InstrumentsPerConn, Want: 29},
		{Sheet: "a word at least every 30 s", Got: r.PingEveryNs < 30e9, Want: true},
		{Sheet: "instruments: 20 requests in 2 s", Got: r.RestWeightPerMinute, Want: 600},
	})
}

// TestOKXGroups: the venue lists one type of instrument at a time.
func TestOKXGroups(t *testing.T) {
	symbols := []string{"BTC-USDT", "BTC-USDT-SWAP", "ETH-USDT", "BTC-USD-261225", "ETH-USDT-SWAP"}
	want := "[[BTC-USDT ETH-USDT] [BTC-USDT-SWAP ETH-USDT-SWAP] [BTC-USD-261225]]"
	if got := fmt.Sprint(venues.Groups(Venue{}, symbols)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestOKXAgain(t *testing.T) {
	venuetest.CheckAgain(t, Venue{}, "BTC-USDT", `{"id":"41","op":"subscribe","args":[{"channel":"trades","instId":"BTC-USDT"}]}`, 41)
}

// TestOKXLongest: the longest messages by the venue's sheet.
func TestOKXLongest(t *testing.T) {
	venuetest.CheckLongest(t, Venue{}, `{"arg":{"channel":"books","instId":"AAA"},"action":"snapshot","data":[{"asks":`+venuetest.ListOf(400, `["78722.3","1234567.38699412","0","10000"]`)+`,"bids":`+
		venuetest.ListOf(400, `["78722.3","1234567.38699412","0","10000"]`)+`,"ts":"1787612486107","checksum":0,"seqId":80274874800,"prevSeqId":-1}]}`, false)
}

func TestOKXScannerLimits(t *testing.T) {
	venuetest.CheckScannerLimits(t, Venue{}, []venuetest.ScannerLimit{
		{Head: `{"arg":{"channel":"books","instId":"A"},"action":"update","data":[{"asks":[`, Element: `["1.5","2","0","3"]`, Tail: `],"bids":[],"ts":"1"}]}`, Fits: 26_000, TooMany: 26_500},
		{Head: `{"arg":{"channel":"trades","instId":"A"},"data":[`, Element: `{"instId":"A","tradeId":"7","px":"1.5","sz":"2","side":"buy","ts":"1"}`, Tail: `]}`, Fits: 18_000, TooMany: 19_000},
	})
}
