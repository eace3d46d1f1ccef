package vsim

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"deeptape/bench/simvenue"
	"deeptape/bench/world"
	"deeptape/venues/wire"
)

// venue is a simulated one: the core of bench/simvenue, whose markets go on whoever
// listens, and a bad way from it to the agent. history keeps what is true. The core
// brings the faults that a venue makes itself, once each; the way's strike at rates of
// so many of a thousand.
type venue struct {
	m        *machine
	name     string
	core     *simvenue.Venue
	world    *world.World
	next     *simvenue.Event
	history  *history
	conns    []*conn
	faults   wayFaults
	armed    []simvenue.Fault
	online   bool // it accepts connections
	unlisted bool // its list of symbols cannot be had
	serial   int

	banned  int64 // until then every request is refused
	cached  map[string][]byte
	empties map[string]int // empty snapshots in a row: the agent believes the fourth
}

// wayFaults, each in thousandths of the events that it could strike.
type wayFaults struct {
	drop, double, cut, garble    int // frames
	lag                          int // frames that come up to 3 s late, and those behind them with them
	disconnect, halfOpen         int // connections, a frame
	refuse                       int // connects
	stale, cacheFor, empty, slow int // snapshots (Binance)
	limit, ban, broken           int // requests: 429, 418, no answer
	silent                       int // commands that are never heard
}

const (
	latencyMin, latencyMax = 2 * time.Millisecond, 40 * time.Millisecond
	tickEvery              = 200 * time.Millisecond
)

func newVenue(m *machine, name string, seed uint64, symbols []world.Symbol, faults []simvenue.Fault) (*venue, error) {
	w, err := world.New(seed, world.Spec{Symbols: symbols, StartNs: m.nowNs})
	if err != nil {
		return nil, err
	}
	v := &venue{
		m: m, name: name, world: w, history: newHistory(name, w), armed: faults, online: true,
		cached: map[string][]byte{}, empties: map[string]int{},
	}
	// An hour's notice would outlast the run.
	if v.core, err = simvenue.NewVenue(name, w, faults, simvenue.VenueOptions{NoticeLead: m.between(2*time.Second, 60*time.Second)}); err != nil {
		return nil, err
	}
	v.core.Tell(func(t simvenue.Told) { v.history.told(t, m.nowNs) })
	v.next = v.core.Next()
	v.schedule()
	v.tick()
	return v, nil
}

func (v *venue) schedule() {
	v.m.at(max(v.next.AtNs(), v.m.nowNs), func() {
		e := v.next.Made()
		v.history.happens(v.world.Symbols()[e.Symbol].Name, e)
		v.core.Step(v.next, v.m.nowNs)
		v.next = v.core.Next()
		v.schedule()
	})
}

// tick lets the connections know what time it is.
func (v *venue) tick() {
	v.m.after(tickEvery, func() {
		for _, c := range slices.Clone(v.conns) {
			if !c.ended && !c.halfOpen {
				c.session.Tick(v.m.nowNs)
			}
		}
		v.tick()
	})
}

// weather brings a frame of a topic on its way.
func (v *venue) weather(c *conn, payload []byte) {
	f := &v.faults
	switch {
	case v.m.chance(f.disconnect):
		c.end(&wire.CloseError{Code: 1006, Reason: "simulated cut"}, true)
		return
	case v.m.chance(f.halfOpen):
		v.m.say(v.name, "connection %d is half open from now on", c.serial)
		c.halfOpen = true
		return
	}
	if v.m.chance(f.drop) {
		v.m.say(v.name, "connection %d: dropped %.90s", c.serial, payload)
		return
	}
	lag := time.Duration(0)
	if v.m.chance(f.lag) {
		lag = v.m.between(0, 3*time.Second)
	}
	switch {
	case v.m.chance(f.cut):
		v.m.say(v.name, "connection %d: cut short %.90s", c.serial, payload)
		c.put(payload[:v.m.rng.IntN(len(payload))], lag, false)
	case v.m.chance(f.garble):
		// Where it breaks the form of the JSON: a key that is another one would be what
		// the venue says.
		at := v.m.rng.IntN(len(payload))
		at += max(0, bytes.IndexAny(payload[at:], `{}[]:,"`))
		v.m.say(v.name, "connection %d: broken at byte %d: %.90s", c.serial, at, payload)
		broken := slices.Clone(payload)
		broken[at] = 0
		c.put(broken, lag, false)
	default:
		c.put(payload, lag, false)
	}
	if v.m.chance(f.double) {
		c.put(payload, lag, false)
	}
}

// snapshot is the body that a depth request gets in place of the right one (Binance).
func (v *venue) snapshot(target simvenue.Request, body []byte) []byte {
	query, _ := url.ParseQuery(target.RawQuery)
	symbol := query.Get("symbol")
	v.history.answered(symbol, body)
	sh, f := v.history.byName[symbol], &v.faults
	switch {
	case v.m.chance(f.stale):
		body = []byte(sh.bodies[v.m.rng.IntN(len(sh.bodies))])
	case v.m.chance(f.cacheFor):
		v.cached[symbol] = body
		v.m.after(v.m.between(0, 10*time.Second), func() { delete(v.cached, symbol) })
	case v.empties[symbol] < 3 && v.m.chance(f.empty):
		v.empties[symbol]++
		id, _, _ := strings.Cut(strings.TrimPrefix(string(body), `{"lastUpdateId":`), ",")
		body = []byte(`{"lastUpdateId":` + id + `,"bids":[],"asks":[]}`)
	}
	if old, ok := v.cached[symbol]; ok {
		body = old
	}
	if !strings.Contains(string(body), `"bids":[]`) {
		v.empties[symbol] = 0
	}
	return body
}

// peace ends the faults.
func (v *venue) peace() {
	v.faults, v.online = wayFaults{}, true
	clear(v.cached)
	v.core.Disarm()
}

// away ends all connections.
func (v *venue) away() {
	v.online = false
	for len(v.conns) > 0 {
		v.conns[0].end(fmt.Errorf("the venue goes away"), true)
	}
}
