package bench

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	questdb "github.com/questdb/go-questdb-client/v3"

	"deeptape/hotpath/event"
	"deeptape/hotpath/fixed"
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
			event.PutLevel(rec, n, i, event.Level{Px: 6173763 + int64(r.IntN(2000)), Qty: int64(r.IntN(3_000_000)), Side: event.Side(1 + r.IntN(2))})
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

// officialBook writes what line.Append writes, through QuestDB's own client.
func officialBook(tb testing.TB, s questdb.LineSender, records [][]byte) {
	ctx := context.Background()
	for _, rec := range records {
		var h event.Head
		h.Get(rec)
		n := event.Levels(rec)
		for i := range n {
			level := event.GetLevel(rec, n, i)
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
		dst, _ = line.Append(dst, inst, rec)
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

// lineTops are rows of book_top with ten levels a side: those of the recording, so
// that the numbers have as many digits as real ones.
func lineTops(tb testing.TB) (records [][]byte) {
	for _, row := range recordedBTC(tb).rowsOf(event.RowTop) {
		var h event.Head
		if h.Get(row); h.N == 10 && h.Extra == 10 {
			records = append(records, row)
		}
	}
	return records[:2000]
}

// flat are the names of the 40 columns that stand for two arrays in a client without.
var flat = func() (names [2][10][2]string) {
	for i := range 10 {
		for side, word := range []string{"bid", "ask"} {
			names[side][i] = [2]string{fmt.Sprintf("%s_px_%02d", word, i), fmt.Sprintf("%s_sz_%02d", word, i)}
		}
	}
	return names
}()

// officialTop writes the numbers of line.Append through QuestDB's own client.
func officialTop(tb testing.TB, s questdb.LineSender, records [][]byte) {
	ctx := context.Background()
	for _, rec := range records {
		var h event.Head
		h.Get(rec)
		s.Table("book_top").Symbol("venue", "binance").Symbol("symbol", "BTCUSDT")
		for side := range 2 {
			for i := range 10 {
				px, qty := event.GetPair(rec, 10*side+i)
				s.Float64Column(flat[side][i][0], fixed.Float(px, h.PxScale)).Float64Column(flat[side][i][1], fixed.Float(qty, h.QtyScale))
			}
		}
		s.Int64Column("ts_event", h.TsEvent).Int64Column("seq", h.Seq).Int64Column("flags", int64(h.Flags))
		if err := s.At(ctx, time.Unix(0, h.Ts)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := s.Flush(ctx); err != nil {
		tb.Fatal(err)
	}
}

func ownTop(dst []byte, inst *line.Inst, records [][]byte) []byte {
	for _, rec := range records {
		dst, _ = line.Append(dst, inst, rec)
	}
	return dst
}

// BenchmarkLineTop: per row of book_top.
func BenchmarkLineTop(b *testing.B) {
	records := lineTops(b)
	perRow := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(records)), "ns/row")
	}
	b.Run("v=own", func(b *testing.B) {
		inst, err := line.NewInst("binance", "BTCUSDT")
		if err != nil {
			b.Fatal(err)
		}
		dst := ownTop(nil, inst, records)
		b.ReportAllocs()
		for b.Loop() {
			dst = ownTop(dst[:0], inst, records)
		}
		perRow(b)
	})
	b.Run("v=official", func(b *testing.B) {
		s := officialSender(b)
		officialTop(b, s, records)
		b.ReportAllocs()
		for b.Loop() {
			officialTop(b, s, records)
		}
		perRow(b)
	})
}

// ratioLineBook and ratioLineTop: own encoder against the official client, the least of
// interleaved rounds of each.
func ratioLineBook(t *testing.T) float64 {
	records, levels := lineWorkload(2000)
	return ratioLine(t, levels, func(dst []byte, inst *line.Inst) []byte { return ownBook(dst, inst, records) },
		func(s questdb.LineSender) { officialBook(t, s, records) })
}

func ratioLineTop(t *testing.T) float64 {
	records := lineTops(t)
	return ratioLine(t, len(records), func(dst []byte, inst *line.Inst) []byte { return ownTop(dst, inst, records) },
		func(s questdb.LineSender) { officialTop(t, s, records) })
}

func ratioLine(t *testing.T, rows int, own func([]byte, *line.Inst) []byte, official func(questdb.LineSender)) float64 {
	inst, err := line.NewInst("binance", "BTCUSDT")
	if err != nil {
		t.Fatal(err)
	}
	s := officialSender(t)
	dst := own(nil, inst)
	official(s)
	ours, theirs := interleave(20, func() { dst = own(dst[:0], inst) }, func() { official(s) })
	t.Logf("%.0f ns a row, the official client %.0f", ours/float64(rows), theirs/float64(rows))
	return ours / theirs
}
