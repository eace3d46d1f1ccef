// Package config reads deeptape's configuration: defaults, then a YAML file, then
// flags.
//
// It must never open a connection. Every error names the file, line and key, and
// the nearest right name where there is one.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"deeptape/venues"
)

// Config is what an agent runs by.
type Config struct {
	QuestDB   string           `yaml:"questdb"`
	Journal   Journal          `yaml:"journal"`
	Listen    string           `yaml:"listen"`
	TopLevels int              `yaml:"top_levels"`
	DepthBps  []float64        `yaml:"depth_bps"` // basis points, not a price
	Quotes    bool             `yaml:"quotes"`
	Venues    map[string]Venue `yaml:"venues"`
}

// Journal says where inputs are kept, and how much of them.
type Journal struct {
	Dir     string   `yaml:"dir"`
	Segment Bytes    `yaml:"segment"`
	Keep    Duration `yaml:"keep"`
	Max     Bytes    `yaml:"max"`
	Sync    Duration `yaml:"sync"`
}

// Venue says what is recorded of a venue, and where.
type Venue struct {
	Symbols []string `yaml:"symbols"`
	WSURL   string   `yaml:"ws_url"`
	RestURL string   `yaml:"rest_url"`
	Depth   int      `yaml:"depth"`
}

// Default is the configuration without a file.
func Default() Config {
	return Config{
		QuestDB: "http::addr=127.0.0.1:9000;",
		Journal: Journal{
			Dir: "deeptape-data/journal", Segment: 128 << 20, Keep: Duration(72 * time.Hour),
			Max: 200 << 30, Sync: Duration(200 * time.Millisecond),
		},
		Listen:    "127.0.0.1:9101",
		TopLevels: 10,
		DepthBps:  []float64{1, 2, 5, 10, 25, 50, 100},
		Quotes:    true,
		Venues:    map[string]Venue{},
	}
}

// Read reads a file over the defaults. "-" is standard input.
func Read(path string) (Config, error) {
	var text []byte
	var err error
	if path == "-" {
		text, err = io.ReadAll(os.Stdin)
	} else {
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return Config{}, fmt.Errorf("cannot read configuration: %w", err)
	}
	return Parse(path, text)
}

// Parse reads configuration text; name is for errors.
func Parse(name string, text []byte) (Config, error) {
	c := Default()
	dec := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict())
	if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return c, explain(name, err)
	}
	for v := range c.Venues {
		if _, err := venues.ByName(v); err != nil {
			line := lineOf(text, v+":")
			return c, fmt.Errorf("%s:%d: venues.%s: %w%s", name, line, v, err, nearest(v, venues.Names()))
		}
	}
	if err := c.Complete(); err != nil {
		return c, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// AddSymbols adds what a command line names: VENUE:SYMBOL[,SYMBOL…].
func (c *Config) AddSymbols(args []string) error {
	for _, arg := range args {
		name, list, ok := strings.Cut(arg, ":")
		if !ok || list == "" {
			return fmt.Errorf("%q names no symbol; write VENUE:SYMBOL[,SYMBOL…], such as binance:BTCUSDT", arg)
		}
		venue, err := venues.ByName(name)
		if err != nil {
			return fmt.Errorf("%w%s", err, nearest(name, venues.Names()))
		}
		v := c.Venues[venue.Rules().Name]
		v.Symbols = append(v.Symbols, strings.Split(list, ",")...)
		c.Venues[venue.Rules().Name] = v
	}
	return c.Complete()
}

// Complete fills what a venue leaves open and checks the rest.
func (c *Config) Complete() error {
	for name, v := range c.Venues {
		venue, err := venues.ByName(name)
		if err != nil {
			return err
		}
		rules := venue.Rules()
		if v.WSURL == "" {
			v.WSURL = rules.WSURL
		}
		if v.RestURL == "" {
			v.RestURL = rules.RestURL
		}
		if v.Depth == 0 {
			v.Depth = rules.Depth
		}
		v.WSURL, v.RestURL = strings.TrimRight(v.WSURL, "/"), strings.TrimRight(v.RestURL, "/")
		var symbols []string
		for _, s := range v.Symbols {
			own, err := venue.Symbol(strings.TrimSpace(s))
			if err != nil {
				return fmt.Errorf("venues.%s.symbols: %w", name, err)
			}
			if !slices.Contains(symbols, own) {
				symbols = append(symbols, own)
			}
		}
		v.Symbols = symbols
		c.Venues[name] = v
	}
	switch {
	case c.TopLevels < 1 || c.TopLevels > 1000:
		return fmt.Errorf("top_levels: %d is not between 1 and 1000", c.TopLevels)
	case c.Journal.Dir == "":
		return errors.New("journal.dir: is empty")
	case c.Journal.Segment < 1<<20:
		return fmt.Errorf("journal.segment: %d bytes is less than 1 MiB", c.Journal.Segment)
	case c.Journal.Sync <= 0:
		return errors.New("journal.sync: must be more than 0")
	}
	return nil
}

// Warnings says what will be done although it looks wrong.
func (c *Config) Warnings() []string {
	var out []string
	for _, name := range c.VenueNames() {
		v, _ := venues.ByName(name)
		if r := v.Rules(); len(r.Depths) > 0 && !slices.Contains(r.Depths, c.Venues[name].Depth) {
			out = append(out, fmt.Sprintf("venues.%s.depth: %d is not one of %v that the venue lists; it is sent as it is", name, c.Venues[name].Depth, r.Depths))
		}
	}
	return out
}

// VenueNames lists the venues with symbols, in order.
func (c *Config) VenueNames() []string {
	var names []string
	for name, v := range c.Venues {
		if len(v.Symbols) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// explain turns the decoder's error into one line with the place and, for an
// unknown key, the nearest right one.
func explain(name string, err error) error {
	var unknown *yaml.UnknownFieldError
	if errors.As(err, &unknown) {
		pos := unknown.Token.Position
		key := unknown.Token.Value
		return fmt.Errorf("%s:%d:%d: unknown key %q%s", name, pos.Line, pos.Column, key, nearest(key, keys))
	}
	var typed yaml.Error
	if errors.As(err, &typed) && typed.GetToken() != nil {
		pos := typed.GetToken().Position
		return fmt.Errorf("%s:%d:%d: %s (at %q)", name, pos.Line, pos.Column, typed.GetMessage(), typed.GetToken().Value)
	}
	return fmt.Errorf("%s: %w", name, err)
}

var keys = []string{
	"questdb", "journal", "listen", "top_levels", "depth_bps", "quotes", "venues",
	"dir", "segment", "keep", "max", "sync", "symbols", "ws_url", "rest_url", "depth",
}

func lineOf(text []byte, what string) int {
	for i, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), what) {
			return i + 1
		}
	}
	return 1
}
