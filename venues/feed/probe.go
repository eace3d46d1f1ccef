package feed

import "deeptape/hotpath/event"

// A probe tells a quiet market from a dead subscription: it fetches a snapshot of
// a book that has been silent and compares ids. An id ahead of ours that no
// message reaches within graceNs means that messages are being missed while the
// connection looks healthy.
type probe struct {
	asked   int64 // stamp of the last request, 0 for none
	waitNs  int64 // until the next one; doubles
	ahead   int64 // id of the snapshot, if it was ahead of ours
	aheadTs int64
}

const (
	probeWaitNsMin = 60e9
	probeWaitNsMax = 900e9
	probeGraceNs   = 5e9
)

func (p *probe) answered(seq, now int64) { p.ahead, p.aheadTs = seq, now }

func (m *Machine) tickProbe(inst *instrument) {
	p := &inst.probe
	switch {
	case p.ahead > inst.seq && m.now-p.aheadTs >= probeGraceNs:
		m.resubscribe(inst)
		m.resync(inst, event.CauseSilence)
	case p.ahead > inst.seq:
	case m.rules.RestSnapshot && (p.asked == 0 || m.now-p.asked >= p.waitNs):
		p.asked = m.now
		p.waitNs = min(max(2*p.waitNs, probeWaitNsMin), probeWaitNsMax)
		if inst.audit.Asked { // what it waits for can wait no longer
			inst.request = 0
		}
		m.fetch(inst, 0)
	}
}
