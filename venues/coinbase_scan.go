package venues

import (
	"deeptape/hotpath/event"
	"deeptape/hotpath/scan"
)

// A frame of so few events, of names that are no longer, has no rest that takeOut
// might refuse.
const (
	coinbaseScanEvents = 100
	coinbaseScanName   = 100
)

// scan reads books and trades in the venue's spelling of 2024 to 2026, with client_id
// or without. Where it declines, b holds nothing of use.
func (d *coinbaseDecoder) scan(frame []byte, b *Batch) bool {
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
	if i = scan.Literal(frame, i, `,"events":[{"type":"`); i < 0 || end-at > coinbaseScanName {
		return false
	}
	b.ConnSeq = seq
	d.text = d.text[:0]
	for range coinbaseScanEvents {
		kind := KindDelta
		next := scan.Literal(frame, i, `update",`)
		if next < 0 {
			kind = KindSnapshot
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
			ascending(b.Messages)
		}
		if trades && (len(frame) > coinbaseMostBytes || oversized(frame)) { // levels are taken out
			return false
		}
		return scan.Literal(frame, i, "]}") == len(frame)
	}
	return false
}

// …"product_id":"BTC-USD","updates":[…]}
func (d *coinbaseDecoder) scanBook(f []byte, i int, kind Kind, b *Batch) int {
	from := scan.Literal(f, i, `"product_id":"`)
	inst, i := d.names.name(f, from)
	if i = scan.Literal(f, i, `,"updates":[`); i < 0 || inst < 0 || i-from > coinbaseScanName {
		return scan.Declined
	}
	sc := d.scales[inst]
	m := b.message(kind, inst, sc)
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
		ts, j := d.minute.time(f, next)
		px, j := scan.Decimal(f, scan.Literal(f, j, `,"price_level":"`), sc.px)
		qty, j := scan.Decimal(f, scan.Literal(f, j, `","new_quantity":"`), sc.qty)
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
func (d *coinbaseDecoder) scanTrades(f []byte, i int, b *Batch) int {
	for i = scan.Literal(f, i, `"trades":[`); ; i++ {
		inst, j := d.names.name(f, scan.Literal(f, i, `{"product_id":"`))
		if inst < 0 {
			return scan.Declined
		}
		sc := d.scales[inst]
		m := b.message(KindTrade, inst, sc)
		id := scan.Literal(f, j, `,"trade_id":"`)
		num, idEnd := scan.Uint(f, id)
		m.Px, j = scan.Decimal(f, scan.Literal(f, idEnd, `","price":"`), sc.px)
		m.Qty, j = scan.Decimal(f, scan.Literal(f, j, `","size":"`), sc.qty)
		m.TsEvent, j = d.minute.time(f, scan.Literal(f, j, `","time":"`))
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
