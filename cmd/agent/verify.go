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
	"deeptape/venues/follow"
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
		if err := hasJournal(cfg.Journal.Dir); err != nil {
			return nil, err
		}
		inputs := follow.OpenInputs(follow.Options{Dir: cfg.Journal.Dir, Damaged: follow.WarnDamaged(log)})
		opt.Lost, err = lostParts(inputs, feed.Possible)
		inputs.Close()
		if err != nil {
			return nil, fmt.Errorf("cannot find what the journal has lost: %w", err)
		}
	}
	report, err := verify.Database(ctx, db, opt, progress)
	if err != nil || !withJournal {
		return report, err
	}
	impossible := follow.WarnImpossible(log) // once, and not for each derivation
	derive := func(want func(venue, symbol string) bool, emit func(inst *event.Instrument, rec []byte) error) error {
		rows := follow.Open(follow.Options{Dir: cfg.Journal.Dir, Impossible: impossible})
		defer rows.Close()
		impossible = nil
		return rows.Each(want, emit)
	}
	against, err := verify.Journal(ctx, db, opt, derive, progress)
	if err != nil {
		return nil, err
	}
	report.Merge(against)
	return report, nil
}
