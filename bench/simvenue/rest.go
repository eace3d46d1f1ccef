package simvenue

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gobwas/ws"
)

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", s.upgrade)
	mux.HandleFunc("/ws/", s.upgrade)
	mux.HandleFunc("/stream", s.upgrade)
	mux.HandleFunc("/api/v3/ping", s.ping)
	mux.HandleFunc("/api/v3/time", s.time)
	mux.HandleFunc("/api/v3/depth", s.depth)
	mux.HandleFunc("/api/v3/exchangeInfo", s.exchangeInfo)
	mux.HandleFunc("/sim/book", s.simBook)
	mux.HandleFunc("/sim/status", func(w http.ResponseWriter, r *http.Request) {
		body, _ := json.Marshal(s.Status())
		answer(w, http.StatusOK, body)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return
		}
		s.wg.Add(1)
		s.mu.Unlock()
		defer s.wg.Done()
		mux.ServeHTTP(w, r)
	})
}

// upgrade opens a WebSocket and serves it until its end.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) {
	if !s.limiter.connect(s.opt.ConnectLimit, time.Now()) {
		answer(w, http.StatusTooManyRequests, []byte("too many connection attempts"))
		return
	}
	if u := r.URL.Query().Get("timeUnit"); u != "" && !strings.EqualFold(u, "MILLISECOND") {
		answer(w, http.StatusBadRequest, []byte("timeUnit is not simulated"))
		return
	}
	list := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/ws"), "/")
	combined := r.URL.Path == "/stream"
	if combined {
		list = r.URL.Query().Get("streams")
	}
	var names []string
	seen := map[string]bool{}
	for _, n := range strings.Split(list, "/") {
		if n != "" && !seen[n] {
			seen[n] = true
			names = append(names, n)
		}
	}
	if len(names) > maxStreams {
		answer(w, http.StatusBadRequest, []byte("too many streams"))
		return
	}
	sock, rw, _, err := ws.HTTPUpgrader{}.Upgrade(r, w)
	if err != nil {
		return // the upgrader has answered
	}
	sock.SetDeadline(time.Time{})
	s.serve(sock, rw.Reader, combined, names)
}

func answer(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}

func fail(w http.ResponseWriter, status, code int, msg string) {
	text, _ := json.Marshal(msg)
	answer(w, status, fmt.Appendf(nil, `{"code":%d,"msg":%s}`, code, text))
}

// weightLimiter is the REST budget of the one address that there is.
type weightLimiter struct {
	limit, banAfter int

	mu       sync.Mutex
	minute   int64
	used     int
	over     int // answers 429 in this minute
	banUntil time.Time
	connects []time.Time
}

// take charges weight. Where status is not 200, retryAfter is in seconds.
func (l *weightLimiter) take(weight int, now time.Time) (status, used, retryAfter int, banUntil time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := now.Unix() / 60; m != l.minute {
		l.minute, l.used, l.over = m, 0, 0
	}
	if now.Before(l.banUntil) {
		return http.StatusTeapot, l.used, 1 + int(l.banUntil.Sub(now).Seconds()), l.banUntil
	}
	l.used += weight
	if l.used <= l.limit {
		return http.StatusOK, l.used, 0, time.Time{}
	}
	l.over++
	if l.over > l.banAfter {
		l.banUntil = now.Add(2 * time.Minute)
		return http.StatusTeapot, l.used, 120, l.banUntil
	}
	return http.StatusTooManyRequests, l.used, 60 - int(now.Unix()%60), time.Time{}
}

func (l *weightLimiter) connect(limit int, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	keep := l.connects[:0]
	for _, t := range l.connects {
		if now.Sub(t) < 5*time.Minute {
			keep = append(keep, t)
		}
	}
	l.connects = append(keep, now)
	return len(l.connects) <= limit
}

