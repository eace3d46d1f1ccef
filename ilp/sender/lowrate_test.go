package sender

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"deeptape/hotpath/event"
	"deeptape/ilp/line/linetest"
	"deeptape/ilp/qdb"
)

// box is a QuestDB that keeps what it takes, and answers as told.
type box struct {
	bodies []string
	refuse map[string]int // status by table
	answer string         // to what is refused so
	poison string         // a row with this in it is refused
	posts  int
	most   int // bytes of a body; 0: any
}

func (b *box) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	table, _, _ := strings.Cut(string(body), ",")
	if status := b.refuse[table]; status != 0 {
		w.WriteHeader(status)
		io.WriteString(w, b.answer)
		return
	}
	b.posts++
	if b.most > 0 && len(body) > b.most {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		io.WriteString(w, b.answer)
		return
	}
	n := 0 // rows; a text of one may hold a line end
	for _, row := range strings.SplitAfter(string(body), "\n") {
		if strings.HasPrefix(row, table+",") {
			n++
		}
		if b.poison != "" && strings.Contains(row, b.poison) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"code":"invalid","message":"told so","line":%d}`, n)
			return
		}
	}
	b.bodies = append(b.bodies, string(body))
	w.WriteHeader(http.StatusNoContent)
}

func openBox(t *testing.T) (*box, *LowRate, *httptest.Server) {
	t.Helper()
	b := &box{refuse: map[string]int{}, answer: `{"code":"invalid","message":"table: coverage; table does not exist","line":1}`}
	server := httptest.NewServer(http.HandlerFunc(b.serve))
	l, err := OpenLowRate(confOf(server))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); server.Close() })
	return b, l, server
}

func interval(ts, end int64, state event.State) event.Coverage {
	return event.Coverage{Stream: event.StreamBook, State: state, Proof: event.ProofChain, Ts: ts, TsEnd: end, SeqFirst: 5, SeqLast: event.Null, Messages: 3, Detail: []byte("it's \"so\"\n")}
}

func TestLowRateRows(t *testing.T) {
	b, l, _ := openBox(t)
	ctx := context.Background()
	if err := l.Flush(ctx); err != nil || len(b.bodies) != 0 {
		t.Fatalf("an empty flush: %v, %q", err, b.bodies)
	}
	l.Coverage("agent 1", "kraken", "BTC/USD", interval(1760000000000000001, 1760000000000000002, event.StateVerified))
	l.Coverage("agent 1", "kraken", "ETH/USD", interval(1760000000000000001, 1760000000000000002, event.StateGap))
	// The first interval grows: one row, in its first place.
	l.Coverage("agent 1", "kraken", "BTC/USD", interval(1760000000000000001, 1760000000000000009, event.StateVerified))
	if err := l.Instrument(1760000000000000003, event.Instrument{Venue: "kraken", Symbol: "BTC/USD", PxScale: 1, QtyScale: 8, Tick: "0.1", Lot: "0.00000001", Source: "messages"}); err != nil {
		t.Fatal(err)
	}
	if err := l.Instrument(1, event.Instrument{Venue: "v", Symbol: "s", Lot: "1,5"}); err == nil || !strings.Contains(err.Error(), "lot") {
		t.Errorf("a lot that is no number: %v", err)
	}
	l.Stat(1760000000000000004, "kraken", "ws-1", "frames_received", 42)
	if l.Pending() != 4 {
		t.Fatalf("%d pending", l.Pending())
	}
	if err := l.Flush(ctx); err != nil || l.Pending() != 0 {
		t.Fatalf("%v, %d pending", err, l.Pending())
	}
	rows, err := linetest.Decode([]byte(strings.Join(b.bodies, "")))
	if err != nil {
		t.Fatal(err)
	}
	col := func(pairs ...any) (c []linetest.Column) {
		for i := 0; i < len(pairs); i += 2 {
			c = append(c, linetest.Column{Name: pairs[i].(string), Value: pairs[i+1]})
		}
		return c
	}
	type sym = linetest.Symbol
	want := []linetest.Row{
		{Table: "instruments", Ts: 1760000000000000003, Columns: col("venue", sym("kraken"), "symbol", sym("BTC/USD"), "source", sym("messages"), "px_scale", int64(1), "qty_scale", int64(8), "tick", 0.1, "lot", 1e-8)},
		{Table: "coverage", Ts: 1760000000000000001, Columns: col("venue", sym("kraken"), "symbol", sym("BTC/USD"), "stream", sym("book"), "state", sym("verified"), "proof", sym("chain"), "agent", sym("agent 1"),
			"ts_end", int64(1760000000000000009), "seq_first", int64(5), "messages", int64(3), "detail", linetest.Text("it's \"so\"\n"))},
		{Table: "coverage", Ts: 1760000000000000001, Columns: col("venue", sym("kraken"), "symbol", sym("ETH/USD"), "stream", sym("book"), "state", sym("gap"), "proof", sym("chain"), "agent", sym("agent 1"),
			"ts_end", int64(1760000000000000002), "seq_first", int64(5), "messages", int64(3), "detail", linetest.Text("it's \"so\"\n"))},
		{Table: "capture_stats", Ts: 1760000000000000004, Columns: col("venue", sym("kraken"), "connection", sym("ws-1"), "counter", sym("frames_received"), "value", int64(42))},
	}
	if !reflect.DeepEqual(rows, want) {
		t.Errorf("wrote %+v\nwant  %+v", rows, want)
	}
}

// The client forgets what it could not send; LowRate must not.
func TestLowRateKeeps(t *testing.T) {
	b, l, server := openBox(t)
	ctx := context.Background()
	l.Coverage("a", "v", "s", interval(10, 20, event.StateVerified))
	l.Stat(11, "v", "c", "n", 1)
	for _, status := range []int{400, 421, 500, 503} {
		b.refuse["coverage"] = status
		err := l.Flush(ctx)
		if err == nil || !strings.Contains(err.Error(), `cannot write 1 rows to table "coverage"`) || errors.Is(err, qdb.ErrUnreachable) {
			t.Fatalf("%d: %v", status, err)
		}
		if l.Pending() != 1 || len(b.bodies) != 1 {
			t.Fatalf("%d: %d pending after %q: one table must not keep the others", status, l.Pending(), b.bodies)
		}
	}
	// The interval that failed to arrive grows and is joined by another.
	detail := []byte("short-lived")
	grown := interval(10, 30, event.StateUnverified)
	grown.Detail = detail
	l.Coverage("a", "v", "s", grown)
	clear(detail)
	l.Coverage("a", "v", "s", interval(31, 40, event.StateGap))
	delete(b.refuse, "coverage")
	if err := l.Flush(ctx); err != nil || l.Pending() != 0 || len(b.bodies) != 2 {
		t.Fatalf("%v, %d pending, %q", err, l.Pending(), b.bodies)
	}
	rows, err := linetest.Decode([]byte(b.bodies[1]))
	if err != nil || len(rows) != 2 || rows[0].Get("ts_end") != int64(30) || rows[0].Get("detail") != linetest.Text("short-lived") || rows[1].Ts != 31 {
		t.Fatalf("%v: %+v", err, rows)
	}
	// The same interval once more, after it was stored: a new row, not a lost one.
	l.Coverage("a", "v", "s", interval(31, 50, event.StateGap))
	if l.Pending() != 1 {
		t.Fatalf("%d pending", l.Pending())
	}
	server.Close()
	start := time.Now()
	if err := l.Flush(ctx); !errors.Is(err, qdb.ErrUnreachable) || l.Pending() != 1 {
		t.Fatalf("%v, %d pending", err, l.Pending())
	}
	if time.Since(start) > 8*time.Second { // it would for 10 s
		t.Error("the client retried by itself")
	}
	stopped, stop := context.WithCancel(ctx)
	stop()
	if err := l.Flush(stopped); !errors.Is(err, context.Canceled) || errors.Is(err, qdb.ErrUnreachable) || l.Pending() != 1 {
		t.Fatalf("%v, %d pending", err, l.Pending())
	}
}

// Rows that QuestDB refuses and names are handed back; their neighbours are stored.
func TestLowRateRefused(t *testing.T) {
	b, l, _ := openBox(t)
	ctx := context.Background()
	want := map[int64]bool{}
	for i := range int64(100) {
		symbol := "good"
		if i == 0 || i == 41 || i == 42 || i == 99 {
			symbol, want[i] = "poison", true
		}
		l.Coverage("a", "v", symbol, interval(i, i, event.StateVerified))
	}
	if err := l.Instrument(7, event.Instrument{Venue: "v", Symbol: "poison too"}); err != nil {
		t.Fatal(err)
	}
	l.Stat(8, "poison", "c", "n", 1)
	b.poison = "poison"
	b.refuse["instruments"] = 500
	err := l.Flush(ctx)
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Err == nil || !strings.Contains(err.Error(), `cannot write 1 rows to table "instruments"`) || !strings.Contains(err.Error(), "refused 5 rows") || len(refused.Rows) != 5 {
		t.Fatalf("%v", err)
	}
	for _, r := range refused.Rows[:4] {
		rows, err := linetest.Decode(r.Text)
		if err != nil || len(rows) != 1 || rows[0].Ts != r.Ts || rows[0].Get("symbol") != linetest.Symbol("poison") {
			t.Errorf("%q: %v", r.Text, err)
		}
		if !want[r.Ts] || r.Table != "coverage" || r.Venue != "v" || r.Symbol != "poison" || r.Stream != event.StreamBook || r.Reason != "told so" {
			t.Errorf("refused %+v", r)
		}
		delete(want, r.Ts)
	}
	if r := refused.Rows[4]; r.Table != "capture_stats" || !strings.HasPrefix(string(r.Text), "capture_stats,venue=poison,") {
		t.Errorf("refused %+v", r)
	}
	rows, err := linetest.Decode([]byte(strings.Join(b.bodies, "")))
	if err != nil || len(rows) != 96 {
		t.Errorf("%d rows stored, %v", len(rows), err)
	}
	if l.Pending() != 1 {
		t.Errorf("%d pending", l.Pending())
	}
	clear(b.refuse)
	err = l.Flush(ctx)
	if !errors.As(err, &refused) || refused.Err != nil || len(refused.Rows) != 1 || refused.Rows[0].Symbol != "poison too" || refused.Rows[0].Ts != 7 || l.Pending() != 0 {
		t.Errorf("%v, %d pending", err, l.Pending())
	}
	before := b.posts
	if err = l.Flush(ctx); err != nil || b.posts != before {
		t.Errorf("after all: %v, %d posts", err, b.posts-before)
	}
}

// A request that is too large is sent in parts, and those after it are no larger. A row that
// is too large alone is kept: whoever says so may have no more than a limit set wrong.
func TestLowRateTooLarge(t *testing.T) {
	for _, answer := range []string{"", "<html>", `{"code":"invalid","message":"too much"}`} {
		b, l, _ := openBox(t)
		b.most, b.answer = 20_000, answer
		add := func(n int64) {
			for i := range n {
				l.Coverage("a", "v", "s", interval(i, i, event.StateVerified))
			}
		}
		add(400)
		if err := l.Flush(context.Background()); err != nil {
			t.Fatalf("%q: %v", answer, err)
		}
		if rows, err := linetest.Decode([]byte(strings.Join(b.bodies, ""))); err != nil || len(rows) != 400 || l.Pending() != 0 {
			t.Errorf("%q: %d rows stored, %d pending, %v", answer, len(rows), l.Pending(), err)
		}
		// The limit is remembered: nothing is tried in vain.
		stored, posts := len(b.bodies), b.posts
		add(400)
		if err := l.Flush(context.Background()); err != nil || b.posts-posts != len(b.bodies)-stored {
			t.Errorf("%q: %d posts for %d that were stored, %v", answer, b.posts-posts, len(b.bodies)-stored, err)
		}
		b.most = 10
		add(1)
		var refused *RefusedError
		if err := l.Flush(context.Background()); err == nil || errors.As(err, &refused) || l.Pending() != 1 {
			t.Errorf("%q: a single row: %v, %d pending", answer, err, l.Pending())
		}
	}
}

// Whatever is not QuestDB's own 204 or its word on a row keeps the rows, and no redirect
// takes the credentials elsewhere: QuestDB's client would follow it and call it stored.
func TestLowRateForeignAnswers(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
	}{
		{400, "<html>Bad Request</html>"}, {400, `{"code":"invalid","mess`}, {400, `{"code":"invalid","message":"bad"}`},
		{302, ""}, {307, ""}, {200, "welcome"}, {500, strings.Repeat("endless ", 1<<20)}, {400, strings.Repeat("endless ", 1<<20)},
	} {
		followed := 0
		elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			followed++
			w.WriteHeader(http.StatusNoContent)
		}))
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(c.status)
			io.WriteString(w, c.body)
		}))
		conf := confOf(server)
		conf.Token = "secret"
		l, err := OpenLowRate(conf)
		if err != nil {
			t.Fatal(err)
		}
		l.Coverage("a", "v", "s", interval(1, 2, event.StateVerified))
		var refused *RefusedError
		if err := l.Flush(context.Background()); err == nil || errors.As(err, &refused) || l.Pending() != 1 || followed > 0 || len(err.Error()) > maxAnswer+1000 {
			t.Errorf("%d %.60q: %.200v, %d pending, followed %d times", c.status, c.body, err, l.Pending(), followed)
		}
		l.Close()
		server.Close()
		elsewhere.Close()
	}
}

