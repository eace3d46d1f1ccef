package agent

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/VictoriaMetrics/metrics"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/ilp/deliver"
	"deeptape/venues/feed"
)

// metrics names what /metrics shows. Every value is read when it is asked for:
// nothing on the way of a frame knows of it.
func (a *Agent) metrics() *metrics.Set {
	set := metrics.NewSet()
	sample := func(name string, f func() float64) { set.NewGauge(name, f) } // its kind stands in families
	for i, l := range a.lanes {
		venue := a.feeds[i].Venue
		labels := fmt.Sprintf(`venue=%q,feed="%d"`, venue, l.Feed)
		for k, e := range ledger.Entries {
			name := fmt.Sprintf(`deeptape_frames_total{%s,outcome=%q,reason=%q}`, labels, e.Label, e.Reason)
			if ledger.Outcome(k) == ledger.Buffered {
				name = fmt.Sprintf(`deeptape_frames_buffered{%s}`, labels)
			}
			sample(name, func() float64 { return float64(l.Frames.Read()[k]) })
		}
		for t := range event.NumTables {
			row := func(name string, f func(ledger.RowCounts) uint64) {
				sample(fmt.Sprintf(`%s{%s,table=%q}`, name, labels, t.String()), func() float64 { return float64(f(l.Rows.Read()[t])) })
			}
			row("deeptape_rows_derived_total", func(c ledger.RowCounts) uint64 { return c.Derived })
			row("deeptape_rows_acknowledged_total", func(c ledger.RowCounts) uint64 { return c.Acked })
			row("deeptape_rows_quarantined_total", func(c ledger.RowCounts) uint64 { return c.Quarantined })
			row("deeptape_rows_in_ring", func(c ledger.RowCounts) uint64 { return c.InRing })
			row("deeptape_rows_in_flight", func(c ledger.RowCounts) uint64 { return c.Batched })
			row("deeptape_rows_deferred", func(c ledger.RowCounts) uint64 { return c.Deferred })
		}
		sample(fmt.Sprintf(`deeptape_ring_high_water_bytes{%s,ring="inputs"}`, labels), func() float64 { return float64(l.Inputs.HighWaterBytes()) })
		sample(fmt.Sprintf(`deeptape_ring_high_water_bytes{%s,ring="rows"}`, labels), func() float64 { return float64(l.RowHighWaterBytes()) })
		sample(fmt.Sprintf(`deeptape_questdb_lag_inputs{%s}`, labels), func() float64 { return float64(l.Derived() - min(l.Derived(), l.Acked())) })
		sample(fmt.Sprintf(`deeptape_journal_lag_inputs{%s}`, labels), func() float64 { return float64(l.Derived() - min(l.Derived(), l.Written())) })
		c := a.sessions[i].Counters()
		sample(fmt.Sprintf(`deeptape_connects_total{%s}`, labels), func() float64 { return float64(c.Connects.Load()) })
		sample(fmt.Sprintf(`deeptape_connect_failures_total{%s}`, labels), func() float64 { return float64(c.ConnectFailures.Load()) })
		sample(fmt.Sprintf(`deeptape_disconnects_total{%s}`, labels), func() float64 { return float64(c.Disconnects.Load()) })
		sample(fmt.Sprintf(`deeptape_dead_connections_total{%s}`, labels), func() float64 { return float64(c.Dead.Load()) })
		sample(fmt.Sprintf(`deeptape_messages_too_long_total{%s}`, labels), func() float64 { return float64(c.TooLong.Load()) })
		sample(fmt.Sprintf(`deeptape_frames_unjournalled_total{%s}`, labels), func() float64 { return float64(c.LostInputs.Load()) })
		sample(fmt.Sprintf(`deeptape_commands_total{%s}`, labels), func() float64 { return float64(c.Commands.Load()) })
		sample(fmt.Sprintf(`deeptape_commands_held_total{%s}`, labels), func() float64 { return float64(c.CommandsHeld.Load()) })
		sample(fmt.Sprintf(`deeptape_scan_declined_total{%s}`, labels), func() float64 {
			if st := a.sessions[i].Status(); st != nil {
				return float64(st.Declined)
			}
			return 0
		})
		a.symbolMetrics(i, sample)
		a.unknownMetrics(i, labels, sample)
		a.auditMetrics(i, labels, sample)
	}
	sample("deeptape_ledger_difference", func() float64 { return float64(a.Status().LedgerDifference) })
	for _, part := range []string{"journal", "questdb", "venue"} {
		sample(fmt.Sprintf(`deeptape_troubles{part=%q}`, part), func() float64 { return float64(a.countTroubles(part)) })
	}
	sample("deeptape_journal_bytes_total", func() float64 { return float64(a.journaler.bytes.Load()) })
	sample("deeptape_journal_sync_errors_total", func() float64 { return float64(a.journaler.syncErrors.Load()) })
	sample("deeptape_journal_unsynced_bytes", func() float64 { return float64(a.journaler.unsynced.Load()) })
	sample("deeptape_journal_packed_segments_total", func() float64 { return float64(a.packed.segments.Load()) })
	sample("deeptape_journal_packed_saved_bytes_total", func() float64 { return float64(a.packed.savedBytes.Load()) })
	sample("deeptape_journal_records_total", func() float64 { return float64(a.journaler.records.Load()) })
	for k, stage := range stages {
		for _, q := range []float64{0.5, 0.99, 0.999} {
			sample(fmt.Sprintf(`deeptape_latency_seconds{stage=%q,quantile="%g"}`, stage, q), func() float64 {
				s := a.histogram(k)
				return float64(s.Quantile(q)) / 1e9
			})
		}
		sample(fmt.Sprintf(`deeptape_latency_seconds_count{stage=%q}`, stage), func() float64 { s := a.histogram(k); return float64(s.Count) })
		sample(fmt.Sprintf(`deeptape_latency_seconds_sum{stage=%q}`, stage), func() float64 { s := a.histogram(k); return float64(s.SumNs) / 1e9 })
	}
	for s := range event.NumStreams {
		for _, state := range []event.State{event.StateVerified, event.StateUnverified, event.StateGap} {
			sample(fmt.Sprintf(`deeptape_coverage_symbols{stream=%q,state=%q}`, s, state), func() float64 { return float64(a.countState(s, state)) })
		}
	}
	if d := a.deliverer; d != nil {
		sample("deeptape_questdb_batches_total", func() float64 { return float64(d.Stats.Batches.Load()) })
		sample("deeptape_questdb_sent_bytes_total", func() float64 { return float64(d.Stats.Bytes.Load()) })
		sample("deeptape_questdb_retries_total", func() float64 { return float64(d.Stats.Retries.Load()) })
		sample("deeptape_questdb_catch_ups_total", func() float64 { return float64(d.Stats.CatchUps.Load()) })
		sample("deeptape_questdb_lag_transactions", func() float64 { return float64(d.Stats.LagTxns.Load()) })
		sample("deeptape_questdb_lag_seconds", func() float64 { return a.lagSeconds() })
		sample("deeptape_questdb_seconds_since_ack", func() float64 {
			return float64(a.clock.NowNs()-max(d.Health.LastAckNs(), a.started)) / 1e9
		})
	}
	return set
}

