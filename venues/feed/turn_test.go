package feed

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"deeptape/hotpath/event"
	"deeptape/venues/registry"
)

// A snapshot that is refused for good is asked for after 300 s, and each time later, over
// a new connection too; the venue's words stand in the gap. A diff shows that the symbol
// lives: then it is asked for at once.
func TestFinalRefusal(t *testing.T) {
	const no = `{"code":-1121,"msg":"Invalid symbol."}`
	r := newRig(t, inst("AAAUSDT"), inst("BBBUSDT"))
	r.sends = true
	r.run()
	r.connect()
	r.ack(1)
	r.ticks(2)
	last := func() Action { return r.asked[len(r.asked)-1] }
	for _, want := range []int64{300e9, 600e9, 1200e9, 2400e9, 3600e9, 3600e9} {
		r.now += 1e9
		r.rest(1, 400, no)
		if a := last(); a.DelayNs != want || a.Inst != 1 || !a.Spare || !Failed(a.Rank) {
			t.Fatalf("asked %+v, want after %d s", a, want/1e9)
		}
		r.keyframe()
	}
	if st := r.m.Status().Instruments[1]; st.Refused != "Invalid symbol." || st.Streams[event.StreamBook].Detail != "refused: Invalid symbol." {
		t.Errorf("%q, %q", st.Refused, st.Streams[event.StreamBook].Detail)
	}
	r.close()
	r.now += 600e9
	r.connect()
	r.ticks(2)
	delays := map[int]Action{}
	for _, a := range r.asked {
		delays[a.Inst] = a
	}
	if a := delays[1]; a.DelayNs < 2900e9 || a.DelayNs > 3000e9 || !a.Spare {
		t.Errorf("on the new connection: %+v", a)
	}
	if a := delays[0]; a.DelayNs != 0 || a.Spare || a.Rank != RankNew {
		t.Errorf("its neighbour: %+v", a)
	}
	request := last().Request
	for _, a := range r.asked {
		if a.Inst == 1 {
			request = a.Request
		}
	}
	r.depth(1, 101, 101, "9.98=1", "10.02=2")
	if a := last(); a.Inst != 1 || a.DelayNs != 0 || a.Request != request || a.Spare || Failed(a.Rank) {
		t.Errorf("a diff came: %+v", a)
	}
	n := len(r.asked)
	r.depth(1, 102, 102, "9.98=2", "")
	if len(r.asked) != n {
		t.Errorf("asked once more: %+v", last())
	}
	r.rest(1, 400, no) // the other half of the venue is late
	if a := last(); a.DelayNs > retryDelayNsMax {
		t.Errorf("its diffs come, and it is asked for after %d s", a.DelayNs/1e9)
	}
	r.rest(1, 200, body(100, "9.99=1", "10.01=1"))
	if st := r.m.Status().Instruments[1]; st.Refused != "" || st.Book != "live" || r.m.insts[1].failing != (failing{}) {
		t.Errorf("%+v", st)
	}
	r.finish()
	for at, in := range r.inputs {
		if in.Kind == event.InputKeyframe {
			sameFrom(t, r, at)
		}
	}
}

// Who fails while others get their books is asked for ever more seldom, and takes only what
// they leave. When nobody gets anything, nobody is to blame: all go on as fast as ever.
func TestFailsAlone(t *testing.T) {
	r := newRig(t, inst("AAAUSDT"), inst("BBBUSDT"))
	r.sends = true
	r.run()
	r.connect()
	r.ack(1)
	r.ticks(2)
	last := func() Action { return r.asked[len(r.asked)-1] }
	for range 20 {
		r.now += 10e9
		for i := range 2 {
			r.rest(i, 503, "busy")
			if a := last(); a.DelayNs > retryDelayNsMax || a.Spare || !Failed(a.Rank) {
				t.Fatalf("nobody gets anything, and %d is asked for by %+v", i, a)
			}
		}
	}
	r.rest(1, 429, "slow down") // of all, not of the symbol
	r.depth(0, 101, 101, "9.98=1", "10.02=2")
	r.rest(0, 200, body(100, "9.99=1", "10.01=1"))
	since := r.m.insts[1].failing.SinceTs
	for range 60 {
		r.now += 60e9
		r.rest(1, 503, "busy")
		want := max(int64(retryDelayNsMax), min((r.now-since)/ownDelayPart, ownDelayNsMax))
		if a := last(); a.DelayNs != want || !a.Spare || a.Rank != RankFailed(since) {
			t.Fatalf("asked by %+v, want after %d s", a, want/1e9)
		}
	}
	if a, b := RankFailed(since), RankFailed(since+1); a <= b || RankLive >= RankNew || RankNew >= rankAudit || rankAudit+auditTriesMax >= rankFailedMin || !Failed(a) {
		t.Errorf("ranks %d %d", a, b)
	}
}

// A live book that is given up goes first, also where its venue has answered no probe.
func TestLiveGoesFirst(t *testing.T) {
	r := liveRig(t)
	r.ticks(31) // silent: a probe
	r.rest(0, 500, "busy")
	if r.m.insts[0].failing.SinceTs == 0 {
		t.Fatal("the probe has not failed")
	}
	r.depth(0, 110, 110, "9.98=1", "") // ids are missing
	r.ticks(5)
	i := slices.IndexFunc(r.asked, func(a Action) bool { return a.Inst == 0 && a.Rank == RankLive })
	if i < 0 || r.m.insts[0].state != bookSyncing {
		t.Errorf("%s, asked %+v", bookStateNames[r.m.insts[0].state], r.asked)
	}
}

// A run's rows do not depend on when its snapshots are asked for: the requests of a journal
// have the numbers that they had.
func TestDelaysChangeNoRequest(t *testing.T) {
	requests := func(version int) (numbers []uint32) {
		r := newRig(t, inst("AAAUSDT"), inst("BBBUSDT"))
		r.cfg.Version = version
		r.sends = true
		r.run()
		r.connect()
		r.ack(1)
		r.ticks(2)
		for i := range 5 {
			r.now += 10e9
			r.rest(1, 400, `{"code":-1121,"msg":"Invalid symbol."}`)
			if i == 3 {
				r.depth(1, 101, 101, "9.98=1", "10.02=2")
			}
		}
		r.depth(0, 101, 101, "9.98=1", "10.02=2")
		r.rest(0, 200, body(100, "9.99=1", "10.01=1"))
		for i := range r.m.insts {
			numbers = append(numbers, r.m.insts[i].request)
		}
		return append(numbers, r.m.requests)
	}
	if got := requests(Version); !slices.Equal(got, []uint32{0, 7, 7}) || !slices.Equal(got, requests(5)) {
		t.Errorf("requests %v", got)
	}
}

// The venues' own words for "never": only Binance has snapshots over REST.
func TestSnapshotRefusedForGood(t *testing.T) {
	v, _ := registry.ByName("binance")
	for body, want := range map[string]string{
		`{"code":-1121,"msg":"Invalid symbol."}`:               "Invalid symbol. true",
		`{"code":-1003,"msg":"Too much request weight used;"}`: "Too much request weight used; false",
		`{"code":-1121}`:    " true",
		`<html>busy</html>`: " false",
		``:                  " false",
		`{"code":-1121,"msg":"` + strings.Repeat("x", 5000) + `"}`: " false",
		`[-1121]`: " false",
	} {
		words, final := v.SnapshotRefused([]byte(body))
		if got := fmt.Sprint(words, " ", final); got != want {
			t.Errorf("%.60s: %q, want %q", body, got, want)
		}
	}
}
