package ring

import (
	"bytes"
	"testing"
)

// slowRing is the oracle: queues of copies. It knows nothing of positions and
// wraps, so it says "must" only where the documented bounds do.
type slowRing struct {
	capacity, ownedCap int
	queue, batch       [][]byte
	isOwned, batchOwn  []bool
	closed             bool
}

func (s *slowRing) live() (ringBytes, ownedBytes, owned int) {
	count := func(recs [][]byte, own []bool) {
		for i, rec := range recs {
			if own[i] {
				ringBytes += 8
				ownedBytes += len(rec)
				owned++
			} else {
				ringBytes += 8 + (len(rec)+7)/8*8
			}
		}
	}
	count(s.queue, s.isOwned)
	count(s.batch, s.batchOwn)
	return
}

// permits says whether a claim of n bytes, or an offer of an owned buffer of n
// bytes, may have the outcome.
func (s *slowRing) permits(n int, owned bool, out Outcome) bool {
	if s.closed {
		return out == Closed
	}
	ringBytes, ownedBytes, count := s.live()
	if owned {
		if n > s.ownedCap {
			return out == TooLarge
		}
		if ownedBytes+n > s.ownedCap || count >= 64 {
			return out == BackPressured
		}
		ringBytes += 8
	} else {
		if n > s.capacity/4 {
			return out == TooLarge
		}
		ringBytes += 8 + (n+7)/8*8
	}
	switch {
	case ringBytes > s.capacity:
		return out == BackPressured
	case ringBytes <= s.capacity*5/8:
		// A pad takes less than a quarter and a word, what the consumer has not
		// given back less than an eighth. Two pads at once need a whole lap.
		return out == OK
	}
	return out == OK || out == BackPressured
}

func (s *slowRing) add(rec []byte, owned bool) {
	s.batch = append(s.batch, bytes.Clone(rec))
	s.batchOwn = append(s.batchOwn, owned)
}

func (s *slowRing) commit() {
	s.queue = append(s.queue, s.batch...)
	s.isOwned = append(s.isOwned, s.batchOwn...)
	s.batch, s.batchOwn = nil, nil
}

func runOps(t *testing.T, ops []byte) {
	if len(ops) == 0 {
		return
	}
	capacity := MinCapacity << (ops[0] % 5)
	s := &slowRing{capacity: capacity, ownedCap: 4 * int(ops[0])}
	r := New(capacity, nil)
	r.SetOwnedCap(s.ownedCap)
	v := byte(0)
	for i := 1; i+1 < len(ops); i += 2 {
		op, arg := ops[i], int(ops[i+1])
		v++
		switch op % 12 {
		case 0, 1, 2, 3:
			n := 1 + arg*(capacity/4)/200 // a fifth of them too large
			b, out := r.Claim(n)
			if !s.permits(n, false, out) {
				t.Fatalf("op %d: Claim(%d) = %v; %+v", i, n, out, s)
			}
			if out == OK {
				if len(b) != n {
					t.Fatalf("op %d: Claim(%d) gave %d bytes", i, n, len(b))
				}
				fill(b, v)
				s.add(b, false)
			}
		case 4:
			buf := bytes.Repeat([]byte{v}, 1+arg*8)
			buf = buf[:len(buf):len(buf)]
			big := make([]byte, len(buf)) // exact capacity, as make gives it
			copy(big, buf)
			out := r.ClaimOwned(big[:len(big):len(big)])
			if !s.permits(len(big), true, out) {
				t.Fatalf("op %d: ClaimOwned(%d) = %v; %+v", i, len(big), out, s)
			}
			if out == OK {
				s.add(big, true)
			}
		case 5, 6:
			r.Commit()
			s.commit()
		case 7:
			r.Abort()
			s.batch, s.batchOwn = nil, nil
		case 8, 9, 10:
			for range 1 + arg%8 {
				got := r.Peek()
				if len(s.queue) == 0 {
					if got != nil {
						t.Fatalf("op %d: Peek of an empty ring: %x", i, got)
					}
					break
				}
				if !bytes.Equal(got, s.queue[0]) {
					t.Fatalf("op %d: Peek %x, want %x", i, got, s.queue[0])
				}
				if arg%16 == 15 {
					break // peeked, not released
				}
				r.Release()
				s.queue, s.isOwned = s.queue[1:], s.isOwned[1:]
			}
		case 11:
			if arg == 255 {
				r.Close()
				s.closed = true
			}
		}
		if used := r.UsedBytes(); used > capacity || r.HighWaterBytes() > capacity || used > r.HighWaterBytes() {
			t.Fatalf("op %d: used %d, high water %d, capacity %d", i, used, r.HighWaterBytes(), capacity)
		}
		if r.Closed() != s.closed {
			t.Fatalf("op %d: closed %v", i, r.Closed())
		}
	}
	r.Commit()
	s.commit()
	for _, want := range s.queue {
		if got := r.Peek(); !bytes.Equal(got, want) {
			t.Fatalf("at the end: Peek %x, want %x", got, want)
		}
		r.Release()
	}
	mustEmpty(t, r)
	if r.OwnedBytes() != 0 {
		t.Fatalf("%d owned bytes in an empty ring", r.OwnedBytes())
	}
}

func FuzzOps(f *testing.F) {
	f.Add([]byte{0, 0, 200, 0, 200, 5, 0, 8, 7})
	f.Add([]byte{200, 4, 50, 4, 50, 4, 255, 6, 0, 8, 15, 8, 1, 7, 0, 8, 7})
	f.Add([]byte{1, 0, 99, 5, 0, 9, 0, 0, 199, 0, 199, 7, 0, 0, 180, 5, 0, 11, 255, 0, 1, 8, 7})
	f.Fuzz(runOps)
}

func TestRandomOps(t *testing.T) {
	rng := newSeed(t)
	for range 2000 {
		ops := make([]byte, 2+rng.IntN(600))
		for i := range ops {
			ops[i] = byte(rng.Uint32())
		}
		runOps(t, ops)
	}
}