// symbolMetrics are those of each symbol of feed i: some fourteen samples, so that some
// hundred symbols are no burden.
func (a *Agent) symbolMetrics(i int, sample func(name string, f func() float64)) {
	for k := range a.feeds[i].Instruments {
		labels := fmt.Sprintf(`venue=%q,symbol=%q`, a.feeds[i].Venue, a.feeds[i].Instruments[k].Symbol)
		put := func(name, more string, f func(*feed.InstrumentStatus) float64) {
			sample(fmt.Sprintf(`deeptape_symbol_%s{%s%s}`, name, labels, more), func() float64 {
				if st := a.sessions[i].Status(); st != nil {
					return f(&st.Instruments[k])
				}
				return 0
			})
		}
		messages := [event.NumStreams]func(*feed.InstrumentStatus) uint64{
			event.StreamBook:   func(s *feed.InstrumentStatus) uint64 { return s.Stats.BookMessages },
			event.StreamTrades: func(s *feed.InstrumentStatus) uint64 { return s.Stats.Trades },
			event.StreamQuotes: func(s *feed.InstrumentStatus) uint64 { return s.Stats.Quotes },
		}
		for s := range event.NumStreams {
			stream := fmt.Sprintf(`,stream=%q`, s)
			put("messages_total", stream, func(st *feed.InstrumentStatus) float64 { return float64(messages[s](st)) })
			put("coverage_state", stream, func(st *feed.InstrumentStatus) float64 {
				return float64(slices.Index(stateNames, st.Streams[s].State))
			})
		}
		put("last_message_timestamp_seconds", "", func(s *feed.InstrumentStatus) float64 { return float64(s.LastMessageTs) / 1e9 })
		put("gaps_total", "", func(s *feed.InstrumentStatus) float64 { return float64(s.Stats.Gaps) })
		put("snapshot_requests_total", "", func(s *feed.InstrumentStatus) float64 { return float64(s.Stats.Fetches) })
		put("book_levels", `,side="bid"`, func(s *feed.InstrumentStatus) float64 { return float64(s.Bids) })
		put("book_levels", `,side="ask"`, func(s *feed.InstrumentStatus) float64 { return float64(s.Asks) })
		put("refused", "", func(s *feed.InstrumentStatus) float64 {
			if s.Refused != "" {
				return 1
			}
			return 0
		})
	}
}

