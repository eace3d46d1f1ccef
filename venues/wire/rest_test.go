package wire

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestRest(t *testing.T) {
	var requests atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-MBX-USED-WEIGHT-1M", "257")
		io.WriteString(w, `{"lastUpdateId":1}`)
	})
	mux.HandleFunc("/429", func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("Retry-After", "17")
		w.WriteHeader(429)
		io.WriteString(w, "slow down")
	})
	mux.HandleFunc("/hop/", func(w http.ResponseWriter, r *http.Request) {
		var n int
		fmt.Sscanf(r.URL.Path, "/hop/%d", &n)
		if n == 0 {
			io.WriteString(w, "arrived")
			return
		}
		http.Redirect(w, r, fmt.Sprintf("/hop/%d", n-1), http.StatusFound)
	})
	mux.HandleFunc("/circle", func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		http.Redirect(w, r, "/circle", http.StatusFound)
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.1:1/elsewhere", http.StatusFound)
	})
	mux.HandleFunc("/large", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Repeat("x", 1001))
	})
	mux.HandleFunc("/limit", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Repeat("x", 1000))
	})
	mux.HandleFunc("/bomb", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		for range 1000 {
			z.Write(make([]byte, 1000))
		}
		z.Close()
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "short")
	})
	mux.HandleFunc("/dead", func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		nc, _, _ := w.(http.Hijacker).Hijack()
		nc.Close()
	})
	hang := make(chan struct{})
	mux.HandleFunc("/hang", func(w http.ResponseWriter, r *http.Request) { <-hang })
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := io.WriteString(w, "x"); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	defer close(hang)

	clock := &stepClock{now: 1_700_000_000_000_000_000}
	before := clock.now
	rest := NewRest(RestOptions{Clock: clock, MaxBodyBytes: 1000, UsedWeightHeader: "X-MBX-USED-WEIGHT-1M"})
	defer rest.Close()
	get := func(path string) (Answer, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return rest.Get(ctx, srv.URL+path)
	}

	a, err := get("/ok")
	if err != nil || a.Status != 200 || string(a.Body) != `{"lastUpdateId":1}` || a.UsedWeight != 257 || a.RetryAfter != 0 || a.StampNs <= before {
		t.Errorf("ok: %+v %v", a, err)
	}
	a, err = get("/429")
	if err != nil || a.Status != 429 || string(a.Body) != "slow down" || a.RetryAfter != 17*time.Second || a.UsedWeight != -1 {
		t.Errorf("429: %+v %v", a, err)
	}
	if n := requests.Swap(0); n != 1 {
		t.Errorf("429 was asked %d times", n)
	}
	if a, err = get("/hop/5"); err != nil || string(a.Body) != "arrived" {
		t.Errorf("five redirects: %+v %v", a, err)
	}
	if a, err = get("/hop/6"); err == nil || a.Status != 302 || a.Body != nil {
		t.Errorf("six redirects: %+v %v", a, err)
	}
	if a, err = get("/circle"); err == nil || requests.Swap(0) != maxRedirects+1 {
		t.Errorf("endless redirects: %+v %v", a, err)
	}
	if _, err = get("/away"); err == nil || !strings.Contains(err.Error(), "another host") {
		t.Errorf("another host: %v", err)
	}
	if a, err = get("/limit"); err != nil || len(a.Body) != 1000 {
		t.Errorf("limit: %d bytes %v", len(a.Body), err)
	}
	for _, path := range []string{"/large", "/bomb"} {
		if a, err = get(path); err == nil || !errors.Is(err, ErrTooLong) || a.Body != nil {
			t.Errorf("%s: %d bytes %v", path, len(a.Body), err)
		}
	}
	if a, err = get("/cut"); !errors.Is(err, io.ErrUnexpectedEOF) || a.Body != nil || a.Status != 200 {
		t.Errorf("cut: %+v %v", a, err)
	}
	fresh := NewRest(RestOptions{}) // without kept connections net/http does not ask twice
	if _, err = fresh.Get(context.Background(), srv.URL+"/dead"); err == nil || requests.Swap(0) != 1 {
		t.Errorf("dead: %v", err)
	}
	quick := NewRest(RestOptions{Timeout: 50 * time.Millisecond})
	for _, path := range []string{"/hang", "/slow"} {
		start := time.Now()
		if _, err := quick.Get(context.Background(), srv.URL+path); err == nil || time.Since(start) > 20*time.Second { // the default is 30 s
			t.Errorf("%s: %v after %v", path, err, time.Since(start))
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := rest.Get(ctx, srv.URL+"/hang"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := rest.Get(context.Background(), "://"); err == nil {
		t.Error("got a URL that is none")
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		value, date string
		want        time.Duration
	}{
		{"", "", 0},
		{"0", "", 0},
		{"120", "", 2 * time.Minute},
		{" 7 ", "", 7 * time.Second},
		{"-1", "", 0},
		{"1.5", "", 0},
		{"soon", "", 0},
		{"259200", "", 72 * time.Hour},
		{"604801", "", maxRetryAfter},
		{"99999999999999999999999", "", maxRetryAfter},
		{"Sun, 22 Nov 2026 10:00:30 GMT", "", 30 * time.Second},
		{"Sunday, 22-Nov-26 10:00:30 GMT", "", 30 * time.Second},
		{"Sun Nov 22 10:00:30 2026", "", 30 * time.Second},
		{"Sun, 22 Nov 2026 09:59:00 GMT", "", 0},
		{"Sun, 22 Nov 2026 12:00:30 GMT", "Sun, 22 Nov 2026 12:00:00 GMT", 30 * time.Second}, // its clock is ahead of ours
		{"Sun, 22 Nov 2026 10:00:30 GMT", "nonsense", 30 * time.Second},
		{"Tue, 22 Nov 2050 10:00:30 GMT", "", maxRetryAfter},
	} {
		h := http.Header{}
		if tc.value != "" {
			h.Set("Retry-After", tc.value)
		}
		if tc.date != "" {
			h.Set("Date", tc.date)
		}
		if got := retryAfter(h, now.UnixNano()); got != tc.want {
			t.Errorf("Retry-After %q with Date %q: %v, want %v", tc.value, tc.date, got, tc.want)
		}
	}
}

func TestRedirectRules(t *testing.T) {
	req := func(u string) *http.Request {
		r, err := http.NewRequest(http.MethodGet, u, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, tc := range []struct {
		from, to string
		ok       bool
	}{
		{"https://a.example/x", "https://a.example/y", true},
		{"http://a.example/x", "https://a.example/x", true},
		{"https://a.example/x", "http://a.example/x", false},
		{"https://a.example/x", "https://b.example/x", false},
		{"https://a.example/x", "https://a.example:8443/x", false},
	} {
		if err := checkRedirect(req(tc.to), []*http.Request{req(tc.from)}); (err == nil) != tc.ok {
			t.Errorf("%s to %s: %v", tc.from, tc.to, err)
		}
	}
}
