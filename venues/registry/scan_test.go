package registry

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"deeptape/venues"
	"deeptape/venues/venuetest"
)

// The oracle of every scanner is fastjson: what a decoder makes of a frame has to be
// what it would have made without its scanner.

// TestScannerShapes: the shapes are taken by the scanner, and rightly.
func TestScannerShapes(t *testing.T) {
	for _, name := range Names() {
		v, _ := ByName(name)
		for _, frame := range venuetest.ShapesOf(t, v) {
			r := venuetest.NewScanRig(v, venues.Scales{Px: 8, Qty: 8}, venuetest.ScanSymbols)
			if diff := r.Same(frame, venuetest.RestInst(frame)); diff != "" {
				t.Errorf("%s: %s\n%s", name, frame, diff)
			}
			if n := r.With.Declined(); n != 0 || r.Accepted != 1 {
				t.Errorf("%s: not taken by the scanner: %s", name, frame)
			}
		}
	}
}

// scannerAgrees: line for line of a recording, and nothing is handed over once the
// scales are found. (TestConformanceDecode calls it, to load the recording once.)
func scannerAgrees(t *testing.T, rec *recorded) {
	r := venuetest.NewScanRig(rec.venue, venues.Scales{}, rec.symbols)
	s := rec.reader()
	sc := make([]venues.Scales, len(rec.symbols))
	var declined [2]uint64
	for pass := range declined {
		before := r.With.Declined()
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
				if inst := &s.insts[i]; sc[i] != (venues.Scales{Px: inst.PxScale, Qty: inst.QtyScale}) {
					sc[i] = venues.Scales{Px: inst.PxScale, Qty: inst.QtyScale}
					r.With.SetScale(i, inst.PxScale, inst.QtyScale)
					r.Without.SetScale(i, inst.PxScale, inst.QtyScale)
				}
			}
			if diff := r.Same(line.text, rest); diff != "" {
				t.Fatalf("line %d: %s\n%s", n+1, diff, line.text)
			}
		}
		declined[pass] = r.With.Declined() - before
	}
	if declined[1] > 0 {
		t.Errorf("%d of %d lines handed over, %d while the scales grew", declined[1], len(rec.lines), declined[0])
	}
}

// TestScanners changes frames in ways that know JSON, from a fixed seed. Longer, and
// with other seeds: make fuzz.
func TestScanners(t *testing.T) {
	const seed = 1
	changes := 100_000
	if raceOn {
		changes = 10_000
	}
	if s := os.Getenv("DEEPTAPE_SCAN_CHANGES"); s != "" {
		changes, _ = strconv.Atoi(s)
	}
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, _ := ByName(name)
			frames := venuetest.ScanFrames(t, v)
			var rigs []*venuetest.ScanRig
			for _, sc := range venuetest.ScanScales {
				rigs = append(rigs, venuetest.NewScanRig(v, sc, venuetest.ScanSymbols))
			}
			m := venuetest.Mutant{R: rand.New(rand.NewPCG(seed, 2))}
			for range changes {
				frame := venuetest.Pick(m.R, frames)
				rest := venuetest.RestInst(frame)
				frame = m.Change(frame)
				if diff := venuetest.Pick(m.R, rigs).Same(frame, rest); diff != "" {
					t.Fatalf("seed %d: %s\n%q", seed, diff, frame)
				}
			}
			accepted, declined := 0, uint64(0)
			for _, r := range rigs {
				accepted += r.Accepted
				declined += r.With.Declined()
			}
			t.Logf("%d changed frames: the scanner took %d and handed over %d", changes, accepted, declined)
			if accepted < changes/50 || declined < uint64(changes/50) {
				t.Errorf("%d taken and %d handed over: both must be tested", accepted, declined)
			}
		})
	}
}
