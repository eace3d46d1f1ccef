package venues

import (
	"math"

	"deeptape/hotpath/event"
	"deeptape/hotpath/scan"
)

// scan reads books and trades in the venue's spelling of 2024 to 2026. Numbers are
// bare, and in a book they may have no digit more than the scale has, not even zeros:
// what is checked is what is printed. Where it declines, b holds nothing of use.
func (d *krakenDecoder) scan(frame []byte, b *Batch) bool {
	b.Reset()
	d.text = d.text[:0]
	if i := scan.Literal(frame, 0, `{"channel":"book","type":"`); i >= 0 {
		kind := KindDelta
		next := scan.Literal(frame, i, `update","data":[{"symbol":"`)
		if next < 0 {
			kind = KindSnapshot
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
			return scan.Literal(frame, i, "]}") == len(frame) && !oversized(frame)
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
			ascending(b.Messages)
			return scan.Literal(frame, i, "]}") == len(frame) && !oversized(frame)
		}
	}
	return false
}

// …BTC/USD","bids":[…],"asks":[…],"checksum":1406471562,"timestamp":"2026-08-24T22:21:57.110183Z"}
// Older servers leave the time out of snapshots.
func (d *krakenDecoder) scanBook(f []byte, i int, kind Kind, b *Batch) int {
	inst, i := d.names.name(f, i)
	if inst < 0 {
		return scan.Declined
	}
	sc := d.scales[inst]
	m := b.message(kind, inst, sc)
	m.Lo = len(b.Levels)
	b.Levels, i = scan.Objects(f, scan.Literal(f, i, `,"bids":`), b.Levels, event.Bid, sc.px, sc.qty)
	b.Levels, i = scan.Objects(f, scan.Literal(f, i, `,"asks":`), b.Levels, event.Ask, sc.px, sc.qty)
	m.Hi = len(b.Levels)
	sum, i := scan.Uint(f, scan.Literal(f, i, `,"checksum":`))
	if sum > math.MaxUint32 {
		return scan.Declined
	}
	m.Checksum, m.HasChecksum = uint32(sum), true
	if j := scan.Literal(f, i, `,"timestamp":"`); j >= 0 {
		m.TsEvent, i = d.minute.time(f, j)
	}
	return scan.Literal(f, i, "}")
}

// …BTC/USD","side":"buy","price":78871.5,"qty":0.01,"ord_type":"limit","trade_id":37,"timestamp":"2026-08-24T22:21:57.110183Z"}
func (d *krakenDecoder) scanTrade(f []byte, i int, b *Batch) int {
	inst, i := d.names.name(f, i)
	if inst < 0 {
		return scan.Declined
	}
	sc := d.scales[inst]
	m := b.message(KindTrade, inst, sc)
	m.Side = event.Bid // the taker's
	next := scan.Literal(f, i, `,"side":"buy","price":`)
	if next < 0 {
		m.Side = event.Ask
		next = scan.Literal(f, i, `,"side":"sell","price":`)
	}
	m.Px, i = scan.Decimal(f, next, sc.px)
	m.Qty, i = scan.Decimal(f, scan.Literal(f, i, `,"qty":`), sc.qty)
	i = scan.Text(f, scan.Literal(f, i, `,"ord_type":"`))
	id := scan.Literal(f, i, `","trade_id":`)
	m.TradeNum, i = scan.Uint(f, id)
	m.TradeFirst = m.TradeNum
	idEnd := i
	if m.TsEvent, i = d.minute.time(f, scan.Literal(f, i, `,"timestamp":"`)); i < 0 {
		return scan.Declined
	}
	from := len(d.text)
	d.text = append(d.text, f[id:idEnd]...)
	m.TradeID = d.text[from:len(d.text):len(d.text)]
	return scan.Literal(f, i, "}")
}
