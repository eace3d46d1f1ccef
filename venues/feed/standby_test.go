package feed

import (
	"strings"
	"testing"

	"deeptape/hotpath/event"
)

var idless = []string{"kraken", "coinbase"}

// both brings an update of a book by both lines; Coinbase numbers the frames of each.
func (k *market) both(i int, first uint8) {
	k.carry(k.update(i), first, 1-first)
}

// carry brings a frame by some lines, one after the other.
func (k *market) carry(frame string, lines ...uint8) {
	for _, line := range lines {
		f := frame
		if k.name == "coinbase" {
			_, rest, _ := strings.Cut(frame, `"sequence_num":`)
			_, rest, _ = strings.Cut(rest, ",")
			f = k.onLine(line, frame[:strings.Index(frame, `"sequence_num":`)]+`"sequence_num":#,`+rest)
			k.truth[f], k.of[f] = k.truth[frame], k.of[frame]
		}
		k.via(line, f)
	}
}

// onLine gives a frame its number on a line.
func (k *market) onLine(line uint8, frame string) string {
	n := k.m.lines[line].next
	if n == event.Null {
		n = 0
	}
	frames := k.frames
	k.frames = n
	frame = k.numbered(frame)
	k.frames = frames
	return frame
}

// TestStandbyMeets: where both lines have brought the same message and the two books are
// equal, the younger line leads without a gap, and the elder may end.
func TestStandbyMeets(t *testing.T) {
	for _, name := range idless {
		t.Run(name, func(t *testing.T) {
			k := twoLineMarket(t, name)
			sent := len(k.sent)
			for i := range k.books {
				if k.m.Joined(1) {
					t.Fatalf("line 1 has joined, and leads %d of %d books", i, len(k.books))
				}
				k.both(i, 0) // line 0 leads, and is first
				if k.m.insts[i].leader != 1 {
					t.Fatalf("line %d leads book %d after both lines brought the same message", k.m.insts[i].leader, i)
				}
			}
			k.both(0, 1)
			k.line = 0
			k.close()
			for i := range k.books {
				k.wantCover(i, event.StreamBook, "gap start", proofs[name], proofs[name])
				k.carry(k.update(i), 1)
			}
			for i := range k.books {
				k.wantCover(i, event.StreamBook, "gap start", proofs[name], proofs[name])
			}
			if len(k.sent) != sent {
				t.Errorf("the handover cost commands: %q", k.sent[sent:])
			}
			k.finish()
		})
	}
}

// A line that is behind meets nobody. If the leader ends then, the gap reaches from the
// last message of the leader to that instant, and the standby is the book.
func TestStandbyTakesOver(t *testing.T) {
	for _, name := range idless {
		t.Run(name, func(t *testing.T) {
			k := twoLineMarket(t, name)
			var behind []string
			for range 5 {
				behind = append(behind, k.update(0))
				k.carry(behind[len(behind)-1], 0) // line 1 has not got there
			}
			k.both(1, 0)
			last := k.m.insts[0].streams[event.StreamBook].end
			k.line = 0
			k.close()
			k.wantCover(0, event.StreamBook, "gap start", proofs[name], "gap disconnect", proofs[name])
			k.wantCover(1, event.StreamBook, "gap start", proofs[name], proofs[name])
			for _, iv := range k.cover(0, event.StreamBook) {
				if iv.Cause == event.CauseDisconnect && (iv.Ts != last+1 || iv.TsEnd >= k.now+1e6) {
					t.Errorf("the gap is [%d, %d], the last message was at %d, now it is %d", iv.Ts, iv.TsEnd, last, k.now)
				}
			}
			for _, f := range behind {
				k.carry(f, 1)
			}
			k.wantCover(0, event.StreamBook, "gap start", proofs[name], "gap disconnect", proofs[name])
			k.finish()
		})
	}
}

// A quiet book meets its standby where nothing has come on either line for a second after
// the standby's snapshot.
func TestQuietStandby(t *testing.T) {
	for _, name := range idless {
		t.Run(name, func(t *testing.T) {
			k := twoLineMarket(t, name)
			k.ticksOf(3)
			for i := range k.books {
				if k.m.insts[i].leader != 1 {
					t.Errorf("line %d leads book %d", k.m.insts[i].leader, i)
				}
				k.wantCover(i, event.StreamBook, "gap start", proofs[name], proofs[name])
			}
			k.finish()
		})
	}
}

