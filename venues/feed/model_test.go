package feed

import (
	"fmt"
	"math/big"
	"slices"
	"strconv"

	"deeptape/hotpath/book/booktest"
	"deeptape/hotpath/event"
)

// model reads the rows as a user of the database would, slowly, and knows nothing
// of how they came about. It holds that
//   - ts grows strictly per instrument over book, trades and quotes, level i of a
//     message stands at ts + i, and no row is older than the input that made it;
//   - a book is one scale from snapshot to snapshot;
//   - book_top is the top of the book that the rows give, at the message's last
//     row, and there wherever that top has changed;
//   - the intervals of a stream follow each other without hole or overlap;
//   - at the end: no row stands in a gap, every gap of a book starts with a row of
//     nulls, an interval counts its messages and ends with the last of them, and
//     the trades of a verified interval are numbered without a hole.
type model struct {
	base  uint32
	top   int
	insts []*modelInst
	rows  [event.NumTables]uint64

	// truth judges each book message of an instrument: the book after it, at which id.
	truth func(i int, seq int64, b *modelInst) error

	depth     int   // to which the venue cuts its books, 0 for not at all
	bands     []int // of book_depth
	anyTrades bool  // ids of trades leave out numbers, or are none
}

type modelInst struct {
	book              *booktest.Book
	haveBook          bool
	pxScale, qtyScale int8
	lastTs            int64
	lastTop           string
	wantTop           bool // the book has changed its top and the row must follow
	touched           bool // by the last input
	flags             uint8

	messages [event.NumStreams][]modelMessage
	nulls    []int64 // rows of nulls in book_top
	tops     []int64 // and the others
	cover    [event.NumStreams]map[int64]event.Coverage
}

type modelMessage struct {
	first, last int64 // ts
	seq, prev   int64
	flags       uint8
}

func newModel(insts, top int) *model {
	m := &model{top: top}
	for range insts {
		m.insts = append(m.insts, newModelInst())
	}
	return m
}

func newModelInst() *modelInst {
	in := &modelInst{book: booktest.New(1)}
	for s := range in.cover {
		in.cover[s] = map[int64]event.Coverage{}
	}
	return in
}

// newRun: the instruments go on where a resumed run goes on.
func (m *model) newRun(base uint32, insts int, resumed bool) {
	m.base = base
	for i := range insts {
		if resumed {
			m.insts[i].haveBook = false
		} else {
			m.insts[i] = newModelInst()
		}
	}
}

func (m *model) take(records [][]byte, pos uint64, now int64) error {
	for _, in := range m.insts {
		in.touched = false
	}
	for _, rec := range records {
		var h event.Head
		if size := h.Get(rec); size != len(rec) || h.Kind != event.RowBook && size%8 != 0 {
			return fmt.Errorf("a record of %d bytes says %d", len(rec), size)
		}
		if h.Inst < m.base || int(h.Inst-m.base) >= len(m.insts) || h.Pos != pos || h.TsRecv != now {
			return fmt.Errorf("record %+v, want input %d at %d", h, pos, now)
		}
		m.insts[h.Inst-m.base].touched = true
		if err := m.row(m.insts[h.Inst-m.base], int(h.Inst-m.base), h, rec, now); err != nil {
			return fmt.Errorf("%+v: %w", h, err)
		}
	}
	for i, in := range m.insts {
		if in.wantTop {
			return fmt.Errorf("the top of book %d has changed and no row says so", i)
		}
		if !in.touched {
			continue
		}
		for s := range in.cover {
			if err := contiguous(m.merged(i, event.Stream(s), nil)); err != nil {
				return fmt.Errorf("instrument %d: %w", i, err)
			}
		}
	}
	return nil
}

// later takes the ts of one row of a stream.
func (in *modelInst) later(s event.Stream, h event.Head, rows int, now int64) error {
	if h.Ts <= in.lastTs {
		return fmt.Errorf("ts %d is not after %d", h.Ts, in.lastTs)
	}
	in.lastTs = h.Ts + int64(rows) - 1
	in.messages[s] = append(in.messages[s], modelMessage{h.Ts, in.lastTs, h.Seq, h.SeqPrev, h.Flags})
	return nil
}

