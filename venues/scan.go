package venues

import (
	"encoding/binary"

	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/hotpath/scan"
)

// Every decoder reads a frame twice, if need be: first its scanner, which knows the
// shapes that make up the load and nothing else; then, if that declines, fastjson,
// which reads every shape. What a scanner accepts is what fastjson would have made of
// it, message for message (TestScanners, FuzzScanners). It rejects nothing: a frame
// that is wrong is handed over as well, and fastjson's reason holds.

// Decoding is what every decoder keeps, whatever its venue.
type Decoding struct {
	Parser   Parser
	Scales   []Scales
	BySymbol map[string]int // by what the venue calls an instrument
	Names    NameTable      // the same for the scanner
	declined uint64         // what the scanner has handed over
}

// NewDecoding knows instruments by their Symbol, each by its place in insts.
func NewDecoding(insts []event.Instrument) Decoding {
	d := Decoding{Scales: make([]Scales, len(insts)), BySymbol: make(map[string]int, len(insts))}
	for i, inst := range insts {
		d.Scales[i] = Scales{inst.PxScale, inst.QtyScale}
		d.BySymbol[inst.Symbol] = i
	}
	d.Names = NewNameTable(d.BySymbol)
	return d
}

// SetScale changes the scales at which the messages of inst are decoded.
func (d *Decoding) SetScale(inst int, px, qty int8) { d.Scales[inst] = Scales{px, qty} }

// Declined counts what the scanner has handed over: see Decoder.
func (d *Decoding) Declined() uint64 { return d.declined }

// InStream is decoding where the snapshots come in the stream. What REST has, cannot be
// joined to it, and is never asked for.
type InStream struct{ Decoding }

// DecodeSnapshot refuses what nobody has asked for.
func (d *InStream) DecodeSnapshot(inst int, body []byte, b *Batch) ledger.Reason {
	return d.ParseSnapshot(inst, body, b)
}

// ParseSnapshot is DecodeSnapshot without a scanner.
func (d *InStream) ParseSnapshot(_ int, _ []byte, b *Batch) ledger.Reason {
	b.Reset()
	return ledger.UnknownShape
}

// HandedOver counts a frame that fastjson has read, if it held what the scanner is
// for, and passes the reason on.
func (d *Decoding) HandedOver(reason ledger.Reason, b *Batch) ledger.Reason {
	for i := range b.Messages {
		switch b.Messages[i].Kind {
		case KindDelta, KindSnapshot, KindTrade, KindQuote:
			d.declined++
			return reason
		}
	}
	return reason
}

// Unscanned returns a decoder that reads as d does, but without a scanner: what the
// scanner is measured against. The two share their state; use one at a time.
func Unscanned(d Decoder) Decoder { return unscanned{d.(parsing)} }

// parsing is a decoder that can do without its scanner.
type parsing interface {
	Decoder
	Parse(frame []byte, b *Batch) ledger.Reason
	ParseSnapshot(inst int, body []byte, b *Batch) ledger.Reason
}

type unscanned struct{ parsing }

func (u unscanned) Decode(frame []byte, b *Batch) ledger.Reason { return u.Parse(frame, b) }

func (u unscanned) DecodeSnapshot(inst int, body []byte, b *Batch) ledger.Reason {
	return u.ParseSnapshot(inst, body, b)
}

// NameTable finds an instrument by what the venue calls it: in the map, but most often where
// it was found the last time. A connection carries up to fifty symbols in turn, and a
// map's hash took a tenth of the time of a message of one level.
type NameTable struct {
	by   map[string]*named
	seen [256]*named // by place; never nil
}

type named struct {
	name string
	inst int
}

// NewNameTable finds the places of names.
func NewNameTable(insts map[string]int) NameTable {
	n := NameTable{by: make(map[string]*named, len(insts))}
	for i := range n.seen {
		n.seen[i] = &named{inst: -1}
	}
	for name, inst := range insts {
		n.by[name] = &named{name, inst}
	}
	return n
}

// place is where a name is looked for first; two may have the same. A symbol differs from
// others in its first letters or, with what it is traded against, in its last.
func place(name []byte) uint8 {
	var w uint64
	switch n := len(name); {
	case n >= 8:
		w = binary.LittleEndian.Uint64(name) ^ uint64(binary.LittleEndian.Uint32(name[n-4:]))<<13
	case n >= 4:
		w = uint64(binary.LittleEndian.Uint32(name)) | uint64(binary.LittleEndian.Uint32(name[n-4:]))<<32
	default:
		for _, c := range name {
			w = w<<8 | uint64(c)
		}
	}
	return uint8(w * 0x9e3779b97f4a7c15 >> 56)
}

// find returns -1 for a name of nobody.
func (n *NameTable) find(name []byte) int {
	seen := &n.seen[place(name)]
	if string(name) == (*seen).name {
		return (*seen).inst
	}
	if of, ok := n.by[string(name)]; ok {
		*seen = of
		return of.inst
	}
	return -1
}

// Name reads the rest of a text that names an instrument, its closing quote too; -1 is
// nobody, or no such text.
func (n *NameTable) Name(b []byte, i int) (inst, next int) {
	end := scan.Text(b, i)
	if end < 0 {
		return -1, scan.Declined
	}
	return n.find(b[i:end]), end + 1
}

// Add appends a message that has an instrument and no more yet.
func (b *Batch) Add(kind Kind, inst int, sc Scales) *Message {
	b.Messages = append(b.Messages, Message{
		Kind: kind, Inst: inst, First: event.Null, Seq: event.Null, SeqPrev: event.Null, TsEvent: event.Null,
		PxScale: sc.Px, QtyScale: sc.Qty,
	})
	return &b.Messages[len(b.Messages)-1]
}

// TimeReader reads times in RFC 3339. Most are of the minute of the one before, and then
// only seconds and fraction are read.
type TimeReader struct {
	text [len("2006-01-02T15:04:")]byte
	ns   int64 // when it began; 0: there was none yet
}

// Time reads the rest of a text that is a time, its closing quote too. What it accepts
// is what rfc3339 accepts.
func (m *TimeReader) Time(b []byte, i int) (ns int64, next int) {
	const seconds, point = len(m.text), len(m.text) + len("05")
	if m.ns != 0 && uint(i) < uint(len(b)) && len(b)-i > point+2 && string(b[i:i+seconds]) == string(m.text[:]) {
		t := b[i : i+point+1]
		ten, one := t[seconds]-'0', t[seconds+1]-'0'
		next = i + point
		if t[point] == '.' {
			ns, next = scan.Nanos(b, next+1)
		}
		if next = scan.Literal(b, next, `Z"`); next < 0 || ten > 5 || one > 9 {
			return 0, scan.Declined
		}
		return m.ns + int64(ten*10+one)*1e9 + ns, next
	}
	end := scan.Text(b, i)
	if end < 0 {
		return 0, scan.Declined
	}
	text := b[i:end]
	ns, ok := RFC3339(text)
	if !ok {
		return 0, scan.Declined
	}
	if ns != event.Null {
		var whole [len("2006-01-02T15:04:00Z")]byte
		copy(whole[:], text[:seconds])
		copy(whole[seconds:], "00Z")
		m.ns, _ = RFC3339(whole[:])
		copy(m.text[:], text)
	}
	return ns, end + 1
}
