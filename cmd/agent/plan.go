package agent

import (
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"deeptape/cmd/config"
	"deeptape/hotpath/event"
	"deeptape/venues"
	"deeptape/venues/registry"
	"deeptape/venues/wire"
)

// Bytes on disk a day for one busy symbol, measured on the BTCUSDT recording of
// 2024-08-08 (10 depth messages, 112 quotes and 31 trades a second); see README.
const (
	journalBytesPerDay = 930 << 20
	questdbBytesPerDay = 3 << 30
)

// auditSharePercent of the venue's weight is the most that audits take.
const auditSharePercent = 25

// auditEvery is how often each of n books of a venue is audited: as configured, or less
// often where that would take more than its share of limit, the weight of a minute.
func auditEvery(vc config.Venue, venue venues.Venue, n, limit int) time.Duration {
	if vc.Audit == nil || *vc.Audit == 0 || !venue.Rules().RestSnapshot {
		return 0
	}
	weight := int64(n) * int64(venue.SnapshotRequest("X", vc.Depth).Weight)
	least := time.Duration(weight * 100 * int64(time.Minute) / (auditSharePercent * int64(max(limit, 1))))
	return max(time.Duration(*vc.Audit), least)
}

// Plan prints what a capture would open, ask for and fill.
func Plan(cfg config.Config) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "venue\tsymbols\tconnections\tstreams\tsnapshot weight\tstart takes\tof weight a minute\taudits\tan hour\tweight an hour")
	total := 0
	for _, name := range cfg.VenueNames() {
		venue, err := registry.ByName(name)
		if err != nil {
			return err
		}
		vc, rules := cfg.Venues[name], venue.Rules()
		n := len(vc.Symbols)
		total += n
		streams := 2
		if cfg.Quotes && rules.QuoteStream {
			streams = 3
		}
		weight := venue.SnapshotRequest("X", vc.Depth).Weight
		minutes := float64(n*weight) / float64(rules.RestWeightPerMinute)
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%s\t%d\t%s\n", name, n, feedsOf(rules, n), n*streams,
			weight, time.Duration(minutes*float64(time.Minute)).Round(time.Second), rules.RestWeightPerMinute, auditPlan(auditEvery(vc, venue, n, rules.RestWeightPerMinute), n, weight))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Println()
	if err := planLimits(cfg); err != nil {
		return err
	}
	fmt.Printf("disk a day, if every symbol were as busy as BTCUSDT was in August 2024: journal %.1f GiB, QuestDB %.1f GiB\n",
		float64(total)*journalBytesPerDay/(1<<30), float64(total)*questdbBytesPerDay/(1<<30))
	fmt.Printf("the journal keeps %s, at most %.1f GiB\n", time.Duration(cfg.Journal.Keep), float64(cfg.Journal.Max)/(1<<30))
	return nil
}

// planLimits prints the venues' limits, of which a part is left alone, and how long it
// takes to subscribe within them.
func planLimits(cfg config.Config) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "venue\tsymbols a connection\tconnects\tcommands\tto subscribe\ttakes\tsubscriptions an hour")
	for _, name := range cfg.VenueNames() {
		venue, err := registry.ByName(name)
		if err != nil {
			return err
		}
		vc, rules := cfg.Venues[name], venue.Rules()
		n, each := len(vc.Symbols), instrumentsPerFeed(rules)
		commands := func(n int) int { // of a connection
			if n == 0 {
				return 0
			}
			insts := make([]event.Instrument, n)
			for i := range insts {
				insts[i].Symbol = vc.Symbols[i]
			}
			return len(venue.Subscribe(insts, venues.Subscription{Quotes: cfg.Quotes && rules.QuoteStream, Depth: vc.Depth}))
		}
		lines := max(1, vc.Lines)
		most, total := lines*commands(min(n, each)), lines*(n/each*commands(min(n, each))+commands(n%each))
		of, serial := "on each", most
		if rules.CommandsOfAddress {
			of, serial = "in all", total
		}
		hour := "-"
		if rules.CommandsPerHour > 0 {
			hour = fmt.Sprintf("%d on each, %d used by the start", rules.CommandsPerHour, most/lines)
		}
		usable := float64(100-wire.HeadroomPercent) / 100
		takes := time.Duration(float64(serial) / (float64(rules.CommandsPerSecond) * usable) * float64(time.Second))
		fmt.Fprintf(w, "%s\t%d\t%d in %s\t%d a second %s\t%d\t%s\t%s\n", name, each, rules.ConnectsPerWindow, time.Duration(rules.ConnectWindowNs),
			rules.CommandsPerSecond, of, total, takes.Round(time.Second), hour)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Printf("%d %% of every limit are left alone; 429 and 418 are obeyed, with Retry-After\n\n", wire.HeadroomPercent)
	return nil
}

// auditPlan says how often, how many an hour in all, and of what weight.
func auditPlan(every time.Duration, n, weight int) string {
	if every == 0 {
		return "none\t0\t0"
	}
	anHour := float64(n) * float64(time.Hour) / float64(every)
	return fmt.Sprintf("each %s\t%.0f\t%.0f", every.Round(time.Second), anHour, anHour*float64(weight))
}
