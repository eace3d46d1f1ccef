package simvenue

import (
	"strconv"

	"deeptape/bench/world"
)

// newMarket makes one feed of all markets of a world, in the venue's dress.
func newMarket(s *Server, w *world.World) *feed {
	f := newFeed(s, "market")
	type names struct{ depth, trade, quote *stream }
	var streams []names
	for _, ws := range w.Symbols() {
		sym := f.symbol(ws.Name)
		b, _ := w.Book(ws.Name)
		sym.open = true
		sym.firstID = b.LastID + 1
		sym.info = newInstrument(ws.Name, ws.PxDecimals, ws.QtyDecimals)
		sym.cache = staleCache(worldBody(b, 5000), sym.firstID)
		if err := sym.book.load(worldBody(b, 0)); err != nil {
			panic("simvenue: the market's own book: " + err.Error())
		}
		low := lower(ws.Name)
		streams = append(streams, names{
			depth: f.stream(low+"@depth@100ms", sym),
			trade: f.stream(low+"@trade", sym),
			quote: f.stream(low+"@bookTicker", sym),
		})
	}
	f.pull = func() (*event, bool) {
		e := w.Next()
		n := streams[e.Symbol]
		ev := &event{atNs: e.AtNs, sym: n.depth.sym, first: e.First, last: e.Last}
		switch e.Kind {
		case world.Diff:
			ev.kind, ev.stream, ev.bare = kindDepth, n.depth, diffJSON(ev.sym.name, e)
		case world.Quote:
			ev.stream, ev.bare = n.quote, quoteJSON(ev.sym.name, e)
		case world.Trade:
			ev.stream, ev.bare = n.trade, tradeJSON(ev.sym.name, e)
		}
		ev.wrapped = wrap(ev.stream.name, ev.bare)
		return ev, true
	}
	f.depth = func(sym *symbol, limit int) []byte {
		b, _ := w.Book(sym.name)
		return worldBody(b, limit)
	}
	return f
}

// worldBody is the REST answer for a market's book; limit 0 is all.
func worldBody(b world.Book, limit int) []byte {
	out := append([]byte(nil), `{"lastUpdateId":`...)
	out = strconv.AppendInt(out, b.LastID, 10)
	out = append(out, `,"bids":`...)
	out = appendLevels(out, b.Bids, limit)
	out = append(out, `,"asks":`...)
	out = appendLevels(out, b.Asks, limit)
	return append(out, '}')
}

func appendLevels(out []byte, levels []world.Level, limit int) []byte {
	if limit > 0 && len(levels) > limit {
		levels = levels[:limit]
	}
	out = append(out, '[')
	for i, l := range levels {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, '[', '"')
		out = appendDecimal(out, l.Px)
		out = append(out, `","`...)
		out = appendDecimal(out, l.Qty)
		out = append(out, '"', ']')
	}
	return append(out, ']')
}

func diffJSON(symbol string, e world.Event) []byte {
	out := append([]byte(nil), `{"e":"depthUpdate","E":`...)
	out = strconv.AppendInt(out, e.AtNs/1e6, 10)
	out = append(out, `,"s":"`...)
	out = append(out, symbol...)
	out = append(out, `","U":`...)
	out = strconv.AppendInt(out, e.First, 10)
	out = append(out, `,"u":`...)
	out = strconv.AppendInt(out, e.Last, 10)
	out = append(out, `,"b":`...)
	out = appendLevels(out, e.Bids, 0)
	out = append(out, `,"a":`...)
	out = appendLevels(out, e.Asks, 0)
	return append(out, '}')
}

func quoteJSON(symbol string, e world.Event) []byte {
	out := append([]byte(nil), `{"u":`...)
	out = strconv.AppendInt(out, e.Last, 10)
	out = append(out, `,"s":"`...)
	out = append(out, symbol...)
	out = append(out, `","b":"`...)
	out = appendDecimal(out, e.Bid.Px)
	out = append(out, `","B":"`...)
	out = appendDecimal(out, e.Bid.Qty)
	out = append(out, `","a":"`...)
	out = appendDecimal(out, e.Ask.Px)
	out = append(out, `","A":"`...)
	out = appendDecimal(out, e.Ask.Qty)
	return append(out, `"}`...)
}

func tradeJSON(symbol string, e world.Event) []byte {
	ms := e.AtNs / 1e6
	out := append([]byte(nil), `{"e":"trade","E":`...)
	out = strconv.AppendInt(out, ms, 10)
	out = append(out, `,"s":"`...)
	out = append(out, symbol...)
	out = append(out, `","t":`...)
	out = strconv.AppendInt(out, e.TradeID, 10)
	out = append(out, `,"p":"`...)
	out = appendDecimal(out, e.Px)
	out = append(out, `","q":"`...)
	out = appendDecimal(out, e.Qty)
	out = append(out, `","T":`...)
	out = strconv.AppendInt(out, ms, 10)
	out = append(out, `,"m":`...)
	out = strconv.AppendBool(out, e.BuyerIsMaker)
	return append(out, `,"M":true}`...)
}
