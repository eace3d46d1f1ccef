package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"

	"deeptape/cmd/config"
	"deeptape/hotpath/event"
	"deeptape/venues"
	"deeptape/venues/session"
	"deeptape/venues/wire"
)

// instruments asks the venue for tick and lot sizes. Without an answer the scales
// start at nothing and grow with the messages.
func (a *Agent) instruments(ctx context.Context, venue venues.Venue, vc config.Venue, rest session.Rest, budgets *session.Budgets) []event.Instrument {
	rules := venue.Rules()
	ctx, cancel := a.machine.Sched.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	m := metadata{
		venue: venue, url: vc.RestURL, rest: rest, budgets: budgets, nowNs: a.clock.NowNs, log: a.log,
		known: map[string]event.Instrument{},
	}
	for _, symbols := range venues.Groups(venue, vc.Symbols) {
		m.ask(ctx, symbols)
	}
	var insts []event.Instrument
	for _, s := range vc.Symbols {
		inst, ok := m.known[s]
		if !ok {
			inst = event.Instrument{Venue: rules.Name, Symbol: s, Market: rules.Market, Source: "messages"}
		}
		if inst.Status != "" && inst.Status != rules.TradingStatus {
			a.log.Warn("the symbol is not trading", "venue", rules.Name, "symbol", s, "status", inst.Status)
		}
		insts = append(insts, inst)
	}
	return insts
}

// metadata asks one venue about its symbols.
type metadata struct {
	venue   venues.Venue
	url     string
	rest    session.Rest
	budgets *session.Budgets
	nowNs   func() int64
	log     *slog.Logger
	known   map[string]event.Instrument
}

// ask about symbols that one request may name. A venue refuses a request for one wrong
// name in it (Binance: 400, code -1121), so each half is then asked about by itself,
// until only the wrong name is left without an answer: of n, that takes about 2 log2 n
// requests for each wrong one.
func (m *metadata) ask(ctx context.Context, symbols []string) {
	name := m.venue.Rules().Name
	request := m.venue.InstrumentsRequest(symbols)
	body, status, err := m.get(ctx, request)
	if n := len(symbols); status == http.StatusBadRequest && n > 1 && request.Path != m.venue.InstrumentsRequest(symbols[:1]).Path {
		m.ask(ctx, symbols[:n/2])
		m.ask(ctx, symbols[n/2:])
		return
	}
	var insts []event.Instrument
	if err == nil {
		var weight int
		insts, weight, err = m.venue.Instruments(body, symbols)
		m.budgets.Weight.SetLimit(weight)
	}
	for _, inst := range insts {
		m.known[inst.Symbol] = inst
	}
	if err != nil {
		m.log.Warn("no instrument metadata; scales come from the messages", "venue", name, "symbols", strings.Join(symbols, ","), "err", err)
		return
	}
	var others []string
	for _, s := range symbols {
		if _, ok := m.known[s]; ok {
			continue
		}
		if others == nil {
			others = listedIn(m.venue, body)
		}
		text := "the venue does not list this symbol; it is subscribed all the same"
		if near := config.Nearest(s, others); near != "" {
			m.log.Warn(text, "venue", name, "symbol", s, "nearest", near)
		} else {
			m.log.Warn(text, "venue", name, "symbol", s)
		}
	}
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
	older := strings.NewReplacer("XBT", "BTC", "XDG", "DOGE") // so Kraken's list spells them, and nothing else of it
	var texts []string
	for _, m := range quoted.FindAllSubmatch(body, -1) {
		s := older.Replace(string(m[1]))
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
