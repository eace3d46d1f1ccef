package schema

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"deeptape/ilp/qdb"
)

// shapes are the tables and views of one prefix.
type shapes struct {
	tables []Table
	views  []View
}

// of the database that is asked.
func of(db *qdb.DB) shapes {
	prefix := db.Conf().TablePrefix
	if prefix == "" {
		return shapes{tables, views}
	}
	return shapes{mustParse(prefixed(prefix, tablesSQL), parseTable), mustParse(prefixed(prefix, viewsSQL), parseView)}
}

// named finds the tables and views of ours in the .sql files: a name stands behind one of
// these words, or between them and a parenthesis, and nowhere else. A column or a literal
// of the same name ('trades') stays.
var named = regexp.MustCompile(`\b((?:TABLE|VIEW) IF NOT EXISTS |(?:FROM|JOIN) \(?)(` + strings.Join(names(), "|") + `)\b`)

func names() (all []string) {
	for _, t := range tables {
		all = append(all, t.Name)
	}
	for _, v := range views {
		all = append(all, v.Name)
	}
	return all
}

func prefixed(prefix, sql string) string {
	if prefix == "" {
		return sql
	}
	return named.ReplaceAllString(sql, "${1}"+prefix+"${2}")
}

var goodPrefix = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,31}$`)

// CheckPrefix refuses a prefix that is no beginning of a name, or that makes of one of our
// names another of them ("book_" of the view top, which is the table book_top where there
// is no prefix): two sets of tables in one database must not meet.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	if !goodPrefix.MatchString(prefix) {
		return fmt.Errorf("%q is not a prefix of table names; write up to 32 letters, digits and _, such as dt_", prefix)
	}
	for _, n := range names() {
		if slices.Contains(names(), strings.ToLower(prefix)+n) {
			return fmt.Errorf("%q before %q is the name of another table of ours; write another, such as dt_", prefix, n)
		}
	}
	return nil
}

// InTheWayError is a table or view of somebody else that has a name of ours.
type InTheWayError struct {
	Name  string
	Ours  string   // table or view: what was to be there
	Is    string   // table, view, materialized view
	Shape []string // its columns, "name TYPE"
}

func (e *InTheWayError) Error() string {
	return fmt.Sprintf("a %s of somebody else is in the way: deeptape needs a %s named %q, and what has that name has the columns (%s). Nothing was changed. "+
		"Let `questdb` name another database, or set `table_prefix`, such as table_prefix: dt_, in the configuration", e.Is, e.Ours, e.Name, strings.Join(e.Shape, ", "))
}

// inTheWay looks for what is not ours and has a name of ours: of a table, what is no table
// or lacks most of our columns; of a view, a table. A table of ours that an earlier or a
// later version made has most of them, and is for Check to judge.
func inTheWay(ctx context.Context, db *qdb.DB, ours shapes) error {
	there, err := db.Query(ctx, "SELECT table_name, table_type FROM tables()", "table_name", "table_type")
	if err != nil {
		return fmt.Errorf("cannot list the tables: %w", err)
	}
	kind := map[string]string{}
	for i := range there.Len() {
		kind[there.Text(i, "table_name")] = there.Text(i, "table_type")
	}
	for _, t := range ours.tables {
		if k, ok := kind[t.Name]; ok {
			if err := stranger(ctx, db, t.Name, "table", k, t.Columns); err != nil {
				return err
			}
		}
	}
	for _, v := range ours.views {
		if k, ok := kind[v.Name]; ok && k != "V" {
			if err := stranger(ctx, db, v.Name, "view", k, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

func stranger(ctx context.Context, db *qdb.DB, name, what, kind string, columns []Column) error {
	has, err := db.Query(ctx, "SHOW COLUMNS FROM "+name, "column", "type")
	if err != nil {
		return fmt.Errorf("cannot list the columns of table %q: %w", name, err)
	}
	is := strings.ToLower(kinds[kind])
	if is == "" {
		is = "table"
	}
	e := &InTheWayError{Name: name, Ours: what, Is: is}
	shared := 0
	for i := range has.Len() {
		column := has.Text(i, "column")
		e.Shape = append(e.Shape, column+" "+has.Text(i, "type"))
		if slices.ContainsFunc(columns, func(c Column) bool { return c.Name == column }) {
			shared++
		}
	}
	if what == is && 2*shared >= len(columns) {
		return nil
	}
	return e
}
