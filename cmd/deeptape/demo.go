package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"deeptape/cmd/agent"
	"deeptape/cmd/config"
	"deeptape/cmd/localdb"
	"deeptape/hotpath/event"
	"deeptape/ilp/qdb"
)

type demoCmd struct {
	Keep bool          `help:"Go on recording after the proof, until Ctrl-C, and print the addresses to look at."`
	For  time.Duration `help:"How long to record." default:"20s"`
	Seed uint64        `help:"Seed of the simulated market." default:"1"`
}

// demoMarkets are what the demo records.
var demoMarkets = []string{"binance:BTCUSDT,ETHUSDT,SOLUSDT", "coinbase:BTC-USD", "kraken:BTC/USD", "okx:BTC-USDT", "bybit:BTCUSDT"}

func (c *demoCmd) Run(ctx context.Context, _ *slog.Logger) (err error) {
	dir, err := os.MkdirTemp("", "deeptape-demo-")
	if err != nil {
		return fmt.Errorf("cannot make a folder for the demo: %w", err)
	}
	// The agent's log goes to a file: the demo says what matters.
	logFile, err := os.Create(filepath.Join(dir, "agent.log"))
	if err != nil {
		return fmt.Errorf("cannot make the demo's log: %w", err)
	}
	log := slog.New(slog.NewTextHandler(logFile, nil))
	defer func() {
		logFile.Close()
		if err != nil && !errors.Is(err, context.Canceled) {
			fmt.Printf("\nThe demo has failed. Its log and journal stay in %s\n", dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()

	say("database", "a QuestDB %s of its own, in %s", localdb.Version, dir)
	db, err := localdb.Start(ctx, filepath.Join(dir, "questdb"), localdb.Options{Log: prefixed{os.Stdout}})
	defer func() { // also after a failure: nothing stays behind
		_, stopErr := localdb.Stop(filepath.Join(dir, "questdb"))
		err = errors.Join(err, stopErr)
	}()
	if err != nil {
		return err
	}

	markets := &simCmd{Symbols: demoMarkets, Seed: c.Seed, Speed: 1, Addr: "127.0.0.1:0"}
	sim, err := markets.start(true)
	if err != nil {
		return err
	}
	defer sim.Close()
	say("venues", "simulated at %s, in one world (seed %d): %s", sim.Addr(), c.Seed, strings.Join(demoMarkets, " "))
	fmt.Print(markets.follows("           "))

	cfg, err := config.Parse("demo", []byte(simConfig(sim)))
	if err != nil {
		return err
	}
	cfg.QuestDB, cfg.Journal.Dir, cfg.Listen = db.Conf(), filepath.Join(dir, "journal"), "127.0.0.1:0"
	stats, err := c.record(ctx, cfg, log, c.For, false)
	if err != nil {
		return err
	}
	if err := prove(ctx, cfg, stats, log); err != nil {
		return err
	}
	if err := ask(ctx, db.Conf()); err != nil {
		return err
	}
	if c.Keep && ctx.Err() == nil {
		fmt.Printf("\nRecording goes on until Ctrl-C.\n  QuestDB console  http://%s\n  psql             psql -h 127.0.0.1 -p %s -U admin qdb   (password quest)\n  log              %s\n", db.HTTP, port(db.PG), logFile.Name())
		if _, err := c.record(ctx, cfg, log, 0, true); err != nil {
			return err
		}
	}
	return nil
}

func say(what, format string, args ...any) {
	fmt.Printf("%-10s %s\n", what, fmt.Sprintf(format, args...))
}

// prefixed indents another part's progress lines.
type prefixed struct{ w io.Writer }

func (p prefixed) Write(b []byte) (int, error) {
	fmt.Fprintf(p.w, "           %s", b)
	return len(b), nil
}

func port(addr string) string {
	for i := len(addr) - 1; i >= 0; i-- {
		if addr[i] == ':' {
			return addr[i+1:]
		}
	}
	return addr
}

// record runs an agent for a time, or until ctx ends, and returns its last status.
func (c *demoCmd) record(ctx context.Context, cfg config.Config, log *slog.Logger, runFor time.Duration, quiet bool) (agent.Status, error) {
	a, err := agent.New(ctx, agent.Options{Config: cfg, Log: log, Machine: thisMachine()})
	if err != nil {
		return agent.Status{}, err
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	if runFor > 0 {
		run, stop = context.WithTimeout(ctx, runFor)
		defer stop()
	}
	done := make(chan error, 1)
	go func() { done <- a.Run(run) }()
	addr := ""
	for {
		select {
		case err := <-done:
			st := a.Status()
			if ctx.Err() != nil && !quiet {
				return st, context.Canceled
			}
			return st, err
		case <-time.After(2 * time.Second):
		}
		if addr == "" {
			addr = a.StatusAddr()
			if quiet {
				fmt.Printf("  status page      http://%s\n", addr)
			} else {
				say("capture", "status page http://%s while it lasts", addr)
			}
		}
		if !quiet {
			st := a.Status()
			say("capture", "%3.0f s: %d frames, %d rows in QuestDB, %d inputs behind", float64(st.NowNs-st.StartedNs)/1e9, st.Frames["received"], acknowledged(st), st.LagInputs)
		}
	}
}

func acknowledged(st agent.Status) (n uint64) {
	for _, r := range st.Rows {
		n += r.Acked
	}
	return n
}

// prove verifies what was recorded and prints the books.
func prove(ctx context.Context, cfg config.Config, st agent.Status, log *slog.Logger) error {
	say("verify", "every row against the database's own chains, and against the journal; per cents are of the time since the start")
	report, err := agent.Verify(ctx, cfg, true, 0, 0, log, prefixed{os.Stdout})
	if err != nil {
		return err
	}
	fmt.Println()
	if err := report.WriteText(os.Stdout); err != nil {
		return err
	}
	if !report.OK() {
		return errors.New("what was recorded could not be proven")
	}
	fmt.Printf("\n%-12s %12s %14s\n", "table", "derived", "acknowledged")
	for t := range event.NumTables {
		fmt.Printf("%-12s %12d %14d\n", t, st.Rows[t.String()].Derived, st.Rows[t.String()].Acked)
	}
	fmt.Println()
	for _, l := range st.Latency {
		fmt.Printf("latency  %-28s p50 %10s  p99 %10s  max %10s\n", l.Stage, time.Duration(l.P50Ns), time.Duration(l.P99Ns), time.Duration(l.MaxNs))
	}
	fmt.Println("         (venue_to_… is by the venues' clocks, which are off as said above: it may be negative)")
	f := st.Frames
	fmt.Printf("ledger   frames: %d received = %d applied + %d stale + %d duplicate + %d control + %d buffered + %d lost + %d rejected; difference %d\n",
		f["received"], f["applied"], f["stale"], f["duplicate"], f["control"], f["buffered"], f["lost"], rejected(f), st.LedgerDifference)
	if st.LedgerDifference != 0 {
		return errors.New("the ledger does not balance")
	}
	return verified(ctx, cfg)
}

func rejected(f map[string]int64) (n int64) {
	for name, v := range f {
		if len(name) > 9 && name[:9] == "rejected_" {
			n += v
		}
	}
	return n
}

// verified fails unless every stream that anything proves is verified from its first proof
// to the stop, the book of every symbol among them. The per cents that verify prints are of
// all the time since the start, before the first proof included.
func verified(ctx context.Context, cfg config.Config) error {
	res, err := query(ctx, cfg.QuestDB, `SELECT venue, symbol, stream, 100.0 * sum(CASE WHEN state = 'verified' THEN span ELSE 0 END) / sum(span) percent FROM (
  SELECT c.venue venue, c.symbol symbol, c.stream stream, c.state state, (c.ts_end - c.ts)::long + 1 span
  FROM coverage c JOIN (SELECT venue, symbol, stream, min(ts) first FROM coverage WHERE state = 'verified' GROUP BY venue, symbol, stream) v ON (venue, symbol, stream)
  WHERE c.ts >= v.first AND c.cause IS NULL OR c.ts >= v.first AND c.cause <> 'start') GROUP BY venue, symbol, stream ORDER BY venue, symbol, stream`, "venue", "symbol", "stream", "percent")
	if err != nil {
		return err
	}
	bad, books := false, 0
	for _, name := range cfg.VenueNames() {
		books += len(cfg.Venues[name].Symbols)
	}
	for i := range res.Len() {
		if percent, _ := res.Float(i, "percent"); percent != 100 {
			bad = true
			fmt.Printf("not proven from its first proof on: the %s of %s %s\n", res.Text(i, "stream"), res.Text(i, "venue"), res.Text(i, "symbol"))
		}
		if res.Text(i, "stream") == "book" {
			books--
		}
	}
	if !bad && books == 0 {
		fmt.Printf("\nunbroken  all %d streams that anything proves, every book among them, are verified from their first proof to the stop\n", res.Len())
		fmt.Println("          (quotes, and trades that a venue does not number, are recorded; nothing proves them)")
	}
	if bad || books != 0 {
		return errors.New("not everything after the first proof is verified")
	}
	return nil
}

func query(ctx context.Context, conf, sql string, columns ...string) (*qdb.Result, error) {
	c, err := qdb.ParseConf(conf)
	if err != nil {
		return nil, err
	}
	return qdb.Open(c).Query(ctx, sql, columns...)
}
