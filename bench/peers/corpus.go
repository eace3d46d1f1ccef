package main

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"deeptape/hotpath/event"
	"deeptape/hotpath/fixed"
)

// A corpus is a recording as every peer can read it: lines of text, each a letter, a
// space and what it says.
//
//	I SYMBOL PX_SCALE QTY_SCALE   an instrument, with the digits that its prices and sizes need
//	S SYMBOL BODY                 its REST snapshot
//	D FRAME                       a book message of the combined stream that follows a snapshot
//	O FRAME                       any other frame, in its place among the D
//	N TIMES                       how many times over the D stand there, for one that is too short
//
// D are only those that Binance's procedure applies (u > lastUpdateId), so that every
// peer gets each of them into its book.
type corpus struct {
	name   string
	insts  []event.Instrument
	bodies [][]byte // snapshots, by instrument
	frames [][]byte // D
	all    [][]byte // D and O
	levels int      // in the D
	times  int
	gated  bool

	wantBook   string // of the books after the last D
	wantParsed string // of all ids, times and levels of the D
}

// recordings are what corpora are made of. The gates stand on the busy market. On the
// quiet ones a message is two levels and little else; what comes of them is told as well.
var recordings = []struct {
	name, file string
	symbol     string // whose snapshots are those that do not say whose they are
	gated      bool
}{
	{"btcusdt", "spot_btcusdt_20240808_full.jsonl.gz", "BTCUSDT", true},
	{"us4sym", "cryptofeed_us_4sym_20211012.jsonl", "", false},
}

func corpusPath(dir, name string) string { return filepath.Join(dir, name+".corpus") }

// convert writes the corpus of a recording.
func convert(recording, symbolOfAll, path string) error {
	lines, err := readLines(recording)
	if err != nil {
		return err
	}
	sidecar := strings.TrimSuffix(recording, ".gz")
	sidecar = strings.TrimSuffix(sidecar, ".jsonl") + ".recv"
	if _, err := os.Stat(sidecar); err != nil {
		sidecar += ".gz"
	}
	told, err := readLines(sidecar)
	if err != nil {
		return err
	}
	if len(told) != len(lines) {
		return fmt.Errorf("%s has %d lines for the %d of its recording", sidecar, len(told), len(lines))
	}
	var symbols []string
	last := map[string]int64{} // ids of the snapshots
	body := map[string][]byte{}
	scale := map[string]*[2]int8{}
	for i, line := range lines {
		_, what, _ := bytes.Cut(told[i], []byte("\t"))
		if from, is := bytes.CutPrefix(what, []byte("rest")); is {
			u, err := url.Parse(strings.TrimSpace(string(from)))
			if err != nil {
				return err
			}
			symbol := cmp.Or(u.Query().Get("symbol"), symbolOfAll)
			var snap snapshotText
			if err := json.Unmarshal(line, &snap); err != nil || symbol == "" {
				return fmt.Errorf("line %d is no snapshot of %q: %v", i+1, symbol, err)
			}
			symbols = append(symbols, symbol)
			last[symbol], body[symbol], scale[symbol] = snap.LastUpdateID, line, &[2]int8{}
			if err := widen(scale[symbol], snap.Bids, snap.Asks); err != nil {
				return err
			}
		}
	}
	slices.Sort(symbols)
	var frames bytes.Buffer
	var book []frameText
	var bookLines [][]byte
	for i, line := range lines {
		if !bytes.HasSuffix(told[i], []byte("\tws")) {
			continue
		}
		kind := byte('O')
		if bytes.Contains(line[:min(len(line), 200)], []byte(`"depthUpdate"`)) {
			var f frameText
			if err := json.Unmarshal(line, &f); err != nil {
				return fmt.Errorf("line %d: %w", i+1, err)
			}
			if id, known := last[f.Data.Symbol]; known && f.Data.Last > id {
				kind = 'D'
				book, bookLines = append(book, f), append(bookLines, line)
				if err := widen(scale[f.Data.Symbol], f.Data.Bids, f.Data.Asks); err != nil {
					return err
				}
			}
		}
		frames.WriteByte(kind)
		frames.WriteByte(' ')
		frames.Write(line)
		frames.WriteByte('\n')
	}
	var out bytes.Buffer
	for _, s := range symbols {
		fmt.Fprintf(&out, "I %s %d %d\n", s, scale[s][0], scale[s][1])
	}
	for _, s := range symbols {
		fmt.Fprintf(&out, "S %s %s\n", s, body[s])
	}
	out.Write(frames.Bytes())
	size := 1
	for _, line := range bookLines {
		size += len(line)
	}
	times := 1 + bookBytes/size
	for i := 1; i < times; i++ {
		if err := again(&out, book, bookLines, int64(i)); err != nil {
			return err
		}
	}
	fmt.Fprintf(&out, "N %d\n", times)
	return os.WriteFile(path, out.Bytes(), 0o644)
}

