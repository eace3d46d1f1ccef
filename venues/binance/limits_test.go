package binance

import (
	"fmt"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/venues"
	"deeptape/venues/venuetest"
)

// TestBinanceLimits: the limits that the venue's sheet tells.
func TestBinanceLimits(t *testing.T) {
	v := Venue{}
	r := v.Rules()
	weights := func(depth int) int { return v.SnapshotRequest("X", depth).Weight }
	venuetest.CheckLimits(t, []venuetest.Limit{
		{Sheet: "300 connection attempts in 5 minutes from an address", Got: venuetest.Connects(r), Want: "300 in 300 s"},
		{Sheet: "5 messages a second to the server, pings and pongs too", Got: venuetest.Commands(r), Want: "5 a second on a connection"},
		{Sheet: "1024 streams on a connection", Got: r.StreamsPerConn, Want: 1024},
		{Sheet: "request weight of 6000 a minute for an address (?: it says its own, which then holds)", Got: r.RestWeightPerMinute, Want: 6000},
		{Sheet: "the weight that is used up stands in a header", Got: r.RestWeightUsedHeader, Want: "X-MBX-USED-WEIGHT-1M"},
		{Sheet: "a connection lives for 24 hours", Got: r.ConnectionLifetimeNs, Want: int64(24 * 3600e9)},
		{Sheet: "snapshots weigh 5, 25, 50 and 250 by their limit", Got: fmt.Sprint(weights(100), weights(101), weights(500), weights(501), weights(1000), weights(5000)), Want: "5 25 25 50 50 250"},
		{Sheet: "the list of symbols weighs 20", Got: v.InstrumentsRequest([]string{"X"}).Weight, Want: 20},
	})
}

func TestBinanceAgain(t *testing.T) {
	venuetest.CheckAgain(t, Venue{}, "BTCUSDT", `{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":41}`, 41)
}

// A command of Binance's that is full may end within an instrument: it is in both.
func TestSeveral(t *testing.T) {
	rules := Venue{}.Rules()
	insts := make([]event.Instrument, rules.LongestCommandStreams)
	n := 0
	for _, c := range (Venue{}).Subscribe(insts, venues.Subscription{Quotes: true}) {
		if c.Streams != 7 || c.Several[0] > n || c.Several[1] <= n || 3*(c.Several[1]-c.Several[0]) < rules.LongestCommandStreams {
			t.Errorf("after %d: %+v", n, c)
		}
		n = c.Several[1]
	}
	if n != len(insts) {
		t.Errorf("%d of %d instruments", n, len(insts))
	}
}

// TestBinanceLongest: the longest messages by the venue's sheet.
func TestBinanceLongest(t *testing.T) {
	venuetest.CheckLongest(t, Venue{}, `{"lastUpdateId":5,"bids":`+venuetest.ListOf(5000, `["61685.99000000","12345.25869000"]`)+`,"asks":`+venuetest.ListOf(5000, `["61685.99000000","12345.25869000"]`)+`}`, true)
	venuetest.CheckLongest(t, Venue{}, `{"e":"depthUpdate","E":1,"s":"AAA","U":5,"u":5,"b":`+venuetest.ListOf(5000, `["61685.99000000","12345.25869000"]`)+`,"a":`+venuetest.ListOf(5000, `["61685.99000000","12345.25869000"]`)+`}`, false)
}

func TestBinanceScannerLimits(t *testing.T) {
	venuetest.CheckScannerLimits(t, Venue{}, []venuetest.ScannerLimit{
		{Head: `{"e":"depthUpdate","E":1,"s":"A","U":1,"u":2,"b":[`, Element: `["1.5","2"]`, Tail: `],"a":[]}`, Fits: 43_000, TooMany: 44_000},
	})
}
