package wire

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Whoever looks first, the lower rank goes first, and of equals who came first. A light
// wish does not pass a heavy one that is more urgent.
func TestClaimsGoByRank(t *testing.T) {
	const seed = 7
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		b := NewBudget(100, time.Minute) // usable: 80
		now := int64(1e18)
		b.TryTake(now, 80)
		type wish struct {
			Claim
			name string
		}
		var all []*wish
		for i := range 12 {
			w := &wish{Claim: Claim{Weight: 1 + rng.IntN(60), Rank: int64(rng.IntN(4))}, name: fmt.Sprint(i)}
			all = append(all, w)
			if ok, wait := b.Take(now, &w.Claim); ok || wait <= 0 {
				t.Fatalf("admitted to a window that is full, wait %d", wait)
			}
		}
		order := slices.Clone(all)
		slices.SortStableFunc(order, func(x, y *wish) int { return int(x.Rank - y.Rank) })
		var got []string
		waiting := slices.Clone(all)
		for ; len(waiting) > 0; now += 250e6 {
			rng.Shuffle(len(waiting), func(i, j int) { waiting[i], waiting[j] = waiting[j], waiting[i] })
			var admitted []*wish // at this instant: several fit together, whoever asks first
			waiting = slices.DeleteFunc(waiting, func(w *wish) bool {
				ok, _ := b.Take(now, &w.Claim)
				if ok {
					admitted = append(admitted, w)
				}
				return ok
			})
			slices.SortFunc(admitted, func(x, y *wish) int { return slices.Index(order, x) - slices.Index(order, y) })
			for _, w := range admitted {
				got = append(got, w.name)
			}
			if now > 1e18+int64(time.Hour) {
				t.Fatalf("seed %d: %d wait for an hour", seed, len(waiting))
			}
		}
		var want []string
		for _, w := range order {
			want = append(want, w.name)
		}
		if !slices.Equal(got, want) || b.Waiting() != 0 {
			t.Fatalf("seed %d: admitted %v, want %v; %d wait", seed, got, want, b.Waiting())
		}
	}
}

// What has gone without a word holds nobody up, and has its old place when it comes back;
// what was withdrawn has none. Who has no claim comes after all who have one.
func TestClaimsThatGo(t *testing.T) {
	b := NewBudget(100, time.Minute)
	now := int64(1e18)
	b.TryTake(now, 80)
	gone, given, last := Claim{Weight: 80}, Claim{Weight: 80, Rank: 1}, Claim{Weight: 10, Rank: 2}
	for _, c := range []*Claim{&gone, &given, &last} {
		b.Take(now, c)
	}
	now += int64(time.Minute)
	if ok, _ := b.Take(now, &last); !ok { // the two others have not looked for a minute
		t.Error("held up by claims that have gone")
	}
	b.Take(now, &gone)
	b.Take(now, &given)
	if ok, wait := b.TryTake(now, 1); ok || wait <= 0 {
		t.Error("taken before those who wait")
	}
	b.Withdraw(&given)
	b.Withdraw(&given)
	now += int64(time.Minute)
	if !b.First(now, &gone) {
		t.Error("the one that came back is not first")
	}
	if ok, _ := b.Take(now, &gone); !ok || b.Waiting() != 0 {
		t.Errorf("%v, %d wait", ok, b.Waiting())
	}
	if ok, wait := b.Take(now, &Claim{Weight: 101}); ok || wait != Never || b.Waiting() != 0 {
		t.Errorf("more than the limit: %v, %d", ok, wait)
	}
}

// A claim that leaves a part of the limit free does not keep those behind it from that
// part; one whose rank has changed changes its place.
func TestClaimsThatSpare(t *testing.T) {
	b := NewBudget(100, time.Minute) // usable: 80, to those who spare a half: 40
	now := int64(1e18)
	b.TryTake(now, 40)
	spares, behind := Claim{Weight: 10, SparePercent: 50}, Claim{Weight: 30, Rank: 1}
	if ok, _ := b.Take(now, &spares); ok {
		t.Error("the half is used up")
	}
	if ok, _ := b.Take(now, &behind); !ok { // 40 + 10 + 30
		t.Error("there is room for both")
	}
	next := Claim{Weight: 10, Rank: 1}
	if ok, _ := b.Take(now, &next); ok {
		t.Error("it took the place that the first one waits for")
	}
	next.Rank = -1
	if ok, _ := b.Take(now, &next); !ok {
		t.Error("it is the first one now")
	}
}
