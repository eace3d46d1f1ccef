package wire

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// The cases that a protocol test suite for clients has: what the server sends, the
// messages that must come out, and how the connection must end.
var protocolCases = []struct {
	name  string
	send  []byte
	want  []string
	pongs []string
	code  uint16 // the code that the client must answer with; 0: no close frame
	err   string // part of Err
}{
	{"text", frame(fin|text, "hello"), []string{"hello"}, nil, 0, "EOF"},
	{"binary", frame(fin|bin, "\x00\xff"), []string{"\x00\xff"}, nil, 0, "EOF"},
	{"empty", frame(fin|text, ""), []string{""}, nil, 0, "EOF"},
	{"125", frame(fin|text, strings.Repeat("a", 125)), []string{strings.Repeat("a", 125)}, nil, 0, "EOF"},
	{"126", frame(fin|text, strings.Repeat("a", 126)), []string{strings.Repeat("a", 126)}, nil, 0, "EOF"},
	{"127", frame(fin|text, strings.Repeat("a", 127)), []string{strings.Repeat("a", 127)}, nil, 0, "EOF"},
	{"65535", frame(fin|text, strings.Repeat("b", 65535)), []string{strings.Repeat("b", 65535)}, nil, 0, "EOF"},
	{"65536", frame(fin|text, strings.Repeat("b", 65536)), []string{strings.Repeat("b", 65536)}, nil, 0, "EOF"},
	{"1 MiB", frame(fin|text, strings.Repeat("c", 1<<20)), []string{strings.Repeat("c", 1<<20)}, nil, 0, "EOF"},
	{"long form of a short length", []byte{fin | text, 127, 0, 0, 0, 0, 0, 0, 0, 2, 'h', 'i'}, []string{"hi"}, nil, 0, "EOF"},
	{"two fragments", join(frame(text, "he"), frame(fin|cont, "llo")), []string{"hello"}, nil, 0, "EOF"},
	{"empty fragments", join(frame(text, ""), frame(cont, ""), frame(fin|cont, "")), []string{""}, nil, 0, "EOF"},
	{"fragments with pings between", join(frame(text, "a"), frame(fin|ping, "1"), frame(cont, "bc"), frame(cont, ""), frame(fin|ping, ""), frame(fin|cont, "d"), frame(fin|text, "e")),
		[]string{"abcd", "e"}, []string{"1", ""}, 0, "EOF"},
	{"ping of 125", frame(fin|ping, strings.Repeat("p", 125)), nil, []string{strings.Repeat("p", 125)}, 0, "EOF"},
	{"pong that nobody asked for", join(frame(fin|pong, "x"), frame(fin|text, "y")), []string{"y"}, nil, 0, "EOF"},
	{"close 1000", frame(fin|clos, closeBody(1000, "bye")), nil, nil, 1000, `code 1000, reason "bye"`},
	{"close 1001 after a message", join(frame(fin|text, "m"), frame(fin|clos, closeBody(1001, "")), frame(fin|text, "after")), []string{"m"}, nil, 1001, "code 1001"},
	{"close 3000", frame(fin|clos, closeBody(3000, "")), nil, nil, 3000, "code 3000"},
	{"close 4999", frame(fin|clos, closeBody(4999, "")), nil, nil, 4999, "code 4999"},
	{"close without a body", frame(fin|clos, ""), nil, nil, 1005, "code 1005"},
	{"close of one byte", frame(fin|clos, "x"), nil, nil, 1002, "one byte"},
	{"close 999", frame(fin|clos, closeBody(999, "")), nil, nil, 1002, "999"},
	{"close 1004", frame(fin|clos, closeBody(1004, "")), nil, nil, 1002, "1004"},
	{"close 1005", frame(fin|clos, closeBody(1005, "")), nil, nil, 1002, "1005"},
	{"close 1006", frame(fin|clos, closeBody(1006, "")), nil, nil, 1002, "1006"},
	{"close 1016", frame(fin|clos, closeBody(1016, "")), nil, nil, 1002, "1016"},
	{"close 5000", frame(fin|clos, closeBody(5000, "")), nil, nil, 1002, "5000"},
	{"close with a reason that is not UTF-8", frame(fin|clos, closeBody(1000, "\xff")), nil, nil, 1007, "UTF-8"},
	{"close in the middle of fragments", join(frame(text, "half"), frame(fin|clos, closeBody(1000, ""))), nil, nil, 1000, "code 1000"},
	{"rsv1", join(frame(fin|text, "good"), frame(fin|0x40|text, "x")), []string{"good"}, nil, 1002, "byte 6: a reserved bit"},
	{"rsv2", frame(fin|0x20|text, "x"), nil, nil, 1002, "reserved bit"},
	{"rsv3", frame(fin|0x10|text, "x"), nil, nil, 1002, "reserved bit"},
	{"opcode 3", frame(fin|3, ""), nil, nil, 1002, "reserved opcode"},
	{"opcode 7", frame(fin|7, ""), nil, nil, 1002, "reserved opcode"},
	{"opcode 11", frame(fin|11, ""), nil, nil, 1002, "reserved opcode"},
	{"opcode 15", frame(fin|15, ""), nil, nil, 1002, "reserved opcode"},
	{"masked", []byte{fin | text, 0x81, 1, 2, 3, 4, 'x'}, nil, nil, 1002, "mask"},
	{"fragmented ping", frame(ping, ""), nil, nil, 1002, "control frame is fragmented"},
	{"ping of 126", frame(fin|ping, strings.Repeat("p", 126)), nil, nil, 1002, "longer than 125"},
	{"continuation first", frame(fin|cont, "x"), nil, nil, 1002, "without a beginning"},
	{"continuation after the end", join(frame(text, "a"), frame(fin|cont, "b"), frame(fin|cont, "c")), []string{"ab"}, nil, 1002, "without a beginning"},
	{"text inside fragments", join(frame(text, "a"), frame(fin|text, "b")), nil, nil, 1002, "inside a fragmented"},
	{"highest bit of the length", []byte{fin | text, 127, 0x80, 0, 0, 0, 0, 0, 0, 1}, nil, nil, 1002, "highest bit"},
	{"an exabyte", []byte{fin | text, 127, 0x10, 0, 0, 0, 0, 0, 0, 0}, nil, nil, 1009, "more than 2097152 bytes"},
	{"one byte too long", append([]byte{fin | text, 127, 0, 0, 0, 0, 0, 0x20, 0, 1}, "start"...), nil, nil, 1009, "more than 2097152 bytes"},
	{"too long in fragments", join(frame(text, strings.Repeat("x", 2<<20)), frame(fin|ping, "p"), frame(fin|cont, "y")), nil, []string{"p"}, 1009, "more than 2097152 bytes"},
	{"exactly the limit, in fragments", join(frame(text, strings.Repeat("x", 2<<20-1)), frame(fin|ping, strings.Repeat("p", 125)), frame(fin|cont, "y")),
		[]string{strings.Repeat("x", 2<<20-1) + "y"}, []string{strings.Repeat("p", 125)}, 0, "EOF"},
	{"end inside a header", []byte{fin | text}, nil, nil, 0, "inside a frame: unexpected EOF"},
	{"end inside a message", frame(text, "abc"), nil, nil, 0, "inside a frame: unexpected EOF"},
	{"end between frames", nil, nil, nil, 0, "between frames: unexpected EOF"},
}

