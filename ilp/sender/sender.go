// Package sender brings batches of rows to QuestDB, and says in one word what
// became of each.
//
// It must never keep, split, change or repeat a batch: who owns it decides, after
// the outcome. It must never call a batch stored without QuestDB's 204. No proxy
// from the environment is asked.
//
// Invariants: a Sender has at most one request in flight, on one connection,
// because QuestDB closes a connection on which requests are pipelined; a request
// is all or nothing; an outcome that is not Stored and not Refused may mean that
// the rows are stored all the same, so the same bytes must be sent again, and
// DEDUP absorbs them.
//
// LowRate, in the same package, carries the tables that see a few rows a second.
package sender

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unicode"

	"deeptape/hotpath/ring"
	"deeptape/hotpath/task"
	"deeptape/ilp/qdb"
)

// Batch is rows of one table, ready to be sent. Its owner must leave Body alone
// during Post, and until the outcome is Stored, or it could not send the same
// bytes again.
type Batch struct {
	Table string
	Body  []byte // line protocol
	Rows  int

	// MayEnd, if there is one, keeps the last byte back until it says true, a second at
	// most: QuestDB has then read all rows and stores them when that byte comes, so that
	// batches over several connections are stored in order. Who makes it true calls Wake. Any
	// goroutine calls it.
	MayEnd func() bool
}

// Word says what became of a batch.
type Word uint8

const (
	Stored  Word = iota // QuestDB answered 204: the rows are its own now
	Retry               // wait and send the same bytes again; whether they are stored is unknown
	Refused             // QuestDB refused the whole batch because of what it holds; the same bytes will be refused again
)

var words = [...]string{"stored", "retry", "refused"}

func (w Word) String() string { return words[w] }

// Cause says why a batch is not stored.
type Cause uint8

const (
	CauseNone        Cause = iota
	CauseUnreachable       // nobody listens there
	CauseBroken            // the connection ended before the answer
	CauseTimeout           // no answer in time
	CauseStopped           // the caller's context ended
	CauseReadOnly          // the instance takes no writes
	CauseDisk              // its disk is full
	CauseDenied            // wrong credentials
	CauseServer            // any other answer that is not about the rows
	CauseRow               // with Refused: a row is bad
	CauseSchema            // with Refused: the table is missing or of another shape; schema.CheckTables knows more
	CauseTooLarge          // the batch is larger than the server, or who stands before it, takes; smaller ones may be taken
)

var causes = [...]string{"", "unreachable", "broken", "timeout", "stopped", "read_only", "disk", "denied", "server", "row", "schema", "too_large"}

// String is a label for counters.
func (c Cause) String() string { return causes[c] }

// Outcome is what became of a batch.
type Outcome struct {
	Word   Word
	Cause  Cause
	Reason string // for people: QuestDB's message, or the network's
	Line   int    // with Refused: the first bad row, from 1; 0 if QuestDB does not say
	Status int    // of HTTP; 0 if there was no answer
}

// Timeouts of a request where the configuration has none: the server answers a
// batch of 50,000 rows within 0.1 s, on a disk that is syncing within seconds.
const (
	baseTimeout       = 30 * time.Second
	slowestBytesPerMs = 100 // 100 kB/s
)

// mostKept is how long a last byte is kept back: the batch before may hang on a connection
// that leads nowhere, for as long as a request may take.
const mostKept = time.Second

// Sender is one connection to QuestDB. It belongs to one task.
type Sender struct {
	conf    qdb.Conf
	sched   task.Sched
	url     string
	client  *http.Client
	readers atomic.Int32 // of the body of the present Post
	bell    *ring.Doorbell
	endBell *ring.Doorbell // of the reader that keeps the last byte back
}

