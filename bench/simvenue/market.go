package simvenue

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"

	"deeptape/bench/world"
)

// Markets gives the symbols of a venue plausible markets, with books of the size
// that the venue really has: the first at full pace, the rest at a tenth.
func Markets(venue string, symbols ...string) []world.Symbol {
	var list []world.Symbol
	for i, name := range symbols {
		mid := midOf(name)
		base, _ := pair(name)
		m := world.Symbols(mid)[0] // by what is traded, whichever dollar it is paid in
		m.Name, m.Mid = name, mid
		if i > 0 {
			m.PerMille = 100
		}
		if size := factsOf(venue).size; size != nil {
			size(base, &m)
		}
		list = append(list, m)
	}
	return list
}

// midOf is the true mid that a venue's symbol follows: one for all pairs of the same base
// against any dollar, one for each pair besides.
func midOf(symbol string) string {
	base, quote := pair(symbol)
	switch quote {
	case "USD", "USDT", "USDC", "FDUSD", "BUSD", "TUSD":
		quote = "USDT"
	}
	return base + quote
}

// FollowerOf says how a venue follows the true mids of a seed's world, and what its clock
// shows, drawn from the seed. The main venue follows at once.
func FollowerOf(venue string, seed uint64) world.Follower {
	h := fnv.New64a()
	h.Write([]byte(venue))
	rng := rand.New(rand.NewPCG(seed, h.Sum64()))
	f := world.Follower{
		Seed:     seed,
		DelayNs:  (5 + rng.Int64N(116)) * 1_000_000,
		OffsetNs: (rng.Int64N(41) - 20) * 1_000_000,
		DriftPpb: rng.Int64N(4001) - 2000,
		JitterNs: rng.Int64N(3) * 1_000_000,
	}
	if factsOf(venue).main {
		f.DelayNs = 0
	}
	return f
}

// NewMarkets makes the markets of a venue's symbols, in the world of the seed: the true
// mids are the same at every venue, which follows them as FollowerOf says; its books and
// trades are its own.
func NewMarkets(venue string, seed uint64, startNs int64, symbols ...string) (*world.World, error) {
	if protocols[venue] == nil {
		return nil, unknownVenue(venue)
	}
	follow := FollowerOf(venue, seed)
	for _, name := range symbols {
		if err := spelled(venue, name); err != nil {
			return nil, err
		}
	}
	if !factsOf(venue).main {
		h := fnv.New64a()
		h.Write([]byte(venue))
		seed ^= h.Sum64()
	}
	return world.New(seed, world.Spec{Symbols: Markets(venue, symbols...), StartNs: startNs, Follow: &follow})
}

// spelled refuses a symbol that the venue cannot have.
func spelled(venue, symbol string) error {
	f := factsOf(venue)
	if f.form.MatchString(symbol) {
		return nil
	}
	if strings.ContainsAny(symbol, "*?!") {
		return fmt.Errorf("cannot make a market %q at %s: it is a pattern, and there is no list that it could choose from; name the symbols, like %s", symbol, venue, f.example)
	}
	return fmt.Errorf("cannot make a market %q at %s: its symbols are written like %s", symbol, venue, f.example)
}

// newMarket makes one source of all markets of a world, in the venue's dress.
func newMarket(v *Venue, w *world.World) (*source, error) {
	src := &source{name: v.name + " market", world: w, atNs: w.StartNs()}
	if v.facts.main {
		src.name = "market"
	}
	for _, ws := range w.Symbols() {
		sym, err := v.symbolOf(src, ws.Name)
		if err != nil {
			return nil, err
		}
		b, _ := w.Book(ws.Name)
		sym.open = true
		sym.firstID = b.LastID + 1
		sym.pxDecimals, sym.qtyDecimals = ws.PxDecimals, ws.QtyDecimals
		sym.info = newInstrument(ws.Name, ws.PxDecimals, ws.QtyDecimals)
		for _, l := range b.Bids {
			sym.book.put(true, v.level(sym, l))
		}
		for _, l := range b.Asks {
			sym.book.put(false, v.level(sym, l))
		}
		sym.book.lastID = b.LastID
		bid, _ := sym.book.best(true)
		ask, _ := sym.book.best(false)
		sym.quote = [2]level{bid, ask}
		sym.cache = staleCache(sym.book.body(5000), sym.firstID)
		if v.facts.standing {
			for _, k := range []kind{kindBook, kindTrade, kindQuote} {
				v.topicOf(v.proto.topicName(k, sym, 0), k, sym, 0)
			}
		}
	}
	src.pull = func() (*event, bool) {
		e := w.Next()
		return &event{atNs: e.AtNs, sym: v.symbols[w.Symbols()[e.Symbol].Name], first: e.First, last: e.Last, made: e}, true
	}
	return src, nil
}

// keepTrades remembers what a subscription to trades begins with.
func (v *Venue) keepTrades(sym *symbol, list []world.Event) {
	p, ok := v.proto.(interface {
		trade(sym *symbol, e world.Event) []byte
	})
	if !ok {
		return
	}
	for _, e := range list {
		sym.recent = append(sym.recent, p.trade(sym, e))
	}
	sym.recent = sym.recent[max(len(sym.recent)-100, 0):]
}

// instrument is what a venue's metadata tell about a symbol.
type instrument struct {
	symbol, base, quote     string
	pxDecimals, qtyDecimals int
}

// quoteAssets that a symbol may end in, longest first where one ends another.
var quoteAssets = []string{"FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USD", "BTC", "ETH", "BNB", "EUR", "TRY", "BRL", "JPY"}

func newInstrument(symbol string, pxDecimals, qtyDecimals int) instrument {
	base, quote := pair(symbol)
	return instrument{symbol, base, quote, pxDecimals, qtyDecimals}
}

// Symbol is how a venue writes what is traded against dollars.
func Symbol(venue, base string) string { return factsOf(venue).symbol(base) }

// pair takes a symbol of any venue apart.
func pair(symbol string) (base, quote string) {
	for _, sep := range []string{"/", "-"} {
		if base, rest, ok := strings.Cut(symbol, sep); ok {
			quote, _, _ = strings.Cut(rest, "-") // BTC-USDT-SWAP
			return base, quote
		}
	}
	for _, q := range quoteAssets {
		if base, ok := strings.CutSuffix(symbol, q); ok && base != "" {
			return base, q
		}
	}
	return symbol, "USDT"
}

// step is 10^-decimals as a count of 1e-8.
func step(decimals int) int64 {
	n := int64(1)
	for d := decimals; d < 8; d++ {
		n *= 10
	}
	return n
}

// texts dresses the best limit levels of a world's side; 0 is all.
func (v *Venue) texts(sym *symbol, levels []world.Level, limit int) []level {
	if limit > 0 && len(levels) > limit {
		levels = levels[:limit]
	}
	out := make([]level, 0, len(levels))
	for _, l := range levels {
		out = append(out, v.level(sym, l))
	}
	return out
}
