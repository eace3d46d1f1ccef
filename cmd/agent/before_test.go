package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"path/filepath"
	"testing"
)

// TestJournalsOfBefore derives the rows of journals that an earlier build wrote, and
// compares all of them byte for byte with what that build derived. A journal outlives
// the program that wrote it: whoever changes decoding, sequencing, books or coverage
// learns here that old journals would now give other rows, and must raise feed.Version
// and say why.
//
// The build of 2026-11-29 (commit aa91df8, feed.Version as it was then) recorded the
// simulator's markets, seed 7, a few seconds each, was killed with -9 in the middle and
// started again:
//
//   - faults: all six markets, one connection each; a lost frame, a cut connection, a wrong
//     checksum, half a frame, a refused subscription.
//   - lines: five venues with two connections each; one of the two cut, frames lost,
//     doubled and swapped.
//   - segments: five venues, a planned reconnect every two seconds, segments of 1 MiB, so
//     that keyframes stand in the middle of a run.
func TestJournalsOfBefore(t *testing.T) {
	for _, j := range []struct {
		name  string
		bytes int64
		sum   string
	}{
		{"faults", 17_069_372, "ef3c066c76b18a5b578f12370383f9bb89d1fab402d92541815e91a8169595a3"},
		{"lines", 4_197_413, "9ab5a71fcf4e2795c10be6e927bc5198647b61d439cd2748334d84c82153f0f7"},
		{"segments", 18_159_157, "8f14710f28be66b0e900ffd1069090d1dba50a451ccfbc5845fd2ef26233d7d1"},
	} {
		t.Run(j.name, func(t *testing.T) {
			t.Parallel()
			w := &summed{Hash: sha256.New()}
			if err := WriteLines(t.Context(), filepath.Join("testdata", "journals", j.name), 0, 0, w); err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(w.Sum(nil)); w.bytes != j.bytes || got != j.sum {
				t.Errorf("the journal gives %d bytes of rows with SHA-256 %s; the build that wrote it gave %d with %s", w.bytes, got, j.bytes, j.sum)
			}
		})
	}
}

// summed counts and sums up what is written to it.
type summed struct {
	hash.Hash
	bytes int64
}

func (s *summed) Write(b []byte) (int, error) {
	s.bytes += int64(len(b))
	return s.Hash.Write(b)
}
