package main

import (
	"encoding/json"
	"fmt"
	"slices"

	"deeptape/hotpath/book"
	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
	"deeptape/venues/feed"
	"deeptape/venues/registry"
)

// How many times as fast as these deeptape must be, from the frame to the book.
var atLeast = map[string]float64{"barter-data (Rust)": 5, "cryptofeed (Python)": 40}

func wholeContest(c *corpus, rust, python *worker) (*contest, error) {
	plain, err := newPlainRig(c)
	if err != nil {
		return nil, err
	}
	fed, err := newFeedRig(c)
	if err != nil {
		return nil, err
	}
	return &contest{
		group: "whole", corpus: c.name, messages: len(c.frames), levels: c.levels, want: c.wantBook, clock: cpuNs, atLeast: atLeast, gated: c.gated,
		what: "parse, check of the sequence, book",
		peers: []*peer{
			{name: "deeptape", notes: "`venues` decoder, chain of ids, `hotpath/book`", reset: plain.reset, work: plain.work, told: plain.told},
			{name: "deeptape, whole feed", notes: "`venues/feed`: the same, and the rows of book and top 10, coverage, counters", reset: fed.reset, work: fed.work, told: fed.told,
				counts: [2]int{len(fed.next), fed.levels}},
			rust.peer("barter-data (Rust)", "serde_json, its transformer and sequencer, its `OrderBook`", "whole", c),
			python.peer("cryptofeed (Python)", "its handler of messages with yapic.json, its check, its C book, a callback that does nothing", "whole", c),
		},
	}, nil
}

// plainRig is the machine's way of a book message without rows. Decoder and books are
// those of the pass before, as they are the agent's for days.
type plainRig struct {
	c     *corpus
	start [][]event.Level
	ids   []int64 // of the snapshots
	dec   venues.Decoder
	batch venues.Batch
	seq   []int64
	books []*book.Book
}

func newPlainRig(c *corpus) (*plainRig, error) {
	venue, err := registry.ByName("binance")
	if err != nil {
		return nil, err
	}
	p := &plainRig{c: c, dec: venue.NewDecoder(c.insts), seq: make([]int64, len(c.insts))}
	if p.start, _, err = integers(c); err != nil {
		return nil, err
	}
	for _, body := range c.bodies {
		var snap snapshotText
		if err := json.Unmarshal(body, &snap); err != nil {
			return nil, err
		}
		p.ids = append(p.ids, snap.LastUpdateID)
		p.books = append(p.books, book.New(1))
	}
	return p, nil
}

func (p *plainRig) reset() error {
	copy(p.seq, p.ids)
	for i, b := range p.books {
		b.Clear()
		b.Apply(p.start[i])
	}
	return nil
}

func (p *plainRig) work() error {
	for _, frame := range p.c.frames {
		if err := p.take(frame); err != nil {
			return err
		}
	}
	return nil
}

func (p *plainRig) told() string {
	var books []rival
	for _, b := range p.books {
		books = append(books, ladderBook{b})
	}
	return told(p.c.insts, books)
}

func (p *plainRig) take(frame []byte) error {
	if r := p.dec.Decode(frame, &p.batch); r != ledger.Accepted {
		return fmt.Errorf("cannot decode %q: %v", frame, r)
	}
	for i := range p.batch.Messages {
		m := &p.batch.Messages[i]
		b, levels := p.books[m.Inst], p.batch.Levels[m.Lo:m.Hi]
		b.Foresee(levels) // as the agent does
		seq := p.seq[m.Inst]
		if m.Seq <= seq {
			continue
		}
		if m.First > seq+1 {
			return fmt.Errorf("message %d does not follow %d", m.First, seq)
		}
		p.seq[m.Inst] = m.Seq
		b.Apply(levels)
	}
	return nil
}

// integers decodes a corpus: the levels of its snapshots, and its messages.
func integers(c *corpus) (start [][]event.Level, changes []change, err error) {
	venue, err := registry.ByName("binance")
	if err != nil {
		return nil, nil, err
	}
	d, b := venue.NewDecoder(c.insts), &venues.Batch{}
	for i, body := range c.bodies {
		if r := d.DecodeSnapshot(i, body, b); r != ledger.Accepted {
			return nil, nil, fmt.Errorf("cannot decode the snapshot of %s: %v", c.insts[i].Symbol, r)
		}
		start = append(start, slices.Clone(b.Levels))
	}
	for _, f := range c.frames {
		if r := d.Decode(f, b); r != ledger.Accepted || len(b.Messages) != 1 {
			return nil, nil, fmt.Errorf("cannot decode %q: %v", f, r)
		}
		changes = append(changes, change{b.Messages[0].Inst, slices.Clone(b.Levels)})
	}
	return start, changes, nil
}

