package session

import (
	"errors"
	"fmt"

	"deeptape/venues/wire"
)

// silence notices that a connection brings nothing at all: no message, no ping, no
// heartbeat, and no large message that grows. It counts the seconds through which we
// have listened, and does not look at the clock: if the whole process stood still for a
// minute, what came meanwhile waits in the kernel, and the connection is none the worse
// for it.
type silence struct {
	afterS     int64 // the venue's limit in seconds
	seconds    int64
	progressNs int64
}

func (s *Session) silence() silence {
	return silence{afterS: s.opt.Venue.Rules().DeadAfterNs / tickNs}
}

// deadError ends a connection.
type deadError int64

func (e deadError) Error() string {
	return fmt.Sprintf("nothing came for %d s, not even a ping or heartbeat", int64(e))
}

// second is called once a second, or later, with the stamp of the last read that
// got on. The first second may have been a short one.
func (q *silence) second(progressNs int64) error {
	if progressNs != q.progressNs {
		q.progressNs, q.seconds = progressNs, 0
		return nil
	}
	if q.seconds++; q.seconds > q.afterS {
		return deadError(q.afterS)
	}
	return nil
}

const tooBig = 1009 // RFC 6455 section 7.4.1

// countEnd counts why a connection or a request has ended, if it is one of ours.
func (s *Session) countEnd(err error) {
	var dead deadError
	var refused *wire.ProtocolError
	switch {
	case errors.As(err, &dead):
		s.counters.Dead.Add(1)
	case errors.As(err, &refused) && refused.Code == tooBig, errors.Is(err, wire.ErrTooLong):
		s.counters.TooLong.Add(1)
	}
}
