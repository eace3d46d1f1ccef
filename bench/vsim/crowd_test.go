package vsim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"deeptape/bench/simvenue"
	"deeptape/bench/world"
	"deeptape/cmd/config"
	"deeptape/venues/registry"
)

// crowd is an agent that records many symbols of one venue, some of which the venue does
// not know (any more).
type crowd struct {
	*run
	v     *venue
	live  []string
	dead  []string
	began int // trace lines before the part that is looked at
}

func newCrowd(t *testing.T, name string, live, dead, lines, depth int) *crowd {
	const seed = 1
	m := &machine{rng: rand.New(rand.NewPCG(seed, 0)), nowNs: world.DefaultStartNs}
	m.trace = &Trace{startNs: m.nowNs}
	c := &crowd{run: &run{m: m, gaps: map[string][]string{}, disk: newDisk(m), db: newQuestDB(m)}}
	c.configure()
	c.cfg.Journal.Segment, c.cfg.Quotes = 1<<20, false
	for i := range live {
		c.live = append(c.live, simvenue.Symbol(name, fmt.Sprintf("L%03d", i)))
	}
	for i := range dead {
		c.dead = append(c.dead, simvenue.Symbol(name, fmt.Sprintf("DEAD%d", i)))
	}
	symbols := simvenue.Markets(name, c.live...)
	for i := range symbols {
		symbols[i].Depth, symbols[i].PerMille = 100, 30
	}
	var err error
	if c.v, err = newVenue(m, name, seed, symbols, nil); err != nil {
		t.Fatal(err)
	}
	c.v.unlisted = true // or what is dead would be refused at the start
	c.venues = append(c.venues, c.v)
	none := config.Duration(0)
	c.cfg.Venues[name] = config.Venue{RestURL: "http://" + name, WSURL: "ws://" + name + c.v.core.WSPath(), Lines: lines, Depth: depth, Audit: &none,
		Symbols: append(slices.Clone(c.dead), c.live...)}
	c.boot()
	t.Cleanup(func() { c.life.p.kill() })
	return c
}

// wait runs until so many of the live symbols' books are what they should be, and returns
// how long that took.
func (c *crowd) wait(t *testing.T, atMost time.Duration, state string) time.Duration {
	t.Helper()
	from, look := c.m.nowNs, int64(0)
	isLive := map[string]bool{}
	for _, s := range c.live {
		isLive[s] = true
	}
	n := 0
	err := c.until(from+int64(atMost), func() bool {
		if c.life.agent == nil || c.m.nowNs < look {
			return false
		}
		look = c.m.nowNs + int64(250*time.Millisecond)
		n = 0
		for _, s := range c.life.agent.Status().Symbols {
			if isLive[s.Symbol] && s.Coverage["book"].State == state {
				n++
			}
		}
		return n == len(c.live)
	})
	if err != nil {
		t.Fatal(err)
	}
	if n != len(c.live) {
		t.Fatalf("after %s the books of %d of %d symbols are %s", atMost, n, len(c.live), state)
	}
	return time.Duration(c.m.nowNs - from)
}

// storm cuts every connection at once.
func (c *crowd) storm() (connections int) {
	c.began = len(c.m.trace.Lines)
	connections = len(c.v.conns)
	for len(c.v.conns) > 0 {
		c.v.conns[0].end(fmt.Errorf("a storm"), true)
	}
	return connections
}

// said are the trace's lines since the storm, or since the start, that hold a text, and
// the instants at which they were said.
func (c *crowd) said(part string) (lines []string, atNs []int64) {
	for _, l := range c.m.trace.Lines[c.began:] {
		if strings.Contains(l, part) {
			var at float64
			fmt.Sscan(l, &at)
			lines, atNs = append(lines, l), append(atNs, int64(at*1e9))
		}
	}
	return lines, atNs
}

// most is how many of some instants lie within a window.
func most(atNs []int64, window time.Duration) (n int) {
	for i, from := 0, 0; i < len(atNs); i++ {
		for atNs[i]-atNs[from] >= int64(window) {
			from++
		}
		n = max(n, i-from+1)
	}
	return n
}

