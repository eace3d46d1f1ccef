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
	"maps"
	"math"
	"net"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"deeptape/ilp/qdb"
	"deeptape/ilp/schema"
	"deeptape/venues"
	"deeptape/venues/registry"
)

// Config is what an agent runs by.
type Config struct {
	QuestDB   string    `yaml:"questdb"`
	Journal   Journal   `yaml:"journal"`
	Listen    string    `yaml:"listen"`
	TopLevels int       `yaml:"top_levels"`
	DepthBps  []float64 `yaml:"depth_bps"` // bands of book_depth; whole numbers, but YAML's reader would cut 1.5 to 1: see Bands
	Quotes    bool      `yaml:"quotes"`
	Rings     Rings     `yaml:"rings"`
	// Quarantine is how many rows that QuestDB refuses may be put aside within a minute;
	// more stop delivery, and the journal keeps the rest.
	Quarantine int `yaml:"quarantine"`
	// TablePrefix stands before the name of every table and view, so that they share a
	// database with others.
	TablePrefix string           `yaml:"table_prefix"`
	Venues      map[string]Venue `yaml:"venues"`
}

// Journal says where inputs are kept, and how much of them.
type Journal struct {
	Dir     string   `yaml:"dir"`
	Segment Bytes    `yaml:"segment"`
	Keep    Duration `yaml:"keep"`
	Max     Bytes    `yaml:"max"`
	Sync    Duration `yaml:"sync"`
}

// Rings are the sizes of one feed's rings, rounded up to powers of two; 0 is the
// agent's default. Nobody needs them but a machine with little memory, and tests.
type Rings struct {
	Inputs Bytes `yaml:"inputs"`
	Rows   Bytes `yaml:"rows"`
}

// Venue says what is recorded of a venue, and where.
type Venue struct {
	Symbols []string `yaml:"symbols"`
	WSURL   string   `yaml:"ws_url"`
	RestURL string   `yaml:"rest_url"`
	Depth   int      `yaml:"depth"`

	// Lines is how many connections carry each symbol at a time, 1 or 2. With two,
	// only what both have missed is a gap; each costs the venue's budget of connects.
	Lines int `yaml:"lines"`
	// Audit is how often each book is compared with a fresh snapshot, where the venue has
	// any to fetch; 0: never. Nil is AuditDefault.
	Audit *Duration `yaml:"audit"`
	// ReconnectEvery plans a reconnect that often, to try it out. 0: only before the
	// venue's own cut.
	ReconnectEvery Duration `yaml:"reconnect_every"`
}

// AuditDefault is Venue.Audit where nobody says otherwise.
const AuditDefault = Duration(30 * time.Minute)

// auditMin: a feed looks once a second.
const auditMin = Duration(time.Second)

// Default is the configuration without a file.
func Default() Config {
	return Config{
		QuestDB: "http::addr=127.0.0.1:9000;",
		Journal: Journal{
			Dir: "deeptape-data/journal", Segment: 128 << 20, Keep: Duration(72 * time.Hour),
			Max: 200 << 30, Sync: Duration(200 * time.Millisecond),
		},
		Listen:     "127.0.0.1:9101",
		TopLevels:  10,
		DepthBps:   []float64{1, 2, 5, 10, 25, 50, 100},
		Quotes:     true,
		Quarantine: 10,
		Venues:     map[string]Venue{},
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
		return c, explain(name, text, err)
	}
	if err := fractions(name, text, &c); err != nil {
		return c, err
	}
	if reflect.ValueOf(c).IsZero() { // a file of comments says null, which empties what it is read into
		c = Default()
	}
	if err := c.Complete(); err != nil {
		var k *keyError
		if errors.As(err, &k) {
			name += place(text, k.key)
		}
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
		venue, err := registry.ByName(name)
		if err != nil {
			return fmt.Errorf("%q: %w%s", arg, err, nearest(name, registry.Names()))
		}
		own := venue.Rules().Name
		v := c.Venues[own]
		for _, symbol := range strings.Split(list, ",") {
			if symbol, err = symbolOf(venue, symbol); err != nil {
				return fmt.Errorf("%q: %w", arg, err)
			}
			v.Symbols = append(v.Symbols, symbol)
		}
		if c.Venues == nil {
			c.Venues = map[string]Venue{}
		}
		c.Venues[own] = v
	}
	return c.Complete()
}

// Database says where QuestDB is and how our tables are called there.
func (c *Config) Database() (qdb.Conf, error) {
	conf, err := qdb.ParseConf(c.QuestDB)
	conf.TablePrefix = c.TablePrefix
	return conf, err
}

// Bands are the basis points of DepthBps, ascending.
func (c *Config) Bands() []int {
	var bands []int
	for _, bps := range c.DepthBps {
		bands = append(bands, int(bps))
	}
	return bands
}