func (m *model) row(in *modelInst, i int, h event.Head, rec []byte, now int64) error {
	if in.wantTop && h.Kind != event.RowTop {
		return fmt.Errorf("the top has changed and its row does not follow")
	}
	switch h.Kind {
	case event.RowBook:
		n := event.Levels(rec)
		rows := max(1, n)
		m.rows[event.TableBookDelta] += uint64(rows)
		if err := in.later(event.StreamBook, h, rows, now); err != nil {
			return err
		}
		snapshot := h.Flags&event.FlagSnapshot != 0
		if h.Flags&event.FlagKeyframe != 0 {
			if !snapshot || !in.haveBook {
				return fmt.Errorf("a keyframe without a book")
			}
			return in.keyframe(h, rec, n, m.top)
		}
		if snapshot {
			in.book.Clear()
			in.haveBook, in.pxScale, in.qtyScale = true, h.PxScale, h.QtyScale
		}
		if !in.haveBook || h.PxScale != in.pxScale || h.QtyScale != in.qtyScale {
			return fmt.Errorf("a delta without a book, or at another scale than %d %d", in.pxScale, in.qtyScale)
		}
		for k := range n {
			l := event.GetLevel(rec, n, k)
			in.book.Set(l.Side, l.Px, l.Qty)
		}
		if m.depth > 0 {
			in.book.Truncate(m.depth)
		}
		in.wantTop = in.topText(m.top) != in.lastTop || snapshot
		in.flags = h.Flags
		if m.truth != nil {
			return m.truth(i, h.Seq, in)
		}
	case event.RowTop:
		m.rows[event.TableBookTop]++
		if h.N == 0 && h.Extra == 0 && !in.wantTop {
			in.nulls = append(in.nulls, h.Ts)
			in.lastTop, in.haveBook = "", false
			return nil
		}
		last := in.messages[event.StreamBook][len(in.messages[event.StreamBook])-1]
		if !in.wantTop || h.Ts != last.last || h.Seq != last.seq {
			return fmt.Errorf("a top that nothing asks for; the last message was %+v", last)
		}
		in.wantTop = false
		in.tops = append(in.tops, h.Ts)
		in.lastTop = in.topText(m.top)
		if got := recordTop(h, rec); got != in.lastTop || h.PxScale != in.pxScale || h.QtyScale != in.qtyScale {
			return fmt.Errorf("top %s, want %s", got, in.lastTop)
		}
	case event.RowTrade:
		m.rows[event.TableTrades]++
		var id int64
		_, _, _, text := event.GetTrade(rec, h.N)
		fmt.Sscan(string(text), &id)
		h.Seq = id
		return in.later(event.StreamTrades, h, 1, now)
	case event.RowQuote:
		m.rows[event.TableQuotes]++
		if h.Flags != event.FlagUnverified {
			return fmt.Errorf("a quote has no proof")
		}
		return in.later(event.StreamQuotes, h, 1, now)
	case event.RowCoverage:
		m.rows[event.TableCoverage]++
		c := event.GetCoverage(rec)
		if c.Ts > c.TsEnd || c.Ts <= 0 {
			return fmt.Errorf("interval %+v is empty", c)
		}
		in.cover[c.Stream][c.Ts] = c
		if c.State == event.StateGap { // its row of nulls may share its instant, no other may
			in.lastTs = max(in.lastTs, c.Ts)
		}
	case event.RowInst:
		m.rows[event.TableInstruments]++
		inst, err := event.InstrumentOf(rec)
		if err != nil || inst.PxScale != h.PxScale || inst.QtyScale != h.QtyScale {
			return fmt.Errorf("%v: %+v", err, inst)
		}
	case event.RowDepth:
		m.rows[event.TableBookDepth]++
		return m.bandsOf(in, h, rec)
	default:
		return fmt.Errorf("kind %d", h.Kind)
	}
	return nil
}

// bandsOf adds up what lies near the touch, in the long way.
func (m *model) bandsOf(in *modelInst, h event.Head, rec []byte) error {
	last := in.messages[event.StreamBook][len(in.messages[event.StreamBook])-1]
	if !in.haveBook || h.Ts != last.last || h.Seq != last.seq || int(h.N) != len(m.bands) {
		return fmt.Errorf("a depth at %d, id %d; the last message was %+v", h.Ts, h.Seq, last)
	}
	for side := event.Bid; side <= event.Ask; side++ {
		levels := in.book.Levels(side)
		want := []int64{event.Null}
		if len(levels) > 0 {
			want[0] = levels[0].Px
		}
		for _, bps := range m.bands {
			sum := new(big.Int)
			for _, l := range levels {
				d := new(big.Int).Sub(big.NewInt(l.Px), big.NewInt(levels[0].Px))
				if d.Abs(d).Mul(d, big.NewInt(10_000)).Cmp(new(big.Int).Mul(big.NewInt(levels[0].Px), big.NewInt(int64(bps)))) <= 0 {
					sum.Add(sum, big.NewInt(l.Qty))
				}
			}
			if n := int64(event.Null); sum.IsInt64() {
				n = sum.Int64()
				want = append(want, n)
			} else {
				want = append(want, n)
			}
		}
		for k, w := range want {
			bid, ask := event.GetPair(rec, k)
			if got := []int64{bid, ask}[side-event.Bid]; got != w {
				return fmt.Errorf("depth %d of side %d is %d, want %d", k, side, got, w)
			}
		}
	}
	return nil
}

