package line

import (
	"bytes"
	"encoding/binary"
)

// Row finds row n, counted from 1 as QuestDB counts in its refusals, in a body
// that this package or QuestDB's client wrote: body[from:to] is the row with its
// line end. Without such a row from equals to. Line ends inside of binary values
// and texts do not end a row.
func Row(body []byte, n int) (from, to int) {
	for ; n > 0; n-- {
		from = to
		size := rowLen(body[from:])
		if size == 0 {
			return from, from
		}
		to = from + size
	}
	return from, to
}

// rowLen is the length of the row at the start of b, line end included; 0 if it
// is not whole.
func rowLen(b []byte) int {
	i := skip(b, 0, ' ') // table and symbols
	for i > 0 {
		i = skip(b, i, '=')
		if i == 0 || i >= len(b) {
			return 0
		}
		switch b[i] {
		case '=':
			i = skipBinary(b, i+1)
		case '"':
			i = skip(b, i+1, '"')
		default:
			n := bytes.IndexAny(b[i:], ", ")
			if n < 0 {
				return 0
			}
			i += n
		}
		if i == 0 || i >= len(b) {
			return 0
		}
		if b[i] == ' ' {
			n := bytes.IndexByte(b[i:], '\n')
			if n < 0 {
				return 0
			}
			return i + n + 1
		}
		i++
	}
	return 0
}

// skip returns the index after the next c that no backslash stands before; 0 if
// there is none.
func skip(b []byte, i int, c byte) int {
	for ; i < len(b); i++ {
		switch b[i] {
		case c:
			return i + 1
		case '\\':
			i++
		}
	}
	return 0
}

// skipBinary returns the index after a binary value; 0 if it is not one of ours
// or not whole.
func skipBinary(b []byte, i int) int {
	if i >= len(b) {
		return 0
	}
	if b[i] == 0x10 {
		return i + 9
	}
	if b[i] != 0x0e || len(b)-i < 3 {
		return 0
	}
	dims := int(b[i+2])
	i += 3
	elements := uint64(1)
	for range dims {
		if len(b)-i < 4 {
			return 0
		}
		elements *= uint64(binary.LittleEndian.Uint32(b[i:]))
		if elements > uint64(len(b)) {
			return 0
		}
		i += 4
	}
	return i + 8*int(elements)
}
