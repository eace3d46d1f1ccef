package feed

import (
	"testing"

	"deeptape/hotpath/event"
)

// A frame is foreseen, and before its turn another input writes to the batch.
func TestForeseenAndThenAnother(t *testing.T) {
	r := newRig(t, inst("AAAUSDT"), inst("BBBUSDT"))
	r.run()
	r.connect()
	r.ack(1)
	r.depth(0, 101, 101, "9.98=1", "10.02=2")
	r.rest(0, 200, body(100, "9.99=1", "10.01=1"))
	r.depth(1, 101, 101, "7.98=1", "8.02=2")

	frame := []byte(r.depthText(0, 102, 102, "9.97=5", ""))
	r.m.Foresee(frame)
	r.rest(1, 200, body(50, "7.99=1", "8.01=1")) // too old: nothing is taken again
	r.pos++
	in := event.Input{InputHead: event.InputHead{Kind: event.InputFrame, Feed: 3, Pos: r.pos, Ts: r.now}, Data: frame}
	r.inputs = append(r.inputs, in)
	before := len(r.sink.records)
	if err := r.m.Step(&in); err != nil {
		t.Fatal(err)
	}
	if err := r.model.take(r.sink.records[before:], in.Pos, in.Ts); err != nil {
		t.Fatal(err)
	}
	r.wantBook(0, 102, "9.99=1 9.98=1 9.97=5", "10.01=1 10.02=2")
	r.again()
}

// A frame is foreseen and never comes to its turn, because it was lost before the journal.
// One of the same length does.
func TestForeseenInVain(t *testing.T) {
	r := liveRig(t)
	for id := int64(102); id < 114; id++ {
		r.m.Foresee([]byte(r.depthText(0, id, id, "9.97=5", "")))
		if id%4 == 0 {
			r.ticks(1)
		}
		r.depth(0, id, id, "9.96=4", "")
		r.wantBook(0, id, "9.99=1 9.98=1 9.96=4", "10.01=1 10.02=2")
	}
	r.again()
}
