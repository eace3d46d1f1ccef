package wire

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

const fuzzMaxMessage = 5000

// verdict is what a whole stream comes to.
type verdict struct {
	items []string // "m:payload", "ping:...", "pong:...", "close:..."
	bad   bool
	pos   uint64 // bytes of whole frames before the end or the offending frame
	ready int    // messages that frames saw coming
	head  bool   // the stream ends inside a header (the reference cannot judge it yet)
}

// reference reads a stream the plain way, by the library's own reader and checks.
func reference(data []byte) (v verdict) {
	r := bytes.NewReader(data)
	state := ws.StateClientSide
	var msg []byte
	for {
		v.pos = uint64(len(data) - r.Len())
		h, err := ws.ReadHeader(r)
		switch {
		case err == ws.ErrHeaderLengthMSB:
			v.bad = true
			return v
		case err != nil:
			v.head = true
			return v
		case ws.CheckHeader(h, state) != nil,
			h.OpCode.IsControl() && data[v.pos+1]&0x7f > 125, // a long form, which the library lets pass
			h.OpCode.IsData() && h.Length > int64(fuzzMaxMessage-len(msg)):
			v.bad = true
			return v
		case h.Length > int64(r.Len()):
			return v
		}
		p := make([]byte, h.Length)
		io.ReadFull(r, p)
		switch h.OpCode {
		case ws.OpPing:
			v.items = append(v.items, "ping:"+string(p))
		case ws.OpPong:
			v.items = append(v.items, "pong:"+string(p))
		case ws.OpClose:
			code, reason := ws.ParseCloseFrameData(p)
			if len(p) == 1 || len(p) > 1 && (code > 4999 || ws.CheckCloseFrameData(code, reason) != nil) {
				v.bad = true
				return v
			}
			v.items = append(v.items, "close:"+string(p))
		default:
			msg = append(msg, p...)
			if h.Fin {
				v.items = append(v.items, "m:"+string(msg))
				msg = msg[:0]
				state = state.Clear(ws.StateFragmented)
			} else {
				state = state.Set(ws.StateFragmented)
			}
		}
	}
}

// viaFrames reads it by frames, in chunks of random sizes.
func viaFrames(t *testing.T, data []byte, bufBytes int, rng *rand.Rand) (v verdict) {
	f := newFrames(bufBytes, fuzzMaxMessage)
	fed := 0
	for {
		ready := f.ready()
		kind, p, bad := f.next()
		if ready {
			v.ready++
			if kind != fMessage {
				t.Fatalf("ready for a message, and what came was %d", kind)
			}
		}
		if f.msg > f.end && f.inMessage || f.r > f.w || f.w > len(f.buf) || f.inMessage && f.end > f.r {
			t.Fatalf("invariant broken: %+v", f)
		}
		if grown := len(f.buf); grown > bufBytes && grown > 8*fed/3+8 {
			t.Fatalf("a buffer of %d bytes after %d received", grown, fed)
		}
		name := ""
		switch kind {
		case fBad:
			v.bad, v.pos = true, f.pos
			if bad == nil || bad.Offset != f.pos || bad.What == "" {
				t.Fatalf("bad without a reason: %+v", bad)
			}
			return v
		case fMore:
			if fed == len(data) {
				v.pos = f.pos
				return v
			}
			space := f.space()
			if len(space) == 0 {
				t.Fatal("no space to read into")
			}
			n := copy(space, data[fed:min(len(data), fed+1+rng.IntN(64))])
			f.took(n)
			fed += n
			continue
		case fMessage:
			name = "m:"
		case fPing:
			name = "ping:"
		case fPong:
			name = "pong:"
		case fClose:
			name = "close:"
		}
		v.items = append(v.items, name+string(p))
	}
}

func FuzzFrames(f *testing.F) {
	for i, tc := range protocolCases {
		if len(tc.send) < 2000 {
			f.Add(tc.send, uint64(i))
		}
	}
	f.Add([]byte{fin | ping, 126, 0, 3, 'a', 'b', 'c'}, uint64(6))
	f.Add(join(frame(text, strings.Repeat("a", 3000)), frame(fin|ping, "p"), frame(fin|cont, strings.Repeat("b", 2000)), frame(fin|bin, "c")), uint64(7))
	f.Add(join(frame(text, strings.Repeat("a", 3000)), frame(fin|cont, strings.Repeat("b", 2001))), uint64(8))
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		compareWithReference(t, data, seed)
	})
}

