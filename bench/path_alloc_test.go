//go:build !race

package bench

import (
	"slices"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
)

// TestPathAllocations: from the frame to the bytes that QuestDB is sent, and into
// the journal, nothing is allocated for any frame of the recording once the
// buffers have grown.
func TestPathAllocations(t *testing.T) {
	r := recordedBTC(t)
	frames := r.frames
	var snapshot []byte
	for _, rec := range r.inputs {
		in, _, err := event.GetInput(rec)
		if err != nil {
			t.Fatal(err)
		}
		if in.Kind == event.InputRest {
			snapshot = in.Data
		}
	}
	p := newPathRig(t, r)
	const sync = 20 // frames before the snapshot
	begin := func() {
		p.input(event.InputConnect, 1, nil)
		p.input(event.InputFrame, 0, []byte(`{"result":null,"id":1}`)) // else the operator is told
		for _, f := range frames[:sync] {
			p.input(event.InputFrame, 0, f)
		}
		p.input(event.InputRest, event.RestAux(p.requests[0], 0, 200), snapshot)
	}
	begin()
	for _, f := range frames[sync:] {
		p.input(event.InputFrame, 0, f)
	}
	first := p.rows
	p.input(event.InputClose, 0, nil)
	begin()

	// The second time: AllocsPerRun plays one half to warm up and measures the other.
	half := slices.Collect(slices.Chunk(frames[sync:], (len(frames)-sync+1)/2))
	plays := 0
	n := testing.AllocsPerRun(1, func() {
		for i, f := range half[plays] {
			p.input(event.InputFrame, 0, f)
			if i%100 == 99 {
				p.input(event.InputTick, 0, nil)
			}
		}
		plays++
	})
	if n != 0 {
		t.Errorf("%v allocations in %d frames, want 0", n, len(half[1]))
	}
	counts := p.l.Frames.Read()
	if counts.Difference() != 0 || p.l.Deferring() {
		t.Errorf("frames %v, deferring %v", counts, p.l.Deferring())
	}
	for i, e := range ledger.Entries {
		if e.Label == "rejected" && counts[i] != 0 {
			t.Errorf("%d frames are %s", counts[i], e.Reason)
		}
	}
	// 298,111 levels less those of the two dropped messages, a thousand or so of
	// messages without levels and 2,000 of the snapshot; and the trades come only once.
	if got := counts[ledger.Applied]; got < 2*(6493+73174)+19904 || p.rows-first < 298_000 || p.lines < 100*p.rows {
		t.Errorf("%d frames applied, %d rows of %d bytes in the second play, %d in the first", got, p.rows-first, p.lines, first)
	}
}
