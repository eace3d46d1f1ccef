package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"deeptape/bench/simvenue"
	"deeptape/bench/world"
	"deeptape/venues/registry"
)

// all venues, as an error lists them.
var all = strings.Join(registry.Names(), ", ")

func every(d time.Duration) *Duration { return (*Duration)(&d) }

// Every key of the contract, with values that are not the defaults.
func TestEveryKey(t *testing.T) {
	text := `
questdb: "https::addr=db.example:9443;token=abc;"
journal: {dir: /data/j, segment: 64MiB, keep: 24h, max: 10GiB, sync: 50ms}
listen: 0.0.0.0:80
top_levels: 20
depth_bps: [2, 3]
quotes: false
quarantine: 7
venues:
  binance: {symbols: [btcusdt, ETHUSDT, BtcUsdt], ws_url: "ws://a:1/", rest_url: "http://b:2/", depth: 1000, lines: 2, audit: 10m, reconnect_every: 5s}
`
	c, err := Parse("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		QuestDB: "https::addr=db.example:9443;token=abc;",
		Journal: Journal{Dir: "/data/j", Segment: 64 << 20, Keep: Duration(24 * time.Hour), Max: 10 << 30, Sync: Duration(50 * time.Millisecond)},
		Listen:  "0.0.0.0:80", TopLevels: 20, DepthBps: []float64{2, 3}, Quarantine: 7,
		Venues: map[string]Venue{"binance": {Symbols: []string{"BTCUSDT", "ETHUSDT"}, WSURL: "ws://a:1", RestURL: "http://b:2", Depth: 1000, Lines: 2, Audit: every(10 * time.Minute), ReconnectEvery: Duration(5 * time.Second)}},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	if w := c.Warnings(); len(w) != 0 {
		t.Errorf("warnings: %v", w)
	}
}

// The defaults are those of the contract.
func TestDefaults(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "journal:\nquestdb:\nvenues:\n"} {
		c, err := Parse("f", []byte(text+"\n"))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if err := c.AddSymbols([]string{"binance:BTCUSDT"}); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		want := Config{
			QuestDB: "http::addr=127.0.0.1:9000;",
			Journal: Journal{Dir: "deeptape-data/journal", Segment: 128 << 20, Keep: Duration(72 * time.Hour), Max: 200 << 30, Sync: Duration(200 * time.Millisecond)},
			Listen:  "127.0.0.1:9101", TopLevels: 10, DepthBps: []float64{1, 2, 5, 10, 25, 50, 100}, Quotes: true, Quarantine: 10,
			Venues: map[string]Venue{"binance": {Symbols: []string{"BTCUSDT"}, WSURL: "wss://stream.binance.com:9443", RestURL: "https://api.binance.com", Depth: 5000, Lines: 1, Audit: every(30 * time.Minute)}},
		}
		if !reflect.DeepEqual(c, want) {
			t.Errorf("%q: got  %+v\nwant %+v", text, c, want)
		}
	}
}

