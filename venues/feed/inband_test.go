package feed

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"deeptape/hotpath/event"
)

// liveMarket is connected, with live books and answered commands.
func liveMarket(t *testing.T, name string) *market {
	k := newMarket(t, name, 3)
	k.run()
	k.open()
	k.obey()
	k.flow(80)
	for i := range k.books {
		if k.m.insts[i].state != bookLive {
			t.Fatalf("book %d is %s", i, bookStateNames[k.m.insts[i].state])
		}
	}
	k.sent, k.heard, k.notes = nil, 0, nil
	return k
}

// update is the next frame of a book.
func (k *market) update(i int) string {
	for {
		if levels := k.change(i, 3); len(levels) > 0 {
			return k.bookFrame(i, false, levels)
		}
	}
}

var proofs = map[string]string{"bybit": "verified chain", "coinbase": "verified connection_seq", "kraken": "verified crc", "okx": "verified chain"}

// A frame that is missing is noticed by the next one of its book (of its connection, at
// Coinbase), the book is subscribed once, and its snapshot ends the gap.
func TestDroppedFrame(t *testing.T) {
	for _, name := range marketNames {
		t.Run(name, func(t *testing.T) {
			k := liveMarket(t, name)
			k.update(0)
			cause := map[string]string{"kraken": "gap checksum"}[name]
			if cause == "" {
				cause = "gap sequence"
			}
			for range 5 { // bad frames do not ask again
				k.bring(k.update(0))
			}
			books := strings.Count(strings.Join(k.sent, "\n"), k.cfg.Instruments[0].Symbol)
			if books != 2 {
				t.Errorf("sent %q", k.sent)
			}
			k.wantCover(0, event.StreamBook, "gap start", proofs[name], cause)
			other := []string{"gap start", proofs[name]}
			if name == "coinbase" {
				other = append(other, cause)
			}
			k.wantCover(1, event.StreamBook, other...)
			k.obey()
			k.flow(30)
			k.wantCover(0, event.StreamBook, "gap start", proofs[name], cause, proofs[name])
			k.second()
			if k.m.insts[0].state != bookLive || k.m.insts[0].stats.Resubscribed != 1 {
				t.Errorf("%+v", k.m.insts[0].stats)
			}
			k.finish()
		})
	}
}

// Losses that are far apart are each healed at once; those that follow close upon a
// snapshot wait longer each time.
func TestRenewWaits(t *testing.T) {
	for messages, want := range map[int]string{40: "[0 0 0]", 3: "[0 1 2]"} {
		k := liveMarket(t, "bybit")
		var waits []int
		for range streakMax { // after so many the check is given up
			k.update(0)
			k.bring(k.update(0))
			wait := 0
			for k.m.insts[0].state != bookLive {
				k.obey()
				k.flow(0)
				if k.m.insts[0].state != bookLive {
					k.second()
					wait++
				}
			}
			waits = append(waits, wait)
			for range messages {
				k.bring(k.update(0))
			}
		}
		if got := fmt.Sprint(waits); got != want {
			t.Errorf("after %d messages each: seconds %s, want %s", messages, got, want)
		}
	}
}

// Answers find their command, in whatever order they come.
func TestAnswers(t *testing.T) {
	k := newMarket(t, "okx", 3)
	k.run()
	k.open()
	for n := len(k.m.lines[0].pending); n > 0; n-- {
		if len(k.m.lines[0].pending) != n || k.m.lines[0].acksOwed != n {
			t.Fatalf("%d owed: %+v", n, k.m.lines[0])
		}
		for _, id := range []int{n, n, 9999} { // twice, and one of nobody's
			k.frame(fmt.Sprintf(`{"id":"%d","event":"subscribe","arg":{"channel":"books","instId":"AAA-USDT"},"connId":"c"}`, id))
		}
	}
	k.finish()
}

// A book that comes twice is known by its id, or changes nothing.
func TestDoubledFrame(t *testing.T) {
	for _, name := range []string{"bybit", "okx", "kraken"} {
		k := liveMarket(t, name)
		f := k.update(0)
		k.bring(f)
		k.bring(f)
		k.flow(20)
		k.wantCover(0, event.StreamBook, "gap start", proofs[name])
		k.finish()
	}
}

