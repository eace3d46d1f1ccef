//go:build !race

package feed

import (
	"testing"

	"deeptape/hotpath/event"
)

// blindSink takes records and forgets them.
type blindSink struct{ room []byte }

func (s *blindSink) Claim(n int) []byte { return s.room[:n:n] }
func (s *blindSink) Commit()            {}

// Once its memory has grown, a machine takes frames and ticks of any venue without an
// allocation: decoding, chain, book, checksum, rows, and the bands of book_depth.
func TestAllocations(t *testing.T) {
	for _, tp := range tapes(t) {
		if len(tp.lines) < 300 {
			continue
		}
		p := newPlayer(tp)
		p.m.out = &blindSink{make([]byte, 1<<20)}
		p.start(t, tp.symbols[0])
		p.m.cfg.DepthBps = []int{1, 2, 5, 10, 25, 50, 100}
		step := func(kind event.InputKind, aux int64, data []byte) {
			p.pos++
			p.now += 1e7
			in := event.Input{InputHead: event.InputHead{Kind: kind, Feed: 3, Pos: p.pos, Ts: p.now, Aux: aux}, Data: data}
			if err := p.m.Step(&in); err != nil {
				t.Fatal(err)
			}
			for _, a := range p.m.Actions() {
				if a.Kind == ActionFetch {
					p.request = a.Request
				}
			}
		}
		i := 0
		play := func(to int) {
			for ; i < to; i++ {
				if tp.rest[i] {
					step(event.InputRest, event.RestAux(p.request, 0, 200), tp.lines[i])
				} else {
					step(event.InputFrame, 0, tp.lines[i])
				}
				if i%50 == 49 {
					step(event.InputTick, 0, nil)
				}
			}
		}
		lines := min(len(tp.lines), 20_000)
		for range 2 { // a ladder that stands elsewhere divides its levels differently
			i = 0
			play(lines)
			step(event.InputClose, 0, nil)
			step(event.InputConnect, 2, nil)
		}
		for k := range p.m.lines[0].pending { // what is told of them takes memory
			p.m.lines[0].pending[k].Noted = true
		}
		// The third time: AllocsPerRun plays one half to warm up and measures the other.
		i = 0
		play(50)
		halves := []int{50 + (lines-50)/2, lines}
		gaps := p.m.insts[0].stats.Gaps
		n := testing.AllocsPerRun(1, func() {
			play(halves[0])
			halves = halves[1:]
		})
		inst := &p.m.insts[0]
		if n != 0 || inst.stats.Gaps != gaps || inst.stats.BookMessages < uint64(lines/20) {
			t.Errorf("%s: %v allocations in %d frames, want 0; %+v", tp.name, n, lines/2, inst.stats)
		}
	}
}
