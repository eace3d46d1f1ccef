package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"deeptape/hotpath/event"
)

// What every peer must come to is worked out from the texts of the recording alone:
// Binance writes all prices and sizes with eight fraction digits, so a book is a map
// from text to text, and no number of anybody's is needed but for the order.
//
// The books are compared as text, whole: for each instrument "SYMBOL", its bids and
// then its asks, best first, a line "PRICE SIZE" each with eight fraction digits. What
// is told is "BIDS/ASKS/FNV-1a 64 of that text", the numbers those of the levels.

type snapshotText struct {
	LastUpdateID int64       `json:"lastUpdateId"`
	Bids         [][2]string `json:"bids"`
	Asks         [][2]string `json:"asks"`
}

type frameText struct {
	Stream string    `json:"stream"`
	Data   depthText `json:"data"`
}

// depthText names all fields of the message: encoding/json takes a name in another
// case for one that it does not find.
type depthText struct {
	Event  string      `json:"e"`
	Time   int64       `json:"E"`
	Symbol string      `json:"s"`
	First  int64       `json:"U"`
	Last   int64       `json:"u"`
	Bids   [][2]string `json:"b"`
	Asks   [][2]string `json:"a"`
}

const eight = 8 // fraction digits that Binance writes

type textBook struct {
	symbol string
	last   int64
	sides  [2]map[string]string
}

func (b *textBook) set(side int, levels [][2]string) error {
	for _, l := range levels {
		for _, text := range l {
			if at := strings.IndexByte(text, '.'); at < 0 || len(text)-at-1 != eight {
				return fmt.Errorf("%q has not %d fraction digits", text, eight)
			}
		}
		if strings.Trim(l[1], "0.") == "" {
			delete(b.sides[side], l[0])
		} else {
			b.sides[side][l[0]] = l[1]
		}
	}
	return nil
}

// work replays the corpus and fills in wantBook, wantParsed and levels.
func (c *corpus) work() error {
	books := map[string]*textBook{}
	for i, inst := range c.insts {
		var snap snapshotText
		if err := json.Unmarshal(c.bodies[i], &snap); err != nil {
			return err
		}
		b := &textBook{symbol: inst.Symbol, last: snap.LastUpdateID, sides: [2]map[string]string{{}, {}}}
		books[inst.Symbol] = b
		for side, levels := range [2][][2]string{snap.Bids, snap.Asks} {
			if err := b.set(side, levels); err != nil {
				return err
			}
		}
	}
	parsed := fnv.New64a()
	for i, frame := range c.frames {
		var f frameText
		if err := json.Unmarshal(frame, &f); err != nil {
			return err
		}
		d := &f.Data
		b := books[d.Symbol]
		if b == nil || d.First > b.last+1 || d.Last <= b.last {
			return fmt.Errorf("book message %d of corpus %s does not follow", i+1, c.name)
		}
		b.last = d.Last
		fmt.Fprintf(parsed, "%d %d %d\n", d.First, d.Last, d.Time)
		for side, levels := range [2][][2]string{d.Bids, d.Asks} {
			if err := b.set(side, levels); err != nil {
				return err
			}
			for _, l := range levels {
				fmt.Fprintf(parsed, "%d %s %s\n", side, l[0], l[1])
			}
			c.levels += len(levels)
		}
	}
	c.wantParsed = strconv.FormatUint(parsed.Sum64(), 16)
	t := newTally()
	for _, inst := range c.insts {
		b := books[inst.Symbol]
		t.symbol(b.symbol)
		for side := range b.sides {
			var prices []string
			for px := range b.sides[side] {
				prices = append(prices, px)
			}
			slices.SortFunc(prices, func(x, y string) int { // the longer one is the greater one
				order := cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y))
				if side == 0 {
					return -order
				}
				return order
			})
			for _, px := range prices {
				t.level(side, px, b.sides[side][px])
			}
		}
	}
	c.wantBook = t.String()
	return nil
}

// tally writes the text of books, and tells it.
type tally struct {
	hash  hash.Hash64
	count [2]int
}

func newTally() *tally { return &tally{hash: fnv.New64a()} }

func (t *tally) symbol(s string) { fmt.Fprintf(t.hash, "%s\n", s) }

func (t *tally) level(side int, px, qty string) {
	fmt.Fprintf(t.hash, "%s %s\n", px, qty)
	t.count[side]++
}

// exact is level for counts of 10^-scale.
func (t *tally) exact(side int, px, qty int64, inst *event.Instrument) {
	t.level(side, eightDigits(px, inst.PxScale), eightDigits(qty, inst.QtyScale))
}

func (t *tally) String() string {
	return fmt.Sprintf("%d/%d/%x", t.count[0], t.count[1], t.hash.Sum64())
}

func eightDigits(m int64, scale int8) string {
	digits := fmt.Sprintf("%0*d", scale+1, m)
	at := len(digits) - int(scale)
	return digits[:at] + "." + digits[at:] + strings.Repeat("0", eight-int(scale))
}

// borrow makes bytes of a text, and text makes a string of bytes, without a copy.
func borrow(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
func text(b []byte) string   { return unsafe.String(unsafe.SliceData(b), len(b)) }
