package bybit

import (
	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/hotpath/scan"
	"deeptape/venues"
)

// scan reads books, best levels and trades of both markets in the venue's spelling of
// 2024 to 2026. Where it declines, b holds nothing of use.
func (d *decoder) scan(frame []byte, b *venues.Batch) bool {
	b.Reset()
	if i := scan.Literal(frame, 0, `{"topic":"orderbook.`); i >= 0 {
		return d.scanBook(frame, i, b) && !venues.Oversized(frame)
	}
	if i := scan.Literal(frame, 0, `{"topic":"publicTrade.`); i >= 0 {
		return d.scanTrades(frame, i, b) && !venues.Oversized(frame)
	}
	return false
}

// …orderbook.50.BTCUSDT","ts":1787612486116,"type":"delta","data":{"s":"BTCUSDT","b":[…],"a":[…],"u":217107085,"seq":113099229629},"cts":1787612486108}
// Linear markets have type before ts.
func (d *decoder) scanBook(f []byte, i int, b *venues.Batch) bool {
	depth, i := scan.Uint(f, i)
	inst, i := d.Names.Name(f, scan.Literal(f, i, `.`))
	snapshot := false
	if j := scan.Literal(f, i, `,"ts":`); j >= 0 {
		_, j = scan.Uint(f, j)
		if i = scan.Literal(f, j, `,"type":"delta","data":{"s":"`); i < 0 {
			snapshot = true
			i = scan.Literal(f, j, `,"type":"snapshot","data":{"s":"`)
		}
	} else {
		if j = scan.Literal(f, i, `,"type":"delta","ts":`); j < 0 {
			snapshot = true
			j = scan.Literal(f, i, `,"type":"snapshot","ts":`)
		}
		_, j = scan.Uint(f, j)
		i = scan.Literal(f, j, `,"data":{"s":"`)
	}
	of, i := d.Names.Name(f, i)
	if i < 0 || inst < 0 || of != inst {
		return false
	}
	sc := d.Scales[inst]
	m := b.Add(venues.KindDelta, inst, sc)
	b.Levels, i = scan.Pairs(f, scan.Literal(f, i, `,"b":`), b.Levels, event.Bid, sc.Px, sc.Qty)
	b.Levels, i = scan.Pairs(f, scan.Literal(f, i, `,"a":`), b.Levels, event.Ask, sc.Px, sc.Qty)
	m.Hi = len(b.Levels)
	m.Seq, i = scan.Uint(f, scan.Literal(f, i, `,"u":`))
	_, i = scan.Uint(f, scan.Literal(f, i, `,"seq":`))
	at, i := scan.Uint(f, scan.Literal(f, i, `},"cts":`))
	var isTime bool
	if m.TsEvent, isTime = venues.MillisNs(at); !isTime || scan.Literal(f, i, `}`) != len(f) {
		return false
	}
	switch {
	case depth == 1:
		m.Kind = venues.KindQuote
		return snapshot && venues.Touch(m, b) == ledger.Accepted
	case snapshot:
		m.Kind = venues.KindSnapshot
	default:
		m.SeqPrev = m.Seq - 1
	}
	return true
}

// …publicTrade.BTCUSDT","type":"snapshot","ts":1787612486116,"data":[{…},{…}]}
func (d *decoder) scanTrades(f []byte, i int, b *venues.Batch) bool {
	inst, i := d.Names.Name(f, i)
	if j := scan.Literal(f, i, `,"ts":`); j >= 0 {
		_, j = scan.Uint(f, j)
		i = scan.Literal(f, j, `,"type":"snapshot","data":[{`)
	} else {
		_, j = scan.Uint(f, scan.Literal(f, i, `,"type":"snapshot","ts":`))
		i = scan.Literal(f, j, `,"data":[{`)
	}
	if i < 0 || inst < 0 {
		return false
	}
	d.text = d.text[:0]
	for {
		if i = d.scanTrade(f, i, inst, b); i < 0 {
			return false
		}
		if j := scan.Literal(f, i, `,{`); j >= 0 {
			i = j
			continue
		}
		return scan.Literal(f, i, `]}`) == len(f)
	}
}

// scanTrade reads the rest of an object of one trade. Its keys come in several orders,
// and some years have more of them.
func (d *decoder) scanTrade(f []byte, i int, inst int, b *venues.Batch) int {
	const (
		hasT = 1 << iota
		hasSymbol
		hasSide
		hasQty
		hasPx
		hasID
		hasTick
		hasBlock
		hasRPI
		hasSeq
	)
	sc := d.Scales[inst]
	m := b.Add(venues.KindTrade, inst, sc)
	m.TradeNum, m.TradeFirst = event.Null, event.Null
	for had := 0; ; {
		key := scan.Literal(f, i, `"`)
		end := scan.Text(f, key)
		if i = scan.Literal(f, end, `":`); i < 0 {
			return scan.Declined
		}
		is := 0
		switch string(f[key:end]) {
		case "T":
			var ms int64
			ms, i = scan.Uint(f, i)
			var isTime bool
			if m.TsEvent, isTime = venues.MillisNs(ms); !isTime {
				return scan.Declined
			}
			is = hasT
		case "s":
			var of int
			if of, i = d.Names.Name(f, scan.Literal(f, i, `"`)); of != inst {
				return scan.Declined
			}
			is = hasSymbol
		case "S": // of the one who took
			m.Side = event.Bid
			next := scan.Literal(f, i, `"Buy"`)
			if next < 0 {
				m.Side = event.Ask
				next = scan.Literal(f, i, `"Sell"`)
			}
			i, is = next, hasSide
		case "v":
			m.Qty, i = scan.Decimal(f, scan.Literal(f, i, `"`), sc.Qty)
			i, is = scan.Literal(f, i, `"`), hasQty
		case "p":
			m.Px, i = scan.Decimal(f, scan.Literal(f, i, `"`), sc.Px)
			i, is = scan.Literal(f, i, `"`), hasPx
		case "i":
			from := scan.Literal(f, i, `"`)
			to := scan.Text(f, from)
			if to < 0 || to == from || to-from > tradeIDMax {
				return scan.Declined
			}
			at := len(d.text)
			d.text = append(d.text, f[from:to]...)
			m.TradeID = d.text[at:len(d.text):len(d.text)]
			i, is = to+1, hasID
		case "L":
			i, is = scan.Literal(f, scan.Text(f, scan.Literal(f, i, `"`)), `"`), hasTick
		case "BT":
			i, is = word(f, i), hasBlock
		case "RPI":
			i, is = word(f, i), hasRPI
		case "seq":
			_, i = scan.Uint(f, i)
			is = hasSeq
		}
		if is == 0 || had&is != 0 || i < 0 {
			return scan.Declined
		}
		had |= is
		switch scan.Byte(f, i) {
		case ',':
			i++
		case '}':
			if had&(hasT|hasSymbol|hasSide|hasQty|hasPx|hasID) != hasT|hasSymbol|hasSide|hasQty|hasPx|hasID {
				return scan.Declined
			}
			return i + 1
		default:
			return scan.Declined
		}
	}
}

// word reads true or false.
func word(f []byte, i int) int {
	if j := scan.Literal(f, i, "false"); j >= 0 {
		return j
	}
	return scan.Literal(f, i, "true")
}
