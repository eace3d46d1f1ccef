package event

import "testing"

// TestTables: the names are those of the database, and each kind of row has its table.
func TestTables(t *testing.T) {
	for kind, want := range map[RowKind]string{
		RowBook: "book_delta", RowTop: "book_top", RowQuote: "quotes", RowTrade: "trades",
		RowDepth: "book_depth", RowCoverage: "coverage", RowInst: "instruments",
	} {
		table, ok := kind.Table()
		if !ok || table.String() != want {
			t.Errorf("rows of kind %d go to %q (%v), want %q", kind, table, ok, want)
		}
		if bulk := table < NumBulkTables; bulk != (kind != RowCoverage && kind != RowInst) {
			t.Errorf("%s is a bulk table: %v", want, bulk)
		}
	}
	for _, kind := range []RowKind{0, 7, 9, 255} {
		if table, ok := kind.Table(); ok {
			t.Errorf("%d is no kind, and goes to %q", kind, table)
		}
	}
}
