package bench

import (
	"slices"
	"testing"

	"deeptape/hotpath/ledger"
	"deeptape/venues"
	"deeptape/venues/registry"
)

// scanRig is a venue's decoder, with and without its scanner, and frames of one kind
// of its recording.
type scanRig struct {
	scanner, fastjson venues.Decoder
	frames            [][]byte
	levels            int
	batch             venues.Batch
}

// newScanRig takes the frames of a recording whose messages are all of a kind.
func newScanRig(tb testing.TB, venue string, kind venues.Kind) *scanRig {
	tb.Helper()
	all := recordings(tb)
	i := slices.IndexFunc(all, func(r *recording) bool { return r.venue == venue })
	if i < 0 {
		tb.Skipf("no recording of %s", venue)
	}
	v, err := registry.ByName(venue)
	if err != nil {
		tb.Fatal(err)
	}
	const most = 4000 // frames of a round
	r := &scanRig{scanner: v.NewDecoder(all[i].insts), fastjson: venues.Unscanned(v.NewDecoder(all[i].insts))}
	for _, frame := range all[i].frames {
		of := func(m venues.Message) bool { return m.Kind == kind }
		if r.fastjson.Decode(frame, &r.batch) == ledger.Accepted && len(r.batch.Messages) > 0 && !slices.ContainsFunc(r.batch.Messages, func(m venues.Message) bool { return !of(m) }) && len(r.frames) < most {
			r.frames = append(r.frames, frame)
			r.levels += len(r.batch.Levels)
		}
	}
	if len(r.frames) == 0 {
		tb.Skipf("%s: no such messages", all[i].name)
	}
	r.play(r.scanner)
	if n := r.scanner.Declined(); n > 0 {
		tb.Fatalf("%s: %d of %d frames are handed over", all[i].name, n, len(r.frames))
	}
	return r
}

func (r *scanRig) play(d venues.Decoder) {
	for _, frame := range r.frames {
		d.Decode(frame, &r.batch)
	}
}

func ratioDecode(t *testing.T, venue string) float64 {
	r := newScanRig(t, venue, venues.KindDelta)
	scanner, fastjson := interleave(15, func() { r.play(r.scanner) }, func() { r.play(r.fastjson) })
	n, levels := float64(len(r.frames)), float64(r.levels)
	t.Logf("scanner %.0f ns a message, %.1f a level; fastjson %.0f, %.1f: %.1f times as fast (%d messages)",
		scanner/n, scanner/levels, fastjson/n, fastjson/levels, fastjson/scanner, len(r.frames))
	return scanner / fastjson
}

// BenchmarkDecode is from a frame to its Batch.
func BenchmarkDecode(b *testing.B) {
	kinds := []struct {
		name string
		kind venues.Kind
	}{{"book", venues.KindDelta}, {"trade", venues.KindTrade}, {"quote", venues.KindQuote}}
	for _, venue := range []string{"binance", "okx", "bybit_linear", "kraken", "coinbase"} {
		for _, k := range kinds {
			for _, by := range []string{"scanner", "fastjson"} {
				b.Run("venue="+venue+"/kind="+k.name+"/v="+by, func(b *testing.B) {
					r := newScanRig(b, venue, k.kind)
					d := r.scanner
					if by == "fastjson" {
						d = r.fastjson
					}
					b.ReportAllocs()
					for b.Loop() {
						r.play(d)
					}
					ns := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
					b.ReportMetric(ns/float64(len(r.frames)), "ns/message")
					if r.levels > 0 {
						b.ReportMetric(ns/float64(r.levels), "ns/level")
					}
				})
			}
		}
	}
}
