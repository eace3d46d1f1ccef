package sender

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"deeptape/cmd/localdb"
	"deeptape/cmd/localdb/dbtest"
	"deeptape/hotpath/task"
	"deeptape/ilp/qdb"
	"deeptape/ilp/schema"
)

func confOf(server *httptest.Server) qdb.Conf {
	return qdb.Conf{Addr: strings.TrimPrefix(server.URL, "http://")}
}

func TestOutcomes(t *testing.T) {
	const bad = "failed to parse line protocol:errors encountered on line(s):\\nerror in line 3: table: book_delta, column: flags; "
	for _, c := range []struct {
		status int
		body   string
		want   Outcome
	}{
		{204, "", Outcome{Word: Stored}},
		{400, `{"code":"invalid","message":"` + bad + `line protocol value: 40000 is out bounds of column type: SHORT","line":3,"errorId":"x-1"}`,
			Outcome{Word: Refused, Cause: CauseRow, Line: 3, Reason: "error in line 3: table: book_delta, column: flags; line protocol value: 40000 is out bounds of column type: SHORT"}},
		{400, `{"code":"invalid","message":"` + bad + `cast error from protocol type: INTEGER to column type: VARCHAR","line":3,"errorId":"x-1"}`,
			Outcome{Word: Refused, Cause: CauseSchema, Line: 3, Reason: "error in line 3: table: book_delta, column: flags; cast error from protocol type: INTEGER to column type: VARCHAR"}},
		{400, `{"code":"invalid","message":"error in line 1: table: t; table does not exist, creating new tables is disabled","line":1}`,
			Outcome{Word: Refused, Cause: CauseSchema, Line: 1, Reason: "error in line 1: table: t; table does not exist, creating new tables is disabled"}},
		// A 400 that is not QuestDB's own word on a row condemns none.
		{400, "<html><h1>400 Bad  Request</h1>\n", Outcome{Word: Retry, Cause: CauseServer, Reason: "<html><h1>400 Bad Request</h1>"}},
		{400, `{"code":"invalid","message":"failed to pa`, Outcome{Word: Retry, Cause: CauseServer, Reason: `{"code":"invalid","message":"failed to pa`}},
		{400, `{"code":"invalid","message":"bad","line":0}`, Outcome{Word: Retry, Cause: CauseServer, Reason: "bad"}},
		{400, `{"message":"bad","line":1}`, Outcome{Word: Retry, Cause: CauseServer, Reason: "bad"}},
		{413, "", Outcome{Word: Retry, Cause: CauseTooLarge, Reason: "Request Entity Too Large"}},
		{421, `{"code":"not accepting writes","message":"instance is read-only"}`, Outcome{Word: Retry, Cause: CauseReadOnly, Reason: "instance is read-only"}},
		{401, "Unauthorized", Outcome{Word: Retry, Cause: CauseDenied, Reason: "Unauthorized"}},
		{403, "", Outcome{Word: Retry, Cause: CauseDenied, Reason: "Forbidden"}},
		{404, "", Outcome{Word: Retry, Cause: CauseServer, Reason: "Not Found"}},
		{500, `{"code":"internal error","message":"write error: book_delta, errno: 28, error: No space left on device","line":1}`,
			Outcome{Word: Retry, Cause: CauseDisk, Reason: "write error: book_delta, errno: 28, error: No space left on device"}},
		{500, `{"code":"internal error","message":"oops"}`, Outcome{Word: Retry, Cause: CauseServer, Reason: "oops"}},
		{413, `{"code":"request too large","message":"failed to parse line protocol:errors encountered on line(s):transaction is too large, either flush more frequently or increase buffer size \"line.http.max.recv.buffer.size\" [maxBufferSize=64.0 KiB]","line":1,"errorId":"x-2"}`,
			Outcome{Word: Retry, Cause: CauseTooLarge, Reason: `transaction is too large, either flush more frequently or increase buffer size "line.http.max.recv.buffer.size" [maxBufferSize=64.0 KiB]`}},
		{500, "\x00\x00\x00\xff" + strings.Repeat("\x00", 5000), Outcome{Word: Retry, Cause: CauseServer, Reason: "......"}},
		{500, strings.Repeat("ä", 400), Outcome{Word: Retry, Cause: CauseServer, Reason: strings.Repeat("ä", 250) + "..."}},
		{503, "busy", Outcome{Word: Retry, Cause: CauseServer, Reason: "busy"}},
		{200, "hello", Outcome{Word: Retry, Cause: CauseServer, Reason: "answer 200 in place of 204: hello"}},
		{302, "", Outcome{Word: Retry, Cause: CauseServer, Reason: "Found"}},
	} {
		var got []byte
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost || r.URL.Path != "/write" {
				t.Errorf("%s %s", r.Method, r.URL.Path)
			}
			got, _ = io.ReadAll(r.Body)
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(c.status)
			io.WriteString(w, c.body)
		}))
		s := New(confOf(server), task.Real{})
		b := &Batch{Table: "t", Body: []byte("t x=1i 5\nt x=2i 6\n"), Rows: 2}
		c.want.Status = c.status
		if o := s.Post(context.Background(), b); o != c.want {
			t.Errorf("%d %s\ngives %+v\nwant  %+v", c.status, c.body, o, c.want)
		}
		if !bytes.Equal(got, b.Body) {
			t.Errorf("QuestDB got %q", got)
		}
		s.Close()
		server.Close()
	}
}