// New makes a sender. The connection is made by the first Post, and again
// whenever it has been lost.
func New(conf qdb.Conf, sched task.Sched) *Sender {
	return &Sender{conf: conf, sched: sched, bell: sched.NewDoorbell(), endBell: sched.NewDoorbell(), url: conf.URL("/write"), client: &http.Client{
		Transport: conf.RoundTripper(1),
		// A redirect would turn the POST into a GET and answer 200 for nothing.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close closes the connection. The sender may still be used: it connects again.
func (s *Sender) Close() { s.client.CloseIdleConnections() }

// Wake has MayEnd asked again. Any goroutine.
func (s *Sender) Wake() { s.endBell.Ring() }

// Post sends a batch and waits for the answer.
func (s *Sender) Post(ctx context.Context, b *Batch) Outcome {
	timeout := s.conf.RequestTimeout
	if timeout == 0 {
		timeout = baseTimeout
	}
	timeout += time.Duration(len(b.Body)/slowestBytesPerMs) * time.Millisecond
	inTime, cancel := s.sched.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(inTime, http.MethodPost, s.url, nil)
	if err != nil {
		return Outcome{Word: Retry, Cause: CauseServer, Reason: err.Error()}
	}
	s.conf.Authorize(req)
	// The transport may go on reading the body after it has returned: the answer to
	// a bad first row comes while the rest is still on its way. The owner may
	// reuse Body after Post, so Post waits until every reader has been closed.
	req.ContentLength = int64(len(b.Body))
	req.GetBody = func() (io.ReadCloser, error) {
		s.readers.Add(1)
		return &bodyReader{rest: b.Body, batch: b, sender: s, ctx: inTime}, nil
	}
	req.Body, _ = req.GetBody()
	defer task.WaitFor(s.bell, func() bool { return s.readers.Load() == 0 })
	resp, err := s.client.Do(req)
	if err != nil {
		return noAnswer(ctx, inTime, err)
	}
	defer resp.Body.Close()
	// Read to its end, or the connection could not be used again.
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if resp.StatusCode == http.StatusNoContent {
		return Outcome{Word: Stored, Status: resp.StatusCode}
	}
	if err != nil {
		o := noAnswer(ctx, inTime, err)
		o.Status = resp.StatusCode
		return o
	}
	return judge(resp.StatusCode, body)
}

// bodyReader is the body of a request, which belongs to the transport: its goroutines
// read it or have it write itself, and close it more than once.
type bodyReader struct {
	rest   []byte
	batch  *Batch
	sender *Sender
	ctx    context.Context
	closed atomic.Bool
}

func (r *bodyReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	part, err := r.free()
	n := copy(p, part)
	r.rest = r.rest[n:]
	return n, err
}

// WriteTo writes all of the body.
func (r *bodyReader) WriteTo(w io.Writer) (written int64, err error) {
	r.sender.readers.Add(1) // whoever closes it meanwhile must not give Body back
	defer r.sender.leave()
	for len(r.rest) > 0 {
		part, err := r.free()
		if err != nil {
			return written, err
		}
		n, err := w.Write(part)
		r.rest = r.rest[n:]
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// free is what may go now: all of the rest, or all but the last byte. It waits where only
// that is left.
func (r *bodyReader) free() ([]byte, error) {
	if r.batch.MayEnd == nil || r.batch.MayEnd() {
		return r.rest, nil
	}
	if left := len(r.rest) - 1; left > 0 {
		return r.rest[:left], nil
	}
	patient, cancel := r.sender.sched.WithTimeout(r.ctx, mostKept)
	defer cancel()
	defer r.sender.sched.AfterFunc(patient, r.sender.Wake)()
	task.WaitFor(r.sender.endBell, func() bool { return r.batch.MayEnd() || r.closed.Load() || patient.Err() != nil })
	return r.rest, r.ctx.Err()
}

func (r *bodyReader) Close() error {
	if !r.closed.Swap(true) {
		r.sender.leave()
		r.sender.Wake()
	}
	return nil
}

// leave says that a reader of the body has done with it.
func (s *Sender) leave() {
	s.readers.Add(-1)
	s.bell.Ring()
}

// noAnswer is the outcome of a request that no answer came to. ctx is the caller's,
// inTime what the request had.
func noAnswer(ctx, inTime context.Context, err error) Outcome {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // its text repeats the URL
	}
	if errors.Is(err, context.Canceled) && context.Cause(inTime) == context.DeadlineExceeded {
		err = context.DeadlineExceeded // as the machine's own timeouts say
	}
	o := Outcome{Word: Retry, Cause: CauseBroken, Reason: err.Error()}
	var dial *net.OpError
	var timeout net.Error
	switch {
	case ctx.Err() != nil:
		o.Cause = CauseStopped
	case errors.Is(err, syscall.ECONNREFUSED), errors.As(err, &dial) && dial.Op == "dial":
		o.Cause = CauseUnreachable
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		o.Cause = CauseTimeout
	}
	return o
}

// answer is the body that QuestDB sends with a refusal.
type answer struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Line    int    `json:"line"`
	ErrorID string `json:"errorId"`
}

// aboutRows says whether QuestDB itself has refused rows for what is in them: in JSON, with
// its code and the line. A 400 of anybody between, or one that was cut short, says nothing
// about a row; whoever took it for a refusal would condemn every row there is.
func (a *answer) aboutRows(status int) bool {
	return status == http.StatusBadRequest && a.Code == "invalid" && a.Message != "" && a.Line >= 1
}

// judge turns an answer other than 204 into an outcome. Only what will be refused
// again as surely as now is Refused; the rest waits, if need be for ever.
func judge(status int, body []byte) Outcome {
	var a answer
	o := Outcome{Word: Retry, Cause: CauseServer, Status: status}
	if json.Unmarshal(body, &a) == nil && a.Message != "" {
		o.Reason = tidy(a.Message)
	} else if text := tidy(string(body)); text != "" {
		o.Reason = text
	} else {
		o.Reason = http.StatusText(status)
	}
	switch {
	case a.aboutRows(status):
		o.Word, o.Cause, o.Line = Refused, CauseRow, a.Line
		if aboutSchema(a.Message) {
			o.Cause = CauseSchema
		}
	case status == http.StatusRequestEntityTooLarge:
		o.Cause = CauseTooLarge
	case status == http.StatusMisdirectedRequest:
		o.Cause = CauseReadOnly
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		o.Cause = CauseDenied
	case status == http.StatusInsufficientStorage,
		strings.Contains(a.Message, "errno: 28,"), strings.Contains(a.Message, "No space left"):
		o.Cause = CauseDisk
	case status < 300:
		// Not QuestDB: it says 204 for rows that it took.
		o.Reason = fmt.Sprintf("answer %d in place of 204: %s", status, o.Reason)
	}
	return o
}

// aboutSchema says whether a refusal is about the table and not about the row:
// every row of the table would be refused in the same way. The texts are those
// of QuestDB 9.3.4.
func aboutSchema(message string) bool {
	for _, text := range []string{
		"table does not exist", "creating new columns is disabled", "creating new tables is disabled",
		"cannot insert in non-WAL table", "cannot modify view", "cast error from protocol type",
	} {
		if strings.Contains(message, text) {
			return true
		}
	}
	return false
}

// tidyBytes bounds a message; what else a server says is not told.
const tidyBytes = 500

// tidy is a message of QuestDB as one line, without the words that stand before each of
// them. What answers in its place may send anything: a byte that cannot be shown becomes a
// point, and many of them in a row become one.
func tidy(s string) string {
	clipped := len(s) > 4*tidyBytes
	s = strings.ToValidUTF8(s[:min(len(s), 4*tidyBytes)], ".")
	point := false
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || unicode.IsSpace(r) {
			point = false
			return r
		}
		if point {
			return -1
		}
		point = true
		return '.'
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	s = strings.TrimPrefix(s, "failed to parse line protocol:errors encountered on line(s): ")
	s = strings.TrimPrefix(s, "failed to parse line protocol:errors encountered on line(s):")
	if len(s) > tidyBytes {
		s, clipped = strings.ToValidUTF8(s[:tidyBytes], ""), true
	}
	if clipped {
		s += "..."
	}
	return s
}
