package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
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
			file := filepath.Join(dir, budget.Stage+"."+budget.Corpus)
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
			t.Logf("%.1f instructions a message, %.2f a level (%d messages, %d levels, %d rounds, %.2e instructions)",
				per(c.messages), per(c.levels), c.messages, c.levels, rounds, float64(counted))
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
	}
	return nil, fmt.Errorf("no corpus %q for stage %q", name, stage)
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
