package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"deeptape/cmd/config"
	"deeptape/cmd/localdb/dbtest"
	"deeptape/hotpath/event"
	"deeptape/hotpath/journal"
	"deeptape/ilp/qdb"
	"deeptape/ilp/schema"
	"deeptape/ilp/verify"
)

// journalOf writes inputs to a journal.
func journalOf(t *testing.T, inputs []event.Input) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "journal")
	w, _, err := journal.Open(journal.OS, dir, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range inputs {
		if err := w.Append(event.AppendInput(nil, in.InputHead, in.Data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestReplayOfLessChangesNothing: a journal with a hole, or without its end, tells less
// than a database that was filled from the whole. Replaying it leaves every row and every
// interval there as it is; into an empty database it goes with the gap that it has.
func TestReplayOfLessChangesNothing(t *testing.T) {
	captures := capturesDir(t)
	addr := dbtest.Start(t)
	db := qdb.Open(qdb.Conf{Addr: addr})
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	whole := recordedInputs(t, "okx", filepath.Join(captures, "okx", "fastmoon_books_btcusdt_20240601.jsonl"), 0, 10_000)
	empty := func() {
		t.Helper()
		if err := prepare(ctx, db); err != nil {
			t.Fatal(err)
		}
		for _, table := range schema.Tables() {
			if err := db.Exec(ctx, "TRUNCATE TABLE "+table.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	replay := func(dir string) {
		t.Helper()
		cfg := config.Default()
		cfg.QuestDB, cfg.Journal.Dir = "http::addr="+addr+";", dir
		if err := ReplayJournal(ctx, cfg, 0, 0, slog.New(slog.DiscardHandler), io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	// All rows of all tables but for who wrote them, when nothing is on its way.
	stored := func() string {
		t.Helper()
		for {
			res, err := db.Query(ctx, "SELECT count() n, max(writerTxn) m FROM wal_tables() WHERE writerTxn < sequencerTxn")
			if err != nil {
				t.Fatal(err)
			}
			if n, _ := res.Int(0, "n"); n == 0 {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		var text strings.Builder
		for _, table := range []string{"book_delta", "book_top", "quotes", "trades", "book_depth", "coverage"} {
			res, err := db.Query(ctx, "SELECT * FROM "+table)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&text, table, res.Len())
			for _, row := range res.Rows {
				fmt.Fprintln(&text, row)
			}
		}
		return text.String()
	}
	gap := func() string { return strings.Split(stored(), "coverage ")[1] }

	empty()
	replay(journalOf(t, whole))
	want := stored()
	report, err := verify.Database(ctx, db, verify.Options{TopLevels: 10}, nil)
	if err != nil || !report.OK() {
		t.Fatalf("the whole is not proven: %v", err)
	}
	if strings.Contains(gap(), "journal") {
		t.Fatal("the whole has a gap of the journal")
	}
	third := len(whole) / 3
	hole := slices.Concat(whole[:third], whole[third+10:])
	for name, less := range map[string][]event.Input{"hole": hole, "end": whole[:third]} {
		replay(journalOf(t, less))
		if got := stored(); got != want {
			t.Errorf("%s: the database is not as it was: %.300s, was %.300s", name, got, want)
		}
	}
	replay(journalOf(t, whole)) // and again all of it
	if stored() != want {
		t.Error("a second replay of the whole changes the database")
	}
	empty()
	replay(journalOf(t, hole))
	if !strings.Contains(gap(), "journal") {
		t.Errorf("the hole is not told: %s", gap())
	}
}
