package venues

import (
	"deeptape/hotpath/event"
	"deeptape/hotpath/ledger"
	"deeptape/hotpath/scan"
)

// Every decoder reads a frame twice, if need be: first its scanner, which knows the
// shapes that make up the load and nothing else; then, if that declines, fastjson,
// which reads every shape. What a scanner accepts is what fastjson would have made of
// it, message for message (TestScanners, FuzzScanners). It rejects nothing: a frame
// that is wrong is handed over as well, and fastjson's reason holds.

// scanned counts what a decoder's scanner has handed over.
type scanned struct{ declined uint64 }

func (s *scanned) Declined() uint64 { return s.declined }

// handedOver counts a frame that fastjson has read, if it held what the scanner is
// for, and passes the reason on.
func (s *scanned) handedOver(reason ledger.Reason, b *Batch) ledger.Reason {
	for i := range b.Messages {
		switch b.Messages[i].Kind {
		case KindDelta, KindSnapshot, KindTrade, KindQuote:
			s.declined++
			return reason
		}
	}
	return reason
}

// names finds an instrument by what the venue calls it. Most often it is the one of
// the frame before.
type names struct {
	by   map[string]*named
	last *named
}

type named struct {
	name string
	inst int
}

func newNames(insts map[string]int) names {
	n := names{by: make(map[string]*named, len(insts)), last: &named{inst: -1}}
	for name, inst := range insts {
		n.by[name] = &named{name, inst}
	}
	return n
}

// find returns -1 for a name of nobody.
func (n *names) find(name []byte) int {
	if string(name) == n.last.name {
		return n.last.inst
	}
	if of, ok := n.by[string(name)]; ok {
		n.last = of
		return of.inst
	}
	return -1
}

// name reads the rest of a text that names an instrument, its closing quote too; -1 is
// nobody, or no such text.
func (n *names) name(b []byte, i int) (inst, next int) {
	end := scan.Text(b, i)
	if end < 0 {
		return -1, scan.Declined
	}
	return n.find(b[i:end]), end + 1
}

// message appends a message that has an instrument and no more yet.
func (b *Batch) message(kind Kind, inst int, sc scales) *Message {
	b.Messages = append(b.Messages, Message{
		Kind: kind, Inst: inst, First: event.Null, Seq: event.Null, SeqPrev: event.Null, TsEvent: event.Null,
		PxScale: sc.px, QtyScale: sc.qty,
	})
	return &b.Messages[len(b.Messages)-1]
}
