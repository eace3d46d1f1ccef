package qdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"deeptape/cmd/localdb/dbtest"
)

// fake starts a server that answers every request with h.
func fake(t *testing.T, h http.HandlerFunc) *DB {
	t.Helper()
	server := httptest.NewServer(h)
	db := Open(Conf{Addr: strings.TrimPrefix(server.URL, "http://")})
	t.Cleanup(func() { db.Close(); server.Close() })
	return db
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

func TestQuery(t *testing.T) {
	var sent string
	db := fake(t, func(w http.ResponseWriter, r *http.Request) {
		sent = r.URL.Query().Get("query")
		fmt.Fprint(w, `{"query":"q","columns":[{"name":"n","type":"LONG"},{"name":"x","type":"DOUBLE"},{"name":"s","type":"VARCHAR"},{"name":"b","type":"BOOLEAN"},{"name":"t","type":"TIMESTAMP_NS"}],
			"timestamp":-1,"dataset":[[9007199254740993,1.5,"it's",true,"2026-11-22T13:27:37.027037146Z"],[null,null,null,false,null]],"count":2}`)
	})
	const sql = "SELECT 'a&b=c;%', n + 1"
	r, err := db.Query(context.Background(), sql)
	if err != nil {
		t.Fatal(err)
	}
	if sent != sql {
		t.Errorf("sent %q, want %q", sent, sql)
	}
	if n, ok := r.Int(0, "n"); n != 9007199254740993 || !ok {
		t.Errorf("n = %d, %v: a LONG must stay exact", n, ok)
	}
	if x, ok := r.Float(0, "x"); x != 1.5 || !ok {
		t.Errorf("x = %v, %v", x, ok)
	}
	if ns, ok := r.Time(0, "t"); ns != time.Date(2026, 11, 22, 13, 27, 37, 27037146, time.UTC).UnixNano() || !ok {
		t.Errorf("t = %d, %v", ns, ok)
	}
	if r.Text(0, "s") != "it's" || r.Text(0, "n") != "9007199254740993" || !r.Bool(0, "b") || r.Bool(1, "b") {
		t.Errorf("row 0 is %v", r.Rows[0])
	}
	for _, c := range []string{"n", "x", "s", "t"} {
		if !r.Null(1, c) || r.Text(1, c) != "" {
			t.Errorf("%s of row 1 is %v, want null", c, r.Text(1, c))
		}
	}
	if _, ok := r.Int(1, "n"); ok {
		t.Error("a null is no whole number")
	}
	if r.Len() != 2 {
		t.Errorf("Len() = %d", r.Len())
	}
}

func TestSQLError(t *testing.T) {
	db := fake(t, answer(400, `{"query":"select foo from bar","error":"table does not exist [table=bar]","position":16}`))
	for name, err := range map[string]error{
		"Exec":   db.Exec(context.Background(), "select foo from bar"),
		"Export": db.Export(context.Background(), "select foo from bar", nil),
	} {
		var sqlErr *SQLError
		if !errors.As(err, &sqlErr) || sqlErr.Position != 16 || sqlErr.Status != 400 || errors.Is(err, ErrUnreachable) {
			t.Fatalf("%s: %#v", name, err)
		}
		if want := `cannot run SQL "select foo from bar": table does not exist [table=bar] (at position 16)`; err.Error() != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	db := Open(Conf{Addr: addr})
	err = db.Ping(context.Background())
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), fmt.Sprintf("cannot reach QuestDB at %q", addr)) ||
		!strings.Contains(err.Error(), "`deeptape db start --port ") || strings.Contains(err.Error(), "%!") {
		t.Errorf("Ping: %v", err)
	}
	if err := db.Exec(context.Background(), "select secret"); !errors.Is(err, ErrUnreachable) || strings.Contains(err.Error(), "secret") {
		t.Errorf("Exec: %v", err)
	}
}

// A server that dies while it answers: neither a short result nor a clean end.
func TestBrokenAnswer(t *testing.T) {
	db := fake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/exp" {
			fmt.Fprint(w, "\"n\"\r\n1\r\n2")
		} else {
			fmt.Fprint(w, `{"columns":[{"name":"n","type":"LONG"}],"dataset":[[1],`)
		}
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	rows := 0
	err := db.Export(context.Background(), "x", func([][]byte) error { rows++; return nil })
	if !errors.Is(err, ErrUnreachable) || rows != 1 {
		t.Errorf("Export: %v after %d rows", err, rows)
	}
	if _, err := db.Query(context.Background(), "x"); !errors.Is(err, ErrUnreachable) {
		t.Errorf("Query: %v", err)
	}
}

