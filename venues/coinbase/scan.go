package coinbase

import (
	"deeptape/hotpath/event"
	"deeptape/hotpath/scan"
	"deeptape/venues"
)

// A frame of so few events, of names that are no longer, has no rest that takeOut
// might refuse.
const (
	scanEvents = 100
	scanName   = 100
)

// scan reads books and trades in the venue's spelling of 2024 to 2026, with client_id
// or without. Where it declines, b holds nothing of use.
func (d *decoder) scan(frame []byte, b *venues.Batch) bool {
	b.Reset()
	i := scan.Literal(frame, 0, `{"channel":"l2_data",`)
	trades := i < 0
	if trades {
		i = scan.Literal(frame, 0, `{"channel":"market_trades",`)
	}
	if j := scan.Literal(frame, i, `"client_id":"",`); j >= 0 {
		i = j
	}
	at := scan.Literal(frame, i, `"timestamp":"`)
	end := scan.Text(frame, at)
	seq, i := scan.Uint(frame, scan.Literal(frame, end, `","sequence_num":`))
	if i = scan.Literal(frame, i, `,"events":[{"type":"`); i < 0 || end-at > scanName {
		return false
	}
	b.ConnSeq = seq
	d.text = d.text[:0]
	for range scanEvents {
		kind := venues.KindDelta
		next := scan.Literal(frame, i, `update",`)
		if next < 0 {
			kind = venues.KindSnapshot
			next = scan.Literal(frame, i, `snapshot",`)
		}
		if trades {
			i = d.scanTrades(frame, next, b)
		} else {
			i = d.scanBook(frame, next, kind, b)
		}
		if i < 0 {
			return false
		}
		if j := scan.Literal(frame, i, `,{"type":"`); j >= 0 {
			i = j
			continue
		}
		if trades {
			venues.SortTrades(b.Messages)
		}
		if trades && (len(frame) > mostBytes || venues.Oversized(frame)) { // levels are taken out
			return false
		}
		return scan.Literal(frame, i, "]}") == len(frame)
	}
	return false
}

// …"product_id":"BTC-USD","updates":[…]}
func (d *decoder) scanBook(f []byte, i int, kind venues.Kind, b *venues.Batch) int {
	from := scan.Literal(f, i, `"product_id":"`)
	inst, i := d.Names.Name(f, from)
	if i = scan.Literal(f, i, `,"updates":[`); i < 0 || inst < 0 || i-from > scanName {
		return scan.Declined
	}
	sc := d.Scales[inst]
	m := b.Add(kind, inst, sc)
	m.Seq = b.ConnSeq
	m.Lo = len(b.Levels)
	levels, latest := b.Levels, int64(event.Null)
	for scan.Byte(f, i) != ']' || len(levels) > m.Lo { // it is empty, or else a level follows
		side := event.Bid
		next := scan.Literal(f, i, `{"side":"bid","event_time":"`)
		if next < 0 {
			side = event.Ask
			next = scan.Literal(f, i, `{"side":"offer","event_time":"`)
		}
		ts, j := d.minute.Time(f, next)
		px, j := scan.Decimal(f, scan.Literal(f, j, `,"price_level":"`), sc.Px)
		qty, j := scan.Decimal(f, scan.Literal(f, j, `","new_quantity":"`), sc.Qty)
		if i = scan.Literal(f, j, `"}`); i < 0 {
			return scan.Declined
		}
		latest = max(latest, ts)
		levels = append(levels, event.Level{Px: px, Qty: qty, Side: side})
		if scan.Byte(f, i) != ',' {
			break
		}
		i++
	}
	b.Levels = levels
	m.Hi, m.TsEvent = len(levels), latest
	return scan.Literal(f, i, `]}`)
}

// …"trades":[{"product_id":"BTC-USD","trade_id":"648774351","price":"67910","size":"0.000016","time":"2024-06-02T17:19:03.537238Z","side":"BUY"}]}
func (d *decoder) scanTrades(f []byte, i int, b *venues.Batch) int {
	for i = scan.Literal(f, i, `"trades":[`); ; i++ {
		inst, j := d.Names.Name(f, scan.Literal(f, i, `{"product_id":"`))
		if inst < 0 {
			return scan.Declined
		}
		sc := d.Scales[inst]
		m := b.Add(venues.KindTrade, inst, sc)
		id := scan.Literal(f, j, `,"trade_id":"`)
		num, idEnd := scan.Uint(f, id)
		m.Px, j = scan.Decimal(f, scan.Literal(f, idEnd, `","price":"`), sc.Px)
		m.Qty, j = scan.Decimal(f, scan.Literal(f, j, `","size":"`), sc.Qty)
		m.TsEvent, j = d.minute.Time(f, scan.Literal(f, j, `","time":"`))
		m.Side = event.Bid // what is told is the maker's
		next := scan.Literal(f, j, `,"side":"SELL"}`)
		if next < 0 {
			m.Side = event.Ask
			next = scan.Literal(f, j, `,"side":"BUY"}`)
		}
		if i = next; i < 0 {
			return scan.Declined
		}
		m.TradeNum, m.TradeFirst = num, num
		from := len(d.text)
		d.text = append(d.text, f[id:idEnd]...)
		m.TradeID = d.text[from:len(d.text):len(d.text)]
		if scan.Byte(f, i) != ',' {
			return scan.Literal(f, i, `]}`)
		}
	}
}
