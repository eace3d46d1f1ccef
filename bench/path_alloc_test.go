//go:build !race

package bench

import (
	"encoding/json"
	"slices"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/journal"
	"deeptape/hotpath/lane"
	"deeptape/hotpath/ledger"
	"deeptape/ilp/line"
	"deeptape/venues/feed"
)

// pathRig is a frame's way without its two ends: what the session does with a
// frame, the journal writer with an input and the deliverer with a row, in one
// goroutine.
type pathRig struct {
	t       *testing.T
	l       *lane.Lane
	m       *feed.Machine
	w       *journal.Writer
	inst    *line.Inst
	body    []byte
	pos     uint64
	now     int64
	request uint32
	rows    int
	lines   int
}

func (p *pathRig) input(kind event.InputKind, aux int64, data []byte) {
	p.pos++
	p.now += 100_000
	in := event.Input{InputHead: event.InputHead{Kind: kind, Pos: p.pos, Ts: p.now, Aux: aux}, Data: data}
	b, _ := p.l.Inputs.Claim(event.InputSize(len(data)))
	if b == nil {
		p.t.Fatalf("no room for %d bytes", len(data))
	}
	event.PutInput(b, in.InputHead, data)
	p.l.Inputs.Commit()
	p.l.Begin(p.pos)
	if err := p.m.Step(&in); err != nil {
		p.t.Fatal(err)
	}
	p.l.End()
	for _, a := range p.m.Actions() {
		if a.Kind == feed.ActionFetch {
			p.request = a.Request
		}
	}
	for b := p.l.Inputs.Peek(); b != nil; b = p.l.Inputs.Peek() {
		if err := p.w.Append(b); err != nil {
			p.t.Fatal(err)
		}
		p.l.Inputs.Release()
	}
	if p.pos%64 == 0 {
		if err := p.w.Flush(); err != nil {
			p.t.Fatal(err)
		}
	}
	p.l.SetWritten(p.pos)
	p.body = p.body[:0]
	for rec := p.l.Peek(); rec != nil; rec = p.l.Peek() {
		var h event.Head
		h.Get(rec)
		n := 0
		switch h.Kind {
		case event.RowBook:
			p.body, n = line.AppendBook(p.body, p.inst, rec)
		case event.RowTop:
			p.body, n = line.AppendTop(p.body, p.inst, rec)
		case event.RowQuote:
			p.body, n = line.AppendQuote(p.body, p.inst, rec)
		case event.RowTrade:
			p.body, n = line.AppendTrade(p.body, p.inst, rec)
		}
		p.rows += n
		p.l.Release()
	}
	p.lines += len(p.body)
}

// TestPathAllocations: from the frame to the bytes that QuestDB is sent, and into
// the journal, nothing is allocated for any frame of the recording once the
// buffers have grown.
func TestPathAllocations(t *testing.T) {
	var frames [][]byte
	var snapshot []byte
	recs, _ := journalRecords(t)
	for _, rec := range recs {
		in, _, err := event.GetInput(rec)
		if err != nil {
			t.Fatal(err)
		}
		switch in.Kind {
		case event.InputRest:
			snapshot = in.Data
		case event.InputFrame:
			frames = append(frames, in.Data)
		}
	}
	w, _, err := journal.Open(journal.OS, t.TempDir(), journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	p := &pathRig{t: t, w: w, now: 1_790_000_000_000_000_000}
	p.l = lane.New(0, lane.Options{InputBytes: 4 << 20, RowBytes: 8 << 20, InputOwnedBytes: 1 << 20, RowOwnedBytes: 1 << 20}, nil, nil)
	p.m = feed.New(p.l, &p.l.Frames, p.l.Rows.Feed())
	if p.inst, err = line.NewInst("binance", "BTCUSDT"); err != nil {
		t.Fatal(err)
	}
	cfg, err := json.Marshal(feed.Config{
		Version: feed.Version, Venue: "binance", TopLevels: 10, Quotes: true,
		// At scales that no message widens: a keyframe is no steady state.
		Instruments: []event.Instrument{{Venue: "binance", Symbol: "BTCUSDT", PxScale: 2, QtyScale: 8, Tick: "0.01", Source: "test"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.input(event.InputRun, 0, cfg)
	const sync = 20 // frames before the snapshot
	begin := func() {
		p.input(event.InputConnect, 1, nil)
		p.input(event.InputFrame, 0, []byte(`{"result":null,"id":1}`)) // else the operator is told
		for _, f := range frames[:sync] {
			p.input(event.InputFrame, 0, f)
		}
		p.input(event.InputRest, event.RestAux(p.request, 0, 200), snapshot)
	}
	begin()
	for _, f := range frames[sync:] {
		p.input(event.InputFrame, 0, f)
	}
	first := p.rows
	p.input(event.InputClose, 0, nil)
	begin()

	// The second time: AllocsPerRun plays one half to warm up and measures the other.
	half := slices.Collect(slices.Chunk(frames[sync:], (len(frames)-sync+1)/2))
	plays := 0
	n := testing.AllocsPerRun(1, func() {
		for i, f := range half[plays] {
			p.input(event.InputFrame, 0, f)
			if i%100 == 99 {
				p.input(event.InputTick, 0, nil)
			}
		}
		plays++
	})
	if n != 0 {
		t.Errorf("%v allocations in %d frames, want 0", n, len(half[1]))
	}
	counts := p.l.Frames.Read()
	if counts.Difference() != 0 || p.l.Deferring() {
		t.Errorf("frames %v, deferring %v", counts, p.l.Deferring())
	}
	for i, e := range ledger.Entries {
		if e.Label == "rejected" && counts[i] != 0 {
			t.Errorf("%d frames are %s", counts[i], e.Reason)
		}
	}
	// 298,111 levels less those of the two dropped messages, a thousand or so of
	// messages without levels and 2,000 of the snapshot; and the trades come only once.
	if got := counts[ledger.Applied]; got < 2*(6493+73174)+19904 || p.rows-first < 298_000 || p.lines < 100*p.rows {
		t.Errorf("%d frames applied, %d rows of %d bytes in the second play, %d in the first", got, p.rows-first, p.lines, first)
	}
}