// keyframe must be the book that there is already, at a scale that is no coarser.
func (in *modelInst) keyframe(h event.Head, rec []byte, n, top int) error {
	if h.PxScale < in.pxScale || h.QtyScale < in.qtyScale {
		return fmt.Errorf("a keyframe at scales %d %d, the book has %d %d", h.PxScale, h.QtyScale, in.pxScale, in.qtyScale)
	}
	if !in.book.Rescale(h.PxScale-in.pxScale, h.QtyScale-in.qtyScale) {
		return fmt.Errorf("a keyframe at a scale that does not hold the book")
	}
	in.pxScale, in.qtyScale = h.PxScale, h.QtyScale
	got := booktest.New(1)
	for k := range n {
		l := event.GetLevel(rec, n, k)
		if l.Qty <= 0 || !got.Set(l.Side, l.Px, l.Qty) {
			return fmt.Errorf("a keyframe with level %+v", l)
		}
	}
	if bookText(got, -1) != bookText(in.book, -1) {
		return fmt.Errorf("a keyframe of %s, the book is %s", bookText(got, -1), bookText(in.book, -1))
	}
	prev := in.messages[event.StreamBook]
	if prev[len(prev)-2].seq != h.Seq {
		return fmt.Errorf("a keyframe at id %d, the book is at %d", h.Seq, prev[len(prev)-2].seq)
	}
	in.lastTop = in.topText(top) // the same levels
	return nil
}

// bookText is a book as text, its first n levels or all.
func bookText(b *booktest.Book, n int) string {
	var text []byte
	for _, side := range []event.Side{event.Bid, event.Ask} {
		levels := b.Levels(side)
		if n >= 0 && len(levels) > n {
			levels = levels[:n]
		}
		text = levelsText(text, levels)
	}
	return string(text)
}

func levelsText(text []byte, levels []booktest.Level) []byte {
	for _, l := range levels {
		text = strconv.AppendInt(append(text, ' '), l.Px, 10)
		text = strconv.AppendInt(append(text, '='), l.Qty, 10)
	}
	return append(text, ';')
}

func (in *modelInst) topText(n int) string { return bookText(in.book, n) }

func recordTop(h event.Head, rec []byte) string {
	var sides [2][]booktest.Level
	for k := range int(h.N) + int(h.Extra) {
		px, qty := event.GetPair(rec, k)
		side := 0
		if k >= int(h.N) {
			side = 1
		}
		sides[side] = append(sides[side], booktest.Level{Px: px, Qty: qty})
	}
	return string(levelsText(levelsText(nil, sides[0]), sides[1]))
}

// checkBooks: a live book of the machine is the one that its rows give.
func (m *model) checkBooks(machine *Machine) error {
	for i := range machine.insts {
		mi, in := &machine.insts[i], m.insts[i]
		if mi.state == bookLive && !in.touched {
			continue
		}
		if err := mi.book.Check(); err != nil {
			return err
		}
		if mi.state != bookLive {
			if mi.book.Len(event.Bid)+mi.book.Len(event.Ask) > 0 {
				return fmt.Errorf("book %d is %s and not empty", i, bookStateNames[mi.state])
			}
			continue
		}
		rows := booktest.New(1)
		rows.Bids, rows.Asks = in.book.Bids, in.book.Asks
		if !rows.Rescale(mi.PxScale-in.pxScale, mi.QtyScale-in.qtyScale) {
			return fmt.Errorf("book %d does not fit its scale", i)
		}
		var ours []byte
		for _, side := range []event.Side{event.Bid, event.Ask} {
			var levels []booktest.Level
			for _, l := range mi.book.AppendLevels(nil, side) {
				levels = append(levels, booktest.Level(l))
			}
			ours = levelsText(ours, levels)
		}
		if !in.haveBook || string(ours) != bookText(rows, -1) {
			return fmt.Errorf("book %d is %s, its rows give %s", i, ours, bookText(rows, -1))
		}
		iv := mi.streams[event.StreamBook]
		if iv.state == event.StateGap {
			return fmt.Errorf("book %d is live in a gap", i)
		}
	}
	return nil
}

