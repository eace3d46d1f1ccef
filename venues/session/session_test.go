package session

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"deeptape/hotpath/event"
	"deeptape/hotpath/lane"
	"deeptape/hotpath/ledger"
)

func live(s *Session) bool {
	st := s.Status()
	if st == nil {
		return false
	}
	for _, in := range st.Instruments {
		if in.Book != "live" {
			return false
		}
	}
	return true
}

// From connect to stop: every input is in the journal before its rows are in the
// ring.
func TestRecord(t *testing.T) {
	v := newTestVenue(t)
	v.depth = func(w http.ResponseWriter, _ string) {
		time.Sleep(100 * time.Millisecond) // the session reads meanwhile
		fmt.Fprint(w, snapshot(3))
	}
	r := newRig(t, v, rigOptions{})
	c := v.conn()
	for id := 1; id <= 5; id++ {
		c.send(t, diff("BTCUSDT", id))
	}
	r.wait("the snapshot", func() bool { return r.count(event.InputRest) == 1 })
	for id := 6; id <= 2000; id++ {
		c.send(t, diff("BTCUSDT", id))
	}
	r.wait("all frames", func() bool { return r.count(event.InputFrame) == 2001 }) // and one ack
	r.wait("a tick", func() bool { return r.count(event.InputTick) >= 1 && live(r.s) })
	r.stop()
	if r.ready.Load() < 100 {
		t.Errorf("of 2,000 messages only %d were there before they were read", r.ready.Load())
	}
	want := []event.InputKind{event.InputRun, event.InputConnect, event.InputCommand}
	for i, in := range r.journal()[:3] {
		if in.Kind != want[i] {
			t.Errorf("input %d is %s, want %s", i+1, in.Kind, want[i])
		}
	}
	if n := r.l.Frames.Read()[ledger.Applied]; n != 1997 {
		t.Errorf("%d frames applied, want all but the three that the snapshot holds", n)
	}
	if r.s.Counters().Connects.Load() != 1 || r.s.Counters().Commands.Load() != 1 {
		t.Errorf("%d connects, %d commands", r.s.Counters().Connects.Load(), r.s.Counters().Commands.Load())
	}
	<-c.ended
}

// A snapshot is taken as soon as it comes, not at the next tick. The venue answers right
// after a tick, so that the next is a second away. A slow machine may be late now and
// then; a session that waits for the tick is always.
func TestAnswerIsTakenAtOnce(t *testing.T) {
	const tries = 5
	for try := 1; ; try++ {
		v := newTestVenue(t)
		asked, answer := make(chan struct{}, 100), make(chan struct{})
		letGo := sync.OnceFunc(func() { close(answer) })
		t.Cleanup(letGo)
		v.depth = func(w http.ResponseWriter, _ string) {
			asked <- struct{}{}
			<-answer
			fmt.Fprint(w, snapshot(1))
		}
		r := newRig(t, v, rigOptions{})
		c := v.conn()
		c.send(t, diff("BTCUSDT", 1))
		<-asked
		ticks := r.count(event.InputTick)
		r.wait("a tick", func() bool { return r.count(event.InputTick) > ticks })
		answered := r.s.clock.NowNs()
		letGo()
		r.wait("the snapshot", func() bool { return r.count(event.InputRest) == 1 })
		r.stop()
		in := r.journal()
		rest := slices.IndexFunc(in, func(in event.Input) bool { return in.Kind == event.InputRest })
		late := time.Duration(in[rest].Ts - answered)
		if late < 500*time.Millisecond {
			return
		}
		if try == tries {
			t.Fatalf("the answer was taken %s after it came, and no sooner in %d tries", late, tries)
		}
	}
}

