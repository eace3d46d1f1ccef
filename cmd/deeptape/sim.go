package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"deeptape/bench/simvenue"
	"deeptape/bench/world"
	"deeptape/cmd/config"
	"deeptape/venues/registry"
)

// simDefault are the markets that are made unless others are asked for.
const simDefault = "binance:BTCUSDT,ETHUSDT,SOLUSDT"

type simCmd struct {
	Symbols []string      `arg:"" optional:"" name:"venue:symbol" help:"Markets to make: VENUE:SYMBOL[,SYMBOL…]; default binance:BTCUSDT,ETHUSDT,SOLUSDT."`
	File    []string      `placeholder:"VENUE:REC.jsonl[.gz]" help:"Replay a recording instead of making a market."`
	Seed    uint64        `help:"Seed of the made markets." default:"1"`
	Speed   float64       `help:"How many times faster than the recording or the market; 0: as fast as can be taken." default:"1"`
	Faults  string        `placeholder:"NAME@N[:[VENUE:]SYMBOL],…" help:"What goes wrong at the N-th book update of a symbol, or the N-th snapshot request or subscription; the names are above."`
	Ghosts  bool          `help:"Binance's diffs do not tell what goes outside of the window of its last snapshots."`
	Start   string        `placeholder:"TIME" help:"What the made markets' clock shows at its start, RFC 3339; default: now. It stands still until somebody connects. The same seed and start make the same bytes."`
	For     time.Duration `placeholder:"1m" help:"Let the made markets end after this much of their own time."`
	Tape    string        `placeholder:"DIR" help:"Serve nothing: write what one client of each made market sees to DIR/VENUE.jsonl.gz and DIR/VENUE.recv.gz, in the format of a recording (--file, DEEPTAPE_RECORDING), for --for of the market's own time, and exit."`
	Addr    string        `help:"Address to serve on." default:"127.0.0.1:0"`
}

// Help is what `deeptape sim --help` says besides.
func (c *simCmd) Help() string {
	return "The made markets of all venues are in one world: pairs of the same base against any dollar follow one true mid. " +
		"Binance does at once, each other venue some 5 to 120 ms later, and each venue's clock is off by so much, drifts and jitters. " +
		"All of it is drawn from --seed, and stands in the printed configuration: a lead or a lag that you find can be held against it. " +
		"Quotes and trades go out at once; books tell their changes every 100 ms. " +
		"Of more than one venue, at speed 1 and without --start, --for, --faults and --file, the markets go by the clock on the wall and wait for nobody. " +
		"Else each venue's markets begin when somebody listens: then lags show in ts_event alone, with the clocks in them.\n\nVenues: " + strings.Join(simvenue.Venues(), ", ") + ".\n\nFaults:\n\n" + simvenue.FaultHelp()
}

func (c *simCmd) Run(ctx context.Context, log *slog.Logger) error {
	if c.Tape != "" {
		return c.writeTapes()
	}
	s, err := c.start(c.oneClock())
	if err != nil {
		return err
	}
	defer s.Close()
	fmt.Print(c.follows("# "), simConfig(s))
	os.Stdout.Sync()
	log.Info("simulated venues are up; Ctrl-C ends them", "addr", s.Addr(), "venues", strings.Join(s.Venues(), ","), "symbols", strings.Join(s.Symbols(), ","))
	<-ctx.Done()
	return nil
}

// oneClock says whether the markets are to go by the clock on the wall, so that what
// happens at one venue is as long after another as it is made to be. Nothing must count
// from where somebody began to listen.
func (c *simCmd) oneClock() bool {
	return len(c.madeVenues()) > 1 && c.Speed == 1 && c.Start == "" && c.For == 0 && c.Faults == "" && len(c.File) == 0
}

// made says which markets are made: those of the command line, or simDefault where it
// names neither markets nor recordings.
func (c *simCmd) made() []string {
	if len(c.File)+len(c.Symbols) == 0 {
		return []string{simDefault}
	}
	return c.Symbols
}

