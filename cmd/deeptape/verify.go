package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"deeptape/cmd/agent"
	"deeptape/ilp/verify"
)

type verifyCmd struct {
	dbFlags
	Journal string `placeholder:"DIR" help:"Check against the journal in this directory too; without it: from the database alone, whatever the configuration says."`
	windowFlags
	JSON    bool `name:"json" help:"Print the report as JSON."`
	Verbose bool `short:"v" help:"Say of each symbol all that was checked."`
}

func (c *verifyCmd) Run(ctx context.Context, log *slog.Logger) error {
	cfg, err := c.read(c.QuestDB, c.Journal)
	if err != nil {
		return err
	}
	if _, err := database(cfg); err != nil {
		return err
	}
	from, to, err := c.window()
	if err != nil {
		return err
	}
	report, err := agent.Verify(ctx, cfg, c.Journal != "", from, to, log, os.Stderr)
	if err != nil {
		return err
	}
	report.Verbose = c.Verbose
	if c.JSON {
		err = report.WriteJSON(os.Stdout)
	} else {
		err = report.WriteText(os.Stdout)
	}
	if err != nil {
		return err
	}
	if !report.OK() {
		return errFailed
	}
	return nil
}

type coverageCmd struct {
	dbFlags
	windowFlags
	Symbols []string `arg:"" optional:"" name:"venue:symbol" help:"Of what: VENUE:SYMBOL[,SYMBOL…] or VENUE, in any case; default: all that was recorded."`
	Stream  string   `placeholder:"book|trades|quotes" enum:"book,trades,quotes," default:"" help:"Only this stream."`
	State   string   `placeholder:"verified|unverified|gap" enum:"verified,unverified,gap," default:"" help:"Only the intervals in this state; the per cents stay those of all."`
	JSON    bool     `name:"json" help:"Print the intervals as JSON."`
}

// wanted reads the arguments: whether an instrument is asked for, and which argument asks
// for it.
func (c *coverageCmd) wanted() (func(venue, symbol string) (arg string, ok bool), error) {
	type name struct{ arg, venue, symbol string }
	var names []name
	for _, arg := range c.Symbols {
		venue, list, several := strings.Cut(arg, ":")
		if venue == "" || several && list == "" {
			return nil, fmt.Errorf("%q: write VENUE:SYMBOL[,SYMBOL…] or VENUE, such as binance:BTCUSDT", arg)
		}
		for symbol := range strings.SplitSeq(list, ",") {
			names = append(names, name{arg, venue, symbol})
		}
	}
	return func(venue, symbol string) (string, bool) {
		for _, n := range names {
			if strings.EqualFold(n.venue, venue) && (n.symbol == "" || strings.EqualFold(n.symbol, symbol)) {
				return n.arg, true
			}
		}
		return "", len(names) == 0
	}, nil
}

func (c *coverageCmd) Run(ctx context.Context) error {
	db, err := c.open()
	if err != nil {
		return err
	}
	from, to, err := c.window()
	if err != nil {
		return err
	}
	wanted, err := c.wanted()
	if err != nil {
		return usageError{err}
	}
	found := map[string]bool{}
	var known []string
	report, err := verify.Coverage(ctx, db, verify.CoverageOptions{From: from, To: to, Stream: c.Stream, State: c.State, Want: func(venue, symbol string) bool {
		arg, ok := wanted(venue, symbol)
		found[arg] = true
		known = append(known, venue+":"+symbol)
		return ok
	}})
	if err != nil {
		return fmt.Errorf("cannot read coverage: %w", err)
	}
	for _, arg := range c.Symbols {
		if !found[arg] {
			slices.Sort(known)
			return fmt.Errorf("the database has no coverage of %s in the time asked for; it has %s", arg, cmp.Or(strings.Join(slices.Compact(known), ", "), "none at all"))
		}
	}
	if c.JSON {
		return report.WriteJSON(os.Stdout)
	}
	return report.WriteText(os.Stdout, c.State != "")
}
