package endtoend

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// What each venue proves its books by, at best.
var proofs = map[string]string{
	"binance": "chain", "coinbase": "connection_seq", "kraken": "crc", "okx": "chain", "bybit": "chain", "bybit_linear": "chain",
}

// Venues whose trades are numbered.
var numbersTrades = []string{"binance", "coinbase", "kraken", "okx"}

// understood is how many book messages and trades the agent has made rows of.
func (a *agent) understood() (n int) {
	a.t.Helper()
	var st struct {
		Symbols []struct {
			Books  int `json:"book_messages"`
			Trades int
		}
	}
	getJSON(a.t, a.url+"/status.json", &st)
	for _, s := range st.Symbols {
		n += s.Books + s.Trades
	}
	return n
}

// bookIsProven checks the coverage of a book: nothing is missing after its start, and
// all its messages are verified by the venue's proof.
func (s *stored) bookIsProven() (messages int64) {
	s.t.Helper()
	for i, x := range s.coverage["book"] {
		switch {
		case i == 0 && x.state == "gap" && x.cause == "start":
		case x.state == "verified" && x.proof == proofs[s.venue]:
			messages += x.messages
		case x.state == "unverified" && x.cause == "silence" && x.messages == 0: // so slow was this machine
		default:
			s.t.Errorf("%s %s: coverage of the book: %v", s.venue, s.symbol, x)
		}
	}
	return messages
}

// balanced is what a status must show at any time: rows may be on their way.
func (st agentStatus) balanced(t *testing.T) {
	t.Helper()
	if st.LedgerDifference != 0 || st.Frames["lost"] != 0 {
		t.Errorf("ledger difference %d, frames %v", st.LedgerDifference, st.Frames)
	}
	for table, r := range st.Rows {
		if r.Quarantined != 0 {
			t.Errorf("table %s: %+v", table, r)
		}
	}
}

// TestFiveVenues: one agent records every venue at once, over real sockets into a real
// QuestDB; every book is verified by its venue's own proof.
func TestFiveVenues(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some ten seconds")
	}
	symbols := map[string][]string{
		"binance": {"BTCUSDT"}, "coinbase": {"BTC-USD", "ETH-USD", "SOL-USD", "XRP-USD", "ADA-USD"}, "kraken": {"BTC/USD", "ETH/USD"},
		"okx": {"BTC-USDT"}, "bybit": {"BTCUSDT"}, "bybit_linear": {"BTCUSDT"},
	}
	feeds := 7 // Coinbase's five symbols are too many for one connection
	if race {
		symbols["coinbase"], symbols["kraken"], feeds = []string{"BTC-USD"}, []string{"BTC/USD"}, 6
	}
	args, all := []string{"--seed", "5"}, 0
	for _, name := range slices.Sorted(maps.Keys(symbols)) {
		args = append(args, name+":"+strings.Join(symbols[name], ","))
		all += len(symbols[name])
	}
	share(t, waits, 20*time.Second)
	db := emptyDatabase(t)
	v := startVenue(t, t.TempDir(), args...)
	a := startAgent(t, v, db)
	const enough = 20 // messages of each book, and some trades
	for began := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		books := len(db.export(fmt.Sprintf("SELECT venue, symbol, n FROM (SELECT venue, symbol, count() n FROM book_delta WHERE flags & %d <> 0 GROUP BY venue, symbol) WHERE n > %d", flagLast, enough)))
		traded := len(db.export("SELECT venue, symbol, n FROM (SELECT venue, symbol, count() n FROM trades GROUP BY venue, symbol) WHERE n >= 3"))
		if books == all && traded == all {
			t.Logf("%s until every book had %d messages", time.Since(began).Round(time.Millisecond), enough)
			break
		}
		if time.Since(began) > 2*time.Minute {
			t.Fatalf("after two minutes %d of %d books have %d messages, and %d symbols 3 trades: %+v", books, all, enough, traded, a.status())
		}
	}
	if st := a.status(); len(st.Feeds) != feeds {
		t.Errorf("%d feeds, want %d", len(st.Feeds), feeds)
	} else {
		st.balanced(t)
	}
	a.checkMetrics(t)
	a.interrupt()
	for _, warning := range []string{"not trading", "does not list", "no instrument metadata", "level=ERROR"} {
		if strings.Contains(a.errout.String(), warning) {
			t.Errorf("the agent says %q", warning)
		}
	}
	db.applied()
	for name, list := range symbols {
		for _, symbol := range list {
			s := db.readApplied(t, name, symbol)
			if n := s.bookIsProven(); n <= enough {
				t.Errorf("%s %s: %d messages of a verified book", name, symbol, n)
			}
			numbered := int64(0)
			for _, x := range s.coverage["trades"] {
				if x.state == "verified" && x.proof == "trade_id" {
					numbered += x.messages
				}
			}
			if want := slices.Contains(numbersTrades, name); want != (numbered > 0) {
				t.Errorf("%s %s: %d trades of %d are verified: %s", name, symbol, numbered, len(s.trades), s.states("trades"))
			}
		}
	}
	v.verified(t, db)
}