func TestLowRateStatsAreBounded(t *testing.T) {
	_, l, _ := openBox(t)
	for i := range maxPendingStats + 5 {
		l.Stat(int64(i), "v", "c", "n", int64(i))
	}
	if l.Pending()+int(l.StatsDropped()) != maxPendingStats+5 || l.Pending() > maxPendingStats || l.StatsDropped() == 0 {
		t.Errorf("%d pending and %d dropped of %d", l.Pending(), l.StatsDropped(), maxPendingStats+5)
	}
	if last := l.stats[len(l.stats)-1]; last.value != maxPendingStats+4 {
		t.Errorf("the newest is %+v: the oldest must go", last)
	}
}

func TestLiveLowRate(t *testing.T) {
	ctx, db := live(t)
	l, err := OpenLowRate(db.Conf())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const ts = 1760000000000000001
	l.Coverage("agent-1", "kraken", "BTC/USD", interval(ts, ts+5, event.StateVerified))
	if err := l.Instrument(ts, event.Instrument{Venue: "kraken", Symbol: "BTC/USD", Pair: "BTC-USD", Market: "spot", Base: "BTC", Quote: "USD", PxScale: 1, QtyScale: 8, Tick: "0.1", Lot: "0.00000001", Status: "online", Source: "instrument"}); err != nil {
		t.Fatal(err)
	}
	l.Stat(ts, "kraken", "ws-1", "frames", -3)
	for range 2 {
		if err := l.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	l.Coverage("agent-1", "kraken", "BTC/USD", interval(ts, ts+9, event.StateVerified))
	if err := l.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	applied(t, ctx, db, "SELECT count() n FROM coverage WHERE ts_end = "+qdb.FormatTime(ts+9), 1)
	applied(t, ctx, db, "SELECT count() n FROM instruments", 1)
	applied(t, ctx, db, "SELECT sum(value) n FROM capture_stats", -3)
	// QuestDB takes no row of before 1970, and all others of the same request.
	l.Coverage("agent-1", "kraken", "OLD/USD", interval(-5, ts, event.StateVerified))
	l.Coverage("agent-1", "kraken", "BTC/USD", interval(ts, ts+9, event.StateVerified))
	var refused *RefusedError
	if err := l.Flush(ctx); !errors.As(err, &refused) || refused.Err != nil || len(refused.Rows) != 1 || refused.Rows[0].Symbol != "OLD/USD" || !strings.Contains(refused.Rows[0].Reason, "1970") {
		t.Errorf("a row of before 1970: %v", err)
	}
	r, err := db.Query(ctx, "SELECT * FROM coverage")
	if err != nil || r.Len() != 1 {
		t.Fatalf("%v, %v", err, r)
	}
	start, _ := r.Time(0, "ts")
	end, _ := r.Time(0, "ts_end")
	first, _ := r.Int(0, "seq_first")
	if start != ts || end != ts+9 || first != 5 || !r.Null(0, "seq_last") || !r.Null(0, "cause") || r.Text(0, "proof") != "chain" || r.Text(0, "detail") != "it's \"so\"\n" || r.Text(0, "agent") != "agent-1" {
		t.Errorf("coverage row is %v", r.Rows[0])
	}
	r, err = db.Query(ctx, "SELECT * FROM instruments")
	if err != nil {
		t.Fatal(err)
	}
	tick, _ := r.Float(0, "tick")
	lot, _ := r.Float(0, "lot")
	if tick != 0.1 || lot != 1e-8 || !r.Null(0, "contract_size") || r.Text(0, "qty_scale") != "8" || r.Text(0, "pair") != "BTC-USD" {
		t.Errorf("instruments row is %v", r.Rows[0])
	}
}
