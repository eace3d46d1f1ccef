package feed

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
	"deeptape/hotpath/fixed"
	"deeptape/venues/registry"
)

// Version of the derivation. It stands in every run record: rows derived by
// another version may differ, and so may the states in its keyframes, which are then
// not compared.
//
// 6: the detail of a book's gap has the venue's words where it refuses the snapshot;
// Kraken's {"Error":…} and Binance's {"error":{…}} are refusals, and no unknown frames;
// a command that is left without an answer while others have theirs counts as refused.
//
// 7: a book without ids is handed over to another connection, see standby.go.
const Version = 7

// splitsSince is the Version that asks again, on the same connection, for what was left
// without an answer. A run of an earlier one has no such commands in its journal.
const splitsSince = 6

// What a run may have. A REST answer names its instrument in 16 bits.
const (
	topLevelsMax   = 1000
	instrumentsMax = 1 << 12
)

// Config is what a run record holds, as JSON: all that the derivation needs to
// know beside the inputs.
type Config struct {
	Version     int                `json:"version"`
	Agent       string             `json:"agent"`
	Venue       string             `json:"venue"`
	Base        uint32             `json:"base"` // directory index of Instruments[0] in this run's rows
	Instruments []event.Instrument `json:"instruments"`
	Resume      []Resume           `json:"resume,omitempty"` // per instrument, where an earlier run is known
	TopLevels   int                `json:"top_levels"`
	Quotes      bool               `json:"quotes"`
	Depth       int                `json:"depth"`
	DepthBps    []int              `json:"depth_bps,omitempty"` // bands of book_depth, ascending; none: no rows of it

	// AuditEveryNs is how often a book with a fetched snapshot is compared with a new
	// one; 0: never, and no level is called unverified for lying outside. See audit.go.
	AuditEveryNs int64 `json:"audit_every_ns,omitempty"`
}

// Resume is where an earlier run of an instrument ended.
type Resume struct {
	LastTs int64                   `json:"last_ts"` // last row of any stream, 0 for none
	Ends   [event.NumStreams]int64 `json:"ends"`    // last proven instant of each stream, 0 for none

	// Where the venue counts its trades: number of the last one and the latest venue
	// time of those that are stored, 0 for none.
	LastTrade   int64 `json:"last_trade,omitempty"`
	LastTradeTs int64 `json:"last_trade_ts,omitempty"`

	// The intervals that a killed run did not write to their ends.
	Unwritten []Interval `json:"unwritten,omitempty"`
}

// Interval is a coverage interval as a run record holds it.
type Interval struct {
	Stream   event.Stream `json:"stream"`
	State    event.State  `json:"state"`
	Proof    event.Proof  `json:"proof"`
	Cause    event.Cause  `json:"cause"`
	Ts       int64        `json:"ts"`
	End      int64        `json:"end"`
	SeqFirst int64        `json:"seq_first"`
	SeqLast  int64        `json:"seq_last"`
	Messages int64        `json:"messages"`
	Detail   string       `json:"detail,omitempty"`
}

// ConfigOf reads the configuration of a run from its run record, or from one of its
// keyframes, without deriving. It fails for another input, and for one that does not
// parse. It allocates.
func ConfigOf(in *event.Input) (Config, error) {
	switch data := in.Data; in.Kind {
	case event.InputRun:
		var cfg Config
		if err := json.Unmarshal(data, &cfg); err != nil {
			return cfg, fmt.Errorf("cannot read run record %d of feed %d: %w", in.Pos, in.Feed, err)
		}
		return cfg, nil
	case event.InputKeyframe:
		if len(data) < 4 || uint64(binary.LittleEndian.Uint32(data)) > uint64(len(data)-4) {
			return Config{}, fmt.Errorf("cannot read keyframe %d of feed %d: %w", in.Pos, in.Feed, errShortKeyframe)
		}
		var k struct {
			Config Config `json:"config"`
		}
		if err := json.Unmarshal(data[4:4+binary.LittleEndian.Uint32(data)], &k); err != nil {
			return k.Config, fmt.Errorf("cannot read keyframe %d of feed %d: %w", in.Pos, in.Feed, err)
		}
		return k.Config, nil
	}
	return Config{}, fmt.Errorf("input %d of feed %d (%s) holds no configuration", in.Pos, in.Feed, in.Kind)
}

