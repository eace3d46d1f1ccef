package feed

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"deeptape/bench/world"
	"deeptape/hotpath/event"
)

// twoStorm lets each frame of a true market go its own way on two lines: dropped,
// garbled, late, or gone with its connection; within a line the order holds. It keeps
// its own account of what has reached the machine, and judges by that alone:
//
//   - every trade that any line brought is stored, and a gap names those that none did;
//   - a book has a gap only where no line brought the message that had to come next,
//     or where no line was up;
//   - quotes grow.
type twoStorm struct {
	*storm
	mild  bool // of two lines one is always healthy
	lines [2]stormLine
	ill   int // events until the other line may fall ill, if mild
	sick  int // and which is ill

	diffs, trades [][]worldID // per instrument, in order
}

type stormLine struct {
	up    bool
	queue []queued
	slow  bool
}

type queued struct {
	text string
	at   int64
	id   *int // how many lines brought it
}

type worldID struct {
	first, last int64
	brought     *int
}

func newTwoStorm(t *testing.T, seed uint64, mild bool) *twoStorm {
	s := &twoStorm{storm: newStorm(t, seed), mild: mild}
	s.m.bufferBytes = bufferBytesMax
	s.diffs, s.trades = make([][]worldID, len(s.names)), make([][]worldID, len(s.names))
	return s
}

// next event of the market: both lines get it, each in its way.
func (s *twoStorm) next() {
	ev := s.w.Next()
	frame, whole := s.frameOf(ev), new(int)
	switch ev.Kind {
	case world.Diff:
		s.diffs[ev.Symbol] = append(s.diffs[ev.Symbol], worldID{ev.First, ev.Last, whole})
	case world.Trade:
		s.trades[ev.Symbol] = append(s.trades[ev.Symbol], worldID{ev.TradeID, ev.TradeID, whole})
	}
	if s.ill--; s.ill <= 0 && s.lines[0].up && s.lines[1].up {
		// The other may fall ill when the one has brought all that it has for a while.
		s.sick, s.ill = 1-s.sick, 20+s.rng.IntN(200)
		s.flush(0)
		s.flush(1)
	}
	for i := range s.lines {
		l := &s.lines[i]
		if !l.up {
			continue
		}
		q := queued{frame, s.now, whole}
		if !s.mild || i == s.sick {
			switch {
			case s.chance(40):
				continue
			case s.chance(80):
				q.text, q.id = frame[:s.rng.IntN(len(frame))], new(int)
			case s.chance(60) && s.lines[1-i].up:
				l.queue = append(l.queue, q)
			}
		}
		l.queue = append(l.queue, q)
	}
	for i := range s.lines {
		l := &s.lines[i]
		if s.chance(60) {
			l.slow = !l.slow
		}
		for len(l.queue) > 0 && (s.chance(8) || !l.slow && !s.chance(5) || s.now-l.queue[0].at > 1e9) {
			s.bring(i)
		}
	}
}

func (s *twoStorm) bring(i int) {
	q := s.lines[i].queue[0]
	s.lines[i].queue = s.lines[i].queue[1:]
	*q.id++
	s.on(uint8(i))
	s.input(event.InputFrame, 0, q.text)
}

func (s *twoStorm) flush(i int) {
	for len(s.lines[i].queue) > 0 {
		s.bring(i)
	}
}

func (s *twoStorm) open(i int) {
	s.lines[i] = stormLine{up: true}
	s.on(uint8(i))
	s.input(event.InputConnect, 1, "")
	s.input(event.InputFrame, 0, `{"result":null,"id":1}`)
}

func (s *twoStorm) shut(i int) {
	s.lines[i] = stormLine{}
	s.on(uint8(i))
	s.input(event.InputClose, 0, "cut")
}

func (s *twoStorm) fate() {
	s.answers()
	for i := range s.lines {
		switch {
		case !s.lines[i].up && s.chance(50):
			s.open(i)
		case s.lines[i].up && s.chance(400) && (!s.mild || i == s.sick):
			s.shut(i)
		}
	}
	if s.chance(60) {
		s.flush(0)
		s.flush(1)
		s.now += s.rng.Int64N(1e9)
		s.input(event.InputTick, 0, "")
	}
	if s.chance(300) {
		s.keyframe()
	}
}

