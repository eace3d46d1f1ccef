package feed

import (
	"strings"
	"testing"

	"deeptape/hotpath/event"
)

func TestTrades(t *testing.T) {
	r := liveRig(t)
	r.wantCover(0, event.StreamTrades, "gap start", "unverified silence")
	r.trade(0, 500, "9.99", "1")
	r.trade(0, 501, "9.99", "0.5")
	r.trade(0, 501, "9.99", "0.5") // again
	r.trade(0, 499, "9.99", "1")
	r.wantCover(0, event.StreamTrades, "gap start", "unverified silence", "verified trade_id")
	r.trade(0, 504, "9.99", "1") // 502 and 503 are missing
	r.noted("AAAUSDT: gap (sequence) in the trades: 502 to 503 are missing")
	r.wantCover(0, event.StreamTrades, "gap start", "unverified silence", "verified trade_id", "gap sequence", "verified trade_id")
	ivs := r.cover(0, event.StreamTrades)
	if v, g := ivs[2], ivs[3]; v.SeqFirst != 500 || v.SeqLast != 501 || v.Messages != 2 || g.SeqFirst != 502 || g.SeqLast != 503 || g.Messages != 0 {
		t.Errorf("intervals %+v %+v", v, g)
	}
	r.wantCover(0, event.StreamBook, "gap start", "verified chain")
	r.wantFrames("received 8, applied 5, duplicate 2, control 1")
	r.finish()
}

func TestMalformedTrade(t *testing.T) {
	r := liveRig(t)
	const broken = `{"e":"trade","E":1,"s":"AAAUSDT","t":501,"p":"x","q":"1","T":5,"m":true}`
	r.trade(0, 500, "9.99", "1")
	r.frame(broken)
	r.frame(broken) // it is a gap already, and nobody is told twice
	if n := strings.Count(strings.Join(r.notes, "\n"), "AAAUSDT: gap (malformed) in the trades"); n != 1 {
		t.Errorf("the gap has been told %d times: %q", n, r.notes)
	}
	r.wantCover(0, event.StreamTrades, "gap start", "unverified silence", "verified trade_id", "gap malformed")
	r.trade(0, 502, "9.99", "1")
	r.wantCover(0, event.StreamTrades, "gap start", "unverified silence", "verified trade_id", "gap malformed", "verified trade_id")
	// The first of all is broken: there is no telling which it was.
	r.frame(strings.Replace(broken, "AAA", "BBB", 1))
	r.wantCover(1, event.StreamTrades, "gap start", "gap malformed")
	r.trade(1, 7, "9.99", "1")
	r.wantCover(1, event.StreamTrades, "gap start", "gap malformed", "verified trade_id")
	r.wantCover(0, event.StreamBook, "gap start", "verified chain")
	r.finish()
}

func TestSilence(t *testing.T) {
	r := liveRig(t)
	r.ticks(29)
	r.wantCover(0, event.StreamBook, "gap start", "verified chain")
	before := r.cover(0, event.StreamBook)[1]
	r.ticks(3)
	r.wantCover(0, event.StreamBook, "gap start", "verified chain", "unverified silence")
	r.noted("AAAUSDT: no book message for")
	ivs := r.cover(0, event.StreamBook)
	if ivs[1].TsEnd != before.TsEnd || ivs[2].TsEnd != r.now {
		t.Errorf("the silence has moved what was proven: %+v, was %+v; it reaches to %d, now is %d", ivs[1], before, ivs[2].TsEnd, r.now)
	}
	// The chain goes on: nothing was missed.
	r.depth(0, 102, 102, "9.97=1", "")
	r.wantCover(0, event.StreamBook, "gap start", "verified chain", "verified chain")
	// The other one's does not.
	r.depth(1, 104, 104, "9.97=1", "")
	r.wantCover(1, event.StreamBook, "gap start", "verified chain", "gap sequence")
	if got := r.cover(1, event.StreamBook)[2]; got.TsEnd != r.now || got.Ts != r.cover(1, event.StreamBook)[1].TsEnd+1 {
		t.Errorf("the gap is %+v, now is %d", got, r.now)
	}
	r.finish()
}

