package session

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"deeptape/hotpath/event"
)

// Eight symbols that the venue no longer knows, beside one that is live: their snapshots
// are refused for good, and so often asked for that they would use up the weight of a
// minute. The live one resyncs as fast as without them, and theirs say why they are gaps.
func TestDeadSymbolsBesideALiveOne(t *testing.T) {
	resync := func(dead int) time.Duration {
		v := newTestVenue(t)
		symbols := []string{"ETHUSDT"}
		for i := range dead {
			symbols = append(symbols, fmt.Sprintf("DEAD%dUSDT", i))
		}
		last := 0
		v.depth = func(w http.ResponseWriter, symbol string) {
			if symbol != "ETHUSDT" {
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprint(w, `{"code":-1121,"msg":"Invalid symbol."}`)
				return
			}
			v.mu.Lock()
			id := last
			v.mu.Unlock()
			fmt.Fprint(w, snapshot(id))
		}
		r := newRig(t, v, rigOptions{symbols: symbols, depth: 5000}) // of weight 250, 4800 a minute
		c := v.conn()
		send := func(id int) {
			v.set(func() { last = id })
			c.send(t, diff("ETHUSDT", id))
		}
		isLive := func() bool {
			st := r.s.Status()
			return st != nil && st.Instruments[0].Book == "live" && st.Instruments[0].Streams[event.StreamBook].State == "verified"
		}
		send(1)
		r.wait("the live one", isLive)
		for i := range dead {
			r.wait("the refusal of each dead one", func() bool { return r.s.Status().Instruments[i+1].Refused != "" })
		}
		time.Sleep(2 * time.Second) // so long the dead ones would ask, 0.1 s, 0.2 s, 0.4 s later
		began := time.Now()
		send(3) // 2 is missing
		r.wait("a gap", func() bool { return r.s.Status().Instruments[0].Stats.Gaps > 0 })
		r.wait("the live one again", isLive)
		took := time.Since(began)
		for i := range dead {
			st := r.s.Status().Instruments[i+1]
			if detail := st.Streams[event.StreamBook].Detail; detail != "refused: Invalid symbol." || st.Book == "live" {
				t.Errorf("%s is %s, and says %q", st.Symbol, st.Book, detail)
			}
		}
		r.stop()
		v.mu.Lock()
		defer v.mu.Unlock()
		if n := len(v.asked); n > dead+4 {
			t.Errorf("%d requests for snapshots in all", n)
		}
		return took
	}
	without, with := resync(0), resync(8)
	t.Logf("a resync takes %s, and %s beside eight dead symbols", without.Round(time.Millisecond), with.Round(time.Millisecond))
	if with > without+10*time.Second {
		t.Errorf("a resync takes %s, and %s beside eight dead symbols", without, with)
	}
}
