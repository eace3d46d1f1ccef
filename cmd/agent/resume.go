package agent

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"deeptape/hotpath/event"
	"deeptape/ilp/qdb"
	"deeptape/venues/feed"
	"deeptape/venues/registry"
)

// resumeFromDB asks the database where an instrument's rows and intervals end,
// for a journal that does not know.
func (a *Agent) resumeFromDB(ctx context.Context, key instrumentKey) (r feed.Resume, err error) {
	where := fmt.Sprintf("WHERE venue = %s AND symbol = %s", qdb.Quote(key.venue), qdb.Quote(key.symbol))
	for table := range event.TableBookDepth { // a row of book_depth has the ts of one of book_delta
		res, err := a.db.Query(ctx, fmt.Sprintf("SELECT ts FROM %s %s LIMIT -1", a.db.Table(table.String()), where), "ts")
		if err != nil {
			return r, fmt.Errorf("cannot learn where the rows of %s %s end: %w", key.venue, key.symbol, err)
		}
		if res.Len() > 0 {
			ts, _ := res.Time(0, "ts")
			r.LastTs = max(r.LastTs, ts)
		}
	}
	res, err := a.db.Query(ctx, "SELECT stream, max(ts_end) ts_end FROM "+a.db.Table("coverage")+" "+where+" GROUP BY stream", "stream", "ts_end")
	if err != nil {
		return r, fmt.Errorf("cannot learn where the coverage of %s %s ends: %w", key.venue, key.symbol, err)
	}
	for i := range res.Len() {
		for s := range event.NumStreams {
			if res.Text(i, "stream") == s.String() {
				r.Ends[s], _ = res.Time(i, "ts_end")
				r.LastTs = max(r.LastTs, r.Ends[s])
			}
		}
	}
	return r, a.lastTradeOf(ctx, key, &r)
}

// lastTradeOf asks the database for the last trade of an instrument, where its venue
// numbers them. The latest venue time is looked for among some more: it need not be the
// last one's.
func (a *Agent) lastTradeOf(ctx context.Context, key instrumentKey, r *feed.Resume) error {
	if venue, err := registry.ByName(key.venue); err != nil || !venue.Rules().TradesCount {
		return err
	}
	res, err := a.db.Query(ctx, fmt.Sprintf("SELECT trade_id, ts_event FROM %s WHERE venue = %s AND symbol = %s LIMIT -1000", a.db.Table(event.TableTrades.String()), qdb.Quote(key.venue), qdb.Quote(key.symbol)), "trade_id", "ts_event")
	if err != nil {
		return fmt.Errorf("cannot learn the last trade of %s %s: %w", key.venue, key.symbol, err)
	}
	r.LastTrade, r.LastTradeTs = 0, 0
	for i := range res.Len() {
		if n, err := strconv.ParseInt(res.Text(i, "trade_id"), 10, 64); err == nil {
			r.LastTrade = n
		}
		if ts, ok := res.Time(i, "ts_event"); ok {
			r.LastTradeTs = max(r.LastTradeTs, ts)
		}
	}
	return nil
}

// resumeAhead moves the ends that the journal knows to where the database has more: a
// power loss takes the newest of the journal, and QuestDB may have had its rows. Those
// rows stay, and what the database says of their intervals is said again, because
// what is left of the journal would cut it short. They are no longer proven by it.
func (a *Agent) resumeAhead(ctx context.Context, keys []instrumentKey) error {
	after, known := int64(0), map[instrumentKey]int64{} // where the journal's rows end
	for _, key := range keys {
		if r, ok := a.pastRuns.resume[key]; ok {
			known[key] = r.LastTs
			if after == 0 || r.LastTs < after {
				after = r.LastTs
			}
		}
	}
	if after == 0 {
		return nil
	}
	for table := range event.TableBookDepth { // a row of book_depth has the ts of one of book_delta
		res, err := a.db.Query(ctx, fmt.Sprintf("SELECT venue, symbol, max(ts) ts FROM %s WHERE ts > %s GROUP BY venue, symbol", a.db.Table(table.String()), qdb.FormatTime(after)), "venue", "symbol", "ts")
		if err != nil {
			return fmt.Errorf("cannot learn whether QuestDB is ahead of the journal: %w", err)
		}
		for i := range res.Len() {
			key := instrumentKey{res.Text(i, "venue"), res.Text(i, "symbol")}
			if r, ok := a.pastRuns.resume[key]; ok {
				ts, _ := res.Time(i, "ts")
				if at, ours := known[key]; ours && table == event.TableTrades && ts > at {
					if err := a.lastTradeOf(ctx, key, &r); err != nil {
						return err
					}
				}
				r.LastTs = max(r.LastTs, ts)
				a.pastRuns.resume[key] = r
			}
		}
	}
	res, err := a.db.Query(ctx, fmt.Sprintf("SELECT venue, symbol, stream, state, proof, cause, ts, ts_end, seq_first, seq_last, messages FROM %s WHERE ts_end > %d::timestamp_ns ORDER BY ts", a.db.Table("coverage"), after),
		"venue", "symbol", "stream", "state", "proof", "cause", "ts", "ts_end", "seq_first", "seq_last", "messages")
	if err != nil {
		return fmt.Errorf("cannot learn whether QuestDB is ahead of the journal: %w", err)
	}
	ends := map[instrumentKey][event.NumStreams]int64{} // as the journal has them
	for i := range res.Len() {
		key := instrumentKey{res.Text(i, "venue"), res.Text(i, "symbol")}
		r, ok := a.pastRuns.resume[key]
		if !ok {
			continue
		}
		if _, ok := ends[key]; !ok {
			ends[key] = r.Ends
		}
		iv := feed.Interval{
			Stream: named(event.NumStreams, res.Text(i, "stream")), State: named(event.StateVerified+1, res.Text(i, "state")),
			Proof: named(event.ProofTradeID+1, res.Text(i, "proof")), Cause: named(event.CauseJournal+1, res.Text(i, "cause")),
		}
		iv.Ts, _ = res.Time(i, "ts")
		iv.End, _ = res.Time(i, "ts_end")
		iv.SeqFirst, iv.SeqLast = orNull(res, i, "seq_first"), orNull(res, i, "seq_last")
		iv.Messages, _ = res.Int(i, "messages")
		if iv.End <= ends[key][iv.Stream] {
			continue
		}
		a.log.Warn("QuestDB is ahead of the journal, which a power loss has cut short: what it holds stays, unproven", "venue", key.venue, "symbol", key.symbol, "interval", fmt.Sprintf("%s %s..%s", iv.Stream, qdb.FormatTime(iv.Ts), qdb.FormatTime(iv.End)))
		r.Unwritten = append(slices.DeleteFunc(r.Unwritten, func(u feed.Interval) bool { return u.Stream == iv.Stream && u.Ts >= iv.Ts }), iv)
		r.Ends[iv.Stream] = max(r.Ends[iv.Stream], iv.End)
		r.LastTs = max(r.LastTs, iv.End)
		a.pastRuns.resume[key] = r
	}
	return nil
}

