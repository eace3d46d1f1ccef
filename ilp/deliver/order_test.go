package deliver

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/lane"
	"deeptape/hotpath/ring"
	"deeptape/ilp/line"
	"deeptape/ilp/line/linetest"
)

// stepped is a deliverer that nobody runs: the test steps it, and is its clock, its
// owners, its journal and its QuestDB.
type stepped struct {
	t     *testing.T
	d     *Deliverer
	lanes []*lane.Lane
	now   int64
	pos   []uint64
}

func newStepped(t *testing.T, lanes, flushRows int) *stepped {
	s := &stepped{t: t, now: 1_700_000_000_000_000_000, pos: make([]uint64, lanes)}
	bell := ring.NewDoorbell()
	for i := range lanes {
		s.lanes = append(s.lanes, lane.New(uint16(i), lane.Options{InputBytes: 64, RowBytes: 1 << 20}, nil, bell))
	}
	s.d = New(Options{NowNs: func() int64 { return s.now }, Agent: "test", FlushRows: flushRows, FlushEvery: 200 * time.Millisecond, Batches: 100}, bell, s.lanes)
	for i, ls := range s.d.lanes {
		inst, err := line.NewInst("sim", "S"+strconv.Itoa(i))
		if err != nil {
			t.Fatal(err)
		}
		ls.dir.put(0, inst)
	}
	return s
}

// put is what an owner does with a message of so many levels.
func (s *stepped) put(lane int, recvNs int64, levels int) {
	l := s.lanes[lane]
	s.pos[lane]++
	l.Begin(s.pos[lane])
	b := l.Claim(event.BookSize(levels))
	if b == nil {
		s.t.Fatal("the ring is full")
	}
	h := event.Head{Kind: event.RowBook, N: event.BookN(levels), Ts: recvNs, TsRecv: recvNs, TsEvent: event.Null, Seq: event.Null, SeqPrev: event.Null, Pos: s.pos[lane]}
	h.Put(b, len(b))
	for i := range levels {
		event.PutLevel(b, levels, i, event.Level{Px: 1, Qty: 1, Side: event.Bid})
	}
	l.Commit()
	l.End()
}

// written brings what the owner of a lane has put to the journal.
func (s *stepped) written(lane int) { s.lanes[lane].SetWritten(s.pos[lane]) }

func (s *stepped) step() {
	s.t.Helper()
	if _, err := s.d.step(); err != nil {
		s.t.Fatal(err)
	}
}

// encoded is how many rows have been encoded so far.
func (s *stepped) encoded() int64 { return s.d.Stats.InFlightRows.Load() }

// sent takes the batches that went out: the times of their rows.
func (s *stepped) sent() (all [][]int64) {
	for {
		b, ok := s.d.work.Take()
		if !ok {
			return all
		}
		var times []int64
		for row := range bytes.Lines(b.body) {
			ns, err := strconv.ParseInt(string(bytes.TrimSpace(row[bytes.LastIndexByte(row, ' '):])), 10, 64)
			if err != nil {
				s.t.Fatal(err)
			}
			times = append(times, ns)
		}
		all = append(all, times)
		s.d.finished.Put(b)
	}
}

const ms = int64(time.Millisecond)

func (s *stepped) wantEncoded(what string, want int64) {
	s.t.Helper()
	s.step()
	if got := s.encoded(); got != want {
		s.t.Errorf("%s: %d rows encoded, want %d", what, got, want)
	}
}

// A row waits until it has no elder on the way, and until its elders in other rings are
// in the journal; but not for ever, and not for the clock of another machine.
func TestEldersFirst(t *testing.T) {
	s := newStepped(t, 3, 1000)
	s.put(0, s.now-ms, 1)
	s.written(0)
	s.wantEncoded("too young", 0)
	if s.d.heldNs != s.now-ms+holdNs {
		t.Errorf("held until %d, want %d", s.d.heldNs, s.now-ms+holdNs)
	}
	s.now += holdNs
	s.wantEncoded("old enough", 1)

	s.put(1, s.now-ms, 1) // received first, and not yet in the journal
	s.put(0, s.now, 1)
	s.written(0)
	s.now += 2 * holdNs
	s.wantEncoded("behind an elder that is not written", 1)
	if s.d.heldNs != 0 {
		t.Error("it waits for a time where it waits for the journal")
	}
	s.written(1)
	s.wantEncoded("with the elder written", 3)

	s.put(1, s.now, 1) // a journal that takes nothing
	s.put(0, s.now+ms, 1)
	s.written(0)
	s.now += journalNs - ms
	s.wantEncoded("behind an elder that is not written for long", 3)
	s.now += ms
	s.wantEncoded("no longer", 4)
	s.written(1)
	s.wantEncoded("at last", 5)

	s.put(2, s.now+int64(time.Hour), 1)
	s.written(2)
	s.wantEncoded("of the future", 6)
}

