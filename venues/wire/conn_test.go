package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

func TestStampIsOfTheReadThatBroughtTheLastByte(t *testing.T) {
	a, b, d := frame(fin|text, "first"), frame(fin|text, "second"), frame(fin|text, "third")
	sc := &scriptConn{chunks: [][]byte{join(a, b[:3]), b[3:5], join(b[5:], d)}}
	clock := &stepClock{now: 100}
	c := NewConn(sc, nil, Options{Clock: clock})
	base := clock.now
	for _, want := range []struct {
		text string
		read int64
	}{{"first", 1}, {"second", 3}, {"third", 3}} {
		p, stamp, out := c.Read(time.Time{})
		if out != Message || string(p) != want.text || stamp != base+want.read {
			t.Fatalf("%q stamped %d (%v), want %q stamped %d", p, stamp-base, out, want.text, want.read)
		}
	}
	if c.Counters.Reads != 3 {
		t.Fatalf("counters %+v", c.Counters)
	}
}

// A byte now and then is no progress; the end of a frame is, and so is a large message
// that grows.
func TestProgress(t *testing.T) {
	large := frame(fin|text, strings.Repeat("x", 20_000))
	first, second := frame(fin|text, "first"), frame(fin|text, "second")
	for _, c := range []struct {
		chunks [][]byte
		want   int64 // number of the read
	}{
		{[][]byte{first, second[:1], second[1:2], second[2:3]}, 1},
		{[][]byte{first, second[:2], second[2:], large[:2]}, 3},
		{[][]byte{first, large[:3000], large[3000:6000], large[6000:9000], large[9000:12000], large[12000:15000]}, 5},
		{[][]byte{frame(fin|ping, "p"), large[:3000]}, 1},
		{[][]byte{large[:3000]}, 0},
	} {
		clock := &stepClock{now: 100}
		conn := NewConn(&scriptConn{chunks: c.chunks}, nil, Options{Clock: clock})
		base := clock.now
		conn.pongSentNs = 1 << 62 // a pong would take a look at the clock
		for out := Message; out == Message; {
			_, _, out = conn.Read(time.Time{})
		}
		got := conn.ProgressNs()
		if want := base + c.want; c.want == 0 && got != 0 || c.want > 0 && got != want {
			t.Errorf("%d chunks: progress at %d, want read %d", len(c.chunks), got-base, c.want)
		}
	}
}

// A deadline may fall on every byte of a stream of frames, and nothing is lost.
func TestDeadlineLosesNothing(t *testing.T) {
	stream := join(frame(text, "ab"), frame(fin|ping, "p"), frame(fin|cont, "cd"), frame(fin|text, strings.Repeat("x", 130)), frame(fin|text, ""))
	step := make(chan struct{})
	url := serve(t, func(nc net.Conn) {
		for i := range stream {
			<-step
			nc.Write(stream[i : i+1])
		}
		<-step
	})
	c := dialTest(t, url, Options{})
	var got []string
	deadlines := 0
	for range len(stream) {
		step <- struct{}{}
		for {
			p, _, out := c.Read(time.Now().Add(2 * time.Millisecond))
			if out == Message {
				got = append(got, string(p))
				continue
			}
			if out != Deadline {
				t.Fatalf("outcome %v: %v", out, c.Err())
			}
			deadlines++
			break
		}
	}
	for len(got) < 3 {
		p, _, out := c.Read(soon())
		if out != Message {
			t.Fatalf("outcome %v: %v", out, c.Err())
		}
		got = append(got, string(p))
	}
	close(step)
	check(t, "messages", got, []string{"abcd", strings.Repeat("x", 130), ""})
	if deadlines != len(stream) {
		t.Errorf("%d deadlines for %d bytes", deadlines, len(stream))
	}
}

func TestPastDeadlineStillHandsOutWhatIsThere(t *testing.T) {
	ready := make(chan struct{})
	url := serve(t, func(nc net.Conn) {
		nc.Write(join(frame(fin|text, "1"), frame(fin|text, "2"), frame(fin|text, "3")))
		<-ready
	})
	defer close(ready)
	c := dialTest(t, url, Options{})
	if p, _, out := c.Read(soon()); out != Message || string(p) != "1" {
		t.Fatalf("%q %v", p, out)
	}
	for _, want := range []string{"2", "3"} {
		if p, _, out := c.Read(longAgo); out != Message || string(p) != want {
			t.Fatalf("%q %v, want %q", p, out, want)
		}
	}
	if _, _, out := c.Read(longAgo); out != Deadline {
		t.Fatalf("outcome %v", out)
	}
}

func TestInterruptWakesABlockedRead(t *testing.T) {
	stop := make(chan struct{})
	url := serve(t, func(nc net.Conn) { <-stop })
	defer close(stop)
	c := dialTest(t, url, Options{})
	for i := range 20 {
		go func() {
			time.Sleep(time.Duration(i%3) * time.Millisecond)
			c.Interrupt()
		}()
		start := time.Now()
		if _, _, out := c.Read(soon()); out != Interrupted {
			t.Fatalf("outcome %v", out)
		}
		if d := time.Since(start); d > 30*time.Second { // at the deadline, that is
			t.Fatalf("woken after %v", d)
		}
	}
	c.Interrupt()
	c.Interrupt()
	if _, _, out := c.Read(soon()); out != Interrupted {
		t.Fatalf("outcome %v", out)
	}
	if _, _, out := c.Read(time.Now().Add(5 * time.Millisecond)); out != Deadline {
		t.Fatalf("two calls before a Read are one: outcome %v", out)
	}
}

