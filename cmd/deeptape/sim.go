package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
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
	Seed    uint64        `help:"Seed of the made markets." default:"1"`
	Speed   float64       `help:"How many times faster than the recording or the market; 0: as fast as can be taken." default:"1"`
	Faults  string        `placeholder:"NAME@N[:[VENUE:]SYMBOL],…" help:"What goes wrong at the N-th book update of a symbol, or the N-th snapshot request or subscription; the names are above."`
	Ghosts  bool          `help:"Binance's diffs do not tell what goes outside of the window of its last snapshots."`
	Start   string        `placeholder:"TIME" help:"What the made markets' clock shows at its start, RFC 3339; default: now. It stands still until somebody connects. The same seed and start make the same bytes."`
	For     time.Duration `placeholder:"1m" help:"Let the made markets end after this much of their own time."`
	Addr    string        `help:"Address to serve on." default:"127.0.0.1:0"`
}

// Help is what `deeptape sim --help` says besides.
func (c *simCmd) Help() string {
	return "Venues: " + strings.Join(simvenue.Venues(), ", ") + ".\n\nFaults:\n\n" + simvenue.FaultHelp()
}

func (c *simCmd) Run(ctx context.Context, log *slog.Logger) error {
	s, err := c.start(false)
	if err != nil {
		return err
	}
	defer s.Close()
	fmt.Print(simConfig(s))
	os.Stdout.Sync()
	log.Info("simulated venues are up; Ctrl-C ends them", "addr", s.Addr(), "venues", strings.Join(s.Venues(), ","), "symbols", strings.Join(s.Symbols(), ","))
	<-ctx.Done()
	return nil
}

// start makes the server that the flags describe. live: its markets do not wait for
// somebody to listen, or their clock would be late by as long.
func (c *simCmd) start(live bool) (*simvenue.Server, error) {
	faults, err := simvenue.ParseFaults(c.Faults)
	if err != nil {
		return nil, usageError{err}
	}
	opt := simvenue.Options{Addr: c.Addr, Speed: c.Speed, Faults: faults, For: c.For, Ghosts: c.Ghosts, Live: live, Worlds: map[string]*world.World{}}
	for _, f := range c.File {
		venue, path, ok := strings.Cut(f, ":")
		if !ok || path == "" {
			return nil, usageError{fmt.Errorf("--file %q: write VENUE:FILE.jsonl[.gz]", f)}
		}
		opt.Recordings = append(opt.Recordings, simvenue.Recording{Venue: venue, Path: path})
	}
	symbols := map[string][]string{}
	for _, arg := range c.Symbols {
		venue, list, ok := strings.Cut(arg, ":")
		if !ok || list == "" {
			return nil, usageError{fmt.Errorf("%q: write VENUE:SYMBOL[,SYMBOL…]; venues are %s", arg, strings.Join(simvenue.Venues(), ", "))}
		}
		symbols[venue] = append(symbols[venue], strings.Split(strings.ToUpper(list), ",")...)
	}
	if len(c.File)+len(c.Symbols) == 0 {
		symbols["binance"] = []string{"BTCUSDT", "ETHUSDT", "SOLUSDT"}
	}
	// The seed makes the markets; their venues' clock is ours, or latencies would mean
	// nothing.
	startNs := time.Now().UnixNano()
	if c.Start != "" {
		if startNs, err = config.Time(c.Start, time.Now()); err != nil {
			return nil, usageError{fmt.Errorf("--start: %w", err)}
		}
	}
	for venue, list := range symbols {
		if opt.Worlds[venue], err = simvenue.NewMarkets(venue, c.Seed, startNs, list...); err != nil {
			return nil, usageError{err}
		}
	}
	if err := config.Address(c.Addr); err != nil {
		return nil, usageError{fmt.Errorf("--addr: %w", err)}
	}
	s, err := simvenue.New(opt)
	var busy *net.OpError // a port in use, and the like: no wrong usage
	if errors.As(err, &busy) {
		return nil, err
	}
	if err != nil {
		return nil, usageError{err}
	}
	return s, s.Start()
}

// simConfig is a configuration that records everything the server has.
func simConfig(s *simvenue.Server) string {
	var b strings.Builder
	b.WriteString("venues:\n")
	for _, name := range s.Venues() {
		ws, rest, _ := s.VenueURLs(name)
		fmt.Fprintf(&b, "  %s:\n    symbols: [%s]\n    ws_url: %q\n    rest_url: %q\n", name, strings.Join(s.VenueSymbols(name), ", "), ws, rest)
		if d := s.Depth(name); d > 0 {
			fmt.Fprintf(&b, "    depth: %d\n", d)
		}
	}
	return b.String()
}
