package wire

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func TestBudgetBinanceSnapshots(t *testing.T) {
	b := NewBudget(6000, time.Minute)
	now := int64(1_800_000_000_000_000_000)
	for i := range 19 { // 19 x 250 = 4750 of 4800
		if ok, wait := b.TryTake(now+int64(i), 250); !ok {
			t.Fatalf("snapshot %d: wait %d", i, wait)
		}
	}
	ok, wait := b.TryTake(now+100, 250)
	if want := int64(time.Minute) + 18 - 100; ok || wait != want {
		t.Fatalf("snapshot 20: %v, wait %d, want %d", ok, wait, want)
	}
	if ok, _ := b.TryTake(now+100, 50); !ok {
		t.Fatal("50 more fit exactly")
	}
	if ok, _ := b.TryTake(now+100, 1); ok {
		t.Fatal("1 more does not")
	}
	if ok, _ := b.TryTake(now+100+int64(time.Minute), 250); !ok {
		t.Fatal("a minute later all is free")
	}
	b.SetLimit(100)
	if ok, wait := b.TryTake(now+100+int64(time.Minute), 101); ok || wait != Never {
		t.Fatalf("more than the limit: %v, wait %d", ok, wait)
	}
	b.SetLimit(0)
	if used, limit := b.Used(now); used != 250 || limit != 100 {
		t.Fatalf("used %d of %d", used, limit)
	}
}

func TestBudgetHeavierThanUsable(t *testing.T) {
	b := NewBudget(5, time.Second) // usable: 4
	if ok, _ := b.TryTake(1, 1); !ok {
		t.Fatal()
	}
	ok, wait := b.TryTake(2, 5)
	if ok || wait != int64(time.Second)-1 {
		t.Fatalf("into a used window: %v, wait %d", ok, wait)
	}
	if ok, _ := b.TryTake(2+wait, 5); !ok {
		t.Fatal("not even into an empty window")
	}
	one := NewBudget(1, time.Second)
	if ok, _ := one.TryTake(0, 1); !ok {
		t.Fatal("a limit of one admits nothing")
	}
}

func TestBudgetObserveAndBlock(t *testing.T) {
	b := NewBudget(1000, time.Minute) // usable: 800
	b.TryTake(0, 100)
	b.Observe(10, 90) // lower: no news
	if used, _ := b.Used(10); used != 100 {
		t.Fatalf("used %d", used)
	}
	b.Observe(int64(time.Second), 700)
	if used, _ := b.Used(int64(time.Second)); used != 700 {
		t.Fatalf("used %d", used)
	}
	if ok, _ := b.TryTake(int64(time.Second), 101); ok {
		t.Fatal("took more than is left")
	}
	if ok, _ := b.TryTake(int64(time.Second), 100); !ok {
		t.Fatal("did not take what is left")
	}
	b.Block(int64(time.Hour))
	b.Block(int64(time.Minute)) // does not lift it
	ok, wait := b.TryTake(int64(30*time.Minute), 1)
	if ok || wait != int64(30*time.Minute) {
		t.Fatalf("blocked: %v, wait %d", ok, wait)
	}
	if ok, _ := b.TryTake(int64(time.Hour), 1); !ok {
		t.Fatal("still blocked when the time has come")
	}
}

// Against a plain list of all takes: no window ever holds more than the usable part,
// a wait that is told is enough, and weight comes back at most a slot late.
func TestBudgetAgainstAList(t *testing.T) {
	seed := testSeed(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 60 {
		limit := 1 + rng.IntN(500)
		windowNs := 64 + rng.Int64N(1_000_000)
		b := NewBudget(limit, time.Duration(windowNs))
		usable := max(limit*(100-HeadroomPercent)/100, 1)
		type take struct {
			ns     int64
			weight int
		}
		var all []take
		sumSince := func(from int64) (sum int) {
			for i := len(all) - 1; i >= 0 && all[i].ns > from; i-- {
				sum += all[i].weight
			}
			return sum
		}
		now, seen := int64(1e9), int64(0)
		for range 2000 {
			now += rng.Int64N(windowNs/20 + 2)
			if rng.IntN(50) == 0 {
				now += rng.Int64N(2 * windowNs)
			}
			weight := 1 + rng.IntN(limit/4+1)
			asked := now
			if rng.IntN(10) == 0 {
				asked -= rng.Int64N(windowNs) // a time before one already seen counts as that one
			}
			ok, wait := b.TryTake(asked, weight)
			seen = max(seen, asked)
			now = seen
			exact := sumSince(now - windowNs)
			fits := exact+weight <= usable
			switch {
			case ok && !fits && exact > 0:
				t.Fatalf("seed %d: took %d at %d with %d of %d used", seed, weight, now, exact, usable)
			case !ok && sumSince(now-windowNs-windowNs/budgetSlots-1)+weight <= usable:
				t.Fatalf("seed %d: refused %d at %d though even the last slot leaves room", seed, weight, now)
			case !ok && wait <= 0:
				t.Fatalf("seed %d: refused with wait %d", seed, wait)
			case !ok && rng.IntN(2) == 0:
				if wait > 1 {
					if ok, _ := b.TryTake(now+wait-1, weight); ok {
						t.Fatalf("seed %d: a wait of %d was too long", seed, wait)
					}
				}
				now += wait
				seen = now
				if ok, again := b.TryTake(now, weight); !ok {
					t.Fatalf("seed %d: a wait of %d was not enough, %d more", seed, wait, again)
				}
				all = append(all, take{now, weight})
			case ok:
				all = append(all, take{now, weight})
			}
		}
	}
}

func TestBudgetFromManyGoroutines(t *testing.T) {
	b := NewBudget(1000, time.Minute)
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := 0
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 500 {
				if ok, _ := b.TryTake(int64(i), 1); ok {
					mu.Lock()
					total++
					mu.Unlock()
				}
			}
		}()
	}
	wg.Wait()
	if total != 800 {
		t.Errorf("%d taken, want 800", total)
	}
}

func TestBudgetSpare(t *testing.T) {
	b := NewBudget(1000, time.Minute) // usable: 800, by what can wait: 400
	for i := range 4 {
		if ok, wait := b.TryTakeSpare(int64(i), 100, 50); !ok {
			t.Fatalf("%d: wait %d", i, wait)
		}
	}
	if ok, wait := b.TryTakeSpare(10, 1, 50); ok || wait != int64(time.Minute)-7 { // 0 to 3 are of one slot
		t.Fatalf("above the half: %v, wait %d", ok, wait)
	}
	if ok, _ := b.TryTake(10, 400); !ok {
		t.Fatal("the other half is not free")
	}
	if ok, _ := b.TryTakeSpare(11+int64(time.Minute), 500, 50); !ok {
		t.Fatal("not even into an empty window")
	}
	b.Block(int64(3 * time.Minute))
	if ok, wait := b.TryTakeSpare(int64(2*time.Minute)+20, 1, 50); ok || wait != int64(time.Minute)-20 {
		t.Fatalf("while blocked: %v, wait %d", ok, wait)
	}
}
