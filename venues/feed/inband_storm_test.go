package feed

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"deeptape/hotpath/event"
)

var marketNames = []string{"bybit", "coinbase", "kraken", "okx"}

// A market without faults has no gap but the first, and its books are true.
func TestCalmMarkets(t *testing.T) {
	for _, name := range marketNames {
		t.Run(name, func(t *testing.T) {
			k := newMarket(t, name, 5)
			k.run()
			k.open()
			for range 30 {
				k.flow(20)
				k.second()
			}
			proof := map[string]string{"bybit": "chain", "coinbase": "connection_seq", "kraken": "crc", "okx": "chain"}[name]
			for i := range k.books {
				k.wantCover(i, event.StreamBook, "gap start", "verified "+proof)
				want := "verified trade_id"
				if name == "bybit" {
					want = "unverified "
				}
				k.wantCover(i, event.StreamTrades, "gap start", "unverified silence", want)
				if s := k.m.insts[i].stats; s.Resubscribed > 0 || s.Gaps > 0 || k.m.lines[0].acksOwed > 0 || len(k.m.lines[0].pending) > 0 {
					t.Errorf("%+v, owed %d %v", s, k.m.lines[0].acksOwed, k.m.lines[0].pending)
				}
			}
			if k.checked < 300 || name == "kraken" && k.m.insts[0].stats.Checksums < 100 || name == "okx" && k.m.insts[0].stats.Checksums < 50 {
				t.Errorf("%d books compared with the truth", k.checked)
			}
			if k.model.rows[event.TableBookDepth] < 30 {
				t.Errorf("%d rows of book_depth", k.model.rows[event.TableBookDepth])
			}
			k.shut()
			k.finish()
		})
	}
}

// faults brings what the market has sent, some of it dropped, doubled, in the wrong
// order or damaged.
func (k *market) faults(rate int, count map[string]int) {
	hit := func(what string) bool {
		if k.rng.IntN(rate) > 0 {
			return false
		}
		count[what]++
		return true
	}
	for len(k.out) > 0 && k.online {
		f := k.out[0]
		k.out = k.out[1:]
		switch {
		case hit("dropped"):
		case hit("doubled"):
			k.bring(f)
			k.bring(f)
		case len(k.out) > 0 && hit("swapped"):
			k.bring(k.out[0])
			k.bring(f)
			k.out = k.out[1:]
		case hit("cut"):
			k.bring(f[:k.rng.IntN(len(f))])
		case hit("garbled"):
			k.text = "none"
			k.frame(strings.NewReplacer(`"bids":[`, `"bids":7,"x":[`, `"b":[`, `"b":7,"x":[`, `"updates":[`, `"updates":7,"x":[`).Replace(f))
		case k.name == "kraken" && strings.Contains(f, `"checksum"`) && hit("flipped"):
			b := []byte(f)
			for {
				if at := k.rng.IntN(len(b)); b[at] >= '0' && b[at] <= '9' {
					b[at] = '0' + (b[at]-'0'+byte(1+k.rng.IntN(9)))%10
					break
				}
			}
			k.shows(f)
			k.frame(string(b))
		default:
			k.bring(f)
		}
		k.obey()
	}
}

// TestInbandStorm lets every fault meet every continuity. Each book that is written is
// the true one, the model holds after each input, the same inputs give the same rows
// from every keyframe on, and in the end, when the faults are over, the books are back.
// DEEPTAPE_STORMS=n runs more of them, DEEPTAPE_SEED=n one alone.
func TestInbandStorm(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("DEEPTAPE_STORMS"))
	n, first := max(n, 2), uint64(1)
	if one, err := strconv.ParseUint(os.Getenv("DEEPTAPE_SEED"), 10, 64); err == nil {
		n, first = 1, one
	}
	for _, name := range marketNames {
		checked, count, causes := 0, map[string]int{}, map[string]int{}
		for seed := first; seed < first+uint64(n); seed++ {
			ok := t.Run(fmt.Sprint(name, " seed ", seed), func(t *testing.T) {
				k := newMarket(t, name, seed)
				k.run()
				k.open()
				for round := range 2500 {
					if k.online {
						k.next()
						k.obey()
						k.faults(100, count)
					}
					switch r := k.rng.IntN(1000); {
					case !k.online:
						k.open()
					case r < 2:
						k.shut()
					case r < 3:
						k.loss(1 + k.rng.Int64N(9))
					case r < 5:
						k.deaf = k.rng.IntN(4)
					case r < 7: // the venue starts anew, unasked
						k.reborn(k.rng.IntN(len(k.books)))
					case r < 60:
						k.second()
					case r < 62: // quiet for a while
						for range 200 {
							k.second()
						}
					}
					if round%400 == 399 {
						k.keyframe()
					}
				}
				k.recover()
				k.shut()
				k.finish()
				started := 0
				for at, in := range k.inputs {
					if in.Kind == event.InputKeyframe {
						started++
						sameFrom(t, k.rig, at)
					}
				}
				if started < 5 {
					t.Errorf("%d keyframes", started)
				}
				for i := range k.books {
					for _, iv := range k.cover(i, event.StreamBook) {
						causes[iv.State.String()+" "+iv.Cause.String()]++
					}
				}
				checked += k.checked
			})
			if !ok {
				t.Fatalf("%s: DEEPTAPE_SEED=%d shows it again", name, seed)
			}
		}
		t.Logf("%s: %d books compared with the truth; %v; %v", name, checked, count, causes)
		if checked < 300 {
			t.Errorf("%s: only %d books compared", name, checked)
		}
	}
}

// reborn sends a snapshot that nobody asked for, as after a restart of the venue:
// something may have been missed.
func (k *market) reborn(i int) {
	if !k.subscribed[i] || k.name == "coinbase" { // whose snapshots come on command alone
		return
	}
	k.change(i, 3)
	k.seq[i] = 1 // as Bybit has it
	k.emit(k.bookFrame(i, true, k.all(i)))
}

// recover: once nothing goes wrong any more, the books come back by themselves.
func (k *market) recover() {
	k.t.Helper()
	k.deaf = 0
	if !k.online {
		k.open()
	}
	k.obey()
	live := func() bool {
		return !slices.ContainsFunc(k.m.insts, func(in instrument) bool { return in.state != bookLive })
	}
	for range 700 { // renewWaitNsMax, and some patience
		k.flow(2)
		if live() {
			break
		}
		k.second()
	}
	if !live() {
		k.t.Fatal("the books do not come back")
	}
	for range 5 {
		k.flow(20)
		k.second()
	}
	if !live() {
		k.t.Fatal("the books do not stay")
	}
}
