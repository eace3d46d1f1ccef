package feed

import (
	"fmt"
	"strings"
	"testing"

	"deeptape/hotpath/event"
)

// widened says at which scales an instrument is, what its last records since the
// given one were, and whether a price has been counted as off the grid.
func (r *rig) widened(since int) string {
	var s []string
	for _, rec := range r.sink.records[since:] {
		var h event.Head
		h.Get(rec)
		if int(h.Inst-r.cfg.Base) != 0 || h.Kind == event.RowCoverage {
			continue
		}
		name := [...]string{"", "book", "top", "quote", "trade", "", "inst"}[h.Kind]
		if h.Kind == event.RowBook && h.Flags&event.FlagKeyframe != 0 {
			name = "keyframe"
		}
		s = append(s, fmt.Sprintf("%s %d/%d", name, h.PxScale, h.QtyScale))
	}
	return strings.Join(s, ", ")
}

func (r *rig) wantRecords(since int, want string) {
	r.t.Helper()
	if got := r.widened(since); got != want {
		r.t.Fatalf("records:\n got %s\nwant %s", got, want)
	}
}

// Before a book's first row at another scale stands the whole book at that scale.
// The model holds that the keyframe equals the book and that no book mixes scales.
func TestWideningByADelta(t *testing.T) {
	for _, c := range []struct{ name, bids, asks, records, book string }{
		{"px", "9.985=1", "", "inst 3/3, keyframe 3/3, book 3/3, top 3/3", "9.99=1 9.985=1 9.98=1"},
		{"qty", "9.98=1.0005", "", "inst 2/4, keyframe 2/4, book 2/4, top 2/4", "9.99=1 9.98=1.0005"},
		{"both, on different sides", "9.98=1.00005", "11.123456789=3", "inst 9/5, keyframe 9/5, book 9/5, top 9/5", "9.99=1 9.98=1.00005"},
		{"far away", "1.001=5 1.002=0.00000001", "", "inst 3/8, keyframe 3/8, book 3/8, top 3/8", "9.99=1 9.98=1 1.002=0.00000001 1.001=5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := liveRig(t)
			since := len(r.sink.records)
			r.depth(0, 102, 103, c.bids, c.asks)
			r.wantRecords(since, c.records)
			asks := strings.TrimSpace("10.01=1 10.02=2 " + c.asks)
			r.wantBook(0, 103, c.book, asks)
			r.wantCover(0, event.StreamBook, "gap start", "verified chain")
			if r.m.insts[1].PxScale != 2 || r.m.insts[1].QtyScale != 3 {
				t.Error("the other instrument is widened too")
			}
			since = len(r.sink.records)
			r.depth(0, 104, 104, "9.99=2", "")
			if strings.Contains(r.widened(since), "keyframe") {
				t.Error("a second keyframe")
			}
			r.finish()
		})
	}
}

// The top is the same at another scale: it has no new row.
func TestWideningBelowTheTop(t *testing.T) {
	r := liveRig(t)
	r.depth(0, 102, 102, "9.97=1", "")
	since := len(r.sink.records)
	r.depth(0, 103, 103, "1.001=5", "")
	r.wantRecords(since, "inst 3/3, keyframe 3/3, book 3/3")
	r.finish()
}

// A finer trade or quote has its own row at its own scale. The book follows when it
// next speaks: until then nobody knows whether it still is what it was.
func TestWideningByOthers(t *testing.T) {
	r := liveRig(t)
	since := len(r.sink.records)
	r.trade(0, 500, "9.985", "1")
	r.quote(0, 7, "9.985", "1.00001", "10.01", "2")
	r.wantRecords(since, "inst 3/3, trade 3/3, inst 3/5, quote 3/5")
	r.depth(0, 102, 102, "9.97=1", "")
	r.wantRecords(since, "inst 3/3, trade 3/3, inst 3/5, quote 3/5, keyframe 3/5, book 3/5, top 3/5")
	r.wantBook(0, 102, "9.99=1 9.98=1 9.97=1", "10.01=1 10.02=2")
	r.finish()
}

