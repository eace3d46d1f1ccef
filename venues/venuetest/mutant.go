package venuetest

import (
	"bytes"
	"math/rand/v2"
	"strings"
)

// Mutant changes a frame as nobody would by chance: it knows where JSON's tokens
// begin and end, so that most of what it makes is still JSON, or nearly so. dst is
// written over and returned.
type Mutant struct {
	R      *rand.Rand
	tokens [][2]int // of the frame: begin and end
	buf    []byte
}

// token returns the end of the JSON token at i: a text with its quotes, a number or
// word, white space, or one sign.
func token(b []byte, i int) int {
	in := func(set string) int {
		k := i
		for k < len(b) && bytes.IndexByte([]byte(set), b[k]) >= 0 {
			k++
		}
		return k
	}
	switch c := b[i]; {
	case c == '"':
		for k := i + 1; k < len(b); k++ {
			if b[k] == '\\' {
				k++
			} else if b[k] == '"' {
				return k + 1
			}
		}
		return len(b)
	case c == ' ' || c == '\t' || c == '\n' || c == '\r':
		return in(" \t\n\r")
	case c >= '0' && c <= '9' || c == '-' || c >= 'a' && c <= 'z':
		return max(i+1, in("0123456789+-.eEabcdfghijklmnopqrstuvwxyz"))
	}
	return i + 1
}

var oddNumbers = []string{
	"0", "1", "00", "01", "007", "-0", "-1", "1.", ".5", "0.", "1e5", "1E2", "1.5e-3", "+1", "", "null", "nan", "inf", "-", ".", "1.2.3",
	"0.00", "0.000000000", "0.00000000000000000000", "10.50", "1.000000000000000000000", "0.1234567", "0.12345678", "0.123456789", "12345678", "123456789",
	"9999999.99999999", "99999999.5", "123456789012345.678", "9007199254740993", "999999999999999", "1000000000000000", "99999999999999999",
	"9223372036854775807", "9223372036854775808", "18446744073709551616", "92233720368547758.07", "92233720368.54775807", "92233720368.54775808", "4294967295", "4294967296",
	"1723161255308", "1723161255308123", "8", "9", "10", "99999999", "100000000", "0.000000000000000001", "9.2", "9.3", "8.9999999", "0x10", "1_000", "true", "false", "\"1\"", "[]", "{}", "1 ",
}

var oddTexts = []string{
	"", "A", "BTCUSDT", "BTC-USDT", "BTC/USD", "BTC-USD", "ETHUSDT", "\\u0042TCUSDT", "a\\\"b", "a\\\\", "\xff\xfe", "\x00", "é", "buy", "sell", "Buy", "Sell", "BUY", "SELL", "bid", "offer", "snapshot", "update", "delta",
	strings.Repeat("9", 63), strings.Repeat("9", 64), strings.Repeat("9", 65),
	"1970-01-01T00:00:00Z", "2026-02-29T00:00:00Z", "2024-02-29T23:59:59.999999999Z", "2026-08-24T22:34:60.5Z", "2026-08-24T22:34:13Z", "2026-08-24T22:34:13.Z", "2026-08-24T22:34:13.1234567890Z",
	"2026-08-24T22:34:13.483122+00:00", "2026-08-24t22:34:13.483122z", "2026-08-24T22:34:13.48Z", "2026-08-24T24:34:13.48Z", "2026-13-24T22:34:13.48Z", "0001-01-01T00:00:00Z", "2026-08-24T22:34:5.483122Z",
}

var oddWords = [][2]string{
	{"snapshot", "update"}, {"snapshot", "delta"}, {"update", "snapshot"}, {"delta", "snapshot"}, {"delta", "update"}, {"update", "delta"},
	{"buy", "sell"}, {"Sell", "Buy"}, {"BUY", "SELL"}, {"bid", "offer"}, {"offer", "bid"}, {"bid", "ask"}, {"true", "false"}, {"false", "null"}, {"bids", "asks"}, {"asks", "bids"},
	{"books", "books5"}, {"bbo-tbt", "books"}, {"orderbook.", "orderbook.rpi."}, {"orderbook.50.", "orderbook.1."}, {"orderbook.1.", "orderbook.50."}, {"depthUpdate", "trade"},
	{"l2_data", "market_trades"}, {"market_trades", "l2_data"}, {"updates", "trades"}, {"seqId", "prevSeqId"}, {"prevSeqId", "seqId"}, {`"u"`, `"U"`}, {`"b"`, `"a"`}, {"Z", "+00:00"},
}

func Pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// Change returns frame with one change or some more. It is valid until the next call.
func (m *Mutant) Change(frame []byte) []byte {
	m.buf = append(m.buf[:0], frame...)
	m.once()
	for m.R.IntN(4) == 0 {
		m.once()
	}
	return m.buf
}

func (m *Mutant) once() {
	m.tokens = m.tokens[:0]
	for i := 0; i < len(m.buf); {
		end := token(m.buf, i)
		m.tokens = append(m.tokens, [2]int{i, end})
		i = end
	}
	if len(m.tokens) == 0 {
		return
	}
	t := m.R.IntN(len(m.tokens))
	from, to := m.tokens[t][0], m.tokens[t][1]
	is := m.buf[from]
	quoted := is == '"' && to-from >= 2
	switch m.R.IntN(26) {
	case 0: // gone
		m.replace(from, to, nil)
	case 1: // twice
		m.replace(to, to, bytes.Clone(m.buf[from:to]))
	case 2: // a run of tokens twice, perhaps with another digit: a level, a key with its value
		end := m.tokens[min(len(m.tokens)-1, t+1+m.R.IntN(8))][1]
		m.replace(end, end, bytes.Clone(m.buf[from:end]))
		if k := end + m.R.IntN(end-from); m.buf[k]-'0' < 10 {
			m.buf[k] = byte('0' + m.R.IntN(10))
		}
	case 3: // a run of tokens gone
		end := m.tokens[min(len(m.tokens)-1, t+1+m.R.IntN(8))][1]
		m.replace(from, end, nil)
	case 4: // as another one is
		o := Pick(m.R, m.tokens)
		m.replace(from, to, bytes.Clone(m.buf[o[0]:o[1]]))
	case 5:
		m.replace(from, from, []byte(Pick(m.R, []string{" ", "\n", "\t", "\r", "  ", "\x00", "\x0b", "\xa0"})))
	case 6:
		m.replace(from, from, []byte(Pick(m.R, []string{",", ":", "[", "]", "{", "}", `"`, `\`, `"":0,`, `"u":1,`, `"data":{},`, `"e":null,`, `"s":"A",`, `"updates":[],`})))
	case 7: // cut short
		m.buf = m.buf[:m.R.IntN(len(m.buf)+1)]
	case 8: // something follows
		m.buf = append(m.buf, Pick(m.R, []string{" ", "\n", "}", "]", "x", `"`, "0", "{}", "\x00"})...)
	case 9:
		m.buf[m.R.IntN(len(m.buf))] = byte(m.R.IntN(256))
	case 10:
		m.buf[m.R.IntN(len(m.buf))] ^= 1 << m.R.IntN(8)
	case 11, 16, 17:
		if quoted {
			m.replace(from+1, to-1, []byte(Pick(m.R, oddTexts)))
		}
	case 15: // a word of a protocol for another one
		words := Pick(m.R, oddWords)
		m.buf = bytes.Replace(m.buf, []byte(words[0]), []byte(words[1]), 1)
	case 12, 13: // a digit is another one
		for range 8 {
			if k := m.R.IntN(len(m.buf)); m.buf[k]-'0' < 10 {
				m.buf[k] = byte('0' + m.R.IntN(10))
				break
			}
		}
	case 14: // more digits, or a point among them
		for range 8 {
			if k := m.R.IntN(len(m.buf)); m.buf[k]-'0' < 10 {
				m.replace(k, k, []byte(Pick(m.R, []string{"0", "00000", "7", "12345678", "."})))
				break
			}
		}
	default: // an odd number where a number or a text is
		if quoted && m.R.IntN(8) > 0 {
			from, to = from+1, to-1
		}
		if quoted || is == '-' || is-'0' < 10 {
			m.replace(from, to, []byte(Pick(m.R, oddNumbers)))
		}
	}
}

func (m *Mutant) replace(from, to int, with []byte) {
	rest := bytes.Clone(m.buf[to:])
	m.buf = append(append(m.buf[:from], with...), rest...)
}
