package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/journal"
	"deeptape/ilp/deliver"
	"deeptape/venues/feed"
	"deeptape/venues/follow"
)

type instrumentKey struct{ venue, symbol string }

// past is what earlier runs in this journal left: how far each feed's positions
// went, where each instrument's rows ended, and what QuestDB may not have yet.
type past struct {
	pos    map[uint16]uint64
	acked  map[uint16]uint64
	resume map[instrumentKey]feed.Resume
	agents map[string]bool // that wrote this journal: gone, because we hold its lock

	deliverer atomic.Pointer[deliver.Deliverer] // nil unless it is delivering

	mu        sync.Mutex // of what follows
	delivered bool       // all of it, by this run
}

// behind says from which input on QuestDB may lack rows of earlier runs: the last
// acknowledged one by feed. Any goroutine.
func (p *past) behind() (after map[uint16]uint64, inputs uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	after = map[uint16]uint64{}
	for f, pos := range p.pos {
		if p.acked[f] < pos && !p.delivered {
			after[f] = p.acked[f]
			inputs += pos - p.acked[f]
		}
	}
	return after, inputs
}

// readPast derives the end of the journal, from the last keyframes on. The
// acknowledged positions are a hint from a file: starting earlier than they say is
// harmless.
func readPast(fsys journal.FS, dir, name string, rec journal.Recovery, anchors *anchors) (*past, error) {
	p := &past{pos: map[uint16]uint64{}, resume: map[instrumentKey]feed.Resume{}, agents: map[string]bool{}}
	gone, err := noteAgent(fsys, dir, name)
	if err != nil {
		return nil, err
	}
	for _, agent := range gone {
		p.agents[agent] = true
	}
	for _, f := range rec.Feeds {
		p.pos[f.Feed] = f.Pos
	}
	if len(p.pos) == 0 {
		return p, nil
	}
	p.acked = readAcked(fsys, dir)
	from, err := anchors.startOf(p.pos)
	if err != nil {
		return nil, fmt.Errorf("cannot find where the last run began in journal %q: %w", dir, err)
	}
	d := follow.Open(follow.Options{FS: fsys, Dir: dir, From: from})
	defer d.Close()
	for {
		if _, _, err = d.Next(); err != nil {
			break
		}
	}
	if !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("cannot learn from journal %q where the last run ended: %w", dir, err)
	}
	for f := range p.pos {
		m := d.Machine(f)
		if m == nil {
			continue
		}
		venue, symbols := m.Symbols()
		for i, s := range symbols {
			key := instrumentKey{venue, s}
			if r := m.Resume(i); r.LastTs > p.resume[key].LastTs {
				p.resume[key] = r
			}
		}
	}
	return p, nil
}

// agentsKept: names are forgotten in time, because process ids come again.
const agentsKept = 30

// noteAgent adds our name to those that have written this journal, whose lock we
// hold, and returns the others: none of them is alive. An agent that is killed at
// once has sent coverage of earlier runs under its name, and journalled nothing.
func noteAgent(fsys journal.FS, dir, name string) (gone []string, err error) {
	file := filepath.Join(dir, "agents")
	text, err := readFile(fsys, file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read who has written this journal: %w", err)
	}
	gone = strings.Fields(string(text))
	gone = gone[max(0, len(gone)-agentsKept):]
	if err = replaceFile(fsys, file, []byte(strings.Join(append(slices.Clone(gone), name), "\n")+"\n")); err != nil {
		return nil, fmt.Errorf("cannot note that we write this journal: %w", err)
	}
	return gone, nil
}

func ackedName(dir string) string { return filepath.Join(dir, "acked.json") }

// readAcked returns how far QuestDB was for each feed when that was last noted. It is
// empty where the file is missing or torn: it is a hint.
func readAcked(fsys journal.FS, dir string) map[uint16]uint64 {
	acked := map[uint16]uint64{}
	text, err := readFile(fsys, ackedName(dir))
	var noted map[string]uint64
	if err == nil && json.Unmarshal(text, &noted) == nil {
		for f, pos := range noted {
			if n, err := strconv.ParseUint(f, 10, 16); err == nil {
				acked[uint16(n)] = pos
			}
		}
	}
	return acked
}