func TestProbe(t *testing.T) {
	// silent is a rig whose first book has said nothing for 31 s.
	silent := func(t *testing.T) *rig {
		r := liveRig(t)
		r.asked = nil
		for i := range 31 {
			r.ticks(1)
			r.depth(1, int64(102+i), int64(102+i), "", "")
		}
		if len(r.asked) != 1 || r.asked[0].Inst != 0 {
			t.Fatalf("asked %+v", r.asked)
		}
		return r
	}
	t.Run("quiet", func(t *testing.T) {
		r := silent(t)
		r.rest(0, 200, body(101, "1=1", "2=2")) // our own id; the levels do not count
		r.ticks(29)
		r.wantCover(0, event.StreamBook, "gap start", "verified chain", "unverified silence")
		r.wantBook(0, 101, "9.99=1 9.98=1", "10.01=1 10.02=2")
		// It is asked again, ever more rarely.
		for range 31 {
			r.ticks(1)
			r.depth(1, r.m.insts[1].seq+1, r.m.insts[1].seq+1, "", "")
		}
		n := 0
		for _, a := range r.asked {
			if a.Inst == 0 {
				n++
			}
		}
		if n != 2 {
			t.Errorf("%d probes in a minute", n)
		}
		r.finish()
	})
	t.Run("dead subscription", func(t *testing.T) {
		r := silent(t)
		r.sent = nil
		r.rest(0, 200, body(140, "1=1", "2=2"))
		r.ticks(4)
		r.wantCover(0, event.StreamBook, "gap start", "verified chain", "unverified silence")
		r.ticks(1)
		r.wantCover(0, event.StreamBook, "gap start", "verified chain", "gap silence")
		if len(r.sent) != 2 || !strings.Contains(r.sent[0], `"UNSUBSCRIBE","params":["aaausdt@`) || !strings.Contains(r.sent[1], `"SUBSCRIBE","params":["aaausdt@`) || strings.Contains(r.sent[1], `"id":1}`) {
			t.Errorf("sent %q", r.sent)
		}
		r.frame(`{"result":null,"id":2}`)
		r.frame(`{"result":null,"id":3}`)
		r.depth(0, 150, 151, "9.97=1", "")
		r.rest(0, 200, body(149, "9.99=2", "10.01=1"))
		r.wantBook(0, 151, "9.99=2 9.97=1", "10.01=1")
		r.wantCover(0, event.StreamBook, "gap start", "verified chain", "gap silence", "verified chain")
		r.finish()
	})
	t.Run("only late", func(t *testing.T) {
		r := silent(t)
		r.rest(0, 200, body(140, "1=1", "2=2"))
		r.depth(0, 102, 140, "9.97=1", "")
		r.ticks(6)
		r.wantBook(0, 140, "9.99=1 9.98=1 9.97=1", "10.01=1 10.02=2")
		r.wantCover(0, event.StreamBook, "gap start", "verified chain", "verified chain")
		r.finish()
	})
	t.Run("answered after a gap", func(t *testing.T) {
		r := silent(t)
		r.depth(0, 104, 104, "9.97=1", "")
		if len(r.asked) != 2 || r.asked[1].Request == r.asked[0].Request {
			t.Fatalf("asked %+v", r.asked)
		}
		r.asked = r.asked[:1]
		r.rest(0, 200, body(103, "1=1", "2=2")) // the probe's, asked before the gap
		r.wantCover(0, event.StreamBook, "gap start", "verified chain", "gap sequence")
		r.finish()
	})
	t.Run("refused", func(t *testing.T) {
		r := silent(t)
		r.rest(0, 429, "slow down")
		r.ticks(10)
		r.wantCover(0, event.StreamBook, "gap start", "verified chain", "unverified silence")
		r.finish()
	})
}

// An unknown symbol is acknowledged like any other, and then says nothing.
func TestNeverSpeaks(t *testing.T) {
	r := newRig(t, inst("AAAUSDT"))
	r.run()
	r.connect()
	r.ack(1)
	r.ticks(2)
	r.rest(0, 400, `{"code":-1121,"msg":"Invalid symbol."}`)
	r.noted(`AAAUSDT: snapshot request failed with status 400: {"code":-1121,"msg":"Invalid symbol."}`)
	r.ticks(100)
	r.wantCover(0, event.StreamBook, "gap start")
	r.wantCover(0, event.StreamTrades, "gap start", "unverified silence")
	r.wantCover(0, event.StreamQuotes, "gap start")
	r.finish()
}

