package agent

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
)

// Status of an agent: what the page shows and tests read.
type Status struct {
	Agent            string           `json:"agent"`
	StartedNs        int64            `json:"started_ns"`
	NowNs            int64            `json:"now_ns"`
	Troubles         []string         `json:"troubles"`
	Symbols          []SymbolStatus   `json:"symbols"`
	Feeds            []FeedStatus     `json:"feeds"`
	Rows             map[string]Rows  `json:"rows"` // by table
	Frames           map[string]int64 `json:"frames"`
	LedgerDifference int64            `json:"ledger_difference"`
	Latency          []Latency        `json:"latency"`
	Journal          JournalStatus    `json:"journal"`
	LagInputs        uint64           `json:"lag_inputs"` // in the journal and not yet acknowledged
	LastAckNs        int64            `json:"last_ack_ns"`
	Unknown          []UnknownFrames  `json:"unknown_frames"`
}

// SymbolStatus is one line of the page.
type SymbolStatus struct {
	Venue         string                  `json:"venue"`
	Symbol        string                  `json:"symbol"`
	Connected     bool                    `json:"connected"`
	Book          string                  `json:"book"`
	Bids          int                     `json:"bids"`
	Asks          int                     `json:"asks"`
	Buffered      int                     `json:"buffered"`
	LastMessageNs int64                   `json:"last_message_ns"`
	BookMessages  uint64                  `json:"book_messages"`
	Trades        uint64                  `json:"trades"`
	Quotes        uint64                  `json:"quotes"`
	Gaps          uint64                  `json:"gaps"`
	LastGapCause  string                  `json:"last_gap_cause"`
	Fetches       uint64                  `json:"snapshot_requests"`
	Stale         uint64                  `json:"stale_snapshots"`
	Widenings     uint64                  `json:"scale_widenings"`
	OffGrid       uint64                  `json:"off_grid_prices"`
	Refused       string                  `json:"refused,omitempty"` // the venue's words for what it does not send
	Coverage      map[string]StreamStatus `json:"coverage"`
}

// StreamStatus is the current coverage interval of a stream.
type StreamStatus struct {
	State string `json:"state"`
	Proof string `json:"proof,omitempty"`
	Cause string `json:"cause,omitempty"`
	Ts    int64  `json:"ts"`
	TsEnd int64  `json:"ts_end"`
}

// FeedStatus is the way of one feed's inputs.
type FeedStatus struct {
	Feed         uint16 `json:"feed"`
	Venue        string `json:"venue"`
	Symbols      int    `json:"symbols"`
	Derived      uint64 `json:"derived"`
	Written      uint64 `json:"written"`
	Acked        uint64 `json:"acked"`
	Deferring    bool   `json:"deferring"`
	RingBytes    int    `json:"row_ring_bytes"`
	RingHigh     int    `json:"row_ring_high_bytes"`
	InputHigh    int    `json:"input_ring_high_bytes"`
	Connects     uint64 `json:"connects"`
	ConnectFails uint64 `json:"connect_failures"`
	Disconnects  uint64 `json:"disconnects"`
	LostFrames   uint64 `json:"lost_frames"`
}

// Rows is the ledger of one table over all feeds.
type Rows struct {
	Derived     uint64 `json:"derived"`
	InRing      uint64 `json:"in_ring"`
	Batched     uint64 `json:"batched"`
	Deferred    uint64 `json:"deferred"`
	Acked       uint64 `json:"acked"`
	Quarantined uint64 `json:"quarantined"`
}

// Latency is one histogram, in ns, of all since the start. Buckets tell what lies
// between two looks at it.
type Latency struct {
	Stage   string          `json:"stage"`
	Count   uint64          `json:"count"`
	P50Ns   int64           `json:"p50_ns"`
	P99Ns   int64           `json:"p99_ns"`
	P999Ns  int64           `json:"p999_ns"`
	MaxNs   int64           `json:"max_ns"`
	Buckets []ledger.Bucket `json:"buckets"`
}

// JournalStatus tells what the journal writer did.
type JournalStatus struct {
	Dir     string `json:"dir"`
	Records uint64 `json:"records"`
	Bytes   uint64 `json:"bytes"`
}

var stages = [...]string{"read_to_published", "published_to_journalled", "journalled_to_acknowledged", "venue_to_read", "venue_to_published"}

func (a *Agent) histogram(stage int) ledger.Snapshot {
	var s ledger.Snapshot
	for _, l := range a.lanes {
		[...]*ledger.Histogram{&l.ReadPublished, &l.PublishedJournalled, &l.JournalledAcked, &l.VenueRead, &l.VenuePublished}[stage].Read(&s)
	}
	return s
}

