package feed

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"deeptape/bench/world"
	"deeptape/hotpath/book/booktest"
	"deeptape/hotpath/event"
)

// storm makes a true market with bench/world, which shares no code with venues,
// and lets its frames reach the machine dropped, doubled, reordered, cut, garbled
// and late, with snapshots old, refused and empty, connections that break and
// agents that are killed. Whatever happens, the rig's model holds after every
// input, and each book that is written is the true book at its id.
type storm struct {
	*rig
	rng   *rand.Rand
	w     *world.World
	names []string

	real    []*booktest.Book   // the venue's books as of their last diff, in counts of 1e-8
	truth   []map[int64]string // book text by update id
	old     [][]string         // snapshot bodies of before, per instrument
	muted   []int              // events that an instrument still keeps to itself
	held    string             // a frame that changes places with the next
	late    []lateAnswer
	online  bool
	checked int
}

type lateAnswer struct {
	events  int // until it comes
	request uint32
	inst    int
}

const unit = 8 // decimals of world's counts

func decimals(m int64) string {
	return fmt.Sprintf("%d.%08d", m/world.Unit, m%world.Unit)
}

func worldLevels(levels []world.Level) string {
	var b strings.Builder
	for i, l := range levels {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `["%s","%s"]`, decimals(l.Px), decimals(l.Qty))
	}
	return "[" + b.String() + "]"
}

func newStorm(t *testing.T, seed uint64) *storm {
	rng := rand.New(rand.NewPCG(seed, 7))
	var symbols []world.Symbol
	var insts []event.Instrument
	for i := range 1 + rng.IntN(3) {
		s := world.Symbol{Name: fmt.Sprintf("S%dUSDT", i), StartPx: (100 + rng.Int64N(900)) * world.Unit, PxDecimals: 1 + rng.IntN(3), QtyDecimals: 1 + rng.IntN(5), MaxQtyBits: 12, Depth: 100, PerMille: 300 + rng.IntN(700)}
		for s.StartPx < 5000*pow10(unit-s.PxDecimals) {
			s.StartPx *= 10
		}
		symbols = append(symbols, s)
		in := event.Instrument{Venue: "binance", Symbol: s.Name, Source: "messages"}
		if rng.IntN(3) > 0 {
			in.PxScale, in.QtyScale = int8(s.PxDecimals), int8(s.QtyDecimals)
			in.Tick = decimals(pow10(unit - s.PxDecimals))
		}
		insts = append(insts, in)
	}
	w, err := world.New(seed, world.Spec{Symbols: symbols, StartNs: t0})
	if err != nil {
		t.Fatal(err)
	}
	s := &storm{rig: newRig(t, insts...), rng: rng, w: w}
	if seed%2 == 0 {
		s.cfg.AuditEveryNs = 5e9
	}
	if rng.IntN(4) == 0 {
		s.m.bufferBytes = 4000
	}
	for i := range symbols {
		s.names = append(s.names, symbols[i].Name)
		b, _ := w.Book(symbols[i].Name)
		tb := booktest.New(1)
		for _, l := range b.Bids {
			tb.Set(event.Bid, l.Px, l.Qty)
		}
		for _, l := range b.Asks {
			tb.Set(event.Ask, l.Px, l.Qty)
		}
		s.real = append(s.real, tb)
		s.truth = append(s.truth, map[int64]string{b.LastID: bookText(tb, -1)})
		s.old = append(s.old, nil)
		s.muted = append(s.muted, 0)
	}
	s.model.truth = func(i int, seq int64, in *modelInst) error {
		want, known := s.truth[i][seq]
		ours := booktest.New(1)
		ours.Bids, ours.Asks = in.book.Bids, in.book.Asks
		if !known || in.pxScale > unit || in.qtyScale > unit || !ours.Rescale(unit-in.pxScale, unit-in.qtyScale) {
			return fmt.Errorf("id %d is none of the venue's", seq)
		}
		if got := bookText(ours, -1); got != want {
			return fmt.Errorf("at id %d the book is\n%s, in truth it was\n%s", seq, got, want)
		}
		s.checked++
		return nil
	}
	return s
}

