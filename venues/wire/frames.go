package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/gobwas/ws"
)

// frames finds messages and control frames in a stream of bytes, without I/O and
// without copying: a message that came in one frame is a slice of the buffer.
// A fragmented message is put together in the buffer too, each fragment moved down
// to the end of the one before it, over the headers and control frames between.
//
// gobwas reads a header by two io.ReadFull calls through an interface; here it is
// looked at where it lies. Per message of 326 bytes, the copy out of the kernel's
// place included (BenchmarkFrames, 2 shared vCPUs): 16 ns against 39 ns for the best
// that gobwas over bufio gives and 58 ns and an allocation for its usual form (0.27, a
// gate, frames/gobwas-bufio in bench/budgets.go). Over loopback, processor time of the
// reader with the kernel's: 35 ns against 125; through TLS, where decryption is most of
// it, 180 against 282 (BenchmarkFramesLoopback). crypto/tls allocates once per two
// records of 16 KiB, nothing else does.
//
//	buf:  ......[msg ... end)......[r ... w)......
//	            fragments so far   not yet looked at
//
// Invariants: 0 <= msg <= end <= r <= w <= len(buf); end-msg <= maxMessage;
// len(buf) <= maxBuf; len(buf) grows only when three quarters of it are in use.
type frames struct {
	buf        []byte
	msg, end   int // the fragments of an unfinished message; meaningful while inMessage
	r, w       int
	need       int // bytes missing before the next frame can go on; set by fMore
	maxMessage int
	maxBuf     int
	base       []byte // the buffer to come back to after a large message
	calmReads  int    // reads in a row that base would have been large enough for
	inMessage  bool

	pos    uint64 // place of buf[r] in the stream after the handshake
	parsed uint64 // frames seen, control frames and fragments included
}

// fKind is what frames.next found.
type fKind uint8

const (
	fMore    fKind = iota // nothing whole; read into space
	fMessage              // a whole message
	fPing
	fPong
	fClose
	fBad // the stream breaks the protocol; frames must not be used any more
)

// How many calm reads let a grown buffer go. At ten messages a second it is kept for
// half a minute, which spans the snapshots of a resync.
const calmReadsToShrink = 256

// Room behind the largest message for the headers, and for a control frame that
// comes in the middle of it.
const frameSlackBytes = 256

func newFrames(bufBytes, maxMessageBytes int) *frames {
	base := make([]byte, bufBytes)
	return &frames{
		buf:        base,
		base:       base,
		maxMessage: maxMessageBytes,
		maxBuf:     max(bufBytes, maxMessageBytes+frameSlackBytes),
	}
}

// ProtocolError says how and where the server broke RFC 6455, or our size limit.
type ProtocolError struct {
	Code   uint16 // the close code that we answered with
	What   string
	Offset uint64 // of the frame, in bytes of the stream after the handshake
}

func (e *ProtocolError) Error() string {
	return fmt.Sprintf("cannot accept the frame at byte %d: %s (close code %d)", e.Offset, e.What, e.Code)
}

// ready says that next will return a message that stands whole at the front, in one frame
// of up to 65,535 bytes as nearly all do. Of others it says no.
func (f *frames) ready() bool {
	b := f.buf[f.r:f.w]
	if len(b) < 4 || b[0] != 0x81 && b[0] != 0x82 || b[1] > 126 || f.inMessage {
		return false
	}
	n, head := int(b[1]), 2
	if n == 126 {
		n, head = int(b[2])<<8|int(b[3]), 4
	}
	return n <= f.maxMessage && len(b) >= head+n
}

