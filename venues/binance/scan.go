package binance

import (
	"strconv"

	"deeptape/hotpath/event"
	"deeptape/hotpath/scan"
	"deeptape/venues"
)

// scan reads the three streams in the venue's spelling of 2024, combined or bare.
// Where it declines, b holds nothing of use.
func (d *decoder) scan(frame []byte, b *venues.Batch) bool {
	b.Reset()
	i := scan.Literal(frame, 0, `{"stream":"`)
	combined := i >= 0
	if combined {
		i = scan.Literal(frame, scan.Text(frame, i), `","data":`)
	} else {
		i = 0
	}
	if j := scan.Literal(frame, i, `{"u":`); j >= 0 {
		i = d.scanQuote(frame, j, b)
	} else if j := scan.Literal(frame, i, `{"e":"trade","E":`); j >= 0 {
		i = d.scanTrade(frame, j, b)
	} else if j := scan.Literal(frame, i, `{"e":"depthUpdate","E":`); j >= 0 {
		i = d.scanDepth(frame, j, b)
	} else {
		return false
	}
	if combined {
		i = scan.Literal(frame, i, "}")
	}
	return i == len(frame) && !venues.Oversized(frame)
}

// …"E":1723161255308,"s":"BTCUSDT","U":1,"u":2,"b":[…],"a":[…]}
func (d *decoder) scanDepth(f []byte, i int, b *venues.Batch) int {
	at, i := scan.Uint(f, i)
	inst, i := d.Names.Name(f, scan.Literal(f, i, `,"s":"`))
	first, i := scan.Uint(f, scan.Literal(f, i, `,"U":`))
	last, i := scan.Uint(f, scan.Literal(f, i, `,"u":`))
	i = scan.Literal(f, i, `,"b":`)
	ts, isTime := venues.UnixNs(at)
	if i < 0 || inst < 0 || !isTime || first > last {
		return scan.Declined
	}
	m := b.Add(venues.KindDelta, inst, d.Scales[inst])
	m.First, m.Seq, m.SeqPrev, m.TsEvent = first, last, first-1, ts
	i = d.scanSides(f, i, `,"a":`, m, b)
	return scan.Literal(f, i, "}")
}

func (d *decoder) scanSides(f []byte, i int, between string, m *venues.Message, b *venues.Batch) int {
	sc := d.Scales[m.Inst]
	b.Levels, i = scan.PaddedPairs(f, i, b.Levels, event.Bid, sc.Px, sc.Qty)
	b.Levels, i = scan.PaddedPairs(f, scan.Literal(f, i, between), b.Levels, event.Ask, sc.Px, sc.Qty)
	m.Hi = len(b.Levels)
	return i
}

func (d *decoder) scanSnapshot(inst int, body []byte, b *venues.Batch) bool {
	b.Reset()
	seq, i := scan.Uint(body, scan.Literal(body, 0, `{"lastUpdateId":`))
	m := b.Add(venues.KindSnapshot, inst, d.Scales[inst])
	m.Seq = seq
	i = d.scanSides(body, scan.Literal(body, i, `,"bids":`), `,"asks":`, m, b)
	return scan.Literal(body, i, "}") == len(body) && !venues.Oversized(body)
}

// …"E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63","q":"0.02","T":1723161255342,"m":true,"M":true}
func (d *decoder) scanTrade(f []byte, i int, b *venues.Batch) int {
	_, i = scan.Uint(f, i)
	inst, i := d.Names.Name(f, scan.Literal(f, i, `,"s":"`))
	num, i := scan.Uint(f, scan.Literal(f, i, `,"t":`))
	if inst < 0 {
		return scan.Declined
	}
	sc := d.Scales[inst]
	px, i := scan.Decimal(f, scan.Literal(f, i, `,"p":"`), sc.Px)
	qty, i := scan.Decimal(f, scan.Literal(f, i, `","q":"`), sc.Qty)
	at, i := scan.Uint(f, scan.Literal(f, i, `","T":`))
	ts, isTime := venues.UnixNs(at)
	side := event.Ask // the buyer is the maker, so a seller took
	next := scan.Literal(f, i, `,"m":true,"M":`)
	if next < 0 {
		side = event.Bid
		next = scan.Literal(f, i, `,"m":false,"M":`)
	}
	if i = scan.Literal(f, next, "true}"); i < 0 {
		i = scan.Literal(f, next, "false}")
	}
	if i < 0 || !isTime {
		return scan.Declined
	}
	m := b.Add(venues.KindTrade, inst, sc)
	m.TsEvent, m.TradeNum, m.TradeFirst, m.Side, m.Px, m.Qty = ts, num, num, side, px, qty
	d.tradeID = strconv.AppendInt(d.tradeID[:0], num, 10)
	m.TradeID = d.tradeID
	return i
}

// …"u":50093239212,"s":"BTCUSDT","b":"61837.63","B":"3.78826","a":"61837.64","A":"1.54698"}
func (d *decoder) scanQuote(f []byte, i int, b *venues.Batch) int {
	seq, i := scan.Uint(f, i)
	inst, i := d.Names.Name(f, scan.Literal(f, i, `,"s":"`))
	if inst < 0 {
		return scan.Declined
	}
	sc := d.Scales[inst]
	bidPx, i := scan.Decimal(f, scan.Literal(f, i, `,"b":"`), sc.Px)
	bidQty, i := scan.Decimal(f, scan.Literal(f, i, `","B":"`), sc.Qty)
	askPx, i := scan.Decimal(f, scan.Literal(f, i, `","a":"`), sc.Px)
	askQty, i := scan.Decimal(f, scan.Literal(f, i, `","A":"`), sc.Qty)
	if i = scan.Literal(f, i, `"}`); i < 0 {
		return scan.Declined
	}
	m := b.Add(venues.KindQuote, inst, sc)
	m.Seq, m.Px, m.Qty, m.AskPx, m.AskQty = seq, bidPx, bidQty, askPx, askQty
	return i
}
