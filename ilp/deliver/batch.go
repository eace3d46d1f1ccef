package deliver

import (
	"fmt"

	"deeptape/hotpath/event"
	"deeptape/ilp/line"
)

// batch is rows of one table on their way. Its bytes do not change until QuestDB
// has answered for each of them; its memory it keeps for ever.
type batch struct {
	table   event.Table
	turn    uint64 // of the table's batches, from 1
	body    []byte
	rows    int
	firstNs int64 // when its first row was encoded
	lastNs  int64 // and its last
	// The row that was added last.
	lastInst *line.Inst
	lastTs   int64
	endNs    [numGroups]int64 // the latest ts that it has

	// Per lane: the lowest input position in it (0: none), rows, of them refused
	// for good, and when its first row was known to be journalled.
	low          []uint64
	rowsOf       []int
	refusedOf    []int
	journalledNs []int64

	lanesOf []laneRows // in the order of the body, to find whose a refused row was
}

type laneRows struct{ lane, rows int }

// rowBytes is what a row takes at the least room that a batch is made with. A body that
// grew from nothing would be copied ten times on its way to 20,000 rows, in the first
// second of a load; room that is not used is no memory yet.
const rowBytes = 192

func newBatch(lanes, rows int) *batch {
	return &batch{body: make([]byte, 0, rows*rowBytes), low: make([]uint64, lanes), rowsOf: make([]int, lanes), refusedOf: make([]int, lanes), journalledNs: make([]int64, lanes)}
}

func (b *batch) reset(t event.Table) {
	b.table, b.body, b.rows, b.firstNs, b.lastNs, b.endNs = t, b.body[:0], 0, 0, 0, [numGroups]int64{}
	clear(b.low)
	clear(b.rowsOf)
	clear(b.refusedOf)
	b.lanesOf = b.lanesOf[:0]
}

func (b *batch) add(lane int, pos uint64, rows int, now int64) {
	if b.rows == 0 {
		b.firstNs = now
	}
	b.lastNs = now
	if b.low[lane] == 0 {
		b.low[lane] = pos
		b.journalledNs[lane] = now
	}
	b.low[lane] = min(b.low[lane], pos)
	b.rows += rows
	b.rowsOf[lane] += rows
	if n := len(b.lanesOf); n > 0 && b.lanesOf[n-1].lane == lane {
		b.lanesOf[n-1].rows += rows
	} else {
		b.lanesOf = append(b.lanesOf, laneRows{lane, rows})
	}
}

// endsBefore says whether all rows that it has of a group come before what is received
// at ns.
func (b *batch) endsBefore(g group, ns int64) bool { return b.endNs[g] < ns }

// laneOf says which lane the row at the 0-based place belongs to.
func (b *batch) laneOf(row int) int {
	for _, lr := range b.lanesOf {
		if row < lr.rows {
			return lr.lane
		}
		row -= lr.rows
	}
	return b.lanesOf[len(b.lanesOf)-1].lane
}

// rowEnds tells where the rows of the body end. For a batch that was refused: rare.
func (b *batch) rowEnds() []int {
	ends := make([]int, 0, b.rows)
	for at := 0; at < len(b.body); {
		_, size := line.Row(b.body[at:], 1)
		if size == 0 {
			break
		}
		at += size
		ends = append(ends, at)
	}
	if len(ends) != b.rows || ends[len(ends)-1] != len(b.body) {
		panic(fmt.Sprintf("BUG: %d of %d rows found in a batch of %s", len(ends), b.rows, b.table.String()))
	}
	return ends
}

// span is the rows [lo, hi) of a batch.
type span struct{ lo, hi int }

func (b *batch) bytes(s span, ends []int) []byte {
	if ends == nil { // never refused: the whole
		return b.body
	}
	at := 0
	if s.lo > 0 {
		at = ends[s.lo-1]
	}
	return b.body[at:ends[s.hi-1]]
}