// EndsGone says which feeds' inputs QuestDB has the rows of and the journal, whose ends
// are given, has not: a power loss took them, or a segment that is not there any more. No
// check of the journal alone can see that.
func EndsGone(dir string, ends []journal.FeedEnd) (gone []string) {
	at := map[uint16]uint64{}
	for _, e := range ends {
		at[e.Feed] = e.Pos
	}
	acked := readAcked(journal.OS, dir)
	for _, f := range slices.Sorted(maps.Keys(acked)) {
		if acked[f] > at[f] {
			gone = append(gone, fmt.Sprintf("the end of feed %d is gone: QuestDB has the rows of its inputs up to %d, the journal ends with %d", f, acked[f], at[f]))
		}
	}
	return gone
}

// saveAcked notes how far QuestDB has acknowledged. A hint: never synced.
func (a *Agent) saveAcked() error {
	a.ackedMu.Lock()
	defer a.ackedMu.Unlock()
	acked := map[string]uint64{}
	for f, pos := range a.pastRuns.pos { // of feeds that are no more, too
		acked[strconv.Itoa(int(f))] = pos
	}
	for f, pos := range a.ackedNow() {
		acked[strconv.Itoa(int(f))] = pos
	}
	text, err := json.Marshal(acked)
	if err != nil {
		return err
	}
	if err = replaceFile(a.machine.FS, ackedName(a.cfg.Journal.Dir), text); err != nil {
		return fmt.Errorf("cannot note the acknowledged position: %w", err)
	}
	return a.saveStored()
}

func storedName(dir string) string { return filepath.Join(dir, "stored.json") }

// readStored returns the last rows that QuestDB had acknowledged when that was last noted:
// none where the file is missing or torn. It is a hint, too.
func readStored(fsys journal.FS, dir string) (rows []deliver.AckedRow) {
	text, err := readFile(fsys, storedName(dir))
	if err != nil || json.Unmarshal(text, &rows) != nil {
		return nil
	}
	return rows
}

// saveStored notes them, where there are any.
func (a *Agent) saveStored() error {
	if a.deliverer == nil {
		return nil
	}
	rows := a.deliverer.Acked()
	if len(rows) == 0 {
		return nil
	}
	text, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	if err = replaceFile(a.machine.FS, storedName(a.cfg.Journal.Dir), text); err != nil {
		return fmt.Errorf("cannot note the rows that QuestDB has acknowledged: %w", err)
	}
	return nil
}

// ackedEvery is how much an agent that is killed will send again.
const ackedEvery = 5 * time.Second

func (a *Agent) keepAcked(ctx context.Context) {
	for a.machine.Sched.Sleep(ctx, ackedEvery) {
		a.survive("noting how far QuestDB is", func() {
			if err := a.saveAcked(); err != nil {
				a.log.Warn("cannot note how far QuestDB is; a restart will send more again", "err", err)
			}
		})
	}
}

// deliverPast brings what earlier runs journalled and QuestDB has not acknowledged.
// It waits for QuestDB for as long as that takes. Recording goes on meanwhile, but
// the rows of this run are delivered after it: they begin with the last word on the
// intervals of the last run, which what this sends of them must not overwrite. A
// stop ends it; the next run begins anew.
func (a *Agent) deliverPast(ctx context.Context) error {
	after, owed := a.pastRuns.behind()
	if a.db == nil || owed == 0 {
		return nil
	}
	a.log.Info("delivering what an earlier run left behind", "inputs", owed)
	from, err := a.anchors.startOf(after)
	if err != nil {
		return fmt.Errorf("cannot find what an earlier run left behind: %w", err)
	}
	left := follow.Open(follow.Options{
		FS: a.machine.FS, Dir: a.cfg.Journal.Dir, From: from, Until: a.pastRuns.pos,
		Impossible: follow.WarnImpossible(a.log),
	})
	defer left.Close()
	n, err := Replay(ctx, ReplayOptions{
		Machine: a.machine, DB: a.conf, Agent: a.name, Log: a.log, Dir: a.cfg.Journal.Dir, Prepare: a.prepareDB, QuarantineMost: a.cfg.Quarantine,
		Began: a.pastRuns.deliverer.Store,
		Keep: func(feed uint16, h *event.Head, _ []byte) bool {
			low, behind := after[feed]
			return h.Kind == event.RowInst || behind && h.Pos > low
		},
	}, left)
	a.pastRuns.deliverer.Store(nil)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot deliver what an earlier run left behind: %w", err)
	}
	a.pastRuns.mu.Lock()
	a.pastRuns.delivered = true
	a.pastRuns.mu.Unlock()
	a.log.Info("delivered what an earlier run left behind", "records", n)
	return a.saveAcked()
}
