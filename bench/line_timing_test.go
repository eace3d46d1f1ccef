package bench

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	questdb "github.com/questdb/go-questdb-client/v3"

	"deeptape/hotpath/event"
	"deeptape/ilp/line"
)

// The workload of the encoders: book messages of one instrument, of 1 to 8
// levels, as Binance sends them, from a fixed seed.
func lineWorkload(messages int) (records [][]byte, levels int) {
	r := rand.New(rand.NewPCG(1, 2))
	ts, seq := int64(1760000000000000000), int64(80_000_000_000)
	for range messages {
		n := 1 + r.IntN(8)
		rec := make([]byte, event.BookSize(n))
		ts += int64(r.IntN(1e8)) + 100
		next := seq + int64(r.IntN(50)) + 1
		h := event.Head{Kind: event.RowBook, PxScale: 2, QtyScale: 5, N: event.BookN(n), Ts: ts, TsEvent: ts / 1e6 * 1e6, Seq: next, SeqPrev: seq}
		seq = next
		h.Put(rec, len(rec))
		for i := range n {
			event.PutLevel(rec, i, event.Level{Px: 6173763 + int64(r.IntN(2000)), Qty: int64(r.IntN(3_000_000)), Side: event.Side(1 + r.IntN(2))})
		}
		records = append(records, rec)
		levels += n
	}
	return records, levels
}

// nowhere answers 204 without a socket, so that encoding alone is measured.
type nowhere struct{}

func (nowhere) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Body.Close()
	return &http.Response{StatusCode: http.StatusNoContent, Body: io.NopCloser(http.NoBody), Request: r}, nil
}

func officialSender(tb testing.TB) questdb.LineSender {
	transport := &http.Transport{}
	transport.RegisterProtocol("http", nowhere{})
	s, err := questdb.NewLineSender(context.Background(), questdb.WithHttp(), questdb.WithAddress("127.0.0.1:1"),
		questdb.WithHttpTransport(transport), questdb.WithAutoFlushDisabled(), questdb.WithInitBufferSize(8<<20))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close(context.Background()) })
	return s
}

// officialBook writes what line.AppendBook writes, through QuestDB's own client.
func officialBook(tb testing.TB, s questdb.LineSender, records [][]byte) {
	ctx := context.Background()
	for _, rec := range records {
		var h event.Head
		h.Get(rec)
		n := event.Levels(rec)
		for i := range n {
			level := event.GetLevel(rec, i)
			side, flags := "bid", int64(h.Flags|level.Flags)
			if level.Side == event.Ask {
				side = "ask"
			}
			if i == 0 {
				flags |= event.FlagFirst
			}
			s.Table("book_delta").Symbol("venue", "binance").Symbol("symbol", "BTCUSDT").Symbol("side", side).
				Int64Column("px", level.Px).Int64Column("qty", level.Qty).Int64Column("px_scale", int64(h.PxScale)).Int64Column("qty_scale", int64(h.QtyScale)).
				Int64Column("ts_event", h.TsEvent).Int64Column("seq", h.Seq)
			if i == n-1 {
				s.Int64Column("seq_prev", h.SeqPrev)
				flags |= event.FlagLast
			}
			s.Int64Column("flags", flags)
			if err := s.At(ctx, time.Unix(0, h.Ts+int64(i))); err != nil {
				tb.Fatal(err)
			}
		}
	}
	if err := s.Flush(ctx); err != nil {
		tb.Fatal(err)
	}
}

func ownBook(dst []byte, inst *line.Inst, records [][]byte) []byte {
	for _, rec := range records {
		dst, _ = line.AppendBook(dst, inst, rec)
	}
	return dst
}

// Why the rows of the four fast tables do not go through go-questdb-client/v3:
// the same rows, encoded only, per level.
func BenchmarkLineBook(b *testing.B) {
	records, levels := lineWorkload(2000)
	perLevel := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(levels), "ns/level")
	}
	b.Run("v=own", func(b *testing.B) {
		inst, err := line.NewInst("binance", "BTCUSDT")
		if err != nil {
			b.Fatal(err)
		}
		dst := ownBook(nil, inst, records)
		b.ReportAllocs()
		for b.Loop() {
			dst = ownBook(dst[:0], inst, records)
		}
		perLevel(b)
	})
	b.Run("v=official", func(b *testing.B) {
		s := officialSender(b)
		officialBook(b, s, records)
		b.ReportAllocs()
		for b.Loop() {
			officialBook(b, s, records)
		}
		perLevel(b)
	})
}

func BenchmarkLineTop(b *testing.B) {
	rec := make([]byte, event.TopSize(10, 10))
	h := event.Head{Kind: event.RowTop, PxScale: 2, QtyScale: 5, N: 10, Extra: 10, Ts: 1760000000000000000, TsEvent: 1760000000000000000, Seq: 5, SeqPrev: event.Null}
	h.Put(rec, len(rec))
	for i := range 20 {
		event.PutPair(rec, i, 6173763+int64(i), 12345678)
	}
	inst, err := line.NewInst("binance", "BTCUSDT")
	if err != nil {
		b.Fatal(err)
	}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst, _ = line.AppendTop(dst[:0], inst, rec)
	}
}

// Own code stands in the per-level loop only as long as it pays: twice the speed
// of the official client at the least, in the median of interleaved rounds.
func TestLineEncoderPays(t *testing.T) {
	if testing.Short() {
		t.Skip("a measurement")
	}
	records, _ := lineWorkload(2000)
	inst, err := line.NewInst("binance", "BTCUSDT")
	if err != nil {
		t.Fatal(err)
	}
	s := officialSender(t)
	dst := ownBook(nil, inst, records)
	officialBook(t, s, records)
	var median float64
	for range 5 { // a busy machine may disturb one measurement, not all of them
		var ratios []float64
		for range 15 {
			start := time.Now()
			dst = ownBook(dst[:0], inst, records)
			own := time.Since(start)
			start = time.Now()
			officialBook(t, s, records)
			ratios = append(ratios, float64(time.Since(start))/float64(own))
		}
		slices.Sort(ratios)
		median = ratios[len(ratios)/2]
		t.Logf("official / own = %.2f (%.2f to %.2f)", median, ratios[0], ratios[len(ratios)-1])
		if median >= 2 {
			return
		}
	}
	t.Errorf("own encoder is only %.2f times as fast as the official client", median)
}
