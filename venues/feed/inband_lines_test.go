package feed

import (
	"fmt"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
)

// twoLineMarket is live on line 0, and line 1 has brought its snapshots.
func twoLineMarket(t *testing.T, name string) *market {
	k := liveMarket(t, name)
	k.line = 1
	k.step(event.InputConnect, 2, nil)
	for i := range k.books {
		if name != "coinbase" {
			k.bring(k.bookFrame(i, true, k.all(i)))
		}
	}
	if name == "coinbase" { // which counts the frames of each connection
		frames := k.frames
		k.frames = 0
		for i := range k.books {
			k.bring(k.bookFrame(i, true, k.all(i)))
		}
		k.frames = frames
	}
	k.line = 0
	k.sent, k.heard = nil, 0
	return k
}

func (k *market) via(line uint8, frame string) {
	k.line = line
	k.bring(frame)
}

// Books with ids are joined: what either line brings is there once, and a line that
// ends leaves no gap.
func TestTwoLinesInband(t *testing.T) {
	for _, name := range []string{"bybit", "okx"} {
		t.Run(name, func(t *testing.T) {
			k := twoLineMarket(t, name)
			first := []string{"gap start", "verified chain"}
			n := k.m.insts[0].stats.BookMessages
			for j := range 30 {
				f := k.update(0)
				switch j % 3 {
				case 0:
					k.via(0, f)
					k.via(1, f)
				case 1:
					k.via(1, f)
					k.via(0, f)
				case 2: // each line misses another one
					k.via(uint8(j/3%2), f)
				}
			}
			if got := k.m.insts[0].stats.BookMessages - n; got != 30 {
				t.Errorf("%d messages of 30", got)
			}
			a, b := k.update(0), k.update(0) // one lags behind the other
			k.text = k.truth[b]
			k.line = 0
			k.frame(b) // jumps, and waits
			if k.m.holding != 1 {
				t.Errorf("%d frames are held", k.m.holding)
			}
			k.model.truth = nil
			k.via(1, a)
			k.via(1, b)
			k.line = 0
			k.close()
			k.via(1, k.update(0))
			k.via(1, k.update(1))
			k.wantCover(0, event.StreamBook, first...)
			k.wantCover(1, event.StreamBook, first...)
			if len(k.sent) > 0 {
				t.Errorf("sent %q", k.sent)
			}
			// Missing on the one line that is left.
			k.update(0)
			k.via(1, k.update(0))
			k.wantCover(0, event.StreamBook, append(first, "gap sequence")...)
			k.obey()
			k.flow(40)
			k.wantCover(0, event.StreamBook, append(first, "gap sequence", "verified chain")...)
			k.finish()
		})
	}
}

// A venue that starts anew does so on both lines, and that is one gap.
func TestRestartOnTwoLines(t *testing.T) {
	k := twoLineMarket(t, "bybit")
	old := k.update(0)
	k.via(0, old)
	k.seq[0] = 1
	s := k.bookFrame(0, true, k.all(0))
	k.via(0, s)
	next := k.update(0)
	k.via(0, next)
	k.via(1, old) // the other lags behind
	k.via(1, s)
	k.via(1, next)
	last := k.update(0)
	k.via(1, last)
	k.via(0, last)
	k.ticksOf(5)
	k.wantCover(0, event.StreamBook, "gap start", "verified chain", "gap venue_reset", "verified chain")
	k.finish()
}

// Ids that go back do so on both lines. What the slower one still brings from before is a
// copy, and no jump over ids that nobody will bring.
func TestResetOnTwoLines(t *testing.T) {
	for _, ended := range []bool{false, true} {
		k := twoLineMarket(t, "okx")
		k.via(0, k.update(0))
		var old []string
		for range 3 {
			old = append(old, k.update(0))
		}
		for _, f := range old {
			k.via(0, f)
		}
		before := k.seq[0]
		k.seq[0] = 3
		reset := strings.Replace(k.update(0), `"prevSeqId":3`, fmt.Sprintf(`"prevSeqId":%d`, before), 1)
		k.truth[reset] = bookText(k.books[0], -1)
		k.via(0, reset)
		next := k.update(0)
		k.via(0, next)
		if ended { // before the other has got there
			k.line = 0
			k.close()
		}
		for _, f := range append(old, reset, next) {
			k.via(1, f)
		}
		k.via(1, k.update(0))
		if k.m.holding != 0 {
			t.Errorf("%d frames wait", k.m.holding)
		}
		k.line = 1
		k.ticksOf(5)
		k.via(1, k.update(0))
		k.wantCover(0, event.StreamBook, "gap start", "verified chain")
		k.finish()
	}
}

