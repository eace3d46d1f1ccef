package registry

import (
	"net/url"
	"slices"
	"testing"

	"github.com/gobwas/ws"

	"deeptape/bench/simvenue"
	"deeptape/bench/world"
	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
)

// TestScannersTakeSimulated: what the simulated venues send, the scanners take, and
// rightly: what is measured with those venues would else be the parser. (That they take
// what the real ones send: TestConformanceDecode.)
func TestScannersTakeSimulated(t *testing.T) {
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, _ := ByName(name)
			symbols := symbolsOf(t, v)
			rec := simulated(t, v, symbols)
			scannerAgrees(t, rec)
			r := rec.reader()
			kinds := map[venues.Kind]int{}
			for _, line := range rec.lines {
				if reason := r.read(line); reason != ledger.Accepted {
					t.Fatalf("%v: %s", reason, line.text)
				}
				for i := range r.batch.Messages {
					kinds[r.batch.Messages[i].Kind]++
				}
			}
			if kinds[venues.KindSnapshot] < len(symbols) || kinds[venues.KindDelta] < 100 || kinds[venues.KindTrade] < 20 || v.Rules().QuoteStream && kinds[venues.KindQuote] < 100 {
				t.Errorf("of the kinds %v there are too few", kinds)
			}
			t.Logf("%d frames, kinds %v", len(rec.lines), kinds)
		})
	}
}

// symbolsOf are two symbols in a spelling that the venue takes.
func symbolsOf(t *testing.T, v venues.Venue) []string {
	t.Helper()
	for _, symbols := range [][]string{{"BTC/USD", "ETH/USD"}, {"BTC-USDT", "ETH-USDT"}, {"BTCUSDT", "ETHUSDT"}} {
		if own, err := v.Symbol(symbols[0]); err == nil && own == symbols[0] {
			return symbols
		}
	}
	t.Fatalf("%s takes no spelling that is tried here", v.Rules().Name)
	return nil
}

// simulated is what a simulated venue sends in 20 s to whoever subscribes as a session
// does.
func simulated(t *testing.T, v venues.Venue, symbols []string) *recorded {
	t.Helper()
	const seed = 1
	rules := v.Rules()
	markets := simvenue.Markets(rules.Name, symbols...)
	for i := range markets {
		markets[i].Depth = min(markets[i].Depth, 1500)
	}
	now := int64(1_790_000_000e9)
	w, err := world.New(seed, world.Spec{Symbols: markets, StartNs: now})
	if err != nil {
		t.Fatal(err)
	}
	core, err := simvenue.NewVenue(rules.Name, w, nil, simvenue.VenueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var insts []event.Instrument
	for _, s := range symbols {
		insts = append(insts, event.Instrument{Venue: rules.Name, Symbol: s})
	}
	rec := &recorded{name: "simulated", venue: v, symbols: symbols}
	u, err := url.Parse(rules.WSURL + v.StreamPath(insts, true))
	if err != nil {
		t.Fatal(err)
	}
	s, refused := core.Open(now, simvenue.NewRequest(u.RequestURI()), func(f simvenue.Frame) {
		if f.Op == ws.OpText && f.Do == simvenue.Send {
			rec.lines = append(rec.lines, capturedLine{text: slices.Clone(f.Payload)})
		}
	})
	if refused != nil {
		t.Fatalf("refused: %d %s", refused.Status, refused.Body)
	}
	for _, c := range v.Subscribe(insts, venues.Subscription{Quotes: rules.QuoteStream, Depth: rules.Depth}) {
		now += 500e6 // the rates at which commands may come differ
		s.Text(now, []byte(c.Text))
		s.Tick(now)
	}
	for end := now + 20e9; now < end; {
		e := core.Next()
		for ; now+100e6 < e.AtNs(); now += 100e6 {
			s.Tick(now)
		}
		now = max(now, e.AtNs())
		core.Step(e, now)
	}
	for _, inst := range insts {
		if rules.RestSnapshot {
			r := v.SnapshotRequest(inst.Symbol, rules.Depth)
			a := core.Get(now, simvenue.NewRequest(r.Path))
			rec.lines = append(rec.lines, capturedLine{text: a.Body, rest: true, url: r.Path})
		}
	}
	return rec
}
