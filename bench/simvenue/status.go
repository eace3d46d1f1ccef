package simvenue

import "sort"

// Status of the server, or of one venue, at one instant.
type Status struct {
	Done        bool           `json:"done"` // every feed has come to its end
	Feeds       []FeedStatus   `json:"feeds"`
	Streams     []StreamStatus `json:"streams"`
	Symbols     []SymbolStatus `json:"symbols"`
	Struck      []Strike       `json:"struck"`
	Connections int            `json:"connections"`
	Closes      map[string]int `json:"closes"` // connections ended by the server, by reason
}

// FeedStatus of one recording, or of a venue's made markets.
type FeedStatus struct {
	Name    string `json:"name"`
	Venue   string `json:"venue"`
	Started bool   `json:"started"`
	Done    bool   `json:"done"`
	AtNs    int64  `json:"at_ns"` // feed time of the last event
	Skipped int    `json:"skipped"`
}

// StreamStatus of one topic.
type StreamStatus struct {
	Venue  string `json:"venue"`
	Symbol string `json:"symbol"`
	Stream string `json:"stream"`
	Events uint64 `json:"events"` // that came up in the feed
	Sent   uint64 `json:"sent"`   // frames queued, counted per connection; not those that a subscription began with
}

// SymbolStatus of one instrument.
type SymbolStatus struct {
	Venue        string `json:"venue"`
	Symbol       string `json:"symbol"`
	LastUpdateID int64  `json:"lastUpdateId"` // of the true book
	Diffs        int    `json:"diffs"`        // what a frame fault counts
	Requests     int    `json:"requests"`     // what a REST fault counts
	Subscribes   int    `json:"subscribes"`   // what a subscribe fault counts
}

// Strike is a fault that has struck. First and Last are the ids of the frame:
// Binance's U and u, else the id before it and its own; or lastUpdateId of the
// stale answer (0 for 429).
type Strike struct {
	Fault     string `json:"fault"`
	Venue     string `json:"venue"`
	Symbol    string `json:"symbol"`
	First     int64  `json:"first"`
	Last      int64  `json:"last"`
	Receivers int    `json:"receivers"` // connections that were subscribed to the frame
	WallNs    int64  `json:"wall_ns"`   // the caller's clock then
}

// Status of all venues. It may be called at any time, also after Close.
func (s *Server) Status() Status { return status(s.places) }

func status(places []*place) Status {
	st := Status{Done: true, Closes: map[string]int{}, Struck: []Strike{}}
	for _, p := range places {
		p.mu.Lock()
		v := p.v
		for _, f := range p.feeds {
			st.Feeds = append(st.Feeds, FeedStatus{f.src.name, v.name, f.started.Load(), f.ended.Load(), f.atNs.Load(), f.src.skipped})
			st.Done = st.Done && f.ended.Load()
		}
		first := len(st.Streams)
		for _, t := range v.topics {
			st.Streams = append(st.Streams, StreamStatus{v.name, t.sym.name, t.name, t.events, t.sent})
		}
		mine := st.Streams[first:]
		sort.Slice(mine, func(i, j int) bool { return mine[i].Stream < mine[j].Stream })
		for _, sym := range v.order {
			st.Symbols = append(st.Symbols, SymbolStatus{v.name, sym.name, sym.book.lastID, sym.updates, sym.requests, sym.subscribes})
		}
		st.Struck = append(st.Struck, v.struck...)
		st.Connections += len(v.sessions)
		for reason, n := range v.closed {
			st.Closes[reason] += n
		}
		p.mu.Unlock()
	}
	return st
}

func sortedKeys[T any](m map[string]T) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