// raceConn plays the two races that the comment on Interrupt tells. It stands in for
// a socket: a read fails with a timeout if the last deadline set is in the past.
type raceConn struct {
	scriptConn
	onDeadline func(t time.Time) (skip bool) // called before a deadline is set
	deadline   time.Time
	timeouts   int
}

func (r *raceConn) SetReadDeadline(t time.Time) error {
	if hook := r.onDeadline; hook != nil && hook(t) {
		return nil
	}
	r.deadline = t
	return nil
}

func (r *raceConn) Read(b []byte) (int, error) {
	if r.deadline == longAgo && r.timeouts < 100 {
		r.timeouts++
		return 0, os.ErrDeadlineExceeded
	}
	return r.scriptConn.Read(b) // an EOF where a socket would wait
}

func TestInterruptIsNotLostBehindADeadline(t *testing.T) {
	rc := &raceConn{}
	c := NewConn(rc, nil, Options{})
	rc.onDeadline = func(time.Time) bool { // Read is about to arm: the interrupter is faster by all of its steps
		rc.onDeadline = nil
		c.Interrupt()
		return false
	}
	if _, _, out := c.Read(soon()); out != Interrupted {
		t.Fatalf("outcome %v, %v", out, c.Err())
	}
}

func TestLateInterrupterInventsNothing(t *testing.T) {
	rc := &raceConn{scriptConn: scriptConn{chunks: [][]byte{frame(fin|text, "message")}}}
	c := NewConn(rc, nil, Options{})
	rc.onDeadline = func(time.Time) bool { return true } // the interrupter is stopped after the flag
	c.Interrupt()
	rc.onDeadline = nil
	deadline := soon()
	if _, _, out := c.Read(deadline); out != Interrupted {
		t.Fatalf("outcome %v", out)
	}
	rc.onDeadline = func(time.Time) bool { // it goes on right after Read has armed
		rc.onDeadline = func(time.Time) bool {
			rc.onDeadline = nil
			return false
		}
		rc.deadline = longAgo
		return true
	}
	if p, _, out := c.Read(deadline); out != Message || string(p) != "message" {
		t.Fatalf("outcome %v, %v", out, c.Err())
	}
	if rc.timeouts != 1 {
		t.Errorf("%d timeouts", rc.timeouts)
	}
}

// Interrupts, deadlines and messages at once: every message comes once and in order,
// every interrupt is followed by an Interrupted, none comes unasked.
func TestInterruptsUnderLoad(t *testing.T) {
	const messages, interrupts = 3000, 2000
	url := serve(t, func(nc net.Conn) {
		for i := range messages {
			f := frame(fin|text, fmt.Sprint("message ", i))
			cut := i % len(f)
			nc.Write(f[:cut])
			nc.Write(f[cut:])
		}
		io.Copy(io.Discard, nc)
	})
	c := dialTest(t, url, Options{})
	var sent, seen atomic.Int64
	go func() {
		for i := range interrupts {
			sent.Store(int64(i + 1))
			c.Interrupt()
			for seen.Load() < int64(i+1) { // one at a time, so that they can be counted
				time.Sleep(10 * time.Microsecond)
			}
		}
	}()
	next, limit := 0, time.Now().Add(2*time.Minute)
	for next < messages || seen.Load() < interrupts {
		p, _, out := c.Read(time.Now().Add(time.Duration(1+next%5) * 100 * time.Microsecond))
		switch out {
		case Message:
			if want := fmt.Sprint("message ", next); string(p) != want {
				t.Fatalf("got %q, want %q", p, want)
			}
			next++
		case Interrupted:
			if seen.Add(1) > sent.Load() {
				t.Fatal("an Interrupted that nobody asked for")
			}
		case Closed:
			t.Fatal(c.Err())
		}
		if time.Now().After(limit) {
			t.Fatalf("stuck at message %d, interrupt %d", next, seen.Load())
		}
	}
}

