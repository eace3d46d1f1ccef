package feed

import (
	"strings"
	"testing"

	"deeptape/hotpath/event"
)

// A bad symbol among good ones: the venue refuses whatever names it. The good ones come
// all the same, the bad one is named and asked for with growing patience, and once the
// venue takes it every stream of it comes.
func TestBadSymbol(t *testing.T) {
	for _, name := range marketNames {
		k := newMarket(t, name, 3)
		k.bad = 1
		k.run()
		k.open()
		bad := k.cfg.Instruments[1].Symbol
		pass := func(seconds int) {
			for i := range seconds {
				k.flow(4)
				k.second()
				if i%97 == 15 { // a derivation that starts here knows what was refused
					k.keyframe()
				}
			}
		}
		state := func(i int, s event.Stream) event.State { return k.m.insts[i].streams[s].state }
		pass(40)
		for s := range event.StreamQuotes {
			if state(0, s) == event.StateGap {
				t.Errorf("%s: after 40 s the %s of its neighbour are a gap", name, s)
			}
		}
		if k.m.lines[0].acksOwed > 0 || len(k.redial) > 0 {
			t.Errorf("%s: %d answers are owed, redials %+v", name, k.m.lines[0].acksOwed, k.redial)
		}
		pass(660)
		books, trades := 0, 0
		for _, text := range k.sent {
			if !strings.Contains(text, bad) || strings.Contains(text, "unsubscribe") {
				continue
			}
			if strings.Contains(text, `"book`) || strings.Contains(text, "orderbook.200") || strings.Contains(text, "level2") {
				books++
			}
			if strings.Contains(text, `"trade`) || strings.Contains(text, "publicTrade") || strings.Contains(text, "market_trades") {
				trades++
			}
		}
		// The first time, and after waits of 10, 20, 40, 80, 160 and 300 s.
		if books < 6 || books > 8 || trades < 6 || trades > 8 {
			t.Errorf("%s: in 700 s the book of the bad one was asked for %d times, its trades %d times", name, books, trades)
		}
		k.noted("for " + bad + ": ")
		if got := k.m.Status().Instruments[1].Refused; got == "" || k.m.Status().Instruments[0].Refused != "" {
			t.Errorf("%s: status says %q", name, got)
		}
		for s := range event.StreamQuotes {
			if detail := k.m.insts[1].streams[s].detail; state(1, s) != event.StateGap || !strings.Contains(detail, "refused: ") {
				t.Errorf("%s: the %s of the bad one are %s, detail %q", name, s, state(1, s), detail)
			}
		}
		k.bad = -1
		pass(400)
		for s := range event.StreamQuotes {
			if state(1, s) == event.StateGap {
				t.Errorf("%s: the venue takes it, and its %s are a gap: %+v", name, s, k.m.lines[0].refused)
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

// Binance's commands name many streams, of several instruments: each is asked for by itself.
func TestRefusedBatch(t *testing.T) {
	r := newRig(t, inst("AAAUSDT"), inst("BBBUSDT"))
	r.run()
	r.connect()
	first := len(r.sent)
	r.step(event.InputCommand, 0, []byte(r.sent[first-1]))
	r.frame(`{"code":2,"msg":"Invalid request","id":1}`)
	r.ticks(9)
	if n := len(r.sent); n != first {
		t.Fatalf("asked for at once: %q", r.sent[first:])
	}
	r.ticks(2)
	if n := len(r.sent) - first; n != 2 {
		t.Fatalf("sent %q", r.sent[first:])
	}
	for i, symbol := range []string{"aaausdt", "bbbusdt"} {
		if text, want := r.sent[first+i], `"params":["`+symbol+`@depth@100ms","`+symbol+`@trade","`+symbol+`@bookTicker"]`; !strings.Contains(text, want) {
			t.Errorf("sent %s, want %s", text, want)
		}
		r.step(event.InputCommand, 0, []byte(r.sent[first+i]))
	}
	r.frame(`{"result":null,"id":2}`)
	r.frame(`{"code":2,"msg":"Invalid symbol","id":3}`)
	r.noted("for BBBUSDT: Invalid symbol")
	r.wantCover(0, event.StreamTrades, "gap start", "unverified silence")
	r.wantCover(1, event.StreamTrades, "gap start")
	if l := &r.m.lines[0]; len(l.refused) != 1 || l.refused[0].Inst != 1 || l.acksOwed != 0 {
		t.Errorf("%+v", l)
	}
	r.trade(1, 500, "9.99", "1") // on all the same: no longer asked for
	r.quote(1, 1, "9.99", "1", "10.01", "2")
	r.ticks(25)
	if text := r.sent[len(r.sent)-1]; len(r.sent) != first+3 || !strings.Contains(text, `"params":["bbbusdt@depth@100ms"]`) {
		t.Errorf("sent %q", r.sent[first+2:])
	}
	r.finish()
}

// What one line was refused the other still brings: it is asked for again on that line
// alone, and ends nothing. When the other line ends before that, nobody brings it.
func TestRefusedOnOneLine(t *testing.T) {
	for _, ends := range []bool{false, true} {
		k := liveMarket(t, "bybit")
		const quote = `{"topic":"orderbook.1.BBBUSDT","ts":1790000000000,"type":"snapshot","data":{"s":"BBBUSDT","b":[["100","1"]],"a":[["101","2"]],"u":5,"seq":7},"cts":1790000000000}`
		k.frame(quote)
		k.frame(k.tradeFrame(1))
		k.line = 1
		k.step(event.InputConnect, 2, nil)
		k.bring(k.bookFrame(0, true, k.all(0)))
		k.frame(`{"success":true,"ret_msg":"subscribe","conn_id":"c","req_id":"1","op":"subscribe"}`)
		k.frame(k.refusal("2"))
		k.line = 0
		k.frame(k.tradeFrame(1))
		k.wantCover(1, event.StreamQuotes, "gap start", "unverified ")
		if ends {
			k.close()
			k.wantCover(1, event.StreamQuotes, "gap start", "unverified ", "gap disconnect")
			if iv := k.m.insts[1].streams[event.StreamTrades]; iv.state != event.StateGap || iv.cause != event.CauseDisconnect {
				t.Errorf("the trades are %+v", iv)
			}
			continue
		}
		sent := len(k.sent)
		for range 12 {
			k.now += 1e9
			k.bring(k.update(1))
			k.step(event.InputTick, 0, nil)
		}
		var again []string
		for _, text := range k.sent[sent:] {
			if strings.Contains(text, "subscribe") {
				again = append(again, text)
			}
		}
		if len(again) != 1 || !strings.Contains(again[0], `"op":"subscribe","args":["orderbook.200.BBBUSDT","publicTrade.BBBUSDT","orderbook.1.BBBUSDT"]`) {
			t.Errorf("sent %q", again)
		}
		if p := k.m.lines[1].pending; len(p) != 1 || len(k.m.lines[0].pending) != 0 {
			t.Errorf("line 1 waits for %+v", p)
		}
	}
}
