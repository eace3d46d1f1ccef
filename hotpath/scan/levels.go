package scan

import (
	"encoding/binary"

	"deeptape/hotpath/event"
)

// Pairs reads a list of levels, [["px","qty"],…], and appends them to dst. What dst
// holds behind its old length is void where the place is Declined.
func Pairs(b []byte, i int, dst []event.Level, side event.Side, px, qty int8) ([]event.Level, int) {
	if Byte(b, i) != '[' || uint(px) >= uint(len(scaleds)) || uint(qty) >= uint(len(scaleds)) {
		return dst, Declined
	}
	i++
	pxs, qtys := &scaleds[px], &scaleds[qty]
	if Byte(b, i) == ']' {
		return dst, i + 1
	}
	for {
		if i > len(b)-2 || b[i] != '[' || b[i+1] != '"' {
			return dst, Declined
		}
		p, j := decimal(b, i+2, pxs)
		if j < 0 || j > len(b)-4 || binary.LittleEndian.Uint32(b[j:j+4:j+4])&0xffffff != '"'|','<<8|'"'<<16 {
			return dst, Declined
		}
		q, k := decimal(b, j+3, qtys)
		dst = append(dst, event.Level{Px: p, Qty: q, Side: side})
		if k < 0 || k > len(b)-4 {
			return dst, Declined
		}
		switch binary.LittleEndian.Uint32(b[k:k+4:k+4]) & 0xffffff {
		case '"' | ']'<<8 | ','<<16:
			i = k + 3
		case '"' | ']'<<8 | ']'<<16:
			return dst, k + 3
		default:
			return dst, Declined
		}
	}
}

// Quads reads a list of levels with two more numbers of which nothing is kept,
// [["px","qty","0","count"],…].
func Quads(b []byte, i int, dst []event.Level, side event.Side, px, qty int8) ([]event.Level, int) {
	if Byte(b, i) != '[' || uint(px) >= uint(len(scaleds)) || uint(qty) >= uint(len(scaleds)) {
		return dst, Declined
	}
	i++
	pxs, qtys := &scaleds[px], &scaleds[qty]
	if Byte(b, i) == ']' {
		return dst, i + 1
	}
	for {
		if i > len(b)-2 || b[i] != '[' || b[i+1] != '"' {
			return dst, Declined
		}
		p, j := decimal(b, i+2, pxs)
		if j < 0 || j > len(b)-4 || binary.LittleEndian.Uint32(b[j:j+4:j+4])&0xffffff != '"'|','<<8|'"'<<16 {
			return dst, Declined
		}
		q, k := decimal(b, j+3, qtys)
		dst = append(dst, event.Level{Px: p, Qty: q, Side: side})
		const zero = '"' | ','<<8 | '"'<<16 | '0'<<24 | '"'<<32 | ','<<40 | '"'<<48
		if k < 0 || k > len(b)-8 || binary.LittleEndian.Uint64(b[k:k+8:k+8])&(1<<56-1) != zero {
			return dst, Declined
		}
		k += 7
		_, n := digits(word(b, k))
		if k += int(n); n == 0 || n == 8 || k > len(b)-4 {
			return dst, Declined
		}
		switch binary.LittleEndian.Uint32(b[k:k+4:k+4]) & 0xffffff {
		case '"' | ']'<<8 | ','<<16:
			i = k + 3
		case '"' | ']'<<8 | ']'<<16:
			return dst, k + 3
		default:
			return dst, Declined
		}
	}
}

// Objects reads a list of levels, [{"price":px,"qty":qty},…], of bare numbers that may
// not have more digits than the scales, zeros or not.
func Objects(b []byte, i int, dst []event.Level, side event.Side, px, qty int8) ([]event.Level, int) {
	if Byte(b, i) != '[' || uint(px) >= uint(len(printeds)) || uint(qty) >= uint(len(printeds)) {
		return dst, Declined
	}
	i++
	pxs, qtys := &printeds[px], &printeds[qty]
	if Byte(b, i) == ']' {
		return dst, i + 1
	}
	for {
		p, j := decimal(b, Literal(b, i, `{"price":`), pxs)
		q, k := decimal(b, Literal(b, j, `,"qty":`), qtys)
		if k < 0 || k > len(b)-2 || b[k] != '}' {
			return dst, Declined
		}
		dst = append(dst, event.Level{Px: p, Qty: q, Side: side})
		i = k + 2
		switch b[k+1] {
		case ',':
		case ']':
			return dst, i
		default:
			return dst, Declined
		}
	}
}