// next returns the next thing in the buffer. Its payload borrows from the buffer
// and is valid until the next call of next or space. The error is set with fBad.
//
// The length of a data frame is accepted in any of the three encodings: a server that
// spends more bytes on it than it must (section 5.2) is wasteful, not ambiguous.
// Text is not checked to be UTF-8: what reads the message as JSON judges it, and the
// journal has what came (see autobahn_test.go for what else differs from that suite).
func (f *frames) next() (fKind, []byte, *ProtocolError) {
	for {
		b := f.buf[f.r:f.w]
		if len(b) < 2 {
			f.need = 2 - len(b)
			return fMore, nil, nil
		}
		b0, b1 := b[0], b[1]

		// Nearly all that comes is a whole message of 126 to 65,535 bytes in one frame:
		// here without the questions that the others below are asked.
		if (b0 == 0x81 || b0 == 0x82) && b1 == 126 && !f.inMessage && len(b) >= 4 {
			n := int(b[2])<<8 | int(b[3])
			if n <= f.maxMessage && len(b) >= 4+n {
				f.parsed++
				f.r += 4 + n
				f.pos += uint64(4 + n)
				return fMessage, b[4 : 4+n : 4+n], nil
			}
		}
		op := ws.OpCode(b0 & 0x0f)
		fin := b0&0x80 != 0
		n := uint64(b1 & 0x7f)

		// The first two bytes are judged before more is waited for.
		switch {
		case b0&0x70 != 0:
			return f.bad(ws.StatusProtocolError, "a reserved bit is set though no extension was offered")
		case b1&0x80 != 0:
			return f.bad(ws.StatusProtocolError, "a server must not mask")
		case op.IsReserved():
			return f.bad(ws.StatusProtocolError, "reserved opcode")
		case op.IsControl() && !fin:
			return f.bad(ws.StatusProtocolError, "a control frame is fragmented")
		case op.IsControl() && n > ws.MaxControlFramePayloadSize:
			return f.bad(ws.StatusProtocolError, "a control frame is longer than 125 bytes")
		case op == ws.OpContinuation && !f.inMessage:
			return f.bad(ws.StatusProtocolError, "a continuation without a beginning")
		case op.IsData() && op != ws.OpContinuation && f.inMessage:
			return f.bad(ws.StatusProtocolError, "a new message inside a fragmented one")
		}

		head := 2
		switch n {
		case 126:
			if len(b) < 4 {
				f.need = 4 - len(b)
				return fMore, nil, nil
			}
			n = uint64(binary.BigEndian.Uint16(b[2:]))
			head = 4
		case 127:
			if len(b) < 10 {
				f.need = 10 - len(b)
				return fMore, nil, nil
			}
			n = binary.BigEndian.Uint64(b[2:])
			head = 10
			if n>>63 != 0 {
				return f.bad(ws.StatusProtocolError, "the highest bit of a length is set")
			}
		}
		if op.IsData() {
			have := 0
			if f.inMessage {
				have = f.end - f.msg
			}
			if n > uint64(f.maxMessage-have) {
				return f.bad(ws.StatusMessageTooBig, fmt.Sprintf("a message of more than %d bytes", f.maxMessage))
			}
		}
		size := head + int(n)
		if len(b) < size {
			f.need = size - len(b)
			return fMore, nil, nil
		}
		payload := b[head:size:size]
		f.parsed++

		if op.IsData() {
			at := f.r + head
			f.r += size
			f.pos += uint64(size)
			if op == ws.OpContinuation {
				f.end += copy(f.buf[f.end:], payload)
			} else {
				f.msg, f.end = at, at+len(payload)
			}
			f.inMessage = !fin
			if fin {
				return fMessage, f.buf[f.msg:f.end:f.end], nil
			}
			continue
		}
		kind := fPing
		switch op {
		case ws.OpPong:
			kind = fPong
		case ws.OpClose:
			if what, code := checkClose(payload); what != "" {
				return f.bad(code, what)
			}
			kind = fClose
		}
		f.r += size
		f.pos += uint64(size)
		return kind, payload, nil
	}
}

func (f *frames) bad(code ws.StatusCode, what string) (fKind, []byte, *ProtocolError) {
	return fBad, nil, &ProtocolError{Code: uint16(code), What: what, Offset: f.pos}
}

// checkClose says what is wrong with the body of a close frame, and the code to
// answer with. An empty body is right.
func checkClose(body []byte) (string, ws.StatusCode) {
	if len(body) == 0 {
		return "", 0
	}
	if len(body) == 1 {
		return "a close frame of one byte", ws.StatusProtocolError
	}
	code, reason := ws.ParseCloseFrameData(body)
	if code > 4999 {
		// gobwas leaves these alone; section 7.4.2 gives them no meaning.
		return fmt.Sprintf("close code %d does not exist", code), ws.StatusProtocolError
	}
	switch err := ws.CheckCloseFrameData(code, reason); err {
	case nil:
		return "", 0
	case ws.ErrProtocolInvalidUTF8:
		return "the reason of a close frame is not UTF-8", ws.StatusInvalidFramePayloadData
	default:
		return fmt.Sprintf("close code %d: %v", code, err), ws.StatusProtocolError
	}
}

// space returns where the next read goes; it is never empty. To be called after fMore only:
// it may move and replace the buffer, so whatever was borrowed is gone.
func (f *frames) space() []byte {
	if f.r == f.w && !f.inMessage {
		f.r, f.w = 0, 0
		if len(f.buf) > len(f.base) {
			f.calmReads++
			if f.calmReads > calmReadsToShrink {
				f.buf = f.base
			}
		}
		return f.buf
	}
	if f.cramped() {
		f.compact()
		if f.cramped() && len(f.buf) < f.maxBuf {
			grown := make([]byte, min(2*len(f.buf), f.maxBuf))
			copy(grown, f.buf[:f.w])
			f.buf = grown
			f.calmReads = 0
		}
	}
	return f.buf[f.w:]
}

// cramped: the frame at r does not fit behind w, and three quarters are in use.
// Only then is it worth moving bytes; a length that the server merely claims
// never makes the buffer grow.
func (f *frames) cramped() bool {
	free := len(f.buf) - f.w
	return free < f.need && free < (len(f.buf)+3)/4
}

// compact moves the fragments and the unread bytes to the start of the buffer.
func (f *frames) compact() {
	end := 0
	if f.inMessage {
		end = copy(f.buf, f.buf[f.msg:f.end])
		f.msg, f.end = 0, end
	}
	f.w = end + copy(f.buf[end:], f.buf[f.r:f.w])
	f.r = end
}

// took says that a read put n bytes into space.
func (f *frames) took(n int) {
	f.w += n
	if f.w > len(f.base) {
		f.calmReads = 0
	}
}

// inside reports whether the stream stands in the middle of a frame or message.
func (f *frames) inside() bool { return f.inMessage || f.r < f.w }
