package deliver

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// origin of a trouble: each tells its own and takes back its own.
type origin int

const (
	fromPrepare origin = iota
	fromPoster1
	fromPoster2
	fromLowRate
	fromWAL
	fromLacking
	numOrigins
)

// Health says whether QuestDB takes what we send, and shows what it has taken.
type Health struct {
	mu        sync.Mutex
	troubles  [numOrigins]string
	sinceNs   [numOrigins]int64
	lastAckNs atomic.Int64
}

// Trouble is what keeps rows from being stored or seen, with what heals it, and
// since when (ns); "" for nothing.
func (h *Health) Trouble() (text string, sinceNs int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var texts []string
	for s, t := range h.troubles {
		if t == "" {
			continue
		}
		if len(texts) == 0 || h.sinceNs[s] < sinceNs {
			sinceNs = h.sinceNs[s]
		}
		if !slices.Contains(texts, t) { // both posters often find the same
			texts = append(texts, t)
		}
	}
	return strings.Join(texts, "; "), sinceNs
}

// AwayFor says whether QuestDB has been in trouble for so long, and has answered 204 to no
// batch meanwhile.
func (h *Health) AwayFor(d time.Duration, nowNs int64) bool {
	text, since := h.Trouble()
	return text != "" && nowNs-since >= int64(d) && h.LastAckNs() < since
}

// LastAckNs is when QuestDB last answered 204 to a batch.
func (h *Health) LastAckNs() int64 { return h.lastAckNs.Load() }

// set returns true if the trouble of this origin, or its end, is news.
func (h *Health) set(s origin, trouble string, nowNs int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	old := h.troubles[s]
	if old == trouble {
		return false
	}
	if old == "" {
		h.sinceNs[s] = nowNs
	}
	h.troubles[s] = trouble
	return true
}
