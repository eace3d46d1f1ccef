package feed

import (
	"deeptape/hotpath/ledger"
	"deeptape/venues"
)

// foreseen is what batch holds before its turn.
type foreseen struct {
	data   []byte // the frame; borrowed. nil: nothing
	reason ledger.Reason
}

// Foresee decodes the frame that the next Step will bring, and asks the memory for the
// slots of its levels: they come while the journal takes the frame, and Step does not wait
// for them. It changes nothing that anybody sees. data must stay as it is until then; if
// the frame does not come after all, nothing is owed.
func (m *Machine) Foresee(data []byte) {
	m.foreseen.data = nil
	if m.insts == nil || len(data) == 0 {
		return
	}
	m.foreseen.data, m.foreseen.reason = data, m.dec.Decode(data, &m.batch)
	if m.foreseen.reason != ledger.Accepted {
		return
	}
	for i := range m.batch.Messages {
		if msg := &m.batch.Messages[i]; msg.Kind == venues.KindDelta && msg.Inst >= 0 {
			m.insts[msg.Inst].book.Foresee(m.batch.Levels[msg.Lo:msg.Hi])
		}
	}
}

// read decodes a frame into batch, unless it is there already; once only, because what is
// read again is read at other scales.
func (m *Machine) read(data []byte) ledger.Reason {
	was := m.foreseen
	m.foreseen.data = nil
	if len(data) > 0 && len(was.data) == len(data) && &was.data[0] == &data[0] {
		return was.reason
	}
	return m.dec.Decode(data, &m.batch)
}
