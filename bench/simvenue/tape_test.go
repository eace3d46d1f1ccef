package simvenue

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func madeTape(t *testing.T, venue string, faults string, length time.Duration, symbols ...string) *Tape {
	t.Helper()
	w, err := NewMarkets(venue, 3, 1_790_000_000_000_000_000, symbols...)
	if err != nil {
		t.Fatal(err)
	}
	f, err := ParseFaults(faults)
	if err != nil {
		t.Fatal(err)
	}
	tape, err := NewTape(venue, w, f, length)
	if err != nil {
		t.Fatal(err)
	}
	return tape
}

// TestTape plays made markets of every venue to a tape and the tape to a venue: nothing
// that is on it is lost on the way, and the book that the second venue ends with is the
// true one of the first market.
func TestTape(t *testing.T) {
	for _, venue := range Venues() {
		t.Run(venue, func(t *testing.T) {
			symbols := []string{Symbol(venue, "SOL"), Symbol(venue, "XRP")}
			const length = 20 * time.Second
			tape := madeTape(t, venue, "", length, symbols...)
			again := madeTape(t, venue, "", length, symbols...)
			if !bytes.Equal(tape.Data, again.Data) || !bytes.Equal(tape.Recv, again.Recv) {
				t.Fatal("the same world gives another tape")
			}
			dir := t.TempDir()
			if err := tape.Write(dir, "tape"); err != nil {
				t.Fatal(err)
			}
			v, err := newVenue(venue, VenueOptions{})
			if err != nil {
				t.Fatal(err)
			}
			src, err := readRecording(v, filepath.Join(dir, "tape.jsonl.gz"))
			if err != nil {
				t.Fatal(err)
			}
			v.sources = append(v.sources, src)
			kinds := map[kind]int{}
			for ev, ok := src.pull(); ok; ev, ok = src.pull() {
				kinds[ev.kind]++
				if ev.kind == kindSnapshot {
					v.openGate(ev)
				} else {
					v.step(ev)
				}
			}
			for _, k := range []kind{kindBook, kindTrade, kindQuote} {
				if quoteless := venue == "coinbase" || venue == "kraken"; kinds[k] == 0 && (k != kindQuote || !quoteless) {
					t.Errorf("no %s on the tape: %v", k, kinds)
				}
			}
			w, err := NewMarkets(venue, 3, 1_790_000_000_000_000_000, symbols...)
			if err != nil {
				t.Fatal(err)
			}
			truth, err := NewVenue(venue, w, nil, VenueOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for e := truth.Next(); e.AtNs() < w.StartNs()+int64(length); e = truth.Next() {
				truth.Step(e, e.AtNs())
			}
			for _, s := range symbols {
				_, bids, asks, ok := v.Book(s)
				_, trueBids, trueAsks, _ := truth.Book(s)
				n := min(len(bids), len(trueBids))
				m := min(len(asks), len(trueAsks))
				if !ok || n < 50 || m < 50 {
					t.Fatalf("%s: a book of %d and %d levels", s, len(bids), len(asks))
				}
				for i := range n {
					if bids[i] != trueBids[i] {
						t.Fatalf("%s: bid %d is %v on the tape, %v in the market", s, i, bids[i], trueBids[i])
					}
				}
				for i := range m {
					if asks[i] != trueAsks[i] {
						t.Fatalf("%s: ask %d is %v on the tape, %v in the market", s, i, asks[i], trueAsks[i])
					}
				}
			}
		})
	}
}

// A fault that drops a frame is on the tape, one that ends the connection is refused.
func TestTapeWithFaults(t *testing.T) {
	whole := madeTape(t, "okx", "", 10*time.Second, "SOL-USDT")
	less := madeTape(t, "okx", "drop@20", 10*time.Second, "SOL-USDT")
	if n, m := bytes.Count(whole.Data, []byte("\n")), bytes.Count(less.Data, []byte("\n")); m != n-1 {
		t.Errorf("%d lines with a frame dropped, %d without", m, n)
	}
	w, err := NewMarkets("okx", 3, 1_790_000_000_000_000_000, "SOL-USDT")
	if err != nil {
		t.Fatal(err)
	}
	cut, err := ParseFaults("disconnect@20")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewTape("okx", w, cut, 10*time.Second); err == nil || !strings.Contains(err.Error(), "a tape is of one connection") {
		t.Errorf("a cut gives %v", err)
	}
}

func TestTapeCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&Tape{}).Write(file, "tape"); err == nil {
		t.Error("it is written into a file")
	}
}
