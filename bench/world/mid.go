package world

import "math/rand/v2"

// Mid is the true price of one thing. No venue shows it: the markets that follow it
// come near it, each so much later (Follower.DelayNs). It moves in steps of some
// millionths, a few a second, and stays within a fifth of where it began. The same seed
// and name give the same steps on every machine, so that venues need not share one.
type Mid struct {
	rng               *rand.Rand
	atNs, px, startPx int64
}

const (
	midStepNs  = 200_000_000 // between two steps, on average
	midStepPpm = 15          // of the price, at most
)

// NewMid makes the true price that has this name (Symbol.Mid) in the world of a seed.
func NewMid(seed uint64, name string, startNs int64) *Mid {
	px := Symbols(name)[0].StartPx
	return &Mid{rng: rand.New(rand.NewPCG(seed, hash(name)^0x6d6964)), atNs: startNs, px: px, startPx: px}
}

// Px is the price after the last step, a count of 1e-8.
func (m *Mid) Px() int64 { return m.px }

// Step is the next step: when, ns since 1970, and the price from then on.
func (m *Mid) Step() (atNs, px int64) {
	m.atNs += spread(m.rng, midStepNs)
	ppm := 2 + m.rng.Int64N(midStepPpm-1)
	up := m.rng.IntN(2) == 0
	if m.px < m.startPx/5*4 {
		up = true
	} else if m.px > m.startPx/5*6 {
		up = false
	}
	if !up {
		ppm = -ppm
	}
	m.px += m.px/1_000_000*ppm + m.px%1_000_000*ppm/1_000_000
	return m.atNs, m.px
}

// Follower is one venue of several in one world: how late its markets follow the true
// mids, and what its clock shows.
type Follower struct {
	Seed     uint64 // of the true mids: venues that share it are in one world
	DelayNs  int64  // after a mid has moved, its markets do
	OffsetNs int64  // what the clock shows more than the time, at the start
	DriftPpb int64  // what it gains a second, ns
	JitterNs int64  // a stamp is late by less than this, each time by another
}

// stamp is what the clock shows for something that happens at atNs, the same whenever it
// is asked. It may go back by the jitter: see World.Next.
func (f *Follower) stamp(startNs, atNs int64) int64 {
	stamp := atNs + f.OffsetNs + (atNs-startNs)/1_000_000*f.DriftPpb/1000
	if f.JitterNs > 0 {
		x := uint64(atNs) ^ f.Seed // splitmix64
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		stamp += int64((x ^ x>>31) % uint64(f.JitterNs))
	}
	return stamp
}
