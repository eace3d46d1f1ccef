package line

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"testing"
	"time"

	"deeptape/cmd/localdb/dbtest"
	"deeptape/hotpath/event"
	"deeptape/ilp/line/linetest"
	"deeptape/ilp/qdb"
	"deeptape/ilp/schema"
)

// What a real QuestDB stored, read back through SQL, is what the records said.
// It is the only oracle for arrays, nulls and nanoseconds.
func TestLive(t *testing.T) {
	addr := dbtest.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	db := qdb.Open(qdb.Conf{Addr: addr})
	defer db.Close()
	if err := schema.Create(ctx, db); err != nil {
		t.Fatal(err)
	}
	if err := schema.CheckTables(ctx, db); err != nil {
		t.Fatal(err)
	}
	var tables []string
	for table := range event.NumBulkTables {
		tables = append(tables, table.String())
	}
	for _, name := range tables {
		if err := db.Exec(ctx, "TRUNCATE TABLE "+name); err != nil {
			t.Fatal(err)
		}
	}
	waitApplied(t, ctx, db)

	seed := testSeed(t)
	r := rand.New(rand.NewPCG(seed, 8))
	insts := []*Inst{mustInst(t, "binance", "BTCUSDT"), mustInst(t, "kraken", "BTC/USD"), mustInst(t, "odd venue", `a b,c=d\e"f`), mustInst(t, "b", "币安人生USDT")}
	bodies, want := map[string][]byte{}, map[string][]linetest.Row{}
	ts := int64(1760000000000000000)
	for range 2000 {
		s, inst := randomSample(r), insts[r.IntN(len(insts))]
		s.head.Ts = ts
		rows := s.rows(inst)
		ts += int64(len(rows)) + int64(r.IntN(1e9))
		table := rows[0].Table
		want[table] = append(want[table], rows...)
		bodies[table], _ = s.append(bodies[table], inst)
	}
	for _, name := range tables {
		for range 2 { // twice: DEDUP must absorb it
			resp, err := http.Post("http://"+addr+"/write", "", bytes.NewReader(bodies[name]))
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusNoContent {
				t.Fatalf("%s: %s %s", name, resp.Status, body)
			}
		}
	}
	waitApplied(t, ctx, db)
	for _, name := range tables {
		compareTable(t, ctx, db, name, want[name])
	}
}

func waitApplied(t *testing.T, ctx context.Context, db *qdb.DB) {
	t.Helper()
	for {
		lag, err := db.Query(ctx, "SELECT name, writerTxn, sequencerTxn FROM wal_tables() WHERE writerTxn <> sequencerTxn")
		if err != nil {
			t.Fatal(err)
		}
		if lag.Len() == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func compareTable(t *testing.T, ctx context.Context, db *qdb.DB, name string, want []linetest.Row) {
	t.Helper()
	columns, err := db.Query(ctx, "SHOW COLUMNS FROM "+name)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	err = db.Export(ctx, "SELECT * FROM "+name+" ORDER BY ts", func(row [][]byte) error {
		if n == len(want) {
			return fmt.Errorf("more than %d rows", n)
		}
		w := want[n]
		n++
		for i, cell := range row {
			column := columns.Text(i, "column")
			if wanted, got := cellText(&w, column, columns.Text(i, "type")), normalCell(t, cell, columns.Text(i, "type")); got != wanted {
				return fmt.Errorf("row %d, column %s is %s, want %s", n, column, got, wanted)
			}
		}
		return nil
	})
	if err == nil && n < len(want) {
		err = fmt.Errorf("%d rows, want %d", n, len(want))
	}
	if err != nil {
		t.Errorf("table %s: %v", name, err)
	}
}

// cellText is a value of the row as the comparison spells it.
func cellText(row *linetest.Row, column, typ string) string {
	if column == "ts" {
		return fmt.Sprint(row.Ts)
	}
	v := row.Get(column)
	if v == nil && (typ == "BYTE" || typ == "SHORT") {
		return "0" // these types have no null
	}
	switch a := v.(type) {
	case linetest.Matrix:
		v = [][]float64(a)
	case linetest.Vector:
		v = []float64(a)
	}
	return fmt.Sprintf("%v", v)
}

func normalCell(t *testing.T, cell []byte, typ string) string {
	t.Helper()
	var v any
	var err error
	switch {
	case cell == nil || typ[0] == 'D' && string(cell) == "null":
	case typ == "TIMESTAMP_NS":
		v, err = qdb.ParseTime(string(cell))
	case typ == "DOUBLE":
		v, err = strconv.ParseFloat(string(cell), 64)
	case typ == "DOUBLE[][]":
		var m [][]float64
		err = json.Unmarshal(cell, &m)
		v = m
	case typ == "DOUBLE[]":
		var a []any // null is a sum that is too large
		err = json.Unmarshal(cell, &a)
		sizes := make([]float64, len(a))
		for i := range a {
			var isNumber bool
			if sizes[i], isNumber = a[i].(float64); !isNumber {
				sizes[i] = null
			}
		}
		v = sizes
	default:
		v = string(cell)
	}
	if err != nil {
		t.Fatalf("cannot read %q as %s: %v", cell, typ, err)
	}
	return fmt.Sprintf("%v", v)
}
