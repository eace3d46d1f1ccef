// Command counts does one stage of a frame's way over a corpus, some number of
// times, and nothing else: valgrind counts its instructions. A run of 0 rounds
// costs what starting and loading cost, and is subtracted.
//
//	counts STAGE CORPUS ROUNDS
//
// It is built with -tags valgrind, which tells valgrind about Go's stacks, and
// run with GOMAXPROCS=1 and GOGC=off. It must not allocate, read a clock or
// print while it counts; the test in bench that starts it makes the corpus.
//
// A corpus is a row of records, each a length (u32, little-endian) and so many
// bytes. What they mean is the stage's matter.
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
)

// stages load a corpus and return what one round does. A round returns a number
// that depends on all that it did, so that nothing is optimised away and two
// builds can be compared.
var stages = map[string]func(records [][]byte) (round func() uint64, err error){
	"book":   func(records [][]byte) (func() uint64, error) { return bookRound(records, false), nil },
	"top":    func(records [][]byte) (func() uint64, error) { return bookRound(records, true), nil },
	"decode": decodeRound,
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "counts:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: counts STAGE CORPUS ROUNDS")
	}
	load, ok := stages[args[0]]
	if !ok {
		return fmt.Errorf("no stage %q", args[0])
	}
	corpus, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	rounds, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	var records [][]byte
	for b := corpus; len(b) > 0; {
		n := binary.LittleEndian.Uint32(b)
		records = append(records, b[4:4+n])
		b = b[4+n:]
	}
	round, err := load(records)
	if err != nil {
		return err
	}
	var sum uint64
	for range rounds {
		sum += round()
	}
	fmt.Println(sum)
	return nil
}

// bookRound: a record is a message, event.LevelSize bytes a level; the first is
// the snapshot. With tops, the ten best of both sides are read after each, as
// the feed does.
func bookRound(records [][]byte, tops bool) func() uint64 {
	messages := make([][]event.Level, len(records))
	for i, rec := range records {
		n := len(rec) / event.LevelSize
		row := append(make([]byte, event.HeadSize), rec...) // GetLevel counts from a row's start
		for j := range n {
			messages[i] = append(messages[i], event.GetLevel(row, j))
		}
	}
	b := book.New(1)
	top := make([]book.Level, 10)
	return func() uint64 {
		var sum uint64
		b.Clear()
		for _, m := range messages {
			for i := range m {
				b.Set(m[i].Side, m[i].Px, m[i].Qty)
			}
			if tops {
				for side := event.Bid; side <= event.Ask; side++ {
					for i := range b.Top(side, top) {
						sum += uint64(top[i].Px ^ top[i].Qty)
					}
				}
			}
		}
		return sum + uint64(b.Len(event.Bid)) + uint64(b.Len(event.Ask))
	}
}
