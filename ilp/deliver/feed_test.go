package deliver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/lane"
	"deeptape/hotpath/ring"
	"deeptape/ilp/line/linetest"
)

// expected is a row that must be in the database.
type expected struct {
	key     rowKey
	version int64 // of coverage: this one or a later one
	value   string
}

type testRecord struct {
	bytes []byte
	table event.Table
	rows  []expected
}

// testFeed is a feed of two instruments: its journal, its lane and its owner.
type testFeed struct {
	l      *lane.Lane
	inputs [][]testRecord // the journal: input pos is inputs[pos-1]
	inFile atomic.Uint64  // how far it can be read
}

const venueName = "sim"

// newTestFeed makes n inputs. Feeds differ in their symbols.
func newTestFeed(number uint16, rng *rand.Rand, n int, opt lane.Options, bell *ring.Doorbell) *testFeed {
	f := &testFeed{l: lane.New(number, opt, nil, bell)}
	base := uint32(number) * 2
	ts := int64(1_700_000_000_000_000_000)
	type interval struct{ ts, version int64 }
	var intervals [2]interval
	for pos := uint64(1); pos <= uint64(n); pos++ {
		var recs []testRecord
		head := func(kind event.RowKind, i int) event.Head {
			return event.Head{Kind: kind, Inst: base + uint32(i), Ts: ts, TsEvent: event.Null, Seq: int64(pos), SeqPrev: event.Null, Pos: pos, TsRecv: ts}
		}
		symbol := func(i int) string { return fmt.Sprintf("F%dS%d", number, i) }
		instrument := func(i int) {
			text, _ := json.Marshal(event.Instrument{Venue: venueName, Symbol: symbol(i), Tick: "0.01", Source: "test"})
			b := make([]byte, event.Align(event.HeadSize+len(text)))
			h := head(event.RowInst, i)
			h.N = uint16(len(text))
			h.Put(b, len(b))
			copy(b[event.HeadSize:], text)
			recs = append(recs, testRecord{b, event.TableInstruments, []expected{{key: rowKey{table: "instruments", symbol: symbol(i), ts: ts}}}})
			ts++
		}
		if pos == 1 {
			instrument(0)
			instrument(1)
		}
		for range rng.IntN(4) {
			i := rng.IntN(2)
			switch k := rng.IntN(20); {
			case k < 10:
				levels := rng.IntN(6)
				if rng.IntN(60) == 0 {
					levels = 100 + rng.IntN(200)
				}
				b := make([]byte, event.BookSize(levels))
				h := head(event.RowBook, i)
				h.N = event.BookN(levels)
				h.Put(b, len(b))
				r := testRecord{b, event.TableBookDelta, nil}
				for k := range levels {
					event.PutLevel(b, levels, k, event.Level{Px: ts + int64(k), Qty: int64(pos), Side: event.Bid})
					r.rows = append(r.rows, expected{rowKey{"book_delta", symbol(i), "", ts + int64(k)}, 0, fmt.Sprintf("px=%d qty=%d", ts+int64(k), pos)})
				}
				if levels == 0 {
					r.rows = []expected{{rowKey{"book_delta", symbol(i), "", ts}, 0, fmt.Sprintf("seq=%d", pos)}}
				}
				ts += int64(max(1, levels))
				recs = append(recs, r)
			case k < 13:
				b := make([]byte, event.TopSize(2, 1))
				h := head(event.RowTop, i)
				h.N, h.Extra = 2, 1
				h.Put(b, len(b))
				for k := range 3 {
					event.PutPair(b, k, 10, int64(pos))
				}
				recs = append(recs, testRecord{b, event.TableBookTop, []expected{{rowKey{"book_top", symbol(i), "", ts}, 0, fmt.Sprintf("seq=%d", pos)}}})
				ts++
			case k < 15:
				b := make([]byte, event.QuoteSize)
				h := head(event.RowQuote, i)
				h.Put(b, len(b))
				event.PutPair(b, 0, 10, 10)
				event.PutPair(b, 1, 11, 10)
				recs = append(recs, testRecord{b, event.TableQuotes, []expected{{rowKey{"quotes", symbol(i), "", ts}, 0, fmt.Sprintf("seq=%d", pos)}}})
				ts++
			case k < 16:
				b := make([]byte, event.DepthSize(2))
				h := head(event.RowDepth, i)
				h.N = 2
				h.Put(b, len(b))
				for k := range 3 {
					event.PutPair(b, k, 10, int64(pos))
				}
				recs = append(recs, testRecord{b, event.TableBookDepth, []expected{{rowKey{"book_depth", symbol(i), "", ts}, 0, fmt.Sprintf("seq=%d", pos)}}})
				ts++
			case k < 17:
				id := fmt.Sprint("t", ts)
				b := make([]byte, event.TradeSize(len(id)))
				h := head(event.RowTrade, i)
				h.N = uint16(len(id))
				h.Put(b, len(b))
				event.PutTrade(b, ts, int64(pos), event.Ask, []byte(id))
				recs = append(recs, testRecord{b, event.TableTrades, []expected{{rowKey{"trades", symbol(i), "", ts}, 0, fmt.Sprintf("px=%d qty=%d", ts, pos)}}})
				ts++
			case k < 19 || rng.IntN(20) > 0:
				iv := &intervals[i]
				if iv.ts == 0 || rng.IntN(10) == 0 {
					*iv = interval{ts: ts}
					ts++
				}
				iv.version++
				c := event.Coverage{Inst: base + uint32(i), Stream: event.StreamBook, State: event.StateVerified, Proof: event.ProofChain,
					Ts: iv.ts, TsEnd: ts, SeqFirst: event.Null, SeqLast: int64(pos), Messages: iv.version, Pos: pos, Detail: []byte("d")}
				b := make([]byte, event.CoverageSize(1))
				event.PutCoverage(b, &c)
				recs = append(recs, testRecord{b, event.TableCoverage, []expected{{key: rowKey{"coverage", symbol(i), "book", iv.ts}, version: iv.version}}})
			default:
				instrument(i)
			}
		}
		f.inputs = append(f.inputs, recs)
	}
	return f
}

