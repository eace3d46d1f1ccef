package okx

import (
	"math"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/hotpath/scan"
	"deeptape/venues"
)

// scan reads the three channels in the venue's spelling of 2024 to 2026. Behind the
// levels the order of keys may be any, and those of some years may be missing.
// Where it declines, b holds nothing of use.
func (d *decoder) scan(frame []byte, b *venues.Batch) bool {
	b.Reset()
	if i := scan.Literal(frame, 0, `{"arg":{"channel":"books","instId":"`); i >= 0 {
		inst, i := d.Names.Name(frame, i)
		i = scan.Literal(frame, i, `},"action":"`)
		kind := venues.KindDelta
		next := scan.Literal(frame, i, `update","data":[{"asks":`)
		if next < 0 {
			kind = venues.KindSnapshot
			next = scan.Literal(frame, i, `snapshot","data":[{"asks":`)
		}
		return inst >= 0 && d.scanLevels(frame, next, kind, inst, b)
	}
	if i := scan.Literal(frame, 0, `{"arg":{"channel":"bbo-tbt","instId":"`); i >= 0 {
		inst, i := d.Names.Name(frame, i)
		i = scan.Literal(frame, i, `},"data":[{"asks":`)
		return inst >= 0 && d.scanLevels(frame, i, venues.KindQuote, inst, b)
	}
	if i := scan.Literal(frame, 0, `{"arg":{"channel":"trades","instId":"`); i >= 0 {
		inst, i := d.Names.Name(frame, i)
		i = scan.Literal(frame, i, `},"data":[{`)
		return inst >= 0 && d.scanTrades(frame, i, inst, b)
	}
	return false
}

// …[…],"bids":[…],"ts":"1717271258202","checksum":834706436,"seqId":26828128388,"prevSeqId":26828128381}]}
// The asks come first, and go behind the bids.
func (d *decoder) scanLevels(f []byte, i int, kind venues.Kind, inst int, b *venues.Batch) bool {
	sc := d.Scales[inst]
	d.asks, i = scan.Quads(f, i, d.asks[:0], event.Ask, sc.Px, sc.Qty)
	b.Levels, i = scan.Quads(f, scan.Literal(f, i, `,"bids":`), b.Levels, event.Bid, sc.Px, sc.Qty)
	b.Levels = append(b.Levels, d.asks...)
	m := b.Add(kind, inst, sc)
	m.Hi = len(b.Levels)
	var isTime, hasChecksum, hasPrev bool
	for scan.Byte(f, i) == ',' { // each key once
		switch scan.Byte(f, i+2) {
		case 't':
			if isTime {
				return false
			}
			var ms int64
			ms, i = scan.Uint(f, scan.Literal(f, i, `,"ts":"`))
			i = scan.Literal(f, i, `"`)
			m.TsEvent, isTime = venues.MillisNs(ms)
			if !isTime {
				return false
			}
		case 's':
			if m.Seq != event.Null {
				return false
			}
			m.Seq, i = scan.Uint(f, scan.Literal(f, i, `,"seqId":`))
		case 'p':
			if hasPrev || kind == venues.KindQuote {
				return false
			}
			m.SeqPrev, i = scan.Int(f, scan.Literal(f, i, `,"prevSeqId":`))
			hasPrev = true
		case 'c':
			var crc int64
			crc, i = scan.Int(f, scan.Literal(f, i, `,"checksum":`))
			if hasChecksum || kind == venues.KindQuote || crc < math.MinInt32 || crc > math.MaxUint32 {
				return false
			}
			m.Checksum, m.HasChecksum, hasChecksum = uint32(crc), crc != 0, true
		default:
			return false
		}
	}
	if scan.Literal(f, i, "}]}") != len(f) || !isTime || venues.Oversized(f) {
		return false
	}
	if kind == venues.KindQuote {
		return venues.Touch(m, b) == ledger.Accepted
	}
	return hasPrev == (m.Seq != event.Null) && (!hasPrev || m.SeqPrev >= -1) // -1: a snapshot follows on nothing
}

// …"instId":"BTC-USDT","tradeId":"1067468269","px":"67761.3","sz":"0.5","side":"buy","ts":"1787612486107","count":"1","source":"0","seqId":82083114838},{…}]}
func (d *decoder) scanTrades(f []byte, i int, inst int, b *venues.Batch) bool {
	sc := d.Scales[inst]
	d.text = d.text[:0]
	for {
		of, j := d.Names.Name(f, scan.Literal(f, i, `"instId":"`))
		id := scan.Literal(f, j, `,"tradeId":"`)
		num, idEnd := scan.Uint(f, id)
		px, j := scan.Decimal(f, scan.Literal(f, idEnd, `","px":"`), sc.Px)
		qty, j := scan.Decimal(f, scan.Literal(f, j, `","sz":"`), sc.Qty)
		side := event.Bid // of the one who took
		next := scan.Literal(f, j, `","side":"buy","ts":"`)
		if next < 0 {
			side = event.Ask
			next = scan.Literal(f, j, `","side":"sell","ts":"`)
		}
		ms, j := scan.Uint(f, next)
		ts, isTime := venues.MillisNs(ms)
		if i = scan.Literal(f, j, `"`); i < 0 || of != inst || !isTime {
			return false
		}
		count := int64(1)
		if j := scan.Literal(f, i, `,"count":"`); j >= 0 {
			count, j = scan.Uint(f, j)
			i = scan.Literal(f, j, `"`)
		}
		if j := scan.Literal(f, i, `,"source":"`); j >= 0 {
			i = scan.Literal(f, scan.Text(f, j), `"`)
		}
		seq := int64(event.Null)
		if j := scan.Literal(f, i, `,"seqId":`); j >= 0 {
			seq, i = scan.Uint(f, j)
		}
		if count < 1 || count > num+1 {
			return false
		}
		m := b.Add(venues.KindTrade, inst, sc)
		m.TsEvent, m.Seq, m.TradeNum, m.TradeFirst, m.Side, m.Px, m.Qty = ts, seq, num, num-(count-1), side, px, qty
		from := len(d.text)
		d.text = append(d.text, f[id:idEnd]...)
		m.TradeID = d.text[from:len(d.text):len(d.text)]
		if j := scan.Literal(f, i, `},{`); j >= 0 {
			i = j
			continue
		}
		return scan.Literal(f, i, `}]}`) == len(f) && !venues.Oversized(f)
	}
}
