package venuetest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/venues"
)

// rootDir is the folder of the project's clone.
func rootDir() string {
	dir, err := os.Getwd() // a test runs in its package's folder
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if filepath.Dir(dir) == dir {
			break
		}
		dir = filepath.Dir(dir)
	}
	panic("no go.mod above the folder of the test")
}

// WhereCaptures is the folder in which the recordings are looked for.
func WhereCaptures() string {
	if dir := os.Getenv("DEEPTAPE_CAPTURES"); dir != "" {
		return dir
	}
	return filepath.Join(filepath.Dir(rootDir()), "shared", "captures")
}

// Capture opens a recording, or skips the test.
func Capture(tb testing.TB, name string) io.Reader {
	tb.Helper()
	f, err := os.Open(filepath.Join(WhereCaptures(), name))
	if errors.Is(err, os.ErrNotExist) {
		tb.Skipf("no recording: %v; set DEEPTAPE_CAPTURES", err)
	} else if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.Close() })
	if !strings.HasSuffix(name, ".gz") {
		return f
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	return z
}

func CaptureLines(tb testing.TB, name string) (lines [][]byte) {
	tb.Helper()
	s := bufio.NewScanner(Capture(tb, name))
	s.Buffer(nil, 1<<24)
	for s.Scan() {
		lines = append(lines, bytes.Clone(s.Bytes()))
	}
	if s.Err() != nil {
		tb.Fatal(s.Err())
	}
	return lines
}

func CapturesDir(tb testing.TB) string {
	dir := WhereCaptures()
	if _, err := os.Stat(filepath.Join(dir, "rows.py")); err != nil {
		tb.Skipf("no recordings: %v; set DEEPTAPE_CAPTURES", err)
	}
	return dir
}

func PlainFile(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	if strings.HasSuffix(name, ".gz") {
		r, err := gzip.NewReader(bytes.NewReader(b))
		if err == nil {
			b, err = io.ReadAll(r)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	return b
}

// RecordingsOf finds a venue's recordings by name: the directory is the exchange, and a
// market that is a venue of its own stands in the name of the file.
func RecordingsOf(tb testing.TB, v venues.Venue) (files []string) {
	exchange, market, _ := strings.Cut(v.Rules().Name, "_")
	all, _ := filepath.Glob(filepath.Join(CapturesDir(tb), exchange, "*.jsonl*"))
	for _, file := range all {
		if isLinear := strings.Contains(filepath.Base(file), "linear"); isLinear == (market == "linear") {
			files = append(files, file)
		}
	}
	if len(files) == 0 {
		tb.Errorf("%s has no recording", v.Rules().Name)
	}
	return files
}

// BenchRecording decodes a recording again and again.
func BenchRecording(b *testing.B, v venues.Venue, symbol, name string) {
	dec := v.NewDecoder([]event.Instrument{{Symbol: symbol, PxScale: 8, QtyScale: 8}})
	lines := CaptureLines(b, name)
	var batch venues.Batch
	for _, line := range lines { // buffers grow
		dec.Decode(line, &batch)
	}
	bytes, frames, levels := 0, 0, 0
	for b.Loop() {
		for _, line := range lines {
			dec.Decode(line, &batch)
			frames++
			bytes += len(line)
			levels += len(batch.Levels)
		}
	}
	ns := float64(b.Elapsed().Nanoseconds())
	b.SetBytes(int64(bytes / b.N))
	b.ReportMetric(ns/float64(frames), "ns/frame")
	if levels > 0 {
		b.ReportMetric(ns/float64(levels), "ns/level")
	}
}
