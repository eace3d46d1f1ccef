package wire

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"
)

// A bomb is 1 GiB of zeros in 1 MiB of gzip. It costs memory and traffic by
// RestOptions.MaxBodyBytes, not by what it would become, also where it comes as one
// of many members.
func TestRestBomb(t *testing.T) {
	var bomb bytes.Buffer
	z, err := gzip.NewWriterLevel(&bomb, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range 16 {
		if _, err := z.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	const members = 64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		for range members {
			if _, err := w.Write(bomb.Bytes()); err != nil {
				return
			}
		}
	}))
	defer srv.Close()
	const most = 1 << 20
	rest := NewRest(RestOptions{MaxBodyBytes: most})
	defer rest.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	a, err := rest.Get(t.Context(), srv.URL)
	runtime.ReadMemStats(&after)
	if !errors.Is(err, ErrTooLong) || a.Body != nil || a.Status != 200 {
		t.Errorf("%d bytes, status %d, %v", len(a.Body), a.Status, err)
	}
	// io.ReadAll grows by a quarter, which adds up to some five times the last size.
	if took := after.TotalAlloc - before.TotalAlloc; took > 16*most {
		t.Errorf("%d bytes were allocated for at most %d", took, most)
	}
	if bomb.Len()*members > 4<<20 {
		t.Errorf("the bomb has %d bytes", bomb.Len()*members)
	}
}

// Whoever sends a byte now and then never stops answering, and no single wait is long:
// the deadline is of the whole request, in headers, in a body that says how long it is,
// and in one that inflates to nothing.
func TestRestSlow(t *testing.T) {
	var empty bytes.Buffer // a gzip member of no bytes
	z := gzip.NewWriter(&empty)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	for _, c := range []struct {
		name, first string
		drip        []byte
		status      int
	}{
		{"status line", "HTTP/1.1 200 ", []byte("O"), 0},
		{"headers", head + "X-Slow: ", []byte("x"), 0},
		{"informational answers", "", []byte("HTTP/1.1 103 Early Hints\r\n\r\n"), 0},
		{"body", head + "Content-Length: 1000000\r\n\r\n", []byte(" "), 200},
		{"body without an end", head + "\r\n", []byte(" "), 200},
		{"empty gzip members", head + "Content-Encoding: gzip\r\n\r\n", empty.Bytes(), 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				nc, err := ln.Accept()
				if err != nil {
					return
				}
				defer nc.Close()
				if _, err := nc.Read(make([]byte, 4096)); err != nil {
					return
				}
				_, err = io.WriteString(nc, c.first)
				for err == nil {
					time.Sleep(10 * time.Millisecond)
					_, err = nc.Write(c.drip)
				}
			}()
			// What ends a wait that has no deadline is this, as an error of the test.
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			rest := NewRest(RestOptions{Timeout: 300 * time.Millisecond})
			a, err := rest.Get(ctx, "http://"+ln.Addr().String())
			if err == nil || ctx.Err() != nil || a.Body != nil {
				t.Errorf("%d bytes, %v; the test's own deadline: %v", len(a.Body), err, ctx.Err())
			}
			if c.status != 0 && a.Status != c.status && a.Status != 0 { // 0: the head came too late
				t.Errorf("status %d", a.Status)
			}
			rest.Close()
			ln.Close()
			<-done
		})
	}
}
