package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/journal"
	"deeptape/hotpath/lane"
	"deeptape/hotpath/ring"
	"deeptape/hotpath/task"
	"deeptape/venues/wire"
)

// journaler is the one goroutine that writes the journal: it takes the inputs of
// all lanes and commits them in groups.
type journaler struct {
	w           *journal.Writer
	lanes       []*lane.Lane
	bell        *ring.Doorbell
	deliverBell *ring.Doorbell
	syncEvery   time.Duration
	sched       task.Sched
	clock       wire.Clock
	log         *slog.Logger

	taken   []uint64 // per lane: last position appended
	waiting []waiting
	firstNs int64 // when the oldest record of the current group was appended
	syncNs  int64
	// closedNs is when a commit first failed after every lane had closed.
	closedNs int64

	// Segments and keyframes: when a new segment begins, every lane is asked for a
	// keyframe, in turns over turnsNs. Keyframes may not be what the journal consists of:
	// those of a segment that was full are asked for only out of what was recorded beside
	// them, and a lane whose last one was larger than what is left of that is passed over.
	// The round of an hour passes nobody over, and its keyframes are not counted. So within
	// an hour the others make up no more than half of the records' bytes, but for what a
	// book has grown by since its last one, and a derivation finds a keyframe at most an
	// hour and a minute before any instant; retention has to keep as much more.
	segment  uint64
	hour     int64
	turnNs   int64 // when the turns began, 0: none under way
	asked    int   // lanes that have been asked, or passed over
	again    bool  // another segment has begun meanwhile: another round follows
	hourly   bool  // the round under way is that of an hour
	owesHour bool  // an hour has begun meanwhile: the round that follows is its
	spare    int64 // bytes of records less those of keyframes, since the last round of an hour
	sizes    []keyframeSize

	removeBefore atomic.Uint64          // segments before this may go
	adopt        atomic.Uint64          // a segment that has been packed; 0: none
	full         atomic.Pointer[string] // why the journal must not grow
	stopping     atomic.Bool            // what is on its way is written all the same
	trouble      atomic.Pointer[string] // why nothing can be written at present
	undurable    atomic.Pointer[string] // what a power loss may take although it was synced, and why
	unsynced     atomic.Uint64          // bytes of that
	syncErrors   atomic.Uint64
	bytes        atomic.Uint64
	records      atomic.Uint64
}

type waiting struct {
	lane int
	ts   int64
}

// A group is committed when it is this large or this old: larger groups compress
// better, older ones make rows wait, and are what a kill -9 loses. The BTCUSDT
// recording at its own pace compresses 2.7 times in groups of 5 ms, 3.3 in 20 ms,
// 3.8 in 50 ms and 4.7 in 200 ms; rows wait up to 200 ms for their batch anyway.
const (
	groupBytes = 252 << 10 // a little less than a block: a group is one
	groupNs    = int64(50 * time.Millisecond)
)

func newJournaler(w *journal.Writer, lanes []*lane.Lane, bell, deliverBell *ring.Doorbell, syncEvery time.Duration, sched task.Sched, clock wire.Clock, log *slog.Logger) *journaler {
	return &journaler{w: w, lanes: lanes, bell: bell, deliverBell: deliverBell, syncEvery: syncEvery, sched: sched, clock: clock, log: log, taken: make([]uint64, len(lanes)), sizes: make([]keyframeSize, len(lanes))}
}

const (
	hourNs  = int64(time.Hour)
	turnsNs = int64(time.Minute)
)

