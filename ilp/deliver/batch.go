package deliver

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"deeptape/hotpath/ledger"
	"deeptape/ilp/line"
	"deeptape/ilp/sender"
)

// bulkTable is one of the tables that rows go to by our own encoder.
type bulkTable int

const (
	bulkBook bulkTable = iota
	bulkTop
	bulkQuotes
	bulkTrades
	numBulk
)

var bulkNames = [numBulk]string{line.TableBook, line.TableTop, line.TableQuotes, line.TableTrades}

func (t bulkTable) ledger() ledger.Table {
	return [numBulk]ledger.Table{ledger.BookDelta, ledger.BookTop, ledger.Quotes, ledger.Trades}[t]
}

// batch is rows of one table on their way. It keeps its bytes until QuestDB has
// answered, and its memory for ever.
type batch struct {
	table   bulkTable
	body    []byte
	rows    int
	firstNs int64 // when its first row was encoded

	// Per lane: the lowest input position in it (0: none), rows, of them refused
	// for good, and when its first row was known to be journalled.
	low          []uint64
	rowsOf       []int
	refusedOf    []int
	journalledNs []int64

	ends    []int      // of the rows in body, but for book_delta
	lanesOf []laneRows // in the order of the body, to find whose a refused row was
}

type laneRows struct{ lane, rows int }

func newBatch(lanes int) *batch {
	return &batch{low: make([]uint64, lanes), rowsOf: make([]int, lanes), refusedOf: make([]int, lanes), journalledNs: make([]int64, lanes)}
}

func (b *batch) reset(t bulkTable) {
	b.table, b.body, b.rows, b.firstNs = t, b.body[:0], 0, 0
	clear(b.low)
	clear(b.rowsOf)
	clear(b.refusedOf)
	b.lanesOf, b.ends = b.lanesOf[:0], b.ends[:0]
}

func (b *batch) add(lane int, pos uint64, rows int, now int64) {
	if b.rows == 0 {
		b.firstNs = now
	}
	if b.low[lane] == 0 {
		b.low[lane] = pos
		b.journalledNs[lane] = now
	}
	b.low[lane] = min(b.low[lane], pos)
	b.rows += rows
	b.rowsOf[lane] += rows
	if b.table != bulkBook {
		b.ends = append(b.ends, len(b.body))
	}
	if n := len(b.lanesOf); n > 0 && b.lanesOf[n-1].lane == lane {
		b.lanesOf[n-1].rows += rows
	} else {
		b.lanesOf = append(b.lanesOf, laneRows{lane, rows})
	}
}

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

// poster is the owner of one HTTP connection to QuestDB.
type poster struct {
	d      *Deliverer
	sender *sender.Sender
	work   chan *batch
	number int
}

func newPoster(d *Deliverer, number int, work chan *batch) *poster {
	return &poster{d: d, sender: sender.New(d.opt.DB), work: work, number: number}
}

const (
	retryMin = 100 * time.Millisecond
	retryMax = 5 * time.Second
)

func (p *poster) run(ctx context.Context) {
	defer p.sender.Close()
	if !p.d.waitReady(ctx) {
		return
	}
	for b := range p.work {
		if !p.deliver(ctx, b) {
			return // the process ends; the journal still has the rows
		}
		p.d.finished <- b
		p.d.bell.Ring()
	}
}

// deliver posts the same bytes until QuestDB has answered for them.
func (p *poster) deliver(ctx context.Context, b *batch) bool {
	wait := retryMin
	refused := 0 // rows taken out so far, so that places can be told
	for b.rows > refused {
		res := p.sender.Post(ctx, &sender.Batch{Table: bulkNames[b.table], Body: b.body, Rows: b.rows - refused})
		now := p.d.clock()
		switch {
		case res.Word == sender.Stored:
			p.d.Stats.Batches.Add(1)
			p.d.Stats.Bytes.Add(uint64(len(b.body)))
			p.d.Health.lastAckNs.Store(now)
			if p.d.Health.set("", now) {
				p.d.opt.Log.Info("QuestDB takes rows again")
			}
			return true
		case res.Word == sender.Refused && res.Cause == sender.CauseRow:
			if err := p.quarantine(b, &res, refused); err != nil {
				p.d.opt.Log.Error("cannot quarantine a refused row", "err", err)
				if !sleep(ctx, wait) {
					return false
				}
				continue
			}
			refused++
		default:
			p.d.Stats.Retries.Add(1)
			if p.d.Health.set(trouble(b, &res), now) {
				p.d.opt.Log.Warn("QuestDB does not take rows; the journal keeps them", "reason", res.Reason)
			}
			if !sleep(ctx, wait) {
				return false
			}
			wait = min(2*wait, retryMax)
		}
	}
	return true
}

// trouble says what keeps a batch from being stored, and what heals it.
func trouble(b *batch, res *sender.Outcome) string {
	text := fmt.Sprintf("%s: %s", res.Cause, res.Reason)
	switch res.Cause {
	case sender.CauseUnreachable:
		text += "; start one with `deeptape db start`"
	case sender.CauseSchema:
		text += fmt.Sprintf("; `deeptape schema --check` says what is wrong with %s", bulkNames[b.table])
	case sender.CauseReadOnly:
		text += "; the instance takes no writes until its readonly setting is removed and it is restarted"
	case sender.CauseDisk:
		text += "; make room on the database's disk"
	}
	return text
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// quarantine takes the row that QuestDB named out of the batch and writes it to a
// file with the reason. A refusal that names no row takes the first: what is left
// is tried again, so that one bad row never holds up its neighbours.
func (p *poster) quarantine(b *batch, res *sender.Outcome, refused int) error {
	row, at, end := b.rowAt(res.Line)
	dir := p.d.opt.Quarantine
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	name := filepath.Join(dir, bulkNames[b.table]+".ilp")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "# %s refused: %s\n%s", time.Unix(0, p.d.clock()).UTC().Format(time.RFC3339Nano), bytes.ReplaceAll([]byte(res.Reason), []byte("\n"), []byte(" ")), b.body[at:end])
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err != nil {
		return fmt.Errorf("cannot write %q: %w", name, err)
	}
	p.d.opt.Log.Error("QuestDB refused a row; it is in quarantine", "file", name, "reason", res.Reason)
	lane := b.laneOf(row + refused) // exact for the first refusal, good enough for the rest of the same batch
	b.refusedOf[lane]++
	p.d.Stats.Quarantined.Add(1)
	b.remove(row, at, end)
	return nil
}

// rowAt gives the bytes [at, end) of the row that is the nth of what is left, from
// 1; past the end it gives the last. Only book_delta has several rows a record,
// and it is plain text; the others hold binary numbers, in which any byte may
// stand, so their ends are noted as they are encoded.
func (b *batch) rowAt(n int) (row, at, end int) {
	if b.table != bulkBook {
		row = min(max(n, 1), len(b.ends)) - 1
		if row > 0 {
			at = b.ends[row-1]
		}
		return row, at, b.ends[row]
	}
	for {
		i := bytes.IndexByte(b.body[at:], '\n')
		if i < 0 || row+1 >= n || at+i+1 == len(b.body) {
			if i < 0 {
				return row, at, len(b.body)
			}
			return row, at, at + i + 1
		}
		at += i + 1
		row++
	}
}

// remove takes a row out.
func (b *batch) remove(row, at, end int) {
	b.body = append(b.body[:at], b.body[end:]...)
	if b.table != bulkBook {
		b.ends = append(b.ends[:row], b.ends[row+1:]...)
		for i := row; i < len(b.ends); i++ {
			b.ends[i] -= end - at
		}
	}
}
