package agent

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"deeptape/cmd/localdb/dbtest"
	"deeptape/hotpath/event"
	"deeptape/ilp/qdb"
	"deeptape/ilp/schema"
	"deeptape/ilp/verify"
	"deeptape/venues/feed"
	"deeptape/venues/follow"
	"deeptape/venues/registry"
)

// listed are inputs that stand for a journal.
type listed struct{ inputs []event.Input }

func (l *listed) Next() (event.Input, error) {
	if len(l.inputs) == 0 {
		return event.Input{}, io.EOF
	}
	in := l.inputs[0]
	l.inputs = l.inputs[1:]
	return in, nil
}

// recordedInputs are what a feed would have journalled had it been there: a frame
// every 20 ms, a tick every second, and REST answers where they were recorded.
func recordedInputs(t *testing.T, name, file string, depth, lines int) []event.Input {
	t.Helper()
	venue, err := registry.ByName(name)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Split(strings.TrimSpace(plain(t, file)), "\n")
	text = text[:min(lines, len(text))]
	stem := file[:strings.LastIndex(file, ".jsonl")]
	var dirs []string
	for _, recv := range []string{stem + ".recv", stem + ".recv.gz"} {
		if _, err := os.Stat(recv); err == nil {
			dirs = strings.Split(plain(t, recv), "\n")
		}
	}
	cfg := feed.Config{Version: feed.Version, Agent: "test", Venue: name, TopLevels: 10, Quotes: venue.Rules().QuoteStream, Depth: depth, DepthBps: []int{1, 2, 5, 10, 25, 50, 100}}
	for _, m := range regexp.MustCompile(`"(?:s|symbol|instId|product_id)":"([A-Z0-9]+[-/]?[A-Z0-9]+)"`).FindAllStringSubmatch(strings.Join(text, "\n"), -1) {
		if !slices.ContainsFunc(cfg.Instruments, func(i event.Instrument) bool { return i.Symbol == m[1] }) {
			cfg.Instruments = append(cfg.Instruments, event.Instrument{Venue: name, Symbol: m[1], Source: "messages"})
		}
	}
	data, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var all []event.Input
	ts := int64(1_795_341_600_000_000_000)
	add := func(kind event.InputKind, aux int64, data string) {
		all = append(all, event.Input{InputHead: event.InputHead{Kind: kind, Pos: uint64(len(all)) + 1, Ts: ts, Aux: aux}, Data: []byte(data)})
		ts += 20e6
		if len(all)%50 == 0 {
			all = append(all, event.Input{InputHead: event.InputHead{Kind: event.InputTick, Pos: uint64(len(all)) + 1, Ts: ts}})
		}
	}
	add(event.InputRun, 0, string(data))
	add(event.InputConnect, 1, "")
	requests := uint32(0)
	asked := map[int]uint32{}
	for n, line := range text {
		dir := "ws"
		if n < len(dirs) {
			_, dir, _ = strings.Cut(dirs[n], "\t")
		}
		if dir == "tx" || line == "" {
			continue
		}
		i := slices.IndexFunc(cfg.Instruments, func(i event.Instrument) bool {
			return len(cfg.Instruments) == 1 || strings.Contains(dir, "symbol="+i.Symbol) || strings.Contains(line, `"s":"`+i.Symbol+`"`)
		})
		if strings.Contains(line, `"depthUpdate"`) && asked[i] == 0 { // the first of a book asks for its snapshot
			requests++
			asked[i] = requests
		}
		if strings.HasPrefix(dir, "rest") {
			add(event.InputRest, event.RestAux(asked[i], uint16(i), 200), line)
		} else {
			add(event.InputFrame, 0, line)
		}
	}
	add(event.InputTick, 0, "")
	add(event.InputStop, 0, "")
	return all
}

// capturesDir is where the recordings are; without them the test is skipped.
func capturesDir(t *testing.T) string {
	t.Helper()
	captures := os.Getenv("DEEPTAPE_CAPTURES")
	if captures == "" {
		captures = filepath.Join("..", "..", "..", "shared", "captures")
	}
	if _, err := os.Stat(captures); err != nil {
		t.Skipf("no recordings: %v; set DEEPTAPE_CAPTURES", err)
	}
	return captures
}