// madeVenues are those that have made markets, sorted.
func (c *simCmd) madeVenues() []string {
	made := map[string]bool{}
	for _, arg := range c.made() {
		venue, _, _ := strings.Cut(arg, ":")
		made[venue] = true
	}
	return slices.Sorted(maps.Keys(made))
}

// follows says, a venue a line, how the made markets follow the true mids.
func (c *simCmd) follows(prefix string) string {
	var b strings.Builder
	for _, name := range c.madeVenues() {
		f := simvenue.FollowerOf(name, c.Seed)
		fmt.Fprintf(&b, "%s%s follows the true mids by %s; its clock is %+d ms off at the start, gains %+.3f µs a second, and its stamps are late by up to %s\n",
			prefix, name, time.Duration(f.DelayNs), f.OffsetNs/1e6, float64(f.DriftPpb)/1e3, time.Duration(f.JitterNs))
	}
	return b.String()
}

// start makes the server that the flags describe. live: its markets do not wait for
// somebody to listen, or their clock would be late by as long.
func (c *simCmd) start(live bool) (*simvenue.Server, error) {
	faults, err := simvenue.ParseFaults(c.Faults)
	if err != nil {
		return nil, usageError{err}
	}
	opt := simvenue.Options{Addr: c.Addr, Speed: c.Speed, Faults: faults, For: c.For, Ghosts: c.Ghosts, Live: live}
	for _, f := range c.File {
		venue, path, ok := strings.Cut(f, ":")
		if !ok || path == "" {
			return nil, usageError{fmt.Errorf("--file %q: write VENUE:FILE.jsonl[.gz]", f)}
		}
		opt.Recordings = append(opt.Recordings, simvenue.Recording{Venue: venue, Path: path})
	}
	if opt.Worlds, err = c.worlds(); err != nil {
		return nil, err
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

// worlds are the made markets that the flags describe, by venue.
func (c *simCmd) worlds() (map[string]*world.World, error) {
	symbols := map[string][]string{}
	for _, arg := range c.made() {
		venue, list, ok := strings.Cut(arg, ":")
		if !ok || list == "" {
			return nil, usageError{fmt.Errorf("%q: write VENUE:SYMBOL[,SYMBOL…]; venues are %s", arg, strings.Join(simvenue.Venues(), ", "))}
		}
		for _, symbol := range strings.Split(list, ",") {
			if known, err := registry.ByName(venue); err == nil {
				if own, err := known.Symbol(symbol); err == nil {
					symbol = own // AAPLx/USD, and not in capitals
				}
			}
			symbols[venue] = append(symbols[venue], symbol)
		}
	}
	// The seed makes the markets; their venues' clocks are near ours, or latencies would
	// mean nothing.
	startNs := time.Now().UnixNano()
	if c.Start != "" {
		var err error
		if startNs, err = config.Time(c.Start, time.Now()); err != nil {
			return nil, usageError{fmt.Errorf("--start: %w", err)}
		}
	}
	worlds := map[string]*world.World{}
	for venue, list := range symbols {
		w, err := simvenue.NewMarkets(venue, c.Seed, startNs, list...)
		if err != nil {
			return nil, usageError{err}
		}
		worlds[venue] = w
	}
	return worlds, nil
}

// writeTapes writes a tape of each made market.
func (c *simCmd) writeTapes() error {
	if len(c.File) > 0 {
		return usageError{errors.New("--tape is of made markets; --file names a recording, which is one already")}
	}
	if c.For <= 0 {
		return usageError{errors.New("--tape: say with --for how much of the market's time is to be written, such as --for 1m")}
	}
	faults, err := simvenue.ParseFaults(c.Faults)
	if err != nil {
		return usageError{err}
	}
	worlds, err := c.worlds()
	if err != nil {
		return err
	}
	for _, venue := range slices.Sorted(maps.Keys(worlds)) {
		tape, err := simvenue.NewTape(venue, worlds[venue], faults, c.For)
		if err != nil {
			return err
		}
		if err := tape.Write(c.Tape, venue); err != nil {
			return err
		}
		fmt.Printf("%s: %d lines, %d bytes\n", filepath.Join(c.Tape, venue+".jsonl.gz"), bytes.Count(tape.Data, []byte("\n")), len(tape.Data))
	}
	return nil
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
