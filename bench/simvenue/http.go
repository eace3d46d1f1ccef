package simvenue

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gobwas/ws"
)

// routes finds the venue that a path belongs to: by its first part, or Binance
// which has none.
func (s *Server) routes() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return
		}
		s.wg.Add(1)
		s.mu.Unlock()
		defer s.wg.Done()
		var bare *place
		for _, p := range s.places {
			if p.prefix == "" {
				bare = p
			} else if rest, ok := strings.CutPrefix(r.URL.Path, p.prefix); ok && (rest == "" || rest[0] == '/') {
				p.serve(w, r, rest)
				return
			}
		}
		if bare != nil {
			bare.serve(w, r, r.URL.Path)
			return
		}
		http.NotFound(w, r)
	})
}

func (p *place) serve(w http.ResponseWriter, r *http.Request, path string) {
	if r.URL.RawPath != "" { // an escaped slash in a symbol
		path = strings.TrimPrefix(r.URL.Path, p.prefix)
	}
	req := Request{path, r.URL.RawQuery}
	switch {
	case p.v.isStream(path):
		p.upgrade(w, r, req)
	case path == "/sim/status":
		body, _ := json.Marshal(status([]*place{p}))
		answer(w, ok(body))
	case path == "/sim/book":
		p.simBook(w, req)
	default:
		p.rest(w, r, req)
	}
}

// upgrade opens a WebSocket and serves it until its end.
func (p *place) upgrade(w http.ResponseWriter, r *http.Request, req Request) {
	c := newConn(p)
	p.mu.Lock()
	s, refused := p.v.Open(time.Now().UnixNano(), req, c.take)
	c.session = s
	p.dirty = nil
	p.mu.Unlock()
	if refused != nil {
		answer(w, *refused)
		return
	}
	sock, rw, _, err := ws.HTTPUpgrader{}.Upgrade(r, w)
	if err != nil { // the upgrader has answered
		p.mu.Lock()
		s.End(time.Now().UnixNano())
		p.mu.Unlock()
		return
	}
	sock.SetDeadline(time.Time{})
	c.serve(sock, rw.Reader)
}

func answer(w http.ResponseWriter, a Answer) {
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	for _, h := range a.Header {
		w.Header()[h[0]] = []string{h[1]}
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(a.Body)))
	w.WriteHeader(a.Status)
	w.Write(a.Body)
}

func (p *place) rest(w http.ResponseWriter, r *http.Request, req Request) {
	p.mu.Lock()
	a := p.v.get(time.Now().UnixNano(), req)
	sym := a.gate
	if sym == nil {
		p.mu.Unlock()
		answer(w, a)
		return
	}
	q := &ask{reply: make(chan []byte, 1), written: make(chan struct{})}
	defer close(q.written)
	sym.asks = append(sym.asks, q)
	p.mu.Unlock()
	for _, f := range p.feeds {
		if f.src == sym.src {
			select {
			case f.wake <- struct{}{}:
			default:
			}
		}
	}
	timeout := time.NewTimer(p.s.opt.SnapshotWait)
	defer timeout.Stop()
	var body []byte
	select {
	case body = <-q.reply:
	case <-timeout.C:
	case <-r.Context().Done():
	case <-p.s.done:
	}
	if body == nil {
		p.mu.Lock()
		for i, x := range sym.asks {
			if x == q {
				sym.asks = append(sym.asks[:i:i], sym.asks[i+1:]...)
				break
			}
		}
		p.mu.Unlock()
		select {
		case body = <-q.reply: // it came while we gave up
		default:
			late := sym.timeout()
			late.Header = a.Header
			answer(w, late)
			return
		}
	}
	a.Status, a.Body = http.StatusOK, body
	answer(w, a)
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}

// simBook is the complete true book after the last diff sent.
func (p *place) simBook(w http.ResponseWriter, r Request) {
	name := r.query().Get("symbol")
	p.mu.Lock()
	sym := p.v.symbols[name]
	if sym == nil {
		p.mu.Unlock()
		answer(w, fail(400, -1121, "Invalid symbol."))
		return
	}
	sym.current()
	body := sym.book.body(0)
	p.mu.Unlock()
	answer(w, ok(body))
}
