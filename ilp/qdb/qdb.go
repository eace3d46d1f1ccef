// Package qdb talks to QuestDB over HTTP for everything but rows: statements,
// queries, and exports as a stream.
//
// It must never write rows over ILP (that is ilp/sender), never retry (the caller
// knows what may be repeated), and never read the environment: no proxy is asked
// that nobody configured.
//
// Invariants: a LONG stays exact, it is carried as text and never as a float; an
// answer that broke off is an error, never a short result; whatever means "no
// QuestDB there" is errors.Is(err, ErrUnreachable); no answer is trusted: one that lacks what was
// asked for is an error with its place, one that does not end is given up, and a redirect
// is not followed, because the credentials would go along.
package qdb

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrUnreachable means that no QuestDB answered: refused, no such host, no answer
// in time, or the connection broke before the answer was whole. Whether the
// statement was run is then unknown.
var ErrUnreachable = errors.New("QuestDB is unreachable")

// maxQueryBytes is how long a statement may be once escaped. QuestDB 9.3.4 takes
// it in the request line only, and closes the connection without a word when the
// line is longer than its buffer of 32 KiB.
const maxQueryBytes = 30000

// Most that an answer may be. The largest of a Query of ours, the coverage of months, is a
// few MiB; a row of an export is some KiB.
const (
	maxAnswerBytes = 64 << 20
	maxRecordBytes = 16 << 20
)

// longestStatement is how long a statement may run if the caller sets no limit.
const longestStatement = 24 * time.Hour

// DB is a QuestDB server. All methods may be called from many goroutines.
type DB struct {
	conf   Conf
	client *http.Client
}

// Open makes a DB. Nothing is sent before the first call.
func Open(conf Conf) *DB {
	return &DB{conf: conf, client: &http.Client{
		Transport:     conf.RoundTripper(4),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close drops the idle connections. Calls that are under way end by themselves.
func (db *DB) Close() { db.client.CloseIdleConnections() }

// Table is the name in this database of one of our tables or views: whoever writes a
// statement names them by it.
func (db *DB) Table(name string) string { return db.conf.Table(name) }

// Conf is the configuration that the DB was opened with.
func (db *DB) Conf() Conf { return db.conf }

// Ping asks whether QuestDB is up. It says nothing about whether it takes rows.
func (db *DB) Ping(ctx context.Context) error {
	resp, err := db.get(ctx, "/ping", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusOK {
		return statusError(resp, "/ping")
	}
	return nil
}

// Exec runs a statement whose rows, if any, are of no interest.
func (db *DB) Exec(ctx context.Context, sql string) error {
	_, err := db.Query(ctx, sql)
	return err
}

// Query runs a statement and holds its whole result in memory, at most 64 MiB of text. Use
// Export where there may be many rows. columns are those that the caller reads: an answer
// without one of them is an error.
func (db *DB) Query(ctx context.Context, sql string, columns ...string) (*Result, error) {
	resp, err := db.run(ctx, "/exec", sql)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	if err != nil {
		return nil, db.broken(ctx, err)
	}
	if len(body) > maxAnswerBytes {
		return nil, fmt.Errorf("cannot read QuestDB's answer to %q: it is longer than %d MiB", clip(sql), maxAnswerBytes>>20)
	}
	var answer struct {
		Columns []Column `json:"columns"`
		Dataset [][]any  `json:"dataset"`
		Count   *int     `json:"count"`
		Error   string   `json:"error"`
		At      int      `json:"position"`
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if err := dec.Decode(&answer); err != nil {
		return nil, fmt.Errorf("cannot read QuestDB's answer %q: %w", clip(string(body)), err)
	}
	if answer.Error != "" {
		return nil, &SQLError{SQL: sql, Message: answer.Error, Position: answer.At, Status: resp.StatusCode}
	}
	if answer.Count != nil && *answer.Count != len(answer.Dataset) {
		return nil, fmt.Errorf("cannot read QuestDB's answer: it announces %d rows and holds %d", *answer.Count, len(answer.Dataset))
	}
	for _, name := range columns {
		if !slices.ContainsFunc(answer.Columns, func(c Column) bool { return c.Name == name }) {
			return nil, fmt.Errorf("cannot read QuestDB's answer to %q: it has no column %q among %v", clip(sql), name, answer.Columns)
		}
	}
	for i, row := range answer.Dataset {
		if len(row) != len(answer.Columns) {
			return nil, fmt.Errorf("cannot read QuestDB's answer to %q: row %d of %d has %d values, for %d columns", clip(sql), i+1, len(answer.Dataset), len(row), len(answer.Columns))
		}
	}
	return &Result{Columns: answer.Columns, Rows: answer.Dataset}, nil
}

// Export runs a query and hands each row to fn as it comes, one value per column. A
// null is a nil value; an empty text is empty but not nil. Times are in ISO form,
// doubles in Java's ("1.0E8"), a null array is the text "null". A CHAR column is not
// quoted by QuestDB and must not be exported. The row and its values are borrowed: they
// are valid until fn returns. An error of fn ends the export and is returned as it is.
func (db *DB) Export(ctx context.Context, sql string, fn func(row [][]byte) error) error {
	resp, err := db.run(ctx, "/exp", sql)
	if err != nil {
		return err
	}
	// Drained only when all was read: after an error the rest may be gigabytes,
	// and closing costs no more than a new connection.
	defer resp.Body.Close()
	r := newCSVReader(resp.Body)
	header, err := r.next()
	if err == io.EOF {
		return nil // a result without columns
	}
	columns := len(header)
	for rows := 0; err == nil; rows++ {
		var row [][]byte
		row, err = r.next()
		if err != nil {
			break
		}
		if len(row) != columns {
			return fmt.Errorf("cannot read row %d of QuestDB's export: it has %d values, the header %d", rows+1, len(row), columns)
		}
		if err := fn(row); err != nil {
			return err
		}
	}
	switch {
	case err == io.EOF:
		return nil
	case errors.Is(err, errCSV):
		return fmt.Errorf("cannot read QuestDB's export: %w", err)
	default:
		return db.broken(ctx, err)
	}
}

// run sends a statement and returns the answer of status 200.
func (db *DB) run(ctx context.Context, path, sql string) (*http.Response, error) {
	query := url.Values{"query": {sql}}
	if n := len(query.Encode()); n > maxQueryBytes {
		return nil, fmt.Errorf("cannot run SQL of %d bytes once escaped: QuestDB takes %d", n, maxQueryBytes)
	}
	resp, err := db.get(ctx, path, query)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	var answer struct {
		Error string `json:"error"`
		At    int    `json:"position"`
	}
	if json.Unmarshal(body, &answer) == nil && answer.Error != "" {
		return nil, &SQLError{SQL: sql, Message: answer.Error, Position: answer.At, Status: resp.StatusCode}
	}
	return nil, fmt.Errorf("cannot run SQL: QuestDB answered %s: %s", resp.Status, clip(string(body)))
}

func (db *DB) get(ctx context.Context, path string, query url.Values) (*http.Response, error) {
	address := db.conf.URL(path)
	if query != nil {
		address += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot ask QuestDB at %q: %w", db.conf.Addr, err)
	}
	db.conf.Authorize(req)
	if query != nil {
		// Without it the server gives a statement 60 seconds, whatever the caller
		// allows. It notices by itself when the caller has gone.
		limit := longestStatement
		if deadline, ok := ctx.Deadline(); ok {
			limit = max(time.Until(deadline), time.Millisecond)
		}
		req.Header.Set("Statement-Timeout", strconv.FormatInt(limit.Milliseconds(), 10))
	}
	resp, err := db.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // its text repeats the whole statement, escaped
		}
		return nil, db.broken(ctx, err)
	}
	return resp, nil
}

// broken makes the error for a connection that failed. The caller's own end of
// patience is not the server's fault and stays a context error.
func (db *DB) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("cannot wait for QuestDB at %q: %w", db.conf.Addr, ctx.Err())
	}
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) {
		return &WrongConfError{fmt.Sprintf("the certificate of QuestDB at %q is not trusted: %v; have this machine trust who issued it (SSL_CERT_FILE=FILE names further ones), name the host as the certificate does, or add tls_verify=unsafe_off to the configuration string", db.conf.Addr, untrusted.Err)}
	}
	return &unreachableError{addr: db.conf.Addr, err: err, advice: db.conf.StartAdvice()}
}

