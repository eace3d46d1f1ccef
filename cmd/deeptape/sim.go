package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"deeptape/bench/simvenue"
	"deeptape/bench/world"
	"deeptape/cmd/config"
)

type simCmd struct {
	Symbols []string      `arg:"" optional:"" name:"venue:symbol" help:"Markets to make: VENUE:SYMBOL[,SYMBOL…]; default binance:BTCUSDT,ETHUSDT,SOLUSDT."`
	File    []string      `placeholder:"VENUE:REC.jsonl[.gz]" help:"Replay a recording instead of making a market."`
	Seed    uint64        `help:"Seed of the made market." default:"1"`
	Speed   float64       `help:"How many times faster than the recording or the market; 0: as fast as can be taken." default:"1"`
	Faults  string        `placeholder:"NAME@N[:SYMBOL],…" help:"drop, duplicate, reorder, disconnect, disconnect-one, stall, stale-snapshot, 429: at the N-th book update, or the N-th snapshot request."`
	Start   string        `placeholder:"TIME" help:"What the made market's clock shows at its start, RFC 3339; default: now. The same seed and start make the same bytes."`
	For     time.Duration `placeholder:"1m" help:"Let the made market end after this much of its own time."`
	Addr    string        `help:"Address to serve on." default:"127.0.0.1:0"`
}

func (c *simCmd) Run(ctx context.Context, log *slog.Logger) error {
	s, err := c.start()
	if err != nil {
		return err
	}
	defer s.Close()
	fmt.Print(simConfig(s))
	os.Stdout.Sync()
	log.Info("simulated venue is up; Ctrl-C ends it", "addr", s.Addr(), "symbols", strings.Join(s.Symbols(), ","))
	<-ctx.Done()
	return nil
}

// start makes the server that the flags describe.
func (c *simCmd) start() (*simvenue.Server, error) {
	faults, err := simvenue.ParseFaults(c.Faults)
	if err != nil {
		return nil, usageError{err}
	}
	opt := simvenue.Options{Addr: c.Addr, Speed: c.Speed, Faults: faults, For: c.For}
	for _, f := range c.File {
		venue, path, ok := strings.Cut(f, ":")
		if !ok || venue != "binance" {
			return nil, usageError{fmt.Errorf("--file %q: write binance:FILE.jsonl[.gz]", f)}
		}
		opt.Recordings = append(opt.Recordings, simvenue.Recording{Path: path})
	}
	if len(c.File) == 0 || len(c.Symbols) > 0 {
		var symbols []string
		for _, arg := range c.Symbols {
			venue, list, ok := strings.Cut(arg, ":")
			if !ok || venue != "binance" || list == "" {
				return nil, usageError{fmt.Errorf("%q: write binance:SYMBOL[,SYMBOL…]; no other venue is simulated yet", arg)}
			}
			symbols = append(symbols, strings.Split(strings.ToUpper(list), ",")...)
		}
		// The seed makes the market; its venue's clock is ours, or latencies would mean nothing.
		spec := world.Spec{StartNs: time.Now().UnixNano()}
		if c.Start != "" {
			if spec.StartNs, err = config.Time(c.Start, time.Now()); err != nil {
				return nil, usageError{fmt.Errorf("--start: %w", err)}
			}
		}
		if len(symbols) > 0 {
			spec.Symbols = world.Symbols(symbols...)
		}
		if opt.World, err = world.New(c.Seed, spec); err != nil {
			return nil, usageError{err}
		}
	}
	s, err := simvenue.New(opt)
	if err != nil {
		return nil, usageError{err}
	}
	return s, s.Start()
}

// simConfig is a configuration that records everything the server has.
func simConfig(s *simvenue.Server) string {
	return fmt.Sprintf("venues:\n  binance:\n    symbols: [%s]\n    ws_url: %q\n    rest_url: %q\n",
		strings.Join(s.Symbols(), ", "), s.WSURL(), s.RESTURL())
}
