package bench

import (
	"bytes"
	"io"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/journal"
)

// journalRecords makes input records of the recorded BTCUSDT frames.
func journalRecords(tb testing.TB) (recs [][]byte, rawBytes int64) {
	for _, rec := range recordedBTC(tb).inputs {
		recs = append(recs, rec)
		rawBytes += int64(len(rec))
	}
	return recs, rawBytes
}

// TestJournalRatio writes the recording, reads it back, and holds the journal to
// its compression: what it costs in disk per day depends on that alone.
func TestJournalRatio(t *testing.T) {
	const least = 4.8 // in blocks of 256 KiB; 5.10 when this was written
	recs, raw := journalRecords(t)
	dir := t.TempDir()
	w, _, err := journal.Open(journal.OS, dir, journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, rec := range recs {
		if err := w.Append(rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r := journal.NewReader(journal.OS, dir, journal.Position{})
	defer r.Close()
	var buf []byte
	for i, rec := range recs {
		in, err := r.Next()
		if err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		if buf = event.AppendInput(buf[:0], in.InputHead, in.Data); !bytes.Equal(buf, rec) {
			t.Fatalf("frame %d differs", i)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Fatalf("behind the last frame: %v", err)
	}
	ratio := float64(raw) / float64(w.Stats().StoredBytes)
	t.Logf("%d frames, %d bytes, ratio %.2f", len(recs), raw, ratio)
	if ratio < least {
		t.Fatalf("ratio %.2f, want %.1f", ratio, least)
	}
}

// BenchmarkJournalAppend covers Append, compression, CRC and write(2) without
// fsync; group=full flushes at 256 KiB, the others after so many frames, as the
// writer's goroutine does when it runs dry.
func BenchmarkJournalAppend(b *testing.B) {
	recs, raw := journalRecords(b)
	for _, c := range []struct {
		name  string
		group int
	}{{"group=full", 1 << 30}, {"group=16", 16}, {"group=1", 1}} {
		b.Run(c.name, func(b *testing.B) {
			w, _, err := journal.Open(journal.OS, b.TempDir(), journal.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer w.Close()
			b.SetBytes(raw / int64(len(recs)))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if err := w.Append(recs[n%len(recs)]); err != nil {
					b.Fatal(err)
				}
				if n++; n%c.group == 0 {
					if err := w.Flush(); err != nil {
						b.Fatal(err)
					}
				}
			}
			if err := w.Flush(); err != nil {
				b.Fatal(err)
			}
			st := w.Stats()
			b.ReportMetric(float64(st.RawBytes)/float64(st.StoredBytes), "ratio")
		})
	}
}

// BenchmarkJournalRead covers read, CRC and unpacking, per frame.
func BenchmarkJournalRead(b *testing.B) {
	recs, raw := journalRecords(b)
	dir := b.TempDir()
	w, _, err := journal.Open(journal.OS, dir, journal.Options{})
	if err != nil {
		b.Fatal(err)
	}
	for _, rec := range recs {
		if err := w.Append(rec); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(raw / int64(len(recs)))
	b.ReportAllocs()
	r := journal.NewReader(journal.OS, dir, journal.Position{})
	for b.Loop() {
		_, err := r.Next()
		if err == io.EOF {
			r.Close()
			r = journal.NewReader(journal.OS, dir, journal.Position{})
			continue
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	r.Close()
}
