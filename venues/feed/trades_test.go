package feed

import (
	"fmt"
	"slices"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
)

// A restart knows the last trade: what comes again makes no row, and what was missed
// while nobody recorded is told by its numbers.
func TestTradesOverARestart(t *testing.T) {
	const before = "gap start, unverified silence, verified trade_id, "
	for _, c := range []struct {
		name       string
		acked      bool    // before the first trade comes
		ids        []int64 // of the new life; those up to 501 were stored before
		cover      string
		rows       int   // of them
		first, end int64 // missing numbers that the gap names
	}{
		{"they come again and go on", false, []int64{499, 500, 501, 502, 503}, before + "gap stop, verified trade_id", 2, 0, 0},
		{"they come again after the ack", true, []int64{500, 501, 502}, before + "gap stop, verified trade_id", 1, 0, 0},
		{"some are missing", false, []int64{505, 506}, before + "gap stop, verified trade_id", 2, 502, 504},
		{"some are missing, after the ack", true, []int64{505}, before + "gap stop, unverified silence, verified trade_id", 1, 502, 504},
		{"none came while it was on", true, nil, before + "gap stop, unverified silence", 0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := liveRig(t)
			r.tradeAt(0, 500, t0)
			r.tradeAt(0, 501, t0+1e9)
			r.now += 60e9
			r.run(resume(r)...)
			r.connect()
			if c.acked {
				r.ack(1)
				r.ticks(2)
			}
			rows := r.rows.Read()[event.TableTrades].Derived
			for _, id := range c.ids {
				r.tradeAt(0, id, t0+(id-500)*1e9)
			}
			if n := r.rows.Read()[event.TableTrades].Derived - rows; n != uint64(c.rows) {
				t.Errorf("%d rows of %d trades, want %d", n, len(c.ids), c.rows)
			}
			if n := r.m.insts[0].stats.RepeatedTrades; n != uint64(len(c.ids)-c.rows) {
				t.Errorf("%d repeated trades are counted", n)
			}
			r.wantAll("gap start, verified chain, gap stop", c.cover)
			if list := r.cover(0, event.StreamTrades); c.first != 0 {
				told := list[len(list)-2]
				if c.acked {
					fmt.Sscanf(string(told.Detail), "trades %d to %d are missing", &told.SeqFirst, &told.SeqLast)
				}
				if told.SeqFirst != c.first || told.SeqLast != c.end {
					t.Errorf("missing are %d..%d, want %d..%d", told.SeqFirst, told.SeqLast, c.first, c.end)
				}
			}
			r.finish()
		})
	}
}

// A number that goes back is a repetition, unless the trade is newer than all that are
// stored: then the venue counts anew, and its trades are not dropped for ever. That holds
// over a restart, too; where no time is known they are repetitions.
func TestTradesCountedAnew(t *testing.T) {
	r := liveRig(t)
	r.tradeAt(0, 500, t0)
	r.tradeAt(0, 3, t0) // not newer
	r.tradeAt(0, 4, t0+1e9)
	r.tradeAt(0, 5, t0+1e9)
	r.wantAll(live, allTrade+", gap venue_reset, verified trade_id")
	r.noted("the venue counts anew")
	r.run(resume(r)...)
	r.connect()
	r.tradeAt(0, 5, t0+1e9)
	r.tradeAt(0, 1, t0+3e9)
	r.tradeAt(0, 2, t0+3e9)
	r.wantAll(live+", gap stop", allTrade+", gap venue_reset, verified trade_id, gap stop, verified trade_id")
	r.finish()

	r = newRig(t, inst("AAAUSDT"))
	r.run(Resume{LastTs: t0 - 50, LastTrade: 500})
	r.connect()
	r.tradeAt(0, 3, t0)
	r.tradeAt(0, 501, t0)
	if st := r.m.insts[0].stats; st.Trades != 1 || st.RepeatedTrades != 1 {
		t.Errorf("%d trades, %d repeated", st.Trades, st.RepeatedTrades)
	}
	r.finish()
}

// When a line takes over it may bring trades that the other one has brought. Bybit does
// not number them: they are known by themselves. On one line nothing is taken for a
// repetition.
func TestRepeatedUnnumberedTrades(t *testing.T) {
	k := liveMarket(t, "bybit")
	before := k.m.insts[0].stats.Trades
	frame := k.tradeFrame(0) // of two trades
	k.frame(frame)
	k.frame(frame)
	if n := k.m.insts[0].stats.Trades - before; n != 4 {
		t.Errorf("%d trades of one line", n)
	}
	k.on(1).connect()
	frame = k.tradeFrame(0)
	k.on(0).frame(frame)
	k.on(0).close()
	k.on(1).frame(frame)
	if st := k.m.insts[0].stats; st.Trades-before != 6 || st.RepeatedTrades != 2 {
		t.Errorf("%d trades, %d repeated", st.Trades, st.RepeatedTrades)
	}
	for range repeatsMax {
		k.on(1).frame(k.tradeFrame(0))
	}
	if n := len(k.m.insts[0].repeats.Hashes); n != repeatsMax {
		t.Errorf("%d are remembered", n)
	}
	k.step(event.InputKeyframe, 0, k.m.AppendKeyframe(nil))
	k.on(1).frame(k.tradeFrame(0))
	k.step(event.InputKeyframe, 0, k.m.AppendKeyframe(nil))
	k.finish()
}