func TestOtherAnswers(t *testing.T) {
	ctx := context.Background()
	if _, err := fake(t, answer(200, `{"dataset":[[1]],"count":2}`)).Query(ctx, "x"); err == nil || !strings.Contains(err.Error(), "announces 2 rows and holds 1") {
		t.Errorf("short dataset: %v", err)
	}
	if err := fake(t, answer(401, "Unauthorized")).Exec(ctx, "x"); err == nil || !strings.Contains(err.Error(), "401") || errors.Is(err, ErrUnreachable) {
		t.Errorf("401: %v", err)
	}
	if err := fake(t, answer(200, "\"a\",\"b\"\r\n1\r\n")).Export(ctx, "x", func([][]byte) error { return nil }); err == nil || !strings.Contains(err.Error(), "row 1") {
		t.Errorf("row without a value: %v", err)
	}
	if err := fake(t, answer(503, "busy")).Ping(ctx); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("503: %v", err)
	}
	stop := errors.New("enough")
	if err := fake(t, answer(200, "\"a\"\r\n1\r\n2\r\n")).Export(ctx, "x", func([][]byte) error { return stop }); err != stop {
		t.Errorf("error of the callback: %v", err)
	}
	if err := fake(t, answer(200, "")).Exec(ctx, strings.Repeat("x", maxQueryBytes)); err == nil || !strings.Contains(err.Error(), "QuestDB takes") {
		t.Errorf("statement too long: %v", err)
	}
}

// The server must stop when the caller's patience does, not after its own 60 s.
func TestDeadline(t *testing.T) {
	sent := make(chan string, 1)
	db := fake(t, func(w http.ResponseWriter, r *http.Request) {
		sent <- r.Header.Get("Statement-Timeout")
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second) // time to send
	defer cancel()
	err := db.Exec(ctx, "x")
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnreachable) {
		t.Errorf("%v", err)
	}
	timeout := <-sent
	if ms, err := strconv.Atoi(timeout); err != nil || ms < 1 || ms > 2000 {
		t.Errorf("Statement-Timeout is %q ms, want at most 2000", timeout)
	}
	db = fake(t, func(w http.ResponseWriter, r *http.Request) {
		sent <- r.Header.Get("Statement-Timeout")
		fmt.Fprint(w, `{"ddl":"OK"}`)
	})
	if err := db.Exec(context.Background(), "x"); err != nil {
		t.Error(err)
	}
	if timeout := <-sent; timeout != "86400000" {
		t.Errorf("without a deadline: Statement-Timeout is %q ms", timeout)
	}
}

