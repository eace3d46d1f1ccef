package deliver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"deeptape/hotpath/event"
	"deeptape/hotpath/lane"
	"deeptape/hotpath/ring"
	"deeptape/ilp/line"
)

// Intervals cannot grow without bound either, while a flush is under way.
func TestCoverageBounded(t *testing.T) {
	bell := ring.NewDoorbell()
	l := lane.New(0, lane.Options{InputBytes: 64, RowBytes: 8 << 20}, nil, bell)
	d := New(Options{NowNs: func() int64 { return time.Now().UnixNano() }, Agent: "test"}, bell, []*lane.Lane{l})
	inst, err := line.NewInst(venueName, "S")
	if err != nil {
		t.Fatal(err)
	}
	d.lanes[0].dir.put(0, inst)
	const n = 3 * maxPending
	for pos := uint64(1); pos <= n; pos++ {
		l.Begin(pos)
		b := l.Claim(event.CoverageSize(0))
		l.Rows.Feed().Derive(event.TableCoverage, 1, b == nil)
		l.Rows.Feed().Publish()
		if b != nil {
			event.PutCoverage(b, &event.Coverage{Ts: int64(pos), TsEnd: int64(pos), Pos: pos, SeqFirst: event.Null, SeqLast: event.Null})
			l.Commit()
		}
		l.End()
	}
	l.SetWritten(n)
	for range 10_000 {
		if _, err := d.step(); err != nil {
			t.Fatal(err)
		}
	}
	if d.slow.sent == nil || len(d.slow.order) > maxPending || l.Empty() {
		t.Fatalf("%d intervals pending, lane empty: %v", len(d.slow.order), l.Empty())
	}
	// Answered, it goes on to the end.
	for i := 0; !l.Empty() || !d.slow.idle() || l.Acked() < n; i++ {
		if i > 1_000_000 {
			t.Fatalf("stuck with %d pending", len(d.slow.order))
		}
		if p, ok := d.slow.work.Take(); ok {
			d.slow.done.Put(p)
		}
		d.slow.nextNs = 0
		if _, err := d.step(); err != nil {
			t.Fatal(err)
		}
	}
	c := l.Rows.Read()[event.TableCoverage]
	if c.Acked != n || c.Difference() != 0 {
		t.Errorf("%+v, acknowledged up to %d", c, l.Acked())
	}
}

// The states of an interval come faster than rows are stored; it is sent all the
// same, never a state whose rows are missing, and the records are all accounted for.
func TestCoverageStates(t *testing.T) {
	ls := &laneState{}
	p := &pendingCoverage{lane: ls}
	add := func(pos uint64) {
		p.settle()
		came := state{c: event.Coverage{Pos: pos}, low: pos, records: 1}
		if p.next.records == 0 {
			p.next.take(&came)
		} else {
			p.last.take(&came)
		}
	}
	for pos := uint64(1); pos <= 10; pos++ {
		add(pos)
	}
	ls.stored = 1
	p.settle()
	if p.ready.c.Pos != 1 || p.ready.records != 1 || p.next.c.Pos != 10 || p.next.records != 9 || p.next.low != 2 || p.last.records != 0 {
		t.Errorf("after 1: %+v", p)
	}
	add(11)
	ls.stored = 10
	add(12)
	if p.ready.c.Pos != 10 || p.ready.records != 10 || p.ready.low != 1 || p.next.c.Pos != 11 || p.last.c.Pos != 12 {
		t.Errorf("after 10: %+v", p)
	}
	ls.stored = 12
	p.settle()
	if p.ready.c.Pos != 12 || p.ready.records != 12 || p.next.records != 0 || p.last.records != 0 {
		t.Errorf("after 12: %+v", p)
	}
}

// An instrument whose tick is no number is refused by the client: counted, kept,
// told, and no hindrance.
func TestRefusedInstrument(t *testing.T) {
	r := newRig(t, 12, rigOptions{feeds: 1, inputs: 50, lane: smallLane})
	f := r.feeds[0]
	rec := f.inputs[0][0]
	inst, err := event.InstrumentOf(rec.bytes)
	if err != nil {
		t.Fatal(err)
	}
	bad := strings.Replace(string(rec.bytes), `"tick":"0.01"`, `"tick":"a.bc"`, 1)
	f.inputs[0][0].bytes = []byte(bad)
	r.db.poison[rec.rows[0].key] = true // not expected in the database
	r.run(0, false)
	c := f.l.Rows.Read()[event.TableInstruments]
	if c.Quarantined != 1 || r.d.Stats.Quarantined.Load() != 1 {
		t.Errorf("%+v", c)
	}
	text, err := os.ReadFile(filepath.Join(r.dir, "instruments.ilp"))
	if err != nil || !strings.Contains(string(text), inst.Symbol) || !strings.Contains(string(text), "a.bc") {
		t.Errorf("quarantine: %s, %v", text, err)
	}
	if !strings.Contains(r.log.String(), "QuestDB refused a row") {
		t.Errorf("log: %s", r.log)
	}
}
