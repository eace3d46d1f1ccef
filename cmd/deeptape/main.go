// Command deeptape records order books, quotes and trades of crypto venues into
// QuestDB, and proves for every symbol and instant whether the record is complete.
//
// This package is wiring only: one short file per subcommand.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"deeptape/cmd/localdb"
)

var cli struct {
	Capture  captureCmd  `cmd:"" help:"Record until Ctrl-C: deeptape capture binance:BTCUSDT,ETHUSDT"`
	Sim      simCmd      `cmd:"" help:"Serve simulated venues on loopback, from a seed or a recording"`
	Demo     demoCmd     `cmd:"" help:"Do the main job with nothing to set up: database, simulated venue, capture, verify"`
	DB       dbCmd       `cmd:"" name:"db" help:"Start, stop or look at a local QuestDB of our own"`
	Replay   replayCmd   `cmd:"" help:"Derive rows from a journal again and deliver them"`
	Verify   verifyCmd   `cmd:"" help:"Prove what QuestDB holds; exit 0 only if all that is called verified is proven"`
	Coverage coverageCmd `cmd:"" help:"Show what is verified, unverified or missing, per symbol"`
	Fsck     fsckCmd     `cmd:"" help:"Check a journal; with --repair cut damaged records out"`
	Schema   schemaCmd   `cmd:"" help:"Print the tables and views, or compare them with the database"`

	LogLevel slog.Level `help:"Least level of log lines on standard error: debug, info, warn, error." default:"info"`
}

// usageError makes the exit code 2: wrong usage or configuration.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// errFailed ends with 1 where everything has been said already.
var errFailed = errors.New("")

func main() {
	parser := kong.Must(&cli,
		kong.Name("deeptape"),
		kong.Description("Records every change of order books into QuestDB, and proves what it recorded."),
		kong.Vars{"dbdir": localdb.DefaultDir()},
		kong.WithHyphenPrefixedParameters(true), // --from -1h
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Exit(func(code int) {
			if code != 0 {
				code = 2
			}
			os.Exit(code)
		}),
	)
	if len(os.Args) < 2 {
		os.Args = append(os.Args, "--help")
	}
	k, err := parser.Parse(os.Args[1:])
	parser.FatalIfErrorf(err)

	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: cli.LogLevel}))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	go func() { // a second signal ends the process at once
		<-ctx.Done()
		stop()
	}()
	k.BindTo(ctx, (*context.Context)(nil))
	k.Bind(log)
	if err := k.Run(); err != nil {
		if err.Error() != "" {
			fmt.Fprintln(os.Stderr, "deeptape: "+err.Error())
		}
		var usage usageError
		if errors.As(err, &usage) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}
