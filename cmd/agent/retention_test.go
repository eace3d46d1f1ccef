package agent

import (
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/journal"
)

// A derivation may start only where every feed that is owed rows has a keyframe,
// or its run record, at or before the last input that QuestDB has acknowledged.
func TestSegmentFor(t *testing.T) {
	dir := t.TempDir()
	w, _, err := journal.Open(journal.OS, dir, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	put := func(feed uint16, pos uint64, kind event.InputKind) {
		t.Helper()
		rec := event.AppendInput(nil, event.InputHead{Kind: kind, Feed: feed, Pos: pos, Ts: int64(1000 + pos)}, []byte("x"))
		if err := w.Append(rec); err != nil {
			t.Fatal(err)
		}
	}
	rotate := func() {
		t.Helper()
		if err := w.Rotate(); err != nil {
			t.Fatal(err)
		}
	}
	// segment 1: both runs begin. 2: both have a keyframe. 3: only feed 0 has.
	put(0, 1, event.InputRun)
	put(1, 1, event.InputRun)
	put(0, 2, event.InputFrame)
	rotate()
	put(0, 3, event.InputFrame)
	put(0, 4, event.InputKeyframe)
	put(1, 2, event.InputFrame)
	put(1, 3, event.InputKeyframe)
	rotate()
	put(0, 5, event.InputKeyframe)
	put(1, 4, event.InputFrame)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		after map[uint16]uint64
		want  uint64
	}{
		{map[uint16]uint64{0: 0, 1: 0}, 1}, // nothing acknowledged
		{map[uint16]uint64{0: 3, 1: 4}, 1}, // feed 0's keyframe is not
		{map[uint16]uint64{0: 4, 1: 2}, 1}, // feed 1's is not
		{map[uint16]uint64{0: 4, 1: 3}, 2},
		{map[uint16]uint64{0: 5, 1: 4}, 2}, // segment 3 has nothing to start feed 1 from
		{map[uint16]uint64{0: 5}, 3},       // feed 1 is owed nothing
		{map[uint16]uint64{0: 4}, 2},
		{map[uint16]uint64{7: 9}, 1}, // a feed that was never here
	} {
		a := anchors{fs: journal.OS, dir: dir, known: map[uint64]map[uint16]uint64{}}
		for range 2 { // what is remembered is the same as what is found
			at, err := a.startOf(c.after)
			if err != nil || at.Segment != c.want {
				t.Errorf("after %v: segment %d, %v; want %d", c.after, at.Segment, err, c.want)
			}
		}
	}
	// What a segment does not have yet, it may get.
	a := anchors{fs: journal.OS, dir: dir, known: map[uint64]map[uint16]uint64{}}
	after := map[uint16]uint64{0: 9, 1: 9}
	if at, _ := a.startOf(after); at.Segment != 2 {
		t.Errorf("segment %d before feed 1's turn, want 2", at.Segment)
	}
	put(1, 5, event.InputKeyframe)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if at, _ := a.startOf(after); at.Segment != 3 {
		t.Errorf("segment %d after feed 1's turn, want 3", at.Segment)
	}
}
