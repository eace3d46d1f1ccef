package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"deeptape/hotpath/event"
	"deeptape/hotpath/journal"
)

// What may be deleted, and when.
//
// A segment may go when QuestDB has acknowledged the rows of all its inputs, and
// when a later segment has, for each feed, a keyframe or run record from which
// everything that is not acknowledged can be derived. It goes when it is older
// than journal.keep, or when the journal is larger than journal.max or the disk
// has less than freeBytesLow left. Nothing else is ever deleted: with QuestDB away
// (or off) the journal grows to journal.max or to the last of the disk, then takes
// nothing more, and frames are lost, counted, and stand in coverage.
const (
	retentionEvery = 10 * time.Second
	freeBytesLow   = 2 << 30   // start deleting what may go
	freeBytesNone  = 256 << 20 // stop writing
)

// anchors remembers where in each segment each feed can first be derived from.
// A segment that has been written stays as it is, so what was found stays true.
type anchors struct {
	fs  journal.FS
	dir string

	mu    sync.Mutex // retention and catch-up both ask
	known map[uint64]map[uint16]uint64
}

// at returns the position of the first keyframe or run record of a feed in a
// segment; ok is false if there is none (yet).
func (a *anchors) at(segment uint64, feed uint16) (pos uint64, ok bool, err error) {
	if pos, ok := a.known[segment][feed]; ok {
		return pos, true, nil
	}
	r := journal.NewReader(a.fs, a.dir, journal.Position{Segment: segment})
	defer r.Close()
	for {
		in, err := r.Next()
		var damage *journal.DamageError
		switch {
		case errors.As(err, &damage):
			continue
		case errors.Is(err, io.EOF):
			return 0, false, nil
		case err != nil:
			return 0, false, err
		}
		if r.Position().Segment > segment {
			return 0, false, nil
		}
		if in.Kind == event.InputRun || in.Kind == event.InputKeyframe {
			if a.known[segment] == nil {
				a.known[segment] = map[uint16]uint64{}
			}
			if _, have := a.known[segment][in.Feed]; !have {
				a.known[segment][in.Feed] = in.Pos
			}
			if in.Feed == feed {
				return in.Pos, true, nil
			}
		}
	}
}

// segmentFor returns the latest segment from which the rows of every feed can be
// derived from the input after the given one on.
func (a *anchors) segmentFor(segments []journal.Segment, after map[uint16]uint64) (uint64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := len(segments) - 1; i > 0; i-- {
		good := true
		for feed, pos := range after {
			at, ok, err := a.at(segments[i].Number, feed)
			if err != nil {
				return 0, err
			}
			// The anchor's own rows are derived from it, so it must be behind us.
			if !ok || at > pos {
				good = false
				break
			}
		}
		if good {
			return segments[i].Number, nil
		}
	}
	if len(segments) == 0 {
		return 0, nil
	}
	return segments[0].Number, nil
}

// startOf is segmentFor over the segments that there are now.
func (a *anchors) startOf(after map[uint16]uint64) (journal.Position, error) {
	segments, err := journal.Segments(a.fs, a.dir)
	if err != nil {
		return journal.Position{}, err
	}
	segment, err := a.segmentFor(segments, after)
	return journal.Position{Segment: segment}, err
}

// keepWithinLimits runs until ctx ends.
func (a *Agent) keepWithinLimits(ctx context.Context) {
	t := time.NewTicker(retentionEvery)
	defer t.Stop()
	for {
		if err := a.limitJournal(); err != nil {
			a.log.Warn("cannot look after the journal's limits", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (a *Agent) limitJournal() error {
	dir := a.cfg.Journal.Dir
	segments, err := journal.Segments(a.fs, dir)
	if err != nil {
		return err
	}
	free, err := freeBytes(dir)
	if err != nil {
		return err
	}
	total := int64(0)
	for _, s := range segments {
		total += s.Bytes
	}
	maxBytes, keepNs := int64(a.cfg.Journal.Max), int64(a.cfg.Journal.Keep)
	now := a.clock.NowNs()
	old := len(segments) > 1 && keepNs > 0 && segments[1].Ts > 0 && now-segments[1].Ts > keepNs
	remove := uint64(0)
	if old || total > maxBytes || free < freeBytesLow {
		keepFrom, err := a.anchors.segmentFor(segments, a.ackedNow())
		if err != nil {
			return err
		}
		for i := 0; i+1 < len(segments) && segments[i].Number < keepFrom; i++ {
			// A segment ends where the next one begins.
			tooOld := keepNs > 0 && segments[i+1].Ts > 0 && now-segments[i+1].Ts > keepNs
			if !tooOld && total <= maxBytes && free >= freeBytesLow {
				break
			}
			remove = segments[i+1].Number
			total -= segments[i].Bytes
			free += segments[i].Bytes
		}
	}
	a.journaler.removeBefore.Store(remove)
	full := ""
	switch {
	case total > maxBytes:
		full = fmt.Sprintf("the journal is at journal.max (%d MiB) and QuestDB has not acknowledged what is in it: frames are lost until it has, or until journal.max is raised", maxBytes>>20)
	case free < freeBytesNone:
		full = fmt.Sprintf("the journal's disk is full (%d MiB left): frames are lost until there is room", free>>20)
	}
	a.journaler.setFull(full)
	return nil
}

// ackedNow is how far each feed is acknowledged: those of this run, and those that
// only earlier runs had.
func (a *Agent) ackedNow() map[uint16]uint64 {
	acked := map[uint16]uint64{}
	for f, pos := range a.pastRuns.pos {
		if a.pastRuns.acked[f] < pos { // else nobody will derive it again
			acked[f] = a.pastRuns.acked[f]
		}
	}
	for _, l := range a.lanes {
		acked[l.Feed] = 0
		if a.deliverer != nil {
			acked[l.Feed] = l.Acked()
		}
	}
	return acked
}

func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("cannot ask how full the disk of %q is: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}
