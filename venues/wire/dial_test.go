package wire

import (
	"context"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// TLS, frames sent along with the handshake's answer, a deadline and an interrupt in
// the middle of a TLS record's message, and a large message.
func TestTLS(t *testing.T) {
	big := strings.Repeat("0123456789", 300_000)
	step := make(chan struct{})
	srv := quietTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nc, rw, _, err := ws.UpgradeHTTP(r, w)
		if err != nil {
			t.Error(err)
			return
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(2 * time.Minute))
		rw.Write(frame(fin|text, "early"))
		rw.Flush()
		f := frame(fin|text, big)
		<-step
		nc.Write(f[:100_000])
		<-step
		nc.Write(join(f[100_000:], frame(fin|text, "last")))
		clientFrame(nc)
	}))
	defer srv.Close()
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	c := dialTest(t, srv.URL+"/ws", Options{RootCAs: pool}) // https:// means wss://
	if p, stamp, out := c.Read(soon()); out != Message || string(p) != "early" || stamp == 0 {
		t.Fatalf("%q %v %v", p, out, c.Err())
	}
	step <- struct{}{}
	if _, _, out := c.Read(time.Now().Add(20 * time.Millisecond)); out != Deadline {
		t.Fatalf("outcome %v", out)
	}
	go func() {
		time.Sleep(5 * time.Millisecond)
		c.Interrupt()
	}()
	if _, _, out := c.Read(soon()); out != Interrupted {
		t.Fatalf("outcome %v", out)
	}
	step <- struct{}{}
	if p, _, out := c.Read(soon()); out != Message || string(p) != big {
		t.Fatalf("%d bytes %v %v", len(p), out, c.Err())
	}
	if p, _, out := c.Read(soon()); out != Message || string(p) != "last" {
		t.Fatalf("%q %v %v", p, out, c.Err())
	}
	if _, err := Dial(context.Background(), srv.URL+"/ws", Options{}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server with an unknown certificate: %v", err)
	}
}

func TestDialRefused(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/ban", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "120")
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, "way too many requests")
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://elsewhere.example/ws", http.StatusFound)
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		nc, _, _ := w.(http.Hijacker).Hijack()
		defer nc.Close()
		io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\n")
		for range 1 << 20 {
			if _, err := io.WriteString(nc, "X-Pad: "+strings.Repeat("y", 1000)+"\r\n"); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/deflate", func(w http.ResponseWriter, r *http.Request) {
		if h := r.Header.Get("Sec-WebSocket-Extensions"); h != "" {
			t.Errorf("offered %q", h)
		}
		nc, _, _ := w.(http.Hijacker).Hijack()
		defer nc.Close()
		io.WriteString(nc, switching(r, "Sec-WebSocket-Extensions: permessage-deflate\r\n"))
		io.Copy(io.Discard, nc)
	})
	hang := make(chan struct{})
	mux.HandleFunc("/hang", func(w http.ResponseWriter, r *http.Request) { <-hang })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	defer close(hang)

	dial := func(path string, opt Options) error {
		t.Helper()
		c, err := Dial(context.Background(), srv.URL+path, opt)
		if err == nil {
			c.Close(1000, "")
			t.Fatalf("%s: connected", path)
		}
		return err
	}
	var se *StatusError
	if err := dial("/ban", Options{}); !errors.As(err, &se) || se.Status != 418 || se.RetryAfter != 2*time.Minute || se.Body != "way too many requests" {
		t.Errorf("ban: %v", err)
	}
	if err := dial("/moved", Options{}); !errors.As(err, &se) || se.Status != 302 || se.Location != "https://elsewhere.example/ws" {
		t.Errorf("moved: %v", err)
	}
	if err := dial("/endless", Options{}); !errors.Is(err, errLongHandshake) {
		t.Errorf("endless: %v", err)
	}
	if err := dial("/deflate", Options{}); !errors.Is(err, ws.ErrHandshakeBadExtensions) {
		t.Errorf("an extension that was not offered: %v", err)
	}
	start := time.Now()
	var late net.Error                                                                                                                                     // at the handshake, or on a slow machine before it
	if err := dial("/hang", Options{DialTimeout: 50 * time.Millisecond}); !errors.As(err, &late) || !late.Timeout() || time.Since(start) > 9*time.Second { // the default is 10 s
		t.Errorf("hang: %v after %v", err, time.Since(start))
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := Dial(ctx, srv.URL+"/hang", Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for _, u := range []string{"ftp://host/", "ws:///nohost", "://", "stream.example"} {
		if _, err := Dial(context.Background(), u, Options{}); err == nil {
			t.Errorf("dialled %q", u)
		}
	}
}

// switching is a right answer to a handshake, with more headers, made without gobwas.
func switching(r *http.Request, more string) string {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n" + more + "\r\n"
}

// Frames that come in the same segment as the handshake's answer belong to the stream.
func TestFramesRightAfterTheHandshake(t *testing.T) {
	big := strings.Repeat("z", 300_000)
	stream := join(frame(fin|text, "one"), frame(fin|ping, "p"), frame(text, "tw"), frame(fin|cont, "o"), frame(fin|text, big))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.String() != "/stream?streams=btcusdt@depth@100ms/btcusdt@trade" || r.UserAgent() != userAgent {
			t.Errorf("asked for %q as %q", r.URL, r.UserAgent())
		}
		nc, _, _ := w.(http.Hijacker).Hijack()
		defer nc.Close()
		nc.Write(append([]byte(switching(r, "X-More: yes\r\n")), stream...))
		nc.SetReadDeadline(time.Now().Add(10 * time.Second))
		if op, p, err := clientFrame(nc); err != nil || op != ws.OpPong || string(p) != "p" {
			t.Errorf("heard %v %q %v", op, p, err)
		}
		clientFrame(nc)
	}))
	defer srv.Close()
	c := dialTest(t, srv.URL+"/stream?streams=btcusdt@depth@100ms/btcusdt@trade#fragment", Options{ReadBufferBytes: 300})
	var got []string
	last := int64(0)
	for range 3 {
		p, stamp, out := c.Read(soon())
		if out != Message || stamp < last || stamp == 0 {
			t.Fatalf("%v, stamp %d after %d: %v", out, stamp, last, c.Err())
		}
		got = append(got, string(p))
		last = stamp
	}
	check(t, "messages", got, []string{"one", "two", big})
	if n := c.Counters; n.Bytes != uint64(len(stream)) || n.Frames != 5 || n.Messages != 3 {
		t.Errorf("counters %+v for %d bytes", n, len(stream))
	}
}
