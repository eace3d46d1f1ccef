package line

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"deeptape/hotpath/event"
)

// plainBook is appendBook in its plain form.
func plainBook(dst []byte, inst *Inst, rec []byte) ([]byte, int) {
	var h event.Head
	rec = rec[:h.Get(rec)]
	n := event.Levels(rec)
	for i := range max(n, 1) {
		comma := ","
		var level event.Level
		if n == 0 {
			dst, comma = append(dst, inst.book[event.NoSide]...), ""
		} else {
			level = event.GetLevel(rec, n, i)
			dst = append(dst, inst.book[level.Side]...)
			dst = strconv.AppendInt(dst, level.Px, 10)
			dst = append(dst, "i,qty="...)
			dst = strconv.AppendInt(dst, level.Qty, 10)
			dst = append(dst, 'i')
		}
		dst = append(append(dst, comma...), "px_scale="...)
		dst = strconv.AppendInt(dst, int64(h.PxScale), 10)
		dst = append(dst, "i,qty_scale="...)
		dst = strconv.AppendInt(dst, int64(h.QtyScale), 10)
		dst = append(dst, 'i')
		if h.TsEvent != event.Null {
			dst = append(strconv.AppendInt(append(dst, ",ts_event="...), h.TsEvent, 10), 'n')
		}
		if h.Seq != event.Null {
			dst = append(strconv.AppendInt(append(dst, ",seq="...), h.Seq, 10), 'i')
		}
		flags := h.Flags | level.Flags
		if i == 0 {
			flags |= event.FlagFirst
		}
		if i >= n-1 {
			flags |= event.FlagLast
			if h.SeqPrev != event.Null {
				dst = append(strconv.AppendInt(append(dst, ",seq_prev="...), h.SeqPrev, 10), 'i')
			}
		}
		dst = strconv.AppendInt(append(dst, ",flags="...), int64(flags), 10)
		dst = strconv.AppendInt(append(dst, "i "...), h.Ts+int64(i), 10)
		dst = append(dst, '\n')
	}
	return dst, max(n, 1)
}

// Any record gives the bytes of the plain form, behind whatever was there, with any room.
func TestBookAsPlain(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	inst, err := NewInst("binance", "BTC USDT")
	if err != nil {
		t.Fatal(err)
	}
	number := func() int64 {
		switch v := rng.Uint64() >> rng.IntN(64); rng.IntN(8) {
		case 0:
			return event.Null
		case 1:
			return -int64(v >> 1)
		case 2:
			return math.MaxInt64
		default:
			return int64(v >> 1)
		}
	}
	for range 20_000 {
		n := rng.IntN(5)
		if rng.IntN(20) == 0 {
			n = rng.IntN(300)
		}
		rec := make([]byte, event.BookSize(n))
		h := event.Head{
			Kind: event.RowBook, Flags: uint8(rng.IntN(256)), PxScale: int8(rng.Int()), QtyScale: int8(rng.Int()), N: event.BookN(n),
			Ts: int64(rng.Uint64() >> (1 + rng.IntN(63))), TsEvent: number(), Seq: number(), SeqPrev: number(),
		}
		h.Ts = min(h.Ts, math.MaxInt64-1000)
		if rng.IntN(2) == 0 { // a carry within the message, perhaps by a digit
			p := int64(math.Pow10(1 + rng.IntN(18)))
			h.Ts = max(0, p-int64(rng.IntN(300)))
		}
		h.Put(rec, len(rec))
		for i := range n {
			l := event.Level{Px: number(), Qty: number(), Side: event.Bid, Flags: 0}
			if rng.IntN(2) == 0 {
				l.Side = event.Ask
			}
			if rng.IntN(4) == 0 {
				l.Flags = uint8(rng.IntN(256)) &^ 3 // those are the side's
			}
			event.PutLevel(rec, n, i, l)
		}
		before := make([]byte, rng.IntN(40), 40+rng.IntN(400))
		want, wantRows := plainBook(bytes.Clone(before), inst, rec)
		got, rows := Append(before, inst, rec)
		if rows != wantRows || !bytes.Equal(got, want) {
			t.Fatalf("%d rows:\n%q\nplain, %d rows:\n%q", rows, got, wantRows, want)
		}
	}
}

func TestPutInt(t *testing.T) {
	check := func(v int64) {
		var buf [24]byte
		if got, want := string(buf[:putInt(buf[:], 0, v)]), strconv.FormatInt(v, 10); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
	for p := int64(1); ; p *= 10 {
		for d := int64(-2); d <= 2; d++ {
			check(p + d)
			check(-p + d)
		}
		if p > math.MaxInt64/10 {
			break
		}
	}
	check(math.MaxInt64)
	check(math.MinInt64)
	for v := int64(1); v > 0; v *= 2 {
		check(v - 1)
		check(v)
	}
}