// rows takes what a machine derives: into one place over and over, as a ring does, or,
// with keep, for good.
type rows struct {
	buf   [1 << 20]byte
	used  int
	last  []byte
	keep  bool
	kept  [][]byte
	count int
}

func (r *rows) Claim(n int) []byte {
	if n > len(r.buf)-r.used {
		r.used = 0
	}
	r.last = r.buf[r.used : r.used+n : r.used+n]
	r.used += n
	return r.last
}

func (r *rows) Commit() {
	r.count++
	if r.keep {
		r.kept = append(r.kept, slices.Clone(r.last))
	}
}

// feedRig is a machine and what it is stepped by. In each pass it gets a new connection,
// and each instrument its snapshot together with its first message; next, the messages
// after that, are what is measured.
type feedRig struct {
	c      *corpus
	rows   rows
	m      *feed.Machine
	pos    uint64
	now    int64
	first  [][]byte // by instrument
	next   [][]byte
	levels int // in next

	before int    // rows before a pass
	books  string // after the first round, from its rows
	count  int    // of the rows of a pass
}

func newFeedRig(c *corpus) (*feedRig, error) {
	f := &feedRig{c: c, now: 1_790_000_000_000_000_000, first: make([][]byte, len(c.insts))}
	_, changes, err := integers(c)
	if err != nil {
		return nil, err
	}
	for i, frame := range c.frames {
		if inst := changes[i].inst; f.first[inst] == nil {
			f.first[inst] = frame
		} else {
			f.next = append(f.next, frame)
			f.levels += len(changes[i].levels)
		}
	}
	f.m = feed.New(&f.rows, new(ledger.Frames), new(ledger.RowsDerived))
	cfg, err := json.Marshal(feed.Config{Version: feed.Version, Venue: "binance", TopLevels: 10, Quotes: true, Instruments: c.insts})
	if err != nil {
		return nil, err
	}
	return f, f.step(event.InputRun, 0, cfg)
}

func (f *feedRig) step(kind event.InputKind, aux int64, data []byte) error {
	f.pos++
	f.now += 100_000
	if kind == event.InputFrame { // as a session does
		f.m.Foresee(data)
	}
	return f.m.Step(&event.Input{InputHead: event.InputHead{Kind: kind, Pos: f.pos, Ts: f.now, Aux: aux}, Data: data})
}

// connect makes all books live.
func (f *feedRig) connect() error {
	requests := make([]uint32, len(f.first))
	var err error
	step := func(kind event.InputKind, aux int64, data []byte) {
		if err == nil {
			err = f.step(kind, aux, data)
		}
		for _, a := range f.m.Actions() {
			if a.Kind == feed.ActionFetch {
				requests[a.Inst] = a.Request
			}
		}
	}
	step(event.InputClose, 0, nil)
	step(event.InputConnect, 1, nil)
	step(event.InputFrame, 0, []byte(`{"result":null,"id":1}`))
	for inst, frame := range f.first {
		step(event.InputFrame, 0, frame)
		step(event.InputRest, event.RestAux(requests[inst], uint16(inst), 200), f.c.bodies[inst])
	}
	return err
}

func (f *feedRig) reset() error {
	f.rows.keep = f.books == ""
	err := f.connect()
	f.before = f.rows.count
	return err
}

func (f *feedRig) work() error {
	for _, frame := range f.next {
		if err := f.step(event.InputFrame, 0, frame); err != nil {
			return err
		}
	}
	return nil
}

func (f *feedRig) told() string {
	n := f.rows.count - f.before
	if f.books == "" {
		f.books, f.count = fromRows(f.c, f.rows.kept), n
		f.rows.kept = nil
	}
	if n != f.count {
		return fmt.Sprintf("%d rows, and %d are right", n, f.count)
	}
	return f.books
}

// fromRows makes the books that a reader of the rows would make.
func fromRows(c *corpus, records [][]byte) string {
	books := make([]rival, len(c.insts))
	for i := range books {
		books[i] = &sliceBook{}
	}
	for _, rec := range records {
		var h event.Head
		h.Get(rec)
		if h.Kind != event.RowBook {
			continue
		}
		if h.Flags&event.FlagSnapshot != 0 {
			books[h.Inst] = &sliceBook{}
		}
		n := event.Levels(rec)
		for i := range n {
			l := event.GetLevel(rec, n, i)
			books[h.Inst].Set(l.Side, l.Px, l.Qty)
		}
	}
	return told(c.insts, books)
}
