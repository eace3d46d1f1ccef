package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"deeptape/cmd/config"
	"deeptape/hotpath/task"
	"deeptape/venues/feed"
	"deeptape/venues/registry"
	"deeptape/venues/session"
	"deeptape/venues/wire"
)

type answers func(path string) (status int, body string)

func (a answers) Get(_ context.Context, url string) (wire.Answer, error) {
	status, body := a(url)
	return wire.Answer{Status: status, Body: []byte(body)}, nil
}

// told asks a venue about symbols, of which before were recorded earlier, and returns how
// each is spelled and where that comes from, and the log.
func told(t *testing.T, name string, symbols, before []string, rest answers) (found []string, log string, err error) {
	t.Helper()
	venue, err := registry.ByName(name)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	a := &Agent{log: slog.New(slog.NewTextHandler(&text, nil)), clock: wire.NewClock(), machine: Machine{Sched: task.Real{}}, pastRuns: &past{resume: map[instrumentKey]feed.Resume{}}}
	for _, s := range before {
		a.pastRuns.resume[instrumentKey{name, s}] = feed.Resume{LastTs: 1}
	}
	a.cfg.Venues = map[string]config.Venue{name: {Symbols: symbols}}
	m := &market{name: name, venue: venue, rest: rest, budgets: session.NewBudgets(venue.Rules())}
	err = a.lookUp(t.Context(), []*market{m})
	for _, inst := range m.insts {
		found = append(found, inst.Symbol+" "+inst.Source)
	}
	if err == nil && len(a.cfg.Venues[name].Symbols) != len(found) {
		t.Errorf("%d symbols are configured, %d found", len(a.cfg.Venues[name].Symbols), len(found))
	}
	return found, text.String(), err
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
	if _, log, err := told(t, "binance", symbols, nil, rest); asked != 10 || log != "" || err == nil || err.Error() != `binance does not list "NOPEUSDT"` {
		t.Errorf("%d requests, %v, log:\n%s", asked, err, log) // the last one asks for the nearest
	}

	// It was recorded before: it keeps no other from being recorded again.
	asked = 0
	found, log, err := told(t, "binance", symbols, []string{"NOPEUSDT"}, rest)
	for i, s := range found {
		if want := map[bool]string{true: "NOPEUSDT messages", false: symbols[i] + " exchangeInfo"}[symbols[i] == "NOPEUSDT"]; s != want {
			t.Errorf("%s, want %s", s, want)
		}
	}
	if len(found) != len(symbols) || err != nil || strings.Count(log, "\n") != 1 || !strings.Contains(log, "symbol=NOPEUSDT") {
		t.Errorf("%d found, %v, log:\n%s", len(found), err, log)
	}

	asked, broken = 0, true
	if found, log, err := told(t, "binance", symbols, nil, rest); asked != 1 || err != nil || len(found) != len(symbols) {
		t.Errorf("%d requests of a venue that has trouble of its own, %v, log:\n%s", asked, err, log)
	}
}

const (
	okxList      = `{"code":"0","data":[{"instId":"ETH-USDT","tickSz":"0.1","lotSz":"0.1"},{"instId":"BTC-USDT","tickSz":"0.1","lotSz":"0.1"}]}`
	krakenList   = `{"error":[],"result":{"XXBTZUSD":{"wsname":"XBT/USD","pair_decimals":1,"lot_decimals":8},"XETHZUSD":{"wsname":"ETH/USD","pair_decimals":2,"lot_decimals":8}}}`
	krakenStocks = `{"error":[],"result":{"AAPLxUSD":{"wsname":"AAPLx/USD","pair_decimals":2,"lot_decimals":8},"TSLAxUSD":{"wsname":"TSLAx/USD","pair_decimals":2,"lot_decimals":8}}}`
	coinbaseList = `{"products":[{"product_id":"BTC-USD","price_increment":"0.01","base_increment":"0.00000001"}]}`
	bybitList    = `{"retCode":0,"result":{"list":[{"symbol":"BTCUSDT","priceFilter":{"tickSize":"0.01"},"lotSizeFilter":{"basePrecision":"0.1"}}],"nextPageCursor":"p%3D2"}}`
	bybitList2   = `{"retCode":0,"result":{"list":[{"symbol":"ETHUSDT","priceFilter":{"tickSize":"0.01"},"lotSizeFilter":{"basePrecision":"0.1"}}],"nextPageCursor":""}}`
	binanceList  = `{"symbols":[{"symbol":"BTCUSDT","filters":[]}]}`
)

// lists answers as the venues do.
func lists(path string) (int, string) {
	switch {
	case strings.HasPrefix(path, "/0/public/AssetPairs?aclass_base=tokenized_asset"):
		return 200, krakenStocks
	case strings.HasPrefix(path, "/0/public/AssetPairs"):
		return 200, krakenList
	case strings.Contains(path, "product_ids=BTC-USDX"):
		return 200, `{"products":[]}`
	case strings.Contains(path, "/products"):
		return 200, coinbaseList
	case strings.Contains(path, "cursor=p%3D2"):
		return 200, bybitList2
	case strings.Contains(path, "/v5/market"):
		return 200, bybitList
	case strings.Contains(path, "/api/v5"):
		return 200, okxList
	case strings.Contains(path, "permissions=SPOT"):
		return 200, binanceList
	}
	return 400, `{"code":-1121,"msg":"Invalid symbol."}`
}

