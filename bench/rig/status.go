package main

import "slices"

// status is what the rig reads of /status.json, with eyes of its own.
type status struct {
	Troubles         []string
	Frames           map[string]int64
	LedgerDifference int64 `json:"ledger_difference"`
	LagInputs        int64 `json:"lag_inputs"`
	Rows             map[string]tableRows
	Feeds            []struct {
		LostFrames  int64 `json:"lost_frames"`
		Disconnects int64
		Deferring   bool
		RingHigh    int64 `json:"row_ring_high_bytes"`
	}
	Symbols []struct {
		Symbol, Book string
		Gaps         int64
	}
	Latency []struct {
		Stage   string
		MaxNs   int64 `json:"max_ns"`
		Buckets []bucket
	}
	Journal struct{ Bytes int64 }
}

type tableRows struct{ Derived, Deferred, Acked, Quarantined int64 }

type bucket struct {
	TopNs int64 `json:"top_ns"`
	Count int64
}

// histogram of what came between two statuses.
type histogram struct {
	stage   string
	buckets []bucket
}

func (st *status) histogram(stage string) (h histogram) {
	h.stage = stage
	for _, l := range st.Latency {
		if l.Stage == stage {
			h.buckets = slices.Clone(l.Buckets)
		}
	}
	return h
}

// since takes away what base had.
func (h histogram) since(base histogram) histogram {
	for _, b := range base.buckets {
		for i := range h.buckets {
			if h.buckets[i].TopNs == b.TopNs {
				h.buckets[i].Count -= b.Count
			}
		}
	}
	return h
}

func (h histogram) count() (n int64) {
	for _, b := range h.buckets {
		n += b.Count
	}
	return n
}

// quantile is off by at most a sixteenth, upwards.
func (h histogram) quantile(q float64) int64 {
	rank, seen := int64(q*float64(h.count())), int64(0)
	for _, b := range h.buckets {
		if seen += b.Count; seen > rank {
			return b.TopNs
		}
	}
	for _, b := range slices.Backward(h.buckets) {
		if b.Count > 0 {
			return b.TopNs
		}
	}
	return 0
}
