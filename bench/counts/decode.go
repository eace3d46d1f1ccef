package main

import (
	"fmt"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
)

// decodeRound: a record is a text frame of Binance's combined stream, all of one
// symbol, at scales that no frame needs to widen.
func decodeRound(records [][]byte) (func() uint64, error) {
	v, err := venues.ByName("binance")
	if err != nil {
		return nil, err
	}
	d := v.NewDecoder([]event.Instrument{{Venue: "binance", Symbol: "BTCUSDT", PxScale: 2, QtyScale: 8}})
	b := &venues.Batch{}
	for _, rec := range records {
		// Of this round nothing is counted: it fails early, and buffers grow.
		if r := d.Decode(rec, b); r != ledger.Accepted || len(b.Messages) != 1 || b.Messages[0].PxScale > 2 || b.Messages[0].QtyScale > 8 {
			return nil, fmt.Errorf("cannot decode %q: reason %v, %+v", rec, r, b.Messages)
		}
	}
	return func() uint64 {
		var sum uint64
		for _, rec := range records {
			d.Decode(rec, b)
			m := &b.Messages[0]
			sum += uint64(m.Seq ^ m.Px)
			for i := range b.Levels {
				sum += uint64(b.Levels[i].Px ^ b.Levels[i].Qty)
			}
		}
		return sum
	}, nil
}