// charge takes weight and writes the header, or refuses the request.
func (s *Server) charge(w http.ResponseWriter, weight int) bool {
	status, used, retry, ban := s.limiter.take(weight, time.Now())
	// The venue's headers are in lower case: not through Set.
	w.Header()["x-mbx-used-weight"] = []string{strconv.Itoa(used)}
	w.Header()["x-mbx-used-weight-1m"] = []string{strconv.Itoa(used)}
	switch status {
	case http.StatusTooManyRequests:
		s.tooMany(w, retry)
	case http.StatusTeapot:
		w.Header().Set("Retry-After", strconv.Itoa(retry))
		fail(w, status, -1003, fmt.Sprintf("Way too much request weight used; IP banned until %d. Please use WebSocket Streams for live updates to avoid bans.", ban.UnixMilli()))
	}
	return status == http.StatusOK
}

func (s *Server) tooMany(w http.ResponseWriter, retryAfter int) {
	w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	fail(w, http.StatusTooManyRequests, -1003, fmt.Sprintf("Too much request weight used; current limit is %d request weight per 1 MINUTE. Please use WebSocket Streams for live updates to avoid polling the API.", s.opt.WeightLimit))
}

// query reads the parameters; those not in known are an error, as at the venue.
func query(w http.ResponseWriter, r *http.Request, known ...string) (url.Values, bool) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		fail(w, http.StatusBadRequest, -1100, "Illegal characters found in a parameter.")
		return nil, false
	}
	read := 0
	for _, k := range known {
		if _, ok := q[k]; ok {
			read++
		}
	}
	if read < len(q) {
		fail(w, http.StatusBadRequest, -1104, fmt.Sprintf("Not all sent parameters were read; read '%d' parameter(s) but was sent '%d'.", read, len(q)))
		return nil, false
	}
	return q, true
}

func (s *Server) ping(w http.ResponseWriter, r *http.Request) {
	if s.charge(w, 1) {
		answer(w, http.StatusOK, []byte("{}"))
	}
}

func (s *Server) time(w http.ResponseWriter, r *http.Request) {
	if s.charge(w, 1) {
		answer(w, http.StatusOK, fmt.Appendf(nil, `{"serverTime":%d}`, time.Now().UnixMilli()))
	}
}

var (
	symbolText = regexp.MustCompile(`^[A-Z0-9-_.]{1,20}$`)
	numberText = regexp.MustCompile(`^[0-9]{1,20}$`)
)

