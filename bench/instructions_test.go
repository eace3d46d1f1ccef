package bench

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/venues/feed"
)

// gates says whether this is `make gates`, where what is missing is a failure.
var gates = os.Getenv("DEEPTAPE_GATES") != ""

// TestGateInstructions compares every budget of InstructionBudgets with what
// callgrind counts.
func TestGateInstructions(t *testing.T) {
	driver := countsDriver(t, "valgrind")
	if v := runtime.Version(); v != GoVersion {
		t.Run("version", func(t *testing.T) {
			t.Skipf("this is %s and the budgets were counted with %s: another compiler makes other instructions", v, GoVersion)
		})
	}
	for _, budget := range InstructionBudgets {
		t.Run(budget.Stage+"/"+budget.Corpus, func(t *testing.T) {
			t.Parallel()
			got, what := count(t, driver, budget)
			t.Log(what)
			switch {
			case budget.exceeded(got):
				t.Errorf("%.2f instructions a %s, %+.1f %% against the budget of %.2f, and %.0f %% is the room.\n"+
					"Undo what costs it, or raise the budget in bench/budgets.go and say there why it is worth that (%s; counted with %s, the budget with %s)",
					got, budget.Unit, 100*(got/budget.Budget-1), budget.Budget, 100*(Room-1), budget.Why, runtime.Version(), GoVersion)
			case got < budget.Budget/Room:
				t.Logf("%.2f instructions a %s is well below the budget of %.2f: lower it in bench/budgets.go", got, budget.Unit, budget.Budget)
			}
		})
	}
}

// TestGateCanary plants a slowness in a stage on purpose, a little beyond the room: if
// the gate does not see that, it sees nothing.
func TestGateCanary(t *testing.T) {
	driver := countsDriver(t, "valgrind,planted_slow")
	i := slices.IndexFunc(InstructionBudgets, func(b Instructions) bool { return b.Stage == "book" && b.Corpus == "made" })
	budget := InstructionBudgets[i]
	got, what := count(t, driver, budget)
	if !budget.exceeded(got) {
		t.Errorf("the gate takes the slowed stage for good: %s, the budget is %.2f", what, budget.Budget)
	}
	if got > budget.Budget*1.2 {
		t.Errorf("the canary is so slow that it shows nothing: %s, the budget is %.2f", what, budget.Budget)
	}
}

// countsDriver builds bench/counts.
func countsDriver(t *testing.T, tags string) string {
	t.Helper()
	if !gates {
		t.Skip("make gates runs it")
	}
	if runtime.GOARCH != "amd64" {
		t.Skipf("the budgets are for amd64, not %s", runtime.GOARCH)
	}
	if _, err := exec.LookPath("valgrind"); err != nil {
		t.Fatalf("the instruction gate needs valgrind (apt-get install valgrind): %v", err)
	}
	driver := filepath.Join(t.TempDir(), "counts")
	if out, err := exec.Command("go", "build", "-tags", tags, "-o", driver, "./counts").CombinedOutput(); err != nil {
		t.Fatalf("cannot build the driver: %v\n%s", err, out)
	}
	return driver
}

// countedInstructions of a stage drown what the runtime does beside.
const countedInstructions = 1.5e8