// Three hundred symbols of Binance, and eight that it no longer knows, through a storm: the
// venue never has to say that it is too much, all is back as fast as its weight lets three
// hundred snapshots be, and no dead one is asked for before the last live one is back.
func TestCrowdOfBinance(t *testing.T) {
	if testing.Short() || raceOn {
		t.Skip("takes seconds")
	}
	const depth, weight, usable = 500, 25, 4800
	c := newCrowd(t, "binance", 300, 8, 1, depth)
	start := c.wait(t, 20*time.Minute, "verified")
	if err := c.until(c.m.nowNs+int64(70*time.Second), nil); err != nil { // the window is empty again
		t.Fatal(err)
	}
	connections := c.storm()
	if err := c.until(c.m.nowNs+int64(time.Second), nil); err != nil {
		t.Fatal(err)
	}
	again := c.wait(t, 20*time.Minute, "verified")
	requests, _ := c.said("/api/v3/depth")
	last, early := 0, 0
	for i, l := range requests {
		if !strings.Contains(l, "DEAD") {
			last = i
		}
	}
	for _, l := range requests[:last] {
		if strings.Contains(l, "DEAD") {
			early++
		}
	}
	if early > 0 {
		t.Errorf("%d requests for dead symbols before the last one for a live one", early)
	}
	c.began = 0
	for serial := range c.v.serial {
		_, commands := c.said(fmt.Sprintf(" connection %d hears ", serial+1))
		if n := most(commands, time.Second); n > 5 {
			t.Errorf("%d commands within a second on a connection", n)
		}
	}
	for _, trouble := range []string{"venue limits requests", "answers 429", "answers 418"} {
		if lines, _ := c.said(trouble); len(lines) > 0 {
			t.Errorf("%d times: %s", len(lines), lines[0])
		}
	}
	// A full window at once, then what is left in the next ones.
	ideal := time.Duration((len(c.live)*weight-1)/usable) * time.Minute
	t.Logf("all books in %s, after a storm of %d connections in %s; their weight alone takes %s", start.Round(time.Second), connections, again.Round(time.Second), ideal)
	if again > ideal+20*time.Second {
		t.Errorf("after the storm it takes %s, and the weight %s", again, ideal)
	}
}

// Three hundred products of Coinbase on 150 connections: a storm cuts them all. Connects
// and commands stay inside what an address may, and the first connection of each feed comes
// before any feed's second one.
func TestCrowdOfCoinbase(t *testing.T) {
	if testing.Short() || raceOn {
		t.Skip("takes seconds")
	}
	c := newCrowd(t, "coinbase", 300, 8, 2, 0)
	start := c.wait(t, 20*time.Minute, "verified")
	if err := c.until(c.m.nowNs+int64(10*time.Minute), func() bool { return len(c.v.conns) >= 154 }); err != nil { // the second lines, too
		t.Fatal(err)
	}
	connections := c.storm()
	if connections < 150 {
		t.Errorf("%d connections are up", connections)
	}
	if err := c.until(c.m.nowNs+int64(time.Second), nil); err != nil {
		t.Fatal(err)
	}
	again := c.wait(t, 20*time.Minute, "verified")
	hears, commands := c.said(" hears {")
	_, connects := c.said(" is up")
	v, _ := registry.ByName("coinbase")
	if n, limit := most(commands, time.Second), v.Rules().CommandsPerSecond; n > limit {
		t.Errorf("%d commands within a second, and the venue lets %d", n, limit)
	}
	if n, limit := most(connects, time.Second), v.Rules().ConnectsPerWindow; n > limit {
		t.Errorf("%d connects within a second, and the venue lets %d", n, limit)
	}
	// The last live product's subscription, and what went to dead ones before it.
	early, live := 0, map[string]bool{}
	for _, l := range hears {
		product := l[strings.Index(l, "product_ids")+1:]
		if strings.Contains(l, "DEAD") && len(live) < len(c.live) {
			early++
		}
		if strings.Contains(l, `"level2"`) && !strings.Contains(l, "unsubscribe") && !strings.Contains(l, "DEAD") {
			live[product[:min(len(product), 40)]] = true
		}
	}
	// The commands of the first lines, five a second: eight less a fifth, and less one that
	// is kept for the first command of a connection.
	ideal := time.Duration(len(c.live)/4*9) * time.Second / 5
	t.Logf("all books in %s; after a storm of %d connections in %s (at five commands a second, %s); %d of %d commands until then were for dead products",
		start.Round(time.Second), connections, again.Round(time.Second), ideal, early, len(hears))
	if early > 0 {
		t.Errorf("%d commands for dead products before the last live one was subscribed", early)
	}
	for what, took := range map[string]time.Duration{"the start": start, "the storm": again} {
		if took > ideal+ideal/10 {
			t.Errorf("after %s the books are there in %s, want about %s", what, took, ideal)
		}
	}
}
