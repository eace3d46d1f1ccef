package bench

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/journal"
	"deeptape/hotpath/lane"
	"deeptape/ilp/line"
	"deeptape/venues"
	"deeptape/venues/feed"
	"deeptape/venues/registry"
)

// pathRig is a frame's way without its two ends: what the session does with a
// frame, the journal writer with an input and the deliverer with a row, in one
// goroutine.
type pathRig struct {
	tb       testing.TB
	l        *lane.Lane
	m        *feed.Machine
	w        *journal.Writer // nil: what lies behind the rows is left out
	insts    []*line.Inst
	requests []uint32 // by instrument, the REST request that it has asked for last
	body     []byte
	pos      uint64
	now      int64
	rows     int
	lines    int // bytes of them
}

// newPathRig begins a run over the instruments of a recording.
func newPathRig(tb testing.TB, r *recording) *pathRig {
	w, _, err := journal.Open(journal.OS, tb.TempDir(), journal.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { w.Close() })
	return newRig(tb, r, w)
}

// newFeedRig ends with the rows: no journal, no lines.
func newFeedRig(tb testing.TB, r *recording) *pathRig { return newRig(tb, r, nil) }

func newRig(tb testing.TB, r *recording, w *journal.Writer) *pathRig {
	p := &pathRig{tb: tb, w: w, now: 1_790_000_000_000_000_000, requests: make([]uint32, len(r.insts))}
	p.l = lane.New(0, lane.Options{InputBytes: 4 << 20, RowBytes: 8 << 20, InputOwnedBytes: 16 << 20, RowOwnedBytes: 16 << 20}, nil, nil)
	p.m = feed.New(p.l, &p.l.Frames, p.l.Rows.Feed())
	for _, inst := range r.insts {
		i, err := line.NewInst(r.venue, inst.Symbol)
		if err != nil {
			tb.Fatal(err)
		}
		p.insts = append(p.insts, i)
	}
	v, err := registry.ByName(r.venue)
	if err != nil {
		tb.Fatal(err)
	}
	// At scales that no message widens: a keyframe is no steady state.
	cfg, err := json.Marshal(feed.Config{Version: feed.Version, Venue: r.venue, TopLevels: 10, Quotes: true, Depth: v.Rules().Depth, Instruments: r.insts})
	if err != nil {
		tb.Fatal(err)
	}
	p.input(event.InputRun, 0, cfg)
	return p
}

func (p *pathRig) input(kind event.InputKind, aux int64, data []byte) {
	p.pos++
	p.now += 100_000
	in := event.Input{InputHead: event.InputHead{Kind: kind, Pos: p.pos, Ts: p.now, Aux: aux}, Data: data}
	if kind == event.InputFrame { // as a session does
		p.m.Foresee(data)
	}
	if p.w != nil {
		b, _ := p.l.Inputs.Claim(event.InputSize(len(data)))
		if b == nil {
			p.tb.Fatalf("no room for %d bytes", len(data))
		}
		event.PutInput(b, in.InputHead, data)
		p.l.Inputs.Commit()
	}
	p.l.Begin(p.pos)
	if err := p.m.Step(&in); err != nil {
		p.tb.Fatal(err)
	}
	p.l.End()
	for _, a := range p.m.Actions() {
		if a.Kind == feed.ActionFetch {
			p.requests[a.Inst] = a.Request
		}
	}
	for b := p.l.Inputs.Peek(); b != nil; b = p.l.Inputs.Peek() {
		if err := p.w.Append(b); err != nil {
			p.tb.Fatal(err)
		}
		p.l.Inputs.Release()
	}
	if p.w != nil && p.pos%64 == 0 {
		if err := p.w.Flush(); err != nil {
			p.tb.Fatal(err)
		}
	}
	p.l.SetWritten(p.pos)
	p.body = p.body[:0]
	for rec := p.l.Peek(); rec != nil; rec = p.l.Peek() {
		var h event.Head
		h.Get(rec)
		inst, n := p.insts[h.Inst], 0
		if table, ok := h.Kind.Table(); p.w != nil && ok && table < event.NumBulkTables {
			p.body, n = line.Append(p.body, inst, rec)
		}
		p.rows += n
		p.l.Release()
	}
	p.lines += len(p.body)
}

// play is one life of a connection that brings the whole recording.
func (p *pathRig) play(inputs []event.Input) {
	for i := range inputs {
		in := &inputs[i]
		aux := in.Aux
		if in.Kind == event.InputRest {
			_, inst, status := event.SplitRestAux(aux)
			aux = event.RestAux(p.requests[inst], inst, status)
		}
		p.input(in.Kind, aux, in.Data)
	}
	p.input(event.InputClose, 0, nil)
}

// BenchmarkPath is what a recording costs on one core, by level of its books; its
// trades and quotes come with them. stage=decode: frames to messages and no more.
// stage=feed: to rows, through sequence, book and coverage. stage=path: also into the
// journal (packed, no fsync) and into the lines that QuestDB is sent. Sockets and the rest
// of the kernel's work are not in it.
func BenchmarkPath(b *testing.B) {
	for _, r := range recordings(b) {
		var inputs []event.Input
		for _, rec := range r.inputs[1:] {
			in, _, err := event.GetInput(rec)
			if err != nil {
				b.Fatal(err)
			}
			inputs = append(inputs, in)
		}
		run := func(stage string, play func()) {
			b.Run(fmt.Sprintf("stage=%s/tape=%s-%s", stage, r.venue, r.name), func(b *testing.B) {
				// Of this thread's time: what the neighbours do is no matter.
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				play() // buffers grow
				b.ReportAllocs()
				var total int64
				for b.Loop() {
					start := threadNs()
					play()
					total += threadNs() - start
				}
				ns := float64(total) / float64(b.N)
				b.ReportMetric(ns/float64(len(r.frames)), "ns/frame")
				b.ReportMetric(ns/float64(r.levels), "ns/level")
				b.ReportMetric(float64(r.levels)/ns*1e9, "levels/s")
			})
		}
		v, err := registry.ByName(r.venue)
		if err != nil {
			b.Fatal(err)
		}
		d, batch := v.NewDecoder(slices.Clone(r.insts)), &venues.Batch{}
		run("decode", func() {
			for i := range inputs {
				switch in := &inputs[i]; in.Kind {
				case event.InputFrame:
					batch.Reset()
					d.Decode(in.Data, batch)
				case event.InputRest:
					batch.Reset()
					_, inst, _ := event.SplitRestAux(in.Aux)
					d.DecodeSnapshot(int(inst), in.Data, batch)
				}
			}
		})
		bare := newFeedRig(b, r)
		run("feed", func() { bare.play(inputs) })
		whole := newPathRig(b, r)
		run("path", func() { whole.play(inputs) })
		if n := whole.l.Frames.Read(); n.Difference() != 0 || whole.l.Deferring() {
			b.Errorf("frames %v, deferring %v", n, whole.l.Deferring())
		}
	}
}
