package agent

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"deeptape/hotpath/event"
	"deeptape/ilp/qdb"
	"deeptape/ilp/verify"
)

// keeper chooses what of a journal's rows a replay delivers: those in its window, but
// for what the journal knows less of than the database. A row that QuestDB has does not
// go away again, so a replay may add what is missing there and must never put something
// else beside or in place of what is:
//
// Past a hole in the journal, until the next keyframe, rows have other times than those
// that were made of the whole, and books are a gap. Where the database has a record of
// that time, that stays and nothing of the hole is delivered. And an interval of coverage
// ends where the journal ends, or its hole begins; one that is longer in the database
// stays so.
type keeper struct {
	from, to int64 // 0: open
	insts    map[uint32]instrumentKey
	holes    map[instrumentKey][]verify.Lost
	ends     map[intervalKey]int64
	left     uint64 // records of holes that were not delivered
}

type intervalKey struct {
	instrumentKey
	stream string
	ts     int64
}

// newKeeper asks the database for its coverage. lost is of the journal.
func newKeeper(ctx context.Context, db *qdb.DB, lost []verify.Lost, from, to int64, log *slog.Logger) (*keeper, error) {
	k := &keeper{from: from, to: to, insts: map[uint32]instrumentKey{}, holes: map[instrumentKey][]verify.Lost{}, ends: map[intervalKey]int64{}}
	res, err := db.Query(ctx, "SELECT venue, symbol, stream, ts, ts_end FROM "+db.Table("coverage"), "venue", "symbol", "stream", "ts", "ts_end")
	if err != nil {
		return nil, fmt.Errorf("cannot see what the database has already: %w", err)
	}
	for i := range res.Len() {
		key := instrumentKey{res.Text(i, "venue"), res.Text(i, "symbol")}
		begin, _ := res.Time(i, "ts")
		end, _ := res.Time(i, "ts_end")
		k.ends[intervalKey{key, res.Text(i, "stream"), begin}] = end
		for _, l := range lost {
			if l.Damaged && l.Venue == key.venue && l.Symbol == key.symbol && begin <= l.To && end > l.From {
				k.spare(key, l, log)
			}
		}
	}
	return k, nil
}

// spare keeps a replay from the time of a hole.
func (k *keeper) spare(key instrumentKey, l verify.Lost, log *slog.Logger) {
	if slices.Contains(k.holes[key], l) {
		return
	}
	k.holes[key] = append(k.holes[key], l)
	log.Warn("the journal has lost inputs; what the database has of that time stays as it is",
		"venue", l.Venue, "symbol", l.Symbol, "from", qdb.FormatTime(l.From), "to", qdb.FormatTime(l.To))
}

// keep says whether a record is delivered.
func (k *keeper) keep(_ uint16, h *event.Head, rec []byte) bool {
	if h.Kind == event.RowInst {
		inst, err := event.InstrumentOf(rec)
		if err == nil {
			k.insts[h.Inst] = instrumentKey{inst.Venue, inst.Symbol}
		}
		return err == nil
	}
	if !inWindow(h.Ts, k.from, k.to) {
		return false
	}
	key := k.insts[h.Inst]
	for _, l := range k.holes[key] {
		if h.Ts > l.From && h.Ts <= l.To {
			k.left++
			return false
		}
	}
	if h.Kind == event.RowCoverage {
		if c := event.GetCoverage(rec); c.TsEnd < k.ends[intervalKey{key, c.Stream.String(), c.Ts}] {
			return false // also on the way to what it was at last
		}
	}
	return true
}