// Whatever the venue does, the session comes back, and its time goes on.
func TestReconnect(t *testing.T) {
	v := newTestVenue(t)
	v.accept = func(n int) int {
		if n == 1 {
			return 503
		}
		return 0
	}
	r := newRig(t, v, rigOptions{})
	for round := range 2 {
		c := v.conn()
		c.send(t, diff("BTCUSDT", 1+100*round))
		c.send(t, diff("BTCUSDT", 2+100*round))
		r.wait("the book", func() bool { return r.count(event.InputRest) > round })
		if round == 1 { // with a goodbye, for once
			ws.WriteFrame(c, ws.NewCloseFrame(ws.NewCloseFrameBody(1001, "maintenance")))
		}
		c.Close()
	}
	c := v.conn()
	r.wait("the last connect", func() bool { return r.count(event.InputConnect) == 3 })
	r.stop()
	<-c.ended
	up := false
	var stamps []int64
	for _, in := range r.journal() {
		switch in.Kind {
		case event.InputConnect:
			if up {
				t.Error("two connects without a close")
			}
			up = true
		case event.InputClose:
			if !up {
				t.Error("a close without a connect")
			}
			up = false
			if len(in.Data) == 0 {
				t.Error("a close without a reason")
			}
		case event.InputTick:
			stamps = append(stamps, in.Ts)
		}
	}
	if !strings.Contains(closes(r), "maintenance") {
		t.Errorf("reasons: %s", closes(r))
	}
	for i := 1; i < len(stamps); i++ {
		if stamps[i] <= stamps[i-1] {
			t.Errorf("a tick at %d after one at %d", stamps[i], stamps[i-1])
		}
	}
	k := r.s.Counters()
	if k.ConnectFailures.Load() != 1 || k.Disconnects.Load() != 2 || k.Connects.Load() != 3 {
		t.Errorf("%d failures, %d disconnects, %d connects", k.ConnectFailures.Load(), k.Disconnects.Load(), k.Connects.Load())
	}
}

func closes(r *rig) (s string) {
	for _, in := range r.journal() {
		if in.Kind == event.InputClose {
			s += string(in.Data) + "; "
		}
	}
	return s
}

// Ticks go on while nobody answers the handshake, and a stop does not wait for it.
func TestTicksWhileDialling(t *testing.T) {
	v := newTestVenue(t)
	hang := make(chan struct{})
	v.http.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang })
	r := newRig(t, v, rigOptions{})
	r.wait("two ticks", func() bool { return r.count(event.InputTick) >= 2 })
	r.stop()
	close(hang)
}

// Ticks go on while a venue wants no connection for an hour, and a stop does not wait
// for it.
func TestTicksWhileRefused(t *testing.T) {
	v := newTestVenue(t)
	v.http.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(503)
	})
	r := newRig(t, v, rigOptions{})
	r.wait("the refusal", func() bool { return r.s.Counters().ConnectFailures.Load() == 1 })
	ticks := r.count(event.InputTick)
	r.wait("two ticks", func() bool { return r.count(event.InputTick) >= ticks+2 })
	r.stop()
	if n := r.s.Counters().ConnectFailures.Load(); n != 1 {
		t.Errorf("%d attempts", n)
	}
}

// Frames that find no room are one loss record in their place, and the ledger
// balances.
func TestLoss(t *testing.T) {
	v := newTestVenue(t)
	r := newRig(t, v, rigOptions{
		idle: true,
		lane: lane.Options{InputBytes: 16 << 10, RowBytes: 1 << 20, InputOwnedBytes: 1 << 20, RowOwnedBytes: 1 << 20},
		change: func(s *Session) {
			s.journalPatience = 5 * time.Millisecond
		},
	})
	c := v.conn()
	const sent = 500
	for id := 1; id <= sent; id++ {
		c.send(t, diff("BTCUSDT", id))
	}
	lost := func() int { return int(r.s.Counters().LostInputs.Load()) }
	r.wait("the end of the losses", func() bool { // all were taken or lost, one ack too; the lost are not yet in the ledger
		return int(r.l.Frames.Read()[ledger.Received])+lost() == sent+1
	})
	if lost() < sent/2 {
		t.Errorf("%d frames lost of %d", lost(), sent)
	}
	r.l.AskKeyframe() // which must not come between the losses and their record
	time.Sleep(1100 * time.Millisecond)
	r.take()
	r.wait("the loss record", func() bool { return r.count(event.InputLoss) > 0 })
	c.send(t, diff("BTCUSDT", sent+1))
	r.wait("the last frame", func() bool { return r.count(event.InputFrame)+lost() == sent+2 }) // and one ack
	r.wait("a keyframe", func() bool { return r.count(event.InputKeyframe) == 1 })
	r.stop()
	losses := 0
	for _, in := range r.journal() {
		if in.Kind != event.InputLoss {
			continue
		}
		losses++
		first := int64(binary.LittleEndian.Uint64(in.Data))
		if int(in.Aux) != lost() || first > in.Ts || first == 0 {
			t.Errorf("a loss of %d frames from %d to %d, and %d were lost", in.Aux, first, in.Ts, lost())
		}
	}
	if losses != 1 {
		t.Errorf("%d loss records: %s", losses, r.kinds())
	}
	frames := r.l.Frames.Read()
	if int(frames[ledger.Lost]) != lost() || int(frames[ledger.Received]) != sent+2 {
		t.Errorf("ledger: %v", frames)
	}
}