// judge compares what is stored with the account.
func (s *twoStorm) judge() (gaps, missed int) {
	for i := range s.names {
		stored := s.model.insts[i].messages[event.StreamTrades]
		k := 0
		var missing []int64
		for _, x := range s.trades[i] {
			if len(stored) == 0 || x.last < stored[0].seq {
				continue
			}
			if *x.brought == 0 {
				missing = append(missing, x.last)
				continue
			}
			if k == len(stored) || stored[k].seq != x.last {
				s.t.Fatalf("trade %d of %s was brought and is not stored in its place", x.last, s.names[i])
			}
			k++
		}
		if k != len(stored) {
			s.t.Fatalf("%d trades of %s are stored and were not brought", len(stored)-k, s.names[i])
		}
		var told []int64
		for _, iv := range s.cover(i, event.StreamTrades) {
			if iv.State == event.StateGap && iv.SeqFirst != event.Null {
				for id := iv.SeqFirst; id <= iv.SeqLast; id++ {
					told = append(told, id)
				}
			}
		}
		for len(missing) > 0 && missing[len(missing)-1] > stored[len(stored)-1].seq {
			missing = missing[:len(missing)-1] // none has come after it that could tell
		}
		if fmt.Sprint(told) != fmt.Sprint(missing) {
			s.t.Fatalf("trades of %s: gaps tell of %d, missing are %d", s.names[i], told, missing)
		}
		missed += len(missing)

		list := s.cover(i, event.StreamBook)
		for k, iv := range list {
			if iv.State != event.StateGap || k == 0 {
				continue
			}
			gaps++
			if s.mild {
				s.t.Fatalf("book of %s: one line had everything, and there is the gap %+v", s.names[i], iv)
			}
			if iv.Cause != event.CauseSequence {
				continue
			}
			after := list[k-1].SeqLast
			for _, x := range s.diffs[i] {
				if x.last > after {
					if *x.brought > 0 {
						s.t.Fatalf("book of %s: the gap %+v, but %d..%d was brought", s.names[i], iv, x.first, x.last)
					}
					break
				}
			}
		}
		last := int64(0)
		for _, q := range s.model.insts[i].messages[event.StreamQuotes] {
			if q.seq < last {
				s.t.Fatalf("quote %d of %s comes after %d", q.seq, s.names[i], last)
			}
			last = q.seq
		}
	}
	if s.mild && missed > 0 {
		s.t.Fatalf("one line had everything, and %d trades are missing", missed)
	}
	return gaps, missed
}

// TestTwoLinesStorm: DEEPTAPE_STORMS=n runs more of them, DEEPTAPE_SEED=n one alone.
func TestTwoLinesStorm(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("DEEPTAPE_STORMS"))
	n, first := max(n, 4), uint64(2)
	if one, err := strconv.ParseUint(os.Getenv("DEEPTAPE_SEED"), 10, 64); err == nil {
		n, first = 1, one
	}
	gaps, missed, checked, held, started := 0, 0, 0, 0, 0
	mild := func() bool { return checked < 500 || gaps < 1 || missed < 3 || held < 100 || started < 10 }
	// Where luck makes the first ones mild, there are more.
	for seed := first; seed < first+uint64(n) || n >= 4 && mild() && seed < first+uint64(4*n); seed++ {
		ok := t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			s := newTwoStorm(t, seed, seed%2 == 0)
			s.run()
			s.open(0)
			s.open(1)
			for range 1800 {
				s.next()
				s.fate()
				held += s.m.holding
			}
			for i := range s.lines {
				s.flush(i)
			}
			s.finish()
			g, x := s.judge()
			gaps, missed, checked = gaps+g, missed+x, checked+s.checked
			for at, in := range s.inputs {
				if in.Kind == event.InputKeyframe {
					started++
					sameFrom(t, s.rig, at)
				}
			}
		})
		if !ok {
			t.Fatalf("DEEPTAPE_SEED=%d shows it again", seed)
		}
	}
	t.Logf("%d books compared with the truth, %d gaps, %d trades missed by both, %d frames held, %d keyframes", checked, gaps, missed, held, started)
	if n >= 4 && mild() {
		t.Error("the storms were too mild")
	}
}
