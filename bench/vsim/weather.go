package vsim

import (
	"slices"
	"time"

	"deeptape/bench/simvenue"
	"deeptape/hotpath/event"
)

// numFaults is len(faultNames), for an array.
const numFaults = 22

// faultNames are the faults that venues make themselves, in the order of Stats.Struck.
var faultNames = simvenue.FaultNames()

// occurs tells whether a venue can have a fault.
func occurs(fault, venue string) bool {
	for _, f := range simvenue.Faults() {
		if f.Name == fault {
			return len(f.Venues()) == 0 || slices.Contains(f.Venues(), venue)
		}
	}
	return false
}

// fault draws when one of a venue's own faults strikes: soon where it is planned, when
// all is well.
func (r *run) fault(name string, within time.Duration) simvenue.Fault {
	n := 20 + r.m.rng.IntN(20) // of book updates
	if within > 0 {
		n = 1 + r.m.rng.IntN(int(within/time.Second)*2)
	}
	switch name {
	case "refuse-subscribe", "silent-subscribe", "odd-refuse-subscribe", "ignore-subscribe", "stale-snapshot", "429":
		if n = 1; within > 0 {
			n += r.m.rng.IntN(2)
		}
	}
	return simvenue.Fault{Name: name, N: n}
}

// weather draws the faults of a run: which kinds there are, how often each strikes,
// and when the rare ones do.
func (r *run) weather(faulty time.Duration) {
	m := r.m
	rate := func(chance, most int) int { // thousandths
		if !m.chance(chance) {
			return 0
		}
		return 1 + m.rng.IntN(most)
	}
	for _, v := range r.venues {
		v.faults = wayFaults{
			drop: rate(300, 30), double: rate(300, 50), cut: rate(200, 10), garble: rate(200, 10), lag: rate(200, 10),
			disconnect: rate(300, 5), halfOpen: rate(150, 2), refuse: rate(250, 500),
			stale: rate(250, 600), cacheFor: rate(200, 600), empty: rate(200, 300), slow: rate(250, 600),
			limit: rate(250, 400), ban: rate(150, 100), broken: rate(200, 300), silent: rate(150, 100),
		}
		m.say("run", "faults on the way to %s %+v", v.name, v.faults)
	}
	r.db.faults = dbFaults{
		slow: rate(250, 100), failed: rate(250, 300), readOnly: rate(150, 100),
		lostBefore: rate(250, 200), lostAfter: rate(300, 300), full: rate(150, 100),
	}
	r.disk.slow, r.disk.fail = rate(250, 50), rate(150, 20)
	m.say("run", "faults of QuestDB %+v, of the disk: slow %d fail %d", r.db.faults, r.disk.slow, r.disk.fail)

	// often strikes at random times, so many times at most.
	often := func(chance, most int, strike func()) {
		if !m.chance(chance) {
			return
		}
		for range 1 + m.rng.IntN(most) {
			m.after(m.between(0, faulty), func() {
				if !r.calm {
					strike()
				}
			})
		}
	}
	often(500, 4, func() { r.die(false) })
	often(60, 2, func() { r.die(true) })
	often(250, 3, func() {
		if !r.life.p.dead && !r.life.ended {
			r.stats.Stops++
			m.say("operator", "stops the agent")
			r.life.stopped = true
			r.life.cancel()
		}
	})
	often(200, 3, func() { // the wall clock is put right, or wrong: the next life sees it
		r.aheadNs += int64(m.between(-20*time.Second, 20*time.Second))
		m.say("machine", "the wall clock steps: it is %s ahead now", time.Duration(r.aheadNs))
	})
	often(200, 3, func() { // nothing runs: a suspended machine
		d := m.between(10*time.Millisecond, 20*time.Second)
		m.say("machine", "stands still for %s", d)
		m.pauses = m.nowNs + int64(d)
	})
	often(300, 3, func() {
		m.say("questdb", "is down")
		r.db.up = false
		m.after(m.between(0, 30*time.Second), func() { r.db.up = true; m.say("questdb", "is up") })
	})
	often(200, 2, func() {
		r.db.suspend(event.Table(m.rng.IntN(int(event.NumTables))).String())
		m.after(m.between(0, 30*time.Second), r.db.resume)
	})
	often(200, 2, func() {
		v := r.venues[m.rng.IntN(len(r.venues))]
		m.say(v.name, "is away")
		v.away()
		m.after(m.between(0, 30*time.Second), func() { v.online = true; m.say(v.name, "is back") })
	})
	often(150, 2, func() {
		m.say("disk", "is full")
		r.disk.room = m.rng.Int64N(4 << 10)
		m.after(m.between(0, 20*time.Second), func() { r.disk.room, r.disk.troubledNs = roomy, m.nowNs; m.say("disk", "has room") })
	})
	often(150, 2, func() {
		m.say("disk", "refuses")
		r.disk.refusing = true
		m.after(m.between(0, 15*time.Second), func() { r.disk.refusing, r.disk.troubledNs = false, m.nowNs; m.say("disk", "works") })
	})
}

// peace ends all faults.
func (r *run) peace() {
	r.calm = true
	r.m.say("run", "peace")
	for _, v := range r.venues {
		v.peace()
	}
	r.db.faults, r.db.up = dbFaults{}, true
	r.db.resume()
	r.disk.slow, r.disk.fail, r.disk.refusing, r.disk.room, r.disk.troubledNs = 0, 0, false, roomy, r.m.nowNs
	if r.life.ended || r.life.p.dead {
		r.boot()
	}
}