// stateNames are the states of coverage, at the places that deeptape_symbol_coverage_state
// shows; a stream that is not recorded is at none, -1.
var stateNames = []string{event.StateGap.String(), event.StateUnverified.String(), event.StateVerified.String()}

// countTroubles counts what /healthz says of a part. What is not about the journal
// or QuestDB begins with the name of a venue.
func (a *Agent) countTroubles(part string) (n int) {
	for _, t := range a.troubles() {
		of, _, _ := strings.Cut(t, ":")
		if of != "journal" && of != "questdb" {
			of = "venue"
		}
		if of == part {
			n++
		}
	}
	return n
}

// lagSeconds is how long rows have been waiting for QuestDB, at most: the time
// since its last answer, while anything waits.
func (a *Agent) lagSeconds() float64 {
	for _, l := range a.lanes {
		if l.Derived() > l.Acked() {
			return float64(a.clock.NowNs()-max(a.deliverer.Health.LastAckNs(), a.started)) / 1e9
		}
	}
	return 0
}

// countState counts the symbols whose current interval of a stream is in a state.
func (a *Agent) countState(s event.Stream, state event.State) (n int) {
	for _, ss := range a.sessions {
		st := ss.Status()
		if st == nil {
			continue
		}
		for _, in := range st.Instruments {
			if in.Streams[s].State == state.String() {
				n++
			}
		}
	}
	return n
}

// counters are the rows of capture_stats: the ledgers as they stand.
func (a *Agent) counters() []deliver.Stat {
	var stats []deliver.Stat
	now := a.clock.NowNs()
	for i, l := range a.lanes {
		put := func(name string, value uint64) {
			stats = append(stats, deliver.Stat{Ts: now, Venue: a.feeds[i].Venue, Connection: strconv.Itoa(int(l.Feed)), Counter: name, Value: int64(value)})
		}
		frames := l.Frames.Read()
		for k, e := range ledger.Entries {
			name := "frames_" + e.Label
			if e.Reason != "" {
				name += "_" + e.Reason
			}
			put(name, frames[k])
		}
		for t, c := range l.Rows.Read() {
			put("rows_derived_"+event.Table(t).String(), c.Derived)
			put("rows_deferred_"+event.Table(t).String(), c.Deferred)
			put("rows_quarantined_"+event.Table(t).String(), c.Quarantined)
		}
		c := a.sessions[i].Counters()
		put("connects", c.Connects.Load())
		put("disconnects", c.Disconnects.Load())
		if st := a.sessions[i].Status(); st != nil {
			var gaps, stale, fetches uint64
			for _, in := range st.Instruments {
				gaps += in.Stats.Gaps
				stale += in.Stats.StaleSnapshots
				fetches += in.Stats.Fetches
			}
			put("gaps", gaps)
			put("snapshots_stale", stale)
			put("snapshots_requested", fetches)
			put("scan_declined", st.Declined)
		}
		a.unknownStats(i, put)
		a.auditStats(i, put)
	}
	return stats
}
