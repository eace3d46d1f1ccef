package deliver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"deeptape/hotpath/task"
	"deeptape/ilp/qdb"
	"deeptape/ilp/schema"
)

const watchEvery = 2 * time.Second

// watch asks QuestDB whether it applies what it has acknowledged: a table that is
// suspended, after a full disk, still answers 204 and shows nothing.
func (d *Deliverer) watch(ctx context.Context) {
	if !d.waitReady(ctx, d.watchBell) {
		return
	}
	db := qdb.Open(d.opt.DB)
	defer db.Close()
	for {
		// A panic here is told like any other reason why nobody can tell, and the rows go on.
		err := task.Guard("the watch over QuestDB's tables", func() error { return d.lookAtTables(ctx, db) })
		if err != nil && ctx.Err() == nil && !errors.Is(err, qdb.ErrUnreachable) {
			// That nobody answers is the posters' to tell.
			news := d.Health.set(fromWAL, "cannot tell whether QuestDB shows what it took: "+err.Error(), d.clock())
			var p *task.PanicError
			if errors.As(err, &p) && news {
				d.opt.Log.Error("a part of the agent has panicked; recording goes on", "err", p, "stack", string(p.Stack))
			}
		}
		if !d.sched.Sleep(ctx, d.watchEvery) {
			return
		}
	}
}

// lookAtTables asks for their state, and now and then for what they must have.
func (d *Deliverer) lookAtTables(ctx context.Context, db *qdb.DB) error {
	text, lag, wal, err := d.walState(ctx, db)
	if err != nil {
		return err
	}
	d.Stats.LagTxns.Store(lag)
	if d.Health.set(fromWAL, text, d.clock()) {
		if text != "" {
			d.opt.Log.Error("QuestDB takes rows and does not show them", "reason", text)
		} else {
			d.opt.Log.Info("QuestDB shows all of our tables again")
		}
	}
	return d.lookForAcked(ctx, db, wal)
}

// walState names the suspended ones of our tables, with what heals them, and
// counts the transactions that are not yet visible.
func (d *Deliverer) walState(ctx context.Context, db *qdb.DB) (trouble string, lagTxns int64, wal map[string]walTable, err error) {
	ctx, cancel := d.sched.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := db.Query(ctx, "SELECT name, suspended, writerTxn, sequencerTxn, errorMessage FROM wal_tables()",
		"name", "suspended", "writerTxn", "sequencerTxn", "errorMessage")
	if err != nil {
		return "", 0, nil, err
	}
	var texts []string
	wal = map[string]walTable{}
	for _, t := range schema.Tables() {
		name := db.Table(t.Name)
		for i := range r.Len() {
			if r.Text(i, "name") != name {
				continue
			}
			writer, _ := r.Int(i, "writerTxn")
			sequencer, _ := r.Int(i, "sequencerTxn")
			lagTxns += max(0, sequencer-writer)
			wal[t.Name] = walTable{r.Bool(i, "suspended"), writer, sequencer}
			if r.Bool(i, "suspended") {
				reason := r.Text(i, "errorMessage")
				if reason != "" {
					reason = " (" + reason + ")"
				}
				texts = append(texts, fmt.Sprintf("table %s is suspended%s, its new rows are not visible; when the cause is mended: ALTER TABLE %s RESUME WAL", name, reason, name))
			}
		}
	}
	return strings.Join(texts, "; "), lagTxns, wal, nil
}