// run writes until every lane is closed and empty.
func (j *journaler) run() error {
	j.syncNs = j.clock.NowNs()
	j.hour = j.syncNs / hourNs
	j.segment = j.w.Position().Segment
	for {
		closed := j.allClosed() // before the last look at the rings
		worked := j.take()
		now := j.clock.NowNs()
		j.turns(now)
		switch {
		case j.w.PendingBytes() >= groupBytes, len(j.waiting) > 0 && (now-j.firstNs >= groupNs || closed && !worked):
			if !j.commit() {
				if closed && now-j.stoppedNs(now) > int64(journalStopWithin) {
					return fmt.Errorf("%s; the last %d inputs are lost", j.Trouble(), len(j.waiting))
				}
				j.sched.Sleep(context.Background(), 100*time.Millisecond)
				continue
			}
			worked = true
		case now-j.syncNs >= int64(j.syncEvery):
			j.syncNs = now
			j.sync()
		}
		if closed && !worked && len(j.waiting) == 0 {
			return j.w.Close()
		}
		if worked {
			continue
		}
		j.bell.Prepare()
		if j.take() || closed {
			j.bell.Cancel()
			continue
		}
		wait := j.syncEvery
		if len(j.waiting) > 0 {
			wait = time.Duration(max(0, groupNs-(j.clock.NowNs()-j.firstNs)))
		}
		j.bell.Wait(max(wait, 200*time.Microsecond))
	}
}

// turns begins a new segment at each hour, asks for the keyframes that a new
// segment needs, and removes the segments that may go.
func (j *journaler) turns(now int64) {
	if hour := now / hourNs; hour != j.hour {
		j.hour = hour
		j.owesHour = true
		if err := j.w.Rotate(); err != nil {
			j.fail("cannot begin a new journal segment", err)
		}
		j.lookAtSyncs()
	}
	if s := j.w.Position().Segment; s != j.segment {
		j.segment = s
		// A round that is under way goes on: where segments follow each other faster
		// than turns, the last lanes would never have theirs.
		if j.again = j.turnNs != 0; !j.again {
			j.beginTurns(now)
		}
	}
	for j.turnNs != 0 && now-j.turnNs >= turnsNs*int64(j.asked)/int64(len(j.lanes)) {
		if k := &j.sizes[j.asked]; j.hourly || k.last <= j.spare {
			k.free = k.free || j.hourly
			j.lanes[j.asked].AskKeyframe()
		}
		if j.asked++; j.asked == len(j.lanes) {
			j.turnNs = 0
			if j.again {
				j.again = false
				j.beginTurns(now)
			}
		}
	}
	if number := j.adopt.Load(); number != 0 {
		if err := j.w.Adopt(number); err != nil {
			j.log.Warn("a packed journal segment stays as it was", "err", err)
		}
		j.lookAtSyncs()
		j.adopt.Store(0)
	}
	if before := j.removeBefore.Swap(0); before != 0 {
		n, err := j.w.RemoveBefore(before)
		if err != nil {
			j.fail("cannot remove old journal segments", err)
		}
		if n > 0 {
			j.log.Info("removed journal segments that QuestDB has acknowledged", "segments", n)
		}
		j.lookAtSyncs()
	}
}

// beginTurns begins a round of keyframes.
func (j *journaler) beginTurns(now int64) {
	j.turnNs, j.asked = now, 0
	if j.hourly, j.owesHour = j.owesHour, false; j.hourly {
		j.spare = 0
	}
}

// keyframeSize is what a lane's keyframes weigh.
type keyframeSize struct {
	last int64 // bytes of the last one
	free bool  // the next one is that of an hour
}

// weigh counts the bytes of a record of a lane that has been appended.
func (j *journaler) weigh(lane int, kind event.InputKind, bytes int64) {
	if kind != event.InputKeyframe {
		j.spare += bytes
		return
	}
	k := &j.sizes[lane]
	if !k.free {
		j.spare -= bytes
	}
	*k = keyframeSize{last: bytes}
}

// setFull says why the journal must not grow, or "" if it may.
func (j *journaler) setFull(why string) {
	if why == "" {
		if j.full.Swap(nil) != nil {
			j.log.Info("the journal may grow again")
		}
		return
	}
	if j.full.Swap(&why) == nil {
		j.log.Error(why)
	}
}