// A stream that there is not has no interval: a gap would say that something is missing.
func TestStreamsThatAreNot(t *testing.T) {
	k := liveMarket(t, "kraken") // Quotes is wanted, and Kraken has no such stream
	k.ticks(3)
	k.wantCover(0, event.StreamQuotes)
	k.shut()
	k.ticks(3)
	k.loss(2)
	k.wantCover(0, event.StreamQuotes)
	if s := k.m.Status().Instruments[0].Streams[event.StreamQuotes]; s != (StreamStatus{}) {
		t.Errorf("the status says %+v", s)
	}
	k.finish()

	// A run without quotes, between two that have them: its time is in the gap.
	r := liveRig(t)
	r.quote(0, 7, "9.9", "1", "10", "1")
	end := r.m.Resume(0).Ends[event.StreamQuotes]
	r.cfg.Quotes = false
	r.run(resume(r)...)
	r.connect()
	r.ticks(3)
	r.quote(0, 8, "9.9", "1", "10", "1") // nobody has asked for it
	r.wantCover(0, event.StreamQuotes, "gap start", "unverified ")
	r.cfg.Quotes = true
	r.run(resume(r)...)
	r.wantCover(0, event.StreamQuotes, "gap start", "unverified ", "gap stop")
	if ivs := r.cover(0, event.StreamQuotes); ivs[2].Ts != end+1 {
		t.Errorf("the gap starts at %d, and the quotes end at %d", ivs[2].Ts, end)
	}
	r.finish()
}

// countingDecoder counts the frames that it is given.
type countingDecoder struct {
	venues.Decoder
	frames int
}

func (d *countingDecoder) Decode(frame []byte, b *venues.Batch) ledger.Reason {
	d.frames++
	return d.Decoder.Decode(frame, b)
}

// What waits for a slow line costs each of its frames once more, however many wait.
func TestHeldIsLinear(t *testing.T) {
	const n = 400
	r := twoLines(t)
	dec := &countingDecoder{Decoder: r.m.dec}
	r.m.dec = dec
	even := func(line uint8) {
		r.on(line)
		for id := int64(2); id <= n; id += 2 {
			r.now -= 1000
			r.tradeAt(0, 500+id, t0)
			r.now -= 1000
			r.depth(0, 101+id, 101+id, fmt.Sprintf("9.97=%d", id), "")
		}
	}
	even(0)
	if b, x := r.waiting(0); b != n/2 || x != n/2 {
		t.Fatalf("%d and %d wait", b, x)
	}
	r.on(1)
	for id := int64(1); id < n; id += 2 {
		r.tradeAt(0, 500+id, t0)
		r.depth(0, 101+id, 101+id, "9.96=1", "")
	}
	if b, x := r.waiting(0); b != 0 || x != 0 {
		t.Fatalf("%d and %d wait still", b, x)
	}
	if want := 3 * n; dec.frames != want {
		t.Errorf("%d frames have been decoded, want %d", dec.frames, want)
	}
	r.wantAll(live, allTrade)

	// What the slow line never brings opens a gap at each place, and costs as little.
	dec.frames = 0
	r.on(0)
	for id := int64(n + 2); id <= 2*n; id += 2 {
		r.now -= 1000
		r.tradeAt(0, 500+id, t0)
	}
	r.ticks(3)
	if b, x := r.waiting(0); b != 0 || x != 0 || dec.frames != n {
		t.Errorf("%d and %d wait, %d frames have been decoded, want %d", b, x, dec.frames, n)
	}
	ids := []int64{}
	for _, msg := range r.model.insts[0].messages[event.StreamTrades] {
		ids = append(ids, msg.seq)
	}
	if len(ids) != 1+n+n/2 || !slices.IsSorted(ids) {
		t.Errorf("the trades are %d", ids)
	}
	r.finish()
}

// A keyframe of another version is not compared: its state may have had another form.
func TestKeyframeOfAnotherVersion(t *testing.T) {
	for _, version := range []int{Version, Version - 1} {
		r := newRig(t, inst("AAAUSDT"))
		r.cfg.Version = version
		r.run()
		r.connect()
		state := r.m.AppendKeyframe(nil)
		state[len(state)-10] ^= 1
		r.pos++
		in := event.Input{InputHead: event.InputHead{Kind: event.InputKeyframe, Feed: 3, Pos: r.pos, Ts: r.now}, Data: state}
		if err := r.m.Step(&in); (err != nil) != (version == Version) {
			t.Errorf("version %d: %v", version, err)
		}
	}
}
