package wire

import (
	"math"
	"sync"
	"time"
)

// HeadroomPercent of every limit stays unused. A venue counts where we cannot see: on
// its own clock, per IP address (other programs, a second agent), with retries that
// net/http made; and being banned for days costs more than a fifth of the speed.
const HeadroomPercent = 20

// Never is the wait for a weight that no window admits.
const Never = math.MaxInt64

// budgetSlots is how finely a window is cut. Takes within one slot leave the window
// together, when the youngest of them does, so weight comes back at most 1/64 of a
// window late and never early.
const budgetSlots = 64

// Budget admits weight (requests, connections, messages) as long as the sum over a
// sliding window stays within a limit, less HeadroomPercent. A sliding window that
// holds also holds for a venue that counts in fixed windows of the same length,
// wherever they begin.
//
// Time is the caller's: Unix nanoseconds of one Clock. A time earlier than one seen
// before counts as that one. All methods may be called from several goroutines.
//
// Invariant: sum is the weight of log[head:head+n]; the times in it never decrease;
// what has been admitted within any window is at most usable(), one single request
// heavier than that excepted.
type Budget struct {
	mu           sync.Mutex
	limit        int
	windowNs     int64
	slotNs       int64
	nowNs        int64 // latest time seen
	blockedNs    int64 // nothing is admitted before
	log          [budgetSlots + 2]taken
	head, n, sum int
	line         []*Claim // that wait, in their order: see claim.go
	claims       uint64   // that have ever had a place
}

type taken struct {
	firstNs, lastNs int64
	weight          int
}

// NewBudget panics if the limit or the window is not positive.
func NewBudget(limit int, window time.Duration) *Budget {
	if limit <= 0 || window <= 0 {
		panic("wire: a budget needs a positive limit and window")
	}
	return &Budget{limit: limit, windowNs: int64(window), slotNs: int64(window) / budgetSlots, nowNs: math.MinInt64, blockedNs: math.MinInt64}
}

// TryTake takes weight if it fits now. If not, nothing is taken and waitNs says after
// what time it will fit if nobody else takes any: Never if it is above the limit.
// A weight above the usable part but not above the limit is admitted into an empty
// window: the headroom must not make a permitted request impossible. Who takes without a
// Claim comes after all who wait with one.
func (b *Budget) TryTake(nowNs int64, weight int) (ok bool, waitNs int64) {
	return b.tryTake(nowNs, weight, 100)
}

// TryTakeSpare is TryTake for what can wait: it takes weight only as long as so much of
// the usable limit stays free for others, or the window is empty.
func (b *Budget) TryTakeSpare(nowNs int64, weight, sparePercent int) (ok bool, waitNs int64) {
	return b.tryTake(nowNs, weight, 100-sparePercent)
}

func (b *Budget) tryTake(nowNs int64, weight, percent int) (ok bool, waitNs int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.advanceLocked(nowNs)
	weight = max(weight, 0)
	if weight > b.limit {
		return false, Never
	}
	if wait := b.waitLocked(now, weight, b.claimedLocked(now), percent); wait > 0 {
		return false, wait
	}
	b.addLocked(now, weight)
	return true, 0
}

// waitLocked returns 0 if weight fits now into so many per cent of what is usable, beside
// what others will take first.
func (b *Budget) waitLocked(now int64, weight, ahead, percent int) int64 {
	wait := int64(0)
	if b.blockedNs > now {
		wait = b.blockedNs - now
	}
	usable := b.usableLocked() * percent / 100
	if ahead > 0 && ahead+weight > usable { // not even an empty window has room for all
		wait = max(wait, b.slotNs, 1)
	}
	room := max(usable-ahead-weight, 0)
	sum := b.sum
	for i := 0; sum > room; i++ {
		e := b.log[(b.head+i)%len(b.log)]
		sum -= e.weight
		wait = max(wait, e.lastNs+b.windowNs-now)
	}
	return wait
}

func (b *Budget) usableLocked() int {
	return max(b.limit-(b.limit*HeadroomPercent+99)/100, 1)
}

// advanceLocked lets go of what has left the window.
func (b *Budget) advanceLocked(nowNs int64) int64 {
	b.nowNs = max(b.nowNs, nowNs)
	for b.n > 0 && b.log[b.head].lastNs+b.windowNs <= b.nowNs {
		b.sum -= b.log[b.head].weight
		b.head = (b.head + 1) % len(b.log)
		b.n--
	}
	return b.nowNs
}

func (b *Budget) addLocked(now int64, weight int) {
	if weight == 0 {
		return
	}
	b.sum += weight
	if b.n > 0 {
		last := &b.log[(b.head+b.n-1)%len(b.log)]
		// The second condition never holds while slots last: slots begin at least
		// slotNs apart and leave after a window.
		if now-last.firstNs < b.slotNs || b.n == len(b.log) {
			last.lastNs = now
			last.weight += weight
			return
		}
	}
	b.log[(b.head+b.n)%len(b.log)] = taken{firstNs: now, lastNs: now, weight: weight}
	b.n++
}

// SetLimit replaces the limit by one that the venue has told. Not positive: ignored.
func (b *Budget) SetLimit(limit int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if limit > 0 {
		b.limit = limit
	}
}

// Observe takes over the venue's own count of the weight used in its current window,
// where it is higher than ours: somebody else at our address, or our own last run.
// A lower count is no news, for the venue's window may just have begun.
func (b *Budget) Observe(nowNs int64, used int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.advanceLocked(nowNs)
	if used > b.sum {
		b.addLocked(now, used-b.sum)
	}
}

// Block admits nothing before untilNs: the venue has said Retry-After. An earlier
// time than that of a block before does not lift it.
func (b *Budget) Block(untilNs int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.blockedNs = max(b.blockedNs, untilNs)
}

// Used returns the weight in the window that ends now, and the limit without headroom.
func (b *Budget) Used(nowNs int64) (used, limit int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advanceLocked(nowNs)
	return b.sum, b.limit
}
