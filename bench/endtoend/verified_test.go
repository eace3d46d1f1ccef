package endtoend

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// provenView is a view NAME_verified, what it is made of, and a column that tells its rows.
type provenView struct {
	name, base, column, stream string
}

var provenViews = []provenView{
	{"top_verified", "book_top", "bid", "book"},
	{"delta_verified", "delta", "price", "book"},
	{"trade_verified", "trade", "price", "trades"},
	{"quotes_verified", "quotes", "bid", "quotes"},
	{"book_depth_verified", "book_depth", "bid", "book"},
}

// TestProvenViews joins instants to each of the proven views, at the first and the last
// nanosecond of each interval of coverage, one before and one after, and at each trade: an
// ASOF JOIN must give the last proven row of the same unbroken proven time, and nulls at
// every other instant. All venues lose a book update and a connection, so that trades fall
// into gaps of their book; then the agent is killed and starts again.
//
// What is expected is worked out here from coverage and the tables alone.
func TestProvenViews(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	share(t, works, 25*time.Second)
	db := emptyDatabase(t)
	symbols := map[string]string{"binance": "BTCUSDT", "coinbase": "BTC-USD", "kraken": "BTC/USD", "okx": "BTC-USDT", "bybit": "BTCUSDT", "bybit_linear": "BTCUSDT"}
	args := []string{"--seed", "21", "--faults", "drop@25,crossed@60,disconnect@90"}
	for _, venue := range slices.Sorted(maps.Keys(symbols)) {
		args = append(args, venue+":"+symbols[venue])
	}
	v := startVenue(t, t.TempDir(), args...)
	a := startAgent(t, v, db)
	a.recordFor(12 * time.Second)
	a.kill9()
	time.Sleep(300 * time.Millisecond) // the markets go on
	a = startAgent(t, v, db)
	a.recordFor(2 * time.Second)
	a.interrupt()
	db.applied()

	db.exec("DROP TABLE IF EXISTS instants")
	db.exec("CREATE TABLE instants (ts TIMESTAMP_NS, venue SYMBOL, symbol SYMBOL) TIMESTAMP(ts) PARTITION BY DAY WAL DEDUP UPSERT KEYS(ts, venue, symbol)")
	t.Cleanup(func() { db.exec("DROP TABLE instants") })
	trades := 0
	for venue, symbol := range symbols {
		s := &symbolTime{db: db, venue: venue, symbol: symbol, intervals: map[string][]interval{}}
		s.read()
		s.ask()
		for _, p := range provenViews {
			s.check(t, p)
		}
		trades += s.tradesInGaps()
	}
	// Without trades in gaps of the book the test would show nothing of what misled.
	if trades < 3 {
		t.Errorf("only %d trades lie in gaps of a book that was proven before", trades)
	}
}

// symbolTime is the time that was recorded of one symbol.
type symbolTime struct {
	db            database
	venue, symbol string
	intervals     map[string][]interval // by stream, in order
	trades        []int64               // their ts
	instants      []int64               // at which the views are asked
}

func (s *symbolTime) where() string {
	return fmt.Sprintf(" WHERE venue = '%s' AND symbol = '%s'", s.venue, s.symbol)
}

func (s *symbolTime) read() {
	t := s.db.t
	for _, r := range s.db.export("SELECT ts::long ns, ts_end::long ns_end, stream, state FROM coverage" + s.where() + " ORDER BY ts") {
		s.intervals[r["stream"]] = append(s.intervals[r["stream"]], interval{from: r.int(t, "ns"), to: r.int(t, "ns_end"), state: r["state"]})
	}
	for _, r := range s.db.export("SELECT ts::long ns FROM trades" + s.where() + " ORDER BY ts") {
		s.trades = append(s.trades, r.int(t, "ns"))
	}
	s.instants = slices.Clone(s.trades)
	for _, list := range s.intervals {
		for _, x := range list {
			s.instants = append(s.instants, x.from-1, x.from, x.to, x.to+1)
		}
	}
	slices.Sort(s.instants)
	s.instants = slices.Compact(s.instants)
}

// ask stores the instants, so that a view can be joined to them.
func (s *symbolTime) ask() {
	for part := range slices.Chunk(s.instants, 200) {
		var values []string
		for _, ns := range part {
			values = append(values, fmt.Sprintf("(%d::timestamp_ns, '%s', '%s')", ns, s.venue, s.symbol))
		}
		s.db.exec("INSERT INTO instants VALUES " + strings.Join(values, ", "))
	}
	s.db.applied()
}

// provenFrom is when the unbroken proven time began in which an instant lies.
func (s *symbolTime) provenFrom(stream string, ns int64) (from int64, proven bool) {
	list := s.intervals[stream]
	i, found := slices.BinarySearchFunc(list, ns, func(x interval, ns int64) int { return cmp.Compare(x.from, ns) })
	if !found {
		i--
	}
	if i < 0 || list[i].state != "verified" || ns > list[i].to {
		return 0, false
	}
	for ; i > 0 && list[i-1].state == "verified" && list[i-1].to == list[i].from-1; i-- {
	}
	return list[i].from, true
}

// tradesInGaps counts the trades at which the book is not proven, and was before.
func (s *symbolTime) tradesInGaps() (n int) {
	for _, ns := range s.trades {
		if _, proven := s.provenFrom("book", ns); !proven && ns > s.intervals["book"][0].to {
			n++
		}
	}
	return n
}

// check compares a view with what the tables say.
func (s *symbolTime) check(t *testing.T, p provenView) {
	t.Helper()
	type value struct {
		ns   int64
		text string
	}
	var base []value
	provenRows := 0
	for _, r := range s.db.export("SELECT ts::long ns, " + p.column + " x FROM " + p.base + s.where() + " ORDER BY ts") {
		base = append(base, value{r.int(t, "ns"), r["x"]})
		if _, proven := s.provenFrom(p.stream, base[len(base)-1].ns); proven && r["x"] != "" {
			provenRows++
		}
	}
	if rows := s.db.export("SELECT count(" + p.column + ") n FROM " + p.name + s.where())[0].int(t, "n"); rows != int64(provenRows) {
		t.Errorf("%s of %s %s has %d rows that say something, want the %d of %s that lie in proven time", p.name, s.venue, s.symbol, rows, provenRows, p.base)
	}
	got := s.db.export("SELECT i.ts::long ns, q." + p.column + " x FROM (SELECT * FROM instants" + s.where() + ") i ASOF JOIN " + p.name + " q ON (venue, symbol) ORDER BY i.ts")
	if len(got) != len(s.instants) {
		t.Fatalf("%d answers for %d instants", len(got), len(s.instants))
	}
	wrong := 0
	for n, r := range got {
		ns := s.instants[n]
		last, found := slices.BinarySearchFunc(base, ns, func(v value, ns int64) int { return cmp.Compare(v.ns, ns) })
		if !found {
			last--
		}
		want := ""
		from, proven := s.provenFrom(p.stream, ns)
		if proven && last >= 0 && base[last].ns >= from {
			want = base[last].text
		}
		if r.int(t, "ns") != ns || r["x"] != want {
			if wrong++; wrong <= 5 {
				t.Errorf("%s of %s %s: at %d the ASOF JOIN gives %q, want %q (proven %t, from %d)", p.name, s.venue, s.symbol, ns, r["x"], want, proven, from)
			}
		}
	}
	if wrong > 5 {
		t.Errorf("%s of %s %s: %d of %d instants are wrong", p.name, s.venue, s.symbol, wrong, len(got))
	}
}