// A journal that takes nothing must not keep the process from ending.
func TestStopWithoutJournal(t *testing.T) {
	v := newTestVenue(t)
	r := newRig(t, v, rigOptions{
		idle:   true,
		lane:   lane.Options{InputBytes: 4 << 10, RowBytes: 1 << 20, InputOwnedBytes: 1 << 20, RowOwnedBytes: 1 << 20},
		change: func(s *Session) { s.journalPatience, s.stopPatience = 5*time.Millisecond, 50*time.Millisecond },
	})
	c := v.conn()
	for range 100 {
		c.send(t, "{}") // no larger than a loss record, which so finds no corner either
	}
	r.wait("losses", func() bool { return r.s.Counters().LostInputs.Load() > 0 })
	r.cancel()
	if err := r.end(); err == nil || !strings.Contains(err.Error(), "the journal takes nothing") {
		t.Errorf("error: %v", err)
	}
	if d := r.l.Frames.Read().Difference(); d != 0 {
		t.Errorf("ledger difference %d", d)
	}
}

// 429 stops all requests of the venue for as long as it says.
func TestRetryAfter(t *testing.T) {
	v := newTestVenue(t)
	v.depth = func(w http.ResponseWriter, _ string) {
		v.mu.Lock()
		n := len(v.asked)
		v.mu.Unlock()
		if n == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(429)
			return
		}
		fmt.Fprint(w, snapshot(1))
	}
	r := newRig(t, v, rigOptions{})
	c := v.conn()
	c.send(t, diff("BTCUSDT", 1))
	c.send(t, diff("BTCUSDT", 2))
	r.wait("both answers", func() bool { return r.count(event.InputRest) == 2 })
	r.stop()
	if d := v.asked[1].Sub(v.asked[0]); d < time.Second {
		t.Errorf("asked again after %s", d)
	}
	var statuses []uint16
	for _, in := range r.journal() {
		if in.Kind == event.InputRest {
			_, _, status := event.SplitRestAux(in.Aux)
			statuses = append(statuses, status)
		}
	}
	if fmt.Sprint(statuses) != "[429 200]" {
		t.Errorf("statuses %v", statuses)
	}
}

