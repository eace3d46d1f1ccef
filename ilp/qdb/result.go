package qdb

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Column is a column of a result: its name, and QuestDB's name of its type.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// Result is a whole result. A cell is nil, bool, string, json.Number (the digits
// as QuestDB wrote them) or []any for an array. Times are strings in ISO form.
type Result struct {
	Columns []Column
	Rows    [][]any
}

// Len is the number of rows.
func (r *Result) Len() int { return len(r.Rows) }

// cell panics on a column that the caller of Query has not named and the answer does not
// have: Query has refused an answer without one that was named.
func (r *Result) cell(row int, column string) any {
	for i, c := range r.Columns {
		if c.Name == column {
			return r.Rows[row][i]
		}
	}
	panic(fmt.Sprintf("BUG: no column %q in a result of %v", column, r.Columns))
}

// Null says whether a cell is null.
func (r *Result) Null(row int, column string) bool { return r.cell(row, column) == nil }

// Int is a whole number, exact; false if the cell is null or no whole number.
func (r *Result) Int(row int, column string) (int64, bool) {
	n, ok := r.cell(row, column).(json.Number)
	if !ok {
		return 0, false
	}
	v, err := n.Int64()
	return v, err == nil
}

// Float is a DOUBLE; false if the cell is null or no number.
func (r *Result) Float(row int, column string) (float64, bool) {
	n, ok := r.cell(row, column).(json.Number)
	if !ok {
		return 0, false
	}
	v, err := n.Float64()
	return v, err == nil
}

// Text is the cell as text, empty for null. Numbers keep their digits.
func (r *Result) Text(row int, column string) string {
	switch v := r.cell(row, column).(type) {
	case nil:
		return ""
	case string:
		return v
	case json.Number:
		return v.String()
	case bool:
		return fmt.Sprint(v)
	default:
		text, _ := json.Marshal(v)
		return string(text)
	}
}

// Bool is a BOOLEAN; false for anything else.
func (r *Result) Bool(row int, column string) bool {
	v, _ := r.cell(row, column).(bool)
	return v
}

// Time is a TIMESTAMP or TIMESTAMP_NS in ns since 1970; false if it is null.
func (r *Result) Time(row int, column string) (ns int64, ok bool) {
	s, ok := r.cell(row, column).(string)
	if !ok {
		return 0, false
	}
	ns, err := ParseTime(s)
	return ns, err == nil
}

// ParseTime reads a time as QuestDB prints it, in ns since 1970.
func ParseTime(s string) (ns int64, err error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return 0, fmt.Errorf("cannot read time %q: %w", s, err)
	}
	return t.UnixNano(), nil
}

// FormatTime writes a time of ns since 1970 for use in SQL, quotes included.
func FormatTime(ns int64) string {
	return "'" + time.Unix(0, ns).UTC().Format("2006-01-02T15:04:05.000000000Z") + "'"
}

// Quote writes a text as an SQL literal.
func Quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
