package venues

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
)

// The oracle of every scanner is fastjson: what a decoder makes of a frame has to be
// what it would have made without its scanner.

// parsing is a decoder that can do without its scanner.
type parsing interface {
	Decoder
	parse(frame []byte, b *Batch) ledger.Reason
}

type parsingSnapshots interface {
	parseSnapshot(inst int, body []byte, b *Batch) ledger.Reason
}

// scanShapes are frames in the spelling that a venue's scanner knows, for machines
// without the recordings.
var scanShapes = map[string][]string{
	"binance": {
		`{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":50093239189,"u":50093239202,"b":[["61737.63000000","0.00000000"],["61730.17000000","1.54698000"]],"a":[["61837.64000000","1.54698000"]]}}`,
		`{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":50093239189,"u":50093239202,"b":[],"a":[["61837.64000000","12345678.54698000"]]}`,
		`{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}`,
		`{"e":"trade","E":1723161255343,"s":"ETHUSDT","t":3735683259,"p":"2737.63000000","q":"0.02000000","T":1723161255342,"m":false,"M":true}`,
		`{"stream":"btcusdt@bookTicker","data":{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}}`,
		`{"u":50093239212,"s":"ETHUSDT","b":"2837.63000000","B":"3.78826000","a":"2837.64000000","A":"1.54698000"}`,
		`{"lastUpdateId":113129219,"bids":[["296.58000000","1.40000000"],["296.57000000","0.58454000"]],"asks":[["297.32000000","19.08719000"]]}`,
	},
}

// scanRig holds a venue's decoders, with and without scanner, at one pair of scales.
type scanRig struct {
	with, without parsing
	got, want     Batch
	accepted      int
}

// scanning are the venues that have shapes.
func scanning() (names []string) {
	for _, name := range Names() {
		if scanShapes[name] != nil {
			names = append(names, name)
		}
	}
	return names
}

var scanScales = []scales{{0, 0}, {1, 8}, {2, 5}, {8, 8}, {10, 11}, {18, 18}}

// scanSymbols are most of those that the shapes and the recordings name.
var scanSymbols = []string{
	"BTCUSDT", "ETHUSDT", "A", "CRVUSDT", "COMPUSDT", "OMGBUSD", "BTC-USDT", "BTC-USDT-SWAP",
	"BTC-USD", "SKL-USD", "SKL-BTC", "DASH-BTC", "BAND-BTC", "YFI-BTC",
	"BTC/USD", "XMR/USD", "SC/EUR", "WAVES/EUR", "OMG/USD", "ADA/BTC",
}

func newScanRig(tb testing.TB, v Venue, sc scales, symbols []string) *scanRig {
	var insts []event.Instrument
	for _, s := range symbols {
		insts = append(insts, event.Instrument{Venue: v.Rules().Name, Symbol: s, PxScale: sc.px, QtyScale: sc.qty})
	}
	r := &scanRig{}
	var ok, too bool
	r.with, ok = v.NewDecoder(insts).(parsing)
	r.without, too = v.NewDecoder(insts).(parsing)
	if !ok || !too {
		tb.Fatalf("%s has no scanner", v.Rules().Name)
	}
	return r
}

// same says how the two decoders differ over a frame, "" if they do not.
// rest is the place of the instrument whose REST answer it is, or -1.
func (r *scanRig) same(frame []byte, rest int) string {
	parse := func() ledger.Reason { return r.without.parse(frame, &r.want) }
	read := func() ledger.Reason { return r.with.Decode(frame, &r.got) }
	if rest >= 0 {
		p, ok := r.without.(parsingSnapshots)
		if !ok {
			return ""
		}
		parse = func() ledger.Reason { return p.parseSnapshot(rest, frame, &r.want) }
		read = func() ledger.Reason { return r.with.DecodeSnapshot(rest, frame, &r.got) }
	}
	want := parse()
	before := r.with.Declined()
	got := read()
	if want == ledger.Accepted && before == r.with.Declined() && len(r.got.Messages) > 0 && r.got.Messages[0].Kind != KindControl {
		r.accepted++
	}
	if got != want {
		return fmt.Sprintf("reason %v, want %v", got, want)
	}
	if r.got.ConnSeq != r.want.ConnSeq || !reflect.DeepEqual(r.got.Messages, r.want.Messages) && len(r.got.Messages)+len(r.want.Messages) > 0 {
		return fmt.Sprintf("frame %d, messages\n got %+v\nwant %+v", r.got.ConnSeq, r.got.Messages, r.want.Messages)
	}
	if !slices.Equal(r.got.Levels, r.want.Levels) {
		return fmt.Sprintf("levels\n got %v\nwant %v", r.got.Levels, r.want.Levels)
	}
	return ""
}

// restInst is 0 for a shape that is a REST answer, else -1.
func restInst(frame []byte) int {
	if bytes.HasPrefix(frame, []byte(`{"lastUpdateId":`)) {
		return 0
	}
	return -1
}

