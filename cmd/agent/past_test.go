package agent

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/hotpath/journal"
)

// TestEndsGone: a journal that lost its last segment looks whole by itself, and is not
// beside what QuestDB has acknowledged.
func TestEndsGone(t *testing.T) {
	var inputs []event.Input
	for pos := range uint64(9) {
		inputs = append(inputs, event.Input{InputHead: event.InputHead{Kind: event.InputTick, Feed: 3, Pos: pos + 1, Ts: int64(pos) + 1}})
	}
	dir := journalOf(t, inputs)
	for acked, want := range map[string]string{
		"":         "",
		`{"3":9}`:  "",
		`{"3":`:    "", // torn
		`{"3":12}`: "the end of feed 3 is gone: QuestDB has the rows of its inputs up to 12, the journal ends with 9",
		`{"4":1}`:  "the end of feed 4 is gone: QuestDB has the rows of its inputs up to 1, the journal ends with 0",
	} {
		if err := os.WriteFile(filepath.Join(dir, "acked.json"), []byte(acked), 0o644); err != nil {
			t.Fatal(err)
		}
		rep, err := journal.Fsck(journal.OS, dir, false, io.Discard)
		if err != nil || !rep.Clean() {
			t.Fatalf("%+v, %v", rep, err)
		}
		if got := strings.Join(EndsGone(dir, rep.Ends), "\n"); got != want {
			t.Errorf("%s: %q, want %q", acked, got, want)
		}
	}
}