// A finer delta that does not follow on: the book that was missed must not be
// written as if it were known.
func TestWideningAndGap(t *testing.T) {
	r := liveRig(t)
	end := r.m.Resume(0).Ends[event.StreamBook]
	since := len(r.sink.records)
	r.depth(0, 110, 110, "9.985=1", "")
	r.wantRecords(since, "inst 3/3, top 3/3") // and the row of nulls
	if got := r.cover(0, event.StreamBook)[1]; got.TsEnd != end {
		t.Errorf("proven until %d, want %d", got.TsEnd, end)
	}
	r.rest(0, 200, body(109, "9.99=1", "10.01=1"))
	r.wantBook(0, 110, "9.99=1 9.985=1", "10.01=1")
	// Nor is a keyframe owed any more that an earlier trade has made necessary.
	r.trade(0, 500, "9.99", "0.0001")
	r.depth(0, 120, 120, "", "")
	r.rest(0, 200, body(119, "9.99=1", "10.01=1"))
	if got := r.widened(since); strings.Contains(got, "keyframe") {
		t.Errorf("records %s", got)
	}
	r.finish()
}

// In a silence a finer trade, or the answer of a probe, proves nothing.
func TestWideningInSilence(t *testing.T) {
	r := liveRig(t)
	r.ticks(31)
	r.wantCover(0, event.StreamBook, "gap start", "verified chain", "unverified silence")
	r.trade(0, 500, "9.985", "1")
	r.rest(0, 200, body(101, "9.9855=1", "2=2"))
	r.wantCover(0, event.StreamBook, "gap start", "verified chain", "unverified silence")
	r.depth(0, 103, 103, "9.97=1.00001", "") // 102 is missing
	r.wantCover(0, event.StreamBook, "gap start", "verified chain", "gap sequence")
	r.finish()
}

func TestWideningInSync(t *testing.T) {
	r := newRig(t, inst("AAAUSDT"))
	r.run()
	r.connect()
	since := len(r.sink.records)
	r.depth(0, 11, 11, "9.98=1", "")
	r.depth(0, 12, 12, "9.985=1", "")
	r.rest(0, 200, body(10, "9.99=1", "10.01=1.00001"))
	r.wantRecords(since, "inst 3/3, inst 3/5, book 3/5, top 3/5, book 3/5, top 3/5, book 3/5, top 3/5")
	r.wantBook(0, 12, "9.99=1 9.985=1 9.98=1", "10.01=1.00001")
	if r.m.insts[0].book.OffGrid() != 1 { // 9.985: the tick is 0.01 and stays so
		t.Errorf("%d prices off the grid, want 1", r.m.insts[0].book.OffGrid())
	}
	r.finish()
}

// A book at a scale at which one of its levels would not fit stays as it is; the
// message is what cannot be taken.
func TestWideningThatDoesNotFit(t *testing.T) {
	r := liveRig(t)
	r.depth(0, 102, 102, "9.97=9000000000000000", "")
	since := len(r.sink.records)
	r.depth(0, 103, 103, "9.96=0.0001", "")
	r.wantRecords(since, "top 2/3") // nulls
	r.wantCover(0, event.StreamBook, "gap start", "verified chain", "gap malformed")
	r.wantFrames("received 5, applied 3, control 1, overflow 1")
	r.depth(0, 104, 104, "9.96=1", "")
	r.rest(0, 200, body(103, "9.99=1", "10.01=1"))
	r.wantBook(0, 104, "9.99=1 9.96=1", "10.01=1")
	r.finish()

	// The same by a trade: the book, which was not asked, stays.
	r = liveRig(t)
	r.depth(0, 102, 102, "9.97=9000000000000000", "")
	r.trade(0, 500, "9.99", "0.0001")
	r.wantCover(0, event.StreamBook, "gap start", "verified chain")
	r.wantCover(0, event.StreamTrades, "gap start", "gap malformed")
	r.wantBook(0, 102, "9.99=1 9.98=1 9.97=9000000000000000", "10.01=1 10.02=2")
	r.finish()
}

