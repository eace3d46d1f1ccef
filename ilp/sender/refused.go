package sender

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	questdb "github.com/questdb/go-questdb-client/v3"

	"deeptape/hotpath/event"
	"deeptape/ilp/qdb"
)

// RefusedError says that QuestDB has refused rows of a Flush for what is in them.
// They are no longer pending, and all others of their tables are stored.
type RefusedError struct {
	Rows []RefusedRow
	Err  error // why other tables failed; nil if none did
}

// RefusedRow is one of them.
type RefusedRow struct {
	Table, Reason string
	Text          []byte // line protocol
	// What identifies it; of capture_stats the time and the venue only.
	Ts            int64
	Venue, Symbol string
	Stream        event.Stream
}

func (e *RefusedError) Error() string {
	text := fmt.Sprintf("QuestDB refused %d rows, the first of table %q: %s", len(e.Rows), e.Rows[0].Table, e.Rows[0].Reason)
	if e.Err != nil {
		text += "; " + e.Err.Error()
	}
	return text
}

func (e *RefusedError) Unwrap() error { return e.Err }

func (l *LowRate) coverageKey(i int) RefusedRow {
	k := &l.coverage[i].coverageKey
	return RefusedRow{Ts: k.ts, Venue: k.venue, Symbol: k.symbol, Stream: k.stream}
}

func (l *LowRate) instrumentKey(i int) RefusedRow {
	k := &l.instruments[i].instrumentKey
	return RefusedRow{Ts: k.ts, Venue: k.venue, Symbol: k.symbol}
}

func (l *LowRate) statKey(i int) RefusedRow {
	return RefusedRow{Ts: l.stats[i].ts, Venue: l.stats[i].venue}
}

type badRow struct {
	row    int
	reason string
	text   []byte
}

// send sends n rows of a table. A request that is refused because of a row in it is taken
// apart around that row until it is refused alone. One that is too large is halved, and how
// large it was is remembered. After any other failure it is unknown what is stored, and who
// is bad will be found again.
func (l *LowRate) send(ctx context.Context, table string, n int, write func(i int) (ts int64)) (bad []badRow, err error) {
	type span struct{ lo, hi int }
	spans := []span{{0, n}} // still to be stored; the next one is the last
	for len(spans) > 0 {
		s := spans[len(spans)-1]
		spans = spans[:len(spans)-1]
		if s.lo == s.hi {
			continue
		}
		rows := s.hi - s.lo
		if l.mostRows > 0 && rows > l.mostRows {
			spans = append(spans, span{s.lo + l.mostRows, s.hi}, span{s.lo, s.lo + l.mostRows})
			continue
		}
		err := l.post(ctx, table, s.lo, s.hi, write)
		if err == nil {
			continue
		}
		if rows > 1 && tooLarge(err) {
			l.mostRows = max(rows/2, leastRows)
			at := s.lo + rows/2
			spans = append(spans, span{at, s.hi}, span{s.lo, at})
			continue
		}
		reason, line, ok := aboutRow(err)
		if !ok || line > rows {
			return nil, err
		}
		if rows > 1 {
			at := s.lo + line - 1
			spans = append(spans, span{at + 1, s.hi}, span{s.lo, at}, span{at, at + 1})
			continue
		}
		if err := l.fill(ctx, table, s.lo, s.hi, write); err != nil {
			return nil, err
		}
		bad = append(bad, badRow{s.lo, reason, []byte(l.client.(interface{ Messages() string }).Messages())})
		l.empty(ctx)
	}
	slices.SortFunc(bad, func(a, b badRow) int { return a.row - b.row })
	return bad, nil
}

// aboutRow says whether QuestDB has refused a request because of a row in it, which it
// names by its place from 1.
func aboutRow(err error) (reason string, line int, ok bool) {
	var refusal *questdb.HttpError
	if !errors.As(err, &refusal) || aboutSchema(refusal.Message) {
		return "", 0, false
	}
	a := answer{Code: refusal.Code, Message: refusal.Message, Line: refusal.Line}
	return tidy(refusal.Message), refusal.Line, a.aboutRows(refusal.HttpStatus())
}

// RefusedTable says whether a Flush failed because a table is not as it should be, or is not
// there: every row of it would be refused.
func RefusedTable(err error) bool {
	var refusal *questdb.HttpError
	return errors.As(err, &refusal) && aboutSchema(refusal.Message)
}

// tooLarge: the answer was 413. Where it has no JSON, the client has only a text for it.
func tooLarge(err error) bool {
	var refusal *questdb.HttpError
	if errors.As(err, &refusal) {
		return refusal.HttpStatus() == http.StatusRequestEntityTooLarge
	}
	client := errors.Unwrap(err) // of what post says
	return client != nil && strings.HasPrefix(client.Error(), "413: ")
}

// post sends the rows [lo, hi) in one request.
func (l *LowRate) post(ctx context.Context, table string, lo, hi int, write func(i int) (ts int64)) error {
	if err := l.fill(ctx, table, lo, hi, write); err != nil {
		return err
	}
	err := l.client.Flush(ctx)
	if err == nil {
		return nil
	}
	var noAnswer *url.Error
	if ctx.Err() == nil && errors.As(err, &noAnswer) {
		err = fmt.Errorf("%w: %w", qdb.ErrUnreachable, noAnswer.Err)
	}
	return fmt.Errorf("cannot write %d rows to table %q: %w", hi-lo, table, err)
}

// fill writes rows to the client's buffer.
func (l *LowRate) fill(ctx context.Context, table string, lo, hi int, write func(i int) (ts int64)) error {
	for i := lo; i < hi; i++ {
		l.client.Table(l.conf.Table(table))
		ts := write(i)
		if err := l.client.At(ctx, time.Unix(0, ts)); err != nil {
			// Nothing of this table may stay in the client's buffer, or it would be
			// sent with the next one.
			l.empty(ctx)
			return fmt.Errorf("cannot write row %d of %d to table %q: %w", i-lo+1, hi-lo, table, err)
		}
	}
	return nil
}

// empty empties the client's buffer: a flush that fails does.
func (l *LowRate) empty(ctx context.Context) {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_ = l.client.Flush(ended)
}