// bookBytes is the text of book messages that a corpus has at the least. A shorter
// recording is repeated: a round of a millisecond would measure the clock, and what the
// peer before has left in the caches.
const bookBytes = 8 << 20

// again writes the book messages once more, with ids that go on from those before. Sizes
// are absolute, so that the book ends as it did.
func again(out *bytes.Buffer, book []frameText, lines [][]byte, i int64) error {
	first, last := map[string]int64{}, map[string]int64{}
	for _, f := range book {
		if _, known := first[f.Data.Symbol]; !known {
			first[f.Data.Symbol] = f.Data.First
		}
		last[f.Data.Symbol] = f.Data.Last
	}
	for n, f := range book {
		d := &f.Data
		by := i * (last[d.Symbol] + 1 - first[d.Symbol])
		ids := fmt.Appendf(nil, `"U":%d,"u":%d,`, d.First, d.Last)
		if bytes.Count(lines[n], ids) != 1 {
			return fmt.Errorf("cannot find %s in %q", ids, lines[n])
		}
		fmt.Fprintf(out, "D %s\n", bytes.Replace(lines[n], ids, fmt.Appendf(nil, `"U":%d,"u":%d,`, d.First+by, d.Last+by), 1))
	}
	return nil
}

func widen(scale *[2]int8, sides ...[][2]string) error {
	for _, side := range sides {
		for _, level := range side {
			for i, text := range level {
				s, err := fixed.Scale([]byte(text))
				if err != nil {
					return fmt.Errorf("%q: %w", text, err)
				}
				scale[i] = max(scale[i], s)
			}
		}
	}
	return nil
}

func readLines(path string) ([][]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return nil, err
		}
	}
	scan := bufio.NewScanner(r)
	scan.Buffer(nil, 16<<20)
	var lines [][]byte
	for scan.Scan() {
		lines = append(lines, bytes.Clone(scan.Bytes()))
	}
	return lines, scan.Err()
}

// readCorpus reads a corpus and works out what every peer must come to.
func readCorpus(dir, name string) (*corpus, error) {
	lines, err := readLines(corpusPath(dir, name))
	if err != nil {
		return nil, err
	}
	c := &corpus{name: name}
	for _, line := range lines {
		kind, rest := line[0], line[2:]
		switch kind {
		case 'I':
			inst := event.Instrument{Venue: "binance", Market: "spot", Status: "TRADING", Source: "recording"}
			if _, err := fmt.Sscan(string(rest), &inst.Symbol, &inst.PxScale, &inst.QtyScale); err != nil {
				return nil, fmt.Errorf("cannot read %q: %w", line, err)
			}
			inst.Tick = string(fixed.Append(nil, 1, inst.PxScale))
			c.insts = append(c.insts, inst)
		case 'S':
			_, body, _ := bytes.Cut(rest, []byte(" "))
			c.bodies = append(c.bodies, body)
		case 'D':
			c.frames = append(c.frames, rest)
			c.all = append(c.all, rest)
		case 'N':
			if _, err := fmt.Sscan(string(rest), &c.times); err != nil {
				return nil, fmt.Errorf("cannot read %q: %w", line, err)
			}
		case 'O':
			c.all = append(c.all, rest)
		}
	}
	if len(c.insts) == 0 || len(c.bodies) != len(c.insts) || len(c.frames) == 0 {
		return nil, fmt.Errorf("corpus %s has %d instruments, %d snapshots and %d book messages", name, len(c.insts), len(c.bodies), len(c.frames))
	}
	return c, c.work()
}
