package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"strconv"
	"time"

	questdb "github.com/questdb/go-questdb-client/v3"

	"deeptape/hotpath/event"
	"deeptape/ilp/line"
)

// nowhere answers 204 without a socket, and tells what it was sent when asked to.
type nowhere struct{ look func(body []byte) }

func (n *nowhere) RoundTrip(r *http.Request) (*http.Response, error) {
	if n.look != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		n.look(body)
	}
	r.Body.Close()
	return &http.Response{StatusCode: http.StatusNoContent, Body: io.NopCloser(http.NoBody), Request: r}, nil
}

// The client's columns are whole numbers or microseconds: a time in nanoseconds is, in
// its text, a whole number. But for that letter the two must write the same bytes.
func asClient(body []byte) string {
	h := fnv.New64a()
	h.Write(bytes.ReplaceAll(body, []byte("n,seq="), []byte("i,seq=")))
	return strconv.FormatUint(h.Sum64(), 16)
}

func encodeContest(c *corpus) (*contest, error) {
	f, err := newFeedRig(c)
	if err != nil {
		return nil, err
	}
	f.rows.keep = true
	if err := errors.Join(f.connect(), f.work()); err != nil {
		return nil, err
	}
	var records [][]byte
	levels := 0
	for _, rec := range f.rows.kept {
		var h event.Head
		h.Get(rec)
		if n := event.Levels(rec); h.Kind == event.RowBook && n > 0 && h.Flags&event.FlagSnapshot == 0 {
			records = append(records, rec)
			levels += n
		}
	}
	inst, err := line.NewInst("binance", c.insts[0].Symbol)
	if err != nil {
		return nil, err
	}
	var dst []byte
	ours := func() {
		dst = dst[:0]
		for _, rec := range records {
			dst, _ = line.Append(dst, inst, rec)
		}
	}
	ours()
	want := asClient(dst)

	sink := &nowhere{}
	transport := &http.Transport{}
	transport.RegisterProtocol("http", sink)
	client, err := questdb.NewLineSender(context.Background(), questdb.WithHttp(), questdb.WithAddress("127.0.0.1:1"), questdb.WithHttpTransport(transport),
		questdb.WithAutoFlushDisabled(), questdb.WithInitBufferSize(len(dst)), questdb.WithMaxBufferSize(2*len(dst)))
	if err != nil {
		return nil, err
	}
	theirs := func() error { return throughClient(client, c.insts[0].Symbol, records) }
	got := ""
	sink.look = func(body []byte) { got = asClient(body) }
	if err := theirs(); err != nil {
		return nil, fmt.Errorf("go-questdb-client: %w", err)
	}
	sink.look = nil

	return &contest{
		group: "encode", corpus: c.name, messages: len(records), levels: levels, want: want, clock: cpuNs,
		what: fmt.Sprintf("the book_delta rows of a message as lines for QuestDB, %d bytes a row", len(dst)/levels),
		peers: []*peer{
			{name: "deeptape", notes: "`ilp/line`", work: func() error { ours(); return nil }, told: func() string { return asClient(dst) }},
			{name: "go-questdb-client", notes: "its line sender, auto-flush off, one flush into nowhere", work: theirs, told: func() string { return got }},
		},
	}, nil
}

func throughClient(s questdb.LineSender, symbol string, records [][]byte) error {
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
			s.Table("book_delta").Symbol("venue", "binance").Symbol("symbol", symbol).Symbol("side", side).
				Int64Column("px", level.Px).Int64Column("qty", level.Qty).Int64Column("px_scale", int64(h.PxScale)).Int64Column("qty_scale", int64(h.QtyScale)).
				Int64Column("ts_event", h.TsEvent).Int64Column("seq", h.Seq)
			if i == n-1 {
				s.Int64Column("seq_prev", h.SeqPrev)
				flags |= event.FlagLast
			}
			s.Int64Column("flags", flags)
			if err := s.At(ctx, time.Unix(0, h.Ts+int64(i))); err != nil {
				return err
			}
		}
	}
	return s.Flush(ctx)
}
