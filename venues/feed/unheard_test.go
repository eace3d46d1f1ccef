package feed

import (
	"fmt"
	"strings"
	"testing"

	"deeptape/hotpath/event"
)

// A venue refuses one symbol in a way that nobody knows, or says nothing at all, and goes
// on with the others. The connection stays, for it serves them: they have no gap for it.
// The symbol is asked for again and again, ever more seldom, and comes once the venue
// takes it.
func TestRefusedInOtherWords(t *testing.T) {
	for _, c := range []struct{ venue, shape, why string }{
		{"kraken", "rate", "it was refused without its name"},
		{"kraken", "strange", "no answer came"}, {"kraken", "nothing", "no answer came"},
		{"coinbase", "left out", "leaves it out"}, {"coinbase", "strange", "leaves it out"}, {"coinbase", "nothing", "leaves it out"},
		{"okx", "strange", "no answer came"}, {"okx", "nothing", "no answer came"},
		{"bybit", "strange", "no answer came"}, {"bybit", "nothing", "no answer came"},
	} {
		name := c.venue + " " + c.shape
		k := newMarket(t, c.venue, 4)
		k.bad, k.shape = 1, c.shape
		k.run()
		k.open()
		pass := func(seconds int) {
			for i := range seconds {
				k.flow(2)
				k.second()
				if i%300 == 215 { // a derivation that starts here knows what was not answered
					k.keyframe()
				}
			}
		}
		pass(60)
		if name == "kraken nothing" {
			// Its one command is for both, so that nothing but heartbeats came for 10 s: another
			// connection was asked for. Then each is subscribed by itself.
			k.redial = k.redial[1:]
		}
		gaps := k.m.insts[0].stats.Gaps
		for s := range event.StreamQuotes {
			if st := k.m.insts[0].streams[s]; st.state == event.StateGap {
				t.Errorf("%s: after a minute the %s of its neighbour are a gap", name, s)
			}
		}
		before := len(k.sent)
		pass(640)
		if len(k.redial) > 0 || k.m.lines[0].acksOwed > 0 || k.m.insts[0].stats.Gaps != gaps {
			t.Errorf("%s: redials %+v, %d answers are owed, %d gaps of the neighbour", name, k.redial, k.m.lines[0].acksOwed, k.m.insts[0].stats.Gaps-gaps)
		}
		asked := 0
		for _, text := range k.sent[before:] {
			if strings.Contains(text, "subscribe") {
				asked++
			}
		}
		// In ten minutes, after waits of 40, 80, 160 and 300 s: its book is ended and begun anew,
		// and its trades are asked for.
		if asked < 6 || asked > 20 {
			t.Errorf("%s: %d commands in ten minutes", name, asked)
		}
		k.noted(c.why)
		for s := range event.StreamQuotes {
			if st := k.m.insts[1].streams[s]; st.state != event.StateGap || s == event.StreamTrades && !strings.HasPrefix(st.detail, "refused: ") {
				t.Errorf("%s: the %s of the bad one are %s, detail %q", name, s, st.state, st.detail)
			}
		}
		if rank := k.m.insts[1].rank(); !Failed(rank) || k.m.insts[0].rank() != RankLive {
			t.Errorf("%s: ranks %d and %d", name, rank, k.m.insts[0].rank())
		}
		if unknown := k.m.Status().Unknown; (len(unknown) == 1 && unknown[0].Count > 3) != (c.shape == "strange") {
			t.Errorf("%s: unknown frames: %+v", name, unknown)
		}
		k.bad = -1
		pass(400)
		for i := range k.m.insts {
			for s := range event.StreamQuotes {
				if k.m.insts[i].streams[s].state == event.StateGap {
					t.Errorf("%s: the venue takes it, and the %s of %d are a gap: %+v", name, s, i, k.m.lines[0])
				}
			}
		}
		if st := k.m.Status().Instruments[1]; st.Refused != "" || len(k.m.lines[0].refused) > 0 || len(k.m.lines[0].pending) > 0 {
			t.Errorf("%s: status still says %q, line %+v", name, st.Refused, k.m.lines[0])
		}
		k.finish()
		for at, in := range k.inputs {
			if in.Kind == event.InputKeyframe {
				sameFrom(t, k.rig, at)
			}
		}
	}
}

// Where nothing but heartbeats comes after the subscription, the connection is of no use:
// another is asked for, each time later.
func TestNothingButHeartbeats(t *testing.T) {
	for _, name := range marketNames {
		k := newMarket(t, name, 5)
		k.deaf = 1 << 30
		k.run()
		k.open()
		for range 40 {
			k.bring(k.heartbeat())
			k.second()
		}
		if len(k.redial) != 1 || k.redial[0].Text != "a subscription goes unanswered" {
			t.Errorf("%s: asked for %+v", name, k.redial)
		}
	}
}