// A subscription that is dead from the beginning, of a symbol that exists: only
// the snapshots themselves are ever called verified.
func TestDeadFromTheBeginning(t *testing.T) {
	r := newRig(t, inst("AAAUSDT"))
	r.run()
	r.connect()
	r.ack(1)
	id, answered := int64(100), 0
	for range 120 {
		r.ticks(1)
		id += 10
		for ; answered < len(r.asked); answered++ {
			r.rest(0, 200, body(id, "9.98=1", "10.01=1"))
		}
	}
	verified := int64(0)
	for _, iv := range r.cover(0, event.StreamBook) {
		if iv.State == event.StateVerified {
			verified += iv.TsEnd - iv.Ts + 1
		}
	}
	if verified == 0 || verified > 100 || len(r.sent) < 3 {
		t.Errorf("%d ns are verified, sent %q", verified, r.sent)
	}
	r.finish()
}

func TestRefusedCommand(t *testing.T) {
	r := newRig(t, inst("AAAUSDT"))
	r.run()
	r.connect()
	if len(r.sent) != 1 || !strings.Contains(r.sent[0], `"aaausdt@depth@100ms","aaausdt@trade","aaausdt@bookTicker"`) {
		t.Fatalf("sent %q", r.sent)
	}
	r.frame(`{"code":2,"msg":"Invalid request: too many parameters","id":1}`)
	r.noted("refused command 1, for AAAUSDT: Invalid request: too many parameters")
	r.wantCover(0, event.StreamTrades, "gap start") // not even a silence
	r.frame(`{"e":"serverShutdown","E":1770123456789}`)
	if len(r.redial) != 1 {
		t.Error("a shutdown that has been announced is waited for")
	}
	r.wantFrames("received 2, control 2")
	r.finish()
}

func TestDisconnect(t *testing.T) {
	r := liveRig(t)
	for i := range 2 {
		r.trade(i, 500, "9.99", "1")
		r.quote(i, 1, "9.99", "1", "10.01", "2")
	}
	r.now += 5e9
	r.close()
	gone := r.now
	for i := range 2 {
		r.wantCover(i, event.StreamBook, "gap start", "verified chain", "gap disconnect")
		r.wantCover(i, event.StreamTrades, "gap start", "unverified silence", "verified trade_id", "gap disconnect")
		r.wantCover(i, event.StreamQuotes, "gap start", "unverified ", "gap disconnect")
	}
	if g := r.cover(0, event.StreamTrades)[3]; g.Ts > gone-5e9 || g.TsEnd != gone {
		t.Errorf("the gap is %+v, the last trade was 5 s before %d", g, gone)
	}
	r.ticks(2)
	r.connect()
	r.ack(1)
	r.trade(0, 501, "9.99", "1") // nothing was missed
	r.trade(1, 502, "9.99", "1") // 501 was
	r.quote(0, 2, "9.99", "1", "10.01", "2")
	r.wantCover(0, event.StreamTrades, "gap start", "unverified silence", "verified trade_id", "verified trade_id")
	r.wantCover(1, event.StreamTrades, "gap start", "unverified silence", "verified trade_id", "gap disconnect", "verified trade_id")
	r.wantCover(0, event.StreamQuotes, "gap start", "unverified ", "gap disconnect", "unverified ")
	// A book cannot prove that: the ids go on, but not for those who were not there.
	r.depth(0, 102, 102, "9.97=1", "")
	r.wantCover(0, event.StreamBook, "gap start", "verified chain", "gap disconnect")
	r.rest(0, 200, body(101, "9.99=1", "10.01=1"))
	r.wantCover(0, event.StreamBook, "gap start", "verified chain", "gap disconnect", "verified chain")
	r.wantBook(0, 102, "9.99=1 9.97=1", "10.01=1")
	// Cut again, in the middle of a sync.
	r.depth(1, 103, 103, "9.97=1", "")
	r.close()
	r.wantFrames("received 13, applied 10, control 2, out_of_sync 1")
	r.finish()
}

// The close is missing: the connection before cannot be trusted all the same.
func TestConnectTwice(t *testing.T) {
	r := liveRig(t)
	r.ticks(1)
	r.connect()
	r.wantCover(0, event.StreamBook, "gap start", "verified chain", "gap disconnect")
	r.finish()
}

