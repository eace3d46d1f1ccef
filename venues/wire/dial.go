package wire

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gobwas/ws"
)

// Options of a connection. Zero values mean the defaults.
type Options struct {
	Clock           Clock          // default: NewClock()
	DialTimeout     time.Duration  // TCP, TLS and handshake together; default 10 s
	WriteTimeout    time.Duration  // of one frame; default 5 s
	ReadBufferBytes int            // default 256 KiB; it grows for larger messages
	MaxMessageBytes int            // default 64 MiB; a longer message ends the connection with code 1009
	RootCAs         *x509.CertPool // default: the system's
}

func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = NewClock()
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = 10 * time.Second
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = 5 * time.Second
	}
	if o.ReadBufferBytes <= 0 {
		o.ReadBufferBytes = 256 << 10
	}
	o.ReadBufferBytes = max(o.ReadBufferBytes, minReadBufferBytes)
	if o.MaxMessageBytes <= 0 {
		o.MaxMessageBytes = 64 << 20
	}
	return o
}

// minReadBufferBytes holds any control frame.
const minReadBufferBytes = 256

// StatusError is a handshake that the server answered with something other than 101.
type StatusError struct {
	Status     int
	RetryAfter time.Duration // from the header Retry-After; 0: it said nothing
	Location   string        // where a redirect points; it is not followed
	Body       string        // at most 512 bytes of the answer
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("the server answered with status %d instead of 101", e.Status)
	if e.RetryAfter > 0 {
		s += fmt.Sprintf(", retry after %s", e.RetryAfter)
	}
	if e.Location != "" {
		s += fmt.Sprintf(", redirect to %q", e.Location)
	}
	if e.Body != "" {
		s += fmt.Sprintf(": %q", e.Body)
	}
	return s
}

// maxHandshakeBytes bounds what a server may send before its 101 is complete, TLS
// certificates included.
const maxHandshakeBytes = 256 << 10

// Dial connects to a WebSocket URL: ws, wss, or http and https, which mean the same.
// No proxy is used, no compression is offered and no redirect is followed. It returns
// *StatusError (wrapped) if the server refused the handshake.
func Dial(ctx context.Context, rawURL string, opt Options) (*Conn, error) {
	opt = opt.withDefaults()
	u, err := wsURL(rawURL)
	if err != nil {
		return nil, fmt.Errorf("cannot dial venue %q: %w", rawURL, err)
	}
	var stamper *stampConn
	var status *StatusError
	d := ws.Dialer{
		Timeout:   opt.DialTimeout,
		Header:    ws.HandshakeHeaderHTTP{"User-Agent": {userAgent}},
		TLSConfig: &tls.Config{ServerName: u.Hostname(), RootCAs: opt.RootCAs, MinVersion: tls.VersionTLS12},
		NetDial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			nc, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			stamper = &stampConn{Conn: nc, clock: opt.Clock, limited: true, left: maxHandshakeBytes}
			return stamper, nil
		},
		OnStatusError: func(code int, _ []byte, resp io.Reader) {
			status = readStatusError(code, resp, opt.Clock)
		},
	}
	nc, br, _, err := d.Dial(ctx, u.String())
	if err != nil {
		if status != nil {
			err = status
		}
		return nil, fmt.Errorf("cannot dial venue %q: %w", rawURL, err)
	}
	stamper.limited = false
	var early []byte
	if br != nil {
		early, _ = br.Peek(br.Buffered())
	}
	c := newConn(nc, stamper, early, opt)
	if br != nil {
		ws.PutReader(br)
	}
	return c, nil
}

// NewConn makes a connection of a stream on which the handshake is done already: a
// simulated network, or a test. early is what came after the handshake (it is copied).
func NewConn(nc net.Conn, early []byte, opt Options) *Conn {
	opt = opt.withDefaults()
	stamper := &stampConn{Conn: nc, clock: opt.Clock, lastNs: opt.Clock.NowNs()}
	return newConn(stamper, stamper, early, opt)
}

func newConn(nc net.Conn, stamper *stampConn, early []byte, opt Options) *Conn {
	c := &Conn{
		nc:      nc,
		stamper: stamper,
		clock:   opt.Clock,
		f:       newFrames(max(opt.ReadBufferBytes, len(early)), opt.MaxMessageBytes),
		opt:     opt,
	}
	if len(early) > 0 {
		c.f.took(copy(c.f.space(), early))
		c.stampNs = stamper.lastNs
		c.Counters.Reads = 1
		c.Counters.Bytes = uint64(len(early))
	}
	return c
}

func wsURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, err
	}
	switch u.Scheme {
	case "ws", "wss":
	case "http":
		u.Scheme = "ws"
	case "https":
		u.Scheme = "wss"
	default:
		return nil, fmt.Errorf("scheme %q is none of ws, wss, http, https", u.Scheme)
	}
	if u.Hostname() == "" {
		return nil, errors.New("no host in the URL")
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

func readStatusError(code int, r io.Reader, clock Clock) *StatusError {
	e := &StatusError{Status: code}
	resp, err := http.ReadResponse(bufio.NewReader(r), nil)
	if err != nil {
		return e
	}
	e.RetryAfter = retryAfter(resp.Header, clock.NowNs())
	e.Location = resp.Header.Get("Location")
	if resp.ContentLength != 0 {
		// A body without a length ends with the connection or with the dial timeout.
		var body bytes.Buffer
		io.Copy(&body, io.LimitReader(resp.Body, 512))
		e.Body = strings.TrimSpace(body.String())
	}
	return e
}

// stampConn sits right above the socket, below TLS, and notes the time of each read
// that brought bytes. TLS returns a record only when its last byte has been read, and
// reads on only when no whole record is left, so lastNs is the stamp of the read that
// brought the last byte of whatever TLS hands out. Only the reading goroutine uses
// the fields.
type stampConn struct {
	net.Conn
	clock   Clock
	lastNs  int64
	left    int // how much more may be read while limited
	limited bool
}

var errLongHandshake = fmt.Errorf("the handshake is longer than %d bytes", maxHandshakeBytes)

func (s *stampConn) Read(b []byte) (int, error) {
	if s.limited && s.left <= 0 {
		return 0, errLongHandshake
	}
	n, err := s.Conn.Read(b)
	if n > 0 {
		s.lastNs = s.clock.NowNs()
		s.left -= n
	}
	return n, err
}
