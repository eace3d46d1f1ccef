package ledger

import (
	"sync"
	"testing"

	"deeptape/hotpath/event"
)

// rowPlace is where a row is now.
type rowPlace int

const (
	inRing rowPlace = iota
	deferred
	batched
	acked
	quarantined
	numPlaces
)

// TestRowsAgainstPlaceOfEachRow follows each row by itself and counts them afterwards.
func TestRowsAgainstPlaceOfEachRow(t *testing.T) {
	rng := newSeed(t)
	var r Rows
	var rows [event.NumTables][]rowPlace
	move := func(table event.Table, from, to rowPlace, most int) (n int) {
		for i, p := range rows[table] {
			if p == from && n < most {
				rows[table][i] = to
				n++
			}
		}
		return n
	}
	for step := range 3000 {
		table := event.Table(rng.IntN(int(event.NumTables)))
		n := rng.IntN(20)
		switch rng.IntN(6) {
		case 0:
			r.Feed().Derive(table, n, false)
			for range n {
				rows[table] = append(rows[table], inRing)
			}
		case 1:
			r.Feed().Derive(table, n, true)
			for range n {
				rows[table] = append(rows[table], deferred)
			}
		case 2:
			r.Deliver().Take(table, move(table, inRing, batched, n), false)
		case 3:
			r.Deliver().Take(table, move(table, deferred, batched, n), true)
		case 4:
			r.Deliver().Ack(table, move(table, batched, acked, n), 0)
		case 5:
			stored := move(table, batched, acked, n)
			r.Deliver().Ack(table, stored, move(table, batched, quarantined, 2))
		}
		r.Feed().Publish()
		r.Deliver().Publish()
		for table, got := range r.Read() {
			var n [numPlaces]uint64
			for _, p := range rows[table] {
				n[p]++
			}
			got.taken, got.recovered = 0, 0
			want := RowCounts{
				Derived: uint64(len(rows[table])), InRing: n[inRing], Deferred: n[deferred],
				Batched: n[batched], Acked: n[acked], Quarantined: n[quarantined],
			}
			if got != want {
				t.Fatalf("step %d, %s: %+v, want %+v", step, event.Table(table), got, want)
			}
			if d := r.Read()[table].Difference(); d != 0 {
				t.Fatalf("step %d, %s: off by %d", step, event.Table(table), d)
			}
		}
	}
}

// TestEveryRowMistakeIsADifference, and is one in its table alone.
func TestEveryRowMistakeIsADifference(t *testing.T) {
	for name, mistake := range map[string]func(f *RowsDerived, d *RowsDelivered){
		"taken twice":                func(f *RowsDerived, d *RowsDelivered) { d.Take(event.TableTrades, 11, false) },
		"recovered twice":            func(f *RowsDerived, d *RowsDelivered) { d.Take(event.TableTrades, 6, true) },
		"acknowledged twice":         func(f *RowsDerived, d *RowsDelivered) { d.Ack(event.TableTrades, 11, 0) },
		"quarantined twice":          func(f *RowsDerived, d *RowsDelivered) { d.Ack(event.TableTrades, 0, 11) },
		"deferred, but in the ring":  func(f *RowsDerived, d *RowsDelivered) { f.now[int(event.TableTrades)*derivedKinds+deferredRows] += 11 },
		"acknowledged out of place":  func(f *RowsDerived, d *RowsDelivered) { d.now[int(event.TableTrades)*deliveredKinds+ackedRows]++ },
		"lost out of a batch":        func(f *RowsDerived, d *RowsDelivered) { d.now[int(event.TableTrades)*deliveredKinds+batchedRows]-- },
		"taken, in no batch":         func(f *RowsDerived, d *RowsDelivered) { d.now[int(event.TableTrades)*deliveredKinds+takenRows]++ },
		"quarantined from elsewhere": func(f *RowsDerived, d *RowsDelivered) { d.now[int(event.TableTrades)*deliveredKinds+quarantinedRows]++ },
	} {
		var r Rows
		for table := range event.NumTables { // 10 in the ring, 5 deferred, 10 in a batch
			r.Feed().Derive(table, 20, false)
			r.Feed().Derive(table, 5, true)
			r.Deliver().Take(table, 10, false)
		}
		mistake(r.Feed(), r.Deliver())
		r.Feed().Publish()
		r.Deliver().Publish()
		for table, c := range r.Read() {
			if d := c.Difference(); (d != 0) != (event.Table(table) == event.TableTrades) {
				t.Errorf("%s: %s is off by %d", name, event.Table(table), d)
			}
		}
	}
}

// TestRowsBalanceAtEveryInstant runs both sides; a reader finds no difference at
// any time, as long as rows are published before they can be taken.
func TestRowsBalanceAtEveryInstant(t *testing.T) {
	rng := newSeed(t)
	var r Rows
	const count = 50_000
	type message struct {
		table    event.Table
		rows     int
		deferred bool
	}
	ring := make(chan message, 64)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(ring)
		for range count {
			m := message{event.Table(rng.IntN(int(event.NumTables))), 1 + rng.IntN(30), rng.IntN(8) == 0}
			r.Feed().Derive(m.table, m.rows, m.deferred)
			r.Feed().Publish()
			ring <- m
		}
	})
	done := make(chan struct{})
	wg.Go(func() {
		defer close(done)
		for m := range ring {
			r.Deliver().Take(m.table, m.rows, m.deferred)
			r.Deliver().Publish()
			r.Deliver().Ack(m.table, m.rows-1, 1)
			r.Deliver().Publish()
		}
	})
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		for table, c := range r.Read() {
			if d := c.Difference(); d != 0 {
				t.Fatalf("%s is off by %d: %+v", event.Table(table), d, c)
			}
		}
	}
	wg.Wait()
	messages := uint64(0)
	for table, c := range r.Read() {
		if c.InRing+c.Deferred+c.Batched != 0 || c.Derived != c.Acked+c.Quarantined {
			t.Errorf("at rest, %s: %+v", event.Table(table), c)
		}
		messages += c.Quarantined
	}
	if messages != count {
		t.Errorf("%d messages, want %d", messages, count)
	}
}