// Ways of not answering: the rows may be stored or not, so the word is Retry.
func TestNoAnswer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	listener.Close()
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if string(body) == "die\n" {
			panic(http.ErrAbortHandler)
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(release)
	conf := confOf(server)
	conf.RequestTimeout = time.Second // time to connect
	stopped, stop := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, stop)
	for _, c := range []struct {
		name string
		conf qdb.Conf
		ctx  context.Context
		body string
		want Cause
	}{
		{"refused", qdb.Conf{Addr: nobody}, context.Background(), "x\n", CauseUnreachable},
		{"no such host", qdb.Conf{Addr: "no-such-host.invalid:9000"}, context.Background(), "x\n", CauseUnreachable},
		{"dies", confOf(server), context.Background(), "die\n", CauseBroken},
		{"hangs", conf, context.Background(), "hang\n", CauseTimeout},
		{"stopped", confOf(server), stopped, "hang\n", CauseStopped},
	} {
		s := New(c.conf, task.Real{})
		o := s.Post(c.ctx, &Batch{Body: []byte(c.body), Rows: 1})
		if o.Word != Retry || o.Cause != c.want || o.Reason == "" || o.Status != 0 || strings.Contains(o.Reason, "/write") {
			t.Errorf("%s: %+v", c.name, o)
		}
		s.Close()
	}
}

// machine is a scheduler whose timeouts are not those of package context, as that of
// a simulation; its network gives no answer.
type machine struct{ task.Real }

func (machine) WithTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	time.AfterFunc(d, func() { cancel(context.DeadlineExceeded) })
	return ctx, func() { cancel(nil) }
}

func (machine) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Body.Close()
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// On a simulated machine the outcome is the same.
func TestNoAnswerOfMachine(t *testing.T) {
	stopped, stop := context.WithCancel(context.Background())
	defer stop()
	conf := qdb.Conf{Addr: "nowhere", Transport: machine{}, RequestTimeout: 20 * time.Millisecond}
	for _, c := range []struct {
		ctx  context.Context
		want Outcome
	}{
		{context.Background(), Outcome{Word: Retry, Cause: CauseTimeout, Reason: "context deadline exceeded"}},
		{stopped, Outcome{Word: Retry, Cause: CauseStopped, Reason: "context canceled"}},
	} {
		if c.ctx == stopped {
			conf.RequestTimeout = time.Hour
			time.AfterFunc(10*time.Millisecond, stop)
		}
		if o := New(conf, machine{}).Post(c.ctx, &Batch{Body: []byte("x\n"), Rows: 1}); o != c.want {
			t.Errorf("%+v, want %+v", o, c.want)
		}
	}
}

