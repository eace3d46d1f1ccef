package event

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
)

// put writes little-endian fields at their documented places.
func put(size int, fields map[int]any) []byte {
	b := make([]byte, size)
	for at, v := range fields {
		switch v := v.(type) {
		case string:
			copy(b[at:], v)
		default:
			var w bytes.Buffer
			binary.Write(&w, binary.LittleEndian, v)
			copy(b[at:], w.Bytes())
		}
	}
	return b
}

// The layout is on disk (inputs) and in every ring: it is pinned here by hand,
// with values whose bytes are all different.
func TestInputLayout(t *testing.T) {
	h := InputHead{Kind: InputRest, Line: 0x12, Feed: 0x3456, Pos: 0x0102030405060708, Ts: 0x1112131415161718, Aux: -0x2122232425262728}
	want := put(40, map[int]any{
		0: uint32(35), 4: uint8(6), 5: uint8(0x12), 6: uint16(0x3456), 8: uint64(0x0102030405060708),
		16: int64(0x1112131415161718), 24: int64(-0x2122232425262728), 32: "abc",
	})
	got := bytes.Repeat([]byte{0xee}, 48)
	if n := PutInput(got, h, []byte("abc")); n != 40 || !bytes.Equal(got[:40], want) || got[40] != 0xee {
		t.Errorf("PutInput: %d\n got %x\nwant %x", n, got, want)
	}
	if got := AppendInput([]byte("12345678"), h, []byte("abc")); !bytes.Equal(got[8:], want) || string(got[:8]) != "12345678" {
		t.Errorf("AppendInput: %x", got)
	}
	if InputHeadSize != 32 || InputSize(0) != 32 || InputSize(1) != 40 || InputSize(8) != 40 || InputSize(9) != 48 {
		t.Error("sizes of inputs have changed: the journal's format version must too")
	}
	// The numbers of the kinds are on disk.
	for i, name := range strings.Fields("run stop connect close frame rest command tick loss keyframe") {
		if got := InputKind(i + 1).String(); got != name {
			t.Errorf("kind %d is %q, want %q", i+1, got, name)
		}
	}
	if got := InputKind(77).String(); got != "input(77)" {
		t.Error(got)
	}
	if a := RestAux(0xfedcba98, 0x7654, 0x3210); uint64(a) != 0xfedcba9876543210 {
		t.Errorf("RestAux %x", a)
	} else if r, i, s := SplitRestAux(a); r != 0xfedcba98 || i != 0x7654 || s != 0x3210 {
		t.Errorf("SplitRestAux %x %x %x", r, i, s)
	}
}