func TestLoss(t *testing.T) {
	r := liveRig(t)
	for i := range 2 {
		r.trade(i, 500, "9.99", "1")
		r.quote(i, 1, "9.99", "1", "10.01", "2")
	}
	r.depth(1, 105, 105, "", "") // a gap of its own, and a frame in its buffer
	r.loss(17)
	r.wantCover(0, event.StreamBook, "gap start", "verified chain", "gap backpressure")
	r.wantCover(1, event.StreamBook, "gap start", "verified chain", "gap sequence")
	for i := range 2 {
		r.wantCover(i, event.StreamTrades, "gap start", "unverified silence", "verified trade_id", "gap backpressure")
		r.wantCover(i, event.StreamQuotes, "gap start", "unverified ", "gap backpressure")
	}
	r.noted("17 frames lost")
	r.wantFrames("received 25, applied 6, control 1, lost 17, out_of_sync 1")
	// The connection is still there.
	r.depth(0, 110, 110, "9.97=1", "")
	r.rest(0, 200, body(109, "9.99=1", "10.01=1"))
	r.wantBook(0, 110, "9.99=1 9.97=1", "10.01=1")
	r.trade(0, 501, "9.99", "1")
	r.wantCover(0, event.StreamTrades, "gap start", "unverified silence", "verified trade_id", "verified trade_id")
	// Lost while there is no connection: nothing to resync.
	r.close()
	r.loss(1)
	r.depthsAsked(0)
	r.finish()
}

// depthsAsked: no book waits for a snapshot.
func (r *rig) depthsAsked(want int) {
	r.t.Helper()
	n := 0
	for i := range r.m.insts {
		if r.m.insts[i].state == bookSyncing {
			n++
		}
	}
	if n != want {
		r.t.Errorf("%d books sync, want %d", n, want)
	}
}

// Inputs are missing in the journal: what came before is not what comes after.
func TestMissingInputs(t *testing.T) {
	r := liveRig(t)
	r.trade(0, 500, "9.99", "1")
	request := r.asked[len(r.asked)-1].Request
	r.pos += 40
	r.ticks(1)
	r.wantCover(0, event.StreamBook, "gap start", "verified chain", "gap journal")
	r.wantCover(0, event.StreamTrades, "gap start", "unverified silence", "verified trade_id", "gap journal")
	r.noted("missing in the journal")
	// What the agent asked for meanwhile is not known; its answer will do.
	r.depth(0, 200, 201, "9.97=1", "")
	r.step(event.InputRest, event.RestAux(request+9, 0, 200), []byte(body(199, "9.99=1", "10.01=1")))
	r.wantBook(0, 201, "9.99=1 9.97=1", "10.01=1")
	r.trade(0, 501, "9.99", "1")
	r.wantCover(0, event.StreamTrades, "gap start", "unverified silence", "verified trade_id", "verified trade_id")
	// A hole that holds the connect.
	r.close()
	r.pos += 2
	r.depth(0, 301, 301, "9.97=1", "")
	r.step(event.InputRest, event.RestAux(request+20, 0, 200), []byte(body(300, "9.99=1", "10.01=1")))
	r.wantBook(0, 301, "9.99=1 9.97=1", "10.01=1")
	if !r.m.Status().Connected {
		t.Error("a frame has come, so there is a connection")
	}
	r.finish()
}

func resume(r *rig) (list []Resume) {
	for i := range r.m.insts {
		list = append(list, r.m.Resume(i))
	}
	return list
}

