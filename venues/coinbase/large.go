package coinbase

import (
	"bytes"
	"strconv"

	"deeptape/hotpath/ledger"
	"deeptape/venues"
)

// A snapshot of 5 MB as one JSON text takes fastjson 117 MB. So the levels of a large
// frame are taken out of it and read one by one. What is left is small.
const (
	largeBytes = 64 << 10
	mostBytes  = 1 << 20 // of what is left
	levelBytes = 4 << 10 // of one level
	mostLists  = 4 << 10 // of levels
)

var updates = []byte(`"updates":`)

// takeOut returns the frame with a number instead of each list of levels: its place in
// d.levels. (A key spelled with a space before its colon is left in.)
func (d *decoder) takeOut(frame []byte) ([]byte, ledger.Reason) {
	d.frame = d.frame[:0]
	for {
		i := bytes.Index(frame, updates)
		if i < 0 {
			break
		}
		i += len(updates)
		d.frame = append(d.frame, frame[:i]...)
		frame = bytes.TrimLeft(frame[i:], " \t\r\n")
		end := bracketed(frame)
		if end < 0 || frame[0] != '[' || frame[end-1] != ']' {
			return nil, ledger.Malformed
		}
		d.frame = strconv.AppendInt(d.frame, int64(len(d.levels)), 10)
		d.levels = append(d.levels, frame[1:end]) // with the bracket at its end
		frame = frame[end:]
		if len(d.levels) > mostLists {
			return nil, ledger.Oversized
		}
	}
	if d.frame = append(d.frame, frame...); len(d.frame) > mostBytes {
		return nil, ledger.Oversized
	}
	return d.frame, ledger.Accepted
}

// takenOut reads a list of levels.
func (d *decoder) takenOut(list []byte, sc venues.Scales, need *venues.Scales, m *venues.Message, b *venues.Batch) ledger.Reason {
	for first := true; ; first = false {
		list = bytes.TrimLeft(list, " \t\r\n")
		if list[0] == ']' && first {
			return ledger.Accepted
		}
		end := bracketed(list)
		if end < 0 || end > levelBytes {
			return ledger.Malformed
		}
		u, err := d.level.ParseBytes(list[:end])
		if err != nil {
			return ledger.Malformed
		}
		if reason := level(u, sc, need, m, b); reason != ledger.Accepted {
			return reason
		}
		list = bytes.TrimLeft(list[end:], " \t\r\n")
		if len(list) == 1 { // the bracket
			return ledger.Accepted
		}
		if list[0] != ',' {
			return ledger.Malformed
		}
		list = list[1:]
	}
}

// bracketed returns the length of the list or object that a JSON text begins with; -1
// is none, or one that does not end. What is inside is not judged.
func bracketed(text []byte) int {
	if len(text) == 0 || text[0] != '[' && text[0] != '{' {
		return -1
	}
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		case '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		}
		if depth == 0 {
			return i + 1
		}
	}
	return -1
}
