package deliver

import (
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/lane"
)

// group of lanes: within each, rows are taken in the order in which they were received.
type group int

const (
	live   group = iota // out of their rings
	behind              // derived again from the journal; hours later, perhaps
	numGroups
)

func (ls *laneState) group() group {
	if ls.source != nil {
		return behind
	}
	return live
}

const (
	// passRecords bounds what a group may have encoded before the other's turn.
	passRecords = 768
	// skipRecords bounds what a catch-up may pass over before the others' turn.
	skipRecords = 256
	// holdNs is how long a row may be on its way from the socket into a ring: what is
	// younger waits, for it may have an elder there.
	holdNs = int64(10 * time.Millisecond)
	// journalNs is how long an elder may be in a ring and not in the journal, until the
	// younger go first: it is an economy to keep the order, no duty.
	journalNs = int64(time.Second)
)

// take encodes what the lanes of a group have, in the order in which it was received.
//
// So each batch of a table begins after the end of the one before (see isWhole), and
// QuestDB appends it. One that begins a microsecond earlier it merges, and writes the end
// of the table anew, up to 50 MB: without order it wrote each row of a flood of three
// feeds 12 times.
func (d *Deliverer) take(g group, now int64) (worked bool, err error) {
	if g == live {
		for _, ls := range d.lanes {
			// Read before the ring: what is derived by now and not in the ring after this
			// pass was never in it.
			ls.derived = min(ls.l.Derived(), ls.l.Written())
		}
	}
	for left := passRecords; ; {
		ls, untilNs, did, err := d.first(g, now)
		if worked = worked || did; err != nil {
			return worked, err
		}
		if ls == nil || left == 0 {
			break
		}
		took := 0
		for rec := ls.next; rec != nil && took < left; rec = ls.next {
			ns := event.RecordTsRecv(rec)
			if ns > untilNs || !d.roomForAny(g, ns) {
				break
			}
			if err := d.takeRecord(ls, rec, now); err != nil {
				return worked, err
			}
			took++
			if _, err = d.look(ls); err != nil {
				return worked, err
			}
			if g != ls.group() { // it has caught up
				break
			}
		}
		if took == 0 {
			break // no room
		}
		ls.l.Rows.Deliver().Publish()
		left -= took
		worked = true
	}
	if g == live {
		did, err := d.endPass()
		return worked || did, err
	}
	return worked, nil
}

// first is the lane of a group whose next record was received first, and until when it
// goes on before another has its turn; nil if nothing is to be taken now. It notes in
// nextNs and heldNs what comes then.
func (d *Deliverer) first(g group, now int64) (first *laneState, untilNs int64, worked bool, err error) {
	firstNs, secondNs := int64(math.MaxInt64), int64(math.MaxInt64)
	for _, ls := range d.lanes {
		if ls.group() != g {
			continue
		}
		did, err := d.look(ls)
		if worked = worked || did; err != nil {
			return nil, 0, worked, err
		}
		var ns int64
		ok := ls.next != nil
		if ok {
			ns = event.RecordTsRecv(ls.next)
		} else if g == live {
			ns, ok = ls.l.NextTsRecv()
			ok = ok && now-ns < journalNs
		}
		switch {
		case !ok:
		case ns < firstNs:
			first, firstNs, secondNs = ls, ns, firstNs
		default:
			secondNs = min(secondNs, ns)
		}
	}
	d.nextNs[g] = firstNs
	if g == live {
		d.heldNs = 0
	}
	// What was received in the future has the time of another machine, in a replay: it
	// waits for nobody.
	if young := now - holdNs; g == live && (first == nil || firstNs <= now) {
		d.nextNs[g], secondNs = min(firstNs, young+1), min(secondNs, young)
		if first != nil && first.next != nil && firstNs > young {
			d.heldNs = firstNs + holdNs
		}
	}
	if first == nil || first.next == nil || firstNs > secondNs {
		return nil, 0, worked, nil
	}
	return first, secondNs, worked, nil
}

// isWhole says that a batch may go: nothing that belongs before its end is still to come.
func (d *Deliverer) isWhole(b *batch) bool {
	return b.endsBefore(live, d.nextNs[live]) && b.endsBefore(behind, d.nextNs[behind])
}

// look finds the next record of a lane that may be taken.
func (d *Deliverer) look(ls *laneState) (worked bool, err error) {
	if ls.source == nil {
		ls.next = ls.l.Peek()
		return false, nil
	}
	return d.lookBehind(ls)
}

// lookBehind finds the next record of a catch-up, or that it is over.
func (d *Deliverer) lookBehind(ls *laneState) (worked bool, err error) {
	ls.next = nil
	for range skipRecords {
		if ls.held == nil {
			ls.held, _, err = ls.source.Next()
			if errors.Is(err, io.EOF) {
				ls.encoded = max(ls.encoded, min(ls.source.Complete(ls.l.Feed), ls.l.Derived()))
				if !ls.l.CaughtUp(ls.source.Complete(ls.l.Feed)) {
					return worked, nil
				}
				d.goLive(ls)
				return true, nil
			}
			if err != nil {
				return worked, fmt.Errorf("cannot derive deferred rows of feed %d: %w", ls.l.Feed, err)
			}
		}
		pos := event.RecordPos(ls.held)
		switch {
		case pos < ls.skipTo:
		case pos == ls.skipTo && ls.skip > 0:
			ls.skip--
		default:
			ls.encoded = max(ls.encoded, pos-1)
			switch ls.l.Turn(pos) {
			case lane.NotYet:
			case lane.Live:
				d.goLive(ls)
				worked = true
			default:
				ls.next = ls.held
			}
			return worked, nil
		}
		if err := d.learn(&ls.sourceDir, ls.held); err != nil {
			return worked, err
		}
		ls.held, worked = nil, true
	}
	return worked, nil
}

// takeRecord encodes the next record of a lane and gives it up.
func (d *Deliverer) takeRecord(ls *laneState, rec []byte, now int64) error {
	if ls.source != nil {
		ls.held = nil
		return d.encode(ls, &ls.sourceDir, rec, now)
	}
	pos := event.RecordPos(rec)
	if err := d.encode(ls, &ls.dir, rec, now); err != nil {
		return err
	}
	ls.l.Release()
	ls.encoded = max(ls.encoded, pos-1)
	return nil
}

// endPass notes which lanes have nothing left, and begins their catch-ups.
func (d *Deliverer) endPass() (worked bool, err error) {
	for _, ls := range d.lanes {
		if ls.source != nil {
			continue
		}
		if from, skip, ok := ls.l.Episode(); ok {
			source, err := d.opt.Derive(ls.l.Feed, from)
			if err != nil {
				return worked, fmt.Errorf("cannot derive deferred rows of feed %d: %w", ls.l.Feed, err)
			}
			ls.source, ls.sourceDir, ls.skipTo, ls.skip = source, nil, from, skip
			ls.encoded = max(ls.encoded, from-1)
			d.Stats.CatchUps.Add(1)
			d.opt.Log.Info("catching up from the journal", "feed", ls.l.Feed, "from_input", from)
			worked = true
			continue
		}
		// What is left in the ring, if anything, is of later inputs: it may stay there
		// for long while the journal takes nothing.
		if ls.l.Peek() == nil && !ls.l.Deferring() {
			ls.encoded = max(ls.encoded, ls.derived)
		}
	}
	return worked, nil
}
