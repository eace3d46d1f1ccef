package event

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// InputKind says what an input record holds. The numbers are on disk: never reuse one.
type InputKind uint8

const (
	InputRun      InputKind = 1  // start of a run of one feed; Data: JSON feed.Config
	InputStop     InputKind = 2  // clean end of a run of one feed; no data
	InputConnect  InputKind = 3  // a connection is up; Line says which, Aux counts connections of the feed
	InputClose    InputKind = 4  // a connection is gone; Data: the reason as text
	InputFrame    InputKind = 5  // one text message, reassembled; Data: its bytes
	InputRest     InputKind = 6  // a REST answer; Aux: RestAux; Data: body, or the error text if the status is 0
	InputCommand  InputKind = 7  // a text that we sent; Data: its bytes
	InputTick     InputKind = 8  // the feed's timer fired (once a second); no data
	InputLoss     InputKind = 9  // Aux frames could not be journalled and were dropped; Ts of the last of them, Data: 8 bytes, Ts of the first
	InputKeyframe InputKind = 10 // all that the feed's machine knows; Data: see venues/feed
)

var inputNames = [...]string{"?", "run", "stop", "connect", "close", "frame", "rest", "command", "tick", "loss", "keyframe"}

func (k InputKind) String() string {
	if int(k) < len(inputNames) {
		return inputNames[k]
	}
	return fmt.Sprintf("input(%d)", uint8(k))
}

// InputHeadSize is the length of an input record before its data.
//
//	 0  u32  length of the record before padding, head included
//	 4  u8   kind
//	 5  u8   line: which of a feed's connections
//	 6  u16  feed
//	 8  u64  pos: counts the inputs of a feed, from 1, over all runs of a journal
//	16  i64  ts: our wall clock, ns, at the read that brought it
//	24  i64  aux: see the kind
//	32       data, then zeros up to a multiple of 8
const InputHeadSize = 32

// InputHead is the fixed part of an input record.
type InputHead struct {
	Kind InputKind
	Line uint8
	Feed uint16
	Pos  uint64
	Ts   int64
	Aux  int64
}

// Input is an input record taken apart. Data borrows from the bytes it was read
// from, and is valid as long as they are.
type Input struct {
	InputHead
	Data []byte
}

// InputSize is the length of a whole record that carries n bytes of data.
func InputSize(n int) int { return Align(InputHeadSize + n) }

// PutInput writes a record of InputSize(len(data)) bytes to the start of b and
// returns its length. It panics if b is shorter.
func PutInput(b []byte, h InputHead, data []byte) int {
	n := InputHeadSize + len(data)
	size := Align(n)
	b = b[:size]
	binary.LittleEndian.PutUint32(b[0:], uint32(n))
	b[4] = uint8(h.Kind)
	b[5] = h.Line
	binary.LittleEndian.PutUint16(b[6:], h.Feed)
	binary.LittleEndian.PutUint64(b[8:], h.Pos)
	binary.LittleEndian.PutUint64(b[16:], uint64(h.Ts))
	binary.LittleEndian.PutUint64(b[24:], uint64(h.Aux))
	copy(b[InputHeadSize:], data)
	for i := n; i < size; i++ {
		b[i] = 0
	}
	return size
}

// AppendInput appends a record to dst.
func AppendInput(dst []byte, h InputHead, data []byte) []byte {
	at := len(dst)
	size := InputSize(len(data))
	for cap(dst)-at < size {
		dst = append(dst[:cap(dst)], 0)
	}
	dst = dst[:at+size]
	PutInput(dst[at:], h, data)
	return dst
}

// ErrShortInput means that the bytes end before the record does, or that its
// length is impossible.
var ErrShortInput = errors.New("input record is cut short")

// GetInput reads the record at the start of b and returns its padded length.
// Data borrows from b. It never panics, whatever b holds.
func GetInput(b []byte) (in Input, size int, err error) {
	if len(b) < InputHeadSize {
		return in, 0, ErrShortInput
	}
	n := int(binary.LittleEndian.Uint32(b))
	if n < InputHeadSize || n > len(b) || Align(n) > len(b) {
		return in, 0, ErrShortInput
	}
	in.Kind = InputKind(b[4])
	in.Line = b[5]
	in.Feed = binary.LittleEndian.Uint16(b[6:])
	in.Pos = binary.LittleEndian.Uint64(b[8:])
	in.Ts = int64(binary.LittleEndian.Uint64(b[16:]))
	in.Aux = int64(binary.LittleEndian.Uint64(b[24:]))
	in.Data = b[InputHeadSize:n:n]
	return in, Align(n), nil
}

// RestAux packs what a REST answer belongs to: the request's number within the
// feed, the instrument's place within the feed, and the HTTP status (0: no answer).
func RestAux(request uint32, inst uint16, status uint16) int64 {
	return int64(request)<<32 | int64(inst)<<16 | int64(status)
}

// SplitRestAux undoes RestAux.
func SplitRestAux(aux int64) (request uint32, inst uint16, status uint16) {
	return uint32(aux >> 32), uint16(aux >> 16), uint16(aux)
}