// symbolOf finds the symbol that a parameter names, or answers the error.
func (s *Server) symbolOf(w http.ResponseWriter, name string) *symbol {
	if sym := s.symbols[name]; sym != nil {
		return sym
	}
	switch {
	case name == "":
		fail(w, http.StatusBadRequest, -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
	case !symbolText.MatchString(name):
		fail(w, http.StatusBadRequest, -1100, "Illegal characters found in parameter 'symbol'; legal range is '^[A-Z0-9-_.]{1,20}$'.")
	default:
		fail(w, http.StatusBadRequest, -1121, "Invalid symbol.")
	}
	return nil
}

func depthWeight(limit int) int {
	switch {
	case limit <= 100:
		return 5
	case limit <= 500:
		return 25
	case limit <= 1000:
		return 50
	}
	return 250
}

func (s *Server) depth(w http.ResponseWriter, r *http.Request) {
	limit := 100
	text := r.URL.Query().Get("limit")
	if n, err := strconv.Atoi(text); err == nil || errors.Is(err, strconv.ErrRange) {
		limit = min(n, 5000)
	}
	if !s.charge(w, depthWeight(limit)) {
		return
	}
	q, ok := query(w, r, "symbol", "limit", "symbolStatus")
	if !ok {
		return
	}
	if text != "" && !numberText.MatchString(text) {
		fail(w, http.StatusBadRequest, -1100, "Illegal characters found in parameter 'limit'; legal range is '^[0-9]{1,20}$'.")
		return
	}
	if limit == 0 {
		fail(w, http.StatusBadRequest, -1130, "Data sent for parameter 'limit' is not valid.")
		return
	}
	sym := s.symbolOf(w, q.Get("symbol"))
	if sym == nil {
		return
	}
	s.answerDepth(w, r, sym, limit)
}

func (s *Server) answerDepth(w http.ResponseWriter, r *http.Request, sym *symbol, limit int) {
	s.mu.Lock()
	sym.requests++
	hit := s.strikeLocked(sym, sym.requests, faultStale, fault429)
	for _, name := range hit {
		strike := Strike{Fault: name, Symbol: sym.name}
		if name == faultStale {
			strike.First, strike.Last = sym.cache.lastID, sym.cache.lastID
		}
		s.struck = append(s.struck, strike)
	}
	if len(hit) > 0 {
		s.mu.Unlock()
		for _, name := range hit {
			if name == fault429 {
				s.tooMany(w, 1)
				return
			}
		}
		answer(w, http.StatusOK, sym.cache.body)
		return
	}
	if sym.open {
		var body []byte
		if sym.feed.depth == nil {
			body = sym.book.body(limit)
		}
		s.mu.Unlock()
		if body == nil {
			sym.feed.mu.Lock()
			body = sym.feed.depth(sym, limit)
			sym.feed.mu.Unlock()
		}
		answer(w, http.StatusOK, body)
		return
	}
	a := &ask{reply: make(chan []byte, 1), written: make(chan struct{})}
	defer close(a.written)
	sym.asks = append(sym.asks, a)
	s.mu.Unlock()
	select {
	case sym.feed.wake <- struct{}{}:
	default:
	}
	timeout := time.NewTimer(s.opt.SnapshotWait)
	defer timeout.Stop()
	var body []byte
	select {
	case body = <-a.reply:
	case <-timeout.C:
	case <-r.Context().Done():
	case <-s.done:
	}
	if body == nil {
		s.mu.Lock()
		for i, x := range sym.asks {
			if x == a {
				sym.asks = append(sym.asks[:i:i], sym.asks[i+1:]...)
				break
			}
		}
		s.mu.Unlock()
		select {
		case body = <-a.reply: // it came while we gave up
		default:
			fail(w, http.StatusGatewayTimeout, -1007, "Timeout waiting for response from backend server. Send status unknown; execution status unknown.")
			return
		}
	}
	answer(w, http.StatusOK, body)
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}

func (s *Server) exchangeInfo(w http.ResponseWriter, r *http.Request) {
	if !s.charge(w, 20) {
		return
	}
	q, ok := query(w, r, "symbol", "symbols", "permissions", "showPermissionSets", "symbolStatus")
	if !ok {
		return
	}
	list := s.order
	switch {
	case q.Has("symbol") && q.Has("symbols"):
		fail(w, http.StatusBadRequest, -1128, "Combination of optional parameters invalid.")
		return
	case q.Has("symbol"):
		sym := s.symbolOf(w, q.Get("symbol"))
		if sym == nil {
			return
		}
		list = []*symbol{sym}
	case q.Has("symbols"):
		var names []string
		if json.Unmarshal([]byte(q.Get("symbols")), &names) != nil || len(names) == 0 {
			fail(w, http.StatusBadRequest, -1100, `Illegal characters found in parameter 'symbols'; legal range is '^\[("[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}){0,1}\]$'.`)
			return
		}
		list = nil
		for _, n := range names {
			sym := s.symbolOf(w, n)
			if sym == nil {
				return
			}
			list = append(list, sym)
		}
	}
	out := fmt.Appendf(nil, `{"timezone":"UTC","serverTime":%d,"rateLimits":[{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":%d},{"rateLimitType":"ORDERS","interval":"SECOND","intervalNum":10,"limit":100},{"rateLimitType":"ORDERS","interval":"DAY","intervalNum":1,"limit":200000},{"rateLimitType":"RAW_REQUESTS","interval":"MINUTE","intervalNum":5,"limit":300000}],"exchangeFilters":[],"symbols":[`, time.Now().UnixMilli(), s.opt.WeightLimit)
	for i, sym := range list {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, sym.info.json()...)
	}
	answer(w, http.StatusOK, append(out, "]}"...))
}

// simBook is the complete true book after the last diff sent.
func (s *Server) simBook(w http.ResponseWriter, r *http.Request) {
	sym := s.symbolOf(w, r.URL.Query().Get("symbol"))
	if sym == nil {
		return
	}
	s.mu.Lock()
	body := sym.book.body(0)
	s.mu.Unlock()
	answer(w, http.StatusOK, body)
}
