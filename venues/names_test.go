package venues

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestNames: whatever was asked for before, also names of the same place, a name is found
// as in a map, and one that nobody has is not.
func TestNames(t *testing.T) {
	const seed = 3
	rng := rand.New(rand.NewPCG(seed, 0))
	insts := map[string]int{}
	var all []string
	for i := range 2000 { // more than there are places
		name := fmt.Sprintf("%c%d-USD", 'A'+rng.IntN(26), i)
		name = name[:1+rng.IntN(len(name))]
		if i < 1000 {
			if _, has := insts[name]; !has {
				insts[name] = len(insts)
			}
		}
		all = append(all, name)
	}
	n := NewNameTable(insts)
	if n.find(nil) != -1 {
		t.Error("the empty name is somebody's")
	}
	for range 100_000 {
		name := all[rng.IntN(len(all))]
		want, ok := insts[name]
		if !ok {
			want = -1
		}
		if got := n.find([]byte(name)); got != want {
			t.Fatalf("seed %d: %q is %d, want %d", seed, name, got, want)
		}
	}
}