// step gives one input its way: journal, then lane.
func (f *testFeed) step(pos uint64) {
	f.inFile.Store(pos)
	f.l.Begin(pos)
	rows := f.l.Rows.Feed()
	for _, r := range f.inputs[pos-1] {
		b := f.l.Claim(len(r.bytes))
		rows.Derive(r.table, len(r.rows), b == nil)
		if b != nil {
			copy(b, r.bytes)
			f.l.Commit()
		}
	}
	rows.Publish()
	f.l.End()
}

// run is the owner and, a little later each time, the journal writer.
func (f *testFeed) run(seed uint64, bell *ring.Doorbell, pause int) {
	rng := rand.New(rand.NewPCG(seed, uint64(f.l.Feed)))
	written := make(chan uint64, len(f.inputs))
	var writer sync.WaitGroup
	writer.Go(func() {
		for pos := range written {
			f.l.SetWritten(pos)
			bell.Ring()
		}
	})
	for pos := f.l.Derived() + 1; pos <= uint64(len(f.inputs)); pos++ {
		f.step(pos)
		written <- pos
		if rng.IntN(50) == 0 {
			time.Sleep(time.Duration(rng.IntN(1+pause)) * time.Microsecond)
		}
	}
	f.l.Close()
	close(written)
	writer.Wait()
}

// testSource reads the journal of a feed.
type testSource struct {
	f    *testFeed
	pos  uint64
	next int
	out  []byte
}

func (s *testSource) Next() ([]byte, uint16, error) {
	for i := range s.out {
		s.out[i] = 0xdb // borrowed until now
	}
	for s.pos == 0 || s.next == len(s.f.inputs[s.pos-1]) {
		if s.pos >= s.f.inFile.Load() {
			return nil, 0, io.EOF
		}
		s.pos, s.next = s.pos+1, 0
	}
	s.out = bytes.Clone(s.f.inputs[s.pos-1][s.next].bytes)
	s.next++
	return s.out, 0, nil
}

