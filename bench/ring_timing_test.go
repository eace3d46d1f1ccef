package bench

import (
	"encoding/binary"
	"runtime"
	"testing"
	"time"

	"deeptape/hotpath/ring"

	"github.com/puzpuzpuz/xsync/v3"
)

// The ring against the library's queue and a channel, for records of 64 bytes:
// the smallest that the hot path sends. The library's queue and the channel
// move values of one size, here [64]byte; the ring's records may have any.
//
// way=alone: one goroutine puts 64 records in and takes them out, which is the
// work without any waiting. way=two: a goroutine at each end, both giving up the
// processor where there is no room or nothing to take; on few cores this is
// mostly the scheduler's time. way=wake: a consumer that has parked, one record,
// and back again the same way; the ring's consumer waits with a timeout and for
// any of several rings, the channel's for that channel alone and for ever.

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