// A mistake is told in one line: file, line, key, and what would be right.
func TestMistakes(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"questdb: off\njurnal: {dir: x}\n", `f.yaml:2:1: unknown key "jurnal"; did you mean "journal"?`},
		{"journal:\n  dir: x\n  segmnt: 5\n", `f.yaml:3:3: unknown key "journal.segmnt"; did you mean "segment"?`},
		{"venues:\n  binance:\n    symbols: [BTCUSDT]\n    dept: 5\n", `f.yaml:4:5: unknown key "venues.binance.dept"; did you mean "depth"?`},
		{"symbols: [A]\n", `f.yaml:1:1: unknown key "symbols"; it belongs under venues.NAME`},
		{"journal: {quotes: true}\n", `f.yaml:1:11: unknown key "journal.quotes"; it belongs to the top level`},
		{"zzzzzzzz: 1\n", `f.yaml:1:1: unknown key "zzzzzzzz"; there are: questdb, journal, listen, top_levels, depth_bps, quotes, rings, quarantine, table_prefix, venues`},
		{"venues:\n  binanse:\n    symbols: [BTCUSDT]\n", `f.yaml:2:3: venues.binanse: unknown venue "binanse"; there are: ` + all + `; did you mean "binance"?`},
		{"venues:\n  binance:\n    symbols:\n      - BTCUSDT\n      - eth-usdt\n", `f.yaml:5:9: venues.binance.symbols[1]: "eth-usdt" is not a Binance symbol; they look like BTCUSDT; did you mean "ETHUSDT"?`},
		{"venues:\n  coinbase:\n    symbols: [BTC-USD, ETH-USDC, btc-usdc]\n", `f.yaml:3:34: venues.coinbase.symbols[2]: BTC-USD and BTC-USDC are two names of one product: its data comes as BTC-USD`},
		{"venues: {binance: {symbols: BTCUSDT}}\n", `f.yaml:1:29: venues.binance.symbols: "BTCUSDT" is not a list; write [BTCUSDT]`},
		{"venues: {binance: 5}\n", `f.yaml:1:19: venues.binance: int was used where mapping is expected`},
		{"venues: {binance: {symbols: [A]}, Binance: {symbols: [B]}}\n", `f.yaml:1:10: venues.binance: venue binance stands there twice`},
		{"venues:\n  binance:\n    ws_url: http://x\n", `f.yaml:3:5: venues.binance.ws_url: "http://x" is not a URL that starts with ws:// or wss://`},
		{"venues:\n  binance:\n    rest_url: api\n", `f.yaml:3:5: venues.binance.rest_url: "api" is not a URL that starts with http:// or https://`},
		{"venues: {binance: {depth: -3}}\n", `f.yaml:1:20: venues.binance.depth: -3 is less than 0`},
		{"venues: {binance: {lines: 3}}\n", `f.yaml:1:20: venues.binance.lines: 3 is not 1 or 2`},
		{"venues: {binance: {audit: 5}}\n", `f.yaml:1:27: venues.binance.audit: "5" is not a time span; write 200ms, 10m or 72h`},
		{"venues: {binance: {audit: 5ms}}\n", `f.yaml:1:20: venues.binance.audit: 5ms is less than 1s; 0 is never`},
		{"venues: {kraken: {audit: 5m}}\n", `f.yaml:1:19: venues.kraken.audit: the books of kraken come whole in the stream: there is no snapshot to fetch and compare`},
		{"venues: {binance: {depth: many}}\n", `f.yaml:1:27: venues.binance.depth: "many" is not a whole number`},
		{"\ntop_levels: 0\n", `f.yaml:2:1: top_levels: 0 is not between 1 and 1000`},
		{"top_levels: 10.5\n", `f.yaml:1:1: top_levels: 10.5 is not a whole number`},
		{"venues:\n  binance:\n    depth: 100.5\n", `f.yaml:3:5: venues.binance.depth: 100.5 is not a whole number`},
		{"venues: {binance: {lines: 1.9}}\n", `f.yaml:1:20: venues.binance.lines: 1.9 is not a whole number`},
		{"top_levels: ten\n", `f.yaml:1:13: top_levels: "ten" is not a whole number`},
		{"depth_bps: [1, 0]\n", `f.yaml:1:16: depth_bps[1]: 0 is not a whole number of basis points between 1 and 10000`},
		{"depth_bps: [1, 10001]\n", `f.yaml:1:16: depth_bps[1]: 10001 is not a whole number of basis points between 1 and 10000`},
		{"depth_bps: [1.5]\n", `f.yaml:1:13: depth_bps[0]: 1.5 is not a whole number of basis points between 1 and 10000`},
		{"depth_bps: [5, 5]\n", `f.yaml:1:16: depth_bps[1]: 5 is not more than the 5 before it`},
		{"depth_bps: [1, x]\n", `f.yaml:1:16: depth_bps[1]: "x" is not a number`},
		{"quotes: maybe\n", `f.yaml:1:9: quotes: "maybe" is not true or false`},
		{"listen: nonsense\n", `f.yaml:1:1: listen: "nonsense" is not HOST:PORT, such as 127.0.0.1:9101`},
		{"questdb: nonsense\n", `f.yaml:1:1: questdb: cannot parse QuestDB configuration "nonsense": it must look like "http::addr=127.0.0.1:9000;"`},
		{"journal: {dir: \"\"}\n", `f.yaml:1:11: journal.dir: is empty`},
		{"journal: {segment: 5XB}\n", `f.yaml:1:20: journal.segment: "5XB" is not a size; write 128MiB, 200GiB or a number of bytes`},
		{"journal: {segment: 1KiB}\n", `f.yaml:1:11: journal.segment: 1024 bytes is less than 1 MiB`},
		{"journal:\n  max: 1MiB\n", `f.yaml:2:3: journal.max: 1048576 bytes is less than two segments of 134217728`},
		{"journal: {keep: 3}\n", `f.yaml:1:17: journal.keep: "3" is not a time span; write 200ms, 10m or 72h`},
		{"journal: {keep: 0s}\n", `f.yaml:1:11: journal.keep: must be more than 0`},
		{"journal: {sync: 0s}\n", `f.yaml:1:11: journal.sync: must be more than 0`},
		{"a: b: c\n", `f.yaml:1:4: mapping value is not allowed in this context`},
		{"quotes: true\nquotes: true\n", `f.yaml:2:1: mapping key "quotes" already defined at [1:1]`},
	} {
		_, err := Parse("f.yaml", []byte(c.text))
		if err == nil || err.Error() != c.want {
			t.Errorf("%q:\ngives %v\nwant  %s", c.text, err, c.want)
		}
	}
}