func pow10(n int) int64 {
	p := int64(1)
	for range n {
		p *= 10
	}
	return p
}

// chance is true once in n times.
func (s *storm) chance(n int) bool { return s.rng.IntN(n) == 0 }

// snapshot is a body of this moment.
func (s *storm) snapshot(i int) string {
	b, _ := s.w.Book(s.names[i])
	tb := booktest.New(1)
	for _, l := range b.Bids {
		tb.Set(event.Bid, l.Px, l.Qty)
	}
	for _, l := range b.Asks {
		tb.Set(event.Ask, l.Px, l.Qty)
	}
	s.truth[i][b.LastID] = bookText(tb, -1)
	body := fmt.Sprintf(`{"lastUpdateId":%d,"bids":%s,"asks":%s}`, b.LastID, worldLevels(b.Bids), worldLevels(b.Asks))
	s.old[i] = append(s.old[i], body)
	return body
}

func (s *storm) input(kind event.InputKind, aux int64, data string) {
	s.now += s.rng.Int64N(3) * s.rng.Int64N(2_000_000) // some stamps are equal
	s.rig.step(kind, aux, []byte(data))
	for _, a := range s.asked {
		s.late = append(s.late, lateAnswer{s.rng.IntN(30), a.Request, a.Inst})
	}
	s.asked = s.asked[:0]
	if s.redial != nil {
		s.redial = nil
		s.cut()
	}
}

func (s *storm) deliver(frame string) {
	if s.online {
		s.input(event.InputFrame, 0, frame)
	}
}

func (s *storm) cut() {
	if s.online {
		s.online = false
		s.input(event.InputClose, 0, "cut")
	}
}

// frameOf is the frame of an event, which becomes true.
func (s *storm) frameOf(ev world.Event) (frame string) {
	name := s.names[ev.Symbol]
	switch ev.Kind {
	case world.Diff:
		for _, l := range ev.Bids {
			s.real[ev.Symbol].Set(event.Bid, l.Px, l.Qty)
		}
		for _, l := range ev.Asks {
			s.real[ev.Symbol].Set(event.Ask, l.Px, l.Qty)
		}
		s.truth[ev.Symbol][ev.Last] = bookText(s.real[ev.Symbol], -1)
		frame = fmt.Sprintf(`{"stream":"x@depth","data":{"e":"depthUpdate","E":%d,"s":"%s","U":%d,"u":%d,"b":%s,"a":%s}}`,
			ev.AtNs/1e6, name, ev.First, ev.Last, worldLevels(ev.Bids), worldLevels(ev.Asks))
	case world.Quote:
		frame = fmt.Sprintf(`{"u":%d,"s":"%s","b":"%s","B":"%s","a":"%s","A":"%s"}`, ev.Last, name, decimals(ev.Bid.Px), decimals(ev.Bid.Qty), decimals(ev.Ask.Px), decimals(ev.Ask.Qty))
	case world.Trade:
		frame = fmt.Sprintf(`{"e":"trade","E":%d,"s":"%s","t":%d,"p":"%s","q":"%s","T":%d,"m":%v}`, ev.AtNs/1e6, name, ev.TradeID, decimals(ev.Px), decimals(ev.Qty), ev.AtNs/1e6, ev.BuyerIsMaker)
	}
	return frame
}

func (s *storm) event() {
	ev := s.w.Next()
	frame := s.frameOf(ev)
	if s.muted[ev.Symbol] > 0 {
		s.muted[ev.Symbol]--
		return
	}
	switch {
	case s.chance(300): // dropped
	case s.chance(300):
		s.deliver(frame)
		s.deliver(frame)
	case s.chance(300) && s.held == "":
		s.held = frame
		return
	case s.chance(600):
		s.deliver(frame[:s.rng.IntN(len(frame))])
	case s.chance(600): // an instrument that is known, and nothing else is
		s.deliver(strings.Replace(frame, `["`, `["x`, 1))
	case s.chance(2000):
		s.deliver(`{"code":2,"msg":"no","id":9}`)
	default:
		s.deliver(frame)
	}
	if s.held != "" && s.chance(3) {
		s.deliver(s.held)
		s.held = ""
	}
}

