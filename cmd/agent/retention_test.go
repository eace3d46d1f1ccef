package agent

import (
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"deeptape/cmd/config"
	"deeptape/hotpath/event"
	"deeptape/hotpath/journal"
	"deeptape/hotpath/lane"
	"deeptape/ilp/deliver"
	"deeptape/ilp/qdb"
	"deeptape/venues/wire"
)

// A derivation may start only where every feed that is owed rows has a keyframe,
// or its run record, at or before the last input that QuestDB has acknowledged.
func TestSegmentFor(t *testing.T) {
	dir := t.TempDir()
	w, _, err := journal.Open(journal.OS, dir, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	put := func(feed uint16, pos uint64, kind event.InputKind) {
		t.Helper()
		rec := event.AppendInput(nil, event.InputHead{Kind: kind, Feed: feed, Pos: pos, Ts: int64(1000 + pos)}, []byte("x"))
		if err := w.Append(rec); err != nil {
			t.Fatal(err)
		}
	}
	rotate := func() {
		t.Helper()
		if err := w.Rotate(); err != nil {
			t.Fatal(err)
		}
	}
	// segment 1: both runs begin. 2: both have a keyframe. 3: only feed 0 has.
	put(0, 1, event.InputRun)
	put(1, 1, event.InputRun)
	put(0, 2, event.InputFrame)
	rotate()
	put(0, 3, event.InputFrame)
	put(0, 4, event.InputKeyframe)
	put(1, 2, event.InputFrame)
	put(1, 3, event.InputKeyframe)
	rotate()
	put(0, 5, event.InputKeyframe)
	put(1, 4, event.InputFrame)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		after map[uint16]uint64
		want  uint64
	}{
		{map[uint16]uint64{0: 0, 1: 0}, 1}, // nothing acknowledged
		{map[uint16]uint64{0: 3, 1: 4}, 1}, // feed 0's keyframe is not
		{map[uint16]uint64{0: 4, 1: 2}, 1}, // feed 1's is not
		{map[uint16]uint64{0: 4, 1: 3}, 2},
		{map[uint16]uint64{0: 5, 1: 4}, 2}, // segment 3 has nothing to start feed 1 from
		{map[uint16]uint64{0: 5}, 3},       // feed 1 is owed nothing
		{map[uint16]uint64{0: 4}, 2},
		{map[uint16]uint64{7: 9}, 1}, // a feed that was never here
	} {
		a := anchors{fs: journal.OS, dir: dir, known: map[uint64]map[uint16]uint64{}}
		for range 2 { // what is remembered is the same as what is found
			at, err := a.startOf(c.after)
			if err != nil || at.Segment != c.want {
				t.Errorf("after %v: segment %d, %v; want %d", c.after, at.Segment, err, c.want)
			}
		}
	}
	// What a segment does not have yet, it may get.
	a := anchors{fs: journal.OS, dir: dir, known: map[uint64]map[uint16]uint64{}}
	after := map[uint16]uint64{0: 9, 1: 9}
	if at, _ := a.startOf(after); at.Segment != 2 {
		t.Errorf("segment %d before feed 1's turn, want 2", at.Segment)
	}
	put(1, 5, event.InputKeyframe)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if at, _ := a.startOf(after); at.Segment != 3 {
		t.Errorf("segment %d after feed 1's turn, want 3", at.Segment)
	}
}