// At OKX an id may stay, or go back; what counts is the link.
func TestPreviousLink(t *testing.T) {
	frame := func(k *market, seq, prev int64, bids string) {
		k.text = bookText(k.books[0], -1)
		k.frame(fmt.Sprintf(`{"arg":{"channel":"books","instId":"AAA-USDT"},"action":"update","data":[{"asks":[],"bids":[%s],"ts":"1790000000000","seqId":%d,"prevSeqId":%d}]}`, bids, seq, prev))
	}
	for _, c := range []struct {
		name      string
		seq, prev int64 // beside the book's id
		bids      string
		want      string
	}{
		{"keepalive", 0, 0, ``, ""},
		{"empty, with a new id", 5, 0, ``, ""},
		{"reset", -50, 0, ``, ""},
		{"the same again", 0, -7, ``, ""},
		{"a keepalive with a level", 0, 0, `["1.00","1","0","1"]`, "gap sequence"},
		{"one is missing", 9, 3, ``, "gap sequence"},
		{"older", -3, -9, ``, "gap sequence"},
		{"beside the chain", 9, -4, ``, "gap sequence"},
	} {
		k := liveMarket(t, "okx")
		id := k.m.insts[0].seq
		frame(k, id+c.seq, id+c.prev, c.bids)
		want := []string{"gap start", "verified chain"}
		if c.want != "" {
			want = append(want, c.want)
		}
		k.wantCover(0, event.StreamBook, want...)
		if got := k.m.insts[0].seq; c.want == "" && got != id+c.seq {
			t.Errorf("%s: id %d after %d", c.name, got, id)
		}
		k.wantCover(1, event.StreamBook, "gap start", "verified chain")
	}
}

// A snapshot that comes unasked replaces the book. The ids say whether it follows on.
func TestUnaskedSnapshot(t *testing.T) {
	for _, c := range []struct {
		name string
		skip int64
		gap  bool
	}{{"bybit", 0, false}, {"bybit", 1, false}, {"bybit", 2, true}, {"bybit", -500, true}, {"okx", 0, false}, {"okx", 1, true}, {"kraken", 0, true}} {
		k := liveMarket(t, c.name)
		if k.seq[0] += c.skip; k.seq[0] < 1 {
			k.seq[0] = 1
		}
		k.bring(k.bookFrame(0, true, k.all(0)))
		k.flow(30)
		want := []string{"gap start", proofs[c.name]}
		if c.gap {
			want = append(want, "gap venue_reset", proofs[c.name])
		}
		k.wantCover(0, event.StreamBook, want...)
		if len(k.sent) > 0 {
			t.Errorf("%v: sent %q", c, k.sent)
		}
		k.finish()
	}
}

// Every frame of a Coinbase connection counts: acks, heartbeats, and what is rejected.
func TestConnectionCounter(t *testing.T) {
	live := []string{"gap start", "verified connection_seq"}
	for name, c := range map[string]struct {
		frame func(k *market) string
		gap   bool
	}{
		"heartbeat":          {func(k *market) string { return k.heartbeat() }, false},
		"unknown channel":    {func(k *market) string { return k.numbered(`{"channel":"candles","sequence_num":#,"events":[]}`) }, false},
		"error":              {func(k *market) string { return `{"type":"error","message":"no"}` }, false},
		"heartbeat missing":  {func(k *market) string { k.heartbeat(); return k.heartbeat() }, true},
		"number again":       {func(k *market) string { k.frames--; return k.heartbeat() }, true},
		"number goes back":   {func(k *market) string { k.frames = 0; return k.heartbeat() }, true},
		"comes late":         {func(k *market) string { late := k.heartbeat(); k.frame(k.heartbeat()); return late }, true},
		"not to be read":     {func(k *market) string { return `{"channel":"l2_data","sequence_num":` }, true},
		"without its number": {func(k *market) string { k.heartbeat(); return `{"channel":"heartbeats"}` }, true},
	} {
		k := liveMarket(t, "coinbase")
		k.frame(c.frame(k))
		k.bring(k.heartbeat())
		for i := range k.books {
			if want := len(live) + map[bool]int{true: 1}[c.gap]; len(k.cover(i, event.StreamBook)) != want {
				t.Errorf("%s: book %d: %+v", name, i, k.cover(i, event.StreamBook))
			}
		}
		k.obey()
		k.flow(50)
		for i := range k.books {
			if k.m.insts[i].state != bookLive {
				t.Errorf("%s: book %d is %s", name, i, bookStateNames[k.m.insts[i].state])
			}
			list := k.cover(i, event.StreamBook)
			if c := list[len(list)-1]; c.Proof != event.ProofConnectionSeq {
				t.Errorf("%s: book %d proves itself no more: %+v", name, i, list)
			}
		}
		k.finish()
	}
}

