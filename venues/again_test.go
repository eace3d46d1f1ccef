package venues

import (
	"reflect"
	"testing"

	"deeptape/hotpath/event"
)

// What was refused is asked for again, and nothing else, and nothing is ended.
func TestAgain(t *testing.T) {
	const trades = 1 << event.StreamTrades
	for _, c := range []struct {
		venue, symbol, text string
		id                  int64
	}{
		{"binance", "BTCUSDT", `{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":41}`, 41},
		{"bybit", "BTCUSDT", `{"req_id":"41","op":"subscribe","args":["publicTrade.BTCUSDT"]}`, 41},
		{"okx", "BTC-USDT", `{"id":"41","op":"subscribe","args":[{"channel":"trades","instId":"BTC-USDT"}]}`, 41},
		{"kraken", "BTC/USD", `{"method":"subscribe","params":{"channel":"trade","snapshot":false,"symbol":["BTC/USD"]},"req_id":41}`, 41},
		{"coinbase", "BTC-USD", `{"type":"subscribe","product_ids":["BTC-USD"],"channel":"market_trades"}`, 9},
	} {
		v, err := ByName(c.venue)
		if err != nil {
			t.Fatal(err)
		}
		inst := event.Instrument{Symbol: c.symbol}
		got := v.Again(inst, 3, trades, Subscription{Quotes: true, Depth: 10}, 41)
		if want := []Command{{c.id, c.text, 1, 3, trades, [2]int{}}}; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v\nwant %+v", c.venue, got, want)
		}
	}
}

// A command of Binance's that is full may end within an instrument: it is in both.
func TestSeveral(t *testing.T) {
	insts := make([]event.Instrument, binanceRules.LongestCommandStreams)
	n := 0
	for _, c := range (binance{}).Subscribe(insts, Subscription{Quotes: true}) {
		if c.Streams != 7 || c.Several[0] > n || c.Several[1] <= n || 3*(c.Several[1]-c.Several[0]) < binanceRules.LongestCommandStreams {
			t.Errorf("after %d: %+v", n, c)
		}
		n = c.Several[1]
	}
	if n != len(insts) {
		t.Errorf("%d of %d instruments", n, len(insts))
	}
}
