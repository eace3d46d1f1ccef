package ledger

import (
	"sync/atomic"

	"deeptape/hotpath/event"
)

// Rows counts the rows of one feed. The owner writes the Feed side, the
// deliverer the Deliver side.
type Rows struct {
	feed    RowsDerived
	_       [128]byte
	deliver RowsDelivered
}

// Feed is the owner's side.
func (r *Rows) Feed() *RowsDerived { return &r.feed }

// Deliver is the deliverer's side.
func (r *Rows) Deliver() *RowsDelivered { return &r.deliver }

const (
	derivedRows = iota
	deferredRows
	derivedKinds
)

const (
	takenRows     = iota // out of the ring
	recoveredRows        // derived again after they had been deferred
	ackedRows
	quarantinedRows
	batchedRows // in batches; goes up and down
	deliveredKinds
)

// RowsDerived is what a feed made.
type RowsDerived struct {
	now [event.NumTables * derivedKinds]uint64
	seq seq
	pub [event.NumTables * derivedKinds]atomic.Uint64
}

// Derive counts rows that were made, and deferred if they found no room.
func (d *RowsDerived) Derive(t event.Table, rows int, deferred bool) {
	d.now[int(t)*derivedKinds+derivedRows] += uint64(rows)
	if deferred {
		d.now[int(t)*derivedKinds+deferredRows] += uint64(rows)
	}
}

// Publish shows the counters to readers, as a whole. It must come before the rows
// themselves can be taken (the ring's Commit): otherwise the deliverer may publish
// that it took rows of which nobody has heard, and a reader finds a difference.
func (d *RowsDerived) Publish() { d.seq.publish(d.now[:], d.pub[:]) }

// RowsDelivered is what became of them.
type RowsDelivered struct {
	now [event.NumTables * deliveredKinds]uint64
	seq seq
	pub [event.NumTables * deliveredKinds]atomic.Uint64
}

// Take counts rows that were put into a batch, out of the ring or, recovered,
// derived again from the journal.
func (d *RowsDelivered) Take(t event.Table, rows int, recovered bool) {
	c := d.now[int(t)*deliveredKinds:]
	if recovered {
		c[recoveredRows] += uint64(rows)
	} else {
		c[takenRows] += uint64(rows)
	}
	c[batchedRows] += uint64(rows)
}

// Ack counts rows of a batch that is finished: stored, or refused for good.
func (d *RowsDelivered) Ack(t event.Table, stored, refused int) {
	c := d.now[int(t)*deliveredKinds:]
	c[ackedRows] += uint64(stored)
	c[quarantinedRows] += uint64(refused)
	c[batchedRows] -= uint64(stored + refused)
}

// Publish shows the counters to readers, as a whole.
func (d *RowsDelivered) Publish() { d.seq.publish(d.now[:], d.pub[:]) }

// RowCounts of one table. Deferred: not yet derived again.
type RowCounts struct {
	Derived, InRing, Batched, Deferred, Acked, Quarantined uint64
	taken, recovered                                       uint64
}

// Read returns the counters of all tables. The two sides are two publications: the
// deliverer's is read first, so that nothing is taken that was not yet derived.
func (r *Rows) Read() (all [event.NumTables]RowCounts) {
	var de [event.NumTables * deliveredKinds]uint64
	var fe [event.NumTables * derivedKinds]uint64
	r.deliver.seq.read(r.deliver.pub[:], de[:])
	r.feed.seq.read(r.feed.pub[:], fe[:])
	for t := range all {
		c := de[t*deliveredKinds:]
		f := fe[t*derivedKinds:]
		all[t] = RowCounts{
			Derived: f[derivedRows], Deferred: f[deferredRows] - c[recoveredRows],
			Batched: c[batchedRows], Acked: c[ackedRows], Quarantined: c[quarantinedRows],
			InRing: f[derivedRows] - f[deferredRows] - c[takenRows],
			taken:  c[takenRows], recovered: c[recoveredRows],
		}
	}
	return all
}

// Difference is what the books are off by. What was taken out of the ring or
// derived again must be acknowledged, in a batch or in quarantine; and nothing may
// be owed by the ring, the deferred rows or the batches. Anything but 0 is a bug.
func (c RowCounts) Difference() int64 {
	d := int64(c.taken+c.recovered) - int64(c.Acked+c.Batched+c.Quarantined)
	if d == 0 {
		d = min(0, int64(c.InRing)) + min(0, int64(c.Deferred)) + min(0, int64(c.Batched))
	}
	return d
}