func (s *storm) answers() {
	kept := s.late[:0]
	for _, a := range s.late {
		if a.events--; a.events > 0 {
			kept = append(kept, a)
			continue
		}
		status, body := uint16(200), s.snapshot(a.inst)
		switch s.rng.IntN(12) {
		case 0:
			status, body = []uint16{429, 418, 500, 0}[s.rng.IntN(4)], "no"
		case 1:
			body = s.old[a.inst][s.rng.IntN(len(s.old[a.inst]))]
		case 2:
			body = body[:s.rng.IntN(len(body))]
		}
		s.asked = nil
		defer s.input(event.InputRest, event.RestAux(a.request, uint16(a.inst), status), body)
	}
	s.late = kept
}

func (s *storm) mishap() {
	switch {
	case !s.online && s.chance(20):
		s.online = true
		s.held = ""
		s.input(event.InputConnect, 1, "")
		if !s.chance(5) {
			s.deliver(`{"result":null,"id":1}`)
		}
	case s.chance(2500):
		s.cut()
	case s.chance(4000):
		s.input(event.InputLoss, 1+s.rng.Int64N(50), "12345678")
	case s.chance(1500): // one says nothing, and time goes by
		i := s.rng.IntN(len(s.names))
		s.muted[i] = s.rng.IntN(400)
		for range 25 + s.rng.IntN(30) {
			s.now += 1e9
			s.input(event.InputTick, 0, "")
			for range s.rng.IntN(4) {
				s.event()
			}
			s.answers()
		}
	case s.chance(5000): // the subscription is dead
		s.muted[s.rng.IntN(len(s.names))] = 3000
	case s.chance(4000):
		if s.chance(2) {
			s.input(event.InputStop, 0, "")
		}
		s.online, s.late = false, nil
		s.now += s.rng.Int64N(1e10)
		s.cfg.Resume = resume(s.rig)
		for i := range s.cfg.Instruments { // what was learnt is told
			s.cfg.Instruments[i] = s.m.insts[i].Instrument
		}
		data, err := json.Marshal(s.cfg)
		if err != nil {
			s.t.Fatal(err)
		}
		s.model.newRun(s.cfg.Base, len(s.names), true)
		s.input(event.InputRun, 0, string(data))
	case s.chance(60):
		s.now += 1e8
		s.input(event.InputTick, 0, "")
	}
}

// TestStorm: DEEPTAPE_STORMS=n runs more of them, DEEPTAPE_SEED=n one alone.
func TestStorm(t *testing.T) {
	seeds := []uint64{}
	n, _ := strconv.Atoi(os.Getenv("DEEPTAPE_STORMS"))
	first := uint64(1)
	for i := range max(n, 5) {
		seeds = append(seeds, first+uint64(i))
	}
	if one, err := strconv.ParseUint(os.Getenv("DEEPTAPE_SEED"), 10, 64); err == nil {
		seeds = []uint64{one}
	}
	var causes, checked int
	audits := uint64(0)
	seen := map[event.Cause]bool{}
	for _, seed := range seeds {
		ok := t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			s := newStorm(t, seed)
			s.run()
			for range 4000 {
				s.event()
				s.answers()
				s.mishap()
			}
			s.cut()
			s.finish()
			for i := range s.names {
				st := s.m.insts[i].stats
				if audits += st.Audits; st.AuditWrong > 0 { // the snapshots are whole and the chain holds
					t.Errorf("%d of %d levels are not the venue's", st.AuditWrong, st.AuditLevels)
				}
				for _, iv := range s.cover(i, event.StreamBook) {
					seen[iv.Cause] = true
				}
			}
			checked += s.checked
		})
		if !ok {
			t.Fatalf("DEEPTAPE_SEED=%d shows it again", seed)
		}
	}
	causes = len(seen)
	t.Logf("%d books compared with the truth, %d causes seen, %d audits", checked, causes, audits)
	if len(seeds) >= 5 && (checked < 500 || causes < 6) {
		t.Errorf("the storms were too mild: %d books compared, causes %v", checked, seen)
	}
}
