package endtoend

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"deeptape/bench/simvenue"
	"deeptape/bench/world"
)

// truth is what a venue has to say of one symbol, in its order.
type truth struct {
	symbol    string
	snapshots []snapshot // recorded answers
	diffs     []diff
	trades    []trade
	quotes    []quote
}

type snapshot struct {
	id     int64
	levels []level // bids, then asks
}

type diff struct {
	first, last int64
	eventNs     int64
	levels      []level
}

type trade struct {
	id, px, qty, side string
	tradeNs           int64
}

type quote struct {
	id                       int64
	bid, bidQty, ask, askQty string
}

// recording finds a recording, or skips the test.
func recording(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("DEEPTAPE_CAPTURES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "captures")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("the recordings are not here (set DEEPTAPE_CAPTURES): %v", err)
	}
	return path
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var r io.Reader = bufio.NewReader(file)
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(r); err != nil {
			t.Fatal(err)
		}
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// message is any line of a recording of Binance: a combined or bare frame, or a
// REST body. JSON numbers stay text. Its names differ by case only (u and U, b
// and B), which encoding/json does not tell apart in a struct: hence the maps.
type message map[string]any

func (m message) text(t *testing.T, key string) string {
	t.Helper()
	switch v := m[key].(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	t.Fatalf("no %q in %v", key, m)
	return ""
}

func (m message) int(t *testing.T, key string) int64 {
	t.Helper()
	n, err := json.Number(m.text(t, key)).Int64()
	if err != nil {
		t.Fatalf("%q of %v: %v", key, m, err)
	}
	return n
}

func (m message) levels(t *testing.T, key, side string) []level {
	t.Helper()
	list, ok := m[key].([]any)
	if !ok {
		t.Fatalf("no levels %q in %v", key, m)
	}
	var out []level
	for _, x := range list {
		pair := x.([]any)
		out = append(out, level{side, plain(t, pair[0].(string)), plain(t, pair[1].(string))})
	}
	return out
}

var symbolOf = regexp.MustCompile(`symbol=(\w+)`)

// readRecording reads a recording of Binance slowly and plainly, once. Nothing is
// dropped, joined or sorted. What it returns is shared, and not to be written to.
func readRecording(t *testing.T, path string) map[string]*truth {
	t.Helper()
	recordings.Lock()
	defer recordings.Unlock()
	if recordings.read[path] == nil {
		recordings.read[path] = readSlowly(t, path)
	}
	return recordings.read[path]
}

var recordings = struct {
	sync.Mutex
	read map[string]map[string]*truth
}{read: map[string]map[string]*truth{}}

func readSlowly(t *testing.T, path string) map[string]*truth {
	t.Helper()
	stem := path[:strings.LastIndex(path, ".jsonl")]
	recv := stem + ".recv"
	if _, err := os.Stat(recv); err != nil {
		recv += ".gz"
	}
	dirs := lines(t, recv)
	all := map[string]*truth{}
	of := func(symbol string) *truth {
		if all[symbol] == nil {
			all[symbol] = &truth{symbol: symbol}
		}
		return all[symbol]
	}
	for n, line := range lines(t, path) {
		_, dir, _ := strings.Cut(dirs[n], "\t")
		if dir == "tx" {
			continue
		}
		dec := json.NewDecoder(strings.NewReader(line))
		dec.UseNumber()
		var m message
		if err := dec.Decode(&m); err != nil {
			t.Fatalf("%s line %d: %v", path, n+1, err)
		}
		if d, ok := m["data"].(map[string]any); ok {
			m = d
		}
		switch {
		case m["lastUpdateId"] != nil:
			symbol := "BTCUSDT" // the one recording whose REST line has no URL
			if found := symbolOf.FindStringSubmatch(dir); found != nil {
				symbol = found[1]
			}
			x := of(symbol)
			x.snapshots = append(x.snapshots, snapshot{m.int(t, "lastUpdateId"), append(m.levels(t, "bids", "bid"), m.levels(t, "asks", "ask")...)})
		case m["e"] == "depthUpdate":
			x := of(m.text(t, "s"))
			x.diffs = append(x.diffs, diff{m.int(t, "U"), m.int(t, "u"), m.int(t, "E") * 1e6, append(m.levels(t, "b", "bid"), m.levels(t, "a", "ask")...)})
		case m["e"] == "trade":
			x := of(m.text(t, "s"))
			side := "buy"
			if m["m"] == true { // the buyer was there first
				side = "sell"
			}
			x.trades = append(x.trades, trade{m.text(t, "t"), plain(t, m.text(t, "p")), plain(t, m.text(t, "q")), side, m.int(t, "T") * 1e6})
		case m["e"] == nil && m["B"] != nil:
			x := of(m.text(t, "s"))
			x.quotes = append(x.quotes, quote{m.int(t, "u"), plain(t, m.text(t, "b")), plain(t, m.text(t, "B")), plain(t, m.text(t, "a")), plain(t, m.text(t, "A"))})
		}
	}
	return all
}

// marketStart is what the clock of every made market shows at its start: windows of
// its diffs depend on it.
const marketStart = "2026-01-01T00:00:00Z" // world.DefaultStartNs

// market is a seeded market as `deeptape sim` makes it: all that it will ever say
// within length, and its book at any moment.
type market struct {
	seed   uint64
	depth  int // of its answers to depth requests
	names  []string
	symbol map[string]*truth
	events []marked
}

// marked places an event of the market: the index of its symbol and the last id.
type marked struct {
	symbol int
	last   int64
	diff   bool
}

func plain8(t *testing.T, n int64) string {
	if n < 0 {
		t.Fatalf("negative decimal %d", n)
	}
	return scaled(t, strconv.FormatInt(n, 10), "8")
}

func newMarket(t *testing.T, seed uint64, length time.Duration, names ...string) *market {
	t.Helper()
	m := &market{seed: seed, depth: snapshotDepth, names: names, symbol: map[string]*truth{}}
	w := m.world(t)
	for _, name := range names {
		m.symbol[name] = &truth{symbol: name}
	}
	firstNs := int64(-1)
	for {
		e := w.Next()
		if firstNs < 0 {
			firstNs = e.AtNs
		}
		if e.AtNs-firstNs >= int64(length) {
			return m
		}
		x := m.symbol[names[e.Symbol]]
		m.events = append(m.events, marked{e.Symbol, e.Last, e.Kind == world.Diff})
		ms := e.StampNs / 1e6 * 1e6 // by the venue's clock, which is off
		switch e.Kind {
		case world.Diff:
			x.diffs = append(x.diffs, diff{e.First, e.Last, ms, append(worldLevels(t, "bid", e.Bids), worldLevels(t, "ask", e.Asks)...)})
		case world.Trade:
			side := "buy"
			if e.BuyerIsMaker {
				side = "sell"
			}
			x.trades = append(x.trades, trade{strconv.FormatInt(e.TradeID, 10), plain8(t, e.Px), plain8(t, e.Qty), side, ms})
		case world.Quote:
			x.quotes = append(x.quotes, quote{e.Last, plain8(t, e.Bid.Px), plain8(t, e.Bid.Qty), plain8(t, e.Ask.Px), plain8(t, e.Ask.Qty)})
		}
	}
}

func (m *market) world(t *testing.T) *world.World {
	t.Helper()
	follow := simvenue.FollowerOf("binance", m.seed)
	w, err := world.New(m.seed, world.Spec{Symbols: simvenue.Markets("binance", m.names...), Follow: &follow})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func worldLevels(t *testing.T, side string, levels []world.Level) []level {
	var out []level
	for _, l := range levels {
		out = append(out, level{side, plain8(t, l.Px), plain8(t, l.Qty)})
	}
	return out
}

// snapshotDepth is what the agent asks for by default.
const snapshotDepth = 5000

// snapshotAt is the market's answer to a depth request whose lastUpdateId is id,
// nil if there is no such moment. It plays the market again: the moment lies inside
// a diff that is still to come.
func (m *market) snapshotAt(t *testing.T, symbol string, id int64) []level {
	t.Helper()
	var diffs []int // indexes of the symbol's diffs up to the one that reaches beyond id
	for i, e := range m.events {
		if e.diff && m.names[e.symbol] == symbol {
			diffs = append(diffs, i)
			if e.last > id {
				break
			}
		}
	}
	from := 0
	if n := len(diffs); n > 3 {
		from = diffs[n-4]
	}
	w := m.world(t)
	for i := range m.events {
		w.Next()
		if i < from {
			continue
		}
		b, _ := w.Book(symbol)
		if b.LastID == id {
			return append(worldLevels(t, "bid", b.Bids[:min(len(b.Bids), m.depth)]), worldLevels(t, "ask", b.Asks[:min(len(b.Asks), m.depth)])...)
		}
		if b.LastID > id {
			break
		}
	}
	return nil
}
