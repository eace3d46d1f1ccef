package feed

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
	"deeptape/venues/registry"
)

// The mutation matrix: frame after frame of every recording is removed, doubled, swapped
// with its neighbour, cut short, or has one digit flipped; each case runs from a
// checkpoint before the frame. A case is
//
//	detected      coverage has a gap; so many messages of the symbol's stream later
//	harmless      book and trades are never other than they were
//	healed        the book was wrong for a while, and nothing said so
//	undetectable  book or trades are wrong, and nothing has said so for mutationBound
//	              messages
//
// What is neither detected nor harmless has to be what the venue's file says that its
// proof cannot see. The counts are pinned below.

const mutationBound = 200

var mutations = []string{"removed", "doubled", "swapped", "cut", "flipped"}

// mutationRow counts the cases of one mutation of one recording.
type mutationRow struct {
	detected, harmless, healed, undetectable int
	within                                   int // messages until the last detection
}

func (r mutationRow) String() string {
	return fmt.Sprintf("detected %d within %d, harmless %d, healed %d, undetectable %d", r.detected, r.within, r.harmless, r.healed, r.undetectable)
}

// reference is what a machine of one symbol makes of the lines of a tape.
type reference struct {
	lines []int    // of the tape, those that count
	sum   []uint64 // of the book after each
	seq   []int64
	made  []int          // bytes of trades after each
	own   []event.Stream // that it is a message of; NumStreams for none of the symbol's
	text  []byte
}

func (p *player) bookSum() uint64 {
	sum := uint64(14695981039346656037)
	for side := event.Bid; side <= event.Ask; side++ {
		p.m.scratch = p.m.insts[0].book.AppendLevels(p.m.scratch[:0], side)
		for _, l := range p.m.scratch {
			sum = (sum ^ uint64(l.Px)) * 1099511628211
			sum = (sum ^ uint64(l.Qty)) * 1099511628211
		}
		sum = (sum ^ uint64(side)) * 1099511628211
	}
	return sum
}

// mutant plays the tape from a checkpoint on, with one mutation, and judges.
func mutant(t *testing.T, tp *tape, ref *reference, checkpoint []byte, pos uint64, at int, what string) (outcome string, after int) {
	p := &player{tape: tp, pos: pos, now: t0 + int64(pos)*1e6}
	p.m = New(&p.sink, &ledger.Frames{}, &ledger.RowsDerived{})
	p.step(t, event.InputKeyframe, 0, checkpoint)
	line, neighbour := tp.lines[ref.lines[at]], tp.lines[ref.lines[at+1]]
	rng := rand.New(rand.NewPCG(uint64(at), 1))
	next := at + 1
	switch what {
	case "removed":
	case "doubled":
		p.step(t, event.InputFrame, 0, line)
		p.step(t, event.InputFrame, 0, line)
	case "swapped":
		p.step(t, event.InputFrame, 0, neighbour)
		p.step(t, event.InputFrame, 0, line)
		next++
	case "cut":
		p.step(t, event.InputFrame, 0, line[:1+rng.IntN(len(line)-1)])
	case "flipped":
		line = bytes.Clone(line)
		var digits []int
		for i, c := range line {
			if c >= '0' && c <= '9' {
				digits = append(digits, i)
			}
		}
		i := digits[rng.IntN(len(digits))]
		line[i] = '0' + (line[i]-'0'+byte(1+rng.IntN(9)))%10
		p.step(t, event.InputFrame, 0, line)
	}
	inst := &p.m.insts[0]
	from := 0
	if at > 0 {
		from = ref.made[at-1]
	}
	differed := false
	for messages, k := 0, next-1; ; {
		if p.gaps > 0 {
			return "detected", messages
		}
		sameTrades := string(p.trades) == string(ref.text[from:ref.made[k]])
		if messages < 5 || messages%10 == 0 || k+1 == len(ref.lines) || messages >= mutationBound {
			same := p.bookSum() == ref.sum[k] && sameTrades
			differed = differed || !same
			counts := p.m.rules.Continuity == venues.ChecksumOnly || inst.seq == ref.seq[k]
			if same && counts && (inst.lastTrade == event.Null || messages > 0) {
				if differed {
					return "healed", messages
				}
				return "harmless", messages
			}
		}
		if k+1 == len(ref.lines) || messages >= mutationBound {
			return "undetectable", messages
		}
		k++
		p.play(t, ref.lines[k])
		if ref.own[k] == ref.own[at] {
			messages++
		}
	}
}

