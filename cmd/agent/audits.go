package agent

import (
	"fmt"
	"math"

	"deeptape/venues/feed"
)

// auditCounters are what the audits of a feed's books have found so far, as capture_stats
// and /metrics name it. Of a venue whose books are not audited there are none.
var auditCounters = []struct {
	name string
	of   func(*feed.InstrumentStats) uint64
}{
	{"audits", func(s *feed.InstrumentStats) uint64 { return s.Audits }},
	{"audits_given_up", func(s *feed.InstrumentStats) uint64 { return s.AuditsGivenUp }},
	{"audit_levels", func(s *feed.InstrumentStats) uint64 { return s.AuditLevels }},
	{"audit_levels_wrong", func(s *feed.InstrumentStats) uint64 { return s.AuditWrong }},
	{"audit_ghosts", func(s *feed.InstrumentStats) uint64 { return s.AuditGhosts }},
}

// auditSum adds a counter up over the books of feed i.
func (a *Agent) auditSum(i int, of func(*feed.InstrumentStats) uint64) (sum uint64) {
	if st := a.sessions[i].Status(); st != nil {
		for k := range st.Instruments {
			sum += of(&st.Instruments[k].Stats)
		}
	}
	return sum
}

// auditStats puts the counters of feed i, and for each book that has been audited since it
// was last told, how much of it was equal: millionths of its levels, so that a value of
// 999800 is 99.98 per cent.
func (a *Agent) auditStats(i int, put func(name string, value uint64)) {
	st := a.sessions[i].Status()
	if a.feeds[i].AuditEveryNs == 0 || st == nil {
		return
	}
	for _, c := range auditCounters {
		put(c.name, a.auditSum(i, c.of))
	}
	for k := range st.Instruments {
		in := &st.Instruments[k]
		key := instrumentKey{a.feeds[i].Venue, in.Symbol}
		if in.Stats.Audits > a.auditsTold[key] {
			a.auditsTold[key] = in.Stats.Audits
			put("audit_match_ppm_"+in.Symbol, in.Stats.AuditMatchPpm)
		}
	}
}

// auditMetrics are the same for /metrics; the share of each book that was equal at its
// last audit, not a number before the first.
func (a *Agent) auditMetrics(i int, labels string, sample func(name string, f func() float64)) {
	if a.feeds[i].AuditEveryNs == 0 {
		return
	}
	for _, c := range auditCounters {
		sample(fmt.Sprintf(`deeptape_%s_total{%s}`, c.name, labels), func() float64 { return float64(a.auditSum(i, c.of)) })
	}
	for k := range a.feeds[i].Instruments {
		sample(fmt.Sprintf(`deeptape_audit_match_ratio{%s,symbol=%q}`, labels, a.feeds[i].Instruments[k].Symbol), func() float64 {
			if st := a.sessions[i].Status(); st != nil && st.Instruments[k].Stats.Audits > 0 {
				return float64(st.Instruments[k].Stats.AuditMatchPpm) / 1e6
			}
			return math.NaN()
		})
	}
}