var readyMessages int

func compareWithReference(t *testing.T, data []byte, seed uint64) {
	t.Helper()
	want := reference(data)
	rng := rand.New(rand.NewPCG(seed, 1))
	got := viaFrames(t, data, minReadBufferBytes+int(seed%5000), rng)
	check(t, "items", got.items, want.items)
	readyMessages += got.ready
	if got.pos != want.pos {
		t.Fatalf("stopped at byte %d, want %d", got.pos, want.pos)
	}
	// frames may judge a header by its first two bytes, before the rest has come.
	if got.bad != want.bad && !(got.bad && want.head) {
		t.Fatalf("bad: %v, want %v, at byte %d", got.bad, want.bad, got.pos)
	}
}

// Random streams of mostly right frames, which byte-wise fuzzing seldom makes.
func TestFramesAgainstReference(t *testing.T) {
	seed := testSeed(t)
	rng := rand.New(rand.NewPCG(seed, 2))
	whole := 0
	for range 3000 {
		var data []byte
		open := false
		for range rng.IntN(30) {
			n := rng.IntN(10)
			if rng.IntN(4) == 0 {
				n = rng.IntN(400)
			}
			if rng.IntN(40) == 0 {
				n = rng.IntN(fuzzMaxMessage * 5 / 4)
			}
			payload := strings.Repeat(string(rune('a'+rng.IntN(26))), n)
			first := byte(rng.IntN(2)) << 7
			switch {
			case rng.IntN(4) == 0:
				first = fin | ping + byte(rng.IntN(2))
				payload = payload[:min(n, 125)]
			case open:
				open = first == 0
			default:
				first |= text
				open = first&fin == 0
			}
			data = append(data, frame(first, payload)...)
		}
		if rng.IntN(5) == 0 && len(data) > 0 {
			data[rng.IntN(len(data))] ^= byte(1 << rng.IntN(8))
		}
		if rng.IntN(5) == 0 {
			data = data[:rng.IntN(len(data)+1)]
		}
		if !reference(data).bad {
			whole++
		}
		s := rng.Uint64()
		compareWithReference(t, data, s)
		if t.Failed() {
			t.Fatalf("seed %d, stream seed %d", seed, s)
		}
	}
	if readyMessages < 1000 {
		t.Errorf("seed %d: only %d messages were seen coming", seed, readyMessages)
	}
	if whole < 1000 {
		t.Errorf("seed %d: only %d streams were right to the end", seed, whole)
	}
}

// A large message makes the buffer grow; calm makes it shrink, to the first one.
func TestBufferGrowsAndShrinks(t *testing.T) {
	big := strings.Repeat("x", 1<<20)
	sc := &scriptConn{chunks: [][]byte{frame(fin|text, big)}}
	for range calmReadsToShrink + 10 {
		sc.chunks = append(sc.chunks, frame(fin|text, "small"))
	}
	c := NewConn(sc, nil, Options{ReadBufferBytes: 64 << 10})
	if p, _, out := c.Read(soon()); out != Message || string(p) != big {
		t.Fatalf("%d bytes, %v", len(p), out)
	}
	for i := 0; ; i++ {
		grown := len(c.f.buf) > 64<<10
		if i == calmReadsToShrink && !grown {
			t.Fatal("shrunk too early")
		}
		p, _, out := c.Read(soon())
		if out != Message {
			if !errors.Is(c.Err(), io.ErrUnexpectedEOF) || grown {
				t.Fatalf("at the end: grown %v, %v", grown, c.Err())
			}
			return
		}
		if string(p) != "small" {
			t.Fatalf("message %d: %q", i, p)
		}
	}
}

// A message that fits behind nothing else is not a reason to grow.
func TestBufferDoesNotGrowForWhatFits(t *testing.T) {
	whole := frame(fin|text, strings.Repeat("x", 60<<10))
	sc := &scriptConn{chunks: [][]byte{whole[:50<<10], whole[50<<10:]}}
	c := NewConn(sc, nil, Options{ReadBufferBytes: 64 << 10})
	if p, _, out := c.Read(soon()); out != Message || len(p) != 60<<10 || len(c.f.buf) != 64<<10 {
		t.Fatalf("%v, %d bytes, buffer %d", out, len(p), len(c.f.buf))
	}
}