// WrongConfError is a QuestDB that answers and that our configuration is wrong for: no
// retry helps.
type WrongConfError struct{ text string }

func (e *WrongConfError) Error() string { return e.text }

type unreachableError struct {
	addr   string
	err    error
	advice string
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("cannot reach QuestDB at %q: %v; %s", e.addr, e.err, e.advice)
}
func (e *unreachableError) Unwrap() []error { return []error{ErrUnreachable, e.err} }

// SQLError is QuestDB's own refusal of a statement.
type SQLError struct {
	SQL      string
	Message  string
	Position int // byte offset in SQL
	Status   int // HTTP status
}

func (e *SQLError) Error() string {
	return fmt.Sprintf("cannot run SQL %q: %s (at position %d)", clip(e.SQL), e.Message, e.Position)
}

// Passing says of an error whether the same statement may well succeed a moment later:
// the server ran out of its time, or the connection broke. Where nobody listens at all
// it is not.
func Passing(err error) bool {
	var refused *SQLError
	if errors.As(err, &refused) {
		// What a busy server says of its own limits, and of workers that gave up.
		return strings.Contains(refused.Message, "timeout, query aborted")
	}
	return errors.Is(err, ErrUnreachable) && !errors.Is(err, syscall.ECONNREFUSED)
}

func statusError(resp *http.Response, path string) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	text := fmt.Sprintf("cannot ask QuestDB for %q: it answered %s: %s", path, resp.Status, clip(string(body)))
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		return &WrongConfError{text + "; look at username, password and token in the configuration string"}
	}
	return errors.New(text)
}

// clip shortens a text for a message.
func clip(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 300 {
		return s[:300] + "..."
	}
	return s
}
