package bench

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"deeptape/hotpath/event"
)

// gates says whether this is `make gates`, where what is missing is a failure.
var gates = os.Getenv("DEEPTAPE_GATES") != ""

// TestInstructions compares every budget of InstructionBudgets with what
// callgrind counts. It takes minutes, so plain `go test` skips it.
func TestInstructions(t *testing.T) {
	if !gates {
		t.Skip("make gates runs it")
	}
	if runtime.GOARCH != "amd64" {
		t.Skipf("the budgets are for amd64, not %s", runtime.GOARCH)
	}
	if _, err := exec.LookPath("valgrind"); err != nil {
		t.Fatalf("the instruction gate needs valgrind (apt-get install valgrind): %v", err)
	}
	dir := t.TempDir()
	driver := filepath.Join(dir, "counts")
	if out, err := exec.Command("go", "build", "-tags", "valgrind", "-o", driver, "./counts").CombinedOutput(); err != nil {
		t.Fatalf("cannot build the driver: %v\n%s", err, out)
	}
	for _, budget := range InstructionBudgets {
		t.Run(budget.Stage+"/"+budget.Corpus, func(t *testing.T) {
			t.Parallel()
			c := corpusOf(t, budget.Stage, budget.Corpus)
			file := filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "."))
			if err := os.WriteFile(file, c.bytes, 0o644); err != nil {
				t.Fatal(err)
			}
			units := c.messages
			if budget.Unit == "level" {
				units = c.levels
			}
			// 10^9 instructions drown what the runtime does beside.
			rounds := int(math.Ceil(1.02e9 / (budget.Budget * float64(units))))
			counted := callgrind(t, driver, budget.Stage, file, rounds) - callgrind(t, driver, budget.Stage, file, 0)
			per := func(n int) float64 { return float64(counted) / float64(rounds) / float64(n) }
			got := per(units)
			perLevel := ""
			if c.levels > 0 {
				perLevel = fmt.Sprintf(", %.2f a level", per(c.levels))
			}
			t.Logf("%.1f instructions a message%s (%d messages, %d levels, %d rounds, %.2e instructions)",
				per(c.messages), perLevel, c.messages, c.levels, rounds, float64(counted))
			switch {
			case got > budget.Budget*Room:
				t.Errorf("%.2f instructions a %s, %+.1f %% against the budget of %.2f, and %.0f %% is the room.\n"+
					"Undo what costs it, or raise the budget in bench/budgets.go and say there why it is worth that (%s; counted with %s)",
					got, budget.Unit, 100*(got/budget.Budget-1), budget.Budget, 100*(Room-1), budget.Why, runtime.Version())
			case got < budget.Budget/Room:
				t.Logf("%.2f instructions a %s is well below the budget of %.2f: lower it in bench/budgets.go", got, budget.Unit, budget.Budget)
			}
		})
	}
}

var collected = regexp.MustCompile(`Collected : (\d+)`)

func callgrind(t *testing.T, driver, stage, corpus string, rounds int) int64 {
	t.Helper()
	cmd := exec.Command("valgrind", "--tool=callgrind", "--callgrind-out-file="+os.DevNull, driver, stage, corpus, strconv.Itoa(rounds))
	// No collector and no preemption: they come when the clock says so.
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	m := collected.FindSubmatch(out)
	if m == nil {
		t.Fatalf("valgrind says no count:\n%s", out)
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// corpus is a file for the driver, and how much one round of it is.
type corpus struct {
	bytes            []byte
	messages, levels int
}

func (c *corpus) add(rec []byte, levels int) {
	c.bytes = binary.LittleEndian.AppendUint32(c.bytes, uint32(len(rec)))
	c.bytes = append(c.bytes, rec...)
	c.messages++
	c.levels += levels
}

func corpusOf(t *testing.T, stage, name string) *corpus {
	t.Helper()
	c, err := makeCorpus(stage, name)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("the recordings are absent (DEEPTAPE_CAPTURES): %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func makeCorpus(stage, name string) (*corpus, error) {
	switch stage + " " + name {
	case "book made", "top made":
		return tapeCorpus(peakBookTape()), nil
	case "book recorded", "top recorded":
		tape, err := recordedBookTape()
		if err != nil {
			return nil, err
		}
		return tapeCorpus(tape), nil
	case "decode made":
		return madeFrames(), nil
	}
	if kind, ok := strings.CutPrefix(name, "recorded "); ok && stage == "decode" {
		return recordedFrames("btcusdt@" + kind)
	}
	return nil, fmt.Errorf("no corpus %q for stage %q", name, stage)
}

// madeFrames are diffs of a made market, 1 to 40 levels each, in Binance's words.
func madeFrames() *corpus {
	r := rand.New(rand.NewPCG(3, 4))
	c := &corpus{}
	side := func(b []byte, n int) []byte {
		for i := range n {
			if i > 0 {
				b = append(b, ',')
			}
			qty := r.IntN(2) * r.IntN(500_000_000)
			b = fmt.Appendf(b, `["%d.%02d000000","%d.%08d"]`, 61_000+r.IntN(1000), r.IntN(100), qty/1e8, qty%1e8)
		}
		return b
	}
	last := int64(50_093_239_189)
	for i := range 2000 {
		first := last + 1
		last += 1 + r.Int64N(60)
		bids, asks := r.IntN(21), 1+r.IntN(20)
		b := fmt.Appendf(nil, `{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":%d,"s":"BTCUSDT","U":%d,"u":%d,"b":[`, 1_760_000_000_000+100*i, first, last)
		b = append(side(b, bids), `],"a":[`...)
		b = append(side(b, asks), `]}}`...)
		c.add(b, bids+asks)
	}
	return c
}

// recordedFrames are the recording's first frames of one stream, byte for byte.
func recordedFrames(stream string) (*corpus, error) {
	const most = 3000 // more take longer to load, under valgrind, and tell the same
	dir := os.Getenv("DEEPTAPE_CAPTURES")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "captures")
	}
	f, err := os.Open(filepath.Join(dir, "binance", "spot_btcusdt_20240808_full.jsonl.gz"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	c := &corpus{}
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<20)
	for c.messages < most && lines.Scan() {
		if bytes.HasPrefix(lines.Bytes(), []byte(`{"stream":"`+stream+`"`)) {
			c.add(lines.Bytes(), bytes.Count(lines.Bytes(), []byte(`["`))) // a level opens a bracket and a quote
		}
	}
	return c, lines.Err()
}

func tapeCorpus(tape *bookTape) *corpus {
	c := &corpus{}
	for _, levels := range append([][]event.Level{tape.snapshot}, tape.messages...) {
		row := make([]byte, event.BookSize(len(levels)))
		for i, l := range levels {
			event.PutLevel(row, i, l)
		}
		c.add(bytes.Clone(row[event.HeadSize:]), len(levels))
	}
	return c
}
