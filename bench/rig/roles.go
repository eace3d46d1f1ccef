package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"deeptape/bench/simvenue"
	"deeptape/bench/world"
	"deeptape/hotpath/event"
	"deeptape/venues"
	"deeptape/venues/registry"
	"deeptape/venues/wire"
)

// roleEnv makes this program another process of the rig. It then gets a job as JSON
// on its standard input, answers on its output, and ends when its input ends.
const roleEnv = "DEEPTAPE_RIG_ROLE"

// job of a venue or a bare reader.
type job struct {
	Profile string
	Seed    uint64
	StartNs int64
	WarmNs  int64
	ForNs   int64
	WSURL   string // of the reader
}

// venueAddrs is what a venue answers first.
type venueAddrs struct{ WSURL, RestURL string }

// readings is what a bare reader answers at its end: of the messages from the start on.
type readings struct {
	Frames, Stamped             int
	P50Ns, P99Ns, P999Ns, MaxNs int64
}

func play(role string) int {
	dec := json.NewDecoder(os.Stdin)
	var j job
	err := dec.Decode(&j)
	if err == nil {
		switch role {
		case "venue":
			err = playVenue(j)
		case "reader":
			err = playReader(j)
		default:
			err = fmt.Errorf("no role %q", role)
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "rig %s: %v\n", role, err)
		return 1
	}
	return 0
}

// manyWeights lets 150 books be fetched at once. The venue's own 6,000 a minute would
// take six minutes, which the agent waits for without a loss, and which is not what is
// measured here.
const manyWeights = 1_000_000

func playVenue(j job) error {
	p, err := world.ProfileByName(j.Profile)
	if err != nil {
		return err
	}
	s, err := simvenue.New(simvenue.Options{
		Speed: 1, WeightLimit: manyWeights,
		Load: world.NewSchedule(world.NewLoad(p, j.Seed), j.StartNs, j.WarmNs, j.ForNs),
	})
	if err != nil {
		return err
	}
	if err := s.Start(); err != nil {
		return err
	}
	defer s.Close()
	if err := json.NewEncoder(os.Stdout).Encode(venueAddrs{s.WSURL(), s.RESTURL()}); err != nil {
		return err
	}
	io.Copy(io.Discard, os.Stdin)
	return nil
}

// perConnection is what the agent puts on one connection.
const perConnection = 50

func playReader(j job) error {
	p, err := world.ProfileByName(j.Profile)
	if err != nil {
		return err
	}
	venue, err := registry.ByName("binance")
	if err != nil {
		return err
	}
	var insts []event.Instrument
	for _, s := range world.NewLoad(p, j.Seed).Symbols {
		insts = append(insts, event.Instrument{Venue: "binance", Symbol: s.Name})
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	clock := wire.NewClock()
	var conns []*wire.Conn
	var readers []*bareReader
	var wg sync.WaitGroup
	for part := range slices.Chunk(insts, perConnection) {
		conn, err := wire.Dial(ctx, j.WSURL+venue.StreamPath(part, true), wire.Options{Clock: clock})
		if err != nil {
			return err
		}
		for _, c := range venue.Subscribe(part, venues.Subscription{Quotes: true}) {
			if err := conn.WriteText([]byte(c.Text)); err != nil {
				return err
			}
		}
		r := &bareReader{fromMs: j.StartNs / 1e6, latencies: make([]int64, 0, 1<<20)}
		conns, readers = append(conns, conn), append(readers, r)
		wg.Go(func() { r.read(conn, clock) })
	}
	json.NewEncoder(os.Stdout).Encode("connected")
	io.Copy(io.Discard, os.Stdin)
	for i, c := range conns {
		readers[i].stop.Store(true)
		c.Interrupt()
	}
	wg.Wait()
	var out readings
	var all []int64
	for _, r := range readers {
		out.Frames += r.frames
		all = append(all, r.latencies...)
		if r.err != nil {
			return r.err
		}
	}
	slices.Sort(all)
	out.Stamped = len(all)
	if n := len(all); n > 0 {
		at := func(q float64) int64 { return all[min(int(q*float64(n)), n-1)] }
		out.P50Ns, out.P99Ns, out.P999Ns, out.MaxNs = at(0.5), at(0.99), at(0.999), all[n-1]
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}