// mutate runs the cases of one symbol of a tape, every step-th frame.
func mutate(t *testing.T, tp *tape, symbol string, step int, out map[string]*mutationRow) {
	p := newPlayer(tp)
	p.start(t, symbol)
	var ref reference
	type point struct {
		at    int
		pos   uint64
		bytes []byte
	}
	var points []point
	for i := range tp.lines {
		if underRace && len(ref.lines) == 1000 {
			break
		}
		mine := bytes.Contains(tp.lines[i], []byte(`"`+symbol+`"`)) || bytes.Contains(tp.lines[i], []byte("."+symbol+`"`)) || len(tp.symbols) == 1
		if tp.rest[i] && !mine && !tp.restOf(i, symbol) || !tp.rest[i] && !mine && p.m.rules.Continuity != venues.ConnCounter {
			continue
		}
		if !tp.rest[i] && bytes.Contains(tp.lines[i], []byte("bookTicker")) {
			continue // no proof, and most of the frames
		}
		inst := &p.m.insts[0]
		begun := inst.state == bookLive || !slices.ContainsFunc(tp.rows, func(r tapeRow) bool { return r.K == "book" }) && inst.stats.Trades > 0
		if begun && mine && len(ref.lines)%step == 0 {
			points = append(points, point{len(ref.lines), p.pos, p.m.AppendKeyframe(nil)})
			p.step(t, event.InputKeyframe, 0, points[len(points)-1].bytes)
		}
		books, trades := inst.stats.BookMessages, inst.stats.Trades
		p.play(t, i)
		if p.gaps > 0 {
			t.Fatalf("a gap at line %d, without a mutation", i+1)
		}
		ref.lines = append(ref.lines, i)
		ref.sum, ref.seq = append(ref.sum, p.bookSum()), append(ref.seq, inst.seq)
		ref.made = append(ref.made, len(p.trades))
		switch {
		case inst.stats.BookMessages > books:
			ref.own = append(ref.own, event.StreamBook)
		case inst.stats.Trades > trades:
			ref.own = append(ref.own, event.StreamTrades)
		default:
			ref.own = append(ref.own, event.NumStreams)
		}
	}
	ref.text = p.trades
	for _, pt := range points {
		if pt.at+1+min(10, len(ref.lines)/4) > len(ref.lines) || ref.own[pt.at] == event.NumStreams { // the last ones leave no time to notice
			continue
		}
		for _, what := range mutations {
			outcome, after := mutant(t, tp, &ref, pt.bytes, pt.pos, pt.at, what)
			r := out[what]
			switch outcome {
			case "detected":
				r.detected++
				r.within = max(r.within, after)
			case "harmless":
				r.harmless++
			case "healed":
				r.healed++
			default:
				r.undetectable++
			}
		}
	}
}

// TestMutations: DEEPTAPE_MUTATIONS=all takes every frame of the long recordings too,
// which prints, and pins nothing. Under the race detector a few cases are enough.
func TestMutations(t *testing.T) {
	for _, tp := range tapes(t) {
		t.Run(tp.venue+"/"+tp.name, func(t *testing.T) {
			out := map[string]*mutationRow{}
			for _, what := range mutations {
				out[what] = &mutationRow{}
			}
			step := max(1, len(tp.rows)/400)
			sample := underRace // its machines share nothing: a few cases show as much as all
			if sample {
				step *= 25
			}
			if os.Getenv("DEEPTAPE_MUTATIONS") == "all" {
				step, sample = 1, true
			}
			for _, symbol := range tp.symbols {
				mutate(t, tp, symbol, step, out)
			}
			var got []string
			for _, what := range mutations {
				got = append(got, what+": "+out[what].String())
			}
			text := strings.Join(got, "\n")
			for _, what := range mutations[:4] {
				v, err := registry.ByName(tp.venue)
				if err != nil {
					t.Fatal(err)
				}
				rules := v.Rules()
				if r := out[what]; r.healed+r.undetectable > 0 && rules.Continuity != venues.ChecksumOnly && rules.TradesCount {
					t.Errorf("%s: %s, and every message has an id", what, r)
				}
			}
			t.Logf("every %d. frame\n%s", step, text)
			if want, pinned := pinnedMutations[tp.name]; !sample && (!pinned || text != strings.TrimSpace(want)) {
				t.Errorf("pinned is\n%s", strings.TrimSpace(want))
			}
		})
	}
}

