// Package schema holds the tables and views of deeptape, makes them, and says
// whether a database has them as they must be.
//
// It must never change or drop a table: Create only adds what is missing, and Check only
// reads. A difference is named together with the statement that heals it, for a person to
// run. A view holds no data, so Create gives one of ours that has another text the text of
// this package: an older version's may mislead its readers.
//
// Invariants: the .sql files are the one place where the shape is written; what
// Check expects is read from them. A table without DEDUP, or of another shape,
// never passes: a batch sent twice would be stored twice.
package schema

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"deeptape/ilp/qdb"
)

//go:embed tables.sql
var tablesSQL string

//go:embed views.sql
var viewsSQL string

// SQL is the whole DDL with a prefix before all names, with comments, as a person would
// run it.
func SQL(prefix string) string { return prefixed(prefix, tablesSQL+"\n"+viewsSQL) }

// Table is the shape of a table.
type Table struct {
	Name        string
	Columns     []Column
	Timestamp   string // the designated timestamp
	PartitionBy string
	Keys        []string // of DEDUP
	DDL         string
}

// Column is a column of a table.
type Column struct{ Name, Type string }

// View is a view: its name, and the query without the parentheses around it.
type View struct{ Name, Query, DDL string }

// Tables are the shapes that the .sql files describe, in their order.
func Tables() []Table { return tables }

var (
	tables = mustParse(tablesSQL, parseTable)
	views  = mustParse(viewsSQL, parseView)
)

// Create makes the tables and views that are missing, and replaces views of another text. A
// table that is there stays as it is, whatever its shape: call Check afterwards.
func Create(ctx context.Context, db *qdb.DB) error {
	shapes := of(db)
	if err := inTheWay(ctx, db, shapes); err != nil {
		return err
	}
	for _, t := range shapes.tables {
		if err := db.Exec(ctx, t.DDL); err != nil {
			return fmt.Errorf("cannot create table %q: %w", t.Name, err)
		}
	}
	texts, err := viewTexts(ctx, db)
	if err != nil {
		return err
	}
	for _, v := range shapes.views {
		ddl := v.DDL
		if text, ok := texts[v.Name]; ok && oneLine(text) != oneLine(v.Query) {
			ddl = v.replacing()
		}
		if err := db.Exec(ctx, ddl); err != nil {
			var mismatch *MismatchError // over a table of another shape: QuestDB says it in other words
			if shape := CheckTables(ctx, db); errors.As(shape, &mismatch) {
				return mismatch
			}
			return fmt.Errorf("cannot create view %q: %w", v.Name, err)
		}
	}
	return nil
}

// replacing is the statement that makes the view, whatever its text was.
func (v View) replacing() string {
	return "CREATE OR REPLACE VIEW " + v.Name + " AS (" + oneLine(v.Query) + ")"
}

// viewTexts are the queries of all views of a database, by name.
func viewTexts(ctx context.Context, db *qdb.DB) (map[string]string, error) {
	have, err := db.Query(ctx, "SELECT view_name, view_sql FROM views()", "view_name", "view_sql")
	if err != nil {
		return nil, fmt.Errorf("cannot list the views: %w", err)
	}
	texts := map[string]string{}
	for i := range have.Len() {
		texts[have.Text(i, "view_name")] = have.Text(i, "view_sql")
	}
	return texts, nil
}

// mustParse reads the embedded files, which the tests read as well: a mistake
// there cannot leave the building.
func mustParse[T any](sql string, parse func(string) (T, error)) []T {
	var all []T
	for _, statement := range split(sql) {
		one, err := parse(statement)
		if err != nil {
			panic(fmt.Sprintf("BUG: embedded DDL: %v in %q", err, statement))
		}
		all = append(all, one)
	}
	return all
}

// split takes SQL text apart into statements without comments. A comment is a
// whole line, and no text literal of ours holds a semicolon.
func split(sql string) []string {
	var kept strings.Builder
	for line := range strings.Lines(sql) {
		if !strings.HasPrefix(strings.TrimSpace(line), "--") {
			kept.WriteString(line)
		}
	}
	var statements []string
	for s := range strings.SplitSeq(kept.String(), ";") {
		if s = strings.TrimSpace(s); s != "" {
			statements = append(statements, s)
		}
	}
	return statements
}

// parseTable reads the form of CREATE TABLE that tables.sql uses, and no other.
func parseTable(ddl string) (Table, error) {
	t := Table{DDL: ddl}
	rest, ok := strings.CutPrefix(strings.Join(strings.Fields(ddl), " "), "CREATE TABLE IF NOT EXISTS ")
	name, rest, ok2 := strings.Cut(rest, " (")
	columns, rest, ok3 := strings.Cut(rest, ") TIMESTAMP(")
	timestamp, rest, ok4 := strings.Cut(rest, ") PARTITION BY ")
	partition, rest, ok5 := strings.Cut(rest, " WAL DEDUP UPSERT KEYS(")
	keys, rest, ok6 := strings.Cut(rest, ")")
	if !(ok && ok2 && ok3 && ok4 && ok5 && ok6) || rest != "" {
		return t, fmt.Errorf("not in the form of a table")
	}
	t.Name, t.Timestamp, t.PartitionBy = name, timestamp, partition
	t.Keys = strings.Split(keys, ", ")
	for c := range strings.SplitSeq(columns, ",") {
		name, typ, ok := strings.Cut(strings.TrimSpace(c), " ")
		if !ok {
			return t, fmt.Errorf("column %q has no type", c)
		}
		t.Columns = append(t.Columns, Column{name, typ})
	}
	return t, nil
}

func parseView(ddl string) (View, error) {
	rest, ok := strings.CutPrefix(ddl, "CREATE VIEW IF NOT EXISTS ")
	name, query, ok2 := strings.Cut(rest, " AS (")
	query, ok3 := strings.CutSuffix(query, ")")
	if !(ok && ok2 && ok3) {
		return View{}, fmt.Errorf("not in the form of a view")
	}
	return View{Name: name, Query: query, DDL: ddl}, nil
}