// What a full journal says: nothing is lost yet, and a database is not started where
// there is to be none.
func TestFullJournal(t *testing.T) {
	dir := t.TempDir()
	w, _, err := journal.Open(journal.OS, dir, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for pos := uint64(1); pos < 4; pos++ {
		kind := event.InputKeyframe
		if pos == 1 {
			kind = event.InputRun
		}
		if err := w.Append(event.AppendInput(nil, event.InputHead{Kind: kind, Pos: pos, Ts: int64(pos)}, []byte("x"))); err != nil {
			t.Fatal(err)
		}
		if err := w.Rotate(); err != nil {
			t.Fatal(err)
		}
	}
	segments, err := journal.Segments(journal.OS, dir)
	if err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, s := range segments {
		total += s.Bytes
	}
	for _, c := range []struct {
		off        bool
		free, most int64
		want       string
	}{
		{false, 1 << 40, total - 1, "QuestDB has not acknowledged what is in it; frames are lost once the rings are full"},
		{true, 1 << 40, total - 1, "with questdb off nothing in it may go; frames are lost once the rings are full"},
		{true, 0, 1 << 40, "the journal's disk is full"},
	} {
		l := lane.New(0, lane.Options{InputBytes: 4096, RowBytes: 4096}, nil, nil)
		l.SetWritten(3)
		log := slog.New(slog.NewTextHandler(io.Discard, nil))
		a := &Agent{
			cfg: config.Config{Journal: config.Journal{Dir: dir, Max: config.Bytes(c.most)}}, log: log, clock: wire.NewClock(),
			machine: Machine{FS: journal.OS, FreeBytes: func(string) (int64, error) { return c.free, nil }},
			lanes:   []*lane.Lane{l}, pastRuns: &past{}, journaler: &journaler{log: log},
			anchors: anchors{fs: journal.OS, dir: dir, known: map[uint64]map[uint16]uint64{}},
		}
		if !c.off {
			a.db, a.deliverer = &qdb.DB{}, &deliver.Deliverer{}
		}
		if err := a.limitJournal(false); err != nil {
			t.Fatal(err)
		}
		said := a.journaler.Trouble()
		if !strings.Contains(said, c.want) || strings.Contains(said, "lost until") || c.off && strings.Contains(said, "db start") {
			t.Errorf("off %v, %d free, max %d: %q, want %q", c.off, c.free, c.most, said, c.want)
		}
	}
}

// What goes by size while QuestDB lacks rows is told with the command, and stays told when
// there is room again, for as long as QuestDB lacks them. Nobody said so, and the trouble of
// the missing rows promised that the journal keeps them.
func TestLetGo(t *testing.T) {
	a := &Agent{cfg: config.Config{Journal: config.Journal{Dir: "jj"}}, log: slog.New(slog.NewTextHandler(io.Discard, nil)), clock: wire.NewClock(), journaler: &journaler{}}
	for i, c := range []struct{ removing, lacks, told bool }{
		{true, false, false}, {false, true, false}, {true, true, true}, {false, true, true}, {false, false, false},
	} {
		a.noteLetGo(c.removing, c.lacks, 1<<30, 1<<40)
		text := strings.Join(a.troubles(), "; ")
		if told := strings.Contains(text, "deeptape replay --journal jj") && strings.Contains(text, "raise journal.max"); told != c.told {
			t.Errorf("%d: %+v: %q", i, c, text)
		}
	}
}

// TestKeepsWhatQuestDBLacks: segments go when they are too old. Where QuestDB has lost rows
// that it had acknowledged, only the journal can bring them back, and age takes nothing.
func TestKeepsWhatQuestDBLacks(t *testing.T) {
	dir := t.TempDir()
	w, _, err := journal.Open(journal.OS, dir, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	now := time.Now().UnixNano()
	for pos := uint64(1); pos < 5; pos++ { // the last two are young
		age := map[bool]time.Duration{true: 2 * time.Hour, false: time.Minute}[pos < 3]
		if err := w.Append(event.AppendInput(nil, event.InputHead{Kind: event.InputRun, Pos: pos, Ts: now - int64(age)}, []byte("x"))); err != nil {
			t.Fatal(err)
		}
		if err := w.Rotate(); err != nil {
			t.Fatal(err)
		}
	}
	l := lane.New(0, lane.Options{InputBytes: 4096, RowBytes: 4096}, nil, nil)
	l.SetWritten(4)
	l.SetAcked(4)
	log := slog.New(slog.DiscardHandler)
	a := &Agent{
		cfg: config.Config{Journal: config.Journal{Dir: dir, Max: 1 << 40, Keep: config.Duration(time.Hour)}}, log: log, clock: wire.NewClock(),
		machine: Machine{FS: journal.OS, FreeBytes: func(string) (int64, error) { return 1 << 40, nil }},
		lanes:   []*lane.Lane{l}, pastRuns: &past{}, journaler: &journaler{log: log}, deliverer: &deliver.Deliverer{},
		anchors: anchors{fs: journal.OS, dir: dir, known: map[uint64]map[uint16]uint64{}},
	}
	for _, c := range []struct {
		lacks bool
		want  uint64 // the first segment that stays; 0: all do
	}{{false, 2}, {true, 0}} {
		if err := a.limitJournal(c.lacks); err != nil {
			t.Fatal(err)
		}
		if got := a.journaler.removeBefore.Load(); got != c.want {
			t.Errorf("QuestDB lacks rows: %v; segments before %d go, want before %d", c.lacks, got, c.want)
		}
	}
}

// TestTooOld: a keep of 0 is no limit, and a segment whose end is not known stays.
func TestTooOld(t *testing.T) {
	for _, c := range []struct {
		endTs, keepNs, now int64
		want               bool
	}{{1000, 100, 1100, false}, {1000, 100, 1101, true}, {1000, 0, 1 << 60, false}, {0, 100, 1 << 60, false}} {
		if got := tooOld(c.endTs, c.keepNs, c.now); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
