package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/journal"
)

// What may be deleted, and when.
//
// A segment may go when QuestDB has acknowledged the rows of all its inputs, and
// when the segments after it have, for each feed, a keyframe or run record from
// which everything that is not acknowledged can be derived. It goes when it is older
// than journal.keep, or when the journal is larger than journal.max or the disk
// has less than freeBytesLow left. Nothing else is ever deleted: with QuestDB away
// (or off) the journal grows to journal.max or to the last of the disk, then takes
// nothing more, and frames are lost, counted, and stand in coverage. Where it is
// keyframes that are missing, and not acknowledgements, it may pass journal.max:
// a journal that takes nothing gets no keyframe.
//
// While QuestDB lacks rows that it has acknowledged, nothing goes by age. By size it does:
// what nobody brings back cannot be held for ever, at the cost of what is recorded now. It
// is then a trouble that names the command.
const (
	retentionEvery = 2 * time.Second
	freeBytesLow   = 2 << 30   // start deleting what may go
	freeBytesNone  = 256 << 20 // stop writing
)

// anchors remembers where in each segment each feed can first be derived from.
// A segment that has been written stays as it is, so what was found stays true.
type anchors struct {
	fs  journal.FS
	dir string

	mu      sync.Mutex // retention and catch-up both ask
	known   map[uint64]map[uint16]uint64
	scanned map[uint64]bool // has all anchors of the segment: it is written, and was read to its end
}