// verified: everything is proven, from the database alone and against the journal.
func (v *venue) verified(t *testing.T, db database) {
	t.Helper()
	if !race { // it is one goroutine
		run(t, 0, nil, "verify", "--questdb", db.conf())
	}
	v.verify(t, db)
}

// oracleRow is a line of rows.py, which reads the recordings and shares nothing with
// the agent.
type oracleRow struct {
	K    string      `json:"k"`
	Sym  string      `json:"sym"`
	Snap bool        `json:"snap"`
	Seq  *int64      `json:"seq"`
	Prev *int64      `json:"prev"`
	Lv   [][3]string `json:"lv"`
	ID   string      `json:"id"`
	Px   string      `json:"px"`
	Qty  string      `json:"qty"`
	Side string      `json:"side"`
	Ts   any         `json:"ts"`
}

// oracle is what rows.py reads in a recording, by symbol.
func oracle(t *testing.T, venue, path string) map[string][]oracleRow {
	t.Helper()
	if venue == "bybit_linear" {
		venue = "bybit"
	}
	cmd := exec.Command("python3", filepath.Join(filepath.Dir(path), "..", "rows.py"), venue, path)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("rows.py %s %s: %v\n%s", venue, path, err, &said)
	}
	rows := map[string][]oracleRow{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var r oracleRow
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		d.UseNumber()
		if err := d.Decode(&r); err != nil {
			t.Fatalf("rows.py %s: %v", path, err)
		}
		rows[r.Sym] = append(rows[r.Sym], r)
	}
	return rows
}

// TestRecordingSets: recordings of all five venues at once, as fast as the sockets take
// them, are stored digit for digit as rows.py reads them.
func TestRecordingSets(t *testing.T) {
	if testing.Short() || race {
		t.Skip("takes some twenty seconds; one goroutine each is raced in TestFiveVenues")
	}
	t.Parallel()
	type file struct {
		venue, path  string
		book, trades int // messages and trades in it that must be stored
	}
	for _, set := range []struct {
		name  string
		files []file
	}{
		{"all venues", []file{
			{"binance", "binance/cryptofeed_us_4sym_20211012.jsonl", 4 + 332, 0}, // without the 4 events that its snapshots contain
			{"coinbase", "coinbase/DERIVED_l2data_10products_from_exchange_20210417.jsonl.gz", 9729, 0},
			{"coinbase", "coinbase/fastmoon_market_trades_btcusd_20240602.jsonl", 0, 182},
			{"kraken", "kraken/DERIVED_v2_book1000_10pairs_from_v1_20210417.jsonl.gz", 4279, 0},
			{"okx", "okx/fastmoon_books_btcusdt_20240601.jsonl", 345, 0},
			{"bybit", "bybit/tickvault_spot_btcusdt_d50_20260825.jsonl", 9, 0},
			{"bybit_linear", "bybit/fastmoon_linear_btcusdt_ob500_20240601.jsonl.gz", 483, 0},
		}},
		{"frames of 2026, and trades", []file{
			{"coinbase", "coinbase/tickvault_l2data_btcusd_reduced_20260824.jsonl", 11, 0},
			{"bybit", "bybit/moonstream_spot_publictrade_btcusdt_20240130.jsonl", 0, 255},
			{"kraken", "kraken/tickvault_v2_btcusd_d10_20260824.jsonl", 4, 0},
			{"okx", "okx/tickvault_books_btcusdt_20260824.jsonl", 7, 0},
		}},
	} {
		t.Run(set.name, func(t *testing.T) {
			args, want := []string{"--speed", "0"}, 0
			for _, f := range set.files {
				want += f.book + f.trades
				args = append(args, "--file", f.venue+":"+recording(t, f.path))
			}
			share(t, toils, 15*time.Second)
			db := emptyDatabase(t)
			v := startVenue(t, t.TempDir(), args...)
			a := startAgent(t, v, db)
			for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
				if n := a.understood(); n >= want && a.status().LagInputs == 0 {
					break
				} else if time.Since(began) > 2*time.Minute {
					t.Fatalf("after two minutes %d of %d book messages and trades: %+v", n, want, a.status())
				}
			}
			a.status().balanced(t)
			a.interrupt()
			db.applied()
			read := map[string]*stored{}
			proven := map[string]int64{}
			for _, f := range set.files {
				books, trades := 0, 0
				for symbol, rows := range oracle(t, f.venue, recording(t, f.path)) {
					key := f.venue + " " + symbol
					s := read[key]
					if s == nil {
						s = db.readApplied(t, f.venue, symbol)
						read[key] = s
						proven[f.venue] += s.bookIsProven()
					}
					s.t = t
					n, m := s.isAsRead(rows)
					books, trades = books+n, trades+m
				}
				if books != f.book || trades != f.trades {
					t.Errorf("%s: %d book messages and %d trades are stored as rows.py reads them, want %d and %d", f.path, books, trades, f.book, f.trades)
				}
			}
			for _, f := range set.files {
				if f.book > 0 && proven[f.venue] != int64(f.book) {
					t.Errorf("%s: %d messages of verified books, want %d", f.venue, proven[f.venue], f.book)
				}
			}
			v.verified(t, db)
		})
	}
}

