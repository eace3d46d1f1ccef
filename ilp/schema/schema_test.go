package schema

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"deeptape/cmd/localdb/dbtest"
	"deeptape/ilp/qdb"
)

// normal is a statement without what does not change its meaning.
func normal(s string) string {
	s = strings.ReplaceAll(oneLine(s), " IF NOT EXISTS", "")
	return strings.NewReplacer("( ", "(", " )", ")").Replace(s)
}

// sharedSQL is the schema that other programs rely on.
func sharedSQL(t *testing.T) string {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "schema.sql"))
	if err != nil {
		t.Skipf("no shared schema beside the module: %v", err)
	}
	return string(text)
}

// tablesOf are the statements of a schema that make tables. Views are left out: the
// project's own text of a view is what counts.
func tablesOf(sql string) (list []string) {
	for _, s := range split(sql) {
		if strings.HasPrefix(s, "CREATE TABLE ") {
			list = append(list, s)
		}
	}
	return list
}

func TestSameAsShared(t *testing.T) {
	want := tablesOf(sharedSQL(t))
	got := tablesOf(SQL(""))
	if len(got) != len(want) {
		t.Fatalf("%d tables, the shared schema has %d", len(got), len(want))
	}
	for i := range want {
		if normal(got[i]) != normal(want[i]) {
			t.Errorf("statement %d is\n%s\nthe shared schema has\n%s", i, normal(got[i]), normal(want[i]))
		}
	}
}

// Who splits the printed DDL at semicolons, the simplest way there is, must get
// statements.
func TestSQLSplitsSimply(t *testing.T) {
	for i, s := range strings.Split(strings.TrimSpace(SQL("")), ";") {
		var code []string
		for _, line := range strings.Split(s, "\n") {
			if !strings.HasPrefix(line, "--") && strings.TrimSpace(line) != "" {
				code = append(code, line)
			}
		}
		if i == len(tables)+len(views) {
			if len(code) > 0 {
				t.Errorf("text after the last statement: %q", code)
			}
			continue
		}
		if len(code) == 0 || !strings.HasPrefix(code[0], "CREATE ") {
			t.Errorf("piece %d starts no statement: %q", i, s)
		}
	}
}

func TestShapes(t *testing.T) {
	if len(tables) != 8 || len(views) != 10 {
		t.Fatalf("%d tables and %d views", len(tables), len(views))
	}
	top := tables[1]
	if top.Name != "book_top" || top.Timestamp != "ts" || top.PartitionBy != "HOUR" || strings.Join(top.Keys, ",") != "ts,venue,symbol" ||
		len(top.Columns) != 12 || top.Columns[7] != (Column{"bids", "DOUBLE[][]"}) {
		t.Errorf("book_top is %+v", top)
	}
	if _, err := parseTable("CREATE TABLE IF NOT EXISTS t (a INT)"); err == nil {
		t.Error("a table without timestamp, WAL and DEDUP was taken")
	}
}

// live opens the QuestDB of this test process, and removes everything that
// has a name of ours.
func live(t *testing.T) (context.Context, *qdb.DB) {
	addr := dbtest.Start(t)
	db := qdb.Open(qdb.Conf{Addr: addr})
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(func() { cancel(); db.Close() })
	return ctx, db
}

// busy: the server has not let go of a table that was used a moment ago.
func busy(err error) bool { return err != nil && strings.Contains(err.Error(), "[reason='busy") }

func dropAll(t *testing.T, ctx context.Context, db *qdb.DB) {
	t.Helper()
	all, err := db.Query(ctx, "SELECT table_name, table_type FROM tables()")
	if err != nil {
		t.Fatal(err)
	}
	ours := map[string]bool{}
	for _, v := range views {
		ours[v.Name], ours[v.Name+"_old"] = true, true
	}
	for _, x := range tables {
		ours[x.Name], ours[x.Name+"_old"] = true, true
	}
	for i := range all.Len() {
		if name := all.Text(i, "table_name"); ours[name] {
			kind := kinds[all.Text(i, "table_type")]
			if kind == "" {
				kind = "TABLE"
			}
			run(t, ctx, db, "DROP "+kind+" "+name)
		}
	}
}

