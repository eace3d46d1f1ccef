package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"deeptape/cmd/config"
	"deeptape/hotpath/event"
	"deeptape/hotpath/journal"
	"deeptape/ilp/line"
	"deeptape/ilp/qdb"
	"deeptape/venues/feed"
	"deeptape/venues/follow"
)

// hasJournal says so if there is no journal in dir, because an empty directory would
// otherwise be an empty success.
func hasJournal(dir string) error {
	segments, err := journal.Segments(journal.OS, dir)
	if err == nil && len(segments) == 0 {
		err = errors.New("it holds no segment")
	}
	if err != nil {
		return fmt.Errorf("cannot read journal %q: %w; name the right one with --journal", dir, err)
	}
	return nil
}

func inWindow(ts, from, to int64) bool { return ts >= from && (to == 0 || ts < to) }

// ReplayJournal derives the rows of a journal and delivers those in a window; see keeper
// for what it leaves alone.
func ReplayJournal(ctx context.Context, cfg config.Config, from, to int64, log *slog.Logger, progress io.Writer) error {
	conf, err := cfg.Database()
	if err != nil {
		return err
	}
	if err := hasJournal(cfg.Journal.Dir); err != nil {
		return err
	}
	inputs := follow.OpenInputs(follow.Options{Dir: cfg.Journal.Dir, Damaged: follow.WarnDamaged(log)})
	defer inputs.Close()
	db := qdb.Open(conf)
	ready := func(ctx context.Context) error { return prepare(ctx, db) }
	if err := ready(ctx); err != nil {
		return err
	}
	lost, err := lostParts(inputs, feed.Possible)
	if err != nil {
		return fmt.Errorf("cannot find what the journal has lost: %w", err)
	}
	chosen, err := newKeeper(ctx, db, lost, from, to, log)
	if err != nil {
		return err
	}
	rows := follow.Open(follow.Options{Dir: cfg.Journal.Dir, Impossible: follow.WarnImpossible(log)})
	defer rows.Close()
	segments, err := journal.Segments(journal.OS, cfg.Journal.Dir)
	if err != nil {
		return err
	}
	if err := takeUpQuarantine(cfg.Journal.Dir); err != nil {
		return err
	}
	host, _ := os.Hostname()
	start, last := time.Now(), time.Now()
	n, err := Replay(ctx, ReplayOptions{
		Machine: ThisMachine(), DB: conf, Agent: fmt.Sprintf("%s/replay", host), Dir: cfg.Journal.Dir, Log: log, Prepare: ready, QuarantineMost: cfg.Quarantine,
		Keep: chosen.keep,
		Progress: func(records uint64) {
			if time.Since(last) > time.Second {
				last = time.Now()
				fmt.Fprintf(progress, "replay: %d records handed over, %.0f a second\n", records, float64(records)/time.Since(start).Seconds())
			}
		},
	}, rows)
	if err != nil {
		return err
	}
	fmt.Fprintf(progress, "replay: %d records delivered in %s\n", n, time.Since(start).Round(time.Millisecond))
	left, err := emptyQuarantine(cfg.Journal.Dir, from, to, segments[0].Ts)
	if err != nil {
		return err
	}
	if left > 0 {
		fmt.Fprintf(progress, "replay: %d rows stay in quarantine in %s: they are outside of the window, or the journal does not hold their time any more\n", left, quarantineDir(cfg.Journal.Dir))
	}
	if chosen.left > 0 {
		fmt.Fprintf(progress, "replay: %d records behind holes of the journal were not: the database has its own of that time\n", chosen.left)
	}
	return nil
}

// WriteLines derives the rows of a journal and writes them as line protocol:
// book_delta, book_top, quotes and trades as live capture sends them, coverage as
// comments of one line an interval.
func WriteLines(ctx context.Context, dir string, from, to int64, w io.Writer) error {
	if err := hasJournal(dir); err != nil {
		return err
	}
	log := slog.Default()
	rows := follow.Open(follow.Options{Dir: dir, Damaged: follow.WarnDamaged(log), Impossible: follow.WarnImpossible(log)})
	defer rows.Close()
	out := bufio.NewWriterSize(w, 1<<20)
	insts := map[instrumentKey]*line.Inst{}
	var buf []byte
	all := func(string, string) bool { return true }
	err := rows.Each(all, func(of *event.Instrument, rec []byte) (err error) {
		key := instrumentKey{of.Venue, of.Symbol}
		inst := insts[key]
		if inst == nil {
			if inst, err = line.NewInst(of.Venue, of.Symbol); err != nil {
				return err
			}
			insts[key] = inst
		}
		var h event.Head
		h.Get(rec)
		if !inWindow(h.Ts, from, to) {
			return ctx.Err()
		}
		buf = buf[:0]
		if h.Kind == event.RowCoverage {
			c := event.GetCoverage(rec)
			buf = fmt.Appendf(buf, "# coverage %s %s %s %s %s %s %d %d %d %d %d\n", inst.Venue, inst.Symbol, c.Stream, c.State, c.Proof, c.Cause, c.Ts, c.TsEnd, c.SeqFirst, c.SeqLast, c.Messages)
		} else {
			buf, _ = line.Append(buf, inst, rec)
		}
		if _, err := out.Write(buf); err != nil {
			return fmt.Errorf("cannot write rows: %w", err)
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	return out.Flush()
}