// Complete fills what a venue leaves open and checks the rest. Its errors begin
// with the key.
func (c *Config) Complete() error {
	if c.Quarantine < 1 {
		return wrong("quarantine", "%d is less than 1 row a minute", c.Quarantine)
	}
	complete := map[string]Venue{}
	for _, name := range slices.Sorted(maps.Keys(c.Venues)) {
		venue, err := registry.ByName(name)
		if err != nil {
			return wrong("venues."+name, "%w%s", err, nearest(name, registry.Names()))
		}
		rules := venue.Rules()
		if _, twice := complete[rules.Name]; twice {
			return wrong("venues."+name, "venue %s stands there twice", rules.Name)
		}
		v := c.Venues[name]
		if v.WSURL == "" {
			v.WSURL = rules.WSURL
		}
		if v.RestURL == "" {
			v.RestURL = rules.RestURL
		}
		if v.Depth == 0 {
			v.Depth = rules.Depth
		}
		key := "venues." + name
		if v.WSURL, err = baseURL(v.WSURL, "ws", "wss"); err != nil {
			return wrong(key+".ws_url", "%w", err)
		}
		if v.RestURL, err = baseURL(v.RestURL, "http", "https"); err != nil && v.RestURL != "" {
			return wrong(key+".rest_url", "%w", err)
		}
		if v.Lines == 0 {
			v.Lines = 1
		}
		if v.Lines < 0 || v.Lines > 2 {
			return wrong(key+".lines", "%d is not 1 or 2", v.Lines)
		}
		if v.Depth < 0 {
			return wrong(key+".depth", "%d is less than 0", v.Depth)
		}
		if every := AuditDefault; rules.RestSnapshot && v.Audit == nil {
			v.Audit = &every
		}
		if v.Audit != nil && *v.Audit > 0 && (!rules.RestSnapshot || *v.Audit < auditMin) {
			if !rules.RestSnapshot {
				return wrong(key+".audit", "the books of %s come whole in the stream: there is no snapshot to fetch and compare", name)
			}
			return wrong(key+".audit", "%s is less than %s; 0 is never", time.Duration(*v.Audit), time.Duration(auditMin))
		}
		var symbols []string
		for i, s := range v.Symbols {
			own, err := symbolOf(venue, s)
			if err != nil {
				return wrong(fmt.Sprintf("%s.symbols[%d]", key, i), "%w", err)
			}
			if slices.ContainsFunc(symbols, func(other string) bool { return strings.EqualFold(other, own) }) {
				continue
			}
			product := venues.Product(venue, own)
			for _, other := range symbols {
				if venues.Product(venue, other) == product {
					return wrong(fmt.Sprintf("%s.symbols[%d]", key, i), "%s and %s are two names of one product: its data comes as %s", other, own, product)
				}
			}
			symbols = append(symbols, own)
		}
		v.Symbols = symbols
		complete[rules.Name] = v
	}
	c.Venues = complete
	return c.check()
}

// check looks at all that is not about a venue. "listen: off" is an empty Listen.
func (c *Config) check() error {
	if c.QuestDB != "off" {
		if _, err := qdb.ParseConf(c.QuestDB); err != nil {
			return wrong("questdb", "%w", err)
		}
	}
	if err := schema.CheckPrefix(c.TablePrefix); err != nil {
		return wrong("table_prefix", "%w", err)
	}
	if c.Listen == "off" {
		c.Listen = ""
	}
	if c.Listen != "" {
		if err := Address(c.Listen); err != nil {
			return wrong("listen", "%w", err)
		}
	}
	for i, bps := range c.DepthBps {
		if !(bps >= 1 && bps <= 10_000 && bps == math.Trunc(bps)) {
			return wrong(fmt.Sprintf("depth_bps[%d]", i), "%g is not a whole number of basis points between 1 and 10000", bps)
		}
		if i > 0 && bps <= c.DepthBps[i-1] {
			return wrong(fmt.Sprintf("depth_bps[%d]", i), "%g is not more than the %g before it", bps, c.DepthBps[i-1])
		}
	}
	switch j := &c.Journal; {
	case c.TopLevels < 1 || c.TopLevels > 1000:
		return wrong("top_levels", "%d is not between 1 and 1000", c.TopLevels)
	case j.Dir == "":
		return wrong("journal.dir", "is empty")
	case j.Segment < 1<<20:
		return wrong("journal.segment", "%d bytes is less than 1 MiB", j.Segment)
	case j.Keep <= 0:
		return wrong("journal.keep", "must be more than 0")
	case j.Max < 2*j.Segment:
		return wrong("journal.max", "%d bytes is less than two segments of %d", j.Max, j.Segment)
	case j.Sync <= 0:
		return wrong("journal.sync", "must be more than 0")
	}
	return nil
}

// Address says whether a text is an address to listen on.
func Address(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT, such as 127.0.0.1:9101", s)
	}
	return nil
}

// symbolOf is the venue's own spelling.
func symbolOf(venue venues.Venue, s string) (string, error) {
	own, err := venue.Symbol(strings.TrimSpace(s))
	if err == nil {
		return own, nil
	}
	for _, other := range spellings(s) {
		if own, err2 := venue.Symbol(other); err2 == nil {
			return "", fmt.Errorf("%w; did you mean %q?", err, own)
		}
	}
	return "", err
}

// baseURL is the URL without a slash at the end of its path, and without a fragment,
// which no server is sent. Its query stays: see wire.Join.
func baseURL(text string, schemes ...string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || !slices.Contains(schemes, u.Scheme) || u.Host == "" {
		return text, fmt.Errorf("%q is not a URL that starts with %s", text, strings.Join(schemes, ":// or ")+"://")
	}
	text, _, _ = strings.Cut(text, "#")
	path, query, has := strings.Cut(text, "?")
	if path = strings.TrimRight(path, "/"); has && query != "" {
		path += "?" + query
	}
	return path, nil
}

// Warnings says what will be done although it looks wrong.
func (c *Config) Warnings() []string {
	var out []string
	for _, name := range c.VenueNames() {
		v, _ := registry.ByName(name)
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
