package agent

import (
	"fmt"
	"math"
	"runtime/debug"

	"deeptape/cmd/config"
)

// What the agent holds beside its rings: a book as far as its prices are spread, and
// batches, blocks and the runtime.
const (
	bookBytes = 1 << 20
	restBytes = 48 << 20
)

// memoryNeed is what an agent of so many feeds and books holds all the time.
func memoryNeed(rings config.Rings, feeds, books int) (ringBytes, all int64) {
	opt := laneOptions(rings, max(feeds, 1))
	ringBytes = int64(feeds) * int64(opt.InputBytes+opt.RowBytes)
	return ringBytes, ringBytes + int64(books)*bookBytes + restBytes
}

// withinMemory returns what to say if GOMEMLIMIT is less than what the agent holds all the
// time, "" if not, and raises it to that: below it the garbage collector frees nothing
// however often it runs, and it would run all the time.
func (a *Agent) withinMemory(setLimit func(int64) int64) string {
	books := 0
	for _, f := range a.feeds {
		books += len(f.Instruments)
	}
	rings, need := memoryNeed(a.cfg.Rings, len(a.feeds), books)
	limit := setLimit(-1)
	if limit == math.MaxInt64 || limit >= need {
		return ""
	}
	setLimit(need)
	return fmt.Sprintf("GOMEMLIMIT is %d MiB, and this configuration holds some %d MiB: %d MiB of rings, %d books of up to 1 MiB, and %d MiB of everything else; it is taken for %d MiB, because below that the garbage collector would run all the time. Give it that much, or make the rings smaller (`rings: {inputs: 1MiB, rows: 4MiB}` of each of %d feeds)",
		limit>>20, need>>20, rings>>20, books, restBytes>>20, need>>20, len(a.feeds))
}

// tellMemory does so for this process.
func (a *Agent) tellMemory() {
	if text := a.withinMemory(debug.SetMemoryLimit); text != "" {
		a.log.Warn(text)
	}
}