// What cannot be read, and does not say whose it was, may have been of any book that has
// no ids.
func TestUnreadableFrame(t *testing.T) {
	for _, name := range marketNames {
		k := liveMarket(t, name)
		k.frame(`{"cha`)
		want := []string{"gap start", proofs[name]}
		if name == "kraken" || name == "coinbase" {
			want = append(want, "gap malformed")
		}
		k.wantCover(0, event.StreamBook, want...)
		k.wantCover(1, event.StreamBook, want...)
	}
}

// The snapshot is asked for again where it does not come, and less often each time.
func TestSnapshotNeverComes(t *testing.T) {
	k := newMarket(t, "kraken", 3)
	k.run()
	k.open()
	k.deaf = 1000
	k.sent = nil
	var at []int
	for s := range 1000 {
		n := len(k.sent)
		k.second()
		if len(k.sent) > n {
			at = append(at, s+1)
		}
	}
	if got := fmt.Sprint(at); got != "[10 20 40 80 160 320 620 920]" {
		t.Errorf("subscribed again after %s seconds", got)
	}
	k.noted("no snapshot came; subscribing again")
	k.noted("has not answered command 1")
	if len(k.redial) != 1 {
		t.Errorf("another connection was asked for %d times, want once: this one's subscription went unanswered", len(k.redial))
	}
	k.wantCover(0, event.StreamBook, "gap start")
	k.deaf = 0
	k.recover()
	k.finish()
}

// TestUnansweredConnections: a connection whose subscription is not answered is given up,
// and each one after it gets twice as long, up to 43 minutes: to a venue that is busy, many
// connections in turn are one more load. An answer ends that.
func TestUnansweredConnections(t *testing.T) {
	k := newMarket(t, "kraken", 3)
	k.run()
	patience := func() int {
		k.open()
		n := len(k.redial)
		for s := 1; s < 6000; s++ {
			k.deaf = 1000
			k.second()
			if len(k.redial) > n {
				k.shut()
				return s
			}
		}
		return -1
	}
	var got []int
	for range 11 {
		got = append(got, patience())
	}
	if s := fmt.Sprint(got); s != "[10 20 40 80 160 320 640 1280 2560 2560 2560]" {
		t.Errorf("a connection without an answer is given up after %s s", s)
	}
	k.deaf = 0
	k.open()
	k.recover()
	k.shut()
	if s := patience(); s != 10 {
		t.Errorf("after one that was answered: %d s", s)
	}
}

// Where a snapshot is late and has been asked for again, two come, and between the two
// commands of the second nothing was sent: the first book ends in a gap.
func TestLateSnapshot(t *testing.T) {
	k := newMarket(t, "coinbase", 3)
	k.run()
	k.open()
	k.bring(k.heartbeat())
	for range 12 {
		k.now += 1e9
		k.step(event.InputTick, 0, nil)
	}
	if n := k.m.insts[0].stats.Resubscribed; n == 0 {
		t.Fatal("nobody asks again")
	}
	k.bring(k.bookFrame(0, true, k.all(0)))
	k.bring(k.update(0))
	k.bring(k.bookFrame(0, true, k.all(0)))
	list := k.cover(0, event.StreamBook)
	if c := list[len(list)-2]; c.State != event.StateGap || c.Cause != event.CauseVenueReset {
		t.Errorf("%+v", list)
	}
	k.finish()
}

// A snapshot that comes twice is one answer: those to later requests are still to come,
// and none of them leads on from the book that there is.
func TestSnapshotTwice(t *testing.T) {
	k := newMarket(t, "coinbase", 3)
	k.run()
	k.open()
	k.bring(k.heartbeat())
	for range 12 {
		k.now += 1e9
		k.step(event.InputTick, 0, nil)
	}
	first := k.bookFrame(0, true, k.all(0))
	k.bring(first)
	k.bring(first) // its number is wrong, and the book is asked for once more
	if n := k.m.insts[0].inband.Expected; n != 2 {
		t.Errorf("%d snapshots are expected, want 2", n)
	}
	for range 2 {
		k.bring(k.update(0))
		k.change(0, 5) // between the two commands nothing is sent
		k.bring(k.bookFrame(0, true, k.all(0)))
	}
	verified := proofs["coinbase"]
	k.wantCover(0, event.StreamBook, "gap start", verified, "gap sequence", verified, "gap venue_reset", verified, "gap venue_reset", verified)
	k.finish()
}

