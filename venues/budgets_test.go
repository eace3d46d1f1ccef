package venues

import (
	"encoding/json"
	"fmt"
	"testing"

	"deeptape/hotpath/event"
)

// Each venue's limits, as its sheet has them and as its Rules have them. "?" is for what
// the sheet has from hearsay, or does not have: the number is then our own, and stricter
// than what others get away with.
func TestBudgetsAreTheSheets(t *testing.T) {
	const minute, second = 60e9, 1e9
	for _, c := range []struct {
		venue, rule string
		got, want   any
	}{
		{"binance", "300 connection attempts in 5 minutes from an address", connects(&binanceRules), "300 in 300 s"},
		{"binance", "5 messages a second to the server, pings and pongs too", commands(&binanceRules), "5 a second on a connection"},
		{"binance", "1024 streams on a connection", binanceRules.StreamsPerConn, 1024},
		{"binance", "request weight of 6000 a minute for an address (?: it says its own, which then holds)", binanceRules.RestWeightPerMinute, 6000},
		{"binance", "the weight that is used up stands in a header", binanceRules.RestWeightUsedHeader, "X-MBX-USED-WEIGHT-1M"},
		{"binance", "a connection lives for 24 hours", binanceRules.ConnectionLifetimeNs, int64(24 * 60 * minute)},
		{"binance", "snapshots weigh 5, 25, 50 and 250 by their limit", fmt.Sprint(weights(100), weights(101), weights(500), weights(501), weights(1000), weights(5000)), "5 25 25 50 50 250"},
		{"binance", "the list of symbols weighs 20", binance{}.InstrumentsRequest([]string{"X"}).Weight, 20},

		{"coinbase", "8 new connections a second from an address", connects(&coinbaseRules), "8 in 1 s"},
		{"coinbase", "8 messages a second without a key, for an address", commands(&coinbaseRules), "8 a second for the address"},
		{"coinbase", "10 public requests a second from an address", coinbaseRules.RestWeightPerMinute, 600},
		{"coinbase", "products on a connection (?): few, because one lost frame condemns all", coinbaseRules.InstrumentsPerConn, 4},

		{"kraken", "150 connection attempts in 10 minutes from an address (?)", connects(&krakenRules), "150 in 600 s"},
		{"kraken", "messages (?): there is a limit, which depends on the load", commands(&krakenRules), "2 a second on a connection"},
		{"kraken", "1 public request a second from an address (?)", krakenRules.RestWeightPerMinute, 60},
		{"kraken", "symbols on a connection: no limit that is fixed", krakenRules.InstrumentsPerConn, 25},

		{"okx", "3 connection requests a second from an address", connects(&okxRules), "3 in 1 s"},
		{"okx", "480 of subscribe, unsubscribe and login an hour on a connection", okxRules.CommandsPerHour, 480},
		{"okx", "messages a second (?)", commands(&okxRules), "10 a second on a connection"},
		{"okx", "fewer than 30 channels of books on a connection", okxRules.InstrumentsPerConn, 29},
		{"okx", "a word at least every 30 s", okxRules.PingEveryNs < 30*second, true},
		{"okx", "instruments: 20 requests in 2 s", okxRules.RestWeightPerMinute, 600},

		{"bybit", "500 new connections in 5 minutes, of a domain", connects(&bybitSpot), "500 in 300 s"},
		{"bybit", "at most 10 arguments in a request (spot)", bybitSpot.LongestCommandStreams, 10},
		{"bybit", "600 requests in 5 s from an address", bybitSpot.RestWeightPerMinute, 7200},
		{"bybit", "messages a second (?)", commands(&bybitSpot), "10 a second on a connection"},
		{"bybit", "a ping every 20 s", bybitSpot.PingEveryNs, int64(20 * second)},
		{"bybit_linear", "the same domain as spot", connects(&bybitLinear), connects(&bybitSpot)},
	} {
		if fmt.Sprint(c.got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %s: the rules have %v, want %v", c.venue, c.rule, c.got, c.want)
		}
	}
}

func connects(r *Rules) string {
	return fmt.Sprintf("%d in %d s", r.ConnectsPerWindow, r.ConnectWindowNs/1e9)
}

func commands(r *Rules) string {
	if r.CommandsOfAddress {
		return fmt.Sprintf("%d a second for the address", r.CommandsPerSecond)
	}
	return fmt.Sprintf("%d a second on a connection", r.CommandsPerSecond)
}

func weights(depth int) int { return binance{}.SnapshotRequest("X", depth).Weight }

// A connection that is as full as an agent makes it is within its venue's limits of
// streams, of arguments and of their text, and may subscribe without using up its hour.
func TestFullConnection(t *testing.T) {
	textMax := map[string]int{"bybit": 21_000, "bybit_linear": 21_000, "okx": 64 << 10}
	for _, name := range Names() {
		v, _ := ByName(name)
		r := v.Rules()
		n := min(50, r.InstrumentsPerConn)
		if n == 0 {
			n = 50
		}
		var insts []event.Instrument
		for i := range n {
			insts = append(insts, event.Instrument{Venue: name, Symbol: fmt.Sprintf("1000000LONG%02d-USDT-SWAP", i)})
		}
		streams := 2
		if r.QuoteStream {
			streams = 3
		}
		if n*streams > r.StreamsPerConn {
			t.Errorf("%s: %d streams, and %d are allowed", name, n*streams, r.StreamsPerConn)
		}
		commands, text := v.Subscribe(insts, Subscription{Quotes: true, Depth: 1000}), 0
		for _, c := range commands {
			text += len(c.Text)
			var command struct {
				Args []any `json:"args"`
			}
			if err := json.Unmarshal([]byte(c.Text), &command); err != nil || len(command.Args) > 10 {
				t.Errorf("%s: %d arguments in %s (%v)", name, len(command.Args), c.Text, err)
			}
		}
		if most := textMax[name]; most > 0 && text > most {
			t.Errorf("%s: %d characters, and %d are allowed", name, text, most)
		}
		if r.CommandsPerHour > 0 && 3*len(commands) > r.CommandsPerHour {
			t.Errorf("%s: %d commands leave nothing of %d an hour for resubscriptions", name, len(commands), r.CommandsPerHour)
		}
	}
}

// One request for instruments is enough, but at OKX, which lists one type at a time.
func TestGroups(t *testing.T) {
	symbols := []string{"BTC-USDT", "BTC-USDT-SWAP", "ETH-USDT", "BTC-USD-261225", "ETH-USDT-SWAP"}
	for _, name := range Names() {
		v, _ := ByName(name)
		want := "[[BTC-USDT BTC-USDT-SWAP ETH-USDT BTC-USD-261225 ETH-USDT-SWAP]]"
		if name == "okx" {
			want = "[[BTC-USDT ETH-USDT] [BTC-USDT-SWAP ETH-USDT-SWAP] [BTC-USD-261225]]"
		}
		if got := fmt.Sprint(Groups(v, symbols)); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
