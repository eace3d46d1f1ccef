package bench

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues/feed"
	"deeptape/venues/registry"
)

// recording is what a venue sent, and what the machine of venues/feed makes of it.
// Read once, then only looked at.
type recording struct {
	name, venue string
	insts       []event.Instrument // at scales that no message widens
	frames      [][]byte
	inputs      [][]byte // input records: the run, a connect, then every frame and REST answer
	rows        [][]byte // row records, in order
	messages    int      // RowBook records
	levels      int      // levels in them
}

// recordings are those of DEEPTAPE_RECORDING, VENUE:FILE.jsonl[.gz] as `deeptape sim
// --file` takes them, with commas between. Without it: one per venue and kind of
// load from the captures, see captured.
func recordings(tb testing.TB) []*recording {
	tb.Helper()
	all, err := allRecordings()
	if errors.Is(err, fs.ErrNotExist) && os.Getenv("DEEPTAPE_RECORDING") == "" {
		if gates {
			tb.Fatalf("the gate needs the recordings (DEEPTAPE_CAPTURES): %v", err)
		}
		tb.Skipf("recordings are not here: %v; set DEEPTAPE_CAPTURES, or DEEPTAPE_RECORDING=VENUE:FILE", err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

// captured are the recordings that have enough book messages to measure by, with what
// check.py, which shares no code with this, counted in them: book messages that a book
// takes, and their levels, the snapshots included.
var captured = []struct {
	venue, file      string
	messages, levels int
}{
	{"binance", "binance/spot_btcusdt_20240808_full.jsonl.gz", 6494, 300_094},
	{"binance", "binance/cryptofeed_us_4sym_20211012.jsonl", 336, 2289},
	{"okx", "okx/fastmoon_books_btcusdt_20240601.jsonl", 345, 4364},
	{"bybit_linear", "bybit/fastmoon_linear_btcusdt_ob500_20240601.jsonl.gz", 483, 9509},
	{"kraken", "kraken/DERIVED_v2_book1000_10pairs_from_v1_20210417.jsonl.gz", 4279, 11_745},
	{"coinbase", "coinbase/DERIVED_l2data_10products_from_exchange_20210417.jsonl.gz", 9729, 18_081},
}

func capturesDir() string {
	if dir := os.Getenv("DEEPTAPE_CAPTURES"); dir != "" {
		return dir
	}
	return filepath.Join("..", "..", "shared", "captures")
}

var allRecordings = sync.OnceValues(func() (all []*recording, err error) {
	var files [][2]string
	if own := os.Getenv("DEEPTAPE_RECORDING"); own != "" {
		for entry := range strings.SplitSeq(own, ",") {
			venue, file, ok := strings.Cut(entry, ":")
			if !ok {
				return nil, fmt.Errorf("DEEPTAPE_RECORDING has %q, want VENUE:FILE.jsonl[.gz]", entry)
			}
			files = append(files, [2]string{venue, file})
		}
	} else {
		for _, c := range captured {
			files = append(files, [2]string{c.venue, filepath.Join(capturesDir(), c.file)})
		}
	}
	for _, f := range files {
		r, err := readRecording(f[0], f[1])
		if err != nil {
			return nil, fmt.Errorf("cannot use recording %q of %s: %w", f[1], f[0], err)
		}
		all = append(all, r)
	}
	return all, nil
})

// recordedBTC is the long one, of BTCUSDT.
func recordedBTC(tb testing.TB) *recording {
	tb.Helper()
	r, err := btcRecording()
	if errors.Is(err, fs.ErrNotExist) && !gates {
		tb.Skipf("recordings are not here: %v; set DEEPTAPE_CAPTURES", err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

var btcRecording = sync.OnceValues(func() (*recording, error) {
	return readRecording(captured[0].venue, filepath.Join(capturesDir(), captured[0].file))
})

// symbolOf finds the symbol of a frame, in the words of all five venues.
var (
	symbolOf  = regexp.MustCompile(`"(?:s|instId|symbol|product_id)":"([^"]+)"`)
	symbolURL = regexp.MustCompile(`[?&]symbol=(\w+)`)
)

func readRecording(venue, file string) (*recording, error) {
	v, err := registry.ByName(venue)
	if err != nil {
		return nil, err
	}
	data, err := readMaybePacked(file)
	if err != nil {
		return nil, err
	}
	stem, _, ok := strings.Cut(file, ".jsonl")
	if !ok {
		return nil, errors.New("its name does not end in .jsonl or .jsonl.gz")
	}
	r := &recording{venue: venue, name: filepath.Base(stem)}
	// Beside it may stand which lines we sent, and which came by REST.
	var recv [][]byte
	for _, name := range []string{stem + ".recv", stem + ".recv.gz"} {
		if b, err := readMaybePacked(name); err == nil {
			recv = bytes.Split(b, []byte("\n"))
		}
	}
	type rest struct {
		symbol string
		body   []byte
	}
	var lines []any // []byte is a frame
	var symbols []string
	for n, line := range bytes.Split(data, []byte("\n")) {
		where := ""
		if n < len(recv) {
			_, w, _ := bytes.Cut(recv[n], []byte("\t"))
			where = string(w)
		}
		switch {
		case len(line) == 0 || where == "tx":
		case strings.HasPrefix(where, "rest") || where == "" && bytes.HasPrefix(line, []byte(`{"lastUpdateId":`)):
			body := rest{body: line}
			if f := symbolURL.FindStringSubmatch(where); f != nil {
				body.symbol = f[1]
			}
			lines = append(lines, body)
		default:
			if f := symbolOf.FindSubmatch(line); f != nil && !slices.Contains(symbols, string(f[1])) {
				symbols = append(symbols, string(f[1]))
			}
			lines = append(lines, line)
		}
	}
	for _, s := range symbols {
		r.insts = append(r.insts, event.Instrument{Venue: venue, Symbol: s, Source: "recording"})
	}
	if len(r.insts) == 0 {
		return nil, errors.New("no frame of it names a symbol")
	}
	// Twice: the first play says at which scales the second one begins.
	for range 2 {
		r.frames, r.inputs, r.rows, r.messages, r.levels = nil, nil, nil, 0, 0
		p := recordingPlay{r: r}
		p.m = feed.New(&p, &ledger.Frames{}, (&ledger.Rows{}).Feed())
		cfg, err := json.Marshal(feed.Config{Version: feed.Version, Venue: venue, TopLevels: 10, Quotes: true, Depth: v.Rules().Depth, Instruments: r.insts})
		if err != nil {
			return nil, err
		}
		p.requests = make([]uint32, len(r.insts))
		p.step(event.InputRun, 0, cfg)
		p.step(event.InputConnect, 1, nil)
		for _, line := range lines {
			switch line := line.(type) {
			case []byte:
				r.frames = append(r.frames, line)
				p.step(event.InputFrame, 0, line)
			case rest:
				inst := slices.Index(symbols, line.symbol)
				if inst < 0 && len(symbols) == 1 {
					inst = 0
				}
				if inst >= 0 && p.requests[inst] != 0 {
					p.step(event.InputRest, event.RestAux(p.requests[inst], uint16(inst), 200), line.body)
					p.requests[inst] = 0
				}
			}
		}
		if p.err != nil {
			return nil, p.err
		}
		for _, row := range r.rows {
			var h event.Head
			h.Get(row)
			inst := &r.insts[h.Inst]
			inst.PxScale, inst.QtyScale = max(inst.PxScale, h.PxScale), max(inst.QtyScale, h.QtyScale)
		}
	}
	if r.messages == 0 {
		return nil, errors.New("no book of it begins: a snapshot is missing")
	}
	return r, nil
}

// recordingPlay steps a machine and keeps its inputs and rows.
type recordingPlay struct {
	r        *recording
	m        *feed.Machine
	requests []uint32 // by instrument: the REST request that waits, 0 for none
	pos      uint64
	row      []byte
	err      error
}

func (p *recordingPlay) Claim(n int) []byte {
	p.row = make([]byte, n)
	return p.row
}

func (p *recordingPlay) Commit() {
	if event.RowKind(p.row[4]) == event.RowBook {
		p.r.messages++
		p.r.levels += event.Levels(p.row)
	}
	p.r.rows = append(p.r.rows, p.row)
}

func (p *recordingPlay) step(kind event.InputKind, aux int64, data []byte) {
	if p.err != nil {
		return
	}
	p.pos++
	in := event.Input{InputHead: event.InputHead{Kind: kind, Pos: p.pos, Ts: 1_790_000_000_000_000_000 + int64(p.pos)*100_000, Aux: aux}, Data: data}
	p.r.inputs = append(p.r.inputs, event.AppendInput(nil, in.InputHead, data))
	if p.err = p.m.Step(&in); p.err != nil {
		return
	}
	for _, a := range p.m.Actions() {
		if a.Kind == feed.ActionFetch {
			p.requests[a.Inst] = a.Request
		}
	}
}

// rowsOf are the row records of one kind.
func (r *recording) rowsOf(kind event.RowKind) (rows [][]byte) {
	for _, row := range r.rows {
		if event.RowKind(row[4]) == kind {
			rows = append(rows, row)
		}
	}
	return rows
}

func readMaybePacked(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if !strings.HasSuffix(name, ".gz") {
		return io.ReadAll(f)
	}
	z, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

// TestRecordings: what the figures rest on is all there.
func TestRecordings(t *testing.T) {
	if os.Getenv("DEEPTAPE_RECORDING") != "" {
		t.Skip("the recordings are somebody's own")
	}
	for i, r := range recordings(t) {
		gaps := 0
		for _, row := range r.rowsOf(event.RowCoverage) {
			if c := event.GetCoverage(row); c.Stream == event.StreamBook && c.State == event.StateGap && c.Cause != event.CauseStart {
				gaps++
			}
		}
		if want := captured[i]; r.messages != want.messages || r.levels != want.levels || gaps > 0 {
			t.Errorf("%s %s: %d book messages with %d levels, %d gaps; want %d, %d, 0", r.venue, r.name, r.messages, r.levels, gaps, want.messages, want.levels)
		}
	}
}
