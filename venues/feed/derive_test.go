package feed

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"deeptape/hotpath/event"
)

// TestBadInputEndsItsFeedAlone: one input that cannot be right, though its checksum is,
// once ended the derivation of all feeds: catch-up, replay and verify of a whole journal
// stood still for it. It ends its own feed, until the next keyframe; the time until then
// is told to be a gap.
func TestBadInputEndsItsFeedAlone(t *testing.T) {
	type change func(*event.Input)
	for name, c := range map[string]struct {
		at     event.InputKind // of the input that is changed, the last of the kind before the good keyframe
		change change
		ends   bool // nothing of the feed is derived until the good keyframe
	}{
		"a frame of a line that there is not":      {event.InputFrame, func(in *event.Input) { in.Line = 200 }, true},
		"a keyframe cut short":                     {event.InputKeyframe, func(in *event.Input) { in.Data = in.Data[:len(in.Data)-3] }, true},
		"a keyframe that is no JSON":               {event.InputKeyframe, func(in *event.Input) { in.Data = []byte{2, 0, 0, 0, '{', '['} }, true},
		"a keyframe of another size at the end":    {event.InputKeyframe, func(in *event.Input) { in.Data[len(in.Data)-1] ^= 1 }, false},
		"a run record in the middle that is empty": {event.InputTick, func(in *event.Input) { in.Kind, in.Data = event.InputRun, []byte("{}") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := liveRig(t)
			r.keyframe()
			r.now += 1e9
			r.step(event.InputTick, 0, nil)
			r.depth(0, 102, 102, "9.98=3", "")
			bad := -1
			for i, in := range r.inputs {
				if in.Kind == c.at {
					bad = i
				}
			}
			r.now += 1e9
			r.depth(0, 103, 103, "9.97=3", "")
			r.now += 1e9
			r.keyframe()
			good := r.pos
			r.now += 1e9
			r.depth(0, 104, 104, "9.96=3", "")
			r.step(event.InputTick, 0, nil)

			var both []event.Input
			for i, in := range r.inputs {
				neighbour := in
				neighbour.Feed = 4
				if i == bad {
					in.Data = bytes.Clone(in.Data)
					c.change(&in)
				}
				both = append(both, in, neighbour)
			}
			d := NewDerivation(&sliceInputs{all: both})
			var told []*BadInputError
			d.PassOver(func(e *BadInputError) { told = append(told, e) })
			got := map[uint16][][]byte{}
			for {
				rec, feed, err := d.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("the derivation ends: %v", err)
				}
				got[feed] = append(got[feed], bytes.Clone(rec))
			}
			sameRecords(t, "the neighbour", got[4], r.sink.records)
			if len(told) != 1 || told[0].Feed != 3 || told[0].Pos != r.inputs[bad].Pos {
				t.Fatalf("told %v, want input %d of feed 3, once", told, r.inputs[bad].Pos)
			}
			gap, after := false, false
			lastTs := int64(0)
			for _, rec := range got[3] {
				var h event.Head
				h.Get(rec)
				switch h.Kind {
				case event.RowCoverage:
					c := event.GetCoverage(rec)
					gap = gap || c.State == event.StateGap && c.Cause == event.CauseJournal
				case event.RowBook:
					if h.Ts <= lastTs && h.Inst == 4 {
						t.Errorf("a row of %d comes after one of %d", h.Ts, lastTs)
					}
					if h.Inst == 4 {
						lastTs = h.Ts
					}
					after = after || h.Pos == good+1
					if c.ends && h.Pos >= r.inputs[bad].Pos && h.Pos < good {
						t.Errorf("a row of input %d, behind the bad one, is derived before the keyframe", h.Pos)
					}
				}
			}
			if !gap || !after {
				t.Errorf("a gap with cause journal: %v; rows behind the keyframe: %v; want both", gap, after)
			}
			if pos := d.Pos(3); pos != r.pos {
				t.Errorf("the derivation stands at %d, want %d: a catch-up would never end", pos, r.pos)
			}
		})
	}
}
