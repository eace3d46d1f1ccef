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
	configFlags
	windowFlags
	JSON bool `name:"json" help:"Print the report as JSON."`
}

func (c *verifyCmd) Run(ctx context.Context, log *slog.Logger) error {
	cfg, from, to, err := readWithin(&c.configFlags, &c.windowFlags)
	if err != nil {
		return err
	}
	withJournal := c.Journal != "" || c.Config != ""
	report, err := agent.Verify(ctx, cfg, withJournal, from, to, log, os.Stderr)
	if err != nil {
		return err
	}
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
	configFlags
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
