package main

import (
	"encoding/json"
	"fmt"

	"deeptape/hotpath/ledger"
	"deeptape/venues"
	"deeptape/venues/feed"
	"deeptape/venues/registry"
)

// decodeRound: the first record is a feed.Config, at scales that no message widens, the
// others are text frames of its venue.
func decodeRound(records [][]byte) (func() uint64, error) {
	var cfg feed.Config
	if err := json.Unmarshal(records[0], &cfg); err != nil {
		return nil, err
	}
	v, err := registry.ByName(cfg.Venue)
	if err != nil {
		return nil, err
	}
	d := v.NewDecoder(cfg.Instruments)
	b := &venues.Batch{}
	for _, rec := range records[1:] {
		// Of this round nothing is counted: it fails early, and buffers grow.
		r := d.Decode(rec, b)
		for _, m := range b.Messages {
			if inst := &cfg.Instruments[m.Inst]; m.PxScale > inst.PxScale || m.QtyScale > inst.QtyScale {
				r = ledger.Overflow
			}
		}
		if r != ledger.Accepted || len(b.Messages) == 0 {
			return nil, fmt.Errorf("cannot decode %q: reason %v, %+v", rec, r, b.Messages)
		}
	}
	return func() uint64 {
		var sum uint64
		for _, rec := range records[1:] {
			d.Decode(rec, b)
			for i := range b.Messages {
				sum += uint64(b.Messages[i].Seq ^ b.Messages[i].Px)
			}
			for i := range b.Levels {
				sum += uint64(b.Levels[i].Px ^ b.Levels[i].Qty)
			}
		}
		return sum
	}, nil
}