// Binance's ways to refuse: flat, nested, in a shape that nobody knows, and not at all.
// Data comes, so that the connection stays.
func TestBinanceRefusesInOtherWords(t *testing.T) {
	for _, c := range []struct{ answer, why string }{
		{`{"error":{"code":2,"msg":"Invalid request: unknown"},"id":1}`, "Invalid request: unknown"},
		{`{"oops":true}`, "refused command 1: no answer came"},
		{"", "refused command 1: no answer came"},
	} {
		r := newRig(t, inst("AAAUSDT"), inst("BBBUSDT"))
		r.sends = true
		r.run()
		r.connect()
		sent := len(r.sent)
		if c.answer != "" {
			r.frame(c.answer)
		}
		r.depth(0, 101, 101, "9.98=1", "10.02=2")
		r.rest(0, 200, body(100, "9.99=1", "10.01=1"))
		for id := int64(102); id < 130; id++ {
			r.depth(0, id, id, "9.98=2", "")
			r.ticks(1)
		}
		r.noted(c.why)
		var again []string
		for _, text := range r.sent[sent:] {
			if strings.Contains(text, `"SUBSCRIBE"`) {
				again = append(again, text)
			}
		}
		// The book of the first one comes, so that only the rest of it is asked for.
		if len(again) != 2 || !strings.Contains(again[0], `["aaausdt@trade","aaausdt@bookTicker"]`) || !strings.Contains(again[1], `["bbbusdt@depth@100ms","bbbusdt@trade","bbbusdt@bookTicker"]`) {
			t.Errorf("%q: sent %q", c.answer, again)
		}
		if len(r.redial) > 0 {
			t.Errorf("%q: redials %+v", c.answer, r.redial)
		}
		r.wantCover(0, event.StreamBook, "gap start", "verified chain")
		r.finish()
	}
}

// A run of a version that had no such commands has none in its journal: they are not made
// up when it is replayed.
func TestEarlierRunsAskNothingMore(t *testing.T) {
	r := newRig(t, inst("AAAUSDT"))
	r.cfg.Version = splitsSince - 1
	r.sends = true
	r.run()
	r.connect()
	sent, id := len(r.sent), r.m.commandID
	r.depth(0, 101, 101, "9.98=1", "10.02=2")
	for range 60 {
		r.trade(0, 500, "9.99", "1")
		r.ticks(1)
	}
	if len(r.sent) != sent || r.m.commandID != id {
		t.Errorf("sent %q", r.sent[sent:])
	}
	if len(r.redial) != 1 {
		t.Errorf("redials %+v", r.redial)
	}
}

// Of a command for several, those that have had their answer are not asked for again.
func TestPartlyAnswered(t *testing.T) {
	k := newMarket(t, "kraken", 6)
	k.run()
	k.open()
	for n := 0; n < len(k.sent); n++ {
		k.step(event.InputCommand, 0, []byte(k.sent[n]))
	}
	heard := k.heard
	k.heard = len(k.sent)
	for _, text := range k.sent[heard:] { // the first symbol's answer alone
		channel := "trade"
		if strings.Contains(text, `"book"`) {
			channel = "book"
		}
		if id := commandID.FindStringSubmatch(text); id != nil && strings.Contains(text, "AAA/USD") {
			k.frame(fmt.Sprintf(`{"method":"subscribe","result":{"channel":%q,"symbol":"AAA/USD"},"success":true,"req_id":%s}`, channel, id[1]))
		}
	}
	for range 12 {
		k.bring(k.tradeFrame(0))
		k.now += 1e9
		k.step(event.InputTick, 0, nil)
	}
	if l := k.m.lines[0].refused; len(l) != 1 || l[0].Inst != 1 {
		t.Errorf("refused: %+v, pending %+v", l, k.m.lines[0].pending)
	}
}

// What the venue's limits hold back is not asked for in vain: a connection's subscription
// that has not gone out yet is not made again, and its symbols keep their rank. On a second
// line it comes after those of feeds that are down.
func TestSubscriptionThatHasNotGoneOut(t *testing.T) {
	for _, name := range marketNames {
		k := newMarket(t, name, 7)
		k.sends = false
		k.run()
		k.open()
		sent := len(k.sent)
		k.ticks(60)
		for _, text := range k.sent[sent:] {
			if strings.Contains(text, "subscribe") {
				t.Fatalf("%s: sent %s as well", name, text)
			}
		}
		for i := range k.m.insts {
			if rank := k.m.insts[i].rank(); rank != RankNew {
				t.Errorf("%s: rank %d", name, rank)
			}
		}
		k.noted("its subscription waits for the venue's limit of commands")
	}
	k := liveMarket(t, "okx")
	k.line = 1
	k.step(event.InputConnect, 2, nil)
	for _, a := range k.m.Actions() {
		if a.Kind == ActionSend && a.Rank != RankSecond {
			t.Errorf("%+v", a)
		}
	}
}
