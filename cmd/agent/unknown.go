package agent

import "fmt"

// UnknownFrames is a kind of frames that a venue sent and no decoder knows: the answer to
// a command in other words, an announcement, a new message. See feed.Unknown.
type UnknownFrames struct {
	Venue  string `json:"venue"`
	Feed   uint16 `json:"feed"`
	Kind   string `json:"kind"`
	Count  uint64 `json:"count"`
	LastNs int64  `json:"last_ns"` // our clock
	Sample string `json:"sample"`  // the first one, printable and cut short
}

// unknownFrames of all feeds, feed by feed.
func (a *Agent) unknownFrames() []UnknownFrames {
	list := []UnknownFrames{}
	for i, s := range a.sessions {
		if st := s.Status(); st != nil {
			for _, u := range st.Unknown {
				list = append(list, UnknownFrames{a.feeds[i].Venue, a.lanes[i].Feed, u.Kind, u.Count, u.LastTs, u.Sample})
			}
		}
	}
	return list
}

// unknownOf counts those of feed i.
func (a *Agent) unknownOf(i int) (sum uint64) {
	if st := a.sessions[i].Status(); st != nil {
		for _, u := range st.Unknown {
			sum += u.Count
		}
	}
	return sum
}

// unknownStats puts the counters of feed i for capture_stats: all, and kind by kind. There
// are so few kinds as feed keeps, whatever the venue sends.
func (a *Agent) unknownStats(i int, put func(name string, value uint64)) {
	put("frames_unknown", a.unknownOf(i))
	if st := a.sessions[i].Status(); st != nil {
		for _, u := range st.Unknown {
			put("frames_unknown_"+u.Kind, u.Count)
		}
	}
}

// unknownMetrics count all of them, and the kinds; which those are says the status page:
// a venue's own words may not name a series.
func (a *Agent) unknownMetrics(i int, labels string, sample func(name string, f func() float64)) {
	sample(fmt.Sprintf(`deeptape_unknown_frames_total{%s}`, labels), func() float64 { return float64(a.unknownOf(i)) })
	sample(fmt.Sprintf(`deeptape_unknown_frame_kinds{%s}`, labels), func() float64 {
		if st := a.sessions[i].Status(); st != nil {
			return float64(len(st.Unknown))
		}
		return 0
	})
}
