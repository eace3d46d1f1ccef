package scan

import (
	"encoding/binary"

	"deeptape/hotpath/event"
)

// Pairs reads a list of levels, [["px","qty"],…], and appends them to dst. The scales
// are counts of digits. What dst holds behind its old length is void where the place
// is Declined.
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