// Status of the agent now. Any goroutine.
func (a *Agent) Status() Status {
	st := Status{
		Agent: a.name, StartedNs: a.started, NowNs: a.clock.NowNs(), Troubles: a.troubles(), Unknown: a.unknownFrames(),
		Rows: map[string]Rows{}, Frames: map[string]int64{},
		Journal: JournalStatus{Dir: a.cfg.Journal.Dir, Records: a.journaler.records.Load(), Bytes: a.journaler.bytes.Load()},
	}
	for i, l := range a.lanes {
		c := a.sessions[i].Counters()
		st.Feeds = append(st.Feeds, FeedStatus{
			Feed: l.Feed, Venue: a.feeds[i].Venue, Symbols: len(a.feeds[i].Instruments),
			Derived: l.Derived(), Written: l.Written(), Acked: l.Acked(), Deferring: l.Deferring(),
			RingBytes: l.RowBytes(), RingHigh: l.RowHighWaterBytes(), InputHigh: l.Inputs.HighWaterBytes(),
			Connects: c.Connects.Load(), ConnectFails: c.ConnectFailures.Load(), Disconnects: c.Disconnects.Load(), LostFrames: c.LostInputs.Load(),
		})
		frames := l.Frames.Read()
		st.LedgerDifference += abs(frames.Difference())
		for k, e := range ledger.Entries {
			name := e.Label
			if e.Reason != "" {
				name += "_" + e.Reason
			}
			st.Frames[name] += int64(frames[k])
		}
		for t, c := range l.Rows.Read() {
			name := event.Table(t).String()
			r := st.Rows[name]
			if a.deliverer != nil {
				st.LedgerDifference += abs(c.Difference())
			}
			st.Rows[name] = Rows{r.Derived + c.Derived, r.InRing + c.InRing, r.Batched + c.Batched, r.Deferred + c.Deferred, r.Acked + c.Acked, r.Quarantined + c.Quarantined}
		}
		if fs := a.sessions[i].Status(); fs != nil {
			for _, in := range fs.Instruments {
				s := SymbolStatus{
					Venue: fs.Venue, Symbol: in.Symbol, Connected: fs.Connected, Book: in.Book, Bids: in.Bids, Asks: in.Asks,
					Buffered: in.Buffered, LastMessageNs: in.LastMessageTs, BookMessages: in.Stats.BookMessages, Trades: in.Stats.Trades,
					Quotes: in.Stats.Quotes, Gaps: in.Stats.Gaps, LastGapCause: in.Stats.LastGapCause.String(), Fetches: in.Stats.Fetches,
					Stale: in.Stats.StaleSnapshots, Widenings: in.Stats.Widenings, OffGrid: in.Stats.OffGrid, Refused: in.Refused, Coverage: map[string]StreamStatus{},
				}
				for k := range in.Streams {
					x := in.Streams[k]
					if x.Ts == 0 {
						continue // not recorded
					}
					s.Coverage[event.Stream(k).String()] = StreamStatus{x.State, x.Proof, x.Cause, x.Ts, x.TsEnd}
				}
				st.Symbols = append(st.Symbols, s)
			}
		}
	}
	if a.deliverer != nil {
		_, inputs := a.pastRuns.behind()
		st.LagInputs = a.liveLag() + inputs
		st.LastAckNs = a.deliverer.Health.LastAckNs()
	}
	for k, name := range stages {
		if s := a.histogram(k); s.Count > 0 {
			st.Latency = append(st.Latency, Latency{name, s.Count, s.Quantile(0.5), s.Quantile(0.99), s.Quantile(0.999), s.MaxNs, s.Buckets()})
		}
	}
	return st
}

// logSummary is the last word of a run: what it has recorded, and what of it QuestDB
// does not have.
func (a *Agent) logSummary() {
	st := a.Status()
	gaps := uint64(0)
	for _, s := range st.Symbols {
		gaps += s.Gaps
	}
	about := []any{
		"after", time.Duration(st.NowNs - st.StartedNs).Round(time.Second), "frames", st.Frames["received"], "lost", st.Frames["lost"],
		"gaps", gaps, "journal", fmt.Sprintf("%d inputs, %d bytes", st.Journal.Records, st.Journal.Bytes),
	}
	if a.deliverer == nil {
		a.log.Info("stopped; questdb is off: `deeptape replay` delivers what the journal has", about...)
		return
	}
	rows := map[string]uint64{}
	for table, r := range st.Rows {
		if r.Acked > 0 {
			rows[table] = r.Acked
		}
	}
	text := "stopped; nothing is left to deliver"
	if st.LagInputs > 0 {
		text = "stopped; the journal has what QuestDB does not have yet"
	}
	a.log.Info(text, append(about, "inputs_left", st.LagInputs, "rows_acknowledged", rows)...)
}

