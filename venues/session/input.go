package session

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ring"
)

// How an input goes into the journal and the machine, and what is lost where the journal
// has no room.

// input gives one input its place: journal first, then the machine, then what the
// machine wants done. data is borrowed. Without room, a frame is lost after a
// while, and what can come again or be offered again is not taken; the rest
// waits, and is an error only if the journal takes nothing at the end.
func (s *Session) input(kind event.InputKind, ts, aux int64, data []byte) (taken bool, err error) {
	return s.inputOf(s.lines.line, kind, ts, aux, data)
}

// inputOf is input of one of the lines.
func (s *Session) inputOf(line uint8, kind event.InputKind, ts, aux int64, data []byte) (taken bool, err error) {
	patience := forEver
	switch kind {
	case event.InputFrame, event.InputTick, event.InputKeyframe:
		patience = s.journalPatience
	case event.InputRest, event.InputCommand:
		patience = 0
	}
	if s.lost > 0 {
		// The loss stands where the frames are missing: before anything else. The
		// first of them has had its patience.
		if patience != forEver {
			patience = 0
		}
		if booked, err := s.offerLoss(patience); err != nil || !booked {
			if kind == event.InputFrame {
				s.lose(ts)
			}
			return false, err
		}
	}
	in := event.Input{InputHead: event.InputHead{Kind: kind, Line: line, Feed: s.lane.Feed, Pos: s.pos + 1, Ts: ts, Aux: aux}, Data: data}
	outcome := s.journal(&in, patience)
	if outcome == ring.TooLarge && kind == event.InputRest {
		request, inst, _ := event.SplitRestAux(aux)
		in.Aux = event.RestAux(request, inst, 0)
		in.Data = fmt.Appendf(nil, "an answer of %d bytes is too large for the journal", len(data))
		outcome = s.journal(&in, patience)
	}
	switch {
	case outcome == ring.OK:
		return true, s.step(&in)
	case kind == event.InputFrame:
		s.lose(ts)
		return false, nil
	case patience != forEver:
		return false, nil
	}
	return false, fmt.Errorf("cannot journal the %s record of feed %d: the journal takes nothing (%s)", kind, s.lane.Feed, outcome)
}

// step gives a journalled input to the machine.
func (s *Session) step(in *event.Input) error {
	s.pos = in.Pos
	s.lane.Begin(s.pos)
	err := s.machine.StepUnpublished(in)
	if s.unpublished = true; in.Kind != event.InputFrame {
		s.publish()
	}
	if err == nil && len(s.machine.Actions()) > 0 {
		s.do(s.machine.Actions())
	}
	return err
}

// publish shows what has been counted, and lets the deliverer have the rows up to here:
// once for all messages of a read, for that is half of the locked instructions that a
// message takes. serve calls it before it may wait for the venue.
func (s *Session) publish() {
	s.machine.Publish()
	s.lane.End()
	s.lane.ReadPublished.Publish()
	s.lane.VenueRead.Publish()
	s.lane.VenuePublished.Publish()
	s.unpublished = false
}

const forEver = time.Duration(math.MaxInt64)

// journal offers a record to the journal's ring until it is taken, will never be,
// or patience is over. With patience for ever it ends some time after a stop.
func (s *Session) journal(in *event.Input, patience time.Duration) ring.Outcome {
	size := event.InputSize(len(in.Data))
	var owned []byte
	if size > s.lane.Inputs.MaxRecord() { // a REST snapshot
		owned = event.AppendInput(make([]byte, 0, size), in.InputHead, in.Data)
	}
	var stopped time.Duration
	for waited := time.Duration(0); ; waited += journalPoll {
		var outcome ring.Outcome
		if owned != nil {
			outcome = s.lane.Inputs.OfferOwned(owned)
		} else {
			var b []byte
			if b, outcome = s.lane.Inputs.Claim(size); outcome == ring.OK {
				event.PutInput(b, in.InputHead, in.Data)
				s.lane.Inputs.Commit()
			}
		}
		if outcome != ring.BackPressured || waited >= patience || stopped >= s.stopPatience {
			return outcome
		}
		if s.stopping.Err() != nil {
			stopped += journalPoll
		}
		s.sched.Sleep(context.Background(), journalPoll)
	}
}

// lose drops a frame that found no room before the journal.
func (s *Session) lose(ts int64) {
	if s.lost == 0 {
		s.lostFirstTs = ts
	}
	s.lost++
	s.lostLastTs = ts
	s.counters.LostInputs.Add(1)
}

// offerLoss puts the loss record in the place of the frames that are missing, once
// half of the ring is free: in the last corner of a full ring, a record would fit
// where frames do not, and be followed by the next loss.
func (s *Session) offerLoss(patience time.Duration) (booked bool, err error) {
	var first [8]byte
	binary.LittleEndian.PutUint64(first[:], uint64(s.lostFirstTs))
	in := event.Input{InputHead: event.InputHead{Kind: event.InputLoss, Feed: s.lane.Feed, Pos: s.pos + 1, Ts: s.lostLastTs, Aux: s.lost}, Data: first[:]}
	if patience != forEver && s.lane.Inputs.UsedBytes() > s.lane.Inputs.Capacity()/2 {
		return false, nil
	}
	switch outcome := s.journal(&in, patience); {
	case outcome == ring.OK:
		s.lost = 0
		return true, s.step(&in)
	case patience == forEver:
		return false, fmt.Errorf("cannot journal the loss of %d frames of feed %d: the journal takes nothing (%s)", s.lost, s.lane.Feed, outcome)
	}
	return false, nil
}