// count returns the instructions per unit of the budget, and that in words.
func count(t *testing.T, driver string, budget Instructions) (perUnit float64, what string) {
	c, err := makeCorpus(t, budget.Stage, budget.Corpus)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(filepath.Dir(driver), strings.ReplaceAll(t.Name(), "/", "."))
	if err := os.WriteFile(file, c.bytes, 0o644); err != nil {
		t.Fatal(err)
	}
	units := c.messages
	if budget.Unit == "level" {
		units = c.levels
	}
	rounds := int(math.Ceil(countedInstructions / (budget.Budget * float64(units))))
	counted := callgrind(t, driver, budget.Stage, file, rounds) - callgrind(t, driver, budget.Stage, file, 0)
	per := func(n int) float64 { return float64(counted) / float64(rounds) / float64(n) }
	what = fmt.Sprintf("%.1f instructions a message", per(c.messages))
	if c.levels > 0 {
		what += fmt.Sprintf(", %.2f a level", per(c.levels))
	}
	what += fmt.Sprintf(" (%d messages, %d levels, %d rounds, %.2e instructions)", c.messages, c.levels, rounds, float64(counted))
	return per(units), what
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

// config is what the stage decode has to know; it is no message.
func (c *corpus) config(venue string, insts []event.Instrument) {
	b, err := json.Marshal(feed.Config{Venue: venue, Instruments: insts})
	if err != nil {
		panic(err)
	}
	c.add(b, 0)
	c.messages--
}

// makeCorpus: "made" is from this package's tests, "VENUE recorded" from that venue's
// first recording with a book, "VENUE recorded STREAM" its frames of one stream.
func makeCorpus(t *testing.T, stage, name string) (*corpus, error) {
	c := &corpus{}
	switch {
	case stage == "decode" && name == "made":
		return madeFrames(), nil
	case name == "made":
		tape := peakBookTape()
		for _, m := range slices.Concat(tape.snapshots, tape.messages) {
			c.add(bookRow(&m), len(m.levels))
		}
		return c, nil
	}
	venue, rest, ok := strings.Cut(name, " recorded")
	i := slices.IndexFunc(recordings(t), func(r *recording) bool { return r.venue == venue })
	if !ok || i < 0 {
		return nil, fmt.Errorf("no corpus %q for stage %q", name, stage)
	}
	r := recordings(t)[i]
	last := min(len(r.inputs), 20_000) // more take longer, under valgrind, and tell the same
	switch stage {
	case "decode", "wire":
		if stage == "decode" {
			c.config(r.venue, r.insts)
		}
		n := 0
		for _, frame := range r.frames[:min(len(r.frames), last)] {
			if bytes.Contains(frame, []byte(strings.TrimSpace(rest))) && n < 3000 {
				n++
				levels := 0 // a level opens a bracket and a quote, or names its price
				for _, mark := range []string{`["`, `"price":`, `"price_level":`} {
					levels += bytes.Count(frame, []byte(mark))
				}
				c.add(frame, levels)
			}
		}
	case "feed", "journal":
		for _, in := range r.inputs[:last] {
			c.add(in, 0)
		}
		for _, row := range r.rowsOf(event.RowBook) {
			if event.RecordPos(row) <= uint64(last) {
				c.levels += event.Levels(row)
			}
		}
	case "book", "top", "line", "ring":
		kinds := map[string][]event.RowKind{
			"":            {event.RowBook},
			"book_delta":  {event.RowBook},
			"book_top":    {event.RowTop},
			"quotes":      {event.RowQuote},
			"trades":      {event.RowTrade},
			"all streams": {event.RowBook, event.RowTop, event.RowQuote, event.RowTrade},
		}[strings.TrimSpace(rest)]
		for _, row := range r.rows {
			if slices.Contains(kinds, event.RowKind(row[4])) && event.RecordPos(row) <= uint64(last) {
				levels := 0
				if event.RowKind(row[4]) == event.RowBook {
					levels = event.Levels(row)
				}
				c.add(row, levels)
			}
		}
	}
	if c.messages == 0 {
		return nil, fmt.Errorf("corpus %q for stage %q is empty", name, stage)
	}
	return c, nil
}

// bookRow is the row record of a book message.
func bookRow(m *bookMessage) []byte {
	row := make([]byte, event.BookSize(len(m.levels)))
	h := event.Head{Kind: event.RowBook, Inst: uint32(m.book), PxScale: 2, QtyScale: 8, N: event.BookN(len(m.levels)), Ts: 1_760_000_000_000_000_000, Seq: 1, SeqPrev: event.Null}
	if m.clear {
		h.Flags = event.FlagSnapshot
	}
	h.Put(row, len(row))
	for i, l := range m.levels {
		event.PutLevel(row, len(m.levels), i, l)
	}
	return row
}

// madeFrames are diffs of a made market, 1 to 40 levels each, in Binance's words.
func madeFrames() *corpus {
	r := rand.New(rand.NewPCG(3, 4))
	c := &corpus{}
	c.config("binance", []event.Instrument{{Venue: "binance", Symbol: "BTCUSDT", PxScale: 2, QtyScale: 8}})
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
