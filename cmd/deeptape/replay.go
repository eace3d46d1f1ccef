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
	return from, to, nil
}

// readWithin reads the configuration and the window of time of a command.
func readWithin(f *configFlags, w *windowFlags) (cfg config.Config, from, to int64, err error) {
	if cfg, err = f.read(); err == nil {
		from, to, err = w.window()
	}
	return cfg, from, to, err
}

type replayCmd struct {
	configFlags
	windowFlags
	Out string `placeholder:"FILE" help:"Write the rows as ILP lines to a file instead of QuestDB; - is standard output."`
}

func (c *replayCmd) Run(ctx context.Context, log *slog.Logger) error {
	cfg, from, to, err := readWithin(&c.configFlags, &c.windowFlags)
	if err != nil {
		return err
	}
	if c.Out == "" {
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
	return f.Sync()
}