func (s *testSource) Complete(uint16) uint64 {
	if s.pos > 0 && s.next < len(s.f.inputs[s.pos-1]) {
		return s.pos - 1
	}
	return s.pos
}

func (s *testSource) Close() { s.f = nil }

func (f *testFeed) expected() (n int) {
	for _, recs := range f.inputs {
		for _, r := range recs {
			n += len(r.rows)
		}
	}
	return n
}

// missing says which row of an input is not in the database, or "". With bulk,
// coverage and instruments are not looked at. The database's lock is held.
func (f *testFeed) missing(db *fakeDB, pos uint64, bulk bool) string {
	for _, r := range f.inputs[pos-1] {
		if bulk && (r.table == event.TableCoverage || r.table == event.TableInstruments) {
			continue
		}
		for _, e := range r.rows {
			if db.poison[e.key] {
				continue
			}
			row, ok := db.rows[e.key]
			if !ok {
				return fmt.Sprintf("input %d: no row %+v", pos, e.key)
			}
			if e.key.table == "coverage" {
				if v, _ := row.Get("messages").(int64); v < e.version {
					return fmt.Sprintf("input %d: %+v is at version %d, want %d", pos, e.key, v, e.version)
				}
			} else if got := valueOf(&row); e.value != "" && got != e.value {
				return fmt.Sprintf("input %d: %+v holds %s, want %s", pos, e.key, got, e.value)
			}
		}
	}
	return ""
}

func valueOf(row *linetest.Row) string {
	if row.Get("px") != nil {
		return fmt.Sprintf("px=%d qty=%d", row.Get("px"), row.Get("qty"))
	}
	return fmt.Sprintf("seq=%d", row.Get("seq"))
}

// rig is feeds, a deliverer and a fake database.
type rig struct {
	t     *testing.T
	seed  uint64
	db    *fakeDB
	feeds []*testFeed
	bell  *ring.Doorbell
	d     *Deliverer
	log   *bytes.Buffer
	dir   string
}

type rigOptions struct {
	feeds, inputs int
	lane          lane.Options
	opt           Options // what is not set is set
}

var smallLane = lane.Options{InputBytes: 64, RowBytes: 8192, RowOwnedBytes: 16384}

