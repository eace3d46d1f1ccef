package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"deeptape/hotpath/journal"
	"deeptape/venues/feed"
)

type instrumentKey struct{ venue, symbol string }

// past is what earlier runs in this journal left: how far each feed's positions
// went, where each instrument's rows ended, and what QuestDB may not have yet.
type past struct {
	pos    map[uint16]uint64
	acked  map[uint16]uint64
	resume map[instrumentKey]feed.Resume
	agents map[string]bool // that wrote this journal: gone, because we hold its lock
}

// readPast derives the end of the journal, from the last keyframes on. The acknowledged positions are a hint from a
// file: starting earlier than they say is harmless.
func readPast(fs journal.FS, dir string, rec journal.Recovery, anchors *anchors) (*past, error) {
	p := &past{pos: map[uint16]uint64{}, acked: map[uint16]uint64{}, resume: map[instrumentKey]feed.Resume{}, agents: map[string]bool{}}
	for _, f := range rec.Feeds {
		p.pos[f.Feed] = f.Pos
	}
	if len(p.pos) == 0 {
		return p, nil
	}
	text, err := os.ReadFile(ackedName(dir))
	if err == nil {
		var acked map[string]uint64
		if json.Unmarshal(text, &acked) == nil { // a torn hint is no hint
			for f, pos := range acked {
				if n, err := strconv.ParseUint(f, 10, 16); err == nil {
					p.acked[uint16(n)] = pos
				}
			}
		}
	}
	from, err := anchors.startOf(p.pos)
	if err != nil {
		return nil, fmt.Errorf("cannot find where the last run began in journal %q: %w", dir, err)
	}
	r := journal.NewReader(fs, dir, from)
	defer r.Close()
	d := feed.NewDerivation(quiet{r})
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
		p.agents[m.Agent()] = true
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

func ackedName(dir string) string { return filepath.Join(dir, "acked.json") }

// saveAcked notes how far QuestDB has acknowledged. A hint: never synced.
func (a *Agent) saveAcked() error {
	a.ackedMu.Lock()
	defer a.ackedMu.Unlock()
	acked := map[string]uint64{}
	for f, pos := range a.pastRuns.acked {
		acked[strconv.Itoa(int(f))] = pos
	}
	if a.deliverer != nil {
		for _, l := range a.lanes {
			acked[strconv.Itoa(int(l.Feed))] = l.Acked()
		}
	}
	text, err := json.Marshal(acked)
	if err != nil {
		return err
	}
	name := ackedName(a.cfg.Journal.Dir)
	if err = os.WriteFile(name+".tmp", text, 0o644); err == nil {
		err = os.Rename(name+".tmp", name)
	}
	if err != nil {
		return fmt.Errorf("cannot note the acknowledged position: %w", err)
	}
	return nil
}

// ackedEvery is how much an agent that is killed will send again.
const ackedEvery = 5 * time.Second

func (a *Agent) keepAcked(ctx context.Context) {
	t := time.NewTicker(ackedEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := a.saveAcked(); err != nil {
				a.log.Warn("cannot note how far QuestDB is; a restart will send more again", "err", err)
			}
		}
	}
}

// deliverPast brings what an earlier run journalled and QuestDB has not
// acknowledged. With QuestDB away it waits for the next start, or for replay.
func (a *Agent) deliverPast(ctx context.Context) error {
	if a.db == nil {
		return nil
	}
	var behind uint64
	for f, pos := range a.pastRuns.pos {
		behind += pos - min(pos, a.pastRuns.acked[f])
	}
	if behind == 0 {
		return nil
	}
	if err := a.db.Ping(ctx); err != nil {
		a.log.Warn("rows of an earlier run are not in QuestDB yet; `deeptape replay` delivers them", "inputs", behind)
		return nil
	}
	a.log.Info("delivering what an earlier run left behind", "inputs", behind)
	after := map[uint16]uint64{}
	for f, pos := range a.pastRuns.pos {
		if a.pastRuns.acked[f] < pos {
			after[f] = a.pastRuns.acked[f]
		}
	}
	from, err := a.anchors.startOf(after)
	if err != nil {
		return fmt.Errorf("cannot find what an earlier run left behind: %w", err)
	}
	r := journal.NewReader(a.fs, a.cfg.Journal.Dir, from)
	defer r.Close()
	n, err := Replay(ctx, ReplayOptions{
		DB: a.conf, Agent: a.name, Log: a.log, Dir: a.cfg.Journal.Dir, Prepare: a.prepareDB,
		Keep: func(feed uint16, pos uint64, _ int64) bool { return pos > a.pastRuns.acked[feed] },
	}, feed.NewDerivation(quiet{r}))
	if err != nil {
		return fmt.Errorf("cannot deliver what an earlier run left behind: %w", err)
	}
	a.log.Info("delivered what an earlier run left behind", "records", n)
	for f, pos := range a.pastRuns.pos {
		a.pastRuns.acked[f] = pos
	}
	return a.saveAcked()
}
