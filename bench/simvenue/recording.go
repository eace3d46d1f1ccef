package simvenue

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/valyala/fastjson"
)

// Recording names a file of one frame or REST body per line, FILE.jsonl or
// FILE.jsonl.gz, with FILE.recv[.gz] beside it: "<ns or empty>\t<ws|tx|rest[ url]>"
// per line. Without that file all lines are due at once. The whole recording is
// held in memory.
type Recording struct{ Path string }

var symbolInURL = regexp.MustCompile(`[?&]symbol=([^&\s]+)`)

// loadRecording makes a feed of a recording. Lines that the client sent,
// acknowledgements and second REST bodies of a symbol are skipped and counted.
func loadRecording(s *Server, r Recording) (*feed, error) {
	f, err := readRecording(s, r.Path)
	if err != nil {
		return nil, fmt.Errorf("cannot load recording %q: %w", r.Path, err)
	}
	return f, nil
}

func readRecording(s *Server, path string) (*feed, error) {
	data, err := readAll(path)
	if err != nil {
		return nil, err
	}
	lines := splitLines(data)
	i := strings.LastIndex(path, ".jsonl")
	if i < 0 {
		return nil, errors.New("its name must end in .jsonl or .jsonl.gz")
	}
	recv, err := readRecv(path[:i], len(lines))
	if err != nil {
		return nil, err
	}
	f := newFeed(s, filepath.Base(path))
	var (
		events  []*event
		p       fastjson.Parser
		inner   fastjson.Parser
		restURL = map[int]string{}
		digits  = map[string]*digitCount{}
		at      int64
	)
	for n, line := range lines {
		dir := "ws"
		if recv != nil {
			if recv[n].ns != 0 {
				at = max(at, recv[n].ns)
			}
			dir = recv[n].dir
		}
		if dir == "tx" {
			f.skipped++
			continue
		}
		v, err := p.ParseBytes(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
		if strings.HasPrefix(dir, "rest") || (recv == nil && !v.Exists("stream") && v.Exists("lastUpdateId")) {
			if !v.Exists("lastUpdateId") {
				f.skipped++
				continue
			}
			restURL[len(events)] = dir
			events = append(events, &event{atNs: at, kind: kindSnapshot, bare: line})
			continue
		}
		ev := frameEvent(line, v)
		if ev == nil {
			f.skipped++
			continue
		}
		ev.atNs = at
		// What will be applied to the true book is what is checked here: the very
		// bytes, which a strange envelope could make differ from its "data".
		d, err := inner.ParseBytes(ev.bare)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
		name := string(d.GetStringBytes("s"))
		if name == "" { // a partial-depth stream: the name of the stream is all there is
			name, _, _ = strings.Cut(ev.streamName, "@")
			name = strings.ToUpper(name)
		}
		ev.sym = f.symbol(name)
		ev.stream = f.stream(ev.streamName, ev.sym)
		if ev.kind == kindDepth {
			ev.first, ev.last = d.GetInt64("U"), d.GetInt64("u")
			if ev.first < 1 || ev.last < ev.first {
				return nil, fmt.Errorf("line %d: update ids U %d and u %d", n+1, ev.first, ev.last)
			}
			if ev.sym.firstID == 0 {
				ev.sym.firstID = ev.first
			}
			if err := countDigits(digits, name, d, "b", "a"); err != nil {
				return nil, fmt.Errorf("line %d: %w", n+1, err)
			}
		}
		events = append(events, ev)
	}
	if len(f.symbols) == 0 {
		return nil, errors.New("it holds no market data of Binance")
	}
	keep := events[:0]
	for n, ev := range events {
		if ev.kind == kindSnapshot {
			sym, err := f.restSymbol(restURL[n])
			if err != nil {
				return nil, err
			}
			v, err := p.ParseBytes(ev.bare)
			if err != nil {
				return nil, err
			}
			if err := countDigits(digits, sym.name, v, "bids", "asks"); err != nil {
				return nil, fmt.Errorf("snapshot of %s: %w", sym.name, err)
			}
			if sym.snapshot != nil {
				f.skipped++
				continue
			}
			sym.snapshot, ev.sym = ev.bare, sym
		}
		keep = append(keep, ev)
	}
	for _, sym := range f.symbols {
		sym.open = sym.snapshot == nil
		body := sym.snapshot
		if body == nil {
			body = sym.book.body(0)
		}
		sym.cache = staleCache(body, sym.firstID)
		px, qty := 8, 8
		if d := digits[sym.name]; d != nil {
			px, qty = d.px.need(), d.qty.need()
		}
		sym.info = newInstrument(sym.name, px, qty)
	}
	f.pull = func() (*event, bool) {
		if len(keep) == 0 {
			return nil, false
		}
		ev := keep[0]
		keep = keep[1:]
		return ev, true
	}
	return f, nil
}

func staleCache(body []byte, firstID int64) *cacheOld {
	id := max(firstID-10, 1)
	return &cacheOld{body: oldBody(body, id), lastID: id}
}

// restSymbol finds whose depth a REST line holds.
func (f *feed) restSymbol(dir string) (*symbol, error) {
	if m := symbolInURL.FindStringSubmatch(dir); m != nil {
		return f.symbol(m[1]), nil
	}
	if len(f.symbols) == 1 {
		return f.symbols[0], nil
	}
	return nil, fmt.Errorf("a REST body without an URL, but there are %d symbols", len(f.symbols))
}

// frameEvent reads the envelope of a frame; nil for anything but market data.
func frameEvent(line []byte, v *fastjson.Value) *event {
	ev := &event{}
	d := v
	if v.Exists("stream") && v.Exists("data") {
		ev.streamName = string(v.GetStringBytes("stream"))
		head := `{"stream":"` + ev.streamName + `","data":`
		if !bytes.HasPrefix(line, []byte(head)) || line[len(line)-1] != '}' || strings.IndexByte(ev.streamName, '@') < 1 || ev.streamName[0] == '!' {
			return nil
		}
		ev.wrapped, ev.bare = line, line[len(head):len(line)-1]
		d = v.Get("data")
	}
	kind := string(d.GetStringBytes("e"))
	s := lower(string(d.GetStringBytes("s")))
	name := ""
	switch {
	case kind == "depthUpdate":
		ev.kind, name = kindDepth, s+"@depth@100ms"
	case kind == "trade" || kind == "aggTrade":
		name = s + "@" + kind
	case kind == "kline":
		name = s + "@kline_" + string(d.GetStringBytes("k", "i"))
	case kind == "" && s != "" && d.Exists("u") && d.Exists("B"):
		name = s + "@bookTicker"
	}
	if ev.wrapped != nil {
		return ev
	}
	if name == "" || s == "" {
		return nil
	}
	ev.streamName, ev.bare = name, line
	ev.wrapped = wrap(name, line)
	return ev
}

// wrap puts a bare frame into the envelope of a combined stream.
func wrap(stream string, bare []byte) []byte {
	out := make([]byte, 0, len(bare)+len(stream)+22)
	out = append(out, `{"stream":"`...)
	out = append(out, stream...)
	out = append(out, `","data":`...)
	out = append(out, bare...)
	return append(out, '}')
}

type recvLine struct {
	ns  int64
	dir string
}

func readRecv(stem string, lines int) ([]recvLine, error) {
	for _, path := range []string{stem + ".recv", stem + ".recv.gz"} {
		data, err := readAll(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var recv []recvLine
		for n, l := range splitLines(data) {
			ns, dir, ok := strings.Cut(string(l), "\t")
			r := recvLine{dir: dir}
			if ns != "" {
				r.ns, err = strconv.ParseInt(ns, 10, 64)
			}
			if !ok || err != nil {
				return nil, fmt.Errorf("%s line %d is not <ns>\\t<dir>: %q", filepath.Base(path), n+1, l)
			}
			recv = append(recv, r)
		}
		if len(recv) != lines {
			return nil, fmt.Errorf("%s has %d lines for %d", filepath.Base(path), len(recv), lines)
		}
		return recv, nil
	}
	return nil, nil
}

func readAll(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if !strings.HasSuffix(path, ".gz") {
		return io.ReadAll(file)
	}
	z, err := gzip.NewReader(file)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

func splitLines(data []byte) [][]byte {
	data = bytes.TrimSuffix(data, []byte("\n"))
	if len(data) == 0 {
		return nil
	}
	return bytes.Split(data, []byte("\n"))
}

func indexOf(b []byte, s string) int { return bytes.Index(b, []byte(s)) }

// digitCount holds how many decimals the levels of a symbol need.
type digitCount struct{ px, qty tally }

type tally [9]int

// need is the number of decimals that at least 99.9 % need no more than: the
// real data hold a few levels finer than tick or lot.
func (t *tally) need() int {
	all := 0
	for _, n := range t {
		all += n
	}
	sum := 0
	for d, n := range t {
		sum += n
		if sum*1000 >= all*999 {
			return d
		}
	}
	return 8
}

// countDigits refuses levels that the true book could not take.
func countDigits(m map[string]*digitCount, symbol string, v *fastjson.Value, sides ...string) error {
	c := m[symbol]
	if c == nil {
		c = &digitCount{}
		m[symbol] = c
	}
	for _, side := range sides {
		for _, l := range v.GetArray(side) {
			px, qty := l.GetStringBytes("0"), l.GetStringBytes("1")
			if _, err := units(string(px)); err != nil {
				return err
			}
			n, err := units(string(qty))
			if err != nil {
				return err
			}
			c.px[decimals(px)]++
			if n > 0 { // a removal says nothing about the lot
				c.qty[decimals(qty)]++
			}
		}
	}
	return nil
}

func decimals(t []byte) int {
	i := bytes.IndexByte(t, '.')
	if i < 0 {
		return 0
	}
	return min(len(bytes.TrimRight(t[i+1:], "0")), 8)
}
