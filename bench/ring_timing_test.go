package bench

import (
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"deeptape/hotpath/ring"

	"github.com/puzpuzpuz/xsync/v3"
)

// The ring against the library's queue and a channel. The library's queue and the
// channel move values of one size, here [64]byte, the smallest record that the hot path
// has; the ring's records may have any, and are published message by message.
//
// way=alone: one goroutine puts 64 records of 64 bytes in and takes them out, which is
// the work without any waiting. way=message: the same with book messages of 8 levels,
// 256 bytes each: one record of the ring, four values of the others. way=two: a
// goroutine at each end, both giving up the processor where there is no room or nothing
// to take; on few cores this is mostly the scheduler's time. way=wake: a consumer that
// has parked, one record, and back again the same way; the ring's consumer waits with a
// timeout and for any of several rings, the channel's for that channel alone and for
// ever.

const (
	ringRecordBytes = 64
	ringRecords     = 1024
	ringBurst       = 64
)

type ringRecord [ringRecordBytes]byte

// carrier is one way to hand records over. put and take say whether they did;
// take hands the record to sum.
type carrier struct {
	name string
	make func() (put func(i uint64) bool, take func(sum *uint64) bool)
}

var carriers = []carrier{
	{"ring", func() (func(uint64) bool, func(*uint64) bool) {
		r := ring.New(2*ringRecords*ringRecordBytes, ring.NewDoorbell())
		return func(i uint64) bool {
				b, out := r.Claim(ringRecordBytes)
				if out != ring.OK {
					return false
				}
				binary.LittleEndian.PutUint64(b, i)
				r.Commit()
				return true
			}, func(sum *uint64) bool {
				b := r.Peek()
				if b == nil {
					return false
				}
				*sum += binary.LittleEndian.Uint64(b)
				r.Release()
				return true
			}
	}},
	{"xsync", func() (func(uint64) bool, func(*uint64) bool) {
		q := xsync.NewSPSCQueueOf[ringRecord](ringRecords)
		return func(i uint64) bool {
				var rec ringRecord
				binary.LittleEndian.PutUint64(rec[:], i)
				return q.TryEnqueue(rec)
			}, func(sum *uint64) bool {
				rec, ok := q.TryDequeue()
				if ok {
					*sum += binary.LittleEndian.Uint64(rec[:])
				}
				return ok
			}
	}},
	{"chan", func() (func(uint64) bool, func(*uint64) bool) {
		c := make(chan ringRecord, ringRecords)
		return func(i uint64) bool {
				var rec ringRecord
				binary.LittleEndian.PutUint64(rec[:], i)
				select {
				case c <- rec:
					return true
				default:
					return false
				}
			}, func(sum *uint64) bool {
				select {
				case rec := <-c:
					*sum += binary.LittleEndian.Uint64(rec[:])
					return true
				default:
					return false
				}
			}
	}},
}

func BenchmarkRing(b *testing.B) {
	for _, c := range carriers {
		b.Run("way=alone/v="+c.name, func(b *testing.B) {
			put, take := c.make()
			benchAlone(b, put, take)
		})
		b.Run("way=two/v="+c.name, func(b *testing.B) {
			put, take := c.make()
			benchTwo(b, put, take)
		})
	}
	b.Run("way=message/v=ring", func(b *testing.B) {
		r := ring.New(64<<10, ring.NewDoorbell())
		benchMessages(b, func(n int) (uint64, uint64, bool) { return ringMessages(r, n) })
	})
	for _, c := range carriers[1:] {
		b.Run("way=message/v="+c.name, func(b *testing.B) {
			put, take := c.make()
			benchMessages(b, func(n int) (uint64, uint64, bool) { return carryMessages(put, take, n) })
		})
	}
	b.Run("way=wake/v=ring", benchWakeRing)
	b.Run("way=wake/v=chan", benchWakeChan)
}

func checkSum(b *testing.B, sum, n uint64) {
	if sum != n*(n-1)/2 {
		b.Fatalf("the %d records add up to %d, want %d", n, sum, n*(n-1)/2)
	}
}

func benchAlone(b *testing.B, put func(uint64) bool, take func(*uint64) bool) {
	b.SetBytes(ringRecordBytes)
	b.ReportAllocs()
	var sum, n uint64
	for n < uint64(b.N) {
		burst := min(uint64(b.N)-n, ringBurst)
		for range burst {
			if !put(n) {
				b.Fatal("refused with room")
			}
			n++
		}
		for range burst {
			if !take(&sum) {
				b.Fatal("nothing to take")
			}
		}
	}
	checkSum(b, sum, n)
}