func TestCSV(t *testing.T) {
	in := "\"a\",\"b\",\"c\"\r\n1,,\"x\"\"y,z\"\r\n\"\",\"l1\\nl2\\\\\\u001b\\t\",é\r\n,,\r\n"
	want := [][]string{{"a", "b", "c"}, {"1", "<null>", `x"y,z`}, {"", "l1\nl2\\\x1b\t", "é"}, {"<null>", "<null>", "<null>"}}
	r := newCSVReader(strings.NewReader(in))
	for i, w := range want {
		row, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		for j, v := range row {
			got := string(v)
			if v == nil {
				got = "<null>"
			}
			if got != w[j] {
				t.Errorf("record %d, value %d is %q, want %q", i, j, got, w[j])
			}
		}
	}
	for _, bad := range []string{"\"a\n", "\"a\"b\n", "\"\\x\"\n", "\"\\u12\"\n", "\"\\uzzzz\"\n", "\"\\\n"} {
		if _, err := newCSVReader(strings.NewReader(bad)).next(); !errors.Is(err, errCSV) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Any bytes: no panic. Any texts, written in the dialect: the same texts back.
func FuzzCSV(f *testing.F) {
	f.Add([]byte("\"a\",1,,\"\\u001b\"\"\"\r\n"), "x", "")
	f.Add([]byte("\\"), "a\"b\\c\n", ",")
	f.Fuzz(func(t *testing.T, raw []byte, a, b string) {
		r := newCSVReader(bytes.NewReader(raw))
		for {
			if _, err := r.next(); err != nil {
				break
			}
		}
		a, b = strings.ToValidUTF8(a, "?"), strings.ToValidUTF8(b, "?")
		line := writeCSV(a) + "," + writeCSV(b) + "\r\n"
		row, err := newCSVReader(strings.NewReader(line)).next()
		if err != nil || len(row) != 2 || string(row[0]) != a || string(row[1]) != b {
			t.Fatalf("%q reads as %q, %v", line, row, err)
		}
	})
}

// writeCSV quotes as QuestDB 9.3.4 does.
func writeCSV(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"':
			b.WriteString(`""`)
		case r == '\\':
			b.WriteString(`\\`)
		case r == '\n':
			b.WriteString(`\n`)
		case r < ' ':
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String() + `"`
}

// live opens the QuestDB of this test process.
func live(t *testing.T) *DB {
	addr := dbtest.Start(t)
	db := Open(Conf{Addr: addr})
	t.Cleanup(db.Close)
	return db
}

func TestLive(t *testing.T) {
	db := live(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := db.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	const text = "a\"b,c;%&+\\\n\t\x01é'"
	ns := time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.UTC).UnixNano()
	sql := "SELECT 9223372036854775807L n, null::long e, " + Quote(text) + "::varchar s, ''::varchar v, " + FormatTime(ns) + "::timestamp_ns t, 0.1 d"
	r, err := db.Query(ctx, sql)
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := r.Int(0, "n"); n != math.MaxInt64 || !ok {
		t.Errorf("n = %d, %v", n, ok)
	}
	if got, ok := r.Time(0, "t"); got != ns || !ok {
		t.Errorf("t = %d, want %d", got, ns)
	}
	if !r.Null(0, "e") || r.Null(0, "v") || r.Text(0, "s") != text {
		t.Errorf("row is %q", r.Rows[0])
	}
	rows := 0
	err = db.Export(ctx, sql, func(row [][]byte) error {
		rows++
		if string(row[0]) != "9223372036854775807" || row[1] != nil || string(row[2]) != text || row[3] == nil || len(row[3]) != 0 {
			t.Errorf("row is %q", row)
		}
		if got, err := ParseTime(string(row[4])); err != nil || got != ns {
			t.Errorf("t = %d, %v, want %d", got, err, ns)
		}
		return nil
	})
	if err != nil || rows != 1 {
		t.Fatalf("Export: %v after %d rows", err, rows)
	}
	var sqlErr *SQLError
	if err := db.Exec(ctx, "select foo from deeptape_no_such_table"); !errors.As(err, &sqlErr) || sqlErr.Position != 16 {
		t.Errorf("unknown table: %v", err)
	}
	if err := db.Exec(ctx, "select '"+strings.Repeat("a", maxQueryBytes-40)+"' x"); err != nil {
		t.Errorf("longest statement: %v", err)
	}
	n := 0
	if err := db.Export(ctx, "SELECT x FROM long_sequence(300000)", func(row [][]byte) error {
		n++
		if string(row[0]) != fmt.Sprint(n) {
			return fmt.Errorf("row %d is %q", n, row)
		}
		return nil
	}); err != nil || n != 300000 {
		t.Errorf("%d rows, %v", n, err)
	}
	if err := db.Export(ctx, "SELECT x FROM long_sequence(0)", func([][]byte) error { return errors.New("a row") }); err != nil {
		t.Errorf("empty export: %v", err)
	}
}

func TestPassing(t *testing.T) {
	timeout := answer(http.StatusBadRequest, `{"error":"timeout, query aborted","position":0}`)
	wrong := answer(http.StatusBadRequest, `{"error":"table does not exist","position":0}`)
	ctx := context.Background()
	if err := fake(t, timeout).Exec(ctx, "SELECT 1"); !Passing(err) {
		t.Errorf("a timeout does not pass: %v", err)
	}
	if err := fake(t, wrong).Exec(ctx, "SELECT 1"); Passing(err) {
		t.Errorf("a refusal passes: %v", err)
	}
	if err := fake(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }).Exec(ctx, "SELECT 1"); !Passing(err) {
		t.Errorf("a broken connection does not pass: %v", err)
	}
	nobody := Open(Conf{Addr: "127.0.0.1:1"})
	defer nobody.Close()
	if err := nobody.Exec(ctx, "SELECT 1"); Passing(err) || !errors.Is(err, ErrUnreachable) {
		t.Errorf("that nobody listens passes: %v", err)
	}
}

// A server that is not QuestDB, or is out of its mind, gets an error with the place; it took
// the whole agent with it, by a panic or by its memory.
func TestHostileAnswers(t *testing.T) {
	ctx := context.Background()
	for want, body := range map[string]string{
		`no column "name"`: `{"columns":[{"name":"nome","type":"STRING"}],"dataset":[["x"]],"count":1}`,
		"no column":        `{"columns":[],"dataset":[],"count":0}`,
		"row 2 of 2":       `{"columns":[{"name":"name","type":"STRING"}],"dataset":[["x"],[]],"count":2}`,
		"row 1 of 1":       `{"columns":[{"name":"name","type":"STRING"}],"dataset":[["x","y"]],"count":1}`,
		"cannot read":      `<html>`,
	} {
		if _, err := fake(t, answer(200, body)).Query(ctx, "SELECT name", "name"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v", body, err)
		}
	}
	endless := func(w http.ResponseWriter, _ *http.Request) {
		block := []byte(strings.Repeat(" ", 1<<20))
		for err := error(nil); err == nil; {
			_, err = w.Write(block)
		}
	}
	if _, err := fake(t, endless).Query(ctx, "SELECT name", "name"); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("an endless answer: %v", err)
	}
	if err := fake(t, endless).Export(ctx, "SELECT name", func([][]byte) error { return nil }); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("an endless row: %v", err)
	}
	followed := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		followed = true
		io.WriteString(w, `{"columns":[],"dataset":[]}`)
	}))
	defer elsewhere.Close()
	db := fake(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusFound)
	})
	if _, err := db.Query(ctx, "x"); err == nil || followed || !strings.Contains(err.Error(), "302") {
		t.Errorf("a redirect: %v, followed: %v", err, followed)
	}
	if err := db.Ping(ctx); err == nil || followed {
		t.Errorf("a redirected ping: %v, followed: %v", err, followed)
	}
}
