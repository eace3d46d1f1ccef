package event

// Table is a table of the database that row records go to.
type Table uint8

// The tables. The first NumBulkTables take rows by the thousand, which ilp/line writes;
// the others take a few, which the database's own client writes.
const (
	TableBookDelta Table = iota
	TableBookTop
	TableQuotes
	TableTrades
	TableBookDepth
	TableCoverage
	TableInstruments
	NumTables

	NumBulkTables = TableCoverage
)

var tableNames = [NumTables]string{"book_delta", "book_top", "quotes", "trades", "book_depth", "coverage", "instruments"}

// String is the table's name in the database, without the prefix that it may have there.
func (t Table) String() string { return tableNames[t] }

// tableOf is by RowKind; NumTables where no row is of that kind.
var tableOf = [...]Table{
	0: NumTables, 7: NumTables,
	RowBook: TableBookDelta, RowTop: TableBookTop, RowQuote: TableQuotes, RowTrade: TableTrades,
	RowDepth: TableBookDepth, RowCoverage: TableCoverage, RowInst: TableInstruments,
}

// Table is where rows of the kind go. ok is false for a number that is no kind.
func (k RowKind) Table() (t Table, ok bool) {
	if int(k) >= len(tableOf) || tableOf[k] == NumTables {
		return 0, false
	}
	return tableOf[k], true
}