// A symbol that the venue's whole list does not have is an error that names the nearest.
func TestMetadataUnlisted(t *testing.T) {
	for _, c := range []struct{ venue, symbol, nearest string }{
		{"okx", "BTC-USDX", "BTC-USDT"},
		{"kraken", "BTC/USDD", "BTC/USD"},
		{"kraken", "AAPY/USD", "AAPLx/USD"},
		{"coinbase", "BTC-USDX", "BTC-USD"},
		{"bybit", "ETHUSDX", "ETHUSDT"},
		{"binance", "BTCUSTD", "BTCUSDT"},
	} {
		_, log, err := told(t, c.venue, []string{c.symbol}, nil, lists)
		var unlisted *UnlistedError
		if !errors.As(err, &unlisted) || *unlisted != (UnlistedError{c.venue, c.symbol, c.nearest}) {
			t.Errorf("%s %s: %v, want %s\n%s", c.venue, c.symbol, err, c.nearest, log)
		}
	}
}

// The venue's list has the spelling; without a list it is that of the record, then the
// user's own, then the rule's.
func TestMetadataSpelling(t *testing.T) {
	for _, c := range []struct {
		name, written string
		before        []string
		rest          answers
		want          string
	}{
		{"small letters", "aaplx/usd", nil, lists, "AAPLx/USD AssetPairs"},
		{"as it is", "AAPLx/USD", nil, lists, "AAPLx/USD AssetPairs"},
		{"capitals", "AAPLX/USD", nil, lists, "AAPLx/USD AssetPairs"},
		{"refused under the rule's spelling by an earlier version", "AAPLx/USD", []string{"AAPLX/USD"}, lists, "AAPLx/USD AssetPairs"},
		{"of the first list", "eth/usd", nil, lists, "ETH/USD AssetPairs"},
		{"no list, as recorded", "aaplx/usd", []string{"ETH/USD", "AAPLx/USD"}, away503, "AAPLx/USD messages"},
		{"no list, as it is", "AAPLx/usd", nil, away503, "AAPLx/USD messages"},
		{"no list, by the rule", "eth/usd", nil, away503, "ETH/USD messages"},
		{"an empty list", "AAPLx/USD", nil, func(string) (int, string) { return 200, `{"error":[],"result":{}}` }, "AAPLx/USD messages"},
		{"half a list", "AAPLx/USD", nil, func(path string) (int, string) {
			if strings.Contains(path, "tokenized") {
				return 503, "busy"
			}
			return lists(path)
		}, "AAPLx/USD messages"},
	} {
		cfg := config.Default()
		cfg.QuestDB = "off"
		if err := cfg.AddSymbols([]string{"kraken:" + c.written}); err != nil {
			t.Fatal(err)
		}
		found, log, err := told(t, "kraken", cfg.Venues["kraken"].Symbols, c.before, c.rest)
		if err != nil || len(found) != 1 || found[0] != c.want {
			t.Errorf("%s: %q %v, want %s\n%s", c.name, found, err, c.want, log)
		}
	}
}

func away503(string) (int, string) { return 503, "busy" }

// silent counts what it is asked, and never answers.
type silent struct{ asked *int }

func (s silent) Get(ctx context.Context, _ string) (wire.Answer, error) {
	*s.asked++
	<-ctx.Done()
	return wire.Answer{}, ctx.Err()
}

// A list that does not come keeps a start waiting for metadataWithin and no longer, however
// many requests it would take, and the other venues have what theirs told. The start waits
// for all of them because feeds and instruments are numbered over all venues.
func TestMetadataSlowList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		a := &Agent{log: slog.New(slog.NewTextHandler(&text, nil)), clock: wire.NewClock(), machine: Machine{Sched: task.Real{}}, pastRuns: &past{}}
		a.cfg.Venues = map[string]config.Venue{
			"okx":     {Symbols: []string{"BTC-USDT", "BTC-USDT-SWAP"}}, // two lists: spot and swaps
			"binance": {Symbols: []string{"btcusdt"}},
		}
		asked := 0
		rests := map[string]session.Rest{"okx": silent{&asked}, "binance": answers(func(string) (int, string) {
			return 200, `{"symbols":[{"symbol":"BTCUSDT","status":"TRADING","filters":[{"filterType":"PRICE_FILTER","tickSize":"0.01"}]}]}`
		})}
		var markets []*market
		for _, name := range []string{"binance", "okx"} {
			venue, err := registry.ByName(name)
			if err != nil {
				t.Fatal(err)
			}
			markets = append(markets, &market{name: name, venue: venue, rest: rests[name], budgets: session.NewBudgets(venue.Rules())})
		}
		began := time.Now()
		if err := a.lookUp(t.Context(), markets); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited != metadataWithin {
			t.Errorf("the start waited for %s", waited)
		}
		if asked < 2 {
			t.Errorf("%d requests do not show that they share a deadline", asked)
		}
		var found []string
		for _, m := range markets {
			for _, inst := range m.insts {
				found = append(found, m.name+" "+inst.Symbol+" "+inst.Source)
			}
		}
		if got := strings.Join(found, ", "); got != "binance BTCUSDT exchangeInfo, okx BTC-USDT messages, okx BTC-USDT-SWAP messages" {
			t.Errorf("found %s", got)
		}
		if !strings.Contains(text.String(), "venue=okx") || strings.Contains(text.String(), "venue=binance") {
			t.Errorf("the log:\n%s", text.String())
		}
	})
}