// A raw TCP server sends each case; what the client answers is read back.
func TestProtocolOverTCP(t *testing.T) {
	for _, tc := range protocolCases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var pongs []string
			var code uint16
			heard := make(chan struct{})
			url := serve(t, func(nc net.Conn) {
				nc.Write(tc.send)
				if tc.code == 0 {
					nc.(*net.TCPConn).CloseWrite()
				}
				pongs, code = hear(nc)
				close(heard)
			})
			c := dialTest(t, url, Options{MaxMessageBytes: 2 << 20})
			var got []string
			for {
				p, stamp, out := c.Read(soon())
				if out != Message {
					if out != Closed {
						t.Fatalf("outcome %v", out)
					}
					break
				}
				if d := time.Since(time.Unix(0, stamp)); d < -time.Second || d > 10*time.Second {
					t.Errorf("stamp is %v ago", d)
				}
				got = append(got, string(p))
			}
			<-heard
			check(t, "messages", got, tc.want)
			if _, _, out := c.Read(soon()); out != Closed {
				t.Errorf("Read after the end: %v", out)
			}
			if err := c.Err(); err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("error %v, want %q in it", err, tc.err)
			}
			want := tc.code
			if code != want {
				t.Errorf("the client closed with code %d, want %d", code, want)
			}
			// Over TCP the second ping comes within the gap; it is answered only if
			// the connection lives long enough.
			if len(tc.pongs) > 0 && (len(pongs) == 0 || pongs[0] != tc.pongs[0]) {
				t.Errorf("pongs %q, want %q first", pongs, tc.pongs[0])
			}
		})
	}
}

