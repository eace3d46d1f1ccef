package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// The three queries of the README, with their answers.
var demoQueries = []struct{ title, sql string }{
	{"The market second by second: mid, spread and imbalance at the touch",
		`SELECT ts, last(mid) mid, avg(spread) spread, avg(imbalance) imbalance, count() changes
FROM top WHERE venue = 'binance' AND symbol = 'BTCUSDT' AND bid IS NOT NULL
SAMPLE BY 1s LIMIT -5`},
	{"The whole book at an instant: its best five bids",
		`SELECT side, price, size FROM (
  DECLARE @at := '{at}', @venue := 'binance', @symbol := 'BTCUSDT'
  SELECT * FROM book) WHERE side = 'bid' ORDER BY px DESC LIMIT 5`},
	{"Each trade against the proven book before it: what takers paid beyond the mid",
		`SELECT t.venue, t.symbol, t.side, count() trades, sum(t.size) size, avg(t.price - q.mid) beyond_mid
FROM trade t ASOF JOIN top_verified q ON (venue, symbol)
GROUP BY t.venue, t.symbol, t.side ORDER BY t.venue, t.symbol, t.side`},
}

// ask prints the queries and what the database answers.
func ask(ctx context.Context, conf string) error {
	res, err := query(ctx, conf, "SELECT max(ts) at FROM book_delta WHERE venue = 'binance' AND symbol = 'BTCUSDT'", "at")
	if err != nil {
		return err
	}
	if res.Len() == 0 {
		return errors.New("QuestDB has answered no row to a maximum: does something else answer in its place?")
	}
	last, _ := res.Time(0, "at")
	at := time.Unix(0, last).Add(-time.Second).UTC().Format(time.RFC3339Nano)
	for _, q := range demoQueries {
		sql := strings.ReplaceAll(q.sql, "{at}", at)
		start := time.Now()
		res, err := query(ctx, conf, sql)
		if err != nil {
			return err
		}
		fmt.Printf("\n%s (%d ms)\n\n    %s\n\n", q.title, time.Since(start).Milliseconds(), strings.ReplaceAll(sql, "\n", "\n    "))
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		for _, c := range res.Columns {
			fmt.Fprintf(w, "    %s\t", c.Name)
		}
		fmt.Fprintln(w)
		for i := range res.Len() {
			for j := range res.Columns {
				fmt.Fprintf(w, "    %v\t", res.Rows[i][j])
			}
			fmt.Fprintln(w)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}
