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
	"book":    func(records [][]byte) (func() uint64, error) { return bookRound(records, false), nil },
	"top":     func(records [][]byte) (func() uint64, error) { return bookRound(records, true), nil },
	"decode":  decodeRound,
	"wire":    wireRound,
	"feed":    feedRound,
	"ring":    ringRound,
	"journal": journalRound,
	"line":    lineRound,
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

// bookRound: a record is a RowBook; a snapshot clears its book. With tops, the ten best
// of both sides are read after each, as the feed does.
func bookRound(records [][]byte, tops bool) func() uint64 {
	type message struct {
		book   *book.Book
		clear  bool
		levels []event.Level
	}
	books := map[uint32]*book.Book{}
	messages := make([]message, len(records))
	for i, rec := range records {
		var h event.Head
		h.Get(rec)
		if books[h.Inst] == nil {
			books[h.Inst] = book.New(1)
		}
		m := &messages[i]
		m.book, m.clear = books[h.Inst], h.Flags&event.FlagSnapshot != 0
		n := event.Levels(rec)
		for j := range n {
			m.levels = append(m.levels, event.GetLevel(rec, n, j))
		}
	}
	top := make([]book.Level, 10)
	return func() uint64 {
		var sum uint64
		for i := range messages {
			m := &messages[i]
			if m.clear {
				m.book.Clear()
			}
			m.book.Foresee(m.levels)
			m.book.Apply(m.levels)
			if tops {
				for side := event.Bid; side <= event.Ask; side++ {
					for i := range m.book.Top(side, top) {
						sum += uint64(top[i].Px ^ top[i].Qty)
					}
				}
			}
		}
		return sum + uint64(len(messages))
	}
}
