package agent

import (
	"errors"
	"io"
	"maps"
	"slices"

	"deeptape/hotpath/event"
	"deeptape/ilp/verify"
	"deeptape/venues/feed"
)

// journalledRun is a run of one feed, as far as it has been read.
type journalledRun struct {
	keys    []instrumentKey
	pos     uint64
	last    int64 // stamp of its last input
	stopped bool
	hole    int64 // stamp before the inputs that are missing, 0: none are
}

// lostParts reads a journal through and returns the times whose inputs it has lost:
// from the last input of a run that did not stop by itself to the next run of the
// same symbol, or without end where none follows, and from missing inputs in the middle of a run to the next keyframe,
// which tells what they made. An input that is not possible is missing, and ends its feed
// as a derivation is ended by it.
func lostParts(in feed.Inputs, possible func(*event.Input) error) ([]verify.Lost, error) {
	var all []verify.Lost
	runs := map[uint16]*journalledRun{}
	last := map[instrumentKey]*journalledRun{}
	lose := func(key instrumentKey, from, to int64, damaged bool) {
		if to > from {
			all = append(all, verify.Lost{Venue: key.venue, Symbol: key.symbol, From: from, To: to, Damaged: damaged})
		}
	}
	filled := func(r *journalledRun, to int64) {
		if r.hole != 0 {
			for _, key := range r.keys {
				lose(key, r.hole, to, true)
			}
		}
		r.hole = 0
	}
	for {
		in, err := in.Next()
		if errors.Is(err, io.EOF) {
			for _, id := range slices.Sorted(maps.Keys(runs)) {
				r := runs[id]
				for _, key := range r.keys {
					if last[key] == r && r.hole == 0 && !r.stopped {
						lose(key, r.last, verify.NoRun, false)
					}
				}
				filled(r, r.last)
			}
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		r := runs[in.Feed]
		if possible(&in) != nil {
			if r != nil {
				if r.hole == 0 {
					r.hole = r.last
				}
				r.pos, r.last = in.Pos, in.Ts
			}
			continue
		}
		if in.Kind == event.InputRun || in.Kind == event.InputKeyframe && r == nil {
			cfg, err := feed.ConfigOf(&in)
			if err != nil {
				return nil, err
			}
			begun := &journalledRun{pos: in.Pos, last: in.Ts}
			for i, inst := range cfg.Instruments {
				key := instrumentKey{inst.Venue, inst.Symbol}
				begun.keys = append(begun.keys, key)
				before := last[key]
				last[key] = begun
				if before == nil {
					continue
				}
				// The run may have found rows that are newer than its clock.
				to := in.Ts
				if i < len(cfg.Resume) {
					to = max(to, cfg.Resume[i].LastTs)
				}
				switch {
				case before.hole != 0:
					lose(key, before.hole, to, true)
					before.keys = slices.DeleteFunc(before.keys, func(k instrumentKey) bool { return k == key })
				case !before.stopped || before == r && in.Pos != r.pos+1:
					lose(key, before.last, to, false)
				}
			}
			if r != nil {
				filled(r, in.Ts) // of symbols that are no more
			}
			runs[in.Feed] = begun
			continue
		}
		if r == nil {
			continue // not where a derivation can start
		}
		if in.Pos != r.pos+1 && r.hole == 0 {
			r.hole = r.last
		}
		if in.Kind == event.InputKeyframe {
			filled(r, in.Ts)
		}
		r.pos, r.last, r.stopped = in.Pos, in.Ts, in.Kind == event.InputStop
	}
}