func (m *Machine) run(in *event.Input) error {
	cfg, err := ConfigOf(in)
	if err != nil {
		return err
	}
	m.dropBuffers() // of a run that was killed before its stop record
	if err := m.setUp(cfg, in.Feed); err != nil {
		return fmt.Errorf("cannot start the run at record %d of feed %d: %w", in.Pos, in.Feed, err)
	}
	for i := range m.insts {
		inst := &m.insts[i]
		var resume Resume
		if i < len(cfg.Resume) {
			resume = cfg.Resume[i]
		}
		inst.lastTs = resume.LastTs
		m.putInstrument(inst)
		for _, iv := range resume.Unwritten {
			of := iv.interval()
			m.putInterval(inst, iv.Stream, &of)
		}
		if m.rules.TradesCount && resume.LastTrade > 0 {
			inst.lastTrade = resume.LastTrade
			if resume.LastTradeTs > 0 {
				inst.lastTradeTs = resume.LastTradeTs
			}
		}
		for s := range event.NumStreams {
			if !m.recorded(s) {
				inst.streams[s].end = resume.Ends[s]
				continue
			}
			from, cause := m.now, event.CauseStart
			if resume.Ends[s] != 0 {
				from, cause = resume.Ends[s]+1, event.CauseStop
			}
			m.openGap(inst, s, cause, max(from, 1))
		}
		inst.stats = InstrumentStats{} // the gap before a run is not one of the run's
	}
	return nil
}

// setUp makes the machine that a configuration describes, with empty books.
func (m *Machine) setUp(cfg Config, feedID uint16) error {
	venue, err := registry.ByName(cfg.Venue)
	if err != nil {
		return err
	}
	for i, bps := range cfg.DepthBps {
		if bps < 1 || bps > depthBpsMax || i > 0 && bps <= cfg.DepthBps[i-1] {
			return fmt.Errorf("depth_bps %d do not ascend from 1 to %d", cfg.DepthBps, depthBpsMax)
		}
	}
	if cfg.TopLevels < 1 || cfg.TopLevels > topLevelsMax || len(cfg.Instruments) == 0 || len(cfg.Instruments) > instrumentsMax {
		return fmt.Errorf("%d top levels of %d instruments cannot be", cfg.TopLevels, len(cfg.Instruments))
	}
	for _, inst := range cfg.Instruments {
		if inst.PxScale < 0 || inst.PxScale > fixed.MaxScale || inst.QtyScale < 0 || inst.QtyScale > fixed.MaxScale {
			return fmt.Errorf("instrument %q has scales %d and %d, not between 0 and %d", inst.Symbol, inst.PxScale, inst.QtyScale, fixed.MaxScale)
		}
	}
	m.cfg, m.feed, m.venue, m.rules = cfg, feedID, venue, venue.Rules()
	m.dec = venue.NewDecoder(cfg.Instruments)
	m.insts = make([]instrument, len(cfg.Instruments))
	m.topNow = make([]book.Level, cfg.TopLevels)
	m.lines, m.paired, m.holding, m.leader, m.standing = [numLines]line{}, false, 0, 0, false
	m.patched, m.commandID, m.unanswered, m.begunTs = cfg.Version != Version, 0, 0, 0
	m.strange = nil
	m.requests, m.hole, m.forced, m.only = 0, false, event.Null, part{inst: -1}
	m.counter, m.counted, m.failing = canary{}, 0, [numChecks]int{}
	m.text = make([]byte, 0, 8192)
	for s := range m.sums {
		m.sums[s] = make([]book.Level, m.rules.ChecksumTop)
	}
	for i := range m.insts {
		inst := &m.insts[i]
		*inst = instrument{Instrument: cfg.Instruments[i], dir: cfg.Base + uint32(i), lastTrade: event.Null, lastTradeTs: event.Null, lastQuote: event.Null, lastEventTs: event.Null}
		inst.detail = m.depthDetail()
		inst.audit.renew(0)
		inst.unheard(event.StreamBook)
		inst.unheard(event.StreamTrades)
		inst.tryPx, inst.tryQty = inst.PxScale, inst.QtyScale
		inst.book = newBook(inst)
		for s := range inst.top {
			inst.top[s].levels = make([]book.Level, cfg.TopLevels)
		}
	}
	return nil
}

// newBook makes a book on the instrument's tick as a whole number at its price
// scale, or on 1 where it is not known.
func newBook(inst *instrument) *book.Book {
	inst.tick = 0
	if t, err := fixed.Parse([]byte(inst.Tick), inst.PxScale); err == nil && t > 0 {
		inst.tick = t
	}
	return book.New(max(1, inst.tick))
}