func (k *market) ticksOf(n int) {
	for range n {
		k.second()
	}
}

// A line whose snapshot has not come cannot take over.
func TestLineWithoutSnapshot(t *testing.T) {
	k := liveMarket(t, "bybit")
	k.line = 1
	k.step(event.InputConnect, 2, nil)
	k.via(1, k.update(0))
	k.line = 0
	k.close()
	k.wantCover(0, event.StreamBook, "gap start", "verified chain", "gap disconnect")
	k.via(1, k.bookFrame(0, true, k.all(0)))
	k.via(1, k.update(0))
	k.wantCover(0, event.StreamBook, "gap start", "verified chain", "gap disconnect", "verified chain")
	k.finish()
}

// Books without ids are of the leader. When it ends, the other line begins with a
// snapshot of its own.
func TestLeader(t *testing.T) {
	for _, name := range []string{"kraken", "coinbase"} {
		t.Run(name, func(t *testing.T) {
			k := twoLineMarket(t, name)
			k.via(0, k.update(0))
			if name == "kraken" { // the other's copy, late or damaged, is no matter
				f := k.update(0)
				k.via(0, f)
				k.via(1, f)
				k.line = 1
				k.frame(strings.Replace(f, `"checksum":`, `"checksum":1`, 1))
			}
			if name == "coinbase" { // nor what it misses
				k.via(1, `{"channel":"heartbeats","sequence_num":77,"events":[]}`)
			}
			k.wantCover(0, event.StreamBook, "gap start", proofs[name])
			k.line = 0
			k.close()
			// A book whose standby was damaged is subscribed again; that of Kraken's other book
			// is good, and nothing had changed since its snapshot.
			commands := 2 * len(k.books)
			if name == "kraken" {
				commands = 2
			}
			if k.m.leader != 1 || len(k.sent) != commands {
				t.Errorf("line %d leads; sent %q", k.m.leader, k.sent)
			}
			k.line = 1
			k.frames = 78 // of that connection
			k.obey()
			k.flow(60)
			for i := range k.books {
				k.wantCover(i, event.StreamBook, "gap start", proofs[name], "gap disconnect", proofs[name])
			}
			k.finish()
		})
	}
}

// A frame may hold trades of several instruments, each of which waits for its own. What
// has waited is taken once, and the frame is counted once.
func TestPartsOfAFrameWait(t *testing.T) {
	k := twoLineMarket(t, "coinbase")
	a, b := k.m.insts[0].lastTrade, k.m.insts[1].lastTrade
	n := [2]uint64{k.m.insts[0].stats.Trades, k.m.insts[1].stats.Trades}
	want := func(aa, bb uint64, held int) {
		t.Helper()
		if got := [2]uint64{k.m.insts[0].stats.Trades - n[0], k.m.insts[1].stats.Trades - n[1]}; got != [2]uint64{aa, bb} || k.m.holding != held {
			t.Errorf("%d trades, %d held; want %d and %d, %d", got, k.m.holding, aa, bb, held)
		}
	}
	numbers := [2]int64{k.frames, int64(len(k.books))}
	frame := func(line uint8, trades ...string) {
		k.line = line
		k.frame(fmt.Sprintf(`{"channel":"market_trades","timestamp":"2026-09-22T10:00:00Z","sequence_num":%d,"events":[{"type":"update","trades":[%s]}]}`, numbers[line], strings.Join(trades, ",")))
		numbers[line]++
	}
	frame(0, coinbaseTrade("AAA-USD", a+3), coinbaseTrade("BBB-USD", b+3), coinbaseTrade("AAA-USD", a+2), coinbaseTrade("BBB-USD", b+2))
	want(0, 0, 2)
	k.keyframe()
	at := len(k.inputs) - 1
	k.wantBuffered(1)
	frame(1, coinbaseTrade("BBB-USD", b+1))
	want(0, 3, 1)
	frame(1, coinbaseTrade("AAA-USD", a+1))
	want(3, 3, 0)
	k.wantBuffered(0)
	if k.m.insts[0].stats.RepeatedTrades+k.m.insts[1].stats.RepeatedTrades > 0 {
		t.Error("a part of a frame was taken twice")
	}
	frame(1, coinbaseTrade("AAA-USD", a+3), coinbaseTrade("BBB-USD", b+3), coinbaseTrade("AAA-USD", a+2), coinbaseTrade("BBB-USD", b+2))
	want(3, 3, 0)
	k.finish()
	sameFrom(t, k.rig, at)
}

func (k *market) wantBuffered(n uint64) {
	k.t.Helper()
	if got := k.m.frames.Read()[ledger.Buffered]; got != n {
		k.t.Errorf("%d frames are buffered, want %d", got, n)
	}
}
