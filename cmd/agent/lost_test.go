package agent

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/ilp/verify"
	"deeptape/venues/feed"
)

type inputList []event.Input

func (l *inputList) Next() (event.Input, error) {
	if len(*l) == 0 {
		return event.Input{}, io.EOF
	}
	in := (*l)[0]
	*l = (*l)[1:]
	return in, nil
}

func TestLostParts(t *testing.T) {
	in := func(feed uint16, kind event.InputKind, pos uint64, ts int64) event.Input {
		return event.Input{InputHead: event.InputHead{Kind: kind, Feed: feed, Pos: pos, Ts: ts}}
	}
	run := func(id uint16, pos uint64, ts, lastTs int64, symbols ...string) event.Input {
		cfg := feed.Config{Venue: "v"}
		for _, s := range symbols {
			cfg.Instruments = append(cfg.Instruments, event.Instrument{Venue: "v", Symbol: s})
			cfg.Resume = append(cfg.Resume, feed.Resume{LastTs: lastTs})
		}
		i := in(id, event.InputRun, pos, ts)
		i.Data, _ = json.Marshal(cfg)
		return i
	}
	keyframe := func(id uint16, pos uint64, ts int64, symbol string) event.Input {
		i := in(id, event.InputKeyframe, pos, ts)
		state := `{"config":{"venue":"v","instruments":[{"venue":"v","symbol":"` + symbol + `"}]}}`
		i.Data = append([]byte{byte(len(state)), 0, 0, 0}, state...)
		return i
	}
	short := func(i event.Input) event.Input { i.Data = i.Data[:20]; return i }
	impossible := func(id uint16, pos uint64, ts int64) event.Input {
		i := in(id, event.InputFrame, pos, ts)
		i.Line = 200
		return i
	}
	possible := func(in *event.Input) error { // by the configuration alone: these have no venue
		if in.Line == 200 {
			return errors.New("no such line")
		}
		if in.Kind != event.InputRun && in.Kind != event.InputKeyframe {
			return nil
		}
		_, err := feed.ConfigOf(in)
		return err
	}
	open := func(from int64, symbol string) verify.Lost {
		return verify.Lost{Venue: "v", Symbol: symbol, From: from, To: verify.NoRun}
	}
	const frame, stop = event.InputFrame, event.InputStop
	for _, c := range []struct {
		name   string
		inputs inputList
		want   []verify.Lost
	}{
		{"stopped", inputList{run(1, 1, 10, 0, "A"), in(1, frame, 2, 20), in(1, stop, 3, 30), run(1, 4, 50, 30, "A"), in(1, frame, 5, 60), in(1, stop, 6, 70)}, nil},
		{"killed", inputList{run(1, 1, 10, 0, "A"), in(1, frame, 2, 20), run(1, 3, 50, 30, "A"), in(1, stop, 4, 60)}, []verify.Lost{{Venue: "v", Symbol: "A", From: 20, To: 50}}},
		{"killed, and the clock was set back", inputList{run(1, 1, 10, 0, "A"), in(1, frame, 2, 20), run(1, 3, 15, 30, "A"), in(1, stop, 4, 60)}, []verify.Lost{{Venue: "v", Symbol: "A", From: 20, To: 30}}},
		{"killed and not started again", inputList{run(1, 1, 10, 0, "A"), in(1, frame, 2, 20)}, []verify.Lost{open(20, "A")}},
		{"stopped and not started again", inputList{run(1, 1, 10, 0, "A"), in(1, frame, 2, 20), in(1, stop, 3, 30)}, nil},
		{"another feed has the symbol now", inputList{run(1, 1, 10, 0, "A"), run(2, 1, 10, 0, "B"), in(1, frame, 2, 20), in(2, frame, 2, 25), run(1, 3, 50, 0, "B"), run(2, 3, 51, 0, "A"), in(1, stop, 4, 60), in(2, stop, 4, 60)},
			[]verify.Lost{{Venue: "v", Symbol: "B", From: 25, To: 50}, {Venue: "v", Symbol: "A", From: 20, To: 51}}},
		{"the stop is lost", inputList{run(1, 1, 10, 0, "A"), in(1, frame, 2, 20), run(1, 9, 50, 30, "A"), in(1, stop, 10, 60)}, []verify.Lost{{Venue: "v", Symbol: "A", From: 20, To: 50}}},
		{"a whole run is lost", inputList{run(1, 1, 10, 0, "A"), in(1, stop, 2, 20), run(1, 9, 50, 30, "A"), in(1, stop, 10, 60)}, []verify.Lost{{Venue: "v", Symbol: "A", From: 20, To: 50}}},
		{"a hole to a keyframe", inputList{run(1, 1, 10, 0, "A", "B"), in(1, frame, 5, 20), in(1, frame, 7, 25), keyframe(1, 8, 30, "A"), in(1, stop, 9, 40)},
			[]verify.Lost{{Venue: "v", Symbol: "A", From: 10, To: 30, Damaged: true}, {Venue: "v", Symbol: "B", From: 10, To: 30, Damaged: true}}},
		{"a hole to the next run", inputList{run(1, 1, 10, 0, "A", "B"), in(1, frame, 5, 20), in(1, stop, 6, 25), run(1, 7, 40, 0, "B"), in(1, stop, 8, 50)},
			[]verify.Lost{{Venue: "v", Symbol: "B", From: 10, To: 40, Damaged: true}, {Venue: "v", Symbol: "A", From: 10, To: 40, Damaged: true}}},
		{"a hole to the end", inputList{run(1, 1, 10, 0, "A"), in(1, frame, 5, 20), in(1, frame, 6, 25)}, []verify.Lost{{Venue: "v", Symbol: "A", From: 10, To: 25, Damaged: true}}},
		{"an input that cannot be", inputList{run(1, 1, 10, 0, "A"), in(1, frame, 2, 20), impossible(1, 3, 25), in(1, frame, 4, 27), keyframe(1, 5, 30, "A"), in(1, stop, 6, 40)},
			[]verify.Lost{{Venue: "v", Symbol: "A", From: 20, To: 30, Damaged: true}}},
		{"a keyframe that cannot be", inputList{run(1, 1, 10, 0, "A"), in(1, frame, 2, 20), short(keyframe(1, 3, 25, "A")), in(1, frame, 4, 27), keyframe(1, 5, 30, "A"), in(1, stop, 6, 40)},
			[]verify.Lost{{Venue: "v", Symbol: "A", From: 20, To: 30, Damaged: true}}},
		{"the beginning is gone", inputList{in(1, frame, 7, 5), keyframe(1, 8, 10, "A"), in(1, frame, 9, 20), run(1, 10, 50, 0, "A"), in(1, stop, 11, 60)}, []verify.Lost{{Venue: "v", Symbol: "A", From: 20, To: 50}}},
	} {
		if got, err := lostParts(&c.inputs, possible); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v, %v, want %+v", c.name, got, err, c.want)
		}
	}
}
