package wire

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// The cases of the Autobahn test suite that concern a client which echoes nothing, by
// hand: their numbers, and in our words what a server sends and what a client must do.
// Categories 1 to 7 are here case by case, 9 and 10 (limits) further down. 8 does not
// exist; 12 and 13 are compression, which we do not offer: a frame that claims it has a
// reserved bit set, which is 3.1.
//
// Where we differ, knowingly:
//
//   - 6.3, 6.4 and all of 6.6 to 6.21 that is not UTF-8: a client should fail the
//     connection with 1007. We hand the text on. It goes into the journal as it came,
//     the decoder finds no known symbol or number in it and rejects it as malformed,
//     which is counted and a gap of that symbol. To close would lose the evidence, and
//     with it every other symbol of the connection. Close reasons are checked (7.5.1).
//   - 2.10 and 2.11: of pings that come faster than pongGap, the first is answered at
//     once and the newest when the gap is over, as RFC 6455 section 5.5.3 permits: a
//     server that floods us must not make us exceed its own limit of messages.
//   - 1.1.8, 9.5, 9.6 and so on cut a frame into reads; here every case is cut into
//     reads of one byte as well, and large ones as the suite cuts them.
type autobahnCase struct {
	number string
	sends  string
	bytes  []byte
	must   string   // answer, deliver, fail; with what
	want   []string // messages that come out
	pongs  []string
	code   uint16 // of the close frame that we send; 0: none, the server's end is the end
}

const ends = "cannot read" // what Err says where the server merely hangs up

