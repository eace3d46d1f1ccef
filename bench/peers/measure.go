package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// sample is one round of one peer.
type sample struct {
	ns     int64
	allocs int64 // -1: not counted
	check  string
}

// peer does the same work as all others of its contest. What it does is either here, in
// three functions, or in another process.
type peer struct {
	name, notes string
	counts      [2]int // messages and levels of a round where they are not the contest's

	reset func() error // makes all as it is before a round; may be nil
	work  func() error // a round, which alone is measured
	told  func() string

	remote func() (sample, error)

	samples []sample
	allocs  int64 // of a round, -1: not known
}

// round makes a round. To count allocations takes time that would be seen, so that a
// round is either for the time or for them.
func (p *peer) round(clock func() int64, countAllocs bool) (s sample, err error) {
	if p.remote != nil {
		return p.remote()
	}
	if p.reset != nil {
		if err := p.reset(); err != nil {
			return s, err
		}
	}
	var before, after runtime.MemStats
	runtime.GC()
	if countAllocs {
		runtime.ReadMemStats(&before)
	}
	start := clock()
	if err := p.work(); err != nil {
		return s, err
	}
	s.ns, s.allocs = clock()-start, -1
	if countAllocs {
		runtime.ReadMemStats(&after)
		s.allocs = int64(after.Mallocs - before.Mallocs)
	}
	s.check = p.told()
	return s, nil
}

// contest is one stage, with deeptape first.
type contest struct {
	group, corpus string
	what          string // what every peer does with what
	messages      int    // of a round
	levels        int    // of a round, 0 where there are none
	want          string // what must come of it
	clock         func() int64
	atLeast       map[string]float64 // how many times as long as deeptape a peer must take,
	gated         bool               // and whether to miss that fails
	peers         []*peer
}

// cpuNs is the processor time of this process, the collector's included: the machine
// may be shared, and wall time would count the turns of others.
func cpuNs() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

func wallNs() int64 { return time.Now().UnixNano() }

// run plays rounds of all peers in turn, A B C A B C, after warm ones that are not
// counted. Every round must come to what is wanted. It returns the peers that deeptape is
// not as many times as fast as it must be, by these rounds; the rounds are added to those
// of earlier runs, so that the table does not pick among runs.
func (c *contest) run(rounds, warm int) (missed []string, err error) {
	for r := range warm + rounds {
		for _, p := range c.peers {
			s, err := p.round(c.clock, r < warm)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", c.group, p.name, err)
			}
			if s.check != c.want {
				return nil, fmt.Errorf("%s on %s: %s came to %s, and %s is right", c.group, c.corpus, p.name, s.check, c.want)
			}
			if r < warm {
				p.allocs = s.allocs
			} else {
				p.samples = append(p.samples, s)
			}
		}
	}
	for _, p := range c.peers {
		if least, ratio := c.atLeast[p.name], c.ratio(p, c.peers[0], rounds); c.gated && ratio < least {
			missed = append(missed, fmt.Sprintf("%s on %s: %.2f times %s, and it must be %.0f", c.group, c.corpus, ratio, p.name, least))
		}
	}
	return missed, nil
}

// in is how many messages and levels a round of p has.
func (c *contest) in(p *peer) (messages, levels float64) {
	if p.counts[0] > 0 {
		return float64(p.counts[0]), float64(p.counts[1])
	}
	return float64(c.messages), float64(c.levels)
}

// perMessage is the median, and the least and the most of all rounds.
func (c *contest) perMessage(p *peer) (median, least, most float64) {
	n, _ := c.in(p)
	var all []float64
	for _, s := range p.samples {
		all = append(all, float64(s.ns)/n)
	}
	slices.Sort(all)
	return all[len(all)/2], all[0], all[len(all)-1]
}

// ratio is the median over the last rounds of what p took against what base took in the
// same round: what disturbs a round of one is likely to disturb the other's.
func (c *contest) ratio(p, base *peer, rounds int) float64 {
	n, _ := c.in(p)
	nBase, _ := c.in(base)
	var all []float64
	for i := len(p.samples) - rounds; i < len(p.samples); i++ {
		all = append(all, (float64(p.samples[i].ns)/n)/(float64(base.samples[i].ns)/nBase))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func logf(format string, args ...any) { fmt.Fprintf(os.Stderr, "peers: "+format+"\n", args...) }