// named finds the value below end that is written so, or the first one.
func named[T interface {
	~uint8
	fmt.Stringer
}](end T, name string) T {
	for v := range end {
		if v.String() == name {
			return v
		}
	}
	return 0
}

func orNull(res *qdb.Result, row int, column string) int64 {
	if n, ok := res.Int(row, column); ok {
		return n
	}
	return event.Null
}

// An agent extends its coverage every second. One that has done so this recently
// may be alive, and is looked at twice.
const (
	aliveNs   = int64(30 * time.Second)
	watchTime = 4 * time.Second
)

// watchForSecond ends a capture that was started together with another one of the
// same symbols: neither had extended its coverage when the other looked. Of two,
// the one whose name comes later gives way.
func (a *Agent) watchForSecond(ctx context.Context, stop func(error)) {
	for range 3 {
		if !a.machine.Sched.Sleep(ctx, watchTime) {
			return
		}
		for _, name := range a.cfg.VenueNames() {
			for _, s := range a.cfg.Venues[name].Symbols {
				res, err := a.db.Query(ctx, fmt.Sprintf("SELECT agent FROM %s WHERE venue = %s AND symbol = %s AND ts >= %s AND agent < %s AND agent NOT LIKE '%%/replay' LIMIT 1",
					a.db.Table("coverage"), qdb.Quote(name), qdb.Quote(s), qdb.FormatTime(a.started), qdb.Quote(a.name)), "agent")
				if err == nil && res.Len() > 0 {
					stop(fmt.Errorf("agent %s was started at the same time and is recording %s %s into this database; this one gives way", res.Text(0, "agent"), name, s))
					return
				}
			}
		}
	}
}

// refuseSecond fails if another agent is writing one of our symbols into this
// database: both would call the same instants verified.
func (a *Agent) refuseSecond(ctx context.Context) error {
	recent := func() (map[instrumentKey][2]string, error) {
		res, err := a.db.Query(ctx, fmt.Sprintf("SELECT venue, symbol, last(agent) agent, max(ts_end) ts_end FROM %s WHERE ts_end > %d::timestamp_ns GROUP BY venue, symbol", a.db.Table("coverage"), a.clock.NowNs()-aliveNs), "venue", "symbol", "agent", "ts_end")
		if err != nil {
			return nil, fmt.Errorf("cannot look for another agent: %w", err)
		}
		found := map[instrumentKey][2]string{}
		for i := range res.Len() {
			key := instrumentKey{res.Text(i, "venue"), res.Text(i, "symbol")}
			found[key] = [2]string{res.Text(i, "agent"), res.Text(i, "ts_end")}
		}
		return found, nil
	}
	first, err := recent()
	if err != nil {
		return err
	}
	suspected := false
	for _, name := range a.cfg.VenueNames() {
		for _, s := range a.cfg.Venues[name].Symbols {
			last, ok := first[instrumentKey{name, s}]
			suspected = suspected || ok && !a.pastRuns.agents[last[0]]
		}
	}
	if !suspected {
		return nil
	}
	a.log.Info("coverage of our symbols was extended a moment ago; looking whether another agent is alive", "for", watchTime)
	if !a.machine.Sched.Sleep(ctx, watchTime) {
		return ctx.Err()
	}
	second, err := recent()
	if err != nil {
		return err
	}
	for _, name := range a.cfg.VenueNames() {
		for _, s := range a.cfg.Venues[name].Symbols {
			key := instrumentKey{name, s}
			if now, ok := second[key]; ok && now[1] != first[key][1] {
				return fmt.Errorf("agent %s is recording %s %s into this database; stop it, or record another symbol or into another database", now[0], name, s)
			}
		}
	}
	return nil
}
