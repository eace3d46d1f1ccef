package endtoend

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// proxy stands between the agent and QuestDB and plays tricks on the way.
type proxy struct {
	t  *testing.T
	to string // address of QuestDB
	s  *httptest.Server

	mu      sync.Mutex
	away    bool             // nobody answers
	onWrite func(w *written) // sees every batch of rows before QuestDB does
	onQuery http.HandlerFunc // answers statements in QuestDB's place
}

// written is a batch of rows on its way.
type written struct {
	body []byte
	cut  bool             // let QuestDB have it, and lose the answer
	half func()           // called when QuestDB has half of it
	mad  http.HandlerFunc // answers in QuestDB's place, which sees nothing of it
}

func startProxy(t *testing.T, to string) *proxy {
	t.Helper()
	p := &proxy{t: t, to: to}
	p.s = httptest.NewServer(p)
	t.Cleanup(p.s.Close)
	return p
}

func (p *proxy) database() database { return database{p.t, strings.TrimPrefix(p.s.URL, "http://")} }

// isAway makes QuestDB disappear for the agent, or come back.
func (p *proxy) isAway(away bool) {
	p.mu.Lock()
	p.away = away
	p.mu.Unlock()
	if away {
		p.s.CloseClientConnections()
	}
}

// writes sets what happens to batches; nil: nothing.
func (p *proxy) writes(f func(w *written)) {
	p.mu.Lock()
	p.onWrite = f
	p.mu.Unlock()
}

// queries sets who answers statements in QuestDB's place; nil: nobody.
func (p *proxy) queries(f http.HandlerFunc) {
	p.mu.Lock()
	p.onQuery = f
	p.mu.Unlock()
}

// halves calls between when half of the body has been read.
type halves struct {
	body    []byte
	at      int
	between func()
}

func (h *halves) Read(b []byte) (int, error) {
	if h.at == len(h.body) {
		return 0, io.EOF
	}
	end := len(h.body)
	if half := (len(h.body) + 1) / 2; h.at < half {
		end = half
	} else if h.between != nil {
		h.between()
		h.between = nil
	}
	n := copy(b, h.body[h.at:end])
	h.at += n
	return n, nil
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	hangUp := func() {
		if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
			if tcp, ok := c.(*net.TCPConn); ok {
				tcp.SetLinger(0) // as of a process that has died
			}
			c.Close()
		}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		hangUp()
		return
	}
	x := &written{body: body}
	p.mu.Lock()
	away := p.away
	if !away && p.onWrite != nil && r.URL.Path == "/write" && bytes.Count(body, []byte("\n")) > 0 {
		p.onWrite(x)
	}
	if p.onQuery != nil && r.URL.Path == "/exec" {
		x.mad = p.onQuery
	}
	p.mu.Unlock()
	if away {
		hangUp()
		return
	}
	if x.mad != nil {
		x.mad(w, r)
		return
	}
	req, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+p.to+r.URL.RequestURI(), &halves{body: x.body, between: x.half})
	if err != nil {
		p.t.Error(err)
		return
	}
	req.Header = r.Header.Clone()
	req.ContentLength = int64(len(x.body))
	answer, err := client.Do(req)
	if err != nil {
		hangUp()
		return
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || x.cut {
		hangUp()
		return
	}
	for k, v := range answer.Header {
		if k != "Content-Length" && k != "Transfer-Encoding" && k != "Connection" {
			w.Header()[k] = v
		}
	}
	w.WriteHeader(answer.StatusCode)
	w.Write(text)
}