func run(t *testing.T, ctx context.Context, db *qdb.DB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		err := db.Exec(ctx, s)
		for range 100 {
			if !busy(err) {
				break
			}
			time.Sleep(50 * time.Millisecond)
			err = db.Exec(ctx, s)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestLiveCreate(t *testing.T) {
	ctx, db := live(t)
	dropAll(t, ctx, db)
	err := Check(ctx, db)
	var mismatch *MismatchError
	if !errors.As(err, &mismatch) || len(mismatch.Differences) != len(tables)+len(views) {
		t.Fatalf("an empty database: %v", err)
	}
	for range 2 {
		if err := Create(ctx, db); err != nil {
			t.Fatal(err)
		}
		if err := Check(ctx, db); err != nil {
			t.Fatal(err)
		}
	}
	// The printed text, comments and all, as somebody would feed it to /exec.
	dropAll(t, ctx, db)
	for _, s := range strings.Split(strings.TrimSuffix(strings.TrimSpace(SQL("")), ";"), ";") {
		run(t, ctx, db, s)
	}
	if err := Check(ctx, db); err != nil {
		t.Fatal(err)
	}
}

// A database made from the shared schema has our tables, and views of another text, which
// Create replaces: they are those of a version before.
func TestLiveShared(t *testing.T) {
	ctx, db := live(t)
	shared := split(sharedSQL(t))
	dropAll(t, ctx, db)
	run(t, ctx, db, shared...)
	if err := CheckTables(ctx, db); err != nil {
		t.Fatal(err)
	}
	if err := Check(ctx, db); err == nil || !strings.Contains(err.Error(), "top_verified: the view has another text") {
		t.Errorf("the older text of top_verified is taken for ours: %v", err)
	}
	if err := Create(ctx, db); err != nil {
		t.Fatal(err)
	}
	if err := Check(ctx, db); err != nil {
		t.Error(err)
	}
}

// TestEveryColumnExplained: `deeptape schema` is where a reader looks what a column means.
// Before a table stand lines "--   COLUMN: TEXT", one for each column, in its order.
func TestEveryColumnExplained(t *testing.T) {
	explained := regexp.MustCompile(`(?m)^--   (\w+): \S.{8,}$`)

	for i, piece := range strings.SplitAfter(tablesSQL, ";\n")[:len(tables)] {
		before, _, _ := strings.Cut(piece, "CREATE TABLE")
		var got, want []string
		for _, m := range explained.FindAllStringSubmatch(before, -1) {
			got = append(got, m[1])
		}
		for _, c := range tables[i].Columns {
			want = append(want, c.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s has the columns %q, and explains %q", tables[i].Name, want, got)
		}
	}
}

// Each damage is seen, named, and gone after its own cure.
func TestLiveDamage(t *testing.T) {
	ctx, db := live(t)
	ddl := func(name, from, to string) string {
		for _, x := range tables {
			if x.Name == name {
				if !strings.Contains(x.DDL, from) {
					t.Fatalf("%q is not in the DDL of %s", from, name)
				}
				return strings.Replace(x.DDL, from, to, 1)
			}
		}
		panic(name)
	}
	for _, c := range []struct {
		name, damage string
		want         []string
		uncured      bool // the cure works only at the next start of the server
	}{
		{"auto-created", "CREATE TABLE trades (venue SYMBOL, symbol SYMBOL, side SYMBOL, px LONG, qty DOUBLE, timestamp TIMESTAMP) TIMESTAMP(timestamp) PARTITION BY DAY WAL",
			[]string{`designated timestamp is "timestamp", not "ts"`, `column "ts" is missing`, `column "qty" is DOUBLE, not LONG`, `column "trade_id" is missing`, "no DEDUP"}, false},
		{"no dedup", ddl("coverage", " DEDUP UPSERT KEYS(ts, venue, symbol, stream)", ""), []string{"coverage: it has no DEDUP"}, false},
		{"other keys", ddl("coverage", "venue, symbol, stream)", "venue)"), []string{"DEDUP keys are (ts, venue), not (ts, venue, symbol, stream)"}, false},
		{"microseconds", ddl("quotes", "TIMESTAMP_NS", "TIMESTAMP"), []string{`column "ts" is TIMESTAMP, not TIMESTAMP_NS`}, false},
		{"partition", ddl("book_delta", "BY HOUR", "BY DAY"), []string{"partitioned by DAY, not HOUR"}, false},
		{"no WAL", ddl("book_delta", "WAL DEDUP UPSERT KEYS(ts, venue, symbol)", "BYPASS WAL"), []string{"no WAL", "no DEDUP"}, true},
		{"doubles", ddl("book_delta", "px LONG", "px DOUBLE"), []string{`column "px" is DOUBLE, not LONG`}, false},
		{"event time", ddl("trades", "ts_event TIMESTAMP_NS", "ts_event TIMESTAMP"), []string{`column "ts_event" is TIMESTAMP, not TIMESTAMP_NS`}, false},
		{"text", ddl("trades", "trade_id VARCHAR", "trade_id SYMBOL"), []string{`column "trade_id" is SYMBOL, not VARCHAR`}, false},
		{"key type", ddl("trades", "venue SYMBOL", "venue VARCHAR"), []string{`column "venue" is VARCHAR, not SYMBOL`}, false},
		{"array", ddl("book_top", "bids DOUBLE[][]", "bids DOUBLE[]"), []string{`column "bids" is DOUBLE[], not DOUBLE[][]`}, false},
		{"short", ddl("trades", "flags SHORT", "flags LONG"), []string{`column "flags" is LONG, not SHORT`}, false},
		{"columns gone", ddl("book_delta", "seq_prev LONG,\n", ""), []string{`column "seq_prev" is missing; heal it with: ALTER TABLE book_delta ADD COLUMN seq_prev LONG`}, false},
		{"column added", ddl("quotes", "ts_event TIMESTAMP_NS", "extra LONG, ts_event TIMESTAMP_NS"), []string{`quotes: column "extra" is surplus`, "heal it with: ALTER TABLE quotes DROP COLUMN extra;"}, false},
		{"view in place", "CREATE VIEW trades AS (SELECT 1 x)", []string{"trades: it is a view, not a table"}, false},
		{"table in place", "CREATE TABLE delta (ts TIMESTAMP) TIMESTAMP(ts)", []string{"delta: it is a table, not a view"}, false},
	} {
		dropAll(t, ctx, db)
		run(t, ctx, db, c.damage)
		_ = Create(ctx, db) // the rest; what is somebody else's stops it
		err := CheckExact(ctx, db)
		var mismatch *MismatchError
		if !errors.As(err, &mismatch) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v\nshould say %q", c.name, err, w)
			}
		}
		if tableErr := CheckTables(ctx, db); (tableErr == nil) != (c.name == "column added") {
			t.Errorf("%s: CheckTables says %v", c.name, tableErr)
		}
		// Who only writes is not kept from it by a column more.
		if err := Check(ctx, db); (err == nil) != (c.name == "column added") {
			t.Errorf("%s: Check says %v", c.name, err)
		}
		if c.uncured {
			continue
		}
		renamed := map[string]bool{}
		for _, d := range mismatch.Differences {
			if strings.HasPrefix(d.Heal, "RENAME") && !renamed[d.Name] {
				run(t, ctx, db, d.Heal)
				renamed[d.Name] = true
			}
		}
		for _, d := range mismatch.Differences {
			if !renamed[d.Name] && !strings.Contains(d.Heal, " IF NOT EXISTS ") {
				run(t, ctx, db, d.Heal)
			}
		}
		if err := Create(ctx, db); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		// ALTER answers before the table's WAL has been applied.
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			if err = CheckExact(ctx, db); err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("%s, after the cure: %v", c.name, err)
				break
			}
		}
	}
	dropAll(t, ctx, db)
	if err := Create(ctx, db); err != nil {
		t.Fatal(err)
	}
}
