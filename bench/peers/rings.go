package main

import (
	"encoding/binary"
	"runtime"
	"strconv"

	"github.com/puzpuzpuz/xsync/v3"

	"deeptape/hotpath/ring"
)

const (
	recordBytes = 64
	ringRecords = 1024
	burst       = 64
	roundTrips  = 1 << 20
)

type record [recordBytes]byte

// carrier hands records of 64 bytes over, the smallest that the hot path sends. put and
// take say whether they did; take hands the record's number to sum.
type carrier struct {
	name, notes string
	make        func() (put func(i uint64) bool, take func(sum *uint64) bool)
}

var carriers = []carrier{
	{"deeptape", "`hotpath/ring`, written and read in place", func() (func(uint64) bool, func(*uint64) bool) {
		r := ring.New(2*ringRecords*recordBytes, ring.NewDoorbell())
		return func(i uint64) bool {
				b, out := r.Claim(recordBytes)
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
	{"xsync", "`SPSCQueueOf`", func() (func(uint64) bool, func(*uint64) bool) {
		q := xsync.NewSPSCQueueOf[record](ringRecords)
		return func(i uint64) bool {
				var rec record
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
	{"channel", "buffered", func() (func(uint64) bool, func(*uint64) bool) {
		c := make(chan record, ringRecords)
		return func(i uint64) bool {
				var rec record
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

// ringContests: alone is the work of both ends without any waiting; two has a goroutine
// at each end, both giving up the processor where they cannot go on.
func ringContests() []*contest {
	var all []*contest
	for _, two := range []bool{false, true} {
		k := &contest{
			group: "ring, alone", corpus: "64-byte records", messages: roundTrips, clock: cpuNs, want: strconv.FormatUint(roundTrips*(roundTrips-1)/2, 10),
			what: "in and out again by one goroutine, 64 at a time",
		}
		if two {
			k.group, k.what, k.clock = "ring, two", "from one goroutine to another, wall time", wallNs
		}
		for _, c := range carriers {
			var put func(uint64) bool
			var take func(*uint64) bool
			var sum uint64
			k.peers = append(k.peers, &peer{name: c.name, notes: c.notes,
				reset: func() error {
					put, take = c.make()
					return nil
				},
				work: func() error {
					if two {
						sum = handOver(put, take)
					} else {
						sum = inAndOut(put, take)
					}
					return nil
				},
				told: func() string { return strconv.FormatUint(sum, 10) }})
		}
		all = append(all, k)
	}
	return all
}

func inAndOut(put func(uint64) bool, take func(*uint64) bool) (sum uint64) {
	for n := uint64(0); n < roundTrips; {
		for range burst {
			if put(n) {
				n++
			}
		}
		for take(&sum) {
		}
	}
	return sum
}

func handOver(put func(uint64) bool, take func(*uint64) bool) (sum uint64) {
	go func() {
		for i := range uint64(roundTrips) {
			for !put(i) {
				runtime.Gosched()
			}
		}
	}()
	for range roundTrips {
		for !take(&sum) {
			runtime.Gosched()
		}
	}
	return sum
}
