package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"deeptape/cmd/agent"
	"deeptape/cmd/config"
	"deeptape/ilp/qdb"
	"deeptape/ilp/schema"
)

// configFlag is shared by the commands that read a configuration. Flags win.
type configFlag struct {
	Config string `short:"c" placeholder:"FILE" help:"Configuration file (YAML); - reads standard input."`
}

// read is the configuration with what flags say besides; "" is a flag that was not given.
func (f *configFlag) read(questDB, journal string) (config.Config, error) {
	cfg := config.Default()
	if f.Config != "" {
		var err error
		if cfg, err = config.Read(f.Config); err != nil {
			return cfg, usageError{err}
		}
	}
	if questDB != "" {
		cfg.QuestDB = questDB
	}
	if journal != "" {
		cfg.Journal.Dir = journal
	}
	return cfg, nil
}

// dbFlags are those of the commands that need a database.
type dbFlags struct {
	configFlag
	QuestDB string `name:"questdb" placeholder:"CONF" help:"QuestDB client configuration, such as http::addr=127.0.0.1:9000;"`
}

// database is where the configured database is.
func database(cfg config.Config) (qdb.Conf, error) {
	if cfg.QuestDB == "off" {
		return qdb.Conf{}, usageError{errors.New("questdb is off, and this command needs a database; name it with --questdb")}
	}
	conf, err := cfg.Database()
	if err != nil {
		return conf, usageError{err}
	}
	return conf, nil
}

type captureCmd struct {
	configFlag
	QuestDB string         `name:"questdb" placeholder:"CONF" help:"QuestDB client configuration, such as http::addr=127.0.0.1:9000; or off: journal only."`
	Journal string         `placeholder:"DIR" help:"Directory of the journal."`
	Symbols []string       `arg:"" optional:"" name:"venue:symbol" help:"What to record: VENUE:SYMBOL[,SYMBOL…], beside what the configuration names."`
	For     *time.Duration `placeholder:"10m" help:"Stop after this time; default: at Ctrl-C."`
	Listen  string         `placeholder:"ADDR" help:"Address of /metrics, /healthz, /status.json and the status page; off: none."`
	Plan    bool           `help:"Print connections, streams, request weights and disk per day, and exit."`
}

func (c *captureCmd) Run(ctx context.Context, log *slog.Logger) error {
	if c.For != nil && *c.For <= 0 {
		return usageError{fmt.Errorf("--for %s: must be more than 0; without it the capture lasts until Ctrl-C", *c.For)}
	}
	cfg, err := c.read(c.QuestDB, c.Journal)
	if err != nil {
		return err
	}
	if c.Listen != "" {
		cfg.Listen = c.Listen
	}
	if err := cfg.AddSymbols(c.Symbols); err != nil { // it checks the flags too
		return usageError{err}
	}
	if len(cfg.VenueNames()) == 0 {
		if c.Config != "" {
			return usageError{fmt.Errorf("nothing to record: %s names no symbol under venues.NAME.symbols; name one there or as an argument, such as binance:BTCUSDT", c.Config)}
		}
		return usageError{errors.New("nothing to record: name a symbol, such as binance:BTCUSDT, or a configuration file with -c")}
	}
	for _, w := range cfg.Warnings() {
		log.Warn(w)
	}
	if c.Plan {
		return agent.Plan(cfg)
	}
	a, err := agent.New(ctx, agent.Options{Config: cfg, Log: log, Machine: thisMachine()})
	var unlisted *agent.UnlistedError
	if errors.As(err, &unlisted) {
		return usageError{fmt.Errorf("%s%w", config.PlaceOfSymbol(c.Config, unlisted.Venue, unlisted.Symbol), err)}
	}
	var stranger *schema.InTheWayError
	var wrongConf *qdb.WrongConfError
	if errors.As(err, &stranger) || errors.As(err, &wrongConf) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	if c.For != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *c.For)
		defer cancel()
	}
	return a.Run(ctx)
}