func plain(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err == nil && strings.HasSuffix(name, ".gz") {
		var r *gzip.Reader
		if r, err = gzip.NewReader(bytes.NewReader(b)); err == nil {
			b, err = io.ReadAll(r)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What each venue's feed makes of a recording goes through the deliverer into a real
// QuestDB, and verify proves it there: by the venue's own means as far as rows show
// them, and against the inputs.
func TestVerifyVenues(t *testing.T) {
	captures := capturesDir(t)
	conf := qdb.Conf{Addr: dbtest.Start(t)}
	db := qdb.Open(conf)
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	for _, c := range []struct {
		venue, file  string
		depth, lines int
	}{
		{"binance", "binance/cryptofeed_us_4sym_20211012.jsonl", 5000, 10_000},
		{"binance", "binance/spot_btcusdt_20240808_full.jsonl.gz", 5000, 5000},
		{"coinbase", "coinbase/DERIVED_l2data_10products_from_exchange_20210417.jsonl.gz", 0, 2500},
		{"coinbase", "coinbase/tickvault_l2data_btcusd_reduced_20260824.jsonl", 0, 10_000},
		{"kraken", "kraken/DERIVED_v2_book1000_10pairs_from_v1_20210417.jsonl.gz", 1000, 3000},
		{"kraken", "kraken/tickvault_v2_btcusd_d10_20260824.jsonl", 10, 10_000},
		{"okx", "okx/fastmoon_books_btcusdt_20240601.jsonl", 0, 10_000},
		{"okx", "okx/tickvault_books_btcusdt_20260824.jsonl", 0, 10_000},
		{"bybit", "bybit/tickvault_spot_btcusdt_d50_20260825.jsonl", 50, 10_000},
		{"bybit_linear", "bybit/fastmoon_linear_btcusdt_ob500_20240601.jsonl.gz", 500, 10_000},
	} {
		t.Run(filepath.Base(c.file), func(t *testing.T) {
			if err := prepare(ctx, db); err != nil {
				t.Fatal(err)
			}
			for _, table := range schema.Tables() {
				if err := db.Exec(ctx, "TRUNCATE TABLE "+table.Name); err != nil {
					t.Fatal(err)
				}
			}
			inputs := recordedInputs(t, c.venue, filepath.Join(captures, c.file), c.depth, c.lines)
			_, err := Replay(ctx, ReplayOptions{
				Machine: ThisMachine(), DB: conf, Agent: "test", Dir: t.TempDir(), Log: log,
				Prepare: func(context.Context) error { return nil },
			}, follow.New(&listed{inputs}, noImpossible(t)))
			if err != nil {
				t.Fatal(err)
			}
			venue, _ := registry.ByName(c.venue)
			joined := venue.Rules().TradesJoined
			opt := verify.Options{TopLevels: 10, TradesJoined: func(string) bool { return joined }}
			report, err := verify.Database(ctx, db, opt, nil)
			if err != nil {
				t.Fatal(err)
			}
			against, err := verify.Journal(ctx, db, opt, func(want func(venue, symbol string) bool, emit func(*event.Instrument, []byte) error) error {
				return follow.New(&listed{inputs}, noImpossible(t)).Each(want, emit)
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			report.Merge(against)
			var text strings.Builder
			if err := report.WriteText(&text); err != nil || !report.OK() {
				t.Errorf("%v\n%s", err, &text)
			}
			messages, depths := int64(0), 0
			for _, s := range report.Symbols {
				messages += s.Streams[0].Verified.Messages
				for _, p := range s.Proven {
					var n int
					if _, err := fmt.Sscanf(p, "book_depth: %d rows equal", &n); err == nil {
						depths += n
					}
				}
			}
			t.Logf("%d messages of verified books, %d rows of book_depth", messages, depths)
			if messages == 0 || depths == 0 {
				t.Errorf("%d messages of verified books, %d rows of book_depth: not what this test is for\n%s", messages, depths, &text)
			}
		})
	}
}

// noImpossible fails the test for an input that cannot be right.
func noImpossible(t *testing.T) func(*feed.BadInputError) {
	return func(e *feed.BadInputError) { t.Error(e) }
}
