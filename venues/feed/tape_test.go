package feed

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"deeptape/hotpath/book/booktest"
	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
	"deeptape/venues/registry"
)

// tape is a recording, to be played to a machine. The oracle is rows.py, which stands
// beside the recordings.
type tape struct {
	name    string
	venue   string
	lines   [][]byte
	rest    []bool
	symbols []string
	rows    []tapeRow
	depth   int
}

type tapeRow struct {
	K    string      `json:"k"`
	Sym  string      `json:"sym"`
	Snap bool        `json:"snap"`
	Seq  int64       `json:"seq"`
	Lv   [][3]string `json:"lv"`
}

func tapeFile(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(name)
	if err == nil && strings.HasSuffix(name, ".gz") {
		var r io.Reader
		if r, err = gzip.NewReader(bytes.NewReader(b)); err == nil {
			b, err = io.ReadAll(r)
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// tapes finds the recordings of every venue in the registry. Folders of others may stand
// beside them: they are passed over, with one line.
func tapes(tb testing.TB) (all []*tape) {
	tb.Helper()
	dir := os.Getenv("DEEPTAPE_CAPTURES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "captures")
	}
	if _, err := os.Stat(filepath.Join(dir, "rows.py")); err != nil {
		tb.Skipf("no recordings: %v; set DEEPTAPE_CAPTURES", err)
	}
	read := map[string]bool{}
	for _, venue := range registry.Names() {
		exchange, market, _ := strings.Cut(venue, "_")
		files, _ := filepath.Glob(filepath.Join(dir, exchange, "*.jsonl*"))
		for _, file := range files {
			read[exchange] = true
			if strings.Contains(filepath.Base(file), "linear") == (market == "linear") {
				all = append(all, readTape(tb, dir, venue, exchange, file))
			}
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*", "*.jsonl*"))
	var others []string
	for _, file := range files {
		if folder := filepath.Base(filepath.Dir(file)); !read[folder] && !slices.Contains(others, folder) {
			others = append(others, folder)
		}
	}
	if len(others) > 0 {
		tb.Logf("passed over, for no venue here knows them: %s", strings.Join(others, ", "))
	}
	return all
}

var ackedDepth = regexp.MustCompile(`"result":\{"channel":"book","depth":(\d+)`)

func readTape(tb testing.TB, dir, venue, exchange, file string) *tape {
	tb.Helper()
	t := &tape{venue: venue}
	t.name, _, _ = strings.Cut(filepath.Base(file), ".")
	v, err := registry.ByName(venue)
	if err != nil {
		tb.Fatal(err)
	}
	t.depth = v.Rules().Depth
	var dirs []string
	stem := file[:strings.LastIndex(file, ".jsonl")]
	for _, recv := range []string{stem + ".recv", stem + ".recv.gz"} {
		if _, err := os.Stat(recv); err == nil {
			dirs = strings.Split(string(tapeFile(tb, recv)), "\n")
		}
	}
	for n, line := range bytes.Split(tapeFile(tb, file), []byte("\n")) {
		where := ""
		if n < len(dirs) {
			_, where, _ = strings.Cut(dirs[n], "\t")
		}
		if len(line) == 0 || where == "tx" {
			continue
		}
		t.lines = append(t.lines, line)
		t.rest = append(t.rest, strings.HasPrefix(where, "rest"))
		if f := ackedDepth.FindSubmatch(line); f != nil {
			t.depth, _ = strconv.Atoi(string(f[1]))
		}
	}
	out, err := exec.Command("python3", filepath.Join(dir, "rows.py"), exchange, file).Output()
	if err != nil {
		tb.Skipf("the oracle does not run: %v", err)
	}
	seen := map[string]bool{"": true}
	for _, line := range bytes.Split(bytes.TrimSpace(out), []byte("\n")) {
		var row tapeRow
		if err := json.Unmarshal(line, &row); err != nil {
			tb.Fatal(err)
		}
		if !seen[row.Sym] {
			seen[row.Sym] = true
			t.symbols = append(t.symbols, row.Sym)
		}
		t.rows = append(t.rows, row)
	}
	return t
}

// player plays lines of a tape to a machine of one symbol.
type player struct {
	tape   *tape
	m      *Machine
	frames ledger.Frames
	rows   ledger.Rows
	sink   records
	pos    uint64
	now    int64

	request uint32
	asked   bool
	gaps    int    // of either stream, since the first snapshot
	trades  []byte // rows of trades, one after the other
}

func newPlayer(t *tape) *player {
	p := &player{tape: t, now: t0}
	p.m = New(&p.sink, &p.frames, p.rows.Feed())
	return p
}

func (p *player) step(tb testing.TB, kind event.InputKind, aux int64, data []byte) {
	p.pos++
	p.now += 1e6
	p.sink.reset()
	in := event.Input{InputHead: event.InputHead{Kind: kind, Feed: 3, Pos: p.pos, Ts: p.now, Aux: aux}, Data: data}
	if err := p.m.Step(&in); err != nil {
		tb.Fatal(err)
	}
	for _, a := range p.m.Actions() {
		if a.Kind == ActionFetch {
			p.request, p.asked = a.Request, true
		}
	}
	for rec := p.sink.take(); rec != nil; rec = p.sink.take() {
		var h event.Head
		h.Get(rec)
		switch h.Kind {
		case event.RowTrade:
			p.trades = append(p.trades, rec[event.HeadSize:]...)
		case event.RowCoverage:
			if c := event.GetCoverage(rec); c.State == event.StateGap && c.Cause != event.CauseStart {
				p.gaps++
			}
		}
	}
}

func (p *player) start(tb testing.TB, symbols ...string) {
	cfg := Config{Version: Version, Venue: p.tape.venue, TopLevels: 5, Quotes: true, Depth: p.tape.depth}
	for _, s := range symbols {
		cfg.Instruments = append(cfg.Instruments, event.Instrument{Venue: p.tape.venue, Symbol: s, Source: "test"})
	}
	data, err := json.Marshal(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	p.step(tb, event.InputRun, 0, data)
	p.step(tb, event.InputConnect, 1, nil)
}

// play takes line i of the tape.
func (p *player) play(tb testing.TB, i int) {
	if !p.tape.rest[i] {
		p.step(tb, event.InputFrame, 0, p.tape.lines[i])
		return
	}
	if p.asked {
		p.asked = false
		p.step(tb, event.InputRest, event.RestAux(p.request, 0, 200), p.tape.lines[i])
	}
}

// TestGoldenBooks: every book message of a recording makes its row, no gap appears, all
// checksums agree, and the books at the end are those of the slow oracle.
func TestGoldenBooks(t *testing.T) {
	checksums := map[string]uint64{ // as check.py counts them
		"DERIVED_v2_book1000_10pairs_from_v1_20210417": 4279, "tickvault_v2_btcusd_d10_20260824": 4, "fastmoon_books_btcusdt_20240601": 345,
	}
	for _, tp := range tapes(t) {
		t.Run(tp.venue+"/"+tp.name, func(t *testing.T) {
			sums := uint64(0)
			for _, symbol := range tp.symbols {
				p := newPlayer(tp)
				p.start(t, symbol)
				for i := range tp.lines {
					if !tp.rest[i] || len(tp.symbols) == 1 || tp.restOf(i, symbol) {
						p.play(t, i)
					}
				}
				inst := &p.m.insts[0]
				oracle, messages := tp.oracle(symbol, p.m.rules, int(inst.PxScale), int(inst.QtyScale))
				if p.gaps > 0 || inst.stats.BadChecksums > 0 || inst.stats.BookMessages != uint64(messages) {
					t.Errorf("%s: %d gaps, %+v, want %d messages", symbol, p.gaps, inst.stats, messages)
				}
				for side := event.Bid; side <= event.Ask; side++ {
					var got []booktest.Level
					for _, l := range inst.book.AppendLevels(nil, side) {
						got = append(got, booktest.Level(l))
					}
					if a, b := string(levelsText(nil, got)), string(levelsText(nil, oracle.Levels(side))); a != b {
						t.Fatalf("%s: side %d is\n%s, want\n%s", symbol, side, a, b)
					}
				}
				if p.frames.Read().Difference() != 0 {
					t.Errorf("frames are off: %v", p.frames.Read())
				}
				sums += inst.stats.Checksums
			}
			if sums != checksums[tp.name] {
				t.Errorf("%d checksums agree, want %d", sums, checksums[tp.name])
			}
		})
	}
}

// restOf says whether a REST answer is for a symbol: it joins that symbol's ids.
func (tp *tape) restOf(i int, symbol string) bool {
	n := 0
	for k := range tp.lines[:i] {
		if tp.rest[k] {
			n++
		}
	}
	for _, r := range tp.rows {
		if r.K == "book" && r.Snap {
			if n == 0 {
				return r.Sym == symbol
			}
			n--
		}
	}
	return false
}

func scaled(tb string, scale int) int64 {
	whole, frac, _ := strings.Cut(tb, ".")
	frac = strings.TrimRight(frac, "0")
	n, err := strconv.ParseInt(whole+frac+strings.Repeat("0", max(0, scale-len(frac))), 10, 64)
	if err != nil || len(frac) > scale {
		panic("a number of the recording does not fit: " + tb)
	}
	return n
}

// oracle is the book at the end as the rows of rows.py make it, and how many of them
// count.
func (tp *tape) oracle(symbol string, rules *venues.Rules, px, qty int) (b *booktest.Book, messages int) {
	b = booktest.New(1)
	var rows []tapeRow
	begun := int64(event.Null)
	for _, r := range tp.rows {
		if r.K != "book" || r.Sym != symbol && r.Sym != "" {
			continue
		}
		switch {
		case r.Snap && rules.RestSnapshot: // it comes late: what it does not hold follows
			begun = r.Seq
			rows = append([]tapeRow{r}, rows...)
		case r.Snap || rules.RestSnapshot || len(rows) > 0:
			rows = append(rows, r)
		}
	}
	for n, r := range rows {
		if rules.RestSnapshot && (begun == event.Null || n > 0 && r.Seq <= begun) {
			continue
		}
		messages++
		if r.Snap {
			b.Clear()
		}
		for _, l := range r.Lv {
			side := event.Bid
			if l[0] == "ask" {
				side = event.Ask
			}
			b.Set(side, scaled(l[1], px), scaled(l[2], qty))
		}
		if rules.Truncate {
			b.Truncate(tp.depth)
		}
	}
	return b, messages
}
