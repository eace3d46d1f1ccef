package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// RestOptions of a Rest; zero values mean the defaults.
type RestOptions struct {
	Clock            Clock          // default: NewClock()
	Timeout          time.Duration  // of a whole Get, body included; default 30 s
	MaxBodyBytes     int64          // after decompression; default 64 MiB
	UsedWeightHeader string         // the header that tells the weight used so far ("X-MBX-USED-WEIGHT-1M"); default: none
	RootCAs          *x509.CertPool // default: the system's
}

// Answer is what a server said to one Get.
type Answer struct {
	Status     int
	Body       []byte        // the caller's own
	StampNs    int64         // when the last byte of the body had come
	RetryAfter time.Duration // from the header Retry-After; 0: it said nothing
	UsedWeight int           // from RestOptions.UsedWeightHeader; -1: it said nothing
}

// Rest fetches over HTTP/1.1. It never retries and it does not judge a status: 429
// is an Answer, not an error. (The one exception is below it: net/http sends a GET
// again if a kept connection turns out to be dead before a byte of an answer came.)
// It may be used from several goroutines.
type Rest struct {
	client *http.Client
	opt    RestOptions
}

// ErrTooLong is an answer longer than RestOptions.MaxBodyBytes.
var ErrTooLong = errors.New("it is longer than is taken")

// Redirects are followed this often, and only to the same host.
const maxRedirects = 5

// NewRest makes a Rest with a transport of its own and no proxy.
func NewRest(opt RestOptions) *Rest {
	if opt.Clock == nil {
		opt.Clock = NewClock()
	}
	if opt.Timeout <= 0 {
		opt.Timeout = 30 * time.Second
	}
	if opt.MaxBodyBytes <= 0 {
		opt.MaxBodyBytes = 64 << 20
	}
	return &Rest{
		opt: opt,
		client: &http.Client{
			CheckRedirect: checkRedirect,
			Transport: &http.Transport{
				Proxy:                  nil,
				DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
				TLSClientConfig:        &tls.Config{RootCAs: opt.RootCAs, MinVersion: tls.VersionTLS12},
				TLSHandshakeTimeout:    10 * time.Second,
				ResponseHeaderTimeout:  opt.Timeout,
				MaxResponseHeaderBytes: 64 << 10,
				MaxIdleConnsPerHost:    2,
				MaxConnsPerHost:        8,
				IdleConnTimeout:        90 * time.Second,
			},
		},
	}
}

func checkRedirect(req *http.Request, via []*http.Request) error {
	switch first := via[0].URL; {
	case len(via) > maxRedirects:
		return fmt.Errorf("more than %d redirects", maxRedirects)
	case req.URL.Host != first.Host:
		return fmt.Errorf("redirected to another host, %q", req.URL.Host)
	case first.Scheme == "https" && req.URL.Scheme != "https":
		return errors.New("redirected from https to http")
	}
	return nil
}

// Get fetches a URL. An error means that there is no whole answer; the Answer then
// holds what is known (the status, and the headers if they came), and no body.
func (r *Rest) Get(ctx context.Context, url string) (Answer, error) {
	a := Answer{UsedWeight: -1}
	ctx, cancel := context.WithTimeout(ctx, r.opt.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return a, fmt.Errorf("cannot make request %q: %w", url, err)
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Cache-Control", "no-cache") // a cached book is an old book
	resp, err := r.client.Do(req)
	if resp != nil { // also with a refused redirect
		a.Status = resp.StatusCode
		a.RetryAfter = retryAfter(resp.Header, r.opt.Clock.NowNs())
		a.UsedWeight = usedWeight(resp.Header, r.opt.UsedWeightHeader)
	}
	if err != nil {
		return a, fmt.Errorf("cannot get %q: %w", url, err) // Do has closed the body
	}
	defer resp.Body.Close()
	if resp.ContentLength > r.opt.MaxBodyBytes {
		return a, fmt.Errorf("cannot read the answer to %q: %w: %d of at most %d bytes", url, ErrTooLong, resp.ContentLength, r.opt.MaxBodyBytes)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, r.opt.MaxBodyBytes+1))
	a.StampNs = r.opt.Clock.NowNs()
	if err != nil {
		return a, fmt.Errorf("cannot read the answer to %q after %d bytes: %w", url, len(body), err)
	}
	if int64(len(body)) > r.opt.MaxBodyBytes {
		return a, fmt.Errorf("cannot read the answer to %q: %w: more than %d bytes", url, ErrTooLong, r.opt.MaxBodyBytes)
	}
	a.Body = body
	return a, nil
}

// Close lets the kept connections go.
func (r *Rest) Close() { r.client.CloseIdleConnections() }

// maxRetryAfter bounds what a server can make us wait; Binance bans for up to 3 days.
const maxRetryAfter = 7 * 24 * time.Hour

// retryAfter reads the header Retry-After in both of its forms, seconds and date
// (RFC 9110 section 10.2.3). A date is measured from the server's own Date header
// where there is one, for our clock and its clock need not agree. 0 means that it
// says nothing, or nothing that can be understood.
func retryAfter(h http.Header, nowNs int64) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		return 0
	}
	if isDigits(v) {
		s, err := strconv.ParseInt(v, 10, 64)
		if err != nil || s > int64(maxRetryAfter/time.Second) {
			return maxRetryAfter // digits that do not fit are a long time
		}
		return time.Duration(s) * time.Second
	}
	until, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	now := time.Unix(0, nowNs)
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(until.Sub(now), 0), maxRetryAfter)
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func usedWeight(h http.Header, name string) int {
	if name == "" {
		return -1
	}
	v := strings.TrimSpace(h.Get(name))
	if !isDigits(v) {
		return -1
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return -1
	}
	return n
}