func autobahnCases() (all []autobahnCase) {
	add := func(number, sends string, b []byte, must string, want, pongs []string, code uint16) {
		all = append(all, autobahnCase{number, sends, b, must, want, pongs, code})
	}
	one := func(s string) []string { return []string{s} }
	star := func(n int) string { return strings.Repeat("*", n) }

	// 1: framing.
	for i, n := range []int{0, 125, 126, 127, 128, 65535, 65536, 65536} {
		add(fmt.Sprintf("1.1.%d", i+1), fmt.Sprintf("a text of %d bytes", n), frame(fin|text, star(n)), "deliver", one(star(n)), nil, 0)
		binary := strings.Repeat("\xfe", n)
		add(fmt.Sprintf("1.2.%d", i+1), fmt.Sprintf("a binary message of %d bytes", n), frame(fin|bin, binary), "deliver", one(binary), nil, 0)
	}

	// 2: pings and pongs.
	payload := strings.Repeat("\xfe", 125)
	add("2.1", "a ping without payload", frame(fin|ping, ""), "answer", nil, one(""), 0)
	add("2.2", "a ping with text", frame(fin|ping, "Hello, world!"), "answer with the same", nil, one("Hello, world!"), 0)
	add("2.3", "a ping with bytes that are no text", frame(fin|ping, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), "answer with the same", nil, one("\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), 0)
	add("2.4", "a ping of 125 bytes", frame(fin|ping, payload), "answer with the same", nil, one(payload), 0)
	add("2.5", "a ping of 126 bytes", frame(fin|ping, payload+"\xfe"), "fail", nil, nil, 1002)
	add("2.6", "a ping of 125 bytes, byte by byte", frame(fin|ping, payload), "answer", nil, one(payload), 0)
	add("2.7", "a pong that nobody asked for", frame(fin|pong, ""), "ignore", nil, nil, 0)
	add("2.8", "the same with payload", frame(fin|pong, "unsolicited pong payload"), "ignore", nil, nil, 0)
	add("2.9", "the same, then a ping", join(frame(fin|pong, "unsolicited"), frame(fin|ping, "ping payload")), "answer the ping", nil, one("ping payload"), 0)
	var ten []byte
	var answers []string
	for i := range 10 {
		answers = append(answers, fmt.Sprintf("payload-%d", i))
		ten = append(ten, frame(fin|ping, answers[i])...)
	}
	add("2.10", "ten pings, slower than pongGap", ten, "answer each, in order", nil, answers, 0)
	add("2.11", "the same, byte by byte", ten, "answer each, in order", nil, answers, 0)

	// 3: reserved bits.
	hello := frame(fin|text, "Hello, world!")
	said := one("Hello, world!")
	add("3.1", "a text with RSV 1", frame(fin|0x10|text, "Hello, world!"), "fail", nil, nil, 1002)
	add("3.2", "a text, one with RSV 2, a ping", join(hello, frame(fin|0x20|text, "x"), frame(fin|ping, "")), "deliver the first and fail", said, nil, 1002)
	add("3.3", "a text, one with RSV 3, a ping", join(hello, frame(fin|0x30|text, "x"), frame(fin|ping, "")), "deliver the first and fail", said, nil, 1002)
	add("3.4", "a text, one with RSV 4, a ping", join(hello, frame(fin|0x40|text, "x"), frame(fin|ping, "")), "deliver the first and fail", said, nil, 1002)
	add("3.5", "a binary message with RSV 5", frame(fin|0x50|bin, payload), "fail", nil, nil, 1002)
	add("3.6", "a ping with RSV 6", frame(fin|0x60|ping, "x"), "fail", nil, nil, 1002)
	add("3.7", "a close with RSV 7", frame(fin|0x70|clos, closeBody(1000, "")), "fail", nil, nil, 1002)

	// 4: opcodes.
	for i := range byte(5) {
		for sub, first := range []byte{3, 11} {
			b, want := frame(fin|(first+i), star(int(i)%2*10)), []string(nil)
			sends := fmt.Sprintf("opcode %d", first+i)
			if i >= 2 {
				b, want, sends = join(hello, b, frame(fin|ping, "")), said, "a text, "+sends+", a ping"
			}
			add(fmt.Sprintf("4.%d.%d", sub+1, i+1), sends, b, "deliver what was whole and fail", want, nil, 1002)
		}
	}

	// 5: fragments.
	add("5.1", "a ping in two fragments", join(frame(ping, "frag"), frame(fin|cont, "ment")), "fail", nil, nil, 1002)
	add("5.2", "a pong in two fragments", join(frame(pong, "frag"), frame(fin|cont, "ment")), "fail", nil, nil, 1002)
	two := join(frame(text, "frag"), frame(fin|cont, "ment"))
	pinged := join(frame(text, "frag"), frame(fin|ping, "ping"), frame(fin|cont, "ment"))
	for i := range 3 {
		how := []string{"", ", frame by frame", ", byte by byte"}[i]
		add(fmt.Sprintf("5.%d", 3+i), "a text in two fragments"+how, two, "deliver as one", one("fragment"), nil, 0)
		add(fmt.Sprintf("5.%d", 6+i), "the same with a ping between"+how, pinged, "answer, deliver as one", one("fragment"), one("ping"), 0)
		add(fmt.Sprintf("5.%d", 9+i), "a last fragment of nothing, a text"+how, join(frame(fin|cont, "lost"), hello), "fail", nil, nil, 1002)
		add(fmt.Sprintf("5.%d", 12+i), "a fragment of nothing, a text"+how, join(frame(cont, "lost"), hello), "fail", nil, nil, 1002)
	}
	add("5.15", "a text in two fragments, a fragment of nothing, a text", join(two, frame(cont, "lost"), hello), "deliver the first and fail", one("fragment"), nil, 1002)
	add("5.16", "twice: a fragment of nothing, a text in two", join(frame(cont, "lost"), two, frame(cont, "lost"), two), "fail", nil, nil, 1002)
	add("5.17", "twice: a last fragment of nothing, a text in two", join(frame(fin|cont, "lost"), two, frame(fin|cont, "lost"), two), "fail", nil, nil, 1002)
	add("5.18", "two fragments that both say text", join(frame(text, "frag"), frame(fin|text, "ment")), "fail", nil, nil, 1002)
	five := join(frame(text, "fragment1"), frame(cont, "fragment2"), frame(fin|ping, "ping 1"), frame(cont, "fragment3"), frame(cont, "fragment4"), frame(fin|ping, "ping 2"), frame(fin|cont, "fragment5"))
	for _, number := range []string{"5.19", "5.20"} {
		add(number, "a text in five fragments, two pings between", five, "answer both, deliver as one",
			one("fragment1fragment2fragment3fragment4fragment5"), []string{"ping 1", "ping 2"}, 0)
	}

	// 6: UTF-8. Valid or not, we deliver it: see above.
	add("6.1.1", "an empty text", frame(fin|text, ""), "deliver", one(""), nil, 0)
	add("6.1.2", "three empty fragments", join(frame(text, ""), frame(cont, ""), frame(fin|cont, "")), "deliver as one", one(""), nil, 0)
	add("6.1.3", "the first and the last of three fragments empty", join(frame(text, ""), frame(cont, "middle"), frame(fin|cont, "")), "deliver as one", one("middle"), nil, 0)
	kosme := "\u03ba\u1f79\u03c3\u03bc\u03b5"
	for _, group := range []struct {
		number string
		what   string
		valid  bool
		texts  []string
	}{
		{"6.2", "valid text, whole and cut inside of characters", true, []string{"Hello-\u00b5@\u00df\u00f6\u00e4\u00fc\u00e0\u00e1-UTF-8!!", kosme}},
		{"6.3", "text with a surrogate in it", false, []string{kosme + "\xed\xa0\x80edited"}},
		{"6.4", "text whose first fragment is beyond U+10FFFF already", false, []string{kosme + "\xf4\x90\x80\x80edited", kosme + "\xf4\x90"}},
		{"6.5", "valid text", true, []string{kosme}},
		{"6.6", "its beginnings, up to inside of a character", false, []string{kosme[:1], kosme[:3], kosme[:4], kosme[:6], kosme[:8], kosme[:10]}},
		{"6.6", "its beginnings, up to the end of one", true, []string{kosme[:2], kosme[:5], kosme[:7], kosme[:9], kosme}},
		{"6.7", "the first characters of each length", true, []string{"\x00", "\u0080", "\u0800", "\U00010000"}},
		{"6.8", "the first of five and six bytes", false, []string{"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80"}},
		{"6.9", "the last characters of each length", true, []string{"\x7f", "\u07ff", "\uffff", "\U0010ffff"}},
		{"6.10", "the last of four, five and six bytes", false, []string{"\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf"}},
		{"6.11", "other borders", true, []string{"\ud7ff", "\ue000", "\ufffd", "\U0010ffff"}},
		{"6.11", "one beyond", false, []string{"\xf4\x90\x80\x80"}},
		{"6.12", "continuations of nothing", false, []string{"\x80", "\xbf", "\x80\xbf", "\x80\xbf\x80\xbf\x80\xbf\x80\xbf"}},
		{"6.13", "beginnings without an end, spaces between", false, []string{"\xc0 \xc1 \xdf ", "\xe0 \xef ", "\xf0 \xf7 ", "\xf8 \xfb ", "\xfc \xfd "}},
		{"6.14", "the last byte missing", false, []string{"\xc0", "\xe0\x80", "\xf0\x80\x80", "\xf8\x80\x80\x80", "\xfc\x80\x80\x80\x80", "\xdf", "\xef\xbf", "\xf7\xbf\xbf", "\xfb\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf"}},
		{"6.15", "all of these in a row", false, []string{"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xfc\x80\x80\x80\x80\xdf\xef\xbf\xf7\xbf\xbf\xfb\xbf\xbf\xbf\xfd\xbf\xbf\xbf\xbf"}},
		{"6.16", "bytes that never occur", false, []string{"\xfe", "\xff", "\xfe\xfe\xff\xff"}},
		{"6.17", "a slash, too long", false, []string{"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xfc\x80\x80\x80\x80\xaf"}},
		{"6.18", "the highest that are too long", false, []string{"\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf8\x87\xbf\xbf\xbf", "\xfc\x83\xbf\xbf\xbf\xbf"}},
		{"6.19", "NUL, too long", false, []string{"\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xf8\x80\x80\x80\x80", "\xfc\x80\x80\x80\x80\x80"}},
		{"6.20", "surrogates", false, []string{"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf", "\xed\xb0\x80", "\xed\xbe\x80", "\xed\xbf\xbf"}},
		{"6.21", "surrogates in pairs", false, []string{"\xed\xa0\x80\xed\xb0\x80", "\xed\xa0\x80\xed\xbf\xbf", "\xed\xad\xbf\xed\xb0\x80", "\xed\xae\x80\xed\xbf\xbf", "\xed\xaf\xbf\xed\xbf\xbf"}},
		{"6.22", "characters that are none, which is valid", true, []string{"\ufffe", "\uffff", "\U0001fffe", "\U0001ffff", "\U0010fffe", "\U0010ffff"}},
		{"6.23", "the replacement character and its neighbours", true, []string{"\ufff9", "\ufffa", "\ufffb", "\ufffc", "\ufffd", "\ufffe", "\uffff"}},
	} {
		for _, s := range group.texts {
			must := "deliver"
			if !group.valid {
				must = "fail with 1007; we deliver"
			}
			if utf8.ValidString(s) != group.valid {
				panic("the table says something else of " + fmt.Sprintf("%q", s))
			}
			add(group.number, group.what, frame(fin|text, s), must, one(s), nil, 0)
			cut := frame(text, s[:1])
			for i := 1; i < len(s); i++ {
				cut = append(cut, frame(cont, s[i:i+1])...)
			}
			add(group.number, group.what+", a byte a fragment", append(cut, frame(fin|cont, "")...), must, one(s), nil, 0)
		}
	}

	// 7: closing.
	bye := frame(fin|clos, closeBody(1000, ""))
	add("7.1.1", "a text, a close", join(hello, bye), "deliver, answer the close", said, nil, 1000)
	add("7.1.2", "two closes", join(bye, bye), "answer the first", nil, nil, 1000)
	add("7.1.3", "a close, a ping", join(bye, frame(fin|ping, "")), "answer the close, not the ping", nil, nil, 1000)
	add("7.1.4", "a close, a text", join(bye, hello), "deliver nothing", nil, nil, 1000)
	add("7.1.5", "a fragment, a close, the other fragment", join(frame(text, "frag"), bye, frame(fin|cont, "ment")), "deliver nothing", nil, nil, 1000)
	add("7.1.6", "a text of 256 KiB, a text, a close, a ping", join(frame(fin|text, star(256<<10)), hello, bye, frame(fin|ping, "")), "deliver both, answer the close", []string{star(256 << 10), said[0]}, nil, 1000)
	add("7.3.1", "a close without a code", frame(fin|clos, ""), "answer without a code", nil, nil, 1005)
	add("7.3.2", "a close of one byte", frame(fin|clos, "a"), "fail", nil, nil, 1002)
	add("7.3.3", "a close with a code", bye, "answer with it", nil, nil, 1000)
	add("7.3.4", "with a reason", frame(fin|clos, closeBody(1000, "Hello World!")), "answer with the code", nil, nil, 1000)
	add("7.3.5", "with a reason of 123 bytes", frame(fin|clos, closeBody(1000, star(123))), "answer with the code", nil, nil, 1000)
	add("7.3.6", "with a reason of 124 bytes", frame(fin|clos, closeBody(1000, star(124))), "fail", nil, nil, 1002)
	add("7.5.1", "with a reason that is not UTF-8", frame(fin|clos, closeBody(1000, kosme+"\xed\xa0\x80edited")), "fail", nil, nil, 1007)
	for i, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		add(fmt.Sprintf("7.7.%d", i+1), fmt.Sprintf("a close with code %d", code), frame(fin|clos, closeBody(code, "")), "answer with it", nil, nil, code)
	}
	for i, code := range []uint16{0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999} {
		add(fmt.Sprintf("7.9.%d", i+1), fmt.Sprintf("a close with code %d, which nobody may send", code), frame(fin|clos, closeBody(code, "")), "fail", nil, nil, 1002)
	}
	for i, code := range []uint16{5000, 65535} {
		add(fmt.Sprintf("7.13.%d", i+1), fmt.Sprintf("a close with code %d, which means nothing", code), frame(fin|clos, closeBody(code, "")), "fail", nil, nil, 1002)
	}
	return all
}

// jumpClock is a minute later at each look: no two pings come within pongGap.
type jumpClock struct{ now int64 }

func (c *jumpClock) NowNs() int64 { c.now += int64(time.Minute); return c.now }

// playAutobahn reads all that comes in chunks of so many bytes.
func playAutobahn(sent []byte, chunk int, clock Clock) (got, pongs []string, code uint16, c *Conn) {
	sc := &scriptConn{}
	for rest := sent; len(rest) > 0; {
		n := min(chunk, len(rest))
		sc.chunks = append(sc.chunks, rest[:n])
		rest = rest[n:]
	}
	c = NewConn(sc, nil, Options{Clock: clock, MaxMessageBytes: 16 << 20})
	for {
		p, _, out := c.Read(time.Time{})
		if out != Message {
			pongs, code = hear(&sc.wrote)
			return got, pongs, code, c
		}
		got = append(got, string(p))
	}
}

func TestAutobahn(t *testing.T) {
	numbers := map[string]bool{}
	cases := autobahnCases()
	for _, tc := range cases {
		numbers[tc.number] = true
		chunks := []int{1 << 30, 997}
		if len(tc.bytes) < 2000 {
			chunks = append(chunks, 1)
		}
		for _, chunk := range chunks {
			name := fmt.Sprintf("case %s: %s, %d bytes a read: must %s", tc.number, tc.sends, min(chunk, len(tc.bytes)), tc.must)
			got, pongs, code, c := playAutobahn(tc.bytes, chunk, &jumpClock{})
			check(t, "messages of "+name, got, tc.want)
			check(t, "pongs of "+name, pongs, tc.pongs)
			if code != tc.code {
				t.Errorf("%s: we closed with %d, want %d", name, code, tc.code)
			}
			if err := c.Err(); err == nil || strings.Contains(err.Error(), ends) != (tc.code == 0) {
				t.Errorf("%s: the connection ended by %v", name, err)
			}
		}
	}
	t.Logf("%d cases of %d numbers", len(cases), len(numbers))
}

// 2.10 and 2.11 where the pings come at once: the first is answered, the others wait
// for the gap and the newest stands for them.
func TestAutobahnPingFlood(t *testing.T) {
	var ten []byte
	for i := range 10 {
		ten = append(ten, frame(fin|ping, fmt.Sprint(i))...)
	}
	_, pongs, _, c := playAutobahn(ten, 1<<30, &stepClock{})
	check(t, "pongs", pongs, []string{"0"})
	if n := c.Counters; n.Pings != 10 || n.PongsSent != 1 || n.PongsMerged != 8 || string(c.pong[:c.pongLen]) != "9" || !c.pongDue {
		t.Errorf("%+v, due %q", n, c.pong[:c.pongLen])
	}
}

// 9: limits. 9.1 and 9.2: one frame of 64 KiB to 16 MiB; 9.3 and 9.4: 4 MiB in fragments
// of 64 bytes to 4 MiB; 9.5 and 9.6: 1 MiB in reads of 64 bytes to 2 KiB; 9.7 and 9.8:
// 1,000 messages of 0 to 4,096 bytes. 10.1: 64 KiB in fragments of 1,300 bytes.
func TestAutobahnLimits(t *testing.T) {
	const k, m = 1 << 10, 1 << 20
	must := func(what string, sent []byte, chunk int, size, count int) {
		t.Helper()
		got, _, code, c := playAutobahn(sent, chunk, &jumpClock{})
		if len(got) != count || code != 0 {
			t.Fatalf("%s: %d messages, want %d; closed with %d: %v", what, len(got), count, code, c.Err())
		}
		for _, s := range got {
			if len(s) != size || strings.Trim(s, "*") != "" {
				t.Fatalf("%s: a message of %d bytes, want %d stars", what, len(s), size)
			}
		}
	}
	stars := strings.Repeat("*", 16*m)
	fragments := func(first byte, size, each int) (b []byte) {
		for at := 0; at < size; at += each {
			n := min(each, size-at)
			if at+n == size {
				first |= fin
			}
			b = append(b, frame(first, stars[:n])...)
			first = cont
		}
		return b
	}
	for i, first := range []byte{text, bin} {
		for j, size := range []int{64 * k, 256 * k, 1 * m, 4 * m, 8 * m, 16 * m} {
			must(fmt.Sprintf("9.%d.%d", 1+i, 1+j), frame(fin|first, stars[:size]), 64*k, size, 1)
		}
		for j, each := range []int{64, 256, 1 * k, 4 * k, 16 * k, 64 * k, 256 * k, 1 * m, 4 * m} {
			must(fmt.Sprintf("9.%d.%d", 3+i, 1+j), fragments(first, 4*m, each), 64*k, 4*m, 1)
		}
		for j, chunk := range []int{64, 128, 256, 512, 1 * k, 2 * k} {
			must(fmt.Sprintf("9.%d.%d", 5+i, 1+j), frame(fin|first, stars[:m]), chunk, m, 1)
		}
		for j, size := range []int{0, 16, 64, 256, 1 * k, 4 * k} {
			must(fmt.Sprintf("9.%d.%d", 7+i, 1+j), bytes.Repeat(frame(fin|first, stars[:size]), 1000), 64*k, size, 1000)
		}
	}
	must("10.1.1", fragments(text, 64*k, 1300), 64*k, 64*k, 1)

	// And one byte more than we take: refused by its header, nothing is held for it.
	_, _, code, c := playAutobahn(frame(fin|text, stars[:16*m]+"*"), 64*k, &jumpClock{})
	if code != 1009 || len(c.f.buf) > 512*k {
		t.Errorf("a message that is too long: closed with %d, a buffer of %d bytes", code, len(c.f.buf))
	}
}
