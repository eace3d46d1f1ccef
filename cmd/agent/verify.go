package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"deeptape/cmd/config"
	"deeptape/hotpath/event"
	"deeptape/ilp/qdb"
	"deeptape/ilp/verify"
	"deeptape/venues/feed"
	"deeptape/venues/registry"
)

// Verify checks the database, for the configured symbols or else for all, by itself
// and, if asked, against the journal.
func Verify(ctx context.Context, cfg config.Config, withJournal bool, from, to int64, log *slog.Logger, progress io.Writer) (*verify.Report, error) {
	conf, err := cfg.Database()
	if err != nil {
		return nil, err
	}
	db := qdb.Open(conf)
	opt := verify.Options{From: from, To: to, TopLevels: cfg.TopLevels, DepthBps: cfg.Bands(), TradesJoined: func(name string) bool {
		v, err := registry.ByName(name)
		return err == nil && v.Rules().TradesJoined
	}, Windowed: func(name string) bool {
		v, err := registry.ByName(name)
		return err == nil && v.Rules().RestSnapshot
	}}
	if len(cfg.VenueNames()) > 0 {
		opt.Want = func(venue, symbol string) bool { return slices.Contains(cfg.Venues[venue].Symbols, symbol) }
	}
	if withJournal {
		r, in, err := openJournal(cfg.Journal.Dir, log)
		if err != nil {
			return nil, err
		}
		opt.Lost, err = lostParts(in, feed.Possible)
		r.Close()
		if err != nil {
			return nil, fmt.Errorf("cannot find what the journal has lost: %w", err)
		}
	}
	report, err := verify.Database(ctx, db, opt, progress)
	if err != nil || !withJournal {
		return report, err
	}
	told := log // once, and not for each derivation
	derive := func(want func(venue, symbol string) bool, emit func(inst event.Instrument, rec []byte) error) error {
		r, _, err := openJournal(cfg.Journal.Dir, nil)
		if err != nil {
			return err
		}
		defer r.Close()
		d := tolerant(inputs{r, nil}, told)
		told = nil
		return deriveAll(d, want, emit)
	}
	against, err := verify.Journal(ctx, db, opt, derive, progress)
	if err != nil {
		return nil, err
	}
	report.Merge(against)
	return report, nil
}
