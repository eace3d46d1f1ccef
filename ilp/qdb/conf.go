package qdb

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"time"
)

// DefaultPort is QuestDB's HTTP port, taken when addr names none.
const DefaultPort = "9000"

// Conf is what a QuestDB client configuration string says, as far as it matters
// to an agent that owns its batches.
type Conf struct {
	Addr           string // host:port
	HTTPS          bool
	SkipVerify     bool // https without checking the certificate (tls_verify=unsafe_off)
	Username       string
	Password       string
	Token          string
	RequestTimeout time.Duration // 0: the caller's own

	// TablePrefix stands before the name of every table and view of ours, so that they
	// share a database with others. It is not in the configuration string.
	TablePrefix string

	// Transport carries the requests; nil for connections of our own. It is not in
	// the configuration string: a simulated QuestDB comes in here.
	Transport http.RoundTripper

	// Home is the folder of the server at Addr, where that is known to be one of
	// `deeptape db start`'s. It is not in the configuration string, and only for messages.
	Home string

	// Ignored are the keys that QuestDB's clients know and that mean nothing here:
	// batches, buffers and retries are the agent's own. Sorted. A caller may warn.
	Ignored []string
}

// StartAdvice says how to start the server at Addr: a sentence's end, with the command for
// a local one.
func (c Conf) StartAdvice() string {
	host, port, err := net.SplitHostPort(c.Addr)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && !ip.IsLoopback() {
		return "start it at " + c.Addr
	}
	command := "deeptape db start"
	if c.Home != "" {
		command += " --dir " + c.Home
	}
	if port != DefaultPort {
		command += " --port " + port
	}
	return "start it with `" + command + "`"
}

// StopCommand is the command that stops the server at Addr if it is a local one of ours.
func (c Conf) StopCommand() string {
	if c.Home == "" {
		return "deeptape db stop"
	}
	return "deeptape db stop --dir " + c.Home
}

// Table is the name in this database of one of our tables or views.
func (c Conf) Table(name string) string { return c.TablePrefix + name }

// confKeys says of each key of the client configuration string whether it has a
// meaning here.
var confKeys = map[string]bool{
	"addr": true, "username": true, "password": true, "token": true, "tls_verify": true, "request_timeout": true,

	"auto_flush": false, "auto_flush_rows": false, "auto_flush_interval": false, "auto_flush_bytes": false,
	"init_buf_size": false, "max_buf_size": false, "max_name_len": false, "request_min_throughput": false,
	"retry_timeout": false, "protocol_version": false,
}

// ParseConf reads a client configuration string such as
// "http::addr=127.0.0.1:9000;username=admin;password=quest;". A doubled
// semicolon stands for one in a value. An unknown key is an error that names it
// and the nearest key that exists.
func ParseConf(conf string) (Conf, error) {
	c, err := parseConf(conf)
	if err != nil {
		return Conf{}, fmt.Errorf("cannot parse QuestDB configuration %q: %w", redact(conf), err)
	}
	return c, nil
}

func parseConf(conf string) (Conf, error) {
	var c Conf
	scheme, rest, found := strings.Cut(conf, "::")
	if !found {
		return c, fmt.Errorf(`it must look like "http::addr=127.0.0.1:%s;"`, DefaultPort)
	}
	switch scheme {
	case "http":
	case "https":
		c.HTTPS = true
	case "tcp", "tcps":
		return c, fmt.Errorf("%q cannot say which rows were stored; use http or https", scheme)
	default:
		return c, fmt.Errorf("unknown protocol %q; use http or https", scheme)
	}
	seen := map[string]bool{}
	for rest != "" {
		key, after, found := strings.Cut(rest, "=")
		if !found {
			return c, fmt.Errorf("key %q has no value", rest)
		}
		var value string
		value, rest = cutValue(after)
		used, known := confKeys[key]
		switch {
		case !known:
			return c, fmt.Errorf("unknown key %q; did you mean %q?", key, nearestKey(key))
		case seen[key]:
			return c, fmt.Errorf("key %q stands twice", key)
		case value == "":
			return c, fmt.Errorf("key %q has no value", key)
		}
		seen[key] = true
		if !used {
			c.Ignored = append(c.Ignored, key)
			continue
		}
		if err := c.set(key, value); err != nil {
			return c, err
		}
	}
	sort.Strings(c.Ignored)
	switch {
	case c.Addr == "":
		return c, fmt.Errorf("key %q is missing", "addr")
	case c.Token != "" && (c.Username != "" || c.Password != ""):
		return c, fmt.Errorf("keys %q and %q exclude each other", "token", "username")
	case (c.Username == "") != (c.Password == ""):
		return c, fmt.Errorf("keys %q and %q need each other", "username", "password")
	case c.SkipVerify && !c.HTTPS:
		return c, fmt.Errorf("key %q needs https", "tls_verify")
	}
	return c, nil
}