const (
	ringMessageBytes   = 256
	ringMessageRecords = ringMessageBytes / ringRecordBytes
)

// ringMessages sends n messages through a ring, 64 at a time, and takes them out.
func ringMessages(r *ring.Ring, n int) (sum, words uint64, ok bool) {
	for n > 0 {
		burst := min(n, ringBurst)
		for range burst {
			rec, out := r.Claim(ringMessageBytes)
			if out != ring.OK {
				return 0, 0, false
			}
			for at := 0; at < ringMessageBytes; at += ringRecordBytes {
				var part ringRecord
				binary.LittleEndian.PutUint64(part[:], words)
				copy(rec[at:], part[:])
				words++
			}
			r.Commit()
		}
		for range burst {
			rec := r.Peek()
			for at := 0; at < ringMessageBytes; at += ringRecordBytes {
				sum += binary.LittleEndian.Uint64(rec[at:])
			}
			r.Release()
		}
		n -= burst
	}
	return sum, words, true
}

// carryMessages does the same with values of one size.
func carryMessages(put func(uint64) bool, take func(*uint64) bool, n int) (sum, words uint64, ok bool) {
	for n > 0 {
		burst := min(n, ringBurst)
		for range burst * ringMessageRecords {
			if !put(words) {
				return 0, 0, false
			}
			words++
		}
		for range burst * ringMessageRecords {
			if !take(&sum) {
				return 0, 0, false
			}
		}
		n -= burst
	}
	return sum, words, true
}

func benchMessages(b *testing.B, send func(n int) (sum, words uint64, ok bool)) {
	b.SetBytes(ringMessageBytes)
	b.ReportAllocs()
	sum, words, ok := send(b.N)
	if !ok {
		b.Fatal("refused with room, or nothing to take")
	}
	checkSum(b, sum, words)
}

// ratioRing: a ring against the library's queue, by book messages.
func ratioRing(t *testing.T) float64 {
	const messages = 5000
	r := ring.New(64<<10, ring.NewDoorbell())
	put, take := carriers[1].make()
	own, theirs := interleave(40, func() {
		if _, _, ok := ringMessages(r, messages); !ok {
			t.Fatal("the ring refuses")
		}
	}, func() {
		if _, _, ok := carryMessages(put, take, messages); !ok {
			t.Fatal("the queue refuses")
		}
	})
	t.Logf("%.1f ns a message of %d bytes, %s %.1f", own/messages, ringMessageBytes, carriers[1].name, theirs/messages)
	return own / theirs
}

func benchTwo(b *testing.B, put func(uint64) bool, take func(*uint64) bool) {
	b.SetBytes(ringRecordBytes)
	b.ReportAllocs()
	go func() {
		for i := range uint64(b.N) {
			for !put(i) {
				runtime.Gosched()
			}
		}
	}()
	var sum uint64
	for range b.N {
		for !take(&sum) {
			runtime.Gosched()
		}
	}
	checkSum(b, sum, uint64(b.N))
}

// parkAndTake is the consumer's loop of package ring, for one record.
func parkAndTake(b *testing.B, r *ring.Ring, bell *ring.Doorbell) {
	for r.Peek() == nil {
		bell.Prepare()
		if r.Peek() != nil {
			bell.Cancel()
			break
		}
		bell.Wait(10 * time.Second)
	}
	r.Release()
}

func benchWakeRing(b *testing.B) {
	b.ReportAllocs()
	bells := [2]*ring.Doorbell{ring.NewDoorbell(), ring.NewDoorbell()}
	there, back := ring.New(4096, bells[0]), ring.New(4096, bells[1])
	go func() {
		for range b.N {
			parkAndTake(b, there, bells[0])
			back.Claim(ringRecordBytes)
			back.Commit()
		}
	}()
	for range b.N {
		there.Claim(ringRecordBytes)
		there.Commit()
		parkAndTake(b, back, bells[1])
	}
}

func benchWakeChan(b *testing.B) {
	b.ReportAllocs()
	there, back := make(chan ringRecord, 16), make(chan ringRecord, 16)
	go func() {
		for range b.N {
			back <- <-there
		}
	}()
	for range b.N {
		there <- ringRecord{}
		<-back
	}
}
