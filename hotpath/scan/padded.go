package scan

import (
	"encoding/binary"

	"deeptape/hotpath/event"
)

// PaddedPairs is Pairs for a venue that writes eight digits behind each point, most of
// them zeros: [["61737.63000000","0.00120000"],…]. One level is read as Pairs reads it,
// and then all that are like it, with as many digits before the point of the price and a
// size below ten: their digits stand at places that need not be looked for. Of BTCUSDT's
// recording 99 of 100 levels are like the one before.
func PaddedPairs(b []byte, i int, dst []event.Level, side event.Side, px, qty int8) ([]event.Level, int) {
	if uint(px) > 8 || uint(qty) > 8 || i < 0 || i > len(b)-3 || b[i] != '[' || b[i+1] != '[' || b[i+2] != '"' {
		return Pairs(b, i, dst, side, px, qty)
	}
	like := padded{px: &scaleds[px], qty: &scaleds[qty], side: side}
	for i += 3; ; {
		if dst, i = like.learn(b, i, dst); i < 0 || b[i-1] == ']' {
			return dst, i
		}
		if dst, i = like.read(b, i, dst); b[i-1] == ']' {
			return dst, i
		}
	}
}

// padded is what a level looks like whose price has n digits before its point.
type padded struct {
	px, qty *scaled
	side    event.Side

	n     uint
	text  uint64 // of the first bytes: '0' for each digit, and the point
	mask  uint64 // marks them
	room  uint64 // what they may have added, text taken away, without a high bit
	least uint64 // that the first digit is: 1 where it is not the only one
	shift uint8  // moves them to the end of their word
}

// learn reads one level, from the first digit of its price on, as Pairs does, and takes
// it for an example. It returns the place of the next such digit, the one behind the list,
// or Declined.
func (d *padded) learn(b []byte, i int, dst []event.Level) ([]event.Level, int) {
	px, j := decimal(b, i, d.px)
	if j < 0 || j > len(b)-4 || binary.LittleEndian.Uint32(b[j:j+4:j+4])&0xffffff != '"'|','<<8|'"'<<16 {
		return dst, Declined
	}
	qty, k := decimal(b, j+3, d.qty)
	dst = append(dst, event.Level{Px: px, Qty: qty, Side: d.side})
	if k < 0 || k > len(b)-4 || b[k] != '"' || b[k+1] != ']' {
		return dst, Declined
	}
	if b[k+2] == ']' {
		return dst, k + 3
	}
	if k > len(b)-5 || b[k+2] != ',' || b[k+3] != '[' || b[k+4] != '"' {
		return dst, Declined
	}
	d.guess(uint(j - i - 9))
	return dst, k + 5
}

// guess says that the next price has n digits before its point.
func (d *padded) guess(n uint) {
	if d.n = n; n-1 >= 7 {
		d.n, d.room = 0, highs // nothing is like that
		return
	}
	before := uint64(1)<<(8*n) - 1
	d.mask = 1<<(8*n+8) - 1
	d.text, d.room = zeros&before|'.'<<(8*n), 0x76*ones&before|0x7f<<(8*n)
	d.least = uint64(min(n-1, 1))
	d.shift = uint8(64 - 8*n)
}

// read reads levels from the first digit of a price on, as long as they are as guessed.
// It returns the place of the next such digit, or the one behind the list.
func (d *padded) read(b []byte, i int, dst []event.Level) ([]event.Level, int) {
	for len(dst) < cap(dst) && i <= len(b)-40 {
		w := (*[40]byte)(b[i:])
		n := d.n & 7
		whole := (binary.LittleEndian.Uint64(w[:8]) ^ d.text) & d.mask
		px := binary.LittleEndian.Uint64(w[n+1:n+9]) ^ zeros
		one := uint64(w[n+12] ^ '0')
		qty := binary.LittleEndian.Uint64(w[n+14:n+22]) ^ zeros
		strange := (whole + d.room) | whole | (whole&0xff - d.least) | (px + 0x76*ones) | px | (qty + 0x76*ones) | qty
		if strange&highs|px&d.px.extra|qty&d.qty.extra != 0 || one >= 10 || w[n+13] != '.' {
			break
		}
		end := binary.LittleEndian.Uint64(w[n+22 : n+30])
		if binary.LittleEndian.Uint32(w[n+9:n+13])&0xffffff != '"'|','<<8|'"'<<16 || end&0xffff != '"'|']'<<8 {
			break
		}
		k := len(dst)
		dst = dst[:k+1]
		l := &dst[k]
		l.Px = int64(value(whole<<(d.shift&63), 8)*d.px.pow + value(px<<(d.px.shift&63), 8))
		l.Qty = int64(one*d.qty.pow + value(qty<<(d.qty.shift&63), 8))
		l.Side, l.Flags = d.side, 0
		if end>>16&0xffffff == ','|'['<<8|'"'<<16 {
			i += int(n) + 27
			continue
		}
		if end>>16&0xff == ']' {
			return dst, i + int(n) + 25
		}
		return dst[:k], i
	}
	return dst, i
}
