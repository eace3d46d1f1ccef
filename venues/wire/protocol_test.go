package wire

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
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
				if d := time.Since(time.Unix(0, stamp)); d < -time.Second || d > time.Minute {
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
	seed := testSeed(t)
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
