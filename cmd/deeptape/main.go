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
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"

	"deeptape/cmd/agent"
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

	LogLevel slog.Level       `help:"Least level of log lines on standard error: debug, info, warn, error." default:"info"`
	Version  kong.VersionFlag `help:"Print the version and exit."`
}

// usageError makes the exit code 2: wrong usage or configuration.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// errFailed ends with 1 where everything has been said already.
var errFailed = errors.New("")

// commandOf is how far the command line of a parse error makes sense: deeptape, or
// deeptape and a subcommand.
func commandOf(err error) string {
	var wrong *kong.ParseError
	if errors.As(err, &wrong) {
		if node := wrong.Context.Selected(); node != nil {
			return node.FullPath()
		}
	}
	return "deeptape"
}

// thisMachine is what an agent runs on.
func thisMachine() agent.Machine {
	m := agent.ThisMachine()
	m.Serves = localdb.Serves
	return m
}

// version says from what this binary was built.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "deeptape, of unknown version"
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = "of unknown version"
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v = s.Value
			}
		}
	}
	return "deeptape " + v + ", " + info.GoVersion
}

func main() {
	parser := kong.Must(&cli,
		kong.Name("deeptape"),
		kong.Description("Records every change of order books into QuestDB, and proves what it recorded."),
		kong.Vars{"dbdir": localdb.DefaultDir(), "version": version()},
		kong.WithHyphenPrefixedParameters(true), // --from -1h
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if len(os.Args) < 2 {
		os.Args = append(os.Args, "--help")
	}
	k, err := parser.Parse(os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "deeptape: %v\nfor help: %s --help\n", err, commandOf(err))
		os.Exit(2)
	}

	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: cli.LogLevel}))
	// A terminal that closes sends SIGHUP: an orderly stop, as the others, unless somebody
	// (nohup) wants it ignored.
	stops := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		stops = append(stops, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), stops...)
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