// One connection, kept over refusals, and a new one after it was lost.
func TestOneConnection(t *testing.T) {
	var opened, requests atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		n := requests.Add(1)
		switch {
		case n == 7:
			panic(http.ErrAbortHandler)
		case n%2 == 0:
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"code":"invalid","message":"bad","line":1}`)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	s := New(confOf(server), task.Real{})
	defer s.Close()
	for i := 1; i <= 10; i++ {
		o := s.Post(context.Background(), &Batch{Body: []byte("x\n"), Rows: 1})
		want := Stored
		if i%2 == 0 {
			want = Refused
		}
		if i == 7 {
			want = Retry
		}
		if o.Word != want {
			t.Errorf("post %d: %+v, want %v", i, o, want)
		}
		if i == 6 && opened.Load() != 1 {
			t.Errorf("%d connections for six requests", opened.Load())
		}
	}
	if opened.Load() != 2 {
		t.Errorf("%d connections, want 2", opened.Load())
	}
}

// The owner may reuse the bytes when Post returns, even if QuestDB answered before
// it had read them all. The race detector watches.
func TestBodyIsReleased(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"code":"invalid","message":"bad","line":1}`)
	}))
	defer server.Close()
	s := New(confOf(server), task.Real{})
	defer s.Close()
	body := bytes.Repeat([]byte("x"), 16<<20)
	for range 5 {
		o := s.Post(context.Background(), &Batch{Body: body, Rows: 1})
		// An answer that is lost behind the reset of the connection is a retry.
		if o.Word == Stored {
			t.Errorf("%+v", o)
		}
		clear(body)
	}
}

// The last byte waits until the batch may end, and everything before it does not; it
// waits a second at most, and no longer than the request.
func TestKeepsLastByte(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcde\n"), 1<<8)
	sent := make(chan []byte, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := make([]byte, len(body)-1)
		io.ReadFull(r.Body, got)
		sent <- nil
		rest, err := io.ReadAll(r.Body)
		if err == nil {
			w.WriteHeader(http.StatusNoContent)
			sent <- append(got, rest...)
		}
	}))
	defer server.Close()
	conf := confOf(server)
	var may atomic.Bool
	batch := &Batch{Body: body, MayEnd: may.Load}
	post := func(ctx context.Context, conf qdb.Conf) (*Sender, chan Outcome) {
		may.Store(false)
		s := New(conf, task.Real{})
		t.Cleanup(s.Close)
		out := make(chan Outcome, 1)
		go func() { out <- s.Post(ctx, batch) }()
		<-sent
		select {
		case o := <-out:
			t.Fatalf("%+v without its last byte", o)
		case got := <-sent:
			t.Fatalf("all of the %d bytes came", len(got))
		case <-time.After(50 * time.Millisecond):
		}
		return s, out
	}

	s, out := post(context.Background(), conf)
	may.Store(true)
	s.Wake()
	if o := <-out; o.Word != Stored || !bytes.Equal(<-sent, body) {
		t.Errorf("%+v, or other bytes came than were sent", o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	_, out = post(ctx, conf)
	cancel()
	if o := <-out; o.Word != Retry || o.Cause != CauseStopped {
		t.Errorf("stopped: %+v", o)
	}
	began := time.Now()
	_, out = post(context.Background(), conf)
	if o := <-out; o.Word != Stored || time.Since(began) < mostKept || !bytes.Equal(<-sent, body) {
		t.Errorf("never let go: %+v after %s", o, time.Since(began))
	}
	conf.RequestTimeout = 600 * time.Millisecond
	_, out = post(context.Background(), conf)
	if o := <-out; o.Word != Retry || o.Cause != CauseTimeout {
		t.Errorf("kept for longer than a request may take: %+v", o)
	}
}

// live opens the QuestDB of this test process, with empty tables.
func live(t *testing.T) (context.Context, *qdb.DB) {
	addr := dbtest.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	db := qdb.Open(qdb.Conf{Addr: addr})
	t.Cleanup(func() { cancel(); db.Close() })
	if err := schema.Create(ctx, db); err != nil {
		t.Fatal(err)
	}
	for _, table := range schema.Tables() {
		if err := db.Exec(ctx, "TRUNCATE TABLE "+table.Name); err != nil {
			t.Fatal(err)
		}
	}
	return ctx, db
}

// applied waits until a query that counts gives n, or tells what it gives.
func applied(t *testing.T, ctx context.Context, db *qdb.DB, sql string, n int64) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		r, err := db.Query(ctx, sql)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := r.Int(0, "n")
		if got == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s gives %d, want %d", sql, got, n)
		}
	}
}

