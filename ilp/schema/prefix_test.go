package schema

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"deeptape/cmd/localdb/dbtest"
	"deeptape/ilp/qdb"
)

// With a prefix nothing of ours is named without it, and nothing but names has it.
func TestPrefixedText(t *testing.T) {
	text := SQL("dt_")
	if strings.ReplaceAll(text, "dt_", "") != SQL("") {
		t.Error("the prefix changes more than it adds")
	}
	for _, statement := range split(text) {
		for _, n := range names() {
			for _, at := range regexp.MustCompile(`(FROM|JOIN|TABLE|VIEW|EXISTS)[ (]+`+n+`\b`).FindAllString(statement, -1) {
				t.Errorf("%q in %.60q", at, statement)
			}
			if regexp.MustCompile(`'dt_`).MatchString(statement) {
				t.Errorf("a literal has the prefix: %.60q", statement)
			}
		}
	}
	for bad, good := range map[string]string{"1x": "x1", "book_": "books_", "Book_": "b_", "a-b": "a_b", "x y": "xy", `"`: ""} {
		if CheckPrefix(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
		if err := CheckPrefix(good); err != nil {
			t.Error(err)
		}
	}
}

// Two sets of tables in one database, each with its views and checked by itself; and what
// belongs to somebody else is named, with its shape and what to do, and is left alone.
func TestPrefixesSideBySide(t *testing.T) {
	addr := dbtest.Start(t)
	ctx := context.Background()
	open := func(prefix string) *qdb.DB {
		conf, err := qdb.ParseConf("http::addr=" + addr + ";")
		if err != nil {
			t.Fatal(err)
		}
		conf.TablePrefix = prefix
		return qdb.Open(conf)
	}
	zero, one := open("zero_"), open("one_")
	for _, db := range []*qdb.DB{zero, one} {
		if err := Create(ctx, db); err != nil {
			t.Fatal(err)
		}
	}
	if err := one.Exec(ctx, "INSERT INTO one_trades (ts, venue, symbol, side, px, qty, px_scale, qty_scale) VALUES (1::timestamp_ns, 'v', 's', 'buy', 12, 3, 1, 0)"); err != nil {
		t.Fatal(err)
	}
	for range 200 { // the WAL
		res, err := one.Query(ctx, "SELECT price FROM one_trade")
		if err != nil {
			t.Fatal(err)
		}
		if res.Len() == 1 {
			break
		}
	}
	for db, want := range map[*qdb.DB]int{one: 1, zero: 0} {
		res, err := db.Query(ctx, "SELECT * FROM "+db.Table("trade"))
		if err != nil || res.Len() != want {
			t.Errorf("%s: %v %v, want %d rows", db.Table("trade"), res, err, want)
		}
		if err := CheckExact(ctx, db); err != nil {
			t.Error(err)
		}
	}

	two := open("two_")
	if err := two.Exec(ctx, "CREATE TABLE two_trades (at TIMESTAMP, price DOUBLE)"); err != nil {
		t.Fatal(err)
	}
	err := Create(ctx, two)
	var stranger *InTheWayError
	if !errors.As(err, &stranger) || stranger.Name != "two_trades" || !slices.Equal(stranger.Shape, []string{"at TIMESTAMP", "price DOUBLE"}) || !strings.Contains(err.Error(), "table_prefix") {
		t.Errorf("a table in the way: %v", err)
	}
	three := open("three_")
	if err := three.Exec(ctx, "CREATE TABLE three_top (bid DOUBLE)"); err != nil {
		t.Fatal(err)
	}
	if err := Create(ctx, three); !errors.As(err, &stranger) || stranger.Name != "three_top" || stranger.Ours != "view" {
		t.Errorf("a table where a view of ours belongs: %v", err)
	}
	res, err := three.Query(ctx, "SELECT table_name FROM tables() WHERE table_name LIKE 'two_%' OR table_name LIKE 'three_%'")
	if err != nil || res.Len() != 2 {
		t.Errorf("%d tables after what was refused: %v", res.Len(), err)
	}
}