func TestRowLayout(t *testing.T) {
	head := func(kind RowKind, n, extra uint16) Head {
		return Head{Kind: kind, Flags: 0x1d, PxScale: -3, QtyScale: 17, Inst: 0x0a0b0c0d, N: n, Extra: extra,
			Ts: 0x1112131415161718, TsEvent: Null, Seq: 0x3132333435363738, SeqPrev: -2, Pos: 0xf1f2f3f4f5f6f7f8, TsRecv: 0x4142434445464748}
	}
	fields := func(size int, h Head, more map[int]any) []byte {
		all := map[int]any{
			0: uint32(size), 4: uint8(h.Kind), 5: h.Flags, 6: h.PxScale, 7: h.QtyScale, 8: h.Inst, 12: h.N, 14: h.Extra,
			16: h.Ts, 24: h.TsEvent, 32: h.Seq, 40: h.SeqPrev, 48: h.Pos, 56: h.TsRecv,
		}
		for at, v := range more {
			all[at] = v
		}
		return put(size, all)
	}
	check := func(name string, got, want []byte, h Head) {
		t.Helper()
		if !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %x\nwant %x", name, got, want)
		}
		var back Head
		if n := back.Get(want); n != len(want) || back != h {
			t.Errorf("%s: Get gave %d %+v, want %+v", name, n, back, h)
		}
		if h.Kind != RowBook && len(want)%8 != 0 || RecordPos(want) != h.Pos {
			t.Errorf("%s: length %d, pos %x", name, len(want), RecordPos(want))
		}
	}
	a := Level{Px: -1, Qty: 0x0102030405060708, Side: Ask, Flags: FlagUnverified}
	z := Level{Px: math.MaxInt64, Qty: 0, Side: Bid}

	h := head(RowBook, 2, 0)
	b := make([]byte, BookSize(2))
	h.Put(b, len(b))
	PutLevel(b, 2, 0, a)
	PutLevel(b, 2, 1, z)
	check("book", b, fields(64+34, h, map[int]any{
		64: a.Px, 72: a.Qty, 80: z.Px, 88: z.Qty, 96: uint8(2 + 8), 97: uint8(1),
	}), h)
	if Levels(b) != 2 || GetLevel(b, 2, 0) != a || GetLevel(b, 2, 1) != z {
		t.Error("levels of a book message read back wrong")
	}
	if BookN(65534) != 65534 || BookN(65535) != 65535 || BookN(200_000) != 65535 || Levels(make([]byte, BookSize(200_000))) != 200_000 {
		t.Error("a book message of more than 65,535 levels")
	}

	h = head(RowTop, 1, 2)
	b = make([]byte, TopSize(1, 2))
	h.Put(b, len(b))
	for i := range 3 {
		PutPair(b, i, int64(i+1), -int64(i+1))
	}
	check("top", b, fields(64+48, h, map[int]any{64: int64(1), 72: int64(-1), 80: int64(2), 88: int64(-2), 96: int64(3), 104: int64(-3)}), h)
	if px, qty := GetPair(b, 2); px != 3 || qty != -3 {
		t.Error("a pair reads back wrong")
	}

	h = head(RowQuote, 0, 0)
	b = make([]byte, QuoteSize)
	h.Put(b, len(b))
	PutPair(b, 0, 5, 6)
	PutPair(b, 1, 7, 8)
	check("quote", b, fields(64+32, h, map[int]any{64: int64(5), 72: int64(6), 80: int64(7), 88: int64(8)}), h)

	h = head(RowDepth, 2, 0)
	b = make([]byte, DepthSize(2))
	h.Put(b, len(b))
	for i := range 3 {
		PutPair(b, i, int64(10*i), int64(Null))
	}
	check("depth", b, fields(64+48, h, map[int]any{64: int64(0), 72: int64(Null), 80: int64(10), 88: int64(Null), 96: int64(20), 104: int64(Null)}), h)
	if bid, ask := GetPair(b, 1); bid != 10 || ask != Null || h.Kind != 8 {
		t.Error("a band reads back wrong")
	}

	h = head(RowTrade, 10, 0)
	b = make([]byte, TradeSize(10))
	h.Put(b, len(b))
	for i := range b[HeadSize:] {
		b[HeadSize+i] = 0xff
	}
	PutTrade(b, a.Px, a.Qty, Ask, []byte("3735683259"))
	check("trade", b, fields(104, h, map[int]any{64: a.Px, 72: a.Qty, 80: uint8(2), 88: "3735683259"}), h)
	if px, qty, aggressor, id := GetTrade(b, 10); px != a.Px || qty != a.Qty || aggressor != Ask || string(id) != "3735683259" {
		t.Error("a trade reads back wrong")
	}

	h = head(RowInst, 2, 0)
	b = make([]byte, Align(HeadSize+2))
	h.Put(b, len(b))
	copy(b[HeadSize:], "{}")
	check("instrument", b, fields(72, h, map[int]any{64: "{}"}), h)
}

func TestCoverageLayout(t *testing.T) {
	c := Coverage{Inst: 7, Stream: StreamQuotes, State: StateVerified, Proof: ProofTradeID, Cause: CauseJournal,
		Ts: 11, TsEnd: 12, SeqFirst: Null, SeqLast: -14, Messages: 15, Pos: 16, TsRecv: 17, Detail: []byte("why")}
	want := put(112, map[int]any{
		0: uint32(112), 4: uint8(5), 8: uint32(7), 12: uint16(3), 16: int64(11), 24: int64(Null), 32: int64(Null), 40: int64(Null), 48: uint64(16), 56: int64(17),
		64: int64(12), 72: int64(Null), 80: int64(-14), 88: int64(15), 96: uint8(2), 97: uint8(2), 98: uint8(4), 99: uint8(10), 104: "why",
	})
	got := bytes.Repeat([]byte{0xee}, CoverageSize(3))
	PutCoverage(got, &c)
	if !bytes.Equal(got, want) {
		t.Errorf("\n got %x\nwant %x", got, want)
	}
	if back := GetCoverage(got); !reflect.DeepEqual(back, c) {
		t.Errorf("got %+v, want %+v", back, c)
	}
	if CoverageSize(0) != 104 {
		t.Error(CoverageSize(0))
	}
}

