package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"deeptape/cmd/localdb"
	"deeptape/hotpath/event"
	"deeptape/hotpath/journal"
	"deeptape/hotpath/task"
	"deeptape/ilp/line"
	"deeptape/ilp/sender"
	"deeptape/venues/feed"
)

const (
	batchRows   = 20_000 // as the agent's
	connections = 2      // as the agent's
)

// Bars of what a flood costs.
const (
	leastOfCeiling = 0.70 // rows applied a second, of what QuestDB takes as ready bytes from a client that does nothing else
	mostCPU        = 0.30 // the agent's CPU, of QuestDB's in the same run
	mostOfRaw      = 1.0 / 3
)

// pair is a flood through the agent, and its rows as bytes made before.
type pair struct {
	agent, ready           cost
	agentCPU, venueCPU     time.Duration
	rawBytes, journalBytes int64 // of the run's frames, and the files that hold them
	otherRows, deferred    int64
}

// cost is what QuestDB had to do for the rows of a flood.
type cost struct {
	rows      int
	perS      float64       // rows applied a second
	cpu       time.Duration // QuestDB's
	writtenOf float64       // how often it wrote a row, on average
}

// mean of the runs before and after another: what the machine gives changes within a minute.
func mean(a, b cost) cost {
	return cost{a.rows, (a.perS + b.perS) / 2, (a.cpu + b.cpu) / 2, (a.writtenOf + b.writtenOf) / 2}
}

// cost measures what a flood costs against the same rows as ready bytes, which go
// before and after each flood. A flood that does not count makes the bytes and warms the
// server up. The agent derives book_delta only: the load's best levels never change, so
// that book_top at one level is silent, and quotes and bands are off.
func (r *rig) cost(ctx context.Context, n int) error {
	var t *tape
	var before cost
	var pairs []pair
	for i := range n + 1 {
		got, err := r.record(ctx, deltaOnly)
		if err != nil {
			return err
		}
		if err := got.check(); err != nil {
			return err
		}
		if t == nil {
			if t, err = encodeTape(got.journalDir, got.startNs); err != nil {
				return err
			}
		}
		if int64(t.rows) != got.deltas {
			return fmt.Errorf("the journal makes %d rows, the agent made %d", t.rows, got.deltas)
		}
		after, err := r.ready(ctx, t)
		if err != nil {
			return err
		}
		if i > 0 {
			p := pair{
				agent:    cost{t.rows, float64(t.rows) / got.toVisible.Seconds(), got.questCPU, float64(got.written) / float64(t.rows)},
				ready:    mean(before, after),
				agentCPU: got.agentCPU, venueCPU: got.venueCPU, rawBytes: t.rawBytes, deferred: got.deferredMost,
			}
			for table, rows := range got.end.Rows {
				if table != "book_delta" {
					p.otherRows += rows.Derived - got.base.Rows[table].Derived
				}
			}
			if p.journalBytes, err = sizeOf(got.journalDir, ".dtj"); err != nil {
				return err
			}
			fmt.Fprintf(r.opt.out, "pair %d   agent %.0f rows/s applied, ready bytes %.0f, ratio %.2f; CPU a level: agent %.2f us, QuestDB %.2f us, ratio %.2f (the venue %.2f us; QuestDB with ready bytes %.2f us); each row written %.1f and %.1f times; up to %d rows deferred\n",
				i, p.agent.perS, p.ready.perS, p.rate(), perLevelUs(p.agentCPU, t.rows), perLevelUs(p.agent.cpu, t.rows), p.cpuRatio(),
				perLevelUs(p.venueCPU, t.rows), perLevelUs(p.ready.cpu, t.rows), p.agent.writtenOf, p.ready.writtenOf, p.deferred)
			pairs = append(pairs, p)
		}
		before = after
	}
	return r.judge(ctx, pairs)
}

// ready gives QuestDB a tape, from a client that does nothing else.
func (r *rig) ready(ctx context.Context, t *tape) (c cost, err error) {
	if err := r.db.Exec(ctx, "TRUNCATE TABLE book_delta"); err != nil {
		return c, err
	}
	writtenBase, err := r.written()
	if err != nil {
		return c, err
	}
	base, began := cpu(r.info.PID), time.Now()
	if err := r.post(ctx, t.bodies); err != nil {
		return c, err
	}
	rows, err := r.visible(ctx, int64(t.rows))
	if err != nil {
		return c, err
	}
	c = cost{rows: t.rows, perS: float64(t.rows) / time.Since(began).Seconds(), cpu: cpu(r.info.PID) - base}
	written, err := r.written()
	if err != nil {
		return c, err
	}
	c.writtenOf = float64(written-writtenBase) / float64(t.rows)
	if rows != int64(t.rows) {
		return c, fmt.Errorf("book_delta shows %d rows, want %d", rows, t.rows)
	}
	return c, nil
}

func perLevelUs(d time.Duration, rows int) float64 { return d.Seconds() * 1e6 / float64(rows) }

func (p *pair) rate() float64     { return p.agent.perS / p.ready.perS }
func (p *pair) cpuRatio() float64 { return float64(p.agentCPU) / float64(p.agent.cpu) }