func newRig(t *testing.T, seed uint64, ro rigOptions) *rig {
	t.Helper()
	r := &rig{t: t, seed: seed, db: newFakeDB(t, seed), bell: ring.NewDoorbell(), dir: filepath.Join(t.TempDir(), "quarantine")}
	rng := rand.New(rand.NewPCG(seed, 1))
	var lanes []*lane.Lane
	for i := range ro.feeds {
		f := newTestFeed(uint16(i), rng, ro.inputs, ro.lane, r.bell)
		r.feeds = append(r.feeds, f)
		lanes = append(lanes, f.l)
	}
	opt := ro.opt
	opt.DB, opt.Agent, opt.Quarantine = r.db.conf(), "test", r.dir
	opt.NowNs = func() int64 { return time.Now().UnixNano() }
	r.log = &bytes.Buffer{}
	opt.Log = slog.New(slog.NewTextHandler(&lockedWriter{w: r.log}, nil))
	if opt.FlushRows == 0 {
		opt.FlushRows, opt.FlushEvery, opt.Batches = 300, 5*time.Millisecond, 7
	}
	if opt.QuarantineMost == 0 {
		opt.QuarantineMost = 1 << 30
	}
	if opt.Prepare == nil {
		opt.Prepare = func(context.Context) error { return nil }
	}
	if opt.Derive == nil {
		opt.Derive = func(n uint16, _ uint64) (Source, error) { return &testSource{f: r.feeds[n]}, nil }
	}
	r.d = New(opt, r.bell, lanes)
	r.d.watchEvery, r.d.retryMin = 20*time.Millisecond, 2*time.Millisecond
	// What is told of an instant is told only when its rows are there.
	r.db.stored = func(k rowKey, row linetest.Row) {
		if k.table != "coverage" {
			return
		}
		for _, f := range r.feeds {
			if k.symbol[:2] == fmt.Sprintf("F%d", f.l.Feed) {
				f.check(t, r.db, uint64(row.Get("seq_last").(int64)), true, "told of by coverage")
			}
		}
	}
	return r
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (w *lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(b)
}

// check fails if a row of the inputs up to pos is not stored. The lock is held.
func (f *testFeed) check(t *testing.T, db *fakeDB, pos uint64, bulk bool, what string) {
	from := uint64(1)
	if bulk {
		from = pos - min(pos-1, 30) // all of them at every row would take too long
	}
	for p := from; p <= pos; p++ {
		if m := f.missing(db, p, bulk); m != "" {
			t.Errorf("feed %d: %s, and it is %s (up to input %d)", f.l.Feed, m, what, pos)
			return
		}
	}
}

// watchAcks looks all the time whether what is acknowledged is stored, and
// whether the ledger is balanced.
func (r *rig) watchAcks(stop chan struct{}) {
	seen := make([]uint64, len(r.feeds))
	for done := false; !done; {
		select {
		case <-stop:
			done = true
		case <-time.After(200 * time.Microsecond):
		}
		for i, f := range r.feeds {
			acked := f.l.Acked()
			r.db.mu.Lock()
			for ; seen[i] < acked; seen[i]++ {
				if m := f.missing(r.db, seen[i]+1, false); m != "" {
					r.t.Errorf("seed %d: feed %d is acknowledged up to input %d: %s", r.seed, i, acked, m)
					seen[i] = acked
					break
				}
			}
			r.db.mu.Unlock()
			for table, c := range f.l.Rows.Read() {
				if d := c.Difference(); d != 0 {
					r.t.Errorf("seed %d: feed %d, %s: ledger difference %d: %+v", r.seed, i, event.Table(table).String(), d, c)
					return
				}
			}
		}
	}
}

// checkAll: every row is stored, and nothing else, and the ledger says so.
func (r *rig) checkAll() {
	r.t.Helper()
	r.db.mu.Lock()
	defer r.db.mu.Unlock()
	keys := map[rowKey]bool{}
	for i, f := range r.feeds {
		want := [event.NumTables]uint64{}
		for pos := range f.inputs {
			if m := f.missing(r.db, uint64(pos)+1, false); m != "" {
				r.t.Fatalf("seed %d: feed %d, at the end: %s", r.seed, i, m)
			}
			for _, rec := range f.inputs[pos] {
				want[rec.table] += uint64(len(rec.rows))
				for _, e := range rec.rows {
					keys[e.key] = true
				}
			}
		}
		if f.l.Acked() < uint64(len(f.inputs)) {
			r.t.Errorf("seed %d: feed %d: %d of %d inputs acknowledged", r.seed, i, f.l.Acked(), len(f.inputs))
		}
		for table, c := range f.l.Rows.Read() {
			if c.Derived != want[table] || c.Acked+c.Quarantined != want[table] || c.InRing != 0 || c.Batched != 0 || c.Deferred != 0 || c.Difference() != 0 {
				r.t.Errorf("seed %d: feed %d, %s: %d rows, and the ledger says %+v", r.seed, i, event.Table(table).String(), want[table], c)
			}
		}
	}
	for k := range r.db.rows {
		if !keys[k] && k.table != "capture_stats" {
			r.t.Fatalf("seed %d: a row that nobody derived: %+v", r.seed, k)
		}
	}
	if n := r.d.Stats.InFlightRows.Load(); n != 0 {
		r.t.Errorf("seed %d: %d rows in flight at the end", r.seed, n)
	}
}