// What the database is told.
func TestNames(t *testing.T) {
	var got []string
	for s := range NumStreams {
		got = append(got, s.String())
	}
	for s := StateGap; s <= StateVerified; s++ {
		got = append(got, s.String())
	}
	for p := ProofNone; p <= ProofTradeID; p++ {
		got = append(got, p.String())
	}
	for c := CauseNone; c <= CauseJournal; c++ {
		got = append(got, c.String())
	}
	want := "book,trades,quotes,gap,unverified,verified,none,chain,crc,connection_seq,trade_id,,disconnect,sequence,checksum,venue_reset,backpressure,malformed,silence,start,stop,journal"
	if strings.Join(got, ",") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ","), want)
	}
	if FlagSnapshot != 1 || FlagLast != 2 || FlagKeyframe != 4 || FlagUnverified != 8 || FlagFirst != 16 || int64(Null) != math.MinInt64 {
		t.Error("flags are fixed by the schema")
	}
}

func TestInstrumentOf(t *testing.T) {
	want := Instrument{Venue: "binance", Symbol: "币安USDT", Pair: "币安-USDT", PxScale: 2, QtyScale: 18, Tick: "0.01", Source: "exchangeInfo"}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, Align(HeadSize+len(text)))
	h := Head{Kind: RowInst, N: uint16(len(text))}
	h.Put(b, len(b))
	copy(b[HeadSize:], text)
	if got, err := InstrumentOf(b); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	b[HeadSize] = 'x'
	if _, err := InstrumentOf(b); err == nil {
		t.Error("a broken instrument is taken")
	}
}

// FuzzInput: any bytes are refused or are one record, which written again gives
// the same bytes, but for the padding.
func FuzzInput(f *testing.F) {
	f.Add(AppendInput(nil, InputHead{Kind: InputFrame, Line: 1, Feed: 2, Pos: 3, Ts: 4, Aux: 5}, []byte(`{"e":"trade"}`)))
	f.Add(AppendInput(nil, InputHead{Kind: InputTick}, nil))
	f.Add(AppendInput(AppendInput(nil, InputHead{Kind: 255, Pos: math.MaxUint64, Ts: -1, Aux: math.MinInt64}, []byte("1234567")), InputHead{}, nil))
	f.Add(put(32, map[int]any{0: uint32(33)}))
	f.Add(put(32, map[int]any{0: uint32(31)}))
	f.Add(put(40, map[int]any{0: uint32(math.MaxUint32)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		in, size, err := GetInput(b)
		if err != nil {
			whole := len(b) >= 4 && binary.LittleEndian.Uint32(b) >= InputHeadSize && uint64(binary.LittleEndian.Uint32(b))+7 < uint64(len(b))
			if whole || err != ErrShortInput || size != 0 {
				t.Fatalf("refused: %v", err)
			}
			return
		}
		n := InputHeadSize + len(in.Data)
		if size > len(b) || size != InputSize(len(in.Data)) || size%8 != 0 || cap(in.Data) != len(in.Data) {
			t.Fatalf("size %d of %d, %d bytes of data", size, len(b), len(in.Data))
		}
		again := AppendInput(nil, in.InputHead, in.Data)
		if len(again) != size || !bytes.Equal(again[:n], b[:n]) || len(bytes.Trim(again[n:], "\x00")) != 0 {
			t.Fatalf("written again: %x, was %x", again, b[:size])
		}
		if !bytes.Equal(b, before) {
			t.Fatal("reading changed the bytes")
		}
	})
}

// FuzzInputFields: any fields and data come back.
func FuzzInputFields(f *testing.F) {
	f.Add(uint8(5), uint8(0), uint16(1), uint64(2), int64(3), int64(-4), []byte("data"))
	f.Fuzz(func(t *testing.T, kind, line uint8, feed uint16, pos uint64, ts, aux int64, data []byte) {
		h := InputHead{Kind: InputKind(kind), Line: line, Feed: feed, Pos: pos, Ts: ts, Aux: aux}
		b := bytes.Repeat([]byte{0xaa}, InputSize(len(data))+8)
		n := PutInput(b, h, data)
		in, size, err := GetInput(b)
		if err != nil || size != n || in.InputHead != h || !bytes.Equal(in.Data, data) || b[n] != 0xaa {
			t.Fatalf("%v: %d %d %+v", err, size, n, in)
		}
	})
}