var pinnedMutations = map[string]string{
	"cryptofeed_us_4sym_20211012": `
removed: detected 296 within 1, harmless 0, healed 0, undetectable 0
doubled: detected 0 within 0, harmless 296, healed 0, undetectable 0
swapped: detected 288 within 0, harmless 8, healed 0, undetectable 0
cut: detected 296 within 1, harmless 0, healed 0, undetectable 0
flipped: detected 47 within 1, harmless 93, healed 31, undetectable 125`,
	"spot_btcusdt_20240808_full": `
removed: detected 399 within 1, harmless 0, healed 0, undetectable 0
doubled: detected 0 within 0, harmless 399, healed 0, undetectable 0
swapped: detected 296 within 0, harmless 103, healed 0, undetectable 0
cut: detected 399 within 1, harmless 0, healed 0, undetectable 0
flipped: detected 53 within 1, harmless 136, healed 26, undetectable 184`,
	"moonstream_spot_publictrade_btcusdt_20240130": `
removed: detected 0 within 0, harmless 0, healed 0, undetectable 103
doubled: detected 0 within 0, harmless 0, healed 0, undetectable 103
swapped: detected 0 within 0, harmless 6, healed 0, undetectable 97
cut: detected 0 within 0, harmless 0, healed 0, undetectable 103
flipped: detected 0 within 0, harmless 38, healed 0, undetectable 65`,
	"tickvault_spot_btcusdt_d50_20260825": `
removed: detected 6 within 1, harmless 0, healed 0, undetectable 0
doubled: detected 0 within 0, harmless 6, healed 0, undetectable 0
swapped: detected 6 within 0, harmless 0, healed 0, undetectable 0
cut: detected 6 within 1, harmless 0, healed 0, undetectable 0
flipped: detected 1 within 0, harmless 4, healed 0, undetectable 1`,
	"fastmoon_linear_btcusdt_ob500_20240601": `
removed: detected 472 within 1, harmless 0, healed 0, undetectable 0
doubled: detected 0 within 0, harmless 472, healed 0, undetectable 0
swapped: detected 472 within 0, harmless 0, healed 0, undetectable 0
cut: detected 472 within 1, harmless 0, healed 0, undetectable 0
flipped: detected 29 within 0, harmless 126, healed 166, undetectable 151`,
	"DERIVED_l2data_10products_from_exchange_20210417": `
removed: detected 404 within 1, harmless 0, healed 0, undetectable 0
doubled: detected 404 within 0, harmless 0, healed 0, undetectable 0
swapped: detected 404 within 0, harmless 0, healed 0, undetectable 0
cut: detected 404 within 0, harmless 0, healed 0, undetectable 0
flipped: detected 76 within 174, harmless 264, healed 29, undetectable 35`,
	"fastmoon_market_trades_btcusd_20240602": `
removed: detected 33 within 1, harmless 0, healed 0, undetectable 0
doubled: detected 0 within 0, harmless 33, healed 0, undetectable 0
swapped: detected 33 within 0, harmless 0, healed 0, undetectable 0
cut: detected 33 within 1, harmless 0, healed 0, undetectable 0
flipped: detected 11 within 0, harmless 13, healed 0, undetectable 9`,
	"tickvault_l2data_btcusd_reduced_20260824": `
removed: detected 7 within 1, harmless 0, healed 0, undetectable 0
doubled: detected 7 within 0, harmless 0, healed 0, undetectable 0
swapped: detected 7 within 0, harmless 0, healed 0, undetectable 0
cut: detected 7 within 0, harmless 0, healed 0, undetectable 0
flipped: detected 2 within 0, harmless 5, healed 0, undetectable 0`,
	"DERIVED_v2_book1000_10pairs_from_v1_20210417": `
removed: detected 335 within 198, harmless 0, healed 42, undetectable 35
doubled: detected 0 within 0, harmless 412, healed 0, undetectable 0
swapped: detected 377 within 35, harmless 31, healed 4, undetectable 0
cut: detected 412 within 0, harmless 0, healed 0, undetectable 0
flipped: detected 250 within 198, harmless 145, healed 3, undetectable 14`,
	// Trades alone, of three symbols: their ids show what is missing or out of order, and
	// no digit. The five are three prices and two sizes; the harmless ones are digits of
	// ts_event, which is not compared.
	"tickstream_v2_trades_3sym_20260930": `
removed: detected 10 within 1, harmless 0, healed 0, undetectable 0
doubled: detected 0 within 0, harmless 10, healed 0, undetectable 0
swapped: detected 10 within 0, harmless 0, healed 0, undetectable 0
cut: detected 10 within 1, harmless 0, healed 0, undetectable 0
flipped: detected 0 within 0, harmless 5, healed 0, undetectable 5`,
	"tickvault_v2_btcusd_d10_20260824": `
removed: detected 1 within 1, harmless 0, healed 0, undetectable 0
doubled: detected 0 within 0, harmless 1, healed 0, undetectable 0
swapped: detected 1 within 0, harmless 0, healed 0, undetectable 0
cut: detected 1 within 0, harmless 0, healed 0, undetectable 0
flipped: detected 0 within 0, harmless 1, healed 0, undetectable 0`,
	"fastmoon_books_btcusdt_20240601": `
removed: detected 334 within 1, harmless 0, healed 0, undetectable 0
doubled: detected 0 within 0, harmless 334, healed 0, undetectable 0
swapped: detected 334 within 0, harmless 0, healed 0, undetectable 0
cut: detected 334 within 1, harmless 0, healed 0, undetectable 0
flipped: detected 105 within 2, harmless 75, healed 101, undetectable 53`,
	"tickvault_books_btcusdt_20260824": `
removed: detected 4 within 1, harmless 0, healed 0, undetectable 0
doubled: detected 0 within 0, harmless 4, healed 0, undetectable 0
swapped: detected 4 within 0, harmless 0, healed 0, undetectable 0
cut: detected 4 within 1, harmless 0, healed 0, undetectable 0
flipped: detected 1 within 1, harmless 1, healed 1, undetectable 1`,
}
