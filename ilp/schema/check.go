package schema

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"deeptape/ilp/qdb"
)

// Difference is one way in which a database is not as it must be.
type Difference struct {
	Name string // of the table or view
	What string
	Heal string // the statement that heals it
}

func (d Difference) String() string {
	return fmt.Sprintf("%s: %s; heal it with: %s;", d.Name, d.What, d.Heal)
}

// MismatchError lists every difference that Check found.
type MismatchError struct{ Differences []Difference }

func (e *MismatchError) Error() string {
	var b strings.Builder
	b.WriteString("the database is not as deeptape needs it:")
	for _, d := range e.Differences {
		b.WriteString("\n  " + d.String())
	}
	return b.String()
}

// Check compares the tables and views of a database with those of this package.
// Further tables, views and columns are nobody's fault. The error is a
// *MismatchError, or whatever kept QuestDB from answering.
func Check(ctx context.Context, db *qdb.DB) error { return check(ctx, db, checks{views: true}) }

// CheckExact is Check for a person who asks for every difference: a further column in
// one of the tables is one, too. It keeps nobody from writing, so that it is no reason
// for an agent to refuse the database.
func CheckExact(ctx context.Context, db *qdb.DB) error {
	return check(ctx, db, checks{views: true, surplus: true})
}

// CheckTables compares the tables only: it is what must hold before a row is
// sent. A view of another text misleads no writer.
func CheckTables(ctx context.Context, db *qdb.DB) error { return check(ctx, db, checks{}) }

// checks are what is compared beyond what a writer needs.
type checks struct{ views, surplus bool }

func check(ctx context.Context, db *qdb.DB, also checks) error {
	there, err := db.Query(ctx, "SELECT table_name, designatedTimestamp, partitionBy, walEnabled, dedup, table_type FROM tables()",
		"table_name", "designatedTimestamp", "partitionBy", "walEnabled", "dedup", "table_type")
	if err != nil {
		return fmt.Errorf("cannot list the tables: %w", err)
	}
	row := map[string]int{}
	for i := range there.Len() {
		row[there.Text(i, "table_name")] = i
	}
	var found []Difference
	shapes := of(db)
	for _, t := range shapes.tables {
		i, ok := row[t.Name]
		if !ok {
			found = append(found, Difference{t.Name, "the table is missing", oneLine(t.DDL)})
			continue
		}
		differences, err := checkTable(ctx, db, t, there, i, also.surplus)
		if err != nil {
			return err
		}
		found = append(found, differences...)
	}
	if also.views {
		differences, err := checkViews(ctx, db, shapes.views, there, row)
		if err != nil {
			return err
		}
		found = append(found, differences...)
	}
	if len(found) > 0 {
		return &MismatchError{found}
	}
	return nil
}

// kinds names the letters of tables().table_type that are not a table.
var kinds = map[string]string{"V": "VIEW", "M": "MATERIALIZED VIEW"}

