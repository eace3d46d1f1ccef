package line

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	questdb "github.com/questdb/go-questdb-client/v3"

	"deeptape/hotpath/event"
	"deeptape/ilp/line/linetest"
)

// official writes rows through QuestDB's own client and returns the bytes that it sends.
func official(t *testing.T, rows []linetest.Row) string {
	t.Helper()
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		body = append(body, b...)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	ctx := context.Background()
	s, err := questdb.NewLineSender(ctx, questdb.WithHttp(), questdb.WithAddress(strings.TrimPrefix(server.URL, "http://")), questdb.WithAutoFlushDisabled())
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		s.Table(row.Table)
		for _, c := range row.Columns {
			switch v := c.Value.(type) {
			case linetest.Symbol:
				s.Symbol(c.Name, string(v))
			case linetest.Text:
				s.StringColumn(c.Name, string(v))
			case linetest.Nanos: // the client has no nanoseconds here: see nanos
				s.Int64Column(c.Name, int64(v))
			case int64:
				s.Int64Column(c.Name, v)
			case float64:
				s.Float64Column(c.Name, v)
			default:
				t.Fatalf("the client has no %T", v)
			}
		}
		if err := s.At(ctx, time.Unix(0, row.Ts)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// nanos is the one spelling in which we differ: ts_event says that it counts
// nanoseconds, so that it cannot be taken for microseconds in a table that
// somebody made with another type.
var nanos = regexp.MustCompile(`([, ])ts_event=(-?\d+)i`)

// Where the official client can write a row, it writes the same bytes.
func TestSameBytesAsOfficialClient(t *testing.T) {
	seed := testSeed(t)
	r := rand.New(rand.NewPCG(seed, 5))
	inst := mustInst(t, "kraken", `B T,C/U=S\D`)
	var ours []byte
	var rows []linetest.Row
	for len(rows) < 2000 {
		s := randomSample(r)
		if k := s.head.Kind; k == event.RowBook && len(s.levels) > 0 || k == event.RowTrade {
			s.head.Ts++
			ours, _ = s.append(ours, inst)
			rows = append(rows, s.rows(inst)...)
		}
	}
	want := nanos.ReplaceAllString(official(t, rows), "${1}ts_event=${2}n")
	got, wanted := strings.SplitAfter(string(ours), "\n"), strings.SplitAfter(want, "\n")
	for i := range wanted {
		if i >= len(got) || got[i] != wanted[i] {
			t.Fatalf("line %d is\n%q\nthe official client writes\n%q", i+1, got[i], wanted[i])
		}
	}
	if len(got) != len(wanted) {
		t.Fatalf("%d lines, the official client writes %d", len(got), len(wanted))
	}
}

// It has doubles as text only: the same rows then, not the same bytes.
func TestSameQuotesAsOfficialClient(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 7))
	inst := mustInst(t, "okx", "BTC-USDT")
	var ours []byte
	var rows []linetest.Row
	for len(rows) < 500 {
		s := randomSample(r)
		if s.head.Kind == event.RowQuote {
			ours, _ = s.append(ours, inst)
			rows = append(rows, s.rows(inst)...)
		}
	}
	got, err := linetest.Decode(ours)
	if err != nil {
		t.Fatal(err)
	}
	want, err := linetest.Decode([]byte(nanos.ReplaceAllString(official(t, rows), "${1}ts_event=${2}n")))
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Fatalf("row %d is\n%+v\nby the official client\n%+v", i, got[i], want[i])
		}
	}
}