// A flood of pings is answered by a few pongs, the first at once and the newest last.
func TestPingFlood(t *testing.T) {
	const pings = 1000
	result := make(chan []string, 1)
	url := serve(t, func(nc net.Conn) {
		var all []byte
		for i := range pings {
			all = append(all, frame(fin|ping, fmt.Sprint(i))...)
		}
		nc.Write(append(all, frame(fin|text, "end")...))
		var got []string
		for len(got) == 0 || got[len(got)-1] != fmt.Sprint(pings-1) {
			op, p, err := clientFrame(nc)
			if err != nil {
				break
			}
			if op == ws.OpPong {
				got = append(got, string(p))
			}
		}
		result <- got
	})
	start := time.Now()
	c := dialTest(t, url, Options{})
	if p, _, out := c.Read(soon()); out != Message || string(p) != "end" {
		t.Fatalf("%q %v", p, out)
	}
	// Nothing more comes: the pong that is due must go out from a Read that waits.
	var got []string
	for end := soon(); got == nil; {
		if _, _, out := c.Read(time.Now().Add(pongGap * 3)); out == Message || time.Now().After(end) {
			t.Fatalf("outcome %v", out)
		}
		select {
		case got = <-result:
		default: // a slow machine may find the deadline past before it has waited
		}
	}
	if len(got) < 2 || len(got) > 2+int(time.Since(start)/pongGap) || got[0] != "0" || got[len(got)-1] != fmt.Sprint(pings-1) {
		t.Fatalf("pongs %q", got)
	}
	n := c.Counters
	if n.Pings != pings || n.PongsSent != uint64(len(got)) || n.PongsSent+n.PongsMerged != pings {
		t.Fatalf("counters %+v", n)
	}
}

func TestWrites(t *testing.T) {
	type said struct {
		op   ws.OpCode
		text string
	}
	heard := make(chan said, 10)
	url := serve(t, func(nc net.Conn) {
		for {
			op, p, err := clientFrame(nc)
			if err != nil {
				close(heard)
				return
			}
			heard <- said{op, string(p)}
		}
	})
	c := dialTest(t, url, Options{})
	long := strings.Repeat("subscribe ", 10000)
	own := []byte(long)
	if err := c.WriteText([]byte("short")); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteText(own); err != nil {
		t.Fatal(err)
	}
	if string(own) != long {
		t.Error("WriteText changed its argument")
	}
	if n := c.Counters; n.TextsSent != 2 {
		t.Errorf("counters %+v", n)
	}
	c.Close(1000, "done")
	c.Close(1001, "twice")
	if err := c.WriteText([]byte("late")); err != ErrClosed {
		t.Errorf("write after close: %v", err)
	}
	if _, _, out := c.Read(soon()); out != Closed || c.Err() != ErrClosed {
		t.Errorf("outcome %v, %v", out, c.Err())
	}
	var got []said
	for s := range heard {
		got = append(got, s)
	}
	want := []said{{ws.OpText, "short"}, {ws.OpText, long}, {ws.OpClose, closeBody(1000, "done")}}
	if len(got) != len(want) {
		t.Fatalf("the server heard %d frames, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("frame %d: %v %.40q, want %v %.40q", i, got[i].op, got[i].text, want[i].op, want[i].text)
		}
	}
}

// A server that stops reading must not hold a writer for longer than the timeout.
func TestWriteTimeout(t *testing.T) {
	stop := make(chan struct{})
	url := serve(t, func(nc net.Conn) {
		nc.Write(frame(fin|text, "before"))
		<-stop
	})
	defer close(stop)
	c := dialTest(t, url, Options{WriteTimeout: 50 * time.Millisecond})
	big := bytes.Repeat([]byte("x"), 1<<20)
	start := time.Now()
	var err error
	for range 100 {
		if err = c.WriteText(big); err != nil {
			break
		}
	}
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() || time.Since(start) > time.Minute {
		t.Fatalf("after %v: %v", time.Since(start), err)
	}
	if p, _, out := c.Read(soon()); out == Message && string(p) != "before" { // if it came with the handshake
		t.Fatalf("%q", p)
	}
	if _, _, out := c.Read(soon()); out != Closed || c.Err() != err {
		t.Fatalf("outcome %v: %v", out, c.Err())
	}
}

// What had come whole before our own side closed is still handed out.
func TestCloseKeepsWhatIsInTheBuffer(t *testing.T) {
	sc := &scriptConn{chunks: [][]byte{join(frame(fin|text, "1"), frame(fin|text, "2"), frame(text, "3"))}}
	c := NewConn(sc, nil, Options{})
	if p, _, out := c.Read(time.Time{}); out != Message || string(p) != "1" {
		t.Fatalf("%q %v", p, out)
	}
	c.Close(1000, "")
	if p, _, out := c.Read(time.Time{}); out != Message || string(p) != "2" {
		t.Fatalf("%q %v", p, out)
	}
	if _, _, out := c.Read(time.Time{}); out != Closed || c.Err() != ErrClosed {
		t.Fatalf("%v %v", out, c.Err())
	}
}

// One byte at a time, without end, inside one frame: the deadline still holds.
func TestSlowLoris(t *testing.T) {
	url := serve(t, func(nc net.Conn) {
		nc.Write([]byte{fin | text, 127, 0, 0, 0, 0, 0, 0x40, 0, 0})
		for range 60_000 { // a Read that begins to wait anew with each byte has a minute of it
			if _, err := nc.Write([]byte{'x'}); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	c := dialTest(t, url, Options{})
	start := time.Now()
	if _, _, out := c.Read(start.Add(100 * time.Millisecond)); out != Deadline {
		t.Fatalf("outcome %v", out)
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Fatalf("Read took %v", d)
	}
	if n := len(c.f.buf); n != 256<<10 {
		t.Errorf("a length that was only claimed made the buffer %d bytes", n)
	}
}