func checkTable(ctx context.Context, db *qdb.DB, t Table, there *qdb.Result, row int, surplus bool) ([]Difference, error) {
	if kind := kinds[there.Text(row, "table_type")]; kind != "" {
		return []Difference{{t.Name, "it is a " + strings.ToLower(kind) + ", not a table", "DROP " + kind + " " + t.Name}}, nil
	}
	has, err := db.Query(ctx, "SHOW COLUMNS FROM "+t.Name, "column", "type", "designated", "upsertKey")
	if err != nil {
		return nil, fmt.Errorf("cannot list the columns of table %q: %w", t.Name, err)
	}
	var found []Difference
	say := func(heal, what string, args ...any) {
		found = append(found, Difference{t.Name, fmt.Sprintf(what, args...), heal})
	}
	// What is laid down when a table is made can only be healed by a new table;
	// the old one keeps its rows under another name.
	anew := "RENAME TABLE " + t.Name + " TO " + t.Name + "_old"
	column := map[string]int{}
	var keys []string
	for i := range has.Len() {
		column[has.Text(i, "column")] = i
		if has.Bool(i, "upsertKey") {
			keys = append(keys, has.Text(i, "column"))
		}
	}
	if got := there.Text(row, "designatedTimestamp"); got != t.Timestamp {
		say(anew, "the designated timestamp is %q, not %q", got, t.Timestamp)
	}
	if got := there.Text(row, "partitionBy"); got != t.PartitionBy {
		say(anew, "it is partitioned by %s, not %s", got, t.PartitionBy)
	}
	for _, c := range t.Columns {
		i, ok := column[c.Name]
		switch {
		case !ok && c.Name == t.Timestamp:
			say(anew, "column %q is missing", c.Name)
		case !ok:
			say("ALTER TABLE "+t.Name+" ADD COLUMN "+c.Name+" "+c.Type, "column %q is missing", c.Name)
		case has.Text(i, "type") == c.Type:
		case convertible(has.Text(i, "type"), c.Type) && !has.Bool(i, "designated") && !has.Bool(i, "upsertKey"):
			say("ALTER TABLE "+t.Name+" ALTER COLUMN "+c.Name+" TYPE "+c.Type, "column %q is %s, not %s", c.Name, has.Text(i, "type"), c.Type)
		default:
			say(anew, "column %q is %s, not %s", c.Name, has.Text(i, "type"), c.Type)
		}
	}
	for i := range has.Len() {
		name := has.Text(i, "column")
		ours := slices.ContainsFunc(t.Columns, func(c Column) bool { return c.Name == name })
		if surplus && !ours && name != there.Text(row, "designatedTimestamp") { // that one has been named
			say("ALTER TABLE "+t.Name+" DROP COLUMN "+name, "column %q is surplus: nothing of deeptape fills or reads it (the statement deletes what is in it; it may as well stay)", name)
		}
	}
	wal := there.Bool(row, "walEnabled")
	if !wal {
		if there.Text(row, "partitionBy") == "NONE" {
			say(anew, "it has no WAL")
		} else {
			say("ALTER TABLE "+t.Name+" SET TYPE WAL", "it has no WAL (the statement works at the next start of QuestDB)")
		}
	}
	if dedup := there.Bool(row, "dedup"); !dedup || !sameSet(keys, t.Keys) {
		heal := "ALTER TABLE " + t.Name + " DEDUP ENABLE UPSERT KEYS(" + strings.Join(t.Keys, ", ") + ")"
		if !dedup {
			say(heal, "it has no DEDUP, rows sent twice would be stored twice")
		} else {
			say(heal, "its DEDUP keys are (%s), not (%s)", strings.Join(keys, ", "), strings.Join(t.Keys, ", "))
		}
	}
	return found, nil
}

func checkViews(ctx context.Context, db *qdb.DB, views []View, there *qdb.Result, row map[string]int) ([]Difference, error) {
	query, err := viewTexts(ctx, db)
	if err != nil {
		return nil, err
	}
	var found []Difference
	for _, v := range views {
		got, isView := query[v.Name]
		i, exists := row[v.Name]
		switch {
		case !isView && exists && there.Text(i, "table_type") == "M":
			found = append(found, Difference{v.Name, "it is a materialized view, not a view", "DROP MATERIALIZED VIEW " + v.Name})
		case !isView && exists:
			found = append(found, Difference{v.Name, "it is a table, not a view", "RENAME TABLE " + v.Name + " TO " + v.Name + "_old"})
		case !isView:
			found = append(found, Difference{v.Name, "the view is missing", oneLine(v.DDL)})
		case oneLine(got) != oneLine(v.Query):
			found = append(found, Difference{v.Name, "the view has another text", v.replacing()})
		}
	}
	return found, nil
}

// convertible says whether QuestDB 9.3.4 has a way from one column type to
// another; it has none to or from arrays.
func convertible(from, to string) bool {
	return !strings.Contains(from, "[") && !strings.Contains(to, "[")
}

func sameSet(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