// scanFrames are the shapes and, where the recordings are, frames of every kind.
func scanFrames(tb testing.TB, v Venue) (frames [][]byte) {
	for _, s := range scanShapes[v.Rules().Name] {
		frames = append(frames, []byte(s))
	}
	if _, err := os.Stat(os.Getenv("DEEPTAPE_CAPTURES")); err != nil {
		return frames
	}
	for _, file := range recordingsOf(tb, v) {
		n := 0
		for _, line := range bytes.Split(plainFile(tb, file), []byte("\n")) {
			if n < 300 && len(line) < 3000 {
				frames = append(frames, line)
				n++
			}
		}
	}
	return frames
}

// TestScannerShapes: the shapes are taken by the scanner, and rightly.
func TestScannerShapes(t *testing.T) {
	for _, name := range scanning() {
		v, _ := ByName(name)
		for _, frame := range scanShapes[name] {
			r := newScanRig(t, v, scales{8, 8}, scanSymbols)
			if diff := r.same([]byte(frame), restInst([]byte(frame))); diff != "" {
				t.Errorf("%s: %s\n%s", name, frame, diff)
			}
			if n := r.with.Declined(); n != 0 || r.accepted != 1 {
				t.Errorf("%s: not taken by the scanner: %s", name, frame)
			}
		}
	}
}

// scannerAgrees: line for line of a recording, and nothing is handed over once the
// scales are found. (TestConformanceDecode calls it, to load the recording once.)
func scannerAgrees(t *testing.T, rec *recorded) {
	if scanShapes[rec.venue.Rules().Name] == nil {
		return
	}
	r := newScanRig(t, rec.venue, scales{}, rec.symbols)
	s := rec.reader()
	sc := make([]scales, len(rec.symbols))
	var declined [2]uint64
	for pass := range declined {
		before := r.with.Declined()
		for n, line := range rec.lines {
			rest := -1
			for i := range s.insts {
				if line.rest && (len(s.insts) == 1 || strings.Contains(line.url, "symbol="+s.insts[i].Symbol)) {
					rest = i
				}
			}
			if pass == 0 {
				s.read(line)
			}
			for i := range s.insts {
				if inst := &s.insts[i]; sc[i] != (scales{inst.PxScale, inst.QtyScale}) {
					sc[i] = scales{inst.PxScale, inst.QtyScale}
					r.with.SetScale(i, inst.PxScale, inst.QtyScale)
					r.without.SetScale(i, inst.PxScale, inst.QtyScale)
				}
			}
			if diff := r.same(line.text, rest); diff != "" {
				t.Fatalf("line %d: %s\n%s", n+1, diff, line.text)
			}
		}
		declined[pass] = r.with.Declined() - before
	}
	if declined[1] > 0 {
		t.Errorf("%d of %d lines handed over, %d while the scales grew", declined[1], len(rec.lines), declined[0])
	}
}

// TestScanners changes frames in ways that know JSON, from a fixed seed. Longer, and
// with other seeds: make fuzz.
func TestScanners(t *testing.T) {
	const seed = 1
	changes := 200_000
	if raceOn {
		changes = 10_000
	}
	if s := os.Getenv("DEEPTAPE_SCAN_CHANGES"); s != "" {
		changes, _ = strconv.Atoi(s)
	}
	for _, name := range scanning() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, _ := ByName(name)
			frames := scanFrames(t, v)
			var rigs []*scanRig
			for _, sc := range scanScales {
				rigs = append(rigs, newScanRig(t, v, sc, scanSymbols))
			}
			m := mutant{r: rand.New(rand.NewPCG(seed, 2))}
			for range changes {
				frame := pick(m.r, frames)
				rest := restInst(frame)
				frame = m.change(frame)
				if diff := pick(m.r, rigs).same(frame, rest); diff != "" {
					t.Fatalf("seed %d: %s\n%q", seed, diff, frame)
				}
			}
			accepted, declined := 0, uint64(0)
			for _, r := range rigs {
				accepted += r.accepted
				declined += r.with.Declined()
			}
			t.Logf("%d changed frames: the scanner took %d and handed over %d", changes, accepted, declined)
			if accepted < changes/50 || declined < uint64(changes/50) {
				t.Errorf("%d taken and %d handed over: both must be tested", accepted, declined)
			}
		})
	}
}

// fuzzScanner fuzzes one exchange's scanners: any bytes, and changes of them.
func fuzzScanner(f *testing.F, venues ...string) {
	var rigs []*scanRig
	for _, name := range venues {
		v, err := ByName(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, frame := range scanFrames(f, v) {
			f.Add(frame, uint64(0))
			f.Add(frame, uint64(len(frame)))
		}
		for _, sc := range scanScales {
			rigs = append(rigs, newScanRig(f, v, sc, scanSymbols))
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte, seed uint64) {
		rest := restInst(frame)
		if seed != 0 {
			frame = (&mutant{r: rand.New(rand.NewPCG(seed, 3))}).change(frame)
		}
		for _, r := range rigs {
			if diff := r.same(frame, rest); diff != "" {
				t.Fatalf("%s\n%q", diff, frame)
			}
		}
	})
}

func FuzzScanBinance(f *testing.F) { fuzzScanner(f, "binance") }