// Every key that the decoder knows is in the list that hints are made from.
func TestHintsKnowAllKeys(t *testing.T) {
	for place, typ := range map[string]reflect.Type{"": reflect.TypeFor[Config](), "journal": reflect.TypeFor[Journal](), "venues.*": reflect.TypeFor[Venue]()} {
		var tags []string
		for i := range typ.NumField() {
			tags = append(tags, typ.Field(i).Tag.Get("yaml"))
		}
		if fmt.Sprint(tags) != fmt.Sprint(keysIn[place]) {
			t.Errorf("%q: hints know %v, the decoder %v", place, keysIn[place], tags)
		}
	}
}

func TestBytes(t *testing.T) {
	for s, want := range map[string]Bytes{
		"0": 0, "1048576": 1 << 20, "7B": 7, "64KiB": 64 << 10, "128MiB": 128 << 20, "200 GiB": 200 << 30, "3TiB": 3 << 40,
	} {
		if got, err := parseBytes(s); err != nil || got != want {
			t.Errorf("%q: %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "-1", "1.5GiB", "10MB", "GiB", "1e3", "9999999999GiB", "99999999999999999999", "5 parsecs"} {
		if got, err := parseBytes(s); err == nil {
			t.Errorf("%q: %d", s, got)
		}
	}
	for _, text := range []string{"journal: {segment: 2097152}", `journal: {segment: "2MiB"}`, "journal: {segment: 2 MiB}"} {
		if c, err := Parse("f", []byte(text)); err != nil || c.Journal.Segment != 2<<20 {
			t.Errorf("%s: %d, %v", text, c.Journal.Segment, err)
		}
	}
}

func TestTime(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Time{
		"-1h": now.Add(-time.Hour), "-90s": now.Add(-90 * time.Second), "2026-11-22T10:00:00Z": now.Add(-2 * time.Hour),
		"2026-11-22T11:00:00.000000001+01:00": now.Add(-2*time.Hour + 1),
	} {
		if got, err := Time(s, now); err != nil || got != want.UnixNano() {
			t.Errorf("%q: %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "-", "1h", "yesterday", "2026-11-22", "--1h"} {
		if got, err := Time(s, now); err == nil {
			t.Errorf("%q: %d", s, got)
		}
	}
}

func TestAddSymbols(t *testing.T) {
	c, err := Parse("f", []byte("questdb: off\nvenues: {binance: {symbols: [BTCUSDT], depth: 7}}"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddSymbols([]string{"Binance:ethusdt,btcusdt", "binance:SOLUSDT"}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(c.Venues["binance"].Symbols, c.VenueNames()); got != "[BTCUSDT ETHUSDT SOLUSDT] [binance]" {
		t.Error(got)
	}
	if w := c.Warnings(); len(w) != 1 || !strings.Contains(w[0], "venues.binance.depth: 7 is not one of") {
		t.Errorf("warnings: %v", w)
	}
	for arg, want := range map[string]string{
		"BTCUSDT":           `"BTCUSDT" names no symbol; write VENUE:SYMBOL[,SYMBOL…], such as binance:BTCUSDT`,
		"binance:":          `"binance:" names no symbol; write VENUE:SYMBOL[,SYMBOL…], such as binance:BTCUSDT`,
		"binanc:A":          `"binanc:A": unknown venue "binanc"; there are: ` + all + `; did you mean "binance"?`,
		"binance:BTC/USDT":  `"binance:BTC/USDT": "BTC/USDT" is not a Binance symbol; they look like BTCUSDT; did you mean "BTCUSDT"?`,
		"binance:BTCUSDT,,": `"binance:BTCUSDT,,": "" is not a Binance symbol; they look like BTCUSDT`,
		"coinbase:BTC/USD":  `"coinbase:BTC/USD": "BTC/USD" is not a Coinbase symbol; they look like BTC-USD; did you mean "BTC-USD"?`,
		"kraken:BTCUSD":     `"kraken:BTCUSD": "BTCUSD" is not a Kraken symbol; they look like BTC/USD; did you mean "BTC/USD"?`,
		"kraken:sol-xyz":    `"kraken:sol-xyz": "sol-xyz" is not a Kraken symbol; they look like BTC/USD; did you mean "SOL/XYZ"?`,
		"okx:BTCUSDT":       `"okx:BTCUSDT": "BTCUSDT" is not an OKX symbol; they look like BTC-USDT, BTC-USDT-SWAP or BTC-USD-261225; did you mean "BTC-USDT"?`,
		"bybit:BTC-USDT":    `"bybit:BTC-USDT": "BTC-USDT" is not a symbol of Bybit spot; they look like BTCUSDT; did you mean "BTCUSDT"?`,
	} {
		if err := c.AddSymbols([]string{arg}); err == nil || err.Error() != want {
			t.Errorf("%s:\ngives %v\nwant  %s", arg, err, want)
		}
	}
	if got := fmt.Sprint(c.Venues["binance"].Symbols); got != "[BTCUSDT ETHUSDT SOLUSDT]" {
		t.Errorf("after mistakes: %s", got)
	}
}

// Flags win: what a command sets in the Config that was read is what is checked
// and kept.
func TestFlagsWin(t *testing.T) {
	c, err := Parse("f", []byte("questdb: \"http::addr=a:1;\"\nlisten: 127.0.0.1:1\njournal: {dir: a}\nvenues: {binance: {symbols: [BTCUSDT]}}"))
	if err != nil {
		t.Fatal(err)
	}
	c.QuestDB, c.Journal.Dir, c.Listen = "off", "b", "off"
	if err := c.AddSymbols(nil); err != nil {
		t.Fatal(err)
	}
	if c.QuestDB != "off" || c.Journal.Dir != "b" || c.Listen != "" {
		t.Errorf("%+v", c)
	}
	c.QuestDB = "http:addr=x"
	if err := c.AddSymbols(nil); err == nil || !strings.HasPrefix(err.Error(), "questdb: cannot parse") {
		t.Errorf("error: %v", err)
	}
}

func TestRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "deeptape.yaml")
	if err := os.WriteFile(name, []byte("top_levels: 5\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if c, err := Read(name); err != nil || c.TopLevels != 5 {
		t.Errorf("%d, %v", c.TopLevels, err)
	}
	if _, err := Read(name + "x"); err == nil || !strings.Contains(err.Error(), name+"x") {
		t.Errorf("error: %v", err)
	}
}

// What `deeptape sim` prints is a configuration.
func TestSimulator(t *testing.T) {
	w, err := world.New(1, world.Spec{Symbols: world.Symbols("BTCUSDT", "ETHUSDT")})
	if err != nil {
		t.Fatal(err)
	}
	s, err := simvenue.New(simvenue.Options{World: w})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	text := fmt.Sprintf("venues:\n  binance:\n    symbols: [%s]\n    ws_url: %q\n    rest_url: %q\n", strings.Join(s.Symbols(), ", "), s.WSURL(), s.RESTURL())
	c, err := Parse("-", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	v := c.Venues["binance"]
	if fmt.Sprint(v.Symbols) != "[BTCUSDT ETHUSDT]" || v.WSURL != s.WSURL() || v.RestURL != s.RESTURL() {
		t.Errorf("%+v", v)
	}
}

// Whatever a file holds, it is read or refused with its name.
func FuzzParse(f *testing.F) {
	f.Add("venues: {binance: {symbols: [BTCUSDT], depth: 5}}")
	f.Add("journal: {segment: 1MiB, keep: 1h}\ndepth_bps: [1]")
	f.Add("a: &x [*x]")
	f.Add("? [1]\n: 2")
	f.Add("venues: {binance: {symbols: [\"\", ~]}}")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("f.yaml", []byte(text))
		if err != nil && !strings.HasPrefix(err.Error(), "f.yaml:") {
			t.Errorf("%q: %v", text, err)
		}
		if err == nil && c.Complete() != nil {
			t.Errorf("%q: complete, and then not", text)
		}
	})
}

// No audit is not the same as none said.
func TestAuditOff(t *testing.T) {
	for _, c := range []struct {
		text string
		want time.Duration
	}{{"{}", 30 * time.Minute}, {"{audit: 0}", 0}, {"{audit: 0s}", 0}, {"{audit: 90s}", 90 * time.Second}} {
		got, err := Parse("f", []byte("venues: {binance: "+c.text+"}\n"))
		if err != nil || got.Complete() != nil || time.Duration(*got.Venues["binance"].Audit) != c.want {
			t.Errorf("%s: %v, %+v, want %s", c.text, err, got.Venues["binance"].Audit, c.want)
		}
	}
	if got, err := Parse("f", []byte("venues: {kraken: {audit: 0}}\n")); err != nil || *got.Venues["kraken"].Audit != 0 {
		t.Errorf("%v: %+v", err, got)
	}
}

// A base URL may have a query; the slash at the end of its path goes, and a fragment,
// which means nothing to a server.
func TestURLWithQuery(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"wss://stream.binance.com:9443/?timeUnit=MICROSECOND", "wss://stream.binance.com:9443?timeUnit=MICROSECOND"},
		{"wss://h/v2?path=/a/", "wss://h/v2?path=/a/"},
		{"wss://h/v2/?#x", "wss://h/v2"},
		{"ws://[::1]:9443/", "ws://[::1]:9443"},
	} {
		if got, err := baseURL(c.text, "ws", "wss"); err != nil || got != c.want {
			t.Errorf("%s: %s %v, want %s", c.text, got, err, c.want)
		}
	}
}

// A symbol that only the venue knows to be wrong is shown where it stands in the file.
func TestPlaceOfSymbol(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.yaml")
	if err := os.WriteFile(path, []byte("venues:\n  kraken:\n    symbols:\n      - BTC/USD\n      - aaply/usd\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := PlaceOfSymbol(path, "kraken", "AAPLY/USD"), path+":5:9: venues.kraken.symbols[1]: "; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := PlaceOfSymbol(path, "kraken", "ETH/USD") + PlaceOfSymbol("", "kraken", "BTC/USD"); got != "" {
		t.Errorf("%q", got)
	}
}
