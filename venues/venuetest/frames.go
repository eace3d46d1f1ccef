package venuetest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
)

const Null = event.Null

func WithID(m venues.Message, id int64) venues.Message { m.ID = id; return m }

func ReplaceOnce(t *testing.T, s, old, new string) string {
	t.Helper()
	if strings.Count(s, old) != 1 {
		t.Fatalf("%q stands %d times in %q", old, strings.Count(s, old), s)
	}
	return strings.Replace(s, old, new, 1)
}

// RepeatsKey says whether an object has a key twice: the two readers then differ
// by right.
func RepeatsKey(frame []byte) bool {
	d := json.NewDecoder(strings.NewReader(string(frame)))
	var walk func() bool
	walk = func() bool {
		tok, err := d.Token()
		if err != nil {
			return true
		}
		open, ok := tok.(json.Delim)
		if !ok {
			return false
		}
		seen := map[string]bool{}
		for d.More() {
			if open == '{' {
				key, err := d.Token()
				if err != nil || seen[fmt.Sprint(key)] {
					return true
				}
				seen[fmt.Sprint(key)] = true
			}
			if walk() {
				return true
			}
		}
		_, err = d.Token()
		return err != nil
	}
	return walk()
}

// DecoderAt makes a decoder for symbols, all at the same scales.
func DecoderAt(v venues.Venue, px, qty int8, symbols ...string) (venues.Decoder, []event.Instrument) {
	var insts []event.Instrument
	for _, s := range symbols {
		insts = append(insts, event.Instrument{Venue: v.Rules().Name, Symbol: s, PxScale: px, QtyScale: qty})
	}
	return v.NewDecoder(insts), insts
}

// Widen takes over the scales that the messages need, and says whether one was finer.
func Widen(b *venues.Batch, dec venues.Decoder, insts []event.Instrument) bool {
	finer := false
	for _, m := range b.Messages {
		if m.Inst < 0 {
			continue
		}
		inst := &insts[m.Inst]
		if m.PxScale > inst.PxScale || m.QtyScale > inst.QtyScale {
			inst.PxScale, inst.QtyScale = max(inst.PxScale, m.PxScale), max(inst.QtyScale, m.QtyScale)
			dec.SetScale(m.Inst, inst.PxScale, inst.QtyScale)
			finer = true
		}
	}
	return finer
}

func LostOf(kind venues.Kind, inst int) venues.Message {
	return venues.Message{Kind: kind, Inst: inst, First: Null, Seq: Null, SeqPrev: Null, TsEvent: Null}
}

// NoAllocations holds a decoder to this: once its buffers have grown, decoding allocates
// nothing, whatever the frame, taken or not.
func NoAllocations(t *testing.T, name string, v venues.Venue, inst event.Instrument, taken, refused [][]byte) {
	t.Helper()
	dec := v.NewDecoder([]event.Instrument{inst})
	var b venues.Batch
	play := func() {
		for _, frame := range taken {
			if reason := dec.Decode(frame, &b); reason != ledger.Accepted {
				t.Fatalf("%s: %v: %.200s", name, reason, frame)
			}
		}
		for _, frame := range refused {
			if reason := dec.Decode(frame, &b); reason == ledger.Accepted {
				t.Fatalf("%s is taken: %.200s", name, frame)
			}
		}
	}
	play()
	if n := testing.AllocsPerRun(1, play); n != 0 {
		t.Errorf("%s: %v allocations in %d frames, want 0", name, n, len(taken)+len(refused))
	}
}

func BytesOf(texts ...string) (out [][]byte) {
	for _, s := range texts {
		out = append(out, []byte(s))
	}
	return out
}
