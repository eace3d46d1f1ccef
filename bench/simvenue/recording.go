package simvenue

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/valyala/fastjson"
)

// Recording names a file of one frame or REST body per line, FILE.jsonl or
// FILE.jsonl.gz, with FILE.recv[.gz] beside it: "<ns or empty>\t<ws|tx|rest[ url]>"
// per line. Without that file all lines are due at once. The whole recording is
// held in memory. Venue "" is binance.
type Recording struct{ Venue, Path string }

// recorded is what a venue's reader makes of a line.
type recorded struct {
	skip        bool // nothing that a subscription brings
	name        string
	kind        kind
	symbol      string
	depth       int
	snapshot    bool
	first, last int64
	aux         int64
	payload     payload
}

// loadRecording makes a source of a recording. Lines that the client sent,
// acknowledgements, heartbeats and second REST bodies of a symbol are skipped
// and counted: the venue makes its own.
func loadRecording(v *Venue, path string) error {
	src, err := readRecording(v, path)
	if err != nil {
		return fmt.Errorf("cannot load recording %q: %w", path, err)
	}
	v.sources = append(v.sources, src)
	return nil
}

func readRecording(v *Venue, path string) (*source, error) {
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
	l := loader{v: v, src: &source{name: filepath.Base(path)}, read: v.proto.reader(), url: map[*event]string{}, digits: map[string]*digitCount{}}
	at := int64(0)
	for n, line := range lines {
		dir := ""
		if recv != nil {
			if recv[n].ns != 0 {
				at = max(at, recv[n].ns)
			}
			dir = recv[n].dir
		}
		if dir == "tx" {
			l.src.skipped++
			continue
		}
		if err := l.line(at, dir, line); err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
	}
	if len(l.src.queue) == 0 {
		return nil, fmt.Errorf("it holds no market data of %s", v.name)
	}
	if err := l.gates(); err != nil {
		return nil, err
	}
	l.finish()
	src := l.src
	src.atNs = src.queue[0].atNs
	src.pull = func() (*event, bool) {
		if len(src.queue) == 0 {
			return nil, false
		}
		ev := src.queue[0]
		src.queue = src.queue[1:]
		return ev, true
	}
	return src, nil
}

type loader struct {
	v      *Venue
	src    *source
	read   func([]byte, *fastjson.Value) (recorded, error)
	parser fastjson.Parser
	url    map[*event]string // of REST lines
	digits map[string]*digitCount
}

func (l *loader) line(at int64, dir string, line []byte) error {
	if string(line) == "pong" { // OKX's answer to a ping is no JSON
		l.src.skipped++
		return nil
	}
	v, err := l.parser.ParseBytes(line)
	if err != nil {
		return err
	}
	if strings.HasPrefix(dir, "rest") || (dir == "" && !v.Exists("stream") && v.Exists("lastUpdateId")) {
		if l.v.facts.inBand || !v.Exists("lastUpdateId") {
			l.src.skipped++
			return nil
		}
		ev := &event{atNs: at, kind: kindSnapshot, payload: payload{bare: line}}
		l.url[ev] = dir
		l.src.queue = append(l.src.queue, ev)
		return nil
	}
	r, err := l.read(line, v)
	if err != nil {
		return err
	}
	if r.skip {
		l.src.skipped++
		return nil
	}
	ev := &event{atNs: at, kind: r.kind, payload: r.payload, snapshot: r.snapshot, first: r.first, last: r.last, aux: r.aux}
	if ev.sym, err = l.v.symbolOf(l.src, r.symbol); err != nil {
		return err
	}
	if old := l.v.topics[r.name]; old != nil && old.sym != ev.sym {
		return fmt.Errorf("stream %s is of %s and of %s", r.name, old.sym.name, r.symbol)
	}
	ev.topic = l.v.topicOf(r.name, r.kind, ev.sym, r.depth)
	if r.kind == kindBook {
		if ev.sym.firstID == 0 {
			ev.sym.firstID = r.first
		}
		for _, t := range ev.sym.topics {
			if t.kind == kindBook && t != ev.topic {
				return fmt.Errorf("books %s and %s of one symbol", t.name, r.name)
			}
		}
		err = l.v.proto.levels(r.payload.bare, func(_ bool, px, qty, _ string) error { return l.count(r.symbol, px, qty) })
	}
	l.src.queue = append(l.src.queue, ev)
	return err
}

func (l *loader) count(symbol, px, qty string) error {
	c := l.digits[symbol]
	if c == nil {
		c = &digitCount{}
		l.digits[symbol] = c
	}
	return c.add(px, qty)
}

// gates gives each REST body its symbol. Only the first of a symbol is a gate.
func (l *loader) gates() error {
	keep := l.src.queue[:0]
	for _, ev := range l.src.queue {
		if ev.kind == kindSnapshot {
			sym, err := l.restSymbol(l.url[ev])
			if err != nil {
				return err
			}
			b := book{}
			if _, err := loadBody(&b, ev.payload.bare); err != nil {
				return fmt.Errorf("snapshot of %s: %w", sym.name, err)
			}
			for _, x := range append(b.top(true, 0), b.top(false, 0)...) {
				if err := l.count(sym.name, x.px, x.qty); err != nil {
					return err
				}
			}
			if sym.snapshot != nil {
				l.src.skipped++
				continue
			}
			sym.snapshot, ev.sym = ev.payload.bare, sym
		}
		keep = append(keep, ev)
	}
	l.src.queue = keep
	return nil
}

// restSymbol finds whose depth a REST line holds.
func (l *loader) restSymbol(dir string) (*symbol, error) {
	if m := symbolInURL.FindStringSubmatch(dir); m != nil {
		return l.v.symbolOf(l.src, m[1])
	}
	var mine []*symbol
	for _, sym := range l.v.order {
		if sym.src == l.src {
			mine = append(mine, sym)
		}
	}
	if len(mine) != 1 {
		return nil, fmt.Errorf("a REST body without an URL, but there are %d symbols", len(mine))
	}
	return mine[0], nil
}

func (l *loader) finish() {
	for _, sym := range l.v.order {
		if sym.src != l.src {
			continue
		}
		sym.open = sym.snapshot == nil
		body := sym.snapshot
		if body == nil {
			body = sym.book.body(0)
		}
		sym.cache = staleCache(body, sym.firstID)
		px, qty := 8, 8
		if d := l.digits[sym.name]; d != nil {
			px, qty = d.px.need(), d.qty.need()
		}
		sym.info = newInstrument(sym.name, px, qty)
	}
}

func staleCache(body []byte, firstID int64) *cacheOld {
	id := max(firstID-10, 1)
	return &cacheOld{body: oldBody(body, id), lastID: id}
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

// add counts a level; it refuses one that the true book could not take.
func (c *digitCount) add(px, qty string) error {
	if _, err := units(px); err != nil {
		return err
	}
	n, err := units(qty)
	if err != nil {
		return err
	}
	c.px[decimals([]byte(px))]++
	if n > 0 { // a removal says nothing about the lot
		c.qty[decimals([]byte(qty))]++
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
