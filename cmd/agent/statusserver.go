package agent

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"
)

//go:embed status.html
var statusPage []byte

// statusServer answers /metrics, /healthz, /status.json and the status page. Whoever can
// reach it may ask anything and keep nothing: neither a connection that says nothing, nor
// a descriptor that the journal needs.
type statusServer struct {
	http *http.Server
	addr string
}

// A request is a line and some headers, and the answer fits into the kernel's buffers.
const (
	readWithin  = 5 * time.Second
	writeWithin = 30 * time.Second
	idleWithin  = 30 * time.Second // of a connection between two requests
	headMost    = 16 << 10
)

func (a *Agent) serveStatus() (*statusServer, error) {
	ln, err := net.Listen("tcp", a.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("cannot serve the status page: %w; choose another address with --listen, or --listen off", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(statusPage)
	})
	mux.HandleFunc("GET /status.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(a.Status())
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		troubles := a.troubles()
		if len(troubles) > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		for _, t := range troubles {
			fmt.Fprintln(w, t)
		}
		if len(troubles) == 0 {
			fmt.Fprintln(w, "ok")
		}
	})
	set := a.metrics()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		writeMetrics(w, set) // who asks no more gets no more
	})
	d := newDoor(ln, pageConns(descriptors(), len(a.lanes)))
	s := &statusServer{addr: ln.Addr().String(), http: &http.Server{
		Handler: onlyNamed(a.surviving(mux), ownNames(a.cfg.Listen)), ConnState: d.state, MaxHeaderBytes: headMost,
		ReadHeaderTimeout: readWithin, ReadTimeout: readWithin, WriteTimeout: writeWithin, IdleTimeout: idleWithin,
	}}
	go func() {
		if err := s.http.Serve(d); err != nil && !errors.Is(err, http.ErrServerClosed) {
			a.log.Error("the status page has stopped", "err", err)
		}
	}()
	a.log.Info("status page", "url", "http://"+s.addr)
	return s, nil
}

func (s *statusServer) close() { s.http.Close() }

// StatusAddr is where the status page is served, "" before it is.
func (a *Agent) StatusAddr() string {
	if s := a.status.Load(); s != nil {
		return s.addr
	}
	return ""
}

// ownNames are the names by which the page may be asked for: those of this machine for
// itself, and the one that --listen has.
func ownNames(listen string) []string {
	names := []string{"localhost", "ip6-localhost", "localhost.localdomain"}
	if name, err := os.Hostname(); err == nil && name != "" {
		names = append(names, name)
	}
	if host, _, err := net.SplitHostPort(listen); err == nil && host != "" {
		names = append(names, host)
	}
	return names
}

// answersTo says whether a Host header names this server: by an address, by one of its names,
// or not at all, as no browser asks. A page on the web whose own name is made to lead here
// (DNS rebinding) has the browser send that name, and reads nothing.
func answersTo(host string, names []string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"), ".")
	if host == "" {
		return true
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	if strings.HasSuffix(strings.ToLower(host), ".localhost") {
		return true
	}
	for _, name := range names {
		if strings.EqualFold(host, name) {
			return true
		}
	}
	return false
}

func onlyNamed(next http.Handler, names []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !answersTo(r.Host, names) {
			http.Error(w, fmt.Sprintf("deeptape does not answer to the name %q, so that no page on the web can read this one through your browser: ask for an IP address or localhost, or give the agent this name with --listen NAME:PORT.", r.Host), http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}
