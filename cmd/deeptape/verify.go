package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

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
	JSON bool `name:"json" help:"Print the intervals as JSON."`
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
	report, err := verify.Coverage(ctx, db, from, to)
	if err != nil {
		return fmt.Errorf("cannot read coverage: %w", err)
	}
	if c.JSON {
		return report.WriteJSON(os.Stdout)
	}
	return report.WriteText(os.Stdout)
}