// A book that is given up while the other line has a good one is taken from there at once:
// only what both have missed makes a gap that lasts.
func TestStandbyInsteadOfResync(t *testing.T) {
	k := twoLineMarket(t, "kraken")
	f := k.update(0)
	k.carry(f, 1)
	k.line = 0
	k.frame(strings.Replace(f, `"checksum":`, `"checksum":1`, 1))
	if len(k.sent) > 0 || k.m.insts[0].leader != 1 || k.m.insts[0].state != bookLive {
		t.Errorf("line %d leads a book that is %s; sent %q", k.m.insts[0].leader, bookStateNames[k.m.insts[0].state], k.sent)
	}
	k.wantCover(0, event.StreamBook, "gap start", proofs["kraken"], "gap checksum", proofs["kraken"])
	k.finish()
}

// A standby that has lost a message is dropped and subscribed again, on its line alone, and
// not before its time. Books that differ never change hands without a gap.
func TestDamagedStandby(t *testing.T) {
	k := twoLineMarket(t, "kraken")
	f := k.update(0)
	k.carry(f, 0)
	k.line = 1
	k.frame(strings.Replace(f, `"checksum":`, `"checksum":1`, 1))
	if k.m.insts[0].standby.Live {
		t.Fatal("a standby with a wrong checksum stays")
	}
	k.both(0, 0)
	if k.m.insts[0].leader != 0 {
		t.Error("a book went to a line that has none")
	}
	again := func() bool { return strings.Contains(strings.Join(k.sent, "\n"), "AAA/USD") }
	seconds := 0
	for ; seconds < 60 && !again(); seconds++ {
		k.second()
	}
	if patience := int(k.m.patienceNs() / 1e9); !again() || seconds < patience {
		t.Errorf("after %d s sent %q", seconds, k.sent)
	}
	if k.m.insts[0].leader != 0 {
		t.Error("a book went to a line that has none")
	}
	k.finish()
}

// Coinbase: a frame that is missing on the standby's line makes its standbys doubtful, and
// one on the leader's line gives its books to the other.
func TestStandbyOfCountedLines(t *testing.T) {
	for _, off := range []bool{false, true} { // also where the numbers have been given up: a standby must be right
		k := twoLineMarket(t, "coinbase")
		k.carry(k.update(0), 0)
		k.m.counter.Off = off
		k.via(1, k.onLine(1, strings.Replace(k.heartbeat(), `"sequence_num":`, `"sequence_num":9`, 1)))
		for i := range k.books {
			if k.m.insts[i].standby.Live {
				t.Errorf("the standby of book %d stays after a frame of its line was lost; numbers given up: %t", i, off)
			}
		}
		k.wantCover(0, event.StreamBook, "gap start", proofs["coinbase"])
		if !off { // the flag was set behind the machine's back
			k.finish()
		}
	}
}

// Frames that were lost before the journal may have been any line's: no standby is left.
func TestLossDropsStandbys(t *testing.T) {
	for _, name := range idless {
		k := twoLineMarket(t, name)
		k.both(0, 1) // the second line's is first, so that nothing has met at book 1
		k.loss(3)
		for i := range k.books {
			if k.m.insts[i].standby.Live {
				t.Errorf("%s: the standby of book %d stays after a loss", name, i)
			}
		}
		k.finish()
	}
}

// A derivation that starts at a keyframe in the middle of a handover makes the same rows.
func TestStandbyInKeyframe(t *testing.T) {
	for _, name := range idless {
		k := twoLineMarket(t, name)
		k.both(0, 0)
		behind := k.update(1)
		k.carry(behind, 0)
		k.keyframe()
		at := len(k.inputs) - 1
		k.carry(k.update(0), 1)
		k.line = 0
		k.close()
		k.carry(behind, 1)
		k.finish()
		sameFrom(t, k.rig, at)
	}
}
