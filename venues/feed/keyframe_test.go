package feed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
)

func (r *rig) keyframe() {
	r.t.Helper()
	r.step(event.InputKeyframe, 0, r.m.AppendKeyframe(nil))
}

// TestKeyframes (DEEPTAPE_SEED=n starts at one): through storms, a derivation that
// starts at any keyframe gives the same rows from there on, byte for byte, and keeps
// balanced books.
func TestKeyframes(t *testing.T) {
	first := uint64(1)
	if one, err := strconv.ParseUint(os.Getenv("DEEPTAPE_SEED"), 10, 64); err == nil {
		first = one
	}
	for seed := first; seed < first+4; seed++ {
		ok := t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			s := newStorm(t, seed)
			s.m.bufferBytes = bufferBytesMax // what a derivation has
			s.run()
			for i := range 2500 {
				s.event()
				s.answers()
				s.mishap()
				if i%211 == 0 {
					s.keyframe()
				}
			}
			s.cut()
			s.finish()
			started := 0
			for at, in := range s.inputs {
				if in.Kind == event.InputKeyframe {
					started++
					sameFrom(t, s.rig, at)
				}
			}
			if started < 10 {
				t.Errorf("only %d keyframes", started)
			}
		})
		if !ok {
			t.Fatalf("seed %d", seed)
		}
	}
}

// sameFrom derives from the keyframe at an input on.
func sameFrom(t *testing.T, r *rig, at int) {
	t.Helper()
	in := r.inputs[at]
	var want [][]byte
	for _, rec := range r.sink.records {
		if event.RecordPos(rec) > in.Pos {
			want = append(want, rec)
		}
	}
	d := NewDerivation(&sliceInputs{all: r.inputs[at:]}, 3)
	var got [][]byte
	for {
		rec, _, err := d.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if event.RecordPos(rec) > in.Pos {
			got = append(got, append([]byte(nil), rec...))
		}
	}
	sameRecords(t, fmt.Sprintf("from the keyframe at %d", in.Pos), got, want)
	if off := d.Frames(3).Read().Difference(); off != 0 {
		t.Fatalf("from the keyframe at %d: frames are off by %d", in.Pos, off)
	}
}

// A keyframe that is not what the inputs before it make stops the derivation: a
// changed digit in the book, or in the state.
func TestKeyframeDiffers(t *testing.T) {
	for name, change := range map[string]func([]byte){
		"level": func(b []byte) { b[len(b)-1] ^= 1 },
		"state": func(b []byte) { b[4+strings.Index(string(b[4:]), `"seq":`)+6] ^= 1 },
	} {
		r := liveRig(t)
		data := r.m.AppendKeyframe(nil)
		change(data)
		in := event.Input{InputHead: event.InputHead{Kind: event.InputKeyframe, Feed: 3, Pos: r.pos + 1, Ts: r.now}, Data: data}
		if err := r.m.Step(&in); err == nil || !strings.Contains(err.Error(), "not what the inputs before it make") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNextRunIsCompared: behind a hole of the journal the keyframes of the same run cannot
// be compared, since the machine learnt its past from one of them. Those of the next run
// can, and are.
func TestNextRunIsCompared(t *testing.T) {
	r := liveRig(t)
	r.depth(0, 102, 102, "9.98=3", "")
	hole := len(r.inputs) - 1
	r.keyframe()
	r.stop()
	r.now += 1e9
	r.run()
	r.keyframe()
	if last := r.inputs[len(r.inputs)-1]; last.Kind != event.InputKeyframe {
		t.Fatalf("the last input is %s", last.Kind)
	}
	for _, spoilt := range []bool{false, true} {
		inputs := slices.Delete(slices.Clone(r.inputs), hole, hole+1)
		if spoilt {
			last := &inputs[len(inputs)-1]
			last.Data = bytes.Clone(last.Data)
			last.Data[4+strings.Index(string(last.Data[4:]), `"now":`)+7] ^= 1
		}
		d := NewDerivation(&sliceInputs{all: inputs})
		var told []string
		d.PassOver(func(e *BadInputError) { told = append(told, e.Error()) })
		for {
			if _, _, err := d.Next(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if (len(told) == 1) != spoilt || spoilt && !strings.Contains(told[0], "not what the inputs before it make") {
			t.Errorf("the keyframe of the next run is spoilt: %v; told: %q", spoilt, told)
		}
	}
}

func FuzzRestore(f *testing.F) {
	m := New(&memorySink{}, &ledger.Frames{}, &ledger.RowsDerived{})
	cfg := event.Input{InputHead: event.InputHead{Kind: event.InputRun, Pos: 1, Ts: t0}, Data: []byte(`{"venue":"binance","instruments":[{"venue":"binance","symbol":"AAAUSDT"}],"top_levels":2}`)}
	if err := m.Step(&cfg); err != nil {
		f.Fatal(err)
	}
	good := m.AppendKeyframe(nil)
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(binary.LittleEndian.AppendUint32(nil, 1<<31))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := New(&memorySink{}, &ledger.Frames{}, &ledger.RowsDerived{})
		in := event.Input{InputHead: event.InputHead{Kind: event.InputKeyframe, Pos: 9, Ts: t0}, Data: data}
		if m.Step(&in) == nil { // what restores gives itself again
			next := event.Input{InputHead: event.InputHead{Kind: event.InputTick, Pos: 10, Ts: t0 + 1}}
			if err := m.Step(&next); err != nil {
				t.Fatal(err)
			}
		}
	})
}
