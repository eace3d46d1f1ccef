package feed

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"deeptape/hotpath/event"
)

// rotting is a venue whose diffs never delete what lies outside the window of its last
// answers, and a network that delays both. It keeps its book in maps.
type rotting struct {
	*rig
	rng     *rand.Rand
	id      int64
	mid     int64
	book    [2]map[int64]int64           // px to qty, in units of the scales
	past    map[int64][2]map[int64]int64 // by id
	windows [][2]horizon                 // of the answers since the one that the machine goes by
	line    []string                     // frames on their way
	waiting []int64                      // now until which the answer of a request waits
	old     string                       // an answer of long ago
	judged  uint64                       // audits, gaps: then the windows of before are history
	checked int
}

const rotDepth, rotLevels = 8, 40

func newRotting(t *testing.T, seed uint64) *rotting {
	r := newRig(t, inst("AAAUSDT"))
	r.cfg.Depth, r.cfg.AuditEveryNs = rotDepth, 15e9
	v := &rotting{rig: r, rng: rand.New(rand.NewPCG(seed, 5)), id: 1000, mid: 10_000, past: map[int64][2]map[int64]int64{}}
	for s := range v.book {
		v.book[s] = map[int64]int64{}
		for range rotLevels {
			v.book[s][v.price(s)] = 1 + v.rng.Int64N(9999)
		}
	}
	v.remember()
	r.run()
	r.connect()
	r.ack(1)
	return v
}

// price is one behind the middle, as often near as far.
func (v *rotting) price(s int) int64 {
	away := 1 + v.rng.Int64N(int64(2)<<v.rng.IntN(8))
	if s == 0 {
		return v.mid - away
	}
	return v.mid + away
}

func (v *rotting) remember() {
	v.past[v.id] = [2]map[int64]int64{maps.Clone(v.book[0]), maps.Clone(v.book[1])}
}

// change is a diff of the venue, told or not.
func (v *rotting) change() {
	if v.rng.IntN(4) == 0 {
		v.mid += v.rng.Int64N(41) - 20
	}
	told := [2]map[int64]int64{{}, {}}
	set := func(s int, px, qty int64) {
		if qty > 0 {
			v.book[s][px] = qty
		} else {
			delete(v.book[s], px)
			known := len(v.windows) == 0
			for i := range v.windows {
				known = known || !v.windows[i][s].beyond(event.Side(s)+event.Bid, px)
			}
			if !known {
				delete(told[s], px)
				return
			}
		}
		told[s][px] = qty
	}
	for s := range v.book {
		for range 1 + v.rng.IntN(5) {
			set(s, v.price(s), v.rng.Int64N(9999))
		}
		for _, px := range slices.Sorted(maps.Keys(v.book[s])) {
			crossed := s == 0 && px >= v.mid || s == 1 && px <= v.mid
			if crossed || len(v.book[s]) > rotLevels && v.rng.IntN(4) == 0 {
				set(s, px, 0)
			}
		}
	}
	first := v.id + 1
	v.id += 1 + v.rng.Int64N(3)
	v.remember()
	var text [2]string
	for s := range told {
		for _, px := range slices.Sorted(maps.Keys(told[s])) {
			text[s] += fmt.Sprintf(" %d.%02d=%d.%03d", px/100, px%100, told[s][px]/1000, told[s][px]%1000)
		}
	}
	v.line = append(v.line, fmt.Sprintf(`{"e":"depthUpdate","E":%d,"s":"AAAUSDT","U":%d,"u":%d,"b":%s,"a":%s}`, v.now/1e6, first, v.id, side(text[0]), side(text[1])))
}

// answer is the venue's snapshot of this moment, and its window.
func (v *rotting) answer() string {
	var text [2]string
	var w [2]horizon
	for s := range v.book {
		all := slices.Sorted(maps.Keys(v.book[s]))
		if s == 0 {
			slices.Reverse(all)
		}
		for _, px := range all[:min(rotDepth, len(all))] {
			text[s] += fmt.Sprintf(" %d.%02d=%d.%03d", px/100, px%100, v.book[s][px]/1000, v.book[s][px]%1000)
			w[s].Px = px
		}
		if w[s].Bounded = len(all) >= rotDepth; !w[s].Bounded {
			w[s].Px = 0
		}
	}
	v.windows = append(v.windows, w)
	return body(v.id, text[0], text[1])
}