// liveLag is how many inputs of this run are not in QuestDB.
func (a *Agent) liveLag() (inputs uint64) {
	for _, l := range a.lanes {
		inputs += l.Derived() - min(l.Derived(), l.Acked())
	}
	return inputs
}

func abs(v int64) int64 { return max(v, -v) }

// stuckNs: what waits this long while nothing moves is stuck, whatever all parts
// say of themselves.
const stuckNs = int64(8 * time.Second)

// progress of one stage: when it last moved, or had nothing to do.
type progress struct {
	done    uint64
	sinceNs atomic.Int64
}

func (p *progress) look(done uint64, waiting bool, now int64) {
	if done != p.done || !waiting || p.sinceNs.Load() == 0 {
		p.done = done
		p.sinceNs.Store(now)
	}
}

// stuckFor is 0 while the stage moves.
func (p *progress) stuckFor(now int64) time.Duration {
	since := p.sinceNs.Load()
	if since == 0 || now-since < stuckNs {
		return 0
	}
	return time.Duration(now - since).Round(time.Second)
}

// watchProgress looks every second whether what waits moves, until ctx ends.
func (a *Agent) watchProgress(ctx context.Context) {
	for a.machine.Sched.Sleep(ctx, time.Second) {
		a.survive("the watch over progress", a.lookAtProgress)
	}
}

func (a *Agent) lookAtProgress() {
	now := a.clock.NowNs()
	var written, acked uint64
	toWrite, toAck := false, false
	for _, l := range a.lanes {
		toWrite = toWrite || l.Written() < l.Derived()
		toAck = toAck || l.Acked() < min(l.Written(), l.Derived())
		written += l.Written()
		acked += l.Acked()
	}
	a.writing.look(written, toWrite, now)
	if a.deliverer != nil {
		acked += a.deliverer.Stats.Batches.Load()
		if d := a.pastRuns.deliverer.Load(); d != nil {
			acked += d.Stats.Batches.Load()
		}
		a.delivering.look(acked, toAck, now)
	}
}

// troubles lists what is wrong at present, with what heals it.
func (a *Agent) troubles() []string {
	out := []string{}
	now := a.clock.NowNs()
	if t := a.journaler.Trouble(); t != "" {
		out = append(out, "journal: "+t)
	} else if stuck := a.writing.stuckFor(now); stuck > 0 {
		out = append(out, fmt.Sprintf("journal: frames wait, and nothing has been written for %s: the disk of %s does not answer", stuck, a.cfg.Journal.Dir))
	}
	if a.deliverer != nil {
		d := a.deliverer
		if past := a.pastRuns.deliverer.Load(); past != nil {
			d = past
		}
		if t, since := d.Health.Trouble(); t != "" {
			out = append(out, fmt.Sprintf("questdb: %s (for %s)", t, time.Duration(now-since).Round(time.Second)))
		}
		if stuck := a.delivering.stuckFor(now); stuck > 0 {
			out = append(out, fmt.Sprintf("questdb: rows wait, and QuestDB at %s has acknowledged nothing for %s; if it hangs: `%s`, then %s", a.conf.Addr, stuck, a.conf.StopCommand(), a.conf.StartAdvice()))
		}
	}
	if t := a.inQuarantine.Load(); t != nil && *t != "" {
		out = append(out, *t)
	}
	out = append(out, a.panics.troubles()...)
	if t := a.letGo.Load(); t != nil {
		out = append(out, "journal: "+*t)
	}
	for i, s := range a.sessions {
		st := s.Status()
		vain := s.InVain()
		if vain != "" {
			out = append(out, fmt.Sprintf("%s feed %d: %s", a.feeds[i].Venue, i, vain))
		}
		if st == nil || !st.Connected {
			if vain == "" && now-a.started > 10e9 {
				out = append(out, fmt.Sprintf("%s feed %d: not connected", a.feeds[i].Venue, i))
			}
			continue
		}
		for _, in := range st.Instruments {
			b := in.Streams[event.StreamBook]
			if b.State != event.StateVerified.String() && now-b.Ts > 15e9 {
				why := ""
				if in.Refused != "" {
					why = ": the venue refuses it: " + in.Refused
				}
				out = append(out, fmt.Sprintf("%s %s: book is %s (%s) for %s%s", st.Venue, in.Symbol, b.State, b.Cause, time.Duration(now-b.Ts).Round(time.Second), why))
			}
		}
	}
	return out
}