// Where the tick is not known every price stands on the grid, at every scale.
func TestUnknownTick(t *testing.T) {
	for _, tick := range []string{"", "0.00000000", "nonsense"} {
		r := newRig(t, event.Instrument{Venue: "binance", Symbol: "AAAUSDT", Tick: tick, Source: "messages"})
		r.run()
		r.connect()
		r.depth(0, 101, 101, "9.98=1", "")
		r.rest(0, 200, body(100, "9=1", "10.01=1"))
		r.depth(0, 102, 102, "9.985=0.5", "")
		r.depth(0, 103, 103, "9.9851=0.5", "10.01=0.25")
		r.trade(0, 1, "9.98512", "0.123456")
		r.depth(0, 104, 104, "", "10.02000=1")
		r.wantBook(0, 104, "9.9851=0.5 9.985=0.5 9.98=1 9=1", "10.01=0.25 10.02=1")
		if in := &r.m.insts[0]; in.PxScale != 5 || in.QtyScale != 6 || in.book.OffGrid() != 0 || in.book.Rescale(0, 0) != true {
			t.Errorf("tick %q: scales %d %d, %d off the grid", tick, in.PxScale, in.QtyScale, in.book.OffGrid())
		}
		r.finish()
	}
}

// The rows of a keyframe stand where they are proven: before the next message that
// follows on, and not where a message was missed.
func TestKeyframeRows(t *testing.T) {
	r := liveRig(t)
	since, end := len(r.sink.records), r.m.Resume(0).Ends[event.StreamBook]
	r.keyframe()
	r.wantRecords(since, "inst 2/3")
	r.depth(1, 103, 103, "", "") // 102 is missing
	r.trade(0, 500, "9.99", "1")
	if got := r.m.Resume(0).Ends[event.StreamBook]; got != end {
		t.Errorf("proven until %d, want %d", got, end)
	}
	r.depth(0, 102, 102, "9.97=1", "")
	r.depth(0, 103, 103, "9.97=2", "")
	r.wantRecords(since, "inst 2/3, trade 2/3, keyframe 2/3, book 2/3, top 2/3, book 2/3, top 2/3")
	for _, rec := range r.sink.records[since:] {
		var h event.Head
		if h.Get(rec); h.Inst == r.cfg.Base+1 && h.Flags&event.FlagKeyframe != 0 {
			t.Error("a book with a hole is written")
		}
	}
	r.finish()
}

func TestStatus(t *testing.T) {
	r := liveRig(t)
	r.depth(0, 102, 102, "9.985=1", "") // off the grid, and finer
	r.depth(0, 104, 104, "", "")        // a gap
	r.trade(1, 7, "9.99", "1")
	r.trade(1, 7, "9.99", "1")
	st := r.m.Status()
	a, b := st.Instruments[0], st.Instruments[1]
	if st.Venue != "binance" || !st.Connected || a.Symbol != "AAAUSDT" || a.Book != "syncing" || a.Buffered != 1 || a.Bids+a.Asks != 0 || a.Seq != 102 {
		t.Errorf("%+v", a)
	}
	if s := a.Stats; s.OffGrid != 1 || s.Widenings != 1 || s.Gaps != 1 || s.LastGapCause != event.CauseSequence || s.BookMessages != 3 || s.Fetches != 2 {
		t.Errorf("%+v", s)
	}
	if b.Book != "live" || b.Bids != 2 || b.Asks != 2 || b.Stats.Trades != 1 || b.Stats.RepeatedTrades != 1 || b.Streams[event.StreamBook].State != "verified" {
		t.Errorf("%+v", b)
	}
	if v, s := r.m.Symbols(); v != "binance" || len(s) != 2 || s[1] != "BBBUSDT" {
		t.Errorf("%s %v", v, s)
	}
	r.finish()
}