func TestLivePost(t *testing.T) {
	ctx, db := live(t)
	s := New(db.Conf(), task.Real{})
	defer s.Close()
	var good bytes.Buffer
	for i := range 1000 {
		fmt.Fprintf(&good, "trades,venue=v,symbol=s,side=buy px=%di,qty=1i,px_scale=0i,qty_scale=0i,flags=0i %d\n", i, 1760000000000000000+i)
	}
	for range 2 {
		if o := s.Post(ctx, &Batch{Table: "trades", Body: good.Bytes(), Rows: 1000}); o.Word != Stored {
			t.Fatalf("%+v", o)
		}
	}
	applied(t, ctx, db, "SELECT count() n, sum(px) s FROM trades", 1000)
	for row, want := range map[string]Outcome{
		"trades,venue=v,symbol=s px=1i,flags=70000i 1760000000000001000\n": {Word: Refused, Cause: CauseRow, Line: 1001, Status: 400},
		"trades,venue=v,symbol=s px=1i,nothing=1i 1760000000000001000\n":   {Word: Refused, Cause: CauseSchema, Line: 1001, Status: 400},
		"no_table,venue=v px=1i 1760000000000001000\n":                     {Word: Refused, Cause: CauseSchema, Line: 1001, Status: 400},
		"delta,venue=v px=1i 1760000000000001000\n":                        {Word: Refused, Cause: CauseSchema, Line: 1001, Status: 400},
		"trades,venue=v,symbol=s px=\"x\" 1760000000000001000\n":           {Word: Refused, Cause: CauseSchema, Line: 1001, Status: 400},
	} {
		// Rows in front of the bad one at other times: none of them may be stored.
		body := append(bytes.ReplaceAll(good.Bytes(), []byte(" 176"), []byte(" 177")), row...)
		o := s.Post(ctx, &Batch{Table: "trades", Body: body, Rows: 1001})
		if o.Reason == "" || strings.Contains(o.Reason, "\n") {
			t.Errorf("reason %q", o.Reason)
		}
		o.Reason = ""
		if o != want {
			t.Errorf("%q gives %+v, want %+v", row, o, want)
		}
	}
	if o := s.Post(ctx, &Batch{Table: "trades", Body: []byte("trades,venue=v,symbol=s px=1i 1780000000000000000\n"), Rows: 1}); o.Word != Stored {
		t.Fatalf("after the refusals: %+v", o)
	}
	applied(t, ctx, db, "SELECT count() n FROM trades", 1001)
}

// TestRealTooLarge: what QuestDB itself takes for too large is a row that does not fit into
// its buffer, and not a request of many rows: those it reads part by part.
func TestRealTooLarge(t *testing.T) {
	own := dbtest.StartOwn(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if _, err := localdb.Stop(own.Dir); err != nil {
		t.Fatal(err)
	}
	conf, err := os.OpenFile(filepath.Join(own.Dir, "conf", "server.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = conf.WriteString("\nhttp.recv.buffer.size=32k\nline.http.max.recv.buffer.size=64k\n")
		conf.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	again, err := localdb.Start(ctx, own.Dir, localdb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	db := qdb.Open(qdb.Conf{Addr: again.HTTP})
	defer db.Close()
	if err := db.Exec(ctx, "CREATE TABLE t (ts TIMESTAMP_NS, s SYMBOL, x LONG, note VARCHAR) TIMESTAMP(ts) PARTITION BY DAY WAL"); err != nil {
		t.Fatal(err)
	}
	s := New(qdb.Conf{Addr: again.HTTP}, task.Real{})
	defer s.Close()
	var many []byte
	const rows = 20_000
	for i := range rows {
		many = fmt.Appendf(many, "t,s=abc x=%di %d\n", i, 1_700_000_000_000_000_000+i)
	}
	if got := s.Post(ctx, &Batch{Table: "t", Body: many, Rows: rows}); got.Word != Stored {
		t.Errorf("%d rows in %d bytes: %+v", rows, len(many), got)
	}
	large := fmt.Appendf(nil, "t,s=abc note=%q 1700000000000000000\n", strings.Repeat("x", 200_000))
	got := s.Post(ctx, &Batch{Table: "t", Body: large, Rows: 1})
	if got.Word != Retry || got.Cause != CauseTooLarge || !strings.Contains(got.Reason, "line.http.max.recv.buffer.size") {
		t.Errorf("a row of %d bytes: %+v", len(large), got)
	}
}