// at returns the position of the first keyframe or run record of a feed in a
// segment; ok is false if there is none (yet). last: the segment may still grow.
func (a *anchors) at(segment uint64, feed uint16, last bool) (pos uint64, ok bool, err error) {
	if pos, ok := a.known[segment][feed]; ok || a.scanned[segment] {
		return pos, ok, nil
	}
	if a.scanned == nil {
		a.scanned = map[uint64]bool{}
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
			a.scanned[segment] = !last
			return 0, false, nil
		case err != nil:
			return 0, false, err
		}
		if r.Position().Segment > segment {
			a.scanned[segment] = true
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
// derived from the input after the given one on: each feed has an anchor there, or
// in a later segment, whose own rows are wanted no more.
func (a *anchors) segmentFor(segments []journal.Segment, after map[uint16]uint64) (uint64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(segments) == 0 {
		return 0, nil
	}
	last := len(segments) - 1
	from := last
	for feed, pos := range after {
		for i := last; i >= 0; i-- {
			at, ok, err := a.at(segments[i].Number, feed, i == last)
			if err != nil {
				return 0, err
			}
			if ok && at <= pos || i == 0 {
				from = min(from, i)
				break
			}
		}
	}
	return segments[from].Number, nil
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
	for {
		a.survive("looking after the journal's limits", func() {
			if err := a.limitJournal(a.deliverer != nil && a.deliverer.Lacks()); err != nil {
				a.log.Warn("cannot look after the journal's limits", "err", err)
			}
		})
		a.survive("looking after the quarantine", func() {
			if err := a.lookAtQuarantine(); err != nil {
				a.log.Warn("cannot look after the quarantine", "err", err)
			}
		})
		if !a.machine.Sched.Sleep(ctx, retentionEvery) {
			return
		}
	}
}

// tooOld says whether a segment may go because of its age: it ends at endTs, ns, or at a
// time that is not known, 0. With a keepNs of 0 no age is too old.
func tooOld(endTs, keepNs, now int64) bool {
	return keepNs > 0 && endTs > 0 && now-endTs > keepNs
}

// limitJournal says which segments go. lacks says that QuestDB has lost what only the
// journal can bring back: then nothing goes by age, only for want of room.
func (a *Agent) limitJournal(lacks bool) error {
	dir := a.cfg.Journal.Dir
	segments, err := journal.Segments(a.machine.FS, dir)
	if err != nil {
		return err
	}
	free, err := a.machine.FreeBytes(dir)
	if err != nil {
		return err
	}
	total := int64(0)
	for _, s := range segments {
		total += s.Bytes
	}
	maxBytes, keepNs := int64(a.cfg.Journal.Max), int64(a.cfg.Journal.Keep)
	if lacks {
		keepNs = 0
	}
	now := a.clock.NowNs()
	old := len(segments) > 1 && tooOld(segments[1].Ts, keepNs, now)
	remove, wait := uint64(0), int64(0)
	if old || total > maxBytes || free < freeBytesLow {
		keepFrom, err := a.anchors.segmentFor(segments, a.ackedNow())
		if err != nil {
			return err
		}
		i := 0
		for ; i+1 < len(segments) && segments[i].Number < keepFrom; i++ {
			// A segment ends where the next one begins.
			if !tooOld(segments[i+1].Ts, keepNs, now) && total <= maxBytes && free >= freeBytesLow {
				break
			}
			remove = segments[i+1].Number
			total -= segments[i].Bytes
			free += segments[i].Bytes
		}
		if total > maxBytes {
			// What could go as well if QuestDB had acknowledged all.
			mayGo, err := a.anchors.segmentFor(segments, a.writtenNow())
			if err != nil {
				return err
			}
			for ; i+1 < len(segments) && segments[i].Number < mayGo; i++ {
				wait += segments[i].Bytes
			}
		}
	}
	a.journaler.removeBefore.Store(remove)
	a.noteLetGo(remove > 0, lacks, maxBytes, free)
	full := ""
	switch {
	case total > maxBytes && total-wait <= maxBytes:
		full = fmt.Sprintf("the journal is at journal.max (%d MiB) and QuestDB has not acknowledged what is in it; frames are lost once the rings are full, until it has, or until journal.max is raised; if QuestDB is away, %s", maxBytes>>20, a.conf.StartAdvice())
		if a.db == nil {
			full = fmt.Sprintf("the journal is at journal.max (%d MiB), and with questdb off nothing in it may go; frames are lost once the rings are full, until journal.max is raised", maxBytes>>20)
		}
	case free < freeBytesNone:
		full = fmt.Sprintf("the journal's disk is full (%d MiB left, %d MiB are kept free); frames are lost once the rings are full, until there is room under %s", free>>20, freeBytesNone>>20, dir)
	}
	a.journaler.setFull(full)
	return nil
}

// noteLetGo tells when segments go by size although QuestDB lacks rows that may be in
// them, until it lacks none: it cannot be undone when there is room again.
func (a *Agent) noteLetGo(removing, lacks bool, maxBytes, free int64) {
	switch {
	case !lacks:
		a.letGo.Store(nil)
	case removing:
		text := fmt.Sprintf("the oldest segments go for want of room (journal.max is %d MiB, %d MiB are free under %s), and rows that QuestDB lacks may be in them: bring them back now by %s, or raise journal.max or make room", maxBytes>>20, free>>20, a.cfg.Journal.Dir, a.healCommand())
		if a.letGo.Swap(&text) == nil {
			a.log.Error("the journal lets go of what QuestDB may lack", "reason", text)
		}
	}
}

// ackedNow is how far each feed is acknowledged, of what can and will be delivered
// by this run or a later one: the rows of this run, and those that only earlier
// runs had.
func (a *Agent) ackedNow() map[uint16]uint64 {
	acked, _ := a.pastRuns.behind()
	for _, l := range a.lanes {
		if _, behind := acked[l.Feed]; behind {
			continue
		}
		acked[l.Feed] = a.pastRuns.pos[l.Feed] // all that there was is acknowledged
		if a.deliverer != nil {
			acked[l.Feed] = l.Acked()
		}
	}
	return acked
}

// writtenNow is what ackedNow would be if QuestDB had everything.
func (a *Agent) writtenNow() map[uint16]uint64 {
	written := map[uint16]uint64{}
	for _, l := range a.lanes {
		written[l.Feed] = l.Written()
	}
	return written
}
