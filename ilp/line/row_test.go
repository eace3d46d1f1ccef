package line

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// Rows are found where they were written, whatever bytes are in them.
func TestRow(t *testing.T) {
	seed := testSeed(t)
	r := rand.New(rand.NewPCG(seed, 9))
	inst := mustInst(t, "odd venue", `a b,c=d\e"f`)
	for range 30 {
		var body []byte
		var ends []int
		for range 20 {
			s := randomSample(r)
			s.id += "\n\"\\,= "
			if len(s.levels) > 1 {
				s.levels = s.levels[:1] // so that an end is known after each
			}
			s.head.PxScale = 0
			for i := range s.bids {
				s.bids[i][0] = 0x1a0a0a0a0a0a0a // as a double seven bytes of it are line ends
			}
			for i := range s.bands {
				s.bands[i][0] = 0x1a0a0a0a0a0a0a
			}
			body, _ = s.append(body, inst)
			ends = append(ends, len(body))
		}
		start := 0
		for i, end := range ends {
			if from, to := Row(body, i+1); from != start || to != end {
				t.Fatalf("row %d is [%d,%d), found [%d,%d) in %q", i+1, start, end, from, to, body)
			}
			start = end
		}
		for _, n := range []int{0, -1, len(ends) + 1, 1 << 40} {
			if from, to := Row(body, n); from != to {
				t.Fatalf("row %d of %d found", n, len(ends))
			}
		}
		for cut := range ends[0] {
			if from, to := Row(body[:cut], 1); from != to {
				t.Fatalf("a whole row in %q", body[:cut])
			}
		}
	}
}

func FuzzRow(f *testing.F) {
	f.Add([]byte("t,a=b x=1i,y=\"a\\\"\n\",z==\x10\n\n\n\n\n\n\n\n 5\nt x==\x0e\x0a\x02\xff\xff\xff\xff\xff\xff\xff\xff 5\n"), 2)
	f.Fuzz(func(t *testing.T, body []byte, n int) {
		from, to := Row(body, n)
		if from < 0 || from > to || to > len(body) {
			t.Fatalf("[%d,%d) of %d bytes", from, to, len(body))
		}
		if from < to && !bytes.HasSuffix(body[from:to], []byte("\n")) {
			t.Fatalf("%q is no row", body[from:to])
		}
	})
}