// hear reads the client's frames to the end. Code 1005 stands for an empty close frame.
func hear(nc io.Reader) (pongs []string, code uint16) {
	for {
		op, p, err := clientFrame(nc)
		if err != nil {
			return pongs, code
		}
		switch op {
		case ws.OpPong:
			pongs = append(pongs, string(p))
		case ws.OpClose:
			code = 1005
			if len(p) >= 2 {
				c, _ := ws.ParseCloseFrameData(p)
				code = uint16(c)
			}
		}
	}
}

func check(t *testing.T, what string, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d %s, want %d", len(got), what, len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%s %d: %.60q (%d bytes), want %.60q (%d bytes)", what, i, got[i], len(got[i]), want[i], len(want[i]))
		}
	}
}

// The same cases, cut at every byte (short ones) or at random places, through buffers
// so small that everything grows and moves.
func TestProtocolCutAnywhere(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, tc := range protocolCases {
		var cuts [][]int
		if len(tc.send) < 200 {
			for i := range len(tc.send) + 1 {
				cuts = append(cuts, []int{i})
			}
			every := make([]int, len(tc.send))
			for i := range every {
				every[i] = i
			}
			cuts = append(cuts, every)
		}
		for range 4 {
			var some []int
			for at := 0; at < len(tc.send); {
				some = append(some, at)
				at += 1 + rng.IntN(len(tc.send)/4+1)
			}
			cuts = append(cuts, some)
		}
		for _, cut := range cuts {
			sc := &scriptConn{}
			last := 0
			for _, at := range cut {
				sc.chunks = append(sc.chunks, tc.send[last:at])
				last = at
			}
			sc.chunks = append(sc.chunks, tc.send[last:])
			c := NewConn(sc, nil, Options{MaxMessageBytes: 2 << 20, ReadBufferBytes: 1, Clock: &stepClock{}})
			var got []string
			for {
				p, _, out := c.Read(time.Time{})
				if out != Message {
					break
				}
				got = append(got, string(p))
			}
			name := fmt.Sprintf("%s, seed %d, cut %v", tc.name, seed, cut[:min(len(cut), 5)])
			check(t, "messages of "+name, got, tc.want)
			if err := c.Err(); err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Fatalf("%s: error %v, want %q in it", name, err, tc.err)
			}
			pongs, code := hear(&sc.wrote)
			if code != tc.code || !sc.closed {
				t.Fatalf("%s: close code %d, want %d; closed %v", name, code, tc.code, sc.closed)
			}
			if len(tc.pongs) > 0 && (len(pongs) == 0 || pongs[0] != tc.pongs[0]) {
				t.Fatalf("%s: pongs %q, want %q first", name, pongs, tc.pongs)
			}
			if n := c.Counters; n.Pings != uint64(len(tc.pongs)) || n.Messages != uint64(len(got)) {
				t.Fatalf("%s: counters %+v", name, n)
			}
		}
	}
}

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
	if c.Counters.Reads != 3 || c.Counters.LastReadNs != base+3 {
		t.Fatalf("counters %+v", c.Counters)
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
		if d := time.Since(start); d > 5*time.Second {
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
	next, limit := 0, time.Now().Add(30*time.Second)
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
	c := dialTest(t, url, Options{})
	if p, _, out := c.Read(soon()); out != Message || string(p) != "end" {
		t.Fatalf("%q %v", p, out)
	}
	// Nothing more comes: the pong that is due must go out from a Read that waits.
	if _, _, out := c.Read(time.Now().Add(pongGap * 3)); out == Message {
		t.Fatalf("outcome %v", out)
	}
	got := <-result
	if len(got) < 2 || len(got) > 3 || got[0] != "0" || got[len(got)-1] != fmt.Sprint(pings-1) {
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
			if op == ws.OpPing {
				nc.Write(frame(fin|pong, string(p)))
			}
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
	if err := c.Ping(); err != nil {
		t.Fatal(err)
	}
	for c.Counters.PongsGot == 0 {
		if _, _, out := c.Read(time.Now().Add(5 * time.Millisecond)); out != Deadline {
			t.Fatalf("outcome %v", out)
		}
	}
	if n := c.Counters; n.LastPongNs == 0 || n.PingSentAtNs == 0 || n.TextsSent != 2 || n.PingsSent != 1 {
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
	want := []said{{ws.OpText, "short"}, {ws.OpText, long}, {ws.OpPing, ""}, {ws.OpClose, closeBody(1000, "done")}}
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
	if !errors.As(err, &ne) || !ne.Timeout() || time.Since(start) > 10*time.Second {
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
		for range 2000 {
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
	if d := time.Since(start); d > 2*time.Second {
		t.Fatalf("Read took %v", d)
	}
	if n := len(c.f.buf); n != 256<<10 {
		t.Errorf("a length that was only claimed made the buffer %d bytes", n)
	}
}

// TLS, frames sent along with the handshake's answer, a deadline and an interrupt in
// the middle of a TLS record's message, and a large message.
func TestTLS(t *testing.T) {
	big := strings.Repeat("0123456789", 300_000)
	step := make(chan struct{})
	srv := quietTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nc, rw, _, err := ws.UpgradeHTTP(r, w)
		if err != nil {
			t.Error(err)
			return
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		rw.Write(frame(fin|text, "early"))
		rw.Flush()
		f := frame(fin|text, big)
		<-step
		nc.Write(f[:100_000])
		<-step
		nc.Write(join(f[100_000:], frame(fin|text, "last")))
		clientFrame(nc)
	}))
	defer srv.Close()
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	c := dialTest(t, srv.URL+"/ws", Options{RootCAs: pool}) // https:// means wss://
	if p, stamp, out := c.Read(soon()); out != Message || string(p) != "early" || stamp == 0 {
		t.Fatalf("%q %v %v", p, out, c.Err())
	}
	step <- struct{}{}
	if _, _, out := c.Read(time.Now().Add(20 * time.Millisecond)); out != Deadline {
		t.Fatalf("outcome %v", out)
	}
	go func() {
		time.Sleep(5 * time.Millisecond)
		c.Interrupt()
	}()
	if _, _, out := c.Read(soon()); out != Interrupted {
		t.Fatalf("outcome %v", out)
	}
	step <- struct{}{}
	if p, _, out := c.Read(soon()); out != Message || string(p) != big {
		t.Fatalf("%d bytes %v %v", len(p), out, c.Err())
	}
	if p, _, out := c.Read(soon()); out != Message || string(p) != "last" {
		t.Fatalf("%q %v %v", p, out, c.Err())
	}
	if _, err := Dial(context.Background(), srv.URL+"/ws", Options{}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server with an unknown certificate: %v", err)
	}
}

func TestDialRefused(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/ban", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "120")
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, "way too many requests")
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://elsewhere.example/ws", http.StatusFound)
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		nc, _, _ := w.(http.Hijacker).Hijack()
		defer nc.Close()
		io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\n")
		for range 1 << 20 {
			if _, err := io.WriteString(nc, "X-Pad: "+strings.Repeat("y", 1000)+"\r\n"); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/deflate", func(w http.ResponseWriter, r *http.Request) {
		if h := r.Header.Get("Sec-WebSocket-Extensions"); h != "" {
			t.Errorf("offered %q", h)
		}
		nc, _, _ := w.(http.Hijacker).Hijack()
		defer nc.Close()
		sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		fmt.Fprintf(nc, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
			base64.StdEncoding.EncodeToString(sum[:]))
		io.Copy(io.Discard, nc)
	})
	hang := make(chan struct{})
	mux.HandleFunc("/hang", func(w http.ResponseWriter, r *http.Request) { <-hang })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	defer close(hang)

	dial := func(path string, opt Options) error {
		t.Helper()
		c, err := Dial(context.Background(), srv.URL+path, opt)
		if err == nil {
			c.Close(1000, "")
			t.Fatalf("%s: connected", path)
		}
		return err
	}
	var se *StatusError
	if err := dial("/ban", Options{}); !errors.As(err, &se) || se.Status != 418 || se.RetryAfter != 2*time.Minute || se.Body != "way too many requests" {
		t.Errorf("ban: %v", err)
	}
	if err := dial("/moved", Options{}); !errors.As(err, &se) || se.Status != 302 || se.Location != "https://elsewhere.example/ws" {
		t.Errorf("moved: %v", err)
	}
	if err := dial("/endless", Options{}); !errors.Is(err, errLongHandshake) {
		t.Errorf("endless: %v", err)
	}
	if err := dial("/deflate", Options{}); !errors.Is(err, ws.ErrHandshakeBadExtensions) {
		t.Errorf("an extension that was not offered: %v", err)
	}
	start := time.Now()
	if err := dial("/hang", Options{DialTimeout: 50 * time.Millisecond}); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) > 5*time.Second {
		t.Errorf("hang: %v after %v", err, time.Since(start))
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := Dial(ctx, srv.URL+"/hang", Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for _, u := range []string{"ftp://host/", "ws:///nohost", "://", "stream.example"} {
		if _, err := Dial(context.Background(), u, Options{}); err == nil {
			t.Errorf("dialled %q", u)
		}
	}
}
