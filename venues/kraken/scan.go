package kraken

import (
	"math"

	"deeptape/hotpath/event"
	"deeptape/hotpath/scan"
	"deeptape/venues"
)

// scan reads books and trades in the venue's spelling of 2024 to 2026. Numbers are
// bare, and in a book they may have no digit more than the scale has, not even zeros:
// what is checked is what is printed. Where it declines, b holds nothing of use.
func (d *decoder) scan(frame []byte, b *venues.Batch) bool {
	b.Reset()
	d.text = d.text[:0]
	if i := scan.Literal(frame, 0, `{"channel":"book","type":"`); i >= 0 {
		kind := venues.KindDelta
		next := scan.Literal(frame, i, `update","data":[{"symbol":"`)
		if next < 0 {
			kind = venues.KindSnapshot
			next = scan.Literal(frame, i, `snapshot","data":[{"symbol":"`)
		}
		for i = next; ; {
			if i = d.scanBook(frame, i, kind, b); i < 0 {
				return false
			}
			if j := scan.Literal(frame, i, `,{"symbol":"`); j >= 0 {
				i = j
				continue
			}
			return scan.Literal(frame, i, "]}") == len(frame) && !venues.Oversized(frame)
		}
	}
	if i := scan.Literal(frame, 0, `{"channel":"trade","type":"`); i >= 0 {
		next := scan.Literal(frame, i, `update","data":[{"symbol":"`)
		if next < 0 {
			next = scan.Literal(frame, i, `snapshot","data":[{"symbol":"`)
		}
		for i = next; ; {
			if i = d.scanTrade(frame, i, b); i < 0 {
				return false
			}
			if j := scan.Literal(frame, i, `,{"symbol":"`); j >= 0 {
				i = j
				continue
			}
			venues.SortTrades(b.Messages)
			return scan.Literal(frame, i, "]}") == len(frame) && !venues.Oversized(frame)
		}
	}
	return false
}

// …BTC/USD","bids":[…],"asks":[…],"checksum":1406471562,"timestamp":"2026-08-24T22:21:57.110183Z"}
// Older servers leave the time out of snapshots.
func (d *decoder) scanBook(f []byte, i int, kind venues.Kind, b *venues.Batch) int {
	inst, i := d.Names.Name(f, i)
	if inst < 0 {
		return scan.Declined
	}
	sc := d.Scales[inst]
	m := b.Add(kind, inst, sc)
	m.Lo = len(b.Levels)
	b.Levels, i = scan.Objects(f, scan.Literal(f, i, `,"bids":`), b.Levels, event.Bid, sc.Px, sc.Qty)
	b.Levels, i = scan.Objects(f, scan.Literal(f, i, `,"asks":`), b.Levels, event.Ask, sc.Px, sc.Qty)
	m.Hi = len(b.Levels)
	sum, i := scan.Uint(f, scan.Literal(f, i, `,"checksum":`))
	if sum > math.MaxUint32 {
		return scan.Declined
	}
	m.Checksum, m.HasChecksum = uint32(sum), true
	if j := scan.Literal(f, i, `,"timestamp":"`); j >= 0 {
		m.TsEvent, i = d.minute.Time(f, j)
	}
	return scan.Literal(f, i, "}")
}

// …BTC/USD","side":"buy","price":78871.5,"qty":0.01,"ord_type":"limit","trade_id":37,"timestamp":"2026-08-24T22:21:57.110183Z"}
func (d *decoder) scanTrade(f []byte, i int, b *venues.Batch) int {
	inst, i := d.Names.Name(f, i)
	if inst < 0 {
		return scan.Declined
	}
	sc := d.Scales[inst]
	m := b.Add(venues.KindTrade, inst, sc)
	m.Side = event.Bid // the taker's
	next := scan.Literal(f, i, `,"side":"buy","price":`)
	if next < 0 {
		m.Side = event.Ask
		next = scan.Literal(f, i, `,"side":"sell","price":`)
	}
	m.Px, i = scan.Decimal(f, next, sc.Px)
	m.Qty, i = scan.Decimal(f, scan.Literal(f, i, `,"qty":`), sc.Qty)
	i = scan.Text(f, scan.Literal(f, i, `,"ord_type":"`))
	id := scan.Literal(f, i, `","trade_id":`)
	m.TradeNum, i = scan.Uint(f, id)
	m.TradeFirst = m.TradeNum
	idEnd := i
	if m.TsEvent, i = d.minute.Time(f, scan.Literal(f, i, `,"timestamp":"`)); i < 0 {
		return scan.Declined
	}
	from := len(d.text)
	d.text = append(d.text, f[id:idEnd]...)
	m.TradeID = d.text[from:len(d.text):len(d.text)]
	return scan.Literal(f, i, "}")
}