// Whatever comes in which ring, batches of live rows do not overlap, hold no more than twice
// the size that is asked for, and none is lost.
func TestBatchesInOrder(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 5))
	const lanes, flushRows = 4, 150
	s := newStepped(t, lanes, flushRows)
	var all [][]int64
	put := 0
	for range 40_000 {
		switch rng.IntN(8) {
		case 0:
			s.now += rng.Int64N(2 * ms)
		case 1:
			s.now += rng.Int64N(1000)
		case 2:
			s.written(rng.IntN(lanes))
		case 3: // now and then, so that each ring has much
			if rng.IntN(64) > 0 {
				continue
			}
			s.step()
			all = append(all, s.sent()...)
		default: // one read of a socket: messages with one time, of several symbols
			if rng.IntN(3) > 0 {
				s.now += rng.Int64N(100) // so that its rows may reach into the next one's
			}
			for lane, n := rng.IntN(lanes), 1+rng.IntN(4); n > 0; n-- {
				levels := 1 + rng.IntN(5)
				s.put(lane, s.now, levels)
				put += levels
			}
		}
	}
	for i := range lanes {
		s.written(i)
	}
	for range 1000 {
		s.now += ms
		s.step()
		all = append(all, s.sent()...)
	}
	rows, end, small := 0, int64(0), 0
	for i, b := range all {
		rows += len(b)
		if first := slices.Min(b); first <= end {
			t.Fatalf("batch %d begins %d ns before the end of the one before", i, end-first)
		}
		end = slices.Max(b)
		if len(b) > 2*flushRows+5 {
			t.Errorf("batch %d has %d rows", i, len(b))
		}
		if len(b) < flushRows {
			small++
		}
	}
	t.Logf("%d batches of %d rows on average", len(all), rows/len(all))
	if rows != put || small > len(all)/4 {
		t.Errorf("%d rows of %d in %d batches, %d of them before they were full", rows, put, len(all), small)
	}
}

// Batches of a table are stored in order, whatever the database takes for each and over
// whichever connection it comes.
func TestStoredInOrder(t *testing.T) {
	r := newRig(t, 12, rigOptions{feeds: 1, inputs: 3000, lane: lane.Options{InputBytes: 64, RowBytes: 8 << 20}})
	last := map[string]int64{}
	passed := 0
	r.db.read = func() { time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond) }
	r.db.stored = func(k rowKey, _ linetest.Row) {
		if k.stream != "" || k.table == "instruments" || k.table == "capture_stats" { // not the posters'
			return
		}
		if k.ts < last[k.table] {
			passed++
		}
		last[k.table] = max(last[k.table], k.ts)
	}
	r.run(0, false)
	if passed > 0 || r.db.posts < 100 {
		t.Errorf("%d rows were stored after younger ones, in %d batches", passed, r.db.posts)
	}
}

// What no batch is full of waits for more; but the rest of a burst, behind a full batch,
// only until the burst is over, and no row later than others.
func TestRestOfABurst(t *testing.T) {
	const flushRows = 100
	s := newStepped(t, 1, flushRows)
	burst := func(rows int) {
		for range rows / 10 {
			s.put(0, s.now, 10)
			s.now += 100_000
		}
		s.written(0)
		s.now += holdNs
		s.step()
	}
	// after is how long it takes until a batch of so many rows goes.
	after := func(rows int) int64 {
		t.Helper()
		for from := s.now; ; s.now += ms {
			s.step()
			if sent := s.sent(); len(sent) > 0 {
				if len(sent) != 1 || len(sent[0]) != rows {
					t.Fatalf("%d batches, the first of %d rows; want one of %d", len(sent), len(sent[0]), rows)
				}
				return (s.now - from) / ms
			}
			if s.now-from > 500*ms {
				t.Fatal("nothing goes")
			}
		}
	}
	want := func(what string, got, most, least int64) {
		t.Helper()
		if got > most || got < least {
			t.Errorf("%s goes after %d ms, want %d to %d", what, got, least, most)
		}
	}
	burst(50)
	want("what is no burst", after(50), 200, 199)
	burst(150)
	if sent := s.sent(); len(sent) != 1 || len(sent[0]) != flushRows {
		t.Fatalf("a burst made %d batches", len(sent))
	}
	want("the rest of a burst", after(50), burstNs/ms, burstNs/ms-1)
	burst(50)
	want("what comes after it", after(50), 200, 199)
}