func (c *Conf) set(key, value string) error {
	switch key {
	case "addr":
		addr, err := fullAddr(value)
		if err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
		c.Addr = addr
	case "username":
		c.Username = value
	case "password":
		c.Password = value
	case "token":
		c.Token = value
	case "tls_verify":
		if value != "on" && value != "unsafe_off" {
			return fmt.Errorf("key %q is %q; it may be on or unsafe_off", key, value)
		}
		c.SkipVerify = value == "unsafe_off"
	case "request_timeout":
		ms, err := strconv.ParseUint(value, 10, 31)
		if err != nil || ms == 0 {
			return fmt.Errorf("key %q is %q; it must be a number of milliseconds", key, value)
		}
		c.RequestTimeout = time.Duration(ms) * time.Millisecond
	}
	return nil
}

// cutValue takes a value up to its semicolon; a doubled one belongs to the value.
func cutValue(s string) (value, rest string) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != ';' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == ';' {
			b.WriteByte(';')
			i++
			continue
		}
		return b.String(), s[i+1:]
	}
	return b.String(), ""
}

// fullAddr adds the default port, and refuses what is not host:port.
func fullAddr(addr string) (string, error) {
	if strings.ContainsAny(addr, "/ @,") {
		return "", fmt.Errorf("%q is not host:port", addr)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host, port = strings.Trim(addr, "[]"), DefaultPort
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return "", fmt.Errorf("%q is not host:port", addr)
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%q has no valid port", addr)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

// nearestKey is the known key with the smallest edit distance.
func nearestKey(key string) string {
	best, bestDistance := "", 0
	for k := range confKeys {
		d := distance(key, k)
		if best == "" || d < bestDistance || d == bestDistance && k < best {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance is the number of letters to insert, remove or change.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// redact blanks the secrets of a configuration string, for messages. It works on
// broken strings as well, so that an error never prints a password.
func redact(conf string) string {
	for _, key := range []string{"password=", "token="} {
		from := 0
		for {
			at := strings.Index(conf[from:], key)
			if at < 0 {
				break
			}
			from += at + len(key)
			_, rest := cutValue(conf[from:])
			conf = conf[:from] + "***;" + rest
		}
	}
	return conf
}

// URL is the address of one of QuestDB's HTTP paths, such as "/exec".
func (c Conf) URL(path string) string {
	if c.HTTPS {
		return "https://" + c.Addr + path
	}
	return "http://" + c.Addr + path
}

// Authorize adds the credentials, if there are any.
func (c Conf) Authorize(r *http.Request) {
	switch {
	case c.Token != "":
		r.Header.Set("Authorization", "Bearer "+c.Token)
	case c.Username != "":
		r.SetBasicAuth(c.Username, c.Password)
	}
}

// RoundTripper is Transport, or else what NewTransport makes.
func (c Conf) RoundTripper(conns int) http.RoundTripper {
	if c.Transport != nil {
		return c.Transport
	}
	return c.NewTransport(conns)
}

// NewTransport makes a transport of at most conns connections to QuestDB. It
// never asks the environment for a proxy: rows must not take a detour that
// nobody configured.
func (c Conf) NewTransport(conns int) *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy: nil,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, addr)
			if tcp, ok := c.(*net.TCPConn); ok {
				return wholeConn{tcp}, err
			}
			return c, err
		},
		TLSClientConfig:       &tls.Config{InsecureSkipVerify: c.SkipVerify},
		TLSHandshakeTimeout:   10 * time.Second,
		MaxConnsPerHost:       conns,
		MaxIdleConns:          conns,
		MaxIdleConnsPerHost:   conns,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: 0,
		DisableCompression:    true,
		ForceAttemptHTTP2:     false,
	}
}

// wholeConn lets the body of a request write itself: net/http would copy it through a
// buffer of 32 KiB.
type wholeConn struct{ *net.TCPConn }

// ReadFrom is what net/http calls with the body, limited to its length.
func (c wholeConn) ReadFrom(r io.Reader) (int64, error) {
	if l, ok := r.(*io.LimitedReader); ok {
		if body, ok := l.R.(io.WriterTo); ok {
			n, err := body.WriteTo(c.TCPConn)
			l.N -= n
			return n, err
		}
	}
	return c.TCPConn.ReadFrom(r)
}
