package agent

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/ilp/qdb"
	"deeptape/ilp/verify"
)

// TestKeeperSparesAHole: a hole reaches from the last input that the journal has, whose
// rows are as they were, to the keyframe behind it, whose rows have times that were made
// without what is missing. So the first instant of a hole is delivered, and the last is not.
func TestKeeperSparesAHole(t *testing.T) {
	const from, to = 1_000, 2_000
	for _, c := range []struct {
		name       string
		begin, end int64 // what the database knows
		spared     bool
	}{
		{"ends where the hole begins", 500, from, false},
		{"ends within the hole", 500, from + 1, true},
		{"begins where the hole ends", to, 3_000, true},
		{"begins behind the hole", to + 1, 3_000, false},
	} {
		db := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			columns := `[{"name":"venue","type":"SYMBOL"},{"name":"symbol","type":"SYMBOL"},{"name":"stream","type":"SYMBOL"},{"name":"ts","type":"TIMESTAMP_NS"},{"name":"ts_end","type":"TIMESTAMP_NS"}]`
			row, _ := json.Marshal([]string{"v", "s", "book", qdb.FormatTime(c.begin)[1 : len(qdb.FormatTime(c.begin))-1], qdb.FormatTime(c.end)[1 : len(qdb.FormatTime(c.end))-1]})
			w.Write([]byte(`{"columns":` + columns + `,"dataset":[` + string(row) + `],"count":1}`))
		}))
		lost := []verify.Lost{{Venue: "v", Symbol: "s", From: from, To: to, Damaged: true}}
		k, err := newKeeper(t.Context(), qdb.Open(qdb.Conf{Addr: strings.TrimPrefix(db.URL, "http://")}), lost, 0, 0, slog.New(slog.DiscardHandler))
		db.Close()
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		k.insts[1] = instrumentKey{"v", "s"}
		for _, at := range []struct {
			ts     int64
			inHole bool
		}{{from, false}, {from + 1, true}, {to, true}, {to + 1, false}} {
			h := event.Head{Kind: event.RowTrade, Inst: 1, Ts: at.ts}
			if kept := k.keep(0, &h, nil); kept != (!c.spared || !at.inHole) {
				t.Errorf("the database has an interval that %s: a row at %d is delivered: %v", c.name, at.ts, kept)
			}
		}
	}
}
