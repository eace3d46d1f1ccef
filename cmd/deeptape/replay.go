package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"deeptape/cmd/agent"
	"deeptape/cmd/config"
)

type windowFlags struct {
	From string `placeholder:"TIME" help:"Start: RFC 3339, or relative such as -1h."`
	To   string `placeholder:"TIME" help:"End, likewise."`
}

// window in Unix ns; 0 where an end is open.
func (w *windowFlags) window() (from, to int64, err error) {
	now := time.Now()
	if w.From != "" {
		if from, err = config.Time(w.From, now); err != nil {
			return 0, 0, usageError{fmt.Errorf("--from: %w", err)}
		}
	}
	if w.To != "" {
		if to, err = config.Time(w.To, now); err != nil {
			return 0, 0, usageError{fmt.Errorf("--to: %w", err)}
		}
	}
	if w.From != "" && w.To != "" && from >= to {
		return 0, 0, usageError{fmt.Errorf("--from %s is not before --to %s: there is no time between them", w.From, w.To)}
	}
	return from, to, nil
}

type replayCmd struct {
	dbFlags
	Journal string `placeholder:"DIR" help:"Directory of the journal; default: that of the configuration."`
	windowFlags
	Out string `placeholder:"FILE" help:"Write the rows as ILP lines to a file instead of QuestDB; - is standard output."`
}

func (c *replayCmd) Run(ctx context.Context, log *slog.Logger) error {
	cfg, err := c.read(c.QuestDB, c.Journal)
	if err != nil {
		return err
	}
	from, to, err := c.window()
	if err != nil {
		return err
	}
	if c.Out == "" {
		if _, err := database(cfg); err != nil {
			return err
		}
		return agent.ReplayJournal(ctx, cfg, from, to, log, os.Stderr)
	}
	f := os.Stdout
	if c.Out != "-" {
		if f, err = os.Create(c.Out); err != nil {
			return fmt.Errorf("cannot create %q: %w", c.Out, err)
		}
		defer f.Close()
	}
	if err := agent.WriteLines(ctx, cfg.Journal.Dir, from, to, f); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() { // a pipe or a device cannot be synced
		return err
	}
	return f.Sync()
}