// A refusal names its symbol, and is forgotten when the book comes.
func TestRefused(t *testing.T) {
	k := newMarket(t, "okx", 3)
	k.run()
	k.open()
	first := k.sent[0]
	if !strings.Contains(first, "AAA-USDT") {
		t.Fatal(first)
	}
	k.frame(`{"id":"1","event":"error","code":"60018","msg":"Subscribe failed, doesn't exist.","connId":"c"}`)
	k.noted("for AAA-USDT: ")
	if got := k.m.Status().Instruments[0].Refused; !strings.Contains(got, "doesn't exist") {
		t.Errorf("status says %q", got)
	}
	k.obey()
	k.flow(30)
	if got := k.m.Status().Instruments[0].Refused; got != "" {
		t.Errorf("status still says %q", got)
	}
	k.finish()
}

// A refusal that names no symbol is the answer to its whole command.
func TestRefusedForAll(t *testing.T) {
	k := newMarket(t, "kraken", 3)
	k.run()
	k.open()
	k.frame(`{"error":"Subscription depth not supported","method":"subscribe","success":false,"req_id":1}`)
	k.noted("kraken refused command 1: Subscription depth not supported")
	for _, p := range k.m.lines[0].pending {
		if p.ID == 1 {
			t.Errorf("still waits for %+v", p)
		}
	}
	k.finish()
}

// A quote that repeats the last one, as Bybit does when nothing happens, makes no row; on
// a new connection it ends the gap.
func TestRepeatedQuote(t *testing.T) {
	k := liveMarket(t, "bybit")
	quote := func(id int) {
		k.frame(fmt.Sprintf(`{"topic":"orderbook.1.AAAUSDT","ts":1790000000000,"type":"snapshot","data":{"s":"AAAUSDT","b":[["100","1"]],"a":[["101","2"]],"u":%d,"seq":7},"cts":1790000000000}`, id))
	}
	for _, id := range []int{5, 5, 6, 6, 6} {
		quote(id)
	}
	if n := k.m.insts[0].stats.Quotes; n != 2 {
		t.Errorf("%d quotes", n)
	}
	k.shut()
	k.open()
	quote(6)
	if n := k.m.insts[0].stats.Quotes; n != 3 {
		t.Errorf("%d quotes", n)
	}
	k.wantCover(0, event.StreamQuotes, "gap start", "unverified ", "gap disconnect", "unverified ")
	k.finish()
}

func TestPings(t *testing.T) {
	k := liveMarket(t, "bybit")
	for range 60 {
		k.second()
	}
	pings := 0
	for _, s := range k.sent {
		if strings.Contains(s, `"op":"ping"`) {
			pings++
		}
	}
	if pings != 3 {
		t.Errorf("%d pings in a minute: %q", pings, k.sent)
	}
}

// A checksum that no book of the feed passes any more is given up: nothing is proven
// then, and nothing is subscribed for ever.
func TestCanaryOfEveryBook(t *testing.T) {
	k := liveMarket(t, "kraken")
	wrong := func(f string) string { // as if it were made in another way
		at := strings.Index(f, `"checksum":`) + len(`"checksum":`)
		end := at + strings.IndexByte(f[at:], ',')
		g := f[:at] + "7" + f[end:]
		k.truth[g] = k.truth[f]
		return g
	}
	run := func(n int) {
		for range n {
			k.next()
			k.obey()
			for len(k.out) > 0 {
				f := k.out[0]
				k.out = k.out[1:]
				if strings.Contains(f, `"checksum"`) {
					f = wrong(f)
				}
				k.bring(f)
				k.obey()
			}
		}
	}
	for range 60 {
		run(20)
		k.second()
	}
	for i := range k.books {
		k.wantCover(i, event.StreamBook, "gap start", "verified crc", "gap checksum", "unverified checksum")
		last := k.cover(i, event.StreamBook)[3]
		if last.Messages < 100 {
			t.Errorf("recording has not gone on: %+v", last)
		}
		if s := k.m.insts[i].stats; s.Resubscribed > 3 {
			t.Errorf("%+v", s)
		}
		if d := k.m.Status().Instruments[i].Streams[0].Detail; d != "depth=10; checksum failed by every book of the feed: no longer checked" {
			t.Errorf("detail %q", d)
		}
	}
	k.noted("unverified from now on")
	k.keyframe()
	// The next connection begins with trust.
	k.shut()
	k.open()
	k.obey()
	k.flow(60)
	if iv := k.m.insts[0].streams[event.StreamBook]; iv.state != event.StateVerified || iv.detail != "depth=10" {
		t.Errorf("%+v", iv)
	}
	k.finish()
}

