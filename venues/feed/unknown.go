package feed

import (
	"slices"
	"strings"
	"unicode"

	"deeptape/hotpath/ledger"
)

// A frame of a shape that we do not know may be the answer to a command, a notice, or a
// new message of the venue. It changes nothing here, but it is kept in mind: one sample
// of each kind, and how many came. A venue gone mad may make as many kinds as it likes,
// so only the first few have a place, and all others share one.
//
// No row depends on it, so it is in no keyframe.

const (
	unknownKindsMax    = 16
	unknownSampleBytes = 300
	unknownKeysMax     = 8
	unknownKeyBytes    = 24
	unknownLookBytes   = 1024 // of a frame, for its kind
)

// Unknown is a kind of frames that no decoder knows.
type Unknown struct {
	Kind   string // the keys of its outermost object, and what it calls itself
	Count  uint64
	LastTs int64
	Sample string // the first one, printable and cut short
}

// OtherKinds is the kind of all that came after the list was full.
const OtherKinds = "other kinds"

// unknown keeps a frame in mind that was rejected, if nobody knows what it is.
func (m *Machine) unknown(number uint8, reason ledger.Reason, frame []byte) {
	if reason != ledger.UnknownShape && reason != ledger.Malformed {
		return
	}
	if number < numLines {
		m.lines[number].heardTs = m.now
	}
	m.text = appendKind(m.text[:0], frame)
	k := slices.IndexFunc(m.strange, func(u Unknown) bool { return u.Kind == string(m.text) })
	if k < 0 && len(m.strange) >= unknownKindsMax {
		m.text = append(m.text[:0], OtherKinds...)
		k = slices.IndexFunc(m.strange, func(u Unknown) bool { return u.Kind == OtherKinds })
	}
	if k < 0 {
		k = len(m.strange)
		m.strange = append(m.strange, Unknown{Kind: string(m.text), Sample: printable(frame, unknownSampleBytes)})
		m.warn("%s sent a frame that we do not understand (%s): %s", m.rules.Name, m.strange[k].Kind, m.strange[k].Sample)
	}
	m.strange[k].Count++
	m.strange[k].LastTs = m.now
}

// appendKind names a frame by the keys of its outermost object, in their order, and by the
// values of those that name things, also one level below. Allocates nothing once dst is
// large enough.
func appendKind(dst, frame []byte) []byte {
	text, from := frame[:min(len(frame), unknownLookBytes)], len(dst)
	depth, keys, named := 0, 0, false // named: the text that follows is the value of a key that names
	for i := 0; i < len(text) && keys < unknownKeysMax; i++ {
		switch text[i] {
		case '{', '[':
			depth++
			named = false
		case '}', ']':
			depth--
		case ',':
			named = false
		case '"':
			at := i + 1
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			name := text[at:min(i, len(text))]
			switch {
			case named:
				dst, named = appendName(append(dst, '='), name), false
			case depth > 2 || !isKey(text, i):
			default:
				if named = slices.Contains(namingKeys, string(name)); depth == 1 || named {
					if len(dst) > from {
						dst = append(dst, ' ')
					}
					dst = appendName(dst, name)
					keys++
				}
			}
		}
	}
	if len(dst) == from {
		return append(dst, "no JSON object with keys"...)
	}
	return dst
}

// namingKeys are those by whose values the venues tell their messages apart.
var namingKeys = []string{"event", "type", "channel", "method", "op", "e"}

func appendName(dst, name []byte) []byte {
	for _, c := range name[:min(len(name), unknownKeyBytes)] {
		if c <= ' ' || c > '~' {
			c = '.'
		}
		dst = append(dst, c)
	}
	return dst
}

// isKey says whether a colon follows on the quote at i.
func isKey(text []byte, i int) bool {
	for i++; i < len(text) && (text[i] == ' ' || text[i] == '\t' || text[i] == '\n' || text[i] == '\r'); i++ {
	}
	return i < len(text) && text[i] == ':'
}

// printable is a text of the venue's for people to read: at most n bytes of it, without
// what a terminal or a log would obey.
func printable(text []byte, n int) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(text[:min(len(text), n)]), "?"))
}
