package venuetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/venues"
)

// ScanRig holds a venue's decoders, with and without scanner, at one pair of scales.
type ScanRig struct {
	With, Without venues.Decoder
	got, want     venues.Batch
	Accepted      int
}

var ScanScales = []venues.Scales{{Px: 0, Qty: 0}, {Px: 1, Qty: 8}, {Px: 2, Qty: 5}, {Px: 8, Qty: 8}, {Px: 10, Qty: 11}, {Px: 18, Qty: 18}}

// ScanSymbols are most of those that the shapes and the recordings name.
var ScanSymbols = []string{
	"BTCUSDT", "ETHUSDT", "A", "CRVUSDT", "COMPUSDT", "OMGBUSD", "BTC-USDT", "BTC-USDT-SWAP",
	"BTC-USD", "SKL-USD", "SKL-BTC", "DASH-BTC", "BAND-BTC", "YFI-BTC",
	"BTC/USD", "XMR/USD", "SC/EUR", "WAVES/EUR", "OMG/USD", "ADA/BTC",
}

func NewScanRig(v venues.Venue, sc venues.Scales, symbols []string) *ScanRig {
	var insts []event.Instrument
	for _, s := range symbols {
		insts = append(insts, event.Instrument{Venue: v.Rules().Name, Symbol: s, PxScale: sc.Px, QtyScale: sc.Qty})
	}
	r := &ScanRig{With: v.NewDecoder(insts), Without: venues.Unscanned(v.NewDecoder(insts))}
	return r
}

// Same says how the two decoders differ over a frame, "" if they do not.
// rest is the place of the instrument whose REST answer it is, or -1.
func (r *ScanRig) Same(frame []byte, rest int) string {
	parse := func() ledger.Reason { return r.Without.Decode(frame, &r.want) }
	read := func() ledger.Reason { return r.With.Decode(frame, &r.got) }
	if rest >= 0 {
		parse = func() ledger.Reason { return r.Without.DecodeSnapshot(rest, frame, &r.want) }
		read = func() ledger.Reason { return r.With.DecodeSnapshot(rest, frame, &r.got) }
	}
	want := parse()
	before := r.With.Declined()
	got := read()
	if want == ledger.Accepted && before == r.With.Declined() && len(r.got.Messages) > 0 && r.got.Messages[0].Kind != venues.KindControl {
		r.Accepted++
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

// RestInst is 0 for a shape that is a REST answer, else -1.
func RestInst(frame []byte) int {
	if bytes.HasPrefix(frame, []byte(`{"lastUpdateId":`)) {
		return 0
	}
	return -1
}

// ShapesOf are frames in the spelling that a venue's scanner knows, one of each kind, for
// machines without the recordings: testdata/shapes.jsonl in the venue's folder.
func ShapesOf(tb testing.TB, v venues.Venue) (frames [][]byte) {
	folder, _, _ := strings.Cut(v.Rules().Name, "_") // two markets of one exchange share a folder
	text := PlainFile(tb, filepath.Join(rootDir(), "venues", folder, "testdata", "shapes.jsonl"))
	for _, line := range bytes.Split(text, []byte("\n")) {
		if len(line) > 0 {
			frames = append(frames, line)
		}
	}
	return frames
}

// ScanFrames are the shapes and, where the recordings are, frames of every kind.
func ScanFrames(tb testing.TB, v venues.Venue) (frames [][]byte) {
	frames = ShapesOf(tb, v)
	if _, err := os.Stat(os.Getenv("DEEPTAPE_CAPTURES")); err != nil {
		return frames
	}
	for _, file := range RecordingsOf(tb, v) {
		n := 0
		for _, line := range bytes.Split(PlainFile(tb, file), []byte("\n")) {
			if n < 300 && len(line) < 3000 {
				frames = append(frames, line)
				n++
			}
		}
	}
	return frames
}

// FuzzScanner fuzzes one exchange's scanners: any bytes, and changes of them.
func FuzzScanner(f *testing.F, markets ...venues.Venue) {
	var rigs []*ScanRig
	for _, v := range markets {
		for _, frame := range ScanFrames(f, v) {
			f.Add(frame, uint64(0))
			f.Add(frame, uint64(len(frame)))
		}
		for _, sc := range ScanScales {
			rigs = append(rigs, NewScanRig(v, sc, ScanSymbols))
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte, seed uint64) {
		rest := RestInst(frame)
		if seed != 0 {
			frame = (&Mutant{R: rand.New(rand.NewPCG(seed, 3))}).Change(frame)
		}
		for _, r := range rigs {
			if diff := r.Same(frame, rest); diff != "" {
				t.Fatalf("%s\n%q", diff, frame)
			}
		}
	})
}

// ScannerLimit is a frame of many elements: with so many it fits, with tooMany it does
// not; a tooMany of 0 says that no number is too many.
type ScannerLimit struct {
	Head, Element, Tail string
	Fits, TooMany       int
}

// CheckScannerLimits checks that a frame which is too long for the parser is too long for
// the scanner.
func CheckScannerLimits(t *testing.T, v venues.Venue, limits []ScannerLimit) {
	t.Helper()
	for _, c := range limits {
		for _, n := range []int{c.Fits, c.TooMany} {
			r := NewScanRig(v, venues.Scales{Px: 2, Qty: 2}, ScanSymbols)
			frame := []byte(c.Head + strings.Repeat(c.Element+",", max(1, n)-1) + c.Element + c.Tail)
			if diff := r.Same(frame, -1); diff != "" {
				t.Errorf("%d times %s: %.300s", n, c.Element, diff)
			}
			if taken := r.Accepted == 1; taken != (n != c.TooMany) && n > 0 {
				t.Errorf("%d times %s: taken by the scanner: %v", n, c.Element, taken)
			}
		}
	}
}
