package session

import (
	"context"

	"deeptape/venues/wire"
)

// What a session needs of the network, so that it also runs on a simulated one.

// Conn is one WebSocket connection. One task owns it; only Interrupt is for any.
// See wire.Conn, whose words these are; times are on the session's clock.
type Conn interface {
	// ReadBy returns the next message, borrowed until the next ReadBy, and its stamp;
	// or why there is none.
	ReadBy(deadlineNs int64) (payload []byte, stampNs int64, outcome wire.ReadOutcome)
	Ready() bool // the next ReadBy has a message and will not wait, if it is not interrupted
	Interrupt()
	WriteText(b []byte) error
	Close(code uint16, reason string)
	Err() error
	ProgressNs() int64 // stamp of the last read that got on, 0 for none
}

// Dial connects. A message longer than maxMessageBytes ends the connection, before
// memory is taken for it.
type Dial func(ctx context.Context, url string, maxMessageBytes int) (Conn, error)

// Rest fetches over HTTP. See wire.Rest.
type Rest interface {
	Get(ctx context.Context, url string) (wire.Answer, error)
}

// DialWire makes Options.Dial of the real network.
func DialWire(clock wire.Clock) Dial {
	return func(ctx context.Context, url string, maxMessageBytes int) (Conn, error) {
		conn, err := wire.Dial(ctx, url, wire.Options{Clock: clock, MaxMessageBytes: maxMessageBytes})
		if err != nil {
			return nil, err
		}
		return conn, nil
	}
}

// answer to a request for a snapshot.
type answer struct {
	connection int64 // that it was fetched for
	inst       uint16
	request    uint32
	status     uint16
	body       []byte
}
