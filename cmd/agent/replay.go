package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/lane"
	"deeptape/hotpath/task"
	"deeptape/ilp/deliver"
	"deeptape/ilp/qdb"
	"deeptape/venues/follow"
)

// ReplayOptions say where derived rows go.
type ReplayOptions struct {
	Machine Machine
	DB      qdb.Conf
	Agent   string
	Dir     string // of the journal; the quarantine is in it
	// QuarantineMost: see deliver.Options.
	QuarantineMost int
	Log            *slog.Logger
	Prepare        func(context.Context) error
	// Keep chooses records; it sees all, in order. nil keeps all.
	Keep  func(feed uint16, h *event.Head, rec []byte) bool
	Began func(*deliver.Deliverer) // is told who delivers, if not nil
	// Progress is told how many records have been handed over, now and then.
	Progress func(records uint64)
}

// Replay derives rows and delivers them through the same deliverer as live ones,
// by one lane. It returns the number of records handed over.
func Replay(ctx context.Context, opt ReplayOptions, from *follow.Follower) (uint64, error) {
	sched := opt.Machine.Sched
	bell := sched.NewDoorbell()
	l := lane.New(0, lane.Options{InputBytes: 4096, RowBytes: 16 << 20, RowOwnedBytes: 256 << 20}, nil, bell)
	dv := deliver.New(deliver.Options{
		DB: opt.DB, Agent: opt.Agent, Log: opt.Log, Prepare: opt.Prepare,
		Quarantine: quarantineDir(opt.Dir), QuarantineMost: opt.QuarantineMost,
		NowNs:       opt.Machine.Clock.NowNs,
		Append:      opt.Machine.appender(),
		OpenLowRate: opt.Machine.OpenLowRate,
		Sched:       sched,
		Derive: func(uint16, uint64) (deliver.Source, error) {
			return nil, errors.New("BUG: a replay deferred rows")
		},
	}, bell, []*lane.Lane{l})
	if opt.Began != nil {
		opt.Began(dv)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var undelivered error
	delivering := task.NewGroup(sched)
	delivering.Go("deliver a replay", func() {
		if undelivered = task.Guard("the deliverer of a replay", func() error { return dv.Run(ctx) }); undelivered != nil {
			cancel(undelivered)
		}
	})
	records := uint64(0)
	for {
		rec, feedID, err := from.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			cancel(err)
			delivering.Wait()
			return records, err
		}
		var h event.Head
		h.Get(rec)
		if opt.Keep != nil && !opt.Keep(feedID, &h, rec) {
			continue
		}
		records++
		l.Begin(records)
		if err := put(ctx, sched, l, rec, records); err != nil {
			cancel(err)
			delivering.Wait()
			return records, errors.Join(err, undelivered)
		}
		l.SetWritten(records)
		l.End()
		if opt.Progress != nil && records%10_000 == 0 {
			opt.Progress(records)
		}
	}
	l.Close()
	dv.Stop()
	delivering.Wait()
	if undelivered != nil {
		return records, fmt.Errorf("cannot deliver all rows: %w", undelivered)
	}
	return records, nil
}

// put copies a record into the lane under a position of the replay's own, waiting
// for room: a replay has all the time there is.
func put(ctx context.Context, sched task.Sched, l *lane.Lane, rec []byte, pos uint64) error {
	for !l.Room(len(rec)) {
		if !sched.Sleep(ctx, time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	b := l.Claim(len(rec))
	if b == nil {
		return errors.New("BUG: a lane with room deferred a row")
	}
	copy(b, rec)
	event.SetRecordPos(b, pos)
	l.Commit()
	return nil
}
