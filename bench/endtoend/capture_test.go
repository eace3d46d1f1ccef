package endtoend

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// venue is a running `deeptape sim`.
type venue struct {
	*process
	url     string
	conf    string // file with its configuration
	journal string // directory for whoever records it
}

// startVenue keeps its files in dir.
func startVenue(t *testing.T, dir string, args ...string) *venue {
	t.Helper()
	v := &venue{process: start(t, nil, append([]string{"sim"}, args...)...)}
	v.url = v.says(`rest_url: "(http://[^"]+)"`, patience)
	v.conf, v.journal = filepath.Join(dir, "deeptape.yaml"), filepath.Join(dir, "journal")
	if err := os.WriteFile(v.conf, []byte(v.out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return v
}

type venueStatus struct {
	Done    bool
	Streams []struct {
		Symbol, Stream string
		Events, Sent   int64
	}
	Symbols []struct {
		Symbol                        string
		LastUpdateID, Diffs, Requests int64
	}
	Struck []struct {
		Fault, Symbol string
		First, Last   int64
		Receivers     int
	}
	Closes map[string]int
}

func (v *venue) status() (st venueStatus) {
	v.t.Helper()
	getJSON(v.t, v.url+"/sim/status", &st)
	return st
}

// trueBook is the whole book that the venue ended with.
func (v *venue) trueBook(symbol string) (id int64, b *slowBook) {
	v.t.Helper()
	var body struct {
		LastUpdateID int64
		Bids, Asks   [][2]string
	}
	getJSON(v.t, v.url+"/sim/book?symbol="+symbol, &body)
	b = &slowBook{}
	for _, l := range body.Bids {
		b.set(level{"bid", plain(v.t, l[0]), plain(v.t, l[1])})
	}
	for _, l := range body.Asks {
		b.set(level{"ask", plain(v.t, l[0]), plain(v.t, l[1])})
	}
	return body.LastUpdateID, b
}

// agent is a running `deeptape capture`.
type agent struct {
	*process
	url string
}

func startAgent(t *testing.T, v *venue, db database) *agent {
	t.Helper()
	a := &agent{process: start(t, nil, "capture", "-c", v.conf, "--journal", v.journal, "--questdb", db.conf(), "--listen", "127.0.0.1:0")}
	a.url = a.says(`url=(http://\S+)`, 2*time.Minute)
	return a
}

type agentStatus struct {
	Agent            string
	NowNs            int64 `json:"now_ns"`
	Troubles         []string
	Frames           map[string]int64
	LedgerDifference int64 `json:"ledger_difference"`
	LagInputs        int64 `json:"lag_inputs"`
	Rows             map[string]struct{ Derived, Deferred, Acked, Quarantined int64 }
	Feeds            []struct {
		LostFrames int64 `json:"lost_frames"`
	}
	Symbols []symbolStatus
}

type symbolStatus struct {
	Venue    string
	Symbol   string
	Books    int64 `json:"book_messages"`
	Gaps     int64
	LastNs   int64 `json:"last_message_ns"` // of the book
	Requests int64 `json:"snapshot_requests"`
	Stale    int64 `json:"stale_snapshots"`
	Coverage map[string]struct{ State string }
}

func (a *agent) status() (st agentStatus) {
	a.t.Helper()
	getJSON(a.t, a.url+"/status.json", &st)
	return st
}

// drained waits until the venue has said all, the agent has heard what it will,
// and QuestDB has acknowledged it.
func drained(t *testing.T, v *venue, a *agent, within time.Duration) agentStatus {
	t.Helper()
	heard, since := int64(-1), time.Now()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		vs, st := v.status(), a.status()
		sent := int64(0)
		for _, x := range vs.Streams {
			sent += x.Sent
		}
		if st.Frames["received"] != heard {
			heard, since = st.Frames["received"], time.Now()
		}
		// What was queued on a connection that was cut is sent, and never heard.
		all := heard > sent || time.Since(since) > 2*time.Second
		if vs.Done && all && st.LagInputs == 0 {
			// The last tick of coverage is not due yet; the stop writes it.
			return st
		}
		if time.Since(began) > within {
			t.Fatalf("not drained after %s: venue done %v, %d frames sent; agent %+v", within, vs.Done, sent, st)
		}
	}
}

// sound is what every status must show at the end of a test.
func (st agentStatus) sound(t *testing.T) {
	t.Helper()
	if st.LedgerDifference != 0 {
		t.Errorf("ledger difference %d: %+v", st.LedgerDifference, st)
	}
	if st.Frames["lost"] != 0 {
		t.Errorf("%d frames lost", st.Frames["lost"])
	}
	for table, r := range st.Rows {
		// Coverage of the present moment is still to be written at the stop.
		if r.Derived != r.Acked && table != "coverage" && table != "instruments" || r.Quarantined != 0 {
			t.Errorf("table %s: %+v", table, r)
		}
	}
}

// verify must find everything proven; it returns what it said.
func (v *venue) verify(t *testing.T, db database) string {
	t.Helper()
	return run(t, 0, nil, "verify", "-c", v.conf, "--questdb", db.conf(), "--journal", v.journal)
}