// isAsRead compares what is stored of a symbol with what rows.py reads in a recording:
// each book message and each trade of it, in order, and no other. Of Binance, whose
// snapshots stand anywhere in a recording, without the events that they contain. The
// recording may bring books alone, or trades alone.
func (s *stored) isAsRead(rows []oracleRow) (books, trades int) {
	t := s.t
	t.Helper()
	var want, got []string
	contained := int64(-1)
	for _, r := range rows {
		if s.venue == "binance" && r.Snap {
			contained = *r.Seq
		}
	}
	for _, r := range rows {
		if r.K != "book" || s.venue == "binance" && !r.Snap && *r.Seq <= contained {
			continue
		}
		text := "delta"
		if r.Snap {
			text = "snapshot"
		}
		if s.venue != "coinbase" && r.Seq != nil { // the simulator numbers Coinbase's frames anew
			text += " " + itoa(*r.Seq)
			if r.Prev != nil {
				text += " after " + itoa(*r.Prev)
			}
		}
		for _, l := range r.Lv {
			text += "\n" + l[0] + " " + plain(t, l[1]) + " " + plain(t, l[2])
		}
		want = append(want, text)
	}
	for _, m := range s.book {
		if m.flags&flagKeyframe != 0 {
			continue
		}
		text := "delta"
		if m.flags&flagSnapshot != 0 {
			text = "snapshot"
		}
		if s.venue != "coinbase" && s.venue != "kraken" {
			text += " " + itoa(m.seq)
			if m.prev != "" {
				text += " after " + m.prev
			}
		}
		for _, l := range m.levels {
			text += "\n" + l.side + " " + l.px + " " + l.qty
		}
		got = append(got, text)
	}
	if s.venue == "binance" {
		bySnapshot := func(a, b string) int { return strings.Compare(b[:1], a[:1]) } // snapshots first
		slices.SortStableFunc(want, bySnapshot)
		slices.SortStableFunc(got, bySnapshot)
	}
	if len(want) > 0 {
		s.equal("book message", want, got)
		books = len(want)
	}
	want, got = nil, nil
	if s.venue == "coinbase" { // its frames bring the newest trade first
		slices.SortStableFunc(rows, func(a, b oracleRow) int { return strings.Compare(sortKey(a.ID), sortKey(b.ID)) })
	}
	for _, r := range rows {
		if r.K == "trade" {
			want = append(want, fmt.Sprintf("%s %s %s %s %d", r.ID, plain(t, r.Px), plain(t, r.Qty), r.Side, wireTime(t, r.Ts)))
		}
	}
	for _, x := range s.trades {
		got = append(got, fmt.Sprintf("%s %s %s %s %d", x.id, x.px, x.qty, x.side, x.tradeNs))
	}
	if len(want) > 0 {
		s.equal("trade", want, got)
		trades = len(want)
	}
	return books, trades
}

// equal stops at the first difference.
func (s *stored) equal(what string, want, got []string) {
	s.t.Helper()
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			a, b := strings.Split(got[i], "\n"), strings.Split(want[i], "\n")
			at := 0
			for at < min(len(a), len(b)) && a[at] == b[at] {
				at++
			}
			s.t.Fatalf("%s %s: %s %d of %d is stored with %d levels (%s), rows.py reads %d (%s); from level %d on\n%q\n%q", s.venue, s.symbol, what, i, len(want),
				len(a)-1, a[0], len(b)-1, b[0], at-1, a[at:min(at+3, len(a))], b[at:min(at+3, len(b))])
		}
	}
	if len(want) != len(got) {
		s.t.Fatalf("%s %s: stored %d of %d: %s", s.venue, s.symbol, len(got), len(want), what)
	}
}

// wireTime is the venue's time as sent: milliseconds or RFC 3339.
func wireTime(t *testing.T, ts any) int64 {
	t.Helper()
	switch x := ts.(type) {
	case json.Number:
		if ms, err := x.Int64(); err == nil {
			return ms * 1e6
		}
	case string:
		if at, err := time.Parse(time.RFC3339Nano, x); err == nil {
			return at.UnixNano()
		}
		if ms, err := json.Number(x).Int64(); err == nil {
			return ms * 1e6
		}
	}
	t.Fatalf("time %v", ts)
	return 0
}