// stoppedNs is when all lanes were first seen closed.
func (j *journaler) stoppedNs(now int64) int64 {
	if j.closedNs == 0 {
		j.closedNs = now
	}
	return j.closedNs
}

func (j *journaler) allClosed() bool {
	for _, l := range j.lanes {
		if !l.Inputs.Closed() {
			return false
		}
	}
	return true
}

// take appends what the lanes hold, up to one group.
func (j *journaler) take() (worked bool) {
	if j.full.Load() != nil && !j.stopping.Load() {
		return false
	}
	for i, l := range j.lanes {
		for j.w.PendingBytes() < groupBytes {
			rec := l.Inputs.Peek()
			if rec == nil {
				break
			}
			in, _, err := event.GetInput(rec)
			if err == nil {
				err = j.w.Append(rec)
			}
			if err != nil {
				j.fail("cannot append to the journal", err)
				return worked
			}
			if len(j.waiting) == 0 {
				j.firstNs = j.clock.NowNs()
			}
			j.waiting = append(j.waiting, waiting{i, in.Ts})
			j.taken[i] = in.Pos
			j.weigh(i, in.Kind, int64(len(rec)))
			l.Inputs.Release()
			worked = true
		}
	}
	return worked
}

// sync makes durable what was written.
func (j *journaler) sync() {
	failed := j.w.Stats().SyncErrors
	err := j.w.Sync()
	j.lookAtSyncs()
	if err != nil && j.w.Stats().SyncErrors == failed { // not the sync, but the write before it
		j.fail("cannot write the journal; frames are lost once the rings are full", err)
	}
}

// lookAtSyncs notes what failed syncs have left. That writing goes on well, and later
// syncs with it, makes none of it durable.
func (j *journaler) lookAtSyncs() {
	bytes, why := j.w.Unsynced()
	j.unsynced.Store(bytes)
	j.syncErrors.Store(j.w.Stats().SyncErrors)
	if bytes == 0 {
		if j.undurable.Swap(nil) != nil {
			j.log.Info("all of the journal is durable again")
		}
		return
	}
	text := fmt.Sprintf("%v: a power loss may take %d bytes that were written, until their segment has been packed again or QuestDB has them and it is removed; look after the disk", why, bytes)
	if j.undurable.Swap(&text) == nil {
		j.log.Error("cannot make the journal durable; it is written on", "err", why, "bytes", bytes)
	}
}

// commit writes the group to the file and tells the lanes.
func (j *journaler) commit() bool {
	failed := j.w.Stats().SyncErrors
	err := j.w.Flush()
	if j.w.Stats().SyncErrors != failed { // a segment that was full is synced
		j.lookAtSyncs()
	}
	if err != nil {
		j.fail("cannot write the journal; frames are lost once the rings are full", err)
		return false
	}
	if j.trouble.Swap(nil) != nil {
		j.log.Info("the journal can be written again")
	}
	now := j.clock.NowNs()
	for _, w := range j.waiting {
		j.lanes[w.lane].PublishedJournalled.Record(now - w.ts)
	}
	for i, l := range j.lanes {
		l.PublishedJournalled.Publish()
		if j.taken[i] > 0 {
			l.SetWritten(j.taken[i])
		}
	}
	j.records.Add(uint64(len(j.waiting)))
	j.bytes.Store(j.w.Stats().StoredBytes)
	j.waiting = j.waiting[:0]
	j.deliverBell.Ring()
	return true
}

func (j *journaler) fail(what string, err error) {
	text := what + ": " + err.Error()
	if old := j.trouble.Swap(&text); old == nil || *old != text {
		j.log.Error(what, "err", err)
	}
}

// Trouble is why the journal cannot be written, or what of it may not last, or "".
func (j *journaler) Trouble() string {
	if t := j.trouble.Load(); t != nil {
		return *t
	}
	if t := j.full.Load(); t != nil {
		return *t
	}
	if t := j.undurable.Load(); t != nil {
		return *t
	}
	return ""
}