// judge prints the medians and holds them against the bars.
func (r *rig) judge(ctx context.Context, pairs []pair) error {
	median := func(of func(p *pair) float64) float64 {
		var all []float64
		for i := range pairs {
			all = append(all, of(&pairs[i]))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	rate := median((*pair).rate)
	load := median((*pair).cpuRatio)
	raw := median(func(p *pair) float64 { return float64(p.journalBytes) / float64(p.rawBytes) })
	last := pairs[len(pairs)-1]
	rows := float64(last.agent.rows)
	dbBytes, err := r.tableBytes()
	if err != nil {
		return err
	}
	fmt.Fprintf(r.opt.out, "rows     %.0f in each run\n", rows)
	fmt.Fprintf(r.opt.out, "rate     %.2f of the ceiling, median of %d pairs (at least %.2f)\n", rate, len(pairs), leastOfCeiling)
	fmt.Fprintf(r.opt.out, "cpu      agent %.2f of QuestDB's, median (at most %.2f), journal included; %d rows of other tables\n", load, mostCPU, last.otherRows)
	fmt.Fprintf(r.opt.out, "disk     a million levels: raw JSON %.1f MB, journal %.1f MB (%.2f of it, at most %.2f), QuestDB %.1f MB\n",
		float64(last.rawBytes)/rows, float64(last.journalBytes)/rows, raw, mostOfRaw, float64(dbBytes)/rows)
	var missed []string
	if rate < leastOfCeiling {
		missed = append(missed, "the rate")
	}
	if load > mostCPU {
		missed = append(missed, "the agent's CPU")
	}
	if raw > mostOfRaw {
		missed = append(missed, "the journal's size")
	}
	if len(missed) > 0 {
		return fmt.Errorf("missed: %s", strings.Join(missed, ", "))
	}
	return nil
}

// tape is the rows of a journal as the bodies of requests.
type tape struct {
	bodies   [][]byte
	rows     int
	rawBytes int64 // of all frames in the journal
}

// encodeTape derives the rows of book_delta from a time on, and puts them as QuestDB takes
// them fastest: in the order of their times, each batch after the end of the one before.
func encodeTape(dir string, fromNs int64) (*tape, error) {
	t := &tape{}
	in := &rawInputs{r: journal.NewReader(journal.OS, dir, journal.Position{}), t: t}
	defer in.r.Close()
	d := feed.NewDerivation(in)
	insts := map[uint32]*line.Inst{}
	type message struct {
		ts  int64
		rec []byte
	}
	var messages []message
	for {
		rec, _, err := d.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		var h event.Head
		h.Get(rec)
		switch {
		case h.Kind == event.RowInst:
			inst, err := event.InstrumentOf(rec)
			if err != nil {
				return nil, err
			}
			if insts[h.Inst], err = line.NewInst(inst.Venue, inst.Symbol); err != nil {
				return nil, err
			}
		case h.Kind == event.RowBook && h.TsRecv >= fromNs:
			messages = append(messages, message{h.Ts, bytes.Clone(rec)})
		}
	}
	slices.SortStableFunc(messages, func(a, b message) int { return cmp.Compare(a.ts, b.ts) })
	var body []byte
	rows, endNs := 0, int64(0)
	for _, m := range messages {
		if rows >= batchRows && m.ts > endNs {
			t.bodies, body, rows = append(t.bodies, body), make([]byte, 0, cap(body)), 0
		}
		var h event.Head
		h.Get(m.rec)
		var n int
		body, n = line.Append(body, insts[h.Inst], m.rec)
		rows += n
		t.rows += n
		endNs = max(endNs, m.ts+int64(n)-1)
	}
	if rows > 0 {
		t.bodies = append(t.bodies, body)
	}
	return t, nil
}

// rawInputs counts the frames that go by.
type rawInputs struct {
	r *journal.Reader
	t *tape
}

func (i *rawInputs) Next() (event.Input, error) {
	in, err := i.r.Next()
	if err == nil && in.Kind == event.InputFrame {
		i.t.rawBytes += int64(len(in.Data))
	}
	return in, err
}

// post sends bodies to book_delta, over as many connections as the agent has and stored in
// order, as the agent's are: QuestDB takes them 7 % faster so.
func (r *rig) post(ctx context.Context, bodies [][]byte) error {
	ctx, cancel := context.WithCancel(ctx) // a failed one must not leave the next waiting
	defer cancel()
	var next, stored atomic.Int64
	var wg sync.WaitGroup
	var errs [connections]error
	var senders [connections]*sender.Sender
	for i := range senders {
		senders[i] = sender.New(r.db.Conf(), task.Real{})
		defer senders[i].Close()
	}
	for i, s := range senders {
		wg.Go(func() {
			for k := next.Add(1) - 1; int(k) < len(bodies); k = next.Add(1) - 1 {
				mayEnd := func() bool { return stored.Load() >= k }
				if got := s.Post(ctx, &sender.Batch{Table: event.TableBookDelta.String(), Body: bodies[k], MayEnd: mayEnd}); got.Word != sender.Stored {
					errs[i] = fmt.Errorf("QuestDB did not take a batch: %s %s", got.Cause, got.Reason)
					cancel()
					return
				}
				stored.Add(1)
				for _, s := range senders {
					s.Wake()
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

// tableBytes is what book_delta takes on the disk once its server has stopped: while it
// runs, the last partition has room for more. Without its write-ahead log.
func (r *rig) tableBytes() (int64, error) {
	if _, err := localdb.Stop(filepath.Join(r.dir, "questdb")); err != nil {
		return 0, err
	}
	tables, err := filepath.Glob(filepath.Join(r.dir, "questdb", "db", "book_delta~*"))
	if err != nil || len(tables) != 1 {
		return 0, fmt.Errorf("book_delta has %d directories: %v", len(tables), err)
	}
	return sizeOf(tables[0], ".d")
}

// sizeOf adds up the files below dir whose names end so, WAL segments left out.
func sizeOf(dir, suffix string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && strings.HasPrefix(e.Name(), "wal") && name != dir {
			return fs.SkipDir
		}
		if e.Type().IsRegular() && strings.HasSuffix(name, suffix) {
			info, err := os.Stat(name)
			if err != nil {
				return err
			}
			total += info.Size()
		}
		return nil
	})
	return total, err
}
