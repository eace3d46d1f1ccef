package verify

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"
)

// waitAppliedMax bounds the wait for QuestDB to make visible what it has
// acknowledged.
const waitAppliedMax = 30 * time.Second

var checkedTables = []string{tableBook, tableTop, tableQuotes, tableTrades, tableCoverage}

// waitApplied waits until everything that was in the WAL at the call is visible.
// A suspended table never gets there, and answers queries as if nothing were wrong.
func waitApplied(ctx context.Context, db *exporter, progress io.Writer) error {
	goal := map[string]int64{}
	deadline := time.Now().Add(waitAppliedMax)
	for round := 0; ; round++ {
		r, err := db.query(ctx, "SELECT name, suspended, writerTxn, sequencerTxn, errorMessage FROM wal_tables()",
			"name", "suspended", "writerTxn", "sequencerTxn", "errorMessage")
		if err != nil {
			return fmt.Errorf("cannot ask for the state of the tables: %w", err)
		}
		behind := ""
		for i := range r.Len() {
			name := r.Text(i, "name")
			if !slices.ContainsFunc(checkedTables, func(t string) bool { return db.table(t) == name }) {
				continue
			}
			if r.Bool(i, "suspended") {
				return fmt.Errorf("cannot verify: table %q is suspended (%s), rows that QuestDB has acknowledged are not visible; heal it with: ALTER TABLE %s RESUME WAL;",
					name, r.Text(i, "errorMessage"), name)
			}
			writer, _ := r.Int(i, "writerTxn")
			sequencer, _ := r.Int(i, "sequencerTxn")
			if round == 0 {
				goal[name] = sequencer
			}
			if writer < goal[name] {
				behind = fmt.Sprintf("table %q is %d transactions behind", name, goal[name]-writer)
			}
		}
		if behind == "" {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("cannot verify: %s after %s; verify again when QuestDB has caught up", behind, waitAppliedMax)
		}
		if round == 10 {
			fmt.Fprintf(progress, "waiting for QuestDB: %s\n", behind)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
