package wire

import "slices"

// A Budget that is used up has a line before it. Who is in it says by a rank how urgent
// his wish is; a wish is admitted only if everything that stands before it would fit as
// well. So who goes first does not depend on who happens to look first, and a light wish
// does not starve a heavy one.
//
// Nobody is called: each claimant looks again when it was told to, or sooner. One that
// has not looked for claimPatienceNs has gone (its task was stopped, its connection has
// ended) and holds nobody up; when it looks again it has its old place.

// claimPatienceNs is three times the longest time that a claimant sleeps between two looks.
const claimPatienceNs = 3e9

// Claim is one wish for weight, and its place in the line. It belongs to its claimant;
// until it is admitted or withdrawn the Budget remembers it. The rank may change between
// two looks. A claim that was admitted may be used for the next wish.
type Claim struct {
	Weight int
	Rank   int64 // the lower goes first; of equals who came first
	Follow int   // weight of further wishes of this rank, which the claimant will make next
	// SparePercent of the usable limit must stay free for others, as in TryTakeSpare.
	SparePercent int

	// The fields above are the claimant's own; what others look at, under the Budget's lock,
	// is as of its last look.
	waits  bool
	placed int64 // Rank
	wants  int   // Weight and Follow
	number uint64
	seenNs int64 // when the claimant last looked
}

// Take admits a claim if it fits now, behind all that stand before it. If not, the claim
// has a place in the line, and waitNs says when to look again: Never if the weight is
// above the limit, and then it has no place.
func (b *Budget) Take(nowNs int64, c *Claim) (ok bool, waitNs int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.advanceLocked(nowNs)
	if c.Weight > b.limit {
		b.leaveLocked(c)
		return false, Never
	}
	b.placeLocked(now, c)
	ahead := 0
	for _, other := range b.line {
		if other == c {
			break
		}
		ahead += other.wants
	}
	if wait := b.waitLocked(now, max(c.Weight, 0), ahead, 100-c.SparePercent); wait > 0 {
		return false, wait
	}
	b.leaveLocked(c)
	b.addLocked(now, c.Weight)
	return true, 0
}

// First gives a claim its place, and says whether nobody stands before it.
func (b *Budget) First(nowNs int64, c *Claim) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.placeLocked(b.advanceLocked(nowNs), c)
	return b.line[0] == c
}

// Before says whether somebody waits who goes before a rank.
func (b *Budget) Before(nowNs, rank int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.advanceLocked(nowNs)
	return slices.ContainsFunc(b.line, func(c *Claim) bool { return c.placed < rank && now-c.seenNs < claimPatienceNs })
}

// Withdraw gives up a claim's place. One that has none is left alone.
func (b *Budget) Withdraw(c *Claim) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leaveLocked(c)
}

// Waiting is how many claims are in the line.
func (b *Budget) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.line)
}

// placeLocked gives a claim the place of its rank, and lets go of those that have gone.
func (b *Budget) placeLocked(now int64, c *Claim) {
	c.seenNs, c.wants = now, c.Weight+c.Follow
	b.line = slices.DeleteFunc(b.line, func(other *Claim) bool {
		gone := now-other.seenNs >= claimPatienceNs || other == c && other.placed != c.Rank
		if gone {
			other.waits = false
		}
		return gone
	})
	if c.waits {
		return
	}
	if c.number == 0 {
		b.claims++
		c.number = b.claims
	}
	c.waits, c.placed = true, c.Rank
	at, _ := slices.BinarySearchFunc(b.line, c, func(other, c *Claim) int {
		if other.placed < c.placed || other.placed == c.placed && other.number < c.number {
			return -1
		}
		return 1
	})
	b.line = slices.Insert(b.line, at, c)
}

// leaveLocked takes a claim out of the line; its next wish comes last among its equals.
func (b *Budget) leaveLocked(c *Claim) {
	c.number = 0
	if c.waits {
		c.waits = false
		b.line = slices.DeleteFunc(b.line, func(other *Claim) bool { return other == c })
	}
}

// claimedLocked is the weight of all who wait.
func (b *Budget) claimedLocked(now int64) (weight int) {
	for _, c := range b.line {
		if now-c.seenNs < claimPatienceNs {
			weight += c.wants
		}
	}
	return weight
}
