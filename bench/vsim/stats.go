package vsim

import (
	"fmt"
	"strings"
	"time"
)

// Stats say what a run, or several, went through.
type Stats struct {
	Runs, Peaceful         int // peaceful: no fault at all
	VirtualNs              int64
	Steps                  int
	Kills, PowerLosses     int
	Stops                  int // by the operator, while there were faults
	Rows, Again, Batches   int // rows that the journal derives; rows that came to QuestDB again
	Frames, Lost, Deferred int64
	Gaps, Verified         int                       // intervals of coverage
	Compared               int                       // books called verified that were held against the market's own
	Struck                 [numVenues][numFaults]int // by the venues' own faults, as in dialects and faultNames
}

func (s *Stats) add(o *Stats) {
	s.Runs += o.Runs
	s.Peaceful += o.Peaceful
	s.VirtualNs += o.VirtualNs
	s.Steps += o.Steps
	s.Kills += o.Kills
	s.PowerLosses += o.PowerLosses
	s.Stops += o.Stops
	s.Rows += o.Rows
	s.Again += o.Again
	s.Batches += o.Batches
	s.Frames += o.Frames
	s.Lost += o.Lost
	s.Deferred += o.Deferred
	s.Gaps += o.Gaps
	s.Verified += o.Verified
	s.Compared += o.Compared
	for v := range s.Struck {
		for f := range s.Struck[v] {
			s.Struck[v][f] += o.Struck[v][f]
		}
	}
}

func (s Stats) String() string {
	return fmt.Sprintf("%d runs, %d of them without a fault, %s of virtual time in %d steps; %d kills, %d power losses, %d stops; %d frames, %d lost before the journal; %d rows, %d deferred, %d sent again in %d batches; %d verified intervals, %d gaps; %d books compared",
		s.Runs, s.Peaceful, time.Duration(s.VirtualNs).Round(time.Second), s.Steps, s.Kills, s.PowerLosses, s.Stops, s.Frames, s.Lost, s.Rows, s.Deferred, s.Again, s.Batches, s.Verified, s.Gaps, s.Compared)
}

// struck is a table of how often each fault did.
func (s *Stats) struck() string {
	var b strings.Builder
	for f, name := range faultNames {
		fmt.Fprintf(&b, "%-17s", name)
		for v, venue := range venueNames() {
			fmt.Fprintf(&b, " %s %d", venue, s.Struck[v][f])
		}
		b.WriteByte('\n')
	}
	return b.String()
}