// serve answers what has been asked, late, and now and then wrongly.
func (v *rotting) serve() {
	for len(v.waiting) < len(v.asked) {
		v.waiting = append(v.waiting, v.now+v.asked[len(v.waiting)].DelayNs+v.rng.Int64N(3e9))
	}
	for i, until := range v.waiting {
		if until == 0 || until > v.now {
			continue
		}
		v.waiting[i] = 0
		status, text := uint16(200), ""
		switch v.rng.IntN(10) {
		case 0:
			status = []uint16{0, 429, 500}[v.rng.IntN(3)]
		case 1:
			text = body(v.id, "", "")
		case 2:
			text = v.old
		case 3:
			text = `{"lastUpdateId":`
		}
		if text == "" && status == 200 {
			if text = v.answer(); v.old == "" || v.rng.IntN(5) == 0 {
				v.old = text
			}
		}
		a := v.asked[i]
		v.step(event.InputRest, event.RestAux(a.Request, 0, status), []byte(text))
		v.check()
	}
}

// check: inside of its window the book is the venue's, and the window is that of the
// answer that the book or the last audit came from.
func (v *rotting) check() {
	v.t.Helper()
	in := &v.m.insts[0]
	if in.state != bookLive {
		return
	}
	at := slices.Index(v.windows, in.horizon)
	if at < 0 {
		v.t.Fatalf("the window %+v is of no answer", in.horizon)
	}
	if n := in.stats.Audits + in.stats.Gaps; n != v.judged {
		v.judged, v.windows = n, v.windows[at:]
	}
	truth := v.past[in.seq]
	for s := range truth {
		h, side := &in.horizon[s], event.Side(s)+event.Bid
		want := map[int64]int64{}
		for px, qty := range truth[s] {
			if !h.beyond(side, px) {
				want[px] = qty
			}
		}
		got := map[int64]int64{}
		for _, l := range in.book.AppendLevels(nil, side) {
			if !h.beyond(side, l.Px) {
				got[l.Px] = l.Qty
			}
		}
		if !maps.Equal(got, want) {
			v.t.Fatalf("at id %d, inside %+v, side %d is\n%v\nin truth it was\n%v", in.seq, *h, s, got, want)
		}
	}
	v.checked++
}

// TestAuditsInAStorm: whatever the answers are and whenever they come, the book is the
// venue's inside its window, no gap is made up, and ghosts do not stay.
func TestAuditsInAStorm(t *testing.T) {
	var audits, wrong, ghosts, givenUp uint64
	checked := 0
	for seed := uint64(1); seed <= 4; seed++ {
		v := newRotting(t, seed)
		keyframe := 0
		for range 1000 {
			v.now += v.rng.Int64N(300e6)
			if v.rng.IntN(3) > 0 {
				v.change()
			}
			for len(v.line) > 3 || len(v.line) > 0 && v.rng.IntN(2) == 0 {
				v.frame(v.line[0])
				v.line = v.line[1:]
				v.check()
			}
			if v.rng.IntN(4) == 0 {
				v.ticks(1)
				v.check()
			}
			v.serve()
			if v.rng.IntN(300) == 0 && v.m.insts[0].audit.Asked {
				v.keyframe()
				keyframe = len(v.inputs) - 1
			}
		}
		v.wantCover(0, event.StreamBook, "gap start", "verified chain")
		st := v.m.insts[0].stats
		audits, wrong, ghosts, givenUp = audits+st.Audits, wrong+st.AuditWrong, ghosts+st.AuditGhosts, givenUp+st.AuditsGivenUp
		checked += v.checked
		if limit := st.Audits*auditTriesMax + 60; st.Fetches > limit {
			t.Errorf("seed %d: %d requests for %d audits", seed, st.Fetches, st.Audits)
		}
		v.finish()
		if keyframe > 0 {
			sameFrom(t, v.rig, keyframe)
		}
	}
	t.Logf("%d books compared; %d audits, %d given up, found %d levels wrong, %d of them ghosts", checked, audits, givenUp, wrong, ghosts)
	if audits < 60 || ghosts < 300 || wrong == ghosts {
		t.Error("the storm was too mild")
	}
}