// merged is the coverage of a stream, in order: what was written, and what has
// still to be.
func (m *model) merged(i int, s event.Stream, unwritten []Interval) []event.Coverage {
	all := map[int64]event.Coverage{}
	for ts, c := range m.insts[i].cover[s] {
		all[ts] = c
	}
	for _, u := range unwritten {
		if u.Stream == s {
			all[u.Ts] = event.Coverage{Stream: s, State: u.State, Proof: u.Proof, Cause: u.Cause, Ts: u.Ts, TsEnd: u.End, SeqFirst: u.SeqFirst, SeqLast: u.SeqLast, Messages: u.Messages}
		}
	}
	var list []event.Coverage
	for _, c := range all {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b event.Coverage) int {
		if a.Ts < b.Ts {
			return -1
		}
		return 1
	})
	return list
}

func contiguous(list []event.Coverage) error {
	for k, c := range list {
		if k > 0 && c.Ts != list[k-1].TsEnd+1 {
			return fmt.Errorf("%s: an interval ends at %d and the next starts at %d", c.Stream, list[k-1].TsEnd, c.Ts)
		}
		if c.Ts > c.TsEnd {
			return fmt.Errorf("%s: interval %d..%d is empty", c.Stream, c.Ts, c.TsEnd)
		}
		if (c.State == event.StateVerified) != (c.Proof != event.ProofNone) || (c.State == event.StateVerified) && c.Cause != event.CauseNone || c.State == event.StateGap && c.Cause == event.CauseNone {
			return fmt.Errorf("%s: %s with proof %s and cause %q", c.Stream, c.State, c.Proof, c.Cause)
		}
	}
	return nil
}

// checkEnd holds once every interval has been written.
func (m *model) checkEnd() error {
	for i, in := range m.insts {
		for s := range event.NumStreams {
			list := m.merged(i, s, nil)
			next := 0
			messages := in.messages[s]
			for k, c := range list {
				n, lastSeq := int64(0), int64(event.Null)
				last := int64(0)
				for next < len(messages) && messages[next].first <= c.TsEnd {
					msg := messages[next]
					if msg.first < c.Ts || msg.last > c.TsEnd {
						return fmt.Errorf("instrument %d: a message of %s at %d..%d is not inside its interval %+v", i, s, msg.first, msg.last, c)
					}
					if c.State == event.StateGap {
						return fmt.Errorf("instrument %d: a row of %s at %d stands in a gap", i, s, msg.first)
					}
					if (msg.flags&event.FlagUnverified != 0) != (c.State == event.StateUnverified) {
						return fmt.Errorf("instrument %d: a row of %s at %d has flags %d in %+v", i, s, msg.first, msg.flags, c)
					}
					if s == event.StreamTrades && !m.anyTrades && lastSeq != event.Null && msg.seq != lastSeq+1 {
						return fmt.Errorf("instrument %d: trades %d and %d stand in one verified interval", i, lastSeq, msg.seq)
					}
					if s == event.StreamBook && n > 0 && msg.flags == 0 && msg.prev > lastSeq {
						return fmt.Errorf("instrument %d: id %d follows on %d, not on %d", i, msg.seq, msg.prev, lastSeq)
					}
					lastSeq, last = msg.seq, msg.last
					next++
					n++
				}
				if n != c.Messages {
					return fmt.Errorf("instrument %d: %d messages of %s in %+v", i, n, s, c)
				}
				if n > 0 && c.SeqLast != lastSeq && (s != event.StreamTrades || !m.anyTrades) {
					return fmt.Errorf("instrument %d: the last of %s is %d, not as in %+v", i, s, lastSeq, c)
				}
				// Where doubt follows, the last message is the last proven instant.
				if n > 0 && k+1 < len(list) && list[k+1].State != event.StateVerified && last != c.TsEnd {
					return fmt.Errorf("instrument %d: the last of %s is at %d, not as in %+v", i, s, last, c)
				}
				if s == event.StreamBook && c.State == event.StateGap {
					if !slices.Contains(in.nulls, c.Ts) {
						return fmt.Errorf("instrument %d: no row of nulls where the gap %+v starts", i, c)
					}
					for _, ts := range in.tops {
						if ts >= c.Ts && ts <= c.TsEnd {
							return fmt.Errorf("instrument %d: a top at %d in the gap %+v", i, ts, c)
						}
					}
				}
			}
			if next != len(messages) {
				return fmt.Errorf("instrument %d: %d rows of %s in no interval", i, len(messages)-next, s)
			}
		}
	}
	return nil
}
