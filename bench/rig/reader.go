package main

import (
	"bytes"
	"errors"
	"sync/atomic"
	"time"

	"deeptape/venues/wire"
)

// bareReader reads frames and does nothing with them but to note how long after their
// venue's stamp the read came back that brought them. A quote has no stamp; it counts
// as sent when the stamped message before it was.
type bareReader struct {
	fromMs    int64 // messages stamped earlier do not count
	stop      atomic.Bool
	frames    int
	latencies []int64
	started   bool
	err       error
}

func (r *bareReader) read(conn *wire.Conn, clock wire.Clock) {
	for !r.stop.Load() {
		payload, stampNs, outcome := conn.ReadBy(clock.NowNs() + int64(time.Minute))
		switch outcome {
		case wire.Message:
			r.frame(payload, stampNs)
		case wire.Closed:
			if r.err = conn.Err(); r.err == nil {
				r.err = errors.New("the venue has closed the connection")
			}
			return
		}
	}
	conn.Close(1000, "")
}

var stampKey = []byte(`"E":`)

func (r *bareReader) frame(payload []byte, stampNs int64) {
	at := bytes.Index(payload[:min(len(payload), 120)], stampKey)
	ms := int64(0)
	if at > 0 {
		for _, c := range payload[at+len(stampKey):] {
			if c < '0' || c > '9' {
				break
			}
			ms = ms*10 + int64(c-'0')
		}
		r.started = r.started || ms >= r.fromMs
	}
	if !r.started {
		return
	}
	r.frames++
	if ms > 0 {
		r.latencies = append(r.latencies, stampNs-ms*1e6)
	}
}
