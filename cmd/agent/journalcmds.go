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
)

// openJournal opens a journal for reading. It says so if there is none, because
// an empty directory would otherwise be an empty success.
func openJournal(dir string, log *slog.Logger) (*journal.Reader, feed.Inputs, error) {
	segments, err := journal.Segments(journal.OS, dir)
	if err == nil && len(segments) == 0 {
		err = errors.New("it holds no segment")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read journal %q: %w; name the right one with --journal", dir, err)
	}
	r := journal.NewReader(journal.OS, dir, journal.Position{})
	return r, inputs{r, log}, nil
}

// tolerant derives the rows of all feeds, or of the given ones, past inputs that cannot be
// right. It tells of them unless log is nil.
func tolerant(in feed.Inputs, log *slog.Logger, only ...uint16) *feed.Derivation {
	d := feed.NewDerivation(in, only...)
	d.PassOver(func(e *feed.BadInputError) {
		if log != nil {
			log.Warn("an input of the journal cannot be right, though its checksum is; its feed goes on at its next keyframe, and the time until then is a gap",
				"feed", e.Feed, "pos", e.Pos, "at", time.Unix(0, e.Ts).UTC(), "err", e.Err)
		}
	})
	return d
}

func inWindow(ts, from, to int64) bool { return ts >= from && (to == 0 || ts < to) }

// ReplayJournal derives the rows of a journal and delivers those in a window; see keeper
// for what it leaves alone.
func ReplayJournal(ctx context.Context, cfg config.Config, from, to int64, log *slog.Logger, progress io.Writer) error {
	conf, err := cfg.Database()
	if err != nil {
		return err
	}
	r, in, err := openJournal(cfg.Journal.Dir, log)
	if err != nil {
		return err
	}
	defer r.Close()
	db := qdb.Open(conf)
	ready := func(ctx context.Context) error { return prepare(ctx, db) }
	if err := ready(ctx); err != nil {
		return err
	}
	lost, err := lostParts(in, feed.Possible)
	if err != nil {
		return fmt.Errorf("cannot find what the journal has lost: %w", err)
	}
	chosen, err := newKeeper(ctx, db, lost, from, to, log)
	if err != nil {
		return err
	}
	again, in, err := openJournal(cfg.Journal.Dir, nil)
	if err != nil {
		return err
	}
	defer again.Close()
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
	}, tolerant(in, log))
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
	r, in, err := openJournal(dir, slog.Default())
	if err != nil {
		return err
	}
	defer r.Close()
	out := bufio.NewWriterSize(w, 1<<20)
	insts := map[instrumentKey]*line.Inst{}
	var buf []byte
	all := func(string, string) bool { return true }
	err = deriveAll(tolerant(in, slog.Default()), all, func(of event.Instrument, rec []byte) error {
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
		switch h.Kind {
		case event.RowBook:
			buf, _ = line.AppendBook(buf, inst, rec)
		case event.RowTop:
			buf, _ = line.AppendTop(buf, inst, rec)
		case event.RowQuote:
			buf, _ = line.AppendQuote(buf, inst, rec)
		case event.RowTrade:
			buf, _ = line.AppendTrade(buf, inst, rec)
		case event.RowDepth:
			buf, _ = line.AppendDepth(buf, inst, rec)
		case event.RowCoverage:
			c := event.GetCoverage(rec)
			buf = fmt.Appendf(buf, "# coverage %s %s %s %s %s %s %d %d %d %d %d\n", inst.Venue, inst.Symbol, c.Stream, c.State, c.Proof, c.Cause, c.Ts, c.TsEnd, c.SeqFirst, c.SeqLast, c.Messages)
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

// deriveAll hands every wanted record to emit, with its instrument.
func deriveAll(d *feed.Derivation, want func(venue, symbol string) bool, emit func(event.Instrument, []byte) error) error {
	type known struct {
		inst   event.Instrument
		wanted bool
	}
	insts := map[uint32]known{}
	for {
		rec, _, err := d.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var h event.Head
		h.Get(rec)
		if h.Kind == event.RowInst {
			inst, err := event.InstrumentOf(rec)
			if err != nil {
				return err
			}
			insts[h.Inst] = known{inst, want(inst.Venue, inst.Symbol)}
			continue
		}
		if k := insts[h.Inst]; k.wanted {
			if err := emit(k.inst, rec); err != nil {
				return err
			}
		}
	}
}
