package main

import (
	gbtree "github.com/google/btree"
	tbtree "github.com/tidwall/btree"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
)

// rival is a book of one instrument.
type rival interface {
	Set(side event.Side, px, qty int64)
	Clear()                                          // keeps its memory where it can
	each(side event.Side, visit func(px, qty int64)) // best first
}

type ladderBook struct{ *book.Book }

func (b ladderBook) each(side event.Side, visit func(px, qty int64)) {
	for _, l := range b.AppendLevels(nil, side) {
		visit(l.Px, l.Qty)
	}
}

// The trees and slices keep the better level behind the worse one, which is where
// things change: a bid's key is its price, an ask's is the price's complement.
func key(side event.Side, px int64) int64 { return px ^ -int64(side-event.Bid) }

type sliceBook struct{ sides [2][]book.Level }

func (b *sliceBook) Set(side event.Side, px, qty int64) {
	s, k := b.sides[side-1], key(side, px)
	lo, hi := 0, len(s)
	for lo < hi {
		if mid := int(uint(lo+hi) / 2); s[mid].Px < k {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	switch found := lo < len(s) && s[lo].Px == k; {
	case !found && qty == 0:
	case qty == 0:
		b.sides[side-1] = append(s[:lo], s[lo+1:]...)
	case found:
		s[lo].Qty = qty
	default:
		s = append(s, book.Level{})
		copy(s[lo+1:], s[lo:])
		s[lo] = book.Level{Px: k, Qty: qty}
		b.sides[side-1] = s
	}
}

func (b *sliceBook) each(side event.Side, visit func(px, qty int64)) {
	s := b.sides[side-1]
	for i := len(s) - 1; i >= 0; i-- {
		visit(key(side, s[i].Px), s[i].Qty)
	}
}

func (b *sliceBook) Clear() { b.sides[0], b.sides[1] = b.sides[0][:0], b.sides[1][:0] }

// tidwallBook uses Map, the fastest of that package for integer keys.
type tidwallBook struct{ sides [2]tbtree.Map[int64, int64] }

func (b *tidwallBook) Set(side event.Side, px, qty int64) {
	if qty == 0 {
		b.sides[side-1].Delete(key(side, px))
		return
	}
	b.sides[side-1].Set(key(side, px), qty)
}

func (b *tidwallBook) each(side event.Side, visit func(px, qty int64)) {
	b.sides[side-1].Reverse(func(k, qty int64) bool {
		visit(key(side, k), qty)
		return true
	})
}

func (b *tidwallBook) Clear() {
	b.sides[0].Clear()
	b.sides[1].Clear()
}

type googleBook struct{ sides [2]*gbtree.BTreeG[book.Level] }

func newGoogleBook() *googleBook {
	b := &googleBook{}
	for i := range b.sides {
		b.sides[i] = gbtree.NewG(32, func(x, y book.Level) bool { return x.Px < y.Px })
	}
	return b
}

func (b *googleBook) Set(side event.Side, px, qty int64) {
	v := book.Level{Px: key(side, px), Qty: qty}
	if qty == 0 {
		b.sides[side-1].Delete(v)
		return
	}
	b.sides[side-1].ReplaceOrInsert(v)
}

func (b *googleBook) each(side event.Side, visit func(px, qty int64)) {
	b.sides[side-1].Descend(func(v book.Level) bool {
		visit(key(side, v.Px), v.Qty)
		return true
	})
}

func (b *googleBook) Clear() {
	b.sides[0].Clear(true)
	b.sides[1].Clear(true)
}

func told(insts []event.Instrument, books []rival) string {
	t := newTally()
	for i := range insts {
		t.symbol(insts[i].Symbol)
		for side := event.Bid; side <= event.Ask; side++ {
			books[i].each(side, func(px, qty int64) { t.exact(int(side-event.Bid), px, qty, &insts[i]) })
		}
	}
	return t.String()
}

// change is a book message as integers.
type change struct {
	inst   int
	levels []event.Level
}

// applyTo gives a book the levels of a message; the ladder takes them at once, as the
// agent gives them.
func applyTo(b rival, levels []event.Level) {
	if own, ok := b.(ladderBook); ok {
		own.Foresee(levels)
		own.Apply(levels)
		return
	}
	for i := range levels {
		b.Set(levels[i].Side, levels[i].Px, levels[i].Qty)
	}
}

func booksContest(c *corpus, rust *worker) (*contest, error) {
	start, changes, err := integers(c)
	if err != nil {
		return nil, err
	}
	k := &contest{
		group: "book", corpus: c.name, messages: len(changes), levels: c.levels, want: c.wantBook, clock: cpuNs,
		what: "the levels of a message, as integers, into the book",
	}
	for _, p := range []struct {
		name, notes string
		make        func() rival
	}{
		{"deeptape", "`hotpath/book`: ladder of ticks", func() rival { return ladderBook{book.New(1)} }},
		{"sorted slice", "best last", func() rival { return &sliceBook{} }},
		{"tidwall/btree", "`Map`", func() rival { return &tidwallBook{} }},
		{"google/btree", "`BTreeG`, degree 32", func() rival { return newGoogleBook() }},
	} {
		books := make([]rival, len(c.insts))
		for i := range books {
			books[i] = p.make()
		}
		k.peers = append(k.peers, &peer{name: p.name, notes: p.notes,
			reset: func() error {
				for i := range books {
					books[i].Clear()
					applyTo(books[i], start[i])
				}
				return nil
			},
			work: func() error {
				for i := range changes {
					applyTo(books[changes[i].inst], changes[i].levels)
				}
				return nil
			},
			told: func() string { return told(c.insts, books) }})
	}
	k.peers = append(k.peers, rust.peer("barter-data (Rust)", "its `OrderBook`: Decimals, sorted, best first", "book", c))
	return k, nil
}
