package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"deeptape/cmd/config"
	"deeptape/hotpath/event"
	"deeptape/hotpath/task"
	"deeptape/ilp/qdb"
	"deeptape/venues"
	"deeptape/venues/session"
	"deeptape/venues/wire"
)

// metadataWithin is how long a start waits for the venues' lists, all venues together.
const metadataWithin = 10 * time.Second

// UnlistedError is a symbol that its venue does not list: a wrong configuration.
type UnlistedError struct{ Venue, Symbol, Nearest string }

func (e *UnlistedError) Error() string {
	text := fmt.Sprintf("%s does not list %q", e.Venue, e.Symbol)
	if e.Nearest != "" {
		text += fmt.Sprintf("; did you mean %q?", e.Nearest)
	}
	return text
}

// market is a venue that is recorded, while the agent is put together.
type market struct {
	name    string
	venue   venues.Venue
	rest    session.Rest
	budgets *session.Budgets
	insts   []event.Instrument
}

// lookUp learns from all venues at once how their symbols are spelled, and their tick and
// lot sizes: one that answers slowly, or not at all, keeps the others waiting no longer
// than metadataWithin. From then on the configuration has the venues' spellings.
func (a *Agent) lookUp(ctx context.Context, markets []*market) error {
	lists := make([]*metadata, len(markets))
	asking := task.NewGroup(a.machine.Sched)
	for i, m := range markets {
		asking.Go("instruments of "+m.name, func() {
			// A list that nobody could read is one that could not be had.
			if a.survive("reading the instruments of "+m.name, func() { lists[i] = a.askFor(ctx, m, a.cfg.Venues[m.name]) }) {
				lists[i] = &metadata{unlisted: map[string]string{}}
			}
		})
	}
	asking.Wait()
	var errs []error
	for i, m := range markets {
		var err error
		m.insts, err = a.instruments(ctx, m.venue.Rules(), a.cfg.Venues[m.name].Symbols, lists[i])
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	resolved := map[string]config.Venue{}
	for name, vc := range a.cfg.Venues {
		resolved[name] = vc
	}
	for _, m := range markets {
		vc := resolved[m.name]
		vc.Symbols = nil
		for _, inst := range m.insts {
			vc.Symbols = append(vc.Symbols, inst.Symbol)
		}
		resolved[m.name] = vc
	}
	a.cfg.Venues = resolved // a map of our own: the caller's has what the user wrote
	return nil
}

// askFor asks one venue for its list.
func (a *Agent) askFor(ctx context.Context, of *market, vc config.Venue) *metadata {
	ctx, cancel := a.machine.Sched.WithTimeout(ctx, metadataWithin)
	defer cancel()
	m := &metadata{
		venue: of.venue, url: vc.RestURL, rest: of.rest, budgets: of.budgets, nowNs: a.clock.NowNs, log: a.log,
		unlisted: map[string]string{},
	}
	for _, symbols := range venues.Groups(of.venue, vc.Symbols) {
		m.ask(ctx, symbols)
	}
	return m
}

// instruments are the symbols of a venue, spelled as it lists them. Where its list cannot
// be had, a symbol is spelled as it was recorded before, or else by Venue.Symbol, and its
// scales start at nothing and grow with the messages. A symbol that the list does not have
// is an *UnlistedError, unless it was recorded before: one that a venue has taken off its
// list keeps no other from being recorded.
func (a *Agent) instruments(ctx context.Context, rules *venues.Rules, symbols []string, m *metadata) ([]event.Instrument, error) {
	var insts []event.Instrument
	for _, s := range symbols {
		inst, ok := m.find(s)
		if !ok {
			before, err := a.recordedAs(ctx, rules.Name, s)
			if err != nil {
				return nil, err
			}
			if nearest, unlisted := m.unlisted[s]; unlisted && before == "" {
				return nil, &UnlistedError{rules.Name, s, nearest}
			} else if unlisted {
				a.log.Warn("the venue does not list this symbol any more; it is subscribed all the same", "venue", rules.Name, "symbol", before)
			}
			inst = event.Instrument{Venue: rules.Name, Symbol: s, Market: rules.Market, Source: "messages"}
			if before != "" {
				inst.Symbol = before
			}
		}
		if slices.ContainsFunc(insts, func(other event.Instrument) bool { return other.Symbol == inst.Symbol }) {
			continue
		}
		if inst.Status != "" && inst.Status != rules.TradingStatus {
			a.log.Warn("the symbol is not trading", "venue", rules.Name, "symbol", inst.Symbol, "status", inst.Status)
		}
		insts = append(insts, inst)
	}
	return insts, nil
}

// recordedAs is the spelling under which a symbol was recorded before, by what the journal
// knows or else the database; "" if neither knows it.
func (a *Agent) recordedAs(ctx context.Context, venue, symbol string) (string, error) {
	best := ""
	take := func(s string) {
		if s == symbol || strings.EqualFold(s, symbol) && best != symbol && s > best { // the order of a map must not choose
			best = s
		}
	}
	if a.pastRuns != nil {
		for key := range a.pastRuns.resume {
			if key.venue == venue {
				take(key.symbol)
			}
		}
	}
	if best != "" || !a.dbReady {
		return best, nil
	}
	res, err := a.db.Query(ctx, "SELECT DISTINCT symbol FROM "+a.db.Table("instruments")+" WHERE venue = "+qdb.Quote(venue), "symbol")
	if err = a.unlessAway(err); err != nil {
		return "", fmt.Errorf("cannot learn how %s %s was recorded before: %w", venue, symbol, err)
	}
	if res != nil {
		for i := range res.Len() {
			take(res.Text(i, "symbol"))
		}
	}
	return best, nil
}

// metadata asks one venue about its symbols.
type metadata struct {
	venue    venues.Venue
	url      string
	rest     session.Rest
	budgets  *session.Budgets
	nowNs    func() int64
	log      *slog.Logger
	known    []event.Instrument
	unlisted map[string]string // symbols that the venue says it does not have, with the nearest that it has
}

// find is the instrument that a symbol in any case means. Of two that differ in nothing
// but case it is the one that is written so.
func (m *metadata) find(symbol string) (found event.Instrument, ok bool) {
	for _, inst := range m.known {
		if inst.Symbol == symbol || !ok && strings.EqualFold(inst.Symbol, symbol) {
			found, ok = inst, true
		}
	}
	return found, ok
}

// ask about symbols that one request may name. A venue refuses a request for one wrong
// name in it (Binance: 400, code -1121), so each half is then asked about by itself,
// until only the wrong name is left without an answer: of n, that takes about 2 log2 n
// requests for each wrong one.
func (m *metadata) ask(ctx context.Context, symbols []string) {
	request := m.venue.InstrumentsRequest(symbols)
	var listed []string
	for answers := 1; ; answers++ {
		body, status, err := m.get(ctx, request)
		if n := len(symbols); status == http.StatusBadRequest && n > 1 && request.Path != m.venue.InstrumentsRequest(symbols[:1]).Path {
			m.ask(ctx, symbols[:n/2])
			m.ask(ctx, symbols[n/2:])
			return
		}
		if _, final := m.venue.SnapshotRefused(body); final && status == http.StatusBadRequest && len(symbols) == 1 {
			m.unlisted[symbols[0]] = config.Nearest(symbols[0], m.whole(ctx))
			return
		}
		var insts []event.Instrument
		if err == nil {
			var weight int
			insts, weight, err = m.venue.Instruments(body, symbols)
			m.budgets.Weight.SetLimit(weight)
		}
		m.known = append(m.known, insts...)
		left := slices.DeleteFunc(slices.Clone(symbols), func(s string) bool { _, ok := m.find(s); return ok })
		if err != nil {
			m.log.Warn("no instrument metadata; spelling and scales come from what is known", "venue", m.venue.Rules().Name, "symbols", strings.Join(left, ","), "err", err)
			return
		}
		if len(left) == 0 {
			return
		}
		listed = append(listed, listedIn(m.venue, body)...)
		var more bool
		if request, more = venues.MoreInstruments(m.venue, symbols, answers, body); more {
			continue
		}
		if _, some := venues.WholeList(m.venue); some {
			listed = m.whole(ctx)
		}
		if len(listed) == 0 { // a list without a symbol is none
			m.log.Warn("the venue's list is empty; spelling and scales come from what is known", "venue", m.venue.Rules().Name, "symbols", strings.Join(left, ","))
			return
		}
		for _, s := range left {
			m.unlisted[s] = config.Nearest(s, listed)
		}
		return
	}
}

// whole is all that a venue lists which was asked for some by name. It is asked only to
// name the nearest, so that an answer that does not come is no trouble.
func (m *metadata) whole(ctx context.Context) []string {
	request, ok := venues.WholeList(m.venue)
	if !ok {
		return nil
	}
	body, _, err := m.get(ctx, request)
	if err != nil {
		return nil
	}
	return listedIn(m.venue, body)
}

func (m *metadata) get(ctx context.Context, request venues.Request) (body []byte, status int, err error) {
	if ok, _ := m.budgets.Weight.TryTake(m.nowNs(), request.Weight); !ok {
		return nil, 0, errors.New("the venue's request weight is used up")
	}
	got, err := m.rest.Get(ctx, wire.Join(m.url, request.Path))
	m.budgets.Answered(m.nowNs(), got)
	if err == nil && got.Status != http.StatusOK {
		err = fmt.Errorf("status %d: %.200s", got.Status, got.Body)
	}
	return got.Body, got.Status, err
}

var quoted = regexp.MustCompile(`"([^"\\]+)"`)

// listedIn are the symbols that an answer tells of: every text in it is tried, for a
// venue picks out what it is asked for.
func listedIn(venue venues.Venue, body []byte) (symbols []string) {
	seen := map[string]bool{}
	var texts []string
	for _, m := range quoted.FindAllSubmatch(body, -1) {
		s := venues.Renamed(venue, string(m[1]))
		if own, err := venue.Symbol(s); err == nil && own == s && !seen[s] {
			seen[s] = true
			texts = append(texts, s)
		}
	}
	insts, _, err := venue.Instruments(body, texts)
	if err != nil {
		return nil
	}
	for _, inst := range insts {
		symbols = append(symbols, inst.Symbol)
	}
	return symbols
}
