package agent

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"deeptape/cmd/config"
	"deeptape/hotpath/task"
	"deeptape/venues"
	"deeptape/venues/session"
	"deeptape/venues/wire"
)

type answers func(path string) (status int, body string)

func (a answers) Get(_ context.Context, url string) (wire.Answer, error) {
	status, body := a(url)
	return wire.Answer{Status: status, Body: []byte(body)}, nil
}

// told asks a venue about symbols and returns the sources of their metadata, and the log.
func told(t *testing.T, name string, symbols []string, rest answers) (sources []string, log string) {
	t.Helper()
	venue, err := venues.ByName(name)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	a := &Agent{log: slog.New(slog.NewTextHandler(&text, nil)), clock: wire.NewClock(), machine: Machine{Sched: task.Real{}}}
	for _, inst := range a.instruments(t.Context(), venue, config.Venue{Symbols: symbols}, rest, session.NewBudgets(venue.Rules())) {
		sources = append(sources, inst.Source)
	}
	return sources, text.String()
}

// One symbol that Binance does not know costs the others nothing.
func TestMetadataOneWrong(t *testing.T) {
	var symbols []string
	for i := range 16 {
		symbols = append(symbols, fmt.Sprintf("S%dUSDT", i))
	}
	symbols[11] = "NOPEUSDT"
	asked, broken := 0, false
	rest := func(path string) (int, string) {
		asked++
		if broken {
			return 503, "busy"
		}
		path, _ = url.QueryUnescape(path)
		if strings.Contains(path, "NOPE") {
			return 400, `{"code":-1121,"msg":"Invalid symbol."}`
		}
		var list []string
		for _, s := range symbols {
			if strings.Contains(path, `"`+s+`"`) {
				list = append(list, fmt.Sprintf(`{"symbol":%q,"status":"TRADING","filters":[{"filterType":"PRICE_FILTER","tickSize":"0.01"}]}`, s))
			}
		}
		return 200, `{"symbols":[` + strings.Join(list, ",") + `]}`
	}
	sources, log := told(t, "binance", symbols, rest)
	for i, s := range sources {
		if want := map[bool]string{true: "messages", false: "exchangeInfo"}[symbols[i] == "NOPEUSDT"]; s != want {
			t.Errorf("%s: source %s, want %s", symbols[i], s, want)
		}
	}
	if asked != 9 || strings.Count(log, "\n") != 1 || !strings.Contains(log, "symbols=NOPEUSDT") || !strings.Contains(log, "-1121") {
		t.Errorf("%d requests, log:\n%s", asked, log)
	}

	asked, broken = 0, true
	if _, log := told(t, "binance", symbols, rest); asked != 1 {
		t.Errorf("%d requests of a venue that has trouble of its own, log:\n%s", asked, log)
	}
}

// Where the answer lists others, the nearest of them is named.
func TestMetadataNearest(t *testing.T) {
	for _, c := range []struct{ venue, symbol, body, want string }{
		{"okx", "BTC-USDX", `{"code":"0","data":[{"instId":"ETH-USDT","tickSz":"0.1","lotSz":"0.1"},{"instId":"BTC-USDT","tickSz":"0.1","lotSz":"0.1"}]}`, "nearest=BTC-USDT\n"},
		{"kraken", "BTC/USDD", `{"error":[],"result":{"XXBTZUSD":{"wsname":"XBT/USD","pair_decimals":1,"lot_decimals":8},"XETHZUSD":{"wsname":"ETH/USD","pair_decimals":2,"lot_decimals":8}}}`, "nearest=BTC/USD\n"},
		{"coinbase", "BTC-USDX", `{"products":[]}`, "symbol=BTC-USDX\n"},
	} {
		_, log := told(t, c.venue, []string{c.symbol}, func(string) (int, string) { return 200, c.body })
		if !strings.Contains(log, "does not list this symbol") || !strings.HasSuffix(log, c.want) {
			t.Errorf("%s: want %s\n%s", c.venue, c.want, log)
		}
	}
}