func TestRestart(t *testing.T) {
	for name, end := range map[string]func(r *rig){
		"stopped": func(r *rig) { r.stop() },
		"killed":  func(r *rig) {},
		"killed in a sync": func(r *rig) {
			r.depth(0, 900, 901, "9.97=1", "")
		},
		"killed after a cut": func(r *rig) { r.close() },
	} {
		t.Run(name, func(t *testing.T) {
			r := liveRig(t)
			r.trade(0, 500, "9.99", "1")
			r.ticks(1)
			r.trade(0, 501, "9.99", "1")
			r.depth(0, 102, 102, "9.97=1", "")
			end(r)
			ends := [2]int64{r.m.Resume(0).Ends[event.StreamBook], r.m.Resume(1).Ends[event.StreamTrades]}
			r.now += 60e9
			r.run(resume(r)...)
			books, trades := r.cover(0, event.StreamBook), r.cover(1, event.StreamTrades)
			if g := books[len(books)-1]; g.State != event.StateGap || g.Cause != event.CauseStop || g.Ts != ends[0]+1 || g.TsEnd != r.now {
				t.Errorf("the gap is %+v, want from %d to %d", g, ends[0]+1, r.now)
			}
			if g := trades[len(trades)-1]; g.State != event.StateGap || g.Cause != event.CauseStop || g.Ts != ends[1]+1 {
				t.Errorf("the gap is %+v, want from %d", g, ends[1]+1)
			}
			r.connect()
			r.ack(1)
			r.depth(0, 950, 951, "9.97=1", "")
			r.rest(0, 200, body(950, "9.99=1", "10.01=1"))
			r.wantBook(0, 951, "9.99=1 9.97=1", "10.01=1")
			r.trade(0, 502, "9.99", "1")
			r.finish()
		})
	}
}

// The clock has gone back over a restart: ts does not.
func TestRestartInThePast(t *testing.T) {
	r := liveRig(t)
	r.ticks(5)
	r.stop()
	r.now -= 3600e9
	r.run(resume(r)...)
	r.connect()
	r.depth(0, 950, 951, "9.97=1", "")
	r.rest(0, 200, body(950, "9.99=1", "10.01=1"))
	r.ticks(2)
	r.trade(0, 502, "9.99", "1")
	r.finish()
}

// What the journal does not say, the database may: then only ends are known.
func TestResumeFromElsewhere(t *testing.T) {
	r := newRig(t, inst("AAAUSDT"))
	r.run(Resume{LastTs: t0 - 50, Ends: [event.NumStreams]int64{t0 - 100, t0 - 50, 0}})
	b, q := r.cover(0, event.StreamBook), r.cover(0, event.StreamQuotes)
	if b[0].Ts != t0-99 || b[0].Cause != event.CauseStop || q[0].Ts != t0 || q[0].Cause != event.CauseStart {
		t.Errorf("%+v %+v", b, q)
	}
	r.finish()
}

func TestRunRecordIsChecked(t *testing.T) {
	r := newRig(t)
	in := event.Input{InputHead: event.InputHead{Kind: event.InputTick, Pos: 1, Ts: t0}}
	if err := r.m.Step(&in); err == nil || !strings.Contains(err.Error(), "before the run record") {
		t.Errorf("a tick before the run: %v", err)
	}
	for _, data := range []string{``, `{`, `{"venue":"nowhere"}`} {
		in := event.Input{InputHead: event.InputHead{Kind: event.InputRun, Pos: 1, Ts: t0}, Data: []byte(data)}
		if err := r.m.Step(&in); err == nil {
			t.Errorf("run record %q is taken", data)
		}
	}
}

// Messages with the same stamp, or an older one, get rows all the same.
func TestEqualStamps(t *testing.T) {
	quick := newRig(t, inst("AAAUSDT"))
	quick.run()
	quick.connect()
	quick.ack(1)
	quick.now -= 1000
	quick.trade(0, 500, "9.99", "1")
	quick.now -= 1000
	quick.quote(0, 1, "9.99", "1", "10.01", "2")
	quick.now -= 1000
	quick.close()
	quick.finish()

	r := liveRig(t)
	for i := range 50 {
		r.now -= 1000 // frame adds as much
		if i%5 == 0 {
			r.now -= 300
		}
		switch i % 4 {
		case 0:
			r.depth(0, r.m.insts[0].seq+1, r.m.insts[0].seq+1, "9.97=1 9.96=1 9.95=1", "10.02=0")
		case 1:
			r.trade(0, int64(500+i), "9.99", "1")
		case 2:
			r.quote(0, int64(i), "9.99", "1", "10.01", "2")
		case 3:
			r.depth(0, r.m.insts[0].seq+3, r.m.insts[0].seq+3, "9.97=2", "")
			r.rest(0, 200, body(r.m.insts[0].firstID, "9.98=1", "10.01=1"))
		}
	}
	r.finish()
}
