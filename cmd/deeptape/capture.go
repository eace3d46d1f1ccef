package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"deeptape/cmd/agent"
	"deeptape/cmd/config"
)

// configFlags are shared by the commands that read a configuration. Flags win.
type configFlags struct {
	Config  string `short:"c" placeholder:"FILE" help:"Configuration file (YAML); - reads standard input."`
	QuestDB string `name:"questdb" placeholder:"CONF" help:"QuestDB client configuration, such as http::addr=127.0.0.1:9000; or off: journal only."`
	Journal string `placeholder:"DIR" help:"Directory of the journal."`
}

func (f *configFlags) read() (config.Config, error) {
	cfg := config.Default()
	if f.Config != "" {
		var err error
		if cfg, err = config.Read(f.Config); err != nil {
			return cfg, usageError{err}
		}
	}
	if f.QuestDB != "" {
		cfg.QuestDB = f.QuestDB
	}
	if f.Journal != "" {
		cfg.Journal.Dir = f.Journal
	}
	return cfg, nil
}

type captureCmd struct {
	configFlags
	Symbols []string      `arg:"" optional:"" name:"venue:symbol" help:"What to record: VENUE:SYMBOL[,SYMBOL…], beside what the configuration names."`
	For     time.Duration `placeholder:"10m" help:"Stop after this time; default: at Ctrl-C."`
	Listen  string        `placeholder:"ADDR" help:"Address of /metrics, /healthz, /status.json and the status page; off: none."`
	Plan    bool          `help:"Print connections, streams, request weights and disk per day, and exit."`
}

func (c *captureCmd) Run(ctx context.Context, log *slog.Logger) error {
	cfg, err := c.read()
	if err != nil {
		return err
	}
	if err := cfg.AddSymbols(c.Symbols); err != nil {
		return usageError{err}
	}
	switch c.Listen {
	case "":
	case "off":
		cfg.Listen = ""
	default:
		cfg.Listen = c.Listen
	}
	if len(cfg.VenueNames()) == 0 {
		return usageError{errors.New("nothing to record: name a symbol, such as binance:BTCUSDT, or a configuration file with -c")}
	}
	for _, w := range cfg.Warnings() {
		log.Warn(w)
	}
	if c.Plan {
		return agent.Plan(cfg)
	}
	a, err := agent.New(ctx, agent.Options{Config: cfg, Log: log, Machine: agent.ThisMachine()})
	if err != nil {
		return err
	}
	if c.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.For)
		defer cancel()
	}
	return a.Run(ctx)
}
