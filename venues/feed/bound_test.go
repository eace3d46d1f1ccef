package feed

import (
	"fmt"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues/registry"
)

// far are n asks that nobody has seen before, as depth takes them.
func far(from, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, " %d=1", 1000+from+i)
	}
	return b.String()[1:]
}

// malformed counts the frames that were rejected as that.
func (r *rig) malformed() uint64 {
	counts := r.frames.Read()
	for i, e := range ledger.Entries {
		if e.Reason == ledger.Malformed.String() {
			return counts[i]
		}
	}
	return 0
}

// TestBookHasABound: distinct prices without end took all of the memory, and the book
// counted as live. Now the message that brings it over the bound is malformed and told, the
// memory is given back, the next book comes later each time, and a neighbour knows nothing.
func TestBookHasABound(t *testing.T) {
	r := liveRig(t)
	const a, b = 0, 1
	id, before := int64(102), int64(0)
	for turn := range 3 {
		for n := 0; r.m.insts[a].state == bookLive; n++ {
			if n > 11 {
				t.Fatalf("the book has %d levels and is live", levelsOf(r.m.insts[a].book))
			}
			r.depth(a, id, id, "", far(n*40_000, 40_000))
			id++
		}
		inst := &r.m.insts[a]
		if got := inst.book.Bytes(); got > 2<<20 {
			t.Errorf("turn %d: the book that was given up holds %d bytes", turn, got)
		}
		if n := r.malformed(); n != uint64(turn+1) {
			t.Errorf("turn %d: %d frames are malformed", turn, n)
		}
		iv := &inst.streams[event.StreamBook]
		if iv.state != event.StateGap || iv.cause != event.CauseMalformed || !strings.Contains(iv.detail, "levels") {
			t.Errorf("turn %d: %v %v %q", turn, iv.state, iv.cause, iv.detail)
		}
		if last := r.warned[len(r.warned)-2:]; !strings.Contains(strings.Join(last, "\n"), "at most 400000") {
			t.Errorf("turn %d: told is %q", turn, last)
		}
		r.asked = nil
		r.depth(a, id, id, "9.98=1", "")
		id++
		if len(r.asked) != 1 || r.asked[0].DelayNs <= before {
			t.Fatalf("turn %d: asked for is %+v; the time before it was after %d ns", turn, r.asked, before)
		}
		before = r.asked[0].DelayNs
		r.keyframe() // the wait is part of the state
		r.rest(a, 200, body(id-1, "9.99=1", "10.01=1"))
	}
	r.depth(b, 102, 102, "9.97=1", "")
	r.wantCover(b, event.StreamBook, "gap start", "verified chain")
	if r.m.insts[b].overfull != (overfull{}) {
		t.Error("the neighbour was given up as well")
	}
	r.finish()
}

// TestSnapshotHasABound: a snapshot over the bound, asked for or not, becomes no book, and
// while a book waits no other one is taken.
func TestSnapshotHasABound(t *testing.T) {
	k := newMarket(t, "okx", 1)
	k.run()
	k.open()
	k.flow(20)
	k.model.truth = nil // the snapshots to come are not the market's
	most := k.m.rules.LevelsMax
	snapshot := func(levels int) {
		asks := make([]string, levels)
		for i := range asks {
			asks[i] = fmt.Sprintf(`["%d","1","0","1"]`, 1000+i)
		}
		k.frame(fmt.Sprintf(`{"arg":{"channel":"books","instId":"AAA-USDT"},"action":"snapshot","data":[{"asks":[%s],"bids":[],"ts":"1790000000000","checksum":0,"seqId":%d,"prevSeqId":-1}]}`,
			strings.Join(asks, ","), k.seq[0]))
	}
	inst := &k.m.insts[0]
	snapshot(most)
	if inst.state != bookLive {
		t.Fatalf("a book of %d levels is not taken", most)
	}
	snapshot(most + 1)
	iv := &inst.streams[event.StreamBook]
	if inst.state != bookSyncing || iv.cause != event.CauseMalformed || !strings.Contains(iv.detail, fmt.Sprint(most+1)) {
		t.Fatalf("a snapshot of %d levels: %s, %v %q", most+1, bookStateNames[inst.state], iv.cause, iv.detail)
	}
	if got := inst.book.Bytes(); got > 2<<20 {
		t.Errorf("it holds %d bytes", got)
	}
	snapshot(10)
	if inst.state != bookSyncing {
		t.Error("a snapshot is taken while the book waits")
	}
	k.ticks(2)
	snapshot(10)
	if inst.state != bookLive {
		t.Error("no snapshot is taken after the wait")
	}
	if other := &k.m.insts[1]; other.state != bookLive || other.stats.LastGapCause == event.CauseMalformed {
		t.Error("the neighbour was given up as well")
	}
}

// TestStandbyHasABound: so has the book of the other line, and the book itself stays.
func TestStandbyHasABound(t *testing.T) {
	k := twoLineMarket(t, "coinbase")
	s := &k.m.insts[0].standby
	for n := 0; s.Live; n++ {
		if n > 26 {
			t.Fatalf("the standby has %d levels", levelsOf(s.book))
		}
		levels := make([]event.Level, 10_000)
		for i := range levels {
			levels[i] = event.Level{Px: int64(1_000_000 + n*len(levels) + i), Qty: 1000, Side: event.Ask}
		}
		k.carry(k.bookFrame(0, false, levels), 1)
	}
	if s.book != nil || s.RenewAt-k.m.now < 60e9 {
		t.Errorf("the standby's memory is kept: %v; a new one in %d ns", s.book != nil, s.RenewAt-k.m.now)
	}
	if !strings.Contains(strings.Join(k.warned, "\n"), "at most 250000") {
		t.Errorf("told is %q", k.warned)
	}
	k.wantCover(0, event.StreamBook, "gap start", proofs["coinbase"])
}

// TestEveryVenueHasABound: far above what has been recorded, and what is subscribed.
func TestEveryVenueHasABound(t *testing.T) {
	for _, name := range registry.Names() {
		v, _ := registry.ByName(name)
		r := v.Rules()
		want := 8 * 2 * r.Depth
		if r.Depth == 0 {
			want = 20 * 2 * 400
		}
		if name == "coinbase" || name == "binance" {
			want = 5 * 44_000
		}
		if r.LevelsMax < min(want, 20_000) || name == "coinbase" && r.LevelsMax < want || name == "binance" && r.LevelsMax < want {
			t.Errorf("%s: %d levels", name, r.LevelsMax)
		}
	}
}