// One book that fails on three fresh snapshots in a row is not proven any more; the
// others are.
func TestCanaryOfOneBook(t *testing.T) {
	k := liveMarket(t, "kraken")
	for range 200 {
		k.flow(3)
		if iv := k.m.insts[0].streams[event.StreamBook]; iv.state == event.StateVerified {
			k.change(0, 30) // untold
			k.bring(k.update(0))
			k.obey()
		}
		k.flow(3)
		k.second()
	}
	k.wantCover(0, event.StreamBook, "gap start", "verified crc", "gap checksum", "verified crc", "gap checksum", "verified crc", "gap checksum", "unverified checksum")
	k.wantCover(1, event.StreamBook, "gap start", "verified crc")
	if d := k.m.Status().Instruments[0].Streams[0].Detail; !strings.Contains(d, "3 fresh snapshots in a row") {
		t.Errorf("detail %q", d)
	}
	k.finish()
}

// A silent book is in doubt until its next message. After long it is subscribed once
// more; a snapshot that only repeats it proves nothing, and asks less often.
func TestLongSilence(t *testing.T) {
	for _, name := range marketNames {
		k := liveMarket(t, name)
		asked := 0
		silence := int(k.m.rules.SilenceNs / 1e9)
		for range silence + 1 {
			k.second()
			k.flow(0)
		}
		k.wantCover(0, event.StreamBook, "gap start", proofs[name], "unverified silence")
		for range max(60, 4*silence) - silence + 4 {
			k.second()
			k.flow(0)
		}
		asked = int(k.m.insts[0].stats.Resubscribed)
		if asked != 1 {
			t.Errorf("%s: subscribed %d times", name, asked)
		}
		k.flow(1)
		want := []string{"gap start", proofs[name], proofs[name]} // the id says that nothing was missed
		if name == "kraken" || name == "coinbase" {
			want = []string{"gap start", proofs[name], "unverified silence", proofs[name]}
		}
		k.wantCover(0, event.StreamBook, want...)
		k.finish()
	}
}

// A book that stays crossed is wrong. (Not so at OKX, in an auction.)
func TestCrossed(t *testing.T) {
	for name, gap := range map[string]bool{"coinbase": true, "bybit": false} {
		k := liveMarket(t, name)
		cross := func(px int64) {
			k.books[0].Set(event.Bid, px, 5)
			k.bring(k.bookFrame(0, false, []event.Level{{Px: px, Qty: 5, Side: event.Bid}}))
		}
		ask := k.books[0].Levels(event.Ask)[0].Px
		cross(ask)
		k.books[0].Set(event.Bid, ask, 0)
		k.bring(k.bookFrame(0, false, []event.Level{{Px: ask, Side: event.Bid}})) // one frame is no matter
		k.wantCover(0, event.StreamBook, "gap start", proofs[name])
		cross(ask)
		cross(ask + 1)
		want := []string{"gap start", proofs[name]}
		if gap {
			want = append(want, "gap sequence")
		}
		k.wantCover(0, event.StreamBook, want...)
		if list := k.cover(0, event.StreamBook); gap && !bytes.Contains(list[len(list)-1].Detail, []byte("crossed")) {
			t.Errorf("the gap does not say why: %q", list[len(list)-1].Detail)
		}
		k.wantCover(1, event.StreamBook, "gap start", proofs[name])
	}
}

// Joined trades of OKX stand for all of their numbers; repeated ones make no row.
func TestJoinedTrades(t *testing.T) {
	k := liveMarket(t, "okx")
	last := k.m.insts[0].lastTrade
	trade := func(id, count int64) {
		k.frame(fmt.Sprintf(`{"arg":{"channel":"trades","instId":"AAA-USDT"},"data":[{"instId":"AAA-USDT","tradeId":"%d","px":"100","sz":"0.1","side":"sell","ts":"1790000000000","count":"%d"}]}`, id, count))
	}
	n := k.m.insts[0].stats.Trades
	trade(last+4, 4)
	trade(last+4, 4)
	trade(last+5, 1)
	if s := k.m.insts[0].stats; s.Trades != n+2 || s.RepeatedTrades != 1 {
		t.Errorf("%+v", s)
	}
	k.wantCover(0, event.StreamTrades, "gap start", "unverified silence", "verified trade_id")
	trade(last+8, 2) // one is missing
	list := k.cover(0, event.StreamTrades)
	if iv := list[len(list)-2]; iv.State != event.StateGap || iv.SeqFirst != last+6 || iv.SeqLast != last+6 {
		t.Errorf("%+v", list)
	}
	k.finish()
}