// Six hundred instruments: commands stay within the venue's five a second, the
// requests within its weight, and the many that still wait end with the session.
func TestBudgets(t *testing.T) {
	v := newTestVenue(t)
	var symbols []string
	for i := range 600 {
		symbols = append(symbols, "S"+strconv.Itoa(i))
	}
	r := newRig(t, v, rigOptions{symbols: symbols, weight: 100})
	v.conn()
	const commands = 9 // 1,800 streams
	r.wait("all commands", func() bool { return r.count(event.InputCommand) == commands })
	r.wait("snapshots", func() bool { return r.count(event.InputRest) == 16 }) // 80 % of 100, at 5 each
	time.Sleep(300 * time.Millisecond)
	r.stop()
	// By the stamps of the session: the venue's may be late on a slow machine, and late
	// ones stand closer together.
	var stamps []int64
	for _, in := range r.journal() {
		if in.Kind == event.InputCommand {
			stamps = append(stamps, in.Ts)
		}
	}
	for i := 5; i < len(stamps); i++ {
		if d := time.Duration(stamps[i] - stamps[i-5]); d < 900*time.Millisecond {
			t.Errorf("six commands within %s", d)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.commands) != commands || len(v.asked) != 16 {
		t.Errorf("%d commands, %d requests", len(v.commands), len(v.asked))
	}
}

// A request that no window admits is answered, not waited for.
func TestWeightAboveLimit(t *testing.T) {
	v := newTestVenue(t)
	r := newRig(t, v, rigOptions{weight: 100, depth: 5000})
	c := v.conn()
	c.send(t, diff("BTCUSDT", 1))
	r.wait("an answer", func() bool { return r.count(event.InputRest) > 0 })
	r.stop()
	if len(v.asked) != 0 {
		t.Errorf("%d requests", len(v.asked))
	}
	for _, in := range r.journal() {
		if in.Kind == event.InputRest && !strings.Contains(string(in.Data), "above the venue's limit") {
			t.Errorf("answer: %s", in.Data)
		}
	}
}

// An answer that the journal cannot hold would be waited for for ever: it becomes
// a failed request.
func TestAnswerTooLarge(t *testing.T) {
	v := newTestVenue(t)
	v.depth = func(w http.ResponseWriter, _ string) {
		fmt.Fprint(w, snapshot(1)+strings.Repeat(" ", 64<<10))
	}
	r := newRig(t, v, rigOptions{lane: lane.Options{InputBytes: 64 << 10, RowBytes: 1 << 20, InputOwnedBytes: 32 << 10, RowOwnedBytes: 1 << 20}})
	c := v.conn()
	c.send(t, diff("BTCUSDT", 1))
	r.wait("an answer", func() bool { return r.count(event.InputRest) > 0 })
	r.stop()
	for _, in := range r.journal() {
		if in.Kind == event.InputRest {
			if _, _, status := event.SplitRestAux(in.Aux); status != 0 || !strings.Contains(string(in.Data), "too large for the journal") {
				t.Errorf("status %d: %.80s", status, in.Data)
			}
		}
	}
}

// A large snapshot goes by its own buffer and keeps its place.
func TestLargeAnswer(t *testing.T) {
	v := newTestVenue(t)
	v.depth = func(w http.ResponseWriter, _ string) {
		fmt.Fprint(w, snapshot(1)+strings.Repeat(" ", 64<<10))
	}
	r := newRig(t, v, rigOptions{lane: lane.Options{InputBytes: 64 << 10, RowBytes: 1 << 20, InputOwnedBytes: 1 << 20, RowOwnedBytes: 1 << 20}})
	c := v.conn()
	c.send(t, diff("BTCUSDT", 1))
	c.send(t, diff("BTCUSDT", 2))
	r.wait("a live book", func() bool { return live(r.s) })
	r.stop()
}

// A snapshot that is on its way when the connection ends is given up.
func TestFetchEndsWithConnection(t *testing.T) {
	v := newTestVenue(t)
	first, answer, answered := make(chan struct{}), make(chan struct{}), make(chan struct{})
	letGo := sync.OnceFunc(func() { close(answer) })
	t.Cleanup(letGo)
	v.depth = func(w http.ResponseWriter, _ string) {
		v.mu.Lock()
		n := len(v.asked)
		v.mu.Unlock()
		if n > 1 {
			fmt.Fprint(w, snapshot(11))
			return
		}
		close(first)
		<-answer
		fmt.Fprint(w, snapshot(1))
		close(answered)
	}
	r := newRig(t, v, rigOptions{})
	c := v.conn()
	c.send(t, diff("BTCUSDT", 1))
	<-first
	c.Close()
	r.wait("the end of the connection", func() bool { return r.count(event.InputClose) == 1 })
	letGo()
	<-answered
	c = v.conn()
	c.send(t, diff("BTCUSDT", 11))
	c.send(t, diff("BTCUSDT", 12))
	r.wait("a live book", func() bool { return live(r.s) })
	r.stop()
	if n := r.count(event.InputRest); n != 1 {
		t.Errorf("%d answers, want that of the second connection", n)
	}
}
