// Command peers measures deeptape against what one would take from the shelf, stage by
// stage and from the frame to the book, on the same recorded messages, and prints one
// table with ratios. Run it by "make peers".
//
// It fetches and builds the peers (cargo, pip), converts the recordings into one neutral
// form that all of them read (corpus.go), and then starts itself once more in a network
// namespace without a way out: whatever a peer would like to fetch or tell, it cannot.
//
// The peers of a stage take turns, round by round, and each gets its median; a ratio is
// the median of the ratios within a round. A round counts the processor time of the whole
// process, garbage collection included. Every round of every peer must come to the same
// result, worked out from the recording's text alone (oracle.go): nobody is measured doing
// less. It must never open a socket, and never measure a peer otherwise than in the best
// form that its documentation shows, with its allocations and buffers reused where it lets
// one.
//
// It fails where deeptape is not as many times as fast, from the frame to the book, as
// whole.go demands, and two more runs say so, too.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	captures := flag.String("captures", os.Getenv("DEEPTAPE_CAPTURES"), "folder of the recordings")
	rounds := flag.Int("rounds", 11, "rounds that count, of each peer")
	only := flag.String("only", "", "only the groups that contain this")
	measure := flag.Bool("measure", false, "measure now, everything is built")
	out := flag.String("out", "RESULTS.md", "where the table goes besides")
	flag.Parse()
	err := run(*captures, *rounds, *only, *measure, *out)
	if err != nil {
		logf("%v", err)
		os.Exit(1)
	}
}

func run(captures string, rounds int, only string, measure bool, out string) error {
	if measure {
		return measureAll(rounds, only, out)
	}
	if captures == "" {
		captures = filepath.Join("..", "..", "..", "shared", "captures")
	}
	if err := prepare(captures); err != nil {
		return err
	}
	cmd, err := isolated("-measure", "-rounds", fmt.Sprint(rounds), "-only", only, "-out", out)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("measuring failed: %w", err)
	}
	return nil
}

// mustBeAlone refuses to measure where there is a way out.
func mustBeAlone() error {
	ifs, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range ifs {
		if i.Flags&net.FlagLoopback == 0 && i.Flags&net.FlagUp != 0 {
			return fmt.Errorf("there is a network (interface %s): start this with make peers", i.Name)
		}
	}
	return nil
}

const warmRounds = 2

func measureAll(rounds int, only, out string) error {
	if err := mustBeAlone(); err != nil {
		return err
	}
	if rounds < 3 {
		return fmt.Errorf("%d rounds have no median worth the name", rounds)
	}
	var corpora []*corpus
	var paths []string
	for _, r := range recordings {
		c, err := readCorpus(buildDir, r.name)
		if err != nil {
			return err
		}
		c.gated = r.gated
		corpora = append(corpora, c)
		paths = append(paths, corpusPath(buildDir, r.name))
	}
	rust, err := startWorker(filepath.Join(buildDir, rustPeer), paths...)
	if err != nil {
		return err
	}
	defer rust.stop()
	python, err := startWorker(filepath.Join(buildDir, venvDir, "bin/python"), append([]string{"python/peer.py"}, paths...)...)
	if err != nil {
		return err
	}
	defer python.stop()

	contests, err := allContests(corpora, rust, python)
	if err != nil {
		return err
	}
	var done []*contest
	var missed []string
	for _, k := range contests {
		if !strings.Contains(k.group, only) {
			continue
		}
		logf("%s, %s", k.group, k.corpus)
		for try := 1; ; try++ { // red only if reruns agree
			m, err := k.run(rounds, warmRounds)
			if err != nil {
				return err
			}
			for _, s := range m {
				logf("%s", s)
			}
			if len(m) == 0 {
				break
			}
			if try == 3 {
				missed = append(missed, m...)
				break
			}
		}
		done = append(done, k)
	}
	report := table(done, corpora, rounds)
	fmt.Print(report)
	if only == "" {
		if err := os.WriteFile(out, []byte(report), 0o644); err != nil {
			return err
		}
	}
	if len(missed) > 0 {
		return fmt.Errorf("not fast enough, three times out of three: %s", strings.Join(missed, "; "))
	}
	return nil
}

// allContests: the stages in the order of a frame's way, and then the whole of it.
func allContests(corpora []*corpus, rust, python *worker) ([]*contest, error) {
	var all []*contest
	add := func(k *contest, err error) error {
		all = append(all, k)
		return err
	}
	if err := add(framesContest(corpora[0])); err != nil {
		return nil, err
	}
	for _, c := range corpora {
		if err := add(parseContest(c, rust)); err != nil {
			return nil, err
		}
	}
	for _, c := range corpora {
		if err := add(booksContest(c, rust)); err != nil {
			return nil, err
		}
	}
	all = append(all, ringContests()...)
	if err := add(encodeContest(corpora[0])); err != nil {
		return nil, err
	}
	for _, c := range corpora {
		if err := add(wholeContest(c, rust, python)); err != nil {
			return nil, err
		}
	}
	return all, nil
}
